"""Volatility at the money by maturity, ours and the vendor's, of one session."""

from __future__ import annotations

import math
import re

import polars as pl

from trade_analyst_pipeline.pictures.chart import Axis, Chart, axis, without_values
from trade_analyst_pipeline.pictures.one_of import one_of

COLUMNS = ("symbol", "session_date", "series", "iv", "status")
# How series of `iv_history` are named; each kind is a line or dots of its own, never joined with another.
KINDS = {"ours": r"atm(\d+)", "vendor": r"atm(\d+)_vendor", "model-free": r"model_free(\d+)"}


def term_structure(history: pl.DataFrame) -> str:
    """SVG of the rows of `iv_history` of one symbol and session: `iv` by maturity, days on a root scale.

    A maturity without a value breaks the line of its kind; which of ours have none, and why, stands above. Raises
    ValueError for rows of several symbols or sessions.
    """
    rows = history.select(COLUMNS)
    day = one_of(rows, "session_date")
    title = f"{one_of(rows, 'symbol')} volatility by maturity, {day}"
    kinds = {kind: _by_days(rows, pattern) for kind, pattern in KINDS.items()}
    values = [iv for each in kinds.values() for iv, _ in each.values()]
    if all(iv is None for iv in values):
        return without_values(title, _lacking(kinds["ours"]) or "no series by maturity")
    maturities = sorted({days for each in kinds.values() for days in each})
    ticks = [(math.sqrt(days), str(days)) for days in maturities]
    low, high = math.sqrt(maturities[0]) - 0.5, math.sqrt(maturities[-1]) + 0.5
    days_axis = Axis("days to maturity (root scale)", low, high, ticks)
    chart = Chart(title, _lacking(kinds["ours"]), days_axis, axis("volatility a year, %", values, "g", unit=0.01))
    for kind, each in kinds.items():
        points = [chart.at(math.sqrt(days), iv) for days, (iv, _) in sorted(each.items())]
        if len(points) > 1:
            chart.line(points, kind)
        elif points:
            chart.dots(points, kind)
    return chart.svg()


def _by_days(rows: pl.DataFrame, pattern: str) -> dict[int, tuple[float | None, str]]:
    """Value and status of each maturity of a kind."""
    found = {}
    for series, iv, status in rows.select("series", "iv", "status").iter_rows():
        if match := re.fullmatch(pattern, series):
            found[int(match[1])] = (iv, status)
    return found


def _lacking(ours: dict[int, tuple[float | None, str]]) -> str:
    reasons = [f"{days} ({status})" for days, (iv, status) in sorted(ours.items()) if iv is None]
    return f"no value at days: {', '.join(reasons)}" if reasons else ""
