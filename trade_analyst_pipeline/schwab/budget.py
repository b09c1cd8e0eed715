"""The request limit, shared by all processes of the machine: asking for a turn, and telling what came of it.

Belongs here: waiting for a slot, and how the limit stands. The rule is in `pace.py`, the shared file in
`budget_file.py`. Not here: when to retry (`client.py`).

With a file a slot is taken when it is due, never before: until then one caller of each process and class stands in a
queue in the file, higher classes first, each class in order of arrival. So processes take turns, however many calls
each of them has waiting, and who dies in the queue is passed over.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from trade_analyst_pipeline.errors import StorageError
from trade_analyst_pipeline.market.clock import Clock
from trade_analyst_pipeline.schwab.budget_file import BudgetFile
from trade_analyst_pipeline.schwab.pace import (
    GRACE,
    LONGEST_PAUSE,
    NO_HISTORY,
    SECOND,
    WIDTH,
    Pace,
    Priority,
    Record,
    Turn,
    fail,
)

__all__ = ["LONGEST_PAUSE_SECONDS", "BudgetState", "Priority", "RequestBudget", "Usage"]

LONGEST_PAUSE_SECONDS = LONGEST_PAUSE / SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)
_LEAVING_PATIENCE_SECONDS = 0.02  # for the file's lock; meanwhile the event loop stands still

Found = TypeVar("Found")


@dataclass(frozen=True)
class BudgetState:
    """How the shared limit stands; times are UTC, limits requests a minute.

    `per_minute` is what this program may ask: the `learned` limit of the source (`configured` unless refusals lowered
    it) less the `reserved` share. `free_now` may go at once; `next_time` is None when some may. `waiting` counts those
    in the queue, at most one for each process and class. `is_down`: the source failed so often that only probes go.
    `is_known` False: the file is damaged, and everybody waits a full minute.
    """

    configured: int
    reserved: int
    learned: int
    per_minute: int
    free_now: int
    next_time: datetime | None
    used_last_minute: int
    waiting: int
    refusals: int
    last_refusal_time: datetime | None
    is_down: bool
    is_known: bool


@dataclass
class Usage:
    """What was asked through one or several budgets: requests, the busiest minute, and refusals as over the limit.

    The busiest minute counts what all processes asked that share the limit.
    """

    requests: int = 0
    busiest_minute: int = 0
    refusals: int = 0


class RequestBudget:
    """At most `per_minute` less `reserved_per_minute` grants in any minute; serves one event loop.

    With a `state_file` all processes that name the same file share the limit. With None it holds for this object
    alone, which is what a simulated clock needs: there classes do not matter, and grant i goes at an instant that
    depends on i only, as long as nothing but the budget lets time pass. A missing file starts without burst, a damaged
    one makes everybody wait a full minute: the limit is never exceeded for lack of memory.
    """

    def __init__(
        self,
        *,
        per_minute: int,
        clock: Clock,
        state_file: Path | None,
        reserved_per_minute: int = 0,
        usage: Usage | None = None,
    ) -> None:
        if per_minute - reserved_per_minute < 1:
            message = (
                f"a request limit of {per_minute} a minute, {reserved_per_minute} of them reserved, lets nothing "
                "through; set at least 1 for this program"
            )
            raise ValueError(message)
        self.usage = Usage() if usage is None else usage
        self._clock = clock
        self._pace = Pace(per_minute, reserved_per_minute)
        self._file = None if state_file is None else BudgetFile(state_file)
        self._shared = _Memory() if self._file is None else self._file
        self._heads = {priority: asyncio.Lock() for priority in Priority}

    async def acquire(self, priority: Priority = Priority.INTRADAY) -> datetime:
        """Wait for a slot on the clock, take it, and return the instant it was granted (UTC)."""
        if self._file is None:
            return await self._reserve()
        async with self._heads[priority]:
            return await self._queue(priority)

    async def pause_until(self, instant: datetime) -> None:
        """Grant nothing to anybody before `instant` (zone-aware), nor a burst right after it.

        Reaches at most LONGEST_PAUSE_SECONDS ahead.
        """
        until = _micros(instant)
        self._change(lambda record, now: self._pace.pause(record, until, now))

    def note_refusal(self, granted: datetime) -> None:
        """The source refused, as over its limit, a request that was granted then: the limit is lowered for all."""
        self.usage.refusals += 1
        self._change(lambda record, now: self._pace.refuse(record, now, granted=_micros(granted)))

    def note_failure(self, granted: datetime) -> None:
        """The source gave no answer, or an error of its own, to a request that was granted then.

        After some in a row only a probe goes now and then. Without effect where the limit is not shared.
        """
        if self._file is not None:
            self._change(partial(fail, granted=_micros(granted)))

    def note_answer(self) -> None:
        """The source answered: it is not down. Never raises, for the answer is there."""
        if self._file is None:
            return
        with contextlib.suppress(StorageError):
            if (found := self._file.look()) is not None and found.failures:
                self._change(_is_up)

    def state(self) -> BudgetState:
        """How the limit stands, as far as it is known without taking part in it; nothing is written."""
        now, found = self._now(), self._shared.look()
        record, pace = self._known(found, now), self._pace
        start = pace.slot(record, now)
        return BudgetState(
            configured=pace.per_minute,
            reserved=pace.reserved,
            learned=pace.learned(record, now),
            per_minute=pace.usable(record, now),
            free_now=pace.free(record, now),
            next_time=_instant(start) if start > now else None,
            used_last_minute=record.in_minute(now),
            waiting=sum(now <= waiter.wake + GRACE for waiter in record.waiting),
            refusals=record.refused,
            last_refusal_time=_instant(record.refused_time) if record.refused_time else None,
            is_down=record.is_down,
            is_known=found is not None,
        )

    def check_access(self) -> None:
        """See that this process can take part in the limit: StorageError where the file cannot be written.

        Nothing is changed; a file that is not there yet is left so.
        """
        if self._file is not None:
            self._file.check_access()

    async def _reserve(self) -> datetime:
        """Take the next slot at once and wait for it: a simulated clock has no one time at which it could be due."""
        now, start = self._change(self._take)
        if start > now:
            await self._clock.sleep((start - now) / SECOND)
        return max(_instant(start), self._clock.now())

    def _take(self, record: Record, now: int) -> tuple[int, int]:
        start = self._pace.slot(record, now)
        self._pace.grant(record, start)
        self._count(record, start)
        return now, start

    async def _queue(self, priority: Priority) -> datetime:
        ticket: int | None = None
        try:
            while True:
                now, turn = self._change(partial(self._ask, priority=priority, ticket=ticket))
                ticket = turn.ticket
                if turn.wake is None:
                    return _instant(now)
                await self._clock.sleep((turn.wake - now) / SECOND)
        except BaseException:
            with contextlib.suppress(StorageError):  # who cannot withdraw is passed over in time
                self._change(partial(_withdraw, ticket=ticket), patience=_LEAVING_PATIENCE_SECONDS)
            raise

    def _ask(self, record: Record, now: int, *, priority: Priority, ticket: int | None) -> tuple[int, Turn]:
        turn = self._pace.ask(record, now, priority=priority, ticket=ticket)
        if turn.wake is None:
            self._count(record, now)
        return now, turn

    def _count(self, record: Record, instant: int) -> None:
        self.usage.requests += 1
        self.usage.busiest_minute = max(self.usage.busiest_minute, record.in_minute(instant))

    def _change(self, change: Callable[[Record, int], Found], *, patience: float | None = None) -> Found:
        """What `change` gives; it is handed the record and the present instant, read while nobody else has it."""

        def whole(found: Record | None) -> tuple[Record, Found]:
            now = self._now()
            record = self._known(found, now)
            return record, change(record, now)

        return self._shared.update(whole, patience=patience)

    def _known(self, found: Record | None, now: int) -> Record:
        """The record to go on from. A damaged one, or one of another time, costs a full minute."""
        if found is not None and found.arrival == NO_HISTORY:
            return self._pace.blank(now, wait=0)
        if found is None or (self._file is not None and found.is_absurd(now)):
            return self._pace.blank(now, wait=WIDTH)
        return found

    def _now(self) -> int:
        return _micros(self._clock.now())


class _Memory:
    """A record that only this process has."""

    def __init__(self) -> None:
        self._record = Record()
        self._lock = threading.Lock()

    def update(self, change: Callable[[Record | None], tuple[Record, Found]], *, patience: float | None) -> Found:
        """As BudgetFile.update; nobody else has it for long."""
        del patience
        with self._lock:
            self._record, found = change(self._record)
            return found

    def look(self) -> Record | None:
        """The record as it stands."""
        return self._record


def _is_up(record: Record, _: int) -> None:
    record.failures = 0


def _withdraw(record: Record, _: int, *, ticket: int | None) -> None:
    record.waiting = [waiter for waiter in record.waiting if waiter.ticket != ticket]


def _micros(instant: datetime) -> int:
    return (instant - _EPOCH) // _TICK


def _instant(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
