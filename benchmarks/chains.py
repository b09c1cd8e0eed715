"""How many requests a large whole chain costs, beside the fewest that could do: the list, and bodies filled to the cap.

Captured by the program itself from a simulator over real TLS that refuses bodies over 10 MB, on consecutive sessions:
first with nothing to go by, then with the sizes that the captures before have left in the archive. A capture counts
only when its table is proven whole.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, urlsplit

from trade_analyst_pipeline.capture.ask import ask
from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.capture.requesting import Source
from trade_analyst_pipeline.capture.take import take
from trade_analyst_pipeline.datasets import options
from trade_analyst_pipeline.market.clock import MachineClock, SimulatedClock
from trade_analyst_pipeline.market.sessions import sessions
from trade_analyst_pipeline.schwab.budget import RequestBudget
from trade_analyst_pipeline.schwab.client import SchwabClient, open_http
from trade_analyst_pipeline.settings import BoundedChainSettings
from trade_analyst_pipeline.simulator.instruments import INSTRUMENTS
from trade_analyst_pipeline.simulator.limits import AnswerLimits
from trade_analyst_pipeline.simulator.oauth import (
    DEFAULT_REDIRECT_URIS,
    SIMULATOR_APP_KEY,
    SIMULATOR_APP_SECRET,
    OAuthDesk,
)
from trade_analyst_pipeline.simulator.server import SimulatorServer
from trade_analyst_pipeline.storage.archive import Archive, Capture

SYMBOL = "$SPX"
# So many strikes on either side give it 20,000 contracts and some.
FINE_STRIKES = 66
FIRST_SESSION, LAST_SESSION = date(2026, 1, 5), date(2026, 1, 8)
LIMIT = 1.3


@dataclass(frozen=True)
class ChainFigures:
    """One whole chain: its contracts and bytes, what was asked for it, and the fewest requests that could do."""

    session_date: date
    contracts: int
    body_bytes: int
    lists: int
    chains: int

    @property
    def requests(self) -> int:
        """All requests, refused ones included."""
        return self.lists + self.chains

    @property
    def fewest(self) -> int:
        """The list of expirations, and as many bodies as the bytes fill."""
        return 1 + ceil(self.body_bytes / AnswerLimits().gateway_bytes)

    @property
    def ratio(self) -> float:
        """Requests over the fewest."""
        return self.requests / self.fewest


def chain_figures(*, seed: int = 7) -> Iterator[ChainFigures]:
    """The chain of each session, captured one after another; AssertionError where one is not whole."""
    present = INSTRUMENTS[SYMBOL]
    INSTRUMENTS[SYMBOL] = replace(present, fine_strikes=FINE_STRIKES)
    try:
        with TemporaryDirectory() as folder:
            archive = Archive(Path(folder) / "raw")
            with SimulatorServer(seed=seed, ca_file=Path(folder) / "ca.pem") as server:
                for day in sessions(FIRST_SESSION, LAST_SESSION):
                    yield _figures(server, archive, day)
    finally:
        INSTRUMENTS[SYMBOL] = present


def _figures(server: SimulatorServer, archive: Archive, day: date) -> ChainFigures:
    instant = datetime.combine(day, time(20, 55), UTC)
    snapshot = Snapshot(options.NAME, day, instant, (SYMBOL,))
    server.requests.clear()
    capture = asyncio.run(_captured(server, archive, snapshot))
    assert capture is not None
    found = options.normalize(archive.answers([capture]), session_date=day)
    assert found.frame["chain_scope"].unique().to_list() == ["full"], found.problems
    entries = archive.index(capture)
    size = sum(entry.body_bytes for entry in entries if entry.request.path == options.PATH)
    asked = server.requests
    return ChainFigures(day, found.frame.height, size, asked[options.LISTING_PATH], asked[options.PATH])


async def _captured(server: SimulatorServer, archive: Archive, snapshot: Snapshot) -> Capture | None:
    clock = MachineClock()
    async with open_http(ca_file=server.ca_file, in_flight=6) as http:
        client = SchwabClient(
            base_url=server.at(snapshot.scheduled_time),
            http=http,
            tokens=DeskTokens(server.desk),
            budget=RequestBudget(per_minute=6000, clock=clock, state_file=None),
            clock=clock,
            rng=random.Random(7),  # noqa: S311 - jitter of waits
        )
        question = ask(snapshot, BoundedChainSettings(), archive)
        source = Source(client, SimulatedClock(snapshot.scheduled_time))
        return await take(snapshot, question, source=source, archive=archive)


class DeskTokens:
    """Access tokens straight from the simulator's desk, without a browser."""

    def __init__(self, desk: OAuthDesk) -> None:
        params = {"response_type": "code", "client_id": SIMULATOR_APP_KEY, "redirect_uri": DEFAULT_REDIRECT_URIS[0]}
        location = dict(desk.authorize(params).headers)["location"]
        basic = base64.b64encode(f"{SIMULATOR_APP_KEY}:{SIMULATOR_APP_SECRET}".encode()).decode()
        (code,) = parse_qs(urlsplit(location).query)["code"]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": DEFAULT_REDIRECT_URIS[0]}
        self._token: str = json.loads(desk.token(f"Basic {basic}", form).body)["access_token"]

    async def access_token(self) -> str:
        """The token."""
        return self._token

    async def refresh_after_refusal(self, refused: str) -> str:
        """The same again: it does not end while this runs."""
        assert refused == self._token
        return self._token


if __name__ == "__main__":
    for number, figures in enumerate(chain_figures(), 1):
        print(f"capture {number}: {figures}, fewest {figures.fewest}, ratio {figures.ratio:.2f}")
