"""The quote in force at each trade: joins of a tape of trades to a tape of quotes.

How a quote is judged, and what a trade's side is, are not known here.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from trade_analyst_pipeline.market.prices import TICKS_PER_DOLLAR
from trade_analyst_pipeline.market.symbol_runs import RUN_COLUMNS, refuse_disorder, symbol_runs

if TYPE_CHECKING:
    from trade_analyst_pipeline.kernels.arrays import Integers

Join = Literal["before", "at_or_before", "match"]

ADDED_COLUMNS = ("quote_time", "bid", "ask", "bid_size", "ask_size")

FINE_CLOCK = timedelta(milliseconds=1)
_NANOSECONDS = {"ns": 1, "us": 1_000, "ms": 1_000_000}


def prevailing_quote(
    trades: pl.DataFrame,
    quotes: pl.DataFrame,
    *,
    max_age: timedelta | None,
    join: Join = "before",
    resolution: timedelta = timedelta(0),
) -> pl.DataFrame:
    """Every row of `trades` with the quote in force: `quote_time`, `bid`, `ask`, sizes where `quotes` has them.

    `before` takes the last quote with time < the trade's, the only join that never sees the trade's own effect;
    `at_or_before` one with the same time too; `match`, for clocks whose times are rounded down to `resolution`, the
    first of the quotes in force within [t - resolution, t + resolution) that has the trade's price on one side, else as
    `before` (it looks up to one resolution ahead: for whole tapes, not for a running one). Of quotes with one time the
    last row counts. A quote more than `max_age` old is none (60 s for stocks, 15 min for options; None: any age).

    Both tables are in order of `symbol` (then `session_date` where both have it) and time, UTC, in the same unit;
    groups are joined each by itself, so that no quote is carried overnight. A quote with null on both sides stands for
    a halt: no quote until the next one. Adds `quote_quality` (a word of `QUOTE_QUALITIES`) and `quote_reason`: null, or
    why there is no quote: `no_quote`, `stale_quote`. Raises ValueError for rows out of order, and for times that cannot
    be compared.
    """
    from trade_analyst_pipeline.kernels.quote_join import NO_QUOTE, TOO_OLD, last_before, match_search

    unit = _shared_unit(trades, quotes)
    trade_times, quote_times = _integers(trades["trade_time"]), _integers(quotes["quote_time"])
    bounds = _bounds(trades, quotes)
    found = np.full(trades.height, NO_QUOTE, dtype=np.int64)
    oldest = np.iinfo(np.int64).max if max_age is None else _units(max_age, unit)
    bad_trade, bad_quote = last_before(trade_times, quote_times, bounds, int(join == "at_or_before"), oldest, found)
    refuse_disorder("trades", trades, "trade_time", bad_trade)
    refuse_disorder("quotes", quotes, "quote_time", bad_quote)
    quality = pl.lit(_quality(join, resolution))
    if join == "match":
        matched = np.empty_like(found)
        prices, bids, asks = (_ticks(each) for each in (trades["trade_price"], quotes["bid"], quotes["ask"]))
        match_search(trade_times, prices, quote_times, bids, asks, bounds, _units(resolution, unit), oldest, matched)
        has_match = matched != NO_QUOTE
        found = np.where(has_match, matched, found)
        quality = pl.when(pl.Series(has_match)).then(pl.lit("matched")).otherwise(quality)
    rows = pl.Series("row", found)
    reason = pl.when(rows == NO_QUOTE).then(pl.lit("no_quote")).when(rows == TOO_OLD).then(pl.lit("stale_quote"))
    present = [name for name in ADDED_COLUMNS if name in quotes.columns]
    places = rows.set(rows < 0, None)
    return trades.with_columns(
        *(quotes[name].gather(places) for name in present),
        quality.alias("quote_quality"),
        reason.alias("quote_reason"),
    )


def _quality(join: Join, resolution: timedelta) -> str:
    if join == "at_or_before":
        return "concurrent_fine" if resolution <= FINE_CLOCK else "concurrent"
    return "exact" if resolution <= FINE_CLOCK else "strict"


def _shared_unit(trades: pl.DataFrame, quotes: pl.DataFrame) -> str:
    """The unit in which both tapes count time."""
    types = (trades.schema["trade_time"], quotes.schema["quote_time"])
    if types[0] != types[1] or not isinstance(types[0], pl.Datetime):
        message = f"trade_time is {types[0]} and quote_time is {types[1]}: give both as the same kind of date and time"
        raise ValueError(message)
    return types[0].time_unit


def _units(span: timedelta, unit: str) -> int:
    return span // timedelta(microseconds=1) * 1_000 // _NANOSECONDS[unit]


def _integers(times: pl.Series) -> Integers:
    if times.null_count():
        message = f"{times.name} is null in {times.null_count()} of {len(times)} rows: without a time nothing is joined"
        raise ValueError(message)
    return times.to_physical().to_numpy()


def _ticks(prices: pl.Series) -> npt.NDArray[np.float64]:
    ticks: npt.NDArray[np.float64] = np.rint(prices.cast(pl.Float64).to_numpy() * TICKS_PER_DOLLAR)
    return ticks


def _bounds(trades: pl.DataFrame, quotes: pl.DataFrame) -> Integers:
    """Of every group of trades that has quotes, in order: first and last + 1 row of its trades, then of its quotes."""
    by = [name for name in RUN_COLUMNS if name in trades.columns and name in quotes.columns]
    of_trades, of_quotes = symbol_runs("trades", trades, by), symbol_runs("quotes", quotes, by)
    both = of_trades.join(of_quotes, on=by, how="inner", suffix="_of_quotes", maintain_order="left")
    return both.select("start", "stop", "start_of_quotes", "stop_of_quotes").to_numpy().copy(order="C")
