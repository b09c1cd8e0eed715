"""How each symbol of the level-one services stands, put together from images and changes of one connection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from trade_analyst_pipeline.capture.stream_plan import LEVEL_ONE
from trade_analyst_pipeline.schwab.stream import StreamData

CARRIED: str = "CARRIED"
_MOST_SYMBOLS = 50_000  # of one service, whatever a server sends
_encoder = msgspec.json.Encoder()


class StreamState:
    """The last value of every field of every symbol; forgotten where a connection begins anew."""

    def __init__(self) -> None:
        self._items: dict[str, dict[str, dict[str, Any]]] = {}

    def apply(self, part: StreamData) -> None:
        """Take an image or changes in."""
        if part.service not in LEVEL_ONE:
            return
        items = self._items.setdefault(part.service, {})
        for item in part.items:
            known = items.get(item["key"])
            if known is not None:
                known.update(item)
            elif len(items) < _MOST_SYMBOLS:
                items[item["key"]] = dict(item)

    def message(self, timestamp: int) -> bytes | None:
        """One message in the shape of the streamer's that tells how all symbols stand; None where none is known."""
        parts = list(self._parts(timestamp))
        return _encoder.encode({"data": parts}) if parts else None

    def forget(self) -> None:
        """Begin anew."""
        self._items.clear()

    def _parts(self, timestamp: int) -> Iterator[dict[str, Any]]:
        for service, items in self._items.items():
            content: Iterable[dict[str, Any]] = list(items.values())
            yield {"service": service, "timestamp": timestamp, "command": CARRIED, "content": content}
