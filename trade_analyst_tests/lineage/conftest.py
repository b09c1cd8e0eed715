"""A data folder to put captures into or one that is whole, and a version of the program to be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import time
from pathlib import Path

import pytest
from small_captures import CREATED, HOURS_AGO, MONDAY, TUESDAY, WEDNESDAY, Captures, stored, verified

from trade_analyst_pipeline.export import publish_session
from trade_analyst_pipeline.lineage import code_versions
from trade_analyst_pipeline.lineage.rebuild import rebuild
from trade_analyst_pipeline.lineage.schemas import METRIC_SCHEMAS
from trade_analyst_pipeline.storage.tables import TableStore


@pytest.fixture
def captures(tmp_path: Path) -> Captures:
    """An empty data folder to put captures into."""
    return Captures(tmp_path / "data")


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Go on as a version of the program whose every step has other code."""
    as_it_is = code_versions.code_of
    return lambda version: monkeypatch.setattr(code_versions, "code_of", lambda step: {**as_it_is(step), "x": version})


@pytest.fixture
def whole(tmp_path: Path, whole_once: Path) -> Path:
    """A data folder of three sessions, with tables, quarantine, metrics and exports, written some hours ago.

    Of the bars of the first session an older file is kept, for the third revised them.
    """
    return shutil.copytree(whole_once, tmp_path.resolve() / "whole")


@pytest.fixture(scope="session")
def whole_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each `whole` is a copy of."""
    captures = Captures(tmp_path_factory.mktemp("whole"))
    for day in (MONDAY, TUESDAY, WEDNESDAY):
        for minute in (45, 55):
            captures.chain(day, at=time(20, minute))
        captures.quotes(4, bad=1, day=day)
        captures.bars(day, {MONDAY: 101.0 if day == WEDNESDAY else 100.0, day: 100.0})
        if day != MONDAY:
            list(rebuild(captures.folder, datasets=["options", "quotes", "ohlc"], workers=1, created_time=CREATED))
    for day in (MONDAY, TUESDAY):
        store = TableStore(captures.folder)
        publish_session(store, day, schemas=METRIC_SCHEMAS, code_version="0.1.0", created_time=CREATED)
    folder = captures.folder.resolve()
    for path in stored(folder):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - HOURS_AGO))
    assert verified(folder) == []
    return folder
