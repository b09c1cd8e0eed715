"""How prices are compared: as whole numbers of 1/10000 dollar, never as floats with a tolerance of their own."""

from __future__ import annotations

from typing import Final

import polars as pl

TICKS_PER_DOLLAR: Final = 10_000
# Dollars, half of what most prices move by: as far below its intrinsic value a price still counts as at it.
HALF_TICK: Final = 0.005


def ticks(price: pl.Expr) -> pl.Expr:
    """A price as the nearest whole number of 1/10000 dollar; still a float, so that no price is too large for it."""
    return (price * TICKS_PER_DOLLAR).round()
