"""Answers that leave out what the source must have: asked for once more, and gaps of just what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from scripted import BARS, DUE, QUOTES, ScriptedSource, TakeAll, well

from trade_analyst_pipeline.capture.ask import ask
from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.capture.take import EMPTY_ANSWER
from trade_analyst_pipeline.errors import SourceUnavailableError
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.settings import BoundedChainSettings
from trade_analyst_pipeline.storage.archive import Archive

EMPTY_HISTORY = b'{"candles": [], "symbol": "AAPL", "empty": true}'
EVENING = DUE + timedelta(hours=1)


@pytest.fixture
def source() -> ScriptedSource:
    """A source after the close that answers everything."""
    return ScriptedSource(EVENING)


class Script:
    """Answers that leave out these symbols, or all bars, for so many requests, and remembers when each came."""

    def __init__(self, *left_out: str, times: int) -> None:
        self.left_out, self.times = left_out, times

    def __call__(self, request: MarketDataRequest) -> bytes | Any:
        """The whole answer without what is left out."""
        if not self.left_out_of(request) or self.times <= 0:
            return well(request)
        self.times -= 1
        if request.path == "/pricehistory":
            return EMPTY_HISTORY
        entries = json.loads(well(request))  # type: ignore[arg-type]  # an answer, no error
        return json.dumps({name: each for name, each in entries.items() if name not in self.left_out}).encode()

    def left_out_of(self, request: MarketDataRequest) -> set[str]:
        """The symbols of a request that are left out."""
        return set(self.left_out) & set(request.symbols)


def asked(source: ScriptedSource) -> list[tuple[str, ...]]:
    """The symbols of each request."""
    return [request.symbols for request in source.asked]


def test_symbol_left_out_is_asked_for_on_its_own(source: ScriptedSource, take_all: TakeAll) -> None:
    """What the first answer has is kept, and the rest comes with a request of its own: nothing is missing."""
    source.answer = Script("MSFT", times=1)
    (outcome,) = take_all(source, QUOTES)
    assert asked(source) == [("AAPL", "MSFT"), ("MSFT",)]
    assert outcome.gaps == ()
    assert [capture.record_count for capture in outcome.captures] == [2]


def test_symbol_left_out_for_good_is_a_gap_that_the_next_run_fills(source: ScriptedSource, take_all: TakeAll) -> None:
    """Asked for alone and once more it is a gap of that symbol; a later attempt asks for it and for nothing else."""
    source.answer = Script("MSFT", times=3)
    (outcome,) = take_all(source, QUOTES)
    assert asked(source) == [("AAPL", "MSFT"), ("MSFT",), ("MSFT",)]
    assert [(gap.symbols, gap.reason) for gap in outcome.gaps] == [(("MSFT",), EMPTY_ANSWER)]
    (outcome,) = take_all(source, QUOTES)
    assert asked(source) == [("MSFT",)]
    assert outcome.gaps == ()
    (outcome,) = take_all(source, QUOTES)
    assert (asked(source), outcome.was_archived) == ([], True)


def test_unknown_symbols_are_answers(source: ScriptedSource, take_all: TakeAll) -> None:
    """A symbol listed as unknown is answered: it is no gap and is not asked for again."""
    entries = {"AAPL": {"assetMainType": "EQUITY", "symbol": "AAPL"}, "errors": {"invalidSymbols": ["MSFT"]}}
    source.answer = lambda _: json.dumps(entries).encode()
    (outcome,) = take_all(source, QUOTES)
    assert (asked(source), outcome.gaps) == ([("AAPL", "MSFT")], ())


def test_root_of_a_future_is_answered_by_its_contract(source: ScriptedSource, take_all: TakeAll) -> None:
    """The contract in front stands for the root that was asked for."""
    entry = {"assetMainType": "FUTURE", "symbol": "/ESZ26", "reference": {"product": "/ES", "futureIsActive": True}}
    source.answer = lambda _: json.dumps({"/ESZ26": entry}).encode()
    (outcome,) = take_all(source, replace(QUOTES, symbols=("/ES",)))
    assert (asked(source), outcome.gaps) == ([("/ES",)], ())


def test_batch_that_failed_is_asked_for_again_whole(source: ScriptedSource, take_all: TakeAll) -> None:
    """A request that failed leaves all its symbols open, though others of the snapshot are there."""
    source.answer = lambda _: SourceUnavailableError
    take_all(source, QUOTES)
    source.answer = well
    (outcome,) = take_all(source, QUOTES)
    assert (asked(source), outcome.gaps) == ([("AAPL", "MSFT")], ())


@pytest.mark.parametrize("times", [1, 2])
def test_empty_history_is_asked_for_once_more(source: ScriptedSource, take_all: TakeAll, times: int) -> None:
    """Where the calendar has a session an empty answer is "later": asked for again, then a gap, never "no data"."""
    source.answer = Script("AAPL", times=2 * times)
    (outcome,) = take_all(source, BARS)
    assert len(source.asked) == 4
    assert {gap.reason for gap in outcome.gaps} == (set() if times == 1 else {EMPTY_ANSWER})
    assert all("no bars where the calendar has" in gap.detail for gap in outcome.gaps)
    (outcome,) = take_all(source, BARS)
    assert (len(source.asked), outcome.gaps) == (0 if times == 1 else 2, ())


def moments(take_all: TakeAll, snapshot: Snapshot, answer: Script) -> list[float]:
    """How many seconds after the first each request of a snapshot came."""

    class Timed(ScriptedSource):
        async def fetch(self, request: MarketDataRequest) -> Any:
            times.append(clock.now())
            return await super().fetch(request)

    times: list[Any] = []
    source = Timed(EVENING, answer)
    made = source.at(EVENING)
    clock = made.clock
    source.at = lambda _: made  # type: ignore[method-assign]  # one clock for all that is asked
    take_all(source, snapshot)
    return [(moment - times[0]).total_seconds() for moment in times]


def test_second_request_for_bars_comes_a_minute_later(take_all: TakeAll) -> None:
    """The source is given a minute before it is asked for the same again."""
    assert moments(take_all, BARS, Script("AAPL", times=2)) == [0, 0, 60, 60]


def test_second_request_for_quotes_comes_soon(take_all: TakeAll) -> None:
    """Chains of the same close come after the quotes: a symbol left out holds them up for seconds."""
    assert moments(take_all, QUOTES, Script("MSFT", times=2)) == [0, 0, 5]


@pytest.mark.parametrize(
    ("bars", "expected"),
    [(("daily",), ["daily"]), (("weekly", "minute_5"), ["weekly", "minute"]), (("monthly",), ["monthly"])],
)
def test_bars_are_those_set(archive: Archive, bars: tuple[str, ...], expected: list[str]) -> None:
    """One request for each kind of bars that the settings name; extended hours when they say so."""
    question: Callable[..., Any] = partial(ask, BARS, BoundedChainSettings(), archive, bars=bars)
    held = type("Nothing", (), {"answered": frozenset(), "gaps": ()})()
    for extended in (False, True):
        made = question(has_extended_hours=extended).missing(held)
        assert [request.param("frequencyType") for request in made] == expected
        told = {request.param("needExtendedHoursData") for request in made} - {None}
        assert told <= {str(extended).lower()}
