"""The tape behind the stream: every print and quote of a symbol, and the level-one updates a subscriber gets of them.

`Tape` makes a symbol's flow half an hour at a time and keeps the last ones. Updates come from it by conflation: a share
of the prints may show only in the volume of the next one, and updates may be sent once an interval. What was
sent and what was not is told by `prints`. Times are milliseconds since 1970, prices whole 1/10000 dollars.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from trade_analyst_pipeline.simulator.noise import generator
from trade_analyst_pipeline.simulator.order_flow import CONDITIONS, SCALE, VENUES, Flags, Flow, Kind, Whole, make_flow
from trade_analyst_pipeline.simulator.stream_sources import (
    BLOCK_MS,
    Source,
    block_count,
    block_start,
    minutes_of,
    place_of,
    source_of,
    start_of,
)

if TYPE_CHECKING:
    from trade_analyst_pipeline.simulator.market import Market

_RESET_MS = 122 * 60_000  # 07:28 New York of a usual session: when volume, high and low begin anew
_USUAL_PRINTS = 30.0
_PRINTS_OF_CONTRACT = 2.0


@dataclass(frozen=True)
class Conflation:
    """What a subscriber does not see: `share` (0 to 1) of the prints, and all but the last state of each interval.

    A print withheld shows only as volume of the next one that is sent; the last one of each half hour always is.
    """

    share: float = 0.0
    interval_ms: int = 0


FULL = Conflation()


@dataclass(frozen=True)
class Updates:
    """Level-one states in order; element 0 holds before the first of them. `shown` is the event behind the last trade.

    A `shown` of -1 is a trade of an earlier block.
    """

    time: Whole
    shown: Whole
    bid: Whole
    ask: Whole
    bid_size: Whole
    ask_size: Whole
    bid_venue: Whole
    ask_venue: Whole
    quote_time: Whole
    last: Whole
    last_size: Whole
    last_venue: Whole
    trade_time: Whole
    volume: Whole
    high: Whole
    low: Whole
    opened: Whole

    def __len__(self) -> int:
        return len(self.time)


_STATE = (
    "bid", "ask", "bid_size", "ask_size", "bid_venue", "ask_venue", "quote_time",
    "last", "last_size", "last_venue", "trade_time", "volume", "high", "low", "opened",
)  # fmt: skip
_QUOTED = _STATE[:6]


class Tape:
    """The flows of one market; `prints_per_minute` is their mean over half an hour, for a contract it is 2 at most."""

    def __init__(self, market: Market, *, prints_per_minute: float = _USUAL_PRINTS) -> None:
        self.market = market
        self.prints_per_minute = prints_per_minute
        self.flow = lru_cache(maxsize=512)(self._make_flow)
        self.updates = lru_cache(maxsize=512)(self._make_updates)

    def source(self, symbol: str, instant: datetime) -> Source | None:
        """The source of a symbol that streams at that instant; None for any other."""
        return source_of(self.market, symbol, instant)

    def state(self, source: Source, conflation: Conflation, ms: int) -> tuple[Updates, int]:
        """The updates of the block around an instant, and the place of the last one before it."""
        updates = self.updates(source, *place_of(source, ms), conflation)
        return updates, max(int(np.searchsorted(updates.time, ms, side="left")) - 1, 0)

    def _make_flow(self, source: Source, index: int, number: int) -> Flow:
        rng = generator(self.market.seed, source.symbol, "orders", index, number)
        is_option = source.product == "option"
        rate = min(self.prints_per_minute, _PRINTS_OF_CONTRACT) if is_option else self.prints_per_minute
        minutes = minutes_of(self.market, source, index, number)
        flow = make_flow(rng, minutes, prints_per_minute=rate, follows_quotes=is_option)
        if source.product != "index":
            return flow
        nothing = np.zeros(len(flow), np.int64)
        return replace(
            flow, bid=nothing, ask=nothing, bid_size=nothing, ask_size=nothing, side=nothing, kind=nothing
        )  # fmt: skip

    # -- what is sent --------------------------------------------------------------------------------------------------

    def _make_updates(self, source: Source, index: int, number: int, conflation: Conflation) -> Updates:
        flow, before = self.flow(source, index, number), self._before(source, index, number, conflation)
        is_sent, shown = self._sent(source, index, number, conflation)
        columns = _states(flow, before, shown)
        chosen, time = _emitted(flow.time, is_sent, conflation, block_start(index, number))
        head = [before] if number else [before, before | _reset(index)]
        whole = {name: np.concatenate(([state[name] for state in head], columns[name][chosen])) for name in _STATE}
        times = [0] if number else [0, block_start(index, 0) - _RESET_MS]
        return Updates(
            time=np.concatenate((times, time)),
            shown=np.concatenate((np.full(len(head), -1), shown[chosen])),
            **whole,
        )

    def _sent(self, source: Source, index: int, number: int, conflation: Conflation) -> tuple[Flags, Whole]:
        """Which events may be sent, and for each event the print that is the last trade a subscriber knows."""
        flow = self.flow(source, index, number)
        rng = generator(self.market.seed, source.symbol, "conflation", index, number)
        withheld = flow.is_print & (rng.random(len(flow)) < conflation.share)
        prints = np.flatnonzero(flow.is_print)
        withheld[prints[-1:]] = False
        seen = np.where(flow.is_print & ~withheld, np.arange(len(flow)), -1)
        return ~withheld, np.maximum.accumulate(seen)

    def _before(self, source: Source, index: int, number: int, conflation: Conflation) -> dict[str, int]:
        if number:
            earlier = self.updates(source, index, number - 1, conflation)
            return {name: int(getattr(earlier, name)[-1]) for name in _STATE}
        start = vars(start_of(self.market, source, index))
        return dict.fromkeys(_STATE, 0) | start | {"last_size": 1, "quote_time": start["trade_time"]}

    # -- truth, for tests and /truth -----------------------------------------------------------------------------------

    def prints(self, symbol: str, first: datetime, until: datetime, conflation: Conflation = FULL) -> pl.DataFrame:
        """Every print from `first` to `until` (not included), ascending.

        `side` is 1 for a buyer, -1 for a seller, null for an auction; `bid` and `ask` the quote it met. `is_shown`
        tells whether a subscriber saw its price and size, `update_time` when it was counted in the volume sent.
        """
        return self._told(symbol, first, until, conflation, is_print=True)

    def quotes(self, symbol: str, first: datetime, until: datetime, conflation: Conflation = FULL) -> pl.DataFrame:
        """Every quote from `first` to `until` (not included), ascending; `is_shown` tells whether it was sent."""
        return self._told(symbol, first, until, conflation, is_print=False)

    def _told(
        self, symbol: str, first: datetime, until: datetime, conflation: Conflation, *, is_print: bool
    ) -> pl.DataFrame:
        source = self.source(symbol, first)
        if source is None:
            raise KeyError(symbol)
        start, stop = (round(instant.timestamp() * 1000.0) for instant in (first, until))
        pieces = [
            self._truth(source, index, number, conflation, is_print=is_print)
            for index, number in _blocks_between(source, start, stop)
        ]
        column = pl.col("time").dt.epoch("ms")
        return pl.concat(pieces).filter(column >= start, column < stop)

    def _truth(
        self, source: Source, index: int, number: int, conflation: Conflation, *, is_print: bool
    ) -> pl.DataFrame:
        flow, updates = self.flow(source, index, number), self.updates(source, index, number, conflation)
        rows = np.flatnonzero(flow.is_print == is_print)
        common = {
            "symbol": pl.repeat(source.symbol, len(rows), eager=True),
            "time": pl.Series(flow.time[rows]).cast(pl.Datetime("ms", "UTC")),
            "bid": flow.bid[rows] / SCALE,
            "ask": flow.ask[rows] / SCALE,
            "bid_size": flow.bid_size[rows],
            "ask_size": flow.ask_size[rows],
        }
        if not is_print:
            sent = _emitted(flow.time, self._sent(source, index, number, conflation)[0], conflation, 0)[0]
            return pl.DataFrame(common | {"is_shown": np.isin(rows, sent)})
        kinds, at = flow.kind[rows], np.searchsorted(updates.shown, rows)
        told = updates.time[np.minimum(at, len(updates) - 1)]
        return pl.DataFrame(
            common
            | {
                "price": flow.price[rows] / SCALE,
                "size": flow.size[rows],
                "side": flow.side[rows],
                "kind": [Kind(kind).name.lower() for kind in kinds.tolist()],
                "venue": [VENUES[venue][1] for venue in flow.venue[rows].tolist()],
                "conditions": [CONDITIONS[kind] for kind in kinds.tolist()],
                "is_shown": np.isin(rows, updates.shown),
                "update_time": pl.Series(told).cast(pl.Datetime("ms", "UTC")),
            }
        ).with_columns(side=pl.when(pl.col("side") != 0).then("side"))


def _reset(index: int) -> dict[str, int]:
    reset = dict.fromkeys(("volume", "high", "low", "opened"), 0)
    return reset | {"quote_time": block_start(index, 0) - _RESET_MS}


def _states(flow: Flow, before: dict[str, int], shown: Whole) -> dict[str, Whole]:
    """The state after each event; trades as far as a subscriber knows of them."""
    quoted = np.maximum.accumulate(np.where(~flow.is_print, np.arange(len(flow)), -1))
    columns = {name: getattr(flow, name) for name in _QUOTED}
    columns["quote_time"] = np.where(quoted >= 0, flow.time[quoted], before["quote_time"])
    prices = np.where(flow.is_print, flow.price, 0)
    high = np.maximum(np.maximum.accumulate(prices), before["high"])
    unset = np.iinfo(np.int64).max
    low = np.minimum.accumulate(np.where(flow.is_print, flow.price, unset))
    low = np.minimum(low, before["low"] or unset)
    first = flow.price[np.argmax(flow.is_print)] if flow.is_print.any() else 0
    trades = {
        "last": flow.price,
        "last_size": flow.size,
        "last_venue": flow.venue,
        "trade_time": flow.time,
        "volume": before["volume"] + np.cumsum(flow.size),
        "high": high,
        "low": low,
        "opened": np.full(len(flow), before["opened"] or first),
    }
    return columns | {name: np.where(shown >= 0, column[shown], before[name]) for name, column in trades.items()}


def _emitted(time: Whole, is_sent: Flags, conflation: Conflation, start: int) -> tuple[Whole, Whole]:
    """The events whose state is sent, and when: at once, or just before the end of the interval they fall into."""
    chosen = np.flatnonzero(is_sent)
    if conflation.interval_ms == 0:
        return chosen, time[chosen]
    bins = time[chosen] // conflation.interval_ms
    last = np.append(bins[1:] != bins[:-1], True) if len(bins) else np.empty(0, np.bool_)
    due = (bins[last] + 1) * conflation.interval_ms - 1
    return chosen[last], np.minimum(due, start + BLOCK_MS - 1) if start else due


def _blocks_between(source: Source, start: int, stop: int) -> list[tuple[int, int]]:
    (index, number), last = place_of(source, start), place_of(source, max(stop - 1, start))
    found = []
    while (index, number) <= last:
        found.append((index, number))
        number += 1
        if number == block_count(source, index):
            index, number = index + 1, 0
    return found
