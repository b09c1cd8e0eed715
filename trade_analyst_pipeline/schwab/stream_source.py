"""Where connections to the streamer come from: its address by userPreference, an access token, a WebSocket."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from trade_analyst_pipeline.schwab.client import AccessTokens, SchwabClient
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.schwab.stream_connection import StreamConnection, open_stream
from trade_analyst_pipeline.schwab.stream_requests import StreamAddress, read_preference

TRADER_API: Final = "/trader/v1"


class StreamSource(Protocol):
    """What a collector needs of the source."""

    async def address(self) -> StreamAddress:
        """Where the streamer is now. Raises SourceError, AuthError, StreamFrameError."""
        ...

    async def token(self) -> str:
        """An access token that is good now. Raises AuthError."""
        ...

    async def token_after_refusal(self, refused: str) -> str:
        """Another token than one that was refused. Raises AuthError."""
        ...

    async def connect(self, address: StreamAddress) -> StreamConnection:
        """A connection on which nothing was said yet. Raises StreamEndedError."""
        ...


class SchwabStreamSource:
    """The source as it is: `client` asks its trader API, `tokens` are those of the stored login."""

    def __init__(self, client: SchwabClient, tokens: AccessTokens, *, ca_file: Path | None) -> None:
        self._client = client
        self._tokens = tokens
        self._ca_file = ca_file

    async def address(self) -> StreamAddress:
        """Where the streamer is now, by userPreference; the accounts in that answer are not looked at nor kept."""
        answer = await self._client.fetch(MarketDataRequest("stream", "/userPreference"))
        return read_preference(answer.body)

    async def token(self) -> str:
        """An access token that is good now."""
        return await self._tokens.access_token()

    async def token_after_refusal(self, refused: str) -> str:
        """Another token than one that was refused."""
        return await self._tokens.refresh_after_refusal(refused)

    async def connect(self, address: StreamAddress) -> StreamConnection:
        """A connection on which nothing was said yet."""
        return await open_stream(address.url, ca_file=self._ca_file)
