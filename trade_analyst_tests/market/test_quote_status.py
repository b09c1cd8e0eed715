"""When a quote can be used: how fresh it has to be, and each state at its bounds."""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
import pytest

from trade_analyst_pipeline.market.columns import TIME
from trade_analyst_pipeline.market.quote_status import fresh_since, quote_status, uncrossed
from trade_analyst_pipeline.market.sessions import Product


@pytest.mark.parametrize(
    ("snapshot", "product", "expected"),
    [
        (datetime(2026, 1, 5, 20, 55, tzinfo=UTC), "regular", datetime(2026, 1, 5, 20, 40, tzinfo=UTC)),
        (datetime(2026, 1, 5, 21, 10, tzinfo=UTC), "regular", datetime(2026, 1, 5, 20, 45, tzinfo=UTC)),
        (datetime(2026, 1, 5, 21, 10, tzinfo=UTC), "late", datetime(2026, 1, 5, 20, 55, tzinfo=UTC)),
        (datetime(2026, 1, 6, 2, 0, tzinfo=UTC), "late", datetime(2026, 1, 5, 21, 0, tzinfo=UTC)),
        (datetime(2026, 1, 5, 14, 40, tzinfo=UTC), "regular", datetime(2026, 1, 5, 14, 30, tzinfo=UTC)),
        (datetime(2026, 1, 5, 13, 0, tzinfo=UTC), "regular", datetime(2026, 1, 5, 14, 30, tzinfo=UTC)),
        (datetime(2026, 1, 5, 13, 0, tzinfo=UTC), None, datetime(2026, 1, 5, 12, 45, tzinfo=UTC)),
    ],
)
def test_quotes_are_fresh_since(snapshot: datetime, product: Product | None, expected: datetime) -> None:
    """Fifteen minutes before the snapshot or the close, whichever is earlier, and never before the open."""
    assert fresh_since(snapshot, date(2026, 1, 5), product) == expected


def test_half_day_moves_the_close() -> None:
    """On the day after Thanksgiving quotes of 12:45 New York are the oldest still fresh in the evening."""
    evening = datetime(2025, 11, 28, 23, 0, tzinfo=UTC)
    assert fresh_since(evening, date(2025, 11, 28), "regular") == datetime(2025, 11, 28, 17, 45, tzinfo=UTC)


def test_day_without_a_session_only_looks_at_the_snapshot() -> None:
    """On a Sunday there is no close to go by."""
    sunday = datetime(2026, 1, 4, 18, 0, tzinfo=UTC)
    assert fresh_since(sunday, date(2026, 1, 4), "regular") == datetime(2026, 1, 4, 17, 45, tzinfo=UTC)


FRESH = datetime(2026, 1, 5, 20, 40, tzinfo=UTC)


@pytest.mark.parametrize(
    ("bid", "ask", "quoted", "expected"),
    [
        (None, None, None, "no_quote"),
        (0.0, -1.0, FRESH, "no_quote"),
        (None, 1.0, None, "no_bid"),
        (0.0, 0.10, FRESH, "no_bid"),
        (1.0, 0.0, FRESH, "no_ask"),
        (1.0, None, None, "no_ask"),
        (1.01, 1.0, None, "crossed"),
        (1.0, 1.1, None, "stale"),
        (1.0, 1.1, datetime(2026, 1, 5, 20, 39, 59, 999_000, tzinfo=UTC), "stale"),
        (1.0, 1.1, FRESH, "ok"),
        (0.04, 0.05, FRESH, "low_priced"),
        (0.04, 0.06, FRESH, "ok"),
        (0.01, 0.09, FRESH, "ok"),
        (0.05, 0.15, FRESH, "ok"),
        (0.05, 0.16, FRESH, "wide"),
        (3.0, 5.0, FRESH, "ok"),
        (3.0, 5.01, FRESH, "wide"),
        (2.0, 2.0, FRESH, "locked"),
        (2.00002, 2.00001, FRESH, "locked"),
        (2.0001, 2.0, FRESH, "crossed"),
        (1e300, 1.0, FRESH, "crossed"),
        (0.04, 0.04, FRESH, "low_priced"),
    ],
)
def test_quote_status(bid: float | None, ask: float | None, quoted: datetime | None, expected: str) -> None:
    """The first reason in the order of the column's meaning holds; bounds are as the specification draws them."""
    frame = quote(bid, ask, quoted)
    assert frame.select(quote_status("fresh")).item() == expected


def quote(bid: float | None, ask: float | None, quoted: datetime | None) -> pl.DataFrame:
    """One quote as a table."""
    return pl.DataFrame(
        {"bid": [bid], "ask": [ask], "quote_time": [quoted], "fresh": [FRESH]},
        schema={"bid": pl.Float64, "ask": pl.Float64, "quote_time": TIME, "fresh": TIME},
    )


def test_only_a_crossed_quote_loses_its_sides() -> None:
    """Both sides of a crossed quote are null, those of any other stay."""
    frame = pl.DataFrame({"bid": [1.0, 2.0], "quote_status": ["crossed", "stale"]})
    assert frame.select(uncrossed("bid"))["bid"].to_list() == [None, 2.0]
