"""Volatilities from prices, beside 45-digit arithmetic on the very doubles that were passed."""

import random
from typing import NamedTuple

import mpmath
import numpy as np
import pytest

from trade_analyst_pipeline.kernels import inversion


class Options(NamedTuple):
    """Columns of options: price, forward, strike, discount factor, years, whether a call."""

    price: np.ndarray
    forward: np.ndarray
    strike: np.ndarray
    discount: np.ndarray
    years: np.ndarray
    is_call: np.ndarray


def exact_price(forward, strike, discount, years, is_call, volatility) -> mpmath.mpf:
    """Black's formula as the textbooks write it, in as many digits as mpmath works with."""
    forward, strike, discount, years = (mpmath.mpf(float(each)) for each in (forward, strike, discount, years))
    s = volatility * mpmath.sqrt(years)
    d1 = mpmath.log(forward / strike) / s + s / 2
    sign = 1 if is_call else -1
    return discount * sign * (forward * mpmath.ncdf(sign * d1) - strike * mpmath.ncdf(sign * (d1 - s)))


def exact_volatility(option: tuple, start: float) -> mpmath.mpf:
    """The root of the exact price by Newton's steps from a volatility next to it."""
    price, forward, strike, discount, years, is_call = option
    price, sigma = mpmath.mpf(float(price)), mpmath.mpf(start)
    for _ in range(4):
        value = exact_price(forward, strike, discount, years, is_call, sigma)
        s = sigma * mpmath.sqrt(mpmath.mpf(float(years)))
        d1 = mpmath.log(mpmath.mpf(float(forward)) / float(strike)) / s + s / 2
        vega = mpmath.mpf(float(discount)) * float(forward) * mpmath.npdf(d1) * mpmath.sqrt(float(years))
        sigma -= (value - price) / vega
    return sigma


def options(seed: int, count: int, *, deviations: float = 3.0, is_out: bool = True) -> Options:
    """Options of 1 day to 2 years at 1 % to 300 %, priced exactly and rounded to doubles."""
    chance, rows = random.Random(seed), []  # noqa: S311
    for _ in range(count):
        years = 10 ** chance.uniform(-2.57, 0.3)
        sigma = 10 ** chance.uniform(-2, 0.477)
        forward = 10 ** chance.uniform(0.7, 3.7)
        strike = forward * float(mpmath.exp(chance.uniform(-deviations, deviations) * sigma * years**0.5))
        discount, is_call = chance.uniform(0.9, 1.0), (strike >= forward) == is_out
        price = float(exact_price(forward, strike, discount, years, is_call, mpmath.mpf(sigma)))
        rows.append((price, forward, strike, discount, years, is_call))
    return Options(*(np.array(column) for column in zip(*rows, strict=True)))


def inverted(columns: Options, tolerance: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Volatilities and reasons."""
    volatility, reason = np.empty(len(columns.price)), np.empty(len(columns.price), dtype=np.int8)
    inversion.invert(*columns, tolerance, volatility, reason)
    return volatility, reason


@pytest.mark.parametrize("deviations", [0.01, 3.0, 30.0])
def test_out_of_the_money_volatilities_are_exact_to_rounding(
    harness_seed: int, is_full: bool, deviations: float
) -> None:
    """Relative error at most 1e-14 against 45 digits, from the money to thirty deviations off it."""
    with mpmath.workdps(45):
        columns = options(harness_seed, 10_000 if is_full else 300, deviations=deviations)
        volatility, reason = inverted(columns)
        usable = columns.price / columns.forward > 1e-290
        assert usable.sum() > 0.6 * len(usable)
        assert set(reason[usable]) == {inversion.SOLVED}
        for each in np.flatnonzero(usable):
            truth = exact_volatility(tuple(column[each] for column in columns), volatility[each])
            assert abs(volatility[each] / truth - 1) < 1e-14, [column[each] for column in columns]


def test_in_the_money_volatilities_are_as_good_as_their_prices(harness_seed: int, is_full: bool) -> None:
    """The error that one rounding of the price makes, times 100 at most for 99 % of the options."""
    with mpmath.workdps(45):
        columns = options(harness_seed, 5_000 if is_full else 300, deviations=2.0, is_out=False)
        volatility, reason = inverted(columns)
        found = np.flatnonzero(reason == inversion.SOLVED)
        assert len(found) > 0.9 * len(reason)
        excess = []
        for each in found:
            option = tuple(column[each] for column in columns)
            truth = exact_volatility(option, volatility[each])
            nudged = mpmath.mpf(float(option[0])) * (1 + mpmath.mpf(2) ** -52)
            slope = exact_price(*option[1:], truth * (1 + mpmath.mpf(10) ** -12))
            slope = (slope - exact_price(*option[1:], truth)) / (truth * mpmath.mpf(10) ** -12)
            limit = (nudged - mpmath.mpf(float(option[0]))) / slope / truth
            excess.append(float(abs(volatility[each] / truth - 1) / limit))
        assert np.quantile(excess, 0.99) < 100


def one(**changes: float | bool) -> tuple[float, int]:
    """The volatility and reason of one option: a call struck at 100 on a forward of 100, in a quarter year, for 4."""
    option = {"price": 4.0, "forward": 100.0, "strike": 100.0, "discount": 1.0, "years": 0.25, "is_call": True}
    columns = Options(*(np.array([value]) for value in (option | changes).values()))
    volatility, reason = inverted(columns, tolerance=0.005)
    return float(volatility[0]), int(reason[0])


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, inversion.SOLVED),
        ({"price": NAN}, inversion.NO_PRICE),
        ({"price": INFINITE}, inversion.NO_PRICE),
        ({"forward": 0.0}, inversion.NO_FORWARD),
        ({"forward": NAN}, inversion.NO_FORWARD),
        ({"strike": -1.0}, inversion.NO_FORWARD),
        ({"discount": 0.0}, inversion.NO_DISCOUNT),
        ({"discount": NAN}, inversion.NO_DISCOUNT),
        ({"years": 0.0}, inversion.EXPIRED),
        ({"years": -1.0}, inversion.EXPIRED),
        ({"price": 0.0}, inversion.AT_INTRINSIC),
        ({"price": 10.0, "strike": 90.0}, inversion.AT_INTRINSIC),
        ({"price": 9.996, "strike": 90.0}, inversion.AT_INTRINSIC),
        ({"price": 9.99, "strike": 90.0}, inversion.BELOW_INTRINSIC),
        ({"price": 9.99, "strike": 110.0, "is_call": False}, inversion.BELOW_INTRINSIC),
        ({"price": 100.0}, inversion.ABOVE_MAX),
        ({"price": 120.0, "strike": 120.0, "is_call": False}, inversion.ABOVE_MAX),
        ({"price": 5e-324}, inversion.OUT_OF_RANGE),
        ({"price": 1.0, "strike": 1e308}, inversion.OUT_OF_RANGE),
    ],
    ids=str,
)
def test_what_has_no_volatility_says_why(changes: dict[str, float | bool], reason: int) -> None:
    """Null with its reason, never a clamp; at half a tick below the intrinsic value it still counts as at it."""
    volatility, why = one(**changes)
    assert why == reason
    assert np.isnan(volatility) == (reason != inversion.SOLVED)


def test_the_money_in_closed_form() -> None:
    """At the money the price is F (2 N(s/2) - 1), so that 0.2 over a quarter year costs 3.98776."""
    volatility, _ = one(price=3.9877611676744920)
    assert volatility == pytest.approx(0.2, rel=4e-16)


def test_blocks_do_not_touch(harness_seed: int) -> None:
    """Columns longer than a block, hostile rows between good ones: each row as it is alone."""
    chance = random.Random(harness_seed)  # noqa: S311
    count = inversion.BLOCK * 2 + 7
    price = np.array([chance.choice([4.0, NAN, -1.0, 0.0, 250.0, 1e-320, chance.uniform(0, 99)]) for _ in range(count)])
    forward = np.array([chance.choice([100.0, 0.0, -5.0, INFINITE, 1e-308, 100.0, 100.0]) for _ in range(count)])
    years = np.array([chance.choice([0.25, 0.25, 0.25, 0.0, 1e-9, 300.0]) for _ in range(count)])
    ones, is_call = np.ones(count), np.array([chance.random() < 0.5 for _ in range(count)])
    columns = Options(price, forward, ones * 100.0, ones, years, is_call)
    volatility, reason = inverted(columns)
    for each in range(count):
        alone, why = inverted(Options(*(column[each : each + 1] for column in columns)))
        assert why[0] == reason[each]
        assert alone.tobytes() == volatility[each : each + 1].tobytes()
    assert np.array_equal(np.isfinite(volatility), reason == inversion.SOLVED)
