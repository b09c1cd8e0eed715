"""`trade-analyst healthcheck` shows the report and ends with its verdict."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.usefixtures("project")
def test_checkout_as_it_is_cloned_is_well(run_command: Callable[..., Any]) -> None:
    """With the settings and instance of a fresh clone, every check is shown and the exit code is 0."""
    outcome = run_command("healthcheck")
    assert outcome.code == 0
    for name in ("settings", "calendar", "data folder", "redirect address", "dagster"):
        assert name in outcome.out


@pytest.mark.usefixtures("project")
def test_json_is_one_object(run_command: Callable[..., Any]) -> None:
    """`--json` prints the report as one object and nothing else."""
    assert json.loads(run_command("healthcheck", "--json").out)["is_well"] is True


def test_failing_check_is_exit_code_1_with_advice(run_command: Callable[..., Any], project: Path) -> None:
    """A missing instance description fails the command and the advice is shown."""
    (project / "dagster.yaml").unlink()
    outcome = run_command("healthcheck")
    assert outcome.code == 1
    assert "Start the command in the project folder." in outcome.out


def test_broken_settings_are_reported_not_raised(run_command: Callable[..., Any], project: Path) -> None:
    """An unknown key in config.toml fails the settings check, named in the JSON report."""
    (project / "config.toml").write_text("nonsense = 1\n" + (project / "config.toml").read_text())
    outcome = run_command("healthcheck", "--json")
    assert outcome.code == 1
    assert "nonsense" in json.loads(outcome.out)["checks"][0]["detail"]
