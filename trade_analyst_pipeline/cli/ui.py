"""`trade-analyst ui`: Dagster's web page and daemon, and the simulator where that is the source."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from trade_analyst_pipeline.settings import Settings

STOP_SECONDS = 30


def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the web page on 127.0.0.1.")] = 3000,
) -> None:
    """Serve Dagster's web page and run its schedules and sensors on 127.0.0.1, until Ctrl-C."""
    from trade_analyst_pipeline.cli.dagster_instance import choose_instance
    from trade_analyst_pipeline.settings import load_settings

    settings = load_settings()
    choose_instance(settings)
    with _source(settings):
        typer.echo(f"Dagster will be at http://127.0.0.1:{port} in a few seconds. Ctrl-C stops it.")
        sys.exit(
            run_until_stopped([sys.executable, "-m", "dagster", "dev", "--host", "127.0.0.1", "--port", str(port)])
        )


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
    with free_port_needed(port):
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
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait(STOP_SECONDS)
        return 0
    finally:
        signal.signal(signal.SIGTERM, previous)
        process.kill()
