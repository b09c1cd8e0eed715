"""One of the processes of a session: asks through the pipeline's own client, on time that runs faster than the clock.

Started by `session.py` with a file that holds one JSON object: `jobs` are what is due together (second, class, and for
each dataset in turn the symbols of each request), and with `backfill` it asks for history without rest until `until`.
Says `ready`, is told when to begin, and prints one JSON line: when each job was complete for each symbol.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from trade_analyst_pipeline.errors import SourceError
from trade_analyst_pipeline.schwab.budget import Priority, RequestBudget
from trade_analyst_pipeline.schwab.client import SchwabClient, open_http
from trade_analyst_pipeline.schwab.messages import MarketDataRequest

OPEN = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
DEADLINE_SECONDS, IN_FLIGHT = 30.0, 6


class ScaledClock:
    """`factor` times as fast as the machine's clock, at OPEN when that stood at `began` (seconds since the epoch)."""

    def __init__(self, factor: float, began: float) -> None:
        self._factor = factor
        self._began = began

    def seconds(self) -> float:
        """Scaled seconds since `began`."""
        return (time.time() - self._began) * self._factor

    def now(self) -> datetime:
        """The scaled instant."""
        return OPEN + timedelta(seconds=self.seconds())

    async def sleep(self, seconds: float) -> None:
        """Wait the scaled time for real."""
        await asyncio.sleep(max(0.0, seconds) / self._factor)


class OneToken:
    """An access token that is always good."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def access_token(self) -> str:
        """The token."""
        return self._token

    async def refresh_after_refusal(self, refused: str) -> str:
        """The same."""
        assert refused == self._token
        return self._token


class Worker:
    """The clients of one process, one for each class, and what came of their calls."""

    def __init__(self, options: dict[str, Any], http: httpx.AsyncClient) -> None:
        self.options = options
        self.clock = ScaledClock(options["factor"], options["began"])
        self.outcomes = Counter[str]()
        self.bytes = 0
        budget = RequestBudget(per_minute=options["limit"], clock=self.clock, state_file=Path(options["file"]))
        self.usage = budget.usage
        self._clients = {
            priority: SchwabClient(
                base_url=options["base_url"],
                http=http,
                tokens=OneToken(options["token"]),
                budget=budget,
                clock=self.clock,
                rng=random.Random(options["number"]),  # noqa: S311  jitter
                deadline_seconds=DEADLINE_SECONDS,
                priority=priority,
            )
            for priority in Priority
        }

    async def ask(self, request: MarketDataRequest, priority: Priority) -> None:
        """One request, whatever becomes of it."""
        try:
            response = await self._clients[priority].fetch(request)
        except SourceError as error:
            self.outcomes[error.reason] += 1
        else:
            self.outcomes["answered"] += 1
            self.bytes += len(response.body)

    async def take(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        """What is due together, at its time, one dataset after the other: when the last of each symbol was there."""
        await self.clock.sleep(job["at"] - self.clock.seconds())
        priority, told = Priority[job["priority"]], []
        for part in job["parts"]:
            there: dict[str, float] = {}

            async def one(symbols: list[str], there: dict[str, float] = there) -> None:
                await self.ask(chain(symbols[0]), priority)
                there |= dict.fromkeys(symbols, self.clock.seconds())

            await asyncio.gather(*(one(symbols) for symbols in part["asked"]))
            kind = {"dataset": part["dataset"], "priority": job["priority"], "requests": len(part["asked"])}
            told.append(kind | {"at": job["at"], "there": there})
        return told

    async def backfill(self) -> None:
        """History, without rest."""
        symbols = itertools.cycle(self.options["backfill"])

        async def one() -> None:
            while self.clock.seconds() < self.options["until"]:
                await self.ask(history(next(symbols)), Priority.BACKFILL)

        tasks = [asyncio.create_task(one()) for _ in range(IN_FLIGHT)]
        await self.clock.sleep(self.options["until"] - self.clock.seconds())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def chain(symbol: str) -> MarketDataRequest:
    """The nearest strikes of a month."""
    params = (("symbol", symbol), ("strikeCount", "10"), ("fromDate", "2026-01-05"), ("toDate", "2026-02-06"))
    return MarketDataRequest("options", "/chains", params, (symbol,))


def history(symbol: str) -> MarketDataRequest:
    """A month of daily bars."""
    params = (("symbol", symbol), ("periodType", "month"), ("period", "1"), ("frequencyType", "daily"))
    return MarketDataRequest("ohlc", "/pricehistory", params, (symbol,))


async def connect(http: httpx.AsyncClient, base_url: str) -> None:
    """Open the connections by requests that do not count: time that runs faster would blow up what that takes."""
    address = f"{httpx.URL(base_url).join('/v1/oauth/authorize')}"
    await asyncio.gather(*(http.get(address) for _ in range(IN_FLIGHT)))


async def told_to_begin() -> float:
    """Say that this process is ready; when all begin, in seconds since the epoch."""
    print("ready", flush=True)
    return float(await asyncio.to_thread(sys.stdin.readline))


async def work(options: dict[str, Any]) -> dict[str, Any]:
    """All jobs, each from its time on, and the backfill beside them."""
    ca_file = Path(options["ca_file"]) if options["ca_file"] else None
    async with open_http(ca_file=ca_file, in_flight=3 * IN_FLIGHT) as http:
        await connect(http, options["base_url"])
        worker = Worker(options | {"began": await told_to_begin()}, http)
        await worker.clock.sleep(-worker.clock.seconds())
        jobs = [worker.take(job) for job in options["jobs"]]
        backfill = [worker.backfill()] if options["backfill"] else []
        found = await asyncio.gather(*jobs, *backfill)
    taken = found[: len(jobs)]
    return {
        "parts": [part for parts in taken for part in parts],
        "outcomes": worker.outcomes,
        "bytes": worker.bytes,
        "requests": worker.usage.requests,
        "refusals": worker.usage.refusals,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(work(json.loads(Path(sys.argv[1]).read_text())))), flush=True)
