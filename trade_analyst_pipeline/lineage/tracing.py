"""From a stored value back to the bytes it came from, and the value made once more from those bytes alone.

`trace` takes one row of a table, metric or quarantine, finds the archived records behind it, reads just these, and
says whether normalising and computing them anew gives what is stored. Which row is meant is `stored_rows.py`, which
records those are `records.py`, where in a body a row stands `row_places.py`, what a metric needs `metric_sources.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from trade_analyst_pipeline.datasets import DATASETS, Dataset
from trade_analyst_pipeline.errors import TraceError
from trade_analyst_pipeline.lineage.code_versions import code_version, step_of
from trade_analyst_pipeline.lineage.metric_sources import METRIC_SOURCES, Below
from trade_analyst_pipeline.lineage.records import ArchivedRecord, Arrived, RecordReader, arrived_of
from trade_analyst_pipeline.lineage.row_places import (
    place_of_broken,
    place_of_rejected,
    place_of_row,
)
from trade_analyst_pipeline.lineage.stored_rows import StoredRow, stored_row
from trade_analyst_pipeline.lineage.traces import Member, Row, RowObject, SourceRecord, StoredIn, Trace, Verdict
from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.market.json_places import Place, PlaceUnknownError
from trade_analyst_pipeline.market.row_layout import member_places
from trade_analyst_pipeline.storage.content_hash import canonical

SHOWN_CHARACTERS = 200


def trace(
    data_folder: Path,
    table: str,
    values: Mapping[str, object],
    *,
    column: str | None = None,
    containing: Mapping[str, str] | None = None,
) -> Trace:
    """The way of one stored row, or of one `column` of it, back to the archive of `data_folder` (`data/<env>`).

    `table` is the name in SQL (`metrics.iv_rank`, or `iv_rank` alone). `values` names the row by columns of it, typed
    as stored (dates, UTC times; None for null), as many as tell it apart; `containing` by parts of texts. The records
    behind it are read from the archive, and nothing but what they hold is used to make the row again.

    Raises TraceError when there is no such table or column, no such row or several, or no record accounts for it;
    PartitionDamagedError, CaptureDamagedError or CaptureMissingError for what is not as it was written.
    """
    reader = RecordReader(data_folder)
    found = stored_row(reader.store, table, values, containing)
    if column is not None and column not in found.schema.names:
        message = f"{found.table} has no column {column!r}; it has {', '.join(found.schema.names)}"
        raise TraceError(message)
    columns = found.schema.names if column is None else [column]
    ways = {"tables": _table_row, "metrics": _metric_row, "quarantine": _quarantined_row}
    return _judged(found, column, columns, ways[found.stage](reader, found, columns))


@dataclass(frozen=True)
class _Origin:
    """What the archive gives for a row: the row or None, why, the tables between, and the records that were read."""

    row: Row | None
    detail: str
    below: tuple[Below, ...]
    records: tuple[SourceRecord, ...]
    beside: Mapping[str, str]


def _judged(found: StoredRow, column: str | None, columns: Sequence[str], origin: _Origin) -> Trace:
    stored = {name: found.row[name] for name in columns}
    made = None if origin.row is None else {name: origin.row[name] for name in columns}
    differing = tuple(name for name in columns if made is not None and made[name] != stored[name])
    verdict: Verdict = "no_row" if made is None else "unequal" if differing else "equal"
    manifest = found.manifest
    return Trace(
        table=found.table,
        key={name: found.row[name] for name in found.schema.key},
        column=column,
        stored=stored,
        recomputed=made,
        verdict=verdict,
        differing=differing,
        detail=origin.detail,
        stored_in=StoredIn(
            manifest.partition,
            manifest.schema_version,
            manifest.code_version,
            manifest.content_hash,
            manifest.created_time,
            manifest.source_captures,
        ),
        code_version=code_version(step_of(found.stage, found.schema.name)),
        below=origin.below,
        beside={name: said for name, said in origin.beside.items() if name in columns},
        records=origin.records,
    )


def _table_row(reader: RecordReader, found: StoredRow, columns: Sequence[str]) -> _Origin:
    dataset = DATASETS[found.schema.name]
    arrived = arrived_of(dataset, _framed(found))
    remade = reader.remake(dataset.name, arrived)
    row = _with_key(remade.valid(), found.schema, found.row)
    if row is None:
        return _Origin(None, _why_not(remade.bad(), found.row), (), _noted(remade.records), dataset.layout.beside)
    holder, place = _holding(
        remade.records, arrived[0], lambda each: place_of_row(dataset, each.response, row, each.capture.session_date)
    )
    members = _members(dataset, holder.response.body, place, columns) if holder and place else []
    records = _with_holder(remade.records, holder, place, members)
    return _Origin(row, "", (), records, dataset.layout.beside)


def _why_not(bad: pl.DataFrame, row: Row) -> str:
    """Why the records give no such row, as far as quarantine would say."""
    rules = bad.filter(symbol=row["symbol"])["broken_rules"].unique().sort().to_list() if "symbol" in row else []
    broken = f"; rows of its symbol break {', '.join(rules[:3])}" if rules else ""
    return f"the records give no row with this key{broken}"


def _quarantined_row(reader: RecordReader, found: StoredRow, _columns: Sequence[str]) -> _Origin:
    dataset = DATASETS[found.schema.name]
    if found.row["snapshot_time"] is None:
        message = f"this row of {found.table} does not say when it arrived, so its record cannot be told"
        raise TraceError(message)
    arrived = Arrived(found.row["session_date"], found.row["snapshot_time"], found.row["symbol"])
    remade = reader.remake(dataset.name, [arrived], stage="quarantine")
    row = _with_key(canonical(remade.bad(), found.schema), found.schema, found.row)
    if row is None:
        return _Origin(None, "the records give no such bad row", (), _noted(remade.records), {})
    place_of = place_of_broken if row["detail"] is None else place_of_rejected
    holder, place = _holding(
        remade.records, arrived, lambda each: place_of(dataset, each.response, row, each.capture.session_date)
    )
    return _Origin(row, "", (), _with_holder(remade.records, holder, place, []), {})


def _metric_row(reader: RecordReader, found: StoredRow, _columns: Sequence[str]) -> _Origin:
    source = METRIC_SOURCES[found.schema.name](reader.store, found.row)
    remade = reader.remake(source.dataset, arrived_of(DATASETS[source.dataset], source.rows))
    made = canonical(source.compute(source.only(remade.valid())), found.schema)
    row = _with_key(made, found.schema, found.row)
    detail = "" if row is not None else "the records give no row with this key"
    return _Origin(row, detail, source.below, _noted(remade.records), {})


def _framed(found: StoredRow) -> pl.DataFrame:
    return pl.DataFrame([found.row], schema=found.schema.polars_schema)


def _with_key(rows: pl.DataFrame, schema: TableSchema, row: Row) -> Row | None:
    """The first row with the key of `row`; None without one."""
    types = schema.polars_schema
    same = rows.filter(pl.col(name).eq_missing(pl.lit(row[name], types[name])) for name in schema.key)
    return same.row(0, named=True) if same.height else None


def _noted(records: Sequence[ArchivedRecord]) -> tuple[SourceRecord, ...]:
    return tuple(map(_note, records))


def _note(record: ArchivedRecord) -> SourceRecord:
    entry, capture = record.entry, record.capture
    return SourceRecord(
        dataset=capture.dataset,
        session_date=capture.session_date,
        capture_id=capture.capture_id,
        file=str(capture.path),
        number=record.number,
        offset=capture.offset + entry.offset,
        length=record.length,
        request=record.request,
        status=entry.status,
        requested_time=entry.requested_time,
        received_time=entry.received_time,
        body_sha256=entry.body_sha256,
        body_bytes=entry.body_bytes,
    )


def _holding(
    records: Sequence[ArchivedRecord], arrived: Arrived, place_in: Callable[[ArchivedRecord], Place | None]
) -> tuple[ArchivedRecord | None, Place | None]:
    """The record that holds a row, and where its object is; records that came with the row are looked at first."""
    for record in sorted(records, key=lambda each: each.entry.received_time != arrived.arrival):
        try:
            place = place_in(record)
        except PlaceUnknownError:
            continue
        if place is not None:
            return record, place
    return None, None


def _with_holder(
    records: Sequence[ArchivedRecord], holder: ArchivedRecord | None, place: Place | None, members: Sequence[Member]
) -> tuple[SourceRecord, ...]:
    """All records, the one that holds the row with the places of its object and members."""
    noted = []
    for record in records:
        note = _note(record)
        if record is holder and place is not None:
            row = RowObject(place.path, place.offset, place.length)
            note = replace(note, row=row, members=tuple(members))
        noted.append(note)
    return tuple(noted)


def _members(dataset: Dataset, body: bytes, row: Place, columns: Collection[str]) -> list[Member]:
    found = member_places(body, dataset.layout, row, columns)
    return [
        Member(name, place.path, place.offset, place.length, place.text(body)[:SHOWN_CHARACTERS])
        for name, places in found.items()
        for place in places
    ]
