"""Responses for the dataset tests: payloads made by hand, and the same with something changed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse

PAYLOADS = Path(__file__).resolve().parents[1] / "payloads"
RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "samples"
SESSION = date(2026, 1, 5)
# Five minutes before the close of the session, and two after the quotes in the payloads.
RECEIVED = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)


def payload(name: str) -> bytes:
    """The bytes of a payload, such as `options/chain.json`."""
    return (PAYLOADS / name).read_bytes()


def document(name: str) -> Any:
    """A payload as plain objects, free to change."""
    return json.loads(payload(name))


def answered(
    request: MarketDataRequest, body: bytes | Any, *, status: int = 200, received: datetime = RECEIVED
) -> RawResponse:
    """A response to a request; a body that is not bytes is written as JSON."""
    entity = body if isinstance(body, bytes) else json.dumps(body).encode()
    return RawResponse(request, status, entity, (), received, received)


def changed(value: Any, change: Callable[[Any], None]) -> Any:
    """A copy of a document after `change`."""
    fresh = copy.deepcopy(value)
    change(fresh)
    return fresh
