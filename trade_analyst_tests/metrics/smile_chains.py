"""Option chains of a known smile, as rows of the table `options`, for the metrics that are made of whole expiries."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from statistics import NormalDist
from typing import Any

import polars as pl

from trade_analyst_pipeline.market.columns import COLUMNS
from trade_analyst_pipeline.market.sessions import expiration_time

DAY = date(2025, 3, 12)  # a Wednesday; 16:00 New York is 20:00 UTC
SNAPSHOT = datetime(2025, 3, 12, 19, 55, tzinfo=UTC)
EXPIRATION = date(2025, 4, 17)
STRIKES = tuple(70.0 + i for i in range(61))
SPOT, RATE = 100.0, 0.04
NORMAL = NormalDist()
NAMES = (
    *("symbol", "session_date", "snapshot_time", "chain_scope", "option_symbol", "option_root", "option_type"),
    *("expiration_date", "expiration_time", "settlement_type", "exercise_type", "strike", "bid", "ask", "quote_status"),
    *("underlying_price", "underlying_bid", "underlying_ask", "interest_rate", "is_non_standard", "is_mini"),
    *("vendor_implied_volatility", "vendor_delta", "open_interest", "volume", "multiplier"),
)

Contract = dict[str, Any]
Smile = Callable[[float], float]


def skewed(log_moneyness: float) -> float:
    """A volatility of 25 % at the money that falls with the strike and bends."""
    return 0.25 - 0.2 * log_moneyness + 0.4 * log_moneyness**2


def flat(_: float) -> float:
    """30 % everywhere."""
    return 0.3


def years_to(expiration: date, taken: datetime = SNAPSHOT) -> float:
    """Years of 365 days in seconds."""
    return (expiration_time(expiration) - taken).total_seconds() / (365 * 86400)


def d1_of(forward: float, strike: float, years: float, volatility: float) -> float:
    """The first argument of Black's formula."""
    deviation = volatility * math.sqrt(years)
    return math.log(forward / strike) / deviation + deviation / 2


def price_of(forward: float, strike: float, years: float, volatility: float, sign: int) -> float:
    """Black's price of a European option, discounted; sign 1 for a call, -1 for a put."""
    d1 = d1_of(forward, strike, years, volatility)
    d2 = d1 - volatility * math.sqrt(years)
    return math.exp(-RATE * years) * sign * (forward * NORMAL.cdf(sign * d1) - strike * NORMAL.cdf(sign * d2))


def chain(
    expirations: Iterable[date] = (EXPIRATION,),
    *,
    smile: Smile = skewed,
    strikes: Sequence[float] = STRIKES,
    half_spread: float = 0.01,
    taken: datetime = SNAPSHOT,
    **changed: Any,
) -> list[Contract]:
    """A European chain quoted around its values, a tick of 1/10000 dollar fine; vendor figures are the true ones."""
    rows = []
    for expiration in expirations:
        years = years_to(expiration, taken)
        forward = SPOT * math.exp(RATE * years)
        for strike in strikes:
            for letter, sign in (("C", 1), ("P", -1)):
                volatility = smile(math.log(strike / forward))
                mid = round(price_of(forward, strike, years, volatility, sign), 4)
                row = dict.fromkeys(NAMES) | {
                    "symbol": "XYZ",
                    "session_date": taken.date(),
                    "snapshot_time": taken,
                    "chain_scope": "full",
                    "option_symbol": f"XYZ   {expiration:%y%m%d}{letter}{round(1000 * strike):08}",
                    "option_root": "XYZ",
                    "option_type": letter,
                    "expiration_date": expiration,
                    "expiration_time": expiration_time(expiration),
                    "settlement_type": "P",
                    "exercise_type": "E",
                    "strike": strike,
                    "bid": max(mid - half_spread, 0.0001),
                    "ask": mid + half_spread,
                    "quote_status": "ok",
                    "underlying_price": SPOT,
                    "interest_rate": RATE,
                    "is_non_standard": False,
                    "is_mini": False,
                    "vendor_implied_volatility": volatility,
                    "vendor_delta": sign * NORMAL.cdf(sign * d1_of(forward, strike, years, volatility)),
                    "open_interest": 100 + round(strike),
                    "volume": 10,
                    "multiplier": 100.0,
                }
                rows.append(row | changed)
    return rows


def table(rows: list[Contract]) -> pl.DataFrame:
    """Contracts as rows of `options`."""
    return pl.DataFrame(rows, schema={name: COLUMNS[name].dtype for name in NAMES})


def changed(rows: list[Contract], change: dict[str, Any], **where: Any) -> list[Contract]:
    """The contracts with some fields replaced in those that match."""
    return [row | change if all(row[key] == value for key, value in where.items()) else row for row in rows]
