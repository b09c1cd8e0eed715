"""What was planned, on record: from an instant on these symbols, this often, taken by these schedules.

A plan is a sealed capture under the name `plan`, written when it differs from the one before: what is expected of a
session follows from the plans in force then, whatever is set later. Whether it came is `gaps.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Final

import msgspec

from trade_analyst_pipeline.capture.ask import ask
from trade_analyst_pipeline.capture.plan import REACHES_BACK, SHOWS_TRADING, Snapshot, closing_snapshots
from trade_analyst_pipeline.capture.requesting import Question
from trade_analyst_pipeline.capture.timetable import Watched, watched
from trade_analyst_pipeline.errors import CaptureDamagedError
from trade_analyst_pipeline.market.sessions import NEW_YORK
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.settings import MOMENTS, BoundedChainSettings, Cadence, Settings
from trade_analyst_pipeline.storage.archive import Archive, Capture

NAME: Final = "plan"
KINDS: Final = ("closing", "intraday", "reference", "movers", "end_of_day")
"""The kinds of scheduled runs; each snapshot belongs to one."""

_BOUNDS: Final = BoundedChainSettings()


@dataclass(frozen=True)
class Plan:
    """What is taken from the instant `since` (UTC) on, until the next plan: by runs of these `kinds` alone."""

    since: datetime
    kinds: tuple[str, ...]
    cadences: dict[str, dict[str, Cadence]]
    minutes_before: tuple[int, ...]
    bars: tuple[str, ...]
    extended_hours: bool

    def snapshots(self, session_date: date) -> list[Snapshot]:
        """All snapshots that its runs take of a session, ascending by instant."""
        closing = {
            each.scheduled_time
            for dataset in MOMENTS
            for each in closing_snapshots(
                dataset,
                session_date,
                tuple(self.cadences.get(dataset, ())),
                minutes_before=self.minutes_before,
            )
        }
        found = Watched(self.cadences, self.minutes_before).snapshots(session_date)
        return [each for each in found if _kind(each, closing) in self.kinds]

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
    last = _last(archive)
    if last and replace(plan, since=last.since) == last:
        return False
    day = plan.since.astimezone(NEW_YORK).date()
    body = msgspec.json.encode(plan)
    with archive.begin(dataset=NAME, session_date=day, scheduled_time=plan.since, started_time=plan.since) as writer:
        writer.append(RawResponse(MarketDataRequest(NAME, NAME), 200, body, (), plan.since, plan.since))
        writer.seal(plan.since)
    return True


def plans(archive: Archive) -> list[Plan]:
    """All plans on record, ascending; raises CaptureDamagedError."""
    found = [plan for capture in archive.captures(NAME) for plan in _plans_in(archive, capture)]
    return sorted(found, key=lambda plan: plan.since)


def _last(archive: Archive) -> Plan | None:
    """The plan in the newest file; None without one, and where it cannot be read."""
    day = max(archive.sessions(NAME), default=None)
    if day is None:
        return None
    try:
        return _plans_in(archive, archive.find(NAME, archive.capture_ids(NAME, day)[-1]))[-1]
    except CaptureDamagedError:
        return None


def _plans_in(archive: Archive, capture: Capture) -> list[Plan]:
    return [_decoded(response.body, capture.path) for response in archive.responses(capture)]


def _decoded(body: bytes, path: Path) -> Plan:
    try:
        return _PLAN.decode(body)
    except msgspec.DecodeError as error:
        message = (
            f"{path}: the plan in it cannot be read ({error}); use the version of this program that wrote it, or a "
            "newer one. Moved out of the archive, it leaves what was planned then unknown"
        )
        raise CaptureDamagedError(message) from error


def in_force(plans: Sequence[Plan], instant: datetime) -> Plan | None:
    """The plan in force at an instant; None before the first."""
    return next((plan for plan in reversed(plans) if plan.since <= instant), None)


def planned_snapshots(plans: Sequence[Plan], session_date: date) -> list[tuple[Snapshot, Plan]]:
    """The snapshots of a session, each by the plan in force when it was due, ascending by instant."""
    found = []
    for number, plan in enumerate(plans):
        until = plans[number + 1].since if number + 1 < len(plans) else None
        if until is not None and until.astimezone(NEW_YORK).date() < session_date:
            continue
        if plan.since.astimezone(NEW_YORK).date() > session_date:
            break
        found += [
            (snapshot, plan)
            for snapshot in plan.snapshots(session_date)
            if plan.since <= snapshot.scheduled_time and (until is None or snapshot.scheduled_time < until)
        ]
    return found
