"""What was planned, on record: from an instant on these symbols, this often, taken by these schedules.

A plan is a sealed capture under the name `plan`, written when it differs from the one before: what is expected of a
session follows from the plans in force then, whatever is set later. Whether it came is `gaps.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from functools import cache, lru_cache, partial
from typing import Final

import msgspec

from trade_analyst_pipeline.capture.ask import ask
from trade_analyst_pipeline.capture.plan import REACHES_BACK, SHOWS_TRADING, Snapshot, closing_snapshots
from trade_analyst_pipeline.capture.requesting import Question
from trade_analyst_pipeline.capture.sound import SoundCaptures
from trade_analyst_pipeline.capture.timetable import Watched, watched
from trade_analyst_pipeline.datasets import ohlc
from trade_analyst_pipeline.errors import CaptureDamagedError
from trade_analyst_pipeline.market.sessions import NEW_YORK
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.settings import MOMENTS, BoundedChainSettings, Cadence, Settings
from trade_analyst_pipeline.storage.archive import Archive, instant_of

NAME: Final = "plan"
KINDS: Final = ("closing", "intraday", "reference", "movers", "end_of_day")
"""The kinds of scheduled runs; each snapshot belongs to one."""

_BOUNDS: Final = BoundedChainSettings()


@dataclass(frozen=True)
class Plan:
    """What is taken from the instant `since` (UTC) on, until the next plan: by runs of these `kinds` alone.

    `former` are the symbols that plans before it took and it does not, by dataset.
    """

    since: datetime
    kinds: tuple[str, ...]
    cadences: dict[str, dict[str, Cadence]]
    minutes_before: tuple[int, ...]
    bars: tuple[str, ...]
    extended_hours: bool
    former: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def snapshots(self, dataset: str, session_date: date) -> list[Snapshot]:
        """All snapshots of a dataset that its runs take of a session, ascending by instant."""
        cadences = self._asked(dataset)
        closing = {
            each.scheduled_time
            for name in MOMENTS
            for each in closing_snapshots(
                name, session_date, tuple(self.cadences.get(name, ())), minutes_before=self.minutes_before
            )
        }
        found = Watched({dataset: cadences}, self.minutes_before).snapshots(session_date)
        return [each for each in found if _kind(each, closing) in self.kinds]

    def _asked(self, dataset: str) -> Mapping[str, Cadence]:
        """The symbols that a request names: of a fund no bars of minutes are asked for, be they the only ones."""
        cadences = self.cadences.get(dataset, {})
        if dataset not in REACHES_BACK:
            return cadences
        return {name: each for name, each in cadences.items() if any(ohlc.has_bars(name, bars) for bars in self.bars)}

    def question(self, snapshot: Snapshot) -> Question:
        """What such a snapshot asks."""
        return ask(snapshot, _BOUNDS, bars=self.bars, has_extended_hours=self.extended_hours)

    def why_not(self, dataset: str, symbol: str) -> str:
        """In words why nothing of a symbol is taken."""
        if symbol not in self.cadences.get(dataset, ()):
            return "not on the watch list then"
        return "its schedule was off"


# made here: two threads that decode a type for the first time at once crash the library
_PLAN: Final = msgspec.json.Decoder(Plan)


def _kind(snapshot: Snapshot, closing: Iterable[datetime]) -> str:
    """Which kind of run takes a snapshot: where one before a close is due, its run takes all that is."""
    if snapshot.dataset in MOMENTS:
        return "closing" if snapshot.scheduled_time in closing else "intraday"
    if snapshot.dataset in REACHES_BACK:
        return "end_of_day"
    return "movers" if snapshot.dataset in SHOWS_TRADING else "reference"


def plan_of(settings: Settings, kinds: Sequence[str], since: datetime) -> Plan:
    """What these settings plan, of runs of these kinds."""
    seen = watched(settings)
    cadences = {dataset: dict(symbols) for dataset, symbols in seen.cadences.items()}
    capture = settings.capture
    return Plan(since, tuple(sorted(kinds)), cadences, seen.minutes_before, capture.bars, capture.extended_hours)


def note_plan(plan: Plan, archive: Archive) -> bool:
    """Put a plan on record unless it says just what the last one does; whether it was written.

    What a process that died over it left unsealed is sealed first. Where the last one cannot be read it is written.
    """
    archive.recover(NAME)
    on_record = Plans(SoundCaptures(archive))
    last, plan = on_record.last(), replace(plan, former=on_record.former(plan))
    if last and replace(plan, since=last.since) == last:
        return False
    day = plan.since.astimezone(NEW_YORK).date()
    body = msgspec.json.encode(plan)
    with archive.begin(dataset=NAME, session_date=day, scheduled_time=plan.since, started_time=plan.since) as writer:
        writer.append(RawResponse(MarketDataRequest(NAME, NAME), 200, body, (), plan.since, plan.since))
        writer.seal(plan.since)
    return True


@dataclass(frozen=True)
class InForce:
    """A plan and its time, UTC: from `since` on, until the next one, None without; `plan` None: it cannot be read."""

    since: datetime
    until: datetime | None
    plan: Plan | None

    def holds_at(self, instant: datetime) -> bool:
        """Whether it is the one in force then."""
        return self.since <= instant and (self.until is None or instant < self.until)


class Plans:
    """The plans on record, each file read once a day asks for it.

    One that cannot be read is noted among the damaged captures, and what was planned in its time is unknown.
    """

    def __init__(self, captures: SoundCaptures) -> None:
        self._captures = captures
        self._ids = cache(self._ids_anew)
        self._read = lru_cache(maxsize=8)(self._read_anew)

    def of(self, day: date) -> list[InForce]:
        """The plans in force at some instant of a day of New York, ascending; `until` of the last is None."""
        filed: list[tuple[date, str]] = []
        for earlier in self._captures.archive.sessions_back(NAME, day):
            filed = [(earlier, each) for each in self._ids(earlier)] + filed
            if earlier < day:
                break
        first = max(sum(earlier < day for earlier, _ in filed) - 1, 0)
        instants = [_since(*each) for each in filed[first:]]
        found = zip(filed[first:], instants, [*instants[1:], None], strict=True) if filed else ()
        return [InForce(since, until, self._read(capture_id)) for (_, capture_id), since, until in found]

    def snapshots(self, dataset: str, session_date: date) -> list[tuple[Snapshot, Plan]]:
        """The snapshots of a session, each by the plan in force when it was due, ascending by instant."""
        return [
            (snapshot, each.plan)
            for each in self.of(session_date)
            if each.plan is not None
            for snapshot in each.plan.snapshots(dataset, session_date)
            if each.holds_at(snapshot.scheduled_time)
        ]

    def last(self) -> Plan | None:
        """The newest plan; None without one, and where it cannot be read."""
        newest = next(self._captures.archive.sessions_back(NAME, date.max), None)
        return None if newest is None else self._read(self._ids(newest)[-1])

    def known(self, dataset: str, day: date) -> dict[str, None]:
        """The symbols that any plan up to the end of a day takes of a dataset."""
        plan = self._latest(day)
        return {} if plan is None else dict.fromkeys((*plan.cadences.get(dataset, ()), *plan.former.get(dataset, ())))

    def former(self, plan: Plan) -> dict[str, tuple[str, ...]]:
        """By dataset the symbols that any plan on record takes and this one does not."""
        last = self._latest(date.max)
        names = [] if last is None else [*last.cadences, *last.former]
        found = {}
        for name in dict.fromkeys(names):
            own = plan.cadences.get(name, {})
            found[name] = tuple(symbol for symbol in self.known(name, date.max) if symbol not in own)
        return {name: symbols for name, symbols in found.items() if symbols}

    def why_not(self, dataset: str, day: date, symbol: str) -> str:
        """In words why nothing of a symbol was to be had of a day."""
        plan = self._latest(day)
        return "nothing was planned then" if plan is None else plan.why_not(dataset, symbol)

    def _latest(self, day: date) -> Plan | None:
        """The last plan up to the end of a day that can be read."""
        days = self._captures.archive.sessions_back(NAME, day)
        plans = (self._read(each) for earlier in days for each in reversed(self._ids(earlier)))
        return next((plan for plan in plans if plan is not None), None)

    def _ids_anew(self, day: date) -> list[str]:
        """The ids of the plans of a day that has some, ascending; an empty one where they cannot be told."""
        ids = self._captures.ids(NAME, day)
        return [""] if isinstance(ids, CaptureDamagedError) else ids

    def _read_anew(self, capture_id: str) -> Plan | None:
        return self._captures.reading(partial(_plan_in, self._captures.archive, capture_id)) if capture_id else None


def _since(filed: date, capture_id: str) -> datetime:
    """From when on a plan holds, as its id says; where that does not, from the beginning of its day."""
    return instant_of(capture_id) or datetime.combine(filed, time(), NEW_YORK)


def _plan_in(archive: Archive, capture_id: str) -> Plan:
    """The plan in a capture; raises CaptureDamagedError."""
    capture = archive.find(NAME, capture_id)
    bodies = [response.body for response in archive.responses(capture)]
    try:
        return _PLAN.decode(bodies[-1] if bodies else b"")
    except msgspec.DecodeError as error:
        message = (
            f"{capture.path}: the plan in it cannot be read ({error}); use the version of this program that wrote it, "
            "or a newer one. Moved out of the archive, it leaves what was planned then unknown"
        )
        raise CaptureDamagedError(message, capture.path) from error
