"""What the main job shows at its end: a line per symbol, what was captured, where the files are, what to try next."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import typer

from trade_analyst_pipeline.cli.shown import byte_count, say_line, show_table
from trade_analyst_pipeline.cli.troubles import damage, readable_captures, troubles
from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.metrics import iv_history, iv_rank, put_call_ratio
from trade_analyst_pipeline.quarantine import quarantine_schema
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.tables import TableStore

if TYPE_CHECKING:
    from trade_analyst_pipeline.settings import Settings

HEADINGS = (
    "symbol",
    "last",
    "iv30 %",
    "IV rank (252)",
    "IV percentile (252)",
    "put/call volume",
    "put/call open interest",
    "rows kept",
    "rows quarantined",
)
WINDOW = 252
QUERY = (
    "select session_date, symbol, iv_rank, iv_percentile from metrics.iv_rank where series = 'atm30' "
    "and window_sessions = 252 qualify session_date = max(session_date) over () order by symbol"
)


def show_summary(settings: Settings, sessions: Sequence[date]) -> None:
    """Print the summary of the sessions just run; values are those of the last one."""
    store, archive, last = TableStore(settings.data_folder), Archive(settings.data_folder / "raw"), sessions[-1]
    symbols = settings.universe.all_symbols
    watched = {name: settings.universe.symbols_of(name) for name in DATASETS}
    show_table(HEADINGS, summary_rows(store, symbols, last), title=f"Session {last}")
    for line in (*troubles(archive, store, sessions, symbols, watched=watched), *damage(archive)):
        say_line(line, err=True)
    captures = [
        each for name in DATASETS for day in archive.sessions(name) for each in readable_captures(archive, name, day)
    ]
    contracts = sum(manifest.row_count for manifest in store.manifests("tables", "options"))
    typer.echo(
        f"\nValues are those of session {last}. IV rank and percentile are over {WINDOW} sessions, empty while fewer "
        f"than {iv_rank.MINIMUM_OBSERVATIONS} of them are known. Rows kept and quarantined are those of all tables "
        "that are kept by symbol, in all sessions stored."
    )
    typer.echo(
        f"{contracts:,} rows of options (a row is a contract in a snapshot) in "
        f"{len(store.partitions('tables', 'options'))} sessions; "
        f"{sum(c.record_count for c in captures):,} responses of {byte_count(sum(c.body_bytes for c in captures))} "
        f"archived in {byte_count(sum(c.stored_bytes for c in captures))}."
    )
    typer.echo(f"Files: {settings.data_folder}/ (raw, tables, metrics, quarantine, exports, catalogue.duckdb)")
    typer.echo(_next_commands(settings.data_folder))


def _next_commands(data_folder: Path) -> str:
    """Commands that work as they stand, from the folder the run was started in."""
    program = shlex.quote(_from_here(Path(sys.executable).with_name("trade-analyst")))
    output = shlex.quote(str(data_folder / "iv_rank.xlsx"))
    return (
        f'Next: {program} query "{QUERY}"\n'
        f"      {program} export metrics.iv_rank --format xlsx --output {output}\n"
        "      make ui"
    )


def _from_here(path: Path) -> str:
    """A path as it is shortest to type: relative if it lies below the current folder."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def summary_rows(store: TableStore, symbols: Sequence[str], session_date: date) -> list[list[str]]:
    """One row per symbol, in the order given; an empty cell where there is no value.

    Values are those of the session; rows are counted over all tables and sessions stored.
    """
    on_day = pl.col("session_date") == session_date
    headline = on_day & (pl.col("series") == iv_history.HEADLINE)
    ranks = headline & (pl.col("window_sessions") == WINDOW)
    quotes = store.scan("tables", "quotes", partitions=[session_date], schema=DATASETS["quotes"].schema)
    columns = (
        _latest(quotes.with_columns(symbol=pl.coalesce("requested_symbol", "symbol")), "last"),
        _latest(_metric(store, iv_history.SCHEMA).filter(headline), "iv", scale=100),
        _latest(_metric(store, iv_rank.SCHEMA).filter(ranks), "iv_rank"),
        _latest(_metric(store, iv_rank.SCHEMA).filter(ranks), "iv_percentile"),
        _latest(_metric(store, put_call_ratio.DAILY_SCHEMA).filter(on_day), "put_call_volume_ratio"),
        _latest(_metric(store, put_call_ratio.DAILY_SCHEMA).filter(on_day), "put_call_open_interest_ratio"),
    )
    per_symbol = {name: dataset for name, dataset in DATASETS.items() if not dataset.subjects}
    kept = _counts(store.scan("tables", name, schema=dataset.schema) for name, dataset in per_symbol.items())
    bad = _counts(store.scan("quarantine", name, schema=quarantine_schema(name)) for name in per_symbol)
    return [
        [
            symbol,
            *(_number(column.get(symbol)) for column in columns),
            f"{kept.get(symbol, 0):,}",
            f"{bad.get(symbol, 0):,}",
        ]
        for symbol in symbols
    ]


def _metric(store: TableStore, schema: TableSchema) -> pl.LazyFrame:
    return store.scan("metrics", schema.name, schema=schema)


def _latest(rows: pl.LazyFrame, column: str, *, scale: float = 1.0) -> dict[str, float | None]:
    """The column's value by symbol, from the latest row of each."""
    order = "snapshot_time" if "snapshot_time" in rows.collect_schema() else "session_date"
    latest = rows.sort(order).group_by("symbol").last().select("symbol", pl.col(column) * scale).collect()
    return dict(latest.iter_rows())


def _counts(tables: Iterable[pl.LazyFrame]) -> dict[str, int]:
    counted = pl.concat([table.select("symbol") for table in tables]).group_by("symbol").len().collect()
    return dict(counted.iter_rows())


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}"
