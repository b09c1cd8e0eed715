"""A TLS server on a raw socket that answers exactly the bytes a test scripts, and a client in front of it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from pydantic import SecretStr

from trade_analyst_pipeline.errors import AuthError
from trade_analyst_pipeline.market.clock import Clock, SimulatedClock
from trade_analyst_pipeline.schwab.auth import LoginAttempt, TokenClient
from trade_analyst_pipeline.schwab.budget import RequestBudget
from trade_analyst_pipeline.schwab.callback_ledger import CallbackLedger
from trade_analyst_pipeline.schwab.client import SchwabClient, open_http
from trade_analyst_pipeline.schwab.keys import open_keys
from trade_analyst_pipeline.schwab.login import login
from trade_analyst_pipeline.schwab.token_records import StoredTokens
from trade_analyst_pipeline.schwab.tokens import TokenStore
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.oauth import SIMULATOR_APP_KEY, SIMULATOR_APP_SECRET
from trade_analyst_pipeline.simulator.server import SimulatorServer

START = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)
Reply = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Authority:
    """A throw-away CA, its certificate on disk, and a server context for 127.0.0.1."""

    ca: trustme.CA
    file: Path

    def server_context(self, identity: str = "127.0.0.1") -> ssl.SSLContext:
        """TLS for a server that calls itself `identity`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(identity).configure_cert(context)
        return context


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One CA for the whole test process."""
    ca = trustme.CA()
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    return Authority(ca, file)


def answer(status: int, body: bytes = b"", *, kind: str = "application/json", **headers: str) -> Reply:
    """A whole, well-framed HTTP answer; header names with underscores for dashes."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return raw("\r\n".join([*lines, "", ""]).encode() + body)


def raw(data: bytes, *, close: bool = False) -> Reply:
    """Exactly these bytes, then the connection is kept or closed."""

    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if close:
            writer.close()

    return reply


def drip(head: bytes, unit: bytes, *, every: float = 0.02) -> Reply:
    """`head`, then `unit` again and again until the other side has gone."""

    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while not writer.is_closing():
            writer.write(unit)
            await writer.drain()
            await asyncio.sleep(every)

    return reply


def zipped(body: bytes) -> bytes:
    """`body` as one gzip member."""
    return gzip.compress(body, mtime=0)


@dataclass
class ScriptedServer:
    """Gives the scripted replies in order, the last one again and again, and keeps each request it saw."""

    replies: list[Reply]
    url: str = ""
    requests: list[str] = field(default_factory=list, repr=False)
    open_connections: int = 0
    most_connections: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.open_connections += 1
        self.most_connections = max(self.most_connections, self.open_connections)
        try:
            # cancelled: the scene is over while the client still listens
            gone = (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError)
            with contextlib.suppress(*gone):
                while not writer.is_closing():
                    head = await reader.readuntil(b"\r\n\r\n")
                    self.requests.append(head.decode("latin-1"))
                    reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                    await reply(writer)
        finally:
            self.open_connections -= 1
            writer.close()

    def header(self, index: int, name: str) -> str | None:
        """The value of a header of the request number `index`."""
        for line in self.requests[index].split("\r\n")[1:]:
            if line.lower().startswith(name.lower() + ":"):
                return line.split(":", 1)[1].strip()
        return None


@contextlib.asynccontextmanager
async def serving(context: ssl.SSLContext, *replies: Reply) -> AsyncIterator[ScriptedServer]:
    """A ScriptedServer on a free port of 127.0.0.1."""
    scripted = ScriptedServer(list(replies))
    server = await asyncio.start_server(scripted.handle, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    scripted.url = f"https://127.0.0.1:{port}"
    try:
        yield scripted
    finally:
        server.close()


class FakeTokens:
    """Access tokens `token-0`, `token-1` ...; each refresh gives the next and is counted."""

    def __init__(self, canary: str = "token") -> None:
        self._canary = SecretStr(canary)
        self.refreshes = 0

    def _current(self) -> str:
        return f"{self._canary.get_secret_value()}-{self.refreshes}"

    async def access_token(self) -> str:
        """The newest token."""
        return self._current()

    async def refresh_after_refusal(self, refused: str) -> str:
        """The next token, unless `refused` is not the newest any more."""
        if refused == self._current():
            self.refreshes += 1
        return self._current()


@contextlib.asynccontextmanager
async def client_for(
    server: ScriptedServer,
    ca_file: Path | None,
    *,
    tokens: FakeTokens | None = None,
    clock: Clock | None = None,
    deadline_seconds: float = 10.0,
    max_response_bytes: int = 1 << 20,
    in_flight: int = 6,
    connections: int | None = None,
) -> AsyncIterator[SchwabClient]:
    """A SchwabClient for `server`, on a simulated clock that starts at START unless told otherwise."""
    clock = clock or SimulatedClock(START)
    async with open_http(ca_file=ca_file, in_flight=connections or in_flight) as http:
        yield SchwabClient(
            base_url=server.url,
            http=http,
            tokens=tokens or FakeTokens(),
            budget=RequestBudget(per_minute=120, clock=clock, state_file=None),
            clock=clock,
            rng=random.Random(7),  # noqa: S311 - seeded jitter
            deadline_seconds=deadline_seconds,
            max_response_bytes=max_response_bytes,
            in_flight=in_flight,
        )


class Wire:
    """The helpers above, as tests get them."""

    start = START
    answer = staticmethod(answer)
    raw = staticmethod(raw)
    drip = staticmethod(drip)
    zipped = staticmethod(zipped)
    tokens = FakeTokens

    def __init__(self, authority: Authority) -> None:
        self.authority = authority

    def serving(
        self, *replies: Reply, identity: str = "127.0.0.1"
    ) -> contextlib.AbstractAsyncContextManager[ScriptedServer]:
        """A TLS server that gives these replies."""
        return serving(self.authority.server_context(identity), *replies)

    def refused_refresh(self, *replies: Reply, context: ssl.SSLContext | None = None) -> tuple[AuthError, Any]:
        """Refresh at a scripted token endpoint, which must fail: the error and the server's record."""

        async def scene() -> tuple[AuthError, Any]:
            async with serving(context or self.authority.server_context(), *replies) as server:
                client = TokenClient(
                    base_url=server.url,
                    app_key=SecretStr("key"),
                    app_secret=SecretStr("secret"),
                    redirect_uri="https://127.0.0.1/",
                    redirect_allowlist=["https://127.0.0.1/"],
                    ca_file=self.authority.file,
                )
                with pytest.raises(AuthError) as caught:
                    await asyncio.to_thread(client.refresh, SecretStr("CANARY-refresh"))
                return caught.value, server

        return asyncio.run(asyncio.wait_for(scene(), 30))

    def client(self, server: ScriptedServer, **options: Any) -> contextlib.AbstractAsyncContextManager[SchwabClient]:
        """A client that trusts the test's CA."""
        return client_for(server, options.pop("ca_file", self.authority.file), **options)


@pytest.fixture
def wire(authority: Authority) -> Wire:
    """Everything needed to script a source and to ask it."""
    return Wire(authority)


@pytest.fixture
def redirect_uri() -> str:
    """A redirect address on a free port, below the range from which the kernel serves outgoing connections."""
    while True:
        port = secrets.choice(range(12_000, 32_000))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return f"https://127.0.0.1:{port}/callback"


class HandTime:
    """The machine's clock in seconds since the epoch, moved by the test."""

    def __init__(self) -> None:
        self.at = START.timestamp()

    def __call__(self) -> float:
        """Where the hand stands."""
        return self.at


@pytest.fixture
def hand_time() -> HandTime:
    """One clock for simulator and store."""
    return HandTime()


@pytest.fixture(scope="session")
def market() -> Market:
    """The simulator's market, made once: these tests hardly look at it."""
    return Market(7)


@pytest.fixture
def simulator(tmp_path: Path, redirect_uri: str, hand_time: HandTime, market: Market) -> Iterator[SimulatorServer]:
    """The simulator over TLS, token lives on `hand_time`."""
    with SimulatorServer(
        seed=7, market=market, ca_file=tmp_path / "ca.pem", redirect_uris=(redirect_uri,), machine_now=hand_time
    ) as server:
        yield server


class Logins:
    """A token client, a store and a browser's stand-in for one simulator."""

    def __init__(self, simulator: SimulatorServer, redirect_uri: str, folder: Path, now: HandTime) -> None:
        self.simulator = simulator
        self.redirect_uri = redirect_uri
        self.folder = folder
        self.now = now
        self.store = self.open_store()
        self.ledger = CallbackLedger(folder / "callbacks" / "ledger", now=now)
        self.page: httpx.Response | None = None

    def client(self, **options: Any) -> TokenClient:
        """A client of the simulator's app."""
        settings: dict[str, Any] = {
            "base_url": self.simulator.base_url,
            "app_key": SecretStr(SIMULATOR_APP_KEY),
            "app_secret": SecretStr(SIMULATOR_APP_SECRET),
            "redirect_uri": self.redirect_uri,
            "redirect_allowlist": [self.redirect_uri],
            "ca_file": self.simulator.ca_file,
            "now": self.now,
        }
        return TokenClient(**(settings | options))

    def begin(self, **options: Any) -> LoginAttempt:
        """A login whose redirect is expected for five minutes."""
        return self.client(**options).begin_login(ledger=self.ledger, seconds=300)

    def open_store(self) -> TokenStore:
        """The store of these tests, as another process would open it."""
        path = self.folder / "private" / "tokens"
        keys = open_keys(None, key_file=self.folder / "config" / "key", token_file=path)
        return TokenStore(path, keys=keys, owner="simulate:test", now=self.now)

    def consent(self, url: str) -> None:
        """Open the authorize page as a browser does, follow the redirect to the listener, keep the page it shows."""
        context = ssl.create_default_context(cafile=str(self.simulator.ca_file))
        context.load_verify_locations(str(self.folder / "callback.pem"))
        self.page = httpx.get(url, verify=context, follow_redirects=True, trust_env=False)

    def redirect(self, url: str) -> SecretStr:
        """The address that consent leads to, as a person would copy it."""
        context = ssl.create_default_context(cafile=str(self.simulator.ca_file))
        return SecretStr(httpx.get(url, verify=context, trust_env=False).headers["location"])

    def log_in(self, **options: Any) -> StoredTokens:
        """The whole flow through the listener."""
        certificate = self.folder / "callback.pem"
        return login(
            self.client(**options),
            self.store,
            ledger=self.ledger,
            open_browser=self.consent,
            certificate_file=certificate,
            wait_seconds=5,
        )

    def token_requests(self) -> int:
        """How often the token endpoint was asked."""
        return self.simulator.requests["/v1/oauth/token"]


@pytest.fixture
def logins(simulator: SimulatorServer, redirect_uri: str, tmp_path: Path, hand_time: HandTime) -> Logins:
    """Everything needed to log in."""
    return Logins(simulator, redirect_uri, tmp_path, hand_time)
