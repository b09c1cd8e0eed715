"""A collector in front of the simulator's streamer in virtual time, and what came of it held against what was sent.

The wire is the real one: what the streamer sends becomes bytes of WebSocket frames, and the WebSocket library takes
them apart. Only the socket is left out.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from virtual_time import run_virtually, seconds
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from trade_analyst_pipeline.capture.collect import Collector
from trade_analyst_pipeline.capture.stream_journal import OnDisk
from trade_analyst_pipeline.errors import LoginRequiredError, StreamEndedError
from trade_analyst_pipeline.schwab.stream_requests import StreamAddress, read_preference
from trade_analyst_pipeline.settings import StreamSettings
from trade_analyst_pipeline.simulator.stream_faults import websocket_frame
from trade_analyst_pipeline.simulator.stream_steps import Step
from trade_analyst_pipeline.simulator.streamer import VirtualStream
from trade_analyst_pipeline.simulator.streamer_desk import Sent, StreamerDesk
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.segments import NAME, StreamGap, read_blocks, stream_gaps

MIDDAY = datetime(2025, 12, 9, 17, 0, tzinfo=UTC)
DAY = date(2025, 12, 9)


class LoopClock:
    """The time of the loop that runs, from an instant on."""

    def __init__(self, start: datetime = MIDDAY) -> None:
        self.start = start

    def now(self) -> datetime:
        """The loop's present instant."""
        return self.start + timedelta(seconds=asyncio.get_running_loop().time())

    async def sleep(self, duration: float) -> None:
        """Wait for the loop's time."""
        await asyncio.sleep(duration)


class VirtualConnection:
    """A StreamConnection over the wire's bytes, in virtual time."""

    def __init__(self, stream: VirtualStream) -> None:
        self._stream = stream
        self._protocol = Protocol(Side.CLIENT, state=State.OPEN, max_size=8 << 20)
        self._messages: asyncio.Queue[bytes | StreamEndedError] = asyncio.Queue()
        self._parts: list[bytes] = []
        self._ended: StreamEndedError | None = None
        self._woken = asyncio.Event()
        self._pump = asyncio.create_task(self._pumping())

    async def send(self, text: str) -> None:
        """Send a message."""
        if self._ended is not None:
            raise self._ended
        self._stream.now = max(self._stream.now, seconds())
        self._stream.send(text)
        self._woken.set()

    async def receive(self) -> bytes:
        """The next message as it arrived, text or binary."""
        found = await self._messages.get()
        if isinstance(found, StreamEndedError):
            self._messages.put_nowait(found)
            raise found
        return found

    async def ping(self) -> None:
        """A server that hears says so, unless it is mute."""
        if self._ended is not None:
            raise self._ended
        session = self._stream.session
        await asyncio.sleep(max(0.0, session.mute_until - seconds()))

    async def close(self) -> None:
        """End it."""
        self._end(StreamEndedError("closed", "by us"))
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)

    def abort(self, reason: str, detail: str) -> None:
        """End it at once."""
        self._end(StreamEndedError(reason, detail))

    def _end(self, error: StreamEndedError) -> None:
        if self._ended is None:
            self._ended = error
            self._messages.put_nowait(error)
            self._stream.leave()

    async def _pumping(self) -> None:
        while self._ended is None:
            self._woken.clear()
            for _, step in self._stream.run(seconds()):
                if self._ended is None:
                    self._take(step)
            due = self._stream.session.next_due(self._stream.now)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), max(due - seconds(), 0.001))

    def _take(self, step: Step) -> None:
        if step.kind in {"text", "binary", "raw"}:
            raw = (
                step.data if step.kind == "raw" else websocket_frame(step.data, opcode=1 if step.kind == "text" else 2)
            )
            self._protocol.receive_data(raw)
            self._drain()
        else:
            told = f"code {step.code}" if step.kind == "close" else step.kind
            self._end(StreamEndedError("closed" if step.kind == "close" else "broken", told))

    def _drain(self) -> None:
        for event in self._protocol.events_received():
            assert isinstance(event, Frame)
            if event.opcode in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
                self._parts.append(bytes(event.data))
                if event.fin:
                    self._messages.put_nowait(b"".join(self._parts))
                    self._parts = []
        if self._protocol.parser_exc is not None:
            self._end(StreamEndedError("broken", str(self._protocol.parser_exc)))


@dataclass
class VirtualSource:
    """A StreamSource in front of a desk; tokens may be refused, the network may be away until a time."""

    desk: StreamerDesk
    clock: LoopClock
    tokens: list[str] = field(default_factory=lambda: ["good-token"])
    away_until: float = 0.0
    connections: list[VirtualConnection] = field(default_factory=list)
    tries: list[float] = field(default_factory=list)
    renewals: int = 0

    async def address(self) -> StreamAddress:
        """What userPreference says."""
        return read_preference(json.dumps(self.desk.preference("wss://virtual/ws")).encode())

    async def token(self) -> str:
        """The first token left; none is as a login that has ended."""
        if not self.tokens:
            raise LoginRequiredError("log in again")
        return self.tokens[0]

    async def token_after_refusal(self, refused: str) -> str:
        """The next one."""
        self.renewals += 1
        if self.tokens and self.tokens[0] == refused:
            self.tokens.pop(0)
        return await self.token()

    async def connect(self, address: StreamAddress) -> VirtualConnection:
        """A connection, where the network is there."""
        assert address.url == "wss://virtual/ws"
        self.tries.append(seconds())
        await asyncio.sleep(0.05)
        if seconds() < self.away_until:
            raise StreamEndedError("unreachable", "no route")
        open_before = [each for each in self.connections if each._ended is None]
        assert not open_before, "more than one connection at a time"
        stream = VirtualStream(self.desk, self.clock.start, seconds())
        self.connections.append(VirtualConnection(stream))
        return self.connections[-1]


@dataclass
class Streamed:
    """What a collector made of a stretch of the stream: messages by epoch, gaps, and what was sent meanwhile.

    With each state that is `carried` comes how many messages the segments before it have.
    """

    messages: list[tuple[int, bytes]]
    carried: list[tuple[int, bytes]]
    gaps: list[StreamGap]
    sent: list[Sent]
    source: VirtualSource

    def lost(self, *, fates: frozenset[str] = frozenset({"lost"})) -> list[tuple[str, str, int]]:
        """Service, symbol and market's instant (ms) of each item that was due and did not go out."""
        return [
            (service, key, each.timestamp)
            for each in self.sent
            if each.kind == "data" and each.fate in fates
            for service, key, _ in each.items
        ]

    def unexplained(self) -> list[tuple[str, str, int]]:
        """Items that did not go out and that no gap is about."""
        return [found for found in self.lost() if not any(covers(gap, *found) for gap in self.gaps)]

    def delivered(self) -> Counter[tuple[str, str, Any]]:
        """Items in the segments by service, symbol and number or volume, as the record of what was sent has them."""
        found: Counter[tuple[str, str, Any]] = Counter()
        for _, text in self.messages:
            for part in parts(text):
                for item in part["content"]:
                    found[part["service"], item["key"], item.get("seq", item.get("8"))] += 1
        return found


def parts(text: bytes) -> list[dict[str, Any]]:
    """The parts of a data message; none of any other."""
    try:
        value = json.loads(text)
    except ValueError:
        return []
    return value.get("data", []) if isinstance(value, dict) else []


def covers(gap: StreamGap, service: str, symbol: str, ms: int, *, slack_ms: int = 250) -> bool:
    """Whether a gap is about an item of that instant."""
    concerns = gap.service in {"", service} and (not gap.symbols or symbol in gap.symbols)
    first, last = gap.from_time.timestamp() * 1000.0, gap.to_time.timestamp() * 1000.0
    return concerns and first - slack_ms <= ms <= last + slack_ms


async def inline(work: Callable[[], None]) -> None:
    """The disk at once, for virtual time."""
    work()


def collected(
    folder: Path,
    desk: StreamerDesk,
    *,
    duration: float = 60.0,
    symbols: tuple[str, ...] = ("AAPL", "MSFT"),
    settings: StreamSettings | None = None,
    scene: Callable[[VirtualSource], Coroutine[Any, Any, None]] | None = None,
    seed: int = 1,
    on_disk: OnDisk = inline,
    start: datetime = MIDDAY,
    tokens: tuple[str, ...] = ("good-token",),
    once: bool = False,
) -> Streamed:
    """Run a collector for a while of virtual time, then stop it in good order."""

    async def run() -> VirtualSource:
        clock = LoopClock(start)
        source, stop = VirtualSource(desk, clock, list(tokens)), asyncio.Event()

        @asynccontextmanager
        async def source_at(_: datetime) -> AsyncIterator[VirtualSource]:
            yield source

        collector = Collector(
            folder,
            symbols,
            settings or StreamSettings(),
            source_at=source_at,
            clock=clock,
            rng=random.Random(seed),  # noqa: S311  jitter
            stop=stop,
            on_disk=on_disk,
        )
        playing = None if scene is None else asyncio.create_task(scene(source))
        running = asyncio.create_task(collector.run(once=once))
        await asyncio.wait({running}, timeout=duration)
        stop.set()
        await running
        if playing is not None:
            await playing
        return source

    source = run_virtually(run())
    return read_back(folder, source)


def read_back(folder: Path, source: VirtualSource, day: date = DAY) -> Streamed:
    """What is in the segments of a session."""
    archive = Archive(folder / "raw")
    messages, carried, gaps = [], [], []
    for capture in archive.captures(NAME, day):
        gaps += stream_gaps(capture)
        for block in read_blocks(archive, capture):
            if block.is_carried:
                carried += [(len(messages), message.data) for message in block.messages]
            else:
                messages += [(block.epoch, message.data) for message in block.messages]
    return Streamed(messages, carried, gaps, list(source.desk.records), source)
