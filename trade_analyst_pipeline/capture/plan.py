"""Which snapshots a session is made of: their instants, their symbols and how much of a chain each asks for.

Only arithmetic over the calendar; nothing here talks to the source or the disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

from trade_analyst_pipeline.market.sessions import (
    NEW_YORK,
    Product,
    capturable_session,
    closing_snapshot_times,
    current_session,
    option_product,
    session_close,
    session_open,
)
from trade_analyst_pipeline.settings import Cadence

Scope = Literal["full", "bounded"]
END_OF_DAY_DELAY = timedelta(minutes=45)
AFTER_THE_OPEN = timedelta(minutes=15)  # when the day has its expirations, and the first chains are taken
SHOWS_TRADING = frozenset({"movers"})  # of the datasets taken once a session: what is meaningless after the close
PRODUCTS: tuple[Product, ...] = ("regular", "late")
REACHES_BACK = frozenset({"ohlc"})  # datasets whose past sessions the source serves


@dataclass(frozen=True)
class Snapshot:
    """One planned capture: a dataset, the session, the instant it is due (UTC), its symbols and chain scope."""

    dataset: str
    session_date: date
    scheduled_time: datetime
    symbols: tuple[str, ...]
    scope: Scope = "full"


def is_capturable(dataset: str, session_date: date, now: datetime) -> bool:
    """Whether the source has that session of the dataset at `now`: the one it shows, or any begun one of bars."""
    if dataset in REACHES_BACK:
        return session_open(session_date) <= now
    return capturable_session(now) == session_date


def not_begun(session_date: date, now: datetime) -> str | None:
    """Why nothing of a session can be had at `now`, when it has not opened yet; None once it has."""
    opens = session_open(session_date)
    if opens <= now:
        return None
    return (
        f"session {session_date} opens at {opens.astimezone(NEW_YORK):%H:%M} New York ({opens:%Y-%m-%d %H:%M} UTC), "
        f"and it is {now.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York: nothing of it can be captured yet"
    )


def symbols_by_product(symbols: Iterable[str]) -> dict[Product, tuple[str, ...]]:
    """The symbols whose options close together, in the order given; products without a symbol are left out."""
    groups: dict[Product, list[str]] = {product: [] for product in PRODUCTS}
    for symbol in symbols:
        groups[option_product(symbol)].append(symbol)
    return {product: tuple(members) for product, members in groups.items() if members}


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


def once_a_session(
    dataset: str, session_date: date, symbols: tuple[str, ...], *, minutes_before: tuple[int, ...]
) -> Snapshot:
    """The snapshot of a dataset that is taken once a session.

    A quarter of an hour after the open; what shows the trading itself with the last snapshot before the stocks' close.
    """
    instant = session_open(session_date) + AFTER_THE_OPEN
    if dataset in SHOWS_TRADING:
        instant = closing_snapshot_times(session_date, "regular", minutes_before)[-1]
    return Snapshot(dataset, session_date, instant, symbols)


def closing_due(
    dataset: str, tick: datetime, symbols: tuple[str, ...], *, minutes_before: tuple[int, ...]
) -> list[Snapshot]:
    """The closing snapshots due in the minute of `tick`; none on a day without a session."""
    minute = tick.replace(second=0, microsecond=0)
    session_date = current_session(minute)
    if session_date is None:
        return []
    if not any(minute in closing_snapshot_times(session_date, product, minutes_before) for product in PRODUCTS):
        return []
    planned = closing_snapshots(dataset, session_date, symbols, minutes_before=minutes_before)
    return [snapshot for snapshot in planned if snapshot.scheduled_time == minute]


def intraday_due(
    dataset: str, tick: datetime, cadences: Mapping[str, Cadence], *, minutes_before: tuple[int, ...]
) -> list[Snapshot]:
    """The intraday snapshot due in the minute of `tick`, or none.

    The intraday snapshots of a symbol lie the minutes of its cadence apart from the open on, the first one interval
    after it; one with another cadence has none. They hold the symbols due whose product still trades and that no
    closing snapshot of the same minute holds.
    """
    minute = tick.replace(second=0, microsecond=0)
    session_date = current_session(minute)
    if session_date is None or minute <= session_open(session_date):
        return []
    since_open = (minute - session_open(session_date)) // timedelta(minutes=1)
    symbols = [s for s, every in cadences.items() if isinstance(every, int) and since_open % every == 0]
    closing = closing_due(dataset, minute, tuple(symbols), minutes_before=minutes_before)
    held = {symbol for snapshot in closing for symbol in snapshot.symbols}
    closes = {product: session_close(session_date, product) for product in PRODUCTS}
    trading = tuple(symbol for symbol in symbols if symbol not in held and minute < closes[option_product(symbol)])
    return [Snapshot(dataset, session_date, minute, trading)] if trading else []


def moments_due(
    dataset: str, tick: datetime, cadences: Mapping[str, Cadence], *, minutes_before: tuple[int, ...]
) -> list[Snapshot]:
    """All snapshots due in the minute of `tick` of a dataset that shows a moment: before a close first."""
    return [
        *closing_due(dataset, tick, tuple(cadences), minutes_before=minutes_before),
        *intraday_due(dataset, tick, cadences, minutes_before=minutes_before),
    ]


def moments_of_session(
    dataset: str, session_date: date, cadences: Mapping[str, Cadence], *, minutes_before: tuple[int, ...]
) -> list[Snapshot]:
    """All snapshots of a session of a dataset that shows a moment, whole chains, ascending by instant."""
    opened, closed = session_open(session_date), session_close(session_date, "late")
    ticks = {
        each.scheduled_time
        for each in closing_snapshots(dataset, session_date, tuple(cadences), minutes_before=minutes_before)
    }
    for every in {every for every in cadences.values() if isinstance(every, int)}:
        ticks |= {
            opened + timedelta(minutes=at) for at in range(every, (closed - opened) // timedelta(minutes=1), every)
        }
    return [
        snapshot
        for tick in sorted(ticks)
        for snapshot in moments_due(dataset, tick, cadences, minutes_before=minutes_before)
    ]


def latest_due(
    dataset: str,
    session_date: date,
    symbols: tuple[str, ...],
    *,
    minutes_before: tuple[int, ...],
    now: datetime,
    scope: Scope,
) -> list[Snapshot]:
    """What to capture of a session when no tick says it: each product's last closing snapshot that is due by `now`.

    Products whose closing snapshots all lie ahead are captured as they stand at `now` (to the second), together.
    """
    planned = closing_snapshots(dataset, session_date, symbols, minutes_before=minutes_before, scope=scope)
    due: dict[tuple[str, ...], Snapshot] = {
        snapshot.symbols: snapshot for snapshot in planned if snapshot.scheduled_time <= now
    }
    held = {symbol for members in due for symbol in members}
    ahead = tuple(symbol for symbol in symbols if symbol not in held)
    early = [Snapshot(dataset, session_date, now.replace(microsecond=0), ahead, scope)] if ahead else []
    return [*due.values(), *early]
