"""The market samples whose aggressors are known, as tapes of each kind of clock and join.

Regimes: `exact` (every quote before its trade is known), clocks of 1 ms and 1 s with each join, level-one updates once
a second with the quote of the update before, and quotes as they arrive. Times of the samples are nanoseconds of the
day, or milliseconds since 1970.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl

from trade_analyst_pipeline.metrics.aggressor_side import aggressor_side
from trade_analyst_pipeline.metrics.prevailing_quote import Join, prevailing_quote

NANOSECOND_TIME = pl.Datetime("ns", "UTC")
MILLISECOND, SECOND = timedelta(milliseconds=1), timedelta(seconds=1)


def side(is_buyer: pl.Expr) -> pl.Expr:
    """The word for the aggressor."""
    return pl.when(is_buyer).then(pl.lit("buyer")).otherwise(pl.lit("seller")).alias("true_side")


def book(samples: Path) -> pl.DataFrame:
    """The order book of AMZN: each event with the quote after it."""
    events = pl.read_parquet(samples / "lobster_amzn_20120621_l1.parquet")
    return events.with_columns(
        pl.lit("AMZN").alias("symbol"),
        (pl.col("bid_px") / 10_000).alias("bid"),
        (pl.col("ask_px") / 10_000).alias("ask"),
        (pl.col("price") / 10_000).alias("trade_price"),
        pl.col("size").cast(pl.Float64).alias("trade_size"),
        pl.int_range(pl.len()).alias("sequence"),
        pl.col("event_type").is_in([4, 5]).alias("is_trade"),
        side(pl.col("direction") == -1),
    )


def signed(trades: pl.DataFrame) -> pl.DataFrame:
    """`trades` as `aggressor_side` has them, with the truth."""
    return aggressor_side(trades).with_columns(trades["true_side"])


def exact_book(samples: Path) -> pl.DataFrame:
    """Each trade with the quote of the event before."""
    events = book(samples).with_columns(
        pl.col("bid", "ask").shift(1),
        pl.col("ts_ns").cast(NANOSECOND_TIME).alias("trade_time"),
        pl.lit("exact").alias("quote_quality"),
    )
    return signed(events.filter("is_trade"))


def clocked_book(samples: Path, clock: timedelta, join: Join) -> pl.DataFrame:
    """The same with all times rounded down to a clock, joined by them."""
    unit = clock // timedelta(microseconds=1) * 1000
    events = book(samples).with_columns((pl.col("ts_ns") // unit * unit).cast(NANOSECOND_TIME).alias("time"))
    trades = events.filter("is_trade").rename({"time": "trade_time"}).drop("bid", "ask")
    quotes = events.select("symbol", pl.col("time").alias("quote_time"), "bid", "ask")
    return signed(prevailing_quote(trades, quotes, max_age=None, join=join, resolution=clock))


def crypto(samples: Path, market: str, clock: timedelta | None, join: Join = "before") -> pl.DataFrame:
    """A Binance market joined by the order of arrival (no clock), or by its times rounded down to a clock.

    The times are the exchange's; of the spot market, whose quotes have none, those of arrival.
    """
    name = f"binance_{market}_btcusdt_20240808"
    trades, quotes = (pl.read_parquet(samples / f"{name}_{kind}.parquet") for kind in ("trades", "quotes"))
    own = pl.col("recv_ns") if market == "spot" else pl.col("exch_ms") * 1_000_000
    unit = None if clock is None else clock // timedelta(microseconds=1) * 1000
    time = (pl.col("seq") if unit is None else own // unit * unit).cast(NANOSECOND_TIME)
    trades = trades.select(
        pl.lit(name).alias("symbol"),
        time.alias("trade_time"),
        pl.col("seq").alias("sequence"),
        pl.col("price").alias("trade_price"),
        pl.col("size").alias("trade_size"),
        side(~pl.col("buyer_is_maker")),
    )
    quotes = quotes.select(
        pl.lit(name).alias("symbol"),
        time.alias("quote_time"),
        pl.col("bid_px").alias("bid"),
        pl.col("ask_px").alias("ask"),
    )
    joined = prevailing_quote(
        trades.sort("trade_time", "sequence"),
        quotes.sort("quote_time", maintain_order=True),
        max_age=None,
        join=join,
        resolution=clock or timedelta(0),
    )
    quality = pl.lit("arrival") if clock is None else pl.col("quote_quality")
    return signed(joined.with_columns(quality.alias("quote_quality")))


def level_one_book(samples: Path, clock: timedelta, *, unseen: bool) -> pl.DataFrame:
    """AMZN as level one shows it once per `clock`: the last trade of each, with the quote at the end of the one before.

    With `unseen`, instead, all other trades of the interval, placed where that last one stands.
    """
    unit = clock // timedelta(microseconds=1) * 1000
    events = book(samples).with_columns((pl.col("ts_ns") // unit * unit).cast(NANOSECOND_TIME).alias("trade_time"))
    updates = events.group_by("trade_time", maintain_order=True).agg(pl.col("bid", "ask").last())
    updates = updates.with_columns(pl.col("bid", "ask").shift(1))
    trades = events.filter("is_trade").drop("bid", "ask")
    shown = trades.group_by("trade_time", maintain_order=True).last().join(updates, on="trade_time", how="left")
    placed = signed(shown.with_columns(pl.lit("previous_update").alias("quote_quality")))
    if not unseen:
        return placed
    others = trades.join(shown.select("sequence"), on="sequence", how="anti")
    return (
        placed.drop("true_side", "sequence")
        .join(others.select("trade_time", "sequence", "true_side"), on="trade_time")
        .with_columns(pl.lit("unseen").alias("quote_quality"))
        .select(placed.columns)
    )


def default_tapes(samples: Path) -> dict[str, pl.DataFrame]:
    """What the published table was fitted on, by quality: AMZN, and for quotes by arrival the two Binance markets."""
    clocked: dict[str, tuple[timedelta, Join]] = {
        "strict": (SECOND, "before"),
        "concurrent": (SECOND, "at_or_before"),
        "concurrent_fine": (MILLISECOND, "at_or_before"),
    }
    matched = clocked_book(samples, SECOND, "match").filter(pl.col("quote_quality") == "matched")
    arrivals = [crypto(samples, market, None) for market in ("usdm", "spot")]
    return {
        "exact": exact_book(samples),
        **{quality: clocked_book(samples, clock, join) for quality, (clock, join) in clocked.items()},
        "matched": matched,
        "arrival": pl.concat(arrivals),
        "previous_update": level_one_book(samples, SECOND, unseen=False),
        "unseen": level_one_book(samples, SECOND, unseen=True),
    }
