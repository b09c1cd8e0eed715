"""Bulk volume: the share of a bar that was bought, by hand and beside SciPy's distributions."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist, stdev

import numba
import numpy as np
import polars as pl
import pytest
from scipy import stats

from trade_analyst_pipeline.kernels import bulk_shares
from trade_analyst_pipeline.metrics.bulk_volume import SCHEMA, bulk_volume

OPEN = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)


def bars_of(closes: list[float | None], volume: int | None = 100, symbol: str = "XYZ") -> pl.DataFrame:
    """Minute bars of one symbol."""
    times = [OPEN + timedelta(minutes=minute) for minute in range(len(closes))]
    frame = pl.DataFrame({"symbol": symbol, "bar_time": times, "close": pl.Series(closes, dtype=pl.Float64)})
    return frame.with_columns(pl.lit(volume, dtype=pl.Int64).alias("volume"))


def test_bought_volume_by_hand() -> None:
    """Changes 1, -1, 2: the deviations of the first two and of all three, the normal shares of the last of each."""
    found = bulk_volume(bars_of([10.0, 11.0, 10.0, 12.0]))
    assert found.schema == SCHEMA.polars_schema
    assert found["status"].to_list() == ["short", "short", "ok", "ok"]
    expected = [100 * NormalDist().cdf(change / stdev(changes)) for change, changes in ((-1, (1, -1)), (2, (1, -1, 2)))]
    assert found["bulk_buy_volume"].to_list() == [None, None, *map(pytest.approx, expected)]


def test_what_is_not_known_is_null_with_a_reason() -> None:
    """Equal changes have no deviation, a bar without volume no part, a missing close no change on either side."""
    assert bulk_volume(bars_of([10.0, 11.0, 12.0, 13.0]))["status"].to_list() == ["short", "short", "flat", "flat"]
    assert bulk_volume(bars_of([10.0, 11.0, 10.0], volume=None))["status"].to_list() == ["no_volume"] * 3
    gap = bulk_volume(bars_of([10.0, 11.0, 10.0, None, 12.0, 11.0]))
    assert gap["status"].to_list() == ["short", "short", "ok", "short", "short", "ok"]
    assert gap["bulk_buy_volume"].null_count() == 4


def test_changes_are_compared_exactly() -> None:
    """Equal changes in cents are equal, though their doubles are not: they do not make all of the volume bought."""
    closes = [10.1, 10.2, 10.3, 10.4]
    assert len({after - before for before, after in pairwise(closes)}) > 1
    assert bulk_volume(bars_of(closes))["status"].to_list() == ["short", "short", "flat", "flat"]


def test_an_infinite_close_is_none() -> None:
    """It has no share, nor has the bar after it, and no bar has one that is not a number."""
    found = bulk_volume(bars_of([10.0, 11.0, 10.0, float("inf"), 12.0, 11.0]))
    assert found["status"].to_list() == ["short", "short", "ok", "short", "short", "ok"]
    assert found["bulk_buy_volume"].is_finite().drop_nulls().all()


def test_each_symbol_stands_alone_and_no_later_bar_counts() -> None:
    """Another symbol's bars, and bars added later, change nothing."""
    first, second = bars_of([10.0, 11.0, 10.0, 12.0]), bars_of([50.0, 49.0, 52.0], symbol="ZZZ")
    together = bulk_volume(pl.concat([first, second]))
    assert together.equals(pl.concat([bulk_volume(first), bulk_volume(second)]))
    assert bulk_volume(first[:3]).equals(bulk_volume(first)[:3])
    with pytest.raises(ValueError, match="the bars of XYZ do not follow each other"):
        bulk_volume(pl.concat([first, second, first]))


@pytest.mark.parametrize("freedom", [0.25, 1.0, 2.5, 5.0, 30.0, 1000.0])
def test_student_is_that_of_scipy(freedom: float) -> None:
    """Shares of random walks by Student's distribution are those of SciPy, over all degrees of freedom in use."""
    closes = np.cumsum(np.random.default_rng(7).standard_t(3, 400)).round(4).tolist()
    found = bulk_volume(bars_of(closes, volume=1), freedom=freedom)["bulk_buy_volume"].to_numpy()[2:]
    changes = np.diff(closes)
    expected = [stats.t.cdf(changes[i] / np.std(changes[: i + 1], ddof=1), freedom) for i in range(1, len(changes))]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("freedom", [0.0, -1.0, float("nan")])
def test_wrong_freedom_is_refused(freedom: float) -> None:
    """Degrees of freedom are above 0."""
    with pytest.raises(ValueError, match="degrees of freedom above 0"):
        bulk_volume(bars_of([1.0, 2.0]), freedom=freedom)


def test_compiled_shares_do_what_their_source_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpreted, the shares are those compiled, for both distributions."""
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    spec = importlib.util.spec_from_file_location("interpreted_bulk_shares", Path(bulk_shares.__file__))
    assert spec is not None
    assert spec.loader is not None
    plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    closes = np.array([1.0, 2.0, 2.0, np.nan, 2.0, 1.0, 5.0, 5.0, 5.0, 6.0, 6.0, 4.0])
    for freedom in (0.0, 0.25, 3.0, 50.0):
        found = [np.empty(12) for _ in range(2)]
        for module, out in zip((bulk_shares, plain), found, strict=True):
            module.bulk_shares(closes, np.array([0, 6, 12]), freedom, out)
        np.testing.assert_allclose(*found, rtol=1e-13)
