"""From a segment of the stream to classified trades: trades per second, beside decoding the same messages alone.

Every update is a trade at one side of the quote, twenty symbols to a message, as the streamer sends a busy market. The
time is the processor's, so that what else the machine does counts less; Polars may use all its cores.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime

import msgspec
import polars as pl

from trade_analyst_pipeline.datasets import timesales
from trade_analyst_pipeline.market.aggressor_posterior import default_posterior
from trade_analyst_pipeline.market.stream_blocks import EPOCH_PARAM, RECEIVED_PATH, StreamMessage, pack_block
from trade_analyst_pipeline.metrics.aggressor_confidence import aggressor_confidence
from trade_analyst_pipeline.metrics.aggressor_side import aggressor_side
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse

AIM = 1_000_000
SYMBOLS = 20
_TRADES = 1_000_000
_START = 1_765_290_600_000
_DAY = date(2025, 12, 9)
_RUNS = 3


@dataclass(frozen=True)
class TapeFigures:
    """Trades per second of the processor: of the whole way, of its first part (to rows), and of decoding alone."""

    trades: int
    classified_per_second: float
    rows_per_second: float
    decoded_per_second: float


def tape_figures() -> TapeFigures:
    """The best of a few runs over the same segment."""
    messages = _messages()
    received = [StreamMessage((_START + 10 * i) * 1_000_000, text) for i, text in enumerate(messages)]
    instant = datetime(2025, 12, 9, 14, 30, tzinfo=UTC)
    request = MarketDataRequest("stream", RECEIVED_PATH, ((EPOCH_PARAM, "1"),))
    segment = RawResponse(request, 101, pack_block(received), (), instant, instant)
    decoder = msgspec.json.Decoder()
    trades = _classified(_rows(segment)).height
    whole = min(_seconds(lambda: _classified(_rows(segment))) for _ in range(_RUNS))
    rows = min(_seconds(lambda: _rows(segment)) for _ in range(_RUNS))
    decoded = min(_seconds(lambda: [decoder.decode(text) for text in messages]) for _ in range(_RUNS))
    return TapeFigures(trades, trades / whole, trades / rows, trades / decoded)


def _rows(segment: RawResponse) -> pl.DataFrame:
    return timesales.combine(timesales.normalize([segment], session_date=_DAY).frame).sort(timesales.SCHEMA.key)


def _classified(rows: pl.DataFrame) -> pl.DataFrame:
    is_print = pl.col("volume_kind").is_in(["shown", "unseen"]) & pl.col("exclusion").is_null()
    return aggressor_confidence(aggressor_side(rows.filter(is_print)), default_posterior())


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _messages() -> list[bytes]:
    """An image of every symbol, then as many trades."""
    still = {"1": 10.0, "2": 10.02, "3": 10.0, "4": 3, "5": 4, "8": 0, "9": 100, "34": _START, "35": _START}
    texts = [
        _text(0, [{"key": f"S{n:02}", "delayed": False, "assetMainType": "EQUITY"} | still for n in range(SYMBOLS)])
    ]
    for i in range(1, _TRADES // SYMBOLS + 1):
        price = 10.02 if i % 3 else 10.0
        changed = {"3": price, "8": 100 * i, "9": 100, "35": _START + 10 * i}
        texts.append(_text(i, [{"key": f"S{n:02}"} | changed for n in range(SYMBOLS)]))
    return texts


def _text(number: int, items: list[dict[str, object]]) -> bytes:
    part = {
        "service": "LEVELONE_EQUITIES",
        "timestamp": _START + 10 * number,
        "command": "SUBS",
        "content": items,
    }
    return json.dumps({"data": [part]}, separators=(",", ":")).encode()
