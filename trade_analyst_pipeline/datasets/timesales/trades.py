"""Level-one updates to trades: what each rise of volume was, the quote it met, and whether it can be classified."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Any, Final

import numpy as np
import polars as pl

from trade_analyst_pipeline.datasets.timesales.updates import PRODUCTS, Updates, venue_texts
from trade_analyst_pipeline.kernels import level_one_trades as kernel
from trade_analyst_pipeline.market.columns import TIME
from trade_analyst_pipeline.market.normalized import Intake
from trade_analyst_pipeline.market.prices import ticks
from trade_analyst_pipeline.market.sessions import NEW_YORK, option_product, session_close, session_open
from trade_analyst_pipeline.market.trade_locations import VOLUME_KINDS

SUSPECT_SPREADS: Final = 5.0
SUSPECT_SHARE: Final = 0.02
BLOCK_TIMES: Final = 10.0


def trades_of(updates: Updates, session_date: date, intake: Intake) -> pl.DataFrame:
    """The rows of these updates as the columns of `timesales`; what else was seen goes into the counts."""
    rows, kinds, flags, found = _derived(updates, intake)
    received = (
        pl.Series(updates.received[rows] // 1000, dtype=pl.Int64).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    )
    stamps = updates.timestamps[rows]
    frame = pl.DataFrame(
        {
            "symbol": pl.Series(updates.names, dtype=pl.String).gather(pl.Series(updates.symbols[rows])),
            "known_time": received,
            "stamp": pl.Series(np.where(stamps < 0, np.nan, stamps), dtype=pl.Float64),
            "instrument_type": pl.Series(list(PRODUCTS.values()), dtype=pl.String).gather(
                pl.Series(updates.services[rows].astype(np.uint8))
            ),
            "volume_kind": pl.Series(VOLUME_KINDS, dtype=pl.String).gather(pl.Series(kinds.astype(np.uint8))),
            "is_late": flags == kernel.OUT_OF_SEQUENCE,
            "trade_venue": venue_texts(updates.venues[rows]),
            **{name: pl.Series(column) for name, column in zip(_FOUND, found, strict=True)},
        }
    ).with_columns(pl.col(*_FOUND, "stamp").fill_nan(None))
    return _judged(frame, session_date, intake)


_FOUND: Final = (
    *("trade_price", "trade_size", "sequence", "trade_stamp"),
    *("bid", "ask", "bid_size", "ask_size", "quote_stamp"),
)


def _derived(updates: Updates, intake: Intake) -> tuple[Any, Any, Any, Any]:
    room = 2 * len(updates)
    rows, kinds, flags = np.empty(room, np.int64), np.empty(room, np.int8), np.empty(room, np.int8)
    found, counts = np.empty((len(_FOUND), room)), np.zeros(kernel.COUNTED, np.int64)
    made = kernel.level_one_trades(
        *(updates.symbols, updates.images, updates.stretches, updates.numbers, len(updates.names)),
        *(rows, kinds, flags, found, counts),
    )
    names = ("volume_reset", "trade_without_volume", "size_above_volume", "state")
    intake.counts.update(dict(zip(names, counts.tolist(), strict=True)))
    return rows[:made], kinds[:made], flags[:made], found[:, :made]


def _judged(frame: pl.DataFrame, session_date: date, intake: Intake) -> pl.DataFrame:
    """The rows with their times, with why a quote is none, and with why a print is not to be classified."""
    update_time = _instant("stamp")
    timed = frame.with_columns(
        update_time.alias("update_time"),
        pl.coalesce(_instant("trade_stamp"), update_time, "known_time").alias("trade_time"),
        _instant("quote_stamp").alias("quote_time"),
        pl.lit(session_date).alias("session_date"),
    )
    midnight = datetime.combine(session_date, time(), NEW_YORK).astimezone(UTC)
    bid, ask = (pl.when(pl.col(name) > 0).then(name) for name in ("bid", "ask"))
    is_trade = pl.col("volume_kind").is_in(["shown", "unseen"])
    reason = (
        pl.when(~is_trade)
        .then(None)
        .when(bid.is_null() & ask.is_null())
        .then(pl.lit("no_quote"))
        .when(bid.is_null() | ask.is_null())
        .then(pl.lit("one_sided"))
        .when(ticks(bid) > ticks(ask))
        .then(pl.lit("crossed"))
        .when(pl.col("quote_time") < midnight)
        .then(pl.lit("earlier_session"))
    )
    quoted = timed.with_columns(reason.alias("quote_reason")).with_columns(
        pl.when(is_trade & pl.col("quote_reason").is_null()).then(name).alias(name)
        for name in ("bid", "ask", "bid_size", "ask_size", "quote_time")
    )
    judged = quoted.with_columns(_exclusion(quoted, session_date), _quality())
    for column in ("quote_reason", "exclusion"):
        counted = judged[column].drop_nulls().value_counts()
        intake.counts.update({f"{column}:{word}": count for word, count in counted.rows()})
    return judged.with_columns(pl.col("sequence", "bid_size", "ask_size").cast(pl.Int64))


def _instant(name: str) -> pl.Expr:
    return (pl.col(name) * 1000).cast(pl.Int64).cast(TIME)


def _exclusion(frame: pl.DataFrame, session_date: date) -> pl.Expr:
    """Why a print says nothing about who was the aggressor: it was made at another time, or its price is no price."""
    mid, spread = (pl.col("bid") + pl.col("ask")) / 2, pl.col("ask") - pl.col("bid")
    farthest = pl.max_horizontal(SUSPECT_SPREADS * spread, SUSPECT_SHARE * mid)
    hours = pl.col("symbol").replace_strict(_closes(frame, session_date), default=None, return_dtype=TIME)
    is_regular = pl.col("trade_time").is_between(session_open(session_date), hours, closed="left")
    return (
        pl.when(pl.col("volume_kind").is_in(["gap", "start"]))
        .then(None)
        .when(pl.col("is_late"))
        .then(pl.lit("out_of_sequence"))
        .when((pl.col("instrument_type") != "future") & ~is_regular)
        .then(pl.lit("extended_hours"))
        .when((pl.col("trade_price") - mid).abs() > farthest)
        .then(pl.lit("suspect"))
        .alias("exclusion")
    )


def _closes(frame: pl.DataFrame, session_date: date) -> dict[str, datetime]:
    """Of each symbol, when its product closes in that session."""
    found = frame.select("symbol", "instrument_type").unique().rows()
    return {
        symbol: session_close(session_date, option_product(symbol[:6].strip()) if kind == "option" else "regular")
        for symbol, kind in found
    }


def _quality() -> pl.Expr:
    """How the quote was had: by the update before; a block is far larger than what was shown, and off the quotes."""
    beyond = (
        pl.when(pl.col("trade_price") > pl.col("ask"))
        .then("ask_size")
        .when(pl.col("trade_price") < pl.col("bid"))
        .then("bid_size")
    )
    is_block = (pl.col("volume_kind") == "shown") & (pl.col("trade_size") > BLOCK_TIMES * beyond)
    return (
        pl.when(pl.col("volume_kind").is_in(["gap", "start"]))
        .then(None)
        .when(is_block)
        .then(pl.lit("block"))
        .when(pl.col("instrument_type") == "option")
        .then(pl.lit("option_prior"))
        .when(pl.col("volume_kind") == "unseen")
        .then(pl.lit("unseen"))
        .otherwise(pl.lit("previous_update"))
        .alias("quote_quality")
    )
