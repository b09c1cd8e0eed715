"""Which captures may leave the archive, and telling it twice: a list of them first, and a code for just that list.

A capture may leave when it is of a session long over, whole, in its table, and proven to be held by a copy that is
read for it now. What no copy holds leaves only where that was asked for by name. Closing snapshots stay, unless they
are asked for. Plans, market hours and captures that feed many sessions always stay. Taking bytes away is
`storage/retiring.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Final

import polars as pl

from trade_analyst_pipeline.datasets import DATASETS, markets
from trade_analyst_pipeline.errors import CaptureDamagedError, PartitionDamagedError, RetirementRefusedError
from trade_analyst_pipeline.market.session_hours import up_to_close
from trade_analyst_pipeline.market.sessions import latest_complete_session, sessions_ending
from trade_analyst_pipeline.storage.archive import Archive, Capture
from trade_analyst_pipeline.storage.copy_manifest import CopiedFile
from trade_analyst_pipeline.storage.copy_out import Proven, prove
from trade_analyst_pipeline.storage.copy_source import UnreadableFileError, open_copy, sha256_of
from trade_analyst_pipeline.storage.retiring import Leaving, retire
from trade_analyst_pipeline.storage.tables import TableStore

KEPT_SESSIONS: Final = 10
"""The latest sessions that never leave: capturing and planning look back on them."""

CLOSING: Final = ("options", "quotes")
"""The datasets whose last snapshot before the close stands for its session."""

RETIRABLE: Final = tuple(
    name for name, dataset in DATASETS.items() if not dataset.spans_sessions and name != markets.NAME
)
"""The ledger of gaps reads the hours of each day, and a table that spans sessions is always made of all captures."""

_CODE_DIGITS: Final = 12


@dataclass(frozen=True)
class Staying:
    """A capture that stays although its session is over long enough, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Retirement:
    """What would leave: captures that a copy holds, and those that nothing holds; and what stays, with the reason.

    `code` stands for just these files, their bytes and where they are held, and for no other list.
    """

    held: tuple[Leaving, ...]
    unheld: tuple[Leaving, ...]
    staying: tuple[Staying, ...]
    code: str


def plan_retirement(
    data_folder: Path,
    *,
    environment: str,
    before: date,
    held_in: Path | None,
    datasets: Sequence[str] = RETIRABLE,
    with_closing: bool = False,
    now: datetime,
) -> Retirement:
    """What of the sessions before a date would leave; every byte of it, here and in the copy, is read.

    Raises RetirementRefusedError for a date or dataset that must stay, ArchiveCopyError for a copy that is none.
    """
    _refuse_early(before, now)
    for name in datasets:
        if name not in RETIRABLE:
            message = f"captures of {name} stay: the ledger of gaps, or each rebuild of a table, reads them all"
            raise RetirementRefusedError(message)
    found = [each for name in datasets for each in _candidates(data_folder, name, before, with_closing=with_closing)]
    proven = [each for each in found if isinstance(each, Proven)]
    holds = set() if held_in is None else _held(held_in.resolve(), proven, environment)
    place = str(held_in.resolve()) if held_in else None
    held = tuple(Leaving(each.capture, each.file, place) for each in proven if each.file in holds)
    unheld = tuple(Leaving(each.capture, each.file, None) for each in proven if each.file not in holds)
    staying = tuple(each for each in found if isinstance(each, Staying))
    return Retirement(held, unheld, staying, _code(environment, (*held, *unheld)))


def confirm_retirement(
    data_folder: Path, planned: Retirement, *, code: str, may_lose: bool, now: datetime
) -> tuple[Leaving, ...]:
    """Let captures leave, told for the second time by the code of just this list; gives those that left.

    Raises RetirementRefusedError, and nothing leaves, where the code is of another list, or where something would be
    lost that may not be.
    """
    if planned.unheld and not may_lose:
        first = planned.unheld[0].file.name
        message = f"{len(planned.unheld):,} captures are held nowhere else, such as {first}: none has left"
        raise RetirementRefusedError(message)
    if code != planned.code:
        message = f"the code {code} is not that of the captures that would leave now ({planned.code}): look at the list"
        raise RetirementRefusedError(message)
    leaving = (*planned.held, *planned.unheld)
    retire(data_folder, leaving, retired_time=now)
    return leaving


def _refuse_early(before: date, now: datetime) -> None:
    first_kept = sessions_ending(latest_complete_session(now), KEPT_SESSIONS)[0]
    if before > first_kept:
        message = f"the latest {KEPT_SESSIONS} sessions stay: the latest date that can be given is {first_kept}"
        raise RetirementRefusedError(message)


def _candidates(data_folder: Path, name: str, before: date, *, with_closing: bool) -> Iterator[Proven | Staying]:
    """Captures of a dataset that are over and not retired yet: proven whole, or why they stay."""
    archive, store = Archive(data_folder / "raw"), TableStore(data_folder)
    for day in archive.sessions(name):
        if day >= before:
            continue
        place = f"raw/{name}/session_date={day}"
        try:
            captures = archive.captures(name, day)
            kept = _reasons(archive, store, name, day, captures, with_closing=with_closing)
        except (CaptureDamagedError, PartitionDamagedError) as error:
            yield Staying(place, f"it is damaged: {error}")
            continue
        for capture in captures:
            if capture.is_retired:
                continue
            if capture.capture_id in kept:
                yield Staying(f"{place}/{capture.capture_id}", kept[capture.capture_id])
                continue
            found = prove(archive, data_folder, name, day, capture.capture_id)
            yield found if isinstance(found, Proven) else Staying(found.name, f"it is damaged: {found.detail}")


def _reasons(
    archive: Archive, store: TableStore, name: str, day: date, captures: Sequence[Capture], *, with_closing: bool
) -> dict[str, str]:
    """The captures of a session that stay, and why; raises CaptureDamagedError, PartitionDamagedError."""
    judged = store.manifest("quarantine", name, day)
    made_of = set(judged.source_captures) if judged else set()
    unbuilt = [each for each in captures if each.answer_count and each.capture_id not in made_of]
    reasons = {each.capture_id: "it is in no table yet: run `trade-analyst rebuild` first" for each in unbuilt}
    if with_closing or name not in CLOSING:
        return reasons
    times = _closing_times(store, name, day)
    for attempts in archive.completions(captures):
        if any(entry.received_time in times for each in attempts for entry in archive.index(each)):
            reasons |= dict.fromkeys((each.capture_id for each in attempts), "it has a closing snapshot")
    return reasons


def _closing_times(store: TableStore, name: str, day: date) -> set[datetime]:
    """When the last snapshot of each symbol before its close arrived: of chains the last whole one of each scope."""
    schema = DATASETS[name].schema
    scope = ["chain_scope"] if "chain_scope" in schema.names else []
    rows = store.scan("tables", name, partitions=[day], schema=schema)
    snapshots = rows.select("symbol", "session_date", "snapshot_time", *scope).unique().collect()
    if scope:
        snapshots = snapshots.filter(pl.col("chain_scope") != "partial")
    last = up_to_close(snapshots).group_by("symbol", *scope).agg(pl.col("snapshot_time").max())
    return set(last["snapshot_time"])


def _held(source: Path, proven: Sequence[Proven], environment: str) -> set[CopiedFile]:
    """Those that a copy holds to the byte, each read for it now; a link to a file of the archive holds nothing."""
    wanted, found = {each.file: each.capture.path for each in proven}, set[CopiedFile]()
    with open_copy(source, environment=environment) as copy:
        for offered in copy.offers:
            path = wanted.get(offered.file)
            if path is None:
                continue
            try:
                if sha256_of(offered.chunks()) == offered.file.sha256 and not _is_link(source, offered.file, path):
                    found.add(offered.file)
            except UnreadableFileError:
                continue  # it is told as held nowhere
    return found


def _is_link(source: Path, file: CopiedFile, path: Path) -> bool:
    return source.is_dir() and (source / file.name).samefile(path)


def _code(environment: str, leaving: Sequence[Leaving]) -> str:
    lines = [f"{each.file.name} {each.file.sha256} {each.held_in}" for each in leaving]
    return hashlib.sha256("\n".join([environment, *sorted(lines)]).encode()).hexdigest()[:_CODE_DIGITS]
