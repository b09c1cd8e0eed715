"""The rules that sign a trade, over arrays: each layer fills in what the ones before it left open.

Prices come as dollars and are compared as whole numbers of 1/10000 dollar, which doubles hold exactly; NaN, or a bid or
ask not above 0, is none. A layer is a rule and the columns it reads. All layers go over one block of rows before the
next block, so that every column is read from memory once.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from trade_analyst_pipeline.kernels.arrays import BYTES, FLOATS, READ_FLOATS, READ_INTEGERS, Bytes, Floats, Integers

TICKS_PER_DOLLAR = 10_000.0
BLOCK_ROWS = 256

TICK, REVERSE_TICK, QUOTE, AT_QUOTE, NEAR_QUOTE, TRADE_SIZE, DEPTH = range(7)

# Places of the columns that a layer may read; those of one subset (best, exchange) follow each other.
PRICE, SIZE, EARLIER, LATER, BID, ASK, BID_SIZE, ASK_SIZE = range(8)
SUBSET_COLUMNS = 6
COLUMNS = 2 + 2 * SUBSET_COLUMNS

NO_PLACE = -128

_COLUMNS = types.UniTuple(READ_FLOATS, COLUMNS)  # type: ignore[no-untyped-call]  # its maker states no types


@njit(inline="always")
def _ticks(dollars: float) -> float:
    """The nearest whole number of 1/10000 dollar."""
    ticks: float = np.rint(dollars * TICKS_PER_DOLLAR)
    return ticks


@njit(cache=True, nogil=True)
def _fill_tick(price: Floats, other: Floats, mark: int, signs: Bytes) -> None:
    for i in range(len(signs)):
        p, q = _ticks(price[i]), _ticks(other[i])
        sign = np.int8(p > q) - np.int8(p < q)
        signs[i] |= np.int8(sign * mark) & -np.int8(signs[i] == 0)


@njit(cache=True, nogil=True)
def _fill_quote(price: Floats, bid: Floats, ask: Floats, mark: int, signs: Bytes) -> None:
    for i in range(len(signs)):
        p, b, a = _ticks(price[i]), _ticks(bid[i]), _ticks(ask[i])
        usable = np.int8((a >= b) & (b > 0.0))
        sign = usable * (np.int8(p + p > a + b) - np.int8(p + p < a + b))
        signs[i] |= np.int8(sign * mark) & -np.int8(signs[i] == 0)


@njit(cache=True, nogil=True)
def _fill_quote_then_tick(price: Floats, bid: Floats, ask: Floats, earlier: Floats, mark: int, signs: Bytes) -> None:
    """Two layers in one pass: Lee-Ready's, which then runs as fast as memory is read."""
    for i in range(len(signs)):
        p, b, a = _ticks(price[i]), _ticks(bid[i]), _ticks(ask[i])
        q = _ticks(earlier[i])
        usable = np.int8((a >= b) & (b > 0.0))
        by_quote = usable * (np.int8(p + p > a + b) - np.int8(p + p < a + b))
        by_tick = np.int8(p > q) - np.int8(p < q)
        sign = by_quote * mark if by_quote != 0 else by_tick * (mark + 1)
        signs[i] |= np.int8(sign) & -np.int8(signs[i] == 0)


@njit(cache=True, nogil=True)
def _fill_at_quote(price: Floats, bid: Floats, ask: Floats, mark: int, signs: Bytes) -> None:
    for i in range(len(signs)):
        p, b, a = _ticks(price[i]), _ticks(bid[i]), _ticks(ask[i])
        usable = np.int8((a > b) & (b > 0.0))
        sign = usable * (np.int8(p == a) - np.int8(p == b))
        signs[i] |= np.int8(sign * mark) & -np.int8(signs[i] == 0)


@njit(cache=True, nogil=True)
def _fill_near_quote(price: Floats, bid: Floats, ask: Floats, mark: int, signs: Bytes) -> None:
    for i in range(len(signs)):
        p, b, a = _ticks(price[i]), _ticks(bid[i]), _ticks(ask[i])
        usable = np.int8((a > b) & (b > 0.0))
        upper = (10.0 * p >= 7.0 * a + 3.0 * b) & (p <= a)
        lower = (10.0 * p <= 3.0 * a + 7.0 * b) & (p >= b)
        sign = usable * (np.int8(upper) - np.int8(lower))
        signs[i] |= np.int8(sign * mark) & -np.int8(signs[i] == 0)


@njit(cache=True, nogil=True)
def _fill_trade_size(size: Floats, bid_size: Floats, ask_size: Floats, mark: int, signs: Bytes) -> None:
    for i in range(len(signs)):
        at_bid, at_ask = size[i] == bid_size[i], size[i] == ask_size[i]
        sign = np.int8(at_bid & ~at_ask) - np.int8(at_ask & ~at_bid)
        signs[i] |= np.int8(sign * mark) & -np.int8(signs[i] == 0)


@njit(cache=True, nogil=True)
def _fill_depth(
    price: Floats, bid: Floats, ask: Floats, bid_size: Floats, ask_size: Floats, mark: int, signs: Bytes
) -> None:
    for i in range(len(signs)):
        p, b, a = _ticks(price[i]), _ticks(bid[i]), _ticks(ask[i])
        at_mid = np.int8((a >= b) & (b > 0.0) & (p + p == a + b))
        sign = at_mid * (np.int8(ask_size[i] > bid_size[i]) - np.int8(ask_size[i] < bid_size[i]))
        signs[i] |= np.int8(sign * mark) & -np.int8(signs[i] == 0)


@njit(cache=True, nogil=True)
def _scan_different(prices: Floats, start: int, stop: int, step: int, out: Floats) -> None:
    last, different, last_ticks = np.nan, np.nan, np.nan
    first = start if step > 0 else stop - 1
    for n in range(stop - start):
        i = first + step * n
        ticks = _ticks(prices[i])
        if ticks == ticks:
            if last_ticks == last_ticks and ticks != last_ticks:
                different = last
            last, last_ticks = prices[i], ticks
            out[i] = different
        else:
            out[i] = np.nan


@njit(types.void(READ_INTEGERS, READ_INTEGERS, _COLUMNS, BYTES), cache=True, nogil=True)
def sign_trades(rules: Integers, shifts: Integers, columns: tuple[Floats, ...], signs: Bytes) -> None:
    """Into `signs`, ±(number of the layer that decided), counted from 1: + buyer, - seller, 0 none decides.

    Layer i applies `rules[i]` to the columns of the subset that starts `shifts[i]` after the first one. `columns` are
    the `COLUMNS` arrays in order of their places; those no layer reads may be empty.
    """
    rows = len(signs)
    for start in range(0, rows, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, rows)
        signs[start:stop] = 0
        layer = 0
        while layer < len(rules):
            rule, shift = rules[layer], shifts[layer]
            price, block, mark = columns[PRICE][start:stop], signs[start:stop], layer + 1
            layer += 1
            if rule == TICK:
                _fill_tick(price, columns[EARLIER + shift][start:stop], mark, block)
            elif rule == REVERSE_TICK:
                _fill_tick(price, columns[LATER + shift][start:stop], mark, block)
            elif rule == TRADE_SIZE:
                bid_size, ask_size = columns[BID_SIZE + shift][start:stop], columns[ASK_SIZE + shift][start:stop]
                _fill_trade_size(columns[SIZE][start:stop], bid_size, ask_size, mark, block)
            else:
                bid, ask = columns[BID + shift][start:stop], columns[ASK + shift][start:stop]
                if rule == QUOTE and layer < len(rules) and rules[layer] == TICK:
                    earlier = columns[EARLIER + shifts[layer]][start:stop]
                    _fill_quote_then_tick(price, bid, ask, earlier, mark, block)
                    layer += 1
                elif rule == QUOTE:
                    _fill_quote(price, bid, ask, mark, block)
                elif rule == AT_QUOTE:
                    _fill_at_quote(price, bid, ask, mark, block)
                elif rule == NEAR_QUOTE:
                    _fill_near_quote(price, bid, ask, mark, block)
                else:
                    bid_size, ask_size = columns[BID_SIZE + shift][start:stop], columns[ASK_SIZE + shift][start:stop]
                    _fill_depth(price, bid, ask, bid_size, ask_size, mark, block)


@njit(types.void(READ_FLOATS, READ_INTEGERS, FLOATS, FLOATS), cache=True, nogil=True)
def different_prices(prices: Floats, starts: Integers, earlier: Floats, later: Floats) -> None:
    """Of each trade the last different price before it and the first one after it within its group; NaN for none.

    `starts` are the first rows of the groups, then the number of rows. A price that is NaN is no price and gets none.
    """
    for g in range(len(starts) - 1):
        _scan_different(prices, starts[g], starts[g + 1], 1, earlier)
        _scan_different(prices, starts[g], starts[g + 1], -1, later)


@njit(types.void(READ_FLOATS, READ_FLOATS, READ_FLOATS, BYTES), cache=True, nogil=True)
def locate_trades(price: Floats, bid: Floats, ask: Floats, places: Bytes) -> None:
    """Into `places`, steps from the mid: 0 at it, ±1 within 0.4 half-spreads, ±2 inside, ±3 at the quote, more beyond.

    ±4 is up to a spread beyond the quote, ±5 farther, also anything off a locked quote; `NO_PLACE`: no usable quote.
    """
    for i in range(len(places)):
        p, b, a = _ticks(price[i]), _ticks(bid[i]), _ticks(ask[i])
        if not (a >= b and b > 0.0 and p == p):
            places[i] = NO_PLACE
            continue
        from_mid, spread = p + p - a - b, a - b
        size = abs(from_mid)
        if size == 0.0:
            step = 0
        elif 5.0 * size < 2.0 * spread:
            step = 1
        elif size < spread:
            step = 2
        elif size == spread:
            step = 3
        elif size <= 3.0 * spread:
            step = 4
        else:
            step = 5
        places[i] = step if from_mid >= 0.0 else -step
