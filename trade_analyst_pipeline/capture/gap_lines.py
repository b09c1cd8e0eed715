"""The lines of the ledger of gaps, what they come to, and what to ask again; how they are made is `gaps.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from trade_analyst_pipeline.capture.gap_types import NO_FAULT, GapType
from trade_analyst_pipeline.capture.plan import Snapshot

RepairState = Literal["open", "repairable", "repaired", "lost"]


@dataclass(frozen=True, slots=True)
class Repair:
    """What can become of a gap: `repairable` until an instant (UTC), `open` without end, `repaired` by a capture.

    `until` says of a `lost` one until when it could be had, where that was so; `why` in words why it cannot any more.
    """

    state: RepairState
    until: datetime | None = None
    capture_id: str | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
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

    @property
    def can_be_had(self) -> bool:
        """Whether asking again may bring it."""
        return self.repair is not None and self.repair.state in {"open", "repairable"}


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
        if line.scheduled_time is not None and line.can_be_had:
            found.setdefault((line.dataset, line.session_date, line.scheduled_time, line.scope), []).append(line.symbol)
    snapshots = [Snapshot(*key[:3], tuple(symbols), key[3]) for key, symbols in found.items()]
    return sorted(snapshots, key=lambda snapshot: (snapshot.scheduled_time, snapshot.dataset))
