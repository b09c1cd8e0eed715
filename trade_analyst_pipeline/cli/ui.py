"""`trade-analyst ui`: Dagster's web page and daemon, and the simulator where that is the source."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from trade_analyst_pipeline.cli.interrupts import interruptible
from trade_analyst_pipeline.errors import SettingsError

if TYPE_CHECKING:
    from trade_analyst_pipeline.settings import Settings

STOP_SECONDS = 30
_ADVISES_ANOTHER_COMMAND = "ignore:Function `dev_command` is superseded"


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the web page on 127.0.0.1.")] = 3000,
) -> None:
    """Serve Dagster's web page and run its schedules and sensors on 127.0.0.1, until Ctrl-C."""
    from trade_analyst_pipeline.cli.dagster_instance import choose_instance
    from trade_analyst_pipeline.settings import load_settings

    settings = load_settings()
    _refuse_taken_port(port)
    choose_instance(settings)
    with _source(settings):
        typer.echo(f"Dagster will be at http://127.0.0.1:{port} in a few seconds. Ctrl-C stops it.")
        dagster = [sys.executable, "-W", _ADVISES_ANOTHER_COMMAND, "-m", "dagster"]
        sys.exit(run_until_stopped([*dagster, "dev", "--host", "127.0.0.1", "--port", str(port)]))


def _refuse_taken_port(port: int) -> None:
    """Raise SettingsError where the page could not be served on its port: Dagster tells that only after its start."""
    with socket.socket() as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            place.bind(("127.0.0.1", port))
        except OSError as error:
            message = (
                f"the page cannot be served on 127.0.0.1:{port}: {error.strerror}. If `make ui` runs already, open "
                f"http://127.0.0.1:{port}; else choose another port: `trade-analyst ui --port {_other(port)}`, or "
                f'`make ui ARGS="--port {_other(port)}"`.'
            )
            raise SettingsError(message) from error


def _other(port: int) -> int:
    """A port to suggest instead."""
    return port + 1 if 1024 <= port < 65535 else 3001


@contextmanager
def _source(settings: Settings) -> Iterator[None]:
    """The simulator on its settled port for as long as it is needed; nothing for a live source."""
    if settings.environment != "simulate":
        yield
        return
    from trade_analyst_pipeline.cli.login import login_to_simulator
    from trade_analyst_pipeline.cli.simulator import free_port_needed
    from trade_analyst_pipeline.simulator.server import SimulatorServer

    port = settings.simulator.port
    server = SimulatorServer(
        seed=settings.simulator.seed,
        port=port,
        ca_file=settings.cache_folder / "simulator-ca.pem",
        redirect_uris=settings.schwab.redirect_allowlist,
    )
    with free_port_needed(port, advice="simulator.port in config.toml"):
        server.start()
    try:
        login_to_simulator(settings)
        yield
    finally:
        server.stop()


def run_until_stopped(program: list[str]) -> int:
    """Run a program until it ends, or this process is interrupted or told to end; returns its exit code.

    The program has a session of its own, so that it is told to end once, and given `STOP_SECONDS` for it.
    """
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    process = subprocess.Popen(program, start_new_session=True)  # noqa: S603  our own arguments, no shell
    try:
        with interruptible():
            return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            typer.echo(f"Dagster did not end within {STOP_SECONDS} s and was killed.", err=True)
            return 1
        return 0
    finally:
        signal.signal(signal.SIGTERM, previous)
        process.kill()
