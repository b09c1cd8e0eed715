"""The exchange calendar: which days trade, when each product closes, when options expire.

Days come from the calendar of the New York Stock Exchange (XNYS), holidays and half days included; never from a rule
about weekdays. All instants returned are UTC.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from exchange_calendars import ExchangeCalendar

NEW_YORK = ZoneInfo("America/New_York")
CALENDAR_START = date(2005, 1, 3)
CALENDAR_END = date(2030, 12, 31)

Product = Literal["regular", "late"]

# Options on these close fifteen minutes after the stock market; every option on an index ($...) does too.
LATE_CLOSING_UNDERLYINGS = frozenset(
    [
        "DBA",
        "DBB",
        "DBC",
        "DBO",
        "DIA",
        "EEM",
        "EFA",
        "EWY",
        "EWZ",
        "GDX",
        "GDXJ",
        "IWM",
        "IWN",
        "IWO",
        "IWF",
        "IWD",
        "IYR",
        "KRE",
        "MDY",
        "OEF",
        "QQQ",
        "RSP",
        "SLV",
        "SMH",
        "SPY",
        "SVXY",
        "UNG",
        "UUP",
        "UVXY",
        "VIXY",
        "VXX",
        "VXZ",
        "XHB",
        "XLB",
        "XLC",
        "XLE",
        "XLF",
        "XLI",
        "XLK",
        "XLP",
        "XLRE",
        "XLU",
        "XLV",
        "XLY",
        "XME",
        "XOP",
        "XRT",
    ]
)
LATE_CLOSE_DELAY = timedelta(minutes=15)


@cache
def _calendar() -> ExchangeCalendar:
    import exchange_calendars

    return exchange_calendars.get_calendar("XNYS", start=CALENDAR_START.isoformat(), end=CALENDAR_END.isoformat())


@cache
def _closes() -> dict[date, tuple[datetime, datetime]]:
    schedule = _calendar().schedule
    return {
        day.date(): (opened.to_pydatetime().astimezone(UTC), closed.to_pydatetime().astimezone(UTC))
        for day, opened, closed in zip(schedule.index, schedule["open"], schedule["close"], strict=True)
    }


@cache
def _ordered() -> tuple[date, ...]:
    return tuple(_closes())


def is_session(day: date) -> bool:
    """Whether the exchange trades on that date."""
    return day in _closes()


def sessions(first: date, last: date) -> list[date]:
    """All sessions from `first` to `last`, both included, ascending."""
    from bisect import bisect_left, bisect_right

    days = _ordered()
    return list(days[bisect_left(days, first) : bisect_right(days, last)])


def sessions_ending(last: date, count: int) -> list[date]:
    """The `count` sessions up to and including `last` (or the last session before it), ascending; none for 0."""
    return sessions(CALENDAR_START, last)[-count:] if count > 0 else []


def next_session(day: date) -> date:
    """The first session after `day`."""
    return sessions(day + timedelta(days=1), day + timedelta(days=15))[0]


def previous_session(day: date) -> date:
    """The last session before `day`."""
    return sessions(day - timedelta(days=15), day - timedelta(days=1))[-1]


def session_open(session_date: date) -> datetime:
    """When regular trading of that session opens, UTC; raises ValueError on a day without one."""
    return _hours(session_date)[0]


def session_close(session_date: date, product: Product = "regular") -> datetime:
    """When that product stops trading in the session, UTC: 16:00 or 16:15 New York, 13:00 or 13:15 on half days."""
    closed = _hours(session_date)[1]
    return closed + LATE_CLOSE_DELAY if product == "late" else closed


def is_half_day(session_date: date) -> bool:
    """Whether the session closes before 16:00 New York."""
    return session_close(session_date).astimezone(NEW_YORK).time() < time(16)


def _hours(session_date: date) -> tuple[datetime, datetime]:
    try:
        return _closes()[session_date]
    except KeyError:
        message = f"{session_date} is not a session of the exchange (a weekend, a holiday, or outside the calendar)"
        raise ValueError(message) from None


def option_product(symbol: str) -> Product:
    """Which close the options on an underlying follow: `late` for indices and the ETFs that trade to 16:15."""
    return "late" if symbol.startswith("$") or symbol in LATE_CLOSING_UNDERLYINGS else "regular"


def current_session(now: datetime) -> date | None:
    """The session whose New York date `now` falls on, or None on a day without one."""
    day = now.astimezone(NEW_YORK).date()
    return day if is_session(day) else None


def capturable_session(now: datetime) -> date | None:
    """The session whose chains and quotes the source shows at `now`: from its open to midnight New York, else None.

    Before the open the source still shows what the session before it left, with some fields reset already.
    """
    day = current_session(now)
    return day if day is not None and session_open(day) <= now else None


def latest_complete_session(now: datetime) -> date:
    """The newest session whose last product has closed by `now`."""
    day = now.astimezone(NEW_YORK).date()
    if is_session(day) and session_close(day, "late") <= now:
        return day
    return previous_session(day)


def closing_snapshot_times(session_date: date, product: Product, minutes_before: tuple[int, ...]) -> list[datetime]:
    """The instants of the closing snapshots of a product, ascending, UTC."""
    closed = session_close(session_date, product)
    return sorted(closed - timedelta(minutes=minutes) for minutes in minutes_before)


def expiration_time(expiration_date: date, settlement: str = "P") -> datetime:
    """When an option stops living, UTC.

    PM settlement: 16:00 New York on the last trading day, 13:00 on a half day. AM settlement (`A`): 09:30 New York.
    A date without a session (the old Saturday monthlies) counts as the session before it.
    """
    day = expiration_date if is_session(expiration_date) else previous_session(expiration_date)
    return session_open(day) if settlement == "A" else session_close(day)
