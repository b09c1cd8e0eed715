"""Which snapshots a session is made of, with instants read off the exchange's published hours."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from trade_analyst_pipeline.capture.plan import (
    Snapshot,
    closing_due,
    closing_snapshots,
    end_of_day_snapshot,
    intraday_due,
    latest_due,
    moments_due,
    moments_of_session,
    once_a_session,
    symbols_by_product,
)
from trade_analyst_pipeline.settings import Cadence

SYMBOLS = ("AAPL", "SPY", "$SPX")
FULL_DAY = date(2026, 11, 23)
HALF_DAY = date(2025, 11, 28)
HOLIDAY_NOON = datetime(2025, 11, 27, 17, 0, tzinfo=UTC)


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_symbols_split_by_close_of_their_options() -> None:
    """Index and late ETF options close at 16:15, stock options at 16:00; order is kept."""
    assert symbols_by_product(SYMBOLS) == {"regular": ("AAPL",), "late": ("SPY", "$SPX")}
    assert symbols_by_product(("AAPL",)) == {"regular": ("AAPL",)}


@pytest.mark.parametrize(
    ("session_date", "expected"),
    [
        (
            FULL_DAY,
            [
                ("2026-11-23T20:45", ("AAPL",)),
                ("2026-11-23T20:55", ("AAPL",)),
                ("2026-11-23T21:00", ("SPY", "$SPX")),
                ("2026-11-23T21:10", ("SPY", "$SPX")),
            ],
        ),
        (
            HALF_DAY,
            [
                ("2025-11-28T17:45", ("AAPL",)),
                ("2025-11-28T17:55", ("AAPL",)),
                ("2025-11-28T18:00", ("SPY", "$SPX")),
                ("2025-11-28T18:10", ("SPY", "$SPX")),
            ],
        ),
        (date(2026, 7, 1), [("2026-07-01T19:45", ("AAPL",)), ("2026-07-01T19:55", ("AAPL",))]),
    ],
)
def test_closing_snapshots_lie_before_each_products_close(
    session_date: date, expected: list[tuple[str, tuple[str, ...]]]
) -> None:
    """15 and 5 minutes before 16:00 and 16:15 New York, before 13:00 and 13:15 on a half day, in summer time too."""
    symbols = SYMBOLS if len(expected) == 4 else ("AAPL",)
    planned = closing_snapshots("options", session_date, symbols, minutes_before=(15, 5))
    assert [(f"{s.scheduled_time:%Y-%m-%dT%H:%M}", s.symbols) for s in planned] == expected


def test_end_of_day_comes_after_the_last_close() -> None:
    """17:00 New York on a full day, 14:00 on a half day."""
    assert end_of_day_snapshot("ohlc", FULL_DAY, SYMBOLS).scheduled_time == _utc("2026-11-23T22:00")
    assert end_of_day_snapshot("ohlc", HALF_DAY, SYMBOLS).scheduled_time == _utc("2025-11-28T19:00")


@pytest.mark.parametrize(
    ("dataset", "session_date", "expected"),
    [
        ("markets", FULL_DAY, "2026-11-23T14:45"),
        ("expirations", HALF_DAY, "2025-11-28T14:45"),
        ("instruments", date(2026, 7, 1), "2026-07-01T13:45"),
        ("movers", FULL_DAY, "2026-11-23T20:55"),
        ("movers", HALF_DAY, "2025-11-28T17:55"),
    ],
)
def test_what_is_taken_once_a_session(dataset: str, session_date: date, expected: str) -> None:
    """At 09:45 New York; movers with the last snapshot before the stocks' close, at 12:55 on a half day."""
    planned = once_a_session(dataset, session_date, SYMBOLS, minutes_before=(15, 5))
    assert (planned.dataset, planned.session_date, planned.symbols) == (dataset, session_date, SYMBOLS)
    assert planned.scheduled_time == _utc(expected)


def test_a_tick_brings_the_closing_snapshot_of_its_minute_only() -> None:
    """Seconds of the tick do not matter; other minutes and holidays bring nothing."""
    tick = datetime(2026, 11, 23, 20, 45, 3, tzinfo=UTC)
    assert [s.symbols for s in closing_due("options", tick, SYMBOLS, minutes_before=(15, 5))] == [("AAPL",)]
    assert closing_due("options", _utc("2026-11-23T20:46"), SYMBOLS, minutes_before=(15, 5)) == []
    assert closing_due("options", HOLIDAY_NOON, SYMBOLS, minutes_before=(15, 5)) == []


@pytest.mark.parametrize(
    ("tick", "expected"),
    [
        ("2026-11-23T14:30", ()),  # the open itself
        ("2026-11-23T14:45", SYMBOLS),
        ("2026-11-23T14:50", ()),  # off the grid
        ("2026-11-23T20:45", ("SPY", "$SPX")),  # AAPL has its closing snapshot then
        ("2026-11-23T21:00", ()),  # AAPL closed, the others have their closing snapshot
        ("2026-11-23T21:15", ()),  # all closed
        ("2025-11-28T18:15", ()),  # half day, all closed
        ("2025-11-27T17:00", ()),  # Thanksgiving
    ],
)
def test_intraday_snapshots_hold_what_still_trades(tick: str, expected: tuple[str, ...]) -> None:
    """Every 15 minutes from the open, without symbols that closed or that a closing snapshot holds."""
    planned = intraday_due("options", _utc(tick), dict.fromkeys(SYMBOLS, 15), minutes_before=(15, 5))
    assert tuple(symbol for snapshot in planned for symbol in snapshot.symbols) == expected


def test_a_tick_brings_what_is_before_a_close_first() -> None:
    """At 15:45 the stock's closing snapshot, then what trades on; at 15:50 nothing."""
    cadences = dict.fromkeys(("SPY", "AAPL", "$SPX"), 15)
    due = moments_due("options", _utc("2026-11-23T20:45"), cadences, minutes_before=(15, 5))
    assert [snapshot.symbols for snapshot in due] == [("AAPL",), ("SPY", "$SPX")]
    assert moments_due("options", _utc("2026-11-23T20:50"), cadences, minutes_before=(15, 5)) == []


@pytest.mark.parametrize(
    ("tick", "expected"),
    [
        ("2026-11-23T14:35", ("/ES",)),
        ("2026-11-23T14:37", ()),
        ("2026-11-23T14:45", ("SPY", "/ES")),
        ("2026-11-23T15:00", ("AAPL", "SPY", "/ES")),
        ("2026-11-23T20:45", ("SPY",)),  # the others have their closing snapshot then, BRK/B too
    ],
)
def test_each_symbol_is_taken_at_its_own_cadence(tick: str, expected: tuple[str, ...]) -> None:
    """Every 5, 15 and 30 minutes from the open; one with closing snapshots alone is in none of them."""
    cadences: dict[str, Cadence] = {"AAPL": 30, "SPY": 15, "/ES": 5, "BRK/B": "closing"}
    planned = intraday_due("quotes", _utc(tick), cadences, minutes_before=(15, 5))
    assert tuple(symbol for snapshot in planned for symbol in snapshot.symbols) == expected


def test_the_moments_of_a_session_are_its_ticks() -> None:
    """Half day, every 60 minutes: three on the hour from 10:30, then 15 and 5 minutes before 13:00 and 13:15."""
    cadences: dict[str, Cadence] = {"AAPL": 60, "SPY": "closing", "$SPX": 60}
    planned = moments_of_session("options", HALF_DAY, cadences, minutes_before=(15, 5))
    assert [(f"{s.scheduled_time:%H:%M}", s.symbols) for s in planned] == [
        ("15:30", ("AAPL", "$SPX")),
        ("16:30", ("AAPL", "$SPX")),
        ("17:30", ("AAPL", "$SPX")),
        ("17:45", ("AAPL",)),
        ("17:55", ("AAPL",)),
        ("18:00", ("SPY", "$SPX")),
        ("18:10", ("SPY", "$SPX")),
    ]


def test_without_a_tick_the_last_due_closing_snapshot_of_each_product_is_taken() -> None:
    """In the evening both; between the closes the late products as they stand; at noon all as they stand."""

    def planned(now: str) -> list[tuple[str, tuple[str, ...]]]:
        snapshots = latest_due("options", FULL_DAY, SYMBOLS, minutes_before=(15, 5), now=_utc(now), scope="full")
        return [(f"{s.scheduled_time:%H:%M}", s.symbols) for s in snapshots]

    assert planned("2026-11-24T01:00") == [("20:55", ("AAPL",)), ("21:10", ("SPY", "$SPX"))]
    assert planned("2026-11-23T20:50") == [("20:45", ("AAPL",)), ("20:50", ("SPY", "$SPX"))]
    assert planned("2026-11-23T17:00") == [("17:00", SYMBOLS)]


def test_a_snapshot_is_a_value() -> None:
    """Two plans of the same thing are equal, so that a repeated plan finds what is archived."""
    one = Snapshot("options", FULL_DAY, _utc("2026-11-23T20:55"), SYMBOLS)
    assert one == Snapshot("options", FULL_DAY, _utc("2026-11-23T20:55"), SYMBOLS, "full")
