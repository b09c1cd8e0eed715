"""Trades from level-one updates: one pass over updates in the order they arrived, with the state of every symbol.

An update tells only what has changed. A trade is a rise of the cumulative volume, and stands against the quote of the
update before: the quote of its own update may already show its effect.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from trade_analyst_pipeline.kernels.arrays import (
    BYTES,
    FLOAT_ROWS,
    INTEGERS,
    READ_BYTES,
    READ_FLOAT_ROWS,
    READ_INTEGERS,
    READ_PLACES,
    Bytes,
    Floats,
    Integers,
    Places,
)

NUMBERS = 9
"""Rows of `numbers`, NaN where a field was not sent."""
BID, ASK, LAST, BID_SIZE, ASK_SIZE, VOLUME, LAST_SIZE, QUOTE_TIME, TRADE_TIME = range(NUMBERS)

SHOWN, UNSEEN, GAP = range(3)
"""Kinds of a row: a print that was shown; volume between two updates; volume of which no update is known."""
OUT_OF_SEQUENCE = 1
"""Flag of a print whose time is before that of the print before it."""

# What is counted.
RESETS, TRADES_WITHOUT_VOLUME, SIZES_ABOVE_VOLUME, STATES = range(4)
COUNTED = 4


@njit(
    types.int64(
        READ_PLACES,
        READ_BYTES,
        READ_INTEGERS,
        READ_FLOAT_ROWS,
        types.int64,
        INTEGERS,
        BYTES,
        BYTES,
        FLOAT_ROWS,
        INTEGERS,
    ),
    cache=True,
    nogil=True,
)
def level_one_trades(  # noqa: C901  one pass over the updates
    symbols: Places,
    images: Bytes,
    stretches: Integers,
    numbers: Floats,
    symbol_count: int,
    rows: Integers,
    kinds: Bytes,
    flags: Bytes,
    found: Floats,
    counts: Integers,
) -> int:
    """Every rise of volume as one or two rows, and every state that stands for itself as one; how many rows.

    `images` is 1 where an update is the whole state of its symbol; what was known before it is forgotten. `stretches`
    numbers the parts of the stream between which nothing is known: the first update of a symbol in each only sets the
    state. `numbers` has a row per field, NaN where it was not sent.

    Volume that falls is a reset or a correction, and which is not known. Until a state is told anew, a rise that
    reaches the highest volume before the fall is of what is above that; one that stays below counts whole.

    Of each row: `rows` has the number of the update, `kinds` and `flags` as above, and `found` price, size, cumulative
    volume after it, time of the trade, and the quote before the update: bid, ask, their sizes, its time; NaN for none.
    A state has no size: its volume is for those to compare who have the rows before it; one with the volume known
    before is no row. These arrays have two elements for each update.
    """
    state = np.full((symbol_count, NUMBERS), np.nan)
    stretch_of = np.full(symbol_count, -1, dtype=np.int64)
    last_volume = np.full(symbol_count, np.nan)
    highest = np.full(symbol_count, np.nan)
    row = 0
    for update in range(len(symbols)):
        symbol = symbols[update]
        of = state[symbol]
        is_new = stretch_of[symbol] != stretches[update] or images[update] != 0
        if images[update] != 0:
            of[:] = np.nan
        stretch_of[symbol] = stretches[update]
        volume, before = numbers[VOLUME, update], of[VOLUME]
        if is_new:
            highest[symbol] = np.nan
        if is_new or before != before:
            for field in range(NUMBERS):
                if numbers[field, update] == numbers[field, update]:
                    of[field] = numbers[field, update]
            if of[VOLUME] == of[VOLUME] and of[VOLUME] != last_volume[symbol]:
                last_volume[symbol] = of[VOLUME]
                rows[row], kinds[row], flags[row] = update, GAP, 0
                found[:, row] = np.nan
                found[2, row] = of[VOLUME]
                counts[STATES] += 1
                row += 1
            continue
        last_volume[symbol] = of[VOLUME] if volume != volume else volume
        bid, ask, bid_size, ask_size, quote_time = of[BID], of[ASK], of[BID_SIZE], of[ASK_SIZE], of[QUOTE_TIME]
        time_before, time = of[TRADE_TIME], numbers[TRADE_TIME, update]
        is_told = (
            numbers[LAST, update] == numbers[LAST, update] or numbers[LAST_SIZE, update] == (numbers[LAST_SIZE, update])
        )
        has_time = time == time and time != time_before
        for field in range(NUMBERS):
            if numbers[field, update] == numbers[field, update]:
                of[field] = numbers[field, update]
        counted = before
        if volume >= highest[symbol]:
            counted, highest[symbol] = highest[symbol], np.nan
        if not volume > counted:
            if volume < before:
                counts[RESETS] += 1
                if not highest[symbol] >= before:
                    highest[symbol] = before
                rows[row], kinds[row], flags[row] = update, GAP, 0
                found[:, row] = np.nan
                found[2, row] = volume
                row += 1
            elif has_time:
                counts[TRADES_WITHOUT_VOLUME] += 1
            continue
        rise, size, price = volume - counted, of[LAST_SIZE], of[LAST]
        is_shown = (is_told or has_time or rise == size) and size > 0.0
        if is_shown and size > rise:
            counts[SIZES_ABOVE_VOLUME] += 1
            size = rise
        if not is_shown:
            size = 0.0
        is_late = is_shown and has_time and time < time_before
        if rise > size:
            rows[row], kinds[row], flags[row] = update, UNSEEN, OUT_OF_SEQUENCE if is_late else 0
            found[0, row] = price if is_shown else np.nan
            found[1, row], found[2, row] = rise - size, volume - size
            found[3, row] = of[TRADE_TIME] if is_shown else np.nan
            found[4, row], found[5, row], found[6, row], found[7, row], found[8, row] = (
                bid, ask, bid_size, ask_size, quote_time,
            )  # fmt: skip
            row += 1
        if is_shown:
            rows[row], kinds[row], flags[row] = update, SHOWN, OUT_OF_SEQUENCE if is_late else 0
            found[0, row], found[1, row], found[2, row], found[3, row] = price, size, volume, of[TRADE_TIME]
            found[4, row], found[5, row], found[6, row], found[7, row], found[8, row] = (
                bid, ask, bid_size, ask_size, quote_time,
            )  # fmt: skip
            row += 1
    return row
