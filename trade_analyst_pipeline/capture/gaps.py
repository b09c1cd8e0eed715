"""The ledger of gaps: each symbol of each snapshot that was to be had is captured, or a gap with type and repair state.

A pure function of the archive, in which the plans stand too, and of the instant it is looked at. Expected is what the
plan in force then takes, and what a capture set out to take; nothing of the settings of today is in it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import lru_cache, partial
from typing import Final, Literal

from trade_analyst_pipeline.capture.ask import ask_on
from trade_analyst_pipeline.capture.gap_types import NO_FAULT, GapType, type_of, word_of
from trade_analyst_pipeline.capture.plan import REACHES_BACK, SHOWS_TRADING, Snapshot, is_capturable
from trade_analyst_pipeline.capture.planned import Plan, planned_snapshots, plans
from trade_analyst_pipeline.capture.requesting import EMPTY_ANSWER, Held, Question
from trade_analyst_pipeline.capture.take import DEFINITIVE, held_of
from trade_analyst_pipeline.capture.timetable import end_of_source_day
from trade_analyst_pipeline.datasets import ohlc, quotes
from trade_analyst_pipeline.market.sessions import NEW_YORK, is_session, session_close
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.storage.archive import Archive, Capture, Gap, IndexEntry
from trade_analyst_pipeline.storage.captures import LATE_AFTER, SESSION_OVER
from trade_analyst_pipeline.storage.counting import ASKED_IN_PARTS, counting

RepairState = Literal["open", "repairable", "repaired", "lost"]
HALT_IS_SEEN_WITHIN: Final = timedelta(minutes=30)  # by quotes of a symbol whose chain came without anything
_NOTHING: Final = Held((), frozenset(), ())
_NAMELESS: Final = ""  # the symbol of a recording that does not say whose it is


@dataclass(frozen=True)
class Repair:
    """What can become of a gap: `repairable` until an instant (UTC), `open` without end, `repaired` by a capture."""

    state: RepairState
    until: datetime | None = None
    capture_id: str | None = None


@dataclass(frozen=True)
class Line:
    """One symbol of one snapshot; of a session without any, the symbol and `scheduled_time` None.

    `answered` and `missing` count requests that name the symbol; of what was never asked, those asked first. `type` is
    None where it was captured, `word` what stands on record of the gap: a reason, or the class of an error. `repair`
    is None where there is no gap, or none that anybody was to prevent.
    """

    dataset: str
    session_date: date
    symbol: str
    scheduled_time: datetime | None
    is_planned: bool = False
    scope: Literal["full", "bounded"] = "full"
    answered: int = 0
    missing: int = 0
    type: GapType | None = None
    word: str | None = None
    detail: str = ""
    repair: Repair | None = None

    @property
    def is_expected(self) -> bool:
        """Whether it is something that was to be had."""
        return self.scheduled_time is not None

    @property
    def is_lacking(self) -> bool:
        """Whether it is missing still, and somebody was to take it."""
        return self.repair is not None and self.repair.state != "repaired"


@dataclass
class _Due:
    """What is to be had at one instant of a session: by the plan, and by captures that set out to take it."""

    planned: dict[str, Plan] = field(default_factory=dict)
    captures: list[Capture] = field(default_factory=list)
    asked: list[dict[str, None]] = field(default_factory=list)  # the symbols of each capture

    @property
    def symbols(self) -> dict[str, None]:
        """All of them, those planned first."""
        return dict.fromkeys(itertools.chain(self.planned, *self.asked))


class Ledger:
    """The ledger of an archive at the instant `now`; `goes_back` says that the source shows past instants too.

    Raises CaptureDamagedError where a capture cannot be read.
    """

    def __init__(self, archive: Archive, *, now: datetime, goes_back: bool) -> None:
        self.plans = plans(archive)
        self._archive = archive
        self._now = now
        self._goes_back = goes_back
        self._indexes: dict[str, tuple[IndexEntry, ...]] = {}
        self._halts: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
        self._planned = lru_cache(maxsize=8)(partial(planned_snapshots, self.plans))

    def lines(self, dataset: str, day: date) -> list[Line]:
        """All of a dataset on a day, ascending by instant; a day without a session is `market_closed` for each symbol.

        Symbols without anything to be had have one line, with the cause. Nothing of what is not due yet.
        """
        if not is_session(day):
            return [self._closed(dataset, day, symbol) for symbol in self._known(dataset, day)]
        planned = [each for each in self._planned(day) if each[0].dataset == dataset]
        due = self._due(dataset, day, planned)
        instants: dict[str, list[datetime]] = {}
        for instant, each in due.items():
            for symbol in each.symbols:
                instants.setdefault(symbol, []).append(instant)
        found: list[Line] = []
        for instant, each in due.items():
            if each.captures or instant + LATE_AFTER <= self._now:
                found += self._at(Snapshot(dataset, day, instant, ()), each, instants)
        idle = [symbol for symbol in self._known(dataset, day) if symbol not in instants]
        return found + [self._not_scheduled(dataset, day, symbol) for symbol in idle]

    def first_day(self) -> date | None:
        """The day of the first plan on record; None without any."""
        return self.plans[0].since.astimezone(NEW_YORK).date() if self.plans else None

    def _known(self, dataset: str, day: date) -> list[str]:
        """The symbols that any plan up to the end of a day has for a dataset."""
        until = [plan for plan in self.plans if plan.since.astimezone(NEW_YORK).date() <= day]
        return list(dict.fromkeys(symbol for plan in until for symbol in plan.cadences.get(dataset, ())))

    def _closed(self, dataset: str, day: date, symbol: str) -> Line:
        detail = "the exchange does not trade on that day"
        return Line(dataset, day, symbol, None, type=GapType.MARKET_CLOSED, detail=detail)

    def _not_scheduled(self, dataset: str, day: date, symbol: str) -> Line:
        last = [plan for plan in self.plans if plan.since.astimezone(NEW_YORK).date() <= day][-1]
        detail = last.why_not(dataset, symbol)
        return Line(dataset, day, symbol, None, type=GapType.NOT_SCHEDULED, detail=detail)

    def _due(self, dataset: str, day: date, planned: Iterable[tuple[Snapshot, Plan]]) -> dict[datetime, _Due]:
        found: dict[datetime, _Due] = {}
        for snapshot, plan in planned:
            found.setdefault(snapshot.scheduled_time, _Due()).planned |= dict.fromkeys(snapshot.symbols, plan)
        for capture in self._archive.captures(dataset, day):
            if capture.record_count or any(gap.reason != SESSION_OVER for gap in capture.gaps):
                due = found.setdefault(capture.scheduled_time, _Due())
                due.captures.append(capture)
                due.asked.append(self._asked(capture))
        return dict(sorted(found.items()))

    def _asked(self, capture: Capture) -> dict[str, None]:
        """The symbols that a capture set out to take; where it does not say so, those it is about."""
        if capture.symbols is not None:
            return dict.fromkeys(capture.symbols)
        about = [*(entry.request.symbols for entry in self._index(capture)), *(gap.symbols for gap in capture.gaps)]
        named = dict.fromkeys(symbol for symbols in about for symbol in symbols)
        return named or ({_NAMELESS: None} if capture.record_count else {})

    def _index(self, capture: Capture) -> tuple[IndexEntry, ...]:
        if capture.capture_id not in self._indexes:
            self._indexes[capture.capture_id] = self._archive.index(capture)
        return self._indexes[capture.capture_id]

    def _at(self, snapshot: Snapshot, due: _Due, instants: Mapping[str, Sequence[datetime]]) -> Iterator[Line]:
        """The lines of one instant."""
        symbols = tuple(due.symbols)
        snapshot = replace(snapshot, symbols=symbols, scope=_scope(due.captures))
        answered = self._answered(due.captures)
        lacking = self._lacking(snapshot, due)
        for symbol in symbols:
            line = Line(
                snapshot.dataset,
                snapshot.session_date,
                symbol,
                snapshot.scheduled_time,
                symbol in due.planned,
                snapshot.scope,
                answered[symbol],
            )
            after = [instant for instant in instants[symbol] if instant > snapshot.scheduled_time]
            yield self._judged(line, due, lacking, min(after, default=None))

    def _requests_answered(self, captures: Sequence[Capture]) -> set[MarketDataRequest]:
        entries = [entry for capture in captures for entry in self._index(capture)]
        places = counting(entries, [gap for capture in captures for gap in capture.gaps])
        return {entries[place].request for place in places}

    def _answered(self, captures: Sequence[Capture]) -> Counter[str]:
        requests = self._requests_answered(captures)
        found = Counter(symbol for request in requests for symbol in request.symbols)
        found[_NAMELESS] = sum(not request.symbols for request in requests)
        return found

    def _lacking(self, snapshot: Snapshot, due: _Due) -> list[dict[str, list[MarketDataRequest]]]:
        """The requests missing of each symbol after each capture of an instant; without any, what is asked first."""
        if not due.captures:
            plan = next(iter(due.planned.values()))
            return [_by_symbol(plan.question(snapshot).missing(_NOTHING))]
        is_whole = not any(capture.gaps for capture in due.captures)
        if is_whole and due.planned.keys() <= set(itertools.chain(*due.asked)):
            return [{}]
        question = self._question(snapshot, due)
        return [self._missing(snapshot, question, due.captures[: number + 1]) for number in range(len(due.captures))]

    def _question(self, snapshot: Snapshot, due: _Due) -> Question | None:
        """The question on the terms it was asked on; None where the captures are too old to say so."""
        telling = [capture for capture in due.captures if capture.symbols is not None]
        if telling:
            return ask_on(telling[-1].terms, snapshot, self._archive)
        return next((plan.question(snapshot) for plan in due.planned.values()), None)

    def _missing(
        self, snapshot: Snapshot, question: Question | None, captures: Sequence[Capture]
    ) -> dict[str, list[MarketDataRequest]]:
        gaps = [gap for capture in captures for gap in capture.gaps if gap.request is not None]
        answered = self._requests_answered(captures)
        refused = [gap for gap in gaps if question is None or gap.reason in DEFINITIVE]
        missing = [gap.request for gap in refused if gap.request is not None and gap.request not in answered]
        if question is not None:
            missing += question.missing(held_of(snapshot, captures, self._archive))
        return _by_symbol(missing)

    def _judged(
        self,
        line: Line,
        due: _Due,
        lacking: Sequence[Mapping[str, list[MarketDataRequest]]],
        following: datetime | None,
    ) -> Line:
        """A line with its gap, if there is one: the last word on record decides on the type."""
        missing = lacking[-1].get(line.symbol, [])
        if missing:
            gap, gap_type = self._word(line, missing, due, len(due.captures))
            line = replace(line, missing=len(missing), type=gap_type, word=_word_of(gap), detail=_told(gap))
            return replace(line, repair=self._repair(line, missing, due.captures, following))
        for number in range(len(due.captures)):
            was_asked = any(line.symbol in symbols for symbols in due.asked[:number])
            earlier = lacking[number - 1].get(line.symbol, []) if number and len(lacking) > 1 else []
            if earlier and was_asked and not lacking[number].get(line.symbol):
                gap, gap_type = self._word(line, earlier, due, number)
                mended = Repair("repaired", capture_id=due.captures[number].capture_id)
                return replace(line, type=gap_type, word=_word_of(gap), detail=_told(gap), repair=mended)
        return self._fetched_back(line, due)

    def _fetched_back(self, line: Line, due: _Due) -> Line:
        """Bars that nobody asked for on their day, and that came later."""
        first = next(
            capture for capture, symbols in zip(due.captures, due.asked, strict=True) if line.symbol in symbols
        )
        if self._goes_back or not line.is_planned or first.started_time < end_of_source_day(line.session_date):
            return line
        mended = Repair("repaired", capture_id=first.capture_id)
        return replace(line, type=GapType.PROCESS_DOWN, detail=_told(None), repair=mended)

    def _word(
        self, line: Line, missing: Sequence[MarketDataRequest], due: _Due, count: int
    ) -> tuple[Gap | None, GapType]:
        """The last gap in the first `count` captures that tells of what is missing, and its type; None without any."""
        concerned = [
            capture for capture, symbols in zip(due.captures[:count], due.asked, strict=False) if line.symbol in symbols
        ]
        for capture in reversed(concerned):
            gaps = [gap for gap in capture.gaps if gap.reason != ASKED_IN_PARTS]
            exact = [gap for gap in gaps if gap.request in missing and gap.request is not None]
            named = [gap for gap in gaps if line.symbol in gap.symbols]
            ended = [gap for gap in gaps if not gap.symbols]
            if told := exact or named or ended:
                return told[-1], self._type(line, told[-1])
        return None, GapType.UNKNOWN if concerned else GapType.PROCESS_DOWN

    def _type(self, line: Line, gap: Gap) -> GapType:
        if gap.reason == EMPTY_ANSWER and self._is_halted(line):
            return GapType.HALTED
        return type_of(gap)

    def _is_halted(self, line: Line) -> bool:
        """Whether the newest quote of the symbol around the line's instant says so."""
        if line.scheduled_time is None:
            return False
        for capture in reversed(self._archive.captures(quotes.NAME, line.session_date)):
            if abs(capture.scheduled_time - line.scheduled_time) <= HALT_IS_SEEN_WITHIN:
                known, halted = self._halted(capture)
                if line.symbol in known:
                    return line.symbol in halted
        return False

    def _halted(self, capture: Capture) -> tuple[frozenset[str], frozenset[str]]:
        """The symbols that a capture of quotes is about, and those of them that are halted."""
        if capture.capture_id not in self._halts:
            responses = list(self._archive.answers([capture]))
            known = frozenset(symbol for response in responses for symbol in response.request.symbols)
            halted = frozenset(symbol for response in responses for symbol in quotes.halted(response))
            self._halts[capture.capture_id] = known, halted
        return self._halts[capture.capture_id]

    def _repair(
        self,
        line: Line,
        missing: Sequence[MarketDataRequest],
        captures: Sequence[Capture],
        following: datetime | None,
    ) -> Repair:
        refused = {gap.request for capture in captures for gap in capture.gaps if gap.reason in DEFINITIVE}
        wanted = [request for request in missing if request not in refused]
        if not wanted:
            return Repair("lost")
        if line.dataset in REACHES_BACK and (served := self._served(line, wanted)) is not None:
            return Repair("repaired", capture_id=served)
        if self._goes_back:
            return Repair("open")
        until = _until(line, wanted, following)
        if is_capturable(line.dataset, line.session_date, self._now) and self._now < until:
            return Repair("repairable", until)
        return Repair("lost")

    def _served(self, line: Line, wanted: Sequence[MarketDataRequest]) -> str | None:
        """The capture of a later session whose answers, with others', hold all the bars that are missing."""
        left = set(wanted)
        for day in self._archive.sessions(line.dataset):
            for capture in self._archive.captures(line.dataset, day) if day > line.session_date else ():
                own = [entry.request for entry in self._index(capture) if line.symbol in entry.request.symbols]
                left = {request for request in left if not any(ohlc.serves(other, request) for other in own)}
                if not left:
                    return capture.capture_id
        return None


def _scope(captures: Iterable[Capture]) -> Literal["full", "bounded"]:
    terms = [dict(capture.terms) for capture in captures if capture.symbols is not None]
    return "bounded" if terms and "bounded" in terms[-1] else "full"


def _by_symbol(requests: Iterable[MarketDataRequest]) -> dict[str, list[MarketDataRequest]]:
    found: dict[str, list[MarketDataRequest]] = {}
    for request in dict.fromkeys(requests):
        for symbol in request.symbols:
            found.setdefault(symbol, []).append(request)
    return found


def _word_of(gap: Gap | None) -> str | None:
    return None if gap is None else word_of(gap)


def _told(gap: Gap | None) -> str:
    return "nothing is on record: no process attended to it" if gap is None else gap.detail


def _until(line: Line, wanted: Iterable[MarketDataRequest], following: datetime | None) -> datetime:
    """By when what is missing has to be asked for: a snapshot until the next one, which shows just the same.

    Movers until the stocks' close, bars as far back as the source has them.
    """
    if line.dataset in REACHES_BACK:
        return session_close(line.session_date) + max(ohlc.reach(request) for request in wanted)
    if line.dataset in SHOWS_TRADING:
        return session_close(line.session_date)
    return following or end_of_source_day(line.session_date)


@dataclass(frozen=True)
class Sums:
    """What lines come to: snapshots of a symbol, and requests; `gaps` by type, mended ones too.

    `days_off` are symbols of a day of which nothing was to be had, by type.
    """

    expected: int
    captured: int
    gaps: Mapping[GapType, int]
    repair: Mapping[RepairState, int]
    answered: int
    missing: int
    days_off: Mapping[GapType, int]

    @property
    def adds_up(self) -> bool:
        """Whether captured and gaps are what was expected."""
        return self.captured + sum(self.gaps.values()) == self.expected

    @property
    def lacking(self) -> int:
        """How many are missing still."""
        return sum(count for state, count in self.repair.items() if state != "repaired")


def sums(lines: Iterable[Line]) -> Sums:
    """The sums of some lines."""
    lines = list(lines)
    expected = [line for line in lines if line.is_expected]
    return Sums(
        len(expected),
        sum(line.type is None for line in expected),
        dict(Counter(line.type for line in expected if line.type is not None)),
        dict(Counter(line.repair.state for line in expected if line.repair is not None)),
        sum(line.answered for line in expected),
        sum(line.missing for line in expected),
        dict(Counter(line.type for line in lines if not line.is_expected and line.type in NO_FAULT)),
    )


def askable(lines: Iterable[Line]) -> list[Snapshot]:
    """The snapshots that hold just what is missing and can still be had, ascending."""
    found: dict[tuple[str, date, datetime, Literal["full", "bounded"]], list[str]] = {}
    for line in lines:
        if line.scheduled_time is not None and line.repair is not None and line.repair.state in {"open", "repairable"}:
            found.setdefault((line.dataset, line.session_date, line.scheduled_time, line.scope), []).append(line.symbol)
    snapshots = [Snapshot(*key[:3], tuple(symbols), key[3]) for key, symbols in found.items()]
    return sorted(snapshots, key=lambda snapshot: (snapshot.scheduled_time, snapshot.dataset))
