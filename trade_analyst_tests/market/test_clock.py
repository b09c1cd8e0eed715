"""Clocks: the machine's, and the simulated one in which every task has its own time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest

from trade_analyst_pipeline.market.clock import MachineClock, SimulatedClock

START = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)


def test_simulated_clock_moves_only_by_sleeping() -> None:
    """Sleeping moves the time by exactly that much; nothing else does, and a negative sleep does not turn it back."""

    async def run() -> list[datetime]:
        clock = SimulatedClock(START)
        seen = [clock.now(), clock.now()]
        await clock.sleep(90)
        seen.append(clock.now())
        await clock.sleep(-5)
        return [*seen, clock.now()]

    later = START + timedelta(seconds=90)
    assert asyncio.run(run()) == [START, START, later, later]


def test_each_task_has_its_own_time() -> None:
    """What one task sleeps does not move its neighbours or the one that waits for it."""

    async def nap(clock: SimulatedClock, *naps: float) -> datetime:
        for seconds in naps:
            await clock.sleep(seconds)
        return clock.now()

    async def run() -> list[datetime]:
        clock = SimulatedClock(START)
        return [*await asyncio.gather(nap(clock, 10, 10), nap(clock, 300), nap(clock)), clock.now()]

    assert [(seen - START).total_seconds() for seen in asyncio.run(run())] == [20, 300, 0, 0]


def test_task_starts_at_the_time_of_the_one_that_made_it() -> None:
    """A new task goes on from where its maker is."""

    async def run() -> datetime:
        clock = SimulatedClock(START)
        await clock.sleep(60)

        async def child() -> datetime:
            await clock.sleep(1)
            return clock.now()

        return await asyncio.create_task(child())

    assert asyncio.run(run()) == START + timedelta(seconds=61)


def test_sleeping_lets_other_tasks_run() -> None:
    """A simulated sleep gives way to the other tasks once, though no real time passes."""

    async def run() -> list[str]:
        clock, order = SimulatedClock(START), list[str]()

        async def worker(name: str) -> None:
            order.append(name)
            await clock.sleep(1e9)
            order.append(name)

        await asyncio.gather(worker("a"), worker("b"))
        return order

    assert asyncio.run(run()) == ["a", "b", "a", "b"]


def test_simulated_clock_tells_utc() -> None:
    """A start in another zone is the same instant, told in UTC; a start without a zone is refused."""
    east = datetime(2026, 1, 5, 15, 55, tzinfo=timezone(timedelta(hours=-5)))
    assert SimulatedClock(east).now() == START
    assert SimulatedClock(east).now().utcoffset() == timedelta(0)
    with pytest.raises(ValueError, match="time zone"):
        SimulatedClock(datetime(2026, 1, 5, 15, 55))  # noqa: DTZ001 - what is refused


def test_machine_clock_tells_the_machines_time() -> None:
    """The machine's clock is between two readings of the system's, in UTC, and a sleep of nothing returns."""
    clock = MachineClock()
    before = datetime.now(UTC)
    asyncio.run(clock.sleep(0))
    assert before <= clock.now() <= datetime.now(UTC)
    assert clock.now().tzinfo is UTC
