"""The normal distribution against 50 digits, in the middle and in the tails."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from trade_analyst_pipeline.kernels import normal

EPS = np.finfo(float).eps


@pytest.fixture(params=["compiled", "interpreted"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kernels as compiled, or as plain Python in every step, so that coverage sees their lines."""
    if request.param == "interpreted":
        for name in ("_polynomial", "mills_ratio", "mills_pair", "pdf", "cdf"):
            monkeypatch.setattr(normal, name, getattr(normal, name).py_func)
    return str(request.param)


def points(form: str, low: float, high: float) -> np.ndarray:
    """Points between two bounds, fewer of them interpreted."""
    return np.random.default_rng(7).uniform(low, high, 400 if form == "compiled" else 60)


@pytest.mark.parametrize(("low", "high"), [(-37.0, -8.0), (-8.0, 8.0)])
def test_density_and_distribution_keep_relative_precision(form: str, low: float, high: float) -> None:
    """Density and distribution agree with 50 digits to 4 units of rounding, down to 1e-300."""
    with mpmath.workdps(50):
        for x in points(form, low, high):
            assert abs(normal.pdf(x) / mpmath.npdf(mpmath.mpf(x)) - 1) < 4 * EPS
            assert abs(normal.cdf(x) / mpmath.ncdf(mpmath.mpf(x)) - 1) < 4 * EPS


def test_mills_ratio_and_its_moment(form: str) -> None:
    """Mills' ratio and 1 - z times it agree with 80 digits to 4 units of rounding, for z from 0 to a million."""
    with mpmath.workdps(80):
        for z in [0.0, *points(form, 0, 9), *10 ** points(form, -9, 1.5)]:
            exact = mpmath.ncdf(-mpmath.mpf(z)) / mpmath.npdf(mpmath.mpf(z))
            ratio, moment = normal.mills_pair(z)
            assert ratio == normal.mills_ratio(z)
            assert abs(ratio / exact - 1) < 4 * EPS
            assert abs(moment / (1 - z * exact) - 1) < 4 * EPS
    assert normal.mills_pair(1e6)[1] == pytest.approx(1e-12, rel=1e-11)


def test_ends(form: str) -> None:
    """Far out the distribution is 0 and 1, the density 0; what is no number gives none."""
    assert form
    assert [normal.cdf(x) for x in (-math.inf, -1e300, 0.0, 41.0, math.inf)] == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert [normal.pdf(x) for x in (-math.inf, 1e300)] == [0.0, 0.0]
    assert math.isnan(normal.cdf(math.nan))
    assert math.isnan(normal.pdf(math.nan))
