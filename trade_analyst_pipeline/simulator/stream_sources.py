"""What the flow of one symbol is made from, half an hour at a time: its bars and the quotes that open its minutes.

Bars, volumes and the quotes at whole minutes are those that the price history and the quotes of the same instant tell.
A block is half an hour of the regular session; the last one may be shorter.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trade_analyst_pipeline.market.sessions import LATE_CLOSE_DELAY, NEW_YORK, option_product
from trade_analyst_pipeline.simulator.futures import future_of, product_of
from trade_analyst_pipeline.simulator.instruments import instrument_on, owner_of_root
from trade_analyst_pipeline.simulator.order_flow import SCALE, Minutes, Whole
from trade_analyst_pipeline.simulator.paths import calendar, midnight
from trade_analyst_pipeline.simulator.wire_futures import contract_price
from trade_analyst_pipeline.simulator.wire_option_quotes import option_entry
from trade_analyst_pipeline.simulator.wire_quotes import quote_entry
from trade_analyst_pipeline.simulator.wire_shares import touch_of

if TYPE_CHECKING:
    from trade_analyst_pipeline.simulator.market import Market

BLOCK_MINUTES = 30
BLOCK_MS = BLOCK_MINUTES * 60_000
Product = Literal["share", "index", "future", "option"]


@dataclass(frozen=True)
class Source:
    """A symbol as its flow needs it: `owner` has the path and the hours."""

    symbol: str
    owner: str
    product: Product


@dataclass(frozen=True)
class Start:
    """What holds at a session's start: prices in 1/10000 dollar, times in milliseconds since 1970; 0 for no quote."""

    last: int
    trade_time: int
    bid: int
    ask: int
    bid_size: int
    ask_size: int


def source_of(market: Market, symbol: str, instant: datetime) -> Source | None:
    """The source of a symbol that streams at that instant; None for any other."""
    day = instant.astimezone(NEW_YORK).date()
    if len(symbol) == 21:
        owner = owner_of_root(symbol[:6].strip())
        is_listed = owner is not None and option_entry(market, instant, symbol) is not None
        return Source(symbol, owner, "option") if owner and is_listed else None
    product = product_of(symbol)
    if product is not None:
        is_listed = instrument_on(product, day) is not None and future_of(symbol, day) is not None
        return Source(symbol, product, "future") if is_listed else None
    instrument = instrument_on(symbol, day)
    if instrument is None or instrument.kind not in {"stock", "etf", "index"}:
        return None
    return Source(symbol, symbol, "index" if instrument.kind == "index" else "share")


def session_minutes(source: Source, index: int) -> int:
    """Length of a session for the source: options on some indices and funds trade on after the stock market's close."""
    late = source.product == "option" and option_product(source.owner) == "late"
    return calendar().minutes(index) + (round(LATE_CLOSE_DELAY.total_seconds() / 60) if late else 0)


def block_count(source: Source, index: int) -> int:
    """How many blocks a session has."""
    return -(-session_minutes(source, index) // BLOCK_MINUTES)


def block_start(index: int, number: int) -> int:
    """When a block begins, milliseconds since 1970."""
    return round(calendar().opens[index] * 1000.0) + number * BLOCK_MS


def place_of(source: Source, ms: int) -> tuple[int, int]:
    """Session and block that hold at an instant: the last of a session until the next date begins."""
    table = calendar()
    day = datetime.fromtimestamp(ms / 1000.0, NEW_YORK).date()
    index = table.index_at_or_before(day)
    number = (ms - block_start(index, 0)) // BLOCK_MS
    return index, min(max(int(number), 0), block_count(source, index) - 1)


def session_begin(index: int) -> int:
    """Midnight New York of a session's date, milliseconds since 1970."""
    return round(midnight(calendar().days[index]) * 1000.0)


def entry_of(market: Market, source: Source, ms: int) -> dict[str, Any]:
    """What /quotes answers for the symbol at an instant; raises KeyError for one that is not listed then."""
    entry = quote_entry(market, _instant(ms), source.symbol)
    if entry is None:
        raise KeyError(source.symbol)
    return entry


def start_of(market: Market, source: Source, index: int) -> Start:
    """The last trade before a session."""
    quote = entry_of(market, source, session_begin(index) + 1000)["quote"]
    closed = round(calendar().closes[max(index - 1, 0)] * 1000.0) - 100
    bid, ask = (round(quote.get(name, 0.0) * SCALE) for name in ("bidPrice", "askPrice"))
    last = round(quote["closePrice"] * SCALE)
    return Start(last, closed, bid, ask, quote.get("bidSize", 0), quote.get("askSize", 0))


def minutes_of(market: Market, source: Source, index: int, number: int) -> Minutes:
    """The minutes of a block."""
    first = number * BLOCK_MINUTES
    count = min(BLOCK_MINUTES, session_minutes(source, index) - first)
    starts = block_start(index, number) + 60_000 * np.arange(count, dtype=np.int64)
    opens_with = np.zeros(count, np.bool_)
    ends_with = np.zeros(count, np.bool_)
    if source.product == "share":
        opens_with[0] = number == 0
        ends_with[-1] = number == block_count(source, index) - 1
        opens_with |= [(source.symbol, index, first + minute) in _reopenings(market) for minute in range(count)]
    if source.product == "option":
        return _option_minutes(market, source, starts, opens_with, ends_with)
    bars, chosen = market.intraday(source.owner).bars(index), slice(first, first + count)
    prices = _Prices(*(_whole(column[chosen] * 100.0) for column in (bars.opens, bars.highs, bars.lows, bars.closes)))
    volumes, tick = bars.volumes[chosen], 100
    if source.product == "future":
        prices, volumes, tick = _future_bars(market, source, starts, prices, bars.volumes, first)
    touches = _touches(market, source, starts, prices.opens, tick)
    halted = np.array([market.is_halted(source.symbol, index, first + minute) for minute in range(count)])
    return Minutes(
        starts=starts,
        **vars(prices),
        volumes=volumes,
        **{name: np.where(halted, 0, column) for name, column in touches.items()},
        tick=tick,
        opens_with_auction=opens_with,
        ends_with_auction=ends_with,
    )


def _reopenings(market: Market) -> set[tuple[str, int, int]]:
    """Symbol, session and minute in which trading goes on after a halt: it begins with an auction."""
    return {(halt.symbol, halt.index, halt.until) for halt in market.halts}


@dataclass(frozen=True)
class _Prices:
    """The prices of bars, in ticks."""

    opens: Whole
    highs: Whole
    lows: Whole
    closes: Whole


def _instant(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000.0, UTC)


def _whole(values: Any) -> Whole:
    return np.asarray(np.rint(values), dtype=np.int64)


def _touches(market: Market, source: Source, starts: Whole, opens: Whole, tick: int) -> dict[str, Whole]:
    found = [touch_of(market, market.moment(source.owner, _instant(start))) for start in starts.tolist()]
    sizes = {name: np.array([getattr(touch, name) for touch in found]) for name in ("bid_size", "ask_size")}
    if source.product == "future":
        return {"bid": opens, "ask": opens + 1} | sizes
    return {name: _whole([getattr(touch, name) * SCALE / tick for touch in found]) for name in ("bid", "ask")} | sizes


def _future_bars(
    market: Market, source: Source, starts: Whole, prices: _Prices, volumes: Whole, first: int
) -> tuple[_Prices, Whole, int]:
    """A contract's bars in its own ticks; a contract that is not the active one trades a hundredth of the volume."""
    moment = market.moment(source.owner, _instant(int(starts[0])))
    contract = future_of(source.symbol, moment.day)
    if contract is None:
        raise KeyError(source.symbol)
    share = 1.0 if contract == future_of(source.owner, moment.day) else 0.01
    tick = moment.instrument.tick
    carried = {
        name: _whole([contract_price(moment, contract, value / 100.0) / tick for value in column.tolist()])
        for name, column in vars(prices).items()
    }
    until = np.concatenate(([0], np.cumsum(volumes)))
    part = np.array([int(share * value) for value in until.tolist()])
    return _Prices(**carried), np.diff(part)[first : first + len(starts)], round(tick * SCALE)


def option_quotes(market: Market, source: Source, starts: Whole) -> list[dict[str, Any]]:
    """The quotes of a contract at each instant; raises KeyError for one that is not listed."""
    return [entry_of(market, source, start)["quote"] for start in starts.tolist()]


def _option_minutes(market: Market, source: Source, starts: Whole, opens: Any, ends: Any) -> Minutes:
    """Prints of contracts stand around each minute's quote; the volume is what the quotes say was traded in it."""
    quotes = option_quotes(market, source, np.append(starts, starts[-1] + 60_000))
    volume = np.array([quote["totalVolume"] for quote in quotes], dtype=np.int64)
    bid, ask = (_whole([quote[name] * 100.0 for quote in quotes[:-1]]) for name in ("bidPrice", "askPrice"))
    sizes = [np.array([quote[name] for quote in quotes[:-1]], dtype=np.int64) for name in ("bidSize", "askSize")]
    mid, volumes = (bid + ask) // 2, np.diff(volume)
    return Minutes(starts, mid, mid, mid, mid, volumes, bid, ask, sizes[0], sizes[1], 100, opens, ends)
