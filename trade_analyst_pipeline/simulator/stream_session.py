"""One streamer connection without its socket: request texts in, things to send out, both at given times.

`StreamSession` answers requests, keeps subscriptions, sends heartbeats and data as the market's time goes on, and ends
connections that the source would end. What it wants sent are `Step`s, each at the time it is due; whoever drives it,
a socket or a test in virtual time, asks `poll` for them. Times are seconds of the driver's clock, instants are
milliseconds since 1970.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec

from trade_analyst_pipeline.simulator.stream_faults import Play
from trade_analyst_pipeline.simulator.stream_feed import SERVICES, Contents, Feed
from trade_analyst_pipeline.simulator.stream_steps import Message, Step

if TYPE_CHECKING:
    from trade_analyst_pipeline.simulator.streamer_desk import StreamerDesk

_MOST_BYTES = 262_144
_SUCCEEDED = {"SUBS": 26, "UNSUBS": 27, "ADD": 28, "VIEW": 29}
_FAILED = {"SUBS": 22, "UNSUBS": 23, "ADD": 24, "VIEW": 25}
_MOST_PACKED = 100


class StreamSession:
    """One connection from its handshake to its end; `number` counts the connections of a desk from 1."""

    def __init__(self, desk: StreamerDesk, address: str, start_ms: int, now: float) -> None:
        self.desk = desk
        self.number = desk.next_number()
        self.is_logged_in = False
        self.is_open = True
        self.mute_until = self.mute_data_until = self.hold_until = now
        self._clock = desk.clock(address, start_ms, now)
        self._feed = Feed(desk.tape, desk.rules.conflation)
        self._cursor = self._clock.ms(now)
        self._queue: list[tuple[float, int, Step]] = []
        self._order = count()
        self._pending: dict[int, tuple[Message, str, str | None]] = {}
        self._next_heartbeat = now + desk.rules.heartbeat_seconds
        self._idle_since = now

    # -- for whoever drives it -----------------------------------------------------------------------------------------

    def receive(self, text: str | bytes, now: float) -> None:
        """Take a message of the client."""
        if not self.is_open:
            return
        requests = _requests(text)
        if requests is None:
            self._respond({"service": "ADMIN", "command": "", "requestid": ""}, 21, "Bad command formatting", now)
        for request in requests or ():
            self._handle(request, now)

    def poll(self, now: float) -> Iterator[Step]:
        """What is due, in order; after a step that ends the connection nothing follows."""
        yield from self._due(now)
        if self.is_open and self.is_logged_in:
            self._beat(now)
            self._check_idle(now)
            for frame in self._advance(now):
                self.emit_message(frame, now)
                yield from self._due(now)
        yield from self._due(now)

    def next_due(self, now: float) -> float:
        """When `poll` has something to do next."""
        due = [now + self.desk.rules.heartbeat_seconds, *(entry[0] for entry in self._queue[:1])]
        if self.is_logged_in:
            due.append(self._next_heartbeat)
        if self.is_logged_in and not self._feed.is_empty:
            due.append(self._clock.reaches(self._cursor + self.desk.rules.step_ms, now))
        return min(due)

    def lost(self) -> None:
        """The client has gone."""
        self.is_open = False
        self.desk.forget(self)
        self._forget_pending()

    # -- for faults ----------------------------------------------------------------------------------------------------

    def put(self, step: Step, at: float) -> int:
        """Send something, not before `at`; its number."""
        number = next(self._order)
        heapq.heappush(self._queue, (max(at, self.hold_until), number, step))
        return number

    def finish(self, step: Step, now: float) -> None:
        """End the connection after what is due by then; what was to follow is dropped."""
        self.put(step, now)
        self.desk.forget(self)
        self.is_logged_in = False

    def notify(self, code: int, text: str, now: float) -> None:
        """Tell the client why the connection ends."""
        content = {"code": code, "msg": text}
        item = {"service": "ADMIN", "timestamp": self._cursor, "content": content}
        self.emit_message(Message("notify", "ADMIN", "NOTIFY", {"notify": [item]}), now)

    def emit_message(self, message: Message, now: float) -> None:
        """Send a message as the first fault that is for it leaves it."""
        if now < self.mute_until or (now < self.mute_data_until and message.kind == "data"):
            self.desk.record(self.number, message, "lost", "mute")
            return
        play = Play(self, message, now)
        name = self.desk.faults.strike(play)
        if not play.is_handled:
            play.send()
        if play.last_step is None or play.fate == "lost":
            self.desk.record(self.number, message, play.fate, name)
        else:
            self._pending[play.last_step] = (message, play.fate, name)

    # -- requests ------------------------------------------------------------------------------------------------------

    def _handle(self, request: dict[str, Any], now: float) -> None:
        service, command = request["service"], request["command"]
        if (service, command) == ("ADMIN", "LOGIN"):
            self._log_in(request, now)
        elif not self.is_logged_in or not self.desk.knows(request):
            self._respond(request, 20, "Stream connection not found", now)
        elif (service, command) == ("ADMIN", "LOGOUT"):
            self._respond(request, 0, "SUCCESS", now)
            self.finish(Step("close", code=1000, reason="logout"), now)
        elif service not in SERVICES:
            self._respond(request, 11, "Service not available or temporary down", now)
        elif command in _FAILED:
            self._subscribe(request, now)
        else:
            self._respond(request, 21, f"Bad command formatting: {command}", now)

    def _log_in(self, request: dict[str, Any], now: float) -> None:
        parameters = request["parameters"]
        if not self.desk.knows(request) or not self.desk.accepts(str(parameters.get("Authorization", ""))):
            self._respond(request, 3, "Login Denied.: token is invalid or has expired.", now)
            self.finish(Step("close", code=1000, reason="login denied"), now)
            return
        if not self.desk.has_room(self):
            self._respond(request, 12, "Connection limit reached: 1 per user", now)
            self.finish(Step("close", code=1000, reason="connection limit"), now)
            return
        self.desk.admit(self, now)
        self.is_logged_in = True
        self._idle_since, self._next_heartbeat = now, now + self.desk.rules.heartbeat_seconds
        self._cursor = self._clock.ms(now)
        self._respond(request, 0, f"server=simulator-{self.number};status=NP", now)

    def _subscribe(self, request: dict[str, Any], now: float) -> None:
        service, command = request["service"], request["command"]
        keys = _listed(request["parameters"].get("keys"))
        fields = frozenset(_listed(request["parameters"].get("fields")))
        present = self._feed.keys(service)
        if problem := _problem(command, keys, fields, present):
            self._respond(request, _FAILED[command], f"{command} command failed: {problem}", now)
            return
        count_after = len(set(keys) | set(present if command == "ADD" else ()))
        if command in {"SUBS", "ADD"} and count_after > self.desk.rules.most_symbols:
            self._respond(request, 19, f"Symbol limit reached: {self.desk.rules.most_symbols}", now)
            return
        code = _SUCCEEDED[command] if self.desk.rules.tells_success_by_command else 0
        self._respond(request, code, f"{command} command succeeded", now)
        for contents in self._changed(service, command, keys, fields):
            self.emit_message(_data_message([contents]), now)
        if not self._feed.is_empty:
            self._idle_since = now

    def _changed(self, service: str, command: str, keys: list[str], fields: frozenset[str]) -> list[Contents]:
        if command == "UNSUBS":
            self._feed.unsubscribe(service, keys)
            return []
        if command == "VIEW":
            return self._feed.view(service, fields, self._cursor)
        return self._feed.subscribe(service, keys, fields, self._cursor, replaces=command == "SUBS")

    def _respond(self, request: dict[str, Any], code: int, text: str, now: float) -> None:
        answer = {
            "service": request["service"],
            "command": request["command"],
            "requestid": str(request["requestid"]),
            "SchwabClientCorrelId": str(request.get("SchwabClientCorrelId", "")),
            "timestamp": self._clock.ms(now),
            "content": {"code": code, "msg": text},
        }
        self.emit_message(Message("response", answer["service"], answer["command"], {"response": [answer]}), now)

    # -- as time goes on -----------------------------------------------------------------------------------------------

    def _due(self, now: float) -> Iterator[Step]:
        while self.is_open and self._queue and self._queue[0][0] <= now:
            _, number, step = heapq.heappop(self._queue)
            self.is_open = step.kind not in {"close", "end", "abort"}
            if (told := self._pending.pop(number, None)) is not None:
                self.desk.record(self.number, *told)
            if not self.is_open:
                self._forget_pending()
            yield step

    def _forget_pending(self) -> None:
        """What has not gone out by the end of the connection is lost."""
        for message, _, name in self._pending.values():
            self.desk.record(self.number, message, "lost", name)
        self._pending.clear()

    def _beat(self, now: float) -> None:
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + self.desk.rules.heartbeat_seconds
            value = {"notify": [{"heartbeat": str(self._clock.ms(now))}]}
            self.emit_message(Message("heartbeat", "ADMIN", "HEARTBEAT", value), now)

    def _check_idle(self, now: float) -> None:
        if not self._feed.is_empty:
            self._idle_since = now
        elif now - self._idle_since >= self.desk.rules.idle_seconds:
            self.notify(30, "Stop streaming due to empty subscription", now)
            self.finish(Step("close", code=1000, reason="no subscription"), now)

    def _advance(self, now: float) -> Iterator[Message]:
        """The data of each whole step of market time that has gone by."""
        step_ms, behind = self.desk.rules.step_ms, self._clock.behind_seconds(self._cursor, now)
        if behind > self.desk.rules.most_behind_seconds:
            self.notify(30, "Stop streaming due to slow consumption", now)
            self.finish(Step("close", code=1000, reason="slow consumer"), now)
            return
        while self.is_logged_in and self._clock.reaches(self._cursor + step_ms, now) <= now:
            self._cursor += step_ms
            self._clock.passed(self._cursor)
            yield from _packed(self._feed.pull(self._cursor), self.desk.volume_bases)
            if self._clock.is_unpaced:
                return


def _requests(text: str | bytes) -> list[dict[str, Any]] | None:
    """The requests of a message; None when it is none that can be understood."""
    try:
        value = msgspec.json.decode(text) if len(text) <= _MOST_BYTES else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    found = value.get("requests", [value]) if isinstance(value, dict) else None
    if not isinstance(found, list) or not found:
        return None
    for request in found:
        if not isinstance(request, dict) or not all(
            isinstance(request.get(name), str) for name in ("service", "command")
        ):
            return None
        if not isinstance(request.get("requestid"), str | int) or not isinstance(
            request.setdefault("parameters", {}), dict
        ):
            return None
    return found


def _listed(value: object) -> list[str]:
    return [part for part in value.split(",") if part] if isinstance(value, str) else []


def _problem(command: str, keys: list[str], fields: frozenset[str], present: list[str]) -> str:
    """What keeps a command from being carried out; empty when nothing does."""
    if command in {"SUBS", "ADD", "UNSUBS"} and not keys:
        return "keys is missing"
    if command != "UNSUBS" and not fields:
        return "fields is missing"
    if not all(name.isdigit() for name in fields):
        return "fields are numbers"
    return "nothing is subscribed to" if command == "VIEW" and not present else ""


def _data_message(parts: list[Contents]) -> Message:
    data = [
        {"service": part.service, "timestamp": part.timestamp, "command": "SUBS", "content": part.items}
        for part in parts
    ]
    return Message("data", parts[0].service, "SUBS", {"data": data})


def _packed(contents: Iterator[Contents], bases: dict[tuple[str, str], int]) -> Iterator[Message]:
    """Data frames of up to a hundred items, each of one service; volumes are told from where they were set back."""
    parts: list[Contents] = []
    size = 0
    for part in contents:
        if bases:
            _set_back(part, bases)
        if parts and (part.service != parts[0].service or size + len(part.items) > _MOST_PACKED):
            yield _data_message(parts)
            parts, size = [], 0
        parts.append(part)
        size += len(part.items)
    if parts:
        yield _data_message(parts)


def _set_back(part: Contents, bases: dict[tuple[str, str], int]) -> None:
    for place, item in enumerate(part.items):
        base = bases.get((part.service, item["key"]))
        if base is not None and "8" in item:
            part.items[place] = item | {"8": item["8"] - base}
