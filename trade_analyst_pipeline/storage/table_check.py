"""Every file of one partition, read to its last byte and held against its manifest, down to the rows' content hash.

Whether the rows are those that their sources give is not known here. Nothing here changes a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import polars as pl

from trade_analyst_pipeline.errors import SchemaMismatchError, StorageError
from trade_analyst_pipeline.market.columns import Column, TableSchema
from trade_analyst_pipeline.storage import durable
from trade_analyst_pipeline.storage.content_hash import column_types, content_hash, dtype_of
from trade_analyst_pipeline.storage.flaws import Flaw, Kind, Looked, is_untouched
from trade_analyst_pipeline.storage.manifest import (
    FENCE_NAME,
    MANIFEST_NAME,
    Manifest,
    PartFile,
    fence_in,
    fence_problem,
    partition_of,
    read_manifest,
    sha256_starts_as_named,
)


def look_at_partition(data_folder: Path, folder: Path, schema: TableSchema | None, *, now: float) -> Looked:
    """Look at every file of a partition's folder, `data_folder/<stage>/<table>/<partition>`.

    `schema` is the present one of its table, None for a table that this program has none of. `now` is in epoch
    seconds, for the age of what may still be in the making.
    """
    place = folder.relative_to(data_folder).as_posix()
    names = durable.list_names(folder)
    if not names:
        return Looked((Flaw(place, "orphan", "an empty folder"),) if is_untouched(folder, now=now) else ())
    if schema is None:
        return Looked((Flaw(place, "orphan", "no table of this program"),))
    manifest, found = _look_at_manifest(folder, place, schema)
    if FENCE_NAME not in names:
        found += Looked((Flaw(f"{place}/{FENCE_NAME}", "missing", "every partition has one"),))
    elif problem := fence_problem(folder):
        found += Looked((Flaw(f"{place}/{FENCE_NAME}", "damaged", problem),))
    if manifest is not None:
        found += _look_at_rows(folder, place, manifest)
        found += _look_at_retired(folder, place, manifest)
    elif not found.flaws and any(fence_in(name) for name in names):
        written = [name for name in names if fence_in(name) and is_untouched(folder / name, now=now)]
        found += Looked(
            (Flaw(f"{place}/{MANIFEST_NAME}", "missing", "there are rows and no manifest"),) * bool(written)
        )
    strays = sorted(name for name in names if _is_stray(folder / name, manifest, now))
    return found + Looked(tuple(Flaw(f"{place}/{name}", "orphan", "no manifest lists it") for name in strays))


def _look_at_manifest(folder: Path, place: str, schema: TableSchema) -> tuple[Manifest | None, Looked]:
    """The manifest where it can be used, and what is wrong with it."""
    name = f"{place}/{MANIFEST_NAME}"
    try:
        manifest = read_manifest(folder)
    except (StorageError, OSError) as error:
        return None, Looked((Flaw(name, "damaged", str(error).replace(str(folder / MANIFEST_NAME), "it")),))
    if manifest is None:
        return None, Looked()
    own = (folder.parent.parent.name, folder.parent.name, partition_of(folder.name))
    read = Looked((), 1, (folder / MANIFEST_NAME).stat().st_size)
    if (manifest.stage, manifest.name, manifest.partition) != own:
        flaw = Flaw(name, "damaged", f"it is that of {manifest.stage}/{manifest.name} {manifest.partition}")
        return manifest, read + Looked((flaw,))
    return manifest, read + Looked(_schema_flaws(name, manifest, schema))


def _schema_flaws(name: str, manifest: Manifest, schema: TableSchema) -> tuple[Flaw, ...]:
    """Why rows of that schema version cannot be read by this program; nothing when they can."""
    stated, known = (tuple(map(int, text.split("."))) for text in (manifest.schema_version, schema.version))
    if stated > known:
        what = f"schema version {manifest.schema_version}, and this program knows {schema.version}: update it"
        return (Flaw(name, "newer", what),)
    if stated == known and manifest.columns != column_types(schema):
        return (Flaw(name, "damaged", f"its columns are not those of schema version {schema.version}"),)
    return ()


def _look_at_rows(folder: Path, place: str, manifest: Manifest) -> Looked:
    """The files that count: there, of the size and hash listed, and together the rows that the manifest states."""
    found, contents = Looked(), []
    for file in manifest.files:
        content, kind, problem = _content(folder / file.name, file)
        found += Looked((Flaw(f"{place}/{file.name}", kind, problem),) if problem else (), 1, len(content))
        contents.append(content)
    if found.flaws:
        return found
    disagreement = _row_problem(contents, manifest)
    return found + Looked((Flaw(f"{place}/{MANIFEST_NAME}", "damaged", disagreement),) if disagreement else ())


def _content(path: Path, file: PartFile) -> tuple[bytes, Kind, str]:
    """The bytes of a listed file, and what is wrong with them, of what kind; no words when nothing is."""
    try:
        size = path.lstat().st_size
        content = durable.read_bytes(path, limit=size)
    except FileNotFoundError:
        return b"", "missing", "the manifest lists it"
    except (StorageError, OSError) as error:
        return b"", "damaged", f"it cannot be read: {error}"
    if size != file.size_bytes:
        return content, "damaged", f"it has {size:,} bytes, not {file.size_bytes:,}"
    if hashlib.sha256(content).hexdigest() != file.sha256:
        return content, "damaged", "it does not match its SHA-256"
    return content, "damaged", ""


def _row_problem(contents: list[bytes], manifest: Manifest) -> str | None:
    """How the rows of whole files disagree with their manifest; None when they do not."""
    try:
        schema = _schema_of(manifest)
        frame = pl.concat([schema.empty(), *(pl.read_parquet(BytesIO(content)) for content in contents)])
    except (pl.exceptions.PolarsError, SchemaMismatchError) as error:
        return f"the rows cannot be read as it states them: {error}"
    counts = (frame.height, sum(file.row_count for file in manifest.files))
    if counts != (manifest.row_count, manifest.row_count):
        return f"it states {manifest.row_count:,} rows; the files hold {counts[0]:,} and list {counts[1]:,}"
    if content_hash(frame, schema) != manifest.content_hash:
        return "the rows do not have the content hash it states"
    return None


def _schema_of(manifest: Manifest) -> TableSchema:
    """The table as it was when it was written."""
    columns = tuple(Column(name, dtype_of(kind), None, "as written") for name, kind in manifest.columns.items())
    return TableSchema(manifest.schema_name, manifest.schema_version, manifest.key, columns, frozenset())


def _look_at_retired(folder: Path, place: str, manifest: Manifest) -> Looked:
    """Files kept for readers of an earlier manifest, as far as they are still there."""
    found = Looked()
    for file in manifest.retired:
        try:
            content = (folder / file.name).read_bytes()
        except FileNotFoundError:
            continue
        flaw = Flaw(f"{place}/{file.name}", "damaged", "it does not match its SHA-256; no present row is in it")
        found += Looked((flaw,) if not sha256_starts_as_named(file.name, content) else (), 1, len(content))
    return found


def _is_stray(path: Path, manifest: Manifest | None, now: float) -> bool:
    """Whether no reader and no writer will ever look at a file."""
    if path.name in (MANIFEST_NAME, FENCE_NAME) or (manifest is not None and path.name in manifest.file_names):
        return False
    if durable.is_temporary(path.name):
        return durable.is_left_behind(path, now=now)
    fence = fence_in(path.name)
    if fence is None:
        return True
    return manifest is not None and (fence < manifest.fence or is_untouched(path, now=now))


def partition_folders(data_folder: Path, stages: Sequence[str]) -> list[tuple[str, str, Path]]:
    """Stage, table and folder of each partition there is, in order."""
    return [
        (stage, table.name, folder)
        for stage in stages
        for table in _folders(data_folder / stage)
        for folder in _folders(table)
        if partition_of(folder.name) is not None
    ]


def strays_above(data_folder: Path, stages: Sequence[str], *, now: float) -> Looked:
    """What lies beside the folders of stages, tables and partitions and is none: no reader will ever look at it.

    Beside the stages only our own temporary files are strays; other programs keep things of their own there.
    """
    own = [path for path in _entries(data_folder) if durable.is_left_behind(path, now=now)]
    tops = [path for stage in stages for path in _entries(data_folder / stage)]
    inner = [path for top in tops if _is_folder(top) for path in _entries(top)]
    strays = [path for path in tops if not _is_folder(path)]
    strays += [path for path in inner if not _is_folder(path) or partition_of(path.name) is None]
    flaws = [
        Flaw(path.relative_to(data_folder).as_posix(), "orphan", "no table and no partition") for path in own + strays
    ]
    return Looked(tuple(flaws))


def _entries(folder: Path) -> list[Path]:
    return [folder / name for name in sorted(durable.list_names(folder))]


def _folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if _is_folder(path)]


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
