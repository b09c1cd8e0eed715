"""Black-Scholes-Merton on the forward, undiscounted: the normalised price of an option and what is derived from it.

With F the forward, K the strike, w = |ln(F / K)| / 2 and s = volatility * sqrt(years), the out-of-the-money option of
the two is worth sqrt(F K) b(w, s), where b = exp(-w) N(t - z) - exp(w) N(-t - z) with z = 2 w / s and t = s / 2. Its
slope in s is b' = exp(-(z**2 + t**2) / 2) / sqrt(2 pi), and b / b' = M(z - t) - M(z + t) with M Mills' ratio. That
difference is summed as a series in t where it would cancel, so that b keeps its relative precision.
"""

from __future__ import annotations

import math

from numba import njit

from trade_analyst_pipeline.kernels.normal import SQRT_2_PI, mills_pair, mills_ratio

SERIES_WIDTH = 0.5  # t up to which the series is used, and
SERIES_MONEYNESS = 1.0  # w; beyond it what cancels in b / b' is less than what the steepness of b makes of a rounding
_TERMS = 24


@njit(cache=True, nogil=True)
def log_moneyness(forward: float, strike: float) -> float:
    """ln(forward / strike), of full relative precision also where the two are close; both above 0."""
    ratio = forward / strike
    if 0.5 < ratio < 2.0:
        return math.log1p((forward - strike) / strike)
    if 1e-300 < ratio < 1e300:
        return math.log(ratio)
    return math.log(forward) - math.log(strike)


@njit(cache=True, nogil=True, fastmath={"contract"})
def price_over_slope(z: float, t: float, w: float) -> float:
    """The price over its slope in s, b / b' = M(z - t) - M(z + t) for z >= 0, t > 0, z t = w."""
    if t < SERIES_WIDTH and w < SERIES_MONEYNESS:
        before, now = mills_pair(z)
        now *= t
        square, total = t * t, now
        for n in range(2, _TERMS, 2):
            before = (square * before - w * now) / n
            now = (square * now - w * before) / (n + 1)
            total += now
            if now < 1e-17 * total:
                break
        return 2.0 * total
    if t <= z:
        return mills_ratio(z - t) - mills_ratio(z + t)
    return SQRT_2_PI * math.exp(0.5 * (z - t) * (z - t)) - (mills_ratio(t - z) + mills_ratio(z + t))


@njit(cache=True, nogil=True, fastmath={"contract"})
def normalised_price(w: float, s: float) -> float:
    """b(w, s) for w >= 0 and s >= 0: above 0 and at most exp(-w); 0 for s = 0."""
    if not s > 0.0:
        return 0.0
    z, t = 2.0 * w / s, 0.5 * s
    slope = math.exp(-0.5 * (z * z + t * t)) / SQRT_2_PI
    if t <= z or (t < SERIES_WIDTH and w < SERIES_MONEYNESS):
        return slope * price_over_slope(z, t, w) if slope > 0.0 else 0.0
    return math.exp(-w) - slope * (mills_ratio(t - z) + mills_ratio(z + t))


@njit(cache=True, nogil=True, fastmath={"contract"})
def undiscounted_price(forward: float, strike: float, s: float, is_call: bool) -> float:
    """Price of an option at expiry in dollars of that day; `s` is volatility times the root of years, 0 at expiry."""
    x = log_moneyness(forward, strike)
    out = math.sqrt(forward) * math.sqrt(strike) * normalised_price(0.5 * abs(x), s)
    intrinsic = forward - strike if is_call else strike - forward
    return out + intrinsic if intrinsic > 0.0 else out
