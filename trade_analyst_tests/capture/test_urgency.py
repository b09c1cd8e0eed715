"""Which class of requests a snapshot has."""

from datetime import UTC, date, datetime

import pytest

from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.capture.urgency import urgency, urgency_of_run
from trade_analyst_pipeline.schwab.budget import Priority

DAY = date(2026, 1, 5)  # closes at 16:00 New York, 21:00 UTC; SPY's options at 16:15


@pytest.mark.parametrize(
    ("dataset", "hour", "minute", "symbols", "expected"),
    [
        ("options", 20, 55, "AAPL", Priority.CLOSING),
        ("options", 20, 55, "AAPL SPY", Priority.CLOSING),
        ("options", 20, 45, "SPY $SPX", Priority.INTRADAY),
        ("options", 20, 55, "SPY", Priority.INTRADAY),
        ("quotes", 20, 45, "AAPL", Priority.CLOSING),
        ("quotes", 20, 45, "SPY", Priority.INTRADAY),
        ("options", 21, 0, "SPY", Priority.CLOSING),
        ("options", 21, 10, "SPY", Priority.CLOSING),
        ("options", 18, 0, "AAPL SPY", Priority.INTRADAY),
        ("quotes", 20, 56, "AAPL", Priority.INTRADAY),
        ("ohlc", 20, 55, "AAPL", Priority.BACKFILL),
        ("ohlc", 22, 0, "AAPL", Priority.BACKFILL),
        ("markets", 14, 30, "", Priority.BACKFILL),
        ("movers", 20, 55, "$SPX", Priority.INTRADAY),
    ],
)
def test_class_follows_from_dataset_instant_and_symbols(
    dataset: str, hour: int, minute: int, symbols: str, expected: Priority
) -> None:
    """15 and 5 minutes before its own close what fades is closing, at other instants intraday; the rest waits."""
    assert urgency(snapshot(dataset, hour, minute, symbols), minutes_before=(15, 5)) is expected


def test_a_run_has_the_highest_class_of_its_snapshots() -> None:
    """Late options at 15:45 share a run with stocks before their close; bars have a run of their own."""
    stocks, late = snapshot("options", 20, 45, "AAPL"), snapshot("options", 20, 45, "SPY")
    assert urgency_of_run([late, stocks], minutes_before=(15, 5)) is Priority.CLOSING
    assert urgency_of_run([late], minutes_before=(15, 5)) is Priority.INTRADAY
    assert urgency_of_run([snapshot("ohlc", 22, 0, "AAPL")], minutes_before=(15, 5)) is Priority.BACKFILL


def snapshot(dataset: str, hour: int, minute: int, symbols: str) -> Snapshot:
    """A snapshot of that day at a UTC time."""
    return Snapshot(dataset, DAY, datetime(2026, 1, 5, hour, minute, tzinfo=UTC), tuple(symbols.split()))
