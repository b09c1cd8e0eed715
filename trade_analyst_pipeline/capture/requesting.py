"""The requests of a question under way: asked once more for what lacks something, in parts where it is too much.

What a question is made of is here; what exactly a snapshot asks is in `ask.py` and `chains.py`, what is archived of it
is `take.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from trade_analyst_pipeline.errors import ChainTooLargeError, SourceError
from trade_analyst_pipeline.market.clock import Clock
from trade_analyst_pipeline.schwab.client import SchwabClient
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Capture, Gap, Lacking
from trade_analyst_pipeline.storage.counting import ASKED_IN_PARTS

EMPTY_ANSWER = "empty_answer"  # reason of a gap: an answer without what the source must have, twice


@dataclass(frozen=True)
class Source:
    """The source as it stands at one instant: a client and the clock it lives by.

    `in_rounds`: what follows from answers is asked once all asked before it has ended. For a clock that only moves by
    sleeping: there the order of requests is all that tells the time, and it must not hang on which answer was first.
    """

    client: SchwabClient
    clock: Clock
    in_rounds: bool = False


@dataclass(frozen=True)
class Lack:
    """What an answer lacks although the source must have it. Such an answer is asked for once more, after a pause.

    Both are archived as they come. If the second is no better, one that `is_empty` becomes a gap that a later attempt
    fills; of any others the one with more `content`, else the later, counts as it is, for whoever reads it to judge.
    """

    detail: str
    is_empty: bool = True
    content: int = 0
    pause_seconds: float = 0.0

    def as_archived(self) -> Lacking:
        """What of it stands in the archive."""
        return Lacking(self.detail, None if self.is_empty else self.content)


def _refuse_to_split(request: MarketDataRequest) -> list[MarketDataRequest]:
    message = f"{request.path} has no smaller parts"
    raise ValueError(message)


@dataclass(frozen=True)
class Question:
    """What a snapshot asks, and how to tell and cure an answer that is too large, lacks something or leads on.

    `missing` gives the requests still to be made beside what is held; all of them for nothing. `then` gives what is to
    be asked once a request has ended, in an answer or a gap. `terms` are kept with the capture, so that `ask_on` can
    make the same question again.
    """

    missing: Callable[[Held], list[MarketDataRequest]]
    is_cut_short: Callable[[RawResponse], bool] = lambda _: False
    split: Callable[[MarketDataRequest], list[MarketDataRequest]] = _refuse_to_split
    lacks: Callable[[RawResponse], Lack | None] = lambda _: None
    then: Callable[[RawResponse | Gap], list[MarketDataRequest]] = lambda _: []
    terms: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Held:
    """What the archive has of a snapshot's instant: captures that concern its symbols, and what they answer."""

    captures: tuple[Capture, ...]
    answered: frozenset[MarketDataRequest]
    gaps: tuple[Gap, ...]


@dataclass(frozen=True)
class Record:
    """An answer for the archive, and what it lacks."""

    response: RawResponse
    lacking: Lacking | None = None


@dataclass(frozen=True)
class _Asked:
    """A request under way: its place in the order asked, and when asked once more what of use came the first time."""

    place: tuple[int, ...]
    request: MarketDataRequest
    is_again: bool = False
    first_answer: RawResponse | None = None
    first_content: int = 0
    pause_seconds: float = 0.0


async def answers(
    requests: Iterable[MarketDataRequest], question: Question, source: Source
) -> AsyncGenerator[Record | Gap]:
    """What became of each request and of those that follow from it, as it comes.

    An error ends it after all answers that have come.
    """
    running: dict[asyncio.Task[_Ended], _Asked] = {}
    ended: asyncio.Queue[asyncio.Task[_Ended]] = asyncio.Queue()  # to wait for all of them anew each time takes long
    waiting = [_Asked((number,), request) for number, request in enumerate(requests)]
    try:
        while waiting or running:
            if not (source.in_rounds and running):
                for asked in sorted(waiting, key=lambda each: each.place):
                    task = asyncio.create_task(_ended(asked, question, source))
                    task.add_done_callback(ended.put_nowait)
                    running[task] = asked
                waiting = []
            done = [await ended.get()]
            while not ended.empty():
                done.append(ended.get_nowait())
            # an error comes after the others' answers, which have come
            for task in sorted(done, key=lambda each: (_has_failed(each), running[each].place)):
                came, following = task.result()
                place = running.pop(task).place
                waiting += [replace(each, place=(*place, *each.place)) for each in following]
                for each in came:
                    yield each
    except (Exception, asyncio.CancelledError):
        for each in _come(running):
            yield each
        raise
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _has_failed(task: asyncio.Task[_Ended]) -> bool:
    return task.cancelled() or task.exception() is not None


def _come(running: Mapping[asyncio.Task[_Ended], _Asked]) -> list[Record | Gap]:
    """What has come and was not given out yet, in the order asked."""
    ended = [task for task in running if task.done() and not _has_failed(task)]
    return [each for task in sorted(ended, key=lambda task: running[task].place) for each in task.result()[0]]


_Ended = tuple[list[Record | Gap], list[_Asked]]


async def _ended(asked: _Asked, question: Question, source: Source) -> _Ended:
    """What a request has to leave in the archive, the response or a gap or notes, and what is to be asked now."""
    request, first = asked.request, asked.first_answer
    if asked.pause_seconds:
        await source.clock.sleep(asked.pause_seconds)
    try:
        response = await source.client.fetch(request)
    except ChainTooLargeError as error:
        return _in_parts(asked, question, error.problem)
    except SourceError as error:
        return _followed(first, question) if first else _failed(request, error.reason, str(error), question)
    if question.is_cut_short(response):
        problem = "the source cut the chain short"
        return _after(Record(response, Lacking(problem)), _in_parts(asked, question, problem))
    lack = question.lacks(response)
    if lack is None:
        return _after(Record(response), _followed(response, question))
    record = Record(response, lack.as_archived())
    if not asked.is_again:
        return [record], [_again(request, lack, response)]
    if not lack.is_empty and lack.content >= asked.first_content:
        return _after(record, _followed(response, question))
    ended = _followed(first, question) if first else _failed(request, EMPTY_ANSWER, f"{lack.detail}, twice", question)
    return _after(record, ended)


def _again(request: MarketDataRequest, lack: Lack, response: RawResponse) -> _Asked:
    first, content = (None, 0) if lack.is_empty else (response, lack.content)
    return _Asked((0,), request, True, first, content, lack.pause_seconds)


def _after(record: Record, ended: _Ended) -> _Ended:
    return [record, *ended[0]], ended[1]


def _followed(outcome: RawResponse | Gap, question: Question) -> _Ended:
    """What follows from an answer, which is in the archive or goes there, or from a gap, which goes there."""
    return [outcome] if isinstance(outcome, Gap) else [], _in_order(question.then(outcome))


def _failed(request: MarketDataRequest, reason: str, detail: str, question: Question) -> _Ended:
    return _followed(_gap(request, reason, detail), question)


def _in_parts(asked: _Asked, question: Question, problem: str) -> _Ended:
    """The parts of what was too large; they take the place of a short answer that had come before."""
    try:
        parts = _in_order(question.split(asked.request))
    except ValueError as error:
        detail = f"{problem}, and it cannot be asked for in smaller parts: {error}"
        return _failed(asked.request, ChainTooLargeError.reason, detail, question)
    note = _gap(asked.request, ASKED_IN_PARTS, f"{problem}: its parts are asked for in place of it")
    return [note] if asked.first_answer else [], parts


def _in_order(requests: Iterable[MarketDataRequest]) -> list[_Asked]:
    return [_Asked((number,), request) for number, request in enumerate(requests)]


def _gap(request: MarketDataRequest, reason: str, detail: str) -> Gap:
    return Gap(dataset=request.dataset, symbols=request.symbols, reason=reason, detail=detail, request=request)
