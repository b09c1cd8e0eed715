"""No look-ahead: whatever happens after an instant, the metrics of sessions at or before it are the same bits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time

import numpy as np
import polars as pl
import pytest

from trade_analyst_pipeline.market.sessions import sessions_ending
from trade_analyst_pipeline.metrics.iv_rank import iv_rank
from trade_analyst_pipeline.metrics.realized_volatility import realized_volatility

INSTANTS, SESSIONS, WINDOWS = 1_000, 120, (63, 90)
DAYS = sessions_ending(date(2025, 6, 30), SESSIONS)
KNOWN = [datetime.combine(day, time(22), UTC) for day in DAYS]

Metric = Callable[[pl.DataFrame], pl.DataFrame]


def histories(chance: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One history, and the same under 1,000 symbols, each with every row after a random session of its own altered.

    What is altered is another value, null, or gone; `after` is the last session left alone.
    """
    values = np.where(chance.random(SESSIONS) < 0.05, np.nan, 0.1 + chance.random(SESSIONS))
    after = chance.integers(0, SESSIONS - 1, INSTANTS)
    one = pl.DataFrame({"at": np.arange(SESSIONS), "session_date": DAYS, "known_time": KNOWN, "iv": values})
    every = one.join(pl.DataFrame({"number": np.arange(INSTANTS), "after": after}), how="cross")
    other = pl.Series(np.where(chance.random(every.height) < 0.2, np.nan, 5 * chance.random(every.height) + 1e-3))
    is_kept = (pl.col("at") <= pl.col("after")) | pl.Series(chance.random(every.height) < 0.8)
    altered = every.with_columns(iv=pl.when(pl.col("at") <= pl.col("after")).then("iv").otherwise(other))
    whole = altered.filter(is_kept).with_columns(symbol=pl.format("S{}", "number"))
    return tuple(frame.with_columns(pl.col("iv").fill_nan(None)) for frame in (one, whole))  # type: ignore[return-value]


def of_volatilities(history: pl.DataFrame) -> pl.DataFrame:
    """IV rank and percentile of them."""
    return iv_rank(history.with_columns(series=pl.lit("atm30")), windows=WINDOWS)


def bars(history: pl.DataFrame) -> pl.DataFrame:
    """Daily bars that close there."""
    close = (100 * pl.col("iv")).fill_null(0.0)
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    return history.with_columns(frequency=pl.lit("daily"), **prices)


def of_bars(history: pl.DataFrame) -> pl.DataFrame:
    """Realised volatilities of bars that close there."""
    return realized_volatility(bars(history), windows=(10, 21))


def of_the_next_session(history: pl.DataFrame) -> pl.DataFrame:
    """The known-bad control: ranks that have seen a session more."""
    later = history.sort("symbol", "session_date").with_columns(pl.col("iv").shift(-1).over("symbol"))
    return of_volatilities(later)


def differing(metric: Metric, chance: np.random.Generator) -> tuple[int, int]:
    """How many rows up to their instants there are, and how many differ from those of the history left alone."""
    one, whole = histories(chance)
    wanted = metric(one.with_columns(symbol=pl.lit("S"))).drop("symbol")
    made = metric(whole).join(whole.select("symbol", "after").unique(), on="symbol")
    days = pl.DataFrame({"session_date": DAYS, "at": np.arange(SESSIONS)})
    seen = made.join(days, on="session_date").filter(pl.col("at") <= pl.col("after")).select(wanted.columns)
    return seen.height, seen.join(wanted, on=wanted.columns, how="anti", nulls_equal=True).height


@pytest.mark.parametrize("metric", [of_volatilities, of_bars])
def test_what_comes_after_changes_nothing_before(metric: Metric, harness_seed: int) -> None:
    """At 1,000 random instants every row of a session up to then is that of the history left alone, to the last bit."""
    seen, apart = differing(metric, np.random.default_rng(harness_seed))
    assert seen > 40 * INSTANTS
    assert apart == 0


def test_a_look_ahead_is_found(harness_seed: int) -> None:
    """The control: ranks of the next session's value differ at nearly every instant."""
    assert differing(of_the_next_session, np.random.default_rng(harness_seed))[1] > INSTANTS / 2
