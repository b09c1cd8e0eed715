"""Which class of requests a snapshot has."""

from datetime import UTC, date, datetime

import pytest

from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.capture.urgency import urgency
from trade_analyst_pipeline.schwab.budget import Priority

DAY = date(2026, 1, 5)  # closes at 16:00 New York, 21:00 UTC; SPY's options at 16:15


@pytest.mark.parametrize(
    ("dataset", "hour", "minute", "expected"),
    [
        ("options", 20, 55, Priority.CLOSING),
        ("quotes", 20, 45, Priority.CLOSING),
        ("options", 21, 10, Priority.CLOSING),
        ("options", 18, 0, Priority.INTRADAY),
        ("quotes", 20, 56, Priority.INTRADAY),
        ("ohlc", 20, 55, Priority.BACKFILL),
        ("ohlc", 22, 0, Priority.BACKFILL),
        ("markets", 14, 30, Priority.BACKFILL),
        ("movers", 20, 55, Priority.INTRADAY),
    ],
)
def test_class_follows_from_dataset_and_instant(dataset: str, hour: int, minute: int, expected: Priority) -> None:
    """15 and 5 minutes before a close are closing for what fades; at other instants it is intraday; the rest waits."""
    snapshot = Snapshot(dataset, DAY, datetime(2026, 1, 5, hour, minute, tzinfo=UTC), ("SPY",))
    assert urgency(snapshot, minutes_before=(15, 5)) is expected
