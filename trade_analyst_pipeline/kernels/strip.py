"""The variance that a strip of out-of-the-money options is worth, expiry by expiry, as volatility indices reckon it.

An expiry is a run of strikes from `starts[i]` to `starts[i + 1]`, ascending. Which quotes are fit, and which expiries
an index is made of, is decided where the metric is.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from trade_analyst_pipeline.kernels.arrays import (
    FLOAT_ROWS,
    READ_FLAGS,
    READ_FLOATS,
    READ_INTEGERS,
    Flags,
    Floats,
    Integers,
)

# What is found of each expiry, the columns of the result of `strip_variances`.
VARIANCE, CENTRE, PUTS, CALLS, LOWEST, HIGHEST = range(6)
FOUND = 6
ZERO_BIDS_THAT_STOP = 2


@njit(cache=True, nogil=True, error_model="numpy")
def _taken(mid: Floats, is_bidless: Flags, first: int, end: int, step: int) -> Integers:
    """The rows taken from `first` to before `end`, in that order."""
    rows = np.empty(max(step * (end - first), 0), dtype=np.int64)
    taken, bidless = 0, 0
    for row in range(first, end, step):
        if is_bidless[row]:
            bidless += 1
            if bidless == ZERO_BIDS_THAT_STOP:
                break
        elif not np.isnan(mid[row]):
            rows[taken] = row
            taken += 1
            bidless = 0
    return rows[:taken]


@njit(cache=True, nogil=True, error_model="numpy")
def _variance(strike: Floats, price: Floats, centre: float, forward: float, growth: float, years: float) -> float:
    total, last = 0.0, len(strike) - 1
    for i in range(last + 1):
        width = (strike[min(i + 1, last)] - strike[max(i - 1, 0)]) / (1.0 if i in (0, last) else 2.0)
        total += width / (strike[i] * strike[i]) * growth * price[i]
    distance = forward / centre - 1.0
    return (2.0 * total - distance * distance) / years


@njit(
    FLOAT_ROWS(
        READ_INTEGERS,
        READ_FLOATS,
        READ_FLOATS,
        READ_FLOATS,
        READ_FLAGS,
        READ_FLAGS,
        READ_FLOATS,
        READ_FLOATS,
        READ_FLOATS,
    ),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def strip_variances(
    starts: Integers,
    strike: Floats,
    call_mid: Floats,
    put_mid: Floats,
    is_call_bidless: Flags,
    is_put_bidless: Flags,
    forward: Floats,
    growth: Floats,
    years: Floats,
) -> Floats:
    """One row per expiry, columns as named above; NaN where it has no centre.

    The centre is the highest strike up to the forward with both mids. From there puts are taken downwards and calls
    upwards; a side ends for good at the second of two strikes in a row that are `bidless`. A strike whose mid is NaN
    is passed over; where it is not bidless it counts as if it were not listed. Variance a year, by
    (2 / T) sum(dK / K² exp(rT) Q) - (F / K0 - 1)² / T; dK is half the distance of the neighbours taken, at the ends
    the distance of the one. `growth` is exp(rT); dollars throughout.
    """
    expiries = len(years)
    found = np.full((expiries, FOUND), np.nan)
    for i in range(expiries):
        first, last = starts[i], starts[i + 1]
        centre = -1
        for row in range(first, last):
            if strike[row] <= forward[i] and not (np.isnan(call_mid[row]) or np.isnan(put_mid[row])):
                centre = row
        if centre < 0:
            continue
        puts = _taken(put_mid, is_put_bidless, centre - 1, first - 1, -1)[::-1]
        calls = _taken(call_mid, is_call_bidless, centre + 1, last, 1)
        found[i, CENTRE], found[i, PUTS], found[i, CALLS] = strike[centre], len(puts), len(calls)
        rows = np.concatenate((puts, np.array([centre]), calls))
        found[i, LOWEST], found[i, HIGHEST] = strike[rows[0]], strike[rows[-1]]
        if len(rows) > 1:
            price = np.concatenate(
                (put_mid[puts], np.array([(call_mid[centre] + put_mid[centre]) / 2]), call_mid[calls])
            )
            found[i, VARIANCE] = _variance(strike[rows], price, strike[centre], forward[i], growth[i], years[i])
    return found
