"""The chain from captures to tables to metrics, held together by what each manifest says it was made of.

Only footers and manifests are read. A file that cannot
be read is passed over here, for it is damage and told as such where every byte is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from itertools import chain
from pathlib import Path

from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.errors import CaptureDamagedError, CaptureMissingError, PartitionDamagedError
from trade_analyst_pipeline.lineage.metrics import wanted_sources
from trade_analyst_pipeline.metrics import forward, iv_history, put_call_ratio
from trade_analyst_pipeline.storage.archive import Archive, Capture
from trade_analyst_pipeline.storage.captures import SEALED_SUFFIX
from trade_analyst_pipeline.storage.flaws import Flaw
from trade_analyst_pipeline.storage.manifest import MANIFEST_NAME, folder_name
from trade_analyst_pipeline.storage.tables import Manifest, Partition, TableStore

METRIC_DATASETS = {
    put_call_ratio.SCHEMA.name: "options",
    put_call_ratio.DAILY_SCHEMA.name: "options",
    forward.SCHEMA.name: "options",
    "implied_volatility": "options",
    "term_structure": "options",
    "surface_check": "options",
    "exposure": "options",
    iv_history.SCHEMA.name: "options",
    "iv_rank": "options",
    "realized_volatility": "ohlc",
    "volatility_index": "ohlc",
}
_SHOWN = 3


@dataclass(frozen=True)
class Scope:
    """What is looked at: datasets, and sessions from `first` to `last`, inclusive; None stands for no bound."""

    datasets: tuple[str, ...] = tuple(DATASETS)
    first: date | None = None
    last: date | None = None

    def holds(self, partition: Partition | None) -> bool:
        """Whether a session is in it, or any of a year's may be."""
        if isinstance(partition, date):
            return (self.first or partition) <= partition <= (self.last or partition)
        if partition is None:
            return True
        return (self.first is None or self.first.year <= partition) and (
            self.last is None or partition <= self.last.year
        )


def manifest_path(stage: str, name: str, partition: Partition) -> str:
    """Where a manifest lies below the data folder."""
    return f"{stage}/{name}/{folder_name(partition)}/{MANIFEST_NAME}"


def chain_flaws(data_folder: Path, scope: Scope) -> Iterator[Flaw]:
    """Sources that are gone, captures that no table was made of, and metrics made of other tables than there are."""
    store, archive = TableStore(data_folder), Archive(data_folder / "raw")
    for name in scope.datasets:
        link = _Links(store, archive, name, scope)
        yield from link.missing_captures()
        yield from link.captures_not_built()
    yield from _stale_metrics(store, scope)


def readable_manifests(store: TableStore, stage: str, name: str) -> list[Manifest]:
    """The manifests of a table that can be read, ascending by partition."""
    found = []
    for partition in store.partitions(stage, name):
        with suppress(PartitionDamagedError):
            found.append(store.manifest(stage, name, partition))
    return [manifest for manifest in found if manifest is not None]


def filed_captures(archive: Archive, dataset: str) -> set[str] | None:
    """Ids of all captures of a dataset in the archive; None where a damaged pack does not say what it holds."""
    try:
        return {each for day in archive.sessions(dataset) for each in archive.capture_ids(dataset, day)}
    except CaptureDamagedError:
        return None


def dependents(data_folder: Path, dataset: str) -> dict[str, list[str]]:
    """By capture id, what was made of it: `tables/options 2026-01-05`, many sessions of a table in one text."""
    store = TableStore(data_folder)
    made: dict[str, dict[str, list[Partition]]] = defaultdict(lambda: defaultdict(list))
    for stage in ("tables", "quarantine"):
        for manifest in readable_manifests(store, stage, dataset):
            for capture_id in manifest.source_captures:
                made[capture_id][f"{stage}/{dataset}"].append(manifest.partition)
    return {capture_id: [_named(table, days) for table, days in of.items()] for capture_id, of in made.items()}


def _named(table: str, days: Sequence[Partition]) -> str:
    return f"{table} {days[0]}" if len(days) == 1 else f"{table} ({len(days)} sessions, {days[0]} to {days[-1]})"


class _Links:
    """The captures of one dataset and the tables made of them."""

    def __init__(self, store: TableStore, archive: Archive, name: str, scope: Scope) -> None:
        self.store = store
        self.archive = archive
        self.name = name
        self.scope = scope
        self.judgements = {made.partition: made for made in readable_manifests(store, "quarantine", name)}
        self.tables = {made.partition: made for made in readable_manifests(store, "tables", name)}

    def missing_captures(self) -> Iterator[Flaw]:
        """Captures that something in scope was made of and that are not in the archive."""
        filed = filed_captures(self.archive, self.name)
        if filed is None:
            return
        taken_in = {each: day for day, made in self.judgements.items() for each in made.source_captures}
        in_scope = [made for made in chain(self.judgements.values(), self.tables.values()) if self._is_in_scope(made)]
        for capture_id in sorted({each for made in in_scope for each in made.source_captures} - filed):
            day = taken_in.get(capture_id)
            folder = "session_date=unknown" if day is None else folder_name(day)
            path = f"raw/{self.name}/{folder}/{capture_id}{SEALED_SUFFIX}"
            yield Flaw(path, "missing", "tables were made of it and it is not in the archive")

    def _is_in_scope(self, made: Manifest) -> bool:
        return self.scope.holds(made.partition)

    def captures_not_built(self) -> Iterator[Flaw]:
        """Sessions of which a capture with an answer was not judged, or was found good and is in no table."""
        fed = {each for made in self.tables.values() for each in made.source_captures}
        for day in self.archive.sessions(self.name):
            held = [capture for capture in self._readable(day) if capture.answer_count]
            if held and self.scope.holds(day):
                yield from self._of_session(day, held, fed)

    def _readable(self, day: date) -> list[Capture]:
        found = []
        with suppress(CaptureDamagedError):
            for capture_id in self.archive.capture_ids(self.name, day):
                with suppress(CaptureDamagedError, CaptureMissingError):
                    found.append(self.archive.find(self.name, capture_id))
        return found

    def _of_session(self, day: date, held: Sequence[Capture], fed: Collection[str]) -> Iterator[Flaw]:
        kept = self.judgements.get(day)
        if kept is None:
            if day not in self.store.partitions("quarantine", self.name):
                problem = f"{_ids(held)} archived and not judged yet"
                yield Flaw(manifest_path("quarantine", self.name, day), "not_built", problem)
            return
        unjudged = [capture for capture in held if capture.capture_id not in kept.source_captures]
        if unjudged:
            problem = f"{_ids(unjudged)} archived and not judged yet"
            yield Flaw(manifest_path("quarantine", self.name, day), "not_built", problem)
        judged = [capture for capture in held if capture not in unjudged]
        if not judged or self._is_refused(kept, judged):
            return
        path = manifest_path("tables", self.name, day)
        spans = DATASETS[self.name].spans_sessions
        unreadable = set(self.store.partitions("tables", self.name)) - set(self.tables)
        if unreadable and (spans or day in unreadable):
            return
        if not spans:
            fed = self.tables[day].source_captures if day in self.tables else ()
        unfed = [capture for capture in judged if capture.capture_id not in fed]
        if unfed:
            yield Flaw(path, "not_built", f"{_ids(unfed)} archived, found good, and in no table")

    def _is_refused(self, kept: Manifest, judged: Sequence[Capture]) -> bool:
        """Whether no capture of the session was found fit for the table."""
        if not kept.findings.failures:
            return False
        try:
            return len(kept.findings.failures) >= len(self.archive.completions(judged))
        except CaptureDamagedError:
            return True


def _ids(captures: Sequence[Capture]) -> str:
    shown = ", ".join(capture.capture_id for capture in captures[:_SHOWN])
    more = f" and {len(captures) - _SHOWN} more" if len(captures) > _SHOWN else ""
    return f"{shown}{more}: {'is' if len(captures) == 1 else 'are'}"


def _stale_metrics(store: TableStore, scope: Scope) -> Iterator[Flaw]:
    """Metrics that were not made of their tables as these stand; passed over where a manifest cannot be read."""
    for name in (metric for metric, dataset in METRIC_DATASETS.items() if dataset in scope.datasets):
        try:
            made_of = wanted_sources(store, name)
        except PartitionDamagedError:
            continue
        held = {made.partition: made for made in readable_manifests(store, "metrics", name)}
        unreadable = set(store.partitions("metrics", name)) - set(held)
        for partition, sources in made_of.items():
            if not scope.holds(partition) or partition in unreadable:
                continue
            path = manifest_path("metrics", name, partition)
            if partition not in held:
                yield Flaw(path, "not_built", "its tables are there, and it was not made of them yet")
            elif sorted(held[partition].source_captures) != sorted(sources):
                yield Flaw(path, "not_built", "it was made of its tables as they were before")
