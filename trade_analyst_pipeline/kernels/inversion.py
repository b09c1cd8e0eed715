"""From prices to Black-Scholes volatilities: whole columns in one pass, calls and puts mixed.

An option in the money is inverted as its twin out of the money, whose price lacks the intrinsic value. The logarithm of
the normalised price is solved in the logarithm of the total volatility by Householder steps of fourth order. From the
first guess two or three of them reach what doubles can tell; each is the same arithmetic for every option, so that
blocks of them go through the vector units, and the same bits come out on every machine.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types

from trade_analyst_pipeline.kernels.arrays import BYTES, FLOATS, READ_FLAGS, READ_FLOATS, Bytes, Flags, Floats
from trade_analyst_pipeline.kernels.black_scholes import log_moneyness, price_over_slope
from trade_analyst_pipeline.kernels.elementary import exp, log
from trade_analyst_pipeline.kernels.normal import SQRT_2_PI, mills_ratio

# Why there is no volatility; SOLVED where there is one.
SOLVED, NO_PRICE, NO_FORWARD, NO_DISCOUNT, EXPIRED, AT_INTRINSIC, BELOW_INTRINSIC, ABOVE_MAX, OUT_OF_RANGE = range(9)

BLOCK = 512  # doubles of each working column: together they stay in the first cache
MOST_STEPS = 10
# A step this small leaves its fourth power: less than rounding.
SMALL_STEP = 2e-4
LARGEST_STEP = 2.0
LEAST_BETA = 1e-300
LARGEST_RATIO = 1e300
# Below the inflection of the price, ln beta falls about as SLOPE ln w + x² w / 2 in w = 1 / s².
SLOPE = 0.7
# Winitzki's approximation of the inverse error function; below SMALL_SHARE it is that of the line through 0.
WINITZKI = 0.147
SMALL_SHARE, LARGEST_SHARE = 1e-3, 1.0 - 1e-16
HALF_SQRT_PI = 0.8862269254527580
HALF_SQRT_2_PI = 0.5 * SQRT_2_PI
LOG_SQRT_2_PI = 0.9189385332046727
TWO_OVER_PI = 0.6366197723675814

_COLUMNS = types.void(
    READ_FLOATS, READ_FLOATS, READ_FLOATS, READ_FLOATS, READ_FLOATS, READ_FLAGS, types.float64, FLOATS, BYTES
)


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def first_guess(x: float, beta: float, log_beta: float) -> float:
    """A total volatility within a factor of two or so of that with normalised price beta at x >= 0.

    Below the price at the inflection s = sqrt(2 x) from the asymptotic form of its logarithm, above it from what the
    price would be at the money.
    """
    inflection = math.sqrt(2.0 * x)
    most = exp(-0.5 * x)
    beta_there = 0.5 * most * (1.0 - mills_ratio(inflection) / HALF_SQRT_2_PI)
    fall = log(beta_there) - log_beta
    curve = 0.25 * x
    bound = min(fall / SLOPE, log(1.0 + fall / curve))
    growth = exp(bound)
    y = bound - (curve * (growth - 1.0) + SLOPE * bound - fall) / (curve * growth + SLOPE)
    low = inflection * exp(-0.5 * y)
    share = min((beta - beta_there) / (most - beta_there), LARGEST_SHARE)
    logarithm = log((1.0 - share) * (1.0 + share))
    middle = TWO_OVER_PI / WINITZKI + 0.5 * logarithm
    curved = math.sqrt(max(math.sqrt(middle * middle - logarithm / WINITZKI) - middle, 0.0))
    high = inflection + 2.0 * math.sqrt(2.0) * (curved if share > SMALL_SHARE else HALF_SQRT_PI * share)
    return low if fall > 0.0 else high


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def householder_step(x: float, s: float, log_beta: float) -> float:
    """The change of ln s towards the root of ln beta(x, s) = log_beta, of fourth order, at most LARGEST_STEP."""
    z, t = x / s, 0.5 * s
    z2, t2 = z * z, t * t
    ratio = price_over_slope(z, t)
    excess = log(ratio) - 0.5 * (z2 + t2) - LOG_SQRT_2_PI - log_beta
    # Derivatives of ln beta in ln s: slope, then second and third over it.
    slope = s / ratio
    bend = z2 - t2
    second = bend - slope + 1.0
    third = bend * bend - 3.0 * z2 - t2 - slope * (3.0 * bend - 2.0 * slope) + 3.0 * (bend - slope) + 1.0
    newton = -excess / slope
    step = newton * (1.0 + 0.5 * second * newton) / (1.0 + newton * (second + third * newton / 6.0))
    return min(max(step, -LARGEST_STEP), LARGEST_STEP)


@njit(_COLUMNS, cache=True, nogil=True, error_model="numpy")
def invert(
    price: Floats,
    forward: Floats,
    strike: Floats,
    discount: Floats,
    years: Floats,
    is_call: Flags,
    tolerance: float,
    volatility: Floats,
    reason: Bytes,
) -> None:
    """Write the volatility of each option, or NaN, and why there is none (SOLVED and the others above).

    All columns are of one length. `tolerance` in dollars: by how much a price may lie below the intrinsic value and
    still count as AT_INTRINSIC.
    """
    x = np.empty(BLOCK)
    beta = np.empty(BLOCK)
    log_beta = np.empty(BLOCK)
    s = np.empty(BLOCK)
    step = np.empty(BLOCK)
    for start in range(0, len(price), BLOCK):
        size = min(BLOCK, len(price) - start)
        for i in range(size):
            j = start + i
            f, k = forward[j], strike[j]
            undiscounted = price[j] / discount[j]
            inside = f - k if is_call[j] else k - f
            time_value = undiscounted - max(inside, 0.0)
            ratio = f / k
            normalised = time_value / (math.sqrt(f) * math.sqrt(k))
            why = SOLVED
            why = (
                OUT_OF_RANGE if not (normalised >= LEAST_BETA and 1.0 / LARGEST_RATIO < ratio < LARGEST_RATIO) else why
            )
            why = ABOVE_MAX if time_value >= min(f, k) else why
            why = AT_INTRINSIC if time_value <= 0.0 else why
            why = BELOW_INTRINSIC if time_value * discount[j] < -tolerance else why
            why = EXPIRED if not 0.0 < years[j] < np.inf else why
            why = NO_DISCOUNT if not 0.0 < discount[j] < np.inf else why
            why = NO_FORWARD if not (0.0 < f < np.inf and 0.0 < k < np.inf) else why
            why = NO_PRICE if not -np.inf < price[j] < np.inf else why
            reason[j] = why
            beta[i] = normalised if why == SOLVED else 0.5
            x[i] = abs(log_moneyness(f, k)) if why == SOLVED else 0.0
        for i in range(size):
            log_beta[i] = log(beta[i])
            s[i] = first_guess(x[i], beta[i], log_beta[i])
            step[i] = LARGEST_STEP
        for _ in range(MOST_STEPS):
            for i in range(size):
                # An option that has settled stays, whatever its neighbours in the block still need.
                settled = abs(step[i]) <= SMALL_STEP
                change = householder_step(x[i], s[i], log_beta[i])
                s[i] *= 1.0 if settled else exp(change)
                step[i] = step[i] if settled else change
            moving = 0
            for i in range(size):
                moving += 0 if abs(step[i]) <= SMALL_STEP else 1
            if moving == 0:
                break
        for i in range(size):
            j = start + i
            reached = abs(step[i]) <= SMALL_STEP
            reason[j] = OUT_OF_RANGE if reason[j] == SOLVED and not reached else reason[j]
            volatility[j] = s[i] / math.sqrt(years[j]) if reason[j] == SOLVED else np.nan
