"""Many small files made few, with every row and byte of the archive as it was.

Of the archive: the sealed captures of one dataset and session go end to end into one pack (`packs.py`). Their own
files leave only after the pack was synced, read back against their hashes and put in place, so that at any moment, and
after any crash, each capture is in one of them or in both, and counts once. Of tables: files that newer ones replaced
leave after their grace. What may be compacted when is for the caller to say.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from trade_analyst_pipeline.errors import CaptureDamagedError, PartitionDamagedError
from trade_analyst_pipeline.market.sessions import NEW_YORK
from trade_analyst_pipeline.storage import durable
from trade_analyst_pipeline.storage.archive import Archive, Capture
from trade_analyst_pipeline.storage.captures import SEALED_SUFFIX
from trade_analyst_pipeline.storage.frames import DamagedFrameError, OpenFile
from trade_analyst_pipeline.storage.manifest import Partition, folder_name
from trade_analyst_pipeline.storage.packs import PACK_NAME, Directory, Member, directory_bytes, read_directory
from trade_analyst_pipeline.storage.tables import TableStore

_CHUNK_BYTES, _BLOCK_BYTES = 1 << 20, 4096


@dataclass(frozen=True)
class Taken:
    """Files, and what they take: `size_bytes` as long as they are, `disk_bytes` in whole blocks of the disk."""

    files: int = 0
    size_bytes: int = 0
    disk_bytes: int = 0

    def __add__(self, other: Taken) -> Taken:
        return Taken(self.files + other.files, self.size_bytes + other.size_bytes, self.disk_bytes + other.disk_bytes)

    def __sub__(self, other: Taken) -> Taken:
        return Taken(self.files - other.files, self.size_bytes - other.size_bytes, self.disk_bytes - other.disk_bytes)


@dataclass(frozen=True)
class Compacted:
    """What became of the files of one folder, `<stage>/<name>/<partition>`; `problem` says why nothing was done."""

    stage: str
    name: str
    partition: Partition
    before: Taken
    after: Taken
    problem: str = ""

    @property
    def is_changed(self) -> bool:
        """Whether anything was done, or would be."""
        return self.before != self.after


def compact(
    data_folder: Path,
    *,
    now: float,
    first: date | None = None,
    last: date | None = None,
    datasets: Collection[str] = (),
    dry_run: bool = False,
) -> Iterator[Compacted]:
    """Compact captures and tables of the sessions from `first` (None for no bound) to `last`, inclusive.

    Without `last` it is the day before the one in New York: what can still be captured is left alone.

    With `datasets` only their captures, tables and quarantine; else all, and metrics. A year counts as a session of
    any. `now`, by which replaced files have outlived their grace, and `dry_run` are as in `compact_captures`; a folder
    with damage is left alone and said. Yields each folder as it is done. Raises DiskFullError.
    """
    archive, store = Archive(data_folder / "raw"), TableStore(data_folder)
    end = last or datetime.fromtimestamp(now, NEW_YORK).date() - timedelta(days=1)

    def is_wanted(name: str, partition: Partition) -> bool:
        in_range = isinstance(partition, int) or (first or partition) <= partition <= end
        return in_range and (not datasets or name in datasets)

    for name in archive.names():
        for day in archive.sessions(name):
            if is_wanted(name, day):
                yield compact_captures(data_folder, name, day, now=now, dry_run=dry_run)
    for stage in ("tables", "quarantine", "metrics"):
        for name in store.names(stage):
            for partition in store.partitions(stage, name):
                if is_wanted(name, partition):
                    yield _drop_retired(store, stage, name, partition, now=now, dry_run=dry_run)


def compact_captures(
    data_folder: Path, dataset: str, session_date: date, *, now: float, dry_run: bool = False
) -> Compacted:
    """Put the sealed captures of a session into its pack; nothing is done where there is one file already.

    May run beside captures, readers and other compactions of the session, and again after any crash; `now` is in epoch
    seconds, for the age of what a dead process left. With `dry_run` nothing is changed, and `after` is what would be,
    to a few bytes. Where a capture or the pack is damaged nothing is changed either. Raises DiskFullError.
    """
    folder = data_folder / "raw" / dataset / folder_name(session_date)
    with durable.locked_folder(folder):
        if not dry_run:
            durable.remove_orphans(folder, now=now)
        own = [folder / name for name in sorted(durable.list_names(folder)) if name.endswith(SEALED_SUFFIX)]
        files = [*own, *([folder / PACK_NAME] if (folder / PACK_NAME).exists() else [])]
        before = _taken(files)
        done = Compacted("raw", dataset, session_date, before, before)
        if len(files) < 2:
            return done
        try:
            archive = Archive(data_folder / "raw")
            captures = [each for each in archive.captures(dataset, session_date) if not each.is_retired]
            if dry_run:
                return replace(done, after=_estimate(captures))
            added = _pack(archive, folder, captures)
            _require_packed(archive, folder / PACK_NAME, [file for file in own if _capture_id(file) not in added])
        except CaptureDamagedError as error:
            return replace(done, problem=str(error))
        durable.remove(own)
        return replace(done, after=_taken([folder / PACK_NAME]))


def _drop_retired(
    store: TableStore, stage: str, name: str, partition: Partition, *, now: float, dry_run: bool
) -> Compacted:
    folder = store.root / stage / name / folder_name(partition)
    before = _taken([*folder.glob("*.parquet")])
    done = Compacted(stage, name, partition, before, before)
    try:
        gone = store.drop_retired(stage, name, partition, now=now, dry_run=dry_run)
    except PartitionDamagedError as error:
        return replace(done, problem=str(error))
    return replace(done, after=before - _taken(gone) if dry_run else _taken([*folder.glob("*.parquet")]))


def _estimate(captures: Sequence[Capture]) -> Taken:
    size = sum(capture.stored_bytes for capture in captures)
    return Taken(1, size, -(-size // _BLOCK_BYTES) * _BLOCK_BYTES)


def _pack(archive: Archive, folder: Path, captures: list[Capture]) -> set[str]:
    """Make the pack hold all these captures, those first that it holds already; gives the ids of those added."""
    path = folder / PACK_NAME
    present = archive.members(path) if path.exists() else ()
    held = {member.capture_id: number for number, member in enumerate(present)}
    added = [capture for capture in captures if capture.capture_id not in held]
    if not added:
        return set()
    for capture in added:
        archive.verify(capture)
    kept = [archive.capture(path, member) for member in present]
    first = captures[0]
    with durable.building(path) as temporary:
        with temporary.open("xb") as file:
            members = tuple(_written(archive, file, [*kept, *added]))
            _require_same(path, members[: len(present)], present)
            file.write(directory_bytes(Directory(first.dataset, first.session_date, members)))
            file.flush()
            os.fsync(file.fileno())
        _read_back(temporary, path, members)
    return {capture.capture_id for capture in added}


def _written(archive: Archive, file: BinaryIO, captures: list[Capture]) -> Iterator[Member]:
    """Write captures end to end, each byte for byte, and say where each stands."""
    for capture in captures:
        digest, offset = hashlib.sha256(), file.tell()
        for piece in archive.content(capture):
            digest.update(piece)
            file.write(piece)
        yield Member(capture.capture_id, offset, file.tell() - offset, digest.hexdigest())


def _read_back(temporary: Path, path: Path, wanted: tuple[Member, ...]) -> None:
    """Hold what is on the disk against the hashes of what was read; raises CaptureDamagedError."""
    with OpenFile(durable.open_file(temporary)) as file:
        try:
            listed = read_directory(file).members
        except DamagedFrameError as error:
            message = f"{path}: what was written is not what is read back ({error}); nothing was changed"
            raise CaptureDamagedError(message, path) from error
        _require_same(path, listed, wanted)
        _require_same(path, tuple(_hashed(file, member) for member in listed), wanted)


def _hashed(file: OpenFile, member: Member) -> Member:
    digest, end = hashlib.sha256(), member.offset + member.size_bytes
    for offset in range(member.offset, end, _CHUNK_BYTES):
        digest.update(file.read_at(offset, min(_CHUNK_BYTES, end - offset)))
    return Member(member.capture_id, member.offset, member.size_bytes, digest.hexdigest())


def _require_same(path: Path, found: tuple[Member, ...], wanted: tuple[Member, ...]) -> None:
    for one, other in zip(found, wanted, strict=True):
        if one != other:
            message = (
                f"{path}: capture {other.capture_id} does not match its SHA-256; nothing was changed. Run "
                "`trade-analyst verify`, and restore the file from a copy"
            )
            raise CaptureDamagedError(message, path)


def _require_packed(archive: Archive, path: Path, own: list[Path]) -> None:
    """Read both once more where a capture stood in the pack already; raises CaptureDamagedError where they differ."""
    members = {member.capture_id: member for member in archive.members(path)}
    with OpenFile(durable.open_file(path)) as pack:
        for file in own:
            member = members[_capture_id(file)]
            with OpenFile(durable.open_file(file)) as single:
                alone = _hashed(single, Member(member.capture_id, 0, single.size, ""))
            _require_same(path, (_hashed(pack, member),), (member,))
            if alone.sha256 != member.sha256:
                message = (
                    f"{file}: it is not the capture of this id in {PACK_NAME}; both are kept, and the one in the pack "
                    "is read. Move the file out of the archive"
                )
                raise CaptureDamagedError(message, file)


def _capture_id(file: Path) -> str:
    return file.name.removesuffix(SEALED_SUFFIX)


def _taken(files: list[Path]) -> Taken:
    states = [file.stat() for file in files]
    return Taken(len(states), sum(each.st_size for each in states), sum(512 * each.st_blocks for each in states))
