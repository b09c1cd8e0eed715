"""The simulator as a server: HTTPS on loopback, OAuth, and market data at the instant the base address names.

Below `/at/<UTC instant>/marketdata/v1` the market stands at that instant, whoever asks and however often; without it
it follows the clock. Token lifetimes always follow the machine's clock.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Unpack

import uvicorn
from starlette.applications import Starlette

from trade_analyst_pipeline.simulator.application import SimulatorApp
from trade_analyst_pipeline.simulator.certificate import make_identity
from trade_analyst_pipeline.simulator.faults import FaultPlan
from trade_analyst_pipeline.simulator.front import WireFront
from trade_analyst_pipeline.simulator.limits import Conditions
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.oauth import DEFAULT_REDIRECT_URIS, DeskOptions, OAuthDesk
from trade_analyst_pipeline.simulator.scenario import Scenario
from trade_analyst_pipeline.simulator.streamer import transports_in
from trade_analyst_pipeline.simulator.streamer_desk import StreamerDesk

_FINISH_SECONDS = 5.0
_STEP_SECONDS = 0.02


def machine_time() -> datetime:
    """The machine's clock, UTC."""
    return datetime.now(UTC)


def create_app(
    market: Market,
    *,
    now: Callable[[], datetime] = machine_time,
    machine_now: Callable[[], float] = time.time,
    redirect_uris: tuple[str, ...] = DEFAULT_REDIRECT_URIS,
) -> Starlette:
    """The application alone, for another server or an in-process transport."""
    return SimulatorApp(market, desk=OAuthDesk(machine_now=machine_now, redirect_uris=redirect_uris), now=now).asgi()


class _Server(uvicorn.Server):
    """A uvicorn server that says when it listens."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the answers under way, then drop clients that keep idle connections open.

        Closing TLS politely waits for the other side, which an idle client never looks at.
        """
        state = self.server_state
        waited = 0.0
        while state.tasks and waited < _FINISH_SECONDS:
            await asyncio.sleep(_STEP_SECONDS)
            waited += _STEP_SECONDS
        for connection in list(state.connections):
            connection.shutdown()
        await asyncio.sleep(_STEP_SECONDS)
        for connection in list(state.connections):
            connection.transport.abort()
        await super().shutdown(sockets=sockets)


def _loopback_socket(port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(("127.0.0.1", port))
    except OSError:
        found.close()
        raise
    return found


class SimulatorServer:
    """The simulator on 127.0.0.1 over TLS, on a thread of its own.

    `port` 0 takes a free one. The certificate authority to trust is written to `ca_file`; the private key exists only
    in memory and, while the server reads it, in a folder nobody else can open. `names` are further host names the
    certificate is for. A `scenario` sets conditions and faults from the start; where it names failures below HTTP, the
    fault proxy listens in the server's place. `options` are the desk's.
    """

    def __init__(
        self,
        *,
        seed: int,
        ca_file: Path,
        port: int = 0,
        now: Callable[[], datetime] = machine_time,
        machine_now: Callable[[], float] = time.time,
        redirect_uris: tuple[str, ...] = DEFAULT_REDIRECT_URIS,
        compress: bool = False,
        market: Market | None = None,
        names: tuple[str, ...] = (),
        scenario: Scenario | None = None,
        **options: Unpack[DeskOptions],
    ) -> None:
        self.names = names
        halts = () if scenario is None else scenario.halts
        self.market = market if market is not None else Market(seed, halts=halts)
        self.ca_file = ca_file
        self.desk = OAuthDesk(machine_now=machine_now, redirect_uris=redirect_uris, **options)
        self._app = SimulatorApp(self.market, desk=self.desk, now=now, compress=compress)
        self._front: WireFront | None = None
        self._wire_faults = () if scenario is None else scenario.wire_faults
        if scenario is not None:
            scenario.apply(self._app.conditions, self._app.faults)
            scenario.apply_stream(self._app.streamer)
        self._wanted_port = port
        self._socket: socket.socket | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self.base_url = ""

    @property
    def faults(self) -> FaultPlan:
        """Failures on demand."""
        return self._app.faults

    @property
    def conditions(self) -> Conditions:
        """What limits the answers at present."""
        return self._app.conditions

    @property
    def streamer(self) -> StreamerDesk:
        """The streamer: its rules, faults and record, and the tape behind it."""
        return self._app.streamer

    @property
    def requests(self) -> Counter[str]:
        """Requests answered so far, by path below the base (`/chains`) or OAuth path."""
        return self._app.requests

    def at(self, instant: datetime) -> str:
        """The base address under which the market stands at that instant."""
        return f"{self.base_url}/at/{instant.astimezone(UTC).isoformat().replace('+00:00', 'Z')}"

    def start(self) -> None:
        """Listen; returns once requests are answered. Raises OSError when the port is taken."""
        listening = threading.Event()
        server = self._prepare(listening.set)
        self._thread = threading.Thread(
            target=server.run, kwargs={"sockets": [self._socket]}, name="simulator", daemon=True
        )
        self._thread.start()
        listening.wait(timeout=10.0)

    def run(self, announce: Callable[[str], None]) -> None:
        """Listen in the foreground until interrupted; `announce` gets the base address once requests are answered."""
        server = self._prepare(lambda: announce(self.base_url))
        server.run(sockets=[self._socket] if self._socket else None)

    def stop(self) -> None:
        """End the server and wait for its thread; answers under way are finished."""
        if self._front is not None:
            self._front.close()
            self._front = None
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout=10.0)
        if self._socket is not None:
            self._socket.close()
        self._server = self._thread = self._socket = None

    def __enter__(self) -> SimulatorServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _prepare(self, announce: Callable[[], None]) -> _Server:
        if self._wire_faults:
            self._front = WireFront(self._wire_faults)
        port, ca_file = (0, self._front.inner_ca_file) if self._front else (self._wanted_port, self.ca_file)
        self._socket = _loopback_socket(port)
        self.base_url = f"https://127.0.0.1:{self._socket.getsockname()[1]}"
        server = self._server = _Server(self._config(ca_file), announce)
        self._app.transports = transports_in(lambda: server.server_state.connections)
        if self._front:
            self._open_front(self._front)
        return self._server

    def _open_front(self, front: WireFront) -> None:
        try:
            self.base_url = front.open(self.base_url, ca_file=self.ca_file, port=self._wanted_port, names=self.names)
        except OSError:
            self.stop()
            raise

    def _config(self, ca_file: Path) -> uvicorn.Config:
        identity = make_identity(machine_time(), self.names)
        ca_file.parent.mkdir(parents=True, exist_ok=True)
        ca_file.write_bytes(identity.authority)
        with tempfile.TemporaryDirectory(prefix="simulator-") as folder:
            certificate, key = Path(folder) / "certificate.pem", Path(folder) / "key.pem"
            certificate.write_bytes(identity.certificate)
            key.touch(mode=0o600)
            key.write_bytes(identity.key)
            config = uvicorn.Config(
                self._app.asgi(),
                ssl_certfile=str(certificate),
                ssl_keyfile=str(key),
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                date_header=False,
                lifespan="off",
                ws="websockets-sansio",
                ws_per_message_deflate=False,
                ws_max_size=1 << 20,
                timeout_graceful_shutdown=1,
            )
            config.load()
        return config


def serve(
    *,
    port: int,
    seed: int,
    ca_file: Path,
    redirect_uris: tuple[str, ...] = DEFAULT_REDIRECT_URIS,
    announce: Callable[[str], None],
    names: tuple[str, ...] = (),
    instant: datetime | None = None,
    scenario: Scenario | None = None,
    **options: Unpack[DeskOptions],
) -> None:
    """Run the simulator in the foreground until interrupted; `announce` gets one line once it is ready.

    With a quota it gets another one at the end: how many requests came, and how they kept to it.
    Addresses that name no instant show the market at `instant`, or by the machine's clock when it is None.
    """
    server = SimulatorServer(
        seed=seed,
        port=port,
        ca_file=ca_file,
        redirect_uris=redirect_uris,
        now=machine_time if instant is None else lambda: instant,
        names=names,
        scenario=scenario,
        **options,
    )
    try:
        server.run(lambda base: announce(f"simulator ready at {base} (seed {seed}, trust {ca_file})"))
    finally:  # an interrupt comes back here as it was
        server.stop()
        if (quota := server.conditions.quota) is not None:
            came, worst = len(quota.arrivals), quota.worst_window()
            announce(f"quota: {came} requests, {quota.refused} refused, at most {worst} in 60 seconds")
