"""Reproducible randomness."""

import numpy as np

from trade_analyst_pipeline.simulator.noise import bells, generator, number_of, uniform, uniforms


def test_same_labels_give_the_same_numbers() -> None:
    """A generator and a number depend on all labels, their order included, and on nothing else."""
    assert generator(1, "AAPL").random() == generator(1, "AAPL").random()
    assert number_of(1, "AAPL") == number_of(1, "AAPL")
    assert len({number_of(1, "AAPL"), number_of("AAPL", 1), number_of(2, "AAPL"), number_of("1A", "APL")}) == 4


def test_hashes_of_a_part_are_those_of_the_whole() -> None:
    """A key's numbers do not depend on which other keys are hashed with it, nor on how many numbers are drawn."""
    keys = np.arange(1000, dtype=np.uint64).reshape(2, 500)
    whole = uniforms(keys, 5)
    assert np.array_equal(uniforms(keys[:, 37:41], 3), whole[:3, :, 37:41])


def test_hashes_are_uniform_and_independent() -> None:
    """Neighbouring keys give numbers spread evenly over (0, 1), unrelated between rows."""
    first, second = uniforms(np.arange(200_000, dtype=np.uint64), 2)
    assert first.min() > 0.0
    assert first.max() < 1.0
    counts, _ = np.histogram(first, bins=10, range=(0.0, 1.0))
    assert abs(counts - 20_000).max() < 600  # more than four standard deviations of a fair count (134)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.01


def test_bells_have_mean_zero_and_deviation_one() -> None:
    """The spread-out law is centred and scaled; the middle maps to 0."""
    assert bells(np.array([0.5]))[0] == 0.0
    values = bells(uniforms(np.arange(200_000, dtype=np.uint64), 1))
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1.0) < 0.01


def test_single_numbers_lie_inside_the_interval() -> None:
    """A number by labels is in (0, 1)."""
    assert all(0.0 < uniform("x", number) < 1.0 for number in range(1000))
