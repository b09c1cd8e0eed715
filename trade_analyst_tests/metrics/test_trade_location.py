"""Sums over trades: by hand, against a plain reckoning, and on simulated tapes against what was really traded."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from trade_analyst_pipeline.market.aggressor_posterior import default_posterior
from trade_analyst_pipeline.metrics import aggressor_confidence, aggressor_side
from trade_analyst_pipeline.metrics.trade_location import CALIBRATION_ERROR, SCHEMA, SHARES, trade_location

DAY = date(2025, 12, 9)
OPEN = datetime(2025, 12, 9, 14, 30, tzinfo=UTC)


def tape(*rows: tuple[Any, ...]) -> pl.DataFrame:
    """Trades of one symbol: seconds after the open, kind, price, size, exclusion; bid 10.00, ask 10.04."""
    columns = ("seconds", "volume_kind", "trade_price", "trade_size", "exclusion")
    frame = pl.DataFrame(
        rows,
        schema=dict(zip(columns, (pl.Float64, pl.String, pl.Float64, pl.Float64, pl.String), strict=True)),
        orient="row",
    )
    is_print = pl.col("volume_kind").is_in(["shown", "unseen"])
    return frame.select(
        pl.lit("XYZ").alias("symbol"),
        (pl.lit(OPEN) + pl.duration(milliseconds=1000 * pl.col("seconds"))).dt.cast_time_unit("us").alias("trade_time"),
        pl.col("trade_size").fill_null(0).cum_sum().cast(pl.Int64).alias("sequence"),
        pl.lit(DAY).alias("session_date"),
        *columns[1:],
        pl.when(is_print).then(10.00).alias("bid"),
        pl.when(is_print).then(10.04).alias("ask"),
        pl.when(pl.col("volume_kind") == "shown")
        .then(pl.lit("previous_update"))
        .when(is_print)
        .then(pl.lit("unseen"))
        .alias("quote_quality"),
    )


def located(trades: pl.DataFrame, **intervals: int | None) -> pl.DataFrame:
    """The sums, classified as the pipeline does."""
    is_open = pl.col("volume_kind").is_in(["shown", "unseen"]) & pl.col("exclusion").is_null()
    signed = aggressor_side.aggressor_side(trades.filter(is_open))
    confidence = aggressor_confidence.aggressor_confidence(signed, default_posterior())
    return trade_location(trades, signed, confidence, intervals=intervals or {"session": None})


TRADES = (
    (1, "shown", 10.04, 100.0, None),
    (2, "unseen", 10.03, 50.0, None),
    (2, "shown", 10.03, 50.0, None),
    (3, "shown", 10.02, 100.0, None),
    (70, "shown", 9.99, 200.0, None),
    (71, "unseen", None, 100.0, None),
    (72, "shown", 12.00, 40.0, "suspect"),
    (80, "gap", None, 360.0, None),
)


def test_volumes_and_shares_by_hand() -> None:
    """1,000 shares: 490 shown, 150 unseen, 40 excluded, 360 in a gap; 500 of 600 with a price."""
    row = located(tape(*TRADES)).row(0, named=True)
    volumes = {name: row[name] for name in row if name.endswith("_volume")}
    assert volumes == {
        "traded_volume": 1000,
        "classified_volume": 500,
        "unseen_volume": 150,
        "excluded_volume": 40,
        "gap_volume": 360,
    }
    assert (row["prints"], row["completeness_pct"], row["coverage_pct"]) == (5, 49.0, 50.0)
    shares = {name: row[name] for name in SHARES if row[name]}
    expected = {"at_ask_pct": 100, "upper_inside_pct": 100, "at_mid_pct": 100, "below_pct": 200, "no_quote_pct": 100}
    assert shares == pytest.approx({name: size / 6 for name, size in expected.items()})
    assert (row["bid_side_pct"], row["ask_side_pct"]) == pytest.approx((200 / 6, 200 / 6))
    assert row["interval_start"] == OPEN


def test_share_bought_and_its_error_by_a_plain_reckoning() -> None:
    """Sums of one trade at a time, with bursts of the same millisecond added before they are squared."""
    trades = tape(*TRADES)
    open_trades = trades.filter(pl.col("trade_price").is_not_null() & pl.col("exclusion").is_null())
    signed = aggressor_side.aggressor_side(open_trades)
    chances = aggressor_confidence.aggressor_confidence(signed, default_posterior())["buy_probability"].to_list()
    total = bought = off = 0.0
    bursts: dict[datetime, float] = {}
    for trade, chance in zip(open_trades.rows(named=True), chances, strict=True):
        size = trade["trade_size"]
        total, bought = total + size, bought + size * chance
        off += size * CALIBRATION_ERROR[trade["quote_quality"]]
        bursts[trade["trade_time"]] = bursts.get(trade["trade_time"], 0) + size * math.sqrt(chance * (1 - chance))
    error = math.sqrt(sum(each**2 for each in bursts.values()) / total**2 + (off / total) ** 2)
    row = located(trades).row(0, named=True)
    assert len(bursts) == 4
    assert row["buy_share_pct"] == pytest.approx(100 * bought / total)
    assert row["imbalance"] == pytest.approx(2 * bought / total - 1)
    assert row["buy_share_standard_error"] == pytest.approx(100 * error)
    assert row["buy_share_half_width"] == pytest.approx(196 * error)


def test_intervals_hold_what_falls_into_them() -> None:
    """Two minutes add up to the half hour and the session."""
    found = located(tape(*TRADES), minute=1, minute_30=30, session=None)
    assert found.group_by("interval").len().sort("interval").rows() == [("minute", 2), ("minute_30", 1), ("session", 1)]
    sums = found.group_by("interval").agg(pl.col("^.*_volume$").sum(), pl.col("prints").sum()).drop("interval")
    assert sums.n_unique() == 1
    assert found.schema == SCHEMA.polars_schema


def test_nothing_classified_has_no_shares() -> None:
    """An interval of a gap alone: volumes, and null for every share."""
    row = located(tape((5, "gap", None, 10.0, None)), minute=1).row(0, named=True)
    assert row["location_status"] == "nothing_classified"
    assert row["coverage_pct"] == row["completeness_pct"] == 0
    assert [
        row[name] for name in (*SHARES, "buy_share_pct", "imbalance", "mean_confidence", "buy_share_half_width")
    ] == ([None] * 12)


def test_no_trades_no_rows() -> None:
    """An empty tape, and one of states without a size."""
    assert located(tape()).is_empty()
    assert located(tape((1, "start", None, None, None))).is_empty()
