"""Exponential and logarithm beside 50-digit arithmetic."""

import math
import random
from collections.abc import Callable

import mpmath
import numpy as np
import pytest

from trade_analyst_pipeline.kernels.elementary import bits_of, double_of, exp, log, polynomial

EPSILON = 2.0**-52


@pytest.mark.parametrize(
    ("function", "exact", "low", "high", "most"),
    [
        (exp, mpmath.exp, -708.0, 709.0, 1.0),
        (log, mpmath.log, 1e-3, 1e3, 1.0),
        (lambda x: log(math.exp(x)), lambda x: mpmath.log(mpmath.mpf(math.exp(x))), -700.0, 700.0, 1.0),
    ],
    ids=["exp", "log", "log of any size"],
)
def test_relative_errors_stay_within_units_of_the_last_place(
    function: Callable[[float], float],
    exact: Callable[[float], mpmath.mpf],
    low: float,
    high: float,
    most: float,
    harness_seed: int,
) -> None:
    """Against an independent evaluation at the very double that was passed."""
    chance = random.Random(harness_seed)  # noqa: S311
    with mpmath.workdps(60):
        for _ in range(2000):
            x = chance.uniform(low, high)
            truth = exact(mpmath.mpf(x))
            assert abs(function(x) - truth) <= most * EPSILON * abs(truth), x


def test_what_lies_at_the_edges() -> None:
    """Beyond ordinary doubles exp is 0 or infinite; log takes the smallest double, and says what has no logarithm."""
    assert [exp(-709.0), exp(710.0), exp(0.0), exp(-0.0)] == [0.0, math.inf, 1.0, 1.0]
    assert [log(0.0), log(1.0), log(math.inf)] == [-math.inf, 0.0, math.inf]
    assert log(5e-324) == pytest.approx(math.log(5e-324), rel=EPSILON)
    assert all(math.isnan(value) for value in (log(-1.0), log(math.nan), exp(math.nan)))


def test_bits_are_those_of_numpy() -> None:
    """There and back, negative numbers too."""
    for number in (1.0, -2.5, 5e-324, math.inf, 0.1):
        assert bits_of(number) == np.float64(number).view(np.int64)
        assert double_of(bits_of(number)) == number
    assert polynomial(2.0, (1.0, 3.0, 5.0)) == 27.0
