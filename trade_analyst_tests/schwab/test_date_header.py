"""The time in an answer is read from whatever stands there, and junk is no time."""

from datetime import UTC, datetime

import pytest

from trade_analyst_pipeline.schwab.date_header import told_time


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "junk",
        "Mon, 99 Jan 2026 00:00:00 GMT",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2026 00:00:00 +9999999999",
        "Fri, 31 Dec 9999 23:59:59 -2359",
    ],
)
def test_junk_is_no_time(header: str | None) -> None:
    """Missing, malformed and absurd headers, and those whose instant lies beyond the calendar, tell nothing."""
    assert told_time(header) is None


@pytest.mark.parametrize(
    "header",
    ["Mon, 01 Jun 2026 15:00:00 GMT", "Mon, 01 Jun 2026 11:00:00 -0400", "Mon, 01 Jun 2026 15:00:00 -0000"],
)
def test_instant_is_utc_whatever_the_zone(header: str) -> None:
    """The same instant in three spellings, the last of a server that does not know its zone."""
    assert told_time(header) == datetime(2026, 6, 1, 15, tzinfo=UTC)
