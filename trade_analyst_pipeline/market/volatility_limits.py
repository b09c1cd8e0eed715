"""What every metric takes for a volatility, and how long an American option counts as a European one."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

LEAST_IV: Final = 0.01
HIGHEST_IV: Final = 5.0
"""Fractions a year: outside of them is a fault, not a market."""
EUROPEAN_UP_TO: Final = timedelta(days=60)
