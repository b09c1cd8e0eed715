"""Whole option chains of the synthetic market as rows of the table `options`, beside their truth.

Columns `value`, `true_forward`, `true_volatility` and `true_rate` are what the market knows and no source would show.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl

from trade_analyst_pipeline.market.columns import TIME
from trade_analyst_pipeline.market.quote_status import fresh_since, quote_status
from trade_analyst_pipeline.market.sessions import expiration_time, option_product
from trade_analyst_pipeline.simulator.contracts import as_frame, evaluate, everything_listed
from trade_analyst_pipeline.simulator.market import Market


def simulated_chain(market: Market, symbol: str, instant: datetime) -> pl.DataFrame:
    """Every contract listed on `symbol` at an instant within a session."""
    moment = market.moment(symbol, instant)
    board = evaluate(market, moment, everything_listed(market, moment))
    truth = as_frame(board).rename({"forward": "true_forward", "settlement": "settlement_type"})
    quoted = np.broadcast_to(board.quotes.seconds, board.value.shape).ravel() * 1e6
    fresh = fresh_since(instant, moment.day, option_product(symbol))
    ends = {
        pair: expiration_time(*pair) for pair in truth.select("expiration_date", "settlement_type").unique().iter_rows()
    }
    return (
        truth.with_columns(
            pl.lit(symbol).alias("symbol"),
            pl.lit(moment.day).alias("session_date"),
            pl.lit(instant, TIME).alias("snapshot_time"),
            pl.lit("full").alias("chain_scope"),
            pl.col("option_symbol").str.slice(0, 6).str.strip_chars().alias("option_root"),
            pl.lit("E" if moment.instrument.is_index else "A").alias("exercise_type"),
            pl.lit(moment.rate).alias("interest_rate"),
            pl.lit(moment.rate).alias("true_rate"),
            pl.lit(moment.spot).alias("underlying_price"),
            pl.lit(None, pl.Float64).alias("underlying_bid"),
            pl.lit(None, pl.Float64).alias("underlying_ask"),
            pl.lit(False).alias("is_non_standard"),
            pl.Series("quote_time", quoted.astype(np.int64)).cast(TIME),
            pl.lit(fresh, TIME).alias("fresh_since"),
            pl.Series(
                "expiration_time",
                [ends[pair] for pair in truth.select("expiration_date", "settlement_type").iter_rows()],
                TIME,
            ),
        )
        .with_columns(quote_status("fresh_since"))
        .drop("fresh_since")
    )
