"""Kinds of bars and their place in the exchange's calendar: whose hours they lie in, and when they are over.

A bar's frequency is a name: `minute`, `minute_5`, `minute_10`, `minute_15`, `minute_30`, `daily`, `weekly`, `monthly`.
Minute bars are stamped with their start, daily and longer ones with midnight US/Central of their first day, which for
a week or a month need not be a session: such a bar belongs to the first session of its week or month.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from math import gcd
from typing import Final
from zoneinfo import ZoneInfo

import polars as pl

from trade_analyst_pipeline.market.columns import TIME
from trade_analyst_pipeline.market.sessions import (
    CALENDAR_END,
    CALENDAR_START,
    NEW_YORK,
    is_session,
    session_close,
    session_open,
    sessions,
)

CENTRAL: Final = ZoneInfo("America/Chicago")
EXTENDED_HOURS: Final = (time(4), time(20))
MINUTES: Final = {"minute": 1, "minute_5": 5, "minute_10": 10, "minute_15": 15, "minute_30": 30}
# The least number of days between two bars.
_DAYS: Final = {"daily": 1, "weekly": 5, "monthly": 20}
LONGER: Final = tuple(_DAYS)
FREQUENCIES: Final = frozenset({*MINUTES, *LONGER})


def shown_frequency(stamps: Sequence[float]) -> str | None:
    """The frequency that ascending, distinct stamps (epoch milliseconds) show; None for fewer than two.

    The longest bar that fits every distance between them.
    """
    gaps = [int(later - earlier) for earlier, later in pairwise(stamps)]
    if not gaps:
        return None
    instants = [datetime.fromtimestamp(stamp / 1000, CENTRAL) for stamp in stamps]
    if all(instant.time() == time(0) for instant in instants):
        days = min(round(gap / 86_400_000) for gap in gaps)
        return next(name for name, least in reversed(_DAYS.items()) if days >= least)
    step = gcd(*gaps) // 60_000
    return next((name for name, minutes in reversed(MINUTES.items()) if step and step % minutes == 0), "minute")


def in_calendar(bars: pl.DataFrame, frequency: str) -> pl.DataFrame:
    """Bars of one frequency with `session_date`, `session_part` and `is_complete`, from `bar_time` and `known_time`.

    `session_date` is the session in which the bar begins; beyond our calendar, and on a day without a session, the
    date of its stamp. Parts: `pre` (from 04:00 New York), `regular`, `post` (to 20:00), `outside`; null beyond it.
    """
    zone = NEW_YORK if frequency in MINUTES else CENTRAL
    dated = bars.with_columns(first_date=pl.col("bar_time").dt.convert_time_zone(str(zone)).dt.date())
    hours = _hours(dated["first_date"].unique(), frequency)
    placed = dated.join(hours, on="first_date", how="left", maintain_order="left", nulls_equal=True)
    return placed.with_columns(session_part=_session_part(frequency), is_complete=_is_complete(frequency))


def _hours(days: pl.Series, frequency: str) -> pl.DataFrame:
    """For each date: its session, whether our calendar reaches it, open and close, the last close of the period."""
    rows = []
    for day in days:
        is_known = day is not None and CALENDAR_START <= day <= CALENDAR_END
        session = is_known and is_session(day)
        opened, closed = (session_open(day), session_close(day)) if session else (None, None)
        begun = _first_session(day, frequency) if is_known else day
        rows.append((day, begun, is_known, opened, closed, _last_close(day, frequency) if is_known else None))
    return pl.DataFrame(rows, schema=_HOURS, orient="row")


_HOURS: Final = pl.Schema(
    {
        "first_date": pl.Date(),
        "session_date": pl.Date(),
        "is_known": pl.Boolean(),
        "open_time": TIME,
        "close_time": TIME,
        "last_close": TIME,
    }
)


def _first_session(day: date, frequency: str) -> date:
    """The first session of the week or month that starts on `day`; `day` itself for shorter bars."""
    if frequency not in {"weekly", "monthly"}:
        return day
    held = sessions(day, day + timedelta(days=6))
    return held[0] if held else day


def _last_close(day: date, frequency: str) -> datetime | None:
    """When the last session of the period that starts on `day` closes; null beyond the calendar."""
    if frequency not in {"weekly", "monthly"}:
        return session_close(day) if is_session(day) else None
    following = (
        day + timedelta(days=7) if frequency == "weekly" else (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    )
    held = sessions(day, following - timedelta(days=1))
    return session_close(held[-1]) if held and following <= CALENDAR_END else None


def _session_part(frequency: str) -> pl.Expr:
    """Where the bar lies in its session; null where the calendar does not reach."""
    is_session_day = pl.col("open_time").is_not_null()
    start = pl.col("bar_time")
    if frequency in MINUTES:
        hour = start.dt.convert_time_zone(str(NEW_YORK)).dt.time()
        is_regular = start.is_between(pl.col("open_time"), pl.col("close_time"), closed="left")
        is_pre = (hour >= EXTENDED_HOURS[0]) & (start < pl.col("open_time"))
        is_post = (hour < EXTENDED_HOURS[1]) & (start >= pl.col("close_time"))
    else:
        is_regular, is_pre, is_post = (
            is_session_day | pl.lit(frequency != "daily"),
            pl.lit(value=False),
            pl.lit(value=False),
        )
    part = (
        pl.when(is_regular).then(pl.lit("regular")).when(is_pre).then(pl.lit("pre")).when(is_post).then(pl.lit("post"))
    )
    return pl.when(pl.col("is_known")).then(part.otherwise(pl.lit("outside")))


def _is_complete(frequency: str) -> pl.Expr:
    minutes = MINUTES.get(frequency)
    end = pl.col("bar_time") + timedelta(minutes=minutes) if minutes else pl.col("last_close")
    return end <= pl.col("known_time")
