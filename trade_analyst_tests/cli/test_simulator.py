"""`trade-analyst simulator` listens, says where, and ends when interrupted."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-c", "from trade_analyst_pipeline.cli.main import main; main()", "simulator"]


@pytest.mark.usefixtures("project")
def test_simulator_serves_until_interrupted(tmp_path: Path) -> None:
    """It says its address, seed and CA file in one line, writes that file, and Ctrl-C ends it."""
    command = [*COMMAND, "--port", "0", "--seed", "7", "--ca-file", "ca.pem"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        line = running.stdout.readline()
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 0
    assert line.startswith("simulator ready at https://127.0.0.1:")
    assert line.endswith("(seed 7, trust ca.pem)\n")
    assert (tmp_path / "ca.pem").read_text().startswith("-----BEGIN CERTIFICATE-----")


@pytest.mark.usefixtures("project")
def test_taken_port_is_explained(run_command: Callable[..., Any]) -> None:
    """When another program listens on the port, the message names it and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = run_command("simulator", "--port", str(port), "--ca-file", "ca.pem")
    assert outcome.code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in outcome.err
    assert "--port" in outcome.err


@pytest.mark.usefixtures("project")
def test_the_desks_options_reach_the_desk(run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every option of the OAuth side is handed to the server under its name."""
    given: dict[str, Any] = {}
    monkeypatch.setattr("trade_analyst_pipeline.simulator.server.serve", lambda **options: given.update(options))
    arguments = (
        "--rotation rotate --single-use-refresh --dead-token digest --access-seconds 5 --refresh-seconds 60 "
        "--code-seconds 2 --answer-seconds 0.5 --clock-skew-seconds -10 --ask-consent"
    )
    assert run_command("simulator", *arguments.split()).code == 0
    for name in ("port", "seed", "ca_file", "redirect_uris", "announce", "names", "instant", "scenario"):
        given.pop(name)
    assert given == {
        "rotation": "rotate",
        "single_use_refresh": True,
        "dead_token": "digest",
        "access_seconds": 5,
        "refresh_seconds": 60.0,
        "code_seconds": 2.0,
        "answer_seconds": 0.5,
        "clock_skew_seconds": -10.0,
        "is_consent_automatic": False,
    }


@pytest.mark.usefixtures("project")
def test_names_and_instant_reach_the_server(run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """`--name` may be repeated; `--at` is an instant in UTC; without them the clock and no further name."""
    given: dict[str, Any] = {}
    monkeypatch.setattr("trade_analyst_pipeline.simulator.server.serve", lambda **options: given.update(options))
    names = ["--name", "api.schwabapi.com", "--name", "streamer-api.schwab.com"]
    assert run_command("simulator", *names, "--at", "2026-01-05T15:55:00-05:00").code == 0
    assert given["names"] == ("api.schwabapi.com", "streamer-api.schwab.com")
    assert given["instant"] == datetime(2026, 1, 5, 20, 55, tzinfo=UTC)
    assert run_command("simulator").code == 0
    assert (given["names"], given["instant"]) == ((), None)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--name", "https://api.schwabapi.com"], "--name: 'https://api.schwabapi.com' is no host name"),
        (["--at", "yesterday"], "--at yesterday: "),
        (["--at", "2026-01-05T20:55:00"], "has no time zone"),
    ],
)
def test_bad_names_and_instants_are_refused(run_command: Callable[..., Any], arguments: list[str], told: str) -> None:
    """The message repeats what was given and how to write it."""
    outcome = run_command("simulator", *arguments)
    assert outcome.code == 1
    assert told in outcome.err


@pytest.mark.usefixtures("project")
def test_a_scenario_is_played_and_its_quota_summed_up(tmp_path: Path) -> None:
    """A file with a quota: at the end the command says how many requests came and were refused."""
    (tmp_path / "scenario.toml").write_text("[quota]\nper_minute = 5", encoding="utf-8")
    command = [*COMMAND, "--port", "0", "--ca-file", "ca.pem", "--scenario", "scenario.toml"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith("simulator ready at ")
        running.send_signal(signal.SIGINT)
        told = running.stdout.read()
        running.wait(20)
    assert told == "quota: 0 requests, 0 refused, at most 0 in 60 seconds\n"


@pytest.mark.usefixtures("project")
def test_a_bad_scenario_is_refused_before_anything_starts(run_command: Callable[..., Any], tmp_path: Path) -> None:
    """The message names file and culprit; nothing listened and no authority was written."""
    (tmp_path / "scenario.toml").write_text("[quota]\nper_hour = 5", encoding="utf-8")
    outcome = run_command("simulator", "--port", "0", "--ca-file", "ca.pem", "--scenario", "scenario.toml")
    assert outcome.code == 1
    assert "scenario.toml cannot be used" in outcome.err
    assert "per_hour" in outcome.err
    assert not (tmp_path / "ca.pem").exists()
