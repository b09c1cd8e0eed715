"""The stream collector put together from Settings: its source, its clock, and the lock that there is one of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

from trade_analyst_pipeline.capture.collect import Collector
from trade_analyst_pipeline.defs.resources import access_tokens, certificate_authority, request_budget, source_address
from trade_analyst_pipeline.errors import SettingsError
from trade_analyst_pipeline.market.clock import Clock, MachineClock, RunningClock
from trade_analyst_pipeline.schwab.budget import Priority
from trade_analyst_pipeline.schwab.client import SchwabClient, open_http
from trade_analyst_pipeline.schwab.stream_source import TRADER_API, SchwabStreamSource, StreamSource
from trade_analyst_pipeline.settings import Settings


def stream_collector(settings: Settings, *, stop: asyncio.Event, at: datetime | None = None) -> Collector:
    """The collector of this environment; on the simulator time may begin at another instant and run from there.

    Raises SettingsError for an instant with a live source, and where no symbol of the watch list streams.
    """
    if at is not None and settings.environment != "simulate":
        message = "a live source streams the present: --at is for the simulator alone"
        raise SettingsError(message)
    clock: Clock = MachineClock() if at is None else RunningClock(at)
    return Collector(
        settings.data_folder,
        settings.universe.all_symbols,
        settings.stream,
        source_at=partial(_source_at, settings, clock),
        clock=clock,
        rng=random.Random(),  # noqa: S311 - jitter of waits, not a secret
        stop=stop,
    )


@asynccontextmanager
async def _source_at(settings: Settings, clock: Clock, instant: datetime) -> AsyncIterator[StreamSource]:
    """The source from an instant on; a live one stands at the present whatever is said."""
    address, ca_file = source_address(settings), certificate_authority(settings)
    if settings.environment == "simulate":
        address += f"/at/{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    tokens = access_tokens(settings)
    async with open_http(ca_file=ca_file, in_flight=1) as http:
        client = SchwabClient(
            base_url=address,
            http=http,
            tokens=tokens,
            budget=request_budget(settings),
            clock=clock,
            rng=random.Random(),  # noqa: S311 - jitter of waits, not a secret
            deadline_seconds=settings.schwab.deadline_seconds,
            priority=Priority.CLOSING,
            api=TRADER_API,
        )
        yield SchwabStreamSource(client, tokens, ca_file=ca_file)
