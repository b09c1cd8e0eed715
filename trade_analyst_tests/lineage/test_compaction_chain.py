"""Compacted, broken off anywhere or done: tables, metrics, traces and answers as of an instant are as they were."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from small_captures import CREATED, MONDAY, TUESDAY, WEDNESDAY, Captures, verified

from trade_analyst_pipeline.lineage.point_in_time import read_as_of
from trade_analyst_pipeline.lineage.rebuild import rebuild
from trade_analyst_pipeline.lineage.schemas import table_schemas
from trade_analyst_pipeline.lineage.tracing import trace
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.compaction import compact
from trade_analyst_pipeline.storage.content_hash import content_hash
from trade_analyst_pipeline.storage.tables import TableStore

CALLS = ("fsync", "rename", "unlink")


class BrokenOff(BaseException):
    """The moment at which a compaction ends."""


@contextmanager
def broken_off_at(number: int) -> Iterator[None]:
    """Raise before the `number`th call that changes something on the disk."""
    real, left = {name: getattr(os, name) for name in CALLS}, number

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if not left:
                raise BrokenOff
            return call(*arguments, **options)

        return step

    for name, call in real.items():
        setattr(os, name, counted(call))
    try:
        yield
    finally:
        for name, call in real.items():
            setattr(os, name, call)


def compact_all(folder: Path) -> None:
    """Compact every session, with all grace over."""
    later = datetime.now(UTC) + timedelta(days=2)
    problems = [each.problem for each in compact(folder, last=WEDNESDAY, now=later.timestamp()) if each.problem]
    assert problems == []


def hashes(folder: Path) -> dict[str, str]:
    """The content of every table, quarantine and metric."""
    store = TableStore(folder)
    stages = ("tables", "quarantine", "metrics")
    return {f"{stage}.{name}": store.combined_hash(stage, name) for stage in stages for name in store.names(stage)}


def traced(folder: Path) -> list[object]:
    """The ways of some rows, each equal to what its bytes give, without where those lie."""
    moment = datetime.combine(TUESDAY, time(20, 45), UTC)
    rows = TableStore(folder).scan("tables", "options", schema=schema("tables.options")).collect()
    symbol = rows["option_symbol"].sort()[0]
    found = [
        trace(folder, "tables.options", {"option_symbol": symbol, "snapshot_time": moment}),
        trace(folder, "tables.ohlc", {"symbol": "XYZ", "session_date": MONDAY, "close": 101.0}),
        trace(folder, "metrics.put_call_ratio_daily", {"symbol": "XYZ", "session_date": TUESDAY}),
    ]
    assert [each.verdict for each in found] == ["equal"] * 3
    return [replace(each, records=tuple(replace(one, file="", offset=0) for one in each.records)) for each in found]


def schema(table: str) -> Any:
    """The schema of a table."""
    return table_schemas()[table]


def answers(folder: Path) -> list[str]:
    """Tables and metrics as they were known after each session."""
    found = []
    for table in ("tables.options", "tables.ohlc", "metrics.put_call_ratio", "metrics.realized_volatility"):
        for day in (MONDAY, TUESDAY, WEDNESDAY):
            rows = read_as_of(folder, table, datetime.combine(day, time(23), UTC)).collect()
            found.append(content_hash(rows, schema(table)))
    return found


def told(folder: Path) -> list[object]:
    """All that is asked here of a data folder."""
    return [hashes(folder), traced(folder), answers(folder)]


@pytest.mark.reliability
@pytest.mark.slow
def test_compacted_at_any_point_all_is_told_as_before(whole: Path, tmp_path: Path, *, is_full: bool) -> None:
    """Broken off before any of its changes, and then gone on with: hashes, traces, answers as before, `verify` well.

    At the end each session has one file of captures, and everything rebuilt from these has the hashes it had.
    """
    before, points = told(whole), 0
    for number in count(1, 1 if is_full else 8):
        folder = shutil.copytree(whole, tmp_path / str(number)).resolve()
        with broken_off_at(number):
            try:
                compact_all(folder)
            except BrokenOff:
                points += 1
            else:
                break
        assert (told(folder), verified(folder)) == (before, []), number
        compact_all(folder)
        assert (told(folder), verified(folder)) == (before, []), number
        assert {path.name for path in (folder / "raw/options").glob("*/*")} == {"captures.pack"}
    print(f"compaction broken off at {points} points: hashes, traces and answers as before, verify well")
    assert points > 3
    assert any(manifest.retired for manifest in TableStore(whole).manifests("tables", "ohlc"))
    assert not any(manifest.retired for manifest in TableStore(folder).manifests("tables", "ohlc"))
    list(rebuild(folder, datasets=["options", "quotes", "ohlc"], workers=1, created_time=CREATED))
    assert (told(folder), verified(folder, against_sources=True)) == (before, [])


def test_tables_made_of_a_compacted_archive_are_the_same(captures: Captures, tmp_path: Path) -> None:
    """Made for the first time from packs, and with captures after a compaction, tables have the hashes of files."""
    apart = Captures(tmp_path / "apart")
    for day in (MONDAY, TUESDAY):
        for each in (captures, apart):
            for minute in (15, 30, 45):
                each.chain(day, at=time(20, minute))
        compact_all(captures.folder)
    for each in (captures, apart):
        each.chain(TUESDAY, at=time(20, 55))
        list(rebuild(each.folder, datasets=["options"], workers=1, created_time=CREATED))
    assert hashes(captures.folder) == hashes(apart.folder)
    assert {"tables.options", "metrics.iv_history", "metrics.put_call_ratio"} <= hashes(captures.folder).keys()
    compact_all(captures.folder)
    assert len(Archive(captures.folder / "raw").captures("options", TUESDAY)) == 4
    assert verified(captures.folder) == []
