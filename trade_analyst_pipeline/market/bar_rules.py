"""What holds for any bar that can be believed: its prices, its volume, its time, and its neighbours.

Errors are contradictions within a bar or with the order of its answer. Warnings are rare but possible.
"""

from __future__ import annotations

from datetime import time
from typing import Final

import polars as pl

from trade_analyst_pipeline.market.bars import CENTRAL, MINUTES
from trade_analyst_pipeline.market.columns import Rule
from trade_analyst_pipeline.market.prices import ticks

_OPEN, _HIGH, _LOW, _CLOSE = (ticks(pl.col(name)) for name in ("open", "high", "low", "close"))


def _in_order(expression: pl.Expr) -> pl.Expr:
    """An expression over the bars of one answer, in the order they came."""
    return expression.over("symbol", "frequency", "known_time")


_IS_DAILY = pl.col("frequency") == "daily"
_IS_FLAT = (
    (pl.col("volume") > 0)
    & (pl.col("session_part") == "regular").fill_null(value=True)
    & (_OPEN == _CLOSE)
    & (_HIGH == _LOW)
    & (_OPEN == _HIGH)
)
_RETURN = _in_order(pl.col("close").log().diff().abs())
_USUAL_RETURN = _in_order(pl.col("close").log().diff().rolling_std(63).shift(1))


def _third_flat_in_a_row() -> pl.Expr:
    before, after = (_in_order(_IS_FLAT.shift(step, fill_value=False)) for step in (1, -1))
    before_that, after_that = (_in_order(_IS_FLAT.shift(step, fill_value=False)) for step in (2, -2))
    return _IS_FLAT & ((before & before_that) | (before & after) | (after & after_that))


def _on_grid() -> pl.Expr:
    minutes = pl.col("frequency").replace_strict(MINUTES, default=None, return_dtype=pl.Int64)
    central = pl.col("bar_time").dt.convert_time_zone(str(CENTRAL)).dt.time()
    seconds = pl.col("bar_time").dt.epoch("ms")
    return pl.when(minutes.is_null()).then(central == time(0)).otherwise(seconds % (minutes * 60_000) == 0)


BAR_RULES: Final = (
    Rule("open_not_positive", pl.col("open") > 0, "The open is above zero."),
    Rule("high_not_positive", pl.col("high") > 0, "The high is above zero."),
    Rule("low_not_positive", pl.col("low") > 0, "The low is above zero."),
    Rule("close_not_positive", pl.col("close") > 0, "The close is above zero."),
    Rule(
        "high_too_low",
        pl.max_horizontal(_OPEN, _LOW, _CLOSE) <= _HIGH,
        "The high is not below open, low or close, compared in 1/10000 dollar.",
    ),
    Rule(
        "low_too_high",
        pl.min_horizontal(_OPEN, _HIGH, _CLOSE) >= _LOW,
        "The low is not above open, high or close, compared in 1/10000 dollar.",
    ),
    Rule("negative_volume", pl.col("volume") >= 0, "The volume is not negative."),
    Rule("off_grid", _on_grid(), "A daily or longer bar starts at midnight US/Central, others on their minutes."),
    Rule(
        "not_a_session",
        _IS_DAILY.not_() | (pl.col("session_part") == "regular"),
        "A daily bar is of a session of the exchange.",
    ),
    Rule(
        "out_of_order",
        pl.col("bar_time") >= _in_order(pl.col("bar_time").cum_max()),
        "A bar is not before one that came earlier in the same answer.",
    ),
    Rule(
        "zero_volume_range",
        (pl.col("volume") > 0) | (_HIGH == _LOW),
        "A bar without volume has one price.",
        "warning",
    ),
    Rule(
        "flat_bars",
        _third_flat_in_a_row().not_(),
        "Not three bars in a row of regular hours with volume and a single price.",
        "warning",
    ),
    Rule(
        "price_jump",
        (_RETURN <= 0.5) & (_IS_DAILY.not_() | (_RETURN <= 12 * _USUAL_RETURN).fill_null(value=True)),
        "The log return to the close is within 0.5; of daily bars also within 12 deviations of 63 sessions.",
        "warning",
    ),
    Rule("in_the_future", pl.col("bar_time") <= pl.col("known_time"), "The bar began before it became known."),
    Rule("outside_session", pl.col("session_part") != "outside", "The bar lies in a session.", "warning"),
)
