"""Prices as whole numbers of 1/10000 dollar."""

from __future__ import annotations

import polars as pl
import pytest

from trade_analyst_pipeline.market.prices import ticks


@pytest.mark.parametrize(
    ("price", "expected"),
    [(9.99, 99_900.0), (10.005, 100_050.0), (0.00004, 0.0), (0.00006, 1.0), (2.0**70, 2.0**70 * 10_000), (None, None)],
)
def test_price_is_the_nearest_whole_number_of_ten_thousandths(price: float | None, expected: float | None) -> None:
    """What floats cannot hold exactly becomes exact, and no price is too large."""
    seen = pl.DataFrame({"x": [price]}, schema={"x": pl.Float64}).select(ticks(pl.col("x"))).item()
    assert seen == expected
