"""Runs started from the command line: the same jobs, in this process, against the environment's own instance.

Sessions that Dagster has on record as materialised are not run again, except the latest and those of which something
can still be asked for: a first run goes through its whole history in one range, the next one through what has come
since, and a symbol added later gets its history in those sessions alone. What cannot be had any more is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.instance.ref import InstanceRef

from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.defs.automation import CHAIN_ASSETS, END_OF_DAY_ASSETS, QUOTE_ASSETS, REFERENCE_ASSETS
from trade_analyst_pipeline.defs.login_foresight import check_login, estimated_duration
from trade_analyst_pipeline.defs.resources import SourceResource, StorageResource
from trade_analyst_pipeline.defs.run_records import RANGE_END, RANGE_START
from trade_analyst_pipeline.defs.standing import TokenResource
from trade_analyst_pipeline.errors import CaptureDamagedError, RunFailedError
from trade_analyst_pipeline.lineage.tables import missing_sessions
from trade_analyst_pipeline.settings import Settings
from trade_analyst_pipeline.storage.archive import Archive

CHAIN_DATASET = "options"
HISTORY_PARTITIONED = (
    "raw/options",
    "tables/options",
    "metrics/put_call_ratio",
    "metrics/forward",
    "metrics/implied_volatility",
)
_INTERRUPTIONS = frozenset({"DagsterExecutionInterruptedError", "KeyboardInterrupt"})
_QUIET = {"loggers": {"console": {"config": {"log_level": "INFO"}}}}


@dataclass(frozen=True)
class PlannedRun:
    """One Dagster run: a job, or the assets picked from it, over sessions that follow one another."""

    job: str
    sessions: tuple[date, ...]
    assets: tuple[str, ...]

    @property
    def asked_datasets(self) -> list[str]:
        """The datasets whose raw assets are among its assets: what it may have to ask the source for."""
        return [key.removeprefix("raw/") for key in self.assets if key.startswith("raw/")]

    @property
    def tags(self) -> dict[str, str]:
        """The tags by which Dagster knows the range."""
        return {RANGE_START: self.sessions[0].isoformat(), RANGE_END: self.sessions[-1].isoformat()}


def plan_runs(
    sessions: Sequence[date],
    done: Collection[date],
    *,
    assets: Sequence[str] | None,
    everything: bool,
    is_available: Callable[[str, date], bool] = lambda _dataset, _day: True,
    settled: Collection[str] = (),
) -> list[PlannedRun]:
    """Chains of the sessions that are not `done` and of the latest; then of the latest quotes, reference, end of day.

    `everything` runs all sessions again. `assets` limits the runs to those asset keys. What `is_available` says of a
    dataset and session cannot be had any more, from the source or the archive, is left out; so are datasets that are
    `settled` in the latest session, unless they are named.
    """
    latest = sessions[-1]
    wanted = [
        day for day in sessions if (everything or day == latest or day not in done) and is_available(CHAIN_DATASET, day)
    ]
    runs = [PlannedRun("history", tuple(days), CHAIN_ASSETS) for days in _stretches(wanted, sessions)]
    if is_available("quotes", latest):
        runs.append(PlannedRun("snapshots", (latest,), QUOTE_ASSETS))
    passed_over = settled if assets is None and not everything else ()
    reference = tuple(
        key
        for key in REFERENCE_ASSETS
        if (name := key.partition("/")[2]) not in passed_over and is_available(name, latest)
    )
    runs += [PlannedRun("reference", (latest,), reference)] if reference else []
    if is_available("ohlc", latest):
        runs.append(PlannedRun("end_of_day", (latest,), END_OF_DAY_ASSETS))
    if assets is None:
        return runs
    picked = [PlannedRun(run.job, run.sessions, tuple(key for key in run.assets if key in assets)) for run in runs]
    return [run for run in picked if run.assets]


def settled_datasets(
    instance: dg.DagsterInstance, source: SourceResource, storage: StorageResource, day: date
) -> set[str]:
    """The datasets taken once a session that have all of it: on record, nothing to ask for, the table current."""
    names = [name for name, dataset in DATASETS.items() if dataset.is_current_only]
    on_record = {name for name in names if day in materialized_sessions(instance, (f"raw/{name}", f"tables/{name}"))}
    return {name for name in on_record if _has_all(source, storage, name, day)}


def _has_all(source: SourceResource, storage: StorageResource, name: str, day: date) -> bool:
    try:
        has_to_ask = source.has_to_ask(source.plan(name, [day]), storage.archive)
        return not has_to_ask and not missing_sessions(storage.data_folder, name, [day])
    except CaptureDamagedError:  # told by the run that meets it
        return False


def incomplete_sessions(
    source: SourceResource, archive: Archive, sessions: Collection[date]
) -> dict[date, tuple[str, ...]]:
    """Of these sessions those whose chains the source can still complete, each with the symbols to be asked for.

    Not one with a damaged capture, of which nobody can say what it holds: `damage` in `cli/troubles.py` tells of it.
    """
    found = {}
    for day in sorted(sessions):
        try:
            requests = [
                each for planned in source.plan(CHAIN_DATASET, [day]) for each in source.missing(planned, archive)
            ]
        except CaptureDamagedError:
            continue
        if requests:
            found[day] = tuple(dict.fromkeys(symbol for request in requests for symbol in request.symbols))
    return found


def is_available(source: SourceResource, archive: Archive, dataset: str, day: date) -> bool:
    """Whether a session of the dataset can be had; so too where its capture is damaged: its run then names the file."""
    try:
        return source.is_available(dataset, day, archive)
    except CaptureDamagedError:
        return True


def record_lost_sessions(source: SourceResource, archive: Archive, sessions: Sequence[date]) -> list[date]:
    """The sessions whose chains nobody can give any more; the archive says so of each from now on."""
    lost = [day for day in sessions if not is_available(source, archive, CHAIN_DATASET, day)]
    for _ in source.take(source.plan(CHAIN_DATASET, lost), archive):
        pass  # each becomes a gap; nothing is asked
    return lost


def _stretches(wanted: Sequence[date], sessions: Sequence[date]) -> Iterator[list[date]]:
    """The wanted sessions in stretches without a hole."""
    place = {day: number for number, day in enumerate(sessions)}
    for _, stretch in groupby(enumerate(wanted), key=lambda pair: place[pair[1]] - pair[0]):
        yield [day for _, day in stretch]


def materialized_sessions(instance: dg.DagsterInstance, keys: Sequence[str]) -> set[date]:
    """The sessions for which every one of the partitioned assets is on record."""
    found = [instance.get_materialized_partitions(dg.AssetKey(key.split("/"))) for key in keys]
    return {date.fromisoformat(key) for key in set.intersection(*found)}


def foresee_login(instance: dg.DagsterInstance, settings: Settings, runs: Sequence[PlannedRun]) -> str | None:
    """What to warn of before these runs, one after the other; None when the login outlasts them.

    Raises LoginRequiredError, before anything is started, when the login is over or missing and something has to be
    asked.
    """
    source, archive = SourceResource(settings), StorageResource(settings).archive

    def has_to_ask() -> bool:
        plans = (source.plan(name, run.sessions) for run in runs for name in run.asked_datasets)
        try:
            return any(source.has_to_ask(snapshots, archive) for snapshots in plans)
        except CaptureDamagedError:  # told by the run that meets it
            return True

    takes = sum((estimated_duration(instance, run.job, len(run.sessions)) for run in runs), timedelta())
    days = sorted({day for run in runs for day in run.sessions})
    return check_login(TokenResource(settings), takes=takes, days=days, has_to_ask=has_to_ask)


def open_instance(home: Path) -> dg.DagsterInstance:
    """The instance described in `home`, for runs in this process: what they print goes where this process prints.

    Dagster's capture of it starts two processes a stream and step, which Ctrl-C would reach too.
    """
    uncaptured = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home), overrides={"compute_logs": uncaptured}))


def execute(definitions: dg.Definitions, instance: dg.DagsterInstance, run: PlannedRun) -> None:
    """Run it in this process; raises RunFailedError with what each failed step said.

    Dagster makes an ordinary failure of Ctrl-C; here it is KeyboardInterrupt again.
    """
    result = definitions.resolve_job_def(run.job).execute_in_process(
        instance=instance,
        tags=run.tags,
        run_config=_QUIET,
        asset_selection=[dg.AssetKey(key.split("/")) for key in run.assets],
        raise_on_error=False,
    )
    if not result.success:
        failed = result.filter_events(lambda event: event.is_step_failure)
        if any(_is_interruption(event.step_failure_data.error) for event in failed):
            raise KeyboardInterrupt
        failures = [_failure(event) for event in failed]
        message = f"Dagster run {result.run_id} of job {run.job} failed:\n" + "\n".join(failures)
        raise RunFailedError(message)


def _is_interruption(error: Any) -> bool:
    """Whether an error as Dagster keeps it, or one of its causes, is Ctrl-C."""
    return error is not None and (error.cls_name in _INTERRUPTIONS or _is_interruption(error.cause))


def _failure(event: dg.DagsterEvent) -> str:
    data = event.step_failure_data
    cause = data.error.cause if data.error and data.error.cause else data.error
    said = data.user_failure_data.description if data.user_failure_data else None
    return f"{event.step_key}: {said or (cause.message.strip() if cause else event.message)}"
