"""From the bytes of a large chain to its validated table, beside a full decode of the same bytes.

The chain is the simulator's for `$SPX`, asked as the capture asks it: in pieces, each as large as one response may be.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import orjson

from trade_analyst_pipeline.datasets import options
from trade_analyst_pipeline.schwab.messages import RawResponse
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.routes import answer
from trade_analyst_pipeline.validation import validate

SYMBOL = "$SPX"
# Five minutes before the close of a full session.
INSTANT = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)


@dataclass(frozen=True)
class NormalizeFigures:
    """Microseconds per contract, the best of several runs; `contracts` and `body_bytes` say of how large a chain."""

    contracts: int
    body_bytes: int
    normalize_and_validate: float
    msgspec_decode: float
    orjson_decode: float

    @property
    def ratio(self) -> float:
        """Ours over the faster full decode."""
        return self.normalize_and_validate / min(self.msgspec_decode, self.orjson_decode)


def chain_responses(*, seed: int, symbol: str = SYMBOL, instant: datetime = INSTANT) -> list[RawResponse]:
    """A full chain of the simulator's, split until every piece fits into a response."""
    market, found = Market(seed), list[RawResponse]()
    waiting = options.requests([symbol])
    while waiting:
        request = waiting.pop(0)
        answered = answer(market, instant, request.path, dict(request.params))
        if answered.status == 200:
            found.append(RawResponse(request, 200, answered.body, (), instant, instant))
        else:
            waiting = options.split(request, session_date=instant.date()) + waiting
    return found


def measure_normalize(*, seed: int = 7, runs: int = 5) -> NormalizeFigures:
    """The figures of one chain; every row has to be valid, else AssertionError."""
    responses = chain_responses(seed=seed)
    bodies = [response.body for response in responses]

    def ours() -> int:
        table = options.normalize(responses, session_date=INSTANT.date())
        return validate(table.frame, options.SCHEMA).valid.height

    contracts = ours()
    assert contracts == sum(orjson.loads(body)["numberOfContracts"] for body in bodies)
    return NormalizeFigures(
        contracts,
        sum(map(len, bodies)),
        _best(ours, runs) / contracts,
        _best(lambda: [msgspec.json.decode(body) for body in bodies], runs) / contracts,
        _best(lambda: [orjson.loads(body) for body in bodies], runs) / contracts,
    )


def _best(work: Callable[[], object], runs: int) -> float:
    """The shortest of several runs, in microseconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times) * 1e6


if __name__ == "__main__":
    figures = measure_normalize()
    print(figures, f"ratio {figures.ratio:.2f}")
