"""Dagster's SQLite storage with a mask before it: no event, run or tick is written with a secret in it.

Named in `dagster.yaml`, so that every process of an instance writes through it: an error's text and stack, a metadata
value, a log line, a tag and a reason to skip are masked alike, whoever made them. What is secret is known to
`ops/redaction.py`. The classes underneath are Dagster's own (release 1.13), pinned by a test.

Not masked, because Dagster itself makes them of nothing that is secret: names, partition keys, and the cursors of its
own daemons.
"""

import json
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from dagster._core.events.log import EventLogEntry
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.scheduler.instigation import InstigatorState, InstigatorTick, TickData
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.runs.sqlite import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._daemon.types import DaemonHeartbeat
from dagster._serdes import ConfigurableClassData, deserialize_value, serialize_value

from trade_analyst_pipeline.defs.event_log import BatchedEventLog, kept_open
from trade_analyst_pipeline.ops.redaction import redact

Record = TypeVar("Record")


class MaskedSqliteStorage(DagsterSqliteStorage):
    """Runs, schedules and events below one folder, as Dagster keeps them, all of them masked."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        folder = Path(base_dir)
        self._run_storage = _MaskedRuns.from_local(str(folder / "history"))
        self._event_log_storage = _MaskedEventLog(str(folder / "history" / "runs"))
        self._schedule_storage = _MaskedSchedules.from_local(str(folder / "schedules"))

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "MaskedSqliteStorage":
        """The storage that `dagster.yaml` describes."""
        return cls.from_local(inst_data=inst_data, **config_value)


class _MaskedEventLog(BatchedEventLog):
    def store_event(self, event: EventLogEntry) -> None:
        super().store_event(masked(event))


class _MaskedRuns(SqliteRunStorage):
    def __init__(self, conn_string: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engine = kept_open(conn_string)
        weakref.finalize(self, self._engine.dispose)
        super().__init__(conn_string, inst_data)

    @contextmanager
    def connect(self) -> Iterator[Any]:
        with self._engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        self._engine.dispose()
        super().dispose()

    def add_run(self, dagster_run: DagsterRun) -> DagsterRun:
        return super().add_run(masked(dagster_run))

    def add_historical_run(self, dagster_run: DagsterRun, run_creation_time: datetime) -> DagsterRun:
        return super().add_historical_run(masked(dagster_run), run_creation_time)

    def add_run_tags(self, run_id: str, new_tags: Mapping[str, str]) -> None:
        super().add_run_tags(run_id, _masked(dict(new_tags)))

    def add_daemon_heartbeat(self, daemon_heartbeat: DaemonHeartbeat) -> None:
        super().add_daemon_heartbeat(masked(daemon_heartbeat))

    def add_backfill(self, partition_backfill: PartitionBackfill) -> None:
        super().add_backfill(masked(partition_backfill))

    def update_backfill(self, partition_backfill: PartitionBackfill) -> None:
        super().update_backfill(masked(partition_backfill))

    def _add_snapshot(self, snapshot_id: str, snapshot_obj: Any, snapshot_type: Any) -> str:
        # of a job or a plan, under the name made of what it was; holds the tags that stand in code
        return super()._add_snapshot(snapshot_id, masked(snapshot_obj), snapshot_type)


class _MaskedSchedules(SqliteScheduleStorage):
    def create_tick(self, tick_data: TickData) -> InstigatorTick:
        return super().create_tick(masked(tick_data))

    def update_tick(self, tick: InstigatorTick) -> InstigatorTick:
        return super().update_tick(tick._replace(tick_data=masked(tick.tick_data)))

    def add_instigator_state(self, state: InstigatorState) -> InstigatorState:
        return super().add_instigator_state(masked(state))

    def update_instigator_state(self, state: InstigatorState) -> InstigatorState:
        return super().update_instigator_state(masked(state))


def masked(record: Record) -> Record:
    """What Dagster stores, with every text in it masked; the same object where nothing is to be masked."""
    text = serialize_value(record)  # type: ignore[arg-type]  # whatever Dagster itself serialises
    if redact(text) == text:
        return record
    copy: Record = deserialize_value(json.dumps(_masked(json.loads(text))), type(record))  # type: ignore[type-var]
    return copy


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {redact(name): _masked(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return redact(value) if isinstance(value, str) else value
