"""Which archived records table rows came from, and the rows made once more from nothing but these.

A row is found in the archive by the captures its partition was made from, by when it arrived and whose it is. Read is
then what the source sent of that symbol in that snapshot and what counts of it, no other record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import polars as pl

from trade_analyst_pipeline.datasets import DATASETS, Dataset
from trade_analyst_pipeline.errors import CaptureDamagedError, CaptureMissingError, TraceError
from trade_analyst_pipeline.market.normalized import Normalized, request_text
from trade_analyst_pipeline.quarantine import quarantine_rows, quarantine_schema
from trade_analyst_pipeline.schwab.messages import RawResponse
from trade_analyst_pipeline.storage.archive import Archive, Capture, IndexEntry
from trade_analyst_pipeline.storage.content_hash import canonical
from trade_analyst_pipeline.storage.tables import Manifest, TableStore
from trade_analyst_pipeline.validation import validate

ARRIVALS = ("snapshot_time", "known_time")


@dataclass(frozen=True)
class Arrived:
    """What names the records of a row: its partition in a table, when it arrived (UTC), and whose it is if known."""

    partition: date
    arrival: datetime
    symbol: str | None = None


@dataclass(frozen=True)
class ArchivedRecord:
    """One record of a sealed capture: its number there (from 1), the bytes of the file that hold it, its response."""

    capture: Capture
    number: int
    entry: IndexEntry
    length: int
    response: RawResponse

    @property
    def request(self) -> str:
        """Path and query of what was asked."""
        return request_text(self.entry.request.path, self.entry.request.params)


@dataclass(frozen=True)
class Snapshot:
    """Some records of the attempts at one snapshot, and what normalising them gave."""

    session_date: date
    records: tuple[ArchivedRecord, ...]
    found: Normalized


@dataclass(frozen=True)
class Remade:
    """What archived records alone give of one dataset, judged as when its table is built."""

    dataset: Dataset
    snapshots: tuple[Snapshot, ...]

    @property
    def records(self) -> tuple[ArchivedRecord, ...]:
        """All records that were read."""
        return tuple(record for snapshot in self.snapshots for record in snapshot.records)

    def valid(self) -> pl.DataFrame:
        """The rows that hold, as they are stored.

        Rules compare rows of one snapshot, so all are judged together where no two rows share a key.
        """
        schema, frames = self.dataset.schema, [snapshot.found.frame for snapshot in self.snapshots]
        together = pl.concat([schema.empty(), *frames])
        is_shared = together.select(pl.struct(schema.key).is_duplicated().any()).item()
        judged = [validate(frame, schema).valid for frame in (frames if is_shared else [together])]
        return canonical(pl.concat(judged), schema)

    def bad(self) -> pl.DataFrame:
        """The rows that do not, as quarantine has them."""
        schema, parts = self.dataset.schema, [quarantine_schema(self.dataset.name).empty()]
        for each in self.snapshots:
            judged = validate(each.found.frame, schema)
            parts.append(quarantine_rows(judged, each.found.rejected, session_date=each.session_date))
        return pl.concat(parts)


def arrival_column(dataset: Dataset) -> str:
    """The column that says when a row's answer arrived."""
    return next(name for name in ARRIVALS if name in dataset.schema.names)


class RecordReader:
    """Finds and reads the records behind rows of one data folder (`data/<env>`); for one thread."""

    def __init__(self, data_folder: Path) -> None:
        self.store = TableStore(data_folder)
        self._archive = Archive(data_folder / "raw")
        self._indexes: dict[str, tuple[IndexEntry, ...]] = {}
        self._counted: dict[tuple[str, ...], list[tuple[Capture, IndexEntry]]] = {}
        self._manifests: dict[tuple[str, str, date], Manifest | None] = {}

    def remake(self, name: str, arrived: Iterable[Arrived], *, stage: str = "tables") -> Remade:
        """The rows of a dataset that arrived so, with whatever else came of the same symbols in the same snapshots.

        `stage` is where the partitions are that name the captures: `tables` or `quarantine`. Raises TraceError for a
        row that no record accounts for, CaptureDamagedError, CaptureMissingError.
        """
        snapshots: dict[tuple[str, ...], tuple[list[Capture], set[tuple[str, int]]]] = {}
        for each in dict.fromkeys(arrived):
            attempts, wanted = self._snapshot(name, each, stage)
            ids = tuple(capture.capture_id for capture in attempts)
            snapshots.setdefault(ids, (attempts, set()))[1].update(wanted)
        return Remade(DATASETS[name], tuple(self._normalized(name, *each) for each in snapshots.values()))

    def _normalized(self, name: str, attempts: Sequence[Capture], chosen: set[tuple[str, int]]) -> Snapshot:
        session_date, read = attempts[0].session_date, tuple(self._read(attempts, chosen))
        found = DATASETS[name].normalize((record.response for record in read), session_date=session_date)
        unanswered = [gap.request for gap in self._archive.open_gaps(attempts) if gap.request is not None]
        return Snapshot(session_date, read, DATASETS[name].without_proof(found, unanswered))

    def _read(self, attempts: Sequence[Capture], chosen: set[tuple[str, int]]) -> Iterator[ArchivedRecord]:
        for capture in attempts:
            for number, entry in enumerate(self._index(capture), 1):
                if (capture.capture_id, entry.offset) in chosen:
                    response, length = self._archive.record(capture, entry)
                    yield ArchivedRecord(capture, number, entry, length, response)

    def _snapshot(self, name: str, row: Arrived, stage: str) -> tuple[list[Capture], set[tuple[str, int]]]:
        """The attempts at the snapshot a row came with, and the places of their records that count for its symbols."""
        ids = self._sources(stage, name, row.partition)
        capture = self._capture(name, ids, row)
        scheduled = capture.capture_id.rpartition("-")[0]
        others = [each for each in ids if each.rpartition("-")[0] == scheduled and each != capture.capture_id]
        together = sorted([capture, *(self._archive.find(name, each) for each in others)], key=_capture_id)
        attempts = next(group for group in self._archive.completions(together) if capture in group)
        counting = self._counting(attempts)
        own = _own([entry for each, entry in counting if each == capture], row)
        subjects = {symbol for entry in own for symbol in entry.request.symbols}
        return attempts, {
            (each.capture_id, entry.offset)
            for each, entry in counting
            if entry in own or not subjects.isdisjoint(entry.request.symbols)
        }

    def _sources(self, stage: str, name: str, partition: date) -> tuple[str, ...]:
        key = (stage, name, partition)
        if key not in self._manifests:
            self._manifests[key] = self.store.manifest(stage, name, partition)
        manifest = self._manifests[key]
        return manifest.source_captures if manifest else ()

    def _capture(self, name: str, ids: Iterable[str], row: Arrived) -> Capture:
        """The capture that has a record of that arrival; those scheduled just before it are looked at first."""
        at = f"{row.arrival:%Y%m%dT%H%M%S%fZ}"
        before = sorted((each for each in ids if each.partition("-")[0] <= at), reverse=True)
        lost: CaptureDamagedError | CaptureMissingError | None = None
        for capture_id in (*before, *sorted(set(ids).difference(before))):
            try:
                capture = self._archive.find(name, capture_id)
                if _own(self._index(capture), row):
                    return capture
            except (CaptureDamagedError, CaptureMissingError) as error:
                lost = lost or error
        if lost is not None:
            raise lost
        message = (
            f"{name} {row.partition}: no record of the captures it was made from arrived at {row.arrival.isoformat()}; "
            "the row is not of the archive. `trade-analyst rebuild` makes the table anew"
        )
        raise TraceError(message)

    def _index(self, capture: Capture) -> tuple[IndexEntry, ...]:
        if capture.capture_id not in self._indexes:
            self._indexes[capture.capture_id] = self._archive.index(capture)
        return self._indexes[capture.capture_id]

    def _counting(self, attempts: Sequence[Capture]) -> list[tuple[Capture, IndexEntry]]:
        ids = tuple(capture.capture_id for capture in attempts)
        if ids not in self._counted:
            self._counted[ids] = self._archive.counting(attempts)
        return self._counted[ids]


def _capture_id(capture: Capture) -> str:
    return capture.capture_id


def _own(index: Iterable[IndexEntry], row: Arrived) -> list[IndexEntry]:
    """The entries that arrived with a row; those that name its symbol, where any does."""
    came = [entry for entry in index if entry.received_time == row.arrival]
    return [entry for entry in came if row.symbol in entry.request.symbols] or came


def arrived_of(dataset: Dataset, rows: pl.DataFrame, partition: date | None = None) -> list[Arrived]:
    """What names the records of some rows of a table; `partition` where their `session_date` is not it."""
    days = rows["session_date"].to_list() if partition is None else [partition] * rows.height
    symbols = rows["symbol"].to_list() if "symbol" in rows.columns else [None] * rows.height
    named = zip(days, rows[arrival_column(dataset)].to_list(), symbols, strict=True)
    found: defaultdict[Arrived, None] = defaultdict()
    for day, arrival, symbol in named:
        found[Arrived(day, arrival, symbol)] = None
    return list(found)
