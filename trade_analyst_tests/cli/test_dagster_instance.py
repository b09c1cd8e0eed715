"""Each environment has a Dagster instance of its own, made once, and it keeps no secret."""

import logging
import os
from pathlib import Path

import dagster as dg
import pytest

from trade_analyst_pipeline.cli.dagster_instance import choose_instance
from trade_analyst_pipeline.errors import SettingsError
from trade_analyst_pipeline.ops.logs import protect_records
from trade_analyst_pipeline.settings import Settings

CANARY = "Bearer cAnArYtOkEn0123456789"


@pytest.fixture(autouse=True)
def _restored_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a test choose instances and forgets them afterwards."""
    for name in ("DAGSTER_HOME", "DAGSTER_INSTANCE_DIR", "DAGSTER_EVENT_BATCH_SIZE"):
        monkeypatch.setenv(name, "elsewhere")


def make_settings(**changes: str) -> Settings:
    """Settings of one symbol with data under the current folder."""
    return Settings(universe={"symbols": ["SPY"]}, **changes)


@pytest.mark.parametrize("environment", ["simulate", "live"])
def test_each_environment_has_its_own_instance(project: Path, environment: str) -> None:
    """Choosing the instance sets its variables, to a folder under the environment's own data; events go in batches."""
    folder = project / "data" / environment / ".dagster"
    assert choose_instance(make_settings(environment=environment)) == folder
    assert os.environ["DAGSTER_HOME"] == str(project)
    assert os.environ["DAGSTER_INSTANCE_DIR"] == str(folder)
    assert os.environ["DAGSTER_EVENT_BATCH_SIZE"] == "500"
    assert (folder / "history" / "runs.db").is_file()
    assert [path.name for path in (project / "data").iterdir()] == [environment]


def test_databases_are_migrated_once_per_release(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The databases are opened by the first call alone, and again after Dagster was exchanged, without a word."""
    folder = choose_instance(make_settings())
    database, stamp = folder / "history" / "runs.db", folder / "dagster-release"
    database.unlink()
    choose_instance(make_settings())
    assert not database.exists()
    stamp.write_text("1.0.0")
    choose_instance(make_settings())
    assert database.is_file()
    assert project.is_dir()
    assert capsys.readouterr().out == ""


def test_instance_needs_the_project_folder() -> None:
    """In a folder without dagster.yaml the instance is refused rather than made from defaults."""
    with pytest.raises(SettingsError, match=r"no dagster\.yaml\. Start the command in the project folder"):
        choose_instance(make_settings())


@dg.op
def careless() -> None:
    """Logs a token as it should never be."""
    logging.getLogger("trade_analyst_pipeline.careless").warning("asked with %s", CANARY)


@dg.job
def careless_job() -> None:
    """One careless step."""
    careless()


@pytest.mark.reliability
def test_no_secret_reaches_the_event_log(project: Path) -> None:
    """A token logged inside a run is kept masked by Dagster, and is in none of the instance's files."""
    factory = logging.getLogRecordFactory()
    folder = choose_instance(make_settings())
    protect_records()
    try:
        with dg.DagsterInstance.get() as instance:
            result = careless_job.execute_in_process(instance=instance)
            messages = [entry.user_message for entry in instance.all_logs(result.run_id)]
    finally:
        logging.setLogRecordFactory(factory)
    assert any("asked with Bearer [secret]" in message for message in messages)
    files = [path for path in project.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path for path in files if b"cAnArYtOkEn" in path.read_bytes()] == []
    assert folder.is_dir()
