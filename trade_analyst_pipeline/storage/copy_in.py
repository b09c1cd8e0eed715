"""A copy of the archive taken in: each file proven whole, then placed, and nothing here ever replaced.

A file arrives beside its place under a temporary name. Only when its size and SHA-256 are those of the manifest, and
every record in it passes its checks as that of its place, it gets its name, atomically and durably. Cut off anywhere,
taking the same copy in again goes on where it ended.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from trade_analyst_pipeline.errors import CaptureDamagedError, CaptureMissingError, DiskFullError, StorageError
from trade_analyst_pipeline.storage import captures, durable
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.archive_check import without_path
from trade_analyst_pipeline.storage.copy_manifest import CopiedFile, Moved, Wanted
from trade_analyst_pipeline.storage.copy_source import (
    Offered,
    UnreadableFileError,
    open_copy,
    sha256_of,
    sha256_of_file,
)
from trade_analyst_pipeline.storage.set_aside import keep_aside, kept_aside


def import_copy(
    data_folder: Path, source: Path | BinaryIO, *, environment: str, wanted: Wanted, now: float
) -> Iterator[Moved]:
    """Take in the wanted files of a copy, yielding what became of each; `now` in epoch seconds, for what is left over.

    Raises ArchiveCopyError for a copy that cannot be gone through to its end, DiskFullError; what arrived stands.
    """
    with open_copy(source, environment=environment) as copy:
        chosen = [file for file in copy.manifest.files if wanted(file.dataset, file.session_date)]
        for folder in sorted({(data_folder / file.name).parent for file in chosen}):
            _tidy(folder, now)
        archive = Archive(data_folder / "raw")
        _refuse_without_room(archive, data_folder, chosen)
        names = {file.name for file in chosen}
        for offered in copy.offers:
            if offered.file.name in names:
                yield _take(archive, data_folder, offered)


def _tidy(folder: Path, now: float) -> None:
    """Remove what dead processes left: files in the making, and ids claimed for a file that was to be placed."""
    durable.remove_orphans(folder, now=now)
    for name in durable.list_names(folder):
        if name.endswith(captures.UNSEALED_SUFFIX) and not (folder / name).lstat().st_size:
            captures.recover(folder / name)


def _refuse_without_room(archive: Archive, data_folder: Path, files: list[CopiedFile]) -> None:
    """Raise DiskFullError before anything is written where the files that are not here cannot fit."""
    needed = sum(file.size_bytes for file in files if _sha256_here(archive, file) is None)
    there = next(folder for folder in (data_folder, *data_folder.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free
    if needed > free:
        message = (
            f"the copy holds {needed:,} bytes that are not here, and {there} has {free:,} free; nothing was taken. "
            "Free some space, or take fewer sessions by --from and --to"
        )
        raise DiskFullError(message)


def _take(archive: Archive, data_folder: Path, offered: Offered) -> Moved:
    file, path = offered.file, data_folder / offered.file.name
    here = _sha256_here(archive, file)
    if here == file.sha256:
        _forget_retired(path)
        return Moved(file.name, "held", file.size_bytes)
    if here is not None and (kept := _kept(data_folder, file)):
        return _refused(data_folder, file, kept)
    durable.make_folders(data_folder, *PurePosixPath(file.name).parent.parts)
    with durable.beside(path) as temporary:
        if problem := _receive(archive, offered, temporary, path):
            return Moved(file.name, "damaged", detail=problem)
        if here is None and captures.place(temporary, path):
            _forget_retired(path)
            return Moved(file.name, "copied", file.size_bytes)
        here = _sha256_here(archive, file)
        if here is None:
            message = f"{path} is being written by another process; import again when it has ended"
            raise StorageError(message)
        if here == file.sha256:
            return Moved(file.name, "held", file.size_bytes)
        return _refused(data_folder, file, keep_aside(data_folder, file.name, temporary))


def _sha256_here(archive: Archive, file: CopiedFile) -> str | None:
    """The SHA-256 of the capture of that id here, in whatever file; empty for one that is damaged, None for none.

    None also for one that was retired with these bytes: they are welcome back.
    """
    try:
        capture = archive.find(file.dataset, file.capture_id)
        if capture.is_retired:
            retired = archive.retired(capture)
            return None if retired.sha256 == file.sha256 else retired.sha256
        return sha256_of(archive.content(capture))
    except CaptureMissingError:
        return None
    except CaptureDamagedError:
        return ""


def _forget_retired(path: Path) -> None:
    """Remove the record of a retired capture that is back."""
    record = path.with_suffix(captures.RETIRED_SUFFIX)
    if record.exists():
        durable.remove([record])


def _kept(data_folder: Path, file: CopiedFile) -> Path | None:
    """Where these bytes are kept aside since an earlier import."""
    found = kept_aside(data_folder, file.name)
    return next((path for path in found if sha256_of_file(path) == file.sha256), None)


def _refused(data_folder: Path, file: CopiedFile, kept: Path) -> Moved:
    place = kept.relative_to(data_folder).as_posix()
    detail = f"other bytes are here under this name, and stay; what came is kept in {place}"
    return Moved(file.name, "refused", detail=detail)


def _receive(archive: Archive, offered: Offered, path: Path, place: Path) -> str | None:
    """Write an offered file to `path`, synced; what is wrong with it, None when it is whole and that of `place`."""
    file, digest, size = offered.file, hashlib.sha256(), 0
    try:
        with durable.disk_full_as_ours(path), path.open("xb", buffering=0) as arriving:
            for chunk in offered.chunks():
                digest.update(chunk)
                size += len(chunk)
                durable.write_all(arriving.fileno(), chunk)
    except UnreadableFileError as error:
        return str(error)
    if size != file.size_bytes or digest.hexdigest() != file.sha256:
        return "it does not match the SHA-256 in its manifest: it was changed on its way"
    durable.sync_file(path)
    try:
        archive.prove(path, place)
    except CaptureDamagedError as error:
        return without_path(error, path)
    return None
