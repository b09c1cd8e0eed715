"""IV rank and IV percentile of each session within the sessions before it.

Takes the table of `iv_history`, or any other with its four columns; how a volatility comes about is not known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl

from trade_analyst_pipeline.market.columns import Rule, table_schema
from trade_analyst_pipeline.market.session_grid import Floats, SessionGrid, session_grid

WINDOWS = (63, 126, 252)
MINIMUM_OBSERVATIONS = 60
INPUT_COLUMNS = ("symbol", "series", "session_date", "iv")

SCHEMA = table_schema(
    "iv_rank",
    "1.0",
    key=("symbol", "series", "window_sessions", "session_date"),
    columns=(
        *("symbol", "series", "window_sessions", "session_date", "iv"),
        *("iv_rank", "iv_percentile", "iv_percentile_mid"),
        *("n_obs", "lo", "hi", "lo_date", "hi_date", "first_date", "status"),
    ),
    required=("n_obs", "status"),
    rules=(
        Rule("iv_rank_range", pl.col("iv_rank").is_between(0, 100), "A rank is 0 to 100."),
        Rule("iv_percentile_range", pl.col("iv_percentile").is_between(0, 100), "A percentile is 0 to 100."),
        Rule("iv_within_extremes", pl.col("iv").is_between(pl.col("lo"), pl.col("hi")), "iv is from lo to hi."),
    ),
)


def iv_rank(
    history: pl.DataFrame, *, windows: Sequence[int] = WINDOWS, calendar: Sequence[date] | None = None
) -> pl.DataFrame:
    """IV rank and percentile of every row of `history`, once per window; rows as `SCHEMA`, sorted by its key.

    With x the session's iv and W the window: `iv_rank` = 100 (x - lo) / (hi - lo), lo and hi over the W sessions
    ending with this one; `iv_percentile` = 100 #{prior < x} / n over the W sessions before it, n of them with a value.
    A window counts the days of `calendar` (the exchange's sessions unless given, ascending): a missing or null one
    lowers n and is never filled. `status` is `stale` (no iv today), `short` (n < 60), `flat` (hi = lo: no rank),
    `partial` (n < 0.9 W) or `ok`.
    Raises ValueError for an iv that is not above 0 and finite, a date twice in a series, or one outside the calendar.
    """
    ordered = history.select(INPUT_COLUMNS).sort("symbol", "series", "session_date")
    _refuse_bad_values(ordered["iv"])
    lengths = sorted(set(windows))
    if ordered.is_empty() or not lengths:
        return SCHEMA.empty()
    grid = session_grid(ordered, series=("symbol", "series"), room=lengths[-1], calendar=calendar)
    flat = grid.lay(ordered["iv"])
    order_keys = _order_keys(flat)
    parts = [
        _one_window(ordered, window, counts[:, grid.positions], _extremes(grid, order_keys, window))
        for window, counts in _prior_counts(flat, lengths)
    ]
    order = np.argsort(np.concatenate([grid.series * len(lengths) + i for i in range(len(lengths))]), kind="stable")
    return pl.concat(parts)[order].select(SCHEMA.names)


def _refuse_bad_values(values: pl.Series) -> None:
    bad = values.filter(~(values.is_finite() & (values > 0)))
    if len(bad):
        message = f"iv_rank needs an iv above 0 or null, got {bad[0]} in {len(bad)} of {len(values)} rows"
        raise ValueError(message)


def _prior_counts(flat: Floats, windows: Sequence[int]) -> Iterator[tuple[int, npt.NDArray[np.int32]]]:
    """For each window the counts of prior sessions [lower, equal, with a value] at every cell, in one pass."""
    counts = np.zeros((3, len(flat)), dtype=np.int32)
    has_value = ~np.isnan(flat)
    for back in range(1, windows[-1] + 1):
        now, prior = flat[back:], flat[:-back]
        counts[0, back:] += prior < now
        counts[1, back:] += prior == now
        counts[2, back:] += has_value[:-back]
        if back in windows:
            yield back, counts


def _order_keys(flat: Floats) -> tuple[pl.Series, pl.Series, pl.Series]:
    """All values in order, and for each cell two integers whose least and greatest give the extreme and its cell.

    A key is the value's place in that order times the number of cells, plus a part by which later cells win a tie.
    """
    values, places = np.unique(flat, return_inverse=True)
    cells, missing = np.arange(len(flat)), pl.Series(np.isnan(flat))
    for_lowest = pl.Series(places * len(flat) + cells[::-1]).set(missing, None)
    for_highest = pl.Series(places * len(flat) + cells).set(missing, None)
    return pl.Series(values), for_lowest, for_highest


def _extremes(grid: SessionGrid, order_keys: tuple[pl.Series, pl.Series, pl.Series], window: int) -> list[pl.Series]:
    """`lo`, `hi` and the latest session of each over the window ending with the row; `first_date` of those before."""
    values, for_lowest, for_highest = order_keys
    lowest = for_lowest.rolling_min(window, min_samples=1).gather(grid.positions)
    highest = for_highest.rolling_max(window, min_samples=1).gather(grid.positions)
    cells = pl.Series(np.arange(grid.size)).set(for_lowest.is_null(), None)
    first = cells.shift(1).rolling_min(window, min_samples=1).gather(grid.positions)
    return [
        values.gather(lowest // grid.size).alias("lo"),
        values.gather(highest // grid.size).alias("hi"),
        grid.dates(grid.size - 1 - lowest % grid.size).alias("lo_date"),
        grid.dates(highest % grid.size).alias("hi_date"),
        grid.dates(first).alias("first_date"),
    ]


def _one_window(
    ordered: pl.DataFrame, window: int, counts: npt.NDArray[np.int32], extremes: list[pl.Series]
) -> pl.DataFrame:
    lower, equal, n_obs = counts.astype(np.int64)
    columns = [pl.Series("lower", lower), pl.Series("equal", equal), pl.Series("n_obs", n_obs), *extremes]
    return (
        ordered.with_columns(pl.lit(window, dtype=pl.Int64).alias("window_sessions"), *columns)
        .with_columns(_status(window))
        .with_columns(_rank_and_percentile())
    )


def _status(window: int) -> pl.Expr:
    return (
        pl.when(pl.col("iv").is_null())
        .then(pl.lit("stale"))
        .when(pl.col("n_obs") < MINIMUM_OBSERVATIONS)
        .then(pl.lit("short"))
        .when(pl.col("hi") == pl.col("lo"))
        .then(pl.lit("flat"))
        .when(10 * pl.col("n_obs") < 9 * window)
        .then(pl.lit("partial"))
        .otherwise(pl.lit("ok"))
        .alias("status")
    )


def _rank_and_percentile() -> list[pl.Expr]:
    has_history = ~pl.col("status").is_in(["stale", "short"])
    has_rank = has_history & (pl.col("status") != "flat")
    lower, equal = pl.col("lower"), pl.col("equal")
    # divided before it is scaled, so that the highest value stands at 100 exactly
    rank = 100 * ((pl.col("iv") - pl.col("lo")) / (pl.col("hi") - pl.col("lo")))
    return [
        pl.when(has_rank).then(rank).alias("iv_rank"),
        pl.when(has_history).then(100 * lower / pl.col("n_obs")).alias("iv_percentile"),
        pl.when(has_history).then(50 * (2 * lower + equal) / pl.col("n_obs")).alias("iv_percentile_mid"),
    ]
