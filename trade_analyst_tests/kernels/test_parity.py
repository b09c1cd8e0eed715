"""The compiled parity fit gives what the same lines give as plain Python, on every way through them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from interpreted import interpret

from trade_analyst_pipeline.kernels import parity


def quotes(strikes: list[float], forward: float, discount: float, noise: np.random.Generator) -> list[np.ndarray]:
    """Strike, whether a call, bid and ask in ticks of an expiry; each price a little off."""
    rows = []
    for strike in strikes:
        for is_call in (True, False):
            gap = discount * (forward - strike) * (1 if is_call else -1)
            mid = 30_000 + 10_000 * max(gap, 0.0) + noise.integers(-40, 41)
            rows.append((10_000 * strike, is_call, mid - 200, mid + 200))
    return [
        np.array(column, dtype)
        for column, dtype in zip(zip(*rows, strict=True), (float, bool, float, float), strict=True)
    ]


def expiries(seed: int) -> tuple[np.ndarray, ...]:
    """Expiries of every kind: many strikes, few, one, none, the same twice, calls alone."""
    noise = np.random.default_rng(seed)
    parts = [
        quotes([80.0 + i for i in range(41)], 101.0, 0.97, noise),
        quotes([100.0, 105.0], 101.0, 0.99, noise),
        quotes([100.0], 101.0, 0.99, noise),
        [np.empty(0), np.empty(0, bool), np.empty(0), np.empty(0)],
        quotes([100.0, 100.0, 100.0, 101.0, 102.0, 104.0], 101.5, 0.99, noise),
        [column[:1] for column in quotes([90.0], 101.0, 0.99, noise)],
        quotes([1.0 + i for i in range(20)], 500.0, 0.9, noise),
        quotes([50.0 + i for i in range(20)], 60.0, 0.2, noise),
    ]
    starts = np.cumsum([0, *(len(part[0]) for part in parts)])
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    years, rate = np.full(len(parts), 0.5), np.full(len(parts), 0.04)
    return starts, *columns, years, rate, np.arange(len(parts)) % 2 == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_compiled_and_interpreted_agree(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Both give the same numbers, but for the order of sums."""
    compiled = parity.fit_expiries(*expiries(seed), 0.005)
    interpret(monkeypatch, parity)
    np.testing.assert_allclose(parity.fit_expiries(*expiries(seed), 0.005), compiled, rtol=1e-8, atol=1e-8)


def test_what_is_found_of_each_kind() -> None:
    """A rate where many strikes have one in reach; no figures without a pair."""
    found = parity.fit_expiries(*expiries(1), 0.005)
    assert found[0, parity.RATE] == pytest.approx(-math.log(0.97) / 0.5, abs=4 * found[0, parity.RATE_ERROR])
    assert found[0, parity.FORWARD] == pytest.approx(101.0, abs=4 * found[0, parity.ERROR])
    assert np.isnan(found[1:6, parity.RATE]).all()
    assert found[1:6, parity.PAIRS].tolist() == [2, 1, 0, 4, 0]
    assert np.isnan(found[[3, 5], parity.FORWARD]).all()
    assert found[5, [parity.CALLS, parity.PUTS]].tolist() == [1, 0]
    assert found[6, parity.RATE] == pytest.approx(-math.log(0.9) / 0.5, abs=4 * found[6, parity.RATE_ERROR])
