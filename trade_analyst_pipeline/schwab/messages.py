"""What is asked of the source and what came back, as plain values.

A dataset module makes requests and reads responses; the client and the archive only carry them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class MarketDataRequest:
    """One GET below `/marketdata/v1`.

    `path` starts with a slash (`/chains`), `params` are unencoded query pairs in the order sent, `symbols` the
    symbols asked for, as the source spells them.
    """

    dataset: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    symbols: tuple[str, ...] = ()

    def param(self, name: str) -> str | None:
        """The value of the first query parameter of that name, or None."""
        return next((value for key, value in self.params if key == name), None)


@dataclass(frozen=True)
class RawResponse:
    """A response as it arrived.

    `body` holds the entity bytes with the content encoding (gzip) undone and nothing else changed; `headers` are the
    response headers, lower-case names, without cookies. Times are UTC on the source's clock: `requested_time` when
    the budget let the request go, `received_time` when the last byte was there. `attempts` counts all tries.
    """

    request: MarketDataRequest
    status: int
    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...]
    requested_time: datetime
    received_time: datetime
    attempts: int = 1
