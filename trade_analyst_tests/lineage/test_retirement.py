"""Captures leave the archive only when a copy is proven to hold them, or when that they are lost was said twice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time
from pathlib import Path

import pytest
from small_captures import CREATED, MONDAY, TUESDAY, WEDNESDAY, Captures, statuses, verified

from trade_analyst_pipeline.capture.gaps import Ledger
from trade_analyst_pipeline.capture.symbol_life import sightings
from trade_analyst_pipeline.cli.verify import find
from trade_analyst_pipeline.errors import (
    ArchiveCopyError,
    CaptureDamagedError,
    CaptureRetiredError,
    RetirementRefusedError,
)
from trade_analyst_pipeline.lineage.chain import Scope
from trade_analyst_pipeline.lineage.rebuild import rebuild
from trade_analyst_pipeline.lineage.retirement import Retirement, confirm_retirement, plan_retirement
from trade_analyst_pipeline.lineage.tables import build_tables, missing_sessions
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.compaction import compact_captures
from trade_analyst_pipeline.storage.copy_in import import_copy
from trade_analyst_pipeline.storage.copy_out import export_copy
from trade_analyst_pipeline.storage.flaws import Away
from trade_analyst_pipeline.storage.retiring import retire
from trade_analyst_pipeline.storage.tables import TableStore

LATER = datetime(2026, 3, 2, 15, tzinfo=UTC)
MORNING, NOON, CLOSING = time(15), time(17), time(20, 55)


@pytest.fixture
def old(captures: Captures, old_once: Path) -> Path:
    """A data folder with three snapshots of chains, quotes and bars in each of three sessions, all of it in tables."""
    return shutil.copytree(old_once, captures.folder.resolve())


@pytest.fixture(scope="module")
def old_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each `old` is a copy of."""
    captures = Captures(tmp_path_factory.mktemp("old"))
    for day in (MONDAY, TUESDAY, WEDNESDAY):
        for at in (MORNING, NOON, CLOSING):
            captures.chain(day, at=at)
        captures.quotes(4, day=day)
        captures.bars(day, {day: 100.0})
    list(rebuild(captures.folder, datasets=["options", "quotes", "ohlc"], workers=1, created_time=CREATED))
    return captures.folder


@pytest.fixture
def copy(old: Path, tmp_path: Path) -> Path:
    """A copy of all of it."""
    copied(old, tmp_path / "copy")
    return tmp_path / "copy"


def copied(folder: Path, place: Path) -> None:
    """Add all captures of a data folder to a copy."""
    whole = {"environment": "simulate", "wanted": lambda *_: True}
    list(export_copy(folder, place, created_time=CREATED, **whole))


def planned(folder: Path, copy: Path | None, **changes: object) -> Retirement:
    """What of the chains would leave of the first two sessions."""
    values: dict[str, object] = {
        "environment": "simulate",
        "before": WEDNESDAY,
        "held_in": copy,
        "datasets": ["options"],
        "now": LATER,
    }
    return plan_retirement(folder, **(values | changes))


def names(leaving: object) -> list[str]:
    """The files of captures, without the folders they all lie in."""
    return [each.file.name.removeprefix("raw/options/session_date=") for each in leaving]


def raw_files(folder: Path) -> dict[str, bytes]:
    """Every file of the archive and its bytes."""
    return {str(path): path.read_bytes() for path in sorted((folder / "raw").rglob("*")) if path.is_file()}


def hashes(folder: Path) -> dict[str, str]:
    """The content hashes of tables and metrics."""
    store = TableStore(folder)
    return {
        f"{stage}/{name}": store.combined_hash(stage, name)
        for stage, of in (("tables", ("options", "quotes", "ohlc")), ("metrics", ("iv_history", "put_call_ratio")))
        for name in of
    }


def ledger(folder: Path) -> list[object]:
    """All that the ledger of gaps says of the chains."""
    found = Ledger(Archive(folder / "raw"), now=LATER, goes_back=False)
    return [line for day in (MONDAY, TUESDAY) for line in found.lines("options", day)]


NOT_CLOSING = [
    f"{day}/{day:%Y%m%d}T{at:%H%M%S}000000Z-options-0000.raw" for day in (MONDAY, TUESDAY) for at in (MORNING, NOON)
]


def test_what_a_copy_holds_leaves_when_it_is_told_twice(old: Path, copy: Path) -> None:
    """The first telling changes nothing; the second takes the bytes away, and closing snapshots stay."""
    before, present = hashes(old), raw_files(old)
    first = planned(old, copy)
    assert (names(first.held), names(first.unheld)) == (NOT_CLOSING, [])
    assert {each.reason for each in first.staying} == {"it has a closing snapshot"}
    assert raw_files(old) == present
    left = confirm_retirement(old, planned(old, copy), code=first.code, may_lose=False, now=LATER)
    assert names(left) == NOT_CLOSING
    assert not any((old / each.file.name).exists() for each in left)
    assert hashes(old) == before
    assert planned(old, copy).held == ()
    looked, flaws = find(old, Scope(), 1, against_sources=True)
    assert flaws == []
    assert sorted(looked.retired) == [Away(each.file.name, str(copy.resolve())) for each in left]


def test_what_is_known_of_a_retired_capture_stays(old: Path, copy: Path, become: Callable[[str], None]) -> None:
    """Ledger of gaps, listing and chain say the same; only its bodies cannot be read, and the message says where."""
    archive = Archive(old / "raw")
    said = ledger(old), [replace(each, path=old, stored_bytes=0) for each in archive.captures("options", MONDAY)]
    indexes = [archive.index(each) for each in archive.captures("options", MONDAY)]
    retire_all(old, copy)
    archive = Archive(old / "raw")
    now = archive.captures("options", MONDAY)
    assert said == (ledger(old), [replace(each, path=old, stored_bytes=0) for each in now])
    assert [archive.index(each) for each in now] == indexes
    assert [each.is_retired for each in now] == [True, True, False]
    where = rf"retired on 2026-03-02; bring it back by `trade-analyst archive import {copy.resolve()} --from 2026-01-05"
    with pytest.raises(CaptureRetiredError, match=where):
        list(archive.responses(now[0]))
    with pytest.raises(CaptureRetiredError, match=where):
        archive.response(now[0], indexes[0][0])
    become("9.9.9")
    assert missing_sessions(old, "options", [MONDAY, TUESDAY]) == {}
    built = list(build_tables(old, "options", [MONDAY, TUESDAY], workers=1, created_time=LATER))
    assert statuses(built) == {MONDAY: "unchanged", TUESDAY: "unchanged"}
    assert [each.rows for each in built] == [12, 12]


def retire_all(folder: Path, copy: Path | None, **changes: object) -> Retirement:
    """Tell it twice."""
    first = planned(folder, copy, **changes)
    confirm_retirement(folder, first, code=first.code, may_lose=copy is None, now=LATER)
    return first


def test_a_rebuild_refuses_and_goes_on_once_they_are_back(old: Path, copy: Path) -> None:
    """Each session with a retired capture fails by name and keeps its rows; imported, all is made equal again."""
    before, present = hashes(old), raw_files(old)
    retire_all(old, copy)
    made = list(rebuild(old, datasets=["options"], workers=1, created_time=LATER, full=True))
    assert statuses(made[:3]) == {MONDAY: "failed", TUESDAY: "failed", WEDNESDAY: "built"}
    assert "bring it back by `trade-analyst archive import" in made[0].detail
    assert hashes(old) == before
    whole = {"environment": "simulate", "wanted": lambda *_: True}
    found = list(import_copy(old, copy, now=LATER.timestamp(), **whole))
    assert sum(each.outcome == "copied" for each in found) == 4
    assert raw_files(old) == present
    assert statuses(list(rebuild(old, datasets=["options"], workers=1, created_time=LATER, full=True))[:3]) == {
        MONDAY: "built",
        TUESDAY: "built",
        WEDNESDAY: "built",
    }
    assert hashes(old) == before
    assert verified(old) == []


def test_a_rebuild_for_other_code_refuses_what_it_cannot_make(
    old: Path, copy: Path, become: Callable[[str], None]
) -> None:
    """Sessions left with rows of other code fail by name, so that none is taken for rebuilt, and keep their rows."""
    before = hashes(old)
    retire_all(old, copy)
    become("9.9.9")
    made = list(rebuild(old, datasets=["options"], workers=1, created_time=LATER))
    assert statuses(made[:3]) == {MONDAY: "failed", TUESDAY: "failed", WEDNESDAY: "built"}
    assert "bring it back by `trade-analyst archive import" in made[0].detail
    assert hashes(old) == before


@pytest.mark.parametrize(
    "spoil", ["a byte changed", "cut", "gone", "never exported", "a hard link", "not in the manifest"]
)
def test_what_the_copy_does_not_hold_now_is_named_and_stays(spoil: str, old: Path, copy: Path, tmp_path: Path) -> None:
    """The manifest of the copy is not believed: each file in it is read for the retirement."""
    name = f"raw/options/session_date={NOT_CLOSING[1]}"
    file = copy / name
    if spoil == "a byte changed":
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif spoil == "cut":
        os.truncate(file, file.stat().st_size - 1)
    elif spoil == "gone":
        file.unlink()
    elif spoil == "a hard link":
        file.unlink()
        file.hardlink_to(old / name)
    else:
        aside = (old / name).rename(tmp_path / "aside")
        shutil.rmtree(copy)
        copied(old, copy)
        aside.rename(old / name)
        if spoil == "not in the manifest":
            shutil.copy(old / name, file)
    present, found = raw_files(old), planned(old, copy)
    assert names(found.unheld) == [NOT_CLOSING[1]]
    assert names(found.held) == [NOT_CLOSING[number] for number in (0, 2, 3)]
    with pytest.raises(RetirementRefusedError, match="are held nowhere else, such as"):
        confirm_retirement(old, found, code=found.code, may_lose=False, now=LATER)
    assert raw_files(old) == present


def test_control_all_leave_from_the_same_folder_when_the_copy_is_whole(old: Path, copy: Path) -> None:
    """Nothing but what was spoilt above keeps them."""
    assert names(retire_all(old, copy).held) == NOT_CLOSING


def test_a_changed_list_makes_the_code_void(old: Path, copy: Path, captures: Captures) -> None:
    """Another date, dataset, copy or state of it, or one capture more: the code of the first telling is refused."""
    code = planned(old, copy).code
    shutil.copytree(copy, other := copy.with_name("other"))
    captures.chain(MONDAY, at=time(18))
    list(rebuild(old, datasets=["options"], workers=1, created_time=CREATED))
    lists = [
        planned(old, copy),
        planned(old, copy, before=TUESDAY),
        planned(old, copy, with_closing=True),
        planned(old, copy, datasets=["options", "quotes"], with_closing=True),
        planned(old, other),
        planned(old, None),
    ]
    present = raw_files(old)
    assert len({code, *(each.code for each in lists)}) == 7
    for each in lists:
        with pytest.raises(RetirementRefusedError, match=f"the code {code} is not that of"):
            confirm_retirement(old, each, code=code, may_lose=True, now=LATER)
    assert raw_files(old) == present


def test_what_nothing_holds_is_lost_only_when_that_is_told_twice(old: Path) -> None:
    """Without leave to lose, the code alone does nothing; with both it goes, and its record says so."""
    first = planned(old, None)
    assert (names(first.unheld), first.held) == (NOT_CLOSING, ())
    present = raw_files(old)
    with pytest.raises(RetirementRefusedError, match="are held nowhere else"):
        confirm_retirement(old, first, code=first.code, may_lose=False, now=LATER)
    with pytest.raises(RetirementRefusedError, match="is not that of"):
        confirm_retirement(old, first, code="", may_lose=True, now=LATER)
    assert raw_files(old) == present
    confirm_retirement(old, planned(old, None), code=first.code, may_lose=True, now=LATER)
    archive = Archive(old / "raw")
    with pytest.raises(CaptureRetiredError, match="nothing else held it, so nothing brings it back"):
        archive.verify(archive.captures("options", MONDAY)[0])
    looked, flaws = find(old, Scope(), 1)
    assert (flaws, {each.held_in for each in looked.retired}) == ([], {None})


def test_closing_snapshots_leave_only_when_asked_for(old: Path, copy: Path) -> None:
    """With leave all of the sessions go; without, a session of one snapshot keeps that, whatever its time."""
    assert len(planned(old, copy, with_closing=True).held) == 6
    assert planned(old, copy, datasets=["quotes"]).held == ()
    assert len(planned(old, copy, datasets=["quotes"], with_closing=True).held) == 2


def test_a_partial_chain_is_no_closing_snapshot(captures: Captures, tmp_path: Path) -> None:
    """The last whole chain before the close stays, though shorter ones came after it."""
    captures.chain(MONDAY, at=NOON)
    short = captures.chain(MONDAY, at=CLOSING, change=lambda body: body.update(numberOfContracts=9))
    captures.chain(MONDAY, at=time(22))
    list(rebuild(captures.folder, datasets=["options"], workers=1, created_time=CREATED))
    folder = captures.folder.resolve()
    copied(folder, tmp_path / "copy")
    found = planned(folder, tmp_path / "copy")
    assert short.path.name in {Path(each.file.name).name for each in found.held}
    assert [each.name.rpartition("/")[2][9:15] for each in found.staying] == ["170000"]


def test_what_is_in_no_table_or_damaged_stays(old: Path, captures: Captures, tmp_path: Path) -> None:
    """A capture not built yet, and each session with damage, are told with the reason."""
    captures.chain(MONDAY, at=time(18))
    captures.damage(captures.chain(TUESDAY, at=time(18)))
    copied(old, tmp_path / "copy")
    found = planned(old, tmp_path / "copy", with_closing=True)
    assert len(found.held) == 6
    reasons = {each.name.rpartition("/")[2]: each.reason for each in found.staying}
    assert reasons["20260105T180000000000Z-options-0000"].startswith("it is in no table yet")
    list(rebuild(old, datasets=["options"], workers=1, created_time=CREATED))
    (path,) = (old / "raw/options").rglob("20260105T180000*.raw")
    path.write_bytes(path.read_bytes()[:-1])
    found = planned(old, tmp_path / "copy", with_closing=True)
    assert {each.file.session_date for each in found.held} == {TUESDAY}
    assert [each.reason[:13] for each in found.staying if MONDAY.isoformat() in each.name] == ["it is damaged"]


def test_what_must_stay_is_refused(old: Path, copy: Path) -> None:
    """The latest ten sessions, captures that feed many sessions, a copy of another environment."""
    with pytest.raises(RetirementRefusedError, match="the latest date that can be given is 2026-02-13"):
        planned(old, copy, before=date(2026, 2, 14))
    planned(old, copy, before=date(2026, 2, 13))
    for name in ("ohlc", "markets", "plan"):
        with pytest.raises(RetirementRefusedError, match=f"captures of {name} stay"):
            planned(old, copy, datasets=[name])
    with pytest.raises(ArchiveCopyError, match="this is `live`"):
        planned(old, copy, environment="live")


@pytest.mark.parametrize("with_closing", [False, True])
def test_captures_leave_a_pack_too(old: Path, copy: Path, with_closing: bool) -> None:
    """Those that stay are as they were, in the pack or out of it, and all is well."""
    for day in (MONDAY, TUESDAY):
        compact_captures(old, "options", day, now=LATER.timestamp())
    archive = Archive(old / "raw")
    stays = archive.captures("options", MONDAY)[-1]
    content = b"".join(archive.content(stays))
    before = hashes(old)
    assert len(retire_all(old, copy, with_closing=with_closing).held) == (6 if with_closing else 4)
    archive = Archive(old / "raw")
    assert [each.is_retired for each in archive.captures("options", MONDAY)] == [True, True, with_closing]
    if not with_closing:
        assert b"".join(archive.content(archive.find("options", stays.capture_id))) == content
    assert verified(old) == []
    assert hashes(old) == before
    whole = {"environment": "simulate", "wanted": lambda *_: True}
    list(import_copy(old, copy, now=LATER.timestamp(), **whole))
    compact_captures(old, "options", MONDAY, now=LATER.timestamp())
    list(rebuild(old, datasets=["options"], workers=1, created_time=LATER, full=True))
    assert (hashes(old), verified(old)) == (before, [])


def test_a_compacted_archive_is_copied_and_taken_in_as_any_other(old: Path, copy: Path) -> None:
    """A copy of a pack is that of its captures; what is in a pack here is held."""
    for day in (MONDAY, TUESDAY, WEDNESDAY):
        compact_captures(old, "options", day, now=LATER.timestamp())
    whole = {"environment": "simulate", "wanted": lambda *_: True}
    again = list(export_copy(old, copy, created_time=CREATED, **whole))
    assert {each.outcome for each in again} == {"held"}
    there = list(import_copy(old, copy, now=LATER.timestamp(), **whole))
    assert {each.outcome for each in there} == {"held"}
    assert [path.name for path in (old / "raw/options").rglob("*.*")] == ["captures.pack"] * 3


def test_a_new_capture_never_takes_the_id_of_a_retired_one(old: Path, copy: Path, captures: Captures) -> None:
    """An attempt at the same scheduled time has the next number."""
    retire_all(old, copy)
    assert captures.chain(MONDAY, at=MORNING).capture_id.endswith("options-0001")


def test_a_capture_new_in_a_session_with_retired_ones_is_missing_from_the_table(
    old: Path, copy: Path, captures: Captures
) -> None:
    """It can be in no table until they are back: the session is not complete, and says what to import."""
    retire_all(old, copy)
    assert missing_sessions(old, "options", [MONDAY]) == {}
    captures.chain(MONDAY, at=time(18))
    built = list(build_tables(old, "options", [MONDAY], workers=1, created_time=LATER))
    assert statuses(built) == {MONDAY: "failed"}
    assert "archive import" in missing_sessions(old, "options", [MONDAY])[MONDAY]
    list(import_copy(old, copy, now=LATER.timestamp(), environment="simulate", wanted=lambda *_: True))
    list(build_tables(old, "options", [MONDAY], workers=1, created_time=LATER))
    assert missing_sessions(old, "options", [MONDAY]) == {}


def test_other_bytes_do_not_come_back_for_a_retired_capture(old: Path, copy: Path, tmp_path: Path) -> None:
    """They are refused by name, and the record stays."""
    retire_all(old, copy)
    other = Captures(tmp_path / "other")
    other.chain(MONDAY, at=MORNING, change=lambda body: body.update(interestRate=1.0))
    copied(other.folder, tmp_path / "wrong")
    whole = {"environment": "simulate", "wanted": lambda *_: True}
    (found,) = import_copy(old, tmp_path / "wrong", now=LATER.timestamp(), **whole)
    assert found.outcome == "refused"
    assert Archive(old / "raw").captures("options", MONDAY)[0].is_retired


def test_a_damaged_record_is_told(old: Path, copy: Path) -> None:
    """Of each of some changed bytes, with what to do; beside its capture a record is a stray."""
    retire_all(old, copy)
    record = min((old / "raw").rglob("*.retired"))
    content = record.read_bytes()
    for place in (0, 9, 30, len(content) // 2, len(content) - 20, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        record.write_bytes(changed)
        wrong = [flaw for flaw in verified(old) if flaw.kind == "damaged"]
        assert [flaw.path for flaw in wrong] == [record.relative_to(old).as_posix()]
        assert "Import the capture from the copy again" in wrong[0].detail
        with pytest.raises(CaptureDamagedError):
            Archive(old / "raw").captures("options", MONDAY)
    record.write_bytes(content)
    back = record.with_suffix(".raw")
    shutil.copy(copy / back.relative_to(old), back)
    assert [(flaw.path, flaw.kind) for flaw in verified(old)] == [(record.relative_to(old).as_posix(), "orphan")]


def test_of_retired_quotes_no_life_of_a_symbol_is_read(old: Path, copy: Path) -> None:
    """What sessions saw of symbols is told from the captures that are here."""
    assert [each.session_date for each in sightings(Archive(old / "raw")) if each.known] == [MONDAY, TUESDAY, WEDNESDAY]
    retire_all(old, copy, datasets=["quotes"], with_closing=True)
    assert [each.session_date for each in sightings(Archive(old / "raw")) if each.known] == [WEDNESDAY]


def test_a_session_with_retired_captures_is_compacted(captures: Captures) -> None:
    """What is here of it goes into one file; the records of the others stay beside it."""
    for at in (MORNING, NOON, time(18), CLOSING):
        captures.chain(MONDAY, at=at)
    list(rebuild(captures.folder, datasets=["options"], workers=1, created_time=CREATED))
    folder = captures.folder.resolve()
    first = planned(folder, None)
    retire(folder, first.unheld[:2], retired_time=LATER)
    done = compact_captures(folder, "options", MONDAY, now=LATER.timestamp())
    assert (done.problem, done.after.files) == ("", 1)
    assert [each.is_retired for each in Archive(folder / "raw").captures("options", MONDAY)] == [
        True,
        True,
        False,
        False,
    ]
