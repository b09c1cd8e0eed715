"""Expirations as days and instants; what the whole table of contracts becomes is tested with the dataset."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from trade_analyst_pipeline.market.option_values import expiration


def told(stated: Any, settlement: str | None = "P") -> tuple[date | None, datetime | None]:
    """The date and the last instant as a reader would write them."""
    days, last = expiration(stated, settlement)
    return (
        None if days is None else date.fromordinal(date(1970, 1, 1).toordinal() + days),
        None if last is None else datetime.fromtimestamp(last / 1_000_000, UTC),
    )


@pytest.mark.parametrize(
    ("stated", "settlement", "expected"),
    [
        ("2026-01-16T21:00:00.000+00:00", "P", (date(2026, 1, 16), datetime(2026, 1, 16, 21, 0, tzinfo=UTC))),
        ("2026-01-16T21:00:00.000+00:00", None, (date(2026, 1, 16), datetime(2026, 1, 16, 21, 0, tzinfo=UTC))),
        ("2026-01-16T21:00:00.000+00:00", "A", (date(2026, 1, 16), datetime(2026, 1, 16, 14, 30, tzinfo=UTC))),
        # half past one in the morning of UTC is the evening before in New York
        ("2026-01-17T01:30:00.000+00:00", "P", (date(2026, 1, 16), datetime(2026, 1, 16, 21, 0, tzinfo=UTC))),
        ("2026-01-16", "P", (date(2026, 1, 16), datetime(2026, 1, 16, 21, 0, tzinfo=UTC))),
        (1768597200000, "P", (date(2026, 1, 16), datetime(2026, 1, 16, 21, 0, tzinfo=UTC))),
        # a half day, and a Saturday of the old monthlies
        ("2025-11-28", "P", (date(2025, 11, 28), datetime(2025, 11, 28, 18, 0, tzinfo=UTC))),
        ("2014-06-21", "P", (date(2014, 6, 21), datetime(2014, 6, 20, 20, 0, tzinfo=UTC))),
        # the first day of the calendar, and the day before
        ("2005-01-03", "P", (date(2005, 1, 3), datetime(2005, 1, 3, 21, 0, tzinfo=UTC))),
        ("2005-01-02", "P", (date(2005, 1, 2), None)),
        ("2039-01-21", "P", (date(2039, 1, 21), None)),
        ("soon", "P", (None, None)),
        (10**18, "P", (None, None)),
    ],
)
def test_expiration_is_the_date_in_new_york_and_its_last_instant(
    stated: Any, settlement: str | None, expected: tuple[date | None, datetime | None]
) -> None:
    """Text or milliseconds give the date; settlement and calendar give the last instant, none beyond the calendar."""
    assert told(stated, settlement) == expected
