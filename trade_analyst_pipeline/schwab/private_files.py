"""Files that only their owner may read: opened without following links, checked, locked, replaced durably.

Serves the token file, its key and the notes beside them. Not here: what such a file holds, and how it is encrypted
(`tokens.py`, `keys.py`). Whatever the system refuses becomes an error of ours.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from trade_analyst_pipeline.errors import AuthError, AuthUnavailableError, TokenStoreError

_RESERVED_BYTES = 16 << 10
_LOCK_POLL_SECONDS = 0.003
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_FAILS = (*_NO_ROOM, errno.EROFS, errno.EIO)  # what is stored can still be read, and trusted
_OPEN_NO_LINK = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

Signature = tuple[int, ...]


# -- reading ---------------------------------------------------------------------------------------------------


def signature(path: Path) -> Signature | None:
    """What identifies one state of a file (links not followed): another one after each replacement; None: no file.

    Raises TokenStoreError where the folder cannot be looked into.
    """
    try:
        return _signature(path.lstat())
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"{path} cannot be looked at ({error.strerror}). Make its folder readable for you."
        raise TokenStoreError(message) from error


def _signature(found: os.stat_result) -> Signature:
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_mode


def read_private(path: Path, refusal: type[AuthError], *, largest: int) -> tuple[bytes, Signature] | None:
    """The bytes of a regular file of ours that nobody else can reach, and what identifies the state they are of.

    At most `largest` bytes and one more are read; None: no file. Raises `refusal` for any other kind of file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _OPEN_NO_LINK)
    except FileNotFoundError:
        return None
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        message = f"{path} cannot be opened: {why}. Nothing was changed; put the file itself there, readable by you."
        raise refusal(message) from error
    try:
        found = os.fstat(descriptor)
        _check_private(path, found, refusal)
        return os.read(descriptor, largest + 1), _signature(found)
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror}). Nothing was changed; check the disk."
        raise refusal(message) from error
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

    Raises `refusal` when it is a link, belongs to another user, could be written by others so far, or cannot be made;
    AuthUnavailableError when the disk fails.
    """
    try:
        _make_folder(folder)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            message = f"{folder} is not a folder of yours. Move it away, or run as its owner."
            raise refusal(message)
        if found.st_mode & 0o022:
            message = f"{folder} can be written by others (mode {found.st_mode & 0o777:03o}). Run `chmod 700 {folder}`."
            raise refusal(message)
        if found.st_mode & 0o777 != 0o700:
            folder.chmod(0o700)
    except OSError as error:
        message = f"folder {folder} cannot be made private ({error.strerror}). Make its place writable for you."
        raise (AuthUnavailableError if error.errno in _DISK_FAILS else refusal)(message) from error


def _make_folder(folder: Path) -> None:
    """Make the folder, and those above it that others may look into but never write, whatever the umask."""
    with contextlib.suppress(FileExistsError):
        if not folder.parent.exists():
            _make_parents(folder.parent)
        folder.mkdir(mode=0o700)


def _make_parents(folder: Path) -> None:
    if not folder.parent.exists():
        _make_parents(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o755)


# -- locking ---------------------------------------------------------------------------------------------------

_open_locks: set[int] = set()


@contextlib.contextmanager
def hold_lock(path: Path, seconds: float, *, give_up: Callable[[], bool] | None = None) -> Iterator[bool]:
    """Hold the exclusive lock of a side-car file, which is made when missing and never deleted.

    Threads of one process exclude each other too: each use has a descriptor of its own. A killed holder frees the lock
    at once, whatever processes it has started. Yields true; false, without the lock, as soon as `give_up` says that it
    is no longer needed. Raises AuthUnavailableError after waiting `seconds`.
    """
    descriptor = _open_lock(path)
    try:
        yield _wait_for_lock(path, descriptor, seconds, give_up)
    finally:
        _close_lock(descriptor)


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock of this side-car file just now."""
    if signature(path) is None:
        return False
    descriptor = _open_lock(path)
    try:
        return not _try_lock(path, descriptor)
    finally:
        _close_lock(descriptor)


def _open_lock(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _OPEN_NO_LINK, 0o600)
    except OSError as error:
        message = f"lock file {path} cannot be opened ({error.strerror}). See that it is a plain file you can write."
        refusal = AuthUnavailableError if error.errno in _DISK_FAILS else TokenStoreError
        raise refusal(message) from error
    _close_locks_in_forks()
    _open_locks.add(descriptor)
    try:
        _check_private(path, os.fstat(descriptor), TokenStoreError)
    except TokenStoreError:
        _close_lock(descriptor)
        raise
    return descriptor


def _wait_for_lock(path: Path, descriptor: int, seconds: float, give_up: Callable[[], bool] | None) -> bool:
    deadline = time.monotonic() + seconds
    while not _try_lock(path, descriptor):
        if give_up is not None and give_up():
            return False
        if time.monotonic() >= deadline:
            message = f"{path} has been locked by another process for {seconds:g} s. Ask again later."
            raise AuthUnavailableError(message)
        time.sleep(_LOCK_POLL_SECONDS)
    return True


def _try_lock(path: Path, descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        message = f"{path} cannot be locked ({error.strerror}). Keep it on a local disk."
        raise AuthUnavailableError(message) from error
    return True


def _close_lock(descriptor: int) -> None:
    if descriptor in _open_locks:  # not so in a forked child, which must not free its parent's lock
        _open_locks.discard(descriptor)
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


@functools.cache
def _close_locks_in_forks() -> None:
    """See that forked children hold no lock: one that outlived its parent would keep it."""
    os.register_at_fork(after_in_child=_drop_inherited_locks)


def _drop_inherited_locks() -> None:
    while _open_locks:
        os.close(_open_locks.pop())


# -- replacing -------------------------------------------------------------------------------------------------


class Draft:
    """The next state of a file, with room on the disk set aside before it is known.

    Lies beside the file under its name with `.draft`. One that was filled but not put in place stays, so that the next
    holder of the lock finds it (`read_draft`, `finish_draft`); an empty one is removed. AuthUnavailableError without
    room. To be made, filled and left under the file's lock.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = draft_of(path)
        self._is_filled = False
        discard(self._draft)
        self._descriptor = _reserve(self._draft)

    def __enter__(self) -> Draft:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
        if not self._is_filled:
            discard(self._draft)

    def put(self, data: bytes) -> None:
        """Make `data` the file's content: after return it is on the disk, before it the old content is."""
        if len(data) > _RESERVED_BYTES:
            message = f"a record of {len(data)} bytes is larger than any known; nothing was stored in {self._path}."
            raise TokenStoreError(message)
        self._is_filled = True
        write_reserved(self._descriptor, data, self._path)


def draft_of(path: Path) -> Path:
    """Where the next state of a file is prepared."""
    return path.with_name(path.name + ".draft")


def _reserve(draft: Path) -> int:
    """A descriptor of a new file with 16 KiB of the disk set aside for it."""
    descriptor = -1
    try:
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN_NO_LINK, 0o600)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, _RESERVED_BYTES)
        else:  # macOS
            os.pwrite(descriptor, bytes(_RESERVED_BYTES), 0)
        os.fsync(descriptor)
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
            discard(draft)
        advice = "Free some space" if error.errno in _NO_ROOM else "Make the folder writable"
        message = f"{draft.parent} has no room for a new token ({error.strerror}). {advice}, then ask again."
        raise AuthUnavailableError(message) from error
    return descriptor


def write_reserved(descriptor: int, data: bytes, path: Path) -> None:
    """Put `data` into the draft of `path` behind this descriptor and make it the file, durably."""
    try:
        os.pwrite(descriptor, data, 0)
        os.ftruncate(descriptor, len(data))
        os.fsync(descriptor)
        draft_of(path).replace(path)
        sync_folder(path.parent)
    except OSError as error:
        message = f"a new record could not be stored in {path} ({error.strerror}). Check the disk, then ask again."
        raise AuthUnavailableError(message) from error


def read_draft(path: Path) -> bytes | None:
    """What a killed process had already filled into the draft of `path`; None when there is nothing of that kind."""
    try:
        found = read_private(draft_of(path), TokenStoreError, largest=_RESERVED_BYTES)
    except TokenStoreError:
        return None
    return None if found is None else found[0].rstrip(b"\0") or None


def finish_draft(path: Path, data: bytes) -> None:
    """Put the draft that `read_draft` has found to hold `data` in place; a kill in between loses nothing."""
    try:
        descriptor = os.open(draft_of(path), os.O_RDWR | _OPEN_NO_LINK)
    except OSError as error:
        message = f"{draft_of(path)} cannot be opened ({error.strerror}). Ask again later."
        raise AuthUnavailableError(message) from error
    try:
        write_reserved(descriptor, data, path)
    finally:
        os.close(descriptor)


def discard(path: Path) -> None:
    """Remove a left-over; one that cannot be removed shows when its name is needed."""
    with contextlib.suppress(OSError):
        path.unlink()


def remove_durably(paths: list[Path]) -> None:
    """Remove these files of one folder in this order, those that exist; after return they do not come back.

    Raises AuthUnavailableError when the disk refuses.
    """
    try:
        for path in paths:
            path.unlink(missing_ok=True)
        sync_folder(paths[0].parent)
    except OSError as error:
        message = f"{paths[0].parent} cannot be changed ({error.strerror}). Check the disk, then ask again."
        raise AuthUnavailableError(message) from error


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
