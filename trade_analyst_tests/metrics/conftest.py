"""Fixtures of the metric tests: where the recorded market samples are, if they are."""

from __future__ import annotations

from pathlib import Path

import pytest

_SAMPLES = Path(__file__).resolve().parents[2] / "../shared/samples/market"


@pytest.fixture(scope="session")
def market_samples() -> Path:
    """The folder of market samples beside the repository; the test is skipped where it is absent."""
    if not _SAMPLES.is_dir():
        pytest.skip("NOT RUN: the market samples are not beside this repository (../shared/samples/market)")
    return _SAMPLES
