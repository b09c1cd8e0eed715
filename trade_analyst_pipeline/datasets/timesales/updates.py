"""Blocks of the stream to columns of level-one updates: one row per item, with the fields that trades are made from.

Nearly all messages are read by the compiled scanner; one that is not as usual is taken apart here, and what is good of
it kept. What an update means is not decided here.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from trade_analyst_pipeline.errors import StreamFrameError
from trade_analyst_pipeline.kernels import level_one_json as scanner
from trade_analyst_pipeline.market.tolerant_json import BadRow
from trade_analyst_pipeline.market.wire_json import LAST_INSTANT_MS

SILENCE_NS: Final = 60_000_000_000
"""Nothing at all for that long, not even a heartbeat: what happened then is not known."""

NUMBERS: Final = (
    *("bid", "ask", "last", "bid_size", "ask_size", "volume", "last_size"),
    *("quote_time", "trade_time"),
)
PRODUCTS: Final[Mapping[str, str]] = {
    "LEVELONE_EQUITIES": "equity",
    "LEVELONE_OPTIONS": "option",
    "LEVELONE_FUTURES": "future",
}
# The field numbers of `NUMBERS` in each service, then that of the venue of the last trade, where there is one.
_FIELDS: Final[Mapping[str, tuple[int, ...]]] = {
    "LEVELONE_EQUITIES": (1, 2, 3, 4, 5, 8, 9, 34, 35, 41),
    "LEVELONE_OPTIONS": (2, 3, 4, 16, 17, 8, 18, 38, 39),
    "LEVELONE_FUTURES": (1, 2, 3, 4, 5, 8, 9, 10, 11),
}
_IMAGE_MEMBERS: Final = frozenset({"delayed", "assetMainType", "assetSubType", "cusip"})
_MOST_FIELDS: Final = 64
_TABLE: Final = 1 << 17
_MOST_SYMBOLS: Final = 1 << 16
_LARGEST_EXACT: Final = 2**53
_IMPOSSIBLE: Final = -2


class Block(NamedTuple):
    """What one connection sent in a row: messages end to end, each with its head; `is_carried`: how symbols stood."""

    body: bytes
    epoch: int
    is_carried: bool


@dataclass
class Updates:
    """Level-one updates in the order they arrived: arrays of one length, `numbers` with a row per column of `NUMBERS`.

    `symbols` are places in `names`; `services` in `PRODUCTS`; `images` 1 for a whole state; `stretches` number the
    parts of the stream between which nothing is known; `received` are nanoseconds, `timestamps` and the times among
    `numbers` milliseconds since 1970; `venues` texts as `venue_texts` reads them.
    """

    names: list[str]
    symbols: Any
    services: Any
    images: Any
    stretches: Any
    received: Any
    timestamps: Any
    venues: Any
    numbers: Any
    counts: Counter[str]

    def __len__(self) -> int:
        return len(self.symbols)


class UpdateReader:
    """Reads block after block, so that a symbol keeps its number and a silence between blocks is seen."""

    def __init__(self) -> None:
        self._services, self._slots = _declared()
        self._table = np.full(_TABLE, -1, dtype=np.int32)
        self._names = np.zeros(_MOST_SYMBOLS * scanner.NAME_BYTES, dtype=np.uint8)
        self._lengths = np.zeros(_MOST_SYMBOLS + 1, dtype=np.int64)
        self._known: dict[str, int] = {}
        self._others: dict[str, int] = {}
        self._parts: list[tuple[Any, ...]] = []
        self._epoch, self._stretch, self._last = -1, -1, 0
        self._bad: list[BadRow] = []
        self._counts: Counter[str] = Counter()

    def read(self, block: Block) -> None:
        """Take on the updates of a block; raises StreamFrameError, with nothing taken on, for one that is not whole."""
        body = np.frombuffer(block.body, dtype=np.uint8)
        count = scanner.count_messages(body)
        if count < 0:
            raise StreamFrameError("damaged_block", "a message or its head is not whole")
        if not count:
            return
        room = int(np.count_nonzero(body == ord("{")))
        messages = np.empty((4, count), dtype=np.int64)
        of_message, symbols = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int32)
        services, images = np.empty(room, dtype=np.int8), np.empty(room, dtype=np.int8)
        timestamps, venues = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
        numbers = np.empty((len(NUMBERS), room))
        rows = scanner.read_messages(
            *(body, self._services, self._slots, self._table, self._names, self._lengths, messages, of_message),
            *(services, symbols, images, timestamps, numbers, venues),
        )
        stretches = self._stretches(block, messages[0])
        at = of_message[:rows]
        part = (
            *(at, symbols[:rows], services[:rows], images[:rows], timestamps[:rows], venues[:rows]),
            numbers[:, :rows],
        )
        if messages[3].any():
            part = _merged(part, self._slowly(block.body, messages))
        at, symbols, services, images, *rest = part
        if block.is_carried:
            images = np.ones_like(images)
        self._counts["updates"] += len(at)
        self._parts.append((symbols, services, images, stretches[at], messages[0][at], *rest))

    def _stretches(self, block: Block, received: Any) -> Any:
        """The stretch that each message belongs to: a new one with each connection, and after a silence."""
        is_new = np.diff(received, prepend=received[0]) > SILENCE_NS
        if block.epoch != self._epoch or received[0] - self._last > SILENCE_NS:
            is_new[0] = True
        stretches = self._stretch + np.cumsum(is_new)
        self._counts["silence"] += int(is_new.sum()) - (block.epoch != self._epoch)
        self._epoch, self._stretch, self._last = block.epoch, int(stretches[-1]), int(received[-1])
        return stretches

    def _slowly(self, body: bytes, messages: Any) -> tuple[Any, ...]:
        """Rows, as the scanner gives them, of the messages that it left."""
        rows = list[tuple[Any, ...]]()
        for message in np.flatnonzero(messages[3]).tolist():
            text = body[messages[1, message] : messages[2, message]]
            rows += [(message, *each) for each in self._items(text)]
        columns: list[Any] = list(zip(*rows, strict=True)) or [()] * 7
        types = (np.int64, np.int32, np.int8, np.int8, np.int64, np.int64)
        plain = [np.array(values, dtype=each) for values, each in zip(columns[:6], types, strict=True)]
        numbers = np.array(columns[6], dtype=np.float64).reshape(len(rows), len(NUMBERS)).T
        return (*plain, numbers)

    def _items(self, text: bytes) -> list[tuple[Any, ...]]:
        try:
            value = json.loads(text, parse_constant=lambda _: _NOT_FINITE)
        except (ValueError, RecursionError) as error:
            self._reject("unreadable_message", str(error), text)
            return []
        if not isinstance(value, dict):
            self._reject("unreadable_message", "no JSON object", text)
            return []
        found = list[tuple[Any, ...]]()
        for part in self._listed(value, "data") if "data" in value else []:
            service = part.get("service") if isinstance(part, dict) else None
            if not isinstance(service, str):
                self._reject("wrong_type", "a part without the text `service`", _source(part))
            elif service not in PRODUCTS:
                self._counts["other_service"] += 1
            else:
                number, timestamp = tuple(PRODUCTS).index(service), _timestamp(part.get("timestamp"))
                rows = [self._item(service, item) for item in self._listed(part, "content")]
                found += [
                    (symbol, number, image, timestamp, venue, numbers)
                    for symbol, image, venue, numbers in filter(None, rows)
                ]
        return found

    def _listed(self, owner: dict[str, Any], name: str) -> list[Any]:
        """A member that is to be a list; empty, and rejected, where it is none."""
        value = owner.get(name)
        if isinstance(value, list):
            return value
        self._reject("wrong_type", f"`{name}` is no list", _source(owner))
        return []

    def _item(self, service: str, item: Any) -> tuple[int, int, int, tuple[float, ...]] | None:
        if not isinstance(item, dict) or not _is_symbol(item.get("key")):
            self._reject("no_symbol", "an item without the text `key`", _source(item))
            return None
        numbers = []
        fields = _FIELDS[service]
        for name, field in zip(NUMBERS, fields, strict=False):
            stated = item.get(str(field))
            number = _number(stated)
            if number is None and stated is not None:
                self._reject("wrong_type", f"field {field} ({name}) is {str(stated)[:40]!r}", _source(item))
                return None
            if stated is None and str(field) in item:
                self._counts[f"null:{name}"] += 1
            numbers.append(math.nan if number is None else number)
        venue = item.get(str(fields[-1])) if len(fields) > len(NUMBERS) else None
        if item.get("delayed") is True:
            self._counts["delayed"] += 1
        is_image = not _IMAGE_MEMBERS.isdisjoint(item)
        packed = venue.encode("ascii", "replace")[:8] if isinstance(venue, str) else b""
        return self._number_of(item["key"]), int(is_image), int.from_bytes(packed, "little"), tuple(numbers)

    def _reject(self, rule: str, detail: str, source: bytes) -> None:
        self._bad.append(BadRow(rule, detail, source.decode("utf-8", "backslashreplace")))

    def _number_of(self, name: str) -> int:
        """The number of a symbol, that of the scanner where it knows it; those it does not count down from the top."""
        if len(self._known) != self._lengths[-1]:
            self._known = {each: number for number, each in enumerate(self._scanned())}
        known = self._known.get(name)
        return self._others.setdefault(name, -1 - len(self._others)) if known is None else known

    def _scanned(self) -> list[str]:
        lengths = self._lengths[: self._lengths[-1]].tolist()
        names = self._names.tobytes()
        starts = range(0, len(lengths) * scanner.NAME_BYTES, scanner.NAME_BYTES)
        return [names[start : start + length].decode() for start, length in zip(starts, lengths, strict=True)]

    def take_bad(self) -> list[BadRow]:
        """The items that could not be typed since the last call."""
        bad, self._bad = self._bad, []
        return bad

    def updates(self) -> Updates:
        """Everything read; a time that no date can be made of is none, and counted."""
        scanned = self._scanned()
        names = list(dict.fromkeys([*scanned, *self._others]))
        columns = [np.concatenate(each, axis=-1) for each in zip(*self._parts, strict=True)] or _nothing()
        symbols, *rest = columns
        others = np.array([names.index(name) for name in self._others], dtype=np.int32)
        if len(others):
            symbols = np.where(symbols < 0, others[np.minimum(-1 - symbols, len(others) - 1)], symbols)
        services, images, stretches, received, timestamps, venues, numbers = rest
        numbers = np.ascontiguousarray(numbers)
        for name in ("quote_time", "trade_time"):
            self._forget_impossible(name, numbers[NUMBERS.index(name)], np.nan)
        self._forget_impossible("update_time", timestamps, scanner.NO_TIMESTAMP)
        return Updates(names, symbols, services, images, stretches, received, timestamps, venues, numbers, self._counts)

    def _forget_impossible(self, name: str, times: Any, none: float) -> None:
        is_impossible = (times > LAST_INSTANT_MS) | ((times < 0) & (times != none))
        if is_impossible.any():
            self._counts[f"impossible_time:{name}"] += int(is_impossible.sum())
            times[is_impossible] = none


_NOT_FINITE: Final = object()


def _declared() -> tuple[Any, Any]:
    """The names of the services, and where each of their fields goes, as the scanner takes them."""
    services = np.zeros((len(PRODUCTS), 32), dtype=np.uint8)
    slots = np.full((len(PRODUCTS), _MOST_FIELDS), scanner.UNREAD, dtype=np.int8)
    for number, name in enumerate(PRODUCTS):
        services[number, 0] = len(name)
        services[number, 1 : 1 + len(name)] = np.frombuffer(name.encode(), np.uint8)
        slots[number, list(_FIELDS[name])] = range(len(_FIELDS[name]))
    return services, slots


def _nothing() -> list[Any]:
    types = (np.int32, np.int8, np.int8, np.int64, np.int64, np.int64, np.int64)
    return [*(np.empty(0, dtype=each) for each in types), np.empty((len(NUMBERS), 0))]


def _merged(first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[Any, ...]:
    """The rows of both in the order of their messages."""
    order = np.argsort(np.concatenate((first[0], second[0])), kind="stable")
    return tuple(np.concatenate(pair, axis=-1)[..., order] for pair in zip(first, second, strict=True))


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _LARGEST_EXACT:
        return None
    return float(value) if math.isfinite(value) else None


def _timestamp(value: object) -> int:
    if value is None:
        return scanner.NO_TIMESTAMP
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST_EXACT:
        return value
    return _IMPOSSIBLE


def _is_symbol(value: object) -> bool:
    """Whether it is text that can be shown, and so written: JSON can escape half a character, which cannot."""
    return isinstance(value, str) and value != "" and value.isprintable()


def _source(value: object) -> bytes:
    return json.dumps(value, default=repr).encode()


def venue_texts(packed: Any) -> pl.Series:
    """The texts that `venues` stand for; null for 0."""
    distinct, places = np.unique(packed, return_inverse=True)
    texts = [int(each).to_bytes(8, "little").rstrip(b"\0").decode("ascii") or None for each in distinct.tolist()]
    return pl.Series(texts, dtype=pl.String).gather(pl.Series(places.astype(np.uint32)))
