"""Sessions and closes of the exchange, by the public calendar, for the second implementation."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import exchange_calendars

NEW_YORK = ZoneInfo("America/New_York")
LATE_CLOSING = frozenset(["SPY", "QQQ", "IWM", "$SPX", "$XYZ"])  # indices and ETFs whose options trade to 16:15
YEAR = timedelta(days=365)
SECONDS_PER_YEAR = 365 * 86_400


@cache
def calendar() -> exchange_calendars.ExchangeCalendar:
    """The calendar of the New York Stock Exchange."""
    return exchange_calendars.get_calendar("XNYS", start="2020-01-01", end="2027-12-31")


@cache
def sessions() -> tuple[date, ...]:
    """Every session, in order."""
    return tuple(day.date() for day in calendar().sessions)


def ending(day: date, count: int) -> list[date]:
    """So many sessions, the last of them this one."""
    last = sessions().index(day) + 1
    return list(sessions()[last - count : last])


def before(day: date, count: int) -> list[date]:
    """So many sessions before this one."""
    return ending(day, count + 1)[:-1]


def close(symbol: str, day: date) -> datetime:
    """When the options on a symbol stop trading."""
    closing = calendar().session_close(day.isoformat()).to_pydatetime()
    return closing + timedelta(minutes=15) if symbol in LATE_CLOSING else closing


def opening(day: date) -> datetime:
    """When a session opens."""
    return datetime.combine(day, time(9, 30), NEW_YORK)
