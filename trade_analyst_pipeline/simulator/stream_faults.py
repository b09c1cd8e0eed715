"""Failures of the streamer on demand: each strikes some messages on their way out, and is named in the record.

A strike says which messages it is for by service or command, symbol and count, like the faults of HTTP; what it does is
a function of the message about to be sent. `STREAM_FAULTS` has them all, a line each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from trade_analyst_pipeline.simulator.faults import Ask, Fault
from trade_analyst_pipeline.simulator.stream_steps import Message, MessageKind, Step

if TYPE_CHECKING:
    from trade_analyst_pipeline.simulator.stream_session import StreamSession

_encoder = msgspec.json.Encoder()
_PIECE_SECONDS = 0.02
_MUTE_SECONDS = 30.0


class Play:
    """One message and what a fault may do with it; `told` is what the strike says besides whom it is for."""

    def __init__(self, session: StreamSession, message: Message, now: float) -> None:
        self.session, self.message, self.now = session, message, now
        self.fate = "sent"
        self.is_handled = False
        self.last_step: int | None = None
        self.told: Mapping[str, Any] = {}

    @property
    def text(self) -> bytes:
        """The message as JSON."""
        return _encoder.encode(self.message.value)

    def send(self, text: bytes | None = None, *, after: float = 0.0, fate: str | None = None) -> None:
        """Send a text, by default the message itself, after so many seconds."""
        self._put("text", self.text if text is None else text, after, fate)

    def send_binary(self, data: bytes) -> None:
        """Send a binary message."""
        self._put("binary", data, 0.0, "altered")

    def send_raw(self, data: bytes, *, after: float = 0.0, fate: str) -> None:
        """Put bytes on the socket as they are."""
        self._put("raw", data, after, fate)

    def drop(self) -> None:
        """Send nothing."""
        self.is_handled, self.fate = True, "lost"

    def finish(self, kind: Literal["close", "end", "abort"], code: int = 1000) -> None:
        """End the connection in the message's place; it is lost unless a part of it was sent before."""
        self.is_handled, self.fate = True, "lost"
        self.session.finish(Step(kind, code=code, reason="fault"), self.now)

    def seconds(self, usual: float) -> float:
        """What the strike says, or the usual."""
        return float(self.told.get("seconds", usual))

    def _put(self, kind: Literal["text", "binary", "raw"], data: bytes, after: float, fate: str | None) -> None:
        self.is_handled = True
        self.fate = fate or self.fate
        self.last_step = self.session.put(Step(kind, data), self.now + after)


@dataclass(frozen=True)
class StreamFault:
    """One kind: what the client meets, the messages it is for, what it does, and the key it takes, if any.

    With a `field` only messages in which an item has it are struck.
    """

    summary: str
    kinds: frozenset[MessageKind]
    play: Callable[[Play], None]
    takes: str = ""
    field: str = ""

    def is_for(self, message: Message) -> bool:
        """Whether it is for such a message."""
        parts = message.value.get("data", ())
        has_it = not self.field or any(self.field in item for part in parts for item in part["content"])
        return message.kind in self.kinds and has_it


@dataclass
class StreamStrike:
    """A fault switched on: for whom and how often, and what it is told."""

    name: str
    rule: Fault
    told: Mapping[str, Any] = field(default_factory=dict)


class StreamFaults:
    """The faults switched on at present, the oldest first; at most one strikes a message."""

    def __init__(self) -> None:
        self.strikes: list[StreamStrike] = []

    def add(
        self,
        name: str,
        *,
        path: str | None = None,
        symbol: str | None = None,
        times: int | None = 1,
        skip: int = 0,
        **told: Any,
    ) -> StreamStrike:
        """Switch a fault on for the next `times` messages (None: for all) after `skip` others; KeyError for no such.

        `path` is a service of data (`LEVELONE_EQUITIES`) or a request (`ADMIN/LOGIN`); `*` stands for anything.
        """
        if name not in STREAM_FAULTS:
            raise KeyError(name)
        found = StreamStrike(name, Fault(lambda answer: answer, path, symbol, None, times, skip_left=skip), told)
        self.strikes.append(found)
        return found

    def clear(self) -> None:
        """Switch all faults off."""
        self.strikes.clear()

    def strike(self, play: Play) -> str | None:
        """Let the first fault that is for a message have it; its name, or None."""
        if not self.strikes:
            return None
        message = play.message
        path = message.service if message.kind == "data" else f"{message.service}/{message.command}"
        ask = Ask(path, message.symbols)
        for strike in self.strikes:
            kind, rule = STREAM_FAULTS[strike.name], strike.rule
            if not kind.is_for(message) or not rule.matches(ask):
                continue
            if rule.skip_left > 0:
                rule.skip_left -= 1
                continue
            rule.struck += 1
            rule.times_left = None if rule.times_left is None else rule.times_left - 1
            play.told = strike.told
            kind.play(play)
            return strike.name
        return None


# -- what they do --------------------------------------------------------------------------------------------------


def websocket_frame(payload: bytes, *, opcode: int = 1, is_last: bool = True) -> bytes:
    """A server's WebSocket frame as it stands on the socket."""
    first, size = (0x80 if is_last else 0) | opcode, len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65_536:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


def _closing(code: int) -> Callable[[Play], None]:
    return lambda play: play.finish("close", code)


def _cut(play: Play) -> None:
    frame = websocket_frame(play.text)
    play.send_raw(frame[: len(frame) // 2], fate="lost")
    play.finish("abort")


def _mute(play: Play) -> None:
    play.session.mute_until = play.now + play.seconds(_MUTE_SECONDS)
    play.drop()


def _mute_data(play: Play) -> None:
    play.session.mute_data_until = play.now + play.seconds(_MUTE_SECONDS)
    play.drop()


def _stall(play: Play) -> None:
    play.session.hold_until = play.now + play.seconds(_MUTE_SECONDS)
    play.send(fate="late")


def _drip(play: Play) -> None:
    """A few bytes at a time; whatever follows waits."""
    frame = websocket_frame(play.text)
    pause, size = play.seconds(_PIECE_SECONDS), max(len(frame) // 20, 1)
    pieces = [frame[start : start + size] for start in range(0, len(frame), size)]
    for place, piece in enumerate(pieces):
        play.send_raw(piece, after=place * pause, fate="late")
    play.session.hold_until = max(play.session.hold_until, play.now + len(pieces) * pause)


def _fragments(play: Play) -> None:
    text = play.text
    for start in range(0, len(text), 7):
        opcode, is_last = 0 if start else 1, start + 7 >= len(text)
        play.send_raw(websocket_frame(text[start : start + 7], opcode=opcode, is_last=is_last), fate="sent")


def _sent_as(change: Callable[[bytes], bytes]) -> Callable[[Play], None]:
    return lambda play: play.send(change(play.text), fate="altered")


def _bad_utf8(play: Play) -> None:
    play.send_raw(websocket_frame(play.text.replace(b'"', b'"\xff', 1)), fate="altered")


def _each_value(change: Callable[[str, Any], Any]) -> Callable[[Play], None]:
    """Numbered fields of every item, changed; what is left of the message is as it was."""

    def play_it(play: Play) -> None:
        parts = [
            part
            | {"content": [{name: change(name, value) for name, value in item.items()} for item in part["content"]]}
            for part in play.message.value["data"]
        ]
        play.send(json.dumps({"data": parts}, separators=(",", ":")).encode(), fate="altered")

    return play_it


def _as_text(name: str, value: Any) -> Any:
    return str(value) if name.isdigit() and isinstance(value, int | float) else value


def _back_in_time(name: str, value: Any) -> Any:
    is_time = name.isdigit() and isinstance(value, int) and value > 1_000_000_000_000
    return value - 5000 if is_time else value


def _each_part(**changed: Any) -> Callable[[Play], None]:
    def play_it(play: Play) -> None:
        parts = [part | changed for part in play.message.value["data"]]
        play.send(_encoder.encode({"data": parts}), fate="altered")

    return play_it


def _repeated(play: Play) -> None:
    play.send()
    play.send(fate="repeated")


def _swapped(play: Play) -> None:
    play.send(after=play.seconds(0.25), fate="late")


def _volume_reset(play: Play) -> None:
    """From this message on the volumes of its symbols are told from 0."""
    bases, first = play.session.desk.volume_bases, dict[tuple[str, str], int]()
    for part in play.message.value["data"]:
        for place, item in enumerate(part["content"]):
            if "8" in item:
                base = first.setdefault((part["service"], item["key"]), item["8"])
                part["content"][place] = item | {"8": item["8"] - base}
    for key, volume in first.items():
        bases[key] = bases.get(key, 0) + volume
    play.send(fate="altered")


def _volume_lower(name: str, value: Any) -> Any:
    return value // 2 if name == "8" else value


def _padded(play: Play) -> None:
    play.send(play.text.ljust(int(play.told.get("size_bytes", 5 << 20))), fate="sent")


def _foreign(play: Play) -> None:
    answer = {"service": "ADMIN", "command": "LOGIN", "requestid": "987654321", "SchwabClientCorrelId": "foreign"}
    content = {"timestamp": play.message.timestamp, "content": {"code": 0, "msg": "SUCCESS"}}
    play.send(_encoder.encode({"response": [answer | content]}))
    play.send()


def _refusing(code: int, text: str, *, severs: bool = False) -> Callable[[Play], None]:
    def play_it(play: Play) -> None:
        answer = play.message.value["response"][0]
        content = {"code": play.told.get("status", code), "msg": text}
        play.send(_encoder.encode({"response": [answer | {"content": content}]}), fate="altered")
        if severs:
            play.finish("close")
            play.fate = "altered"

    return play_it


def _stopping(code: int, text: str) -> Callable[[Play], None]:
    def play_it(play: Play) -> None:
        item = {"service": "ADMIN", "timestamp": play.message.timestamp, "content": {"code": code, "msg": text}}
        play.send(_encoder.encode({"notify": [item]}))
        play.finish("close")

    return play_it


def _none(name: str, value: Any) -> Any:
    return None if name.isdigit() else value


def _not_a_number(_: str, value: Any) -> Any:
    return float("nan") if isinstance(value, float) else value


def _drop(play: Play) -> None:
    play.drop()


def _late_answer(play: Play) -> None:
    play.send(after=play.seconds(2.0), fate="late")


def _odd_beat(play: Play) -> None:
    play.send(b'{"notify":[{"heartbeat":1}]}', fate="altered")


def _half(text: bytes) -> bytes:
    return text[: len(text) // 2]


_NO_LOGIN = _refusing(3, "Login Denied.: token is invalid or has expired.", severs=True)


def _in_a_list(text: bytes) -> bytes:
    return b"[" + text + b"]"


_DATA: frozenset[MessageKind] = frozenset({"data"})
_RESPONSE: frozenset[MessageKind] = frozenset({"response"})
_BEAT: frozenset[MessageKind] = frozenset({"heartbeat"})

STREAM_FAULTS: Mapping[str, StreamFault] = {
    "close-normal": StreamFault("the server closes with 1000", _DATA, _closing(1000)),
    "close-going-away": StreamFault("the server closes with 1001", _DATA, _closing(1001)),
    "close-policy": StreamFault("the server closes with 1008", _DATA, _closing(1008)),
    "close-error": StreamFault("the server closes with 1011", _DATA, _closing(1011)),
    "close-restart": StreamFault("the server closes with 1012", _DATA, _closing(1012)),
    "reset": StreamFault("the connection is reset", _DATA, lambda play: play.finish("abort")),
    "end": StreamFault("the connection ends without a goodbye", _DATA, lambda play: play.finish("end")),
    "cut-frame": StreamFault("the connection ends half way through a frame", _DATA, _cut),
    "stop-streaming": StreamFault("code 30, and the connection ends", _DATA, _stopping(30, "Stop streaming")),
    "connection-limit": StreamFault("code 12, and the connection ends", _DATA, _stopping(12, "Connection limit")),
    "mute": StreamFault("silence, and what falls into it is lost", _DATA, _mute, "seconds"),
    "mute-data": StreamFault("heartbeats go on, data is lost", _DATA, _mute_data, "seconds"),
    "stall": StreamFault("silence, after which everything comes late", _DATA, _stall, "seconds"),
    "drip": StreamFault("a frame comes a few bytes at a time, all else behind it", _DATA, _drip, "seconds"),
    "fragments": StreamFault("a message in fragments of 7 bytes", _DATA, _fragments),
    "lost-frame": StreamFault("a frame is left out; in a numbered service a hole in seq", _DATA, _drop),
    "repeated-frame": StreamFault("a frame comes twice", _DATA, _repeated),
    "late-frame": StreamFault("a frame comes after those that follow it", _DATA, _swapped, "seconds"),
    "cut-json": StreamFault("a whole message whose JSON ends early", _DATA, _sent_as(_half)),
    "bad-utf8": StreamFault("a text message that is not UTF-8", _DATA, _bad_utf8),
    "not-an-object": StreamFault("a JSON list where an object is due", _DATA, _sent_as(_in_a_list)),
    "empty-message": StreamFault("a text message without a byte in it", _DATA, _sent_as(lambda _: b"")),
    "numbers-as-text": StreamFault("every number of an item is a text", _DATA, _each_value(_as_text)),
    "nulls": StreamFault("every numbered field is null", _DATA, _each_value(_none)),
    "not-a-number": StreamFault("bare NaN in every price", _DATA, _each_value(_not_a_number)),
    "unknown-service": StreamFault("data of a service nobody asked for", _DATA, _each_part(service="NEWS_HEADLINE")),
    "no-items": StreamFault("data without items", _DATA, _each_part(content=[])),
    "times-back": StreamFault("times five seconds before those already told", _DATA, _each_value(_back_in_time)),
    "volume-reset": StreamFault("cumulative volume begins anew at 0", _DATA, _volume_reset, field="8"),
    "volume-lower": StreamFault("cumulative volume falls to half, once", _DATA, _each_value(_volume_lower), field="8"),
    "binary": StreamFault("the message as a binary one", _DATA, lambda play: play.send_binary(play.text)),
    "giant": StreamFault("the message blown up with white space, to 5 MiB", _DATA, _padded, "size_bytes"),
    "foreign-response": StreamFault("an answer to a request that nobody made", _DATA, _foreign),
    "late-answer": StreamFault("a request is carried out, the answer comes late", _RESPONSE, _late_answer, "seconds"),
    "no-answer": StreamFault("a request is carried out, and never answered", _RESPONSE, _drop),
    "repeated-answer": StreamFault("an answer comes twice", _RESPONSE, _repeated),
    "refused": StreamFault("an answer with another code, 9 unless told", _RESPONSE, _refusing(9, "Unknown failure")),
    "login-denied": StreamFault("code 3, and the connection ends", _RESPONSE, _NO_LOGIN),
    "no-heartbeat": StreamFault("a heartbeat is left out", _BEAT, _drop),
    "heartbeat-of-another-shape": StreamFault("a heartbeat that is a number", _BEAT, _odd_beat),
}  # fmt: skip
