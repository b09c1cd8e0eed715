"""What Dagster adds to a range run: the same plain functions with it and without it, over the same sessions.

Everything is archived and built already, so the plain functions have little to do and the difference is Dagster's:
planning, events, the event log in SQLite, checks. Each run with Dagster has a fresh instance, as a first main job has;
making its databases is not timed. Both sides take turns.
"""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trade_analyst_pipeline.settings import Settings

RUNS = 3
PARTITIONED = (
    "raw/options",
    "tables/options",
    "metrics/put_call_ratio",
    "metrics/forward",
    "metrics/implied_volatility",
)


@dataclass(frozen=True)
class DagsterFigures:
    """Median seconds of a range run with and without Dagster, and how many asset partitions it materialised."""

    asset_partitions: int
    with_dagster: float
    without_dagster: float

    @property
    def milliseconds_each(self) -> float:
        """What Dagster adds to each asset partition."""
        return 1000 * (self.with_dagster - self.without_dagster) / self.asset_partitions


def dagster_overhead(data_root: Path) -> DagsterFigures:
    """The figures of the job `history` over every session of a data folder made by the main job."""
    from trade_analyst_pipeline.cli.source import running_source
    from trade_analyst_pipeline.settings import load_settings
    from trade_analyst_pipeline.storage.archive import Archive

    warnings.filterwarnings("ignore", message=".*currently in beta")
    settings = load_settings(data_root=data_root, cache_root=data_root.with_name("cache"))
    # one process for unchanged sessions: starting more would be noise on both sides
    settings = settings.model_copy(update={"capture": settings.capture.model_copy(update={"workers": 1})})
    days = Archive(settings.data_folder / "raw").sessions("options")
    with running_source(settings) as settings:
        plain, through_dagster = _plain(settings, days), _through_dagster(settings, days)
        seconds = [(through_dagster(), plain()) for _ in range(RUNS + 1)][1:]
    return DagsterFigures(len(PARTITIONED) * len(days), *map(median, zip(*seconds, strict=True)))


def _plain(settings: Settings, days: Sequence[date]) -> Callable[[], float]:
    """A run of what the assets and checks of the job call."""
    from trade_analyst_pipeline.defs import pictures
    from trade_analyst_pipeline.defs.resources import SourceResource, StorageResource
    from trade_analyst_pipeline.lineage import metrics, tables

    def work() -> float:
        source, storage = SourceResource(settings), StorageResource(settings)
        started, now = time.perf_counter(), source.now()
        _use_up(source.take(source.plan("options", days), storage.archive))
        _use_up(tables.build_tables(storage.data_folder, "options", days, workers=1, created_time=now))
        for metric in metrics.SNAPSHOT_METRICS:
            _use_up(metrics.build_snapshot_metric(storage.tables, metric, days, created_time=now))
        for refresh, picture in (
            (metrics.refresh_iv_history, pictures.iv_history_picture),
            (metrics.refresh_iv_rank, pictures.iv_rank_picture),
            (metrics.refresh_put_call_ratio_daily, pictures.put_call_ratio_picture),
        ):
            refresh(storage.tables, created_time=now)
            picture(storage.tables)
        assert not tables.missing_sessions(storage.data_folder, "options", days)
        return time.perf_counter() - started

    return work


def _through_dagster(settings: Settings, days: Sequence[date]) -> Callable[[], float]:
    """The same as a run of the job, in a new instance."""
    import dagster as dg

    from trade_analyst_pipeline.cli.dagster_instance import choose_instance
    from trade_analyst_pipeline.definitions import assemble
    from trade_analyst_pipeline.defs.automation import CHAIN_ASSETS
    from trade_analyst_pipeline.defs.runs import PlannedRun, execute

    definitions = assemble(settings)
    planned = PlannedRun("history", tuple(days), CHAIN_ASSETS)

    def work() -> float:
        with tempfile.TemporaryDirectory(prefix="trade-analyst-bench-") as folder:
            choose_instance(settings)
            os.environ["DAGSTER_INSTANCE_DIR"] = folder
            with dg.DagsterInstance.get() as instance:
                assert not instance.get_runs(limit=1)
                assert not instance.get_materialized_partitions(dg.AssetKey(PARTITIONED[0].split("/")))
                started = time.perf_counter()
                execute(definitions, instance, planned)
                seconds = time.perf_counter() - started
                for key in PARTITIONED:
                    made = instance.get_materialized_partitions(dg.AssetKey(key.split("/")))
                    assert len(made) == len(days), key
                return seconds

    return work


def _use_up(items: Iterable[object]) -> None:
    deque(items, maxlen=0)
