"""The record of the request limit, in one small file that all processes of the machine share.

Belongs here: reading and changing it under a lock, and telling a damaged one. Four bytes name the format and its
version, four are a checksum, four a length; MessagePack of that length follows, and what lies behind it is left over.
One write of less than a page changes it, so a killed writer has written all or nothing; a killed holder frees the lock
at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from trade_analyst_pipeline.errors import StorageError
from trade_analyst_pipeline.schwab.pace import NO_HISTORY, Record

_FORMAT = b"TAB\x03"
_HEAD = struct.Struct("<4sII")
_LARGEST = 1 << 16
_LOCK_POLL_SECONDS = 0.0005
_LOCK_PATIENCE_SECONDS = 2.0

Found = TypeVar("Found")


class BudgetFile:
    """The shared record at `path`; None stands for a damaged one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def update(
        self, change: Callable[[Record | None], tuple[Record, Found]], *, patience: float | None = None
    ) -> Found:
        """Replace the record by what `change` makes of it, undisturbed by others, and return what else it gives.

        Raises StorageError where the file cannot be written, or is locked for `patience` seconds (None: long) by a
        program that does not go on.
        """
        try:
            with self._locked(patience) as descriptor:
                record, found = change(_decode(os.pread(descriptor, _LARGEST, 0)))
                os.pwrite(descriptor, _encode(record), 0)
        except OSError as error:
            raise self._problem(error, "writable") from error
        return found

    def look(self) -> Record | None:
        """The record as it stands, without taking part; a missing file is a new record."""
        try:
            with self._path.open("rb") as file:
                return _decode(file.read(_LARGEST))
        except FileNotFoundError:
            return Record(arrival=NO_HISTORY)
        except OSError as error:
            raise self._problem(error, "readable") from error

    def check_access(self) -> None:
        """See that `update` would not be refused by the system; a file that is not there yet is left so."""
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._problem(error, "writable") from error

    def _problem(self, error: OSError, wanted: str) -> StorageError:
        message = f"request budget file {self._path}: {error.strerror}. Make the file and its folder {wanted}."
        return StorageError(message)

    @contextlib.contextmanager
    def _locked(self, patience: float | None) -> Iterator[int]:
        descriptor = self._open()
        try:
            _lock(descriptor, self._path, _LOCK_PATIENCE_SECONDS if patience is None else patience)
            yield descriptor
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self._path, flags)
        except FileNotFoundError:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._create()
            return os.open(self._path, flags)

    def _create(self) -> None:
        """Put a complete first record in place at once, so that no reader takes a new file for a damaged one."""
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}.{threading.get_ident()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(_encode(Record(arrival=NO_HISTORY)))
        try:
            with contextlib.suppress(FileExistsError):
                os.link(draft, self._path)
        finally:
            draft.unlink()


def _encode(record: Record) -> bytes:
    body = msgspec.msgpack.encode(record)
    return _HEAD.pack(_FORMAT, zlib.crc32(body), len(body)) + body


def _decode(data: bytes) -> Record | None:
    if len(data) < _HEAD.size:
        return None
    form, checksum, length = _HEAD.unpack_from(data)
    body = data[_HEAD.size : _HEAD.size + length]
    if form != _FORMAT or len(body) != length or zlib.crc32(body) != checksum:
        return None
    try:
        return msgspec.msgpack.decode(body, type=Record)
    except msgspec.DecodeError:
        return None


def _lock(descriptor: int, path: Path, patience: float) -> None:
    """Take the exclusive lock. Others hold it for microseconds, so this polls briefly instead of yielding its turn."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                message = (
                    f"request budget file {path} has been locked for {patience:g} s by a program that "
                    "does not go on. End that program, then try again."
                )
                raise StorageError(message) from None
            time.sleep(_LOCK_POLL_SECONDS)
        else:
            return
