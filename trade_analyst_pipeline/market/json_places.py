"""Where in the bytes of a JSON text its members stand: offset and length, without decoding what is passed over.

Reads what the tolerant parser reads too: NaN, repeated names, bytes that are no UTF-8. What a member means is not
known here; which members are looked for is said by the datasets (`row_layout`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

MEMBER: Final = "*"  # any member of an object
ELEMENT: Final = "[]"  # any element of a list
_DEPTH: Final = 48

_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_]\w*")


def _nested(depth: int) -> bytes:
    """An expression for an object or list that nests no deeper than `depth`."""
    inner = b"|" + _nested(depth - 1) if depth else b""
    return rb'[{\[](?:[^"{}\[\]]++|' + _STRING + inner + rb")*+[}\]]"


_NAME: Final = re.compile(_STRING, re.DOTALL)
_VALUE: Final = re.compile(_STRING + rb'|[^\s,:{}\[\]"]++|' + _nested(_DEPTH), re.DOTALL)


class PlaceUnknownError(ValueError):
    """The bytes are not nested as JSON is, or deeper than anyone looks."""


@dataclass(frozen=True)
class Place:
    """A value in a JSON text: its path (`$.candles[3].close`), and where its bytes start and how many they are."""

    path: str
    offset: int
    length: int

    def text(self, body: bytes) -> str:
        """The value as it is written there; bytes that are no UTF-8 are shown as escapes."""
        return body[self.offset : self.offset + self.length].decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Item:
    """A member of an object or an element of a list: where it starts (a member with its name), its name, its value."""

    start: int
    name: str | None
    place: Place

    @property
    def end(self) -> int:
        """Where the byte after it is."""
        return self.place.offset + self.place.length


def whole(body: bytes) -> Place:
    """The place of the document itself; raises PlaceUnknownError."""
    return _value(body, _after_space(body, 0), "$")


def items(body: bytes, place: Place) -> Iterator[Item]:
    """What an object or a list holds, in order, repeated names each time; nothing for any other value.

    Raises PlaceUnknownError.
    """
    opening = body[place.offset : place.offset + 1]
    if opening not in {b"{", b"["}:
        return
    position, last, number = place.offset + 1, place.offset + place.length - 1, 0
    while (position := _after_space(body, position)) < last:
        if number:
            position = _after(body, position, b",")
        item = _member(body, position, place) if opening == b"{" else _element(body, position, place, number)
        yield item
        position, number = item.end, number + 1


def _member(body: bytes, position: int, place: Place) -> Item:
    match = _NAME.match(body, position)
    if match is None:
        raise PlaceUnknownError(f"no name at byte {position} of {place.path}")
    name = json.loads(match[0].decode("utf-8", "surrogateescape"), strict=False)
    step = f".{name}" if _PLAIN_NAME.fullmatch(name) else f"[{json.dumps(name)}]"
    return Item(position, name, _value(body, _after(body, match.end(), b":"), place.path + step))


def _element(body: bytes, position: int, place: Place, number: int) -> Item:
    return Item(position, None, _value(body, position, f"{place.path}[{number}]"))


def _value(body: bytes, position: int, path: str) -> Place:
    match = _VALUE.match(body, position)
    if match is None:
        raise PlaceUnknownError(f"no value that can be told at byte {position}, {path[:200]}")
    return Place(path, position, match.end() - position)


def _after_space(body: bytes, position: int) -> int:
    match = _SPACE.match(body, position)
    return match.end() if match else position


def _after(body: bytes, position: int, sign: bytes) -> int:
    """Where what follows a sign starts."""
    position = _after_space(body, position)
    if body[position : position + 1] != sign:
        raise PlaceUnknownError(f"no {sign.decode()!r} at byte {position}")
    return _after_space(body, position + 1)


@dataclass(frozen=True)
class Holder:
    """An object or list some of whose items are looked for: all its items in order, and which of them those are."""

    place: Place
    items: tuple[Item, ...]
    wanted: tuple[int, ...]


def holders(body: bytes, steps: Sequence[str], *, passed_over: frozenset[str] = frozenset()) -> Iterator[Holder]:
    """What holds the values at `steps` below the document, in order; raises PlaceUnknownError.

    A step is the name of a member, `MEMBER` or `ELEMENT`; members named in `passed_over` are none of those looked for.
    """
    *way, last = steps
    reached = [whole(body)]
    for step in way:
        reached = [item.place for place in reached for item in items(body, place) if _fits(item, step, passed_over)]
    for place in reached:
        held = tuple(items(body, place))
        wanted = tuple(number for number, item in enumerate(held) if _fits(item, last, passed_over))
        yield Holder(place, held, wanted)


def member(body: bytes, place: Place, name: str) -> Place | None:
    """The member of an object with that name, the last where it came more than once; None without one."""
    found = [item.place for item in items(body, place) if item.name == name]
    return found[-1] if found else None


def _fits(item: Item, step: str, passed_over: frozenset[str]) -> bool:
    if item.name is None:
        return step == ELEMENT
    return item.name == step or (step == MEMBER and item.name not in passed_over)
