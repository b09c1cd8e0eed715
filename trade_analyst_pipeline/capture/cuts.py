"""What to change when a session does not fit into the limit: proposals, each tried out on a timetable of its own.

The order of what is given up: the user's reserve is only mentioned, then closing snapshots move forward, for they
cannot be repeated, then intraday snapshots become rarer, chains before quotes. Last comes the number of symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from trade_analyst_pipeline.capture.costs import Costs
from trade_analyst_pipeline.capture.slots import Allowance
from trade_analyst_pipeline.capture.timetable import Timetable, Watched, timetable
from trade_analyst_pipeline.settings import MOMENTS, Cadence

_CADENCES: Final[tuple[Cadence, ...]] = (5, 10, 15, 20, 30, 45, 60, 90, 120, 180, "closing")
_MOST_MINUTES_BEFORE: Final = 120
_STEP: Final = 5
_RARER_FIRST: Final = ("options", "quotes")


@dataclass(frozen=True)
class Cut:
    """A way to make a session fit: what to write where, in words; together they are enough, each alone where said."""

    words: str
    is_enough_alone: bool


@dataclass(frozen=True)
class _Trial:
    """A session under which other ways of watching are tried out."""

    session_date: date
    allowance: Allowance
    costs: Costs

    def fits(self, watched: Watched) -> bool:
        """Whether all snapshots fit."""
        return timetable(self.session_date, watched, self.allowance, self.costs, ends_late=False).fits


def cuts(found: Timetable, watched: Watched, costs: Costs) -> list[Cut]:
    """Ways to make a session fit that does not; none for one that does, or that nothing of this helps."""
    if found.fits:
        return []
    trial = _Trial(found.session_date, found.allowance, costs)
    proposals = [*_reserve(trial, watched), *_steps(trial, watched, found)]
    symbols = _symbols(trial, watched)
    return [*proposals, *([symbols] if symbols is not None else [])]


def _reserve(trial: _Trial, watched: Watched) -> list[Cut]:
    """How much can be reserved at most, if something is and less would do."""
    allowance = trial.allowance

    def enough(reserved: int) -> bool:
        return replace(trial, allowance=replace(allowance, reserved=reserved)).fits(watched)

    if not allowance.reserved or not enough(0):
        return []
    most = _largest(0, allowance.reserved - 1, enough)
    words = f"reserve {most} requests a minute instead of {allowance.reserved} (schwab.reserved_per_minute = {most})"
    return [Cut(words, is_enough_alone=True)]


def _steps(trial: _Trial, watched: Watched, found: Timetable) -> list[Cut]:
    """Earlier closing snapshots, then rarer intraday ones; nothing where all of it together is not enough."""
    words, changed = [], watched
    if any(not each.fits for each in found.planned if each.kind == "closing"):
        earlier = _earlier_close(trial, watched)
        if earlier is None:
            return []
        changed = replace(watched, minutes_before=(earlier,))
        words.append(
            f"take one closing snapshot {earlier} minutes before the close "
            f"(capture.closing_snapshot_minutes = [{earlier}])"
        )
    for number, dataset in enumerate(_RARER_FIRST):
        if trial.fits(changed):
            break
        rarer = _rarer(trial, changed, dataset, beside=_RARER_FIRST[:number])
        if rarer is not None:
            cadence, changed = rarer
            words.append(_cadence_words(dataset, cadence))
    if not words or not trial.fits(changed):
        return []
    return [Cut(text, is_enough_alone=len(words) == 1) for text in words]


def _earlier_close(trial: _Trial, watched: Watched) -> int | None:
    """The fewest minutes before the close at which one closing snapshot is complete in time, nothing else asked."""
    alone = Watched({name: dict.fromkeys(watched.cadences.get(name, ()), "closing") for name in MOMENTS}, ())
    for minutes in range(_STEP, _MOST_MINUTES_BEFORE + 1, _STEP):
        if trial.fits(replace(alone, minutes_before=(minutes,))):
            return minutes
    return None


def _rarer(trial: _Trial, watched: Watched, dataset: str, beside: Sequence[str]) -> tuple[Cadence, Watched] | None:
    """The shortest cadence of a dataset at which it fits beside some others; None when it needs none."""
    present = [every for every in watched.cadences.get(dataset, {}).values() if isinstance(every, int)]
    for cadence in _CADENCES if present else ():
        if cadence == "closing" or (isinstance(cadence, int) and cadence > min(present)):
            changed = _with_cadence(watched, dataset, cadence)
            if trial.fits(replace(changed, cadences={name: changed.cadences[name] for name in (*beside, dataset)})):
                return cadence, changed
    return None


def _with_cadence(watched: Watched, dataset: str, cadence: Cadence) -> Watched:
    def rarer(present: Cadence) -> Cadence:
        if isinstance(present, int) and isinstance(cadence, int):
            return max(present, cadence)
        return cadence if isinstance(present, int) else present

    changed = {symbol: rarer(present) for symbol, present in watched.cadences[dataset].items()}
    return replace(watched, cadences={**watched.cadences, dataset: changed})


def _cadence_words(dataset: str, cadence: Cadence) -> str:
    if isinstance(cadence, int):
        return f"take {dataset} every {cadence} minutes (a set with {dataset} = {cadence})"
    return f'take {dataset} before the close alone (a set with {dataset} = "closing")'


def _symbols(trial: _Trial, watched: Watched) -> Cut | None:
    """How many symbols can have chains with all else as it is: the first ones, in the order written."""
    symbols = tuple(watched.cadences.get("options", ()))

    def enough(count: int) -> bool:
        kept = set(symbols[:count])
        return trial.fits(replace(watched, cadences=_keeping(watched.cadences, kept)))

    if not symbols or not enough(0):
        return None
    most = _largest(0, len(symbols) - 1, enough)
    return Cut(f"take chains of {most:,} symbols instead of {len(symbols):,}, as often as now", is_enough_alone=True)


def _keeping(cadences: Mapping[str, Mapping[str, Cadence]], kept: set[str]) -> dict[str, Mapping[str, Cadence]]:
    """The same with chains and their reference data of these symbols alone."""
    return {
        name: {symbol: every for symbol, every in of.items() if symbol in kept}
        if name in {"options", "expirations"}
        else of
        for name, of in cadences.items()
    }


def _largest(low: int, high: int, is_enough: Callable[[int], bool]) -> int:
    """The largest number up to `high` for which it holds, knowing that it does for `low`."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if is_enough(middle) else (low, middle - 1)
    return low
