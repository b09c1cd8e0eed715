"""A partition is a session of the exchange: holidays left out, half days in, no day beyond today in New York."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import cache

import dagster as dg

from trade_analyst_pipeline.errors import SessionNotCapturableError
from trade_analyst_pipeline.market.sessions import CALENDAR_END, NEW_YORK, is_session

_WEEKENDS = "0 0 * * 6,0"


@cache
def session_partitions(start: date) -> dg.DailyPartitionsDefinition:
    """The sessions from `start` to today; today's is there from midnight New York on, for intraday work."""
    return dg.DailyPartitionsDefinition(
        start_date=start.isoformat(),
        timezone="America/New_York",
        end_offset=1,
        exclusions=[_WEEKENDS, *_holidays(start)],
    )


def _holidays(start: date) -> list[datetime]:
    days = (start + timedelta(days=n) for n in range((CALENDAR_END - start).days + 1))
    return [datetime(d.year, d.month, d.day) for d in days if d.weekday() < 5 and not is_session(d)]  # noqa: DTZ001 - naive by contract


def session_of(key: str, now: datetime) -> date:
    """The session a partition key stands for; raises SessionNotCapturableError for a day that has not begun.

    The guard is needed: on an excluded day the partition set holds the next session already.
    """
    session_date = date.fromisoformat(key)
    today = now.astimezone(NEW_YORK).date()
    if session_date > today:
        message = f"session {session_date} has not begun (it is {today} in New York); choose a session up to today"
        raise SessionNotCapturableError(message)
    return session_date
