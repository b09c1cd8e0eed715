"""Tables and metrics made anew from the archive: all of them, or those that are not current."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path

from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.lineage.built import Built, BuiltSeries
from trade_analyst_pipeline.lineage.metrics import SERIES_OF, SNAPSHOT_METRICS, SnapshotMetric, build_snapshot_metric
from trade_analyst_pipeline.lineage.staleness import damage, stale_tables
from trade_analyst_pipeline.lineage.tables import build_tables
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.tables import TableStore


@dataclass(frozen=True)
class Current:
    """How many sessions of a table were left as they are, for they are current."""

    table: str
    sessions: int


def rebuild(
    data_folder: Path,
    *,
    datasets: Sequence[str],
    workers: int,
    created_time: datetime,
    first: date | None = None,
    last: date | None = None,
    full: bool = False,
) -> Iterator[Built | BuiltSeries | Current]:
    """Make tables of the archived sessions anew, then metrics: those that are not current; yields results as they come.

    `first` and `last` (inclusive, None for no bound) limit the sessions whose captures are read. With `full` all are
    made anew, current or not. A session that fails keeps its last good data and does not stop the others.
    """
    archive = Archive(data_folder / "raw")
    for name in datasets:
        days = [day for day in archive.sessions(name) if (first or day) <= day <= (last or day)]
        anew, merged = (days, []) if full else _to_make(data_folder, name, days)
        for chosen, again in ((anew, True), (merged, False)):
            if chosen:
                made = partial(build_tables, workers=workers, created_time=created_time, again=again)
                yield from made(data_folder, name, chosen)
        if current := len(days) - len(anew) - len(merged):
            yield Current(f"tables/{name}", current)
    for name in SERIES_OF:
        yield from rebuild_metrics(data_folder, name, created_time=created_time, full=full)


def _to_make(data_folder: Path, name: str, days: Sequence[date]) -> tuple[list[date], list[date]]:
    """Of these sessions, those to be made of their captures alone, and those that what is new is merged into."""
    stale = {each.partition: each.takes_all for each in stale_tables(data_folder, name, days)}
    if not DATASETS[name].spans_sessions:
        return [day for day in days if day in stale], []
    return (list(days), []) if any(stale.values()) else ([], [day for day in days if day in stale])


def rebuild_metrics(
    data_folder: Path, dataset: str, *, created_time: datetime, full: bool
) -> Iterator[Built | BuiltSeries | Current]:
    """Make the metrics of a dataset's table anew, all or those not current; yields each result as it comes."""
    store = TableStore(data_folder)
    if dataset == "options":
        for snapshot_metric in SNAPSHOT_METRICS:
            yield from _rebuild_snapshots(store, snapshot_metric, created_time=created_time, full=full)
    for metric, refresh in SERIES_OF.get(dataset, {}).items():
        again = full or bool(damage(store, "metrics", metric))
        yield refresh(store, created_time=created_time, again=again)


def _rebuild_snapshots(
    store: TableStore, metric: SnapshotMetric, *, created_time: datetime, full: bool
) -> Iterator[Built | Current]:
    days = [day for day in store.partitions("tables", "options") if isinstance(day, date)]
    damaged = damage(store, "metrics", metric.schema.name)
    broken = [day for day in days if full or day in damaged]
    yield from build_snapshot_metric(store, metric, broken, created_time=created_time, again=True)
    rest = [day for day in days if day not in broken]
    unchanged = 0
    for built in build_snapshot_metric(store, metric, rest, created_time=created_time):
        if built.status == "unchanged":
            unchanged += 1
        else:
            yield built
    if unchanged:
        yield Current(metric.step, unchanged)
