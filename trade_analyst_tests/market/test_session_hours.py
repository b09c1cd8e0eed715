"""Hours beside rows: each symbol's options close when their product does, half days included."""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
import pytest

from trade_analyst_pipeline.market.columns import TIME
from trade_analyst_pipeline.market.session_hours import option_hours, up_to_close


def test_hours_of_products_on_a_half_day() -> None:
    """On 2024-11-29 stocks' options close at 13:00 New York, those of ETFs and indices that close late at 13:15."""
    rows = pl.DataFrame({"symbol": ["XOM", "SPY", "$SPX", "XOM"], "session_date": [date(2024, 11, 29)] * 4})
    hours = option_hours(rows)
    assert hours["open_time"].unique().to_list() == [datetime(2024, 11, 29, 14, 30, tzinfo=UTC)]
    assert dict(hours.select("symbol", "close_time").iter_rows()) == {
        "XOM": datetime(2024, 11, 29, 18, 0, tzinfo=UTC),
        "SPY": datetime(2024, 11, 29, 18, 15, tzinfo=UTC),
        "$SPX": datetime(2024, 11, 29, 18, 15, tzinfo=UTC),
    }


def test_rows_after_the_close_are_left_out() -> None:
    """A snapshot at the close itself stays, one a microsecond later does not; summer time is respected."""
    at_close = datetime(2025, 7, 1, 20, tzinfo=UTC)
    rows = pl.DataFrame(
        {
            "symbol": "XOM",
            "session_date": date(2025, 7, 1),
            "snapshot_time": [at_close, at_close.replace(microsecond=1)],
        },
        schema_overrides={"snapshot_time": TIME},
    )
    assert up_to_close(rows)["snapshot_time"].to_list() == [at_close]


def test_a_day_without_a_session_is_refused() -> None:
    """A row dated on a holiday is an error that names the day."""
    with pytest.raises(ValueError, match="2025-07-04 is not a session"):
        option_hours(pl.DataFrame({"symbol": ["XOM"], "session_date": [date(2025, 7, 4)]}))
