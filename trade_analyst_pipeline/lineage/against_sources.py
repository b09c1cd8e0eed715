"""Every table made again in memory from its captures, every metric from its tables, and held against what is stored.

What cannot be read is passed over here, for it is told where every byte is read. Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import date
from functools import partial
from pathlib import Path

import polars as pl

from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.errors import CaptureDamagedError, PartitionDamagedError, SchemaMismatchError
from trade_analyst_pipeline.lineage.chain import METRIC_DATASETS, Scope, manifest_path, readable_manifests
from trade_analyst_pipeline.lineage.code_versions import code_version, step_of
from trade_analyst_pipeline.lineage.judging import judge, recorded
from trade_analyst_pipeline.lineage.merging import Fed
from trade_analyst_pipeline.lineage.metrics import (
    SNAPSHOT_METRICS,
    WHOLE_SERIES,
    iv_history_of,
    option_sources,
    snapshot_rows,
)
from trade_analyst_pipeline.lineage.schemas import METRIC_SCHEMAS
from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.metrics import iv_history
from trade_analyst_pipeline.quarantine import quarantine_schema
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.content_hash import canonical, content_hash
from trade_analyst_pipeline.storage.flaws import Flaw, Looked
from trade_analyst_pipeline.storage.tables import Manifest, Partition, TableStore

_SHOWN = 3


def source_looks(data_folder: Path, scope: Scope) -> list[Callable[[], Looked]]:
    """One look for each session of a dataset, each dataset whose captures span sessions, and each metric in scope."""
    store, found = TableStore(data_folder), list[Callable[[], Looked]]()
    for name in scope.datasets:
        if DATASETS[name].spans_sessions:
            found.append(partial(_look_at_spanning, data_folder, name, scope))
        else:
            days = {*store.partitions("tables", name), *store.partitions("quarantine", name)}
            held = sorted(day for day in days if isinstance(day, date) and scope.holds(day))
            found += [partial(_look_at_session, data_folder, name, day) for day in held]
    metrics = [schema for schema in METRIC_SCHEMAS if METRIC_DATASETS[schema.name] in scope.datasets]
    return found + [partial(_look_at_metric, data_folder, schema, scope) for schema in metrics]


def _look_at_session(data_folder: Path, name: str, day: date) -> Looked:
    store, archive, dataset = TableStore(data_folder), Archive(data_folder / "raw"), DATASETS[name]
    flaws: list[Flaw] = []
    for stage, schema in (("tables", dataset.schema), ("quarantine", quarantine_schema(name))):
        with suppress(CaptureDamagedError, PartitionDamagedError):
            manifest = store.manifest(stage, name, day)
            if manifest is None:
                continue
            captures = [each for each in recorded(archive, name, day) if each.capture_id in manifest.source_captures]
            if len(captures) == len(manifest.source_captures):
                judged = judge(archive, dataset, day, captures)
                valid = dataset.schema.empty() if judged.valid is None else dataset.combine(judged.valid)
                flaws += _differences(store, manifest, schema, valid if stage == "tables" else judged.bad)
    return Looked(tuple(flaws))


def _look_at_spanning(data_folder: Path, name: str, scope: Scope) -> Looked:
    """The table of a dataset made of all captures that it was made of, and what is in quarantine beside it."""
    store, archive, dataset = TableStore(data_folder), Archive(data_folder / "raw"), DATASETS[name]
    stored = {made.partition: made for made in readable_manifests(store, "tables", name)}
    judgements = {made.partition: made for made in readable_manifests(store, "quarantine", name)}
    taken = {each for made in (*stored.values(), *judgements.values()) for each in made.source_captures}
    fed, flaws = Fed(dataset, dataset.schema.empty()), list[Flaw]()
    try:
        for day in archive.sessions(name):
            captures = [each for each in recorded(archive, name, day) if each.capture_id in taken]
            taken -= {each.capture_id for each in captures}
            if captures:
                judged = judge(archive, dataset, day, captures)
                fed.add(judged)
                if day in judgements and scope.holds(day):
                    flaws += _differences(store, judgements[day], quarantine_schema(name), judged.bad)
    except CaptureDamagedError:
        return Looked()
    if taken:
        return Looked()
    parts: dict[Partition, pl.DataFrame] = {
        day: rows for (day,), rows in fed.fold().partition_by("session_date", as_dict=True).items()
    }
    for partition in sorted({*parts, *stored}, key=str):
        if not scope.holds(partition):
            continue
        if partition in stored:
            made = parts.get(partition, dataset.schema.empty())
            flaws += _differences(store, stored[partition], dataset.schema, made)
        elif partition not in store.partitions("tables", name):
            path = manifest_path("tables", name, partition)
            flaws.append(Flaw(path, "missing", f"its captures give {parts[partition].height:,} rows of this session"))
    return Looked(tuple(flaws))


def _look_at_metric(data_folder: Path, schema: TableSchema, scope: Scope) -> Looked:
    store, flaws = TableStore(data_folder), list[Flaw]()
    stored = [made for made in readable_manifests(store, "metrics", schema.name) if scope.holds(made.partition)]
    with suppress(PartitionDamagedError, SchemaMismatchError, pl.exceptions.PolarsError):
        try:
            made = _made(store, schema, stored)
        except ValueError as error:
            problem = f"it cannot be made of its tables as they stand: {error}"
            paths = (manifest_path("metrics", schema.name, manifest.partition) for manifest in stored)
            return Looked(tuple(Flaw(path, "differs", problem) for path in paths))
        for manifest in stored:
            flaws += _differences(store, manifest, schema, made.get(manifest.partition, schema.empty()))
    return Looked(tuple(flaws))


def _made(store: TableStore, schema: TableSchema, stored: list[Manifest]) -> Mapping[Partition, pl.DataFrame]:
    """A metric by partition, computed from its tables as they stand."""
    for metric in SNAPSHOT_METRICS:
        if schema.name == metric.schema.name:
            held = {made.partition for made in stored}
            days = [day for day in option_sources(store) if day in held]
            return dict(snapshot_rows(store, metric, days).items())
    if schema.name == iv_history.SCHEMA.name:
        rows = iv_history_of(store, list(option_sources(store)))
    else:
        rows = next(each for each in WHOLE_SERIES if each.schema.name == schema.name).compute(store, None)
    years = rows.with_columns(__year=pl.col("session_date").dt.year()).partition_by("__year", as_dict=True)
    return {year: part.drop("__year") for (year,), part in years.items()}


def _differences(store: TableStore, manifest: Manifest, schema: TableSchema, made: pl.DataFrame) -> Iterator[Flaw]:
    """A flaw where a partition does not hold the rows that were made again: how many do not, and some of their keys."""
    if manifest.schema_version == schema.version and content_hash(made, schema) == manifest.content_hash:
        return
    try:
        scan = store.scan(manifest.stage, manifest.name, partitions=[manifest.partition], schema=schema)
        stored, made = canonical(scan.collect(), schema), canonical(made, schema)
    except (PartitionDamagedError, SchemaMismatchError, pl.exceptions.PolarsError):
        return
    if content_hash(stored, schema) == content_hash(made, schema):
        return
    only_stored = stored.filter(~stored.hash_rows().is_in(made.hash_rows().implode()))
    only_made = made.filter(~made.hash_rows().is_in(stored.hash_rows().implode()))
    keys = pl.concat([only_stored, only_made]).select(schema.key).unique(maintain_order=True)
    shown = "; ".join(", ".join(map(str, key)) for key in keys.head(_SHOWN).iter_rows())
    detail = (
        f"{only_stored.height:,} of its {stored.height:,} rows are not among the {made.height:,} that its sources "
        f"give, and {only_made.height:,} of those not among its own (keys {shown}); it was made by version "
        f"{manifest.code_version}, and again by {code_version(step_of(manifest.stage, manifest.name))}"
    )
    yield Flaw(manifest_path(manifest.stage, manifest.name, manifest.partition), "differs", detail)
