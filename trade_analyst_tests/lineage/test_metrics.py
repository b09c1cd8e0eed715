"""Metrics brought up to date: made from what stands when their fence is held, and by the present version."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import polars as pl
import pytest
from small_captures import CREATED, MONDAY, TUESDAY, WEDNESDAY, Captures, statuses

from trade_analyst_pipeline.lineage.built import BuiltSeries
from trade_analyst_pipeline.lineage.metrics import (
    PUT_CALL_RATIO,
    SERIES,
    SNAPSHOT_METRICS,
    build_snapshot_metric,
    refresh_realized_volatility,
)
from trade_analyst_pipeline.lineage.tables import build_tables
from trade_analyst_pipeline.metrics import realized_volatility
from trade_analyst_pipeline.storage.tables import TableStore


def build(captures: Captures, name: str, *days: date) -> None:
    """Bring a table up to date for these sessions."""
    list(build_tables(captures.folder, name, days, workers=1, created_time=CREATED))


def refreshed(store: TableStore) -> dict[str, BuiltSeries]:
    """Every series after bringing it up to date."""
    return {built.name: built for refresh in SERIES for built in [refresh(store, created_time=CREATED)]}


def test_another_version_stamps_every_metric_once(captures: Captures, become: Callable[[str], None]) -> None:
    """After an update each series is made once more with the same rows, and from then on left alone."""
    captures.chain()
    captures.bars(MONDAY, {MONDAY: 100.0})
    store = TableStore(captures.folder)
    for version, became in (("0.1.0", "built"), ("0.1.1", "built"), ("0.1.1", "unchanged")):
        become(version)
        build(captures, "options", MONDAY)
        build(captures, "ohlc", MONDAY)
        for metric in SNAPSHOT_METRICS:
            built = list(build_snapshot_metric(store, metric, [MONDAY], created_time=CREATED))
            assert statuses(built) == {MONDAY: became}
        years = (2026,) if became == "built" else ()
        assert {name: built.written_years for name, built in refreshed(store).items()} == {
            "iv_history": years,
            "iv_rank": years,
            "put_call_ratio_daily": years,
            "realized_volatility": years,
            "volatility_index": years,
        }


def test_what_is_committed_before_the_fence_is_taken_is_in_the_metric(
    captures: Captures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that changes at the last moment is read as it then is, and the metric says it was made from that."""
    captures.bars(MONDAY, {MONDAY: 100.0})
    build(captures, "ohlc", MONDAY)
    take_fence = TableStore.take_fence

    def overtaken(store: TableStore, stage: str, name: str, partition: date | int) -> int:
        if name == "realized_volatility":
            monkeypatch.setattr(TableStore, "take_fence", take_fence)
            captures.bars(TUESDAY, {TUESDAY: 101.0})
            build(captures, "ohlc", TUESDAY)
        return take_fence(store, stage, name, partition)

    monkeypatch.setattr(TableStore, "take_fence", overtaken)
    store = TableStore(captures.folder)
    assert refresh_realized_volatility(store, created_time=CREATED).last_session == TUESDAY
    assert refresh_realized_volatility(store, created_time=CREATED).written_years == ()
    rows = store.scan("metrics", "realized_volatility", schema=realized_volatility.SCHEMA)
    assert rows.select(pl.col("session_date").n_unique()).collect().item() == 2


def test_ratios_of_a_session_tell_their_range_and_size(captures: Captures) -> None:
    """Rows, bytes and times are those of the partition, built or unchanged; a session without a chain is empty."""
    captures.chain()
    build(captures, "options", MONDAY)
    store = TableStore(captures.folder)
    for status in ("built", "unchanged"):
        one, other = build_snapshot_metric(store, PUT_CALL_RATIO, [MONDAY, WEDNESDAY], created_time=CREATED)
        manifest = store.manifest("metrics", "put_call_ratio", MONDAY)
        assert manifest is not None
        assert (one.status, one.rows, one.size_bytes) == (status, manifest.row_count, manifest.size_bytes)
        assert one.first_time is not None
        assert (one.first_time, one.last_time) == (manifest.first_time, manifest.last_time)
        assert other.status == "empty"
