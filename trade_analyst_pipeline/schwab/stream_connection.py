"""One WebSocket to the streamer: messages as bytes in, texts out, and every way it can end as one error with a word.

What is said on it belongs to `stream.py` and `stream_requests.py`, when to connect again to whoever uses it.
"""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path
from typing import Final, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from trade_analyst_pipeline.errors import StreamEndedError
from trade_analyst_pipeline.schwab.stream import MOST_FRAME_BYTES

OPEN_SECONDS: Final = 10.0
PING_SECONDS, PONG_SECONDS = 20.0, 10.0
_CLOSE_SECONDS: Final = 2.0  # with the library's ten a dead peer is noticed that much later
_WAITING_MESSAGES: Final = 4  # those the library holds; then it stops reading the socket
_MOST_BYTES: Final = MOST_FRAME_BYTES


class StreamConnection(Protocol):
    """A connection that is open; all but `abort` raise StreamEndedError once it has ended."""

    async def send(self, text: str) -> None:
        """Send a message."""
        ...

    async def receive(self) -> bytes:
        """The next message as it arrived, text or binary."""
        ...

    async def ping(self) -> None:
        """Return once the other side has answered a ping."""
        ...

    async def close(self) -> None:
        """Say goodbye and end it, within seconds."""
        ...

    def abort(self, reason: str, detail: str) -> None:
        """End it at once: whoever waits for a message is told this reason."""
        ...


class WebSocketConnection:
    """A StreamConnection over TLS."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._aborted: StreamEndedError | None = None

    async def send(self, text: str) -> None:
        """Send a message."""
        try:
            await self._socket.send(text)
        except (ConnectionClosed, OSError) as error:
            raise self._ended(error) from None

    async def receive(self) -> bytes:
        """The next message as it arrived, text or binary."""
        try:
            return await self._socket.recv(decode=False)
        except (ConnectionClosed, OSError) as error:
            raise self._ended(error) from None

    async def ping(self) -> None:
        """Return once the other side has answered a ping."""
        try:
            await (await self._socket.ping())
        except (ConnectionClosed, OSError) as error:
            raise self._ended(error) from None

    async def close(self) -> None:
        """Say goodbye and end it, within seconds; once more does no harm."""
        with contextlib.suppress(OSError, ConnectionClosed):
            await self._socket.close()

    def abort(self, reason: str, detail: str) -> None:
        """End it at once: whoever waits for a message is told this reason."""
        self._aborted = self._aborted or StreamEndedError(reason, detail)
        self._socket.transport.abort()

    def _ended(self, error: Exception) -> StreamEndedError:
        if self._aborted is not None:
            return self._aborted
        if isinstance(error, ConnectionClosed) and error.rcvd is not None:
            told = f" ({error.rcvd.reason})" if error.rcvd.reason else ""
            return StreamEndedError("closed", f"the streamer closed with code {error.rcvd.code}{told}")
        if isinstance(error, ConnectionClosed) and error.sent is not None:
            return StreamEndedError("broken", f"closed by us with code {error.sent.code} ({error.sent.reason})")
        return StreamEndedError("broken", "it ended without a goodbye")


async def open_stream(url: str, *, ca_file: Path | None) -> WebSocketConnection:
    """A connection to the streamer, TLS checked against `ca_file` or the system's authorities, no proxy.

    Pings are the caller's, who knows when nothing is read. Messages over 8 MiB end the connection. Raises
    StreamEndedError (`unreachable`).
    """
    trusted = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    opening = connect(
        url,
        ssl=trusted,
        proxy=None,
        compression=None,
        ping_interval=None,
        open_timeout=OPEN_SECONDS,
        close_timeout=_CLOSE_SECONDS,
        max_size=_MOST_BYTES,
        max_queue=_WAITING_MESSAGES,
    )
    try:
        return WebSocketConnection(await opening)
    except (OSError, TimeoutError, InvalidHandshake, InvalidURI, EOFError) as error:
        detail = f"no connection within {OPEN_SECONDS:g} s" if isinstance(error, TimeoutError) else f"{error}"
        raise StreamEndedError("unreachable", detail) from None
