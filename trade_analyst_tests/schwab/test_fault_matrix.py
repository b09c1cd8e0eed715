"""Every fault of the wire at every endpoint: ends in time, as docs/errors.md says, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import pytest
from pydantic import SecretStr

from trade_analyst_pipeline import errors
from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.capture.requesting import Question, Source
from trade_analyst_pipeline.capture.take import take
from trade_analyst_pipeline.datasets import options
from trade_analyst_pipeline.market.clock import SimulatedClock
from trade_analyst_pipeline.schwab import token_transport
from trade_analyst_pipeline.schwab.auth import TokenClient
from trade_analyst_pipeline.schwab.budget import RequestBudget
from trade_analyst_pipeline.schwab.client import SchwabClient, open_http
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.simulator.answers import Answer
from trade_analyst_pipeline.simulator.fault_proxy import WIRE_FAULTS, FaultProxy, ProxyRequest
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.routes import answer
from trade_analyst_pipeline.storage.archive import Archive

pytestmark = pytest.mark.reliability

DAY, INSTANT = date(2026, 1, 5), datetime(2026, 1, 5, 20, 55, tzinfo=UTC)
GRACE, AT_ONCE = 0.25, 8
# Faults that hold a call are met with a short deadline; the others with one that a busy machine does not reach.
SHORT, LONG = 1.0, 10.0
BOUND = 4 << 20
GRANT = b'{"access_token":"a","refresh_token":"r","expires_in":1800,"token_type":"Bearer"}'
RETAKES = 2


def request(path: str, *symbols: str, **params: str) -> MarketDataRequest:
    """A request of a made-up dataset."""
    return MarketDataRequest("matrix", path, tuple(params.items()), symbols)


ENDPOINTS = {
    "quotes": request("/quotes", "AAPL", "$SPX", symbols="AAPL,$SPX"),
    "single quote": request("/AAPL/quotes", "AAPL"),
    "chains": request("/chains", "AAPL", symbol="AAPL", strikeCount="2"),
    "expirationchain": request("/expirationchain", "AAPL", symbol="AAPL"),
    "pricehistory": request("/pricehistory", "AAPL", symbol="AAPL", periodType="month", frequencyType="daily"),
    "markets": request("/markets", markets="equity,option"),
    "one market": request("/markets/equity"),
    "instruments": request("/instruments", "AAPL", symbol="AAPL", projection="fundamental"),
    "cusip": request("/instruments/037833100"),
    "movers": request("/movers/$SPX", sort="VOLUME", frequency="0"),
}
TOKEN = "token"


@dataclass(frozen=True)
class Documented:
    """A row of the table in docs/errors.md; two outcomes, where chance decides, have a slash between them."""

    summary: str
    market_data: str
    token: str


def documented() -> dict[str, Documented]:
    """The table of faults, by name."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \| (\S+) \| (\S+) \|$", page, flags=re.MULTILINE)
    return {
        name: Documented(summary, ours.replace("`", ""), token.replace("`", "")) for name, summary, ours, token in rows
    }


def test_every_fault_is_documented() -> None:
    """The table names each fault once, says what it does in the words of the registry, and names errors of ours."""
    table = documented()
    assert {name: row.summary for name, row in table.items()} == {n: f.summary for n, f in WIRE_FAULTS.items()}
    outcomes = {
        outcome for row in table.values() for told in (row.market_data, row.token) for outcome in told.split("/")
    }
    assert outcomes - {"answer"} <= set(dir(errors))
    assert len(table) >= 30


@pytest.fixture(scope="module")
def bodies() -> dict[str, bytes]:
    """A genuine answer of the simulator for each endpoint."""
    market = Market(7)
    found = {name: answer(market, INSTANT, asked.path, dict(asked.params)) for name, asked in ENDPOINTS.items()}
    assert {name: reply.status for name, reply in found.items()} == dict.fromkeys(ENDPOINTS, 200)
    return {ENDPOINTS[name].path: reply.body for name, reply in found.items()}


class Origin:
    """Answers with those bodies, and with a grant at the token endpoint."""

    def __init__(self, bodies: dict[str, bytes]) -> None:
        self._bodies = bodies

    async def __call__(self, asked: ProxyRequest) -> Answer:
        """The answer to one request."""
        path = unquote(urlsplit(asked.target).path)
        return Answer(200, GRANT if path.endswith("/token") else self._bodies[path.removeprefix("/marketdata/v1")])


class Proxies:
    """One proxy for all faults that an address can name, and one each for those that strike before TLS."""

    def __init__(self, origin: Origin, folder: Path, names: Iterable[str], stack: contextlib.ExitStack) -> None:
        self.shared = stack.enter_context(FaultProxy(origin, ca_file=folder / "shared.pem"))
        self._own: dict[str, FaultProxy] = {}
        for name in names:
            if WIRE_FAULTS[name].is_before_tls:
                self._own[name] = stack.enter_context(FaultProxy(origin, ca_file=folder / f"{name}.pem"))
                self._own[name].strike(name, times=None)
        self.ca_file = folder / "all.pem"
        self.ca_file.write_bytes(b"".join(proxy.ca_file.read_bytes() for proxy in self.all))

    @property
    def all(self) -> list[FaultProxy]:
        """Each of them."""
        return [self.shared, *self._own.values()]

    def url(self, name: str) -> str:
        """The base address at which the fault is met."""
        return self._own[name].base_url if name in self._own else self.shared.url_with(name)

    def wait_until_left(self) -> None:
        """Return when no connection is open any more; fail after five seconds."""
        until = time.monotonic() + 5
        while any(proxy.open_connections for proxy in self.all):
            assert time.monotonic() < until, "a connection stayed open"
            time.sleep(0.01)


@contextlib.contextmanager
def proxied(bodies: dict[str, bytes], folder: Path, names: Iterable[str]) -> Iterator[Proxies]:
    """The proxies for these faults."""
    with contextlib.ExitStack() as stack:
        yield Proxies(Origin(bodies), folder, names, stack)


class SteadyTokens:
    """The same token whatever happens."""

    async def access_token(self) -> str:
        """It."""
        return "token"

    async def refresh_after_refusal(self, refused: str) -> str:
        """It again."""
        return refused


def client_of(url: str, http: httpx.AsyncClient, deadline: float = LONG) -> SchwabClient:
    """A client whose waits take no time."""
    clock = SimulatedClock(INSTANT)
    return SchwabClient(
        base_url=url,
        http=http,
        tokens=SteadyTokens(),
        budget=RequestBudget(per_minute=120, clock=clock, state_file=None),
        clock=clock,
        rng=random.Random(7),  # noqa: S311 - seeded jitter
        deadline_seconds=deadline,
        max_response_bytes=BOUND,
    )


def cells(is_full: bool) -> list[tuple[str, str]]:
    """Fault and endpoint of each call: all of them, or a diagonal that meets each fault and each endpoint."""
    places = [*ENDPOINTS, TOKEN]
    if is_full:
        return [(fault, place) for fault in WIRE_FAULTS for place in places]
    diagonal = [(fault, list(ENDPOINTS)[index % len(ENDPOINTS)]) for index, fault in enumerate(WIRE_FAULTS)]
    return diagonal + [(fault, TOKEN) for fault in list(WIRE_FAULTS)[::4]]


async def fetched(url: str, place: str, http: httpx.AsyncClient, deadline: float = LONG) -> tuple[str, float]:
    """What becomes of one call, and the seconds it took; anything but a SourceError goes through."""
    begin = time.monotonic()
    try:
        response = await client_of(url, http, deadline).fetch(ENDPOINTS[place])
        outcome = "answer" if response.status == 200 else f"status {response.status}"
    except errors.SourceError as error:
        outcome = type(error).__name__
    return outcome, time.monotonic() - begin


def refreshed(url: str, ca_file: Path) -> tuple[str, float]:
    """What becomes of one token request, and the seconds it took; anything but an AuthError goes through."""
    address = "https://127.0.0.1/"
    client = TokenClient(
        base_url=url,
        app_key=SecretStr("key"),
        app_secret=SecretStr("secret"),
        redirect_uri=address,
        redirect_allowlist=[address],
        ca_file=ca_file,
    )
    begin = time.monotonic()
    try:
        client.refresh(SecretStr("refresh"))
        outcome = "answer"
    except errors.AuthError as error:
        outcome = type(error).__name__
    return outcome, time.monotonic() - begin


@contextlib.asynccontextmanager
async def pool(proxies: Proxies) -> AsyncIterator[httpx.AsyncClient]:
    """The transport that all calls share; at the end it still serves as many calls at a time as at first."""
    async with open_http(ca_file=proxies.ca_file, in_flight=AT_ONCE) as http:
        yield http
        good = await asyncio.gather(*(fetched(proxies.shared.base_url, "quotes", http) for _ in range(2 * AT_ONCE)))
        assert Counter(outcome for outcome, _ in good) == {"answer": 2 * AT_ONCE}


Case = tuple[str, str]


def deadline_of(case: Case) -> float:
    """The seconds a case has in all."""
    fault, place = case
    row = documented()[fault]
    holds = row.token != "answer" if place == TOKEN else row.market_data == "DeadlineExceededError"
    return SHORT if holds else LONG


async def met(cases: list[Case], proxies: Proxies) -> dict[Case, tuple[str, float]]:
    """The outcome of each case, some at a time; one that took too long is met again alone: machines stall."""
    turn, found = asyncio.Semaphore(AT_ONCE), dict[Case, tuple[str, float]]()
    threads = ThreadPoolExecutor(AT_ONCE)
    deadlines = {case: deadline_of(case) for case in cases}

    async def meet(case: Case, http: httpx.AsyncClient) -> None:
        fault, place = case
        async with turn:
            if place == TOKEN:
                loop = asyncio.get_running_loop()
                found[case] = await loop.run_in_executor(threads, refreshed, proxies.url(fault), proxies.ca_file)
            else:
                found[case] = await fetched(proxies.url(fault), place, http, deadlines[case])

    with threads:
        async with pool(proxies) as http:
            await asyncio.gather(*(meet(case, http) for case in cases))
            for _ in range(RETAKES):
                late = [case for case, (_, seconds) in found.items() if seconds > deadlines[case] + GRACE]
                for case in late:
                    print(f"took {found[case][1]:.2f} s at first, and is met again alone: {case}")
                    await meet(case, http)
    return found


def descriptors() -> int:
    """How many files and sockets this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")  # closed as its frames are emptied
def test_each_fault_at_each_endpoint_ends_in_time_as_documented(
    bodies: dict[str, bytes], tmp_path: Path, is_full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call ends by its deadline + 0.25 s, as the table says, with no other exception and no open socket."""
    table, cases = documented(), cells(is_full)
    found: dict[Case, tuple[str, float]] = {}
    with proxied(bodies, tmp_path, WIRE_FAULTS) as proxies:
        asyncio.run(met([("gzip-bomb", "quotes")], proxies))  # made once, and everything is imported
        proxies.wait_until_left()
        before = descriptors()
        for seconds in (SHORT, LONG):  # token requests have one bound for all
            monkeypatch.setattr(token_transport, "ANSWER_SECONDS", seconds)
            found |= asyncio.run(met([case for case in cases if deadline_of(case) == seconds], proxies))
        proxies.wait_until_left()
        after = descriptors()
    over = {case: seconds - deadline_of(case) for case, (_, seconds) in found.items()}
    print(f"{len(found)} calls, {len(WIRE_FAULTS)} faults, {len({place for _, place in cases})} endpoints")
    print(f"ended at most {max(over.values()):.3f} s after the deadline; descriptors {before} before, {after} after")
    print(f"{Counter(outcome for outcome, _ in found.values())}")
    expected = {
        (fault, place): table[fault].token if place == TOKEN else table[fault].market_data for fault, place in cases
    }
    assert {case: outcome for case, (outcome, _) in found.items() if outcome not in expected[case].split("/")} == {}
    assert {case: seconds for case, seconds in over.items() if seconds > GRACE} == {}
    assert len(found) == len(cases)
    assert after == before


@pytest.mark.parametrize("fault", ["drip-body", "drip-header"])
def test_control_a_read_timeout_alone_does_not_end_a_drip(bodies: dict[str, bytes], tmp_path: Path, fault: str) -> None:
    """Known-bad control: plain httpx with a read timeout of 0.2 s is still reading after 1.25 s."""

    async def scene(url: str, ca_file: Path) -> None:
        context = ssl.create_default_context(cafile=str(ca_file))
        async with httpx.AsyncClient(verify=context, trust_env=False, timeout=httpx.Timeout(5, read=0.2)) as http:
            await asyncio.wait_for(http.get(f"{url}/marketdata/v1/quotes"), SHORT + GRACE)

    with proxied(bodies, tmp_path, []) as proxies, pytest.raises(TimeoutError):
        asyncio.run(scene(proxies.url(fault), proxies.ca_file))


# --- memory


def measured(mode: str, fault: str, proxies: Proxies) -> dict[str, Any]:
    """What a process of its own tells of one answer."""
    command = [sys.executable, str(Path(__file__).with_name("bomb_worker.py")), mode]
    command += [proxies.shared.base_url, proxies.url(fault), str(proxies.ca_file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    print(f"{mode}, {fault}: {told['outcome']}, +{told['grown_kib'] / 1024:.1f} MiB, {told['seconds']:.2f} s")
    return told


HOGS = ["gzip-bomb", "endless-body", "announced-giant", "json-long-string", "long-header", "many-headers"]


def test_no_answer_exhausts_memory(bodies: dict[str, bytes], tmp_path: Path, is_full: bool) -> None:
    """A gzip bomb of 512 MiB, and every other hog, grows the process by at most 64 MiB, at the default bound of 32."""
    table = documented()
    with proxied(bodies, tmp_path, []) as proxies:
        for fault in HOGS if is_full else HOGS[:1]:
            told = measured("ours", fault, proxies)
            assert told["outcome"] == table[fault].market_data
            assert told["grown_kib"] <= 64 << 10


def test_control_a_plain_get_balloons(bodies: dict[str, bytes], tmp_path: Path, is_full: bool) -> None:
    """Known-bad control: plain httpx unpacks the bomb as far as one lets it, and the measure sees it."""
    with proxied(bodies, tmp_path, []) as proxies:
        told = measured("plain" if is_full else "plain, in part", "gzip-bomb", proxies)
    assert told["outcome"] == (f"{512 << 20} bytes" if is_full else f"more than {192 << 20} bytes")
    assert told["grown_kib"] > (512 if is_full else 192) << 10


# --- what had arrived

SYMBOLS = ("AAPL", "MSFT", "SPY", "$SPX")
STRUCK = "MSFT"
CURABLE = {"reset-at-connect", "end-at-connect", "plain-text", "handshake-alert"}


class Chains:
    """Answers each symbol's chain, the same every time."""

    def __init__(self) -> None:
        market = Market(7)
        self.requests = options.requests(SYMBOLS, strike_count=2)
        self.bodies = {
            asked.symbols[0]: answer(market, INSTANT, asked.path, dict(asked.params)).body for asked in self.requests
        }

    async def __call__(self, asked: ProxyRequest) -> Answer:
        """The answer to one request."""
        return Answer(200, self.bodies[dict(parse_qsl(urlsplit(asked.target).query))["symbol"]])

    @property
    def question(self) -> Question:
        """All of them, each whole."""
        return Question(lambda _: self.requests, is_cut_short=lambda _: False, split=self._split)

    @staticmethod
    def _split(asked: MarketDataRequest) -> list[MarketDataRequest]:
        raise ValueError(asked.path)


async def captured(fault: str, chains: Chains, folder: Path) -> tuple[dict[str, bytes], list[tuple[Any, str]]]:
    """A capture of four chains, one of which meets the fault: what is sealed, by symbol, and the gaps."""
    archive = Archive(folder / "raw")
    with FaultProxy(chains, ca_file=folder / "ca.pem") as proxy:
        is_early = WIRE_FAULTS[fault].is_before_tls
        proxy.strike(fault, symbol=None if is_early else STRUCK, times=1 if is_early else None)
        async with open_http(ca_file=proxy.ca_file, in_flight=4) as http:
            holds = documented()[fault].market_data == "DeadlineExceededError"
            client = client_of(proxy.base_url, http, 3 * SHORT if holds else LONG)
            source = Source(client, SimulatedClock(INSTANT))
            snapshot = Snapshot("options", DAY, INSTANT, SYMBOLS)
            capture = await take(snapshot, chains.question, source=source, archive=archive)
    assert capture is not None
    archive.verify(capture)
    sealed: list[RawResponse] = list(archive.responses(capture))
    print([(gap.reason, gap.detail) for gap in capture.gaps])
    return {found.request.symbols[0]: found.body for found in sealed}, [(g.symbols, g.reason) for g in capture.gaps]


def test_no_fault_loses_an_answer_that_had_arrived(tmp_path: Path, is_full: bool) -> None:
    """Where one of four requests meets a fault, the other three are sealed byte for byte and it is a gap, by reason."""
    chains, table, turn = Chains(), documented(), asyncio.Semaphore(4)
    names = list(WIRE_FAULTS) if is_full else list(WIRE_FAULTS)[::4]

    async def one(fault: str) -> tuple[dict[str, bytes], list[tuple[Any, str]]]:
        async with turn:
            folder = tmp_path / fault
            folder.mkdir()
            return await captured(fault, chains, folder)

    async def scene() -> list[tuple[dict[str, bytes], list[tuple[Any, str]]]]:
        return await asyncio.gather(*map(one, names))

    for fault, (sealed, gaps) in zip(names, asyncio.run(scene()), strict=True):
        assert {symbol: sealed[symbol] == chains.bodies[symbol] for symbol in sealed if symbol != STRUCK} == (
            dict.fromkeys(sealed.keys() - {STRUCK}, True)
        )
        if fault in CURABLE or table[fault].market_data == "answer":
            assert (sorted(sealed), gaps) == (sorted(SYMBOLS), []), fault
            continue
        reasons = [getattr(errors, name).reason for name in table[fault].market_data.split("/")]
        assert len(gaps) == 1, fault
        assert gaps[0][1] in reasons, fault
        assert sorted([*sealed, *gaps[0][0]]) == sorted(SYMBOLS), fault
        assert WIRE_FAULTS[fault].is_before_tls or gaps[0][0] == (STRUCK,), fault
    print(f"{len(names)} faults, three other answers sealed each time")
