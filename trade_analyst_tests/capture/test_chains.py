"""Whole chains: the list first, nothing short, pieces that fit, and nobody waits for what is slow."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from scripted import (
    CHAINS,
    DUE,
    EXPIRATIONS,
    Answer,
    ScriptedSource,
    TakeAll,
    chain,
    failing,
    is_listing,
    well,
)

from trade_analyst_pipeline.capture.ask import ask
from trade_analyst_pipeline.capture.take import take
from trade_analyst_pipeline.errors import (
    ChainTooLargeError,
    LoginRequiredError,
    SourceUnavailableError,
    StorageError,
)
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.settings import BoundedChainSettings
from trade_analyst_pipeline.storage.archive import Archive, Gap

# -- whole chains, and nothing less --------------------------------------------------------------------------------


def once(first: Answer, where: Callable[[MarketDataRequest], bool]) -> Callable[[MarketDataRequest], Answer]:
    """Another answer to the first request that is such."""
    left = [first]
    return lambda request: left.pop() if left and where(request) else well(request)


def is_chain(request: MarketDataRequest) -> bool:
    """Whether a request is for a chain or a piece of one."""
    return request.path == "/chains"


def shortened(request: MarketDataRequest, **changes: Any) -> bytes:
    """The right chain with other members."""
    return json.dumps(chain(request) | changes).encode()


ONE = replace(CHAINS, symbols=("AAPL",))
EMPTY = b'{"status":"FAILED","numberOfContracts":0,"callExpDateMap":{},"putExpDateMap":{}}'


def test_the_list_of_expirations_is_the_first_record_of_a_chain(
    source: ScriptedSource, take_all: TakeAll, archive: Archive
) -> None:
    """List, then chain, of each symbol; a bounded snapshot does not pay for a list."""
    (outcome,) = take_all(source, CHAINS)
    paths = [(entry.request.symbols[0], entry.request.path) for entry in archive.index(outcome.captures[0])]
    for symbol in CHAINS.symbols:
        assert [path for of, path in paths if of == symbol] == ["/expirationchain", "/chains"]
    take_all(source, replace(CHAINS, scope="bounded", scheduled_time=DUE - timedelta(minutes=10)))
    assert {request.path for request in source.asked} == {"/chains"}


def test_an_empty_chain_is_asked_for_once_more(source: ScriptedSource, take_all: TakeAll) -> None:
    """Empty although expirations are listed, and there the second time: no gap, and the chain is archived."""
    source.answer = once(EMPTY, is_chain)
    (outcome,) = take_all(source, ONE)
    assert ([request.path for request in source.asked].count("/chains"), outcome.gaps) == (2, ())


def test_a_chain_that_stays_empty_is_a_gap_that_can_be_filled(source: ScriptedSource, take_all: TakeAll) -> None:
    """Twice empty is a gap of its own reason; a later attempt asks for the chain alone and fills it."""
    source.answer = lambda request: EMPTY if is_chain(request) else well(request)
    (outcome,) = take_all(source, ONE)
    assert [(gap.reason, gap.detail) for gap in outcome.gaps] == [
        ("empty_answer", "no contract of 2 listed expirations, twice")
    ]
    source.answer = well
    (outcome,) = take_all(source, ONE)
    assert ([request.path for request in source.asked], outcome.gaps) == (["/chains"], ())


def test_a_symbol_without_options_is_no_gap(source: ScriptedSource, take_all: TakeAll) -> None:
    """No expiration is listed, twice, and the chain is empty: that is an answer."""
    source.answer = lambda request: b'{"expirationList":[]}' if is_listing(request) else EMPTY
    (outcome,) = take_all(source, ONE)
    assert ([request.path for request in source.asked], outcome.gaps) == (
        ["/expirationchain", "/expirationchain", "/chains"],
        (),
    )
    take_all(source, ONE)
    assert source.asked == []


@pytest.mark.parametrize(
    "changes",
    [
        {"numberOfContracts": 9},
        {
            "numberOfContracts": 1,
            "callExpDateMap": {},
            "putExpDateMap": {"2026-11-27:4": {"5.0": [{"strikePrice": 5.0}]}},
        },
    ],
)
def test_a_short_chain_is_asked_for_once_more_and_kept_if_it_stays_short(
    source: ScriptedSource, take_all: TakeAll, archive: Archive, changes: dict[str, Any]
) -> None:
    """Fewer contracts than announced, or an expiration left out: asked twice; what came is archived to be judged."""
    source.answer = lambda request: shortened(request, **changes) if is_chain(request) else well(request)
    (outcome,) = take_all(source, ONE)
    assert ([request.path for request in source.asked].count("/chains"), outcome.gaps) == (2, ())
    assert archive.index(outcome.captures[0])[-1].request.path == "/chains"


def test_what_came_short_is_kept_when_nothing_comes_after_it(
    source: ScriptedSource, take_all: TakeAll, archive: Archive
) -> None:
    """Short at first, then empty or not at all: the first answer counts."""
    for later in (EMPTY, SourceUnavailableError):
        snapshot = replace(ONE, scheduled_time=ONE.scheduled_time + timedelta(minutes=1))
        answers: list[Answer] = [later, shortened(options_request(), numberOfContracts=9)]
        source.answer = lambda request, left=answers: left.pop() if is_chain(request) else well(request)  # type: ignore[misc]
        (outcome,) = take_all(source, replace(snapshot, symbols=(str(later),)))
        assert outcome.gaps == ()
        assert json.loads([*archive.answers(outcome.captures)][-1].body)["numberOfContracts"] == 9


def test_no_contract_of_the_day_itself_is_an_answer(source: ScriptedSource, take_all: TakeAll) -> None:
    """Where only the session's own date is listed an empty chain is asked for once more and then kept: no gap."""
    day = ONE.session_date.isoformat()
    listing = json.dumps({"expirationList": [{"expirationDate": day, "optionRoots": "XYZ"}]}).encode()
    source.answer = lambda request: listing if is_listing(request) else EMPTY
    (outcome,) = take_all(source, ONE)
    assert ([request.path for request in source.asked].count("/chains"), outcome.gaps) == (2, ())


@pytest.mark.parametrize(("first", "second", "kept"), [(9, 8, 9), (8, 9, 9), (9, 9, 9)])
def test_the_fuller_of_two_short_answers_is_kept(
    source: ScriptedSource, take_all: TakeAll, archive: Archive, first: int, second: int, kept: int
) -> None:
    """Asked once more, a chain of still fewer contracts does not take the place of the first; both are archived."""
    answers = [strikes(second), strikes(first)]
    source.answer = lambda request: answers.pop() if is_chain(request) else well(request)
    (outcome,) = take_all(source, ONE)
    assert outcome.gaps == ()
    (body,) = [each.body for each in archive.answers(outcome.captures) if is_chain(each.request)]
    assert body.count(b'"strikePrice"') == kept
    came = [each.body.count(b'"strikePrice"') for each in archive.responses(outcome.captures[0])]
    assert came[1:] == [first, second]


@pytest.mark.parametrize("error", [LoginRequiredError("log in again"), asyncio.CancelledError(), StorageError("full")])
def test_a_short_answer_is_kept_when_asking_again_ends_all(
    source: ScriptedSource, take_all: TakeAll, archive: Archive, error: BaseException
) -> None:
    """What had come of the chain is in the archive although the run ended before it could be asked for once more."""
    answers = [strikes(8)]

    def ends(request: MarketDataRequest) -> Answer:
        if not is_chain(request):
            return well(request)
        if not answers:
            raise error
        return answers.pop()

    source.answer = ends
    with pytest.raises(type(error)):
        take_all(source, ONE)
    (capture,) = archive.captures("options")
    assert [entry.request.path for entry in archive.index(capture)] == ["/expirationchain", "/chains"]
    assert [gap.reason for gap in capture.gaps] == ["interrupted"]


def strikes(count: int) -> bytes:
    """A chain of so many contracts, of ten announced."""
    listed = {f"{number}.0": [{"strikePrice": float(number)}] for number in range(count)}
    sides = {"callExpDateMap": {f"{day}:4": {} for day in EXPIRATIONS}, "putExpDateMap": {"2026-11-27:4": listed}}
    return json.dumps({"numberOfContracts": 10, **sides}).encode()


def options_request() -> MarketDataRequest:
    """A request for a whole chain."""
    return MarketDataRequest("options", "/chains", (("symbol", "AAPL"),), ("AAPL",))


def test_a_list_that_does_not_come_costs_no_chain(source: ScriptedSource, take_all: TakeAll) -> None:
    """The chain is captured without its list; the next attempt asks for the list alone."""
    source.answer = failing(SourceUnavailableError, is_listing)
    (outcome,) = take_all(source, ONE)
    assert [request.path for request in source.asked] == ["/expirationchain", "/chains"]
    assert [(gap.reason, gap.request) for gap in outcome.gaps] == [("unavailable", source.asked[0])]
    source.answer = well
    (outcome,) = take_all(source, ONE)
    assert ([request.path for request in source.asked], outcome.gaps) == (["/expirationchain"], ())


def test_pieces_are_planned_by_an_archived_list(source: ScriptedSource, take_all: TakeAll, archive: Archive) -> None:
    """A capture that died after the list and one window: the list is read from the archive, the other window asked."""
    near, far = (("symbol", "AAPL"), ("toDate", "2026-11-27")), ("2026-11-28", None, None, None)
    with archive.begin(
        dataset="options", session_date=ONE.session_date, scheduled_time=DUE, started_time=DUE
    ) as writer:
        for path, params in (("/expirationchain", near[:1]), ("/chains", near)):
            request = MarketDataRequest("options", path, params, ("AAPL",))
            body = well(request)
            assert isinstance(body, bytes)
            writer.append(RawResponse(request, 200, body, (), DUE, DUE))
        writer.note_gap(Gap("options", (), "interrupted", "the capturing process ended before sealing"))
        writer.seal(DUE)
    (outcome,) = take_all(source, ONE)
    assert (windows_asked(source), len(source.asked), outcome.gaps) == ([far], 1, ())


def test_a_list_nobody_can_read_is_a_gap(source: ScriptedSource, take_all: TakeAll) -> None:
    """What is no list, twice, is none; the chain is captured, and the list asked for again next time."""
    source.answer = lambda request: b"{}" if is_listing(request) else well(request)
    (outcome,) = take_all(source, ONE)
    assert [gap.reason for gap in outcome.gaps] == ["empty_answer"]
    assert "no list of expirations" in outcome.gaps[0].detail


# -- pieces that fit -----------------------------------------------------------------------------------------------


def windows_asked(source: ScriptedSource) -> list[tuple[str | None, ...]]:
    """Window, type and side of each chain asked for, in order."""
    names = ("fromDate", "toDate", "contractType", "range")
    return [tuple(map(request.param, names)) for request in source.asked if is_chain(request)]


def heavy(request: MarketDataRequest) -> bytes:
    """A chain that weighs six megabytes for each expiration in it."""
    return shortened(request, filler="x" * (3_000_000 * chain(request)["numberOfContracts"]))


def test_sizes_of_the_last_capture_cut_the_next(source: ScriptedSource, take_all: TakeAll) -> None:
    """First asked as a whole in vain; the next time in two windows from the start, by what the first bodies weighed."""
    whole = (None, None, None, None)

    def answer(request: MarketDataRequest) -> Answer:
        if not is_chain(request):
            return well(request)
        return heavy(request) if len(chain(request)["putExpDateMap"]) < 2 else ChainTooLargeError

    source.answer = answer
    take_all(source, ONE)
    near, far = (None, "2026-11-27", None, None), ("2026-11-28", None, None, None)
    assert windows_asked(source) == [whole, near, far]
    (outcome,) = take_all(source, replace(ONE, scheduled_time=DUE + timedelta(minutes=5)))
    assert (windows_asked(source), outcome.gaps) == ([near, far], ())


def test_one_expiration_too_large_is_cut_by_type_then_by_the_money(source: ScriptedSource, take_all: TakeAll) -> None:
    """The nearest expiration comes in four parts, the other as a whole; each part once."""

    def answer(request: MarketDataRequest) -> Answer:
        is_near = (request.param("fromDate") or "") <= "2026-11-27"
        too_large = is_chain(request) and is_near and request.param("range") is None
        return ChainTooLargeError if too_large else well(request)

    source.answer = answer
    (outcome,) = take_all(source, ONE)
    came = [window for window in windows_asked(source) if window[3] is not None or window[0] == "2026-11-28"]
    assert outcome.gaps == ()
    assert {window[2:] for window in came} == {
        *((side, money) for side in ("CALL", "PUT") for money in ("ITM", "OTM")),
        (None, None),
    }
    assert len(came) == 5


def test_what_cannot_be_cut_is_a_gap_and_the_rest_comes(source: ScriptedSource, take_all: TakeAll) -> None:
    """Calls in the money of one expiration that are still too large are a gap; everything else is asked for."""

    def answer(request: MarketDataRequest) -> Answer:
        is_near = (request.param("fromDate") or "") <= "2026-11-27" and request.param("contractType") != "PUT"
        return (
            ChainTooLargeError if is_chain(request) and is_near and request.param("range") != "OTM" else well(request)
        )

    source.answer = answer
    (outcome,) = take_all(source, ONE)
    assert [gap.reason for gap in outcome.gaps] == ["chain_too_large"]
    assert ("2026-11-28", None, None, None) in windows_asked(source)
    assert [window[2:] for window in windows_asked(source) if window[2] == "PUT"] == [("PUT", None)]


# -- nothing waits for what is slow --------------------------------------------------------------------------------


@pytest.mark.parametrize("in_rounds", [False, True])
def test_the_chain_of_a_list_goes_out_while_another_list_is_awaited(archive: Archive, in_rounds: bool) -> None:
    """One list hangs until the other symbol's chain has come; in rounds, where order is time, it would for ever."""
    come = asyncio.Event()

    class Slow(ScriptedSource):
        async def fetch(self, request: MarketDataRequest) -> RawResponse:
            if request.symbols == ("AAPL",) and is_listing(request):
                async with asyncio.timeout(0.2 if in_rounds else 20):
                    await come.wait()
            if is_chain(request) and request.symbols == ("MSFT",):
                come.set()
            return await super().fetch(request)

    slow = Slow(DUE)

    async def taken() -> None:
        source = replace(slow.at(DUE), in_rounds=in_rounds)
        question = ask(CHAINS, BoundedChainSettings(), archive)
        await take(CHAINS, question, source=source, archive=archive)

    if in_rounds:
        with pytest.raises(TimeoutError):
            asyncio.run(taken())
        assert not any(map(is_chain, slow.asked))
    else:
        asyncio.run(taken())
        assert [request.symbols for request in slow.asked if is_chain(request)] == [("MSFT",), ("AAPL",)]
