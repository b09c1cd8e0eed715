"""How fast the metrics are: `iv_rank` beside pandas on the same rows, and option metrics on a chain of 200,000 rows.

Each figure is the best of several runs, the two sides taking turns, in one process. Times are of the function alone,
from a table to a table; making the rows is not timed. The rows are drawn from a fixed seed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl

from trade_analyst_pipeline.market.sessions import sessions_ending
from trade_analyst_pipeline.metrics.iv_history import iv_history
from trade_analyst_pipeline.metrics.iv_rank import MINIMUM_OBSERVATIONS, iv_rank
from trade_analyst_pipeline.metrics.put_call_ratio import put_call_ratio

SEED = 20250312
WINDOW = 252
RUNS = 3
LAST_DAY = date(2025, 3, 12)
SNAPSHOT = datetime(2025, 3, 12, 19, 55, tzinfo=UTC)
COMPARED = ("iv_rank", "iv_percentile", "lo", "hi", "n_obs")

Figures = dict[str, float | int | str]


def iv_rank_against_pandas(symbols: int = 200, days: int = 1260) -> Figures:
    """Rows per second of `iv_rank` with one window of 252 and of pandas' rolling functions, and ours / theirs.

    Both start from the same long table, every twentieth value null, and end with a long one; the five columns that
    both have must be equal (ranks to 1e-9, the rest exactly), else AssertionError. Ours makes ties, dates and statuses
    besides.
    """
    history = _history(symbols, days)
    frame = history.to_pandas()
    ours, theirs = _best(lambda: iv_rank(history, windows=(WINDOW,)), lambda: pandas_rank(frame))
    _check_equal(iv_rank(history, windows=(WINDOW,)), pandas_rank(frame))
    rows = history.height
    return {
        "rows": rows,
        "rows_per_second": rows / ours,
        "pandas_rows_per_second": rows / theirs,
        "ratio": theirs / ours,
        "pandas": pd.__version__,
    }


def pandas_rank(frame: pd.DataFrame) -> pd.DataFrame:
    """The five compared columns as pandas makes them fastest: one column per symbol, rolled all at once.

    The rank of a value among itself and the sessions before it, ties taking the lowest place, is one more than the
    number of lower ones.
    """
    wide = frame.pivot(index="session_date", columns="symbol", values="iv")
    lo, hi = wide.rolling(WINDOW, min_periods=1).min(), wide.rolling(WINDOW, min_periods=1).max()
    n_obs = wide.notna().astype("float64").rolling(WINDOW, min_periods=1).sum().shift(1).fillna(0)
    lower = wide.rolling(WINDOW + 1, min_periods=1).rank(method="min") - 1
    has_history = wide.notna() & (n_obs >= MINIMUM_OBSERVATIONS)
    columns = {
        "iv_rank": (100 * ((wide - lo) / (hi - lo))).where(has_history),
        "iv_percentile": (100 * lower / n_obs).where(has_history),
        "lo": lo,
        "hi": hi,
        "n_obs": n_obs,
    }
    # one symbol after the other, each in order of its sessions
    return pd.DataFrame({name: values.to_numpy().ravel(order="F") for name, values in columns.items()})


def put_call_ratio_speed(symbols: int = 50) -> Figures:
    """Rows of `options` per second that `put_call_ratio` takes in, over every scope; no peer offers the same."""
    options = _chains(symbols)
    (seconds,) = _best(lambda: put_call_ratio(options))
    return {"rows": options.height, "rows_per_second": options.height / seconds}


def iv_history_speed(symbols: int = 50) -> Figures:
    """Rows of `options` per second that `iv_history` takes in; every symbol must get its 30-day values. No peer."""
    options = _chains(symbols)
    found = iv_history(options)
    assert found.filter(pl.col("series").is_in(["atm30", "atm30_vendor"]))["status"].to_list() == ["ok"] * 2 * symbols
    (seconds,) = _best(lambda: iv_history(options))
    return {"rows": options.height, "rows_per_second": options.height / seconds}


def european_chain_speed() -> Figures:
    """Seconds from the options of one European chain of 20,000 contracts to all of its series; no peer."""
    options = _chains(1, expirations=32, strikes=313).with_columns(exercise_type=pl.lit("E"))
    found = iv_history(options).filter(series="atm30")
    assert found["status"].to_list() == ["ok"]
    (seconds,) = _best(lambda: iv_history(options))
    return {"rows": options.height, "seconds": seconds}


def _best(*functions: Callable[[], object]) -> list[float]:
    """Least seconds of each of the functions over some rounds; in a round each runs once, after one warm-up."""
    for function in functions:
        function()
    seconds = [[_seconds(function) for function in functions] for _ in range(RUNS)]
    return [min(runs) for runs in zip(*seconds, strict=True)]


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _check_equal(ours: pl.DataFrame, theirs: pd.DataFrame) -> None:
    for name in COMPARED:
        left = ours[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        tolerance = 1e-9 if name.startswith("iv_") else 0.0
        np.testing.assert_allclose(left, theirs[name].to_numpy(), rtol=tolerance, atol=tolerance, err_msg=name)


def _history(symbols: int, days: int) -> pl.DataFrame:
    """Volatilities that wander, rounded so that some are equal, five percent of them null."""
    rng = np.random.default_rng(SEED)
    steps = rng.normal(0, 0.04, (symbols, days)).cumsum(axis=1)
    values = np.round(0.25 * np.exp(steps - 0.5 * steps.mean(axis=1, keepdims=True)), 4) + 0.0001
    values[rng.random((symbols, days)) < 0.05] = np.nan
    return pl.DataFrame(
        {
            "symbol": np.repeat([f"S{i:04}" for i in range(symbols)], days),
            "series": "atm30_vendor",
            "session_date": sessions_ending(LAST_DAY, days) * symbols,
            "iv": values.ravel(),
        }
    ).with_columns(pl.col("iv").fill_nan(None))


def _chains(symbols: int, expirations: int = 20, strikes: int = 100) -> pl.DataFrame:
    """A snapshot of made-up chains, 4,000 contracts a symbol: parity holds, and time value fades from the forward."""
    rng = np.random.default_rng(SEED)
    fridays = [LAST_DAY + timedelta(days=2 + 7 * week) for week in range(expirations)]
    names = pl.DataFrame({"symbol": [f"S{i:04}" for i in range(symbols)], "spot": rng.uniform(80, 120, symbols)})
    dates = pl.DataFrame({"expiration_date": fridays})
    grid = pl.DataFrame({"moneyness": np.linspace(0.75, 1.25, strikes)})
    sides = pl.DataFrame({"option_type": ["C", "P"], "sign": [1.0, -1.0]})
    rows = names.join(dates, how="cross").join(grid, how="cross").join(sides, how="cross")
    strike, spot = (pl.col("moneyness") * pl.col("spot")).round(1), pl.col("spot")
    days = (pl.col("expiration_date") - pl.lit(LAST_DAY)).dt.total_days()
    time_value = 0.1 + 0.4 * spot * 0.25 * (days / 365).sqrt() * (-40 * (pl.col("moneyness") - 1) ** 2).exp()
    mid = pl.max_horizontal(pl.col("sign") * (spot - strike), 0.0) + time_value
    return rows.with_columns(
        pl.lit(LAST_DAY).alias("session_date"),
        pl.lit(SNAPSHOT).alias("snapshot_time"),
        pl.lit("ok").alias("quote_status"),
        pl.lit("full").alias("chain_scope"),
        pl.col("symbol").alias("option_root"),
        # 20:00 UTC is the close of 16:00 New York in summer time, which all of these expirations are in
        (pl.col("expiration_date").cast(pl.Datetime("us", "UTC")) + timedelta(hours=20)).alias("expiration_time"),
        strike.alias("strike"),
        (mid - 0.02).round(2).alias("bid"),
        (mid + 0.02).round(2).alias("ask"),
        mid.round(2).alias("last"),
        (0.25 - 0.1 * (pl.col("moneyness") - 1)).alias("vendor_implied_volatility"),
        (pl.col("sign") * (0.5 - pl.col("sign") * (pl.col("moneyness") - 1))).alias("vendor_delta"),
        pl.Series("volume", rng.poisson(20, rows.height)),
        pl.Series("open_interest", rng.poisson(500, rows.height)),
        pl.lit(100.0).alias("multiplier"),
        pl.lit(0.04).alias("interest_rate"),
        spot.alias("underlying_price"),
        pl.lit(0.0).alias("dividend_yield"),
        pl.lit("A").alias("exercise_type"),
        pl.lit(value=False).alias("is_non_standard"),
        pl.lit(value=False).alias("is_mini"),
    ).drop("spot", "moneyness", "sign")


def main() -> None:
    """Print every figure as one JSON object."""
    figures = {
        "iv_rank": iv_rank_against_pandas(),
        "put_call_ratio": put_call_ratio_speed(),
        "iv_history": iv_history_speed(),
        "european_chain": european_chain_speed(),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
