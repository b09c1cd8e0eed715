"""Dagster's event log in SQLite, made fit for runs over hundreds of sessions.

Dagster 1.13 hands over the events of a range in batches, and its SQLite log then writes each in transactions of its
own, opening and closing two databases every time. Here a batch is one transaction in each database: the same rows, in
the order given, durable when the call returns. Batches are only formed where DAGSTER_EVENT_BATCH_SIZE is set.
A database stays open between two events: SQLite writes all of it back when its last connection is closed.
The classes underneath are Dagster's own; a test pins what is used of them.
"""

import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.sql import create_engine
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS

MOST_OPEN = 8  # databases; each run has one


class BatchedEventLog(SqliteEventLogStorage):
    """Events below one folder, as Dagster keeps them, a batch at a time."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        self._open: dict[str, Any] = {}
        self._engines: dict[str, Any] = {}
        weakref.finalize(self, _close_all, self._engines)
        super().__init__(base_dir, inst_data)
        self._db_lock = threading.RLock()  # type: ignore[assignment]  # serves as the Lock it replaces, and nests

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store the events as `store_event` does one by one, all of them or, on an error, none."""
        shards = [*dict.fromkeys(event.run_id for event in events), INDEX_SHARD_NAME]
        with self._db_lock, ExitStack() as stack:
            for shard in shards:
                stack.enter_context(self._held_open(shard))
            for event in events:
                self.store_event(event)

    @contextmanager
    def _held_open(self, shard: str) -> Iterator[None]:
        with self._connect(shard) as connection:
            self._open[shard] = connection
            try:
                yield
            finally:
                del self._open[shard]

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Any]:
        with self._db_lock:
            if shard in self._open:
                yield self._open[shard]
                return
            with self._engine(shard).begin() as connection:
                yield connection

    def _engine(self, shard: str) -> Any:
        """The engine of a database, which is made where there is none; of too many, that used longest ago is closed."""
        engine = self._engines.pop(shard, None)
        if engine is None:
            while len(self._engines) >= MOST_OPEN:
                self._engines.pop(next(iter(self._engines))).dispose()
            engine = kept_open(self.conn_string_for_shard(shard))
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
        self._engines[shard] = engine
        return engine

    def wipe(self) -> None:
        """Delete all events."""
        with self._db_lock:
            _close_all(self._engines)
            super().wipe()

    def dispose(self) -> None:
        """Close what is open."""
        with self._db_lock:
            _close_all(self._engines)
        super().dispose()

    def _store_asset_check_evaluation_planned(self, event: EventLogEntry, event_id: int | None) -> None:
        super()._store_asset_check_evaluation_planned(_without_sessions(event), event_id)


def kept_open(address: str) -> Any:
    """An SQLite database of which one connection stays open, whichever thread uses it."""
    options = {"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False}
    return create_engine(address, pool_size=1, connect_args=options)


def _close_all(engines: dict[str, Any]) -> None:
    while engines:
        engines.popitem()[1].dispose()


def _without_sessions(event: EventLogEntry) -> EventLogEntry:
    """A planned check of all its run's sessions at once, as it is then reported.

    Dagster plans it for each session of the run, in a row that holds the whole event and stays `planned` for ever.
    """
    happened = event.get_dagster_event()
    check = happened.asset_check_planned_data
    planned = AssetCheckEvaluationPlanned(asset_key=check.asset_key, check_name=check.check_name)
    return event._replace(dagster_event=happened._replace(event_specific_data=planned))
