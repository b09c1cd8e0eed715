"""Option values and Greeks against published figures."""

import numpy as np
import pytest

from trade_analyst_pipeline.simulator.pricing import black, greeks, normal_tails


def test_normal_tails_keep_relative_precision() -> None:
    """Both tails agree with published values of Q(x), far out too (Abramowitz and Stegun 26.2; Q(30) from tables)."""
    below, above = normal_tails(np.array([0.0, 1.0, 10.0, 30.0, -10.0]))
    expected = [0.5, 0.15865525393145705, 7.619853024160527e-24, 4.906713927148187e-198]
    assert above[:4] == pytest.approx(expected, rel=1e-13)
    assert below[4] == pytest.approx(7.619853024160527e-24, rel=1e-13)
    assert below[2] == 1.0


def test_values_and_greeks_of_the_textbook_option() -> None:
    """Spot 100, strike 100, rate 5 %, volatility 20 %, one year: the figures every textbook program gives."""
    one = np.array([1.0])
    forward, discount = 100.0 * np.exp(0.05 * one), np.exp(-0.05 * one)
    values = black(forward, 100.0 * one, 0.2 * one, discount)
    assert values.european[:, 0] == pytest.approx([10.450583572185565, 5.573526022256971], rel=1e-12)
    found = greeks(
        values, spot=100.0, forwards=forward, strikes=100.0 * one, discounts=discount, deviations=0.2 * one,
        years=one, rate=0.05,
    )  # fmt: skip
    assert found.delta[:, 0] == pytest.approx([0.6368306511756191, -0.3631693488243809], rel=1e-12)
    assert found.gamma[:, 0] == pytest.approx([0.018762017345846895] * 2, rel=1e-12)
    assert found.vega[:, 0] == pytest.approx([0.3752403469169379] * 2, rel=1e-12)
    assert found.theta[:, 0] == pytest.approx([-6.414027546438197 / 365, -1.657880423934626 / 365], rel=1e-10)
    assert found.rho[:, 0] == pytest.approx([0.5323248154537634, -0.4189046090469506], rel=1e-10)


def test_parity_holds_deep_in_and_out_of_the_money() -> None:
    """Call minus put is the discounted distance to the forward, and a far value stays positive."""
    strikes = np.array([1.0, 50.0, 100.0, 200.0, 400.0])
    same = np.ones(5)
    values = black(100.0 * same, strikes, 0.1 * same, 0.99 * same).european
    assert values[0] - values[1] == pytest.approx(0.99 * (100.0 - strikes), abs=1e-12)
    assert values[0, 4] > 0.0
    assert values[1, 1] > 0.0
    assert (values >= 0.0).all()
