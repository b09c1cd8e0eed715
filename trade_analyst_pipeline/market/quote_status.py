"""When a quote can be used: both sides there, not crossed, fresh, not too cheap, not too wide.

One definition for the `quote_status` of tables and for the metrics that choose quotes. What the vendor sends instead
of a price is not known here.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Final

import polars as pl

from trade_analyst_pipeline.market.prices import ticks
from trade_analyst_pipeline.market.sessions import Product, is_session, session_close, session_open

MAX_QUOTE_AGE: Final = timedelta(minutes=15)
# Usable quotes. Whoever needs a true spread leaves locked ones out.
USABLE: Final = ("ok", "locked")
_LOWEST_MID: Final = 500  # 0.05 dollars
_NARROW_SPREAD: Final = 1_000  # a spread up to 0.10 dollars passes whatever the mid is


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
    """State of each quote from its `bid`, `ask` and `quote_time`; `fresh` names the column of `fresh_since`.

    A side of 0 or less, or null, is not there. The first that holds of: no_quote, no_bid, no_ask, crossed, stale (or
    time unknown), low_priced (mid under 0.05), wide (spread over half of the mid and over 0.10), locked, ok.
    """
    bid, ask = (ticks(pl.when(pl.col(side) > 0).then(pl.col(side))) for side in ("bid", "ask"))
    spread, doubled_mid = ask - bid, ask + bid
    return (
        pl.when(bid.is_null() & ask.is_null())
        .then(pl.lit("no_quote"))
        .when(bid.is_null())
        .then(pl.lit("no_bid"))
        .when(ask.is_null())
        .then(pl.lit("no_ask"))
        .when(spread < 0)
        .then(pl.lit("crossed"))
        .when(pl.col("quote_time").is_null() | (pl.col("quote_time") < pl.col(fresh)))
        .then(pl.lit("stale"))
        .when(doubled_mid < 2 * _LOWEST_MID)
        .then(pl.lit("low_priced"))
        .when((spread > _NARROW_SPREAD) & (spread * 4 > doubled_mid))
        .then(pl.lit("wide"))
        .when(spread == 0)
        .then(pl.lit("locked"))
        .otherwise(pl.lit("ok"))
        .alias("quote_status")
    )


def uncrossed(column: str) -> pl.Expr:
    """A side of the quote; null where the quote is crossed."""
    return pl.when(pl.col("quote_status") != "crossed").then(pl.col(column)).alias(column)
