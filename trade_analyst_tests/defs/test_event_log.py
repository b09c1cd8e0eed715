"""Events stored a batch at a time are the events stored one by one; checks planned for a range end with it."""

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

from trade_analyst_pipeline.defs.event_log import MOST_OPEN, BatchedEventLog

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*currently in beta:Warning"),
    pytest.mark.filterwarnings("ignore:Property `OpDefinition.version`:DeprecationWarning"),  # Dagster's own use
]
RANGE = "dagster/asset_partition_range"
DAYS = dg.DailyPartitionsDefinition("2026-01-05", end_date="2026-02-05")
FIRST, LAST, COUNT = "2026-01-06", "2026-01-09", 4
EVENTS = "SELECT dagster_event_type, asset_key, partition, step_key FROM event_logs"
CHECKS = "SELECT check_name, partition, execution_status FROM asset_check_executions"


def definitions() -> dg.Definitions:
    """An asset without partitions, and one of many that depends on it and has two checks."""

    @dg.asset
    def early() -> None:
        pass

    @dg.asset(
        deps=[early],
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[dg.AssetCheckSpec("holds", asset="one"), dg.AssetCheckSpec("fails", asset="one")],
    )
    def one() -> Iterator[dg.MaterializeResult]:
        yield dg.MaterializeResult(
            check_results=[
                dg.AssetCheckResult(check_name="holds", passed=True),
                dg.AssetCheckResult(check_name="fails", passed=False, severity=dg.AssetCheckSeverity.WARN),
            ]
        )

    return dg.Definitions([early, one], jobs=[dg.define_asset_job("both", [early, one])])


Made = tuple[dg.DagsterInstance, str]
Run = Callable[[str], Made]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs both assets over the days, in a new instance as dagster.yaml describes it, with batches of a given size."""
    job, instances = definitions().resolve_job_def("both"), list[dg.DagsterInstance]()

    def execute(batch_size: str) -> Made:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DAGSTER_INSTANCE_DIR", str(tmp_path_factory.mktemp("instance")))
            patch.setenv("DAGSTER_EVENT_BATCH_SIZE", batch_size)
            instance = dg.DagsterInstance.from_config(str(Path(__file__).resolve().parents[2]))
            instances.append(instance)
            days = {f"{RANGE}_start": FIRST, f"{RANGE}_end": LAST}
            result = job.execute_in_process(instance=instance, tags=days)
        assert result.success
        return instance, result.run_id

    yield execute
    for instance in instances:
        instance.dispose()


@pytest.fixture(scope="module")
def singly(run: Run) -> Made:
    """A run whose events were stored one by one."""
    return run("0")


def rows(instance: dg.DagsterInstance, shard: str, query: str) -> list[tuple[Any, ...]]:
    """What a database of an instance holds."""
    with closing(sqlite3.connect(log_of(instance).path_for_shard(shard))) as connection:
        return connection.execute(query).fetchall()


def log_of(instance: dg.DagsterInstance) -> BatchedEventLog:
    """The event log of an instance."""
    log = instance.event_log_storage
    assert isinstance(log, BatchedEventLog)
    return log


@pytest.mark.parametrize("size", ["500", "4"], ids=["larger than the run", "smaller"])
def test_batches_leave_the_rows_of_single_events(run: Run, singly: Made, size: str) -> None:
    """Events of the run and of the index, in order, the assets' latest, and the record of partitions are the same."""
    batched, run_id = run(size)
    assert rows(batched, run_id, f"{EVENTS} ORDER BY id") == rows(*singly, f"{EVENTS} ORDER BY id")
    assert Counter(rows(batched, "index", EVENTS)) == Counter(rows(singly[0], "index", EVENTS))
    kinds = Counter(kind for kind, *_ in rows(batched, "index", EVENTS))
    assert kinds["ASSET_MATERIALIZATION"] == COUNT + 1
    assert kinds["ASSET_MATERIALIZATION_PLANNED"] >= COUNT + 1
    assert Counter(rows(batched, "index", CHECKS)) == Counter(rows(singly[0], "index", CHECKS))
    for instance, made_by in (singly, (batched, run_id)):
        assert instance.get_materialized_partitions(dg.AssetKey("one")) == set(DAYS.get_partition_keys()[1:5])
        assert rows(instance, "index", "SELECT asset_key, last_run_id FROM asset_keys ORDER BY 1") == [
            ('["early"]', made_by),
            ('["one"]', made_by),
        ]


def test_checks_planned_for_a_range_are_resolved(run: Run) -> None:
    """One row for each check, ended as the check ended, and none that stays planned."""
    instance, _ = run("500")
    assert sorted(rows(instance, "index", CHECKS)) == [("fails", None, "FAILED"), ("holds", None, "SUCCEEDED")]


def test_control_dagsters_own_log_leaves_checks_planned(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster plans each check for each day of the range and never comes back to those rows."""
    monkeypatch.delattr(BatchedEventLog, "_store_asset_check_evaluation_planned")
    instance, _ = run("500")
    assert Counter(status for _, _, status in rows(instance, "index", CHECKS)) == {
        "PLANNED": 2 * COUNT,
        "SUCCEEDED": 1,
        "FAILED": 1,
    }


def test_a_batch_that_fails_is_stored_one_by_one(
    run: Run, singly: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a batch that breaks off nothing stays, so that Dagster's second way leaves no event twice."""
    calls = Counter[str]()
    store = SqliteEventLogStorage.store_event

    def fail_once(log: SqliteEventLogStorage, event: EventLogEntry) -> None:
        calls["all"] += 1
        store(log, event)
        if calls["all"] == 5:
            message = "broken off"
            raise OSError(message)

    monkeypatch.setattr(SqliteEventLogStorage, "store_event", fail_once)
    batched, _ = run("500")
    assert "broken off" in capsys.readouterr().err
    assert Counter(rows(batched, "index", EVENTS)) == Counter(rows(singly[0], "index", EVENTS))


def test_threads_take_turns(run: Run) -> None:
    """Batches and single events of several threads at once are all stored, and reading goes on meanwhile."""
    instance, run_id = run("500")
    log, events = log_of(instance), instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    before = len(rows(instance, run_id, EVENTS))
    seen: list[int] = []

    def write(number: int) -> None:
        if number % 2:
            log.store_event_batch(events)
        else:
            for event in events:
                log.store_event(event)
        seen.append(len(instance.all_logs(run_id)))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(seen) == 4
    assert len(rows(instance, run_id, EVENTS)) == before + 4 * len(events)


def test_databases_stay_open_between_events_and_are_closed_in_the_end(tmp_path: Path) -> None:
    """A bounded number is held; what was stored is there whether its database was closed meanwhile or not."""
    log = BatchedEventLog(str(tmp_path))
    runs = [f"run-{number}" for number in range(MOST_OPEN + 3)]
    for run_id in [*runs, *runs]:
        log.store_event(EventLogEntry(error_info=None, level=20, user_message=run_id, run_id=run_id, timestamp=0.0))
    assert len(log._engines) == MOST_OPEN
    held = {path.name.removesuffix(".db-wal") for path in tmp_path.glob("*.db-wal")}
    assert held == set(runs[-MOST_OPEN:])
    assert [len(log.get_logs_for_run(run_id)) for run_id in runs] == [2] * len(runs)
    log.dispose()
    assert list(tmp_path.glob("*.db-wal")) == []
    log.wipe()
    assert {path.name for path in tmp_path.glob("*.db")} == {"index.db"}
    assert log.get_logs_for_run(runs[0]) == []
    log.dispose()
