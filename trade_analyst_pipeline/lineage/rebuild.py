"""Tables and metrics made anew from the archive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from pathlib import Path

from trade_analyst_pipeline.lineage.built import Built, BuiltSeries
from trade_analyst_pipeline.lineage.metrics import SERIES_OF, SNAPSHOT_METRICS, build_snapshot_metric
from trade_analyst_pipeline.lineage.tables import build_tables
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.tables import TableStore


def rebuild(
    data_folder: Path,
    *,
    datasets: Sequence[str],
    workers: int,
    created_time: datetime,
    first: date | None = None,
    last: date | None = None,
) -> Iterator[Built | BuiltSeries]:
    """Make tables of the archived sessions anew, then every metric; yields each result as it comes.

    `first` and `last` (inclusive, None for no bound) limit the sessions whose captures are read. A session that
    fails keeps its last good data and does not stop the others.
    """
    archive = Archive(data_folder / "raw")
    for name in datasets:
        days = [day for day in archive.sessions(name) if (first or day) <= day <= (last or day)]
        yield from build_tables(data_folder, name, days, workers=workers, created_time=created_time, again=True)
    for name in SERIES_OF:
        yield from rebuild_metrics(data_folder, name, created_time=created_time)


def rebuild_metrics(data_folder: Path, dataset: str, *, created_time: datetime) -> Iterator[Built | BuiltSeries]:
    """Make every metric of a dataset's table anew; yields each result as it comes."""
    store = TableStore(data_folder)
    if dataset == "options":
        days = [day for day in store.partitions("tables", "options") if isinstance(day, date)]
        for metric in SNAPSHOT_METRICS:
            yield from build_snapshot_metric(store, metric, days, created_time=created_time, again=True)
    for refresh in SERIES_OF.get(dataset, ()):
        yield refresh(store, created_time=created_time, again=True)
