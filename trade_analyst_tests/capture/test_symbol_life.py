"""The life of a symbol follows from raw answers alone: known, unknown since, delisted, renamed."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from trade_analyst_pipeline.capture.symbol_life import Life, Sighting, lives, sighting, sightings
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive

MONDAY, TUESDAY, WEDNESDAY = (date(2026, 11, day) for day in (23, 24, 25))


def response(body: Any, dataset: str = "quotes", day: date = MONDAY) -> RawResponse:
    """An answer with this body."""
    instant = datetime(day.year, day.month, day.day, 20, tzinfo=UTC)
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return RawResponse(MarketDataRequest(dataset, f"/{dataset}"), 200, text, (), instant, instant)


def test_an_answer_says_who_is_known_and_who_is_not() -> None:
    """Quotes by symbol with their CUSIP, a future under both names, instruments, and the list of unknown symbols."""
    quotes = {
        "AAPL": {"symbol": "AAPL", "reference": {"cusip": "037833100"}},
        "/ESZ26": {"reference": {"product": "/ES"}},
        "errors": {"invalidSymbols": ["FOOBAR", 5]},
    }
    instruments = {"instruments": [{"symbol": "META", "cusip": "30303M102"}, {"symbol": 3}, 4]}
    found = sighting(MONDAY, [response(quotes), response(instruments, "instruments")])
    assert found.known == {"AAPL": "037833100", "/ESZ26": "", "/ES": "", "META": "30303M102"}
    assert found.unknown == {"FOOBAR"}


@pytest.mark.parametrize("body", [b"no json", [1], {"errors": 3}, {"errors": {"invalidSymbols": "X"}}, {"A": 1}])
def test_an_answer_that_cannot_be_read_says_nothing(body: Any) -> None:
    """Whatever came, nothing is raised and nothing concluded."""
    assert sighting(MONDAY, [response(body)]) == Sighting(MONDAY, {}, frozenset())


def test_lives_follow_from_what_sessions_saw() -> None:
    """FB is renamed once its CUSIP answers as META; GONE was known; FOOBAR never was; BACK is known again."""
    seen = [
        Sighting(TUESDAY, {"META": "30303M102"}, frozenset({"FB", "GONE", "FOOBAR", "BACK"})),
        Sighting(MONDAY, {"FB": "30303M102", "GONE": "000000001", "BACK": ""}, frozenset({"FOOBAR"})),
        Sighting(WEDNESDAY, {"META": "30303M102", "BACK": ""}, frozenset({"GONE"})),
    ]
    found = lives(seen)
    assert found["FB"] == Life("FB", "renamed", MONDAY, MONDAY, TUESDAY, "30303M102", "META")
    assert found["GONE"] == Life("GONE", "delisted", MONDAY, MONDAY, TUESDAY, "000000001")
    assert found["FOOBAR"] == Life("FOOBAR", "unknown", unknown_since=MONDAY)
    assert found["BACK"] == Life("BACK", "known", MONDAY, WEDNESDAY)
    assert found["META"] == Life("META", "known", TUESDAY, WEDNESDAY, None, "30303M102")


def test_the_archive_gives_the_sightings(tmp_path: Path) -> None:
    """All sessions of quotes and of instruments; nothing from an empty archive."""
    archive = Archive(tmp_path / "raw")
    assert list(sightings(archive)) == []
    bodies: list[tuple[str, date, Any]] = [
        ("quotes", MONDAY, {"FB": {"reference": {"cusip": "30303M102"}}}),
        ("quotes", TUESDAY, {"errors": {"invalidSymbols": ["FB"]}}),
        ("instruments", TUESDAY, {"instruments": [{"symbol": "META", "cusip": "30303M102"}]}),
    ]
    for dataset, day, body in bodies:
        due = datetime(day.year, day.month, day.day, 20, tzinfo=UTC)
        with archive.begin(dataset=dataset, session_date=day, scheduled_time=due, started_time=due) as writer:
            writer.append(response(body, dataset, day))
            writer.seal(due)
    assert lives(sightings(archive))["FB"].new_symbol == "META"


def put(archive: Archive, dataset: str, minute: int, *answers: tuple[tuple[str, ...], Any]) -> None:
    """A capture of Monday at 20:<minute> UTC: the symbols asked for and the body of each answer."""
    due = datetime(2026, 11, 23, 20, minute, tzinfo=UTC)
    with archive.begin(dataset=dataset, session_date=MONDAY, scheduled_time=due, started_time=due) as writer:
        for symbols, body in answers:
            request = MarketDataRequest(dataset, f"/{dataset}", (("symbols", ",".join(symbols)),), symbols)
            writer.append(RawResponse(request, 200, json.dumps(body).encode(), (), due, due))
        writer.seal(due)


def test_of_each_symbol_the_last_answer_of_the_session_counts(tmp_path: Path) -> None:
    """A late capture of SPY alone leaves what an earlier one said of others; of SPY it counts, and is all that does.

    An answer of which every symbol is asked for again later is not unpacked.
    """
    archive = Archive(tmp_path / "raw")
    old = {"SPY": {"reference": {"cusip": "000000009"}}}
    put(archive, "quotes", 0, (("SPY",), old))
    whole = {"AAPL": {"reference": {"cusip": "037833100"}}, "QQQ": {}, "errors": {"invalidSymbols": ["FB", "SPY"]}}
    put(archive, "quotes", 40, (("AAPL", "FB", "QQQ", "SPY"), whole))
    put(archive, "quotes", 55, (("QQQ", "SPY"), {"SPY": {}, "errors": {"invalidSymbols": ["QQQ"]}}))
    [seen] = sightings(archive)
    assert seen == Sighting(MONDAY, {"AAPL": "037833100", "SPY": ""}, frozenset({"FB", "QQQ"}))


def test_an_answer_to_a_cusip_hides_no_instruments(tmp_path: Path) -> None:
    """Who was found by a CUSIP, which names no symbol, is known beside the instruments asked for before."""
    archive = Archive(tmp_path / "raw")
    put(archive, "instruments", 0, (("AAPL",), {"instruments": [{"symbol": "AAPL", "cusip": "037833100"}]}))
    put(archive, "instruments", 1, ((), {"instruments": [{"symbol": "META", "cusip": "30303M102"}]}))
    [seen] = sightings(archive)
    assert seen.known == {"AAPL": "037833100", "META": "30303M102"}
