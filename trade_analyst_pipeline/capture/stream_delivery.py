"""What of the stream is proven to have been delivered, symbol by symbol, and each interval without that proof as a gap.

Level one is not numbered: its proof is an unbroken connection, from a full image on. Bars are numbered by symbol, so
that a hole is seen, and an outage in which none was missed too. An interval begins with the last proof before it and
ends with the first after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from trade_analyst_pipeline.capture.stream_plan import NUMBERED, STATUS_FIELD, Wanted
from trade_analyst_pipeline.schwab.stream import StreamData
from trade_analyst_pipeline.storage.segments import StreamGap, StreamGapReason

SETTLED_AFTER: Final = timedelta(seconds=2)  # how long gaps that end are gathered, and holes may still be filled
_HALTED: Final = "Halted"
_MOST_HOLE: Final = 1000
_Key = tuple[str, str]


@dataclass(frozen=True)
class _Open:
    """An interval that has not ended."""

    since: datetime
    reason: StreamGapReason
    detail: str


@dataclass
class _Ended:
    """Symbols of a service for which the same interval has ended."""

    until: datetime
    symbols: list[str] = field(default_factory=list)


@dataclass
class _Hole:
    """Numbers that were passed over, from `before` to `after`, neither included."""

    key: _Key
    before: int
    after: int
    from_time: datetime
    seen_time: datetime
    missing: set[int]


class Delivery:
    """The intervals that are open, for the subscriptions of one session; `note` is handed each gap once it is known."""

    def __init__(self, asked: Sequence[Wanted], note: Callable[[StreamGap], None]) -> None:
        self._symbols = {each.service: each.symbols for each in asked}
        self._note = note
        self._open: dict[str, dict[str, _Open]] = {service: {} for service in self._symbols}
        self._ended: dict[tuple[str, _Open], _Ended] = {}
        self._numbers: dict[_Key, tuple[int, datetime]] = {}
        self._holes: list[_Hole] = []
        self._halted: dict[_Key, datetime] = {}

    @property
    def is_whole(self) -> bool:
        """Whether every symbol is delivered at present."""
        return not any(self._open.values())

    @property
    def lacking(self) -> int:
        """How many symbols of services are not delivered at present."""
        return sum(map(len, self._open.values()))

    def lost(
        self,
        since: datetime,
        reason: StreamGapReason,
        detail: str,
        *,
        service: str | None = None,
        symbols: Iterable[str] | None = None,
    ) -> None:
        """Nothing is proven from an instant on, of these symbols or of all; where it was not before, that goes on."""
        found = _Open(since, reason, detail)
        for name in self._symbols if service is None else [service]:
            held = self._open[name]
            for symbol in self._symbols[name] if symbols is None else symbols:
                held.setdefault(symbol, found)

    def explain(
        self,
        now: datetime,
        reason: StreamGapReason,
        detail: str,
        *,
        service: str | None = None,
        symbols: Iterable[str] | None = None,
    ) -> None:
        """From now on what is open, of these symbols or of all, has this reason; until now it had its own."""
        for name in self._symbols if service is None else [service]:
            held = self._open[name]
            for symbol in list(held) if symbols is None else symbols:
                if symbol in held and held[symbol].reason is not reason:
                    self._proven(name, symbol, now)
                    held[symbol] = _Open(now, reason, detail)

    def data(self, part: StreamData, now: datetime) -> None:
        """Items came."""
        held = self._open.get(part.service)
        if held is None:
            return
        if part.service in NUMBERED:
            for item in part.items:
                self._numbered((part.service, item["key"]), item, now)
            return
        if held:
            for item in part.items:
                self._proven(part.service, item["key"], now)
        if (name := STATUS_FIELD.get(part.service)) is not None:
            for item in part.items:
                if name in item:
                    self._status((part.service, item["key"]), item[name], now)

    def tick(self, now: datetime) -> None:
        """Time has passed: tell what is settled."""
        for key, ended in list(self._ended.items()):
            if now - ended.until >= SETTLED_AFTER or len(ended.symbols) == len(self._symbols[key[0]]):
                del self._ended[key]
                self._tell(*key, ended)
        for hole in [each for each in self._holes if now - each.seen_time >= SETTLED_AFTER]:
            self._holes.remove(hole)
            self._tell_hole(hole)

    def finish(self, now: datetime) -> None:
        """The session, or the collector, ends: whatever is open ends with it."""
        for service, held in self._open.items():
            for symbol in list(held):
                self._proven(service, symbol, now)
        for key, since in self._halted.items():
            self._tell_halt(key, since, now)
        self._halted.clear()
        self.tick(now + SETTLED_AFTER)

    def _proven(self, service: str, symbol: str, now: datetime) -> None:
        found = self._open[service].pop(symbol, None)
        if found is not None and now > found.since:
            ended = self._ended.setdefault((service, found), _Ended(now))
            ended.until = now
            ended.symbols.append(symbol)

    def _tell(self, service: str, what: _Open, ended: _Ended) -> None:
        of_all = len(ended.symbols) == len(self._symbols[service])
        symbols = () if of_all else tuple(sorted(ended.symbols))
        self._note(StreamGap(what.reason, what.since, ended.until, what.detail, service, symbols))

    def _status(self, key: _Key, status: object, now: datetime) -> None:
        if status == _HALTED:
            self._halted.setdefault(key, now)
        elif key in self._halted:
            self._tell_halt(key, self._halted.pop(key), now)

    def _tell_halt(self, key: _Key, since: datetime, now: datetime) -> None:
        detail = "trading was halted: nothing was due"
        self._note(StreamGap(StreamGapReason.HALTED, since, now, detail, key[0], (key[1],)))

    def _numbered(self, key: _Key, item: dict[str, Any], now: datetime) -> None:
        number = item.get("seq")
        if not isinstance(number, int):
            self._proven(*key, now)
            return
        last, at = self._numbers.get(key, (None, now))
        held = self._open[key[0]]
        if last is not None and number == last + 1:
            held.pop(key[1], None)  # none was missed, whatever happened in between
        elif key[1] in held:
            self._proven_by_number(key, last, number, now)
        elif last is not None and number > last + 1:
            missing = set(range(last + 1, number)) if number - last <= _MOST_HOLE else set()
            self._holes.append(_Hole(key, last, number, at, now, missing))
        elif last is not None and number <= last:
            self._fill(key, number)
            return
        self._numbers[key] = (number, now)

    def _proven_by_number(self, key: _Key, last: int | None, number: int, now: datetime) -> None:
        found = self._open[key[0]].pop(key[1])
        if now > found.since:
            passed = (last, number) if last is not None and number > last else (None, None)
            self._note(StreamGap(found.reason, found.since, now, found.detail, key[0], (key[1],), *passed))

    def _fill(self, key: _Key, number: int) -> None:
        """A number that was passed over came late."""
        for hole in [each for each in self._holes if each.key == key and number in each.missing]:
            hole.missing.discard(number)
            if not hole.missing:
                self._holes.remove(hole)

    def _tell_hole(self, hole: _Hole) -> None:
        detail = f"numbers {hole.before + 1} to {hole.after - 1} did not come"
        reason = StreamGapReason.SEQUENCE
        service, symbol = hole.key
        gap = StreamGap(reason, hole.from_time, hole.seen_time, detail, service, (symbol,), hole.before, hole.after)
        self._note(gap)
