"""The streamer on a socket: a WebSocket at the server's own address, driven by a `StreamSession`.

What is answered and sent is the session's; here are the pace of the clock, the reading, and what a WebSocket library
would not do: bytes on the socket as they are, and ends without a goodbye.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from trade_analyst_pipeline.simulator.stream_session import StreamSession
from trade_analyst_pipeline.simulator.stream_steps import Step
from trade_analyst_pipeline.simulator.streamer_desk import StreamerDesk

Transports = Callable[[tuple[str, int]], asyncio.Transport | None]
_LONGEST_WAIT = 1.0
_DRAINED_BYTES = 65_536
_DRAIN_STEP = 0.005
_GONE = (WebSocketDisconnect, RuntimeError, OSError)


class StreamSocket:
    """One client's WebSocket; `transports` finds the transport behind the address of a client."""

    def __init__(self, desk: StreamerDesk, transports: Transports) -> None:
        self._desk = desk
        self._transports = transports

    async def serve(self, websocket: WebSocket, address: str, instant: datetime) -> None:
        """Serve a client until one side ends the connection; for the first at an address time begins at `instant`."""
        await websocket.accept()
        now = time.monotonic()
        session = StreamSession(self._desk, address, round(instant.timestamp() * 1000.0), now)
        woken = asyncio.Event()
        reading = asyncio.create_task(self._read(websocket, session, woken))
        try:
            await self._write(websocket, session, woken)
        except _GONE:
            return  # the client has gone, which it may at any time
        finally:
            session.lost()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, websocket: WebSocket, session: StreamSession, woken: asyncio.Event) -> None:
        try:
            while session.is_open:
                message = await websocket.receive()
                if message["type"] == "websocket.disconnect":
                    break
                text = message.get("text")
                session.receive(text if text is not None else message.get("bytes") or b"", time.monotonic())
                woken.set()
        finally:
            session.is_open = False
            woken.set()

    async def _write(self, websocket: WebSocket, session: StreamSession, woken: asyncio.Event) -> None:
        while session.is_open:
            woken.clear()
            steps = False
            for step in session.poll(time.monotonic()):
                steps = True
                await self._do(websocket, step)
            wait = min(session.next_due(time.monotonic()) - time.monotonic(), _LONGEST_WAIT)
            if steps and wait <= 0.0:
                await asyncio.sleep(0)
            elif session.is_open:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), max(wait, 0.0005))

    async def _do(self, websocket: WebSocket, step: Step) -> None:
        transport = self._transports(tuple(websocket.scope["client"]))
        if step.kind == "text":
            await self._send_text(websocket, transport, step.data)
        elif step.kind == "binary":
            await websocket.send_bytes(step.data)
        elif step.kind == "close":
            if websocket.application_state is WebSocketState.CONNECTED:
                await websocket.close(step.code, step.reason)
        elif transport is not None:
            if step.kind == "raw":
                transport.write(step.data)
                await _drained(transport)
            else:
                await _ended(transport, resets=step.kind == "abort")

    async def _send_text(self, websocket: WebSocket, transport: asyncio.Transport | None, data: bytes) -> None:
        await websocket.send({"type": "websocket.send", "text": data.decode()})
        if transport is not None and transport.get_write_buffer_size() > _DRAINED_BYTES:
            await _drained(transport)


async def _drained(transport: asyncio.Transport) -> None:
    """Wait for a client that reads slowly, or goes."""
    while transport.get_write_buffer_size() > _DRAINED_BYTES and not transport.is_closing():
        await asyncio.sleep(_DRAIN_STEP)


async def _ended(transport: asyncio.Transport, *, resets: bool) -> None:
    """End the connection once what was written is on its way; a reset discards what the client has not read."""
    for _ in range(200):
        if transport.get_write_buffer_size() == 0 or transport.is_closing():
            break
        await asyncio.sleep(_DRAIN_STEP)
    if resets and (found := transport.get_extra_info("socket")) is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def transports_in(connections: Callable[[], Any]) -> Transports:
    """Finds transports among a server's connections, by the client's address."""

    def find(client: tuple[str, int]) -> asyncio.Transport | None:
        for connection in connections():
            if getattr(connection, "client", None) == client:
                found: asyncio.Transport | None = connection.transport
                return found
        return None

    return find


# -- without a socket ----------------------------------------------------------------------------------------------


class VirtualStream:
    """A connection in virtual time: no socket, no wait, for tests of many seeds.

    `send` what a client would, `run` until a time of the caller's choice, and get each step with the time it was due.
    """

    def __init__(self, desk: StreamerDesk, instant: datetime, now: float = 0.0) -> None:
        self.now = now
        self.session = StreamSession(desk, "virtual", round(instant.timestamp() * 1000.0), now)

    @property
    def is_open(self) -> bool:
        """Whether the server has not ended the connection."""
        return self.session.is_open

    def send(self, text: str | bytes) -> None:
        """What the client sends, at the present."""
        self.session.receive(text, self.now)

    def run(self, until: float) -> Iterator[tuple[float, Step]]:
        """All steps up to a time, in order."""
        while self.is_open:
            for step in self.session.poll(self.now):
                yield self.now, step
            due = max(self.session.next_due(self.now), self.now)
            if due > until or not self.is_open:
                break
            self.now = due
        self.now = max(self.now, until)

    def leave(self) -> None:
        """The client goes without a word."""
        self.session.lost()
