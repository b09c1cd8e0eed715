"""Disks that fail: every system call of a save killed or refused, full and read-only disks, and power cuts.

Needs strace, root, or a loop device; each harness names what is missing.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import itertools
import os
import random
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from token_scenes import grant, process_context, stale, store_at
from token_workers import renew_until_the_power_goes, renew_when_told

from trade_analyst_pipeline.errors import AuthError, AuthUnavailableError
from trade_analyst_pipeline.schwab.token_records import TokenGrant

pytestmark = [pytest.mark.slow, pytest.mark.full_only]

CHANGING = ("openat", "fallocate", "fsync", "ftruncate", "pwrite64", "write", "rename", "unlink")
LOOKING = ("read", "newfstatat", "close", "flock")
FAILURES = ("ENOSPC", "EIO", "EROFS", "EDQUOT")
TYPED = {"AuthUnavailableError", "TokenStoreError"}
SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, the same in XFS: the file system stops as if the power had gone


def run(*command: str) -> None:
    """Run a program of the system; its failure fails the test."""
    subprocess.run(command, check=True, capture_output=True)


# --- every system call


class Traced:
    """One renewal in a process of its own, with strace in front of the kernel."""

    def __init__(self, folder: Path, *strace: str, in_place: bool = False) -> None:
        self.folder = folder
        store_at(folder).save_login(grant(refresh="refresh-1"))
        context: Any = process_context(is_full=False)
        ours, theirs = context.Pipe()
        process = context.Process(target=renew_when_told, args=(str(folder), theirs, in_place))
        process.start()
        theirs.close()
        assert ours.recv() == "ready"
        command = ["strace", "-p", str(process.pid), "-o", str(folder / "trace"), *strace]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            said = tracer.stderr.readline()
            if "attached" not in said:
                process.kill()
                pytest.skip(f"NOT RUN: strace may not look into a process here ({said.strip()})")
            ours.send("go")
            process.join(60)
            process.kill()
            process.join()
            tracer.wait(60)
        self.outcome, self.asked = "killed", 0
        with contextlib.suppress(EOFError, ConnectionResetError):
            self.outcome, self.asked = ours.recv()

    def calls(self) -> dict[str, int]:
        """How often each call was made, by name."""
        lines = (self.folder / "trace").read_text().splitlines()
        return collections.Counter(name[1] for line in lines if (name := re.match(r"(\w+)\(", line)))

    def generation(self) -> int | None:
        """That of the record on disk; None where there is none that can be read."""
        try:
            return store_at(self.folder).load().generation
        except AuthError:
            return None


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """The calls of one whole renewal."""
    if shutil.which("strace") is None:
        pytest.skip("NOT RUN: strace is not installed")
    whole = Traced(tmp_path_factory.mktemp("whole"), "-e", f"trace={','.join((*CHANGING, *LOOKING))}")
    assert (whole.outcome, whole.generation()) == ("saved", 2)
    return whole.calls()


def test_killed_at_every_system_call_the_record_is_the_old_or_the_new_one(
    counted: dict[str, int], tmp_path: Path
) -> None:
    """Before each call of each kind: readable, never neither; what was acknowledged is there; renewals go on."""
    points = [(name, number) for name in (*CHANGING, *LOOKING) for number in range(1, counted[name] + 1)]
    outcomes: collections.Counter[str] = collections.Counter()
    for name, number in points:
        traced = Traced(tmp_path / f"{name}-{number}", "-e", f"inject={name}:signal=KILL:when={number}")
        generation = traced.generation()
        assert generation in (1, 2), (name, number)
        assert generation == 2 or traced.outcome == "killed", (name, number)
        outcomes[f"generation {generation}"] += 1
        renewed = store_at(traced.folder).renew(is_good=lambda each: each.generation > 1, refresh=lambda _: grant("n"))
        assert renewed.generation == 2
    print(f"TOK-5: killed at each of {len(points)} calls ({', '.join(counted)}): {dict(outcomes)}, 0 unreadable")
    assert len(points) >= 30
    assert sorted(outcomes) == ["generation 1", "generation 2"]


def test_control_a_writer_in_place_is_caught_at_some_call(counted: dict[str, int], tmp_path: Path) -> None:
    """The kills are able to do harm: a writer in place leaves an unreadable file at one of its calls."""
    assert counted
    unreadable = 0
    for number in range(1, 5):
        arguments = ("-e", f"inject=write:signal=KILL:when={number}")
        unreadable += Traced(tmp_path / str(number), *arguments, in_place=True).generation() is None
    assert unreadable > 0


def test_every_refused_system_call_is_a_clear_error(counted: dict[str, int], tmp_path: Path) -> None:
    """Full disk, quota, broken or read-only disk at each call: an error of ours or none, the record whole."""
    outcomes: collections.Counter[str] = collections.Counter()
    points = [(name, number) for name in (*CHANGING, "read") for number in range(1, counted[name] + 1)]
    own = counted["read"] - 1, counted["write"]  # the harness's own: being told to go, and telling how it ended
    for (name, number), error in itertools.product(points, FAILURES):
        if (name == "read" and number != own[0] + 1) or (name == "write" and number == own[1]):
            continue
        folder = tmp_path / f"{name}-{number}-{error}"
        traced = Traced(folder, "-e", f"inject={name}:error={error}:when={number}")
        assert traced.outcome in TYPED | {"saved"}, (name, number, error)
        generation = traced.generation()
        assert generation in (1, 2), (name, number, error)
        assert generation == 2 or traced.outcome != "saved", (name, number, error)
        if name == "fallocate" or (name == "fsync" and number == 1):
            assert (traced.outcome, traced.asked) == ("AuthUnavailableError", 0), (name, number, error)
        outcomes[f"{traced.outcome}, {traced.asked} asked"] += 1
        renewed = store_at(folder).renew(is_good=lambda each: each.generation > 1, refresh=lambda _: grant("n"))
        assert renewed.generation == 2
    print(f"TOK-6: {sum(outcomes.values())} refused calls: {dict(outcomes)}")


# --- full and read-only disks


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A file system on this folder."""
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("NOT RUN: mounting needs root")
    try:
        run("mount", *options, str(folder))
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        pytest.skip(f"NOT RUN: nothing can be mounted here ({error})")
    try:
        yield folder
    finally:
        run("umount", str(folder))


def fill(folder: Path) -> None:
    """Leave no room at all."""
    with (folder / "ballast").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 512):
            pass


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """Full before: no request. Full between the request and the answer: the rotated token is saved all the same."""
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=400k", "tmpfs") as disk:
        store = store_at(disk)
        store.save_login(grant())
        asked: list[int] = []

        def refresh(_: object) -> TokenGrant:
            asked.append(1)
            fill(disk)
            return grant("second", refresh="refresh-2")

        fill(disk)
        with pytest.raises(AuthUnavailableError, match="Free some space"):
            store.renew(is_good=stale, refresh=refresh)
        assert (asked, store_at(disk).load().generation) == ([], 1)
        (disk / "ballast").unlink()
        store.renew(is_good=stale, refresh=refresh)
        found = store_at(disk).load()
        print("TOK-6: 400 KiB tmpfs: full before: 0 requests; full in between: saved")
        assert (found.generation, found.refresh_token.get_secret_value()) == (2, "refresh-2")
        with pytest.raises(OSError, match="No space left"):
            ask_then_write(disk, lambda: refresh(None))


def ask_then_write(disk: Path, refresh: Callable[[], TokenGrant]) -> None:
    """The known-bad order: the source is asked, and only then is room looked for."""
    (disk / "ballast").unlink()
    answer = refresh()
    (disk / "plain").write_bytes(answer.access_token.get_secret_value().encode() * 100)


def test_a_read_only_disk_still_serves(tmp_path: Path) -> None:
    """The stored token is read, a renewal is a clear error without request, and afterwards all goes on."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=400k", "tmpfs") as disk:
        store_at(disk).save_login(grant())
        run("mount", "-o", "remount,ro", str(disk))
        asked: list[int] = []
        with pytest.raises(AuthUnavailableError, match="Read-only file system"):
            store_at(disk).renew(is_good=stale, refresh=lambda _: asked.append(1) or grant("second"))  # type: ignore[func-returns-value]
        assert (asked, store_at(disk).load().generation) == ([], 1)
        run("mount", "-o", "remount,rw", str(disk))
        assert store_at(disk).renew(is_good=stale, refresh=lambda _: grant("second")).generation == 2


# --- power cuts


class Disk:
    """An ext4 file system in a file, whose power can be cut."""

    def __init__(self, folder: Path) -> None:
        self.image, self.folder = folder / "image", folder / "disk"
        with self.image.open("wb") as file:
            file.truncate(16 << 20)
        run("mkfs.ext4", "-q", "-F", str(self.image))

    def cut(self, seconds: float, mode: int, *, is_durable: bool) -> tuple[int, int | None]:
        """Renew for so long, cut the power, mount again: the last generation acknowledged, and the one found."""
        context: Any = process_context(is_full=False)
        with self.mounted():
            if not (self.folder / "private").exists():
                store_at(self.folder).save_login(grant())
                os.sync()
            acknowledged = store_at(self.folder).load().generation
            ours, theirs = context.Pipe()
            arguments = (str(self.folder), theirs, is_durable)
            process = context.Process(target=renew_until_the_power_goes, args=arguments)
            process.start()
            theirs.close()
            acknowledged = ours.recv()
            process.join(seconds)
            while ours.poll():
                acknowledged = ours.recv()
            self._cut_power(mode)
            process.kill()
            process.join()
        with self.mounted():
            try:
                return acknowledged, store_at(self.folder).load().generation
            except AuthError:
                return acknowledged, None

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """The file system in place."""
        self.folder.mkdir(exist_ok=True)
        run("mount", "-o", "loop", str(self.image), str(self.folder))
        try:
            yield
        finally:
            run("umount", str(self.folder))

    def _cut_power(self, mode: int) -> None:
        """Mode 1 writes the journal out first, mode 2 writes nothing."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", mode))
        finally:
            os.close(descriptor)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """A disk of the test's own."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("NOT RUN: a file system of the test's own needs root and mkfs.ext4")
    try:
        disk = Disk(tmp_path)
        with disk.mounted():
            pass
    except subprocess.CalledProcessError as error:
        pytest.skip(f"NOT RUN: no loop device here ({error})")
    return disk


@pytest.mark.parametrize("mode", [1, 2])
def test_power_cuts_lose_nothing_that_was_acknowledged(disk: Disk, harness_seed: int, mode: int) -> None:
    """75 cuts amid renewals: readable after each, and never older than what had been called saved."""
    rng = random.Random(harness_seed)  # noqa: S311 - seeded moments
    found = [disk.cut(rng.uniform(0.01, 0.12), mode, is_durable=True) for _ in range(75)]
    unreadable = sum(generation is None for _, generation in found)
    lost = sum(generation is not None and generation < acknowledged for acknowledged, generation in found)
    print(f"P2: {len(found)} power cuts (mode {mode}): {unreadable} unreadable, {lost} acknowledged and lost")
    assert (unreadable, lost) == (0, 0)


def test_control_without_fsync_power_cuts_lose_logins(disk: Disk) -> None:
    """The cuts are able to do harm: where nothing is forced to the disk, acknowledged records are gone."""
    found = [disk.cut(0.05, 2, is_durable=False) for _ in range(5)]
    assert any(generation is None or generation < acknowledged for acknowledged, generation in found)
