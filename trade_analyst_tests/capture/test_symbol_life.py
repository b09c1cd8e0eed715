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
    found = sighting(MONDAY, [response(quotes), response(instruments)])
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
    """The last capture of each session of quotes and of instruments; nothing from an empty archive."""
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
