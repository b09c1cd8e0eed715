"""What a subscription brings: the full image of each symbol, then what changed, as contents of data frames in order.

A `Feed` holds the subscriptions of one connection and moves forward in market time; it knows nothing of requests,
sockets or clocks. Level-one services bring changes, books whole objects at most once a second, charts a bar after
its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any, Protocol

from trade_analyst_pipeline.simulator.order_flow import SCALE
from trade_analyst_pipeline.simulator.paths import calendar, midnight
from trade_analyst_pipeline.simulator.stream_sources import (
    BLOCK_MINUTES,
    BLOCK_MS,
    Source,
    block_start,
    entry_of,
    place_of,
    session_minutes,
)
from trade_analyst_pipeline.simulator.tape import Conflation, Tape, Updates
from trade_analyst_pipeline.simulator.wire_stream import (
    LEVEL_ONE,
    MODELLED,
    PRODUCTS,
    Item,
    book_service,
    changes,
    close_of,
    full_image,
    modelled,
)

BOOKS = ("NYSE_BOOK", "NASDAQ_BOOK", "OPTIONS_BOOK")
CHART = "CHART_EQUITY"
SERVICES = (*LEVEL_ONE, CHART, *BOOKS)
_MOST_ITEMS = 100
_BOOK_LEVELS = 5
_CHART_DELAY_MS = 1000
_CHART_START = 7 * 3600.0
_MAKERS = ("NSDQ", "arcx", "batx", "edgx", "nyse", "memx", "iexg")
Timed = tuple[int, Item]


@dataclass(frozen=True)
class Contents:
    """The content of one data frame: a service's items, each key at most once, and the time of the last one."""

    service: str
    timestamp: int
    items: list[Item]


class Follower(Protocol):
    """One symbol of one service."""

    def image(self, ms: int) -> Item | None:
        """The full image at an instant; None where the service has none. Changes go on from there."""

    def pull(self, until: int) -> list[Timed]:
        """What came since, before `until`, in order."""


class _Ahead:
    """Items made a stretch at a time and taken off the front."""

    def __init__(self, make: Callable[[int], tuple[list[Timed], int]]) -> None:
        self._make = make
        self._items: list[Timed] = []
        self._place = 0
        self._until = 0

    def start(self, ms: int) -> None:
        """Begin at an instant."""
        items, self._until = self._make(ms)
        self._items, self._place = items, sum(1 for time, _ in items if time < ms)

    def pull(self, until: int) -> list[Timed]:
        """What came since, before `until`."""
        found: list[Timed] = []
        while True:
            start, items = self._place, self._items
            place = start
            while place < len(items) and items[place][0] < until:
                place += 1
            found += items[start:place]
            self._place = place
            if until <= self._until:
                return found
            self._items, self._until = self._make(self._until)
            self._place = 0


class LevelOne:
    """A symbol of a level-one service."""

    def __init__(
        self, tape: Tape, conflation: Conflation, service: str, source: Source, fields: frozenset[str]
    ) -> None:
        self._tape, self._conflation = tape, conflation
        self._service, self._source, self._fields = service, source, fields
        self._ahead = _Ahead(self._block)

    def image(self, ms: int) -> Item:
        """The full image at an instant."""
        self._ahead.start(ms)
        state = self._tape.state(self._source, self._conflation, ms)
        return full_image(
            self._service, self._source, self._fields, entry_of(self._tape.market, self._source, ms), state
        )

    def pull(self, until: int) -> list[Timed]:
        """The changes since."""
        return self._ahead.pull(until)

    def _block(self, ms: int) -> tuple[list[Timed], int]:
        """The changes of the block an instant lies in, and when the next one begins."""
        index, number = place_of(self._source, ms)
        timed = _changes(self._tape, self._conflation, self._service, self._source, self._fields, index, number)
        return timed, _block_end(self._source, index, number, ms)


@lru_cache(maxsize=64)  # who comes back to an address, or asks the same tape again, finds them made
def _changes(
    tape: Tape, conflation: Conflation, service: str, source: Source, fields: frozenset[str], index: int, number: int
) -> list[Timed]:
    """The changes of a block; for all who ask alike, so nobody may change them."""
    updates, first = tape.updates(source, index, number, conflation), block_start(index, number)
    close = close_of(entry_of(tape.market, source, first))
    found = changes(service, source, fields, close, updates, is_new_session=number == 0)
    timed = [(time, item) for time, item in zip(updates.time[1:].tolist(), found, strict=True) if len(item) > 1]
    if service == "LEVELONE_OPTIONS" and not fields.isdisjoint(MODELLED):
        timed = sorted(timed + _modelled(tape, source, fields, index, number), key=itemgetter(0))
    return timed


def _modelled(tape: Tape, source: Source, fields: frozenset[str], index: int, number: int) -> list[Timed]:
    """What the vendor's model says of a contract, at each whole minute of a block at which it has changed."""
    left = min(session_minutes(source, index) - number * BLOCK_MINUTES, BLOCK_MINUTES)
    times = [block_start(index, number) + 60_000 * minute for minute in range(-1, left)]
    told = modelled(source, fields, [entry_of(tape.market, source, time) for time in times])
    return [(time, item) for time, item in zip(times[1:], told, strict=True) if len(item) > 1]


def _block_end(source: Source, index: int, number: int, ms: int) -> int:
    """When the next block begins; after the last of a session that is the next date's start, after `ms`."""
    end = block_start(index, number) + BLOCK_MS
    if place_of(source, end) != (index, number):
        return end
    days = calendar().days
    return round(midnight(days[min(index + 1, len(days) - 1)]) * 1000.0) if index + 1 < len(days) else ms + 86_400_000


class Book:
    """A symbol's order book: the whole of it, at most once a second, when its best quote has changed."""

    def __init__(self, tape: Tape, source: Source) -> None:
        self._tape, self._source = tape, source
        self._conflation = Conflation(interval_ms=1000)
        self._ahead = _Ahead(self._block)

    def image(self, ms: int) -> Item:
        """The book at an instant."""
        self._ahead.start(ms)
        updates, place = self._tape.state(self._source, self._conflation, ms)
        return self._book(updates, place, ms)

    def pull(self, until: int) -> list[Timed]:
        """The books since."""
        return self._ahead.pull(until)

    def _block(self, ms: int) -> tuple[list[Timed], int]:
        index, number = place_of(self._source, ms)
        updates = self._tape.updates(self._source, index, number, self._conflation)
        quotes = [column.tolist() for column in (updates.bid, updates.ask, updates.bid_size, updates.ask_size)]
        rows = list(zip(*quotes, strict=True))
        times = updates.time.tolist()
        moved = [place for place in range(1, len(rows)) if rows[place] != rows[place - 1]]
        found = [(times[place], self._book(updates, place, times[place])) for place in moved]
        return found, _block_end(self._source, index, number, ms)

    def _book(self, updates: Updates, place: int, ms: int) -> Item:
        lot = 1 if self._source.product == "option" else 100
        since = ms - round(midnight(calendar().days[place_of(self._source, ms)[0]]) * 1000.0)
        sides = [
            _levels(int(price[place]), step, int(size[place]) * lot, lot, since)
            for price, size, step in ((updates.bid, updates.bid_size, -1), (updates.ask, updates.ask_size, 1))
        ]
        return {"key": self._source.symbol, "1": ms, "2": sides[0], "3": sides[1]}


def _levels(best: int, step: int, size: int, lot: int, since: int) -> list[dict[str, Any]]:
    """Price levels away from the best one, whose size the quote tells; deeper ones are two cents and more apart."""
    found: list[dict[str, Any]] = []
    price, offered = best, size
    for depth in range(_BOOK_LEVELS):
        if price <= 0 or offered <= 0:
            break
        makers = [(offered - offered // 3, depth), (offered // 3, depth + 3)]
        listed = [
            {"0": _MAKERS[(place + since // 60_000) % len(_MAKERS)], "1": part, "2": since - 37 * (depth + 1)}
            for part, place in makers
            if part
        ]
        found.append({"0": price / SCALE, "1": offered, "2": len(listed), "3": listed})
        price += step * 100 * (1 + (depth + since // 1000) % 3)
        offered = lot * (1 + (depth * 7 + since // 1000) % 9)
    return found


class Chart:
    """A symbol's minute bars, each a second after its end and numbered through the day from 07:00 New York."""

    def __init__(self, tape: Tape, source: Source) -> None:
        self._tape, self._source = tape, source
        self._ahead = _Ahead(self._day)

    def image(self, ms: int) -> Item | None:
        """Nothing: a chart begins with the next bar."""
        self._ahead.start(ms)
        return None

    def pull(self, until: int) -> list[Timed]:
        """The bars since."""
        return self._ahead.pull(until)

    def _day(self, ms: int) -> tuple[list[Timed], int]:
        index, _ = place_of(self._source, ms)
        intraday, days = self._tape.market.intraday(self._source.owner), calendar().days
        begin = midnight(days[index])
        early, late = intraday.night_bars(index)
        parts = (early, intraday.bars(index), late) if self._source.product == "share" else (intraday.bars(index),)
        found: list[Timed] = []
        for bars in parts:
            columns = (bars.starts, bars.opens, bars.highs, bars.lows, bars.closes, bars.volumes)
            for start, *values in zip(*(column.tolist() for column in columns), strict=True):
                if start >= begin + _CHART_START and values[-1]:
                    minute = round((start - begin - _CHART_START) / 60.0)
                    item = {"key": self._source.symbol, "1": minute, **dict(zip("23456", values, strict=True))}
                    item |= {"7": round(start * 1000.0), "8": (days[index] - _FIRST_DAY).days, "seq": len(found) + 1}
                    found.append((round(start * 1000.0) + 60_000 + _CHART_DELAY_MS, item))
        following = midnight(days[index + 1]) * 1000.0 if index + 1 < len(days) else ms + 86_400_000
        return found, round(following)


_FIRST_DAY = datetime(1970, 1, 1, tzinfo=UTC).date()


@dataclass
class _Subscription:
    fields: frozenset[str]
    followers: dict[str, Follower] = field(default_factory=dict)


class Feed:
    """The subscriptions of one connection; `conflation` holds for level one."""

    def __init__(self, tape: Tape, conflation: Conflation) -> None:
        self._tape = tape
        self._conflation = conflation
        self._services: dict[str, _Subscription] = {}

    def keys(self, service: str) -> list[str]:
        """The symbols subscribed to, those that do not exist included."""
        found = self._services.get(service)
        return [] if found is None else list(found.followers)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is subscribed to."""
        return not any(found.followers for found in self._services.values())

    def subscribe(
        self, service: str, keys: list[str], fields: frozenset[str], ms: int, *, replaces: bool
    ) -> list[Contents]:
        """Subscribe at an instant, in place of what there was or besides it; the images of the new symbols.

        Symbols that were there keep what they have; an unknown one, or one of another service, brings nothing.
        """
        found = self._services.get(service)
        if found is None or replaces:
            found = self._services[service] = _Subscription(fields)
        new = [key for key in keys if key not in found.followers]
        for key in new:
            found.followers[key] = self._follower(service, key, found.fields, ms)
        return self._images(service, new, ms)

    def unsubscribe(self, service: str, keys: list[str]) -> None:
        """Leave symbols; those that were not subscribed to are passed over."""
        found = self._services.get(service)
        if found is not None:
            for key in keys:
                found.followers.pop(key, None)

    def view(self, service: str, fields: frozenset[str], ms: int) -> list[Contents]:
        """Other fields for all symbols of a service; the images of all of them."""
        return self.subscribe(service, self.keys(service), fields, ms, replaces=True)

    def pull(self, until: int) -> Iterator[Contents]:
        """All that came since the last call, before `until`, service by service."""
        for service, found in self._services.items():
            timed: list[Timed] = []
            for follower in found.followers.values():
                timed += follower.pull(until)
            timed.sort(key=itemgetter(0))
            yield from _contents(service, timed)

    def _images(self, service: str, keys: list[str], ms: int) -> list[Contents]:
        followers = self._services[service].followers
        images = [(ms, image) for key in keys if (image := followers[key].image(ms)) is not None]
        return list(_contents(service, images))

    def _follower(self, service: str, key: str, fields: frozenset[str], ms: int) -> Follower:
        instant = datetime.fromtimestamp(ms / 1000.0, UTC)
        source = self._tape.source(key, instant)
        if source is None:
            return _Nothing()
        if service in LEVEL_ONE:
            is_here = source.product in PRODUCTS[service]
            return LevelOne(self._tape, self._conflation, service, source, fields) if is_here else _Nothing()
        if service == CHART:
            return Chart(self._tape, source) if source.product in {"share", "index"} else _Nothing()
        return Book(self._tape, source) if book_service(key, instant) == service else _Nothing()


class _Nothing:
    """A symbol that a service does not know."""

    def image(self, ms: int) -> Item | None:
        """None."""

    def pull(self, until: int) -> list[Timed]:  # noqa: ARG002  every symbol is asked alike
        """Nothing."""
        return []


def _contents(service: str, timed: list[Timed]) -> Iterator[Contents]:
    """Items in order of time, cut where a key would come twice."""
    items: list[Item] = []
    keys: set[str] = set()
    last = 0
    for time, item in timed:
        key = item["key"]
        if key in keys or len(items) == _MOST_ITEMS:
            yield Contents(service, last, items)
            items, keys = [], set()
        items.append(item)
        keys.add(key)
        last = time
    if items:
        yield Contents(service, last, items)
