"""Tables as partitions: written atomically, durably and fenced; read through their manifests only.

`<root>/<stage>/<table>/session_date=YYYY-MM-DD/` (or `year=YYYY/`) holds immutable Parquet files and the manifest that
says which of them count. What a manifest is and how fences are kept is `manifest.py`; SQL is `catalogue.py`; which
rows are acceptable was decided before anything comes here.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from trade_analyst_pipeline.errors import (
    FencedWriteError,
    PartitionDamagedError,
    PartitionMissingError,
)
from trade_analyst_pipeline.market.clock import Clock, MachineClock
from trade_analyst_pipeline.market.columns import TableSchema, Upgrade
from trade_analyst_pipeline.storage import durable
from trade_analyst_pipeline.storage.content_hash import canonical, column_types, content_hash, hash_of_canonical
from trade_analyst_pipeline.storage.manifest import (
    MANIFEST_NAME,
    Fence,
    Findings,
    Manifest,
    PartFile,
    Partition,
    RetiredFile,
    fence_in,
    file_name,
    folder_name,
    locked_fence,
    partition_of,
    read_manifest,
    table_folder_names,
    write_manifest,
)
from trade_analyst_pipeline.storage.schema_versions import readable_groups, upgraded

__all__ = ["Findings", "Manifest", "Partition", "TableStore", "content_hash", "parquet_bytes"]

GRACE = timedelta(hours=24)
# Level 1 writes a day of options in 60 % of the time of the default level 3, for 4 % more bytes.
_ZSTD_LEVEL = 1
_MENDED_FENCE_STEP = 1000


class TableStore:
    """All tables below one folder (`data/<env>`). Many processes may use it at once.

    Files that a commit replaces are kept for `grace`, so that readers which planned before it finish undisturbed;
    `clock` tells their age and nothing else.
    """

    def __init__(self, root: Path, *, grace: timedelta = GRACE, clock: Clock | None = None) -> None:
        self.root = root.resolve()
        self._grace = grace
        self._clock = clock or MachineClock()

    def take_fence(self, stage: str, name: str, partition: Partition) -> int:
        """The next fence number of a partition, handed out once for good: take it before reading what is derived from.

        Whoever took a later one and has committed makes this one's commit fail.
        """
        folder = durable.make_folders(self.root, *table_folder_names(stage, name), folder_name(partition))
        with locked_fence(folder) as fence:
            highest = max(fence.issued, fence.accepted, _accepted(folder, _present(folder)))
            fence.record(issued=highest + 1, accepted=fence.accepted)
            return highest + 1

    def mend_fence(self, stage: str, name: str, partition: Partition) -> None:
        """Write the fence file of a partition anew, with numbers above all that can have been handed out.

        Whoever works for this partition meanwhile may still commit, unless a later one has.
        """
        folder = self._table(stage, name) / folder_name(partition)
        with locked_fence(folder) as fence:
            accepted = max(fence.accepted, _accepted(folder, _present(folder)))
            fence.rewrite(issued=max(fence.issued, accepted) + _MENDED_FENCE_STEP, accepted=accepted)

    def write(
        self,
        stage: str,
        frame: pl.DataFrame,
        *,
        schema: TableSchema,
        partition: Partition,
        fence: int,
        source_captures: Sequence[str],
        code_version: str,
        created_time: datetime,
        findings: Findings | None = None,
        code: Mapping[str, str] | None = None,
    ) -> Manifest:
        """Make `frame` the whole content of a partition of table `schema.name`, and return its manifest.

        From the return on, readers and power cuts see the new content; before, the old one. Rows equal to those there,
        in the same schema version, are not written again: the manifest alone is, where sources, code version or
        findings are others than it says. After an error the partition holds its old content (or, when the last sync
        failed, the new one): repeat the call. A damaged manifest is replaced as well. Raises SchemaMismatchError,
        FencedWriteError when a later fence has been accepted, DiskFullError.
        """
        frame = canonical(frame, schema)
        first, last = _time_range(frame, schema)
        wanted = Manifest(
            stage=stage,
            name=schema.name,
            partition=partition,
            schema_name=schema.name,
            schema_version=schema.version,
            columns=column_types(schema),
            key=schema.key,
            row_count=frame.height,
            content_hash=hash_of_canonical(frame, schema),
            fence=fence,
            source_captures=tuple(source_captures),
            code_version=code_version,
            created_time=created_time.astimezone(UTC),
            first_time=first,
            last_time=last,
            files=(),
            findings=findings or Findings(),
            code=dict(code or {}),
        )
        folder = durable.make_folders(self.root, *table_folder_names(stage, schema.name), folder_name(partition))
        with locked_fence(folder) as lock:
            present = _present(folder)
            _refuse_late(folder, fence, lock, present)
            if present is not None and _has_rows_of(present, wanted) and not _damage(folder, present):
                lock.record(issued=max(lock.issued, fence), accepted=fence)
                return _stamped(folder, present, wanted)
        return self._commit(folder, replace(wanted, files=_write_rows(folder, frame, wanted)))

    def drop_retired(
        self, stage: str, name: str, partition: Partition, *, now: float, dry_run: bool = False
    ) -> list[Path]:
        """Remove the files of a partition that newer ones replaced longer than the grace time before `now` (epoch s).

        Gives those removed; with `dry_run` those that would be. Rows, fence and hash stay as they are. For a partition
        that is stored; raises PartitionDamagedError, DiskFullError.
        """
        folder = self._table(stage, name) / folder_name(partition)
        with locked_fence(folder):
            present = read_manifest(folder)
            if present is None:
                return []
            over = [file for file in present.retired if now - file.retired_at >= self._grace.total_seconds()]
            paths = [folder / file.name for file in over if (folder / file.name).exists()]
            if over and not dry_run:
                # the manifest last: one that lists what has gone is still well, a file that none lists is not
                durable.remove(paths)
                left = tuple(file for file in present.retired if file not in over)
                write_manifest(folder, replace(present, retired=left))
        return paths

    def manifest(self, stage: str, name: str, partition: Partition) -> Manifest | None:
        """The manifest of a partition, None when nothing is stored; raises PartitionDamagedError."""
        return read_manifest(self._table(stage, name) / folder_name(partition))

    def partitions(self, stage: str, name: str) -> list[Partition]:
        """Keys of the partitions with a manifest, be it damaged, ascending (dates before years)."""
        table = self._table(stage, name)
        folders = (folder for folder in sorted(durable.list_names(table)) if (table / folder / MANIFEST_NAME).exists())
        return [key for folder in folders if (key := partition_of(folder)) is not None]

    def sources_in_files(self, stage: str, name: str, partition: Partition) -> frozenset[str]:
        """Captures that the readable data files of a partition say they were made from, whatever its manifest says."""
        folder = self._table(stage, name) / folder_name(partition)
        sources: set[str] = set()
        for path in (folder / file for file in durable.list_names(folder) if fence_in(file) is not None):
            with contextlib.suppress(OSError, pl.exceptions.ComputeError):
                sources.update(json.loads(pl.read_parquet_metadata(path).get("source_captures", "[]")))
        return frozenset(sources)

    def manifests(self, stage: str, name: str) -> list[Manifest]:
        """All manifests of a table, ascending by partition; raises PartitionDamagedError."""
        table = self._table(stage, name)
        folders = sorted(folder for folder in durable.list_names(table) if partition_of(folder) is not None)
        return [found for folder in folders if (found := read_manifest(table / folder)) is not None]

    def names(self, stage: str) -> list[str]:
        """Names of the tables that have a folder in a stage, ascending."""
        return sorted(durable.list_names(self.root / table_folder_names(stage, "any")[0]))

    def files(self, stage: str, name: str) -> list[Path]:
        """The data files that count, in partition order; raises PartitionDamagedError when one is not there whole."""
        return self.paths(self.manifests(stage, name))

    def paths(self, manifests: Iterable[Manifest]) -> list[Path]:
        """The data files of these manifests, in order; raises PartitionDamagedError when one is not there whole."""
        paths = []
        for manifest in manifests:
            folder = self._table(manifest.stage, manifest.name) / folder_name(manifest.partition)
            for file in manifest.files:
                if problem := _size_problem(folder / file.name, file):
                    _raise_damaged(folder, problem)
                paths.append(folder / file.name)
        return paths

    def scan(
        self, stage: str, name: str, *, partitions: Collection[Partition] | None = None, schema: TableSchema
    ) -> pl.LazyFrame:
        """The rows of all partitions, or of those given that exist, as typed columns of `schema`, rows in file order.

        Columns added since a file was written are null; rows of an older major version are upgraded. Empty when
        nothing is stored. Raises SchemaMismatchError for a newer version, an older one that no upgrade leads from and
        a column of another type, PartitionDamagedError for a missing file.
        """
        if partitions is None:
            manifests = self.manifests(stage, name)
        else:
            found = (self.manifest(stage, name, partition) for partition in sorted(set(partitions), key=folder_name))
            manifests = [manifest for manifest in found if manifest is not None]
        groups = readable_groups(manifests, schema)
        files = [self.paths(group) for _, group in groups]
        scans = [_scanned(paths, upgrades, schema) for (upgrades, _), paths in zip(groups, files, strict=True) if paths]
        return pl.concat(scans) if scans else schema.empty().lazy()

    def combined_hash(self, stage: str, name: str) -> str:
        """SHA-256 over the content hashes of all partitions with rows: equal for equal tables anywhere."""
        held = (found for found in self.manifests(stage, name) if found.row_count)
        pairs = [[folder_name(found.partition), found.content_hash] for found in held]
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()

    def verify(self, stage: str, name: str, partition: Partition) -> None:
        """Read every byte of a partition; raises PartitionMissingError, PartitionDamagedError."""
        folder = self._table(stage, name) / folder_name(partition)
        manifest = read_manifest(folder)
        if manifest is None:
            message = f"nothing is stored in {folder}"
            raise PartitionMissingError(message)
        if problem := _damage(folder, manifest):
            _raise_damaged(folder, problem)

    def _table(self, stage: str, name: str) -> Path:
        return self.root.joinpath(*table_folder_names(stage, name))

    def _commit(self, folder: Path, wanted: Manifest) -> Manifest:
        """Swap the manifest if the fence still holds, else take the new files away again."""
        now = self._clock.now().timestamp()
        with locked_fence(folder) as lock:
            present = _present(folder)
            try:
                _refuse_late(folder, wanted.fence, lock, present)
            except FencedWriteError:
                _remove(folder, {file.name for file in wanted.files} - (present.file_names if present else set()))
                raise
            wanted = replace(wanted, retired=self._retired(folder, present, wanted, now))
            write_manifest(folder, wanted)
            # What is listed nowhere and older than this fence can never be committed any more.
            names = durable.list_names(folder)
            stale = {name for name in names if (number := fence_in(name)) is not None and number < wanted.fence}
            _remove(folder, stale - wanted.file_names)
            durable.remove_orphans(folder, now=now)
        return wanted

    def _retired(self, folder: Path, present: Manifest | None, wanted: Manifest, now: float) -> tuple[RetiredFile, ...]:
        """What readers may still have in their plan; not files that are written anew because they are damaged."""
        if present is None:
            return ()
        kept = {file.name for file in wanted.files}
        old = [file for file in present.retired if now - file.retired_at < self._grace.total_seconds()]
        is_mended = _has_rows_of(present, wanted) and _damage(folder, present) is not None
        if self._grace and not is_mended:
            old += [RetiredFile(file.name, now) for file in present.files]
        return tuple(file for file in old if file.name not in kept)


def parquet_bytes(frame: pl.DataFrame, manifest: Manifest) -> bytes:
    """A Parquet file of these rows, with what the manifest says of them in its footer."""
    buffer = io.BytesIO()
    metadata = {
        "schema_name": manifest.schema_name,
        "schema_version": manifest.schema_version,
        "data_version": manifest.content_hash,
        "code_version": manifest.code_version,
        "created_at": manifest.created_time.isoformat(),
        "source_captures": json.dumps(manifest.source_captures),
        "row_count": str(manifest.row_count),
    }
    frame.write_parquet(buffer, compression="zstd", compression_level=_ZSTD_LEVEL, statistics=True, metadata=metadata)
    return buffer.getvalue()


def _write_rows(folder: Path, frame: pl.DataFrame, manifest: Manifest) -> tuple[PartFile, ...]:
    """Write one data file, or none for a frame without rows."""
    if not frame.height:
        return ()
    data = parquet_bytes(frame, manifest)
    sha256 = hashlib.sha256(data).hexdigest()
    name = file_name(manifest.fence, sha256)
    durable.write_bytes(folder / name, data)
    return (PartFile(name, len(data), frame.height, sha256),)


def _present(folder: Path) -> Manifest | None:
    """The manifest that the next one replaces; None also where it cannot be read or is that of another partition."""
    try:
        manifest = read_manifest(folder)
    except PartitionDamagedError:
        return None
    own = (folder.parent.parent.name, folder.parent.name, partition_of(folder.name))
    return manifest if manifest and (manifest.stage, manifest.name, manifest.partition) == own else None


def _accepted(folder: Path, present: Manifest | None) -> int:
    """The highest fence number that is known to have written here: without a manifest, by the names of the files."""
    if present is not None:
        return present.fence
    return max((number for name in durable.list_names(folder) if (number := fence_in(name)) is not None), default=0)


def _refuse_late(folder: Path, fence: int, lock: Fence, present: Manifest | None) -> None:
    accepted = max(lock.accepted, _accepted(folder, present))
    if fence < accepted:
        message = (
            f"{folder}: a newer run (fence {accepted}) has already written this partition; this run (fence {fence}) "
            "is late and its result was dropped. Nothing needs to be done"
        )
        raise FencedWriteError(message)


def _has_rows_of(present: Manifest, wanted: Manifest) -> bool:
    return (present.content_hash, present.schema_version) == (wanted.content_hash, wanted.schema_version)


def _stamped(folder: Path, present: Manifest, wanted: Manifest) -> Manifest:
    """The present manifest as the newest making of the same rows states it, written when that differs."""
    stamped = replace(
        present,
        source_captures=wanted.source_captures,
        code_version=wanted.code_version,
        findings=wanted.findings,
        code=wanted.code,
    )
    if stamped == present:
        return present
    stamped = replace(stamped, fence=wanted.fence)
    write_manifest(folder, stamped)
    return stamped


def _scanned(paths: list[Path], upgrades: Sequence[Upgrade], schema: TableSchema) -> pl.LazyFrame:
    """The rows of files that are read alike, as rows of the schema."""
    if upgrades:
        return upgraded(pl.scan_parquet(paths, glob=False, hive_partitioning=False), upgrades, schema)
    return pl.scan_parquet(
        paths,
        schema=schema.polars_schema,
        glob=False,
        hive_partitioning=False,
        missing_columns="insert",
        extra_columns="ignore",
    )


def _time_range(frame: pl.DataFrame, schema: TableSchema) -> tuple[datetime | None, datetime | None]:
    name = next((name for name in schema.key if isinstance(frame.schema[name], pl.Datetime)), None)
    if name is None:
        return None, None
    first, last = frame.select(pl.col(name).min().alias("first"), pl.col(name).max().alias("last")).row(0)
    return first, last


def _size_problem(path: Path, file: PartFile) -> str | None:
    try:
        size = path.lstat().st_size
    except FileNotFoundError:
        return f"{file.name} is missing"
    return None if size == file.size_bytes else f"{file.name} has {size:,} bytes, not {file.size_bytes:,}"


def _damage(folder: Path, manifest: Manifest) -> str | None:
    """What is wrong with the files of a partition, byte for byte, or None."""
    for file in manifest.files:
        path = folder / file.name
        if problem := _size_problem(path, file):
            return problem
        if hashlib.sha256(durable.read_bytes(path, limit=file.size_bytes)).hexdigest() != file.sha256:
            return f"{file.name} does not match its SHA-256"
    return None


def _raise_damaged(folder: Path, problem: str) -> None:
    message = f"{folder}: {problem}. Run `trade-analyst rebuild` to make this partition again from the archive"
    raise PartitionDamagedError(message)


def _remove(folder: Path, names: Collection[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
