"""`trade-analyst ui` runs its programs until it is told to stop, and leaves none behind."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trade_analyst_pipeline.cli import ui

PROGRAM = """
import sys
import polars  # as the command has imported it by then: it changes what Ctrl-C does to a call that waits
from trade_analyst_pipeline.cli.ui import run_until_stopped
sys.exit(run_until_stopped([sys.executable, "-c", {child!r}]))
"""


def test_exit_code_of_the_program_is_passed_on() -> None:
    """A program that ends by itself ends the command with its exit code."""
    assert ui.run_until_stopped([sys.executable, "-c", "raise SystemExit(3)"]) == 3


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_stopping_the_command_stops_the_program(stop: signal.Signals) -> None:
    """Ctrl-C and an ordinary kill end the program too, and the command ends well."""
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    running = subprocess.Popen([sys.executable, "-c", PROGRAM.format(child=child)], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    program = int(running.stdout.readline())
    running.send_signal(stop)
    assert running.wait(20) == 0
    running.stdout.close()
    with pytest.raises(ProcessLookupError):
        os.kill(program, 0)


def test_a_program_that_does_not_stop_is_killed_and_told() -> None:
    """What is deaf to being told to end is killed after its time, with a word and exit code 1, not a traceback."""
    child = "import os, signal, time; signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(60)"
    program = "import trade_analyst_pipeline.cli.ui as ui; ui.STOP_SECONDS = 1\n" + PROGRAM.format(child=child)
    running = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    running.stdout.readline()
    running.send_signal(signal.SIGINT)
    told = running.communicate(timeout=20)[1]  # ends when the child too has closed what it writes to: it is gone
    assert (running.returncode, told) == (1, "Dagster did not end within 1 s and was killed.\n")


def test_simulator_answers_while_the_page_is_served(
    project: Path, run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The simulator listens on the settled port, trusted by the CA file in the cache, only while Dagster runs."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setenv("DAGSTER_INSTANCE_DIR", "")
    monkeypatch.setattr(
        "trade_analyst_pipeline.simulator.server.SimulatorServer.start", _start_on_free_port(seen := [])
    )
    logged_in: list[str] = []
    monkeypatch.setattr(
        "trade_analyst_pipeline.cli.login.login_to_simulator", lambda settings: logged_in.append(settings.environment)
    )
    statuses: list[int] = []

    def ask_simulator(program: list[str]) -> int:
        assert program[-3:] == ["127.0.0.1", "--port", port]
        context = ssl.create_default_context(cafile=str(project / ".cache/simulate/simulator-ca.pem"))
        try:
            urllib.request.urlopen(f"{seen[0].base_url}/marketdata/v1/quotes?symbols=SPY", context=context)  # noqa: S310  our own loopback address
        except urllib.error.HTTPError as refused:
            statuses.append(refused.code)
            refused.close()
        return 0

    port = str(_free_port())
    monkeypatch.setattr(ui, "run_until_stopped", ask_simulator)
    assert run_command("ui", "--port", port).code == 0
    assert logged_in == ["simulate"]
    assert statuses == [400]  # no Authorization header: the real answer of the source to that
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{seen[0].base_url}/")  # noqa: S310  likewise


def _start_on_free_port(seen: list[Any]) -> Callable[[Any], None]:
    from trade_analyst_pipeline.simulator.server import SimulatorServer

    start = SimulatorServer.start

    def start_on_free_port(server: SimulatorServer) -> None:
        server._wanted_port = 0
        seen.append(server)
        start(server)

    return start_on_free_port


@pytest.mark.usefixtures("project")
def test_live_environment_starts_no_simulator(run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a live source only Dagster is started."""
    for name, value in {"TRADE_ANALYST_ENVIRONMENT": "live", "DAGSTER_HOME": "", "DAGSTER_INSTANCE_DIR": ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("trade_analyst_pipeline.simulator.server.SimulatorServer.start", _refuse)
    monkeypatch.setattr(ui, "run_until_stopped", lambda _program: 0)
    assert run_command("ui", "--port", str(_free_port())).code == 0


def _refuse(_server: Any) -> None:
    message = "a simulator was started"
    raise AssertionError(message)


def test_page_port_that_is_taken_is_told_before_anything_starts(
    project: Path, run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the port and how to choose another; neither simulator nor Dagster is started."""
    monkeypatch.setattr("trade_analyst_pipeline.simulator.server.SimulatorServer.start", _refuse)
    monkeypatch.setattr(ui, "run_until_stopped", _refuse)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = run_command("ui", "--port", str(port))
    assert answer.code == 1
    assert f"the page cannot be served on 127.0.0.1:{port}: Address already in use" in answer.err
    assert "make ui ARGS=" in answer.err
    assert not (project / "data" / "simulate" / ".dagster").exists()


def test_simulator_port_that_is_taken_is_told_with_its_setting(
    project: Path, run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--port` is the page's: for the simulator's port the advice is its setting alone."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setenv("DAGSTER_INSTANCE_DIR", "")
    monkeypatch.setattr(ui, "run_until_stopped", _refuse)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("TRADE_ANALYST_SIMULATOR__PORT", str(port))
        answer = run_command("ui", "--port", str(_free_port()))
    assert answer.code == 1
    assert f"the simulator cannot listen on 127.0.0.1:{port}" in answer.err
    assert "Choose another port with simulator.port in config.toml." in answer.err
    assert project.exists()


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


@pytest.mark.usefixtures("project")
def test_advice_for_another_command_is_not_shown(
    run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster's warning that another command of its own should be used does not reach the terminal; others do."""
    for name, value in {"TRADE_ANALYST_ENVIRONMENT": "live", "DAGSTER_HOME": "", "DAGSTER_INSTANCE_DIR": ""}.items():
        monkeypatch.setenv(name, value)
    warn = "import warnings; warnings.warn('Function `dev_command` is superseded and'); warnings.warn('a thing')"
    told: list[str] = []

    def warn_likewise(program: list[str]) -> int:
        options = program[: program.index("-m")]
        done = subprocess.run([*options, "-c", warn], stderr=subprocess.PIPE, text=True, check=True, timeout=60)
        told.append(done.stderr)
        return 0

    monkeypatch.setattr(ui, "run_until_stopped", warn_likewise)
    assert run_command("ui", "--port", str(_free_port())).code == 0
    assert "superseded" not in told[0]
    assert "a thing" in told[0]
