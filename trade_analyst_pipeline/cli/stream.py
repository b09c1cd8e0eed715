"""`trade-analyst stream`: the collector of the live stream, until it is stopped."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Annotated

import typer

from trade_analyst_pipeline.cli.shown import parse_instant
from trade_analyst_pipeline.errors import AlreadyRunningError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from trade_analyst_pipeline.settings import Settings

_TAKE_OVER_SECONDS = 60.0


def stream(
    once: Annotated[bool, typer.Option("--once", help="End with the session instead of waiting for the next.")] = False,
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="End the collector that runs already, in good order, and take its place."),
    ] = False,
    at: Annotated[
        str | None,
        typer.Option(help="On the simulator: the UTC instant at which time begins, such as 2026-01-05T15:00:00Z."),
    ] = None,
) -> None:
    """Stream the watch list in the hours of each session into sealed segments, until Ctrl-C or SIGTERM.

    Between sessions it waits. What could not be received is kept as a typed gap; `healthcheck` tells how it stands.
    """
    import asyncio

    from trade_analyst_pipeline.cli.exclusive import only_stream
    from trade_analyst_pipeline.cli.source import running_source
    from trade_analyst_pipeline.settings import load_settings

    settings = load_settings()
    instant = None if at is None else parse_instant(at, "--at")
    if take_over:
        _end_other(settings.data_folder)
    with only_stream(settings.data_folder), running_source(settings) as running:
        typer.echo(f"streaming into {settings.data_folder / 'raw' / 'stream'}; Ctrl-C ends it")
        asyncio.run(_stream(running, at=instant, once=once))


async def _stream(settings: Settings, *, at: datetime | None, once: bool) -> None:
    import asyncio

    from trade_analyst_pipeline.defs.streaming import stream_collector

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stream_collector(settings, stop=stop, at=at).run(once=once)


def _end_other(data_folder: Path) -> None:
    """End the collector that runs, if any, and wait until it has; raises AlreadyRunningError if it does not end."""
    from trade_analyst_pipeline.storage.stream_status import stream_process

    if (other := stream_process(data_folder)) is None:
        return
    os.kill(other, signal.SIGTERM)
    until = time.monotonic() + _TAKE_OVER_SECONDS
    while stream_process(data_folder) is not None:
        if time.monotonic() > until:
            message = f"the collector that runs (process {other}) has not ended within {_TAKE_OVER_SECONDS:g} s; end it"
            raise AlreadyRunningError(message)
        time.sleep(0.1)
