"""Rows of one table for notebooks and scripts: by its name, some symbols, some sessions, now or as of an instant."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from difflib import get_close_matches
from pathlib import Path

import polars as pl

from trade_analyst_pipeline.errors import LoadError
from trade_analyst_pipeline.lineage.point_in_time import read_as_of
from trade_analyst_pipeline.lineage.schemas import table_schemas
from trade_analyst_pipeline.settings import load_settings
from trade_analyst_pipeline.storage.tables import TableStore


def load(
    table: str,
    *,
    symbols: str | Iterable[str] | None = None,
    first: date | None = None,
    last: date | None = None,
    as_of: datetime | None = None,
    data_folder: Path | None = None,
) -> pl.DataFrame:
    """The rows of a table, sorted by its key; columns, units and nulls are those of `docs/tables.md`, times are UTC.

    `table` is the name in SQL (`metrics.iv_history`), or the last part of it where no other table ends so. Sessions
    are from `first` to `last`, both inclusive, None for no bound. With `as_of` (inclusive, with a time zone) the rows
    are as they were known then. `data_folder` is that of the settings, which are read in the project folder, unless
    given. A table that holds nothing yet, or nothing of those sessions, has no rows. Raises LoadError for a table or
    symbol that there is not, SettingsError away from the project folder, and what `read_as_of` raises.
    """
    name = _full_name(table)
    rows = rows_of(load_settings().data_folder if data_folder is None else data_folder, name, as_of)
    if symbols is not None:
        rows = _of_symbols(rows, name, [symbols] if isinstance(symbols, str) else list(symbols))
    session = pl.col("session_date")
    if first is not None:
        rows = rows.filter(session >= first)
    if last is not None:
        rows = rows.filter(session <= last)
    return rows.sort(table_schemas()[name].key).collect()


def rows_of(data_folder: Path, name: str, instant: datetime | None) -> pl.LazyFrame:
    """All rows of the table of that name in SQL, or those known at an instant, in no certain order."""
    if instant is not None:
        return read_as_of(data_folder, name, instant)
    stage, _, last_part = name.partition(".")
    return TableStore(data_folder).scan(stage, last_part, schema=table_schemas()[name])


def _full_name(table: str) -> str:
    """The name of a table in SQL from that or its last part."""
    names = table_schemas()
    found = [name for name in names if table in (name, name.partition(".")[2])]
    # a dataset's quarantine has the dataset's own name
    found = [name for name in found if not name.startswith("quarantine.") or name == table]
    if len(found) == 1:
        return found[0]
    message = f"there is no table {table!r}; choose one of {', '.join(sorted(found or names))}"
    raise LoadError(message)


def _of_symbols(rows: pl.LazyFrame, table: str, symbols: list[str]) -> pl.LazyFrame:
    """The rows of these symbols, each of which the table must have."""
    if "symbol" not in table_schemas()[table].names:
        message = f"{table} has no symbols to choose from; leave `symbols` out"
        raise LoadError(message)
    known = rows.select(pl.col("symbol").unique()).collect().to_series().drop_nulls().to_list()
    for symbol in symbols if known else ():
        if symbol not in known:
            near = get_close_matches(symbol, known, n=3)
            hint = f"; is it {' or '.join(near)}?" if near else f"; it has {len(known)} others"
            message = f"{table} has no rows of the symbol {symbol!r}{hint}"
            raise LoadError(message)
    return rows.filter(pl.col("symbol").is_in(symbols))
