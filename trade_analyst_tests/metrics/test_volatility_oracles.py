"""Volatilities, prices and Greeks against QuantLib and vollib, to their own accuracy, on random options.

A package's own accuracy: what it was asked for, and some roundings of the price, which the volatility follows by
price / (vega x volatility).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import QuantLib as ql  # noqa: N813
from vollib.black_scholes_merton.implied_volatility import implied_volatility as vollib_volatility

from trade_analyst_pipeline.metrics.implied_volatility import (
    REASONS,
    PriceAndGreeks,
    black_greeks,
    black_volatility,
)

Floats = npt.NDArray[np.float64]

QUICK, FULL = 10_000, 1_000_000
EPS = float(np.finfo(float).eps)
VOLLIB_ROUNDINGS = 10  # of the forward or strike, whichever is more: vollib makes the forward again
QUANTLIB_DEVIATION, QUANTLIB_ITERATIONS = 1e-9, 1000  # accuracy of the root, as asked for
QUANTLIB_FIGURE = 1e-11  # of each price and Greek, in terms of the larger of its two parts: its normal distribution


class Options(NamedTuple):
    """Columns of options; `rate` and `dividend_yield` are those of discount factor and forward."""

    spot: Floats
    rate: Floats
    dividend_yield: Floats
    years: Floats
    volatility: Floats
    strike: Floats
    is_call: npt.NDArray[np.bool_]

    @property
    def discount_factor(self) -> Floats:
        """What a dollar at expiry is worth now."""
        return np.exp(-self.rate * self.years)

    @property
    def forward(self) -> Floats:
        """The forward price."""
        return self.spot * np.exp((self.rate - self.dividend_yield) * self.years)

    @property
    def known(self) -> dict[str, Any]:
        """What our functions are told beside price or volatility."""
        names = ("forward", "strike", "years", "discount_factor", "is_call")
        return {name: getattr(self, name) for name in names}


def options(count: int, seed: int) -> Options:
    """A day to two years at 5 to 200 %, up to three deviations off the forward either way, calls and puts."""
    noise = np.random.default_rng(seed)
    spot = np.exp(noise.uniform(math.log(5), math.log(5000), count))
    rate, dividend = noise.uniform(-0.01, 0.08, count), noise.uniform(0, 0.03, count)
    years = np.exp(noise.uniform(math.log(1 / 365), math.log(2), count))
    volatility = np.exp(noise.uniform(math.log(0.05), math.log(2), count))
    off = noise.uniform(-3, 3, count) * volatility * np.sqrt(years)
    strike = spot * np.exp((rate - dividend) * years + off)
    return Options(spot, rate, dividend, years, volatility, strike, noise.random(count) < 0.5)


def by_vollib(given: Options, price: Floats) -> Floats:
    """The volatility of each price by vollib."""
    found = []
    for row in zip(
        price, given.spot, given.strike, given.years, given.rate, given.dividend_yield, given.is_call, strict=True
    ):
        *numbers, is_call = (each.item() for each in row)
        found.append(vollib_volatility(*numbers, "c" if is_call else "p"))
    return np.array(found)


def by_quantlib(given: Options, price: Floats) -> Floats:
    """The volatility by QuantLib's implied standard deviation of each price."""
    found = []
    for row in zip(price, given.strike, given.forward, given.discount_factor, given.is_call, strict=True):
        value, strike, forward, discount, is_call = (each.item() for each in row)
        side = ql.Option.Call if is_call else ql.Option.Put
        found.append(
            ql.blackFormulaImpliedStdDev(
                side, strike, forward, value, discount, 0.0, 0.2, QUANTLIB_DEVIATION, QUANTLIB_ITERATIONS
            )
        )
    return np.array(found) / np.sqrt(given.years)


def greeks_by_quantlib(given: Options) -> dict[str, Floats]:
    """Price by `blackFormula`, and the Greeks of `BlackCalculator`, theta a calendar day."""
    rows = []
    columns = (given.strike, given.forward, given.volatility, given.discount_factor, given.years, given.spot)
    for row in zip(*columns, given.is_call, strict=True):
        strike, forward, volatility, discount, years, spot, is_call = (each.item() for each in row)
        side, deviation = (ql.Option.Call if is_call else ql.Option.Put), volatility * math.sqrt(years)
        made = ql.BlackCalculator(ql.PlainVanillaPayoff(side, strike), forward, deviation, discount)
        price = ql.blackFormula(side, strike, forward, deviation, discount)
        greeks = (made.delta(spot), made.gamma(spot), made.vega(years), made.theta(spot, years) / 365, made.rho(years))
        rows.append((price, *greeks))
    return dict(zip(("price", "delta", "gamma", "vega", "theta", "rho"), np.array(rows).T, strict=True))


def off_vollib(given: Options, ours: Floats, made: PriceAndGreeks) -> float:
    """The greatest difference from vollib, in roundings of what the price is made of."""
    largest = given.discount_factor * np.maximum(given.forward, given.strike)
    rounding = EPS * largest / (made.vega * given.volatility)
    return float((np.abs(by_vollib(given, made.price) / ours - 1) / rounding).max())


def off_quantlib(given: Options, ours: Floats, made: PriceAndGreeks) -> float:
    """The greatest difference from QuantLib in standard deviations to expiry."""
    return float((np.abs(by_quantlib(given, made.price) - ours) * np.sqrt(given.years)).max())


@pytest.fixture
def given(is_full: bool, harness_seed: int) -> Options:
    """A million options, quick ten thousand."""
    return options(FULL if is_full else QUICK, harness_seed)


def test_volatility_agrees_with_vollib_and_quantlib(given: Options) -> None:
    """To the accuracy of each; and the control, a volatility a hundred millionth too high, agrees with neither."""
    made = black_greeks(given.volatility, spot=given.spot, **given.known)
    ours, code = black_volatility(made.price, **given.known)
    solved = code == REASONS.index("ok")
    assert solved.mean() > 0.999
    given, ours = Options(*(column[solved] for column in given)), ours[solved]
    made = PriceAndGreeks(*(figure[solved] for figure in made))
    assert off_vollib(given, ours, made) <= VOLLIB_ROUNDINGS
    assert off_quantlib(given, ours, made) <= 2 * QUANTLIB_DEVIATION
    spoilt = ours * (1 + 1e-8)
    assert off_vollib(given, spoilt, made) > VOLLIB_ROUNDINGS
    assert off_quantlib(given, spoilt, made) > 2 * QUANTLIB_DEVIATION


def test_price_and_greeks_agree_with_quantlib(given: Options) -> None:
    """Each within 1e-11 of its scale; and the control, figures at a volatility 1e-9 too high, is not."""
    theirs = greeks_by_quantlib(given)
    scales = {
        "price": given.forward,
        "delta": np.ones_like(given.spot),
        "gamma": np.abs(theirs["gamma"]),
        "vega": np.abs(theirs["vega"]),
        "theta": given.forward / given.years / 365,
        "rho": given.forward * given.years,
    }
    for factor, agrees in ((1.0, True), (1.0 + 1e-9, False)):
        made = black_greeks(given.volatility * factor, spot=given.spot, **given.known)
        for name, scale in scales.items():
            off = float((np.abs(getattr(made, name) - theirs[name]) / scale).max())
            assert (off <= QUANTLIB_FIGURE) is agrees, (name, off)
