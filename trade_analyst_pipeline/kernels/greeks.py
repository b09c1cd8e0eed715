"""Price and Greeks of Black-Scholes-Merton on the forward, columns at a time.

All come from the slope of the normalised price and Mills' ratio at |z - t| and z + t: with m = sqrt(F K), what the
out-of-the-money option's F N(d1) and K N(d2) are is m b' M at those two points, and their twins are what these lack of
F and K. So nothing that could be small is a difference of two that are not. The same bits on every machine.
"""

from __future__ import annotations

import math

from numba import njit, types

from trade_analyst_pipeline.kernels.arrays import FLOATS, READ_FLAGS, READ_FLOATS, Flags, Floats
from trade_analyst_pipeline.kernels.black_scholes import log_moneyness, normalised_price
from trade_analyst_pipeline.kernels.elementary import exp, log
from trade_analyst_pipeline.kernels.normal import SQRT_2_PI, mills_ratio

DAYS_PER_YEAR = 365.0

_COLUMNS = types.void(
    READ_FLOATS,
    READ_FLOATS,
    READ_FLOATS,
    READ_FLOATS,
    READ_FLOATS,
    READ_FLOATS,
    READ_FLAGS,
    FLOATS,
    FLOATS,
    FLOATS,
    FLOATS,
    FLOATS,
    FLOATS,
)


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _known(figure: float, is_known: bool) -> float:
    """The figure, or NaN where it is infinite or its option is not known."""
    return figure if is_known and abs(figure) < math.inf else math.nan


@njit(_COLUMNS, cache=True, nogil=True, error_model="numpy")
def evaluate(
    volatility: Floats,
    forward: Floats,
    strike: Floats,
    discount: Floats,
    years: Floats,
    spot: Floats,
    is_call: Flags,
    price: Floats,
    delta: Floats,
    gamma: Floats,
    vega: Floats,
    theta: Floats,
    rho: Floats,
) -> None:
    """Write price and Greeks of each option, NaN where an input is missing or not above 0, or a result overflows.

    Where only the spot price is missing, price, vega and rho are there.
    """
    for i in range(len(volatility)):
        sigma, f, k, d, life = volatility[i], forward[i], strike[i], discount[i], years[i]
        # a sum that is a number says that none of its terms is none
        is_known = min(sigma, f, k, d, life) > 0.0 and max(sigma, f, k, d, life) < math.inf
        is_known = is_known and sigma + f + k + d + life > 0.0
        at = spot[i] if 0.0 < spot[i] < math.inf else math.nan
        root, x = math.sqrt(life), log_moneyness(f, k)
        s, w = sigma * root, 0.5 * abs(x)
        z, t = 2.0 * w / s, 0.5 * s
        middle = math.sqrt(f) * math.sqrt(k)
        slope = exp(-0.5 * (z * z + t * t)) / SQRT_2_PI
        large, small = middle * slope * mills_ratio(abs(z - t)), middle * slope * mills_ratio(z + t)
        large = min(f, k) - large if t > z else large
        first = small if x > 0.0 else large
        second = large if x > 0.0 else small
        is_twin = is_call[i] == (x > 0.0)
        first = f - first if is_twin else first
        second = k - second if is_twin else second
        sign = 1.0 if is_call[i] else -1.0
        rate, carry = -log(d) / life, log_moneyness(f, at) / life
        per_volatility = d * middle * slope * root
        per_year = sign * d * ((rate - carry) * first - rate * second) - 0.5 * per_volatility * sigma / life
        price[i] = _known(d * (middle * normalised_price(w, s) + max(sign * (f - k), 0.0)), is_known)
        delta[i] = _known(sign * d * first / at, is_known)
        gamma[i] = _known(per_volatility / (at * at * s * root), is_known)
        vega[i] = _known(per_volatility, is_known)
        theta[i] = _known(per_year / DAYS_PER_YEAR, is_known)
        rho[i] = _known(sign * life * d * second, is_known)
