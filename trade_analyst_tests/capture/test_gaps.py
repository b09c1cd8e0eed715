"""What the ledger makes of what is on record: halts, closed days, bars that came later, and files that are damaged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from gap_days import at, settings_of
from scripted import ScriptedSource, TakeAll

from trade_analyst_pipeline.capture.gap_lines import Line, Repair, sums
from trade_analyst_pipeline.capture.gaps import Ledger
from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.capture.planned import NAME, note_plan, plan_of
from trade_analyst_pipeline.datasets import ohlc, options
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive, Capture, Gap, Lacking

DAY, NEXT = date(2026, 1, 5), date(2026, 1, 6)  # a Monday and a Tuesday
NOON = at(DAY, 12, 0)
Record = tuple[MarketDataRequest, Any]


def put(
    archive: Archive,
    dataset: str,
    due: datetime,
    *,
    records: Sequence[Record] = (),
    gaps: Sequence[Gap] = (),
    symbols: tuple[str, ...] = ("AAPL",),
    lacking: Lacking | None = None,
) -> Capture:
    """A capture begun when it was due; `lacking` is what each record of it lacks."""
    with archive.begin(
        dataset=dataset, session_date=due.date(), scheduled_time=due, started_time=due, symbols=symbols
    ) as writer:
        for request, body in records:
            writer.append(RawResponse(request, 200, json.dumps(body).encode(), (), due, due), lacking)
        for gap in gaps:
            writer.note_gap(gap)
        return writer.seal(due)


def put_empty_chain(archive: Archive, due: datetime, symbol: str = "AAPL") -> Capture:
    """A capture of a chain that came without anything, twice."""
    request = options.listing_request(symbol)
    gap = Gap("options", (symbol,), "empty_answer", "nothing of it, twice", request)
    return put(archive, "options", due, gaps=[gap], symbols=(symbol,))


def put_quotes(archive: Archive, due: datetime, status: str) -> Capture:
    """A quote of one stock whose trading stands so."""
    request = MarketDataRequest("quotes", "/quotes", (("symbols", "AAPL"),), ("AAPL",))
    return put(archive, "quotes", due, records=[(request, {"AAPL": {"quote": {"securityStatus": status}}})])


def put_hours(archive: Archive, equity: dict[str, Any], hour: int = 9) -> Capture:
    """The market hours of the day as they were told at that hour."""
    request = MarketDataRequest("markets", "/markets", (("markets", "equity"),), ("equity",))
    body = {"equity": {equity["product"]: {"date": str(DAY), "marketType": "EQUITY"} | equity}}
    return put(archive, "markets", at(DAY, hour, 45), records=[(request, body)], symbols=("equity",))


def lines(archive: Archive, dataset: str, day: date = DAY, now: datetime | None = None) -> list[Line]:
    """The ledger of a dataset and day, told two days later of a live source."""
    return Ledger(archive, now=now or at(day, 12, 0) + timedelta(days=2), goes_back=False).lines(dataset, day)


def shut(*, is_open: bool) -> dict[str, Any]:
    """The whole day without trading, or with it."""
    if not is_open:
        return {"product": "equity", "isOpen": False}
    return open_until("16:00")


def open_until(close: str, opens: str = "09:30") -> dict[str, Any]:
    """A day that trades up to a time of New York."""
    span = {"start": f"{DAY}T{opens}:00-05:00", "end": f"{DAY}T{close}:00-05:00"}
    return {"product": "EQ", "isOpen": True, "sessionHours": {"regularMarket": [span]}}


def test_a_halt_is_seen_in_the_quote_nearest_to_the_empty_chain(archive: Archive) -> None:
    """Halted at 15:30 and trading again at 15:55: the chain of 15:30 was halted, that of 15:50 is an error."""
    put_quotes(archive, at(DAY, 15, 30), "Halted")
    put_quotes(archive, at(DAY, 15, 55), "Normal")
    for minute in (30, 50):
        put_empty_chain(archive, at(DAY, 15, minute))
    assert [line.type for line in lines(archive, "options")] == ["halted", "error"]


@pytest.mark.parametrize(("minutes", "expected"), [(30, "halted"), (31, "error")])
def test_a_quote_of_another_time_says_nothing(archive: Archive, minutes: int, expected: str) -> None:
    """A halt is believed for half an hour; without a quote near an empty chain is an error."""
    put_quotes(archive, at(DAY, 15, 0), "Halted")
    put_empty_chain(archive, at(DAY, 15, minutes))
    assert [line.type for line in lines(archive, "options")] == [expected]


def test_a_session_that_the_exchange_did_not_hold_is_closed(archive: Archive) -> None:
    """The calendar has it and the hours captured on the day do not: nobody was to take it, and the word stays."""
    note_plan(plan_of(settings_of(["AAPL"]), ["closing", "end_of_day"], at(DAY, 9, 0)), archive)
    put_hours(archive, shut(is_open=False))
    put_empty_chain(archive, at(DAY, 15, 45))
    found = [*lines(archive, "options"), *lines(archive, "ohlc")]
    assert [(line.type, line.word, line.repair) for line in found] == [
        ("market_closed", "empty_answer", None),
        ("market_closed", None, None),
        ("market_closed", None, None),
    ]
    assert {line.detail for line in found} == {"the exchange was shut on that day, say the market hours captured on it"}
    total = sums(found)
    assert (total.adds_up, total.expected, total.lacking) == (True, 3, 0)


@pytest.mark.parametrize(
    "told",
    [
        shut(is_open=True),
        open_until("09:00"),
        shut(is_open=False) | {"date": str(NEXT)},
        {"product": "EQ", "isOpen": True},
    ],
    ids=["open", "reversed", "of another day", "without hours"],
)
def test_only_a_word_on_that_day_closes_it(archive: Archive, told: dict[str, Any]) -> None:
    """Hours that say nothing of it leave the gap what it is."""
    put_hours(archive, told)
    put_empty_chain(archive, at(DAY, 15, 45))
    assert [line.type for line in lines(archive, "options")] == ["error"]


def test_the_newest_hours_of_a_day_count(archive: Archive) -> None:
    """Open in the morning, said to be shut at noon."""
    put_hours(archive, shut(is_open=True))
    put_hours(archive, shut(is_open=False), hour=12)
    put_empty_chain(archive, at(DAY, 15, 45))
    assert [line.type for line in lines(archive, "options")] == ["market_closed"]


def test_after_an_early_close_the_market_is_closed(archive: Archive) -> None:
    """Shut at 13:00, for late products at 13:15: what shows trading is closed from then on, bars are still an error."""
    put_hours(archive, open_until("13:00"))
    for hour, minute, symbol in ((12, 55, "AAPL"), (13, 0, "AAPL"), (13, 10, "SPY"), (13, 15, "SPY")):
        put_empty_chain(archive, at(DAY, hour, minute), symbol)
    found = [(line.symbol, line.type) for line in lines(archive, "options")]
    assert found == [("AAPL", "error"), ("AAPL", "market_closed"), ("SPY", "error"), ("SPY", "market_closed")]
    request = ohlc.requests(["AAPL"], session_date=DAY)[0]
    put(archive, "ohlc", at(DAY, 17, 0), gaps=[Gap("ohlc", ("AAPL",), "unavailable", "down", request)])
    assert [line.type for line in lines(archive, "ohlc")] == ["error"]


BARS: dict[str, Any] = {"candles": [{"datetime": 0}]}


def put_lost_bars(archive: Archive, frequencies: Sequence[str] = ("daily",)) -> None:
    """A day of which no bars came."""
    wanted = ohlc.requests(["AAPL"], session_date=DAY, frequencies=frequencies)
    gaps = [Gap("ohlc", ("AAPL",), "unavailable", "down", request) for request in wanted]
    with archive.begin(
        dataset="ohlc",
        session_date=DAY,
        scheduled_time=at(DAY, 17, 0),
        started_time=at(DAY, 17, 0),
        symbols=("AAPL",),
        terms=(("bars", ",".join(frequencies)), ("extended", "false")),
    ) as writer:
        for gap in gaps:
            writer.note_gap(gap)
        writer.seal(at(DAY, 17, 0))


def put_bars(
    archive: Archive, day: date, symbol: str = "AAPL", frequency: str = "daily", lacking: Lacking | None = None
) -> Capture:
    """Bars of a session, those of days with the years before it."""
    request = ohlc.requests([symbol], session_date=day, frequencies=[frequency])[0]
    return put(archive, "ohlc", at(day, 17, 0), records=[(request, BARS)], symbols=(symbol,), lacking=lacking)


def test_bars_that_a_later_answer_holds_are_repaired(archive: Archive) -> None:
    """Daily bars come with the years of any later session: by the first capture that holds them."""
    put_lost_bars(archive)
    put_bars(archive, NEXT, symbol="MSFT")
    later = put_bars(archive, date(2026, 1, 7))
    put_bars(archive, date(2026, 1, 8))
    (line,) = lines(archive, "ohlc", now=at(date(2026, 1, 9), 12, 0))
    assert (line.type, line.word, line.repair) == ("error", "unavailable", Repair("repaired", None, later.capture_id))


def test_an_empty_later_answer_repairs_nothing(archive: Archive) -> None:
    """It was asked for the window, and holds no bar of it."""
    put_lost_bars(archive)
    put_bars(archive, NEXT, lacking=Lacking("no bars"))
    (line,) = lines(archive, "ohlc", now=at(date(2026, 1, 9), 12, 0))
    assert line.repair == Repair("repairable", at(date(2041, 1, 1), 16, 0))


def test_bars_of_one_kind_do_not_repair_those_of_another(archive: Archive) -> None:
    """Nor do minutes of another session: a symbol is repaired once all that is missing of it is there."""
    put_lost_bars(archive, ("daily", "minute"))
    put_bars(archive, date(2026, 1, 7), frequency="minute")
    (line,) = lines(archive, "ohlc", now=at(date(2026, 1, 9), 12, 0))
    assert (line.missing, line.repair) == (2, Repair("repairable", at(date(2041, 1, 1), 16, 0)))
    put_bars(archive, date(2026, 1, 8))
    (line,) = lines(archive, "ohlc", now=at(date(2026, 1, 9), 12, 0))
    assert line.repair == Repair("repairable", at(date(2041, 1, 1), 16, 0)), "those of minutes are lacking still"


def test_minute_bars_are_lost_once_the_source_has_them_no_more(archive: Archive) -> None:
    """Forty-five days after the close; until when they could be had is told."""
    put_lost_bars(archive, ("minute",))
    close = at(DAY, 16, 0)
    (line,) = lines(archive, "ohlc", now=close + timedelta(days=45, seconds=-1))
    assert line.repair == Repair("repairable", close + timedelta(days=45))
    (line,) = lines(archive, "ohlc", now=close + timedelta(days=45))
    assert line.repair == Repair("lost", close + timedelta(days=45), why="the source does not show it any more")


def test_what_the_source_refused_for_good_is_lost(archive: Archive) -> None:
    """It is not asked for again, and that is why."""
    request = options.listing_request("AAPL")
    put(archive, "options", NOON, gaps=[Gap("options", ("AAPL",), "unknown_symbol", "not known", request)])
    (line,) = lines(archive, "options", now=NOON)
    assert line.repair == Repair("lost", why="the source has said for good that it has none")


def damage(path: Path) -> None:
    """Spoil the end of a file."""
    path.write_bytes(path.read_bytes()[:-4] + b"????")


def test_a_damaged_plan_hides_its_own_time_alone(archive: Archive) -> None:
    """What was planned then is unknown, the file is named, and before and after it all is told."""
    for hour, symbols in ((9, ["AAPL"]), (13, ["AAPL", "MSFT"]), (15, ["AAPL", "XOM"])):
        note_plan(plan_of(settings_of(symbols, 60), ["closing", "intraday"], at(DAY, hour, 0)), archive)
    path = archive.captures(NAME)[1].path
    damage(path)
    put_empty_chain(archive, at(DAY, 13, 30))
    ledger = Ledger(archive, now=at(NEXT, 12, 0), goes_back=False)
    found = [line for line in ledger.lines("options", DAY) if line.scheduled_time is not None]
    told = [(f"{line.scheduled_time:%H:%M}", line.symbol, line.is_planned) for line in found if line.scheduled_time]
    assert told == [
        ("15:30", "AAPL", True),
        ("16:30", "AAPL", True),
        ("17:30", "AAPL", True),
        ("18:30", "AAPL", False),  # in the time that is unknown, and captured
        *((due, symbol, True) for due in ("20:30", "20:45", "20:55") for symbol in ("AAPL", "XOM")),
    ]
    assert [error.path for error in ledger.damaged] == [path]
    assert str(ledger.damaged[0]).startswith(f"{path}: footer: ")
    assert Ledger(archive, now=at(NEXT, 12, 0), goes_back=False).damaged == [], "of a day that was not asked about"


def test_a_damaged_capture_is_an_error_of_its_own_instant(archive: Archive) -> None:
    """Its symbols lack it, with the file named; all other instants are told, and one that answers later mends it."""
    note_plan(plan_of(settings_of(["AAPL"]), ["closing"], at(DAY, 9, 0)), archive)
    first = put_quotes(archive, at(DAY, 15, 45), "Normal")
    put_quotes(archive, at(DAY, 15, 55), "Normal")
    damage(first.path)
    ledger = Ledger(archive, now=at(NEXT, 12, 0), goes_back=False)
    lost, captured = ledger.lines("quotes", DAY)
    assert (lost.type, lost.word, lost.detail) == ("error", "CaptureDamagedError", str(ledger.damaged[0]))
    assert captured.type is None
    assert sums([lost, captured]).adds_up
    put_quotes(archive, at(DAY, 15, 45), "Normal")
    assert [line.type for line in lines(archive, "quotes")] == [None, None]


@pytest.mark.parametrize("dataset", ["quotes", "markets"])
def test_damaged_evidence_says_nothing(archive: Archive, dataset: str) -> None:
    """Quotes or hours whose bytes are not as written decide no type, and are named."""
    due = at(DAY, 15, 45)
    capture = put_quotes(archive, due, "Halted") if dataset == "quotes" else put_hours(archive, shut(is_open=False))
    put_empty_chain(archive, due)
    whole = capture.path.read_bytes()
    where = archive.index(capture)[0].offset + 40
    capture.path.write_bytes(whole[:where] + bytes([whole[where] ^ 1]) + whole[where + 1 :])
    ledger = Ledger(archive, now=at(NEXT, 12, 0), goes_back=False)
    assert [line.type for line in ledger.lines("options", DAY)] == ["error"]
    assert [error.path for error in ledger.damaged] == [capture.path]


def test_a_file_of_no_name_is_told_and_nothing_else(archive: Archive) -> None:
    """It belongs to no instant, and keeps nothing from being told."""
    good = put_quotes(archive, at(DAY, 15, 45), "Normal")
    strange = good.path.with_name("copy of a capture.raw")
    strange.write_bytes(b"no capture")
    ledger = Ledger(archive, now=at(NEXT, 12, 0), goes_back=False)
    assert [line.type for line in ledger.lines("quotes", DAY)] == [None]
    assert [error.path for error in ledger.damaged] == [strange]


def test_earlier_damage_keeps_no_chain_from_being_asked(take_all: TakeAll) -> None:
    """Sizes of earlier chains are only remembered: what cannot be read of them is not, and today's chain comes."""
    source = ScriptedSource(at(DAY, 15, 55))
    (outcome,) = take_all(source, Snapshot("options", DAY, source.now, ("AAPL",)))
    damage(outcome.captures[0].path)
    later = ScriptedSource(at(NEXT, 15, 55))
    (outcome,) = take_all(later, Snapshot("options", NEXT, later.now, ("AAPL",)))
    assert (outcome.gaps, [capture.answer_count for capture in outcome.captures]) == ((), [2])
