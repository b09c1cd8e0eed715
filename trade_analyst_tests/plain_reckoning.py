"""What the metrics say, reckoned a second time in plain Python from a chain as the wire spells it.

Written from the definitions (docs/metrics/), with nothing of the package and neither Polars nor NumPy, so that a
mistake there is not repeated here. Prices are compared as whole 1/10000 dollars, volatilities are fractions.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")
# Sessions that close at 13:00, as the exchange publishes them.
HALF_DAYS = frozenset(
    [
        *(date(2025, 7, 3), date(2025, 11, 28), date(2025, 12, 24)),
        *(date(2026, 11, 27), date(2026, 12, 24), date(2027, 11, 26)),
    ]
)
LATE_CLOSING = frozenset(["SPY", "QQQ", "IWM", "$SPX"])  # options on these trade to 16:15, on half days to 13:15
DAY, MONTH = timedelta(days=1), timedelta(days=30)


def closing_instant(symbol: str, session: date) -> datetime:
    """When the options on a symbol stop trading, UTC."""
    hour = 13 if session in HALF_DAYS else 16
    minute = 15 if symbol in LATE_CLOSING else 0
    return datetime.combine(session, time(hour, minute), NEW_YORK).astimezone(UTC)


def last_instant(expiration: date, settlement: str) -> datetime:
    """When a contract stops living, UTC."""
    at = time(9, 30) if settlement == "A" else time(13) if expiration in HALF_DAYS else time(16)
    return datetime.combine(expiration, at, NEW_YORK).astimezone(UTC)


# -- the volatility of 30 days -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quote:
    """One side of a strike whose quote passed: doubled mid and spread in 1/10000 dollar, and its volatility."""

    twice_mid: int
    spread: int
    iv: float | None


@dataclass(frozen=True)
class Expiry:
    """One expiry that has a volatility at its forward."""

    left: timedelta
    root: str
    strikes: int
    iv: float

    @property
    def variance_days(self) -> float:
        """Its total variance, in days."""
        return self.iv**2 * (self.left / DAY)


Board = dict[float, dict[str, Quote]]


def iv30(chains: Iterable[dict[str, Any]], at: datetime) -> float | None:
    """The series `atm30_vendor` of the chains of one snapshot that arrived at `at`; None where there is no value."""
    found = sorted(_expiries(list(chains), at), key=lambda expiry: (expiry.left, -expiry.strikes, expiry.root))
    near = [expiry for expiry in found if expiry.left <= MONTH]
    far = [expiry for expiry in found if expiry.left > MONTH]
    if near and far:
        # of roots that expire together the one with more strikes stands first
        low, high = next(expiry for expiry in near if expiry.left == near[-1].left), far[0]
        weight = (MONTH - low.left) / (high.left - low.left)
        total = low.variance_days + (high.variance_days - low.variance_days) * weight
        return math.sqrt(total / 30)
    alone = [e for e in found if timedelta(days=23) <= e.left <= timedelta(days=37)]
    if not alone:
        return None
    latest = max(e.left for e in alone) if near else min(e.left for e in alone)
    return next(e.iv for e in alone if e.left == latest)


def contracts(chain: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every contract of a chain."""
    for side in ("callExpDateMap", "putExpDateMap"):
        for strikes in chain[side].values():
            for listed in strikes.values():
                yield from listed


def _expiries(chains: list[dict[str, Any]], at: datetime) -> Iterator[Expiry]:
    boards: dict[tuple[timedelta, str], Board] = defaultdict(lambda: defaultdict(dict))
    for contract in (contract for chain in chains for contract in contracts(chain)):
        day = datetime.fromisoformat(contract["expirationDate"]).astimezone(NEW_YORK).date()
        left = last_instant(day, contract["settlementType"]) - at
        quote = _clean(contract, at)
        is_standard = not contract["nonStandard"] and not contract["mini"]
        if quote and is_standard and timedelta(days=2) <= left <= timedelta(days=365):
            boards[left, contract["optionRoot"]][contract["strikePrice"]][contract["putCall"]] = quote
    rate = max(chain["interestRate"] for chain in chains) / 100
    for (left, root), board in boards.items():
        forward = _forward(board, math.exp(rate * (left / (365 * DAY))))
        usable = {} if forward is None else _usable(board, forward)
        iv = _at_the_money(board, usable, forward) if usable and forward is not None else None
        if iv is not None:
            yield Expiry(left, root, len(usable), iv)


def _clean(contract: dict[str, Any], at: datetime) -> Quote | None:
    """The quote, if it is fit for a volatility."""
    bid, ask = (round(contract[side] * 10_000) for side in ("bid", "ask"))
    age = at - datetime.fromtimestamp(contract["quoteTimeInLong"] / 1000, UTC)
    spread, twice_mid = ask - bid, bid + ask
    is_wide = spread > 1000 and 4 * spread > twice_mid
    if bid <= 0 or spread < 0 or is_wide or twice_mid < 1000 or age > timedelta(minutes=15):
        return None
    percent = contract["volatility"]
    is_data = 0 < percent < 500 and percent != contract["theoreticalVolatility"]
    return Quote(twice_mid, spread, percent / 100 if is_data else None)


def _forward(board: Board, growth: float) -> float | None:
    """By put-call parity where the mids are closest, or the median of the three strikes there if they disagree."""
    both = sorted(strike for strike, sides in board.items() if len(sides) == 2)
    if not both:
        return None
    gap = {strike: board[strike]["CALL"].twice_mid - board[strike]["PUT"].twice_mid for strike in both}
    parity = {strike: strike + growth * gap[strike] / 20_000 for strike in both}
    at = min(both, key=lambda strike: (abs(gap[strike]), strike))
    trio = sorted(both, key=lambda strike: (abs(strike - at), strike))[:3]
    values = [parity[strike] for strike in trio]
    slack = max(quote.spread for strike in trio for quote in board[strike].values()) / 20_000
    return median(values) if len(trio) == 3 and max(values) - min(values) > slack else parity[at]


def _usable(board: Board, forward: float) -> dict[float, float]:
    """The volatility of each strike that has one."""
    found = {}
    for strike, sides in board.items():
        known = {side: quote.iv for side, quote in sides.items() if quote.iv is not None}
        out_of_the_money = "CALL" if strike >= forward else "PUT"
        if len(known) == 2:
            found[strike] = (known["CALL"] + known["PUT"]) / 2
        elif out_of_the_money in known:
            found[strike] = known[out_of_the_money]
    return found


def _at_the_money(board: Board, usable: dict[float, float], forward: float) -> float | None:
    """The volatility at the forward; None beyond the strikes, and where call and put disagree."""
    below = [strike for strike in usable if round(strike * 10_000) <= round(forward * 10_000)]
    above = [strike for strike in usable if round(strike * 10_000) > round(forward * 10_000)]
    if not below:
        return None
    low = max(below)
    if round(low * 10_000) == round(forward * 10_000):
        return usable[low] if _agrees(board[low]) else None
    if not above or not _agrees(board[low]) or not _agrees(board[min(above)]):
        return None
    high = min(above)
    weight = math.log(forward / low) / math.log(high / low)
    return math.sqrt((1 - weight) * usable[low] ** 2 + weight * usable[high] ** 2)


def _agrees(sides: dict[str, Quote]) -> bool:
    call, put = (sides[side].iv if side in sides else None for side in ("CALL", "PUT"))
    if call is None or put is None:
        return True
    return abs(call - put) <= min(0.05, 0.2 * (call + put) / 2)


# -- puts and calls ------------------------------------------------------------------------------------------------


def sums(chains: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Volume and open interest of the calls and of the puts of one snapshot."""
    totals = dict.fromkeys(("call_volume", "put_volume", "call_open_interest", "put_open_interest"), 0)
    for contract in (contract for chain in chains for contract in contracts(chain)):
        side = contract["putCall"].lower()
        totals[f"{side}_volume"] += contract["totalVolume"]
        totals[f"{side}_open_interest"] += contract["openInterest"]
    return totals


# -- rank and percentile -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standing:
    """Where a session's value stands within its past; None where it has no rank or percentile."""

    status: str
    n_obs: int
    rank: float | None = None
    percentile: float | None = None


def standing(series: Sequence[float | None], place: int, window: int) -> Standing:
    """Rank and percentile of the value at `place` of a series of consecutive sessions."""
    now = series[place]
    prior = [value for value in series[max(0, place - window) : place] if value is not None]
    if now is None:
        return Standing("stale", len(prior))
    if len(prior) < 60:
        return Standing("short", len(prior))
    percentile = 100 * len([value for value in prior if value < now]) / len(prior)
    around = [value for value in series[max(0, place - window + 1) : place + 1] if value is not None]
    low, high = min(around), max(around)
    if low == high:
        return Standing("flat", len(prior), None, percentile)
    status = "ok" if len(prior) >= 0.9 * window else "partial"
    return Standing(status, len(prior), 100 * (now - low) / (high - low), percentile)
