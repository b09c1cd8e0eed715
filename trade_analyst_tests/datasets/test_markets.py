"""Market hours: half days, closed days under the market's own name, spans with offsets, what is rejected."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from wire_bodies import RECEIVED, SESSION, answered, changed, document, payload

from trade_analyst_pipeline.datasets import markets
from trade_analyst_pipeline.market.normalized import Normalized
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.routes import answer
from trade_analyst_pipeline.validation import validate

(REQUEST,) = markets.requests(session_date=SESSION)
HALF_DAY = "markets/half_day.json"


def normalized(*bodies: Any, request: MarketDataRequest = REQUEST, **response: Any) -> Normalized:
    """What the dataset makes of these bodies as one capture."""
    return markets.normalize([answered(request, body, **response) for body in bodies], session_date=SESSION)


def with_stocks(change: Callable[[dict[str, Any]], Any]) -> Normalized:
    """The half day with its entry of stocks changed."""
    return normalized(changed(document(HALF_DAY), lambda body: change(body["equity"]["EQ"])))


def broken(found: Normalized) -> dict[str, int]:
    """How many rows broke each rule that any broke."""
    return {name: count for name, count in validate(found.frame, markets.SCHEMA).rule_counts.items() if count}


def test_one_request_for_all_markets() -> None:
    """All five markets of the session's date are one question; no market, no question."""
    assert (REQUEST.path, REQUEST.symbols) == ("/markets", ("equity", "option", "bond", "future", "forex"))
    assert REQUEST.params == (("markets", "equity,option,bond,future,forex"), ("date", "2026-01-05"))
    assert markets.requests([], session_date=SESSION) == []


def test_half_day() -> None:
    """Stocks and their options close at 13:00 New York, options on indices at 13:15, which are instants in UTC here."""
    found = normalized(payload(HALF_DAY))
    rows = {(row["market"], row["market_product"]): row for row in found.frame.rows(named=True)}
    assert rows["equity", "EQ"] == {
        "market": "equity",
        "market_product": "EQ",
        "session_date": date(2026, 1, 5),
        "snapshot_time": RECEIVED,
        "hours_date": date(2025, 11, 28),
        "market_type": "EQUITY",
        "product_name": "equity",
        "is_open": True,
        "pre_market_open_time": datetime(2025, 11, 28, 12, 0, tzinfo=UTC),
        "pre_market_close_time": datetime(2025, 11, 28, 14, 30, tzinfo=UTC),
        "regular_open_time": datetime(2025, 11, 28, 14, 30, tzinfo=UTC),
        "regular_close_time": datetime(2025, 11, 28, 18, 0, tzinfo=UTC),
        "post_market_open_time": datetime(2025, 11, 28, 18, 0, tzinfo=UTC),
        "post_market_close_time": datetime(2025, 11, 28, 22, 0, tzinfo=UTC),
        "session_hours": (
            "preMarket 2025-11-28T07:00:00-05:00/2025-11-28T09:30:00-05:00; "
            "regularMarket 2025-11-28T09:30:00-05:00/2025-11-28T13:00:00-05:00; "
            "postMarket 2025-11-28T13:00:00-05:00/2025-11-28T17:00:00-05:00"
        ),
    }
    assert rows["option", "IND"]["regular_close_time"] == datetime(2025, 11, 28, 18, 15, tzinfo=UTC)
    assert (found.problems, found.rejected.height, dict(found.counts), broken(found)) == ((), 0, {}, {})


def test_several_spans_of_one_part() -> None:
    """A future's two spans give the first start and the last end, and both stand in the text."""
    row = normalized(payload(HALF_DAY)).frame.row(3, named=True)
    assert (row["market"], row["market_product"]) == ("future", "ES")
    assert row["regular_open_time"] == datetime(2025, 11, 27, 23, 0, tzinfo=UTC)
    assert row["regular_close_time"] == datetime(2025, 11, 28, 18, 15, tzinfo=UTC)
    assert row["session_hours"].count("regularMarket") == 2


def test_closed_day() -> None:
    """On a closed day the product is the market's own name, without hours; the calendar agrees."""
    found = normalized(payload("markets/closed_day.json"))
    row = {name: value for name, value in found.frame.row(0, named=True).items() if value is not None}
    assert row == {
        "market": "equity",
        "market_product": "equity",
        "session_date": SESSION,
        "snapshot_time": RECEIVED,
        "hours_date": date(2026, 1, 3),
        "market_type": "EQUITY",
        "is_open": False,
    }
    assert (dict(found.counts), broken(found)) == ({}, {})


def test_hours_that_differ_from_the_calendar_are_counted() -> None:
    """A close our calendar does not know, and a closed day that it has as a session, are seen."""

    def until_four(entry: dict[str, Any]) -> None:
        entry["sessionHours"]["regularMarket"][0]["end"] = "2025-11-28T16:00:00-05:00"

    assert with_stocks(until_four).counts == {"calendar_differs:equity": 1}
    closed = changed(
        document("markets/closed_day.json"), lambda body: body["equity"]["equity"].update(date="2026-01-05")
    )
    assert normalized(closed).counts == {"calendar_differs:equity": 1}


@pytest.mark.parametrize(
    "hours",
    [
        7,
        "09:30-16:00",
        {"regularMarket": [{"start": "2025-11-28T09:30:00", "end": "2025-11-28T13:00:00"}]},
        {"regularMarket": [{"start": "soon", "end": "later"}]},
        {"regularMarket": [{"start": "2025-11-28T09:30:00-05:00"}]},
        {"regularMarket": [{"start": "0001-01-01T00:00:00+05:00", "end": "2025-11-28T13:00:00-05:00"}]},
    ],
)
def test_hours_that_are_none_are_rejected(hours: Any) -> None:
    """Hours without an offset, without an end, or of another form make the product bad; the others stand."""
    found = with_stocks(lambda entry: entry.update(sessionHours=hours))
    assert found.rejected["rule"].to_list() == ["type_session_hours"]
    assert found.rejected["source"][0].startswith('{"equity": ')
    assert found.frame.height == 4


@pytest.mark.parametrize("hours", [None, {}, {"regularMarket": None}, {"regularMarket": []}])
def test_open_without_hours_is_noticed(hours: Any) -> None:
    """What is open without hours is kept with a warning, as its calendar differs too."""
    found = with_stocks(lambda entry: entry.update(sessionHours=hours))
    assert broken(found) == {"open_without_hours": 1}
    assert found.frame.height == 5


def test_rules() -> None:
    """Hours that end before they start are an error, hours of what is closed a warning."""

    def reversed_hours(entry: dict[str, Any]) -> None:
        span = entry["sessionHours"]["postMarket"][0]
        span["start"], span["end"] = span["end"], span["start"]

    assert broken(with_stocks(reversed_hours)) == {"post_market_hours_reversed": 1}
    assert broken(with_stocks(lambda entry: entry.update(isOpen=False))) == {"closed_with_hours": 1}


def test_what_is_new_is_counted() -> None:
    """A market and a member nobody knew are kept or read past, and seen."""
    body = document(HALF_DAY)
    body["crypto"] = body.pop("bond")
    body["equity"]["EQ"]["x"] = 1
    found = normalized(body)
    assert found.counts == {"unknown_value:market=crypto": 1, "unknown_field:market_product.x": 1}
    assert found.frame.height == 5


def test_repeated_hours_are_rejected() -> None:
    """A member that came twice anywhere below a product makes that product bad."""
    body = payload(HALF_DAY).replace(b'"postMarket": [', b'"preMarket": [], "postMarket": [', 1)
    found = normalized(body)
    assert found.rejected["rule"].to_list() == ["repeated_field"]
    assert "preMarket" in found.rejected["detail"][0]
    assert (found.frame.height, found.counts["tolerant_parse"]) == (4, 1)


def test_product_of_another_form_is_rejected() -> None:
    """A market that is no object, a product without a date, and a name that is no text."""
    found = normalized({"equity": 7, "option": {"EQO": {"product": "EQO", "isOpen": True}}})
    assert found.rejected["rule"].to_list() == ["not_an_object", "missing_hours_date"]
    spoiled = normalized(payload("markets/closed_day.json").replace(b'{"equity": {"', b'{"\xff": {"'))
    assert spoiled.rejected["rule"].to_list() == ["encoding"]


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{}", 200, "no_markets"),
        (b'{"equity": {}}', 200, "no_markets"),
        (b'{"errors": []}', 200, "error_body"),
        (b"[]", 200, "not_an_object"),
        (b"{}", 404, "http_status"),
    ],
)
def test_answers_without_markets_are_problems(body: bytes, status: int, reason: str) -> None:
    """Nothing, a refusal and no object are problems of all the markets asked for."""
    found = normalized(body, status=status)
    assert [(problem.reason, problem.symbols) for problem in found.problems] == [(reason, markets.MARKETS)]


@pytest.mark.parametrize("day", [date(2025, 11, 28), date(2026, 1, 3), date(2026, 1, 5)])
def test_simulator_keeps_the_hours_of_the_calendar(day: date) -> None:
    """A half day, a weekend and a full day of the simulator are read without a complaint."""
    instant = datetime(day.year, day.month, day.day, 17, 0, tzinfo=UTC)
    (request,) = markets.requests(session_date=day)
    made = answer(Market(7), instant, request.path, dict(request.params))
    found = normalized(made.body, request=request, received=instant)
    assert set(found.frame["market"]) == set(markets.MARKETS)
    assert (found.problems, found.rejected.height, dict(found.counts), broken(found)) == ((), 0, {}, {})
