"""One planned snapshot becomes one sealed capture; what did not arrive is recorded in it as typed gaps.

A snapshot is only taken while the source's clock stands in its session. A session whose snapshots are archived is
never asked for again; one that is not archived and cannot be had any more becomes a gap with a reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.errors import ChainTooLargeError, SessionNotCapturableError, SourceError
from trade_analyst_pipeline.market.clock import Clock
from trade_analyst_pipeline.market.sessions import current_session
from trade_analyst_pipeline.schwab.client import SchwabClient
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive, Capture, Gap

NOT_CAPTURED = "session_over"


@dataclass(frozen=True)
class Source:
    """The source as it stands at one instant: a client and the clock it lives by."""

    client: SchwabClient
    clock: Clock


@dataclass(frozen=True)
class Question:
    """What a snapshot asks: its requests, and how to tell and cure an answer that is too large for one response."""

    requests: tuple[MarketDataRequest, ...]
    is_cut_short: Callable[[RawResponse], bool]
    split: Callable[[MarketDataRequest], list[MarketDataRequest]]


@dataclass(frozen=True)
class Outcome:
    """What became of a snapshot: its captures (those found archived, or the one just sealed)."""

    snapshot: Snapshot
    captures: tuple[Capture, ...]
    was_archived: bool

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the snapshot is in the archive."""
        return not any(capture.record_count for capture in self.captures)

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Everything of the snapshot that is missing, each with its reason."""
        return tuple(gap for capture in self.captures for gap in capture.gaps)


def archived(snapshot: Snapshot, archive: Archive) -> tuple[Capture, ...]:
    """The captures that together hold every symbol of the snapshot at its instant, or none of them."""
    found = [
        capture
        for capture in archive.captures(snapshot.dataset, snapshot.session_date)
        if capture.scheduled_time == snapshot.scheduled_time and capture.record_count
    ]
    held = {symbol for capture in found for entry in archive.index(capture) for symbol in entry.request.symbols}
    return tuple(found) if held.issuperset(snapshot.symbols) else ()


async def take(snapshot: Snapshot, question: Question, *, source: Source, archive: Archive) -> Capture:
    """Ask for the snapshot and seal what comes; raises SessionNotCapturableError outside its session.

    Requests overlap as far as the client lets them; records stand in the archive in the order asked. A request that
    fails becomes a gap in the capture. A dead login aborts the capture.
    """
    started = _refuse_other_session(snapshot, source.clock)
    writer = archive.begin(
        dataset=snapshot.dataset,
        session_date=snapshot.session_date,
        scheduled_time=snapshot.scheduled_time,
        started_time=started,
    )
    try:
        async for answer in _answers(question.requests, question, source):
            if isinstance(answer, Gap):
                writer.note_gap(answer)
            else:
                writer.append(answer)
        return writer.seal(source.clock.now())
    except BaseException:
        writer.abandon()
        raise


async def take_each(
    snapshots: Iterable[Snapshot],
    *,
    source_at: Callable[[datetime], Source],
    ask: Callable[[Snapshot], Question],
    archive: Archive,
    at_once: int = 3,
) -> AsyncIterator[Outcome]:
    """Take each snapshot that is not archived yet, `at_once` at a time; outcomes come in the order planned."""
    limit = asyncio.Semaphore(at_once)

    async def one(snapshot: Snapshot) -> Outcome:
        async with limit:
            found = archived(snapshot, archive)
            if found:
                return Outcome(snapshot, found, was_archived=True)
            source = source_at(snapshot.scheduled_time)
            try:
                capture = await take(snapshot, ask(snapshot), source=source, archive=archive)
            except SessionNotCapturableError as error:
                capture = _record_gap(snapshot, archive, source.clock.now(), str(error))
            return Outcome(snapshot, (capture,), was_archived=False)

    tasks = [asyncio.create_task(one(snapshot)) for snapshot in snapshots]
    try:
        for task in tasks:
            yield await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _refuse_other_session(snapshot: Snapshot, clock: Clock) -> datetime:
    now = clock.now()
    if current_session(now) != snapshot.session_date:
        message = (
            f"{snapshot.dataset} of session {snapshot.session_date} cannot be captured at {now:%Y-%m-%d %H:%M} UTC: "
            "the source only answers for its current session. Read it from the archive, or import a recording."
        )
        raise SessionNotCapturableError(message)
    return now


def _record_gap(snapshot: Snapshot, archive: Archive, now: datetime, detail: str) -> Capture:
    """A sealed capture without records that states the gap; written once per instant."""
    for capture in archive.captures(snapshot.dataset, snapshot.session_date):
        if capture.scheduled_time == snapshot.scheduled_time and not capture.record_count:
            return capture
    writer = archive.begin(
        dataset=snapshot.dataset,
        session_date=snapshot.session_date,
        scheduled_time=snapshot.scheduled_time,
        started_time=now,
    )
    writer.note_gap(Gap(dataset=snapshot.dataset, symbols=snapshot.symbols, reason=NOT_CAPTURED, detail=detail))
    return writer.seal(now)


async def _answers(
    requests: Iterable[MarketDataRequest], question: Question, source: Source
) -> AsyncIterator[RawResponse | Gap]:
    """What came of each request, in the order asked; parts of answers that were too large follow in a later round.

    Rounds keep the order in which the budget is drawn on, and with it every time stamp, free of chance.
    """
    tasks = [asyncio.create_task(_answer(request, question, source)) for request in requests]
    parts: list[MarketDataRequest] = []
    try:
        for task in tasks:
            answer = await task
            if isinstance(answer, list):
                parts += answer
            else:
                yield answer
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if parts:
        async for answer in _answers(parts, question, source):
            yield answer


async def _answer(
    request: MarketDataRequest, question: Question, source: Source
) -> RawResponse | Gap | list[MarketDataRequest]:
    """The response to a request, the gap it leaves, or the parts to ask for instead when it was too large."""
    try:
        response = await source.client.fetch(request)
        if not question.is_cut_short(response):
            return response
        problem = "the source cut the chain short"
    except ChainTooLargeError as error:
        problem = error.problem
    except SourceError as error:
        return Gap(dataset=request.dataset, symbols=request.symbols, reason=error.reason, detail=str(error))
    try:
        return question.split(request)
    except ValueError as error:
        detail = f"{problem}, and it cannot be asked for in smaller parts: {error}"
        return Gap(dataset=request.dataset, symbols=request.symbols, reason=ChainTooLargeError.reason, detail=detail)
