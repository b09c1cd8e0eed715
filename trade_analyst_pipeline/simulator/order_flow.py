"""Orders, prints and quotes within minutes whose bars are given: the flow behind the stream, with its known truth.

A flow is made for a run of minutes at a time, from a generator of its own. Its prints have the bars' first, highest,
lowest and last price and add up to their volume, so that bars made from the stream are those of the price history.
Each print belongs to an order that crossed the spread: its side is known, also where the print is at the midpoint,
hidden inside the spread or improved by a fraction of a cent; auctions have none. Prices are whole numbers of 1/10000
dollar, times milliseconds since 1970, sizes what the product counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from trade_analyst_pipeline.simulator.noise import Floats

Whole = NDArray[np.int64]
Flags = NDArray[np.bool_]

SCALE = 10_000
MOST_PRINTS = 2_000  # in one minute
_PER_ORDER = 3.0
_FEWEST_ORDERS = 4  # the first, highest, lowest and last price of a minute
_FIRST_MS, _LAST_MS = 40, 59_900
_AUCTION_SHARE = 0.4
_IMPROVEMENT = 10  # a tenth of a cent


class Kind(IntEnum):
    """Where a print stands against the quote in force; an auction has no side."""

    AT_QUOTE = 0
    MIDPOINT = 1
    HIDDEN = 2
    IMPROVED = 3
    SWEPT = 4
    AUCTION = 5


CONDITIONS = ("", "", "", "", "F", "O")
VENUES = (("Q", "XNAS"), ("N", "XNYS"), ("P", "ARCX"), ("Z", "BATS"), ("K", "EDGX"), ("V", "IEXG"), ("D", "XADF"))
_OFF_EXCHANGE = len(VENUES) - 1


@dataclass(frozen=True)
class Minutes:
    """Bars to fill, ascending: `starts` in milliseconds, prices in ticks, and the quotes that open each minute.

    `tick` is in 1/10000 dollar. `bid` and `ask` (ticks) with their sizes stand at each start. The first order of a
    minute is an auction where `opens_with_auction`, its last where `ends_with_auction`.
    """

    starts: Whole
    opens: Whole
    highs: Whole
    lows: Whole
    closes: Whole
    volumes: Whole
    bid: Whole
    ask: Whole
    bid_size: Whole
    ask_size: Whole
    tick: int
    opens_with_auction: Flags
    ends_with_auction: Flags


@dataclass(frozen=True)
class Flow:
    """Events in order of time: quotes and prints, each with the quote that holds from then on.

    For a print that is also the quote it met. `price`, `size`, `side` (1 buyer, -1 seller, 0 none), `kind` and `venue`
    are those of the print, 0 for a quote.
    """

    time: Whole
    is_print: Flags
    bid: Whole
    ask: Whole
    bid_size: Whole
    ask_size: Whole
    bid_venue: Whole
    ask_venue: Whole
    price: Whole
    size: Whole
    side: Whole
    kind: Whole
    venue: Whole

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True)
class _Orders:
    """One element per order: its minute, rank in it, time, side, prints, whether a bar's price is its own."""

    minute: Whole
    rank: Whole
    last_rank: Whole
    time: Whole
    side: Whole
    prints: Whole
    anchor: Floats
    spread: Whole


def make_flow(rng: np.random.Generator, minutes: Minutes, *, prints_per_minute: float, follows_quotes: bool) -> Flow:
    """The flow of the minutes; `follows_quotes` leaves the quote of a minute's start in force all through it.

    With it prints stand around that quote and the bars' prices are not looked at: for products without bars.
    """
    counts = _counts(minutes.volumes, prints_per_minute)
    orders = _orders(rng, minutes, counts)
    bid, spread = _held(minutes, orders) if follows_quotes else _path(rng, minutes, orders)
    kind = _kinds(rng, minutes, orders)
    return _assembled(rng, minutes, orders, _Prices(bid, spread, kind, is_bound=not follows_quotes))


def _counts(volumes: Whole, prints_per_minute: float) -> Whole:
    mean = max(float(volumes.mean()), 1.0) if len(volumes) else 1.0
    wanted = np.rint(prints_per_minute * volumes / mean)
    return np.asarray(np.minimum(np.clip(wanted, _FEWEST_ORDERS, MOST_PRINTS), volumes), dtype=np.int64)


def _orders(rng: np.random.Generator, minutes: Minutes, counts: Whole) -> _Orders:
    number = np.minimum(np.maximum(np.ceil(counts / _PER_ORDER), _FEWEST_ORDERS), counts).astype(np.int64)
    total, first = int(number.sum()), np.cumsum(number) - number
    minute = np.repeat(np.arange(len(number)), number)
    rank = np.arange(total) - first[minute]
    side = np.where(rng.random(total) < 0.3, -1, 1).cumprod() if total else np.empty(0, np.int64)
    side = side.astype(np.int64) * (1 if rng.random() < 0.5 else -1)
    spare = counts - number
    share = rng.exponential(1.0, total)
    return _Orders(
        minute=minute,
        rank=rank,
        last_rank=number[minute] - 1,
        time=_times(rng, minutes.starts, minute, rank),
        side=np.asarray(side, dtype=np.int64),
        prints=1 + _split(share, minute, number, spare),
        anchor=_anchors(rng, minutes, number, first),
        spread=np.maximum(minutes.ask - minutes.bid, 1)[minute]
        + (rng.random(total) < 0.25)
        + (rng.random(total) < 0.07),
    )


def _split(weights: Floats, group: Whole, number: Whole, totals: Whole) -> Whole:
    """Each group's total in whole parts, in proportion to the weights; the parts of a group add up to its total."""
    if not len(weights):
        return np.empty(0, np.int64)
    running = np.cumsum(weights)
    last = np.cumsum(number) - 1
    ends = np.where(number > 0, running[np.maximum(last, 0)], 0.0)
    starts = np.concatenate(([0.0], np.maximum.accumulate(ends)[:-1]))
    part = (running - starts[group]) / (ends - starts)[group]
    reached = np.floor(part * totals[group] + 0.5).astype(np.int64)
    reached[last[number > 0]] = totals[number > 0]
    before = np.concatenate(([0], reached[:-1]))
    before[(last - number + 1)[number > 0]] = 0
    return np.asarray(np.maximum(reached - before, 0))


def _times(rng: np.random.Generator, starts: Whole, minute: Whole, rank: Whole) -> Whole:
    """Orders come in clusters: two in five within a moment of the one before."""
    place = rng.random(len(minute))
    place = place[np.lexsort((place, minute))]
    follows = (rng.random(len(minute)) < 0.4) & (rank > 0)
    leader = np.maximum.accumulate(np.where(follows, 0, np.arange(len(minute))))
    offset = place[leader] * (_LAST_MS - _FIRST_MS) + (np.arange(len(minute)) - leader) * rng.exponential(
        120.0, len(minute)
    )
    offset = np.minimum(offset, _LAST_MS - _FIRST_MS).astype(np.int64)
    offset = offset[np.lexsort((offset, minute))]
    return np.asarray(starts[minute] + _FIRST_MS + offset)


def _anchors(rng: np.random.Generator, minutes: Minutes, number: Whole, first: Whole) -> Floats:
    """The price each order must have, NaN where it is free: a bar's first, highest, lowest and last."""
    anchor = np.full(int(number.sum()), np.nan)
    some = number > 0
    anchor[first[some]] = minutes.opens[some]
    anchor[(first + number - 1)[some]] = minutes.closes[some]
    inner = number >= 4
    room = (number - 2)[inner]
    one = np.minimum((rng.random(len(room)) * room).astype(np.int64), room - 1)
    other = (one + 1 + np.minimum((rng.random(len(room)) * (room - 1)).astype(np.int64), room - 2)) % room
    anchor[first[inner] + 1 + one] = minutes.highs[inner]
    anchor[first[inner] + 1 + other] = minutes.lows[inner]
    return anchor


def _held(minutes: Minutes, orders: _Orders) -> tuple[Whole, Whole]:
    return minutes.bid[orders.minute], (minutes.ask - minutes.bid)[orders.minute]


def _path(rng: np.random.Generator, minutes: Minutes, orders: _Orders) -> tuple[Whole, Whole]:
    """Bid and spread that each order meets: a walk pushed by the orders, tied down where a bar's price must be met."""
    place = np.arange(len(orders.minute))
    buys = orders.side > 0
    tied = np.flatnonzero(~np.isnan(orders.anchor))
    if not len(tied):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    knots = orders.anchor[tied] - np.where(buys[tied], orders.spread[tied], 0)
    reach = (minutes.highs - minutes.lows)[orders.minute]
    step = np.maximum(0.5, 0.35 * reach / np.sqrt(orders.last_rank + 1.0))
    push = np.concatenate(([0.0], orders.side[:-1] * 0.5))
    walk = np.cumsum(step * (push + rng.standard_normal(len(place))))
    free = np.interp(place, tied, knots) + walk - np.interp(place, tied, walk[tied])
    bid = np.rint(free).astype(np.int64)
    price = bid + np.where(buys, orders.spread, 0)
    bid += np.clip(price, minutes.lows[orders.minute], minutes.highs[orders.minute]) - price
    return np.maximum(bid, 1), orders.spread.astype(np.int64)


def _kinds(rng: np.random.Generator, minutes: Minutes, orders: _Orders) -> Whole:
    chances = np.array([0.76, 0.86, 0.91, 0.96, 1.0])
    kind = np.searchsorted(chances, rng.random(len(orders.minute)), side="right").astype(np.int64)
    kind[~np.isnan(orders.anchor)] = Kind.AT_QUOTE
    kind[minutes.opens_with_auction[orders.minute] & (orders.rank == 0)] = Kind.AUCTION
    kind[minutes.ends_with_auction[orders.minute] & (orders.rank == orders.last_rank)] = Kind.AUCTION
    return kind


@dataclass(frozen=True)
class _Prices:
    """What the orders meet, in ticks: bid, spread, and where they trade; `is_bound` keeps prints within the bars."""

    bid: Whole
    spread: Whole
    kind: Whole
    is_bound: bool


def _printed(minutes: Minutes, orders: _Orders, met: _Prices, order: Whole, place: Whole) -> tuple[Whole, Whole]:
    """Price (1/10000 dollar) and kind of each print; one that would leave its bar stands at the quote instead."""
    tick, side, kind = minutes.tick, orders.side[order], met.kind[order].copy()
    bid, spread = met.bid[order] * tick, met.spread[order] * tick
    at_quote = bid + np.where(side > 0, spread, 0)
    improved = at_quote - side * _IMPROVEMENT
    inside = np.where(spread > tick, at_quote - side * tick, at_quote)
    swept = at_quote + side * tick * ((place >= 1) & (orders.prints[order] > 2))
    price = np.select(
        [kind == Kind.MIDPOINT, kind == Kind.HIDDEN, kind == Kind.IMPROVED, kind == Kind.SWEPT],
        [bid + spread // 2, inside, improved, swept],
        at_quote,
    )
    low, high = minutes.lows[orders.minute[order]] * tick, minutes.highs[orders.minute[order]] * tick
    is_out = met.is_bound & ((price < low) | (price > high))
    is_plain = (price == at_quote) | is_out | (price <= 0)
    price = np.where(is_plain, at_quote, price)
    kind[is_plain & (kind != Kind.AUCTION)] = Kind.AT_QUOTE
    return price, kind


def _sizes(rng: np.random.Generator, minutes: Minutes, orders: _Orders, order: Whole) -> Whole:
    """What each print is of its minute's volume: at least 1; an auction has its share of it."""
    minute = orders.minute[order]
    number = np.bincount(minute, minlength=len(minutes.volumes))
    weight = np.exp(1.1 * rng.standard_normal(len(order)))
    whole = np.bincount(minute, weight, minlength=len(minutes.volumes))
    is_auction = (minutes.opens_with_auction[minute] & (orders.rank[order] == 0)) | (
        minutes.ends_with_auction[minute] & (orders.rank[order] == orders.last_rank[order])
    )
    weight = np.where(is_auction, _AUCTION_SHARE / (1.0 - _AUCTION_SHARE) * whole[minute], weight)
    return 1 + _split(weight, minute, number, minutes.volumes - number)


def _assembled(rng: np.random.Generator, minutes: Minutes, orders: _Orders, met: _Prices) -> Flow:
    """All events in order: per minute its opening quote, per order a quote, often a flicker, its prints, a quote."""
    is_single = (met.kind == Kind.AUCTION) if len(met.kind) else np.empty(0, np.bool_)
    prints = np.where(is_single, 1, orders.prints)
    orders = _Orders(**{**vars(orders), "prints": prints})
    every = np.arange(len(orders.minute))
    flickers = every[rng.random(len(every)) < 0.5]
    printed = np.repeat(every, prints)
    place = np.arange(len(printed)) - (np.cumsum(prints) - prints)[printed]
    moved = _moves(rng, minutes, orders)
    between = moved[flickers] + ((orders.time - moved)[flickers] * rng.random(len(flickers))).astype(np.int64)
    opening = np.searchsorted(orders.minute, np.arange(len(minutes.starts)))
    time = np.concatenate((minutes.starts, moved, between, orders.time[printed], orders.time))
    order = np.concatenate((opening, every, flickers, printed, every))
    stage = np.repeat(np.arange(5), [len(minutes.starts), len(every), len(flickers), len(printed), len(every)])
    step = np.concatenate((np.zeros(len(time) - len(printed) - len(every), np.int64), place, np.zeros_like(every)))
    sorting = np.lexsort((step, stage, order, time))
    is_opening, is_print = stage == 0, stage == 3
    safe = np.minimum(order, max(len(every) - 1, 0))
    bid = np.where(is_opening, 0, met.bid[safe] if len(every) else 0)
    ask = np.where(is_opening, 0, (met.bid + met.spread)[safe] if len(every) else 0)
    bid[is_opening], ask[is_opening] = minutes.bid, minutes.ask
    quoted = _quoted_sizes(rng, minutes, order, stage, sorting)
    columns = {name: np.zeros(len(time), np.int64) for name in ("price", "size", "side", "kind", "venue")}
    if len(printed):
        price, kind = _printed(minutes, orders, met, printed, place)
        is_auction = kind == Kind.AUCTION
        off = (kind == Kind.MIDPOINT) | (kind == Kind.IMPROVED)
        columns["price"][is_print], columns["kind"][is_print] = price, kind
        columns["size"][is_print] = _sizes(rng, minutes, orders, printed)
        columns["side"][is_print] = np.where(is_auction, 0, orders.side[printed])
        columns["venue"][is_print] = np.where(off, _OFF_EXCHANGE, rng.integers(0, _OFF_EXCHANGE, len(printed)))
    return Flow(
        time=time[sorting],
        is_print=is_print[sorting],
        bid=(bid * minutes.tick)[sorting],
        ask=(ask * minutes.tick)[sorting],
        **quoted,
        **{name: column[sorting] for name, column in columns.items()},
    )


def _moves(rng: np.random.Generator, minutes: Minutes, orders: _Orders) -> Whole:
    """When the quote moved to where each order met it: after the order before, within the order's minute."""
    before = np.concatenate(([0], orders.time[:-1])) if len(orders.time) else orders.time
    before = np.maximum(before, minutes.starts[orders.minute] + 1)
    return np.asarray(before + np.ceil((orders.time - before) * (0.2 + 0.8 * rng.random(len(before)))).astype(np.int64))


def _quoted_sizes(
    rng: np.random.Generator, minutes: Minutes, order: Whole, stage: Whole, sorting: Whole
) -> dict[str, Whole]:
    """Sizes and venues of both sides, new at each quote and held through prints."""
    count, found = len(order), dict[str, Whole]()
    is_new = (stage != 3)[sorting]
    source = np.maximum.accumulate(np.where(is_new, np.arange(count), 0)) if count else np.empty(0, np.int64)
    for name, opening in (("bid", minutes.bid_size), ("ask", minutes.ask_size)):
        size = 1 + np.minimum((3.0 / (0.05 + rng.random(count))).astype(np.int64), 60)
        size[stage == 0] = opening
        found[f"{name}_size"] = size[sorting][source]
        found[f"{name}_venue"] = rng.integers(0, _OFF_EXCHANGE, count)[sorting][source]
    return found
