"""The frame around the code: instance, workspace, locks, commands and workflow are what the documentation says."""

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import DagsterInstance

WORKFLOW = Path(".github/workflows/ci.yml")
PINNED_ACTION = re.compile(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*$")


@pytest.fixture
def workflow(repository: Path) -> dict[str, Any]:
    """The CI workflow, parsed."""
    parsed = yaml.safe_load((repository / WORKFLOW).read_text())
    assert isinstance(parsed, dict)
    return parsed


@pytest.fixture
def instance(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    """Dagster's instance as dagster.yaml describes it, stored in a folder of the test."""
    monkeypatch.setenv("DAGSTER_INSTANCE_DIR", str(tmp_path / "instance"))
    with DagsterInstance.from_config(str(repository)) as made:
        yield made


def test_instance_is_stored_where_the_variable_says(instance: DagsterInstance, tmp_path: Path) -> None:
    """Runs, events, schedules, artifacts and compute logs all lie in the folder of the environment."""
    folder = tmp_path / "instance"
    assert instance.root_directory == str(folder)
    assert Path(instance.storage_directory()).is_relative_to(folder)
    assert instance.compute_log_manager._base_dir == str(folder)  # type: ignore[attr-defined]
    assert (folder / "history" / "runs.db").is_file()
    assert (folder / "schedules" / "schedules.db").is_file()


def test_instance_is_bounded_and_private(instance: DagsterInstance) -> None:
    """Telemetry and pop-ups are off, runs are monitored and end, ticks are deleted, queued runs start at once."""
    assert not instance.telemetry_enabled
    assert not instance.nux_enabled
    assert instance.run_monitoring_enabled
    assert instance.run_monitoring_max_runtime_seconds == 7200
    assert not instance.run_retries_enabled
    assert instance.run_coordinator.dequeue_interval_seconds == 1  # type: ignore[attr-defined]
    retention = instance.get_settings("retention")
    assert retention["schedule"]["purge_after_days"] == 30
    assert set(retention["sensor"]["purge_after_days"]) == {"skipped", "started", "success", "failure"}


def test_workspace_and_project_name_the_same_location(repository: Path) -> None:
    """Schedule state and history hang on module and location name, so both files say the same."""
    target = yaml.safe_load((repository / "workspace.yaml").read_text())["load_from"][0]["python_module"]
    project = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["dagster"]
    assert target == {"module_name": "trade_analyst_pipeline.definitions", "location_name": "trade_analyst"}
    assert (project["module_name"], project["code_location_name"]) == tuple(target.values())


def test_version_is_stated_once(repository: Path) -> None:
    """The installed version is that of pyproject.toml, and no module or other setting repeats it."""
    stated = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["version"]
    assert version("trade-analyst") == stated
    repeated = [
        path for path in (repository / "trade_analyst_pipeline").rglob("*.py") if f'"{stated}"' in path.read_text()
    ]
    assert repeated == []


@pytest.mark.parametrize("layer", ["base", "dev", "tools"])
def test_locks_are_hashed_and_name_no_registry(repository: Path, layer: str) -> None:
    """Each locked package has an exact version and a hash, and no line holds an address."""
    lock = (repository / "requirements" / f"{layer}.txt").read_text()
    assert "://" not in lock
    entries = re.split(r"\n(?=[A-Za-z0-9])", lock[lock.index("\n", lock.index("uv pip compile")) :].strip())
    assert entries
    for entry in entries:
        assert re.match(r"[\w.-]+(\[[\w,.-]+\])?==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize(("layer", "inputs"), [("base", ["base"]), ("dev", ["base", "dev"]), ("tools", ["tools"])])
def test_locks_hold_what_is_asked_for(repository: Path, layer: str, inputs: list[str]) -> None:
    """Each package named in the inputs of a layer is in its lock."""
    folder = repository / "requirements"
    locked = set(re.findall(r"^([A-Za-z0-9_.-]+)", (folder / f"{layer}.txt").read_text(), flags=re.MULTILINE))
    asked = {
        re.split(r"[\[<>=~!; ]", line)[0]
        for name in inputs
        for line in (folder / f"{name}.in").read_text().splitlines()
    }
    assert asked - {""} - locked == set()


def test_ci_entry_runs_make_test_and_nothing_else(repository: Path) -> None:
    """`.ci/run` is a strict bash script whose one command is `make test`."""
    script = repository / ".ci" / "run"
    lines = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert os.access(script, os.X_OK)
    assert lines[0] == "set -euo pipefail"
    assert lines[-1].startswith("exec make test")
    assert len(lines) == 3


def test_make_help_lists_the_documented_targets(repository: Path) -> None:
    """`make help` shows every target a person is told of."""
    done = subprocess.run(["make", "help"], cwd=repository, capture_output=True, text=True, check=True)
    listed = re.findall(r"^ +make (\w+)", done.stdout, flags=re.MULTILINE)
    assert {"run", "test", "check", "reliability", "bench", "ui", "help", "lock", "clean"} <= set(listed)


def test_actions_are_pinned_by_commit(repository: Path) -> None:
    """Each action of the workflow is named by its 40-digit commit, with the version in a comment."""
    used = [line for line in (repository / WORKFLOW).read_text().splitlines() if "uses:" in line]
    assert used
    assert [line for line in used if not PINNED_ACTION.search(line)] == []


def test_workflow_has_least_privilege(workflow: dict[str, Any]) -> None:
    """No permission by default, read access per job, no stored credentials, a time limit on each job."""
    assert workflow["permissions"] == {}
    assert "pull_request_target" not in workflow[True]  # YAML 1.1 reads the key `on` as true
    for job in workflow["jobs"].values():
        assert job["permissions"] == {"contents": "read"}
        assert 0 < job["timeout-minutes"] <= 60
        assert job["steps"][0]["with"]["persist-credentials"] is False


def test_workflow_runs_what_a_developer_runs(workflow: dict[str, Any]) -> None:
    """Tests, healthcheck and a full audit run as the commands of the Makefile, and weekly with the newest releases."""
    commands = {name: [step.get("run") for step in job["steps"]] for name, job in workflow["jobs"].items()}
    assert "bash .ci/run" in commands["test"]
    assert ".venv/bin/trade-analyst healthcheck" in commands["test"]
    assert "make audit AUDIT=--require-full" in commands["audit"]
    assert "make newest test" in commands["newest"]
    assert workflow[True]["schedule"]
