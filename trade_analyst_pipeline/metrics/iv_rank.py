"""IV rank and IV percentile of each session within the sessions before it.

Takes the table of `iv_history`, or any other with its four columns; how a volatility comes about is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

from trade_analyst_pipeline.market.columns import Rule, table_schema
from trade_analyst_pipeline.market.session_grid import Floats, Indices, SessionGrid, session_grid

WINDOWS = (63, 126, 252)
MINIMUM_OBSERVATIONS = 60
INPUT_COLUMNS = ("symbol", "series", "session_date", "iv")

_BLOCK_CELLS = 1 << 15  # what is read and written for one block then stays in a processor's own cache
_BYTE_SUM = 255

Places = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int32]

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
    values, places = _places(grid.lay(ordered["iv"]))
    counts = _prior_counts(places, missing=len(values), windows=lengths)
    parts = [
        _one_window(ordered, window, count[:, grid.positions], _span(grid, values, places, window))
        for window, count in zip(lengths, counts, strict=True)
    ]
    if len(parts) == 1:
        return parts[0].select(SCHEMA.names)
    order = np.argsort(np.concatenate([grid.series * len(lengths) + i for i in range(len(lengths))]), kind="stable")
    return pl.concat(parts)[order].select(SCHEMA.names)


def _refuse_bad_values(values: pl.Series) -> None:
    bad = values.filter(~(values.is_finite() & (values > 0)))
    if len(bad):
        message = f"iv_rank needs an iv above 0 or null, got {bad[0]} in {len(bad)} of {len(values)} rows"
        raise ValueError(message)


def _places(flat: Floats) -> tuple[Floats, Places]:
    """The distinct values in order, and of every cell the place of its value there; `len(values)` where it has none."""
    has_value = ~np.isnan(flat)
    values, found = np.unique(flat[has_value], return_inverse=True)
    places = np.full(len(flat), len(values), dtype=np.int32)
    places[has_value] = found
    return values, places


def _prior_counts(places: Places, *, missing: int, windows: Sequence[int]) -> Counts:
    """For each window the counts of prior sessions [lower, not above, with a value] at every cell that has a value.

    The first `windows[-1]` cells belong to no series, and stay 0.
    """
    room, size = windows[-1], len(places)
    counts = np.zeros((len(windows), 3, size), dtype=np.int32)
    for start in range(room, size, _BLOCK_CELLS):
        _count_block(places, start, min(start + _BLOCK_CELLS, size), windows, counts)
    held = np.concatenate(([0], np.cumsum(places < missing)))
    for count, window in zip(counts, windows, strict=True):
        count[2, room:] = held[room:size] - held[room - window : size - window]
    return counts


def _count_block(places: Places, start: int, stop: int, windows: Sequence[int], counts: Counts) -> None:
    """Fill in the first two counts of the cells from `start` to before `stop`."""
    totals = np.zeros((2, stop - start), dtype=np.int32)
    for count, (shorter, window) in zip(counts, pairwise((0, *windows)), strict=True):
        for nearest in range(shorter + 1, window + 1, _BYTE_SUM):
            totals += _compare(places, start, stop, range(nearest, min(nearest + _BYTE_SUM, window + 1)))
        count[:2, start:stop] = totals


def _compare(places: Places, start: int, stop: int, sessions_back: range) -> npt.NDArray[np.uint8]:
    """How many of at most 255 sessions back are lower, and how many are not above; sums of a byte are the fastest."""
    now = places[start:stop]
    lower, not_above = sums = np.zeros((2, len(now)), dtype=np.uint8)
    answer = np.empty(len(now), dtype=np.bool_)
    as_number = answer.view(np.uint8)
    for back in sessions_back:
        prior = places[start - back : stop - back]
        np.less(prior, now, out=answer)
        np.add(lower, as_number, out=lower)
        np.less_equal(prior, now, out=answer)
        np.add(not_above, as_number, out=not_above)
    return sums


def _span(grid: SessionGrid, values: Floats, places: Places, window: int) -> list[pl.Series]:
    """`lo`, `hi` and the latest session of each over the window ending with the row; `first_date` of those before.

    Place and cell in one integer: its least or greatest gives the extreme and its cell, later cells winning a tie.
    """
    cells, missing, bits = np.arange(grid.size), len(values), grid.size.bit_length()
    has_value, keys = places < missing, places.astype(np.int64) << bits
    lowest = _rolling(np.minimum, keys | cells[::-1], window)[grid.positions]
    highest = _rolling(np.maximum, np.where(has_value, keys | cells, -1), window)[grid.positions]
    following = np.minimum.accumulate(np.where(has_value, cells, grid.size)[::-1])[::-1]
    first = following[grid.positions - window]
    or_none = np.append(values, np.nan)
    lo, hi = (pl.Series(or_none[found >> bits], nan_to_null=True) for found in (lowest, highest))
    lo_cell, hi_cell = (pl.Series(found & ((1 << bits) - 1)) for found in (lowest, highest))
    return [
        lo.alias("lo"),
        hi.alias("hi"),
        grid.dates((grid.size - 1 - lo_cell).set(lo.is_null(), None)).alias("lo_date"),
        grid.dates(hi_cell.set(hi.is_null(), None)).alias("hi_date"),
        grid.dates(pl.Series(first).set(pl.Series(first >= grid.positions), None)).alias("first_date"),
    ]


def _rolling(extreme: np.ufunc, keys: Indices, window: int) -> Indices:
    """The least or greatest of the `window` cells ending with each, of those there are; `keys` are used up.

    Cells are joined two by two, the pairs two by two and so on; the last step overlaps.
    """
    found, spare, width = keys, np.empty_like(keys), 1
    while width < window:
        step = min(width, window - width)
        spare[:step] = found[:step]
        extreme(found[step:], found[:-step], out=spare[step:])
        found, spare, width = spare, found, width + step
    return found


def _one_window(ordered: pl.DataFrame, window: int, counts: Counts, span: list[pl.Series]) -> pl.DataFrame:
    names = ("lower", "not_above", "n_obs")
    columns = [pl.Series(name, count, dtype=pl.Int64) for name, count in zip(names, counts, strict=True)]
    return ordered.with_columns(pl.lit(window, dtype=pl.Int64).alias("window_sessions"), *columns, *span).with_columns(
        _status(window), *_rank_and_percentile()
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
    has_history = pl.col("iv").is_not_null() & (pl.col("n_obs") >= MINIMUM_OBSERVATIONS)
    has_rank = has_history & (pl.col("hi") > pl.col("lo"))
    lower, not_above = pl.col("lower"), pl.col("not_above")
    # divided before it is scaled, so that the highest value stands at 100 exactly
    rank = 100 * ((pl.col("iv") - pl.col("lo")) / (pl.col("hi") - pl.col("lo")))
    return [
        pl.when(has_rank).then(rank).alias("iv_rank"),
        pl.when(has_history).then(100 * lower / pl.col("n_obs")).alias("iv_percentile"),
        pl.when(has_history).then(50 * (lower + not_above) / pl.col("n_obs")).alias("iv_percentile_mid"),
    ]
