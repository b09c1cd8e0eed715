"""What a command has to itself while it works: the right to run in an environment, and a folder nobody else uses.

Both are locks the system gives up when their process ends, however it ends; nothing has to be tidied by hand.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trade_analyst_pipeline.errors import AlreadyRunningError
from trade_analyst_pipeline.storage.stream_status import STREAM_LOCK

RUN_LOCK = ".run.lock"
_FOLDERS_LOCK = ".lock"


@contextmanager
def only_run(data_folder: Path) -> Iterator[None]:
    """Be the only `run` of a data folder for the block; raises AlreadyRunningError, at once, when there is another.

    Two would ask the source for the same things and build the same tables; schedules are not kept out, since their
    work is small and a late writer of a partition is refused.
    """
    advice = "Wait until it has ended, or end it; then run again: only what is still missing is asked for"
    with _only_one(data_folder, RUN_LOCK, "run", advice):
        yield


@contextmanager
def only_stream(data_folder: Path) -> Iterator[None]:
    """Be the only collector of a data folder for the block; raises AlreadyRunningError, at once, when there is another.

    The source allows one connection for each user: two would throw each other out for ever.
    """
    advice = "The source allows one connection; `trade-analyst stream --take-over` ends that one in good order first"
    with _only_one(data_folder, STREAM_LOCK, "stream", advice):
        yield


@contextmanager
def _only_one(data_folder: Path, lock: str, command: str, advice: str) -> Iterator[None]:
    data_folder.mkdir(parents=True, exist_ok=True)
    path = data_folder / lock
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        if not _lock(descriptor):
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
            message = (
                f"another `trade-analyst {command}` works on {data_folder} (process {holder}); nothing was started. "
                f"{advice}"
            )
            raise AlreadyRunningError(message)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def folder_of_its_own(parent: Path) -> Iterator[Path]:
    """A new folder below `parent` that only this user can open, removed with all in it at the end of the block.

    Folders whose process died without removing them are removed first.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with _held(parent / _FOLDERS_LOCK):
        for left in parent.iterdir():
            if left.is_dir() and not left.is_symlink() and _is_abandoned(left):
                shutil.rmtree(left)
        folder = Path(tempfile.mkdtemp(dir=parent))
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_abandoned(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
