"""The source a command needs: a simulator of its own with a login, or the live one with the login there is."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from trade_analyst_pipeline.errors import TradeAnalystError

if TYPE_CHECKING:
    from trade_analyst_pipeline.settings import Settings

START_SECONDS, STOP_SECONDS = 60, 10
RUN_FOLDERS = "runs"


@contextmanager
def running_source(settings: Settings) -> Iterator[Settings]:
    """Yield settings under which the source answers.

    On the simulator: one is started on a free port in a process of its own and logged in to through the whole OAuth
    flow; it ends with the block and with this process, and shares neither port, certificate nor login with any other.
    Live: nothing is started; a missing login shows at the first request.
    """
    if settings.environment != "simulate":
        yield settings
        return
    from trade_analyst_pipeline.cli.exclusive import folder_of_its_own
    from trade_analyst_pipeline.cli.login import login_to_simulator

    with folder_of_its_own(settings.cache_root / RUN_FOLDERS) as folder:
        here = _of_its_own(settings, folder)
        with _simulator(here):
            login_to_simulator(here)
            yield here


def _of_its_own(settings: Settings, cache_root: Path | None = None) -> Settings:
    """Settings with free ports, and with logins and certificates below `cache_root`."""
    redirect_uri = f"https://127.0.0.1:{_free_port()}/callback"
    schwab = settings.schwab.model_copy(update={"redirect_uri": redirect_uri, "redirect_allowlist": (redirect_uri,)})
    simulator = settings.simulator.model_copy(update={"port": _free_port()})
    folder = cache_root or settings.cache_root / RUN_FOLDERS / "own"
    return settings.model_copy(update={"schwab": schwab, "simulator": simulator, "cache_root": folder})


@contextmanager
def _simulator(settings: Settings) -> Iterator[None]:
    from trade_analyst_pipeline.defs.resources import certificate_authority

    ca_file = certificate_authority(settings)
    context = multiprocessing.get_context("spawn")
    listening, announced = context.Pipe(duplex=False)
    parent_lives, parent = context.Pipe(duplex=False)
    redirects = settings.schwab.redirect_allowlist
    process = context.Process(
        target=_serve,
        args=(settings.simulator.port, settings.simulator.seed, ca_file, redirects, announced, parent_lives),
        daemon=True,
    )
    process.start()
    announced.close()
    parent_lives.close()
    try:
        if not listening.poll(START_SECONDS):
            message = "the simulator did not start; run `trade-analyst simulator` to see why"
            raise TradeAnalystError(message)
        typer.echo(listening.recv(), err=True)
        yield
    except EOFError:
        message = "the simulator ended at its start; run `trade-analyst simulator` to see why"
        raise TradeAnalystError(message) from None
    finally:
        process.terminate()
        process.join(STOP_SECONDS)
        parent.close()


def _serve(
    port: int,
    seed: int,
    ca_file: Path,
    redirect_uris: tuple[str, ...],
    announced: Connection,
    parent_lives: Connection,
) -> None:
    from trade_analyst_pipeline.simulator.server import serve

    os.setpgid(0, 0)  # Ctrl-C is for the command, which ends this process in its turn
    threading.Thread(target=_end_with_parent, args=(parent_lives,), name="parent", daemon=True).start()
    ca_file.parent.mkdir(parents=True, exist_ok=True)
    serve(port=port, seed=seed, ca_file=ca_file, redirect_uris=redirect_uris, announce=announced.send)


def _end_with_parent(parent_lives: Connection) -> None:
    """Tell this process to end once nobody holds the other end of the pipe: the command is gone, however it went."""
    try:
        parent_lives.recv()
    except EOFError:
        os.kill(os.getpid(), signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
