"""The plan of the smallest recompute: which partitions are not what their steps make of their sources now, and why.

Captures are told by their ids and partitions by their content hashes, so no row is computed to say it. Stored files are
read back whole, for a damaged one is to be made again too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.errors import CaptureDamagedError, PartitionDamagedError
from trade_analyst_pipeline.lineage.built import gone, why_stale
from trade_analyst_pipeline.lineage.chain import filed_captures
from trade_analyst_pipeline.lineage.code_versions import changed_code
from trade_analyst_pipeline.lineage.judging import is_refused, recorded, why_judged_anew
from trade_analyst_pipeline.lineage.metrics import SOURCES, followers, wanted_sources
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.tables import Partition, TableStore

FOLLOWS = "made again if the rows change of"
_SHOWN = 3


@dataclass(frozen=True)
class Stale:
    """A partition to be made again, and why; `takes_all` when what is stored of it, or of its table, is no help."""

    table: str
    partition: Partition
    reasons: tuple[str, ...]
    takes_all: bool = False


def plan(data_folder: Path, names: Sequence[str], *, first: date | None, last: date | None) -> list[Stale]:
    """All that a rebuild of these datasets would make again, in its order, as far as that shows before it begins.

    Metrics that follow a stale table are listed too; they are made again only where its rows change.
    """
    archive, found = Archive(data_folder / "raw"), list[Stale]()
    for name in names:
        days = [day for day in archive.sessions(name) if (first or day) <= day <= (last or day)]
        found += stale_tables(data_folder, name, days)
    for table in SOURCES:
        own = list(stale_metric(data_folder, table))
        found += [*own, *_followers(data_folder, table, found, {each.partition for each in own})]
    return found


def stale_tables(data_folder: Path, name: str, days: Sequence[date]) -> list[Stale]:
    """The sessions of a dataset, of those given, whose table or quarantine is to be made again.

    Where captures span sessions, a table of other code, of captures that are gone, or with a damaged partition is made
    again as a whole.
    """
    store, archive, table = TableStore(data_folder), Archive(data_folder / "raw"), f"tables/{name}"
    damaged = damage(store, "quarantine", name) | damage(store, "tables", name)
    if DATASETS[name].spans_sessions and (reason := _why_whole(store, archive, name, damaged)):
        partitions = {*store.partitions("tables", name), *days}
        return [Stale(table, day, (reason,), takes_all=True) for day in sorted(partitions, key=str)]
    found = []
    for day in days:
        if day in damaged:
            found.append(Stale(table, day, (damaged[day],), takes_all=True))
        elif reasons := _why_session(store, archive, name, day):
            found.append(Stale(table, day, reasons))
    return found


def _why_whole(store: TableStore, archive: Archive, name: str, damaged: Mapping[Partition, str]) -> str:
    """Why a table whose captures span sessions is to be made of all captures; empty when new ones can be merged."""
    if damaged:
        return next(iter(damaged.values()))
    manifests = store.manifests("tables", name)
    used = {source for manifest in manifests for source in manifest.source_captures}
    filed = filed_captures(archive, name)
    changed = (changed_code(made, f"tables/{name}") for made in manifests)
    return next(filter(None, changed), "") or gone(used, used if filed is None else filed)


def _why_session(store: TableStore, archive: Archive, name: str, day: date) -> tuple[str, ...]:
    try:
        captures = recorded(archive, name, day)
        if not captures:
            return ()
        ids = [capture.capture_id for capture in captures]
        kept = store.manifest("quarantine", name, day)
        reasons = why_judged_anew(kept, name, ids)
        if kept is None or reasons or is_refused(archive, kept, captures):
            return reasons
        spans = DATASETS[name].spans_sessions
        return why_stale(store.manifest("tables", name, day), f"tables/{name}", ids, may_have_others=spans)
    except CaptureDamagedError as error:
        return (str(error),)


def stale_metric(data_folder: Path, table: str) -> Iterator[Stale]:
    """The partitions of `metrics/<metric>` to be made again for what their sources hold now."""
    store, name = TableStore(data_folder), table.partition("/")[2]
    damaged = damage(store, "metrics", name)
    for partition, sources in wanted_sources(store, name).items():
        if partition in damaged:
            yield Stale(table, partition, (damaged[partition],), takes_all=True)
        elif reasons := why_stale(store.manifest("metrics", name, partition), table, sources):
            yield Stale(table, partition, reasons)


def _followers(data_folder: Path, table: str, stale: Sequence[Stale], known: Collection[Partition]) -> Iterator[Stale]:
    """The partitions of a metric that lie below stale ones, those `known` already left out."""
    store, reasons = TableStore(data_folder), defaultdict[Partition, list[str]](list)
    for source in SOURCES[table]:
        above = [each.partition for each in stale if each.table == source]
        stage, _, made_of = source.partition("/")
        held = {*above, *store.partitions(stage, made_of)}
        for partition, reached in followers(table.partition("/")[2], held, above).items():
            reasons[partition].append(f"{FOLLOWS} {source} {', '.join(map(str, reached[:_SHOWN]))}")
    for partition in sorted(reasons.keys() - set(known), key=str):
        yield Stale(table, partition, tuple(reasons[partition]))


def damage(store: TableStore, stage: str, name: str) -> dict[Partition, str]:
    """The partitions of a table that cannot be read back as they were written, each with what is wrong."""
    found = {}
    for partition in store.partitions(stage, name):
        try:
            store.verify(stage, name, partition)
        except PartitionDamagedError as error:
            found[partition] = str(error)
    return found
