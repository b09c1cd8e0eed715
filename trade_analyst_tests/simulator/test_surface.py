"""The true volatility surface."""

import numpy as np
import pytest

from trade_analyst_pipeline.simulator.instruments import INSTRUMENTS
from trade_analyst_pipeline.simulator.pricing import black
from trade_analyst_pipeline.simulator.surface import Surface, surface_of

CASES = [
    surface_of(level * item.volatility, item.volatility, skew, item.wing)
    for item in INSTRUMENTS.values()
    if item.has_options
    for level in (0.5, 1.0, 3.0)
    for skew in (-0.85, item.skew, 0.2)
]


def test_variance_at_the_forward_returns_to_its_mean() -> None:
    """Variance 0.04 on its way to 0.09 at rate 3: after a year 0.09 - 0.05 * (1 - exp(-3)) / 3, worked by hand."""
    total = Surface(0.04, 0.09, -0.4, 1.0).at_the_money_variance(np.array([0.0, 1.0]))
    assert total == pytest.approx([0.0, 0.0741631178061311], rel=1e-12)


def test_total_variance_at_the_forward_is_the_at_the_money_one() -> None:
    """The skew turns around the forward."""
    assert CASES[0].total_variance(np.array([0.02]), np.array([0.0]))[0] == pytest.approx(0.02, rel=1e-14)


@pytest.mark.parametrize("surface", CASES[::4])
def test_no_butterfly_arbitrage(surface: Surface) -> None:
    """Undiscounted calls fall with the strike and are convex in it, from a day to two years."""
    for years in (1 / 365, 30 / 365, 2.0):
        theta = surface.at_the_money_variance(np.array([years]))
        width = float(np.sqrt(theta[0]))
        strikes = 100.0 * np.exp(np.linspace(-5.0 * width, 5.0 * width, 201))
        variance = surface.total_variance(np.broadcast_to(theta, strikes.shape), np.log(strikes / 100.0))
        same = np.ones(len(strikes))
        calls = black(100.0 * same, strikes, np.sqrt(variance), same).european[0]
        slopes = np.diff(calls) / np.diff(strikes)
        assert (slopes <= 1e-9).all()
        assert (slopes >= -1.0 - 1e-9).all()
        assert (np.diff(slopes) >= -1e-9).all()


@pytest.mark.parametrize("surface", CASES[::4])
def test_no_calendar_arbitrage(surface: Surface) -> None:
    """Total variance at a fixed log-moneyness never falls with maturity."""
    years = np.array([1 / 365, 7 / 365, 30 / 365, 0.25, 0.5, 1.0, 2.0])
    theta = surface.at_the_money_variance(years)
    for moneyness in (-0.5, -0.1, 0.0, 0.1, 0.5):
        assert (np.diff(surface.total_variance(theta, np.full(len(years), moneyness))) >= 0.0).all()
