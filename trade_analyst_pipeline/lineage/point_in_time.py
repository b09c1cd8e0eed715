"""Tables and metrics as they were known at an instant.

Of rows known at or before it, the newest known of each event: which columns say so is declared with each schema. A
metric is computed anew from tables read so. The same rule in SQL is in `storage/catalogue.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from trade_analyst_pipeline.errors import PointInTimeError
from trade_analyst_pipeline.lineage.metrics import (
    CHUNK_SESSIONS,
    SNAPSHOT_METRICS,
    WHOLE_SERIES,
    Reader,
    batched,
    iv_history_of,
    option_sources,
    snapshot_rows,
)
from trade_analyst_pipeline.lineage.schemas import table_schemas
from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.metrics import iv_history
from trade_analyst_pipeline.storage.tables import Partition, TableStore

_SERIES = {series.schema.name: series for series in WHOLE_SERIES}


def read_as_of(data_folder: Path, table: str, instant: datetime) -> pl.LazyFrame:
    """The rows of `table` (its name in SQL, such as `tables.ohlc`) as they were known at `instant`, inclusive.

    Columns are those of the table's schema, in no certain order of rows. What becomes known later never changes the
    answer. Metrics are computed by the present code from the tables as of the instant; what is stored of them is not
    used. Raises PointInTimeError for an unknown table and for an instant without a time zone, and what reading a table
    raises.
    """
    schemas = table_schemas()
    if table not in schemas:
        message = f"there is no table {table!r}; choose one of {', '.join(sorted(schemas))}"
        raise PointInTimeError(message)
    if instant.utcoffset() is None:
        message = f"{instant.isoformat()} has no time zone, so it is no instant; give it one, such as UTC"
        raise PointInTimeError(message)
    stage, _, name = table.partition(".")
    return TablesAsOf(TableStore(data_folder), instant).scan(stage, name, schema=schemas[table])


def as_of(rows: pl.LazyFrame, schema: TableSchema, instant: datetime) -> pl.LazyFrame:
    """Of rows of `schema` known at or before `instant`, the newest known of each event; null is never known.

    Raises PointInTimeError when the schema does not say when its rows became known.
    """
    if schema.known_time is None:
        message = f"{schema.name} does not say when its rows became known, so it cannot be read as of an instant"
        raise PointInTimeError(message)
    known = rows.filter(pl.col(schema.known_time) <= pl.lit(instant.astimezone(UTC)))
    if schema.event_key == schema.key:
        return known
    return known.filter(pl.col(schema.known_time) == pl.col(schema.known_time).max().over(schema.event_key))


class TablesAsOf(Reader):
    """The tables of a store as they were known at an instant (inclusive, with a time zone)."""

    def __init__(self, store: TableStore, instant: datetime) -> None:
        self._store = store
        self._instant = instant

    def scan(
        self, stage: str, name: str, *, partitions: Collection[Partition] | None = None, schema: TableSchema
    ) -> pl.LazyFrame:
        """The rows of all partitions of a table, or of those given; of a series always all."""
        if stage == "metrics":
            return self._metric(name, partitions).lazy()
        return as_of(self._store.scan(stage, name, partitions=partitions, schema=schema), schema, self._instant)

    def _metric(self, name: str, partitions: Collection[Partition] | None) -> pl.DataFrame:
        """A metric, computed from tables as of the instant; one kept by the session of those sessions alone."""
        if name in _SERIES:
            return _SERIES[name].compute(self, None)
        days = list(option_sources(self._store))
        if name == iv_history.SCHEMA.name:
            return iv_history_of(self, days)
        for metric in SNAPSHOT_METRICS:
            if name == metric.schema.name:
                wanted = days if partitions is None else [day for day in days if day in partitions]
                chunks = batched(wanted, CHUNK_SESSIONS)
                parts = [part for chunk in chunks for part in snapshot_rows(self, metric, chunk).values()]
                return pl.concat([metric.schema.empty(), *parts])
        message = f"metrics.{name} cannot be computed as of an instant"
        raise PointInTimeError(message)
