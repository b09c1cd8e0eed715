"""What `plan` promises is what a session then does: the real capture code over a whole session, in virtual time.

Each tick of the schedules is a run with a budget of its own on the shared file, as a process of its own would have,
and takes its snapshots with the real client, one for each class, from a source that answers at once with the smallest
possible bodies.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import string
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from virtual_time import START, VirtualClock, run_virtually

from trade_analyst_pipeline.capture.ask import ask
from trade_analyst_pipeline.capture.costs import Costs
from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.capture.requesting import Source
from trade_analyst_pipeline.capture.slots import Allowance
from trade_analyst_pipeline.capture.take import take_each
from trade_analyst_pipeline.capture.timetable import Timetable, timetable, watched
from trade_analyst_pipeline.capture.urgency import urgency
from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.defs.resources import SourceResource
from trade_analyst_pipeline.market.clock import MachineClock
from trade_analyst_pipeline.schwab.budget import Priority, RequestBudget
from trade_analyst_pipeline.schwab.client import SchwabClient
from trade_analyst_pipeline.settings import Settings, load_settings
from trade_analyst_pipeline.storage.archive import Archive

DAY = START.date()  # a full session that opens at START
EVENING = datetime(2026, 1, 5, 22, 0, tzinfo=START.tzinfo)  # 17:00 New York, when the bars are asked for
CLOSE = datetime(2026, 1, 5, 21, 0, tzinfo=START.tzinfo)  # of stocks, and of options on them
CLOSING_INSTANTS = {CLOSE + timedelta(minutes=minutes) for minutes in (-15, -5, 0, 10)}  # 0 and 10: of late options
A_FEW_SECONDS = timedelta(seconds=5)
LARGEST_MISS = 0.10
MOMENTS = ("quotes", "options")
LATE = ("SPY", "QQQ", "IWM", "$SPX")
RUNS_AT_ONCE = {Priority.CLOSING: 3, Priority.INTRADAY: 2, Priority.BACKFILL: 2}

LISTED = "2026-01-16"  # the one expiration that every symbol has; so small a chain is one request


def symbols(count: int) -> tuple[str, ...]:
    """Four that trade to 16:15 and stocks with made-up names."""
    names = ("".join(letters) for letters in itertools.product(string.ascii_uppercase, repeat=4) if letters[3] != "X")
    return (*LATE, *itertools.islice(names, count - len(LATE)))


def answer(path: str, named: Sequence[str]) -> dict[str, Any]:
    """The smallest answer that is whole."""
    if path == "/quotes":
        return {symbol: {"symbol": symbol} for symbol in named}
    if path == "/expirationchain":
        return {"expirationList": [{"expirationDate": LISTED, "optionRoots": "X"}]}
    if path == "/chains":
        calls = {f"{LISTED}:11": {"5.0": [{"strikePrice": 5.0}]}}
        return {"numberOfContracts": 1, "callExpDateMap": calls, "putExpDateMap": {}}
    return {"candles": [{"datetime": 0}]}


@dataclass
class Body(httpx.AsyncByteStream):
    """A body that is there at once."""

    text: bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """All of it."""
        yield self.text


@dataclass
class Transport:
    """What the client uses of its transport: answers at once, and `note` sees what symbols were asked for."""

    note: Callable[[Sequence[str]], None]

    @asynccontextmanager
    async def stream(self, _method: str, url: str, **_: object) -> AsyncIterator[httpx.Response]:
        """The answer to a request."""
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        named = (query.get("symbols") or query.get("symbol") or [""])[0].split(",")
        self.note(named)
        body = Body(json.dumps(answer(parts.path.removeprefix("/marketdata/v1"), named)).encode())
        yield httpx.Response(200, headers={"content-type": "application/json"}, stream=body)


class Tokens:
    """A login that lasts."""

    async def access_token(self) -> str:
        """Any token will do."""
        return "token"

    async def refresh_after_refusal(self, refused: str) -> str:
        """Never refused."""
        raise AssertionError(refused)


@dataclass
class Session:
    """A session of these settings as it happens until the horizon: requests by minute, arrivals, completions.

    `gaps` counts them in each snapshot whose last request has ended; one that has some is never complete.
    """

    settings: Settings
    root: Path
    horizon: datetime
    minutes: Counter[datetime] = field(default_factory=Counter)
    arrivals: dict[tuple[str, str], list[datetime]] = field(default_factory=dict)
    finished: dict[Snapshot, datetime] = field(default_factory=dict)
    gaps: dict[Snapshot, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = VirtualClock()
        self.archive = Archive(self.root / "raw")

    def runs(self) -> Iterator[tuple[datetime, list[list[Snapshot]]]]:
        """The runs of the day, each a list of datasets with their snapshots."""
        source = SourceResource(self.settings)
        for minute in range(0, 7 * 60, 5):  # every cadence and closing snapshot here is a multiple of five minutes
            tick = START + timedelta(minutes=minute)
            due = [source.plan(dataset, [DAY], tick=tick) for dataset in MOMENTS]
            if any(due):
                yield tick, due
        once = [source.plan(dataset, [DAY]) for dataset in DATASETS if dataset not in MOMENTS]
        instants = sorted({planned[0].scheduled_time for planned in once})
        for instant in instants:
            yield instant, [planned for planned in once if planned[0].scheduled_time == instant]

    async def happen(self) -> None:
        """Let the session pass."""
        slots = {priority: asyncio.Semaphore(RUNS_AT_ONCE[priority]) for priority in Priority}
        tasks = [
            asyncio.create_task(self._run(due, stages, slots)) for due, stages in self.runs() if due < self.horizon
        ]
        await asyncio.wait(tasks, timeout=(self.horizon - START).total_seconds())
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    async def _run(self, due: datetime, stages: list[list[Snapshot]], slots: dict[Priority, asyncio.Semaphore]) -> None:
        place = place_of(due, {each.dataset for stage in stages for each in stage})
        await self.clock.sleep((due - START).total_seconds())
        async with slots[place]:
            for stage in stages:
                await self._stage(stage)

    async def _stage(self, stage: list[Snapshot]) -> None:
        answered: dict[str, list[datetime]] = {}
        asked = partial(ask, bounds=self.settings.capture.bounded_chain, archive=self.archive)
        try:
            source_for = self._sources(Transport(partial(self._note, answered)))
            taken = take_each(stage, source_for=source_for, ask=asked, archive=self.archive)
            async with aclosing(taken):
                async for outcome in taken:
                    each = outcome.snapshot
                    if not outcome.gaps:
                        self.finished[each] = max(capture.finished_time for capture in outcome.captures)
                    self.gaps[each] = len(outcome.gaps)
        finally:
            for snapshot in stage:
                for symbol in snapshot.symbols:
                    instants, needed = answered.get(symbol, []), requests_for(snapshot.dataset)
                    if len(instants) >= needed:
                        self.arrivals.setdefault((snapshot.dataset, symbol), []).append(instants[needed - 1])

    def _sources(self, http: Transport) -> Callable[[Snapshot], Source]:
        """The source for each snapshot: one budget, and a client for each class of requests, as a process has them."""
        schwab, minutes = self.settings.schwab, self.settings.capture.closing_snapshot_minutes
        budget = RequestBudget(
            per_minute=schwab.requests_per_minute,
            reserved_per_minute=schwab.reserved_per_minute,
            clock=self.clock,
            state_file=self.root / "budget",
        )
        clients = {priority: self._client(http, budget, priority) for priority in Priority}
        return lambda each: Source(clients[urgency(each, minutes_before=minutes)], self.clock)

    def _client(self, http: Transport, budget: RequestBudget, priority: Priority) -> SchwabClient:
        return SchwabClient(
            base_url="https://source",
            http=http,  # type: ignore[arg-type]  # all that is used of a transport
            tokens=Tokens(),
            budget=budget,
            clock=self.clock,
            rng=random.Random(7),  # noqa: S311  waits of a test
            in_flight=self.settings.schwab.requests_in_flight,
            priority=priority,
        )

    def _note(self, answered: dict[str, list[datetime]], named: Sequence[str]) -> None:
        now = self.clock.now()
        self.minutes[now.replace(second=0, microsecond=0)] += 1
        for symbol in named:
            answered.setdefault(symbol, []).append(now)

    def worst_age(self, dataset: str) -> timedelta:
        """The greatest age of the newest answer for any symbol, between the open and the symbol's close."""
        found = timedelta()
        for symbol in self.settings.universe.symbols_of(dataset):
            closes = CLOSE + timedelta(minutes=15 if symbol in LATE else 0)
            known = sorted(at for at in self.arrivals.get((dataset, symbol), []) if at < closes)
            found = max(found, *(later - earlier for earlier, later in itertools.pairwise([START, *known, closes])))
        return found


def place_of(due: datetime, datasets: set[str]) -> Priority:
    """The class that the tag of a run names: before a close `closing`, of bars and reference data `backfill`."""
    if datasets.isdisjoint({*MOMENTS, "movers"}):
        return Priority.BACKFILL
    is_closing = due in CLOSING_INSTANTS and not datasets.isdisjoint(MOMENTS)
    return Priority.CLOSING if is_closing else Priority.INTRADAY


def requests_for(dataset: str) -> int:
    """How many requests name a symbol in a snapshot: a chain is the list and one piece, bars are days and minutes."""
    return 2 if dataset in {"options", "ohlc"} else 1


def settings_of(count: int, **changes: Any) -> Settings:
    """So many symbols at the usual cadence of the configuration that is shipped."""
    schwab = {"reserved_per_minute": changes.pop("reserved", 0)}
    return load_settings(environment="live", universe={"symbols": symbols(count), **changes}, schwab=schwab)


def planned(settings: Settings, horizon: datetime, **allowance: int) -> Timetable:
    """The timetable that `plan` shows for these settings, or for another allowance."""
    schwab = settings.schwab
    limits = {"per_minute": schwab.requests_per_minute, "reserved": schwab.reserved_per_minute, **allowance}
    return timetable(
        DAY, watched(settings), Allowance(**limits), Costs(chain_pieces=dict.fromkeys(LATE, 1)), horizon=horizon
    )


@dataclass(frozen=True)
class Misses:
    """By how much a plan misses a session: fractions, and the snapshot whose completion it misses most."""

    total: float
    profile: float
    ages: dict[str, float]
    completion: float
    worst_snapshot: str

    @property
    def worst(self) -> float:
        """The greatest of them."""
        return max(self.total, self.profile, self.completion, *self.ages.values())


def misses(plan: Timetable, session: Session) -> Misses:
    """What the plan says against what happened."""
    happened = session.minutes.total()
    minutes = plan.minutes.keys() | session.minutes.keys()
    moved = sum(abs(plan.minutes.get(minute, 0) - session.minutes[minute]) for minute in minutes) / 2
    ages = {}
    for dataset in MOMENTS:
        told, seen = plan.worst_age(dataset), session.worst_age(dataset)
        assert told is not None
        ages[dataset] = abs(told / seen - 1)
    completion, worst_snapshot = 0.0, ""
    for each in plan.planned:
        found = _completion_miss(each.finished, session.finished.get(each.snapshot), each.snapshot, session.horizon)
        if found > completion:
            completion = found
            worst_snapshot = f"{each.snapshot.dataset} of {each.snapshot.scheduled_time:%H:%M}"
    return Misses(abs(plan.requests / happened - 1), moved / happened, ages, completion, worst_snapshot)


def _completion_miss(told: datetime | None, seen: datetime | None, snapshot: Snapshot, horizon: datetime) -> float:
    """How far off a completion is, as a share of what the snapshot took; seconds are no miss."""
    if told is None and seen is None:
        return 0.0
    took = (seen or horizon) - snapshot.scheduled_time
    return max(0.0, (abs((told or horizon) - (seen or horizon)) - A_FEW_SECONDS) / max(took, A_FEW_SECONDS))


def session_of(settings: Settings, root: Path, horizon: datetime) -> Session:
    """The session as it happens."""
    session = Session(settings, root, horizon)
    run_virtually(session.happen())
    return session


@pytest.fixture(autouse=True)
def _evening(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is planned for the day is planned on its evening, when all of it is due."""
    monkeypatch.setattr(MachineClock, "now", lambda _: EVENING)


@pytest.mark.reliability
@pytest.mark.parametrize(
    ("count", "hours", "reserved"),
    [
        pytest.param(50, 8, 0, id="50"),
        pytest.param(50, 8, 115, id="50-of-5-a-minute"),
        pytest.param(500, 9, 0, id="500", marks=pytest.mark.full_only),
        pytest.param(3000, 8, 0, id="3000", marks=pytest.mark.full_only),
    ],
)
def test_the_plan_is_what_the_session_does(count: int, hours: int, reserved: int, tmp_path: Path) -> None:
    """Requests by minute, their sum, the worst age of data and each completion agree within a tenth; gaps exactly."""
    settings, horizon = settings_of(count, reserved=reserved), START + timedelta(hours=hours)
    session, plan = session_of(settings, tmp_path, horizon), planned(settings, horizon)
    found = misses(plan, session)
    print(f"{count} symbols: {session.minutes.total()} requests in {hours} h; {found}")
    given_up = {each.snapshot: each.given_up for each in plan.planned}
    print(f"requests without a slot in snapshots that have ended: {sum(session.gaps.values())}")
    print({name: f"plan {plan.worst_age(name)}, session {session.worst_age(name)}" for name in MOMENTS})
    assert found.worst <= LARGEST_MISS
    assert {each: given_up[each] for each in session.gaps} == session.gaps
    assert len(session.finished) > 20
    assert any(session.gaps.values()) is (count == 3000 or reserved > 100)


@pytest.mark.reliability
def test_a_plan_of_another_limit_misses(tmp_path: Path) -> None:
    """With most of the limit reserved the plan holds; one that ignores the reserve, or the limit, is far off."""
    settings, horizon = settings_of(50, reserved=100), START + timedelta(minutes=50)
    session = session_of(settings, tmp_path, horizon)
    right = misses(planned(settings, horizon), session)
    without_reserve = misses(planned(settings, horizon, reserved=0), session)
    without_limit = misses(planned(settings, horizon, per_minute=100_000, reserved=0), session)
    print(
        f"{session.minutes.total()} requests: {right}, without the reserve {without_reserve}, nor limit {without_limit}"
    )
    assert right.worst <= LARGEST_MISS
    assert without_reserve.worst > LARGEST_MISS
    assert without_reserve.completion > LARGEST_MISS
    assert without_limit.profile > LARGEST_MISS
