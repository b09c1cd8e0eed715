"""Disks that fail: every system call of a save killed or refused, full and read-only disks, and power cuts.

Needs strace, root, or a loop device; each harness names what is missing.
"""

from __future__ import annotations

import collections
import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from disk_faults import CHANGING, LOOKING, PowerDisk, calls_in, fill, need_strace, run, small_disk, traced
from token_scenes import grant, process_context, stale, store_at
from token_workers import renew_until_the_power_goes, renew_when_told

from trade_analyst_pipeline.errors import AuthError, AuthUnavailableError
from trade_analyst_pipeline.schwab.token_records import TokenGrant

pytestmark = [pytest.mark.slow, pytest.mark.full_only]

FAILURES = ("ENOSPC", "EIO", "EROFS", "EDQUOT")
TYPED = {"AuthUnavailableError", "TokenStoreError"}


# --- every system call


class Traced:
    """One renewal in a process of its own, with strace in front of the kernel."""

    def __init__(self, folder: Path, *strace: str, in_place: bool = False) -> None:
        self.folder, self.trace = folder, folder / "trace"
        store_at(folder).save_login(grant(refresh="refresh-1"))
        arguments = (str(folder), in_place)
        said = traced(process_context(is_full=False), renew_when_told, arguments, self.trace, *strace)
        self.outcome, self.asked = said or ("killed", 0)

    def generation(self) -> int | None:
        """That of the record on disk; None where there is none that can be read."""
        try:
            return store_at(self.folder).load().generation
        except AuthError:
            return None


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """The calls of one whole renewal."""
    need_strace()
    whole = Traced(tmp_path_factory.mktemp("whole"), "-e", f"trace={','.join((*CHANGING, *LOOKING))}")
    assert (whole.outcome, whole.generation()) == ("saved", 2)
    return calls_in(whole.trace)


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


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """Full before: no request. Full between the request and the answer: the rotated token is saved all the same."""
    with small_disk(tmp_path / "small") as disk:
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
    with small_disk(tmp_path / "disk") as disk:
        store_at(disk).save_login(grant())
        run("mount", "-o", "remount,ro", str(disk))
        asked: list[int] = []
        with pytest.raises(AuthUnavailableError, match="Read-only file system"):
            store_at(disk).renew(is_good=stale, refresh=lambda _: asked.append(1) or grant("second"))  # type: ignore[func-returns-value]
        assert (asked, store_at(disk).load().generation) == ([], 1)
        run("mount", "-o", "remount,rw", str(disk))
        assert store_at(disk).renew(is_good=stale, refresh=lambda _: grant("second")).generation == 2


# --- power cuts


def cut(disk: PowerDisk, seconds: float, mode: int, *, is_durable: bool) -> tuple[int, int | None]:
    """Renew for so long, cut the power, mount again: the last generation acknowledged, and the one found."""
    with disk.mounted() as folder:
        if not (folder / "private").exists():
            store_at(folder).save_login(grant())
            os.sync()
    arguments = (str(disk.folder), is_durable)
    context = process_context(is_full=False)
    acknowledged = disk.cut(context, renew_until_the_power_goes, arguments, seconds=seconds, mode=mode)
    with disk.mounted() as folder:
        try:
            return acknowledged, store_at(folder).load().generation
        except AuthError:
            return acknowledged, None


@pytest.fixture
def disk(tmp_path: Path) -> PowerDisk:
    """A disk of the test's own."""
    return PowerDisk(tmp_path)


@pytest.mark.parametrize("mode", [1, 2])
def test_power_cuts_lose_nothing_that_was_acknowledged(disk: PowerDisk, harness_seed: int, mode: int) -> None:
    """75 cuts amid renewals: readable after each, and never older than what had been called saved."""
    rng = random.Random(harness_seed)  # noqa: S311 - seeded moments
    found = [cut(disk, rng.uniform(0.01, 0.12), mode, is_durable=True) for _ in range(75)]
    unreadable = sum(generation is None for _, generation in found)
    lost = sum(generation is not None and generation < acknowledged for acknowledged, generation in found)
    print(f"P2: {len(found)} power cuts (mode {mode}): {unreadable} unreadable, {lost} acknowledged and lost")
    assert (unreadable, lost) == (0, 0)


def test_control_without_fsync_power_cuts_lose_logins(disk: PowerDisk) -> None:
    """The cuts are able to do harm: where nothing is forced to the disk, acknowledged records are gone."""
    found = [cut(disk, 0.05, 2, is_durable=False) for _ in range(5)]
    assert any(generation is None or generation < acknowledged for acknowledged, generation in found)
