"""Random trades with everything the rules read, on a grid of half cents, with nulls, locked and crossed quotes."""

from __future__ import annotations

import numpy as np
import polars as pl

COLUMNS = ("earlier_price", "later_price", "bid", "ask", "bid_size", "ask_size")


def random_trades(count: int, seed: int, *, around: float = 100.0, missing: float = 0.05) -> pl.DataFrame:
    """`count` trades near a price; each value but price and size is null with probability `missing`.

    Prices are the floats nearest to their decimals, as a feed has them.
    """
    rng = np.random.default_rng(seed)
    cents = round(around * 200)
    bids = cents + 2 * rng.integers(-20, 20, count)
    frame = {
        "trade_price": bids + rng.integers(-3, 14, count),
        "trade_size": rng.integers(1, 6, count) * 100.0,
    }
    for suffix in ("", "_exchange"):
        bid = bids + 2 * rng.integers(-1, 2, count)
        frame[f"bid{suffix}"] = bid
        frame[f"ask{suffix}"] = bid + 2 * rng.integers(-1, 6, count)
        frame[f"earlier_price{suffix}"] = frame["trade_price"] + rng.integers(-2, 3, count)
        frame[f"later_price{suffix}"] = frame["trade_price"] + rng.integers(-2, 3, count)
        frame[f"bid_size{suffix}"] = rng.integers(1, 6, count) * 100.0
        frame[f"ask_size{suffix}"] = rng.integers(1, 6, count) * 100.0
    exact = {name: values if "size" in name else np.round(values / 200, 3) for name, values in frame.items()}
    table = pl.DataFrame({name: np.asarray(values, dtype=np.float64) for name, values in exact.items()})
    holes = [
        pl.when(pl.Series(rng.random(count) >= missing)).then(pl.col(name)).alias(name) for name in table.columns[2:]
    ]
    return table.with_columns(
        *holes,
        pl.lit("XYZ").alias("symbol"),
        pl.int_range(pl.len()).cast(pl.Datetime("us", "UTC")).alias("trade_time"),
        pl.int_range(pl.len()).alias("sequence"),
        pl.lit("exact").alias("quote_quality"),
    )
