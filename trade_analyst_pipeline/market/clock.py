"""Clocks. Pipeline code never asks the machine for the time; it is handed one of these.

Token lifetimes are the exception: they always use the machine's clock.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time of the source and lets time pass."""

    def now(self) -> datetime:
        """The present instant, UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return once that much of this clock's time has passed."""
        ...


class MachineClock:
    """The clock of the machine: what a live source runs on."""

    def now(self) -> datetime:
        """The present instant, UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait for real."""
        await asyncio.sleep(seconds)


class RunningClock:
    """A clock that stands at `start` when it is made and runs from there, `speed` times as fast as real time."""

    def __init__(self, start: datetime, speed: float = 1.0) -> None:
        self._start, self._began, self._speed = start.astimezone(UTC), time.monotonic(), speed

    def now(self) -> datetime:
        """The present instant, UTC."""
        return self._start + timedelta(seconds=(time.monotonic() - self._began) * self._speed)

    async def sleep(self, seconds: float) -> None:
        """Wait until that much of its time has passed."""
        await asyncio.sleep(seconds / self._speed)


class SimulatedClock:
    """A clock that stands at `start` and moves only by sleeping, at no cost in real time.

    Each asyncio task has its own line of time from `start` on: what one task sleeps does not move the others, so a
    simulated snapshot has the same times whatever order its answers happen to arrive in.
    """

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            message = f"a simulated clock needs an instant with a time zone, not {start!r}"
            raise ValueError(message)
        self.start = start.astimezone(UTC)
        self._slept: ContextVar[float] = ContextVar("slept", default=0.0)

    def now(self) -> datetime:
        """`start` plus all that this task has slept, UTC."""
        return self.start + timedelta(seconds=self._slept.get())

    async def sleep(self, seconds: float) -> None:
        """Move this task's time on by `seconds`."""
        self._slept.set(self._slept.get() + max(0.0, seconds))
        await asyncio.sleep(0)
