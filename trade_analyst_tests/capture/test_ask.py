"""Answers that leave out what the source must have: asked for once more, and gaps of just what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from scripted import BARS, DUE, QUOTES, ScriptedSource, TakeAll, well

from trade_analyst_pipeline.capture.ask import ask
from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.capture.requesting import EMPTY_ANSWER, Source
from trade_analyst_pipeline.datasets import expirations
from trade_analyst_pipeline.errors import SourceUnavailableError
from trade_analyst_pipeline.market.clock import SimulatedClock
from trade_analyst_pipeline.market.sessions import previous_session, session_open, sessions_ending
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
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


def found(request: MarketDataRequest, *left_out: str) -> bytes:
    """Instruments of the symbols of a request without those left out; an empty object for none."""
    listed = [{"symbol": each, "assetType": "EQUITY"} for each in request.symbols if each not in left_out]
    return json.dumps({"instruments": listed} if listed else {}).encode()


def test_instrument_left_out_is_asked_for_on_its_own(source: ScriptedSource, take_all: TakeAll) -> None:
    """Alone, once more, then it is a gap of that symbol, which the next run fills."""
    instruments = replace(QUOTES, dataset="instruments")
    source.answer = lambda request: found(request, "MSFT")
    (outcome,) = take_all(source, instruments)
    assert asked(source) == [("AAPL", "MSFT"), ("MSFT",), ("MSFT",)]
    assert [(gap.symbols, gap.reason) for gap in outcome.gaps] == [(("MSFT",), EMPTY_ANSWER)]
    source.answer = found
    (outcome,) = take_all(source, instruments)
    assert (asked(source), outcome.gaps) == ([("MSFT",)], ())
    assert take_all(source, instruments)[0].was_archived


def listing(*days: str) -> bytes:
    """A list of these expirations."""
    return json.dumps({"expirationList": [{"expirationDate": day, "optionRoots": "AAPL"} for day in days]}).encode()


@pytest.mark.parametrize(
    ("earlier", "expected"),
    [
        ([], []),
        ([listing()], []),
        ([listing("2026-12-18")], [EMPTY_ANSWER]),
        ([listing("2026-12-18"), listing()], [EMPTY_ANSWER]),
        ([listing("2026-12-18"), *[listing()] * 5], []),
    ],
)
def test_symbol_without_expirations_has_no_options_unless_it_had_some_lately(
    source: ScriptedSource, take_all: TakeAll, archive: Archive, earlier: list[bytes], expected: list[str]
) -> None:
    """Asked for twice; a gap where one of the five archived sessions before has a list, else an answer."""
    snapshot = Snapshot("expirations", QUOTES.session_date, EVENING, ("AAPL",))
    days = sessions_ending(previous_session(snapshot.session_date), max(1, len(earlier)))
    for day, body in zip(days, earlier, strict=False):
        due = session_open(day)
        request = expirations.requests(["AAPL"])[0]
        with archive.begin(dataset="expirations", session_date=day, scheduled_time=due, started_time=due) as writer:
            writer.append(RawResponse(request, 200, body, (), due, due))
            writer.seal(due)
    source.answer = lambda _: listing()
    (outcome,) = take_all(source, snapshot)
    assert len(source.asked) == 2
    assert [gap.reason for gap in outcome.gaps] == expected
    source.answer = lambda _: listing("2026-12-18")
    (outcome,) = take_all(source, snapshot)
    assert (len(source.asked), outcome.gaps) == (len(expected), ())


@pytest.mark.parametrize(
    ("sort", "now", "times", "expected"),
    [
        ("VOLUME", EVENING, 2, [EMPTY_ANSWER]),
        ("VOLUME", session_open(QUOTES.session_date) - timedelta(minutes=1), 1, []),
        ("PERCENT_CHANGE_UP", EVENING, 1, []),
    ],
)
def test_nobody_by_volume_after_the_open_is_a_gap(
    source: ScriptedSource, take_all: TakeAll, sort: str, now: datetime, times: int, expected: list[str]
) -> None:
    """Before it, or when nobody has risen, an empty list is an answer."""

    def answer(request: MarketDataRequest) -> bytes:
        rows = [] if request.param("sort") == sort else [{"symbol": "AAPL"}]
        return json.dumps({"screeners": rows}).encode()

    source.now, source.answer = now, answer
    source.at = lambda _: Source(source, SimulatedClock(EVENING))  # type: ignore[arg-type,method-assign]
    (outcome,) = take_all(source, Snapshot("movers", QUOTES.session_date, now, ("$SPX",)))
    assert [request.param("sort") for request in source.asked].count(sort) == times
    assert [gap.reason for gap in outcome.gaps] == expected


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
