"""Rows that are not those of their sources are told, though every file is whole; and what their sources give is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from small_captures import CREATED, TUESDAY, verified

from trade_analyst_pipeline.cli.verify import mend
from trade_analyst_pipeline.lineage.chain import Scope
from trade_analyst_pipeline.lineage.schemas import table_schemas
from trade_analyst_pipeline.storage.tables import Partition, TableStore


def forge(folder: Path, table: str, partition: Partition, change: pl.Expr) -> None:
    """Store other rows as if they had been made of the same sources."""
    store, schema = TableStore(folder), table_schemas()[table]
    stage, name = table.split(".")
    manifest = store.manifest(stage, name, partition)
    assert manifest is not None
    rows = store.scan(stage, name, partitions=[partition], schema=schema).collect()
    store.write(
        stage,
        rows.with_columns(change),
        schema=schema,
        partition=partition,
        fence=store.take_fence(stage, name, partition),
        source_captures=manifest.source_captures,
        code_version="0.0.9",
        created_time=CREATED,
        findings=manifest.findings,
    )


@pytest.mark.parametrize(
    ("table", "partition", "change"),
    [
        ("tables.quotes", TUESDAY, pl.col("volume") + 1),
        ("quarantine.quotes", TUESDAY, pl.col("broken_rules") + "x"),
        ("metrics.iv_rank", 2026, pl.col("symbol") + "X"),
        ("metrics.realized_volatility", 2026, pl.col("symbol") + "X"),
        ("metrics.put_call_ratio_daily", 2026, pl.col("symbol") + "X"),
    ],
)
def test_forged_rows_are_told_and_mended(whole: Path, table: str, partition: Partition, change: pl.Expr) -> None:
    """Reading every byte finds nothing (the control); making the rows again does, and making them for good mends it."""
    assert verified(whole, against_sources=True) == []
    forge(whole, table, partition, change)
    assert verified(whole) == []
    (found,) = verified(whole, against_sources=True)
    assert (found.kind, found.path.rpartition("=")[0].rpartition("/")[0]) == ("differs", table.replace(".", "/"))
    assert "made by version 0.0.9" in found.detail
    assert all(step.is_mended for step in mend(whole, Scope(), [found], 1))
    assert verified(whole, against_sources=True) == []


def test_changes_to_what_feeds_more_are_told(whole: Path) -> None:
    """So are bars, options and metrics by the session, each by its own manifest, whatever else is made of them."""
    for table in ("tables.ohlc", "tables.options", "metrics.put_call_ratio"):
        forge(whole, table, TUESDAY, pl.col("symbol") + "X")
    forge(whole, "metrics.iv_history", 2026, pl.col("symbol") + "X")
    told = {flaw.path.split("/")[1] for flaw in verified(whole, against_sources=True) if flaw.kind == "differs"}
    assert told >= {"ohlc", "options", "put_call_ratio", "iv_history"}


def test_a_table_that_no_metric_can_be_made_of_is_told(whole: Path) -> None:
    """Ratios of which several stand for one symbol and session are no source of a series; its metric is told so."""
    forge(whole, "metrics.put_call_ratio", TUESDAY, pl.lit("ABC").alias("symbol"))
    told = {flaw.path: flaw.detail for flaw in verified(whole, against_sources=True) if flaw.kind == "differs"}
    assert "are not among" in told["metrics/put_call_ratio/session_date=2026-01-06/_manifest.json"]
    assert "cannot be made of its tables" in told["metrics/put_call_ratio_daily/year=2026/_manifest.json"]


def test_a_session_of_bars_that_is_gone_is_told_by_its_captures(whole: Path) -> None:
    """Its partition is named, with the rows that its captures give of it."""
    shutil.rmtree(whole / "tables/ohlc/session_date=2026-01-06")
    named = {flaw.path: flaw for flaw in verified(whole, against_sources=True)}
    found = named["tables/ohlc/session_date=2026-01-06/_manifest.json"]
    assert (found.kind, found.detail) == ("missing", "its captures give 1 rows of this session")


def test_what_cannot_be_read_is_told_once(whole: Path) -> None:
    """A capture that is damaged or gone makes no difference between it and the rows made of it."""
    lost, damaged = (min((whole / f"raw/{name}/session_date=2026-01-06").glob("*.raw")) for name in ("options", "ohlc"))
    lost.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert [flaw.kind for flaw in verified(whole, against_sources=True)] == ["damaged", "missing"]
