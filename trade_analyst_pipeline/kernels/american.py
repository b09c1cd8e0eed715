"""American options on a continuous yield: the early-exercise boundary as a fixed point, and prices by it.

A put of strike 1 is exercised where the price of the underlying falls to B(t), t years before the end. With u the
integration variable below, B solves B = exp(-(r - q) t) N / D where

    N = N(d-(t, B)) + r integral over 0 < u < t of exp(r u) N(d-(t - u, B(t) / B(u))) du,
    D the same with d+ and q,    d±(t, x) = (ln x + (r - q ± sigma² / 2) t) / (sigma sqrt(t)),

and the put is worth its European value plus the integral of r exp(-r (t - u)) N(-d-) - q S exp(-q (t - u)) N(-d+)
(Andersen, Lake and Offengenden, "High performance American option pricing", 2016). (ln B / B(0))² is kept at Chebyshev
points of sqrt(t), which makes it smooth; each point is moved by Newton's rule with the boundary at earlier times held,
from the approximation of Barone-Adesi and Whaley (1987), until none moves. A call is a put with the underlying and
strike, and the rate and yield, in each other's places (McDonald and Schroder 1998).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types

from trade_analyst_pipeline.kernels.arrays import BYTES, FLOATS, READ_FLAGS, READ_FLOATS, Bytes, Flags, Floats
from trade_analyst_pipeline.kernels.black_scholes import undiscounted_price
from trade_analyst_pipeline.kernels.elementary import exp, log
from trade_analyst_pipeline.kernels.inversion import (
    ABOVE_MAX,
    AT_INTRINSIC,
    BELOW_INTRINSIC,
    EXPIRED,
    NO_DISCOUNT,
    NO_FORWARD,
    NO_PRICE,
    OUT_OF_RANGE,
    SOLVED,
)
from trade_analyst_pipeline.kernels.normal import SQRT_2_PI, mills_ratio

POINTS = 24  # of the boundary, besides t = 0
FIXED_POINT_NODES, PRICE_NODES = 40, 80  # of the integrals, Gauss-Legendre
MOST_ROUNDS = 30
FEW_APART, MANY_APART = 3, 15
LEAST_PART = 0.01
STILL = 1e-5  # of ln B; a round leaves about the square of how far it moved
LEAST_SQUARE = 1e-18
LEAST_SLOPE = 0.5

# Beside the reasons of `inversion`: exercise would pay between two boundaries, or the boundary never stood still.
TWO_BOUNDARIES, UNSETTLED = 9, 10
LOWEST, HIGHEST = 1e-3, 20.0  # volatilities looked at
NARROW = 1e-11  # of the volatility: where the search ends
MOST_STEPS = 100
LARGEST = 1e12  # dollars
NO_RATE = 1e-12  # what a rate of 0 may come to by rounding

_PRICED = types.void(READ_FLOATS, READ_FLOATS, READ_FLOATS, READ_FLOATS, READ_FLOATS, READ_FLOATS, READ_FLAGS, FLOATS)
_INVERTED = types.void(
    READ_FLOATS,
    READ_FLOATS,
    READ_FLOATS,
    READ_FLOATS,
    READ_FLOATS,
    READ_FLOATS,
    READ_FLAGS,
    types.float64,
    FLOATS,
    BYTES,
)


def _interpolation(positions: Floats) -> Floats:
    """Weights of the values at the Chebyshev points that give a polynomial through them at `positions` in [-1, 1]."""
    points = -np.cos(np.pi * np.arange(POINTS + 1) / POINTS)
    signs = (-1.0) ** np.arange(POINTS + 1)
    signs[[0, -1]] *= 0.5
    distance = positions[..., None] - points
    is_at = distance == 0.0
    weights = signs / np.where(is_at, 1.0, distance)
    weights = np.where(is_at.any(axis=-1, keepdims=True), is_at, weights)
    result: Floats = weights / weights.sum(axis=-1, keepdims=True)
    return result


_ROOTS = 0.5 * (1.0 - np.cos(np.pi * np.arange(POINTS + 1) / POINTS))  # sqrt(t / T) at the points


def _quadrature(count: int) -> tuple[Floats, Floats, Floats]:
    """Gauss-Legendre in the angle whose sine is sqrt(u / t): sqrt(u / t), sqrt((t - u) / t) and du / t at each node.

    Near both ends the integrands are smooth in those roots, and so in the angle.
    """
    nodes, weights = np.polynomial.legendre.leggauss(count)
    angles = 0.25 * np.pi * (1.0 + nodes)
    return np.sin(angles), np.cos(angles), 0.25 * np.pi * weights * np.sin(2.0 * angles)


_PAST, _PARTS, _SHARES = _quadrature(FIXED_POINT_NODES)
_AT = _interpolation(2.0 * _ROOTS[:, None] * _PAST[None, :] - 1.0)
_PRICE_PAST, _PRICE_PARTS, _PRICE_SHARES = _quadrature(PRICE_NODES)
_PRICE_AT = _interpolation(2.0 * _PRICE_PAST - 1.0)


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _density_and_cdf(x: float) -> tuple[float, float]:
    density = exp(-0.5 * x * x) / SQRT_2_PI if abs(x) < 38.0 else 0.0
    tail = density * mills_ratio(abs(x))
    return density, 1.0 - tail if x > 0.0 else tail


@njit(cache=True, nogil=True, error_model="numpy")
def first_boundary(rate: float, dividend: float, volatility: float, years: float) -> Floats:
    """(ln B / B(0))² at the points by the closed form of Barone-Adesi and Whaley."""
    variance = volatility * volatility
    top = min(1.0, rate / dividend) if dividend > 0.0 else 1.0
    drift = 2.0 * (rate - dividend) / variance - 1.0
    power = -0.5 * (drift + math.sqrt(drift * drift + 8.0 * rate / variance))
    bottom = min(power / (power - 1.0), top * (1.0 - 1e-9))
    squares = np.zeros(POINTS + 1)
    for i in range(1, POINTS + 1):
        root = _ROOTS[i] * math.sqrt(years)
        fall = (rate - dividend) * root * root - 2.0 * volatility * root
        if fall >= 0.0:
            fall = -2.0 * volatility * root
        level = bottom + (top - bottom) * exp(max(fall * top / (top - bottom), -700.0))
        squares[i] = log(level / top) ** 2
    return squares


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _fall_at(weights: Floats, falls: Floats, is_squared: bool) -> float:
    """Ln B(0) / B between the points: a polynomial in sqrt(t), or the root of one for its square."""
    total = 0.0
    if is_squared:
        for k in range(POINTS + 1):
            total += weights[k] * falls[k] * falls[k]
        return math.sqrt(max(total, LEAST_SQUARE))
    for k in range(POINTS + 1):
        total += weights[k] * falls[k]
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _miss(
    falls: Floats, i: int, log_top: float, rate: float, dividend: float, volatility: float, years: float, slopes: Floats
) -> tuple[float, float]:
    """Ln B less ln of its fixed point's other side at a point; `slopes` becomes minus its slope in each of `falls`."""
    time = _ROOTS[i] * _ROOTS[i] * years
    root = math.sqrt(time)
    is_squared = dividend <= rate
    carry = rate - dividend
    drift = carry - 0.5 * volatility * volatility
    spread = volatility * root
    low = (log_top - falls[i] + drift * time) / spread
    density, numerator = _density_and_cdf(low)
    numerator_slope = density / spread
    density, denominator = _density_and_cdf(low + spread)
    denominator_slope = density / spread
    of_numerator, of_denominator = np.zeros(POINTS + 1), np.zeros(POINTS + 1)
    for j in range(FIXED_POINT_NODES):
        fall = _fall_at(_AT[i, j], falls, is_squared)
        step = _PARTS[j] * root
        spread = volatility * step
        low = (fall - falls[i] + drift * step * step) / spread
        left, share = time - step * step, _SHARES[j] * time
        density, part = _density_and_cdf(low)
        weight = share * rate * exp(rate * left)
        numerator += weight * part
        above = weight * density / spread
        numerator_slope += above
        density, part = _density_and_cdf(low + spread)
        weight = share * dividend * exp(dividend * left)
        denominator += weight * part
        below = weight * density / spread
        denominator_slope += below
        if is_squared:
            above, below = above / fall, below / fall
        for k in range(POINTS + 1):
            of_numerator[k] += above * _AT[i, j, k]
            of_denominator[k] += below * _AT[i, j, k]
    for k in range(1, POINTS + 1):
        slopes[k - 1] = of_numerator[k] / numerator - of_denominator[k] / denominator
        if is_squared:
            slopes[k - 1] *= falls[k]
    own = 1.0 - numerator_slope / numerator + denominator_slope / denominator
    slopes[i - 1] += own
    return log_top - falls[i] - (log(numerator / denominator) - carry * time), own


@njit(cache=True, nogil=True, error_model="numpy")
def _solve(matrix: Floats, right: Floats) -> None:
    """Put the solution of matrix x = right into `right`, by elimination with pivots; both are used up."""
    size = len(right)
    for i in range(size):
        best = i
        for k in range(i + 1, size):
            if abs(matrix[k, i]) > abs(matrix[best, i]):
                best = k
        if best != i:
            for k in range(i, size):
                matrix[i, k], matrix[best, k] = matrix[best, k], matrix[i, k]
            right[i], right[best] = right[best], right[i]
        for row in range(i + 1, size):
            part = matrix[row, i] / matrix[i, i]
            for k in range(i + 1, size):
                matrix[row, k] -= part * matrix[i, k]
            right[row] -= part * right[i]
    for i in range(size - 1, -1, -1):
        for k in range(i + 1, size):
            right[i] -= matrix[i, k] * right[k]
        right[i] /= matrix[i, i]


@njit(cache=True, nogil=True, error_model="numpy")
def _settle(rate: float, dividend: float, volatility: float, years: float, apart: int) -> tuple[Floats, int]:
    """As `boundary`: in the first `apart` rounds each point moves as if the others stood, then all move."""
    falls = np.sqrt(first_boundary(rate, dividend, volatility, years))
    log_top = log(min(1.0, rate / dividend)) if dividend > 0.0 else 0.0
    jacobian, change, held = np.empty((POINTS, POINTS)), np.zeros(POINTS), np.empty(POINTS)
    least, part = np.inf, 1.0
    for rounds in range(1, MOST_ROUNDS + 1):
        largest = 0.0
        is_apart = rounds <= apart
        for i in range(POINTS):
            miss, own = _miss(falls, i + 1, log_top, rate, dividend, volatility, years, jacobian[i])
            largest = max(largest, abs(miss))
            held[i] = miss / max(own, LEAST_SLOPE) if is_apart else miss
        if not is_apart and not largest < least and part > LEAST_PART:
            # the last step went too far: half of it is taken back
            part *= 0.5
            for i in range(POINTS):
                falls[i + 1] -= part * change[i]
            continue
        if not is_apart:
            _solve(jacobian, held)
            least = largest
        part, moved = 1.0, 0.0
        for i in range(POINTS):
            change[i] = held[i]
            moved = max(moved, abs(change[i]))
            if change[i] < -0.7 * falls[i + 1]:
                part = min(part, -0.7 * falls[i + 1] / change[i])
        for i in range(POINTS):
            falls[i + 1] += part * change[i]
        if moved <= STILL:
            return falls, rounds
    return falls, MOST_ROUNDS


@njit(cache=True, nogil=True, error_model="numpy")
def boundary(rate: float, dividend: float, volatility: float, years: float) -> tuple[Floats, int]:
    """Ln B(0) / B at the Chebyshev points of sqrt(t), t from 0 to `years`, and the rounds it took to stand still.

    For a put of strike 1 with rate > 0, or rate = 0 above the dividend yield; B(0) is min(1, rate / dividend). The
    rounds are MOST_ROUNDS where it never stood still.
    """
    falls, rounds = _settle(rate, dividend, volatility, years, FEW_APART)
    if rounds == MOST_ROUNDS:
        falls, rounds = _settle(rate, dividend, volatility, years, MANY_APART)
    return falls, rounds


@njit(cache=True, nogil=True, error_model="numpy")
def _premium(
    spot: float, falls: Floats, log_top: float, rate: float, dividend: float, volatility: float, years: float
) -> float:
    """What a put of strike 1 is worth above the European one, at a spot above its boundary."""
    total, log_spot = 0.0, log(spot)
    drift = rate - dividend - 0.5 * volatility * volatility
    for j in range(PRICE_NODES):
        fall = _fall_at(_PRICE_AT[j], falls, dividend <= rate)
        step = _PRICE_PARTS[j] * math.sqrt(years)
        life = step * step
        spread = volatility * step
        low = (log_spot - log_top + fall + drift * life) / spread
        interest = rate * exp(-rate * life) * _density_and_cdf(-low)[1]
        yielded = dividend * spot * exp(-dividend * life) * _density_and_cdf(-low - spread)[1]
        total += _PRICE_SHARES[j] * (interest - yielded)
    return max(total * years, 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def _put(spot: float, rate: float, dividend: float, volatility: float, years: float) -> float:
    """Price of an American put of strike 1."""
    rate = 0.0 if abs(rate) < NO_RATE else rate
    forward = spot * exp((rate - dividend) * years)
    european = exp(-rate * years) * undiscounted_price(forward, 1.0, volatility * math.sqrt(years), False)
    if rate <= 0.0 and rate <= dividend:
        return european
    if rate < 0.0:
        return np.nan
    falls, rounds = boundary(rate, dividend, volatility, years)
    if rounds == MOST_ROUNDS:
        return np.nan
    log_top = log(min(1.0, rate / dividend)) if dividend > 0.0 else 0.0
    if log(spot) <= log_top - falls[-1]:
        return 1.0 - spot
    return max(european + _premium(spot, falls, log_top, rate, dividend, volatility, years), 1.0 - spot)


@njit(cache=True, nogil=True, error_model="numpy")
def price_one(
    spot: float, strike: float, rate: float, dividend: float, volatility: float, years: float, is_call: bool
) -> float:
    """Price of an American option; NaN where TWO_BOUNDARIES or UNSETTLED says why."""
    if not is_call:
        return strike * _put(spot / strike, rate, dividend, volatility, years)
    return spot * _put(strike / spot, dividend, rate, volatility, years)


@njit(_PRICED, cache=True, nogil=True, error_model="numpy")
def price(
    spot: Floats,
    strike: Floats,
    rate: Floats,
    dividend: Floats,
    volatility: Floats,
    years: Floats,
    is_call: Flags,
    value: Floats,
) -> None:
    """Write the price of each option into `value`; NaN where an input is not finite, or not above 0 and must be."""
    for i in range(len(value)):
        size = spot[i] * strike[i] * volatility[i] * years[i]
        is_usable = spot[i] > 0.0 and strike[i] > 0.0 and volatility[i] > 0.0 and years[i] > 0.0
        if is_usable and math.isfinite(size) and math.isfinite(rate[i] * dividend[i]):
            value[i] = price_one(spot[i], strike[i], rate[i], dividend[i], volatility[i], years[i], is_call[i])
        else:
            value[i] = np.nan


@njit(cache=True, nogil=True, error_model="numpy")
def _search(
    value: float, spot: float, strike: float, rate: float, dividend: float, years: float, is_call: bool
) -> tuple[float, int]:
    """The root by the Illinois rule in ln volatility, halved where that is slow, from a bracket grown around 0.3."""
    low, high = log(0.3), log(0.3)
    miss = price_one(spot, strike, rate, dividend, 0.3, years, is_call) - value
    below = above = miss
    while above < 0.0:
        if high >= log(HIGHEST):
            return np.nan, OUT_OF_RANGE
        low, below, high = high, above, min(high + 0.7, log(HIGHEST))
        above = price_one(spot, strike, rate, dividend, exp(high), years, is_call) - value
    while below > 0.0:
        if low <= log(LOWEST):
            return np.nan, BELOW_INTRINSIC
        high, above, low = low, below, max(low - 0.7, log(LOWEST))
        below = price_one(spot, strike, rate, dividend, exp(low), years, is_call) - value
    side = 0
    for step in range(MOST_STEPS):
        if math.isnan(below) or math.isnan(above):
            return np.nan, UNSETTLED
        if below == 0.0 or above == 0.0 or high - low <= NARROW:
            break
        middle = low - below * (high - low) / (above - below) if step % 4 < 3 else 0.5 * (low + high)
        miss = price_one(spot, strike, rate, dividend, exp(middle), years, is_call) - value
        if abs(miss) <= 1e-14 * strike:
            return exp(middle), SOLVED
        if miss < 0.0:
            above = 0.5 * above if side < 0 else above
            low, below, side = middle, miss, -1
        else:
            below = 0.5 * below if side > 0 else below
            high, above, side = middle, miss, 1
    return exp(low if -below < above else high), SOLVED


@njit(cache=True, nogil=True, error_model="numpy")
def _invert_one(
    value: float,
    spot: float,
    strike: float,
    rate: float,
    dividend: float,
    years: float,
    is_call: bool,
    tolerance: float,
) -> tuple[float, int]:
    if not math.isfinite(value):
        return np.nan, NO_PRICE
    if not (0.0 < spot < LARGEST and 0.0 < strike < LARGEST and math.isfinite(dividend)):
        return np.nan, NO_FORWARD
    if not math.isfinite(rate):
        return np.nan, NO_DISCOUNT
    if not (years > 0.0 and math.isfinite(years)):
        return np.nan, EXPIRED
    gain, most = (rate, strike) if not is_call else (dividend, spot)
    other = dividend if not is_call else rate
    if gain <= -NO_RATE and other < gain:
        return np.nan, TWO_BOUNDARIES
    forward, discount = spot * exp((rate - dividend) * years), exp(-rate * years)
    sign = 1.0 if is_call else -1.0
    intrinsic = max(sign * (spot - strike), sign * discount * (forward - strike), 0.0)
    if value <= intrinsic + tolerance:
        return np.nan, AT_INTRINSIC if value >= intrinsic - tolerance else BELOW_INTRINSIC
    if value >= most * exp(max(-gain * years, 0.0)):
        return np.nan, ABOVE_MAX
    return _search(value, spot, strike, rate, dividend, years, is_call)


@njit(_INVERTED, cache=True, nogil=True, error_model="numpy")
def invert(
    value: Floats,
    spot: Floats,
    strike: Floats,
    rate: Floats,
    dividend: Floats,
    years: Floats,
    is_call: Flags,
    tolerance: float,
    volatility: Floats,
    reason: Bytes,
) -> None:
    """Write the volatility at which an American option has each price, or NaN, and why there is none.

    A price within `tolerance` of what immediate exercise pays says nothing about the volatility, nor does one
    within it of what the forward alone is worth: either is AT_INTRINSIC.
    """
    for i in range(len(value)):
        volatility[i], reason[i] = _invert_one(
            value[i], spot[i], strike[i], rate[i], dividend[i], years[i], is_call[i], tolerance
        )
