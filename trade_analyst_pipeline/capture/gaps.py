"""The ledger of gaps: each symbol of each snapshot that was to be had is captured, or a gap with type and repair state.

A pure function of the archive, in which the plans stand too, and of the instant it is looked at. Expected is what the
plan in force then takes, and what a capture set out to take; nothing of the settings of today is in it. What a line
says is in `gap_lines.py`, what stands on record of an instant in `attempts.py`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import Final

from trade_analyst_pipeline.capture.ask import ask_on
from trade_analyst_pipeline.capture.attempts import NAMELESS, Attempt, Due, all_due, answered_requests
from trade_analyst_pipeline.capture.gap_lines import Line, Repair
from trade_analyst_pipeline.capture.gap_types import GapType, type_of, word_of
from trade_analyst_pipeline.capture.later_bars import LaterBars
from trade_analyst_pipeline.capture.market_state import MarketState
from trade_analyst_pipeline.capture.plan import REACHES_BACK, SHOWS_TRADING, Snapshot, is_capturable
from trade_analyst_pipeline.capture.planned import Plan, Plans
from trade_analyst_pipeline.capture.requesting import EMPTY_ANSWER, Held, Question
from trade_analyst_pipeline.capture.sound import SoundCaptures
from trade_analyst_pipeline.capture.take import DEFINITIVE, held_of
from trade_analyst_pipeline.capture.timetable import end_of_source_day
from trade_analyst_pipeline.datasets import ohlc
from trade_analyst_pipeline.errors import CaptureDamagedError
from trade_analyst_pipeline.market.sessions import is_session, session_close
from trade_analyst_pipeline.schwab.client import QUEUE_SECONDS
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.captures import LATE_AFTER

BEGUN_WITHIN: Final = timedelta(seconds=max(QUEUE_SECONDS.values()))  # what begins later was missed, and made up for
_NOTHING: Final = Held((), frozenset(), ())
_NO_WORD: Final = "nothing is on record: no process attended to it"
_UNSAID: Final = "what was captured lacks it without a word"

Requests = Sequence[MarketDataRequest]


@dataclass(frozen=True)
class _Word:
    """What stands on record of a gap, and the type it makes."""

    type: GapType
    word: str | None
    detail: str


@dataclass(frozen=True)
class _Instant:
    """One instant looked at: what is due and, by symbol, the requests missing after each attempt and those answered.

    Without an attempt the one entry of `lacking` is what is asked first. What is `refused` is asked no more.
    `can_be_asked`: the source has the session now.
    """

    snapshot: Snapshot
    due: Due
    lacking: Sequence[Mapping[str, Requests]]
    answered: Mapping[str, int]
    refused: frozenset[MarketDataRequest]
    can_be_asked: bool


class Ledger:
    """The ledger of an archive at the instant `now`; `goes_back` says that the source shows past instants too.

    Only what is asked about is read, as it then stands. What cannot be read is in `damaged` once a
    day it concerns was asked about: what it says is unknown, and all else is told all the same.
    """

    def __init__(self, archive: Archive, *, now: datetime, goes_back: bool) -> None:
        self._captures = SoundCaptures(archive)
        self.plans = Plans(self._captures)
        self._market = MarketState(self._captures)
        self._later = LaterBars(self._captures)
        self._archive = archive
        self._now = now
        self._goes_back = goes_back
        self._last_first: tuple[object, Mapping[str, Requests]] | None = None

    @property
    def damaged(self) -> list[CaptureDamagedError]:
        """What was met so far that cannot be read: each says which file it is, what is wrong with it, what to do."""
        return [error for _, error in sorted(self._captures.damaged.items())]

    def lines(self, dataset: str, day: date) -> list[Line]:
        """All of a dataset on a day, ascending by instant; a day without a session is `market_closed` for each symbol.

        Symbols without anything to be had have one line, with the cause. Nothing of what is not due yet.
        """
        known = self.plans.known(dataset, day)
        if not is_session(day):
            detail = "the exchange does not trade on that day"
            return [Line(dataset, day, name, None, type=GapType.MARKET_CLOSED, detail=detail) for name in known]
        instants: dict[str, list[datetime]] = {}
        found: list[Line] = []
        moments = all_due(self._captures, self.plans, dataset, day)
        for instant, each in moments.items():
            for symbol in each.symbols:
                instants.setdefault(symbol, []).append(instant)
        for instant, each in moments.items():
            if each.attempts or instant + LATE_AFTER <= self._now:
                looked = self._look(Snapshot(dataset, day, instant, tuple(each.symbols), each.scope), each)
                found += [self._line(looked, symbol, instants[symbol]) for symbol in looked.snapshot.symbols]
        return found + [self._idle(dataset, day, symbol) for symbol in known if symbol not in instants]

    def _idle(self, dataset: str, day: date, symbol: str) -> Line:
        detail = self.plans.why_not(dataset, day, symbol)
        return Line(dataset, day, symbol, None, type=GapType.NOT_SCHEDULED, detail=detail)

    def _look(self, snapshot: Snapshot, due: Due) -> _Instant:
        requests = answered_requests(due.attempts)
        answered = Counter(symbol for request in requests for symbol in request.symbols)
        answered[NAMELESS] = sum(not request.symbols for request in requests)
        refused = {gap.request for gap in due.gaps if gap.reason in DEFINITIVE and gap.request is not None}
        can_be_asked = is_capturable(snapshot.dataset, snapshot.session_date, self._now)
        return _Instant(snapshot, due, self._lacking(snapshot, due), answered, frozenset(refused), can_be_asked)

    def _lacking(self, snapshot: Snapshot, due: Due) -> list[Mapping[str, Requests]]:
        """The requests missing of each symbol after each attempt; without any, what is asked first."""
        if due.is_whole or not (due.attempts or due.planned):
            return [{}]
        if not due.attempts:
            return [self._first_asked(snapshot, next(iter(due.planned.values())))]
        return [self._missing(snapshot, due, due.attempts[:number]) for number in range(1, len(due.attempts) + 1)]

    def _first_asked(self, snapshot: Snapshot, plan: Plan) -> Mapping[str, Requests]:
        """What is asked first of a snapshot that was never begun: the same at every instant of a session."""
        key = (plan.since, snapshot.dataset, snapshot.session_date, snapshot.symbols)
        if self._last_first is None or self._last_first[0] != key:
            self._last_first = key, _by_symbol(plan.question(snapshot).missing(_NOTHING))
        return self._last_first[1]

    def _missing(self, snapshot: Snapshot, due: Due, attempts: Sequence[Attempt]) -> dict[str, Requests]:
        gaps = [gap for attempt in attempts for gap in attempt.capture.gaps if gap.request is not None]
        answered, asks = answered_requests(attempts), due.telling is not None or bool(due.planned)
        refused = [gap.request for gap in gaps if not asks or gap.reason in DEFINITIVE]
        missing = [request for request in refused if request is not None and request not in answered]
        held = held_of(snapshot, [attempt.capture for attempt in attempts], self._archive)
        if asks:
            missing += self._still_asked(snapshot, due, held)
        return _by_symbol(missing)

    def _still_asked(self, snapshot: Snapshot, due: Due, held: Held) -> list[MarketDataRequest]:
        """What the question of the instant still asks; where what it remembers is damaged, as if nothing were there."""
        asked = self._captures.reading(lambda: self._question(snapshot, due, self._archive).missing(held))
        return self._question(snapshot, due, None).missing(held) if asked is None else asked

    def _question(self, snapshot: Snapshot, due: Due, archive: Archive | None) -> Question:
        """The question on the terms it was asked on, else on those of the plan."""
        if due.telling is not None:
            return ask_on(due.telling.terms, snapshot, archive)
        return next(iter(due.planned.values())).question(snapshot)

    def _line(self, at: _Instant, symbol: str, instants: Sequence[datetime]) -> Line:
        """The line of a symbol, with its gap if there is one: the last word on record decides on the type."""
        snapshot, due = at.snapshot, at.due
        line = partial(
            Line,
            snapshot.dataset,
            snapshot.session_date,
            symbol,
            snapshot.scheduled_time,
            symbol in due.planned,
            snapshot.scope,
            at.answered.get(symbol, 0),
        )
        missing = at.lacking[-1].get(symbol)
        if not missing:
            return line(0, *self._mended(at, symbol))
        told = self._word(at, symbol, missing, len(due.attempts))
        if why := self._market.why_shut(snapshot.dataset, snapshot.session_date, symbol, snapshot.scheduled_time):
            return line(len(missing), GapType.MARKET_CLOSED, told.word, why)
        return line(len(missing), told.type, told.word, told.detail, self._repair(at, symbol, missing, instants))

    def _mended(self, at: _Instant, symbol: str) -> tuple[GapType, str | None, str, Repair] | tuple[()]:
        """Type, word, detail and repair of what was missing once and came; nothing of what came at once."""
        attempts, lacking = at.due.attempts, at.lacking
        for number in range(1, len(lacking)):
            earlier = lacking[number - 1].get(symbol)
            was_asked = any(symbol in attempt.symbols for attempt in attempts[:number])
            if earlier and was_asked and not lacking[number].get(symbol):
                told = self._word(at, symbol, earlier, number)
                mended = Repair("repaired", capture_id=attempts[number].capture.capture_id)
                return told.type, told.word, told.detail, mended
        first = next((attempt.capture for attempt in attempts if symbol in attempt.symbols), None)
        if self._goes_back or first is None or symbol not in at.due.planned:
            return ()
        if first.started_time - first.scheduled_time <= BEGUN_WITHIN:
            return ()
        return GapType.PROCESS_DOWN, None, _NO_WORD, Repair("repaired", capture_id=first.capture_id)

    def _word(self, at: _Instant, symbol: str, missing: Requests, count: int) -> _Word:
        """The last word in the first `count` attempts on what is missing."""
        concerned = [attempt for attempt in at.due.attempts[:count] if symbol in attempt.symbols]
        for attempt in reversed(concerned):
            gap = attempt.word(symbol, missing)
            if gap is not None:
                is_halted = gap.reason == EMPTY_ANSWER and self._market.is_halted(
                    symbol, at.snapshot.session_date, attempt.capture.started_time
                )
                return _Word(GapType.HALTED if is_halted else type_of(gap), word_of(gap), gap.detail)
        if at.due.damage is not None:
            return _Word(GapType.ERROR, CaptureDamagedError.__name__, at.due.damage)
        return _Word(GapType.UNKNOWN, None, _UNSAID) if concerned else _Word(GapType.PROCESS_DOWN, None, _NO_WORD)

    def _repair(self, at: _Instant, symbol: str, missing: Requests, instants: Sequence[datetime]) -> Repair:
        dataset, day = at.snapshot.dataset, at.snapshot.session_date
        wanted = [request for request in missing if request not in at.refused] if at.refused else missing
        if not wanted:
            return Repair("lost", why="the source has said for good that it has none")
        if dataset in REACHES_BACK and (served := self._later.serving(day, symbol, wanted)) is not None:
            return Repair("repaired", capture_id=served)
        if self._goes_back:
            return Repair("open")
        until = _until(at.snapshot, wanted, instants)
        if at.can_be_asked and self._now < until:
            return Repair("repairable", until)
        return Repair("lost", until, why="the source does not show it any more")


def _by_symbol(requests: Iterable[MarketDataRequest]) -> dict[str, Requests]:
    found: dict[str, list[MarketDataRequest]] = {}
    for request in dict.fromkeys(requests):
        for symbol in request.symbols:
            found.setdefault(symbol, []).append(request)
    return dict(found)


def _until(snapshot: Snapshot, wanted: Iterable[MarketDataRequest], instants: Sequence[datetime]) -> datetime:
    """By when what is missing has to be asked for: a snapshot until the next one, which shows just the same.

    Movers until the stocks' close, bars as far back as the source has them.
    """
    if snapshot.dataset in REACHES_BACK:
        return session_close(snapshot.session_date) + max(ohlc.reach(request) for request in wanted)
    if snapshot.dataset in SHOWS_TRADING:
        return session_close(snapshot.session_date)
    following = bisect_right(instants, snapshot.scheduled_time)
    return instants[following] if following < len(instants) else end_of_source_day(snapshot.session_date)
