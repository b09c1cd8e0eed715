"""The normalised price against 60 digits, over everything a market can show and far beyond."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from trade_analyst_pipeline.kernels import black_scholes

EPS = np.finfo(float).eps


@pytest.fixture(params=["compiled", "interpreted"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kernels as compiled, or as plain Python, so that coverage sees their lines."""
    if request.param == "interpreted":
        for name in ("log_moneyness", "price_over_slope", "normalised_price", "undiscounted_price"):
            monkeypatch.setattr(black_scholes, name, getattr(black_scholes, name).py_func)
    return str(request.param)


def exact_price(w: float, s: float) -> mpmath.mpf:
    """exp(-w) N(t - z) - exp(w) N(-t - z), by the definition."""
    width, moneyness = mpmath.mpf(s), mpmath.mpf(w)
    z, t = 2 * moneyness / width, width / 2
    return mpmath.exp(-moneyness) * mpmath.ncdf(t - z) - mpmath.exp(moneyness) * mpmath.ncdf(-t - z)


def test_normalised_price_keeps_relative_precision(form: str) -> None:
    """The price agrees with 60 digits to 4 roundings, apart from what the rounding of its steep exponent makes."""
    random = np.random.default_rng(11)
    for _ in range(1500 if form == "compiled" else 150):
        s = 10 ** random.uniform(-4, 1)
        z = abs(random.normal()) * random.choice([0, 1, 3, 8])
        w = z * s / 2 if random.random() < 0.7 else 10 ** random.uniform(-8, 1)
        with mpmath.workdps(60):
            exact = exact_price(w, s)
            if exact > 1e-290:
                allowed = 4 + 2 * (2 * w / s) ** 2 + w
                assert abs(black_scholes.normalised_price(w, s) / exact - 1) < allowed * EPS, (w, s)


def test_price_against_definition_and_parity(form: str) -> None:
    """F N(d1) - K N(d2) for calls in and out of the money, and calls minus puts are forward minus strike."""
    assert form
    for forward, strike in ((100.0, 95.0), (100.0, 105.0), (7.0, 7.0), (100.0, 10.0), (3.0, 900.0)):
        with mpmath.workdps(40):
            s = mpmath.mpf(0.2)
            d1 = mpmath.log(mpmath.mpf(forward) / strike) / s + s / 2
            exact = forward * mpmath.ncdf(d1) - strike * mpmath.ncdf(d1 - s)
        call = black_scholes.undiscounted_price(forward, strike, 0.2, True)
        put = black_scholes.undiscounted_price(forward, strike, 0.2, False)
        assert call == pytest.approx(float(exact), rel=1e-13, abs=1e-290)
        assert call - put == pytest.approx(forward - strike, abs=1e-13 * max(forward, strike))


def test_ends(form: str) -> None:
    """Without volatility an option is worth what exercise gives; with very much, the forward or the strike."""
    assert form
    assert black_scholes.undiscounted_price(100.0, 90.0, 0.0, True) == 10.0
    assert black_scholes.undiscounted_price(100.0, 90.0, 0.0, False) == 0.0
    assert black_scholes.undiscounted_price(100.0, 90.0, 1e-200, False) == 0.0
    assert black_scholes.undiscounted_price(100.0, 90.0, 1e6, True) == pytest.approx(100.0, rel=1e-15)
    assert black_scholes.undiscounted_price(100.0, 90.0, 1e6, False) == pytest.approx(90.0, rel=1e-15)
    with np.errstate(all="ignore"):  # what is computed and not chosen may be no number
        far = black_scholes.log_moneyness(np.float64(1e-200), np.float64(1e200))
    assert far == pytest.approx(-400 * math.log(10), rel=1e-15)
    assert black_scholes.log_moneyness(1.0 + EPS, 1.0) == pytest.approx(EPS, rel=1e-10)
