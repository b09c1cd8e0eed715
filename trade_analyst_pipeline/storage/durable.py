"""Atomic, durable writes: the only code that creates, replaces or removes files below the data folder.

A file is written beside its destination under a temporary name, synced, renamed over the destination, and the folder
is synced: after a crash or power cut a reader finds the old file or the new one, whole. Folders below the data folder
are opened without following symbolic links. What the files mean does not belong here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import polars as pl

from trade_analyst_pipeline.errors import DiskFullError, StorageError

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_OS_ERROR_TEXT = re.compile(r"\(os error (\d+)\)|No space left|File too large|quota exceeded", re.IGNORECASE)
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)-(?P<started>\d+)-[0-9a-f]{8}\.tmp")
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
ORPHAN_AGE_SECONDS = 3600.0


def is_disk_full(error: BaseException) -> bool:
    """Whether an error of Python, Polars or DuckDB means that no space, quota or file size is left."""
    number = getattr(error, "errno", None)
    if number is not None:
        return number in _NO_SPACE
    found = _OS_ERROR_TEXT.search(str(error))
    return found is not None and (found[1] is None or int(found[1]) in _NO_SPACE)


@contextmanager
def disk_full_as_ours(path: Path) -> Iterator[None]:
    """Turn each way a library says "no space left" into DiskFullError naming `path`; other errors pass unchanged."""
    try:
        yield
    except (OSError, pl.exceptions.ComputeError) as error:
        if not is_disk_full(error):
            raise
        message = (
            f"no space or quota left while writing {path}; what was there before is unchanged. "
            "Free some space and run the same command again"
        )
        raise DiskFullError(message) from error


@contextmanager
def open_folder(folder: Path) -> Iterator[int]:
    """A descriptor of an existing folder; raises StorageError when its last part is a symbolic link."""
    try:
        descriptor = os.open(folder, _FOLDER_FLAGS)
    except NotADirectoryError as error:
        message = f"{folder} is not a plain folder (a link or a file stands there); remove it and try again"
        raise StorageError(message) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold a folder for the block, waiting for whoever holds it; raises StorageError when it is a symbolic link."""
    with open_folder(folder) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def list_names(folder: Path) -> list[str]:
    """Names in a folder, unsorted; none when it does not exist. Raises StorageError when it is a link."""
    try:
        with open_folder(folder) as descriptor:
            return os.listdir(descriptor)  # noqa: PTH208  pathlib cannot list an open folder
    except FileNotFoundError:
        return []


def make_folders(root: Path, *names: str) -> Path:
    """Make `root/name/name/…` and all above it durably; raises StorageError when a part below root is a link."""
    for missing in reversed([part for part in root.parents if not part.is_dir()]):
        _make_folder(missing)
    _make_folder(root)
    folder = root
    for name in names:
        folder = folder / name
        if not _make_folder(folder):
            _refuse_link(folder)
    return folder


def _make_folder(folder: Path) -> bool:
    """Make it, and sync the folder it is in; whether it was not there yet.

    One that is there and empty may have been made by another process just now, which has not synced it yet; anything
    in it was put there after a sync.
    """
    is_new = True
    try:
        with disk_full_as_ours(folder):
            folder.mkdir()
    except FileExistsError:
        is_new = False
    if is_new or _is_empty(folder):
        sync_folder(folder.parent)
    return is_new


def _is_empty(folder: Path) -> bool:
    """Whether it is a folder with nothing in it; a link is none."""
    return folder.is_dir() and not folder.is_symlink() and not list_names(folder)


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk."""
    with open_folder(folder) as descriptor:
        os.fsync(descriptor)


def _refuse_link(folder: Path) -> None:
    if folder.is_symlink() or not folder.is_dir():
        message = f"{folder} is not a plain folder (a link or a file stands there); remove it and try again"
        raise StorageError(message)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file, open for writing, that takes the place of `path` when the block ends without an error.

    On any error the temporary file is gone and `path` is untouched. An error of the very last step, the sync of the
    folder, leaves the new file in place: a failed write means "maybe" and is safe to repeat. Raises DiskFullError.
    """
    temporary = _temporary_name(path.name)
    with disk_full_as_ours(path), open_folder(path.parent) as folder:
        try:
            with os.fdopen(os.open(temporary, _CREATE_FLAGS, 0o644, dir_fd=folder), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            raise
        os.fsync(folder)


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Replace `path` by `data`, atomically and durably; raises DiskFullError."""
    with replacing(path) as file:
        file.write(data)


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte to an open file, without syncing it."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def rename(source: Path, destination: Path) -> None:
    """Rename within one folder and sync the folder; the caller has synced the file itself."""
    with open_folder(source.parent) as folder:
        os.rename(source.name, destination.name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)


def move(source: Path, destination: Path) -> None:
    """Rename into another folder of the same file system and sync both folders."""
    with open_folder(source.parent) as old, open_folder(destination.parent) as new:
        os.rename(source.name, destination.name, src_dir_fd=old, dst_dir_fd=new)
        os.fsync(new)
        os.fsync(old)


def remove(paths: Sequence[Path]) -> None:
    """Remove files of one folder, and sync the folder."""
    for path in paths:
        path.unlink(missing_ok=True)
    if paths:
        with open_folder(paths[0].parent) as folder:
            os.fsync(folder)


@contextmanager
def building(path: Path) -> Iterator[Path]:
    """A free path beside `path` where a library makes its own file, which takes the place of `path` at the end.

    On any error that file is gone and `path` is untouched. Raises DiskFullError.
    """
    with beside(path) as temporary, disk_full_as_ours(path):
        try:
            yield temporary
            sync_file(temporary)
            rename(temporary, path)
        finally:
            temporary.with_name(temporary.name + ".wal").unlink(missing_ok=True)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A free path beside `path` for a file that may take its place; what lies there at the end is gone."""
    temporary = path.with_name(_temporary_name(path.name))
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Force the content of a closed file to the disk."""
    descriptor = open_file(path)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_file(path: Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a plain file, which must exist unless `flags` create it; StorageError for a symbolic link."""
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        message = f"{path} is a symbolic link; only plain files are accepted. Remove it"
        raise StorageError(message) from error


def read_bytes(path: Path, *, limit: int) -> bytes:
    """The content of a plain file; raises StorageError for a link or for more than `limit` bytes."""
    with os.fdopen(open_file(path), "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            message = f"{path} has {size:,} bytes, more than the {limit:,} such a file may have"
            raise StorageError(message)
        return file.read(limit + 1)


def remove_orphans(folder: Path, *, now: float) -> list[Path]:
    """Remove temporary files in `folder` left by dead processes over an hour before `now` (epoch seconds).

    Files of living writers stay whatever their age. Returns what was removed.
    """
    found = [folder / name for name in list_names(folder) if is_left_behind(folder / name, now=now)]
    for path in found:
        path.unlink(missing_ok=True)
    return found


def is_temporary(name: str) -> bool:
    """Whether a file of that name is one that is still to take its place."""
    return _TEMPORARY.fullmatch(name) is not None


def is_left_behind(path: Path, *, now: float) -> bool:
    """Whether a file is a temporary one of a dead process, over an hour old at `now` (epoch seconds)."""
    match = _TEMPORARY.fullmatch(path.name)
    if match is None or _is_alive(int(match["pid"]), int(match["started"])):
        return False
    try:
        return now - path.lstat().st_mtime > ORPHAN_AGE_SECONDS
    except FileNotFoundError:
        return False


def _temporary_name(name: str) -> str:
    pid = os.getpid()
    return f".{name}.{pid}-{_process_start(pid)}-{secrets.token_hex(4)}.tmp"


def _process_start(pid: int) -> int:
    """Start of a process in kernel ticks, so that a reused pid is told apart; 0 where /proc is absent or it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[19])


def _is_alive(pid: int, started: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return started in (0, _process_start(pid))
