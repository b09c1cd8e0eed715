"""Realised volatilities, each return by itself, with mpmath."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from itertools import pairwise
from typing import Any

from mpmath import log, mpf, sqrt

from plain_metrics.exchange import ending, sessions

Row = dict[str, Any]
ESTIMATORS = ("close_to_close", "zero_mean", "parkinson", "garman_klass", "rogers_satchell", "yang_zhang")


def realized_volatility(
    ohlc: Sequence[Row], *, as_of: datetime | None = None, windows: Sequence[int] = (10, 21, 63, 252)
) -> list[Row]:
    """One row per symbol, window and session with a daily bar."""
    bars: dict[str, dict[date, Row]] = {}
    for row in sorted(ohlc, key=lambda row: row["known_time"]):
        is_known = as_of is None or row["known_time"] <= as_of
        if is_known and row["frequency"] == "daily" and row["session_date"] in sessions():
            bars.setdefault(row["symbol"], {})[row["session_date"]] = row
    return [
        {"symbol": symbol, "window_sessions": window, "session_date": day} | estimates(held, day, window)
        for symbol, held in sorted(bars.items())
        for window in sorted(windows)
        for day in sorted(held)
    ]


def estimates(bars: dict[date, Row], day: date, window: int) -> Row:
    """All estimators of the returns that end with a day."""
    days = ending(day, window + 1)
    pairs = [(prices(bars.get(first)), prices(bars.get(then))) for first, then in pairwise(days)]
    returns = [(first[3], then) for first, then in pairs if first and then]
    if len(returns) < window:
        return dict.fromkeys(f"{name}_volatility" for name in ESTIMATORS) | {"n_obs": len(returns), "status": "short"}
    o = [log(then[0] / closed) for closed, then in returns]
    c = [log(then[3] / then[0]) for _, then in returns]
    u = [log(then[1] / then[0]) for _, then in returns]
    d = [log(then[2] / then[0]) for _, then in returns]
    whole = [log(then[3] / closed) for closed, then in returns]
    n, two = mpf(window), log(mpf(2))
    k = mpf("0.34") / (mpf("1.34") + (n + 1) / (n - 1))
    rogers = mean([a * (a - b) + e * (e - b) for a, e, b in zip(u, d, c, strict=True)])
    variances = {
        "close_to_close": spread(whole),
        "zero_mean": mean([each**2 for each in whole]),
        "parkinson": mean([(a - e) ** 2 for a, e in zip(u, d, strict=True)]) / (4 * two),
        "garman_klass": mean([(a - e) ** 2 / 2 - (2 * two - 1) * b**2 for a, e, b in zip(u, d, c, strict=True)]),
        "rogers_satchell": rogers,
        "yang_zhang": spread(o) + k * spread(c) + (1 - k) * rogers,
    }
    figures = {f"{name}_volatility": sqrt(252 * variances[name]) for name in ESTIMATORS}
    return {**figures, "n_obs": window, "status": "ok"}


def prices(bar: Row | None) -> list[mpf] | None:
    """Open, high, low and close, None unless each is above 0."""
    if bar is None or any(bar[name] is None or bar[name] <= 0 for name in ("open", "high", "low", "close")):
        return None
    return [mpf(str(bar[name])) for name in ("open", "high", "low", "close")]


def mean(values: Sequence[mpf]) -> mpf:
    """Of all of them."""
    return sum(values) / len(values)


def spread(values: Sequence[mpf]) -> mpf:
    """The sample variance."""
    middle = mean(values)
    return sum((value - middle) ** 2 for value in values) / (len(values) - 1)
