"""Files that only their owner may read: opened without following links, checked, locked, replaced durably.

Serves the token file and its key. Not here: what such a file holds, and how it is encrypted (`tokens.py`, `keys.py`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from trade_analyst_pipeline.errors import AuthError, AuthUnavailableError, TokenStoreError

_RESERVED_BYTES = 16 << 10
_LOCK_POLL_SECONDS = 0.003
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def signature(file: Path | int) -> tuple[int, ...] | None:
    """What identifies one state of a file (links not followed): another one after each replacement; None: no file."""
    try:
        found = file.lstat() if isinstance(file, Path) else os.fstat(file)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_mode


@contextlib.contextmanager
def open_private(path: Path, refusal: type[AuthError]) -> Iterator[int]:
    """A descriptor for reading a regular file of ours that nobody else can reach; raises `refusal` otherwise."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        message = f"{path} cannot be opened: {why}. Nothing was changed; put the file itself there, readable by you."
        raise refusal(message) from error
    try:
        _check_private(path, os.fstat(descriptor), refusal)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_private(path: Path, found: os.stat_result, refusal: type[AuthError]) -> None:
    if not stat.S_ISREG(found.st_mode):
        problem, fix = "is not a regular file", "Move it away."
    elif found.st_uid != os.geteuid():
        problem, fix = f"belongs to another user (uid {found.st_uid})", "Run as that user, or move it away."
    elif found.st_mode & 0o077:
        problem, fix = f"can be reached by others (mode {found.st_mode & 0o777:03o})", f"Run `chmod 600 {path}`."
    elif found.st_nlink > 1:  # 0: replaced since it was opened, and still whole
        problem, fix = "has a second name (hard link)", "Remove the other name."
    else:
        return
    message = f"{path} {problem}. Nothing was changed. {fix}"
    raise refusal(message)


def check_private_folder(folder: Path, refusal: type[AuthError]) -> None:
    """Make `folder` with mode 0700, or see that it is ours and close it to others.

    Raises `refusal` when it is a link, belongs to another user, or could be written by others so far.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        message = f"{folder} is not a folder of yours. Move it away, or run as its owner."
        raise refusal(message)
    if found.st_mode & 0o022:
        message = f"{folder} can be written by others (mode {found.st_mode & 0o777:03o}). Run `chmod 700 {folder}`."
        raise refusal(message)
    if found.st_mode & 0o777 != 0o700:
        folder.chmod(0o700)


@contextlib.contextmanager
def hold_lock(path: Path, seconds: float) -> Iterator[None]:
    """Hold the exclusive lock of a side-car file, which is made when missing and never deleted.

    A killed holder frees it at once. Raises AuthUnavailableError after waiting `seconds`.
    """
    descriptor = _open_lock(path)
    try:
        deadline = time.monotonic() + seconds
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                message = f"{path} has been locked by another process for {seconds:g} s. Ask again later."
                raise AuthUnavailableError(message)
            time.sleep(_LOCK_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        message = f"lock file {path} cannot be opened ({error.strerror}). See that it is a plain file you can write."
        raise TokenStoreError(message) from error


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def reserve(draft: Path) -> int:
    """A descriptor of a new file with 16 KiB of the disk set aside for it; AuthUnavailableError without room."""
    descriptor = -1
    try:
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.posix_fallocate(descriptor, 0, _RESERVED_BYTES)
        os.fsync(descriptor)
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
            draft.unlink(missing_ok=True)
        advice = "Free some space" if error.errno in _NO_ROOM else "Make the folder writable"
        message = f"{draft.parent} has no room for a new token ({error.strerror}). {advice}, then ask again."
        raise AuthUnavailableError(message) from error
    return descriptor


def write_reserved(descriptor: int, data: bytes, path: Path) -> None:
    """Put `data` into the reserved draft and make it `path`: after return it is on the disk, before it is the old.

    The draft must lie in the folder of `path` under its name with `.draft`.
    """
    if len(data) > _RESERVED_BYTES:
        message = f"a token record of {len(data)} bytes is larger than any known; nothing was stored in {path}."
        raise TokenStoreError(message)
    try:
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
        os.fsync(descriptor)
        path.with_name(path.name + ".draft").replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        message = f"a new token could not be stored in {path} ({error.strerror}). Check the disk, then ask again."
        raise AuthUnavailableError(message) from error


def _sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
