"""The request limit: call order, classes, what processes share, damaged state, what is told of it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import struct
import time
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from trade_analyst_pipeline.errors import StorageError
from trade_analyst_pipeline.market.clock import SimulatedClock
from trade_analyst_pipeline.schwab import budget_file
from trade_analyst_pipeline.schwab.budget import LONGEST_PAUSE_SECONDS, BudgetState, Priority, RequestBudget, Usage

START = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
MICRO = timedelta(microseconds=1)


class HandClock:
    """A clock that a test moves, with waits that move it too."""

    def __init__(self, now: datetime = START) -> None:
        self.instant = now

    def now(self) -> datetime:
        """Where the hand stands."""
        return self.instant

    async def sleep(self, seconds: float) -> None:
        """Move the hand on."""
        self.instant += timedelta(seconds=seconds)


async def take(budget: RequestBudget, count: int) -> list[datetime]:
    """Grants of one caller, one after the other."""
    return [await budget.acquire() for _ in range(count)]


def test_the_hundred_and_twentieth_request_waits_for_its_slot() -> None:
    """Limit 120 is a burst of 3, then one request each 61.5/120 s, rounded up to the next microsecond.

    The 121st has to wait until the first is 61.5 s old.
    """
    grants = asyncio.run(take(RequestBudget(per_minute=120, clock=HandClock(), state_file=None), 122))
    assert grants[2] == START
    assert grants[3] == START + timedelta(microseconds=512_501)
    assert grants[119] == START + timedelta(microseconds=512_501 * 117)
    assert grants[120:] == [START + timedelta(seconds=61.5)] * 2


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_simulated_grant_depends_only_on_its_number(workers: int) -> None:
    """Whatever number of tasks share the work and in whatever order they finish, grant i has the same instant."""
    clock = SimulatedClock(START)
    budget = RequestBudget(per_minute=120, clock=clock, state_file=None)
    grants: dict[int, datetime] = {}
    numbers = iter(range(400))
    rng = random.Random(workers)  # noqa: S311 - seeded test data

    async def work() -> None:
        for number in numbers:
            grants[number] = await budget.acquire()
            assert clock.now() == grants[number]
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)

    async def everything() -> None:
        await asyncio.gather(*(work() for _ in range(workers)))

    asyncio.run(everything())
    expected = [START + timedelta(microseconds=512_501 * max(0, number - 2)) for number in range(120)]
    assert [grants[number] for number in range(120)] == expected
    assert all(grants[number] - grants[number - 120] >= timedelta(seconds=61.5) for number in range(120, 400))
    alone = RequestBudget(per_minute=120, clock=SimulatedClock(START), state_file=None)
    assert [grants[number] for number in range(400)] == asyncio.run(take(alone, 400))


def test_a_pause_holds_everybody_and_is_not_followed_by_a_burst(tmp_path: Path) -> None:
    """After pause_until nobody goes before the instant, and then one at a time."""
    clock, file = HandClock(), tmp_path / "budget"
    first = RequestBudget(per_minute=120, clock=clock, state_file=file)
    second = RequestBudget(per_minute=120, clock=clock, state_file=file)

    async def scene() -> list[datetime]:
        await first.acquire()
        await first.pause_until(START + timedelta(seconds=30))
        return [await second.acquire(), await first.acquire()]

    assert asyncio.run(scene()) == [
        START + timedelta(seconds=30),
        START + timedelta(seconds=30, microseconds=512_501),
    ]


@pytest.mark.parametrize("seconds", [125.0, 300.0])
def test_a_long_pause_is_kept_with_all_that_was_learned(tmp_path: Path, seconds: float) -> None:
    """Nothing goes before a pause of minutes is over, whoever asks; limit and refusals are as before, then one goes."""
    clock, resume = HandClock(), START + timedelta(seconds=seconds)
    first, second = (RequestBudget(per_minute=120, clock=clock, state_file=tmp_path / "budget") for _ in range(2))

    async def scene() -> list[datetime]:
        granted = await first.acquire()
        first.note_refusal(granted)
        await first.pause_until(resume)
        state = second.state()
        assert (state.is_known, state.learned, state.refusals, state.next_time) == (True, 108, 1, resume)
        return [await second.acquire(), await first.acquire()]

    assert asyncio.run(scene()) == [resume, resume + timedelta(microseconds=569_445)]  # 61.5 s / 108
    state = first.state()
    assert (state.refusals, state.is_known) == (1, True)


def test_an_absurd_pause_is_cut_short() -> None:
    """A source that asks for decades of silence is obeyed for LONGEST_PAUSE_SECONDS."""
    budget = RequestBudget(per_minute=120, clock=HandClock(), state_file=None)

    async def scene() -> datetime:
        await budget.pause_until(START + timedelta(days=9000))
        return await budget.acquire()

    assert asyncio.run(scene()) == START + timedelta(seconds=LONGEST_PAUSE_SECONDS)


def test_a_new_state_file_starts_without_burst(tmp_path: Path) -> None:
    """Where nothing is known of the last minute the first request goes at once and the second waits."""
    budget = RequestBudget(per_minute=120, clock=HandClock(), state_file=tmp_path / "new" / "budget")
    assert asyncio.run(take(budget, 2)) == [START, START + timedelta(microseconds=512_501)]
    assert (tmp_path / "new" / "budget").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["budget"]


def test_the_state_outlives_the_process_object(tmp_path: Path) -> None:
    """A budget opened on the same file goes on where the other stopped."""
    clock = HandClock()
    asyncio.run(take(RequestBudget(per_minute=120, clock=clock, state_file=tmp_path / "b"), 1))
    assert asyncio.run(take(RequestBudget(per_minute=120, clock=clock, state_file=tmp_path / "b"), 1)) == [
        START + timedelta(microseconds=512_501)
    ]


def damaged(name: str, good: bytes) -> bytes:
    """One way for a state file to be wrong."""
    if name == "empty":
        return b""
    if name == "zeros":
        return bytes(80)
    if name == "short":
        return good[:5]
    if name == "old":
        return struct.pack("<q", 1) + struct.pack("<I", zlib.crc32(struct.pack("<q", 1)))
    if name == "strange":
        return good[:4] + struct.pack("<II", zlib.crc32(b"\x91\xa1x"), 3) + b"\x91\xa1x"
    place = {"version": 3, "checksum": 5, "length": 8, "body": 20}[name]
    return good[:place] + bytes([good[place] ^ 0x40]) + good[place + 1 :]


@pytest.mark.parametrize(
    "damage", ["empty", "zeros", "short", "old", "strange", "version", "checksum", "length", "body"]
)
def test_damaged_state_waits_a_full_window(tmp_path: Path, damage: str) -> None:
    """A file that cannot be trusted costs a minute of waiting, never a burst."""
    file = tmp_path / "budget"
    budget = RequestBudget(per_minute=120, clock=HandClock(), state_file=file)
    asyncio.run(take(budget, 1))
    file.write_bytes(damaged(damage, file.read_bytes()))
    assert asyncio.run(take(budget, 2)) == [
        START + timedelta(seconds=61.5),
        START + timedelta(seconds=61.5, microseconds=512_501),
    ]


def test_what_a_longer_record_left_behind_is_no_damage(tmp_path: Path) -> None:
    """A record of many grants is followed by one of few in the same file; what is left over of the first is ignored."""
    file, clock = tmp_path / "budget", HandClock()
    asyncio.run(take(RequestBudget(per_minute=120, clock=clock, state_file=file), 100))
    long = file.stat().st_size
    clock.instant += timedelta(minutes=10)
    asyncio.run(take(RequestBudget(per_minute=120, clock=clock, state_file=file), 1))
    assert file.stat().st_size == long
    state = RequestBudget(per_minute=120, clock=clock, state_file=file).state()
    assert (state.is_known, state.used_last_minute, state.free_now) == (True, 1, 2)


def test_a_state_from_the_far_future_is_damage(tmp_path: Path) -> None:
    """After the clock was wrong by a year the wait is a minute, not a year."""
    file = tmp_path / "budget"
    later = HandClock(START + timedelta(days=365))
    asyncio.run(take(RequestBudget(per_minute=120, clock=later, state_file=file), 1))
    now = RequestBudget(per_minute=120, clock=HandClock(), state_file=file)
    assert asyncio.run(take(now, 1)) == [START + timedelta(seconds=61.5)]


def test_a_link_in_place_of_the_state_is_refused(tmp_path: Path) -> None:
    """A symbolic link is not followed; the error names the file and what to do."""
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / "budget").symlink_to(tmp_path / "elsewhere")
    budget = RequestBudget(per_minute=120, clock=HandClock(), state_file=tmp_path / "budget")
    with pytest.raises(StorageError, match=r"budget.*Make the file and its folder writable"):
        asyncio.run(budget.acquire())
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"


def test_a_lock_that_is_never_released_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped holder does not hang everybody: the error names the file."""
    monkeypatch.setattr(budget_file, "_LOCK_PATIENCE_SECONDS", 0.02)
    file = tmp_path / "budget"
    budget = RequestBudget(per_minute=120, clock=HandClock(), state_file=file)
    asyncio.run(budget.acquire())
    descriptor = os.open(file, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="has been locked"):
            asyncio.run(budget.acquire())
    finally:
        os.close(descriptor)


def test_a_limit_of_nothing_is_refused() -> None:
    """Zero a minute is a mistake of the settings, said at once; so is a reserve that leaves nothing."""
    for limits in ({"per_minute": 0}, {"per_minute": 60, "reserved_per_minute": 60}):
        with pytest.raises(ValueError, match="set at least 1"):
            RequestBudget(**limits, clock=HandClock(), state_file=None)


def budget_state(**changes: Any) -> BudgetState:
    """A budget of 120 that nobody uses, but for `changes`."""
    return BudgetState(
        **{
            "configured": 120,
            "reserved": 0,
            "learned": 120,
            "per_minute": 120,
            "free_now": 3,
            "next_time": None,
            "used_last_minute": 0,
            "waiting": 0,
            "refusals": 0,
            "last_refusal_time": None,
            "is_down": False,
            "is_known": True,
        }
        | changes
    )


def test_state_is_told_without_taking_part(tmp_path: Path) -> None:
    """At 120 a minute the burst is 3: all free after a quiet minute, then fewer, then the instant of the next slot.

    Slots are 61.5 s / 120 apart, rounded up to a microsecond: 0.512501 s.
    """
    file, clock = tmp_path / "budget", HandClock()
    budget = RequestBudget(per_minute=120, clock=clock, state_file=file)
    assert budget.state() == budget_state(free_now=1)
    assert not file.exists()
    asyncio.run(budget.acquire())
    clock.instant += timedelta(seconds=61)
    assert budget.state() == budget_state()
    for left in reversed(range(3)):
        asyncio.run(budget.acquire())
        assert budget.state().free_now == left
    slot = clock.instant + timedelta(microseconds=512_501)
    assert budget.state() == budget_state(free_now=0, next_time=slot, used_last_minute=3)
    before = file.read_bytes()
    asyncio.run(budget.pause_until(clock.instant + timedelta(seconds=90)))
    assert budget.state().next_time == clock.instant + timedelta(seconds=90)
    file.write_bytes(before)
    assert budget.state().next_time == slot


def test_state_of_a_damaged_or_unreadable_file(tmp_path: Path) -> None:
    """A damaged file is not known, and the next request waits a minute; one that is a folder is an error of ours."""
    (tmp_path / "budget").write_bytes(b"junk")
    budget = RequestBudget(per_minute=120, clock=HandClock(), state_file=tmp_path / "budget")
    later = START + timedelta(seconds=61.5)
    assert budget.state() == budget_state(free_now=0, next_time=later, is_known=False)
    with pytest.raises(StorageError, match="readable"):
        RequestBudget(per_minute=120, clock=HandClock(), state_file=tmp_path).state()


def test_state_in_memory_is_that_of_the_object() -> None:
    """Without a file the state is known and counts this object's own grants."""
    clock = HandClock()
    budget = RequestBudget(per_minute=120, clock=clock, state_file=None)
    assert budget.state() == budget_state()
    asyncio.run(budget.acquire())
    assert budget.state() == budget_state(free_now=2, used_last_minute=1)


def test_state_tells_what_refusals_taught(tmp_path: Path) -> None:
    """One refusal lowers what the source is taken to allow, the reserved share comes off that, for all processes."""
    file, clock, usage = tmp_path / "budget", HandClock(), Usage()
    mine, other = (
        RequestBudget(per_minute=120, reserved_per_minute=20, clock=clock, state_file=file, usage=used)
        for used in (usage, None)
    )
    granted = asyncio.run(mine.acquire())
    assert other.state().per_minute == 100
    mine.note_refusal(granted)
    told = {"reserved": 20, "learned": 108, "per_minute": 88, "refusals": 1, "last_refusal_time": START}
    clock.instant += timedelta(minutes=2)
    assert other.state() == budget_state(**told)
    clock.instant += timedelta(hours=2)
    assert other.state() == budget_state(**told | {"learned": 120, "per_minute": 100})
    assert usage == Usage(requests=1, busiest_minute=1, refusals=1)


def test_usage_counts_over_budgets() -> None:
    """One tally for several budgets: requests and refusals add up, the busiest minute is that of one of them."""
    usage = Usage()
    for count in (5, 130, 3):
        clock = SimulatedClock(START)
        asyncio.run(take(RequestBudget(per_minute=120, clock=clock, state_file=None, usage=usage), count))
    assert usage == Usage(requests=138, busiest_minute=120, refusals=0)


async def queued(budget: RequestBudget, name: str, priority: Priority, done: list[str]) -> None:
    """One caller, noted when it was granted."""
    await budget.acquire(priority)
    done.append(name)


class SharedClock:
    """One time for all tasks, moved by `run` from wake to wake, so that no task is late."""

    def __init__(self) -> None:
        self.instant = START
        self._sleepers: list[tuple[datetime, int, asyncio.Event]] = []

    def now(self) -> datetime:
        """The one time."""
        return self.instant

    async def sleep(self, seconds: float) -> None:
        """Wait until the time has been moved that far."""
        event = asyncio.Event()
        self._sleepers.append((self.instant + timedelta(seconds=seconds), len(self._sleepers), event))
        await event.wait()

    async def run(self, tasks: list[asyncio.Task[None]], until: datetime = START + timedelta(hours=1)) -> None:
        """Move the time until all tasks are done or nobody sleeps before `until`."""
        while True:
            for _ in range(20):
                await asyncio.sleep(0)
            if all(task.done() for task in tasks) or not self._sleepers or min(self._sleepers)[0] > until:
                return
            entry = min(self._sleepers)
            self._sleepers.remove(entry)
            self.instant = max(self.instant, entry[0])
            entry[2].set()


def test_processes_take_turns_and_higher_classes_go_first(tmp_path: Path) -> None:
    """Two processes with four backfill calls each take turns; a closing call of a third goes at the next slot."""

    async def scene() -> tuple[list[str], timedelta]:
        clock, done = SharedClock(), list[str]()
        first, second, third = (
            RequestBudget(per_minute=120, clock=clock, state_file=tmp_path / "budget") for _ in range(3)
        )
        await first.acquire(Priority.BACKFILL)
        tasks = [asyncio.create_task(queued(first, f"a{n}", Priority.BACKFILL, done)) for n in range(4)]
        tasks += [asyncio.create_task(queued(second, f"b{n}", Priority.BACKFILL, done)) for n in range(4)]
        await clock.run(tasks, START + timedelta(seconds=1.1))
        asked = clock.instant
        closing = asyncio.create_task(queued(third, "closing", Priority.CLOSING, done))
        await clock.run([closing])
        waited = clock.instant - asked
        await clock.run(tasks)
        return done, waited

    done, waited = asyncio.run(scene())
    assert done == ["a0", "b0", "closing", "a1", "b1", "a2", "b2", "a3", "b3"]
    assert waited <= timedelta(microseconds=512_501)


def test_who_gives_up_leaves_the_queue(tmp_path: Path) -> None:
    """A call that is cancelled while it waits takes no slot and keeps none from the next one."""

    async def scene() -> tuple[int, int, datetime]:
        clock = SharedClock()
        budget, other = (RequestBudget(per_minute=1, clock=clock, state_file=tmp_path / "budget") for _ in range(2))
        await budget.acquire()
        waiting = asyncio.create_task(queued(budget, "x", Priority.CLOSING, []))
        await clock.run([waiting], START)
        before = budget.state().waiting
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        tasks = [asyncio.create_task(queued(other, "y", Priority.BACKFILL, []))]
        after = budget.state().waiting
        await clock.run(tasks)
        return before, after, clock.instant

    assert asyncio.run(scene()) == (1, 0, START + timedelta(seconds=61.500001))


def test_giving_up_does_not_wait_for_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is cancelled while somebody holds the file ends at once, and the event loop does not stand still."""
    monkeypatch.setattr(budget_file, "_LOCK_PATIENCE_SECONDS", 5.0)

    async def scene() -> float:
        budget = RequestBudget(per_minute=1, clock=SharedClock(), state_file=tmp_path / "budget")
        await budget.acquire()
        waiting = asyncio.create_task(budget.acquire())
        await asyncio.sleep(0)
        descriptor = os.open(tmp_path / "budget", os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            began = time.monotonic()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            return time.monotonic() - began
        finally:
            os.close(descriptor)

    assert asyncio.run(scene()) < 2.0


def test_an_outage_lets_probes_through_and_an_answer_ends_it(tmp_path: Path) -> None:
    """Five failures in a row, whoever met them: one request goes each 30 s for all together, until one is answered."""
    clock = HandClock()
    first, second = (RequestBudget(per_minute=120, clock=clock, state_file=tmp_path / "budget") for _ in range(2))
    asyncio.run(first.acquire())
    for number, budget in enumerate((first, second, first, second)):
        budget.note_failure(START + number * MICRO)
    first.note_answer()
    for number, budget in enumerate((first, second, first, second)):
        budget.note_failure(START + number * MICRO)
    assert not second.state().is_down
    second.note_failure(START + 4 * MICRO)
    assert first.state().is_down
    probes = [*asyncio.run(take(first, 2)), *asyncio.run(take(second, 1))]
    assert [(probe - START).total_seconds() for probe in probes] == [30.0, 60.0, 90.0]
    second.note_answer()
    assert not first.state().is_down
    assert asyncio.run(take(first, 1)) == [START + timedelta(seconds=90)]


def test_failures_do_not_count_where_nothing_is_shared() -> None:
    """On a simulated clock, where each snapshot has a budget of its own, failures leave it alone."""
    budget = RequestBudget(per_minute=120, clock=HandClock(), state_file=None)
    for number in range(9):
        budget.note_failure(START + number * MICRO)
    budget.note_answer()
    assert asyncio.run(take(budget, 1)) == [START]


def test_an_answer_is_not_lost_for_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """When an answer is there it is kept, whatever becomes of the file meanwhile."""
    budget = RequestBudget(per_minute=120, clock=HandClock(), state_file=tmp_path)
    budget.note_answer()


def test_giving_up_shows_through_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """A cancelled call ends as cancelled, also where it cannot be taken out of the queue."""

    async def scene() -> None:
        clock, file = SharedClock(), tmp_path / "budget"
        budget = RequestBudget(per_minute=1, clock=clock, state_file=file)
        await budget.acquire()
        waiting = asyncio.create_task(budget.acquire())
        await asyncio.sleep(0)
        file.unlink()
        file.mkdir()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(scene())


def test_access_is_checked_without_taking_part(tmp_path: Path) -> None:
    """A file that cannot be written, or not as the budget opens it, is refused; a missing one is left so."""
    file = tmp_path / "budget"
    budget = RequestBudget(per_minute=60, clock=HandClock(), state_file=file)
    budget.check_access()
    assert not file.exists()
    asyncio.run(budget.acquire())
    before = file.read_bytes()
    budget.check_access()
    assert file.read_bytes() == before
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="Make the file and its folder writable"):
        budget.check_access()
    file.unlink()
    file.mkdir()
    with pytest.raises(StorageError, match="Is a directory"):
        budget.check_access()
    RequestBudget(per_minute=60, clock=HandClock(), state_file=None).check_access()
