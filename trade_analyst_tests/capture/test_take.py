"""A snapshot is asked for until all of it is there, once each; what cannot be had is a gap, once."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from scripted import (
    BARS,
    CHAINS,
    DUE,
    QUOTES,
    Answer,
    ScriptedSource,
    TakeAll,
    failing,
    is_daily,
    is_listing,
    symbols_asked,
    well,
)

from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.errors import (
    AuthError,
    ChainTooLargeError,
    DeadlineExceededError,
    DiskFullError,
    LoginRequiredError,
    SourceUnavailableError,
    StorageError,
    SymbolNotFoundError,
)
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage import durable
from trade_analyst_pipeline.storage.archive import Archive, Gap

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


def test_a_login_that_ends_is_on_record(source: ScriptedSource, take_all: TakeAll, archive: Archive) -> None:
    """When only a person can help and nothing has come, each snapshot's capture says just why, once."""

    def dead(_: MarketDataRequest) -> Answer:
        message = "log in again"
        raise LoginRequiredError(message)

    source.answer = dead
    for _ in range(2):
        with pytest.raises(AuthError):
            take_all(source, QUOTES, CHAINS)
    for snapshot in (QUOTES, CHAINS):
        (capture,) = archive.captures(snapshot.dataset)
        assert capture.record_count == 0
        assert [(gap.symbols, gap.cause) for gap in capture.gaps] == [(snapshot.symbols, "LoginRequiredError")]
    source.answer = well
    outcomes = take_all(source, QUOTES, CHAINS)
    assert [outcome.gaps for outcome in outcomes] == [(), ()]


@pytest.mark.parametrize("ending", ["login", "interruption", "storage"])
def test_what_had_come_before_an_end_is_kept(
    source: ScriptedSource, take_all: TakeAll, archive: Archive, ending: str
) -> None:
    """A dead login, Ctrl-C or a budget that cannot be read leaves what had come; the next run asks for the rest."""
    errors = {"login": LoginRequiredError("log in again"), "storage": StorageError("the budget is locked")}

    def ends(request: MarketDataRequest) -> Answer:
        if request.symbols == ("MSFT",) and not is_listing(request):
            raise errors.get(ending, asyncio.CancelledError())
        return well(request)

    source.answer = ends
    with pytest.raises((AuthError, StorageError, asyncio.CancelledError)):
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


@pytest.mark.parametrize("is_full_for_good", [False, True])
def test_a_full_disk_costs_nothing_that_was_written(
    source: ScriptedSource,
    take_all: TakeAll,
    archive: Archive,
    monkeypatch: pytest.MonkeyPatch,
    is_full_for_good: bool,
) -> None:
    """Half of the fourth answer fits: the three before are sealed, or stand unsealed and the next run seals them."""
    write, records = durable.write_all, []

    def short_of_space(descriptor: int, data: bytes) -> None:
        records.append(data)
        if len(records) == 5 or (is_full_for_good and len(records) > 5):  # the first is the header
            write(descriptor, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "no space left")
        write(descriptor, data)

    monkeypatch.setattr(durable, "write_all", short_of_space)
    with pytest.raises(DiskFullError) as caught:
        take_all(source, CHAINS)
    monkeypatch.undo()
    assert any("the next run that captures seals it" in note for note in getattr(caught.value, "__notes__", ())) == (
        is_full_for_good
    )
    (capture,) = archive.recover("options") if is_full_for_good else archive.captures("options")
    archive.verify(capture)
    assert (capture.record_count, [gap.reason for gap in capture.gaps]) == (3, ["interrupted"])


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
