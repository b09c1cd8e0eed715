"""Processes of the machine against a source that counts what arrives: the limit holds, is used up, is learned anew.

Time runs faster than the clock, so that minutes fit into seconds: what a busy machine delays a process by counts that
many times over. The quick form therefore lets the source have QUICK_SPARE requests more than the limit and asks for
less use of it; the full form runs slower and gives nothing. The exact figures, in virtual time, are in
test_budget_hours.py.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from trade_analyst_pipeline.simulator.limits import Quota, QuotaChange, QuotaRules

WORKER = Path(__file__).with_name("budget_worker.py")
PACKAGE = Path(__file__).resolve().parents[2]
LIMIT, QUICK_SPARE = 120, 5


@dataclass(frozen=True)
class Scale:
    """How fast time runs, how many processes ask, what the source gives above the limit, what of it has to be used."""

    factor: float
    processes: int
    spare: int
    least_used: float


@pytest.fixture
def scale(is_full: bool) -> Scale:
    """Sixteen processes at 6 times the clock's pace in full form, five at 60 times in quick form."""
    return Scale(6.0, 16, 0, 0.95) if is_full else Scale(60.0, 5, QUICK_SPARE, 0.6)


@dataclass
class CountingSource:
    """Answers each line with 200, or 429 when its quota is used up; keeps when each of them came, in scaled seconds."""

    quota: Quota
    came: list[tuple[float, bool]] = field(default_factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        while await reader.readline():
            is_refused = self.quota.admit() is not None
            self.came.append((self.quota.arrivals[-1], is_refused))
            writer.write(b"429\n" if is_refused else b"200\n")
        writer.close()

    def refused_after(self, second: float) -> int:
        """Refusals from a scaled second on."""
        return sum(is_refused for came, is_refused in self.came if came >= second)

    def per_minute(self, first: float, last: float) -> float:
        """Requests a minute that were answered between two scaled seconds."""
        answered = [came for came, is_refused in self.came if first <= came < last and not is_refused]
        return len(answered) * 60.0 / (last - first)

    def worst_window(self, since: float = 0.0) -> int:
        """Most arrivals in any 60 s from a scaled second on."""
        times = [came for came, _ in self.came if came >= since]
        return max((bisect_left(times, start + 60.0) - at for at, start in enumerate(times)), default=0)


@dataclass
class Storm:
    """What came of a run: the source's record, and what each process that was left to its end printed."""

    source: CountingSource
    told: list[dict[str, Any]]

    @property
    def last_second(self) -> float:
        """The scaled second at which the first process may have stopped asking, less a spare."""
        return self.source.came[-1][0] - 8.0


async def run_storm(
    workers: list[dict[str, Any]], *, scale: Scale, minutes: float, rules: QuotaRules, kills: tuple[float, ...] = ()
) -> Storm:
    """Run the workers for scaled minutes; at each of `kills` (scaled seconds) one of them is killed, in order."""
    source = CountingSource(Quota(rules))
    server = await asyncio.start_server(source.handle, "127.0.0.1", 0)
    port, seconds = server.sockets[0].getsockname()[1], minutes * 60.0 / scale.factor
    processes = [await _start(worker, port=port, factor=scale.factor, seconds=seconds) for worker in workers]
    await _begin_together(processes)
    before = 0.0
    for process, at in zip(processes, kills, strict=False):
        await asyncio.sleep((at - before) / scale.factor)
        process.send_signal(signal.SIGKILL)
        before = at
    outputs = [(await process.communicate())[0] for process in processes]
    server.close()
    return Storm(source, [json.loads(output) for output in outputs if output])


async def _start(worker: dict[str, Any], **given: Any) -> asyncio.subprocess.Process:
    defaults = {"priority": "BACKFILL", "callers": 3, "is_deaf": False, "pause": 0.0, "per_minute": LIMIT}
    options = defaults | {"reserved": 0} | given | worker
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(WORKER), json.dumps(options)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(PACKAGE)},
    )


async def _begin_together(processes: list[asyncio.subprocess.Process]) -> None:
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"begin\n")


def rules(scale: Scale, *changes: QuotaChange) -> QuotaRules:
    """The limit with the form's spare, without Retry-After."""
    return QuotaRules(LIMIT + scale.spare, retry_after="none", time_scale=scale.factor, changes=changes)


def report(name: str, storm: Storm, scale: Scale) -> None:
    """The figures of a run."""
    source = storm.source
    print(
        f"{name}: {len(source.came)} requests of {scale.processes} processes, {source.quota.refused} refused, "
        f"worst minute {source.worst_window()}, {source.per_minute(20.0, storm.last_second):.1f} a minute used"
    )


@pytest.mark.reliability
@pytest.mark.slow
def test_processes_share_one_limit_and_use_it(tmp_path: Path, scale: Scale, is_full: bool) -> None:
    """No minute above the limit, it is used, in fair shares; and a closing caller is not held up by the flood.

    A slot comes each 0.51 s. A backfill caller waits for all others; the closing one, which rests 2 s after each
    answer, for the next slot or two.
    """
    flood = [{"file": str(tmp_path / "budget")}] * (scale.processes - 1)
    closing = {"file": str(tmp_path / "budget"), "priority": "CLOSING", "callers": 1, "pause": 2.0}
    minutes = 5.0 if is_full else 2.5
    storm = asyncio.run(run_storm([*flood, closing], scale=scale, minutes=minutes, rules=rules(scale)))
    report("one limit", storm, scale)
    assert storm.source.quota.refused == 0
    assert storm.source.worst_window() <= LIMIT + scale.spare
    assert storm.source.per_minute(20.0, storm.last_second) >= scale.least_used * LIMIT
    shares = [told["answered"] for told in storm.told[:-1]]
    assert min(shares) >= 0.7 * max(shares)
    waits, floods = sorted(storm.told[-1]["waits"]), sorted(itertools.chain(*(t["waits"] for t in storm.told[:-1])))
    print(f"shares {shares}; closing waits {waits[len(waits) // 2]:.2f} s, backfill {floods[len(floods) // 2]:.2f} s")
    assert waits[len(waits) // 2] <= floods[len(floods) // 2] / 3
    assert not is_full or waits[len(waits) // 2] <= 1.1


@pytest.mark.reliability
@pytest.mark.slow
def test_control_a_limit_for_each_process_is_caught(scale: Scale) -> None:
    """The count is able to fail: processes that do not share the limit exceed it within a minute or so."""
    storm = asyncio.run(run_storm([{"file": None}] * 4, scale=scale, minutes=1.2, rules=rules(scale)))
    report("control, a limit each", storm, scale)
    assert storm.source.quota.refused > 0
    assert storm.source.worst_window() > LIMIT + QUICK_SPARE


def halved(scale: Scale, file: Path, *, is_deaf: bool) -> Storm:
    """The source's limit falls to the half after 70 scaled seconds; the run goes on for three minutes more."""
    workers = [{"file": str(file), "is_deaf": is_deaf, "callers": 1}] * scale.processes
    fall = QuotaChange(per_minute=LIMIT // 2 + scale.spare, after_seconds=70.0)
    return asyncio.run(run_storm(workers, scale=scale, minutes=4.2, rules=rules(scale, fall)))


@pytest.mark.full_only
def test_a_limit_halved_in_mid_run_is_adopted(tmp_path: Path, scale: Scale) -> None:
    """Without Retry-After, all processes keep the new limit within two minutes, at a cost of few refusals."""
    storm = halved(scale, tmp_path / "budget", is_deaf=False)
    report("halved", storm, scale)
    assert 1 <= storm.source.quota.refused <= scale.processes
    assert storm.source.refused_after(70.0 + 120.0) == 0
    assert storm.source.worst_window(since=70.0 + 60.0) <= LIMIT // 2 + scale.spare


@pytest.mark.full_only
def test_control_processes_deaf_to_refusals_are_caught(tmp_path: Path, scale: Scale) -> None:
    """The count is able to fail: who ignores refusals is still refused after two minutes."""
    storm = halved(scale, tmp_path / "budget", is_deaf=True)
    report("control, deaf", storm, scale)
    assert storm.source.refused_after(70.0 + 120.0) > 20


@pytest.mark.reliability
@pytest.mark.slow
def test_killed_processes_change_nothing(tmp_path: Path, scale: Scale) -> None:
    """Some of the processes are killed at odd moments: the limit holds, and the others use all of it."""
    workers = [{"file": str(tmp_path / "budget")}] * scale.processes
    moments = tuple(25.0 + 8.3 * number for number in range(4 if scale.spare == 0 else 2))
    storm = asyncio.run(run_storm(workers, scale=scale, minutes=2.0, rules=rules(scale), kills=moments))
    report("killed", storm, scale)
    assert len(storm.told) == scale.processes - len(moments)
    assert storm.source.quota.refused == 0
    assert storm.source.worst_window() <= LIMIT + scale.spare
    assert storm.source.per_minute(moments[-1] + 10.0, storm.last_second) >= scale.least_used * LIMIT
