"""Time and sales: trades derived from the level-one stream, each with the quote in force before it.

The source has no tape. A level-one update tells the last trade and the volume so far, and leaves trades out when they
come fast. So a row is a print that was shown; or volume that rose unseen, placed with the print that came with it; or
volume of a stretch of which nothing is known. All volume is in one of them, once.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Final

import polars as pl

from trade_analyst_pipeline.errors import ResponseRejectedError, StreamFrameError
from trade_analyst_pipeline.market.columns import Rule, table_schema
from trade_analyst_pipeline.market.normalized import Intake, Normalized, request_text
from trade_analyst_pipeline.market.row_layout import RowLayout
from trade_analyst_pipeline.market.stream_blocks import CARRIED_PATH, EPOCH_PARAM
from trade_analyst_pipeline.market.trade_locations import VOLUME_KINDS
from trade_analyst_pipeline.market.wire_json import RowShape
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse

NAME: Final = "timesales"
ARCHIVED_AS: Final = "stream"
"""What the segments of the stream are archived as."""


SCHEMA: Final = table_schema(
    NAME,
    "1.0",
    key=("symbol", "trade_time", "sequence"),
    event_time="trade_time",
    known_time="known_time",
    columns=(
        *("symbol", "trade_time", "sequence", "session_date", "update_time", "known_time", "instrument_type"),
        *("volume_kind", "trade_price", "trade_size", "trade_venue", "exclusion"),
        *("bid", "ask", "bid_size", "ask_size", "quote_time", "quote_quality", "quote_reason"),
    ),
    required=("session_date", "known_time", "volume_kind"),
    rules=(
        Rule("trade_size_positive", pl.col("trade_size") > 0, "A trade has a size."),
        Rule("trade_price_positive", pl.col("trade_price") > 0, "A price is above 0."),
        Rule(
            "volume_kind_known",
            pl.col("volume_kind").is_in(VOLUME_KINDS),
            f"A kind is one of {', '.join(VOLUME_KINDS)}.",
        ),
        Rule(
            "known_after_trade",
            pl.col("trade_time") <= pl.col("known_time"),
            "A trade is not told of before it is.",
            "warning",
        ),
    ),
)
LAYOUT: Final = RowLayout(rows=(), row=RowShape("update", ()))
"""A row comes from many messages: it is traced to its segments, not to places in them."""
_ORDER: Final = ("symbol", "known_time", "sequence")


def requests() -> list[MarketDataRequest]:
    """Nothing: the stream is not asked for."""
    return []


def normalize(responses: Iterable[RawResponse], *, session_date: date) -> Normalized:
    """The blocks of one segment of the stream as rows of SCHEMA, in the order in which they arrived.

    How much was missed before a state (`start`, `gap`) is not known from one segment alone: `combine` fills it in.
    """
    # compiled code is loaded where it is needed: every command imports the datasets
    from trade_analyst_pipeline.datasets.timesales.trades import trades_of
    from trade_analyst_pipeline.datasets.timesales.updates import Block, UpdateReader

    intake, reader = Intake(), UpdateReader()
    for response in responses:
        request = request_text(response.request.path, response.request.params)
        epoch = response.request.param(EPOCH_PARAM) or "0"
        try:
            reader.read(Block(response.body, int(epoch), response.request.path == CARRIED_PATH))
        except (StreamFrameError, ValueError) as error:
            reason = error.reason if isinstance(error, StreamFrameError) else "no_epoch"
            intake.note_problem(ResponseRejectedError(reason, str(error)), symbols=(), request=request)
        intake.reject(reader.take_bad(), symbol=None, snapshot_time=response.received_time, request=request)
    updates = reader.updates()
    intake.counts += updates.counts
    return intake.normalized(trades_of(updates, session_date, intake).select(SCHEMA.names))


def combine(rows: pl.DataFrame) -> pl.DataFrame:
    """One table of the valid rows of the segments of a session, each key once; a repeated segment changes nothing.

    A state whose volume is that of the row before it in its symbol says nothing new and is left out. One with more is a
    `gap` of the difference; one with less, after a reset, or without a row before is a `start`, of unknown size. Where
    the volume fell, a state that reaches the highest of the rows before is compared with that: it was counted once.
    """
    is_state = pl.col("volume_kind").is_in(["gap", "start"])
    # a state as of the very millisecond of a print has the print's key, and says nothing besides it
    by_kind = rows.sort(is_state, maintain_order=True)
    first = by_kind.unique(subset=SCHEMA.key, keep="first", maintain_order=True).sort(_ORDER, maintain_order=True)
    volume, before, highest = (
        each.over("symbol")
        for each in (pl.col("sequence"), pl.col("sequence").shift(1), pl.col("sequence").cum_max().shift(1))
    )
    found = first.with_columns((volume - pl.when(volume >= highest).then(highest).otherwise(before)).alias("missed"))
    kept = found.filter(~is_state | (pl.col("missed") != 0).fill_null(value=True))
    is_gap = is_state & (pl.col("missed") > 0).fill_null(value=False)
    kind = pl.when(is_gap).then(pl.lit("gap")).when(is_state).then(pl.lit("start")).otherwise("volume_kind")
    size = pl.when(is_gap).then(pl.col("missed").cast(pl.Float64)).when(~is_state).then("trade_size")
    return kept.with_columns(kind.alias("volume_kind"), size.alias("trade_size")).select(SCHEMA.names)
