"""Prices and implied volatilities of options that may be exercised at any time, on whole columns.

A table of its own this does not make: it serves what inverts prices and needs early exercise accounted for. Discrete
dividends enter as the continuous yield that takes spot to the parity forward. The arithmetic is in `kernels/american`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from trade_analyst_pipeline.market.prices import HALF_TICK

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int8]

# The word of each code that `american_volatility` gives.
REASONS: Final = (
    *("ok", "no_quote", "no_forward", "no_discount_factor", "expired", "at_intrinsic", "below_intrinsic"),
    *("above_max", "out_of_range", "two_boundaries", "unsettled"),
)


def american_price(
    volatility: npt.ArrayLike,
    *,
    spot: npt.ArrayLike,
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    years: npt.ArrayLike,
    discount_factor: npt.ArrayLike,
    is_call: npt.ArrayLike,
) -> Floats:
    """The price in dollars of each option that may be exercised until its end.

    Dollars, `volatility` an annualised fraction, `discount_factor` what a dollar at expiry is worth now; arrays or
    scalars that broadcast to one shape. NaN where an input is not finite or not above 0, where exercise would pay
    between two boundaries (a put with yield < rate < 0, a call with rate < yield < 0), and where no boundary was found.
    Raises ValueError where shapes do not fit.
    """
    from trade_analyst_pipeline.kernels import american

    shape, columns = _columns(volatility, spot, forward, strike, years, discount_factor)
    sigma, price_now, ahead, level, life, discount = columns
    rate, dividend = _rates(price_now, ahead, life, discount)
    value = np.empty(level.size)
    american.price(price_now, level, rate, dividend, sigma, life, _flags(is_call, shape), value)
    return value.reshape(shape)


def american_volatility(
    price: npt.ArrayLike,
    *,
    spot: npt.ArrayLike,
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    years: npt.ArrayLike,
    discount_factor: npt.ArrayLike,
    is_call: npt.ArrayLike,
    half_tick: float = HALF_TICK,
) -> tuple[Floats, Codes]:
    """The annualised volatility at which an option that may be exercised at any time has each price, and a code.

    Arguments as for `american_price`. The code is a place in `REASONS`: 0 where there is a volatility, else it is NaN,
    never a bound. A price within `half_tick` of what exercise pays now, or of what the forward alone is worth, is
    `at_intrinsic`: many volatilities give it. Raises ValueError where shapes do not fit.
    """
    from trade_analyst_pipeline.kernels import american

    shape, columns = _columns(price, spot, forward, strike, years, discount_factor)
    value, price_now, ahead, level, life, discount = columns
    rate, dividend = _rates(price_now, ahead, life, discount)
    volatility, reason = np.empty(level.size), np.empty(level.size, dtype=np.int8)
    flags = _flags(is_call, shape)
    american.invert(value, price_now, level, rate, dividend, life, flags, half_tick, volatility, reason)
    return volatility.reshape(shape), reason.reshape(shape)


def exercise_bias(european: npt.ArrayLike, american: npt.ArrayLike) -> Floats:
    """By how much a volatility inverted as if exercise came last only is too high: that less the American one.

    Fractions; NaN where either is not known. Early exercise is worth something, so it is never below 0 by more than
    the precision of the two.
    """
    return np.asarray(european, dtype=np.float64) - np.asarray(american, dtype=np.float64)


def _columns(*columns: npt.ArrayLike) -> tuple[tuple[int, ...], list[Floats]]:
    """The common shape and the columns, flat and of doubles."""
    spread = np.broadcast_arrays(*(np.asarray(column, dtype=np.float64) for column in columns))
    return spread[0].shape, [np.array(column).ravel() for column in spread]


def _flags(is_call: npt.ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    return np.array(np.broadcast_to(np.asarray(is_call, dtype=np.bool_), shape)).ravel()


def _rates(spot: Floats, forward: Floats, years: Floats, discount: Floats) -> tuple[Floats, Floats]:
    """Continuous rate and yield of each option: what takes a dollar, and spot, to its expiry."""
    with np.errstate(all="ignore"):
        rate = -np.log(discount) / years
        return rate, rate - np.log(forward / spot) / years
