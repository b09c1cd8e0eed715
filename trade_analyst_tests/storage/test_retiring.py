"""Whatever a power cut leaves of a retirement, each capture is there whole, or its record is and says where it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from copied_archives import CREATED, DAYS, export, small_archive
from crash_model import Content, Recorder, State, Step, Synced, states

from trade_analyst_pipeline.errors import CaptureRetiredError, StorageError
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.compaction import compact_captures
from trade_analyst_pipeline.storage.copy_out import Proven, prove
from trade_analyst_pipeline.storage.retiring import Leaving, retire

pytestmark = pytest.mark.reliability

KEPT = 1


def recorded(tmp_path: Path, form: str) -> tuple[Recorder, set[str]]:
    """All captures of quotes of a session but one retired, from files of their own or a pack; the ids there were."""
    root = small_archive(tmp_path / "root", captures=3, body_bytes=30)
    export(root, tmp_path / "copy")
    if form == "pack":
        compact_captures(root, "quotes", DAYS[0], now=CREATED.timestamp())
    archive = Archive(root / "raw")
    ids = archive.capture_ids("quotes", DAYS[0])
    proven = [prove(archive, root, "quotes", DAYS[0], each) for each in ids[KEPT:]]
    leaving = [Leaving(each.capture, each.file, "copy") for each in proven if isinstance(each, Proven)]
    assert len(leaving) == 2
    with Recorder(root) as recorder:
        retire(root, leaving, retired_time=CREATED)
        recorder.told("retired")
    return recorder, set(ids)


def is_well(state: State, place: Path, ids: set[str]) -> bool:
    """Each capture is whole, or is a record that says where it is held; all that was told as retired is."""
    state.make(place)
    archive = Archive(place / "raw")
    try:
        captures = archive.captures("quotes", DAYS[0])
        for capture in captures:
            try:
                archive.verify(capture)
            except CaptureRetiredError as error:
                if "archive import copy" not in str(error):
                    return False
    except StorageError:
        return False
    retired = [capture for capture in captures if capture.is_retired]
    return {capture.capture_id for capture in captures} == ids and (not state.told or len(retired) == len(ids) - KEPT)


@pytest.mark.parametrize("form", ["files", "pack"])
def test_every_state_after_a_power_cut_keeps_each_capture(form: str, tmp_path: Path) -> None:
    """0 captures that are neither here nor on record, and 0 records that a reader would take for the capture."""
    recorder, ids = recorded(tmp_path, form)
    found = [is_well(state, tmp_path / str(number), ids) for number, state in enumerate(states(recorder))]
    print(f"retired from {form}: {len(recorder.steps)} steps, {len(found)} states, {found.count(False)} bad")
    assert len(found) >= 8
    assert all(found)


def test_readers_that_listed_a_pack_before_go_on(tmp_path: Path) -> None:
    """What stays is read as it was, wherever it stands in the pack made anew; what left says that it was retired."""
    root = small_archive(tmp_path / "root", captures=4, body_bytes=30)
    compact_captures(root, "quotes", DAYS[0], now=CREATED.timestamp())
    reader, other = Archive(root / "raw"), Archive(root / "raw")
    captures = reader.captures("quotes", DAYS[0])
    assert len(captures) == 4
    held = [(list(other.responses(each)), b"".join(other.content(each)), other.index(each)) for each in captures]
    gone = prove(other, root, "quotes", DAYS[0], captures[0].capture_id)
    assert isinstance(gone, Proven)
    retire(root, [Leaving(gone.capture, gone.file, "copy")], retired_time=CREATED)
    kept = captures[1:]
    assert [each.offset for each in Archive(root / "raw").captures("quotes", DAYS[0])[1:]] != [
        each.offset for each in kept
    ]
    assert [
        (list(reader.responses(each)), b"".join(reader.content(each)), reader.index(each)) for each in kept
    ] == held[1:]
    with pytest.raises(CaptureRetiredError):
        reader.verify(captures[0])


@pytest.mark.parametrize("careless", ["files", "folders"])
def test_control_records_that_are_not_synced_lose_captures(careless: str, tmp_path: Path) -> None:
    """Where records do not reach the disk before the bytes go, some state has neither."""
    recorder, ids = recorded(tmp_path, "files")
    steps: Sequence[Step] = recorder.steps
    files = {step.inode for step in steps if isinstance(step, Content)} | set(recorder.before.files)
    is_careless = {"files": lambda step: step.inode in files, "folders": lambda step: step.inode not in files}[careless]
    spoiled = [step for step in steps if not (isinstance(step, Synced) and is_careless(step))]
    assert len(spoiled) < len(steps)
    found = enumerate(states(recorder, spoiled))
    assert not all(is_well(state, tmp_path / str(number), ids) for number, state in found)
