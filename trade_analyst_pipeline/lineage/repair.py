"""What `verify` found, mended from the archive as far as the archive has it.

Sealed captures are never touched. A session of which a capture is damaged or missing keeps its tables as they are,
because made of what is left they would lose rows; metrics are made of whole tables alone. What is wrong is found in
`verification.py`, and how things are made in `tables.py` and `metrics.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.errors import PartitionDamagedError
from trade_analyst_pipeline.lineage.chain import METRIC_DATASETS, Scope, chain_flaws, filed_captures, readable_manifests
from trade_analyst_pipeline.lineage.metrics import SERIES_OF
from trade_analyst_pipeline.lineage.rebuild import rebuild_metrics
from trade_analyst_pipeline.lineage.schemas import table_schemas
from trade_analyst_pipeline.lineage.tables import build_tables
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.flaws import Flaw
from trade_analyst_pipeline.storage.manifest import FENCE_NAME, Partition, partition_of
from trade_analyst_pipeline.storage.set_aside import set_aside
from trade_analyst_pipeline.storage.table_check import look_at_partition, partition_folders
from trade_analyst_pipeline.storage.tables import TableStore

_MADE_OF_CAPTURES = ("tables", "quarantine")
_NOT_MADE = ("orphan", "unsealed", "newer")


@dataclass(frozen=True)
class Repaired:
    """What was done about one file or partition below the data folder; `is_mended` when it was, else why not."""

    path: str
    is_mended: bool
    detail: str


def repair(
    data_folder: Path, scope: Scope, flaws: Sequence[Flaw], *, workers: int, created_time: datetime
) -> Iterator[Repaired]:
    """Mend what a verification of `scope` found in captures, tables and metrics, yielding each step as it is done.

    Dead captures are sealed, orphans set aside, fences written anew, and tables, then metrics, made from what they
    are made of. Whether all is well afterwards is for another verification to say. Raises StorageError (DiskFullError,
    FencedWriteError) when something cannot be written; what was mended before stays so.
    """
    yield from _seal(data_folder, flaws)
    yield from (Repaired(flaw.path, True, set_aside(data_folder, flaw.path)) for flaw in flaws if flaw.kind == "orphan")
    to_make = []
    for flaw in flaws:
        if flaw.kind not in _NOT_MADE and flaw.path.partition("/")[0] in (*_MADE_OF_CAPTURES, "metrics"):
            done = _mended_in_place(data_folder, flaw)
            if done is None:
                to_make.append(flaw)
            else:
                yield done
    for name in scope.datasets:
        yield from _make_tables(data_folder, scope, name, flaws, to_make, workers=workers, created_time=created_time)
    for name in SERIES_OF:
        if name in scope.datasets:
            yield from _make_metrics(data_folder, scope, name, to_make, created_time=created_time)


def is_whole(data_folder: Path, stage: str, names: Collection[str], *, now: float) -> bool:
    """Whether every partition of these tables is as its manifest says, to the last byte; `now` in epoch seconds."""
    schemas = table_schemas()
    folders = [(name, folder) for _, name, folder in partition_folders(data_folder, [stage]) if name in names]
    return not any(
        flaw.kind in ("damaged", "missing", "newer")
        for name, folder in folders
        for flaw in look_at_partition(data_folder, folder, schemas.get(f"{stage}.{name}"), now=now).flaws
    )


def _seal(data_folder: Path, flaws: Sequence[Flaw]) -> Iterator[Repaired]:
    archive = Archive(data_folder / "raw")
    dead = [flaw for flaw in flaws if flaw.kind == "unsealed"]
    for name in sorted({_table_of(flaw) for flaw in dead}):
        sealed = {capture.path.stem: capture for capture in archive.recover(name)}
        for flaw in [each for each in dead if _table_of(each) == name]:
            if capture := sealed.get(Path(flaw.path).stem):
                yield Repaired(flaw.path, True, f"sealed with {capture.record_count} records")
            elif (data_folder / flaw.path).exists():
                yield Repaired(flaw.path, False, "damaged in front of whole records; keep it, and a copy of it")
            else:
                yield Repaired(flaw.path, True, "removed: no whole record was in it")


def _mended_in_place(data_folder: Path, flaw: Flaw) -> Repaired | None:
    """What was done about a flaw that no rows are made again for; None for every other one."""
    stage, name, key, file = flaw.path.split("/")
    partition = partition_of(key)
    if partition is None:
        return None
    store = TableStore(data_folder)
    if file == FENCE_NAME:
        store.mend_fence(stage, name, partition)
        return Repaired(flaw.path, True, "written anew")
    try:
        manifest = store.manifest(stage, name, partition)
    except PartitionDamagedError:
        return None
    if manifest is None or file not in {retired.name for retired in manifest.retired}:
        return None
    return Repaired(flaw.path, True, set_aside(data_folder, flaw.path))


def _make_tables(
    data_folder: Path,
    scope: Scope,
    name: str,
    flaws: Sequence[Flaw],
    to_make: Sequence[Flaw],
    *,
    workers: int,
    created_time: datetime,
) -> Iterator[Repaired]:
    """Make the broken and the unbuilt sessions of a dataset, those left alone that would lose rows."""
    alone = Scope((name,), scope.first, scope.last)
    found = [*to_make, *(flaw for flaw in chain_flaws(data_folder, alone) if flaw.kind == "not_built")]
    broken = {_partition(flaw) for flaw in found if _stage(flaw) in _MADE_OF_CAPTURES and _table_of(flaw) == name}
    archived = set(Archive(data_folder / "raw").sessions(name))
    costly = _sessions_that_would_lose_rows(data_folder, name, flaws)
    if DATASETS[name].spans_sessions:
        # a metric may be all that still knows of a partition that is gone
        broken |= archived if any(_is_of_metric(flaw, name) for flaw in found) else set()
        costly = broken if costly else costly
    for day in sorted(broken & costly, key=str):
        yield Repaired(
            f"tables/{name} {day}", False, "left as it is, for a capture of it is damaged or missing, or it is newer"
        )
    if not (makeable := broken - costly):
        return
    days = sorted(archived if DATASETS[name].spans_sessions else archived & makeable)
    for built in build_tables(data_folder, name, days, workers=workers, created_time=created_time, again=True):
        if built.session_date in makeable or built.status == "failed":
            detail = f"{built.status}, {built.rows:,} rows. {built.detail}".removesuffix(". ")
            yield Repaired(f"tables/{name} {built.session_date}", built.status != "failed", detail)
    if not DATASETS[name].spans_sessions:
        for day in sorted(makeable - archived, key=str):
            yield Repaired(f"tables/{name} {day}", False, "nothing of it is archived")


def _sessions_that_would_lose_rows(data_folder: Path, name: str, flaws: Sequence[Flaw]) -> set[Partition | None]:
    """Sessions made of a capture that is damaged or gone, as manifests or files say, or made by a newer program."""
    archive, store = Archive(data_folder / "raw"), TableStore(data_folder)
    filed = filed_captures(archive, name) or set()
    missing: set[Partition | None] = set()
    for stage in _MADE_OF_CAPTURES:
        sources = {each.partition: frozenset(each.source_captures) for each in readable_manifests(store, stage, name)}
        for partition in store.partitions(stage, name):
            if partition not in sources:
                sources[partition] = store.sources_in_files(stage, name, partition)
        missing.update(partition for partition, made_of in sources.items() if not filed >= made_of)
    own = [flaw for flaw in flaws if _table_of(flaw) == name and _stage(flaw) in ("raw", *_MADE_OF_CAPTURES)]
    costly = (flaw for flaw in own if flaw.kind == "newer" or (flaw.kind == "damaged" and _stage(flaw) == "raw"))
    return missing.union(map(_partition, costly))


def _make_metrics(
    data_folder: Path, scope: Scope, name: str, to_make: Sequence[Flaw], *, created_time: datetime
) -> Iterator[Repaired]:
    """Make all metrics of a dataset anew where one of them is broken or behind, from whole tables alone."""
    alone = Scope((name,), scope.first, scope.last)
    found = [*to_make, *chain_flaws(data_folder, alone)]
    broken = {flaw.path.rpartition("/")[0] for flaw in found if _is_of_metric(flaw, name)}
    if not broken:
        return
    if not is_whole(data_folder, "tables", [name], now=created_time.timestamp()):
        why = f"left as it is, for tables/{name} is not whole"
        yield from (Repaired(path, False, why) for path in sorted(broken))
        return
    for _built in rebuild_metrics(data_folder, name, created_time=created_time, full=True):
        pass
    yield from (Repaired(path, True, "made anew from its tables") for path in sorted(broken))


def _is_of_metric(flaw: Flaw, dataset: str) -> bool:
    return _stage(flaw) == "metrics" and METRIC_DATASETS.get(_table_of(flaw)) == dataset


def _stage(flaw: Flaw) -> str:
    return flaw.path.partition("/")[0]


def _table_of(flaw: Flaw) -> str:
    return flaw.path.split("/")[1]


def _partition(flaw: Flaw) -> Partition | None:
    return partition_of(flaw.path.split("/")[2])
