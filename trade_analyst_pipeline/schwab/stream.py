"""What the streamer's messages say, as plain values: answers, heartbeats, notices and data.

A message that is not whole JSON is refused by name; of one that is, every part that can be understood is kept and every
other is told as a problem. What is sent to the streamer is in `stream_requests`. Nothing here connects, waits or
repeats, and no item of data is given a meaning: that is the datasets'.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NoReturn

import msgspec

from trade_analyst_pipeline.errors import StreamFrameError

MOST_FRAME_BYTES = 8 << 20
_MOST_SHOWN = 80
_SUCCEEDED = frozenset({0, 26, 27, 28, 29})
_SEVERING = frozenset({3, 12, 30})


class StreamCode(IntEnum):
    """The codes of answers and notices, as the source's guide names them."""

    SUCCESS = 0
    LOGIN_DENIED = 3
    UNKNOWN_FAILURE = 9
    SERVICE_NOT_AVAILABLE = 11
    CLOSE_CONNECTION = 12
    REACHED_SYMBOL_LIMIT = 19
    STREAM_CONN_NOT_FOUND = 20
    BAD_COMMAND_FORMAT = 21
    FAILED_COMMAND_SUBS = 22
    FAILED_COMMAND_UNSUBS = 23
    FAILED_COMMAND_ADD = 24
    FAILED_COMMAND_VIEW = 25
    SUCCEEDED_COMMAND_SUBS = 26
    SUCCEEDED_COMMAND_UNSUBS = 27
    SUCCEEDED_COMMAND_ADD = 28
    SUCCEEDED_COMMAND_VIEW = 29
    STOP_STREAMING = 30


@dataclass(frozen=True)
class StreamResponse:
    """The answer to a request. `number` is None where it is none of ours; `code` may be one that is not known."""

    service: str
    command: str
    number: int | None
    code: int
    text: str
    timestamp: int | None

    @property
    def is_success(self) -> bool:
        """Whether the command was carried out."""
        return self.code in _SUCCEEDED

    @property
    def severs(self) -> bool:
        """Whether the streamer ends the connection after it."""
        return self.code in _SEVERING


@dataclass(frozen=True)
class StreamNotice:
    """Something the streamer says unasked, such as why it ends the connection."""

    service: str
    code: int | None
    text: str

    @property
    def severs(self) -> bool:
        """Whether the streamer ends the connection after it."""
        return self.code in _SEVERING


@dataclass(frozen=True)
class StreamData:
    """Items of one service: `timestamp` in milliseconds since 1970 or None; each item has a text `key`.

    An item's other members are as they came; a field that is absent has not changed.
    """

    service: str
    command: str
    timestamp: int | None
    items: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class FrameProblem:
    """A part of a message that was left out: where, and a short stable word for why."""

    place: str
    reason: str


@dataclass(frozen=True)
class StreamFrame:
    """A message taken apart; each list in the order of the message. Heartbeats are milliseconds since 1970."""

    responses: tuple[StreamResponse, ...] = ()
    heartbeats: tuple[int, ...] = ()
    notices: tuple[StreamNotice, ...] = ()
    data: tuple[StreamData, ...] = ()
    problems: tuple[FrameProblem, ...] = ()


class _Part(msgspec.Struct):
    service: str
    content: list[dict[str, Any]]
    command: str = ""
    timestamp: int | None = None


class _DataFrame(msgspec.Struct, forbid_unknown_fields=True):
    data: list[_Part]


_data_decoder = msgspec.json.Decoder(_DataFrame)


def read_frame(message: str | bytes) -> StreamFrame:
    """Take a message apart.

    Raises StreamFrameError, its `reason` one of `too_large` (over 8 MiB), `not_text` (no UTF-8), `not_json` and
    `not_an_object`. A binary message is read as the text it holds.
    """
    if len(message) > MOST_FRAME_BYTES:
        _refuse("too_large", f"{len(message)} characters, over {MOST_FRAME_BYTES}")
    try:
        found = _data_decoder.decode(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _read_slowly(message)
    if all(type(item.get("key")) is str for part in found.data for item in part.content):
        parts = [StreamData(part.service, part.command, part.timestamp, tuple(part.content)) for part in found.data]
        return StreamFrame(data=tuple(parts))
    return _read_slowly(message)


class _NotFinite:
    """Stands for NaN and the infinities, which are no JSON numbers."""


def _read_slowly(message: str | bytes) -> StreamFrame:
    """Any message but one of good data alone, part by part."""
    try:
        value = json.loads(message, parse_constant=lambda _: _NotFinite())
    except UnicodeDecodeError as error:
        _refuse("not_text", f"{len(message)} bytes that are no UTF-8", error)
    except (ValueError, RecursionError) as error:
        _refuse("not_json", f"a message of {len(message)} characters: {_shown(message)}", error)
    if not isinstance(value, dict):
        _refuse("not_an_object", f"a JSON {type(value).__name__} where an object is due: {_shown(message)}")
    return _Reading().of(value)


class _Reading:
    """Collects the good parts of one message and the problems with the others."""

    def __init__(self) -> None:
        self._problems: list[FrameProblem] = []

    def of(self, value: dict[str, Any]) -> StreamFrame:
        """The message taken apart."""
        for name in value.keys() - {"response", "notify", "data", "snapshot"}:
            self._leave(_shown(name), "unknown_member")
        responses = [found for place, part in self._parts(value, "response") if (found := self._response(place, part))]
        heartbeats, notices = list[int](), list[StreamNotice]()
        for place, part in self._parts(value, "notify"):
            if "heartbeat" not in part:
                notices.append(_notice(part))
            elif (beat := _whole(part["heartbeat"])) is not None:
                heartbeats.append(beat)
            else:
                self._leave(place, "no_number")
        names = ("data", "snapshot")
        parts = [(place, part) for name in names for place, part in self._parts(value, name)]
        data = [read for place, part in parts if (read := self._data(place, part))]
        return StreamFrame(
            tuple(responses), tuple(heartbeats), tuple(notices), tuple(data), tuple(self._problems)
        )  # fmt: skip

    def _leave(self, place: str, reason: str) -> None:
        self._problems.append(FrameProblem(place, reason))

    def _parts(self, value: dict[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        listed = value.get(name, [])
        if not isinstance(listed, list):
            self._leave(name, "no_list")
            return
        for number, part in enumerate(listed):
            if isinstance(part, dict):
                yield f"{name}[{number}]", part
            else:
                self._leave(f"{name}[{number}]", "no_object")

    def _response(self, place: str, part: dict[str, Any]) -> StreamResponse | None:
        content = part.get("content")
        code = _whole(content.get("code")) if isinstance(content, dict) else None
        if code is None or not isinstance(content, dict):
            self._leave(place, "no_code")
            return None
        return StreamResponse(
            service=_text(part.get("service")),
            command=_text(part.get("command")),
            number=_whole(part.get("requestid")),
            code=code,
            text=_text(content.get("msg")),
            timestamp=_whole(part.get("timestamp")),
        )

    def _data(self, place: str, part: dict[str, Any]) -> StreamData | None:
        service, content = part.get("service"), part.get("content")
        if not isinstance(service, str) or not isinstance(content, list):
            self._leave(place, "no_service" if isinstance(content, list) else "no_content")
            return None
        items = tuple(item for number, item in enumerate(content) if self._is_good(f"{place}.content[{number}]", item))
        return StreamData(service, _text(part.get("command")), _whole(part.get("timestamp")), items)

    def _is_good(self, place: str, item: object) -> bool:
        if not isinstance(item, dict):
            self._leave(place, "no_object")
        elif not isinstance(item.get("key"), str):
            self._leave(place, "no_key")
        elif not _is_finite(item):
            self._leave(place, "not_finite")
        else:
            return True
        return False


def _notice(part: dict[str, Any]) -> StreamNotice:
    content = part.get("content")
    told = content if isinstance(content, dict) else {}
    return StreamNotice(_text(part.get("service")), _whole(told.get("code")), _text(told.get("msg")))


def _is_finite(value: object) -> bool:
    left = [value]  # not by recursion: how deep it goes is the sender's choice
    while left:
        each = left.pop()
        if isinstance(each, dict):
            left += each.values()
        elif isinstance(each, list):
            left += each
        elif isinstance(each, _NotFinite) or (isinstance(each, float) and not math.isfinite(each)):
            return False
    return True


def _whole(value: object) -> int | None:
    """A whole number that is one, or is written as text; None for anything else."""
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.removeprefix("-").isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _shown(message: str | bytes) -> str:
    start = message[:_MOST_SHOWN]
    return repr(start if isinstance(start, str) else start.decode("utf-8", "replace"))


def _refuse(reason: str, detail: str, cause: Exception | None = None) -> NoReturn:
    raise StreamFrameError(reason, detail) from cause
