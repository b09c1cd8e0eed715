"""IV rank and percentiles by counting."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

from plain_metrics.exchange import before, ending

Row = dict[str, Any]


def iv_rank(iv_history: Sequence[Row], *, windows: Sequence[int] = (63, 126, 252)) -> list[Row]:
    """One row per symbol, series, window and session with a row."""
    series: dict[tuple[str, str], dict[date, Decimal | None]] = {}
    for row in iv_history:
        series.setdefault((row["symbol"], row["series"]), {})[row["session_date"]] = row["iv"]
    return [
        {"symbol": symbol, "series": name, "window_sessions": window, "session_date": day}
        | standing(values, day, window)
        for (symbol, name), values in sorted(series.items())
        for window in sorted(windows)
        for day in sorted(values)
    ]


def standing(values: dict[date, Decimal | None], day: date, window: int) -> Row:
    """Where the value of a day stands."""
    now = values[day]
    around = [(value, each) for each in ending(day, window) if (value := values.get(each)) is not None]
    prior = [(value, each) for each in before(day, window) if (value := values.get(each)) is not None]
    row: Row = dict.fromkeys(("iv_rank", "iv_percentile", "iv_percentile_mid", "lo", "hi", "lo_date", "hi_date"))
    row |= {"iv": now, "n_obs": len(prior), "first_date": min((each for _, each in prior), default=None)}
    if around:
        low, high = min(value for value, _ in around), max(value for value, _ in around)
        row |= {"lo": low, "lo_date": max(each for value, each in around if value == low)}
        row |= {"hi": high, "hi_date": max(each for value, each in around if value == high)}
    if now is None:
        return row | {"status": "stale"}
    if len(prior) < 60:
        return row | {"status": "short"}
    lower = sum(value < now for value, _ in prior)
    equal = sum(value == now for value, _ in prior)
    row["iv_percentile"] = Fraction(100 * lower, len(prior))
    row["iv_percentile_mid"] = Fraction(100 * (2 * lower + equal), 2 * len(prior))
    if row["lo"] == row["hi"]:
        return row | {"status": "flat"}
    row["iv_rank"] = 100 * Fraction(now - row["lo"]) / Fraction(row["hi"] - row["lo"])
    return row | {"status": "ok" if 10 * len(prior) >= 9 * window else "partial"}
