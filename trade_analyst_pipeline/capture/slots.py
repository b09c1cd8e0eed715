"""Whose requests get which slot of the limit: runs that begin where there is a place, and ask dataset after dataset.

The limit is a sequence of slots. A slot goes to the most urgent class that waits, and within a class to the runs in
turn. A request that waits as long as the client lets its class wait is given up: it is a gap, and its snapshot never
complete. What the source takes to answer is left out: requests overlap, so that it costs no slot.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.schwab.budget import Priority
from trade_analyst_pipeline.schwab.client import QUEUE_SECONDS
from trade_analyst_pipeline.schwab.pace import SECOND, WIDTH, burst_of

RUNS_AT_ONCE: Final[Mapping[Priority, int]] = {Priority.CLOSING: 3, Priority.INTRADAY: 2, Priority.BACKFILL: 2}
"""Runs of each class under way, as dagster.yaml allows them."""

_NEVER: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Allowance:
    """How many requests there are: `per_minute` of the source less `reserved` for other programs.

    A run has at most `in_flight` of each class waiting for a slot at once.
    """

    per_minute: int
    reserved: int = 0
    in_flight: int = 6

    @property
    def usable(self) -> int:
        """Requests a minute for this program."""
        return self.per_minute - self.reserved

    @property
    def seconds_per_request(self) -> float:
        """The distance of slots: a little more than a minute's share, since answers may be counted a minute apart."""
        return WIDTH / SECOND / self.usable

    @property
    def burst(self) -> int:
        """How many slots there are at once after a rest."""
        return burst_of(self.usable)


@dataclass(frozen=True, eq=False)
class Wanted:
    """A snapshot and by when it has to be complete."""

    snapshot: Snapshot
    needed_by: datetime


@dataclass(eq=False)
class Stream:
    """What a run asks for of one dataset in one class: its requests in order, and when each got its slot.

    None for one that was given up. `waiting` holds since when each of the next ones has waited, at most `at_once`: as
    many as may be in flight, or as follow from no other's answer.
    """

    priority: Priority
    wanted: Sequence[Wanted]
    asked: Sequence[tuple[Wanted, tuple[str, ...]]]
    at_once: int
    granted: list[datetime | None] = field(default_factory=list)
    waiting: deque[datetime] = field(default_factory=deque)

    @property
    def is_done(self) -> bool:
        """Whether every request has its slot or was given up."""
        return len(self.granted) == len(self.asked)

    @property
    def given_up_at(self) -> datetime:
        """When the next request is given up unless it has a slot by then."""
        return self.waiting[0] + timedelta(seconds=QUEUE_SECONDS[self.priority])

    def begin(self, instant: datetime) -> None:
        """Ask for the first requests."""
        self.waiting.extend([instant] * self.at_once)

    def end(self, instant: datetime, *, is_granted: bool) -> None:
        """Let the next request go, or give it up, and another one wait in its place."""
        self.granted.append(instant if is_granted else None)
        self.waiting.popleft()
        if len(self.granted) + len(self.waiting) < len(self.asked):
            self.waiting.append(instant)


@dataclass(eq=False)
class Run:
    """All that one job takes at one instant, dataset after dataset; the streams of a dataset go on side by side."""

    due: datetime
    place: Priority
    stages: deque[list[Stream]]


@dataclass
class _Queue:
    """The runs that wait for a place, and the streams of those under way that wait for a slot, each by its class."""

    runs: Mapping[Priority, deque[Run]] = field(default_factory=lambda: {priority: deque() for priority in Priority})
    streams: Mapping[Priority, deque[tuple[Run, Stream]]] = field(
        default_factory=lambda: {priority: deque() for priority in Priority}
    )
    under_way: Counter[Priority] = field(default_factory=Counter)
    quiet_until: datetime = _NEVER  # no request is given up before

    @property
    def is_empty(self) -> bool:
        return not any(self.streams.values())

    def add(self, run: Run) -> None:
        """Let a run that is due begin, or wait for a place."""
        self.runs[run.place].append(run)
        self._start(run.place, run.due)

    def turn(self) -> tuple[Run, Stream]:
        """Whose turn it is."""
        return next(self.streams[priority] for priority in Priority if self.streams[priority]).popleft()

    def go_on(self, run: Run, stream: Stream, instant: datetime) -> None:
        """Queue again who had its turn: the stream if it is not done, else the run with its next dataset."""
        if not stream.is_done:
            self.streams[stream.priority].append((run, stream))
        elif all(each.is_done for each in run.stages[0]):
            run.stages.popleft()
            self._ask(run, instant)

    def give_up(self, instant: datetime) -> bool:
        """Give up, in order, what has waited too long by then; whether there was any."""
        found = False
        while self.quiet_until < instant:
            waiting = [each for of_class in self.streams.values() for each in of_class]
            if not waiting:
                self.quiet_until = _NEVER
                break
            run, stream = min(waiting, key=lambda each: each[1].given_up_at)
            ended = self.quiet_until = stream.given_up_at
            if ended < instant:
                found = True
                stream.end(ended, is_granted=False)
                self.streams[stream.priority].remove((run, stream))
                self.go_on(run, stream, ended)
        return found

    def _start(self, place: Priority, instant: datetime) -> None:
        while self.runs[place] and self.under_way[place] < RUNS_AT_ONCE[place]:
            self.under_way[place] += 1
            run = self.runs[place].popleft()
            self._ask(run, max(run.due, instant))

    def _ask(self, run: Run, instant: datetime) -> None:
        if not run.stages:
            self.under_way[run.place] -= 1
            self._start(run.place, instant)
            return
        for stream in run.stages[0]:
            stream.begin(instant)
            self.quiet_until = min(self.quiet_until, stream.given_up_at)
            self.streams[stream.priority].append((run, stream))


def give_slots(runs: Sequence[Run], allowance: Allowance, horizon: datetime, *, ends_late: bool) -> None:
    """Note in each stream when each of its requests goes, in order, until the horizon."""
    interval = timedelta(seconds=allowance.seconds_per_request)
    credit = interval * (allowance.burst - 1)
    coming, queue = deque(sorted(runs, key=lambda run: run.due)), _Queue()
    if not coming:
        return
    now = arrival = coming[0].due
    while coming or not queue.is_empty:
        if queue.is_empty:
            now = max(now, coming[0].due)
        slot = max(now, arrival - credit)
        while coming and coming[0].due <= slot:
            queue.add(coming.popleft())
        if queue.give_up(min(slot, horizon)) and not ends_late:
            return
        if queue.is_empty:
            continue
        run, stream = queue.turn()
        wanted, _ = stream.asked[len(stream.granted)]
        if slot >= horizon or (slot > wanted.needed_by and not ends_late):
            return
        stream.end(slot, is_granted=True)
        queue.go_on(run, stream, slot)
        now, arrival = slot, max(arrival, slot) + interval
