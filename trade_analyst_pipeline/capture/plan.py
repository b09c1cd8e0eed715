"""Which snapshots a session is made of: their instants, their symbols and how much of a chain each asks for.

Only arithmetic over the calendar; nothing here talks to the source or the disk.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

from trade_analyst_pipeline.market.sessions import (
    Product,
    closing_snapshot_times,
    current_session,
    option_product,
    session_close,
    session_open,
)

Scope = Literal["full", "bounded"]
END_OF_DAY_DELAY = timedelta(minutes=45)
PRODUCTS: tuple[Product, ...] = ("regular", "late")


@dataclass(frozen=True)
class Snapshot:
    """One planned capture: a dataset, the session, the instant it is due (UTC), its symbols and chain scope."""

    dataset: str
    session_date: date
    scheduled_time: datetime
    symbols: tuple[str, ...]
    scope: Scope = "full"


def symbols_by_product(symbols: Iterable[str]) -> dict[Product, tuple[str, ...]]:
    """The symbols whose options close together, in the order given; products without a symbol are left out."""
    groups = {product: tuple(s for s in symbols if option_product(s) == product) for product in PRODUCTS}
    return {product: members for product, members in groups.items() if members}


def closing_snapshots(
    dataset: str,
    session_date: date,
    symbols: tuple[str, ...],
    *,
    minutes_before: tuple[int, ...],
    scope: Scope = "full",
) -> list[Snapshot]:
    """The snapshots before each product's close, ascending by instant."""
    planned = [
        Snapshot(dataset, session_date, instant, members, scope)
        for product, members in symbols_by_product(symbols).items()
        for instant in closing_snapshot_times(session_date, product, minutes_before)
    ]
    return sorted(planned, key=lambda snapshot: (snapshot.scheduled_time, snapshot.symbols))


def end_of_day_snapshot(dataset: str, session_date: date, symbols: tuple[str, ...]) -> Snapshot:
    """The snapshot after the last close, when the session's bars are final."""
    instant = session_close(session_date, "late") + END_OF_DAY_DELAY
    return Snapshot(dataset, session_date, instant, symbols)


def snapshots_due(
    dataset: str,
    tick: datetime,
    symbols: tuple[str, ...],
    *,
    minutes_before: tuple[int, ...],
    intraday_minutes: int,
) -> list[Snapshot]:
    """What a schedule tick at `tick` has to capture: a closing snapshot of some product, an intraday one, or nothing.

    `tick` is taken to the minute. Intraday snapshots lie `intraday_minutes` apart from the open on, the first one
    interval after it, and hold the symbols whose product still trades.
    """
    minute = tick.replace(second=0, microsecond=0)
    session_date = current_session(minute)
    if session_date is None:
        return []
    closing = [
        snapshot
        for snapshot in closing_snapshots(dataset, session_date, symbols, minutes_before=minutes_before)
        if snapshot.scheduled_time == minute
    ]
    taken = {symbol for snapshot in closing for symbol in snapshot.symbols}
    trading = tuple(
        symbol
        for symbol in symbols
        if symbol not in taken and minute < session_close(session_date, option_product(symbol))
    )
    since_open = minute - session_open(session_date)
    on_grid = since_open > timedelta(0) and since_open % timedelta(minutes=intraday_minutes) == timedelta(0)
    if on_grid and trading:
        return [*closing, Snapshot(dataset, session_date, minute, trading)]
    return closing
