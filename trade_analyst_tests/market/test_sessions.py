"""The exchange calendar: known holidays and half days, the two closes, and when options expire.

Dates and hours are those published by the New York Stock Exchange, in UTC: New York is UTC-5 in winter, -4 in summer.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from trade_analyst_pipeline.market import sessions as calendar


def utc(*parts: int) -> datetime:
    """An instant in UTC."""
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]  # year, month, day and so on


@pytest.mark.parametrize(
    "closed",
    [
        date(2025, 1, 9),  # mourning for President Carter: no rule about dates knows it
        date(2025, 4, 18),  # Good Friday
        date(2025, 6, 19),  # Juneteenth
        date(2025, 11, 27),  # Thanksgiving
        date(2025, 12, 25),
        date(2012, 10, 29),  # the hurricane
        date(2026, 1, 3),  # a Saturday
    ],
)
def test_day_without_trading(closed: date) -> None:
    """Holidays, extraordinary closures and weekends are no sessions, and have no hours."""
    assert not calendar.is_session(closed)
    with pytest.raises(ValueError, match=f"{closed} is not a session"):
        calendar.session_close(closed)
    with pytest.raises(ValueError, match="not a session"):
        calendar.session_open(closed)


@pytest.mark.parametrize("day", [date(2025, 10, 13), date(2025, 11, 11), date(2025, 1, 8)])
def test_bank_holidays_with_trading_are_sessions(day: date) -> None:
    """Columbus Day, Veterans Day and the day before a closure trade."""
    assert calendar.is_session(day)


def test_days_outside_the_calendar_are_no_sessions() -> None:
    """Before its start and after its end the calendar claims nothing."""
    assert not calendar.is_session(calendar.CALENDAR_START - timedelta(days=3))
    assert not any(calendar.is_session(calendar.CALENDAR_END + timedelta(days=days)) for days in range(1, 8))


def test_hours_follow_summer_time() -> None:
    """A full session is 09:30 to 16:00 New York, whatever that is in UTC."""
    assert calendar.session_open(date(2026, 1, 5)) == utc(2026, 1, 5, 14, 30)
    assert calendar.session_close(date(2026, 1, 5)) == utc(2026, 1, 5, 21, 0)
    assert calendar.session_open(date(2025, 7, 21)) == utc(2025, 7, 21, 13, 30)
    assert calendar.session_close(date(2025, 7, 21)) == utc(2025, 7, 21, 20, 0)


def test_late_products_close_a_quarter_of_an_hour_later() -> None:
    """The late close is 15 minutes after the market's, on half days too."""
    assert calendar.session_close(date(2026, 1, 5), "late") == utc(2026, 1, 5, 21, 15)
    assert calendar.session_close(date(2025, 11, 28), "late") == utc(2025, 11, 28, 18, 15)


def test_half_day_closes_at_one() -> None:
    """The Friday after Thanksgiving closes at 13:00 New York; its neighbours do not."""
    assert calendar.is_half_day(date(2025, 11, 28))
    assert calendar.session_close(date(2025, 11, 28)) == utc(2025, 11, 28, 18, 0)
    assert calendar.is_half_day(date(2025, 12, 24))
    assert calendar.is_half_day(date(2025, 7, 3))
    assert not calendar.is_half_day(date(2025, 11, 26))
    assert not calendar.is_half_day(date(2025, 12, 1))


def test_sessions_of_a_range() -> None:
    """Both ends count when they trade; the closure in between does not."""
    assert calendar.sessions(date(2025, 1, 7), date(2025, 1, 13)) == [
        date(2025, 1, 7),
        date(2025, 1, 8),
        date(2025, 1, 10),
        date(2025, 1, 13),
    ]
    assert calendar.sessions(date(2025, 1, 11), date(2025, 1, 12)) == []
    assert calendar.sessions(date(2025, 1, 13), date(2025, 1, 7)) == []


def test_sessions_ending() -> None:
    """The last few sessions up to a day, which itself may have none."""
    assert calendar.sessions_ending(date(2025, 1, 9), 2) == [date(2025, 1, 7), date(2025, 1, 8)]
    assert calendar.sessions_ending(date(2025, 1, 10), 2) == [date(2025, 1, 8), date(2025, 1, 10)]
    assert calendar.sessions_ending(date(2005, 1, 4), 10) == [date(2005, 1, 3), date(2005, 1, 4)]
    assert calendar.sessions_ending(date(2025, 1, 10), 0) == []


def test_year_of_sessions() -> None:
    """2025 had 250 sessions: 261 weekdays, ten holidays and the day of mourning."""
    assert len(calendar.sessions(date(2025, 1, 1), date(2025, 12, 31))) == 250


def test_neighbouring_sessions() -> None:
    """The next and the previous session skip weekends and closures and are never the day itself."""
    assert calendar.next_session(date(2025, 1, 8)) == date(2025, 1, 10)
    assert calendar.previous_session(date(2025, 1, 10)) == date(2025, 1, 8)
    assert calendar.next_session(date(2025, 11, 26)) == date(2025, 11, 28)
    assert calendar.previous_session(date(2026, 1, 3)) == date(2026, 1, 2)
    assert calendar.next_session(date(2012, 10, 26)) == date(2012, 10, 31)


@pytest.mark.parametrize(
    ("symbol", "product"),
    [("$SPX", "late"), ("$VIX", "late"), ("SPY", "late"), ("IWM", "late"), ("AAPL", "regular"), ("BRK/B", "regular")],
)
def test_product_of_an_underlying(symbol: str, product: str) -> None:
    """Options on indices and on the listed funds trade to the late close, those on stocks do not."""
    assert calendar.option_product(symbol) == product


def test_current_session_is_of_new_yorks_date() -> None:
    """Late in the evening the date in New York counts, not that in UTC."""
    assert calendar.current_session(utc(2026, 1, 6, 3, 0)) == date(2026, 1, 5)
    assert calendar.current_session(utc(2026, 1, 5, 12, 0)) == date(2026, 1, 5)
    assert calendar.current_session(utc(2025, 1, 9, 15, 0)) is None
    assert calendar.current_session(utc(2026, 1, 5, 3, 0)) is None


def test_a_session_is_capturable_from_its_open_to_midnight() -> None:
    """From 09:30 New York on and not a second before, until the New York date ends; never on a day without one."""
    assert calendar.capturable_session(utc(2026, 1, 5, 14, 29, 59)) is None
    assert calendar.capturable_session(utc(2026, 1, 5, 14, 30)) == date(2026, 1, 5)
    assert calendar.capturable_session(utc(2026, 1, 6, 4, 59, 59)) == date(2026, 1, 5)
    assert calendar.capturable_session(utc(2026, 1, 6, 5, 0)) is None
    assert calendar.capturable_session(utc(2025, 1, 9, 15, 0)) is None


def test_latest_complete_session_waits_for_the_late_close() -> None:
    """A session is complete at its late close, not a microsecond earlier."""
    assert calendar.latest_complete_session(utc(2026, 1, 5, 21, 14, 59)) == date(2026, 1, 2)
    assert calendar.latest_complete_session(utc(2026, 1, 5, 21, 15)) == date(2026, 1, 5)
    assert calendar.latest_complete_session(utc(2025, 11, 28, 18, 15)) == date(2025, 11, 28)
    assert calendar.latest_complete_session(utc(2025, 1, 9, 23, 0)) == date(2025, 1, 8)


def test_closing_snapshot_times_count_back_from_the_products_close() -> None:
    """Snapshots are so many minutes before the close of their product, ascending."""
    assert calendar.closing_snapshot_times(date(2025, 11, 28), "late", (2, 10)) == [
        utc(2025, 11, 28, 18, 5),
        utc(2025, 11, 28, 18, 13),
    ]


@pytest.mark.parametrize(
    ("expiration", "settlement", "instant"),
    [
        (date(2026, 1, 16), "P", utc(2026, 1, 16, 21, 0)),
        (date(2026, 1, 16), "A", utc(2026, 1, 16, 14, 30)),
        (date(2025, 7, 18), "P", utc(2025, 7, 18, 20, 0)),
        (date(2025, 11, 28), "P", utc(2025, 11, 28, 18, 0)),
        (date(2014, 6, 21), "P", utc(2014, 6, 20, 20, 0)),  # a Saturday monthly
        (date(2014, 6, 21), "A", utc(2014, 6, 20, 13, 30)),
        (date(2014, 4, 19), "P", utc(2014, 4, 17, 20, 0)),  # a Saturday after Good Friday
    ],
)
def test_last_instant_of_an_option(expiration: date, settlement: str, instant: datetime) -> None:
    """PM settlement ends at the market's close, AM at its open, of the last session not after the date."""
    assert calendar.expiration_time(expiration, settlement) == instant
