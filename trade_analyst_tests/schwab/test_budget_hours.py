"""Hours of several processes at one source that counts what arrives, in virtual time: exact, and the same each time.

Every process is a budget of its own on the file that they share. A request is on its way for up to 1.4 s, at random,
so what the source counts is not what the budget granted. Processes of the machine are in test_budget_storm.py.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from virtual_time import VirtualClock, run_virtually, seconds

from trade_analyst_pipeline.schwab.budget import Priority, RequestBudget
from trade_analyst_pipeline.simulator.limits import Quota, QuotaChange, QuotaRules

LIMIT, PROCESSES, CALLERS = 120, 16, 4
SLOT = 61.5 / LIMIT

pytestmark = pytest.mark.reliability


@dataclass
class Source:
    """Counts and refuses by its quota, and does not answer between two seconds; keeps when each request arrived."""

    quota: Quota
    down: tuple[float, float] = (0.0, 0.0)
    arrivals: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    def answers(self) -> int:
        """The status of a request that arrives now; 0 when there is no answer."""
        self.arrivals.append(seconds())
        if self.down[0] <= seconds() < self.down[1]:
            return 0
        if self.quota.admit() is None:
            return 200
        self.refused.append(seconds())
        return 429

    def per_minute(self, first: float, last: float) -> float:
        """Arrivals a minute between two seconds."""
        return sum(first <= at < last for at in self.arrivals) * 60.0 / (last - first)

    def worst_window(self, since: float = 0.0) -> int:
        """Most arrivals in any closed 60 s that begin at or after a second."""
        times = sorted(at for at in self.arrivals if at >= since)
        worst = first = 0
        for last, at in enumerate(times):
            while times[first] < at - 60.0:
                first += 1
            worst = max(worst, last - first + 1)
        return worst


@dataclass
class Caller:
    """Asks again and again until `until`, `pause` seconds after each answer; keeps how long it waited for slots."""

    source: Source
    rng: random.Random
    until: float
    is_deaf: bool = False
    pause: float = 0.0
    waits: list[float] = field(default_factory=list)

    async def run(self, budget: RequestBudget, priority: Priority) -> None:
        """One request after the other."""
        while seconds() < self.until:
            asked = seconds()
            granted = await budget.acquire(priority)
            self.waits.append(seconds() - asked)
            await asyncio.sleep(self.rng.choice([0.02, 0.05, 0.1, 0.1, 0.2, 0.4, 1.4]))
            status = self.source.answers()
            if status == 429 and not self.is_deaf:
                budget.note_refusal(granted)
            elif status == 0:
                budget.note_failure(granted)
            else:
                budget.note_answer()
            await asyncio.sleep(self.pause)


@dataclass
class Figures:
    """What came of a run: the source, how often each process asked, how long closing and backfill callers waited."""

    source: Source
    shares: list[int]
    closing: list[float]
    backfill: list[float]

    def tell(self, name: str) -> None:
        """Print them."""
        print(
            f"{name}: {len(self.source.arrivals)} requests, {len(self.source.refused)} refused, "
            f"worst minute {self.source.worst_window()}, shares {min(self.shares)} to {max(self.shares)}"
        )


def run_hours(
    file_of: Callable[[int], Path],
    *,
    minutes: float,
    seed: int,
    change: QuotaChange | None = None,
    down: tuple[float, float] = (0.0, 0.0),
    is_deaf: bool = False,
    reserved: int = 0,
) -> Figures:
    """PROCESSES of CALLERS that backfill without rest; the first has a closing caller besides, every 7 s or so."""

    async def scene() -> Figures:
        rules = QuotaRules(LIMIT, retry_after="none", changes=(change,) if change else ())
        source, rng = Source(Quota(rules, clock=asyncio.get_running_loop().time), down), random.Random(seed)  # noqa: S311
        budgets = [
            RequestBudget(
                per_minute=LIMIT, reserved_per_minute=reserved, clock=VirtualClock(), state_file=file_of(number)
            )
            for number in range(PROCESSES)
        ]
        flood = [[Caller(source, rng, minutes * 60.0, is_deaf) for _ in range(CALLERS)] for _ in budgets]
        closing = Caller(source, rng, minutes * 60.0, is_deaf, pause=7.0)
        async with asyncio.TaskGroup() as group:
            group.create_task(closing.run(budgets[0], Priority.CLOSING))
            for budget, callers in zip(budgets, flood, strict=True):
                for caller in callers:
                    group.create_task(caller.run(budget, Priority.BACKFILL))
        shares = [sum(len(caller.waits) for caller in callers) for callers in flood]
        backfill = [wait for callers in flood for caller in callers for wait in caller.waits]
        return Figures(source, shares, closing.waits, backfill)

    return run_virtually(scene())


@pytest.fixture
def minutes(is_full: bool) -> float:
    """A whole session in full form."""
    return 390.0 if is_full else 8.0


def test_a_session_uses_the_limit_and_never_crosses_it(tmp_path: Path, minutes: float, harness_seed: int) -> None:
    """No refusal, no minute above 120, over 95 % of it used; equal shares; closing requests wait two slots at most."""
    found = run_hours(lambda _: tmp_path / "budget", minutes=minutes, seed=harness_seed)
    found.tell(f"{minutes:.0f} minutes")
    used = found.source.per_minute(60.0, minutes * 60.0)
    print(
        f"used {used:.1f} a minute; waits: closing up to {max(found.closing):.2f} s, backfill {max(found.backfill):.1f}"
    )
    assert found.source.refused == []
    assert found.source.worst_window() <= LIMIT
    assert used >= 0.95 * LIMIT
    assert max(found.shares) - min(found.shares) <= 0.05 * max(found.shares) + 3
    assert max(found.closing) <= 2 * SLOT
    assert max(found.backfill) <= 2 * SLOT * PROCESSES * CALLERS


def test_control_a_limit_for_each_process_is_caught(tmp_path: Path, harness_seed: int) -> None:
    """The count is able to fail: with a file each the processes are refused again and again."""
    found = run_hours(lambda number: tmp_path / f"budget-{number}", minutes=3.0, seed=harness_seed)
    found.tell("control, a limit each")
    assert len(found.source.refused) > 20
    assert found.source.worst_window() > LIMIT


def test_a_reserved_share_is_left_alone(tmp_path: Path, harness_seed: int) -> None:
    """With 30 of 120 reserved no minute has more than 90, and over 95 % of the 90 are used."""
    found = run_hours(lambda _: tmp_path / "budget", minutes=5.0, seed=harness_seed, reserved=30)
    found.tell("30 reserved")
    assert found.source.worst_window() <= LIMIT - 30
    assert found.source.per_minute(60.0, 300.0) >= 0.95 * (LIMIT - 30)


HALF = QuotaChange(per_minute=LIMIT // 2, after_seconds=300.0)


def test_a_limit_halved_in_mid_run_is_adopted(tmp_path: Path, harness_seed: int, is_full: bool) -> None:
    """Without Retry-After all together keep the new limit within two minutes; refused is what was on its way.

    It holds for five minutes. From then on the budget finds out, less and less often, whether more is to be had; what
    that costs is a few refusals and, over the hours, a few requests a minute.
    """
    minutes = 90.0 if is_full else 13.0
    found = run_hours(lambda _: tmp_path / "budget", minutes=minutes, seed=harness_seed, change=HALF)
    found.tell("halved after 300 s")
    refused, used = found.source.refused, found.source.per_minute(420.0, minutes * 60.0)
    adopting = [at for at in refused if at <= 420.0]
    print(f"refused {', '.join(f'{at - 300.0:.1f}' for at in refused)} s after; then {used:.1f} a minute used")
    assert 1 <= len(adopting) <= PROCESSES
    assert min([at for at in refused if at > 420.0], default=3600.0) > 600.0
    assert len(refused) <= len(adopting) + 5
    assert used >= (0.92 if is_full else 0.95) * LIMIT / 2


def test_control_processes_deaf_to_refusals_are_caught(tmp_path: Path, harness_seed: int) -> None:
    """The count is able to fail: who ignores refusals is refused to the end."""
    found = run_hours(lambda _: tmp_path / "budget", minutes=7.5, seed=harness_seed, change=HALF, is_deaf=True)
    found.tell("control, deaf")
    assert sum(at > 300.0 + 120.0 for at in found.source.refused) > 20


def test_an_outage_of_ten_minutes_is_probed_and_survived(tmp_path: Path, harness_seed: int) -> None:
    """After five failures in a row one probe goes each 30 s for all together; full speed within 60 s of its end."""
    down = (90.0, 690.0)
    found = run_hours(lambda _: tmp_path / "budget", minutes=15.0, seed=harness_seed, down=down)
    found.tell("down for 600 s")
    during = sorted(at for at in found.source.arrivals if down[0] + 5.0 <= at < down[1])
    first_after = min(at for at in found.source.arrivals if at >= down[1])
    used = found.source.per_minute(down[1] + 60.0, 900.0)
    print(
        f"{len(during)} probes; the first request {first_after - down[1]:.1f} s after the end; then {used:.1f} a minute"
    )
    assert 15 <= len(during) <= 20
    assert min(later - at for at, later in itertools.pairwise(during)) >= 30.0 - 1.4
    assert used >= 0.95 * LIMIT
    assert found.source.refused == []
