"""When each snapshot of a session gets its requests under the limit, and how old its data becomes: arithmetic alone.

The limit is a sequence of slots. A slot goes to the most urgent class that waits, and within a class to the runs in
turn; a run is all that is due at one instant, and asks for its datasets one after the other. It is under way among the
runs of its most urgent snapshot, while each snapshot waits for slots in its own class. What the source takes to answer
is left out: requests overlap, so that it costs no slot.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Final

from trade_analyst_pipeline.capture.costs import Costs
from trade_analyst_pipeline.capture.plan import (
    REACHES_BACK,
    Snapshot,
    end_of_day_snapshot,
    moments_of_session,
    once_a_session,
)
from trade_analyst_pipeline.capture.urgency import urgency, urgency_of_run
from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.market.sessions import (
    NEW_YORK,
    closing_snapshot_times,
    option_product,
    session_close,
    session_open,
)
from trade_analyst_pipeline.schwab.budget import Priority
from trade_analyst_pipeline.schwab.pace import SECOND, WIDTH, burst_of
from trade_analyst_pipeline.settings import MOMENTS, Cadence, Settings

RUNS_AT_ONCE: Final[Mapping[Priority, int]] = {Priority.CLOSING: 3, Priority.INTRADAY: 2, Priority.BACKFILL: 2}
"""Runs of each class under way, as dagster.yaml allows them."""


@dataclass(frozen=True)
class Allowance:
    """How many requests there are: `per_minute` of the source less `reserved` for other programs."""

    per_minute: int
    reserved: int = 0

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


@dataclass(frozen=True)
class Watched:
    """What is taken in a session: the symbols of each dataset with their cadence, and the closing snapshots."""

    cadences: Mapping[str, Mapping[str, Cadence]]
    minutes_before: tuple[int, ...]

    def snapshots(self, session_date: date) -> list[Snapshot]:
        """All snapshots of a session, ascending by instant; at one instant in the order they are asked for."""
        found: list[Snapshot] = []
        for dataset, cadences in self.cadences.items():
            symbols = tuple(cadences)
            if not symbols:
                continue
            if dataset in MOMENTS:
                found += moments_of_session(dataset, session_date, cadences, minutes_before=self.minutes_before)
            elif dataset in REACHES_BACK:
                found.append(end_of_day_snapshot(dataset, session_date, symbols))
            else:
                found.append(once_a_session(dataset, session_date, symbols, minutes_before=self.minutes_before))
        return sorted(found, key=lambda snapshot: snapshot.scheduled_time)

    def needed_by(self, snapshot: Snapshot, *, is_closing: bool) -> datetime:
        """By when a snapshot has to be complete: the close, the next one of its symbols, or the end of the day.

        An intraday one that closing snapshots overtake has until the end of the day: they are newer.
        """
        if snapshot.dataset not in MOMENTS:
            return end_of_source_day(snapshot.session_date)
        products = {option_product(symbol) for symbol in snapshot.symbols}
        if is_closing:
            return min(session_close(snapshot.session_date, product) for product in products)
        cadences = self.cadences[snapshot.dataset]
        every = min(minutes for symbol in snapshot.symbols if isinstance(minutes := cadences[symbol], int))
        following = snapshot.scheduled_time + timedelta(minutes=every)
        closing = [
            instant
            for product in products
            for instant in closing_snapshot_times(snapshot.session_date, product, self.minutes_before)
        ]
        return end_of_source_day(snapshot.session_date) if closing and following > min(closing) else following


def end_of_source_day(session_date: date) -> datetime:
    """When the source stops to show a session: midnight New York."""
    return datetime.combine(session_date + timedelta(days=1), time(), NEW_YORK)


@dataclass(frozen=True)
class Planned:
    """One snapshot in the timetable; `finished` is None when it is not complete before the horizon.

    `needed_by` is when it has to be: a closing snapshot before the close, an intraday one before the next. `arrivals`
    are the instants at which it is complete for each symbol, for those that are.
    """

    snapshot: Snapshot
    priority: Priority
    requests: int
    needed_by: datetime
    finished: datetime | None
    arrivals: Mapping[str, datetime] = field(repr=False)

    @property
    def kind(self) -> str:
        """`closing`, `intraday` or `daily`."""
        return self.priority.name.lower() if self.snapshot.dataset in MOMENTS else "daily"

    @property
    def fits(self) -> bool:
        """Whether it is complete when it has to be."""
        return self.finished is not None and self.finished <= self.needed_by


@dataclass(frozen=True)
class Timetable:
    """A session under an allowance: its snapshots, and how many requests go in each minute, by its start."""

    session_date: date
    allowance: Allowance
    planned: tuple[Planned, ...]
    minutes: Mapping[datetime, int]

    @property
    def requests(self) -> int:
        """Requests of the whole session that find a slot."""
        return sum(self.minutes.values())

    @property
    def fits(self) -> bool:
        """Whether every snapshot is complete when it has to be."""
        return all(each.fits for each in self.planned)

    def worst_age(self, dataset: str) -> timedelta | None:
        """The greatest age that the newest data of a symbol reaches from the open to its close.

        Before its first arrival a symbol is as old as the session is. Of symbols with intraday snapshots alone; None
        when there is none.
        """
        arrivals: dict[str, list[datetime]] = {}
        for each in self.of(dataset):
            if each.kind == "intraday":
                arrivals |= {symbol: [] for symbol in each.snapshot.symbols if symbol not in arrivals}
        for each in self.of(dataset):
            for symbol in arrivals.keys() & each.arrivals.keys():
                arrivals[symbol].append(each.arrivals[symbol])
        ages = (self._worst_of(symbol, instants) for symbol, instants in arrivals.items())
        return max(ages, default=None)

    def _worst_of(self, symbol: str, instants: Iterable[datetime]) -> timedelta:
        closes = session_close(self.session_date, option_product(symbol))
        known = sorted({instant for instant in instants if instant < closes})
        turns = [session_open(self.session_date), *known, closes]
        return max(later - earlier for earlier, later in itertools.pairwise(turns))

    def of(self, dataset: str) -> list[Planned]:
        """The snapshots of a dataset."""
        return [each for each in self.planned if each.snapshot.dataset == dataset]


def watched(settings: Settings) -> Watched:
    """What the settings say is taken in a session, in the order in which one run asks for it."""
    named = {name: settings.cadences(name) for name in (*MOMENTS, *(n for n in DATASETS if n not in MOMENTS))}
    for name, dataset in DATASETS.items():
        named[name] = named[name] or dict.fromkeys(dataset.subjects, "daily")
    return Watched(named, settings.capture.closing_snapshot_minutes)


def timetable(
    session_date: date,
    watched: Watched,
    allowance: Allowance,
    costs: Costs,
    *,
    horizon: datetime | None = None,
    ends_late: bool = True,
) -> Timetable:
    """The timetable of a session; nothing is asked from `horizon` on, by default the end of the source's day.

    Without `ends_late` it breaks off at the first snapshot that is not complete when it has to be: enough to know that
    the session does not fit.
    """
    runs = _runs(watched, session_date, costs)
    streams = [stream for run in runs for stage in run.stages for stream in stage]
    _give_slots(runs, allowance, horizon or end_of_source_day(session_date), ends_late=ends_late)
    minutes = Counter(instant.replace(second=0, microsecond=0) for stream in streams for instant in stream.granted)
    planned = [_planned(wanted, stream) for stream in streams for wanted in stream.wanted]
    planned.sort(key=lambda each: each.snapshot.scheduled_time)
    return Timetable(session_date, allowance, tuple(planned), dict(sorted(minutes.items())))


@dataclass(frozen=True, eq=False)
class _Wanted:
    """A snapshot and by when it has to be complete."""

    snapshot: Snapshot
    needed_by: datetime


@dataclass
class _Stream:
    """What a run asks for of one dataset in one class: its requests in order, and when each got its slot."""

    priority: Priority
    wanted: Sequence[_Wanted]
    asked: Sequence[tuple[_Wanted, tuple[str, ...]]]
    granted: list[datetime] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        return len(self.granted) == len(self.asked)


@dataclass
class _Run:
    """All that one job takes at one instant, dataset after dataset; the streams of a dataset go on side by side."""

    due: datetime
    place: Priority
    stages: deque[list[_Stream]]


def _runs(watched: Watched, session_date: date, costs: Costs) -> list[_Run]:
    """The runs of a session: one job takes all that shows a moment, others what is taken once a session."""
    together: dict[tuple[datetime, bool], list[Snapshot]] = {}
    for snapshot in watched.snapshots(session_date):
        together.setdefault((snapshot.scheduled_time, snapshot.dataset in MOMENTS), []).append(snapshot)
    known: dict[tuple[str, tuple[str, ...]], list[list[tuple[str, ...]]]] = {}
    return [
        _Run(
            due,
            urgency_of_run(of_run, minutes_before=watched.minutes_before),
            deque(
                _streams(list(of_dataset), watched, costs, known)
                for _, of_dataset in itertools.groupby(of_run, key=lambda snapshot: snapshot.dataset)
            ),
        )
        for (due, _), of_run in together.items()
    ]


def _streams(
    snapshots: Sequence[Snapshot],
    watched: Watched,
    costs: Costs,
    known: dict[tuple[str, tuple[str, ...]], list[list[tuple[str, ...]]]],
) -> list[_Stream]:
    by_class: dict[Priority, list[_Wanted]] = {}
    for snapshot in snapshots:
        priority = urgency(snapshot, minutes_before=watched.minutes_before)
        needed_by = watched.needed_by(snapshot, is_closing=priority is Priority.CLOSING)
        by_class.setdefault(priority, []).append(_Wanted(snapshot, needed_by))
    return [_Stream(priority, wanted, _in_order(wanted, costs, known)) for priority, wanted in by_class.items()]


def _in_order(
    wanted: Iterable[_Wanted], costs: Costs, known: dict[tuple[str, tuple[str, ...]], list[list[tuple[str, ...]]]]
) -> list[tuple[_Wanted, tuple[str, ...]]]:
    """The requests of a stream: all first rounds, then what follows from them."""
    rounds = []
    for each in wanted:
        key = (each.snapshot.dataset, each.snapshot.symbols)
        if key not in known:
            known[key] = costs.rounds(each.snapshot)
        rounds.append([[(each, symbols) for symbols in requests] for requests in known[key]])
    return [asked for together in itertools.zip_longest(*rounds, fillvalue=[]) for of in together for asked in of]


@dataclass
class _Queue:
    """The runs that wait for a place, and the streams of those under way that wait for a slot, each by its class."""

    runs: Mapping[Priority, deque[_Run]] = field(default_factory=lambda: {priority: deque() for priority in Priority})
    streams: Mapping[Priority, deque[tuple[_Run, _Stream]]] = field(
        default_factory=lambda: {priority: deque() for priority in Priority}
    )
    under_way: Counter[Priority] = field(default_factory=Counter)

    @property
    def is_empty(self) -> bool:
        return not any(self.streams.values()) and not any(self.runs.values())

    def start(self) -> None:
        """Let runs begin where there is a place."""
        for place in Priority:
            while self.runs[place] and self.under_way[place] < RUNS_AT_ONCE[place]:
                self.under_way[place] += 1
                self._ask(self.runs[place].popleft())

    def turn(self) -> tuple[_Run, _Stream]:
        """Whose turn it is."""
        return next(self.streams[priority] for priority in Priority if self.streams[priority]).popleft()

    def go_on(self, run: _Run, stream: _Stream) -> None:
        """Queue again who had its turn: the stream if it is not done, else the run with its next dataset."""
        if not stream.is_done:
            self.streams[stream.priority].append((run, stream))
        elif all(each.is_done for each in run.stages[0]):
            run.stages.popleft()
            self._ask(run)

    def _ask(self, run: _Run) -> None:
        if not run.stages:
            self.under_way[run.place] -= 1
            return
        for stream in run.stages[0]:
            self.streams[stream.priority].append((run, stream))


def _give_slots(runs: Sequence[_Run], allowance: Allowance, horizon: datetime, *, ends_late: bool) -> None:
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
            run = coming.popleft()
            queue.runs[run.place].append(run)
        queue.start()
        run, stream = queue.turn()
        wanted, _ = stream.asked[len(stream.granted)]
        if slot >= horizon or (slot > wanted.needed_by and not ends_late):
            return
        stream.granted.append(slot)
        queue.go_on(run, stream)
        now, arrival = slot, max(arrival, slot) + interval


def _planned(wanted: _Wanted, stream: _Stream) -> Planned:
    own = [number for number, (of, _) in enumerate(stream.asked) if of is wanted]
    left = Counter(symbol for number in own for symbol in stream.asked[number][1])
    arrivals = {}
    for number in own:
        if number < len(stream.granted):
            for symbol in stream.asked[number][1]:
                left[symbol] -= 1
                if not left[symbol]:
                    arrivals[symbol] = stream.granted[number]
    finished = stream.granted[own[-1]] if own[-1] < len(stream.granted) else None
    return Planned(wanted.snapshot, stream.priority, len(own), wanted.needed_by, finished, arrivals)
