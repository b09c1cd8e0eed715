"""The pictures on the assets' pages: a small line of the last sessions in place, and one of each symbol behind a click.

Dagster shows Markdown of 1,000 characters in place, and more in a dialog. Everything shown is kept in the event log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date

import polars as pl

from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.metrics import (
    implied_volatility,
    iv_history,
    iv_rank,
    put_call_ratio,
    realized_volatility,
    volatility_index,
)
from trade_analyst_pipeline.ops.visible import in_markdown
from trade_analyst_pipeline.pictures.chart import markdown_image
from trade_analyst_pipeline.pictures.put_call_history import put_call_history
from trade_analyst_pipeline.pictures.smile import smile
from trade_analyst_pipeline.pictures.sparkline import sparkline
from trade_analyst_pipeline.pictures.term_structure import term_structure
from trade_analyst_pipeline.pictures.volatility_history import volatility_history
from trade_analyst_pipeline.storage.tables import Manifest, TableStore

SHOWN_SESSIONS = 60
MOST_SYMBOLS = 6


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


def smiles(store: TableStore, session_date: date) -> str:
    """The volatility smile of each symbol at the session's last snapshot."""
    schema = implied_volatility.SCHEMA
    rows = store.scan("metrics", schema.name, partitions=[session_date], schema=schema)
    last = pl.col("snapshot_time") == pl.col("snapshot_time").max().over("symbol")
    return _by_symbol(rows.filter(last), _symbols(rows), smile)


def term_structures(store: TableStore) -> str:
    """The volatilities by maturity of each symbol in its last session."""
    rows = _rows(store, iv_history.SCHEMA)
    last = pl.col("session_date") == pl.col("session_date").max().over("symbol")
    return _by_symbol(rows.filter(last), _symbols(rows), term_structure)


def volatility_histories(store: TableStore) -> str:
    """The 30-day volatility of each symbol within the range of the longest window."""
    rows = _headline(store, iv_rank.SCHEMA).filter(pl.col("window_sessions") == iv_rank.WINDOWS[-1])
    return _by_symbol(rows, _symbols(rows), volatility_history)


def put_call_histories(store: TableStore) -> str:
    """The put/call ratios of each symbol, in the chain scope of its last session."""
    rows = _rows(store, put_call_ratio.DAILY_SCHEMA)
    latest = pl.col("chain_scope") == pl.col("chain_scope").sort_by("session_date", "chain_scope").last().over("symbol")
    return _by_symbol(rows.filter(latest), _symbols(rows), put_call_history)


def _symbols(rows: pl.LazyFrame) -> list[str]:
    return rows.select(pl.col("symbol").unique().sort()).collect()["symbol"].to_list()


def _by_symbol(rows: pl.LazyFrame, symbols: Sequence[str], draw: Callable[[pl.DataFrame], str]) -> str:
    """A picture of each of the first symbols, and the names of those left out; a word when there is none."""
    shown = symbols[:MOST_SYMBOLS]
    held = rows.filter(pl.col("symbol").is_in(shown)).collect().partition_by("symbol", as_dict=True)
    parts = [markdown_image(draw(held[symbol,]), symbol) for symbol in shown]
    if left := symbols[MOST_SYMBOLS:]:
        names = ", ".join(map(in_markdown, left[:MOST_SYMBOLS]))
        parts.append(
            f"{len(left)} more ({names}{', …' if len(left) > MOST_SYMBOLS else ''}): docs/python.md draws any."
        )
    return "\n\n".join(parts) or "no value yet"


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
