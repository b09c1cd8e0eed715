"""What the vendor's numbers mean where it sends a stand-in instead of a value, as expressions over a wire table.

Every function keeps a real value as it is (or changes only its unit) and turns a stand-in into null; `nulled` counts
how often. Which field is which belongs to the dataset modules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime, timedelta

import polars as pl

from trade_analyst_pipeline.market.columns import TIME
from trade_analyst_pipeline.market.sessions import Product, is_session, session_close, session_open

MODEL_FAILED = 999.0
MAX_VOLATILITY_PERCENT = 500.0
MAX_QUOTE_AGE = timedelta(minutes=15)
# In 1/10000 dollar, as all prices are compared: twice a mid of 0.05, and a spread of 0.10.
_LOW_SUM = 1_000
_WIDE_SPREAD = 1_000


def price(column: str) -> pl.Expr:
    """Dollars; null for 0 or less, which is how the wire says that there is none."""
    return pl.when(pl.col(column) > 0).then(pl.col(column)).alias(column)


def greek(column: str) -> pl.Expr:
    """A model value; null from 999 up in either direction, which says that the model failed."""
    return pl.when(pl.col(column).abs() < MODEL_FAILED).then(pl.col(column)).alias(column)


def model_value(column: str) -> pl.Expr:
    """A model price in dollars; null below 0, as -999 says that the model failed."""
    return pl.when(pl.col(column) >= 0).then(pl.col(column)).alias(column)


def fraction(column: str) -> pl.Expr:
    """A percentage as a fraction."""
    return _hundredth(pl.col(column)).alias(column)


def _hundredth(percent: pl.Expr) -> pl.Expr:
    """The correctly rounded quotient: for a divisor that is one number Polars multiplies by its rounded reciprocal."""
    return percent / (percent * 0 + 100)


def volatility(column: str, default: str | None = None) -> pl.Expr:
    """A volatility in percent as a fraction; null outside (0 %, 500 %), or when equal to the `default` column."""
    percent = pl.col(column)
    is_value = (percent > 0) & (percent < MAX_VOLATILITY_PERCENT)
    if default is not None:
        is_value &= (percent != pl.col(default)).fill_null(value=True)
    return pl.when(is_value).then(_hundredth(percent)).alias(column)


def whole(column: str) -> pl.Expr:
    """A count as an integer."""
    return pl.col(column).cast(pl.Int64).alias(column)


def instant(column: str) -> pl.Expr:
    """Epoch milliseconds as an instant; null for 0, which says never."""
    milliseconds = pl.when(pl.col(column) > 0).then(pl.col(column))
    return (milliseconds.cast(pl.Int64) * 1000).cast(TIME).alias(column)


def fresh_since(snapshot_time: datetime, session_date: date, product: Product | None) -> datetime:
    """The earliest time of a quote still in force at the snapshot.

    Fifteen minutes before the snapshot, or before the product's close when the snapshot is later; never before the
    open. Without a product (it trades round the clock) or on a day without a session: before the snapshot only.
    """
    if product is None or not is_session(session_date):
        return snapshot_time - MAX_QUOTE_AGE
    latest = min(snapshot_time, session_close(session_date, product))
    return max(session_open(session_date), latest - MAX_QUOTE_AGE)


def quote_status(fresh: str) -> pl.Expr:
    """State of each quote from its cleaned `bid`, `ask` and `quote_time`; `fresh` names the column of `fresh_since`.

    The first that holds of: no_quote, no_bid, no_ask, crossed, stale, low_priced, wide, locked, ok.
    """
    bid, ask = pl.col("bid"), pl.col("ask")
    spread, total = ((ask - bid) * 10_000).round(), ((ask + bid) * 10_000).round()
    return (
        pl.when(bid.is_null() & ask.is_null())
        .then(pl.lit("no_quote"))
        .when(bid.is_null())
        .then(pl.lit("no_bid"))
        .when(ask.is_null())
        .then(pl.lit("no_ask"))
        .when(bid > ask)
        .then(pl.lit("crossed"))
        .when(pl.col("quote_time").is_null() | (pl.col("quote_time") < pl.col(fresh)))
        .then(pl.lit("stale"))
        .when(total < _LOW_SUM)
        .then(pl.lit("low_priced"))
        .when((spread > _WIDE_SPREAD) & (spread * 4 > total))
        .then(pl.lit("wide"))
        .when(spread == 0)
        .then(pl.lit("locked"))
        .otherwise(pl.lit("ok"))
        .alias("quote_status")
    )


def uncrossed(column: str) -> pl.Expr:
    """A side of the quote; null where the quote is crossed."""
    return pl.when(pl.col("quote_status") != "crossed").then(pl.col(column)).alias(column)


def nulled(wire: pl.DataFrame, table: pl.DataFrame, columns: Iterable[str]) -> Counter[str]:
    """For each column, values not sent (`absent:`), and values sent that stand for none (`sentinel:`)."""
    counts: Counter[str] = Counter()
    for column in columns:
        absent = wire[column].null_count()
        counts[f"absent:{column}"] = absent
        counts[f"sentinel:{column}"] = table[column].null_count() - absent
    return counts


def unexpected_values(table: pl.DataFrame, expected: dict[str, frozenset[str]]) -> Counter[str]:
    """Texts outside the values known so far, by column: they stay in the table as sent and are counted."""
    counts: Counter[str] = Counter()
    for column, known in expected.items():
        for value in table[column].drop_nulls().unique():
            if value not in known:
                counts[f"unknown_value:{column}={value[:40]}"] = table[column].eq(value).sum()
    return counts
