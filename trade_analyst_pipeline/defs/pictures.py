"""The one picture each metric asset shows: a small line of the series, drawn inline in Dagster's pages."""

from __future__ import annotations

import polars as pl

from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.metrics import iv_history, iv_rank, put_call_ratio, realized_volatility
from trade_analyst_pipeline.metrics.sparkline import sparkline
from trade_analyst_pipeline.storage.tables import TableStore

SHOWN_SESSIONS = 60


def iv_history_picture(store: TableStore) -> str:
    """The mean 30-day volatility of all symbols over the last sessions."""
    return _picture(store, iv_history.SCHEMA, pl.col("iv"))


def iv_rank_picture(store: TableStore) -> str:
    """The mean IV rank (252 sessions) of all symbols over the last sessions."""
    return _picture(store, iv_rank.SCHEMA, pl.col("iv_rank").filter(pl.col("window_sessions") == iv_rank.WINDOWS[-1]))


def put_call_ratio_picture(store: TableStore) -> str:
    """Puts traded per call over all symbols in the last sessions."""
    universe = pl.col("symbol") == put_call_ratio.UNIVERSE
    puts, calls = (pl.col(name).filter(universe).sum() for name in ("put_volume", "call_volume"))
    return _picture(store, put_call_ratio.DAILY_SCHEMA, pl.when(calls > 0).then(puts / calls))


def realized_volatility_picture(store: TableStore) -> str:
    """The mean close-to-close volatility over 21 sessions of all symbols in the last sessions."""
    of_month = pl.col("close_to_close_volatility").filter(pl.col("window_sessions") == 21)
    return _picture(store, realized_volatility.SCHEMA, of_month)


def _picture(store: TableStore, schema: TableSchema, value: pl.Expr) -> str:
    """The mean of `value` per session as a small picture, oldest to newest; a word when there is nothing to show."""
    rows = store.scan("metrics", schema.name, schema=schema)
    by_session = rows.group_by("session_date").agg(value.mean().alias("value")).sort("session_date").collect()
    values = by_session["value"].tail(SHOWN_SESSIONS).to_list()
    return sparkline(values) if any(v is not None for v in values) else "no value yet"
