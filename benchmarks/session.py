"""A session of eight processes at one source that counts: is the limit kept, is it used, does the plan hold?

The processes are started for real and ask through the pipeline's own client. A session of 390 minutes runs against a
server that only counts, with small fixed bodies, TIME_SCALE times as fast as the clock; ten minutes run against the
real simulator with real bodies. What a busy machine delays a process by counts TIME_SCALE times over.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import sys
import tempfile
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks.session_worker import OPEN, chain, history
from trade_analyst_pipeline.capture.costs import Costs
from trade_analyst_pipeline.capture.slots import Allowance
from trade_analyst_pipeline.capture.timetable import Timetable, Watched, timetable
from trade_analyst_pipeline.market.sessions import session_close
from trade_analyst_pipeline.schwab.client import open_http
from trade_analyst_pipeline.simulator.limits import Quota, QuotaChange, QuotaRules
from trade_analyst_pipeline.simulator.oauth import SIMULATOR_APP_KEY, SIMULATOR_APP_SECRET
from trade_analyst_pipeline.simulator.server import SimulatorServer

LIMIT, PROCESSES, SYMBOLS = 120, 8, 500
DAY = OPEN.date()
SESSION_MINUTES, TIME_SCALE = 390.0, 30.0
BODIES_MINUTES, BODIES_SCALE = 10.0, 2.0
HALVED_MINUTES, HALVED_AT = 9.0, 180.0
WORKER = "benchmarks.session_worker"
_START_SECONDS = 0.5

_BODY = b'{"symbol":"SY0001","status":"SUCCESS","numberOfContracts":0}'
_FIXED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
_REFUSED = b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class _Counting(asyncio.Protocol):
    """One connection: each request is counted, and answered with the fixed body or 429."""

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._head = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._head += data
        while b"\r\n\r\n" in self._head:
            head, _, self._head = self._head.partition(b"\r\n\r\n")
            assert self._transport is not None
            is_free = head.startswith(b"GET /v1/oauth/") or self._quota.admit() is None
            self._transport.write(_FIXED if is_free else _REFUSED)


@dataclass(frozen=True)
class SessionFigures:
    """What came of a session: as the source counted it (`used` a minute while work waited), and as its jobs saw it.

    `parts` are those of the workers: dataset, class, second due, requests, and when it was there for each symbol.
    """

    minutes: float
    arrivals: int
    refused: int
    refused_seconds: tuple[float, ...]
    worst_window: int
    used: float
    outcomes: Counter[str]
    megabytes: float
    parts: list[dict[str, Any]] = field(default_factory=list, repr=False)

    def slowest(self, dataset: str, priority: str) -> float:
        """Seconds that the slowest snapshot of a dataset and class took, from when it was due."""
        parts = [part for part in self.parts if (part["dataset"], part["priority"]) == (dataset, priority)]
        return max(max(part["there"].values()) - part["at"] for part in parts)

    def worst_age(self, dataset: str, closes: float) -> float:
        """Seconds: the greatest age that the newest data of any symbol reached between second 0 and the close."""
        arrivals: dict[str, list[float]] = {}
        for part in self.parts:
            if part["dataset"] == dataset:
                for symbol, second in part["there"].items():
                    arrivals.setdefault(symbol, []).append(second)
        turns = ([0.0, *sorted(at for at in own if at < closes), closes] for own in arrivals.values())
        return max(later - at for own in turns for at, later in itertools.pairwise(own))


@dataclass(frozen=True)
class Planned:
    """What the timetable says of the session: seconds of the slowest snapshots, and the worst age, by dataset."""

    closing: float
    intraday: float
    worst_age: dict[str, float]
    closes: float


class _Recorded(Quota):
    """A quota that keeps when it refused, in scaled seconds since the first request."""

    def __init__(self, rules: QuotaRules) -> None:
        super().__init__(rules)
        self.refused_seconds: list[float] = []

    def admit(self) -> float | None:
        wait = super().admit()
        if wait is not None:
            self.refused_seconds.append(self.arrivals[-1])
        return wait


def session() -> tuple[SessionFigures, Planned]:
    """The whole session as the timetable has it, with history whenever there is room; and what the timetable says.

    Chains of all symbols each half hour, quotes each quarter, both before the close.
    """
    names = [f"SY{number:04}" for number in range(1, SYMBOLS + 1)]
    watched = Watched({"quotes": dict.fromkeys(names, 15), "options": dict.fromkeys(names, 30)}, (15, 5))
    plan = timetable(DAY, watched, Allowance(LIMIT), Costs())
    processes: list[list[dict[str, Any]]] = [[], [], [], []]
    for number, job in enumerate(_runs(plan)):
        processes[number % 2 + (0 if job["priority"] == "CLOSING" else 2)].append(job)
    found = asyncio.run(_counted(SESSION_MINUTES, processes, names))
    return found, _said(plan)


def _runs(plan: Timetable) -> list[dict[str, Any]]:
    """What is due together, in the order of time: one run of the pipeline each."""
    together: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for each in plan.planned:
        asked = [list(symbols) for symbols in itertools.chain(*Costs().rounds(each.snapshot))]
        key = ((each.snapshot.scheduled_time - OPEN).total_seconds(), each.priority.name)
        together.setdefault(key, []).append({"dataset": each.snapshot.dataset, "asked": asked})
    return [{"at": at, "priority": priority, "parts": parts} for (at, priority), parts in together.items()]


def _said(plan: Timetable) -> Planned:
    took = {
        kind: max(
            (each.finished - each.snapshot.scheduled_time).total_seconds()
            for each in plan.of("options")
            if each.finished is not None and each.kind == kind
        )
        for kind in ("closing", "intraday")
    }
    ages = {dataset: age.total_seconds() for dataset in ("quotes", "options") if (age := plan.worst_age(dataset))}
    return Planned(took["closing"], took["intraday"], ages, (session_close(DAY, "regular") - OPEN).total_seconds())


def halved() -> SessionFigures:
    """The source's limit falls to the half in mid-run, and says nothing but 429."""
    change = QuotaChange(per_minute=LIMIT // 2, after_seconds=HALVED_AT)
    return asyncio.run(_counted(HALVED_MINUTES, [], ["SPY", "QQQ"], (change,)))


def with_bodies() -> SessionFigures:
    """Ten minutes at the real simulator: chains and bars of its instruments, over TLS."""
    names = ["SPY", "QQQ", "AAPL", "MSFT", "NVDA", "TSLA"]
    with tempfile.TemporaryDirectory(prefix="trade-analyst-bench-") as folder, _simulator(Path(folder)) as source:
        base_url, token = source.at(OPEN.replace(hour=20)), _token(source)
        asyncio.run(_ask_once(base_url, source.ca_file, token, names))
        quota = _Recorded(QuotaRules(LIMIT, time_scale=BODIES_SCALE))
        source.conditions.quota = quota
        options = {"base_url": base_url, "ca_file": str(source.ca_file), "token": token}
        parts = [{"dataset": "options", "asked": [[name] for name in names * 5]}]
        jobs = [[{"at": 60.0 * minute, "priority": "INTRADAY", "parts": parts} for minute in (1.0, 4.0, 7.0)]]
        run = _run(options | {"factor": BODIES_SCALE}, BODIES_MINUTES, jobs, names, Path(folder))
        return _figures(BODIES_MINUTES, quota, asyncio.run(run))


async def _counted(
    minutes: float, jobs: Sequence[list[dict[str, Any]]], names: list[str], changes: tuple[QuotaChange, ...] = ()
) -> SessionFigures:
    quota = _Recorded(QuotaRules(LIMIT, retry_after="none", time_scale=TIME_SCALE, changes=changes))
    server = await asyncio.get_running_loop().create_server(lambda: _Counting(quota), "127.0.0.1", 0)
    options = {
        "base_url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
        "ca_file": None,
        "token": "t",
        "factor": TIME_SCALE,
    }
    with tempfile.TemporaryDirectory(prefix="trade-analyst-bench-") as folder:
        told = await _run(options, minutes, jobs, names, Path(folder))
    server.close()
    return _figures(minutes, quota, told)


async def _run(
    options: dict[str, Any], minutes: float, jobs: Sequence[list[dict[str, Any]]], names: list[str], folder: Path
) -> list[dict[str, Any]]:
    """Start the processes together: the first with jobs, the others with history; what each of them told."""
    common = options | {
        "limit": LIMIT,
        "file": str(folder / "request_budget"),
        "until": minutes * 60.0,
    }
    processes = []
    for number in range(PROCESSES):
        own = jobs[number] if number < len(jobs) else []
        given = common | {"number": number, "jobs": own, "backfill": [] if own else names}
        order, pipe = folder / f"worker-{number}.json", asyncio.subprocess.PIPE
        order.write_text(json.dumps(given))
        command = (sys.executable, "-m", WORKER, str(order))
        processes.append(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe))
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    began = f"{time.time() + _START_SECONDS}\n".encode()
    outputs = await asyncio.gather(*(process.communicate(began) for process in processes))
    return [json.loads(output) for output, _ in outputs]


def _figures(minutes: float, quota: _Recorded, told: list[dict[str, Any]]) -> SessionFigures:
    """`used` leaves out the last seconds, in which no new work is begun."""
    last = minutes * 60.0 - 5.0
    return SessionFigures(
        minutes=minutes,
        arrivals=len(quota.arrivals),
        refused=quota.refused,
        refused_seconds=tuple(quota.refused_seconds),
        worst_window=quota.worst_window(),
        used=bisect_left(quota.arrivals, last) * 60.0 / last,
        outcomes=sum((Counter(each["outcomes"]) for each in told), Counter[str]()),
        megabytes=sum(each["bytes"] for each in told) / 1e6,
        parts=[part for each in told for part in each["parts"]],
    )


@contextmanager
def _simulator(folder: Path) -> Iterator[SimulatorServer]:
    server = SimulatorServer(seed=7, ca_file=folder / "ca.pem")
    server.start()
    try:
        yield server
    finally:
        server.stop()


async def _ask_once(base_url: str, ca_file: Path, token: str, names: list[str]) -> None:
    """Have the simulator make its market before requests count: else they would reach its count in heaps."""
    async with open_http(ca_file=ca_file, in_flight=1) as http:
        for request in itertools.chain(map(chain, names), map(history, names)):
            address = f"{base_url}/marketdata/v1{request.path}"
            answer = await http.get(address, params=request.params, headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 200, answer.text


def _token(server: SimulatorServer) -> str:
    """An access token of the simulator's desk, without a browser."""
    redirect = "https://127.0.0.1:8182/callback"
    consent = server.desk.authorize({"client_id": SIMULATOR_APP_KEY, "redirect_uri": redirect})
    (code,) = parse_qs(urlsplit(dict(consent.headers)["location"]).query)["code"]
    basic = base64.b64encode(f"{SIMULATOR_APP_KEY}:{SIMULATOR_APP_SECRET}".encode()).decode()
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect}
    token: str = json.loads(server.desk.token(f"Basic {basic}", form).body)["access_token"]
    return token
