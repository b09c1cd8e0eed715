"""Taking snapshots of whole chains from a running simulator with a client of one's own, here or in another process.

As a program: `pulling.py FOLDER ADDRESS CA_FILE TOKEN` takes the snapshot into the archive below the folder.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from trade_analyst_pipeline.capture.ask import ask
from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.capture.requesting import Source
from trade_analyst_pipeline.capture.take import Outcome, take_each
from trade_analyst_pipeline.market.clock import MachineClock, SimulatedClock
from trade_analyst_pipeline.schwab.budget import RequestBudget
from trade_analyst_pipeline.schwab.client import SchwabClient, open_http
from trade_analyst_pipeline.settings import BoundedChainSettings
from trade_analyst_pipeline.simulator.oauth import (
    DEFAULT_REDIRECT_URIS,
    SIMULATOR_APP_KEY,
    SIMULATOR_APP_SECRET,
    OAuthDesk,
)
from trade_analyst_pipeline.storage.archive import Archive

SLOW, OTHERS = "AAPL", ("MSFT", "NVDA", "AMZN", "XOM")
DUE = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)
SNAPSHOT = Snapshot("options", date(2026, 1, 5), DUE, (SLOW, *OTHERS))


class OneToken:
    """An access token that is always good."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def access_token(self) -> str:
        """The token."""
        return self._token

    async def refresh_after_refusal(self, refused: str) -> str:
        """The same again; never asked."""
        assert refused == self._token
        return self._token


def token_of(desk: OAuthDesk) -> str:
    """An access token straight from the simulator's desk."""
    redirect = DEFAULT_REDIRECT_URIS[0]
    consent = desk.authorize({"response_type": "code", "client_id": SIMULATOR_APP_KEY, "redirect_uri": redirect})
    (code,) = parse_qs(urlsplit(dict(consent.headers)["location"]).query)["code"]
    basic = base64.b64encode(f"{SIMULATOR_APP_KEY}:{SIMULATOR_APP_SECRET}".encode()).decode()
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect}
    token: str = json.loads(desk.token(f"Basic {basic}", form).body)["access_token"]
    return token


async def pull(
    archive: Archive,
    *,
    address: str,
    ca_file: Path,
    token: str,
    in_flight: int = 6,
    is_simulated: bool = False,
    in_rounds: bool = False,
    snapshot: Snapshot = SNAPSHOT,
) -> Outcome:
    """Take the snapshot with so many requests in flight, on the machine's clock or a simulated one."""
    clock = SimulatedClock(DUE) if is_simulated else MachineClock()
    async with open_http(ca_file=ca_file, in_flight=in_flight) as http:
        client = SchwabClient(
            base_url=address,
            http=http,
            tokens=OneToken(token),
            budget=RequestBudget(per_minute=120 if is_simulated else 3000, clock=clock, state_file=None),
            clock=clock,
            rng=random.Random(7),  # noqa: S311 - jitter of waits
            in_flight=in_flight,
        )
        source = Source(client, SimulatedClock(DUE), in_rounds=in_rounds)
        taken = take_each(
            [snapshot],
            source_for=lambda _: source,
            ask=lambda each: ask(each, BoundedChainSettings(), archive),
            archive=archive,
        )
        (outcome,) = [outcome async for outcome in taken]
        return outcome


if __name__ == "__main__":
    folder, address, ca_file, token = sys.argv[1:]
    asyncio.run(pull(Archive(Path(folder) / "raw"), address=address, ca_file=Path(ca_file), token=token))
