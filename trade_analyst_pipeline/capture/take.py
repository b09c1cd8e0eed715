"""One planned snapshot becomes one sealed capture; what did not arrive is recorded in it as typed gaps.

A snapshot is only taken while the source has its session. What of it is archived, or was answered for good, is never
asked for again; a later attempt asks only for what is still missing, into a capture of its own. What cannot be had
any more becomes a gap with a reason, once. What exactly a snapshot asks is in `ask.py` and `chains.py`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from trade_analyst_pipeline.capture.plan import REACHES_BACK, Snapshot, is_capturable, not_begun
from trade_analyst_pipeline.capture.requesting import Held, Question, Source, answers
from trade_analyst_pipeline.errors import (
    BadRequestError,
    ChainTooLargeError,
    SessionNotCapturableError,
    StorageError,
    SymbolNotFoundError,
)
from trade_analyst_pipeline.market.clock import Clock
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.storage.archive import Archive, Capture, Gap
from trade_analyst_pipeline.storage.captures import INTERRUPTED, SESSION_OVER, CaptureWriter

# Gaps that asking again cannot fill: the source has said what there is to say.
DEFINITIVE = frozenset({SymbolNotFoundError.reason, BadRequestError.reason, ChainTooLargeError.reason})


@dataclass(frozen=True)
class Outcome:
    """What became of a snapshot: all its captures, what is missing of it, and whether nothing had to be asked."""

    snapshot: Snapshot
    captures: tuple[Capture, ...]
    gaps: tuple[Gap, ...]
    was_archived: bool

    @property
    def is_late(self) -> bool:
        """Whether it shows the session at a later moment than planned, because its tick was missed."""
        return self.snapshot.dataset not in REACHES_BACK and any(
            capture.is_late for capture in self.captures if capture.answer_count
        )


def held(snapshot: Snapshot, archive: Archive) -> Held:
    """What is archived for the snapshot's instant and symbols; a definitive refusal is an answer too."""
    together = [
        capture
        for capture in archive.captures(snapshot.dataset, snapshot.session_date)
        if capture.scheduled_time == snapshot.scheduled_time
    ]
    return held_of(snapshot, together, archive)


def held_of(snapshot: Snapshot, captures: Iterable[Capture], archive: Archive) -> Held:
    """What some captures hold of the symbols of a snapshot; a definitive refusal is an answer too."""
    symbols, found, answered = set(snapshot.symbols), [], set[MarketDataRequest]()
    for capture in captures:
        settled = _answered_in(capture, archive)
        settled |= {gap.request for gap in capture.gaps if gap.request is not None and gap.reason in DEFINITIVE}
        asked = settled | {entry.request for entry in archive.index(capture)}
        concerned = {symbol for request in asked for symbol in request.symbols}
        is_unnamed = capture.record_count > 0 and not concerned  # a recording that says itself whose it is
        if is_unnamed or not symbols.isdisjoint(concerned.union(*(gap.symbols for gap in capture.gaps))):
            found.append(capture)
            answered |= settled
    return Held(tuple(found), frozenset(answered), tuple(gap for capture in found for gap in capture.gaps))


def _answered_in(capture: Capture, archive: Archive) -> set[MarketDataRequest]:
    """What a capture answers; not what fell short once, when it was interrupted before that could be asked again."""
    asked = Counter(entry.request for entry in archive.index(capture))
    is_cut_off = any(gap.reason == INTERRUPTED for gap in capture.gaps)
    return {
        entry.request
        for _, entry in archive.counting([capture])
        if entry.lacking is None or not is_cut_off or asked[entry.request] > 1
    }


async def take(
    snapshot: Snapshot, question: Question, *, source: Source, archive: Archive, present: Held | None = None
) -> Capture | None:
    """Ask for what is missing of the snapshot and seal what comes.

    Requests overlap as far as the client lets them, and each answer is archived as soon as it comes, also one that is
    to be asked for again. A request that fails becomes a gap in the capture. None when nothing came, or the same empty
    answers as before to the byte, and just the same was missing before. Raises SessionNotCapturableError when the
    source does not have the session. Whatever else ends it, a dead login, an interruption, a full disk: what had come
    by then is sealed, with a gap that says so, or else left to be recovered.
    """
    started = _refuse_other_session(snapshot, source.clock)
    present = present or held(snapshot, archive)
    writer = archive.begin(
        dataset=snapshot.dataset,
        session_date=snapshot.session_date,
        scheduled_time=snapshot.scheduled_time,
        started_time=started,
        symbols=snapshot.symbols,
        terms=question.terms,
    )
    is_new = False
    known = {(gap.request, gap.reason) for gap in present.gaps}
    entries = [entry for capture in present.captures for entry in archive.index(capture)]
    empty = {(entry.request, entry.body_sha256) for entry in entries if not entry.is_answer}
    try:
        async with aclosing(answers(question.missing(present), question, source)) as coming:
            async for answer in coming:
                if isinstance(answer, Gap):
                    is_new |= (answer.request, answer.reason) not in known
                    writer.note_gap(answer)
                else:
                    entry = writer.append(answer.response, answer.lacking)
                    is_new |= entry.is_answer or (entry.request, entry.body_sha256) not in empty
    except BaseException as error:
        _keep(writer, snapshot.dataset, source.clock.now(), error)
        raise
    if not is_new:
        writer.abandon()
        return None
    try:
        return writer.seal(source.clock.now())
    finally:
        writer.leave()


def _keep(writer: CaptureWriter, dataset: str, now: datetime, error: BaseException) -> None:
    """Seal what had come before an error, with a gap that says so; what cannot be sealed is left to be recovered."""
    cause = type(error).__name__
    detail = f"the capture was ended early ({cause}); what is missing is asked for next time"
    try:
        if writer.record_count:
            writer.note_gap(
                Gap(dataset, (), INTERRUPTED, detail, cause=cause if isinstance(error, Exception) else None)
            )
            writer.seal(now)
    except (StorageError, OSError) as failed:
        error.add_note(f"What had come could not be sealed either ({failed}): the next run that captures seals it.")
    finally:
        writer.leave()


async def take_each(
    snapshots: Iterable[Snapshot],
    *,
    source_for: Callable[[Snapshot], Source],
    ask: Callable[[Snapshot], Question],
    archive: Archive,
    at_once: int = 3,
) -> AsyncGenerator[Outcome, None]:
    """Take what is not archived yet of each snapshot, `at_once` at a time; outcomes come in the order planned."""
    limit = asyncio.Semaphore(at_once)

    async def one(snapshot: Snapshot) -> Outcome:
        async with limit:
            question, present = ask(snapshot), held(snapshot, archive)
            if not question.missing(present):
                return _outcome(snapshot, question, present, archive, was_archived=True)
            source = source_for(snapshot)
            try:
                capture = await take(snapshot, question, source=source, archive=archive, present=present)
            except SessionNotCapturableError as error:
                return _over(snapshot, question, archive, source.clock.now(), str(error))
            if capture is not None:
                present = held_of(snapshot, [*present.captures, capture], archive)
            return _outcome(snapshot, question, present, archive, was_archived=False)

    tasks = [(snapshot, asyncio.create_task(one(snapshot))) for snapshot in snapshots]
    failure: Exception | None = None
    try:
        for _, task in tasks:
            yield await task
    except Exception as error:
        failure = error
        raise
    finally:
        for _, task in tasks:
            task.cancel()
        await asyncio.gather(*(task for _, task in tasks), return_exceptions=True)
        if failure is not None:
            left = [each for each, task in tasks if task.cancelled() or task.exception() is not None]
            note_failure(left, failure, ask=ask, archive=archive, now=lambda each: source_for(each).clock.now())


def note_failure(
    snapshots: Iterable[Snapshot],
    error: Exception,
    *,
    ask: Callable[[Snapshot], Question],
    archive: Archive,
    now: Callable[[Snapshot], datetime],
) -> None:
    """Record of snapshots that an error kept from being taken what it was: in a sealed capture each, of a gap alone.

    None where the instant has that word already. What cannot be written is added to the error as a note.
    """
    cause = type(error).__name__
    detail = f"the snapshot could not be taken ({cause}); what is missing is asked for next time"
    for snapshot in snapshots:
        gap = Gap(snapshot.dataset, snapshot.symbols, INTERRUPTED, detail, cause=cause)
        try:
            present = held(snapshot, archive)
            if cause not in {gap.cause for gap in present.gaps} and ask(snapshot).missing(present):
                _seal_gap(snapshot, gap, archive, now(snapshot))
        except (StorageError, OSError) as failed:
            error.add_note(f"That {snapshot.dataset} lacks a snapshot for it could not be recorded either ({failed}).")
            return


def _outcome(snapshot: Snapshot, question: Question, found: Held, archive: Archive, *, was_archived: bool) -> Outcome:
    gaps = archive.open_gaps(found.captures)
    if not question.missing(found):
        gaps = [gap for gap in gaps if gap.reason in DEFINITIVE]
    return Outcome(snapshot, found.captures, tuple(gaps), was_archived)


def _refuse_other_session(snapshot: Snapshot, clock: Clock) -> datetime:
    now = clock.now()
    if not is_capturable(snapshot.dataset, snapshot.session_date, now):
        message = not_begun(snapshot.session_date, now) or (
            f"{snapshot.dataset} of session {snapshot.session_date} cannot be captured at {now:%Y-%m-%d %H:%M} UTC: "
            "the source only answers for its current session. Read it from the archive, or import a recording."
        )
        raise SessionNotCapturableError(message)
    return now


def _over(snapshot: Snapshot, question: Question, archive: Archive, now: datetime, detail: str) -> Outcome:
    """The outcome for a session that cannot be had: what the archive has of it at any instant, else a gap.

    A sealed capture without records states the gap, written once per instant; none for a session that has not begun.
    """
    of_session = held_of(snapshot, archive.captures(snapshot.dataset, snapshot.session_date), archive)
    if any(capture.answer_count for capture in of_session.captures):
        return _outcome(snapshot, question, of_session, archive, was_archived=True)
    gap = Gap(dataset=snapshot.dataset, symbols=snapshot.symbols, reason=SESSION_OVER, detail=detail)
    if any(capture.scheduled_time == snapshot.scheduled_time for capture in of_session.captures):
        return Outcome(snapshot, of_session.captures, of_session.gaps, was_archived=True)
    if not_begun(snapshot.session_date, now):
        return Outcome(snapshot, (), (gap,), was_archived=False)
    return Outcome(snapshot, (_seal_gap(snapshot, gap, archive, now),), (gap,), was_archived=False)


def _seal_gap(snapshot: Snapshot, gap: Gap, archive: Archive, now: datetime) -> Capture:
    with archive.begin(
        dataset=snapshot.dataset,
        session_date=snapshot.session_date,
        scheduled_time=snapshot.scheduled_time,
        started_time=now,
    ) as writer:
        writer.note_gap(gap)
        return writer.seal(now)
