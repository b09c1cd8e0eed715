"""Failed runs are read out of Dagster's own database, as this release of it writes them."""

import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from trade_analyst_pipeline.defs.run_records import open_failures
from trade_analyst_pipeline.errors import StorageError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*currently in beta:Warning"),
    pytest.mark.filterwarnings("ignore:Property `OpDefinition.version`:DeprecationWarning"),  # Dagster's own use
]
FIRST, SECOND, THIRD = (date(2026, 10, day) for day in (28, 29, 30))
RANGE = "dagster/asset_partition_range"


class Refused(Exception):  # noqa: N818  a name for the log
    """What the failing assets raise."""


@dg.asset(config_schema={"is_bad": bool})
def one(context: dg.AssetExecutionContext) -> None:
    """An asset that fails as told."""
    if context.op_execution_context.op_config["is_bad"]:
        raise Refused


@dg.asset
def two() -> None:
    """An asset that never fails."""


@pytest.fixture
def instance(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance as dagster.yaml describes it, stored in a folder of the test."""
    monkeypatch.setenv("DAGSTER_INSTANCE_DIR", str(tmp_path / "instance"))
    with dg.DagsterInstance.from_config(str(repository)) as made:
        yield made


@pytest.fixture
def run(instance: dg.DagsterInstance) -> Callable[..., str]:
    """Runs the two assets, or those picked, over a range of sessions, and returns the run's id."""
    definitions = dg.Definitions([one, two], jobs=[dg.define_asset_job("both", [one, two])])

    def execute(first: date, last: date, *, is_bad: bool = False, assets: list[str] | None = None) -> str:
        result = definitions.resolve_job_def("both").execute_in_process(
            instance=instance,
            tags={f"{RANGE}_start": str(first), f"{RANGE}_end": str(last)},
            run_config={"ops": {"one": {"config": {"is_bad": is_bad}}}},
            asset_selection=None if assets is None else [dg.AssetKey(name) for name in assets],
            raise_on_error=False,
        )
        return result.run_id

    return execute


def failures(tmp_path: Path, *, now: datetime | None = None) -> list[str]:
    """Ids of the runs that are open."""
    found = open_failures(tmp_path / "instance", now=now or datetime.now(UTC))
    return [failure.run_id for failure in found]


def test_failed_run_is_told_with_job_sessions_and_end(run: Callable[..., str], tmp_path: Path) -> None:
    """The run as Dagster numbered it, its range, and an end of just now; a success is none."""
    before = datetime.now(UTC)
    run(FIRST, FIRST)
    failed = run(FIRST, SECOND, is_bad=True)
    (found,) = open_failures(tmp_path / "instance", now=datetime.now(UTC))
    assert (found.run_id, found.job, found.first_session, found.last_session) == (failed, "both", FIRST, SECOND)
    assert before <= found.ended_time <= datetime.now(UTC)


def test_later_success_over_the_same_sessions_makes_good(run: Callable[..., str], tmp_path: Path) -> None:
    """One that leaves a session out does not; one that covers more does; an earlier one never does."""
    run(FIRST, THIRD)
    failed = run(FIRST, SECOND, is_bad=True)
    run(SECOND, THIRD)
    run(FIRST, FIRST)
    assert failures(tmp_path) == [failed]
    run(FIRST, THIRD)
    assert failures(tmp_path) == []


def test_success_of_other_assets_does_not_make_good(run: Callable[..., str], tmp_path: Path) -> None:
    """A run of part of the assets makes good only runs of no more than that part."""
    failed = run(FIRST, FIRST, is_bad=True)
    run(FIRST, FIRST, assets=["one"])
    assert failures(tmp_path) == [failed]
    run(FIRST, FIRST)
    assert failures(tmp_path) == []
    run(FIRST, FIRST, is_bad=True, assets=["one"])
    run(FIRST, FIRST, assets=["one", "two"])
    assert failures(tmp_path) == []


def test_failures_of_a_week_ago_are_closed(run: Callable[..., str], tmp_path: Path) -> None:
    """Seven days on nobody is told any more."""
    failed = run(FIRST, FIRST, is_bad=True)
    assert failures(tmp_path, now=datetime.now(UTC) + timedelta(days=6)) == [failed]
    assert failures(tmp_path, now=datetime.now(UTC) + timedelta(days=8)) == []


def test_job_without_sessions_is_told_without(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    """A job that is about no session has none, and its own success makes it good."""

    @dg.op
    def fail() -> None:
        raise Refused

    @dg.job
    def nightly() -> None:
        fail()

    nightly.execute_in_process(instance=instance, raise_on_error=False)
    (found,) = open_failures(tmp_path / "instance", now=datetime.now(UTC))
    assert (found.job, found.first_session, found.last_session) == ("nightly", None, None)


def test_no_database_gives_nothing_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    """Before the first run nothing is on record, and looking makes no file; what is no database says so."""
    assert open_failures(tmp_path / "instance", now=datetime.now(UTC)) == []
    assert not (tmp_path / "instance").exists()
    file = tmp_path / "instance" / "history" / "runs.db"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no database" * 100)
    with pytest.raises(StorageError, match="cannot be read"):
        open_failures(tmp_path / "instance", now=datetime.now(UTC))
    file.unlink()
    sqlite3.connect(file).close()
    with pytest.raises(StorageError, match="no such table"):
        open_failures(tmp_path / "instance", now=datetime.now(UTC))
