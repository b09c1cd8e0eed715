"""A TLS server on a raw socket that answers exactly the bytes a test scripts, and a client in front of it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr

from trade_analyst_pipeline.market.clock import Clock, SimulatedClock
from trade_analyst_pipeline.schwab.budget import RequestBudget
from trade_analyst_pipeline.schwab.client import SchwabClient, open_http

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

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.open_connections += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
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
) -> AsyncIterator[SchwabClient]:
    """A SchwabClient for `server`, on a simulated clock that starts at START unless told otherwise."""
    clock = clock or SimulatedClock(START)
    async with open_http(ca_file=ca_file, in_flight=in_flight) as http:
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

    def client(self, server: ScriptedServer, **options: Any) -> contextlib.AbstractAsyncContextManager[SchwabClient]:
        """A client that trusts the test's CA."""
        return client_for(server, options.pop("ca_file", self.authority.file), **options)


@pytest.fixture
def wire(authority: Authority) -> Wire:
    """Everything needed to script a source and to ask it."""
    return Wire(authority)
