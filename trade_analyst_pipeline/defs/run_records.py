"""What Dagster's run database says of failed runs, read without loading Dagster and without changing anything.

Only this module knows its tables (`runs`, `run_tags` of release 1.13, pinned by a test). A database that is not there,
or kept elsewhere than in SQLite files, gives nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from trade_analyst_pipeline.errors import StorageError
from trade_analyst_pipeline.ops.health.stores import FailedRun

LOOK_BACK = timedelta(days=7)
# Tags by which Dagster knows the sessions of a run.
PARTITION = "dagster/partition"
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
_DATABASE = Path("history") / "runs.db"
_FINISHED = """
    SELECT run_id, pipeline_name, status, run_body, end_time FROM runs
    WHERE status IN ('SUCCESS', 'FAILURE') AND end_time >= ? ORDER BY end_time
"""


@dataclass(frozen=True)
class _FinishedRun:
    run_id: str
    job: str
    is_success: bool
    first: str
    last: str
    assets: frozenset[str]
    ended: float

    def makes_good(self, failed: _FinishedRun) -> bool:
        """Whether this run, later and successful, did all that the failed one was to do. No assets stand for all."""
        return (
            self.is_success
            and self.ended >= failed.ended
            and self.job == failed.job
            and self.first <= failed.first
            and failed.last <= self.last
            and (not self.assets or (bool(failed.assets) and failed.assets <= self.assets))
        )


def open_failures(instance_folder: Path, *, now: datetime) -> list[FailedRun]:
    """Runs of the last `LOOK_BACK` that failed and that no later success has made good, oldest first.

    Raises StorageError when the database cannot be read.
    """
    database = instance_folder / _DATABASE
    if not database.is_file():
        return []
    try:
        # as a plain file: the daemon may be writing to it, and nothing of it is to be changed
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=1)) as connection:
            rows = connection.execute(_FINISHED, ((now - LOOK_BACK).timestamp(),)).fetchall()
    except sqlite3.Error as error:
        message = f"{database} cannot be read ({error}). See that no other program holds it, and that it is whole."
        raise StorageError(message) from error
    runs = [_finished(*row) for row in rows]
    return [_told(run) for run in runs if not run.is_success and not any(later.makes_good(run) for later in runs)]


def _finished(run_id: str, job: str, status: str, body: str, ended: float) -> _FinishedRun:
    fields = json.loads(body)
    tags = fields.get("tags") or {}
    single = tags.get(PARTITION, "")
    return _FinishedRun(
        run_id,
        job,
        status == "SUCCESS",
        tags.get(RANGE_START, single),
        tags.get(RANGE_END, single),
        frozenset(_asset_keys(fields.get("asset_selection"))),
        ended,
    )


def _asset_keys(selection: object) -> Iterable[str]:
    """The keys in a serialised set of asset keys; none for a run of all its job's assets."""
    keys = selection.get("__frozenset__", []) if isinstance(selection, dict) else []
    return ["/".join(key["path"]) for key in keys]


def _told(run: _FinishedRun) -> FailedRun:
    ended = datetime.fromtimestamp(run.ended, UTC)
    return FailedRun(run.run_id, run.job, _session(run.first), _session(run.last), ended)


def _session(key: str) -> date | None:
    try:
        return date.fromisoformat(key)
    except ValueError:
        return None
