"""What is on record of one instant of a dataset: what was planned, each capture, and its words on what did not come."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final, Literal

from trade_analyst_pipeline.capture.planned import Plan, Plans
from trade_analyst_pipeline.capture.sound import SoundCaptures
from trade_analyst_pipeline.errors import CaptureDamagedError
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.storage.archive import Capture, Gap, IndexEntry, instant_of
from trade_analyst_pipeline.storage.captures import SESSION_OVER
from trade_analyst_pipeline.storage.counting import ASKED_IN_PARTS, counting

NAMELESS: Final = ""  # the symbol of a recording that does not say whose it is
_Placed = tuple[int, Gap]


class Attempt:
    """One capture: the symbols it set out to take, what it holds, and its last word on each request and symbol."""

    def __init__(self, capture: Capture, index: Sequence[IndexEntry]) -> None:
        self.capture = capture
        self.index = index
        self.symbols = _asked(capture, index)
        self._requests: dict[MarketDataRequest, _Placed] = {}
        self._symbols: dict[str, Gap] = {}
        self._end: Gap | None = None
        for placed in enumerate(gap for gap in capture.gaps if gap.reason != ASKED_IN_PARTS):
            self._note(placed)

    def _note(self, placed: _Placed) -> None:
        gap = placed[1]
        if gap.request is not None:
            self._requests[gap.request] = placed
        self._symbols |= dict.fromkeys(gap.symbols, gap)
        if not gap.symbols:
            self._end = gap

    def word(self, symbol: str, missing: Iterable[MarketDataRequest]) -> Gap | None:
        """The last gap that tells of missing requests of a symbol: of one of them, of the symbol, or of the end."""
        exact = [self._requests[request] for request in missing if request in self._requests]
        if exact:
            return max(exact, key=lambda placed: placed[0])[1]
        return self._symbols.get(symbol, self._end)


def _asked(capture: Capture, index: Iterable[IndexEntry]) -> dict[str, None]:
    """The symbols that a capture set out to take; where it does not say so, those it is about."""
    if capture.symbols is not None:
        return dict.fromkeys(capture.symbols)
    about = [*(entry.request.symbols for entry in index), *(gap.symbols for gap in capture.gaps)]
    named = dict.fromkeys(symbol for symbols in about for symbol in symbols)
    return named or ({NAMELESS: None} if capture.record_count else {})


@dataclass
class Due:
    """What is to be had at one instant of a session: by the plan, and by captures that set out to take it.

    `damage` says what is wrong with a capture of the instant that cannot be read, the last of several.
    """

    planned: dict[str, Plan] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    damage: str | None = None

    @property
    def symbols(self) -> dict[str, None]:
        """All of them, those planned first."""
        return dict.fromkeys(itertools.chain(self.planned, *(attempt.symbols for attempt in self.attempts)))

    @property
    def captures(self) -> list[Capture]:
        """The captures, in the order they were begun."""
        return [attempt.capture for attempt in self.attempts]

    @property
    def gaps(self) -> list[Gap]:
        """All that they say of what did not come."""
        return [gap for attempt in self.attempts for gap in attempt.capture.gaps]

    @property
    def telling(self) -> Capture | None:
        """The last capture that says what it set out to take, and on which terms."""
        return next((each for each in reversed(self.captures) if each.symbols is not None), None)

    @property
    def scope(self) -> Literal["full", "bounded"]:
        """How much of a chain is asked for."""
        return "bounded" if self.telling is not None and "bounded" in dict(self.telling.terms) else "full"

    @property
    def is_whole(self) -> bool:
        """Whether nothing can be missing: all planned was asked for, and no capture has a gap."""
        asked = set(itertools.chain.from_iterable(attempt.symbols for attempt in self.attempts))
        return bool(self.attempts) and not self.gaps and self.planned.keys() <= asked


def all_due(captures: SoundCaptures, plans: Plans, dataset: str, day: date) -> dict[datetime, Due]:
    """By instant, ascending, what is to be had of a session."""
    found: dict[datetime, Due] = {}
    for snapshot, plan in plans.snapshots(dataset, day):
        found.setdefault(snapshot.scheduled_time, Due()).planned |= dict.fromkeys(snapshot.symbols, plan)
    ids = captures.ids(dataset, day)
    if isinstance(ids, CaptureDamagedError):
        for each in found.values():
            each.damage = str(ids)
        return found
    for capture_id in ids:
        capture = captures.at(dataset, capture_id)
        if isinstance(capture, CaptureDamagedError):
            if (instant := instant_of(capture_id)) is not None:
                found.setdefault(instant, Due()).damage = str(capture)
        elif capture.record_count or any(gap.reason != SESSION_OVER for gap in capture.gaps):
            attempt = Attempt(capture, captures.archive.index(capture))
            found.setdefault(capture.scheduled_time, Due()).attempts.append(attempt)
    return dict(sorted(found.items()))


def answered_requests(attempts: Collection[Attempt]) -> set[MarketDataRequest]:
    """The requests that attempts at one snapshot answer."""
    entries = [entry for attempt in attempts for entry in attempt.index]
    places = counting(entries, [gap for attempt in attempts for gap in attempt.capture.gaps])
    return {entries[place].request for place in places}
