"""From messages to sealed segments: what comes is held in memory, within a bound, and written by a thread of its own.

`Journal` belongs to the event loop: it takes messages and gaps, says whether there is room for more, and decides where
a segment ends. `SegmentWriter` is the other side, which alone touches the disk and may be held up by it for any time.
Nothing is dropped here: whoever reads the socket stops while there is no room.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Final

from trade_analyst_pipeline.errors import DiskFullError
from trade_analyst_pipeline.market.clock import Clock
from trade_analyst_pipeline.market.stream_blocks import StreamMessage, pack_message
from trade_analyst_pipeline.storage.archive import Archive, CaptureWriter
from trade_analyst_pipeline.storage.segments import NAME, StreamGap, block_record
from trade_analyst_pipeline.storage.stream_status import StreamStatus, keep_status

WRITE_SECONDS: Final = 0.5
SYNC_SECONDS, SYNC_BYTES = 1.0, 1 << 20
_EAGER_BYTES: Final = 1 << 18
_RETRY_SECONDS: Final = 5.0
_LAST_TRY_SECONDS: Final = 20.0

_log = logging.getLogger("trade_analyst.stream")

OnDisk = Callable[[Callable[[], None]], Awaitable[None]]
"""Runs what touches the disk without holding up the event loop."""


@dataclass(frozen=True)
class _Block:
    epoch: int
    body: bytes
    first_ns: int
    last_ns: int
    is_carried: bool = False


@dataclass(frozen=True)
class _Seal:
    finished_time: datetime


_Entry = _Block | StreamGap | _Seal | StreamStatus


class SegmentWriter:
    """Writes blocks and gaps of one session into segments, on whatever thread calls it, one at a time."""

    def __init__(
        self,
        data_folder: Path,
        session_date: date,
        *,
        symbols: Sequence[str] = (),
        terms: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._data_folder = data_folder
        self._archive = Archive(data_folder / "raw")
        self._session_date = session_date
        self._symbols, self._terms = tuple(symbols), tuple(terms)
        self._writer: CaptureWriter | None = None
        self._unsynced = 0
        self._synced_at = 0.0
        self._has_left_one = False
        self.sealed = 0

    def write(self, entries: deque[_Entry]) -> None:
        """Write and take off the front what is there, then sync if that is due.

        What could not be written stays in front. Raises DiskFullError, OSError.
        """
        while entries:
            self._put(entries[0])
            entries.popleft()
        if self._unsynced and (self._unsynced >= SYNC_BYTES or time.monotonic() - self._synced_at >= SYNC_SECONDS):
            self._sync()

    def leave(self) -> None:
        """Close what is being written as it is; the next collector seals it."""
        if self._writer is not None:
            self._writer.leave()
            self._writer = None

    def _put(self, entry: _Entry) -> None:
        if isinstance(entry, _Block):
            record = block_record(entry.epoch, entry.body, entry.first_ns, entry.last_ns, is_carried=entry.is_carried)
            self._begun(record.requested_time).append(record)
            self._unsynced += len(entry.body)
        elif isinstance(entry, StreamGap):
            self._begun(entry.to_time).note_gap(entry.as_gap())
            self._unsynced += 1
        elif isinstance(entry, _Seal):
            self._seal(entry.finished_time)
        else:
            keep_status(self._data_folder, entry)

    def _begun(self, moment: datetime) -> CaptureWriter:
        if self._writer is None:
            if self._has_left_one:
                self._archive.recover(NAME)
                self._has_left_one = False
            self._writer = self._archive.begin(
                dataset=NAME,
                session_date=self._session_date,
                scheduled_time=moment,
                started_time=moment,
                symbols=self._symbols,
                terms=self._terms,
            )
        return self._writer

    def _sync(self) -> None:
        if self._writer is not None:
            self._writer.sync()
        self._unsynced, self._synced_at = 0, time.monotonic()

    def _seal(self, finished_time: datetime) -> None:
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        try:
            writer.seal(finished_time)
        except (DiskFullError, OSError):
            writer.leave()
            self._has_left_one = True
            raise
        self.sealed += 1
        self._unsynced, self._synced_at = 0, time.monotonic()


class Journal:
    """Holds what came until it is written; for one event loop.

    `carried` gives how symbols stand, for a segment that begins in the middle of a connection. `on_disk` runs the
    writer.
    """

    def __init__(
        self,
        writer: SegmentWriter,
        *,
        clock: Clock,
        carried: Callable[[int], bytes | None],
        segment_seconds: float,
        segment_bytes: int,
        buffer_bytes: int,
        on_disk: OnDisk,
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._carried = carried
        self._segment_seconds, self._segment_bytes = segment_seconds, segment_bytes
        self._buffer_bytes = buffer_bytes
        self._on_disk = on_disk
        self._block: list[bytes] = []
        self._block_bytes = self._epoch = self._first_ns = self._last_ns = 0
        self._entries: deque[_Entry] = deque()
        self._carry: _Block | None = None
        self._held = 0
        self._in_segment, self._segment_began = 0, 0.0
        self._task: asyncio.Task[None] | None = None
        self._is_closing = self._is_writing = False
        self._due = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.problem: str | None = None

    @property
    def held_bytes(self) -> int:
        """How much came and is not written yet."""
        return self._held

    @property
    def sealed(self) -> int:
        """How many segments were sealed."""
        return self._writer.sealed

    @property
    def has_room(self) -> bool:
        """Whether more may be taken."""
        return self._held < self._buffer_bytes

    async def room(self) -> None:
        """Wait until more may be taken."""
        if not self.has_room:
            self._due.set()
            self._room.clear()
            await self._room.wait()

    def take(self, epoch: int, message: StreamMessage) -> None:
        """Keep a message of a connection."""
        if epoch != self._epoch:
            self._end_block()
            self._epoch = epoch
        if not self._block:
            self._first_ns = message.received_ns
        self._last_ns = message.received_ns
        packed = pack_message(message)
        self._block.append(packed)
        self._block_bytes += len(packed)
        self._held += len(packed)
        if self._block_bytes >= _EAGER_BYTES:
            self._due.set()

    def note(self, gap: StreamGap) -> None:
        """Keep a gap, after what came before it."""
        self._end_block()
        self._begin_segment()
        self._entries.append(gap)

    def tell(self, status: StreamStatus) -> None:
        """Keep how the collector stands, in place of what was told before."""
        self._entries.append(status)

    def start(self) -> None:
        """Begin to write what comes; `close` ends it."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Write all that is left and seal it; what the disk does not take within seconds is left unsealed."""
        self._is_closing = True
        self._due.set()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=_LAST_TRY_SECONDS)
        if not self._task.done():
            self._task.cancel()
            _log.error("the disk did not take the last %d bytes of the stream; they are lost", self._held)
            if not self._is_writing:
                self._writer.leave()
        elif (error := self._task.exception()) is not None:
            raise error

    async def _run(self) -> None:
        while not self._is_closing:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), WRITE_SECONDS)
            self._due.clear()
            self._end_block()
            if self._segment_began and (
                self._in_segment >= self._segment_bytes
                or asyncio.get_running_loop().time() - self._segment_began >= self._segment_seconds
            ):
                self._rotate()
            await self._write()
        self._end_block()
        if self._segment_began:
            self._entries.append(_Seal(self._clock.now()))
        await self._write()

    def _end_block(self) -> None:
        if not self._block:
            return
        self._begin_segment()
        if self._carry is not None and self._carry.epoch == self._epoch:
            self._entries.append(self._carry)
        self._carry = None
        self._entries.append(_Block(self._epoch, b"".join(self._block), self._first_ns, self._last_ns))
        self._in_segment += self._block_bytes
        self._block, self._block_bytes = [], 0

    def _begin_segment(self) -> None:
        if not self._segment_began:
            self._segment_began, self._in_segment = asyncio.get_running_loop().time() or 1e-9, 0

    def _rotate(self) -> None:
        """End the segment, and keep how things stand for the next one."""
        now = self._clock.now()
        self._entries.append(_Seal(now))
        self._segment_began = 0.0
        text = self._carried(round(now.timestamp() * 1000.0))
        if text is not None:
            body = pack_message(StreamMessage(self._last_ns, text))
            self._carry = _Block(self._epoch, body, self._last_ns, self._last_ns, is_carried=True)

    async def _write(self) -> None:
        """Hand over what is there, for as long as the disk refuses it; then there is room again."""
        while self._entries:
            held = self._held - self._block_bytes
            entries, self._entries = self._entries, deque()
            try:
                self._is_writing = True
                await self._on_disk(partial(self._writer.write, entries))
                self._is_writing = False
                self.problem = None
                self._held -= held
            except (DiskFullError, OSError) as error:
                self._is_writing = False
                self._complain(error)
                await asyncio.sleep(_RETRY_SECONDS)
            finally:
                entries.extend(self._entries)
                self._entries = entries
            if self.has_room:
                self._room.set()

    def _complain(self, error: Exception) -> None:
        if self.problem is None:
            _log.error("the stream cannot be written, tried again every %g s: %s", _RETRY_SECONDS, error)
        self.problem = str(error)


def write_gap(data_folder: Path, session_date: date, gap: StreamGap) -> None:
    """Put a gap on record in a segment of its own. Raises DiskFullError, OSError."""
    SegmentWriter(data_folder, session_date).write(deque([gap, _Seal(gap.to_time)]))


async def on_a_thread(work: Callable[[], None]) -> None:
    """Run it on a thread that does not keep the process from ending, should the disk never come back."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def told(error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        try:
            work()
            error = None
        except BaseException as caught:  # noqa: BLE001  handed on to whoever waits
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop has ended without it
            loop.call_soon_threadsafe(told, error)

    threading.Thread(target=run, name="stream-writer", daemon=True).start()
    await done
