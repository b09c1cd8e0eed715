"""Whatever is wrong outside the archive is mended from it, to the same content; what captures cannot give stays."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import replace
from datetime import time
from pathlib import Path

import pytest
from small_captures import CREATED, HOURS_AGO, MONDAY, TUESDAY, Captures, stored, verified

from trade_analyst_pipeline.cli.verify import mend
from trade_analyst_pipeline.lineage.chain import Scope
from trade_analyst_pipeline.lineage.rebuild import rebuild
from trade_analyst_pipeline.lineage.repair import Repaired
from trade_analyst_pipeline.storage.manifest import read_manifest, write_manifest
from trade_analyst_pipeline.storage.set_aside import SET_ASIDE
from trade_analyst_pipeline.storage.tables import TableStore

TEMPORARY = ".part-1-0123456789ab.parquet.999999999-1-0a0b0c0d.tmp"
STRAYS = (
    "raw/options/notes.txt",
    "raw/options/session_date=2026-01-05/x.txt",
    "tables/options/session_date=2026-01-05/part-1-0123456789ab.parquet",
    f"metrics/iv_rank/year=2026/{TEMPORARY}",
    "exports/metrics/session_date=2026-01-05/x.csv",
)


def mended(folder: Path) -> list[Repaired]:
    """What `trade-analyst verify --repair` does about what it finds."""
    return list(mend(folder, Scope(), verified(folder), 1))


def contents(folder: Path) -> dict[str, object]:
    """What is stored, whatever the files: content hashes and findings of partitions, the exports, the captures."""
    store = TableStore(folder)
    made = [
        manifest
        for stage in ("tables", "quarantine", "metrics")
        for name in store.names(stage)
        for manifest in store.manifests(stage, name)
    ]
    held: dict[str, object] = {
        f"{each.stage}/{each.name}/{each.partition}": (each.content_hash, each.findings) for each in made
    }
    csv = {str(path): path.read_bytes() for path in (folder / "exports").rglob("*.csv")}
    return held | csv | {str(path): path.read_bytes() for path in (folder / "raw").rglob("*.raw")}


def break_something(rolled: random.Random, path: Path) -> None:
    """Flip a bit of a file, cut it, lengthen it or delete it."""
    content = bytearray(path.read_bytes())
    fault = rolled.randrange(4)
    if fault == 0:
        content[rolled.randrange(len(content))] ^= 1 << rolled.randrange(8)
    elif fault == 1:
        del content[rolled.randrange(len(content)) :]
    elif fault == 2:
        content += bytes(rolled.randrange(1, 100))
    path.write_bytes(content)
    if fault == 3:
        path.unlink()


@pytest.mark.reliability
def test_what_is_broken_outside_the_archive_is_made_again(whole: Path, is_full: bool, harness_seed: int) -> None:
    """Of any files in tables, quarantine, metrics and exports, broken at random: all well, the content as before."""
    rolled, before = random.Random(harness_seed), contents(whole)  # noqa: S311  a harness, no secret
    for _ in range(100 if is_full else 5):
        derived = [path for path in stored(whole) if path.relative_to(whole).parts[0] not in ("raw", SET_ASIDE)]
        derived = [path for path in derived if len(path.relative_to(whole).parts) == 4]
        places = {path.parent: path for path in rolled.sample(derived, rolled.randrange(1, 20))}
        for path in places.values():
            break_something(rolled, path)
        for name in rolled.sample(STRAYS, 2):
            (whole / name).write_bytes(b"x")
            os.utime(whole / name, (0, 0))
        for path in places.values():
            if path.exists():
                os.utime(path, (path.stat().st_atime, path.stat().st_mtime - HOURS_AGO))
        assert len(verified(whole)) >= 2, "the control: what is not mended is told"
        steps = mended(whole)
        assert all(step.is_mended for step in steps), steps
        assert verified(whole) == []
        assert contents(whole) == before


def test_swapped_manifests_are_put_right(whole: Path) -> None:
    """Two partitions with each other's manifest, also where that one was written more often, are themselves again."""
    before = contents(whole)
    TableStore(whole).mend_fence("tables", "options", TUESDAY)
    next((whole / "tables/options/session_date=2026-01-06").glob("*.parquet")).unlink()
    mended(whole)
    for pattern in ("tables/options/*/_manifest.json", "tables/ohlc/*/_manifest.json", "exports/*/*/manifest.json"):
        one, other = sorted(whole.glob(pattern))[:2]
        texts = one.read_bytes(), other.read_bytes()
        one.write_bytes(texts[1])
        other.write_bytes(texts[0])
    assert all(step.is_mended for step in mended(whole))
    assert verified(whole) == []
    assert contents(whole) == before


def test_strays_are_set_aside_and_not_lost(whole: Path) -> None:
    """A stray is found again below `set_aside/`, a second of the same name beside it; only empty things are removed."""
    stray, empty = whole / "raw/options/notes.txt", whole / "raw/quotes/session_date=2026-01-09"
    for text in (b"first", b"second"):
        stray.write_bytes(text)
        empty.mkdir()
        (whole / "tables/quotes" / TEMPORARY).write_bytes(b"x")
        for path in (empty, whole / "tables/quotes" / TEMPORARY):
            os.utime(path, (0, 0))
        assert len(verified(whole)) == 3
        assert "exports/metrics" not in {step.path for step in mended(whole)}
        assert verified(whole) == []
    kept = {path.relative_to(whole / SET_ASIDE).as_posix(): path.read_bytes() for path in stored(whole / SET_ASIDE)}
    assert kept == {"raw/options/notes.txt": b"first", "raw/options/notes.txt.1": b"second"}


@pytest.mark.parametrize("loss", ["damaged", "missing"])
def test_a_session_whose_capture_is_lost_keeps_its_table(whole: Path, loss: str) -> None:
    """It is left as it is, broken as it may be, and told; other sessions are mended, and the capture is not touched."""
    before = contents(whole)
    lost = min((whole / "raw/options/session_date=2026-01-05").glob("*.raw"))
    content = bytearray(lost.read_bytes())
    content[len(content) // 2] ^= 1
    lost.write_bytes(content) if loss == "damaged" else lost.unlink()
    broken = next((whole / "tables/options/session_date=2026-01-06").glob("*.parquet"))
    broken.write_bytes(b"x")
    (whole / "quarantine/options/session_date=2026-01-05/_manifest.json").write_bytes(b"x")
    good = next((whole / "tables/options/session_date=2026-01-05").glob("*.parquet"))
    kept = good.read_bytes()
    left = [step for step in mended(whole) if not step.is_mended]
    assert [step.path for step in left if "options" in step.path] == ["tables/options 2026-01-05"]
    told = {(flaw.path, flaw.kind) for flaw in verified(whole)}
    assert told == {
        (lost.relative_to(whole).as_posix() if loss == "damaged" else told_missing(told), loss),
        ("quarantine/options/session_date=2026-01-05/_manifest.json", "damaged"),
    }
    assert good.read_bytes() == kept
    assert (lost.read_bytes() == content) if loss == "damaged" else not lost.exists()
    store = TableStore(whole)
    for day in (MONDAY, TUESDAY):
        manifest = store.manifest("tables", "options", day)
        assert manifest is not None
        assert (manifest.content_hash, manifest.findings) == before[f"tables/options/{day}"]


def test_without_manifests_the_files_say_what_would_be_lost(whole: Path) -> None:
    """No manifest of a session can be read and a capture of it is gone: its files tell, and it is left as it is."""
    min((whole / "raw/options/session_date=2026-01-05").glob("*.raw")).unlink()
    for stage in ("tables", "quarantine"):
        (whole / stage / "options/session_date=2026-01-05/_manifest.json").write_bytes(b"x")
    good = next((whole / "tables/options/session_date=2026-01-05").glob("*.parquet"))
    kept = good.read_bytes()
    left = [step.path for step in mended(whole) if not step.is_mended]
    assert [path for path in left if "options" in path] == ["tables/options 2026-01-05"]
    assert good.read_bytes() == kept


def test_what_a_newer_program_wrote_is_left(whole: Path) -> None:
    """A partition in a form that this program does not know is told as such and stays as it is, with what needs it."""
    folder = whole / "tables/options/session_date=2026-01-05"
    manifest = read_manifest(folder)
    assert manifest is not None
    write_manifest(folder, replace(manifest, schema_version="99.0"))
    before = {path: path.read_bytes() for path in stored(folder)}
    assert ("newer", "tables/options/session_date=2026-01-05/_manifest.json") in {
        (flaw.kind, flaw.path) for flaw in verified(whole)
    }
    assert "tables/options 2026-01-05" not in {step.path for step in mended(whole) if step.is_mended}
    assert {path: path.read_bytes() for path in stored(folder)} == before


def told_missing(told: set[tuple[str, str]]) -> str:
    """The path of the missing capture, whose session nothing says any more."""
    (path,) = (path for path, kind in told if kind == "missing")
    assert path.startswith("raw/options/session_date=unknown/")
    return path


def test_no_metric_is_made_of_a_broken_table(whole: Path) -> None:
    """Where a table cannot be mended, its metrics and the exports stay as they are, and it is said."""
    lost = min((whole / "raw/options/session_date=2026-01-05").glob("*.raw"))
    lost.write_bytes(lost.read_bytes()[:-1])
    for table in ("tables/options/session_date=2026-01-05", "metrics/iv_history/year=2026"):
        manifest = read_manifest(whole / table)
        assert manifest is not None
        path = whole / table / manifest.files[0].name
        path.write_bytes(path.read_bytes()[:-1])
    before = {path: path.read_bytes() for stage in ("metrics", "exports") for path in stored(whole / stage)}
    left = {step.path for step in mended(whole) if not step.is_mended}
    assert left == {"tables/options 2026-01-05", "metrics/iv_history/year=2026", "exports/metrics", "catalogue.duckdb"}
    assert {path: path.read_bytes() for path in before} == before


def test_bars_keep_their_rows_when_any_capture_is_lost(whole: Path) -> None:
    """Captures of bars feed each other's sessions, so that none of them is made again without one."""
    next((whole / "raw/ohlc/session_date=2026-01-06").glob("*.raw")).unlink()
    manifest = whole / "tables/ohlc/session_date=2026-01-05/_manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-1])
    before = {path: path.read_bytes() for path in (whole / "tables/ohlc").rglob("*.parquet")}
    assert {step.path for step in mended(whole) if not step.is_mended} >= {"tables/ohlc 2026-01-05"}
    assert {path: path.read_bytes() for path in before} == before
    assert {flaw.kind for flaw in verified(whole)} == {"missing", "damaged"}


@pytest.mark.parametrize("is_metric_broken", [False, True])
def test_a_partition_of_bars_that_is_gone_is_made_again(whole: Path, is_metric_broken: bool) -> None:
    """A folder deleted whole is noticed by what was made of it, also where its captures are in other sessions too."""
    before, metric = contents(whole), "metrics/realized_volatility/year=2026/_manifest.json"
    shutil.rmtree(whole / "tables/ohlc/session_date=2026-01-06")
    if is_metric_broken:
        (whole / metric).write_bytes(b"x")
    of_bars = {metric, "metrics/volatility_index/year=2026/_manifest.json"}
    assert {flaw.path for flaw in verified(whole)} == of_bars
    assert all(step.is_mended for step in mended(whole))
    assert verified(whole) == []
    assert contents(whole) == before


def test_a_dead_capture_is_sealed_and_built(captures: Captures) -> None:
    """What a process that died had received is sealed, judged and made rows of."""
    sealed = captures.chain(MONDAY)
    list(rebuild(captures.folder, datasets=["options"], workers=1, created_time=CREATED))
    late, plan = captures.chain(TUESDAY), captures.seal("plan", "plan", {}, TUESDAY, time(9, 30))
    unsealed = late.path.with_suffix(".part")
    late.path.rename(unsealed)
    plan.path.rename(plan.path.with_suffix(".part"))
    folder = captures.folder.resolve()
    assert "unsealed" in {flaw.kind for flaw in verified(folder)}
    mended(folder)
    assert verified(folder) == []
    assert (late.path.exists(), unsealed.exists(), sealed.path.exists()) == (True, False, True)
    assert TableStore(folder).manifest("tables", "options", TUESDAY) is not None
