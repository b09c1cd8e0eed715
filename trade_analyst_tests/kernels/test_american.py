"""The American engine as plain Python, and what its boundary is known to do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from interpreted import interpret

from trade_analyst_pipeline.kernels import american

# Spot, strike, rate, yield, volatility, years, call: every way through the engine.
CASES = [
    (100.0, 110.0, 0.05, 0.0, 0.25, 0.5, False),
    (100.0, 90.0, 0.03, 0.06, 0.3, 1.0, True),
    (100.0, 100.0, 0.02, 0.05, 0.3, 1.0, False),
    (100.0, 100.0, 0.05, 0.0, 0.3, 1.0, True),
    (60.0, 100.0, 0.05, 0.0, 0.2, 1.0, False),
    (100.0, 100.0, -0.01, -0.02, 0.3, 1.0, False),
    (100.0, 100.0, 0.0782, 0.07828, 0.5118, 0.6986, True),
]


def columns() -> list[np.ndarray]:
    """The cases by column."""
    return [np.array(column) for column in zip(*CASES, strict=True)]


def run(cases: slice = slice(None)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prices of the cases; the volatilities and reasons that some of the prices, or 5 where there is none, give."""
    spot, strike, rate, dividend, volatility, years, is_call = columns()
    value = np.empty(len(CASES))
    american.price(spot, strike, rate, dividend, volatility, years, is_call, value)
    asked = [np.ascontiguousarray(column[cases]) for column in (np.nan_to_num(value, nan=5.0), spot, strike)]
    asked += [np.ascontiguousarray(column[cases]) for column in (rate, dividend, years, is_call)]
    found, reason = np.empty(len(asked[0])), np.empty(len(asked[0]), dtype=np.int8)
    american.invert(*asked, 0.005, found, reason)
    return value, found, reason


def test_compiled_and_interpreted_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both give the same prices and volatilities."""
    some = slice(3, 6)
    compiled = run(some)
    interpret(monkeypatch, american)
    for before, after in zip(compiled, run(some), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-9)


def test_reasons_of_each_case() -> None:
    """A volatility comes back from the price, not from what exercise alone pays, nor with two boundaries."""
    value, found, reason = run()
    assert reason.tolist() == [0, 0, 0, 0, american.AT_INTRINSIC, american.TWO_BOUNDARIES, 0]
    known = reason == 0
    np.testing.assert_allclose(found[known], columns()[4][known], rtol=1e-9)
    assert value[4] == 40.0
    assert math.isnan(value[5])


def test_boundary_falls_with_time_to_the_perpetual_one() -> None:
    """It starts at strike times min(1, rate / yield), falls with the time left, and stays above the perpetual one."""
    for rate, dividend in ((0.05, 0.0), (0.05, 0.1)):
        falls, rounds = american.boundary(rate, dividend, 0.3, 30.0)
        assert rounds < american.MOST_ROUNDS
        assert falls[0] == 0.0
        assert (np.diff(falls) > 0).all()
        drift = (rate - dividend) / 0.3**2 - 0.5
        power = -drift - math.sqrt(drift**2 + 2 * rate / 0.3**2)
        perpetual, top = power / (power - 1), min(1.0, rate / dividend) if dividend else 1.0
        assert top * math.exp(-falls[-1]) == pytest.approx(perpetual, rel=0.05)
        assert top * math.exp(-falls[-1]) > perpetual
