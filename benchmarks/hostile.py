"""Bodies made to hurt, through the whole of a chain's normalisation, beside a plain decode of as many ordinary bytes.

Each is an ordinary chain with one thing wrong, or nothing but that thing. The plain decode is msgspec's, untyped, of an
ordinary chain, scaled to the same number of bytes; the two take turns. A ratio that stays the same for bodies of any
length means time that grows with the length and no faster.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from benchmarks.normalize import INSTANT, chain_responses
from trade_analyst_pipeline.datasets import options
from trade_analyst_pipeline.market.normalized import Normalized
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse

SYMBOL = "AAPL"
MIB = 1 << 20
LARGE, HUGE = 8 * MIB, 50 * MIB
RUNS = 3


@dataclass(frozen=True)
class HostileFigure:
    """Least seconds of both, and what became of the hostile body: its reason, or the rows it gave."""

    name: str
    size: int
    seconds: float
    plain_seconds: float
    outcome: str


def hostile_bodies(chain: bytes) -> dict[str, Callable[[], bytes]]:
    """Names and makers of the bodies; `chain` is an ordinary one, an object with members."""

    def with_member(value: bytes, name: bytes = b"hostile") -> bytes:
        return b'{"' + name + b'":' + value + b"," + chain[1:]

    def in_contract(members: bytes) -> bytes:
        return chain.replace(b'"putCall":', members + b'"putCall":', 1)

    def as_bid(number: bytes) -> bytes:
        return re.sub(rb'"bid":[-0-9.]+', b'"bid":' + number, chain, count=1)

    def times(text: bytes, size: int) -> bytes:
        return text * (size // len(text))

    return {
        "nesting of 4 Mi arrays in a member": lambda: with_member(b"[" * (LARGE // 2) + b"]" * (LARGE // 2)),
        "nesting of 8 Mi arrays, never closed": lambda: b"[" * LARGE,
        "whole number of 8 Mi digits as a bid": lambda: as_bid(b"7" * LARGE),
        "fraction of 8 Mi digits as a bid": lambda: as_bid(b"0." + b"7" * LARGE),
        "one key 1 Mi times in a contract": lambda: in_contract(times(b'"bid":1,', LARGE)),
        "one key 1 Mi times in the chain": lambda: b"{" + times(b'"bid":1,', LARGE) + chain[1:],
        "500,000 undeclared keys in a contract": lambda: in_contract(
            b"".join(b'"key%06d":1,' % number for number in range(500_000))
        ),
        "string of 50 MiB in a member": lambda: with_member(b'"' + b"x" * HUGE + b'"'),
        "string of 50 MiB as symbol": lambda: with_member(b'"' + b"x" * HUGE + b'"', b"symbol"),
        "string of 50 MiB of escapes": lambda: with_member(b'"' + times(b"\\u0041", HUGE) + b'"'),
        "string of 50 MiB, never closed": lambda: b'{"symbol":"' + b"x" * HUGE,
    }


def hostile_figures(*, seed: int = 7) -> list[HostileFigure]:
    """Every body measured."""
    ordinary = chain_responses(seed=seed)[0].body
    (response, *_) = chain_responses(seed=seed, symbol=SYMBOL)
    return [_measure(name, make(), response.request, ordinary) for name, make in hostile_bodies(response.body).items()]


def _measure(name: str, body: bytes, request: MarketDataRequest, ordinary: bytes) -> HostileFigure:
    response = RawResponse(request, 200, body, (), INSTANT, INSTANT)
    ours, plain, found = [], [], None
    for _ in range(RUNS):
        started = time.perf_counter()
        found = options.normalize([response], session_date=INSTANT.date())
        ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        msgspec.json.decode(ordinary)
        plain.append(time.perf_counter() - started)
    assert found is not None
    return HostileFigure(name, len(body), min(ours), min(plain) * len(body) / len(ordinary), _outcome(found))


def _outcome(found: Normalized) -> str:
    if found.problems:
        return found.problems[0].reason
    rules = sorted(set(found.rejected["rule"]))
    return f"{found.frame.height} rows" + (f", {found.rejected.height} refused: {rules[0]}" if rules else "")
