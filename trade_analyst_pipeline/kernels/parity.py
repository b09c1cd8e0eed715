"""Put-call parity over the strikes of expiries: what calls minus puts say of forward and discount factor.

An expiry is a run of quotes from `starts[i]` to `starts[i + 1]` in any order. Prices and strikes are doubles of whole
numbers of 1/10000 dollar. A pair is a strike with a usable call and a usable put; half the spread of either is the
bound of its error, so that the deviation of their difference, the error being uniform, is
sqrt((call half-spread)² + (put half-spread)²) / sqrt(3). Everything is a robust fit in units of that deviation.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types

from trade_analyst_pipeline.kernels.arrays import (
    FLOAT_ROWS,
    READ_FLAGS,
    READ_FLOATS,
    READ_INTEGERS,
    Flags,
    Floats,
    Integers,
)

TICKS_PER_DOLLAR = 10_000.0

# What is found of each expiry, the columns of the result of `fit_expiries`.
CALLS, PUTS, PAIRS, USED, AT_MONEY, FORWARD, ERROR, RATE, RATE_ERROR, SCALE, IS_SPREAD, LOWEST, HIGHEST = range(13)
FOUND = 13

LEAST_HALF_SPREAD = 0.0025  # half of half a cent: a price is known to its tick at best
BIWEIGHT = 4.685  # 95 % as good as least squares where errors are normal
TO_DEVIATION = 1.4826  # of a normal variable, from its median absolute value
FEWNESS = 5.0  # a scale from few residuals is too small: it is raised by this over their number less one
LEAST_SCALE = 0.1
LEAST_FOR_SCALE = 5
LEAST_FOR_RATE = 9
STEPS = 50
STEP = 1e-13
MOST_RATE = 0.5
# Without a rate of their own only strikes near the money count: within this part of one deviation of the price.
NEAR_MONEY = 0.5
LEAST_NEAR, MOST_NEAR = 3, 15
STRADDLE = 0.7978845608028654  # of one deviation of the price: sqrt(2 / pi)

_COLUMNS = FLOAT_ROWS(
    READ_INTEGERS,
    READ_FLOATS,
    READ_FLAGS,
    READ_FLOATS,
    READ_FLOATS,
    READ_FLOATS,
    READ_FLOATS,
    READ_FLAGS,
    types.float64,
)


@njit(cache=True, nogil=True)
def _tighter(held: int, row: int, bid: Floats, ask: Floats) -> int:
    if held < 0:
        return row
    spread, other = ask[row] - bid[row], ask[held] - bid[held]
    return row if spread < other or (spread == other and bid[row] > bid[held]) else held


@njit(cache=True, nogil=True)
def _pairs(strike: Floats, is_call: Flags, bid: Floats, ask: Floats) -> tuple[int, int, Floats, Floats, Floats, Floats]:
    """Calls and puts counted; of each strike with both, ascending: strike, gap, larger and joint spread, sum of mids.

    Of several quotes of one contract the tightest counts, then the one bid higher. The gap is doubled call mid minus
    doubled put mid, in ticks.
    """
    order = np.argsort(strike, kind="mergesort")
    count = len(strike)
    levels = np.empty(count)
    gaps, spreads, sums = np.empty(count), np.empty((count, 2)), np.empty(count)
    calls, puts, pairs, i = 0, 0, 0, 0
    while i < count:
        level = strike[order[i]]
        call = put = -1
        while i < count and strike[order[i]] == level:
            row = order[i]
            if is_call[row]:
                call = _tighter(call, row, bid, ask)
            else:
                put = _tighter(put, row, bid, ask)
            i += 1
        calls += call >= 0
        puts += put >= 0
        if call >= 0 and put >= 0:
            levels[pairs] = level
            gaps[pairs] = (bid[call] + ask[call]) - (bid[put] + ask[put])
            sums[pairs] = bid[call] + ask[call] + bid[put] + ask[put]
            spreads[pairs, 0], spreads[pairs, 1] = ask[call] - bid[call], ask[put] - bid[put]
            pairs += 1
    return calls, puts, levels[:pairs], gaps[:pairs], spreads[:pairs], sums[:pairs]


@njit(cache=True, nogil=True)
def _near_money(levels: Floats, forward: float, reach: float) -> tuple[int, int]:
    """The run of strikes within `reach` of the forward, of the least and the most strikes allowed; nearest first."""
    last = int(np.searchsorted(levels, forward))
    first = last
    while last - first < MOST_NEAR and (first > 0 or last < len(levels)):
        below = forward - levels[first - 1] if first > 0 else np.inf
        above = levels[last] - forward if last < len(levels) else np.inf
        if min(below, above) > reach and last - first >= LEAST_NEAR:
            break
        if below <= above:
            first -= 1
        else:
            last += 1
    return first, last


@njit(cache=True, nogil=True)
def _biweights(residual: Floats, deviation: Floats) -> tuple[float, Floats]:
    """Scale of the residuals in units of their deviations, and the weight of each over its variance."""
    relative = residual / deviation
    scale = 1.0
    if len(residual) >= LEAST_FOR_SCALE:
        few = 1.0 + FEWNESS / (len(residual) - 1)
        scale = max(few * TO_DEVIATION * np.median(np.abs(relative)), LEAST_SCALE)
    part = relative / (BIWEIGHT * scale)
    kept = np.maximum(1.0 - part * part, 0.0)
    if kept.sum() == 0.0:
        kept[np.argmin(np.abs(relative))] = 1.0
    return scale, kept * kept / (deviation * deviation)


@njit(cache=True, nogil=True)
def _line(
    strike: Floats, gap: Floats, deviation: Floats, discount: float
) -> tuple[float, float, float, float, float, float, int]:
    """Gap = level - slope (strike - centre): slope and its error, centre, level and its error, scale, pairs used.

    Tukey's biweight, from the resistant line through the medians of the outer thirds.
    """
    third = len(strike) // 3
    rest = gap + discount * strike
    run = float(np.median(strike[-third:]) - np.median(strike[:third]))
    slope = discount - float(np.median(rest[-third:]) - np.median(rest[:third])) / run
    if not 0.5 * discount < slope < 2.0 * discount:
        slope = discount
    centre = np.median(strike)
    level = np.median(gap + slope * (strike - centre))
    scale, weight = 1.0, np.ones(len(strike))
    for _ in range(STEPS):
        scale, weight = _biweights(gap - level + slope * (strike - centre), deviation)
        total = weight.sum()
        middle = (weight * strike).sum() / total
        moved = strike - middle
        squares = (weight * moved * moved).sum()
        if squares <= 0.0:
            return np.nan, np.nan, centre, level, np.nan, scale, 0
        following = -(weight * moved * gap).sum() / squares
        is_still = abs(following - slope) <= STEP * abs(slope)
        slope, centre, level = following, middle, (weight * gap).sum() / total
        if is_still:
            break
    total = weight.sum()
    squares = (weight * (strike - centre) ** 2).sum()
    return slope, scale / math.sqrt(squares), centre, level, scale / math.sqrt(total), scale, int((weight > 0.0).sum())


@njit(cache=True, nogil=True)
def _place(values: Floats, deviation: Floats) -> tuple[float, float, float, float]:
    """The place of values of these deviations, its error, their scale and how many count: Tukey's biweight."""
    place = np.median(values)
    scale, weight = 1.0, np.ones(len(values))
    for _ in range(STEPS):
        scale, weight = _biweights(values - place, deviation)
        following = (weight * values).sum() / weight.sum()
        is_still = abs(following - place) <= STEP * abs(place)
        place = following
        if is_still:
            break
    return place, scale / math.sqrt(weight.sum()), scale, float((weight > 0.0).sum())


@njit(cache=True, nogil=True)
def _is_spread(levels: Floats, gaps: Floats, halves: Floats, at: int) -> bool:
    """Whether the forwards of a strike and its two nearest differ by more than the largest of their half-spreads."""
    first, last = at, at + 1
    while last - first < LEAST_NEAR:
        below = levels[at] - levels[first - 1] if first > 0 else np.inf
        above = levels[last] - levels[at] if last < len(levels) else np.inf
        if below == np.inf and above == np.inf:
            return False
        if below <= above:
            first -= 1
        else:
            last += 1
    forwards = levels[first:last] + gaps[first:last]
    return bool(forwards.max() - forwards.min() > halves[first:last].max())


@njit(cache=True, nogil=True)
def _fit_expiry(
    found: Floats,
    strike: Floats,
    gap_ticks: Floats,
    spread_ticks: Floats,
    sum_ticks: Floats,
    years: float,
    rate: float,
    is_fitted: bool,
    most_rate_error: float,
) -> None:
    levels, gaps = strike / TICKS_PER_DOLLAR, gap_ticks / (2.0 * TICKS_PER_DOLLAR)
    halves = np.maximum(spread_ticks / (2.0 * TICKS_PER_DOLLAR), LEAST_HALF_SPREAD)
    deviations = np.sqrt((halves[:, 0] ** 2 + halves[:, 1] ** 2) / 3.0)
    at = int(np.argmin(np.abs(gap_ticks)))
    discount, first, last = math.exp(-rate * years), 0, len(levels)
    if is_fitted and len(levels) >= LEAST_FOR_RATE:
        slope, slope_error, centre, level, level_error, scale, used = _line(levels, gaps, deviations, discount)
        if used >= LEAST_FOR_RATE and slope_error <= most_rate_error * years * slope:
            fitted = -math.log(slope) / years
            if abs(fitted) <= MOST_RATE:
                discount = slope
                found[RATE], found[RATE_ERROR] = fitted, slope_error / (slope * years)
                found[FORWARD], found[SCALE], found[USED] = centre + level / slope, scale, used
                found[ERROR] = math.hypot(level_error, level / slope * slope_error) / slope
    if math.isnan(found[RATE]):
        straddle = sum_ticks[at] / (2.0 * TICKS_PER_DOLLAR)
        reach = NEAR_MONEY * straddle / (STRADDLE * discount)
        first, last = _near_money(levels, levels[at] + gaps[at] / discount, reach)
        forwards = levels[first:last] + gaps[first:last] / discount
        found[FORWARD], found[ERROR], found[SCALE], found[USED] = _place(forwards, deviations[first:last] / discount)
    found[AT_MONEY] = levels[at] + gaps[at] / discount
    found[IS_SPREAD] = _is_spread(levels, gaps / discount, halves, at)
    found[LOWEST], found[HIGHEST] = levels[first], levels[last - 1]


@njit(_COLUMNS, cache=True, nogil=True)
def fit_expiries(
    starts: Integers,
    strike: Floats,
    is_call: Flags,
    bid: Floats,
    ask: Floats,
    years: Floats,
    rate: Floats,
    is_fitted: Flags,
    most_rate_error: float,
) -> Floats:
    """One row per expiry, columns as named above; NaN where an expiry has no pair, or no rate of its own.

    `years` and `rate` (continuous, taken where none is fitted) are per expiry. Where `is_fitted`, the rate is that of
    the fit as soon as its standard error is at most `most_rate_error`. Dollars throughout.
    """
    expiries = len(years)
    found = np.full((expiries, FOUND), np.nan)
    for i in range(expiries):
        first, last = starts[i], starts[i + 1]
        calls, puts, levels, gaps, spreads, sums = _pairs(
            strike[first:last], is_call[first:last], bid[first:last], ask[first:last]
        )
        found[i, CALLS], found[i, PUTS], found[i, PAIRS] = calls, puts, len(levels)
        if len(levels) > 0:
            _fit_expiry(found[i], levels, gaps, spreads, sums, years[i], rate[i], is_fitted[i], most_rate_error)
    return found
