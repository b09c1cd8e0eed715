"""A scripted source without sockets, and what captures of it are asked in tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.capture.requesting import Source
from trade_analyst_pipeline.capture.take import Outcome
from trade_analyst_pipeline.errors import RequestSummary, SourceError
from trade_analyst_pipeline.market.clock import SimulatedClock
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse

DAY = date(2026, 11, 23)  # a Monday; regular hours 14:30 to 21:00 UTC
DUE = datetime(2026, 11, 23, 20, 55, tzinfo=UTC)
CHAINS = Snapshot("options", DAY, DUE, ("AAPL", "MSFT"))
BARS = Snapshot("ohlc", DAY, datetime(2026, 11, 23, 22, 0, tzinfo=UTC), ("AAPL",))
QUOTES = Snapshot("quotes", DAY, DUE, ("AAPL", "MSFT"))
TakeAll = Callable[..., list[Outcome]]
Answer = bytes | type[SourceError]
EXPIRATIONS = ("2026-11-27", "2026-12-18")


def well(request: MarketDataRequest) -> Answer:
    """A list of two expirations, a chain with a strike of those asked for, and any answer to anything else."""
    if request.path == "/expirationchain":
        listed = [{"expirationDate": day, "optionRoots": "XYZ"} for day in EXPIRATIONS]
        return json.dumps({"expirationList": listed}).encode()
    if request.path == "/quotes":
        entries = {symbol: {"assetMainType": "EQUITY", "symbol": symbol} for symbol in request.symbols}
        return json.dumps(entries).encode()
    return json.dumps(chain(request)).encode() if request.path == "/chains" else b"{}"


def chain(request: MarketDataRequest) -> dict[str, Any]:
    """One contract of each type for each expiration that a request asks for."""
    first, last = request.param("fromDate") or "", request.param("toDate") or "9"
    strikes = {f"{day}:4": {"5.0": [{"strikePrice": 5.0}]} for day in EXPIRATIONS if first <= day <= last}
    sides = {"callExpDateMap": strikes, "putExpDateMap": strikes}
    if (only := request.param("contractType")) is not None:
        sides["putExpDateMap" if only == "CALL" else "callExpDateMap"] = {}
    return {"numberOfContracts": sum(map(len, sides.values())), **sides}


@dataclass
class ScriptedSource:
    """A source at the instant `now` that answers with what `answer` makes of a request, and remembers all requests."""

    now: datetime
    answer: Callable[[MarketDataRequest], Answer] = well
    asked: list[MarketDataRequest] = field(default_factory=list)

    async def fetch(self, request: MarketDataRequest) -> RawResponse:
        """The scripted answer."""
        self.asked.append(request)
        found = self.answer(request)
        if isinstance(found, bytes):
            return RawResponse(request, 200, found, (), self.now, self.now)
        raise found(RequestSummary(request.dataset, request.path, request.symbols), "scripted", "Nothing to do.")

    def at(self, _: datetime) -> Source:
        """The source, whatever instant is asked for."""
        return Source(self, SimulatedClock(self.now))  # type: ignore[arg-type]  # all that is used of a client


def symbols_asked(source: ScriptedSource) -> Sequence[str]:
    """Whose data was asked for, in order."""
    return [symbol for request in source.asked for symbol in request.symbols]


def failing(error: Answer, where: Callable[[MarketDataRequest], bool]) -> Callable[[MarketDataRequest], Answer]:
    """Fails where a request is such, and answers the others."""
    return lambda request: error if where(request) else well(request)


def is_listing(request: MarketDataRequest) -> bool:
    """Whether a request is for a list of expirations."""
    return request.path == "/expirationchain"


def is_daily(request: MarketDataRequest) -> bool:
    """Whether a request is for daily bars."""
    return request.param("frequencyType") == "daily"
