"""What goes out on a streamer connection: messages before they are sent, and the steps that send them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

MessageKind = Literal["data", "response", "heartbeat", "notify"]
StepKind = Literal["text", "binary", "raw", "close", "end", "abort"]


@dataclass(frozen=True)
class Step:
    """Something done to the connection: a message, raw bytes on the socket, or an end of it.

    `close` says goodbye with `code`; `end` closes the socket without; `abort` resets it.
    """

    kind: StepKind
    data: bytes = b""
    code: int = 1000
    reason: str = ""


@dataclass(frozen=True)
class Message:
    """A message about to be sent: what it is about, and its JSON value. A response has its request's command."""

    kind: MessageKind
    service: str
    command: str
    value: dict[str, Any]

    @property
    def symbols(self) -> tuple[str, ...]:
        """The keys of a data frame's items."""
        return tuple(item["key"] for part in self.value.get("data", ()) for item in part["content"])

    @property
    def timestamp(self) -> int:
        """The market's instant it tells, 0 for a heartbeat."""
        (found, *_) = next(iter(self.value.values()))
        return int(found.get("timestamp", 0))

    def told(self) -> tuple[tuple[str, str, int | None], ...]:
        """Service, key and volume or sequence number of each item of a data frame."""
        parts = self.value.get("data", ())
        return tuple(
            (part["service"], item["key"], item.get("seq", item.get("8"))) for part in parts for item in part["content"]
        )
