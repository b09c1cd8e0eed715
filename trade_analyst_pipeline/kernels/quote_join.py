"""Which quote stands behind each trade: merges of two sorted lists of times, group by group.

Prices are whole numbers of 1/10000 dollar in floats, times int64 in one unit. A group is one symbol (and session): its
trades are the rows `bounds[g, 0]` to before `bounds[g, 1]`, its quotes `bounds[g, 2]` to before `bounds[g, 3]`, both in
order of time. Answers are row numbers of quotes, or one of the codes below 0.
"""

from __future__ import annotations

from numba import njit, types

from trade_analyst_pipeline.kernels.arrays import (
    INTEGERS,
    READ_FLOATS,
    READ_INTEGER_ROWS,
    READ_INTEGERS,
    Floats,
    Integers,
)

NO_QUOTE = -1
TOO_OLD = -2

_PAIR = types.UniTuple(types.int64, 2)  # type: ignore[no-untyped-call]  # its maker states no types


@njit(
    _PAIR(READ_INTEGERS, READ_INTEGERS, READ_INTEGER_ROWS, types.int64, types.int64, INTEGERS), cache=True, nogil=True
)
def last_before(
    trade_times: Integers, quote_times: Integers, bounds: Integers, tie: int, max_age: int, found: Integers
) -> tuple[int, int]:
    """Into `found`, the last quote with time < trade time + `tie`: 0 is strictly before, 1 at or before.

    `TOO_OLD` where that quote is more than `max_age` older than the trade. Returns (-1, -1), or the first trade or
    quote met (the other -1) that is earlier than the one before it in its group.
    """
    for g in range(len(bounds)):
        quote, end = bounds[g, 2], bounds[g, 3]
        first = quote
        for trade in range(bounds[g, 0], bounds[g, 1]):
            time = trade_times[trade]
            if trade > bounds[g, 0] and time < trade_times[trade - 1]:
                return trade, -1
            limit = time + tie
            while quote < end and quote_times[quote] < limit:
                if quote > first and quote_times[quote] < quote_times[quote - 1]:
                    return -1, quote
                quote += 1
            if quote == first:
                found[trade] = NO_QUOTE
            elif time - quote_times[quote - 1] > max_age:
                found[trade] = TOO_OLD
            else:
                found[trade] = quote - 1
    return -1, -1


@njit(
    types.void(
        READ_INTEGERS,
        READ_FLOATS,
        READ_INTEGERS,
        READ_FLOATS,
        READ_FLOATS,
        READ_INTEGER_ROWS,
        types.int64,
        types.int64,
        INTEGERS,
    ),
    cache=True,
    nogil=True,
)
def match_search(
    trade_times: Integers,
    prices: Floats,
    quote_times: Integers,
    bids: Floats,
    asks: Floats,
    bounds: Integers,
    resolution: int,
    max_age: int,
    found: Integers,
) -> None:
    """Into `found`, the first quote in force within [t - resolution, t + resolution) that has the price on one side.

    The quote in force at the start of that window is one of them, quotes more than `max_age` older than the trade are
    not; `NO_QUOTE` where none matches. After Jurkatis 2022.
    Times have to be in order: `last_before` sees to that.
    """
    for g in range(len(bounds)):
        start, end = bounds[g, 2], bounds[g, 3]
        for trade in range(bounds[g, 0], bounds[g, 1]):
            opens, closes = trade_times[trade] - resolution, trade_times[trade] + resolution
            while start + 1 < end and quote_times[start + 1] <= opens:
                start += 1
            found[trade] = NO_QUOTE
            price, quote = prices[trade], start
            while quote < end and quote_times[quote] < closes:
                is_young = trade_times[trade] - quote_times[quote] <= max_age
                if is_young and bids[quote] <= asks[quote] and (bids[quote] == price) != (asks[quote] == price):
                    found[trade] = quote
                    break
                quote += 1
