"""P8 with the real kernel: writers killed or refused at each system call, small disks, and power cuts.

Full form only; needs strace, root, and a loop device, and names what is missing.
"""

from __future__ import annotations

import collections
import itertools
import multiprocessing
import os
import random
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest
from disk_faults import CHANGING, LOOKING, PowerDisk, calls_in, fill, need_strace, small_disk, traced
from storage_workers import KINDS, write_until_the_power_goes, write_when_told

from trade_analyst_pipeline.errors import DiskFullError, QueryError, StorageError

pytestmark = [pytest.mark.reliability, pytest.mark.slow, pytest.mark.full_only]

FAILURES = ("ENOSPC", "EIO", "EDQUOT")
# What an error of a commit may be: ours, or the system's own with its number.
TYPED = {"done", "DiskFullError", "StorageError", "OSError", *(error.__name__ for error in OSError.__subclasses__())}
TYPED |= {"ArchiveCopyError"}  # the copy to take in cannot be opened
CUTS = 75
LONGEST = {"import": 0.6}  # seconds of writing before a cut: an import writes its copy first, on another disk


def context() -> BaseContext:
    """Children of a server that has the modules loaded."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["storage_workers"])
    return found


class Written:
    """The second generation written over the first, with strace in front of the kernel."""

    def __init__(self, kind: str, root: Path, *strace: str, in_place: bool = False) -> None:
        self.kind, self.root, self.trace = kind, root / "data", root / "trace"
        self.root.mkdir(parents=True)
        KINDS[kind][0](self.root, 1)
        arguments = (kind, str(self.root), 2, in_place)
        self.outcome = traced(context(), write_when_told, arguments, self.trace, *strace) or "killed"

    def generation(self) -> int | None:
        """The one on disk; None where it cannot be read."""
        try:
            return KINDS[self.kind][1](self.root)
        except (StorageError, QueryError):
            return None

    def goes_on(self) -> bool:
        """Whether the next generation can be written and read."""
        following = (self.generation() or 0) + 1
        KINDS[self.kind][0](self.root, following)
        return self.generation() == following


@pytest.fixture(scope="module", params=KINDS)
def counted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, int]]:
    """A kind of write, and the calls of a whole one."""
    need_strace()
    kind = str(request.param)
    calls = f"trace={','.join((*CHANGING, *LOOKING))}"
    whole = Written(kind, tmp_path_factory.mktemp("whole"), "-e", calls)
    assert (whole.outcome, whole.generation()) == ("done", 2)
    return kind, calls_in(whole.trace)


def test_killed_at_every_system_call_all_is_whole(counted: tuple[str, dict[str, int]], tmp_path: Path) -> None:
    """Before each call of each kind: readable, old or new, what was acknowledged is there, and writing goes on."""
    kind, calls = counted
    points = [(name, number) for name in (*CHANGING, *LOOKING) for number in range(1, calls[name] + 1)]
    outcomes: collections.Counter[int] = collections.Counter()
    for name, number in points:
        written = Written(kind, tmp_path / f"{name}-{number}", "-e", f"inject={name}:signal=KILL:when={number}")
        generation = written.generation()
        assert generation in (1, 2), (name, number)
        assert generation == 2 or written.outcome == "killed", (name, number)
        assert written.goes_on(), (name, number)
        outcomes[generation] += 1
    print(f"P8 {kind}: killed at each of {len(points)} calls: {dict(outcomes)}, 0 unreadable, 0 lost")
    assert set(outcomes) == {1, 2}


def test_control_a_writer_in_place_is_caught_at_some_call(tmp_path: Path) -> None:
    """The kills are able to do harm: a writer in place leaves something unreadable at one of its calls."""
    need_strace()
    unreadable = 0
    for number in range(1, 4):
        options = ("-e", f"inject=write:signal=KILL:when={number}")
        unreadable += Written("partition", tmp_path / str(number), *options, in_place=True).generation() is None
    assert unreadable > 0


def test_every_refused_system_call_is_a_typed_error(counted: tuple[str, dict[str, int]], tmp_path: Path) -> None:
    """No space, no quota, a broken disk at each call that changes something: a typed error, all whole, and going on.

    The catalogue's file is written by DuckDB, which ends the process at some errors of its disk: all is whole then too.
    """
    kind, calls = counted
    allowed = TYPED | ({"killed"} if kind == "catalogue" else set())
    outcomes: collections.Counter[str] = collections.Counter()
    points = [(name, number) for name in CHANGING for number in range(1, calls[name] + 1)]
    points.remove(("write", calls["write"]))  # the harness's own: telling how it ended
    for (name, number), error in itertools.product(points, FAILURES):
        written = Written(
            kind, tmp_path / f"{name}-{number}-{error}", "-e", f"inject={name}:error={error}:when={number}"
        )
        assert written.outcome in allowed, (name, number, error)
        generation = written.generation()
        assert generation in (1, 2), (name, number, error, written.outcome)
        assert generation == 2 or written.outcome != "done", (name, number, error)
        assert written.goes_on(), (name, number, error)
        outcomes[written.outcome] += 1
    print(f"P8 {kind}: {sum(outcomes.values())} refused calls: {dict(outcomes)}")
    assert outcomes["DiskFullError"] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_keeps_the_last_state(kind: str, tmp_path: Path) -> None:
    """On a disk without room: DiskFullError, the last generation whole, no leftovers; with room again all goes on."""
    write, read = KINDS[kind]
    with small_disk(tmp_path / "small", "2m") as disk:
        write(disk, 1)
        before = sorted(path.name for path in disk.rglob("*"))
        fill(disk)
        with pytest.raises(DiskFullError, match="Free some space"):
            write(disk, 2)
        (disk / "ballast").unlink()
        assert (read(disk), sorted(path.name for path in disk.rglob("*"))) == (1, before)
        write(disk, 2)
        assert read(disk) == 2


def cut_often(disk: PowerDisk, kind: str, count: int, mode: int, careless: str, seed: int) -> tuple[int, int, int]:
    """Cut the power amid writes, again and again: the last generation told, unreadable states, told and lost."""
    rng = random.Random(seed)  # noqa: S311 - seeded moments
    unreadable = lost = found = 0
    for _ in range(count):
        arguments = (kind, str(disk.folder), found + 1, careless)
        seconds = rng.uniform(0.01, LONGEST.get(kind, 0.12))
        acknowledged = disk.cut(context(), write_until_the_power_goes, arguments, seconds=seconds, mode=mode)
        with disk.mounted() as folder:
            try:
                found = KINDS[kind][1](folder)
            except StorageError:
                unreadable += 1
                for path in sorted(folder.rglob("*"), reverse=True):
                    path.rmdir() if path.is_dir() and path.name != "lost+found" else path.unlink(missing_ok=True)
                found = 0
            else:
                lost += found < acknowledged
            os.sync()
    return acknowledged, unreadable, lost


@pytest.mark.parametrize("journal", ["ordered", "writeback"])
@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("kind", ["partition", "archive", "import", "compaction"])
def test_power_cuts_lose_nothing_that_was_acknowledged(
    kind: str, mode: int, journal: str, tmp_path: Path, harness_seed: int
) -> None:
    """75 cuts amid writes: readable after each, and never older than what had been called done."""
    last, unreadable, lost = cut_often(PowerDisk(tmp_path, journal=journal), kind, CUTS, mode, "", harness_seed)
    print(
        f"P8 {kind}: {CUTS} power cuts (ext4 {journal}, mode {mode}, generation {last} reached): "
        f"{unreadable} unreadable, {lost} acknowledged and lost"
    )
    assert (unreadable, lost) == (0, 0)
    assert last > CUTS


@pytest.mark.parametrize("careless", ["no sync", "no folder sync"])
def test_control_careless_writers_lose_by_power_cuts(careless: str, tmp_path: Path, harness_seed: int) -> None:
    """The cuts are able to do harm: without syncs, or without those of folders, acknowledged writes are gone."""
    _, unreadable, lost = cut_often(PowerDisk(tmp_path), "partition", 15, 2, careless, harness_seed)
    print(f"P8 control {careless}: {unreadable} unreadable, {lost} acknowledged and lost of 15 cuts")
    assert unreadable + lost > 0
