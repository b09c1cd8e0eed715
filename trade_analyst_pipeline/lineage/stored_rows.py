"""One row of a stored table, metric or quarantine, named by values of its columns; checked where it lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from trade_analyst_pipeline.errors import TraceError
from trade_analyst_pipeline.lineage.schemas import table_schemas
from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.storage.manifest import Manifest
from trade_analyst_pipeline.storage.tables import TableStore

SHOWN_VALUES = 3
_STAGES = ("tables", "metrics", "quarantine")


@dataclass(frozen=True)
class StoredRow:
    """A row with the manifest of its partition."""

    table: str
    stage: str
    schema: TableSchema
    row: dict[str, Any]
    manifest: Manifest


def schema_of(table: str) -> tuple[str, TableSchema]:
    """The full name in SQL and the schema of a table, also where its stage is left out; raises TraceError."""
    schemas = table_schemas()
    for name in (table, *(f"{stage}.{table}" for stage in _STAGES)):
        if name in schemas:
            return name, schemas[name]
    message = f"there is no table {table!r}; choose one of {', '.join(sorted(schemas))}"
    raise TraceError(message)


def stored_row(
    store: TableStore, table: str, values: Mapping[str, object], containing: Mapping[str, str] | None = None
) -> StoredRow:
    """The one row whose columns have these values (None for null), and whose texts contain those of `containing`.

    Raises TraceError when there is no such table or column, no row or several; PartitionDamagedError when the
    partition of the row is not what its manifest says, byte for byte.
    """
    name, schema = schema_of(table)
    stage = name.partition(".")[0]
    conditions = _conditions(name, schema, values, containing or {})
    day = values.get("session_date")
    manifests = [
        each for each in store.manifests(stage, schema.name) if not isinstance(day, date) or _may_hold(each, day)
    ]
    scan = store.scan(stage, schema.name, partitions=[each.partition for each in manifests], schema=schema)
    rows = _collected(store, manifests, scan.filter(*conditions.values()))
    if rows.height != 1:
        raise TraceError(_several(name, schema, rows, conditions) if rows.height else _none(name, scan, conditions))
    row = rows.row(0, named=True)
    manifest = next(each for each in manifests if _may_hold(each, row["session_date"]))
    store.verify(stage, schema.name, manifest.partition)
    return StoredRow(name, stage, schema, row, manifest)


def _may_hold(manifest: Manifest, day: date) -> bool:
    return manifest.partition in {day, day.year}


def _collected(store: TableStore, manifests: Sequence[Manifest], scan: pl.LazyFrame) -> pl.DataFrame:
    """The rows of a scan; where a file cannot be read, the error names its partition."""
    try:
        return scan.collect()
    except pl.exceptions.PolarsError:
        for each in manifests:
            store.verify(each.stage, each.name, each.partition)
        raise


def _conditions(
    table: str, schema: TableSchema, values: Mapping[str, object], containing: Mapping[str, str]
) -> dict[str, pl.Expr]:
    """A condition for each column named, by how it reads."""
    types = schema.polars_schema
    for name in (*values, *containing):
        if name not in types:
            message = f"{table} has no column {name!r}; it has {', '.join(schema.names)}"
            raise TraceError(message)
    exact = {
        f"{name}={'' if value is None else value}": pl.col(name).eq_missing(pl.lit(value, types[name]))
        for name, value in values.items()
    }
    parts = {f"{name}~{text}": pl.col(name).str.contains(text, literal=True) for name, text in containing.items()}
    return exact | parts


def _none(table: str, scan: pl.LazyFrame, conditions: Mapping[str, pl.Expr]) -> str:
    """Why no row fits: which of the conditions no row meets, even alone."""
    alone = scan.select(condition.any().alias(text) for text, condition in conditions.items()).collect()
    unmet = [text for text in alone.columns if not alone[text][0]]
    asked = " ".join(conditions)
    if unmet:
        return f"no row of {table} has {' nor '.join(unmet)}; `trade-analyst query` shows what there is"
    return f"no row of {table} is all of {asked}, though each alone is there; `trade-analyst query` shows what there is"


def _several(table: str, schema: TableSchema, rows: pl.DataFrame, conditions: Mapping[str, pl.Expr]) -> str:
    """How many rows fit, and by which columns of the key they can be told apart."""
    differing = [name for name in schema.key if rows[name].n_unique() > 1] or [
        name for name in schema.names if rows[name].n_unique() > 1
    ]
    asked = " ".join(conditions) or "no value"
    ways = "; ".join(_choices(name, rows[name]) for name in differing)
    return f"{rows.height:,} rows of {table} fit {asked}; name one by adding {ways}"


def _choices(name: str, values: pl.Series) -> str:
    """A column and some of its values, as they are named."""
    distinct = values.unique().sort()
    shown = ", ".join(f"{name}={'' if value is None else value}"[:80] for value in distinct.head(SHOWN_VALUES))
    more = distinct.len() - SHOWN_VALUES
    return f"{shown} … ({more:,} more)" if more > 0 else shown
