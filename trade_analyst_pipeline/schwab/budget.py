"""The request limit, shared by all processes of the machine.

Belongs here: how many requests may go in a minute, the order in which they go, and the small file that processes
share for it. Not here: when to retry and what a 429 means (`client.py`).

The rule is GCRA with reservation: one number, the theoretical arrival time, says when the next slot is. A caller
takes its slot at once and then waits for it, so slots are handed out in call order and nobody is starved. Limit L is
split into a burst b and a rate L - b (112 + 8 for 120), which bounds every window of 60 s, wherever it begins, by L.
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
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from trade_analyst_pipeline.errors import StorageError
from trade_analyst_pipeline.market.clock import Clock

LONGEST_PAUSE_SECONDS = 600.0

_WINDOW = 60_000_000  # all instants and spans below are whole microseconds, so that sums are exact
_LONGEST_QUEUE = 1_800_000_000
_NO_HISTORY = -1  # what a new state file holds: nothing is known of the minute before it
_LOCK_POLL_SECONDS = 0.0005
_LOCK_PATIENCE_SECONDS = 2.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class BudgetState:
    """How the shared limit stands: requests that may go at once, and when the next may go if that is later (UTC).

    `is_known` is False where the file is damaged: everybody waits a full minute then.
    """

    per_minute: int
    free_now: int
    next_time: datetime | None
    is_known: bool


class RequestBudget:
    """At most `per_minute` grants in any 60 s, in call order.

    With a `state_file` all processes that name the same file share the limit; with None it holds for this object
    alone, which is what a simulated clock needs: there grant i goes at an instant that depends on i only, as long as
    nothing but the budget lets time pass. A missing file starts without burst, a damaged one makes everybody wait a
    full window: the limit is never exceeded for lack of memory.
    """

    def __init__(self, *, per_minute: int, clock: Clock, state_file: Path | None) -> None:
        if per_minute < 1:
            message = f"a request limit of {per_minute} a minute lets nothing through; set at least 1"
            raise ValueError(message)
        self.per_minute = per_minute
        self._clock = clock
        self._burst = max(1, per_minute // 15)
        self._interval = _WINDOW // max(1, per_minute - self._burst) + 1
        self._slots: _Slots = _MemorySlots() if state_file is None else _FileSlots(state_file)

    async def acquire(self) -> datetime:
        """Take the next free slot, wait for it on the clock, and return the instant it was granted (UTC)."""
        now = self._clock.now()
        start = self._reserve(_micros(now))
        if start > now:
            await self._clock.sleep((start - now) / timedelta(seconds=1))
        return max(start, self._clock.now())

    async def pause_until(self, instant: datetime) -> None:
        """Grant nothing to anybody before `instant` (zone-aware), nor a burst right after it.

        Reaches at most LONGEST_PAUSE_SECONDS ahead. Slots handed out earlier are not taken back.
        """
        now = _micros(self._clock.now())
        resume = min(_micros(instant), now + int(LONGEST_PAUSE_SECONDS * 1e6))
        self._slots.update(lambda arrival: max(self._known(arrival, now), resume + self._credit))

    def state(self) -> BudgetState:
        """How the limit stands, as far as it is known without taking part in it; nothing is written."""
        found, now = self._slots.look(), _micros(self._clock.now())
        arrival = self._known(found, now)
        free = max(0, (now + self._credit - arrival) // self._interval + 1)
        start = arrival - self._credit
        next_time = _EPOCH + timedelta(microseconds=start) if start > now else None
        return BudgetState(self.per_minute, min(self._burst, free), next_time, is_known=found is not None)

    def check_access(self) -> None:
        """See that this process can take part in the limit: StorageError where the file cannot be written.

        Nothing is changed; a file that is not there yet is left so.
        """
        self._slots.check_access()

    @property
    def _credit(self) -> int:
        return (self._burst - 1) * self._interval

    def _reserve(self, now: int) -> datetime:
        taken = self._slots.update(lambda arrival: max(self._known(arrival, now), now) + self._interval)
        return _EPOCH + timedelta(microseconds=max(now, taken - self._interval - self._credit))

    def _known(self, arrival: int | None, now: int) -> int:
        """The arrival time to go on from. None or one absurdly far ahead is damage, and costs a full window."""
        if arrival == _NO_HISTORY:
            return now + self._credit
        if arrival is None or arrival > now + _LONGEST_QUEUE:
            return now + _WINDOW + self._credit
        return arrival


class _Slots(Protocol):
    def update(self, change: Callable[[int | None], int]) -> int:
        """Replace the theoretical arrival time by `change` of it, undisturbed by others, and return the new one."""
        ...

    def look(self) -> int | None:
        """The theoretical arrival time as it stands; None when it is damaged."""
        ...

    def check_access(self) -> None:
        """See that `update` would not be refused by the system."""
        ...


class _MemorySlots:
    def __init__(self) -> None:
        self._arrival = 0
        self._lock = threading.Lock()

    def update(self, change: Callable[[int | None], int]) -> int:
        with self._lock:
            self._arrival = change(self._arrival)
            return self._arrival

    def look(self) -> int | None:
        return self._arrival

    def check_access(self) -> None:
        """Memory is always there."""


class _FileSlots:
    """Eight bytes of arrival time and a checksum, under `flock`; a killed holder frees the lock at once."""

    _record = struct.Struct("<q")
    _checksum = struct.Struct("<I")

    def __init__(self, path: Path) -> None:
        self._path = path

    def update(self, change: Callable[[int | None], int]) -> int:
        try:
            with self._locked() as descriptor:
                arrival = change(self._decode(os.pread(descriptor, 64, 0)))
                data = self._record.pack(arrival)
                os.pwrite(descriptor, data + self._checksum.pack(zlib.crc32(data)), 0)
                os.ftruncate(descriptor, self._record.size + self._checksum.size)
        except OSError as error:
            message = f"request budget file {self._path}: {error.strerror}. Make the file and its folder writable."
            raise StorageError(message) from error
        return arrival

    def look(self) -> int | None:
        try:
            return self._decode(self._path.read_bytes()[:64])
        except FileNotFoundError:
            return _NO_HISTORY
        except OSError as error:
            message = f"request budget file {self._path}: {error.strerror}. Make the file and its folder readable."
            raise StorageError(message) from error

    def check_access(self) -> None:
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))
        except FileNotFoundError:
            return
        except OSError as error:
            message = f"request budget file {self._path}: {error.strerror}. Make the file and its folder writable."
            raise StorageError(message) from error

    def _decode(self, data: bytes) -> int | None:
        whole, checksum = data[: self._record.size], data[self._record.size :]
        if len(whole) < self._record.size or checksum != self._checksum.pack(zlib.crc32(whole)):
            return None
        return int(self._record.unpack(whole)[0])

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        descriptor = self._open()
        try:
            _lock(descriptor, self._path)
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
        data = self._record.pack(_NO_HISTORY)
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}.{threading.get_ident()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data + self._checksum.pack(zlib.crc32(data)))
        try:
            with contextlib.suppress(FileExistsError):
                os.link(draft, self._path)
        finally:
            draft.unlink()


def _lock(descriptor: int, path: Path) -> None:
    """Take the exclusive lock. Others hold it for microseconds, so this polls briefly instead of yielding its turn."""
    deadline = time.monotonic() + _LOCK_PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                message = (
                    f"request budget file {path} has been locked for {_LOCK_PATIENCE_SECONDS:.0f} s by a program that "
                    "does not go on. End that program, then try again."
                )
                raise StorageError(message) from None
            time.sleep(_LOCK_POLL_SECONDS)
        else:
            return


def _micros(instant: datetime) -> int:
    return (instant - _EPOCH) // _TICK
