"""The one picture each asset shows: a small line of the last sessions, drawn inline in Dagster's pages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.metrics import iv_history, iv_rank, put_call_ratio, realized_volatility, volatility_index
from trade_analyst_pipeline.pictures.sparkline import sparkline
from trade_analyst_pipeline.storage.tables import Manifest, TableStore

SHOWN_SESSIONS = 60


def rows_picture(manifests: Sequence[Manifest], session_date: date) -> str:
    """The rows of the partitions up to a session, which shows one that has fewer than its neighbours."""
    rows = [
        found.row_count
        for found in manifests
        if isinstance(found.partition, date) and found.row_count and found.partition <= session_date
    ]
    return _drawn(rows[-SHOWN_SESSIONS:], f"Rows up to {session_date}", ",.0f")


def iv_history_picture(store: TableStore) -> str:
    """The mean 30-day volatility of all symbols over the last sessions."""
    return _picture(_headline(store, iv_history.SCHEMA), pl.col("iv"), "Mean 30-day implied volatility", ".1%")


def iv_rank_picture(store: TableStore) -> str:
    """The mean IV rank (252 sessions) of all symbols over the last sessions."""
    rows = _headline(store, iv_rank.SCHEMA).filter(pl.col("window_sessions") == iv_rank.WINDOWS[-1])
    return _picture(rows, pl.col("iv_rank"), f"Mean IV rank, {iv_rank.WINDOWS[-1]} sessions", ".0f")


def put_call_ratio_picture(store: TableStore) -> str:
    """Puts traded per call over all symbols in the last sessions, in the one chain scope that has most of them."""
    rows = _rows(store, put_call_ratio.DAILY_SCHEMA).filter(pl.col("symbol") == put_call_ratio.UNIVERSE)
    lately = rows.filter(pl.col("session_date").rank("dense", descending=True) <= SHOWN_SESSIONS)
    by_scope = lately.group_by("chain_scope").len().sort("len", "chain_scope", descending=[True, False]).collect()
    scope = str(by_scope["chain_scope"].first())
    title = f"Puts per call, {scope.partition(' ')[0]} chains"
    return _picture(rows.filter(pl.col("chain_scope") == scope), pl.col("put_call_volume_ratio"), title, ".2f")


def realized_volatility_picture(store: TableStore) -> str:
    """The mean close-to-close volatility over 21 sessions of all symbols in the last sessions."""
    rows = _rows(store, realized_volatility.SCHEMA).filter(pl.col("window_sessions") == 21)
    return _picture(rows, pl.col("close_to_close_volatility"), "Mean realised volatility, 21 sessions", ".1%")


def volatility_index_picture(store: TableStore) -> str:
    """The mean of the published volatility indices over the last sessions."""
    return _picture(_rows(store, volatility_index.SCHEMA), pl.col("iv"), "Mean published volatility index", ".1%")


def _rows(store: TableStore, schema: TableSchema) -> pl.LazyFrame:
    return store.scan("metrics", schema.name, schema=schema)


def _headline(store: TableStore, schema: TableSchema) -> pl.LazyFrame:
    """Of a metric of several series the one that stands for a symbol's volatility."""
    return _rows(store, schema).filter(pl.col("series") == iv_history.HEADLINE)


def _picture(rows: pl.LazyFrame, value: pl.Expr, title: str, form: str) -> str:
    """The mean of `value` per session as a small picture, oldest to newest."""
    by_session = rows.group_by("session_date").agg(value.mean().alias("value")).sort("session_date").collect()
    return _drawn(by_session["value"].tail(SHOWN_SESSIONS).to_list(), title, form)


def _drawn(values: Sequence[float | None], title: str, form: str) -> str:
    """The picture; a word when there is nothing to show."""
    return sparkline(values, title=title, form=form) if any(v is not None for v in values) else "no value yet"
