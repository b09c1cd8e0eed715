"""American prices and volatilities against QuantLib, against what no option can escape, and on hostile input."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import QuantLib as ql  # noqa: N813

from trade_analyst_pipeline.kernels import inversion
from trade_analyst_pipeline.metrics.american_volatility import (
    REASONS,
    american_price,
    american_volatility,
    exercise_bias,
)

Options = dict[str, np.ndarray]


def options(count: int, seed: int) -> Options:
    """Random options on a spot of 100: any side of the money, to three years, rates and yields below 0 among them."""
    noise = np.random.default_rng(seed)
    rate = noise.uniform(-0.01, 0.1, count) * (noise.random(count) > 0.05)
    dividend = noise.uniform(-0.02, 0.1, count) * (noise.random(count) > 0.3)
    years = noise.integers(1, 1100, count) / 365
    return {
        "volatility": np.exp(noise.uniform(math.log(0.05), math.log(1.5), count)),
        "spot": np.full(count, 100.0),
        "forward": 100 * np.exp((rate - dividend) * years),
        "strike": 100 * np.exp(noise.normal(0, 0.25, count)),
        "years": years,
        "discount_factor": np.exp(-rate * years),
        "is_call": noise.random(count) < 0.5,
    }


def european_volatility(price: Any, **known: Any) -> np.ndarray:
    """The volatility of each price were exercise at the end only."""
    names = ("forward", "strike", "discount_factor", "years")
    price, *columns, is_call = np.broadcast_arrays(price, *(known[name] for name in names), known["is_call"])
    columns = [np.array(column, dtype=np.float64).ravel() for column in (price, *columns)]
    found, reason = np.empty(columns[0].size), np.empty(columns[0].size, dtype=np.int8)
    inversion.invert(*columns, np.array(is_call).ravel(), 0.005, found, reason)
    return found


def quantlib(given: Options) -> np.ndarray:
    """The prices of QuantLib's QD+ fixed-point engine, iterated to the end; NaN where it refuses."""
    today = ql.Date(2, 1, 2025)
    ql.Settings.instance().evaluationDate = today
    spot, rate, dividend, volatility = (ql.SimpleQuote(0.0) for _ in range(4))
    days = ql.Actual365Fixed()
    flat = [ql.YieldTermStructureHandle(ql.FlatForward(today, ql.QuoteHandle(each), days)) for each in (dividend, rate)]
    smile = ql.BlackConstantVol(today, ql.NullCalendar(), ql.QuoteHandle(volatility), days)
    process = ql.BlackScholesMertonProcess(ql.QuoteHandle(spot), *flat, ql.BlackVolTermStructureHandle(smile))
    engine = ql.QdFpAmericanEngine(process, ql.QdFpTanhSinhIterationScheme(30, 40, 1e-10))
    found = []
    for i in range(len(given["spot"])):
        years = given["years"][i]
        rate.setValue(round(-math.log(given["discount_factor"][i]) / years, 13))
        dividend.setValue(round(rate.value() - math.log(given["forward"][i] / given["spot"][i]) / years, 13))
        spot.setValue(given["spot"][i])
        volatility.setValue(given["volatility"][i])
        side = ql.Option.Call if given["is_call"][i] else ql.Option.Put
        exercise = ql.AmericanExercise(today, today + round(365 * years))
        option = ql.VanillaOption(ql.PlainVanillaPayoff(side, given["strike"][i]), exercise)
        option.setPricingEngine(engine)
        try:
            found.append(option.NPV())
        except RuntimeError:
            found.append(math.nan)
    return np.array(found)


def test_prices_agree_with_quantlib(is_full: bool, harness_seed: int) -> None:
    """Within 1e-6 dollars of a spot of 100, refused where QuantLib refuses: 100,000 options (quick 80)."""
    given = options(100_000 if is_full else 80, harness_seed)
    ours, theirs = american_price(**given), quantlib(given)
    assert (np.isnan(ours) == np.isnan(theirs)).all()
    off = np.abs(ours - theirs)
    worst = int(np.nanargmax(off))
    assert off[worst] <= 1e-6, {name: column[worst] for name, column in given.items()}


def test_volatility_comes_back_from_the_price(harness_seed: int) -> None:
    """To 1e-8 of itself where the price says anything of it; else there is a reason."""
    given = options(50, harness_seed)
    price = american_price(**given)
    known = {name: column for name, column in given.items() if name != "volatility"}
    found, reason = american_volatility(price, **known)
    solved = reason == 0
    assert solved.sum() > 25
    np.testing.assert_allclose(found[solved], given["volatility"][solved], rtol=1e-8)
    assert np.isnan(found[~solved]).all()


def test_no_option_is_worth_less_than_exercise_or_the_european_one() -> None:
    """The price is at least what exercise pays now, and its European volatility at least its own."""
    given = options(100, 3)
    price = american_price(**given)
    sign = np.where(given["is_call"], 1, -1)
    known = {name: column for name, column in given.items() if name not in ("volatility", "spot")}
    intrinsic = np.maximum(sign * (given["spot"] - given["strike"]), 0)
    assert (price[~np.isnan(price)] >= intrinsic[~np.isnan(price)] - 1e-12).all()
    european = european_volatility(price, **known)
    bias = exercise_bias(european, given["volatility"])
    assert np.nanmin(bias) > -1e-6
    assert np.nanmax(bias) > 0.01


def test_call_without_yield_is_european() -> None:
    """It is never exercised early, so that either inversion gives the same."""
    known: dict[str, Any] = {
        "forward": 100 * math.exp(0.05),
        "strike": 95.0,
        "years": 1.0,
        "discount_factor": math.exp(-0.05),
    }
    found, _ = american_volatility(14.0, spot=100.0, is_call=True, **known)
    european = european_volatility(14.0, is_call=True, **known)
    assert float(found) == pytest.approx(float(european[0]), rel=1e-9)


@pytest.mark.parametrize(
    ("rate", "dividend", "days", "strike", "points"),
    [
        (0.05, 0.0, 30, 100.0, 0.25),
        (0.05, 0.0, 90, 100.0, 0.52),
        (0.05, 0.0, 365, 100.0, 1.36),
        (0.05, 0.0, 90, 110.0, 2.18),
    ],
)
def test_bias_of_european_inversion_is_the_published_one(
    rate: float, dividend: float, days: int, strike: float, points: float
) -> None:
    """Puts at a volatility of 25 %, in points: the table of the metric specification, measured by other programs."""
    years = days / 365
    known: dict[str, Any] = {"forward": 100 * math.exp((rate - dividend) * years), "strike": strike, "years": years}
    known |= {"discount_factor": math.exp(-rate * years), "is_call": False}
    european = european_volatility(american_price(0.25, spot=100.0, **known), **known)
    assert 100 * exercise_bias(european, 0.25)[0] == pytest.approx(points, abs=0.01)


def test_scale_and_symmetry(harness_seed: int) -> None:
    """Ten times every dollar is ten times the price; a call is a put with spot and strike, rate and yield swapped."""
    given = options(50, harness_seed)
    price = american_price(**given)
    dollars = ("spot", "forward", "strike")
    tenfold = american_price(**given | {name: 10 * given[name] for name in dollars})
    np.testing.assert_allclose(tenfold, 10 * price, rtol=1e-9, atol=1e-9)
    growth = given["forward"] / given["spot"]
    swapped = american_price(
        given["volatility"],
        spot=given["strike"],
        strike=given["spot"],
        forward=given["strike"] / growth,
        years=given["years"],
        discount_factor=given["discount_factor"] * growth,
        is_call=~given["is_call"],
    )
    np.testing.assert_allclose(swapped, price, rtol=1e-9, atol=1e-9)


HOSTILE = (0.0, -1.0, 5e-324, 1e-310, 1e300, math.inf, -math.inf, math.nan, 1e9, 0.01)


def test_hostile_input(is_full: bool, harness_seed: int) -> None:
    """Any number in any place: no exception, a finite volatility above 0 or a reason (full form 10,000; quick 300)."""
    count = 10_000 if is_full else 300
    noise = np.random.default_rng(harness_seed)
    given = options(count, harness_seed) | {"price": noise.uniform(0, 40, count)}
    del given["volatility"]
    for name in ("price", "spot", "forward", "strike", "years", "discount_factor"):
        rows = noise.random(count) < 0.2
        given[name] = np.where(rows, noise.choice(HOSTILE, count), given[name])
    found, reason = american_volatility(**given)
    assert ((reason == 0) == (np.isfinite(found) & (found > 0))).all()
    assert set(reason.tolist()) <= set(range(len(REASONS)))
    assert len(set(reason.tolist())) >= 7


def test_importing_the_module_compiles_nothing() -> None:
    """Numba is imported when a price is first reckoned, not before."""
    code = "import sys; import trade_analyst_pipeline.metrics.american_volatility; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
