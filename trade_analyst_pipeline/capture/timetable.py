"""When each snapshot of a session gets its requests under the limit, and how old its data becomes: arithmetic alone.

A run is all that is due at one instant, and asks for its datasets one after the other. It is under way among the runs
of its most urgent snapshot, while each snapshot waits for slots in its own class (`slots.py` gives them out).
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta

from trade_analyst_pipeline.capture.costs import Costs
from trade_analyst_pipeline.capture.plan import (
    REACHES_BACK,
    Snapshot,
    end_of_day_snapshot,
    moments_of_session,
    once_a_session,
)
from trade_analyst_pipeline.capture.slots import Allowance, Run, Stream, Wanted, give_slots
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
from trade_analyst_pipeline.settings import MOMENTS, Cadence, Settings


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
    """One snapshot in the timetable; `finished` is None when it is not complete before the horizon, or never.

    Of its `requests` so many are `given_up`, because the client waits no longer for a slot: they are gaps.
    `needed_by` is when it has to be: a closing snapshot before the close, an intraday one before the next. `arrivals`
    are the instants at which it is complete for each symbol, for those that are.
    """

    snapshot: Snapshot
    priority: Priority
    requests: int
    needed_by: datetime
    finished: datetime | None
    given_up: int
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
    runs = _runs(watched, session_date, costs, allowance.in_flight)
    streams = [stream for run in runs for stage in run.stages for stream in stage]
    give_slots(runs, allowance, horizon or end_of_source_day(session_date), ends_late=ends_late)
    minutes = Counter(
        instant.replace(second=0, microsecond=0) for stream in streams for instant in stream.granted if instant
    )
    planned = [_planned(wanted, stream) for stream in streams for wanted in stream.wanted]
    planned.sort(key=lambda each: each.snapshot.scheduled_time)
    return Timetable(session_date, allowance, tuple(planned), dict(sorted(minutes.items())))


def _runs(watched: Watched, session_date: date, costs: Costs, in_flight: int) -> list[Run]:
    """The runs of a session: one job takes all that shows a moment, others what is taken once a session."""
    together: dict[tuple[datetime, bool], list[Snapshot]] = {}
    for snapshot in watched.snapshots(session_date):
        together.setdefault((snapshot.scheduled_time, snapshot.dataset in MOMENTS), []).append(snapshot)
    known: dict[tuple[str, tuple[str, ...]], list[list[tuple[str, ...]]]] = {}
    return [
        Run(
            due,
            urgency_of_run(of_run, minutes_before=watched.minutes_before),
            deque(
                _streams(list(of_dataset), watched, costs, known, in_flight)
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
    in_flight: int,
) -> list[Stream]:
    by_class: dict[Priority, list[Wanted]] = {}
    for snapshot in snapshots:
        priority = urgency(snapshot, minutes_before=watched.minutes_before)
        needed_by = watched.needed_by(snapshot, is_closing=priority is Priority.CLOSING)
        by_class.setdefault(priority, []).append(Wanted(snapshot, needed_by))
    streams = []
    for priority, wanted in by_class.items():
        rounds = _rounds(wanted, costs, known)
        asked = list(itertools.chain.from_iterable(rounds))
        streams.append(Stream(priority, wanted, asked, min(in_flight, len(rounds[0]))))
    return streams


def _rounds(
    wanted: Iterable[Wanted], costs: Costs, known: dict[tuple[str, tuple[str, ...]], list[list[tuple[str, ...]]]]
) -> list[list[tuple[Wanted, tuple[str, ...]]]]:
    """The requests of a stream: all first rounds, then what follows from them."""
    rounds = []
    for each in wanted:
        key = (each.snapshot.dataset, each.snapshot.symbols)
        if key not in known:
            known[key] = costs.rounds(each.snapshot)
        rounds.append([[(each, symbols) for symbols in requests] for requests in known[key]])
    return [[asked for of in together for asked in of] for together in itertools.zip_longest(*rounds, fillvalue=[])]


def _planned(wanted: Wanted, stream: Stream) -> Planned:
    own = [number for number, (of, _) in enumerate(stream.asked) if of is wanted]
    ended = [(stream.granted[number], stream.asked[number][1]) for number in own if number < len(stream.granted)]
    left = Counter(symbol for number in own for symbol in stream.asked[number][1])
    arrivals = {}
    for instant, symbols in ended:
        if instant is None:
            continue
        for symbol in symbols:
            left[symbol] -= 1
            if not left[symbol]:
                arrivals[symbol] = instant
    given_up = sum(instant is None for instant, _ in ended)
    finished = ended[-1][0] if len(ended) == len(own) and not given_up else None
    return Planned(wanted.snapshot, stream.priority, len(own), wanted.needed_by, finished, given_up, arrivals)
