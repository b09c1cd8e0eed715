"""Days of scheduled captures with injected faults, in virtual time, and what each fault must leave: kept by hand.

As a program (`gap_days.py FOLDER TICK NUMBER`) it runs one tick and kills itself at its request of that number.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import httpx
from virtual_time import run_virtually

from trade_analyst_pipeline.capture.ask import ask
from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.capture.planned import KINDS, note_plan, plan_of
from trade_analyst_pipeline.capture.requesting import Source
from trade_analyst_pipeline.capture.take import take_each
from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.defs.resources import SourceResource
from trade_analyst_pipeline.errors import AuthError, LoginRequiredError
from trade_analyst_pipeline.market.clock import MachineClock
from trade_analyst_pipeline.schwab.budget import Priority, RequestBudget
from trade_analyst_pipeline.schwab.client import SchwabClient
from trade_analyst_pipeline.settings import Settings, load_settings
from trade_analyst_pipeline.storage.archive import Archive

NEW_YORK = ZoneInfo("America/New_York")
FIRST = date(2026, 1, 5)
SYMBOLS = ("AAPL", "MSFT", "NVDA", "SPY")
LATE = ("SPY",)
STOCKS = tuple(symbol for symbol in SYMBOLS if symbol not in LATE)
HOLIDAYS = {
    date.fromisoformat(f"2026-{day}")
    for day in ("01-19", "02-16", "04-03", "05-25", "06-19", "07-03", "09-07", "11-26", "12-25")
} | {date(2027, 1, 1)}
HALF_DAYS = {date(2026, 11, 27), date(2026, 12, 24)}
SUBJECTS = {name: tuple(DATASETS[name].subjects) for name in ("markets", "movers")}

ERRORS = ("outage", "reset", "page", "cut", "empty", "unknown")
FAULTS: Mapping[str, str] = {
    **dict.fromkeys(ERRORS, "error"),
    "limited": "budget",
    "no_slot": "budget",
    "login_over": "token_dead",
    "refused": "token_dead",
    "not_running": "process_down",
    "killed": "process_down",
    "halted": "halted",
    "shut": "market_closed",
    "removed": "not_scheduled",
    "schedule_off": "not_scheduled",
}
"""Each fault that is injected, and the type it has to have; days the calendar has closed come by themselves."""

Item = tuple[str, datetime, str]


def is_open(day: date) -> bool:
    """Whether the exchange trades, by the list above."""
    return day.weekday() < 5 and day not in HOLIDAYS


def at(day: date, hour: int, minute: int) -> datetime:
    """An instant of New York, UTC."""
    return datetime.combine(day, time(hour, minute), NEW_YORK).astimezone(UTC)


def ticks_of(day: date) -> dict[datetime, dict[str, tuple[str, ...]]]:
    """What is due when, worked out by hand: every two hours, 15 and 5 minutes before closes, once a day."""
    close = 13 if day in HALF_DAYS else 16
    found: dict[datetime, dict[str, tuple[str, ...]]] = {}
    found[at(day, 9, 45)] = {"markets": SUBJECTS["markets"], "expirations": SYMBOLS, "instruments": SYMBOLS}
    for hour in (11, 13, 15):
        if hour < close:
            found[at(day, hour, 30)] = {"quotes": SYMBOLS, "options": SYMBOLS}
    for minute in (45, 55):
        found[at(day, close - 1, minute)] = {"quotes": STOCKS, "options": STOCKS}
    found[at(day, close - 1, 55)]["movers"] = SUBJECTS["movers"]
    for minute in (0, 10):
        found[at(day, close, minute)] = {"quotes": LATE, "options": LATE}
    found[at(day, close + 1, 0)] = {"ohlc": SYMBOLS}
    return found


def settings_of(symbols: Sequence[str] = SYMBOLS, minutes: int = 120) -> Settings:
    """Settings of a live source with these symbols, every two hours."""
    return load_settings(
        environment="live",
        universe={"symbols": symbols},
        capture={"intraday_minutes": minutes},
        schwab={"requests_per_minute": 30},
    )


@dataclass
class Clock:
    """The loop's time from an instant on."""

    start: datetime

    def now(self) -> datetime:
        """The present."""
        return self.start + timedelta(seconds=asyncio.get_running_loop().time())

    async def sleep(self, seconds: float) -> None:
        """Wait for the loop's time."""
        await asyncio.sleep(seconds)


@dataclass
class Body(httpx.AsyncByteStream):
    """A body that is there at once; `is_cut` ends it early."""

    text: bytes
    is_cut: bool = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """What there is of it."""
        yield self.text[:-1] if self.is_cut else self.text
        if self.is_cut:
            message = "peer closed connection without sending complete message body (incomplete chunked read)"
            raise httpx.RemoteProtocolError(message)


@dataclass
class Transport:
    """The source for one dataset at one tick, with a fault for all that is asked, or for the victim's chains."""

    day: date
    fault: str | None
    victim: str
    kill_at: int | None = None
    asked: int = 0
    answered: set[tuple[str, str]] = field(default_factory=set)

    @asynccontextmanager
    async def stream(self, _method: str, url: str, **_: object) -> AsyncIterator[httpx.Response]:
        """The answer to a request; what is answered well is remembered by symbol."""
        self.asked += 1
        if self.asked == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        parts = urlsplit(url)
        path = parts.path.removeprefix("/marketdata/v1")
        named = _named(path, parse_qs(parts.query))
        yield self._answer(path, named, url)

    def _answer(self, path: str, named: Sequence[str], url: str) -> httpx.Response:
        if self.fault == "reset":
            message = "connection reset by peer"
            raise httpx.ReadError(message)
        status = {"outage": 503, "limited": 429, "refused": 401}.get(self.fault or "", 200)
        is_victim = self.victim in named and path in {"/chains", "/expirationchain"}
        if self.fault == "unknown" and is_victim:
            status = 404
        if status != 200:
            return httpx.Response(status, headers={"content-type": "application/json"}, stream=Body(b"{}"))
        if self.fault == "page":
            return httpx.Response(200, headers={"content-type": "text/html"}, stream=Body(b"<html>Soon</html>"))
        is_empty = (self.fault in {"halted", "empty"} and is_victim and path == "/chains") or self.fault == "shut"
        if self.fault != "cut":
            self.answered |= {(symbol, url) for symbol in named}
        text = json.dumps(self._body(path, named, is_empty=is_empty)).encode()
        return httpx.Response(200, headers={"content-type": "application/json"}, stream=Body(text, self.fault == "cut"))

    def _body(self, path: str, named: Sequence[str], *, is_empty: bool) -> dict[str, Any]:
        listed = str(self.day + timedelta(days=11))
        if path == "/quotes":
            halted = {self.victim} if self.fault == "halted" else set()
            return {
                symbol: {"symbol": symbol, "quote": {"securityStatus": "Halted" if symbol in halted else "Normal"}}
                for symbol in named
            }
        if path == "/markets" and is_empty:
            shut = {"date": str(self.day), "marketType": "EQUITY", "product": "equity", "isOpen": False}
            return {"equity": {"equity": shut}}
        if path == "/expirationchain":
            return {"expirationList": [{"expirationDate": listed, "optionRoots": "X"}]}
        if path == "/chains":
            calls = {} if is_empty else {f"{listed}:11": {"5.0": [{"strikePrice": 5.0}]}}
            return {"numberOfContracts": len(calls), "callExpDateMap": calls, "putExpDateMap": {}}
        if is_empty:
            return {"screeners": []} if path.startswith("/movers/") else {"candles": []}
        return {"candles": [{"datetime": 0}]}


def _named(path: str, query: Mapping[str, Sequence[str]]) -> list[str]:
    if path.startswith("/movers/"):
        return [path.removeprefix("/movers/")]
    given = query.get("symbols") or query.get("symbol") or query.get("markets") or [""]
    return given[0].split(",")


@dataclass
class Tokens:
    """A login, over or not."""

    is_over: bool

    async def access_token(self) -> str:
        """A token, or the end of the login."""
        if self.is_over:
            message = "the login is over; log in again"
            raise LoginRequiredError(message)
        return "token"

    async def refresh_after_refusal(self, refused: str) -> str:
        """Another token."""
        return f"{refused}, renewed"


@dataclass
class Scene:
    """An installation whose schedules run, in virtual time; `answered` counts good answers by item."""

    root: Path
    time: datetime = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC)
    answered: Counter[Item] = field(default_factory=Counter)
    stopped: set[Item] = field(default_factory=set)  # by a kill: what of them is archived is left open

    def __post_init__(self) -> None:
        self.archive = Archive(self.root / "raw")

    def note(self, since: datetime, settings: Settings, kinds: Sequence[str] = KINDS) -> None:
        """What the daemon does when it sees its settings."""
        note_plan(plan_of(settings, kinds, since), self.archive)

    def tick(
        self, due: datetime, datasets: Sequence[str], settings: Settings, fault: str | None = None, victim: str = ""
    ) -> None:
        """Run what is due, one dataset after the other."""
        self.time = max(self.time + timedelta(seconds=1), due)
        day = due.astimezone(NEW_YORK).date()
        for dataset in datasets:
            transport = Transport(day, fault, victim)
            self._take(dataset, due, settings, transport)
            self.answered.update((dataset, due, symbol) for symbol, _ in transport.answered)

    def _take(self, dataset: str, due: datetime, settings: Settings, transport: Transport) -> None:
        with machine_time(due):
            snapshots = SourceResource(settings).plan(dataset, [transport.day], tick=due)
        self.archive.recover(dataset)
        self.time = run_virtually(self._happen(snapshots, settings, transport))

    def die(self, due: datetime, dataset: str, number: int) -> None:
        """Run one dataset in this process, which kills itself at its request of that number."""
        self.time = due
        day = due.astimezone(NEW_YORK).date()
        self._take(dataset, due, settings_of(), Transport(day, None, "", kill_at=number))

    async def _happen(self, snapshots: Sequence[Snapshot], settings: Settings, transport: Transport) -> datetime:
        clock = Clock(self.time)
        hogs = [asyncio.create_task(self._hog(clock)) for _ in range(4 if transport.fault == "no_slot" else 0)]
        priority = Priority.INTRADAY if transport.fault == "no_slot" else Priority.CLOSING
        client = SchwabClient(
            base_url="https://source",
            http=transport,  # type: ignore[arg-type]  # all that is used of a transport
            tokens=Tokens(transport.fault == "login_over"),
            budget=self._budget(clock),
            clock=clock,
            rng=random.Random(7),  # noqa: S311  waits of a test
            priority=priority,
        )
        asked = partial(ask, bounds=settings.capture.bounded_chain, archive=self.archive)
        source = Source(client, clock)
        taken = take_each(snapshots, source_for=lambda _: source, ask=asked, archive=self.archive)
        with contextlib.suppress(AuthError):
            async with aclosing(taken):
                async for _ in taken:
                    pass
        for hog in hogs:
            hog.cancel()
        await asyncio.gather(*hogs, return_exceptions=True)
        return clock.now()

    async def _hog(self, clock: Clock) -> None:
        """Another program of ours that takes every slot."""
        budget = self._budget(clock)
        while True:
            await budget.acquire(Priority.CLOSING)

    def _budget(self, clock: Clock) -> RequestBudget:
        return RequestBudget(per_minute=30, reserved_per_minute=0, clock=clock, state_file=self.root / "budget")


@contextlib.contextmanager
def machine_time(instant: datetime) -> Iterator[None]:
    """What is planned is planned at that instant."""
    real = MachineClock.now
    MachineClock.now = lambda _: instant  # type: ignore[method-assign]
    try:
        yield
    finally:
        MachineClock.now = real  # type: ignore[method-assign]


if __name__ == "__main__":
    folder, tick, number = sys.argv[1:]
    Scene(Path(folder)).die(datetime.fromisoformat(tick), "options", int(number))
