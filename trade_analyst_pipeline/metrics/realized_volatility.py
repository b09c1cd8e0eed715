"""Realised volatility of each session's trailing windows, from daily bars, by six estimators.

Bars are expected split-adjusted and of regular hours. The range estimators see only what happens within sessions and
are biased low by discrete sampling: they are not comparable with an implied volatility without saying so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import polars as pl

from trade_analyst_pipeline.market.columns import Rule, table_schema
from trade_analyst_pipeline.market.session_grid import Floats, SessionGrid, session_grid
from trade_analyst_pipeline.market.sessions import CALENDAR_END, CALENDAR_START, sessions

WINDOWS = (10, 21, 63, 252)
SESSIONS_PER_YEAR = 252
INPUT_COLUMNS = ("symbol", "frequency", "session_date", "open", "high", "low", "close", "known_time")
ESTIMATORS = (
    "close_to_close_volatility",
    "zero_mean_volatility",
    "parkinson_volatility",
    "garman_klass_volatility",
    "rogers_satchell_volatility",
    "yang_zhang_volatility",
)

SCHEMA = table_schema(
    "realized_volatility",
    "1.0",
    key=("symbol", "window_sessions", "session_date"),
    columns=("symbol", "window_sessions", "session_date", *ESTIMATORS, "n_obs", "status"),
    required=("n_obs", "status"),
    rules=tuple(
        Rule(f"{name}_not_negative", pl.col(name) >= 0, "A volatility is not negative.") for name in ESTIMATORS
    ),
)


def realized_volatility(
    bars: pl.DataFrame, *, as_of: datetime | None = None, windows: Sequence[int] = WINDOWS
) -> pl.DataFrame:
    """Annualised volatility over the n returns ending with each daily bar, once per window n; rows as `SCHEMA`.

    `bars` are rows of `ohlc`; only those of frequency `daily` on sessions of the exchange count. Of several rows of
    one bar the one known latest wins, at or before `as_of` (UTC, inclusive) when given. A return needs the bars of
    two sessions in a row, every price above 0; all estimators are null with status `short` unless all n returns are
    there, and `n_obs` says how many are. Fractions, 252 sessions a year. Raises ValueError for a window below 2.
    """
    lengths = sorted(set(windows))
    if any(length < 2 for length in lengths):
        message = f"a realised volatility needs windows of 2 sessions or more, got {lengths}"
        raise ValueError(message)
    latest = _latest_known(bars, as_of)
    if latest.is_empty() or not lengths:
        return SCHEMA.empty()
    grid = session_grid(latest, series=("symbol",), room=lengths[-1])
    terms = _terms(*(grid.lay(latest[name]) for name in ("open", "high", "low", "close")))
    parts = [_one_window(latest, grid, sums, window) for window, sums in _trailing_sums(terms, lengths)]
    return pl.concat(parts).select(SCHEMA.names).sort(SCHEMA.key)


def _latest_known(bars: pl.DataFrame, as_of: datetime | None) -> pl.DataFrame:
    counted = sessions(CALENDAR_START, CALENDAR_END)
    wanted = (pl.col("frequency") == "daily") & pl.col("session_date").is_in(counted)
    if as_of is not None:
        wanted &= pl.col("known_time") <= as_of
    prices = [
        pl.when(pl.col(name).is_finite() & (pl.col(name) > 0)).then(pl.col(name)).alias(name)
        for name in ("open", "high", "low", "close")
    ]
    return (
        bars.select(INPUT_COLUMNS)
        .filter(wanted)
        .sort("symbol", "session_date", "known_time", "close", "open", "high", "low")
        .unique(("symbol", "session_date"), keep="last", maintain_order=True)
        .with_columns(prices)
    )


def _terms(opened: Floats, high: Floats, low: Floats, close: Floats) -> Floats:
    """What is added up over a window, one row each; NaN where the session's bar or the one before is missing.

    0 return, 1 its square, 2 squared range, 3 Garman-Klass, 4 Rogers-Satchell, 5 overnight, 6 its square,
    7 open to close, 8 its square.
    """
    previous = np.concatenate([[np.nan], close[:-1]])
    overnight, day = np.log(opened / previous), np.log(close / opened)
    up, down, spread = np.log(high / opened), np.log(low / opened), np.log(high / low)
    total = np.log(close / previous)
    garman_klass = 0.5 * spread**2 - (2 * np.log(2) - 1) * day**2
    rogers_satchell = up * (up - day) + down * (down - day)
    rows = (total, total**2, spread**2, garman_klass, rogers_satchell, overnight, overnight**2, day, day**2)
    terms = np.stack(rows)
    return np.where(np.isnan(terms).any(axis=0), np.nan, terms)


def _trailing_sums(terms: Floats, windows: Sequence[int]) -> list[tuple[int, Floats]]:
    """For each window the sums of every term over the cells ending with each; the last row counts the returns.

    Added from the latest backwards in one fixed order, so that a value never depends on how long the history is.
    """
    known = ~np.isnan(terms[:1])
    sums = np.concatenate([terms, known])
    parts = []
    total = sums.copy()
    for back in range(1, windows[-1] + 1):
        if back in windows:
            parts.append((back, total.copy()))
        total[:, back:] += sums[:, :-back]
    return parts


def _one_window(latest: pl.DataFrame, grid: SessionGrid, sums: Floats, window: int) -> pl.DataFrame:
    values = _estimates(sums[:, grid.positions], window)
    columns = [pl.Series(name, value, nan_to_null=True) for name, value in zip(ESTIMATORS, values, strict=True)]
    n_obs = pl.Series("n_obs", sums[-1, grid.positions]).cast(pl.Int64)
    status = pl.when(pl.col("n_obs") == window).then(pl.lit("ok")).otherwise(pl.lit("short"))
    return latest.select(
        "symbol", "session_date", pl.lit(window, dtype=pl.Int64).alias("window_sessions"), *columns, n_obs
    ).with_columns(status.alias("status"))


def _estimates(sums: Floats, n: int) -> list[Floats]:
    """The six annualised volatilities, in the order of `ESTIMATORS`, from the sums of `_terms` over n returns.

    Parkinson 1980, Garman and Klass 1980, Rogers and Satchell 1991, Yang and Zhang 2000.
    """
    mean = sums / n
    weight = 0.34 / (1.34 + (n + 1) / (n - 1))
    variances = [
        _sample_variance(sums[0], sums[1], n),
        mean[1],
        mean[2] / (4 * np.log(2)),
        mean[3],
        mean[4],
        _sample_variance(sums[5], sums[6], n) + weight * _sample_variance(sums[7], sums[8], n) + (1 - weight) * mean[4],
    ]
    return [np.sqrt(SESSIONS_PER_YEAR * variance) for variance in variances]


def _sample_variance(total: Floats, squares: Floats, n: int) -> Floats:
    """Variance with n - 1 in the denominator; rounding below zero counts as zero."""
    return np.maximum(squares - total**2 / n, 0) / (n - 1)
