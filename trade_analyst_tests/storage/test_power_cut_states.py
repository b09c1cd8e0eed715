"""P8: whatever a power cut leaves, stored things are whole and what was acknowledged is there.

All states that POSIX allows are enumerated from what the writers really do (`crash_model.py`); the controls change the
recorded steps as a careless writer would make them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from crash_model import Content, Entry, Recorder, State, Step, Synced, states
from storage_workers import KINDS

from trade_analyst_pipeline.errors import StorageError

pytestmark = pytest.mark.reliability

Steps = list[Step]


def recorded(kind: str, root: Path) -> Recorder:
    """Three generations written, one after the other, from nothing."""
    root.mkdir()
    with Recorder(root) as recorder:
        for number in (1, 2, 3):
            KINDS[kind][0](root, number)
            recorder.told(number)
    return recorder


def is_well(kind: str, state: State, place: Path) -> bool:
    """Readable, not older than acknowledged, and the next generation goes through."""
    write, read = KINDS[kind]
    state.make(place)
    try:
        found = read(place)
        write(place, found + 1)
    except StorageError:
        return False
    return found >= (state.told or 0) and read(place) == found + 1


@pytest.mark.parametrize("kind", ["partition", "archive", "import", "compaction"])
def test_every_state_after_a_power_cut_is_whole(kind: str, tmp_path: Path) -> None:
    """Each state that a cut at any moment can leave: 0 unreadable, 0 acknowledged and lost."""
    recorder = recorded(kind, tmp_path / "root")
    wells = [is_well(kind, state, tmp_path / str(number)) for number, state in enumerate(states(recorder))]
    print(f"P8 {kind}: {len(recorder.steps)} steps, {len(wells)} states after a power cut, {wells.count(False)} bad")
    assert len(wells) >= 15
    assert all(wells)


FOLDERS = {
    "partition": ("tables", "samples", "session_date=2026-01-05"),
    "archive": ("raw", "options", "session_date=2026-01-05"),
}


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("kind", sorted(FOLDERS))
def test_a_folder_that_another_process_makes_at_the_same_time_is_synced(kind: str, depth: int, tmp_path: Path) -> None:
    """Whoever finds a folder that its maker has not synced yet syncs it before anything in it is acknowledged."""
    folders = [tmp_path.joinpath("root", *FOLDERS[kind][:number]) for number in range(len(FOLDERS[kind]) + 1)]
    for folder in folders[: depth + 1]:
        folder.mkdir()
    with Recorder(folders[0]) as recorder:
        folders[depth + 1].mkdir()  # as the other process does it, up to its sync
        KINDS[kind][0](folders[0], 1)
        recorder.told(1)
    wells = [is_well(kind, state, tmp_path / str(number)) for number, state in enumerate(states(recorder))]
    assert len(wells) >= 5
    assert all(wells)


def without_file_syncs(steps: Steps, recorder: Recorder) -> Steps:
    """No content is forced to the disk."""
    files = {step.inode for step in steps if isinstance(step, Content)} | set(recorder.before.files)
    return [step for step in steps if not (isinstance(step, Synced) and step.inode in files)]


def without_folder_syncs(steps: Steps, recorder: Recorder) -> Steps:
    """No entry is forced to the disk."""
    files = {step.inode for step in steps if isinstance(step, Content)} | set(recorder.before.files)
    return [step for step in steps if not (isinstance(step, Synced) and step.inode not in files)]


def removing_first(steps: Steps, _: Recorder) -> Steps:
    """Where a file takes the place of another, the other is removed first."""
    present: set[tuple[int, str]] = set()
    changed: Steps = []
    for step in steps:
        if isinstance(step, Entry):
            over = [
                name for name, inode in step.changed.items() if inode is not None and (step.folder, name) in present
            ]
            changed += [Entry(step.folder, {name: None}) for name in over]
            present |= {(step.folder, name) for name, inode in step.changed.items() if inode is not None}
        changed.append(step)
    return changed


def renaming_before_the_sync(steps: Steps, _: Recorder) -> Steps:
    """Each content is forced to the disk only after its name was changed."""
    changed = list(steps)
    for first, second in itertools.pairwise(range(len(changed))):
        if isinstance(changed[first], Synced) and isinstance(changed[second], Entry):
            changed[first], changed[second] = changed[second], changed[first]
    return changed


def removing_before_the_switch(steps: Steps, _: Recorder) -> Steps:
    """What leaves in favour of a file that comes, leaves first: each removal behind a rename goes before it."""
    changed = list(steps)
    for place, step in enumerate(steps):
        if _is_removal(step):
            last = max((n for n in range(place) if _is_rename(changed[n])), default=None)
            if last is not None:
                changed.insert(last, changed.pop(place))
    return changed


def removing_without_a_sync(steps: Steps, _: Recorder) -> Steps:
    """Between a rename and a removal in its favour the folder is not synced."""
    changed = list(steps)
    for place in range(len(steps) - 2, 0, -1):
        before, step, behind = steps[place - 1 : place + 2]
        if _is_rename(before) and isinstance(step, Synced) and _is_removal(behind):
            del changed[place]
    return changed


def _is_rename(step: Step) -> bool:
    return isinstance(step, Entry) and {None} < {*step.changed.values()}


def _is_removal(step: Step) -> bool:
    return isinstance(step, Entry) and {None} == {*step.changed.values()}


CONTROLS: Sequence[tuple[str, Callable[[Steps, Recorder], Steps]]] = [
    ("partition", without_file_syncs),
    ("partition", without_folder_syncs),
    ("partition", removing_first),
    ("partition", renaming_before_the_sync),
    ("archive", without_file_syncs),
    ("archive", without_folder_syncs),
    ("archive", renaming_before_the_sync),
    ("import", without_file_syncs),
    ("import", without_folder_syncs),
    ("import", renaming_before_the_sync),
    ("compaction", without_file_syncs),
    ("compaction", without_folder_syncs),
    ("compaction", removing_before_the_switch),
    ("compaction", removing_without_a_sync),
]


@pytest.mark.parametrize(("kind", "spoil"), CONTROLS)
def test_control_careless_writers_are_caught(
    kind: str, spoil: Callable[[Steps, Recorder], Steps], tmp_path: Path
) -> None:
    """Some state of each spoiled order of steps is bad."""
    recorder = recorded(kind, tmp_path / "root")
    spoiled = spoil(recorder.steps, recorder)
    assert spoiled != recorder.steps
    found = enumerate(states(recorder, spoiled))
    assert not all(is_well(kind, state, tmp_path / str(number)) for number, state in found)
