"""A TLS server on a raw socket in front of the simulator: passes requests on, and plays faults that it names.

Who is struck is decided here, what a fault does in `wire_faults.py`. A fault strikes the requests a plan says
(`FaultProxy.strike`), or every request below the address that names it (`FaultProxy.url_with`). One that acts before
TLS strikes whole connections, whatever they are for. Nothing here knows what an answer means.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from trade_analyst_pipeline.simulator.answers import JSON, Answer
from trade_analyst_pipeline.simulator.certificate import make_identity
from trade_analyst_pipeline.simulator.faults import Ask, Fault
from trade_analyst_pipeline.simulator.wire_faults import WIRE_FAULTS, Wire, WireFault

__all__ = ["WIRE_FAULTS", "FaultProxy", "ProxyRequest", "Strike", "forwarding"]

_PREFIX: Final = "/fault/"
_BASE: Final = "/marketdata/v1"
_DROPPED: Final = frozenset({"connection", "content-length", "transfer-encoding", "content-type", "keep-alive"})
_GONE: Final = (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ssl.SSLError, TimeoutError)
_HANDSHAKE_SECONDS: Final = 10.0


@dataclass(frozen=True)
class ProxyRequest:
    """A request as it stood on the wire, without the prefix that names a fault."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    fault: str | None = None

    @property
    def ask(self) -> Ask:
        """What a plan looks at: the path below the market-data base, and the symbols."""
        parts = urlsplit(self.target)
        query = parse_qs(parts.query)
        path = unquote(parts.path.rpartition(_BASE)[2])
        named = (query.get("symbols") or query.get("symbol") or [""])[0]
        return Ask(path, tuple(named.split(",")) if named else (path[1:].partition("/")[0],))


Origin = Callable[[ProxyRequest], Awaitable[Answer]]


@dataclass
class Strike:
    """A fault and whom it is for; `rule.struck` counts."""

    fault: WireFault
    rule: Fault


class FaultProxy:
    """The proxy on a free port of 127.0.0.1, on a thread of its own; a context manager.

    `origin` answers what is not struck. The authority to trust is written to `ca_file`. `requests` are those read so
    far, in order; `open_connections` those open now. `names` are further host names the certificate is for.
    """

    def __init__(
        self, origin: Origin, *, ca_file: Path, port: int = 0, pace: float = 0.02, names: tuple[str, ...] = ()
    ) -> None:
        self._origin = origin
        self._ca_file = ca_file
        self._pace = pace
        self._names = names
        self._wanted_port = port
        self._strikes: list[Strike] = []
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.requests: list[ProxyRequest] = []
        self.base_url = ""

    @property
    def ca_file(self) -> Path:
        """The authority to trust."""
        return self._ca_file

    @property
    def open_connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def url_with(self, name: str) -> str:
        """The base address below which every request meets that fault; not for one that acts before TLS."""
        if WIRE_FAULTS[name].is_before_tls:
            message = f"{name} acts before a request is known: use strike()"
            raise ValueError(message)
        return f"{self.base_url}{_PREFIX}{name}"

    def strike(self, name: str, *, path: str | None = None, symbol: str | None = None, times: int | None = 1) -> Strike:
        """Switch a fault on for the next `times` matching requests or, before TLS, connections (None: for all)."""
        found = Strike(WIRE_FAULTS[name], Fault(lambda answer: answer, path, symbol, None, times))
        self._strikes.append(found)
        return found

    def clear(self) -> None:
        """Switch all faults off."""
        self._strikes.clear()

    def __enter__(self) -> FaultProxy:
        context = _server_context(self._ca_file, self._names)
        try:
            listener = socket.create_server(("127.0.0.1", self._wanted_port), backlog=256)
        except OSError:
            self._loop.close()
            raise
        listener.setblocking(False)
        self.base_url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, args=(listener, context), name="fault-proxy", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=10.0)

    def _run(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.add_reader(listener, self._accept, listener, context)
        try:
            self._loop.run_forever()
            self._loop.remove_reader(listener)
            self._loop.run_until_complete(_cancelled(self._connections))
        finally:
            listener.close()
            self._loop.close()

    def _accept(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        try:
            accepted, _ = listener.accept()
        except OSError:
            return  # who knocked has gone again
        accepted.setblocking(False)
        task = self._loop.create_task(self._connection(accepted, context))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _connection(self, accepted: socket.socket, context: ssl.SSLContext) -> None:
        strike = self._struck(Ask(""), is_before_tls=True)
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await _streams(accepted, None if strike else context)
            wire = Wire(reader, writer, context, pace=self._pace)
            if strike is not None:
                await strike.play(wire)
                return
            while not writer.is_closing() and (request := await _read_request(reader)) is not None:
                self.requests.append(request)
                await self._reply(wire, request)
        except (*_GONE, OSError, ValueError):
            return  # the other side has gone, which is what many faults are for, or does not speak HTTP
        finally:
            if writer is None:
                accepted.close()
            else:
                await _let_go(writer)

    async def _reply(self, wire: Wire, request: ProxyRequest) -> None:
        if request.fault is not None and request.fault not in WIRE_FAULTS:
            await wire.send_answer(Answer(404, b"no fault has this name", "text/plain"))
            return
        wire.answer = await self._origin(request)
        fault = WIRE_FAULTS[request.fault] if request.fault else self._struck(request.ask, is_before_tls=False)
        if fault is None:
            await wire.send_answer(wire.answer)
        else:
            await fault.play(wire)

    def _struck(self, ask: Ask, *, is_before_tls: bool) -> WireFault | None:
        for strike in list(self._strikes):
            if strike.fault.is_before_tls == is_before_tls and strike.rule.matches(ask):
                strike.rule.struck += 1
                strike.rule.times_left = None if strike.rule.times_left is None else strike.rule.times_left - 1
                return strike.fault
        return None


def forwarding(base_url: str, ca_file: Path) -> Origin:
    """An origin that asks the server at `base_url`, each request on a connection of its own."""
    parts = urlsplit(base_url)
    context = ssl.create_default_context(cafile=str(ca_file))

    async def origin(request: ProxyRequest) -> Answer:
        reader, writer = await asyncio.open_connection(
            parts.hostname, parts.port, ssl=context, server_hostname=parts.hostname
        )
        try:
            writer.write(_passed_on(request, parts.path, parts.netloc))
            await writer.drain()
            return _parsed(await reader.read(-1))
        finally:
            await _let_go(writer)

    return origin


def _passed_on(request: ProxyRequest, path: str, host: str) -> bytes:
    lines = [f"{request.method} {path.rstrip('/')}{request.target} HTTP/1.1", f"host: {host}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in request.headers if name not in {"host", "connection"}]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body


def _parsed(data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    kept = tuple((name, value) for name, value in headers if name not in _DROPPED)
    return Answer(int(status_line.split(" ")[1]), body, dict(headers).get("content-type", JSON), kept)


async def _read_request(reader: asyncio.StreamReader) -> ProxyRequest | None:
    """The next request of a connection; None when it has ended."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = tuple((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines) if name)
    body = await reader.readexactly(int(dict(headers).get("content-length", "0")))
    fault = None
    if target.startswith(_PREFIX):
        fault, _, rest = target.removeprefix(_PREFIX).partition("/")
        target = f"/{rest}"
    return ProxyRequest(method, target, headers, body, fault)


async def _streams(
    accepted: socket.socket, context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Streams over an accepted socket, with the server's side of TLS where a context is given."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    protocol = asyncio.StreamReaderProtocol(reader)
    timeout = None if context is None else _HANDSHAKE_SECONDS
    transport, _ = await loop.connect_accepted_socket(
        lambda: protocol, accepted, ssl=context, ssl_handshake_timeout=timeout
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def _cancelled(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _let_go(writer: asyncio.StreamWriter) -> None:
    """Close at once; the other side's farewell is not waited for."""
    if not writer.is_closing():
        writer.transport.abort()
    with contextlib.suppress(*_GONE, OSError):
        await writer.wait_closed()


def _server_context(ca_file: Path, names: tuple[str, ...]) -> ssl.SSLContext:
    identity = make_identity(datetime.now(UTC), names)
    ca_file.parent.mkdir(parents=True, exist_ok=True)
    ca_file.write_bytes(identity.authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory(prefix="fault-proxy-") as folder:
        certificate, key = Path(folder) / "certificate.pem", Path(folder) / "key.pem"
        certificate.write_bytes(identity.certificate)
        key.touch(mode=0o600)
        key.write_bytes(identity.key)
        context.load_cert_chain(certificate, key)
    return context
