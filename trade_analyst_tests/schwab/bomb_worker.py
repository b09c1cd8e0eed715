"""A process of its own that fetches one answer and tells how much memory that took: `ours` or `plain` httpx."""

from __future__ import annotations

import asyncio
import json
import random
import re
import ssl
import sys
import time
from functools import partial
from pathlib import Path

import httpx

from trade_analyst_pipeline.errors import SourceError
from trade_analyst_pipeline.market.clock import MachineClock
from trade_analyst_pipeline.schwab.budget import RequestBudget
from trade_analyst_pipeline.schwab.client import SchwabClient, open_http
from trade_analyst_pipeline.schwab.messages import MarketDataRequest

REQUEST = MarketDataRequest("quotes", "/quotes", (("symbols", "AAPL"),), ("AAPL",))


class OneToken:
    """Always the same token."""

    async def access_token(self) -> str:
        """It."""
        return "token"

    async def refresh_after_refusal(self, refused: str) -> str:
        """It again."""
        return refused


def kibibytes(field: str) -> int:
    """A figure of this process's memory as the kernel has it: VmRSS now, VmHWM the most so far."""
    (found,) = re.findall(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found)


async def ours(url: str, ca_file: Path) -> str:
    """One fetch through the client with the default bounds."""
    clock = MachineClock()
    async with open_http(ca_file=ca_file, in_flight=2) as http:
        client = SchwabClient(
            base_url=url,
            http=http,
            tokens=OneToken(),
            budget=RequestBudget(per_minute=120, clock=clock, state_file=None),
            clock=clock,
            rng=random.Random(7),  # noqa: S311 - seeded jitter
        )
        try:
            return f"{len((await client.fetch(REQUEST)).body)} bytes"
        except SourceError as error:
            return type(error).__name__


async def plain(url: str, ca_file: Path, most: int | None = None) -> str:
    """One plain GET, as most clients do it; given up once more than `most` bytes are held."""
    context = ssl.create_default_context(cafile=str(ca_file))
    held: list[bytes] = []
    async with (
        httpx.AsyncClient(verify=context, trust_env=False, timeout=60) as http,
        http.stream("GET", f"{url}/marketdata/v1/quotes") as response,
    ):
        if most is None:
            return f"{len(await response.aread())} bytes"
        async for piece in response.aiter_bytes():
            held.append(piece)
            if sum(map(len, held)) > most:
                break
    return f"more than {most} bytes"


async def main(mode: str, good: str, bad: str, ca_file: str) -> None:
    """Fetch a good answer first, so that everything is loaded, then the bad one."""
    work = {"ours": ours, "plain": plain, "plain, in part": partial(plain, most=192 << 20)}[mode]
    await work(good, Path(ca_file))
    before, begin = kibibytes("VmRSS"), time.monotonic()
    outcome = await work(bad, Path(ca_file))
    seconds = time.monotonic() - begin
    print(json.dumps({"outcome": outcome, "grown_kib": kibibytes("VmHWM") - before, "seconds": seconds}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
