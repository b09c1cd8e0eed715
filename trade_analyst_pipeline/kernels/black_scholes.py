"""Black-Scholes-Merton on the forward, undiscounted: the normalised price of an option and what is derived from it.

With F the forward, K the strike, w = |ln(F / K)| / 2 and s = volatility * sqrt(years), the out-of-the-money option of
the two is worth sqrt(F K) b(w, s), where b = exp(-w) N(t - z) - exp(w) N(-t - z) with z = 2 w / s and t = s / 2. Its
slope in s is b' = exp(-(z**2 + t**2) / 2) / sqrt(2 pi), and b / b' = M(z - t) - M(z + t) with M Mills' ratio. That
difference is summed as a series in t where it would cancel, so that b keeps its relative precision.

Where there are several ways all are computed and one is chosen, so that loops over them become vector instructions.
"""

from __future__ import annotations

import math

from numba import njit

from trade_analyst_pipeline.kernels.elementary import exp, log
from trade_analyst_pipeline.kernels.normal import SQRT_2_PI, mills_pair, mills_ratio

SERIES_WIDTH = 0.4  # t up to which the series is used; its ten terms leave 1e-18 of the sum there
NEAR = 0.5  # of the strike: to there forward less strike is exact


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def log_moneyness(forward: float, strike: float) -> float:
    """ln(forward / strike), of full relative precision also where the two are close; both above 0."""
    excess = (forward - strike) / strike
    rounded = 1.0 + excess
    near = log(rounded) + (excess - (rounded - 1.0)) / rounded
    ratio = forward / strike
    far = log(ratio) if 1e-300 < ratio < 1e300 else log(forward) - log(strike)
    return near if abs(excess) <= NEAR else far


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _series(z: float, t: float) -> float:
    """M(z - t) - M(z + t) for t up to SERIES_WIDTH: minus twice the sum of t**k M^(k)(z) / k! over odd k up to 19."""
    d0, moment = mills_pair(z)
    d1 = -moment
    # M^(n + 1) = z M^(n) + n M^(n - 1)
    d2 = z * d1 + d0
    d3 = z * d2 + 2.0 * d1
    d4 = z * d3 + 3.0 * d2
    d5 = z * d4 + 4.0 * d3
    d6 = z * d5 + 5.0 * d4
    d7 = z * d6 + 6.0 * d5
    d8 = z * d7 + 7.0 * d6
    d9 = z * d8 + 8.0 * d7
    d10 = z * d9 + 9.0 * d8
    d11 = z * d10 + 10.0 * d9
    d12 = z * d11 + 11.0 * d10
    d13 = z * d12 + 12.0 * d11
    d14 = z * d13 + 13.0 * d12
    d15 = z * d14 + 14.0 * d13
    d16 = z * d15 + 15.0 * d14
    d17 = z * d16 + 16.0 * d15
    d18 = z * d17 + 17.0 * d16
    d19 = z * d18 + 18.0 * d17
    square = t * t
    total = d19 * (square / 342.0)
    total = (total + d17) * (square / 272.0)
    total = (total + d15) * (square / 210.0)
    total = (total + d13) * (square / 156.0)
    total = (total + d11) * (square / 110.0)
    total = (total + d9) * (square / 72.0)
    total = (total + d7) * (square / 42.0)
    total = (total + d5) * (square / 20.0)
    total = (total + d3) * (square / 6.0)
    return -2.0 * t * (total + d1)


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def price_over_slope(z: float, t: float) -> float:
    """The price over its slope in s, b / b' = M(z - t) - M(z + t) for z >= 0 and t > 0; infinite from t - z = 37."""
    near, far = mills_ratio(abs(z - t)), mills_ratio(z + t)
    below = near - far
    above = SQRT_2_PI * exp(0.5 * (z - t) * (z - t)) - (near + far)
    small = _series(z, t)
    large = below if t <= z else above
    return small if t < SERIES_WIDTH else large


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def normalised_price(w: float, s: float) -> float:
    """b(w, s) for w >= 0 and s >= 0: above 0 and at most exp(-w); 0 for s = 0, and below 1e-307."""
    width = s if s > 0.0 else 1.0
    z, t = 2.0 * w / width, 0.5 * width
    slope = exp(-0.5 * (z * z + t * t)) / SQRT_2_PI
    complement = slope * (mills_ratio(abs(t - z)) + mills_ratio(z + t))
    above = exp(-w) - (complement if slope > 0.0 else 0.0)
    below = slope * price_over_slope(z, t) if slope > 0.0 else 0.0
    value = below if t <= z or t < SERIES_WIDTH else above
    return value if s > 0.0 else 0.0


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def undiscounted_price(forward: float, strike: float, s: float, is_call: bool) -> float:
    """Price of an option at expiry in dollars of that day; `s` is volatility times the root of years, 0 at expiry."""
    x = log_moneyness(forward, strike)
    out = math.sqrt(forward) * math.sqrt(strike) * normalised_price(0.5 * abs(x), s)
    intrinsic = forward - strike if is_call else strike - forward
    return out + max(intrinsic, 0.0)
