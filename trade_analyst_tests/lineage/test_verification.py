"""Every changed, cut, lost, swapped or stray file is reported by its name; what is whole is not."""

from __future__ import annotations

import io
import random
from datetime import time
from pathlib import Path

import polars as pl
import pytest
from small_captures import CREATED, MONDAY, TUESDAY, Captures, stored, verified

from trade_analyst_pipeline.capture import planned
from trade_analyst_pipeline.lineage.rebuild import rebuild
from trade_analyst_pipeline.storage.archive import Lacking
from trade_analyst_pipeline.storage.manifest import read_manifest
from trade_analyst_pipeline.storage.tables import TableStore


@pytest.mark.reliability
def test_flipped_bits_are_reported_by_file(whole: Path, is_full: bool, harness_seed: int) -> None:
    """Of all flips at least 99.9 % are told with the name of the file; plain reading of Parquet tells few of them."""
    rolled, wanted = random.Random(harness_seed), 1000 if is_full else 150  # noqa: S311  a harness, no secret
    flips, told, parquet, noticed = 0, 0, 0, 0
    while flips < wanted:
        places = {path.parent if "raw" not in path.parts else path: path for path in rolled.sample(stored(whole), 40)}
        before = {path: path.read_bytes() for path in places.values()}
        for path, content in before.items():
            changed = bytearray(content)
            changed[rolled.randrange(len(content))] ^= 1 << rolled.randrange(8)
            path.write_bytes(changed)
            if path.suffix == ".parquet":
                parquet += 1
                noticed += not _reads_as(bytes(changed))
        names = {flaw.path for flaw in verified(whole) if flaw.kind == "damaged"}
        flips += len(before)
        told += sum(path.relative_to(whole).as_posix() in names for path in before)
        for path, content in before.items():
            path.write_bytes(content)
    print(f"{told} of {flips} flips told; plain reading of Parquet refused {noticed} of {parquet}")
    assert told >= 0.999 * flips
    assert noticed < 0.9 * parquet, "the control is to miss flips"
    assert verified(whole) == []


def _reads_as(content: bytes) -> bool:
    """Whether Polars reads a Parquet file without an error."""
    try:
        pl.read_parquet(io.BytesIO(content))
    except BaseException:  # noqa: BLE001  a panic of the library is none of Exception
        return False
    return True


@pytest.mark.reliability
def test_cut_and_deleted_files_are_reported(whole: Path, is_full: bool, harness_seed: int) -> None:
    """A file cut by one byte is damaged; deleted, it is missing or to be built, by its name: one of each kind, or all.

    A file that only readers of an older manifest may have open is not missed.
    """
    kinds: dict[tuple[str, str], list[Path]] = {}
    for path in stored(whole):
        kinds.setdefault((path.relative_to(whole).parts[0], path.suffix or path.name), []).append(path)
    assert len(kinds) == 13
    rolled = random.Random(harness_seed)  # noqa: S311  a harness, no secret
    for path in [path for paths in kinds.values() for path in (paths if is_full else rolled.sample(paths, 1))]:
        name, content = path.relative_to(whole).as_posix(), path.read_bytes()
        path.write_bytes(content[:-1])
        assert name in {flaw.path for flaw in verified(whole) if flaw.kind == "damaged"}
        path.unlink()
        missed = {flaw.path for flaw in verified(whole) if flaw.kind in ("missing", "not_built")}
        assert (name in missed) != _is_retired(path)
        path.write_bytes(content)


def _is_retired(path: Path) -> bool:
    """Whether a newer file has taken the place of this one."""
    manifest = read_manifest(path.parent) if path.suffix == ".parquet" else None
    return manifest is not None and path.name in {file.name for file in manifest.retired}


def test_swapped_and_stray_files_are_reported(whole: Path) -> None:
    """Two captures or two manifests in each other's place are damage; what nobody lists is an orphan."""
    for pattern in ("raw/options/*/*.raw", "tables/options/*/_manifest.json", "exports/metrics/*/manifest.json"):
        one, other = sorted(whole.glob(pattern))[:2]
        contents = one.read_bytes(), other.read_bytes()
        one.write_bytes(contents[1])
        other.write_bytes(contents[0])
        names = {flaw.path for flaw in verified(whole) if flaw.kind == "damaged"}
        assert {path.relative_to(whole).as_posix() for path in (one, other)} <= names
        one.write_bytes(contents[0])
        other.write_bytes(contents[1])
    strays = ["raw/options/x", "raw/options/session_date=2026-01-05/x.txt", "tables/x", "tables/options/x"]
    strays += ["raw/options/session_date=2026-02-30", "raw/other/session_date=2026-01-05/x"]
    (whole / "raw/other/session_date=2026-01-05").mkdir(parents=True)
    strays += ["metrics/iv_rank/year=2026/x.parquet", "exports/metrics/session_date=2026-01-05/x.csv"]
    for name in strays:  # one of them stands where a folder of a day could
        (whole / name).write_bytes(b"x")
    assert [(flaw.path, flaw.kind) for flaw in verified(whole)] == [(name, "orphan") for name in sorted(strays)]


def test_captures_below_the_name_of_no_dataset_are_reported(captures: Captures) -> None:
    """A whole capture whose folder, and it itself, have a name that nothing reads; plans on record are none of them."""
    captures.seal(planned.NAME, "plan", {"kinds": []}, MONDAY, time(9, 30))
    assert verified(captures.folder) == []
    captures.seal("quote", "/quotes", {}, MONDAY, time(20, 55))
    (wrong,) = verified(captures.folder, "options")
    assert (wrong.path, wrong.kind) == ("raw/quote/session_date=2026-01-05", "damaged")
    assert "'quote', which is no dataset of this program" in wrong.detail
    (captures.folder / "raw/quote").rename(captures.folder / "raw/quotes")
    (misplaced,) = [flaw for flaw in verified(captures.folder) if flaw.kind == "damaged"]
    assert "is that of quote/session_date=2026-01-05" in misplaced.detail


def test_damage_to_a_plan_on_record_is_reported(captures: Captures) -> None:
    """What the archive holds besides datasets is read back too, whatever the dataset asked for."""
    captures.quotes(2)
    list(rebuild(captures.folder, datasets=["quotes"], workers=1, created_time=CREATED))
    plan = captures.seal("plan", "plan", {"kinds": []}, MONDAY, time(9, 30))
    assert verified(captures.folder) == []
    captures.damage(plan)
    (wrong,) = verified(captures.folder, "quotes")
    assert (wrong.path, wrong.kind) == (plan.path.relative_to(captures.folder.resolve()).as_posix(), "damaged")
    assert "made of it" not in wrong.detail


def test_a_capture_without_an_answer_is_in_no_table(captures: Captures) -> None:
    """An empty answer is archived and nothing is made of it, which is no flaw."""
    captures.seal("quotes", "/quotes", {}, MONDAY, time(20, 55), lacking=Lacking("not one quote"))
    captures.quotes(2, day=TUESDAY)
    list(rebuild(captures.folder, datasets=["quotes"], workers=1, created_time=CREATED))
    assert TableStore(captures.folder).partitions("tables", "quotes") == [TUESDAY]
    assert verified(captures.folder) == []


def test_damage_to_a_capture_says_what_was_made_of_it(captures: Captures) -> None:
    """The record, its symbol, and the tables that keep their rows; a capture not built yet is a finding of its own."""
    damaged = captures.chain(MONDAY)
    list(rebuild(captures.folder, datasets=["options"], workers=1, created_time=CREATED))
    captures.damage(damaged)
    captures.chain(TUESDAY)
    wrong, unbuilt = sorted(verified(captures.folder), key=lambda flaw: flaw.kind)
    assert (wrong.kind, unbuilt.kind) == ("damaged", "not_built")
    assert "frame 1" in wrong.detail
    assert "record 0 (XYZ) of its 1 cannot be read" in wrong.detail
    assert "tables/options 2026-01-05; quarantine/options 2026-01-05 made of it" in wrong.detail
    assert unbuilt.path == "quarantine/options/session_date=2026-01-06/_manifest.json"
