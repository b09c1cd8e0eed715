"""Rows put into a store the ordinary way, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.storage.tables import Partition, TableStore

CREATED = datetime(2026, 1, 8, tzinfo=UTC)


def rows_of(schema: TableSchema, rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Rows of a table; columns that are not given are null."""
    given = pl.DataFrame(rows, schema_overrides=schema.polars_schema)
    return pl.concat([schema.empty(), given], how="diagonal").select(schema.names)


def put(
    store: TableStore,
    schema: TableSchema,
    rows: pl.DataFrame,
    partition: Partition,
    *,
    stage: str = "tables",
    created_time: datetime = CREATED,
) -> None:
    """Make them a partition, of no captures."""
    store.write(
        stage,
        rows,
        schema=schema,
        partition=partition,
        fence=store.take_fence(stage, schema.name, partition),
        source_captures=(),
        code_version="0",
        created_time=created_time,
    )
