"""Code versions of the steps: what they cover, that they are the same everywhere, and what they say of a change."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_captures import CREATED, MONDAY, Captures

from trade_analyst_pipeline.datasets import TABLES
from trade_analyst_pipeline.lineage import code_versions
from trade_analyst_pipeline.lineage.code_versions import STEPS, changed_code, code_of, code_version, fingerprint
from trade_analyst_pipeline.lineage.schemas import METRIC_SCHEMAS, TRADE_SCHEMAS
from trade_analyst_pipeline.lineage.tables import build_tables
from trade_analyst_pipeline.storage.tables import TableStore

PRINT = "import json; from trade_analyst_pipeline.lineage.code_versions import STEPS, fingerprint; "
PRINT += "print(json.dumps({step: fingerprint(step) for step in STEPS}))"


def test_every_table_and_metric_has_a_step() -> None:
    """Each dataset and metric there is has a code version, and so have the exports."""
    tables = {f"tables/{name}" for name in TABLES}
    assert set(STEPS) == tables | {f"metrics/{schema.name}" for schema in (*METRIC_SCHEMAS, *TRADE_SCHEMAS)} | {
        "exports/metrics",
        "exports/classification",
    }


def test_steps_cover_what_they_are_known_to_use() -> None:
    """Modules that a step uses at first, second and third hand are in its code, and other steps' modules are not."""
    options, ratios, rank = (code_of(step) for step in ("tables/options", "metrics/put_call_ratio", "metrics/iv_rank"))
    assert {"datasets.options", "validation", "quarantine", "market.wire_json", "storage.frames"} <= options.keys()
    assert {"metrics.put_call_ratio", "market.session_hours", "storage.content_hash"} <= ratios.keys()
    assert {"metrics.iv_rank", "market.session_grid", "polars", "numpy", "python"} <= rank.keys()
    assert not {"datasets.quotes", "metrics.put_call_ratio", "capture.take", "schwab.client"} & options.keys()
    assert not {"metrics.iv_history", "validation", "market.wire_json"} & ratios.keys()


def test_no_setting_is_reached() -> None:
    """What a step makes is a function of its sources and code alone; a setting it read would have to count."""
    assert [step for step in STEPS if any(part.partition(".")[0] == "settings" for part in code_of(step))] == []


def test_code_versions_are_the_same_in_another_place(tmp_path: Path) -> None:
    """A copy of the package in another folder, without compiled files and in another order of hashing, agrees."""
    place = tmp_path / "elsewhere"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(code_versions.SOURCE_FOLDER, place / "trade_analyst_pipeline", ignore=ignored)
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", PRINT],
            cwd=place,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": seed},
            capture_output=True,
            check=True,
            text=True,
        )
        assert json.loads(done.stdout) == {step: fingerprint(step) for step in STEPS}


def test_what_was_worked_out_is_kept_until_the_source_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read back where the source is the same, and worked out anew where that or the kept file is another."""
    folder = tmp_path / "package"
    shutil.copytree(code_versions.SOURCE_FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "__pycache__").mkdir()
    monkeypatch.setattr(code_versions, "SOURCE_FOLDER", folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    reached = code_versions._all_reached.__wrapped__
    first = reached()
    (kept,) = (folder / "__pycache__").iterdir()
    content = kept.read_bytes()
    kept.write_bytes(content.replace(b'"validation":"', b'"validation":"kept-'))
    assert reached()["tables/options"].modules["validation"].startswith("kept-")
    kept.write_bytes(content[:-1])
    assert reached() == first
    assert kept.read_bytes() == content
    with (folder / "validation.py").open("a") as file:
        file.write("\n\ndef validate() -> None: ...\n")
    assert {step for step in first if reached()[step] != first[step]} == {f"tables/{name}" for name in TABLES}


def test_a_partition_without_a_note_of_its_code_is_stale(captures: Captures) -> None:
    """What an earlier program made, which noted only its own version, is to be made once more."""
    captures.chain()
    list(build_tables(captures.folder, "options", [MONDAY], workers=1, created_time=CREATED))
    made = TableStore(captures.folder).manifest("tables", "options", MONDAY)
    assert made is not None
    before = replace(made, code_version="0.1.0", code={})
    assert changed_code(before, "tables/options") == "made by version 0.1.0, which did not note its code"


def test_the_version_of_a_package_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another Polars is another code version of what uses it, and the change is told with both versions."""
    before = dict(code_of("metrics/iv_rank"))
    code_of.cache_clear()
    monkeypatch.setattr(code_versions, "_installed", lambda name: f"9.9.{len(name)}")
    after = dict(code_of("metrics/iv_rank"))
    code_of.cache_clear()
    assert {part for part in before if before[part] != after[part]} == {"exchange_calendars", "numpy", "polars"}


def test_what_has_changed_is_named(captures: Captures, become: Callable[[str], None]) -> None:
    """A partition tells the modules and packages that it was made by and that are others now."""
    captures.chain()
    list(build_tables(captures.folder, "options", [MONDAY], workers=1, created_time=CREATED))
    made = TableStore(captures.folder).manifest("tables", "options", MONDAY)
    assert made is not None
    assert made.code_version == code_version("tables/options")
    assert changed_code(made, "tables/options") == ""
    become("2.0")
    assert changed_code(made, "tables/options") == "other code: x none, now 2.0"
