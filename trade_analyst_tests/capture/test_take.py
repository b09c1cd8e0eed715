"""A snapshot is asked for until all of it is there, once each; what cannot be had is a gap, once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from trade_analyst_pipeline.capture.ask import ask
from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.capture.take import Outcome, Source, take, take_each
from trade_analyst_pipeline.errors import (
    AuthError,
    ChainTooLargeError,
    DeadlineExceededError,
    LoginRequiredError,
    RequestSummary,
    SourceError,
    SourceUnavailableError,
    SymbolNotFoundError,
)
from trade_analyst_pipeline.market.clock import SimulatedClock
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.settings import BoundedChainSettings
from trade_analyst_pipeline.storage.archive import Archive, Gap

DAY = date(2026, 11, 23)  # a Monday; regular hours 14:30 to 21:00 UTC
DUE = datetime(2026, 11, 23, 20, 55, tzinfo=UTC)
CHAINS = Snapshot("options", DAY, DUE, ("AAPL", "MSFT"))
BARS = Snapshot("ohlc", DAY, datetime(2026, 11, 23, 22, 0, tzinfo=UTC), ("AAPL",))
QUOTES = Snapshot("quotes", DAY, DUE, ("AAPL", "MSFT"))
TakeAll = Callable[..., list[Outcome]]
Answer = bytes | type[SourceError]
EXPIRATIONS = ("2026-11-27", "2026-12-18")


def well(request: MarketDataRequest) -> Answer:
    """A list of two expirations, a chain with a strike of those asked for, and any answer to anything else."""
    if request.path == "/expirationchain":
        listed = [{"expirationDate": day, "optionRoots": "XYZ"} for day in EXPIRATIONS]
        return json.dumps({"expirationList": listed}).encode()
    if request.path == "/quotes":
        entries = {symbol: {"assetMainType": "EQUITY", "symbol": symbol} for symbol in request.symbols}
        return json.dumps(entries).encode()
    return json.dumps(chain(request)).encode() if request.path == "/chains" else b"{}"


def chain(request: MarketDataRequest) -> dict[str, Any]:
    """One contract of each type for each expiration that a request asks for."""
    first, last = request.param("fromDate") or "", request.param("toDate") or "9"
    strikes = {f"{day}:4": {"5.0": [{"strikePrice": 5.0}]} for day in EXPIRATIONS if first <= day <= last}
    sides = {"callExpDateMap": strikes, "putExpDateMap": strikes}
    if (only := request.param("contractType")) is not None:
        sides["putExpDateMap" if only == "CALL" else "callExpDateMap"] = {}
    return {"numberOfContracts": sum(map(len, sides.values())), **sides}


@dataclass
class ScriptedSource:
    """A source at the instant `now` that answers with what `answer` makes of a request, and remembers all requests."""

    now: datetime
    answer: Callable[[MarketDataRequest], Answer] = well
    asked: list[MarketDataRequest] = field(default_factory=list)

    async def fetch(self, request: MarketDataRequest) -> RawResponse:
        """The scripted answer."""
        self.asked.append(request)
        found = self.answer(request)
        if isinstance(found, bytes):
            return RawResponse(request, 200, found, (), self.now, self.now)
        raise found(RequestSummary(request.dataset, request.path, request.symbols), "scripted", "Nothing to do.")

    def at(self, _: datetime) -> Source:
        """The source, whatever instant is asked for."""
        return Source(self, SimulatedClock(self.now))  # type: ignore[arg-type]  # all that is used of a client


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """An empty archive."""
    return Archive(tmp_path / "raw")


@pytest.fixture
def take_all(archive: Archive) -> Callable[..., list[Outcome]]:
    """Takes snapshots from a scripted source and returns what became of them."""

    def run(source: ScriptedSource, *snapshots: Snapshot) -> list[Outcome]:
        async def outcomes() -> list[Outcome]:
            asked = partial(ask, bounds=BoundedChainSettings(), archive=archive)
            taken = take_each(snapshots, source_at=source.at, ask=asked, archive=archive)
            return [outcome async for outcome in taken]

        source.asked.clear()
        return asyncio.run(outcomes())

    return run


def symbols_asked(source: ScriptedSource) -> Sequence[str]:
    """Whose data was asked for, in order."""
    return [symbol for request in source.asked for symbol in request.symbols]


@pytest.fixture
def source() -> ScriptedSource:
    """A source at the instant of the snapshots that answers everything."""
    return ScriptedSource(DUE)


def failing(error: Answer, where: Callable[[MarketDataRequest], bool]) -> Callable[[MarketDataRequest], Answer]:
    """Fails where a request is such, and answers the others."""
    return lambda request: error if where(request) else well(request)


def is_listing(request: MarketDataRequest) -> bool:
    """Whether a request is for a list of expirations."""
    return request.path == "/expirationchain"


def is_daily(request: MarketDataRequest) -> bool:
    """Whether a request is for daily bars."""
    return request.param("frequencyType") == "daily"


# -- nothing is asked for twice, and nothing is left out -----------------------------------------------------------


@pytest.mark.parametrize(("snapshot", "requests"), [(CHAINS, 4), (QUOTES, 1), (BARS, 2)])
def test_a_whole_snapshot_is_not_asked_for_again(
    source: ScriptedSource, take_all: TakeAll, snapshot: Snapshot, requests: int
) -> None:
    """The second time nothing is asked, and the capture of the first is the outcome."""
    source.now = snapshot.scheduled_time
    (first,) = take_all(source, snapshot)
    assert (len(source.asked), first.was_archived, first.gaps) == (requests, False, ())
    (second,) = take_all(source, snapshot)
    assert (len(source.asked), second.was_archived, second.captures) == (0, True, first.captures)


def test_only_the_request_that_failed_is_asked_for_again(source: ScriptedSource, take_all: TakeAll) -> None:
    """Daily bars that did not come are asked for again while minute bars are kept; then there is no gap any more."""
    source.now, source.answer = BARS.scheduled_time, failing(DeadlineExceededError, is_daily)
    (first,) = take_all(source, BARS)
    assert [(gap.reason, gap.request == source.asked[0]) for gap in first.gaps] == [("deadline", True)]
    source.answer = well
    (second,) = take_all(source, BARS)
    assert [is_daily(request) for request in source.asked] == [True]
    assert (len(second.captures), second.gaps, second.was_archived) == (2, (), False)


def test_a_missing_piece_of_a_chain_is_asked_for_again(source: ScriptedSource, take_all: TakeAll) -> None:
    """A chain that comes in pieces: the piece that failed is asked for alone, and no other."""
    snapshot = replace(CHAINS, symbols=("AAPL",))
    windows: list[tuple[str | None, str | None]] = []

    def answer(request: MarketDataRequest) -> Answer:
        if is_listing(request):
            return well(request)
        window = (request.param("fromDate"), request.param("toDate"))
        if window == (None, None):
            return ChainTooLargeError
        windows.append(window)
        return SourceUnavailableError if window[0] is None and len(windows) < 3 else well(request)

    source.answer = answer
    (first,) = take_all(source, snapshot)
    assert ([gap.reason for gap in first.gaps], len(windows)) == (["unavailable"], 2)
    (second,) = take_all(source, snapshot)
    assert [(request.param("fromDate"), request.param("toDate")) for request in source.asked] == [windows[0]]
    assert second.gaps == ()


def test_a_bounded_chain_is_no_answer_to_a_full_one(source: ScriptedSource, take_all: TakeAll) -> None:
    """A full snapshot asks for whole chains although bounded ones are archived; a full one answers a bounded one."""
    take_all(source, replace(CHAINS, scope="bounded"))
    take_all(source, CHAINS)
    assert [request.param("strikeCount") for request in source.asked] == [None] * 4
    take_all(source, replace(CHAINS, scope="bounded"))
    assert source.asked == []


@pytest.mark.parametrize("snapshot", [CHAINS, QUOTES])
def test_a_symbol_added_later_is_asked_for_alone(source: ScriptedSource, take_all: TakeAll, snapshot: Snapshot) -> None:
    """Of a snapshot that is archived for two symbols only the third is asked for."""
    take_all(source, snapshot)
    (outcome,) = take_all(source, replace(snapshot, symbols=("AAPL", "NVDA", "MSFT")))
    assert set(symbols_asked(source)) == {"NVDA"}
    assert len(outcome.captures) == 2


def test_an_unknown_symbol_is_asked_for_once(source: ScriptedSource, take_all: TakeAll) -> None:
    """The source's word that it does not know a symbol is an answer: told each time, never asked for again."""
    source.answer = failing(SymbolNotFoundError, lambda request: request.symbols == ("MSFT",))
    take_all(source, CHAINS)
    (outcome,) = take_all(source, CHAINS)
    assert source.asked == []
    assert [(gap.symbols, gap.reason) for gap in outcome.gaps] == [(("MSFT",), "unknown_symbol")]


def test_a_failure_that_repeats_is_recorded_once(source: ScriptedSource, take_all: TakeAll, archive: Archive) -> None:
    """A source that stays away leaves one capture with its gaps, however often it is asked; another reason is told."""
    source.answer = failing(SourceUnavailableError, lambda _: True)
    for _ in range(3):
        (outcome,) = take_all(source, QUOTES)
        assert len(source.asked) == 1
        assert [gap.reason for gap in outcome.gaps] == ["unavailable"]
    assert len(archive.captures("quotes")) == 1
    source.answer = failing(DeadlineExceededError, lambda _: True)
    (outcome,) = take_all(source, QUOTES)
    assert [gap.reason for gap in outcome.gaps] == ["deadline"]


def test_a_login_that_ends_leaves_nothing_half(source: ScriptedSource, take_all: TakeAll, archive: Archive) -> None:
    """When only a person can help and nothing has come, no capture is left."""

    def dead(_: MarketDataRequest) -> Answer:
        message = "log in again"
        raise LoginRequiredError(message)

    source.answer = dead
    with pytest.raises(AuthError):
        take_all(source, QUOTES)
    assert archive.captures("quotes") == []


@pytest.mark.parametrize("ending", ["login", "interruption"])
def test_what_had_come_before_an_end_is_kept(
    source: ScriptedSource, take_all: TakeAll, archive: Archive, ending: str
) -> None:
    """A login that dies, or Ctrl-C, in mid-capture leaves the answers that had come; the next run asks for the rest."""

    def ends(request: MarketDataRequest) -> Answer:
        if request.symbols == ("MSFT",) and not is_listing(request):
            raise LoginRequiredError("log in again") if ending == "login" else asyncio.CancelledError
        return well(request)

    source.answer = ends
    with pytest.raises((AuthError, asyncio.CancelledError)):
        take_all(source, CHAINS)
    (capture,) = archive.captures("options")
    archive.verify(capture)
    kept = [response.request for response in archive.responses(capture)]
    assert ("AAPL",) in {request.symbols for request in kept if not is_listing(request)}
    assert [gap.reason for gap in capture.gaps] == ["interrupted"]
    source.answer = well
    (outcome,) = take_all(source, CHAINS)
    assert not set(source.asked) & set(kept)
    assert set(symbols_asked(source)) == {"MSFT"}
    assert outcome.gaps == ()


def test_what_an_interrupted_capture_holds_is_kept(source: ScriptedSource, take_all: TakeAll, archive: Archive) -> None:
    """A recovered capture answers what it holds; the rest is asked for, and the interruption is no gap any more."""
    take_all(source, CHAINS)
    held = [request for request in source.asked if request.symbols == ("AAPL",)]
    other = replace(CHAINS, session_date=date(2026, 11, 20), scheduled_time=DUE - timedelta(days=3))
    writer = archive.begin(
        dataset="options", session_date=other.session_date, scheduled_time=other.scheduled_time, started_time=DUE
    )
    for request in held:
        writer.append(RawResponse(request, 200, b"{}", (), DUE, DUE))
    writer.note_gap(Gap("options", (), "interrupted", "the capturing process ended before sealing"))
    writer.seal(DUE)
    source.now = other.scheduled_time
    (outcome,) = take_all(source, other)
    assert (symbols_asked(source), outcome.gaps) == (["MSFT", "MSFT"], ())


# -- sessions that cannot be had -----------------------------------------------------------------------------------


def test_a_session_that_is_over_is_a_gap_once(source: ScriptedSource, take_all: TakeAll, archive: Archive) -> None:
    """The day after, chains are not asked for; one capture without records says so, however often it is tried."""
    source.now = DUE + timedelta(days=1)
    for was_archived in (False, True):
        (outcome,) = take_all(source, CHAINS)
        assert source.asked == []
        assert [(gap.symbols, gap.reason) for gap in outcome.gaps] == [(("AAPL", "MSFT"), "session_over")]
        assert outcome.was_archived is was_archived
    assert len(archive.captures("options")) == 1


def test_an_archived_session_that_is_over_needs_no_source(source: ScriptedSource, take_all: TakeAll) -> None:
    """What is archived of a session counts after its end, incomplete as it may be, also from another instant."""
    source.answer = failing(SourceUnavailableError, lambda request: request.symbols == ("MSFT",))
    (taken,) = take_all(source, CHAINS)
    source.now = DUE + timedelta(days=1)
    for snapshot in (CHAINS, replace(CHAINS, scheduled_time=DUE - timedelta(minutes=10))):
        (outcome,) = take_all(source, snapshot)
        assert (source.asked, outcome.captures, outcome.was_archived) == ([], taken.captures, True)
        assert {(gap.symbols, gap.reason) for gap in outcome.gaps} == {(("MSFT",), "unavailable")}


def test_bars_of_a_past_session_can_be_had(source: ScriptedSource, take_all: TakeAll) -> None:
    """Price history is served for sessions long over."""
    source.now = DUE + timedelta(days=30)
    (outcome,) = take_all(source, BARS)
    assert (len(source.asked), outcome.gaps, outcome.is_late) == (2, (), False)


@pytest.mark.parametrize("snapshot", [CHAINS, QUOTES, BARS])
def test_a_session_that_has_not_begun_leaves_no_trace(
    source: ScriptedSource, take_all: TakeAll, archive: Archive, snapshot: Snapshot
) -> None:
    """Before the open nothing is asked and nothing recorded, so that the session can be captured later."""
    source.now = datetime(2026, 11, 23, 14, 29, 59, tzinfo=UTC)
    (outcome,) = take_all(source, snapshot)
    assert (source.asked, archive.captures(snapshot.dataset)) == ([], [])
    assert "opens at 09:30 New York" in outcome.gaps[0].detail


@pytest.mark.parametrize(("minutes", "is_late"), [(0, False), (2, False), (3, True), (180, True)])
def test_a_missed_tick_is_captured_late(source: ScriptedSource, take_all: TakeAll, minutes: int, is_late: bool) -> None:
    """Begun more than two minutes after its time, in the same session, a capture is marked as late."""
    source.now = DUE + timedelta(minutes=minutes)
    (outcome,) = take_all(source, CHAINS)
    (capture,) = outcome.captures
    assert (outcome.is_late, capture.is_late, capture.scheduled_time) == (is_late, is_late, DUE)
    assert capture.started_time == source.now


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
        {"callExpDateMap": {}, "putExpDateMap": {"2026-11-27:4": {"5.0": [{"strikePrice": 5.0}]}}},
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
    """Short at first, then empty or not at all: the first answer is the record."""
    for later in (EMPTY, SourceUnavailableError):
        snapshot = replace(ONE, scheduled_time=ONE.scheduled_time + timedelta(minutes=1))
        answers: list[Answer] = [later, shortened(options_request(), numberOfContracts=9)]
        source.answer = lambda request, left=answers: left.pop() if is_chain(request) else well(request)  # type: ignore[misc]
        (outcome,) = take_all(source, replace(snapshot, symbols=(str(later),)))
        assert outcome.gaps == ()
        assert json.loads([*archive.responses(outcome.captures[0])][-1].body)["numberOfContracts"] == 9


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
