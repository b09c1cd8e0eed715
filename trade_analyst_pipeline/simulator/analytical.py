"""Chains under assumptions of the caller: the strategy ANALYTICAL, which values contracts on given inputs.

Quotes, volumes and last trades stay those of the market; the theoretical value, the volatility and the Greeks are those
of Black, Scholes and Merton for the assumptions. What is not assumed is taken from the market, the volatility from the
source's constant 29 %.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from trade_analyst_pipeline.simulator.contracts import Board
from trade_analyst_pipeline.simulator.pricing import black, greeks
from trade_analyst_pipeline.simulator.wire_contracts import THEORETICAL_VOLATILITY


@dataclass(frozen=True)
class Assumptions:
    """What a caller assumes; None means as it is. Volatility and rate in percent, price in dollars."""

    volatility: float | None = None
    underlying_price: float | None = None
    interest_rate: float | None = None
    days: float | None = None


def assumed(board: Board, wanted: Assumptions) -> Board:
    """The board with values and Greeks under assumptions; the vendor's model never fails on them."""
    sigma = (THEORETICAL_VOLATILITY if wanted.volatility is None else wanted.volatility) / 100.0
    rate = board.moment.rate if wanted.interest_rate is None else wanted.interest_rate / 100.0
    years = board.years if wanted.days is None else np.full_like(board.years, max(wanted.days, 1.0 / 24.0) / 365.0)
    price = board.moment.spot if wanted.underlying_price is None else wanted.underlying_price
    shares = [item.shares / 100.0 for item in board.selection.expirations]
    spot = price * np.repeat(shares, board.selection.counts)
    forwards, discounts, deviations = spot * np.exp(rate * years), np.exp(-rate * years), sigma * np.sqrt(years)
    values = black(forwards, board.strikes, deviations, discounts)
    return replace(
        board,
        value=values.european,
        volatility=np.full_like(values.european, 100.0 * sigma),
        greeks=greeks(
            values,
            spot=spot,
            forwards=forwards,
            strikes=board.strikes,
            discounts=discounts,
            deviations=deviations,
            years=years,
            rate=rate,
        ),
        is_modelled=np.ones_like(board.is_modelled),
    )
