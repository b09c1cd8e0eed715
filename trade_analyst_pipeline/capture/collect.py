"""The stream collector: session after session, each streamed in its hours into sealed segments; between them it waits.

It runs for weeks: what it holds is bounded, and whatever it could not see it says as a gap, be it its own absence. One
session's connections are `stream_session.py`, the way to the disk is `stream_journal.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Final

from trade_analyst_pipeline.capture.stream_journal import Journal, OnDisk, SegmentWriter, on_a_thread, write_gap
from trade_analyst_pipeline.capture.stream_plan import LEAD, Hours, hours, next_hours, wanted
from trade_analyst_pipeline.capture.stream_session import SessionStream
from trade_analyst_pipeline.capture.stream_state import StreamState
from trade_analyst_pipeline.market.clock import Clock
from trade_analyst_pipeline.schwab.stream_source import StreamSource
from trade_analyst_pipeline.settings import StreamSettings
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.segments import NAME, StreamGap, StreamGapReason
from trade_analyst_pipeline.storage.stream_status import StreamingState, StreamStatus, keep_status

STATUS_SECONDS: Final = 5.0
_MIB: Final = 1 << 20
_LONGEST_WAIT: Final = 30.0  # so that a clock that is set, or a machine that slept, is noticed

SourceAt = Callable[[datetime], AbstractAsyncContextManager[StreamSource]]
"""Opens the source as it stands from an instant on."""


@dataclass(frozen=True)
class _Former:
    """What the archive has of a session that was streamed before: until when, and whether that ended by a crash."""

    until: datetime
    is_cut: bool

    @property
    def reason(self) -> StreamGapReason:
        return StreamGapReason.CRASH if self.is_cut else StreamGapReason.NOT_RUNNING

    @property
    def detail(self) -> str:
        return "the collector ended without a goodbye" if self.is_cut else "no collector ran"


class Collector:
    """Streams `symbols` in the hours of each session; `stop` ends it in good order."""

    def __init__(
        self,
        data_folder: Path,
        symbols: Sequence[str],
        settings: StreamSettings,
        *,
        source_at: SourceAt,
        clock: Clock,
        rng: random.Random,
        stop: asyncio.Event,
        on_disk: OnDisk = on_a_thread,
    ) -> None:
        self._data_folder = data_folder
        self._asked = wanted(symbols, charts=settings.charts)
        self._settings = settings
        self._source_at = source_at
        self._clock = clock
        self._rng = rng
        self._stop = stop
        self._on_disk = on_disk
        self._cut: set[date] = set()

    async def run(self, *, once: bool = False) -> None:
        """Stream until told to stop, with `once` until the session under way, or the next one, ends."""
        await self._on_disk(self._recover)
        try:
            while not self._stop.is_set():
                coming = next_hours(self._clock.now(), self._settings)
                await self._on_disk(partial(self._complete_former, coming.session_date))
                await self._wait_for(coming)
                if not self._stop.is_set():
                    await self._session(coming)
                if once:
                    break
        finally:
            await self._on_disk(partial(keep_status, self._data_folder, self._status("stopped", None)))

    async def _session(self, coming: Hours) -> None:
        state = StreamState()
        symbols = dict.fromkeys(symbol for each in self._asked for symbol in each.symbols)
        terms = [(each.service, ",".join(map(str, each.fields))) for each in self._asked]
        journal = Journal(
            SegmentWriter(self._data_folder, coming.session_date, symbols=tuple(symbols), terms=terms),
            clock=self._clock,
            carried=state.message,
            segment_seconds=self._settings.segment_seconds,
            segment_bytes=self._settings.segment_mib * _MIB,
            buffer_bytes=self._settings.buffer_mib * _MIB,
            on_disk=self._on_disk,
        )
        journal.start()
        telling = None
        try:
            async with self._source_at(self._clock.now()) as source:
                stream = SessionStream(
                    coming, self._asked, source, journal, state, clock=self._clock, rng=self._rng, stop=self._stop
                )
                self._begin(stream)
                telling = asyncio.create_task(self._telling(stream, journal))
                await stream.run()
        finally:
            if telling is not None:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)
            await journal.close()

    def _begin(self, stream: SessionStream) -> None:
        """What came before the first connection is no part of the stream, and said to be none."""
        former = self._former(stream.hours.session_date)
        if former is not None:
            stream.delivery.lost(former.until, former.reason, former.detail)
        elif self._clock.now() <= stream.hours.begins:
            stream.delivery.lost(stream.hours.begins, StreamGapReason.DISCONNECT, "not connected yet")
        else:
            stream.delivery.lost(stream.hours.begins, StreamGapReason.NOT_RUNNING, "no collector ran")

    # -- what was before -----------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Seal what a collector left that died."""
        self._cut = {capture.session_date for capture in Archive(self._data_folder / "raw").recover(NAME)}

    def _former(self, session_date: date) -> _Former | None:
        captures = Archive(self._data_folder / "raw").captures(NAME, session_date)
        if not captures:
            return None
        return _Former(max(capture.finished_time for capture in captures), session_date in self._cut)

    def _complete_former(self, session_date: date) -> None:
        """Of the last session streamed before this one, the rest that nobody attended to is a gap."""
        day = next(Archive(self._data_folder / "raw").sessions_back(NAME, session_date), None)
        if day is None or day == session_date or (former := self._former(day)) is None:
            return
        ends = hours(day, self._settings).ends
        if former.until < ends:
            gap = StreamGap(former.reason, former.until, ends, former.detail)
            write_gap(self._data_folder, day, gap)

    # -- how it stands -------------------------------------------------------------------------------------------------

    async def _wait_for(self, coming: Hours) -> None:
        begins = coming.begins - LEAD
        while not self._stop.is_set() and (left := (begins - self._clock.now()).total_seconds()) > 0.0:
            await self._on_disk(partial(keep_status, self._data_folder, self._status("waiting", coming)))
            sleeping = asyncio.create_task(self._clock.sleep(min(left, _LONGEST_WAIT)))
            stopping = asyncio.create_task(self._stop.wait())
            await asyncio.wait({sleeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in (sleeping, stopping):
                task.cancel()
            await asyncio.gather(sleeping, stopping, return_exceptions=True)

    async def _telling(self, stream: SessionStream, journal: Journal) -> None:
        while True:
            journal.tell(self._standing(stream, journal))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), STATUS_SECONDS)
            if self._stop.is_set():
                return

    def _standing(self, stream: SessionStream, journal: Journal) -> StreamStatus:
        figures = stream.figures
        is_connected = figures.connected_time is not None
        return StreamStatus(
            told_time=self._clock.now(),
            process=os.getpid(),
            state="streaming" if is_connected else "connecting",
            detail=journal.problem or ("" if is_connected else figures.detail),
            session_date=stream.hours.session_date,
            begins_time=stream.hours.begins,
            ends_time=stream.hours.ends,
            connected_time=figures.connected_time,
            message_time=figures.message_time,
            symbols=len({symbol for each in self._asked for symbol in each.symbols}),
            messages=figures.messages,
            message_bytes=figures.message_bytes,
            connections=figures.connections,
            segments=journal.sealed,
            held_bytes=journal.held_bytes,
            left_out=figures.left_out,
            gaps=dict(stream.gaps),
        )

    def _status(self, state: StreamingState, coming: Hours | None) -> StreamStatus:
        return StreamStatus(
            told_time=self._clock.now(),
            process=os.getpid(),
            state=state,
            session_date=coming.session_date if coming else None,
            begins_time=coming.begins if coming else None,
            ends_time=coming.ends if coming else None,
        )
