"""Slots of the limit are given out by urgency and in turns; expected instants are counted by hand.

With 60 requests a minute slots lie 1.025 s apart (61.5 s for 60), and three go at once after a rest.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from trade_analyst_pipeline.capture.costs import Costs
from trade_analyst_pipeline.capture.cuts import cuts
from trade_analyst_pipeline.capture.slots import Allowance
from trade_analyst_pipeline.capture.timetable import Planned, Timetable, Watched, timetable, watched
from trade_analyst_pipeline.settings import Cadence, load_settings

DAY = date(2026, 11, 23)
OPEN = datetime(2026, 11, 23, 14, 30, tzinfo=UTC)
SLOT = timedelta(seconds=1.025)
SIXTY = Allowance(60)


def table_of(
    minutes_before: tuple[int, ...] = (5,), allowance: Allowance = SIXTY, **cadences: dict[str, Cadence]
) -> Timetable:
    """The timetable of these datasets, a symbol's chain being a list and one piece."""
    return timetable(DAY, Watched(cadences, minutes_before), allowance, Costs())


def shares(count: int, every: Cadence) -> dict[str, Cadence]:
    """So many stocks with one cadence."""
    return {f"S{chr(65 + number // 26)}{chr(65 + number % 26)}": every for number in range(count)}


def first(table: Timetable, dataset: str) -> Planned:
    """The first snapshot of a dataset."""
    return table.of(dataset)[0]


def test_a_chain_is_complete_with_its_last_piece() -> None:
    """Ten chains are ten lists, then ten pieces: the last goes in the 20th slot, three slots having gone at once."""
    snapshot = first(table_of(options=shares(10, 60)), "options")
    due = OPEN + timedelta(minutes=60)
    assert (snapshot.requests, snapshot.finished) == (20, due + 17 * SLOT)
    assert snapshot.arrivals["SAA"] == due + 8 * SLOT  # the 11th request, after all ten lists


def test_quotes_of_a_tick_go_before_its_chains() -> None:
    """600 quotes are two requests, which the chains of the same run wait for."""
    table = table_of(quotes=shares(600, 60), options=shares(1, 60))
    assert first(table, "quotes").finished == OPEN + timedelta(minutes=60)
    assert first(table, "options").finished == OPEN + timedelta(minutes=60) + SLOT  # the fourth slot


def test_what_is_before_a_close_goes_before_all_else() -> None:
    """Chains of 15:45 are still being asked for at 15:55: the snapshot before the close passes them by."""
    intraday, closing = shares(300, 375), {"ZZZ": "closing"}
    table = table_of(options={**intraday, **closing}, minutes_before=(14,))
    early, late = table.of("options")[0], table.of("options")[1]
    assert (early.kind, early.snapshot.scheduled_time) == ("intraday", OPEN + timedelta(minutes=375))
    assert late.kind == "closing"
    assert late.finished is not None
    assert late.finished < OPEN + timedelta(minutes=376) + 602 * SLOT + SLOT
    assert early.finished is None or early.finished > late.finished


def test_late_options_wait_in_their_own_class() -> None:
    """At 15:45 the stocks' 60 requests go first; the 3 for SPY, whose close is half an hour off, then follow."""
    table = table_of(options={**shares(30, 15), "SPY": 15}, minutes_before=(15, 5))
    due = OPEN + timedelta(minutes=375)
    closing, late = (each for each in table.of("options") if each.snapshot.scheduled_time == due)
    assert (closing.kind, closing.requests, closing.finished) == ("closing", 60, due + 57 * SLOT)
    assert (late.kind, late.requests, late.finished) == ("intraday", 3, due + 60 * SLOT)
    assert late.snapshot.symbols == ("SPY",)


def test_a_run_has_its_place_by_its_most_urgent_snapshot() -> None:
    """At 15:46 two intraday runs are under way; SPY, in the run before the close, takes turns with them even so."""
    first_run, second_run = shares(115, 60), {f"T{name}": 61 for name in shares(62, 61)}
    table = table_of(allowance=Allowance(20), options={**first_run, **second_run, "SPY": 376}, minutes_before=(14,))
    due, slot = OPEN + timedelta(minutes=376), timedelta(seconds=61.5 / 20)
    closing, late = (each for each in table.of("options") if each.snapshot.scheduled_time == due)
    assert (closing.kind, closing.requests) == ("closing", 354)
    assert (late.kind, late.requests, late.snapshot.symbols) == ("intraday", 3, ("SPY",))
    assert closing.finished is not None
    assert late.finished is not None
    assert closing.finished < late.finished <= closing.finished + 9 * slot  # in turns with two others
    under_way = [each for each in table.of("options") if each.snapshot.scheduled_time < due and each.kind == "intraday"]
    assert sum(each.finished is not None and each.finished > late.finished for each in under_way) == 2


@pytest.mark.parametrize(("stocks", "given_up"), [(580, 0), (700, 1)])
def test_what_waits_longer_than_the_client_does_is_given_up(stocks: int, given_up: int) -> None:
    """At 15:46 stocks before their close take 19.8 minutes or 23.9: SPY's list waits 20, its two pieces then go."""
    table = table_of(options={**shares(stocks, "closing"), "SPY": 376}, minutes_before=(14,))
    due = OPEN + timedelta(minutes=376)
    closing, late = (each for each in table.of("options") if each.snapshot.scheduled_time == due)
    before_close = 2 * stocks + 3  # with the snapshot of SPY before its own close, due at 16:01
    assert (closing.finished, closing.given_up) == (due + (before_close - 1 - 2) * SLOT, 0)
    assert (late.snapshot.symbols, late.requests, late.given_up) == (("SPY",), 3, given_up)
    assert (late.fits, "SPY" in late.arrivals) == (not given_up, not given_up)
    assert late.finished == (None if given_up else due + (before_close + 3 - 1 - 2) * SLOT)
    assert table.requests == before_close + 3 - given_up


def test_a_run_whose_last_requests_are_given_up_ends() -> None:
    """At one request each 61.5 s 20 of 30 lists go in 20 minutes, then 19 of their pieces and one of the others'."""
    table = table_of(allowance=Allowance(1, in_flight=30), options=shares(30, 380), minutes_before=())
    chains = first(table, "options")
    assert (chains.requests, chains.given_up, table.requests) == (60, 20, 40)
    assert len(chains.arrivals) == 19


def test_runs_of_one_class_take_turns() -> None:
    """A run that starts while another is under way gets every second slot."""
    table = table_of(options={**shares(100, 60), "ZZZ": 61})
    long, short = table.of("options")[:2]
    assert short.snapshot.symbols == ("ZZZ",)
    start = OPEN + timedelta(minutes=61)
    assert short.finished is not None
    assert start < short.finished <= start + 4 * SLOT
    assert long.finished is not None
    assert long.finished > short.finished


def test_the_reserve_is_taken_off_the_limit() -> None:
    """With 30 of 60 reserved a request takes twice as long."""
    snapshot = first(table_of(allowance=Allowance(60, 30), options=shares(10, 60)), "options")
    assert snapshot.finished == OPEN + timedelta(minutes=60) + 18 * 2 * SLOT  # 30 a minute: two at once after a rest


def test_age_counts_from_the_open_and_to_the_close() -> None:
    """One snapshot at 10:30 New York is 5 h 30 old at the close of 16:00, all but its slots; the closing one helps."""
    table = table_of(quotes={"SAA": 200}, minutes_before=(5,))
    assert table.worst_age("quotes") == timedelta(minutes=200)  # 09:30 to 12:50; then to 15:55
    assert table.worst_age("options") is None


def test_what_is_not_complete_in_time_does_not_fit() -> None:
    """900 chains are 1,800 requests: 31 minutes at 60 a minute, too long for every 30 and short enough for every 60."""
    assert not first(table_of(options=shares(900, 30)), "options").fits
    assert first(table_of(options=shares(900, 60)), "options").fits


def test_a_trial_ends_at_what_is_late_alone() -> None:
    """Chains that take 19 minutes of 60 are no reason to end, though the quotes of the same runs have 15."""
    what = Watched({"quotes": shares(1, 15), "options": shares(550, 60)}, (40,))
    assert timetable(DAY, what, SIXTY, Costs(), ends_late=False).fits
    assert timetable(DAY, what, SIXTY, Costs()).fits
    rarer = Watched({"quotes": shares(1, 15), "options": shares(550, 15)}, (40,))
    ended = timetable(DAY, rarer, SIXTY, Costs(), ends_late=False)
    assert not ended.fits
    assert ended.requests < timetable(DAY, rarer, SIXTY, Costs()).requests


def test_nothing_is_asked_after_midnight() -> None:
    """What is left then never comes: the source shows the session no more."""
    table = table_of(allowance=Allowance(2, 1), ohlc=shares(300, "daily"))
    bars = first(table, "ohlc")  # 600 requests from 17:00 on, one each 61.5 s
    assert (bars.finished, bars.fits) == (None, False)
    assert table.requests == 410  # 25,200 s hold 409 distances


def test_cuts_make_it_fit() -> None:
    """Chains that take 17 minutes fit every 20 minutes, closing ones that many minutes before the close."""
    what = Watched({"quotes": {}, "options": shares(500, 15)}, (15, 5))
    found = timetable(DAY, what, SIXTY, Costs())
    words = [cut.words for cut in cuts(found, what, Costs())]
    assert words[:2] == [
        "take one closing snapshot 20 minutes before the close (capture.closing_snapshot_minutes = [20])",
        "take options every 20 minutes (a set with options = 20)",
    ]
    assert words[2].startswith("take chains of ")
    fitting = Watched({"quotes": {}, "options": shares(500, 20)}, (20,))
    assert timetable(DAY, fitting, SIXTY, Costs()).fits
    assert cuts(timetable(DAY, fitting, SIXTY, Costs()), fitting, Costs()) == []


def test_a_reserve_that_is_too_large_is_told() -> None:
    """Twelve chains every minute are 24 requests: of 30 a minute 5 can be reserved, not 10."""
    what = Watched({"options": shares(12, 1)}, (5,))
    found = timetable(DAY, what, Allowance(30, 10), Costs())
    assert "reserve 5 requests a minute instead of 10" in cuts(found, what, Costs())[0].words


def test_settings_say_what_is_watched() -> None:
    """Each dataset with its symbols and cadence, and what is asked for without symbols."""
    found = watched(load_settings(universe={"symbols": ["SPY", "AAAIX"]}))
    assert list(found.cadences)[:2] == ["quotes", "options"]
    assert found.cadences["options"] == {"SPY": 15}
    assert set(found.cadences["markets"].values()) == {"daily"}


@pytest.mark.parametrize(("symbol", "pieces"), [("AAPL", 1), ("SPY", 2)])
def test_chains_of_late_products_are_taken_for_two_pieces(symbol: str, pieces: int) -> None:
    """They have several times as many contracts; what was measured replaces it."""
    assert Costs().pieces(symbol) == pieces
    assert Costs(chain_pieces={symbol: 7}).pieces(symbol) == 7
