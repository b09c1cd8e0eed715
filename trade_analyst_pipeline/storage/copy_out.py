"""The sealed captures of the archive copied out, verbatim: into a folder that can grow, or as one tar stream.

Each file is read back and proven whole before it counts as copied, so a copy holds no damage that was here before. What
a copy is made of is `copy_manifest.py`. Nothing of the archive is changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from trade_analyst_pipeline.errors import ArchiveCopyError, CaptureDamagedError
from trade_analyst_pipeline.storage import durable
from trade_analyst_pipeline.storage.archive import Archive, Capture
from trade_analyst_pipeline.storage.archive_check import without_path
from trade_analyst_pipeline.storage.captures import SEALED_SUFFIX
from trade_analyst_pipeline.storage.copy_manifest import (
    COPY_MANIFEST,
    CopiedFile,
    Moved,
    Wanted,
    manifest_bytes,
    read_manifest,
)
from trade_analyst_pipeline.storage.copy_source import sha256_of_file
from trade_analyst_pipeline.storage.copy_tar import write_end, write_member
from trade_analyst_pipeline.storage.manifest import folder_name

TAR_SUFFIX: Final = ".tar"


def export_copy(
    data_folder: Path, destination: Path | BinaryIO, *, environment: str, wanted: Wanted, created_time: datetime
) -> Iterator[Moved]:
    """Copy the wanted captures into a folder, a new file that ends in `.tar`, or a stream; yields what became of each.

    A folder is made, and grows: nothing in it is replaced but its manifest, which is written last, so one that was cut
    off is gone on with. Raises ArchiveCopyError where the folder holds a copy of another environment, where the file is
    there, and where a capture changes under the copying; DiskFullError.
    """
    if not isinstance(destination, Path):
        yield from _to_stream(data_folder, destination, environment, wanted, created_time)
    elif destination.suffix != TAR_SUFFIX:
        yield from _to_folder(data_folder, destination, environment, wanted, created_time)
    elif destination.exists():
        message = f"{destination} is there already, and nothing is written over; name a new file, or a folder"
        raise ArchiveCopyError(message)
    else:
        with durable.replacing(destination) as file:
            yield from _to_stream(data_folder, file, environment, wanted, created_time)


def _to_folder(
    data_folder: Path, destination: Path, environment: str, wanted: Wanted, created_time: datetime
) -> Iterator[Moved]:
    if destination.resolve().is_relative_to(data_folder.resolve()):
        message = f"{destination} lies in the data folder itself: a copy there is lost with it. Name a folder elsewhere"
        raise ArchiveCopyError(message)
    destination = durable.make_folders(destination.resolve())
    before = read_manifest(destination, environment=environment)
    files = {} if before is None else {file.name: file for file in before.files}
    for proven in _proven(data_folder, wanted):
        if isinstance(proven, Proven):
            moved = _put(proven, destination)
            yield moved
            if moved.outcome != "refused":
                files[moved.name] = proven.file
        else:
            yield proven
    durable.write_bytes(destination / COPY_MANIFEST, manifest_bytes(environment, created_time, list(files.values())))


def _put(proven: Proven, destination: Path) -> Moved:
    """Copy one capture to its place, unless something is there."""
    file, place = proven.file, destination / proven.file.name
    if place.exists():
        if sha256_of_file(place) == file.sha256:
            return Moved(file.name, "held", file.size_bytes)
        return Moved(file.name, "refused", detail="the copy has other bytes under this name, and keeps them")
    durable.make_folders(destination, *PurePosixPath(file.name).parent.parts)
    with durable.replacing(place) as copied:
        copied.writelines(proven.chunks())
    return Moved(file.name, "copied", file.size_bytes)


def _to_stream(
    data_folder: Path, stream: BinaryIO, environment: str, wanted: Wanted, created_time: datetime
) -> Iterator[Moved]:
    """One tar, the manifest first; all files are proven before the first byte is written."""
    held = []
    for proven in _proven(data_folder, wanted):
        if isinstance(proven, Proven):
            held.append(proven)
        else:
            yield proven
    text = manifest_bytes(environment, created_time, [proven.file for proven in held])
    write_member(stream, COPY_MANIFEST, len(text), [text])
    for proven in held:
        file = proven.file
        write_member(stream, file.name, file.size_bytes, proven.chunks())
        yield Moved(file.name, "copied", file.size_bytes)
    write_end(stream)
    stream.flush()


@dataclass(frozen=True)
class Proven:
    """A capture that was read back to its last byte and found whole, as a file of a copy."""

    archive: Archive
    capture: Capture
    file: CopiedFile

    def chunks(self) -> Iterator[bytes]:
        """Its bytes; raises ArchiveCopyError at the end where they are no more those that were proven."""
        digest = hashlib.sha256()
        for chunk in self.archive.content(self.capture):
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != self.file.sha256:
            message = f"{self.capture.path} has changed while it was copied; run `trade-analyst verify`, then again"
            raise ArchiveCopyError(message)


def _proven(data_folder: Path, wanted: Wanted) -> Iterator[Proven | Moved]:
    archive = Archive(data_folder / "raw")
    for name in archive.names():
        for day in archive.sessions(name):
            ids = archive.capture_ids(name, day) if wanted(name, day) else []
            yield from (prove(archive, data_folder, name, day, capture_id) for capture_id in ids)


def prove(archive: Archive, data_folder: Path, dataset: str, day: date, capture_id: str) -> Proven | Moved:
    """A capture of the archive proven whole, or in words why it is not."""
    name = f"raw/{dataset}/{folder_name(day)}/{capture_id}{SEALED_SUFFIX}"
    try:
        capture = archive.find(dataset, capture_id)
        if capture.is_retired:
            return Moved(name, "retired")
        archive.verify(capture)
        digest, size = hashlib.sha256(), 0
        for chunk in archive.content(capture):
            digest.update(chunk)
            size += len(chunk)
    except CaptureDamagedError as error:
        return Moved(name, "damaged", detail=without_path(error, data_folder / name))
    return Proven(archive, capture, CopiedFile(name, size, digest.hexdigest()))
