"""`trade-analyst healthcheck` shows the report and ends with its verdict."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trade_analyst_pipeline.cli import source
from trade_analyst_pipeline.cli.healthcheck import _wiring
from trade_analyst_pipeline.settings import load_settings


@pytest.fixture(autouse=True)
def _own_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """No simulator of this machine is asked: the port is one where nothing listens."""
    monkeypatch.setenv("TRADE_ANALYST_SIMULATOR__PORT", str(source._free_port()))


@pytest.mark.usefixtures("project")
def test_checkout_as_it_is_cloned_is_well(run_command: Callable[..., Any]) -> None:
    """With the settings and instance of a fresh clone, every check is shown and the exit code is 0."""
    outcome = run_command("healthcheck")
    assert outcome.code == 0
    for name in ("settings", "calendar", "data folder", "redirect address", "versions", "freshness", "dagster"):
        assert name in outcome.out


@pytest.mark.usefixtures("project")
def test_json_is_one_object(run_command: Callable[..., Any]) -> None:
    """`--json` prints the report as one object and nothing else; nothing failed, and nothing was made."""
    report = json.loads(run_command("healthcheck", "--json").out)
    assert report["is_well"] is True
    assert report["environment"] == "simulate"
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["config.toml", "dagster.yaml"]


def test_failing_check_is_exit_code_1_with_its_remedy(run_command: Callable[..., Any], project: Path) -> None:
    """A missing instance description fails the command and the remedy is shown."""
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


@pytest.mark.usefixtures("project")
def test_wiring_is_that_of_the_environment() -> None:
    """The simulator is asked on its port with its certificate, the live source at its address with the system's."""
    settings = load_settings()
    wiring = _wiring(settings)
    assert wiring.source_address == f"https://127.0.0.1:{settings.simulator.port}"
    assert wiring.ca_file == Path(".cache/simulate/simulator-ca.pem")
    assert list(wiring.failed_runs()) == []
    live = _wiring(load_settings(environment="live"))
    assert (live.source_address, live.ca_file) == ("https://api.schwabapi.com", None)
