"""Nothing secret is written to Dagster's databases, in an event, a run or a tick, and they stay what they are."""

import json
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.scheduler.instigation import TickData, TickStatus
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._daemon.types import DaemonHeartbeat
from dagster._utils.error import SerializableErrorInfo

from trade_analyst_pipeline.defs.masked_storage import masked
from trade_analyst_pipeline.ops.redaction import register_secret

SECRET = 'sEcReT/of-the"test+42'  # pragma: allowlist secret
KEY = dg.AssetKey("leaky")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the instance is stored."""
    return tmp_path / "instance"


@pytest.fixture
def instance(repository: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance as dagster.yaml describes it."""
    monkeypatch.setenv("DAGSTER_INSTANCE_DIR", str(folder))
    with dg.DagsterInstance.from_config(str(repository)) as made:
        yield made


@dg.asset(key=KEY)
def leaky(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Says a secret in a log line and in metadata of several kinds."""
    context.log.info(f"it is {SECRET}")
    return dg.MaterializeResult(
        metadata={
            "text": SECRET,
            "nested": {"deep": [SECRET]},
            "page": dg.MetadataValue.md(f"- {SECRET}"),
            "days_left": 1.5,
        }
    )


@dg.asset
def crashing() -> None:
    """Raises a secret, from an error that holds it too."""
    try:
        int(SECRET)
    except ValueError as error:
        message = f"cannot use {SECRET}"
        raise RuntimeError(message) from error


def stored_text(folder: Path) -> str:
    """Every text in every table of a database, or of every one below a folder; packed ones are unpacked."""
    texts = []
    for file in [folder] if folder.is_file() else folder.rglob("*.db"):
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
            tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                rows = connection.execute(f'SELECT * FROM "{table}"')  # noqa: S608  our tables
                texts += [str(zlib.decompress(v) if isinstance(v, bytes) else v) for row in rows for v in row]
    assert texts
    return "\n".join(texts)


@dg.op(tags={"note": SECRET})
def tagged() -> None:
    """Has a secret in its own tags."""


@dg.job(tags={"owner": SECRET})
def tagged_job() -> None:
    """Has a secret in its tags, as each of its runs then has."""
    tagged()


def leave_records(instance: dg.DagsterInstance) -> str:
    """Put the secret wherever a daemon or a run may put text beside events; returns the id of the run."""
    error = SerializableErrorInfo(f"RuntimeError: {SECRET}", [f"  frame {SECRET}"], "RuntimeError")
    kind = InstigatorType.SENSOR
    instance.create_tick(TickData("one", "failing", kind, TickStatus.FAILURE, 1.0, error=error))
    tick = instance.create_tick(TickData("two", "skipping", kind, TickStatus.STARTED, 2.0))
    instance.update_tick(tick.with_status(TickStatus.SKIPPED, skip_reason=f"because {SECRET}"))
    instance.add_daemon_heartbeat(DaemonHeartbeat(3.0, "SENSOR", "some daemon", [error]))
    backfill = PartitionBackfill(
        "wide",
        BulkActionStatus.REQUESTED,
        from_failure=False,
        tags={},
        backfill_timestamp=4.0,
        description=f"of {SECRET}",
    )
    instance.add_backfill(backfill)
    instance.update_backfill(backfill.with_error(error))
    run = tagged_job.execute_in_process(instance=instance).dagster_run
    instance.add_run_tags(run.run_id, {"later": SECRET, "plain": "as it is"})
    return run.run_id


def test_no_secret_is_stored_and_everything_else_is(instance: dg.DagsterInstance, folder: Path) -> None:
    """Log line, metadata, error, cause and stack are masked; a metadata number stays a number."""
    register_secret(SECRET)
    result = dg.materialize([leaky, crashing], instance=instance, raise_on_error=False)
    assert not result.success
    stored = stored_text(folder)
    assert "of-the" not in stored
    messages = [record.message for record in instance.all_logs(result.run_id)]
    assert any("it is [secret]" in message for message in messages)
    event = instance.get_latest_materialization_event(KEY)
    assert event is not None
    assert event.asset_materialization is not None
    metadata = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    assert metadata["text"] == "[secret]"
    assert metadata["nested"] == {"deep": ["[secret]"]}
    assert metadata["page"] == "- [secret]"
    assert metadata["days_left"] == 1.5
    (failure,) = [
        record
        for record in instance.all_logs(result.run_id)
        if record.step_key == "crashing" and record.dagster_event.is_step_failure
    ]  # type: ignore[union-attr]
    error = failure.dagster_event.step_failure_data.error  # type: ignore[union-attr]
    assert error is not None
    assert error.cause is not None
    assert error.cause.message.strip() == "RuntimeError: cannot use [secret]"
    assert error.cause.cause is not None
    assert "[secret]" in error.cause.cause.message


def test_no_secret_is_stored_of_runs_and_ticks(instance: dg.DagsterInstance, folder: Path) -> None:
    """Ticks, tags, snapshots of code, backfills and heartbeats are masked; what else they say can be read back."""
    register_secret(SECRET)
    run_id = leave_records(instance)
    assert "of-the" not in stored_text(folder)
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert (run.tags["owner"], run.tags["later"], run.tags["plain"]) == ("[secret]", "[secret]", "as it is")
    assert [found.run_id for found in instance.get_runs(dg.RunsFilter(tags={"plain": "as it is"}))] == [run_id]
    snapshot = instance.get_job_snapshot(run.job_snapshot_id)
    assert snapshot.tags["owner"] == "[secret]"
    (failing,), (skipping,) = instance.get_ticks("one", "one"), instance.get_ticks("two", "two")
    assert failing.error is not None
    assert failing.error.message == "RuntimeError: [secret]"
    assert (skipping.status, skipping.skip_reason) == (TickStatus.SKIPPED, "because [secret]")
    (backfill,) = instance.get_backfills()
    assert (backfill.description, backfill.error.message) == ("of [secret]", "RuntimeError: [secret]")
    (heartbeat,) = instance.get_daemon_heartbeats().values()
    assert heartbeat.errors[0].stack == ["  frame [secret]"]


def test_control_dagsters_own_storage_stores_it(tmp_path: Path) -> None:
    """Without the mask the same records leave the secret in each database: the scan can see it."""
    folder = tmp_path / "plain"
    overrides = {
        "storage": {
            "custom": {
                "module": DagsterSqliteStorage.__module__,
                "class": "DagsterSqliteStorage",
                "config": {"base_dir": str(folder)},
            }
        }
    }
    (tmp_path / "dagster.yaml").write_text(json.dumps(overrides))
    register_secret(SECRET)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        dg.materialize([leaky, crashing], instance=instance, raise_on_error=False)
        leave_records(instance)
    for database in ("history/runs.db", "history/runs/index.db", "schedules/schedules.db"):
        assert "of-the" in stored_text(folder / database), database


def test_event_without_a_secret_is_the_same_object(instance: dg.DagsterInstance) -> None:
    """The common case costs a look and no copy."""
    result = dg.materialize([leaky], instance=instance)
    for record in instance.all_logs(result.run_id):
        assert masked(record) is record


def test_instance_is_the_masked_one(instance: dg.DagsterInstance, folder: Path) -> None:
    """dagster.yaml names the masked storage, and it keeps runs, events and schedules where Dagster's own does."""
    assert type(instance.event_log_storage).__name__ == "_MaskedEventLog"
    assert type(instance.run_storage).__name__ == "_MaskedRuns"
    assert type(instance.schedule_storage).__name__ == "_MaskedSchedules"
    assert (folder / "history" / "runs" / "index.db").is_file()
    assert (folder / "history" / "runs.db").is_file()
    assert (folder / "schedules" / "schedules.db").is_file()
