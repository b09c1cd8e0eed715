"""The axis of pictures over time: one step a session of the exchange, whether it has a row or not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from trade_analyst_pipeline.market.sessions import sessions_ending
from trade_analyst_pipeline.pictures.chart import Axis

SHOWN_SESSIONS = 252
_MOST_TICKS = 7


def shown_sessions(rows: pl.DataFrame, count: int) -> list[date]:
    """The sessions from the first row to the last, at most the last `count` of them."""
    last, first = rows["session_date"].max(), rows["session_date"].min()
    if not isinstance(last, date) or not isinstance(first, date):
        return []
    return [day for day in sessions_ending(last, count) if day >= first]


def over(days: Sequence[date], rows: pl.DataFrame, name: str) -> list[float | None]:
    """A column of the rows, one value a session; None where the session has no row or the row no value."""
    held = dict(zip(rows["session_date"].to_list(), rows[name].to_list(), strict=True))
    return [held.get(day) for day in days]


def across(days: Sequence[date]) -> Axis:
    """Sessions in order; ticks at the first ones of months, or at sessions where there are few."""
    firsts = [i for i, day in enumerate(days) if i > 0 and day.month != days[i - 1].month]
    form = "%b %Y"
    if len(firsts) < 2:
        firsts, form = list(range(len(days))), "%d %b"
    every = -(-len(firsts) // _MOST_TICKS)
    ticks = [(float(i), days[i].strftime(form)) for i in firsts[::every]]
    return Axis("session (exchange date)", 0.0, max(len(days) - 1.0, 1.0), ticks)
