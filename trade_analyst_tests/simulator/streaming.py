"""A client of the streamer in virtual time: what it asks, and what it was sent, as plain JSON values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from trade_analyst_pipeline.simulator.stream_steps import Step
from trade_analyst_pipeline.simulator.streamer import VirtualStream
from trade_analyst_pipeline.simulator.streamer_desk import StreamerDesk

MIDDAY = datetime(2025, 12, 9, 17, 0, tzinfo=UTC)  # 12:00 New York
TOKEN = "good-token"
ALL_FIELDS = ",".join(str(number) for number in range(56))


def request(desk: StreamerDesk, number: int | str, service: str, command: str, **parameters: str) -> dict[str, Any]:
    """One request with the ids of the desk."""
    ids = {"SchwabClientCustomerId": desk.customer_id, "SchwabClientCorrelId": desk.correl_id}
    return {"requestid": str(number), "service": service, "command": command, **ids, "parameters": parameters}


@dataclass
class Listener:
    """One connection and everything that came over it, with the times it came at."""

    desk: StreamerDesk
    stream: VirtualStream
    steps: list[tuple[float, Step]] = field(default_factory=list)
    asked: int = 0

    @classmethod
    def connect(cls, desk: StreamerDesk, instant: datetime = MIDDAY, now: float = 0.0) -> Listener:
        """A connection that has not logged in."""
        return cls(desk, VirtualStream(desk, instant, now))

    def log_in(self, token: str = TOKEN) -> dict[str, Any]:
        """The answer's content."""
        return self.ask("ADMIN", "LOGIN", Authorization=token)

    def ask(self, service: str, command: str, **parameters: str) -> dict[str, Any]:
        """The content of the answer to one request, which comes at once."""
        before = len(self.responses())
        self.send(service, command, **parameters)
        (answer,) = self.responses()[before:]
        assert (answer["service"], answer["command"], answer["requestid"]) == (service, command, str(self.asked))
        return answer["content"]

    def send(self, service: str, command: str, **parameters: str) -> None:
        """One request, whatever comes of it."""
        self.asked += 1
        self.stream.send(json.dumps({"requests": [request(self.desk, self.asked, service, command, **parameters)]}))
        self.run(self.stream.now)

    def subscribe(self, service: str, keys: str, fields: str = ALL_FIELDS, command: str = "SUBS") -> None:
        """A subscription that is granted."""
        assert self.ask(service, command, keys=keys, fields=fields)["code"] == 0

    def run(self, until: float) -> Listener:
        """Let the time go on."""
        self.steps += self.stream.run(until)
        return self

    def values(self) -> list[dict[str, Any]]:
        """All messages that are JSON objects."""
        texts = [step.data for _, step in self.steps if step.kind in {"text", "binary"}]
        return [value for text in texts if isinstance(value := _value(text), dict)]

    def responses(self) -> list[dict[str, Any]]:
        """All answers."""
        return [answer for value in self.values() for answer in value.get("response", ())]

    def notices(self) -> list[dict[str, Any]]:
        """All notices, heartbeats included."""
        return [notice for value in self.values() for notice in value.get("notify", ())]

    def items(self, service: str, key: str | None = None) -> list[dict[str, Any]]:
        """All items of a service, in order."""
        parts = (part for value in self.values() for part in value.get("data", ()) if part["service"] == service)
        return [item for part in parts for item in part["content"] if key is None or item["key"] == key]

    def ends(self) -> list[tuple[str, int]]:
        """How the connection was ended: kind and code."""
        return [(step.kind, step.code) for _, step in self.steps if step.kind in {"close", "end", "abort"}]


def _value(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def merged(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The states a client holds after each item."""
    state: dict[str, Any] = {}
    for item in items:
        state = state | item
        yield state
