"""What is in the data folder: catalogue, the last session, what went wrong in it; and Dagster's instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from trade_analyst_pipeline.errors import StorageError
from trade_analyst_pipeline.ops.health.report import Finding, fail, ok, skipped, warn
from trade_analyst_pipeline.storage.archive import Archive, Gap
from trade_analyst_pipeline.storage.last_verification import last_verification

FRESH_DATASET = "options"

_RUN = "Run `trade-analyst run`, or `make ui` and turn the schedules on."
_MOST_SHOWN = 3
VERIFIED_WITHIN = timedelta(days=30)


@dataclass(frozen=True)
class FailedRun:
    """A run that failed and that no later one has made good: its job, its sessions (first and last) and its end."""

    run_id: str
    job: str
    first_session: date | None
    last_session: date | None
    ended_time: datetime

    def __str__(self) -> str:
        span = "" if self.first_session is None else f" of {self.first_session}"
        span += "" if self.first_session == self.last_session else f" to {self.last_session}"
        return f"run {self.run_id[:8]} of {self.job}{span} failed {self.ended_time:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True)
class GapCount:
    """How a session stands in the ledger of gaps: snapshots of a symbol, and those lacking still, by type.

    `damaged` says of each file it would have to know of and cannot read what is wrong with it.
    """

    session_date: date
    expected: int
    captured: int
    lacking: Mapping[str, int]
    can_be_had: int
    damaged: Sequence[str] = ()


def check_gaps(found: GapCount) -> Finding:
    """Of the last complete session all is captured that the plan and the captures on record say was to be had."""
    if not found.expected and not found.damaged:
        return skipped(f"nothing on record says what was to be had of session {found.session_date}")
    detail = f"session {found.session_date}: {found.captured} of {found.expected} snapshots of a symbol captured"
    if not found.lacking and not found.damaged:
        return ok(detail)
    if found.lacking:
        types = ", ".join(f"{kind} {count}" for kind, count in sorted(found.lacking.items()))
        detail += f"; lacking: {types}; {found.can_be_had} can be had still"
    if found.damaged:
        detail += f"; files that cannot be read: {len(found.damaged)}, the first {found.damaged[0]}"
    return warn(detail, "`trade-analyst gaps` lists them; `--repair` asks for what can be had.")


def check_catalogue(folder: Path) -> Finding:
    """The SQL catalogue opens read-only, as other programs open it, and the files its views name are there."""
    from trade_analyst_pipeline.storage.catalogue import CATALOGUE_NAME, catalogue_state

    file = folder / CATALOGUE_NAME
    if not file.exists():
        return skipped(f"{file} is made by the first run")
    built, state = datetime.fromtimestamp(file.stat().st_mtime, UTC), catalogue_state(folder)
    detail = f"{len(state.views)} views in {file}, made {built:%Y-%m-%d %H:%M} UTC"
    if not state.missing:
        return ok(detail)
    gone = f"{len(state.missing)} files that they name were replaced and are gone, such as {state.missing[0].name}"
    return warn(f"{detail}; {gone}", "`trade-analyst rebuild` makes it anew.")


def check_verified(folder: Path, now: datetime) -> Finding:
    """Everything stored was read back lately, and all was well."""
    try:
        last = last_verification(folder)
    except StorageError as error:
        return warn(str(error), "Run `trade-analyst verify`.")
    if last is None:
        return skipped("`trade-analyst verify` has not read everything back yet")
    detail = f"{last.files:,} files read back {last.verified_time:%Y-%m-%d %H:%M} UTC"
    if last.flaws:
        shown = f"{last.flaws:,} findings, the first {'; '.join(last.shown)}"
        return warn(f"{detail}: {shown}", "`trade-analyst verify` names all; docs/operations.md says what each means.")
    if now - last.verified_time > VERIFIED_WITHIN:
        return warn(f"{detail}, all well then", "Run `trade-analyst verify`: damage is found by reading.")
    return ok(f"{detail}: all well")


def last_captured_session(archive: Archive, dataset: str) -> date | None:
    """The newest session with at least one response archived; gaps alone do not count."""
    for day in reversed(archive.sessions(dataset)):
        if any(capture.answer_count for capture in archive.captures(dataset, day)):
            return day
    return None


def check_freshness(captured: date | None, missed: Sequence[date], *, is_live: bool) -> Finding:
    """The last complete session is archived; `missed` are the complete sessions after `captured`.

    A live source cannot be asked for a session that is over, so two missed in a row fail there.
    """
    if captured is None:
        return skipped("nothing has been captured yet")
    if not missed:
        return ok(f"session {captured} is archived")
    detail = f"the last session archived is {captured}; complete since: {len(missed)}, the last {missed[-1]}"
    return fail(detail, _RUN) if is_live and len(missed) > 1 else warn(detail, _RUN)


def latest_gaps(archive: Archive, session: date) -> list[Gap]:
    """What is still missing of a session, in every dataset."""
    from trade_analyst_pipeline.datasets import DATASETS

    return [gap for name in DATASETS for gap in archive.open_gaps(archive.captures(name, session))]


def check_open_errors(failed: Sequence[FailedRun], gaps: Sequence[Gap], session: date | None) -> Finding:
    """Failed runs that no later one has made good, and gaps of the last session captured."""
    if session is None and not failed:
        return skipped("nothing has been captured yet")
    found = [str(run) for run in failed]
    found += [f"{gap.dataset} {', '.join(gap.symbols[:3])}: {gap.reason}" for gap in gaps]
    if not found:
        return ok(f"no failed run is open; session {session} has no gap")
    shown = "; ".join(found[:_MOST_SHOWN]) + (f" and {len(found) - _MOST_SHOWN} more" if len(found) > 3 else "")
    detail = f"failed runs open: {len(failed)}, gaps in session {session}: {len(gaps)}: {shown}"
    return warn(
        detail, "Look at the run in `make ui`, then run its sessions again; docs/operations.md has the reasons."
    )


def check_dagster(file: Path, instance: Path) -> Finding:
    """Dagster's instance is described by `dagster.yaml` in the folder the command is started from."""
    if not file.is_file():
        return fail(f"no {file} in {Path.cwd()}", "Start the command in the project folder.")
    if not instance.is_dir():
        return ok(f"instance described by {file}; {instance} will be made at first use")
    return ok(f"instance described by {file}, kept in {instance}")
