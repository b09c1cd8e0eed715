"""Movers: fraction to percent, the change that is none outside market hours, entities, what was asked for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from wire_bodies import RECEIVED, SESSION, answered, changed, document, payload

from trade_analyst_pipeline.datasets import movers
from trade_analyst_pipeline.market.normalized import Normalized
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.routes import answer
from trade_analyst_pipeline.validation import validate

(REQUEST,) = movers.requests(["$SPX"], sorts=["VOLUME"])


def normalized(*bodies: Any, request: MarketDataRequest = REQUEST, **response: Any) -> Normalized:
    """What the dataset makes of these bodies as one capture."""
    return movers.normalize([answered(request, body, **response) for body in bodies], session_date=SESSION)


def with_first(change: Callable[[dict[str, Any]], Any]) -> Normalized:
    """The payload with its first entry changed."""
    return normalized(changed(document("movers/by_volume.json"), lambda body: change(body["screeners"][0])))


def broken(found: Normalized) -> dict[str, int]:
    """How many rows broke each rule that any broke."""
    return {name: count for name, count in validate(found.frame, movers.SCHEMA).rule_counts.items() if count}


def test_one_request_for_each_list_and_order() -> None:
    """Six lists in three orders by default; the window is in the request."""
    assert len(movers.requests()) == 18
    made = movers.requests(["NYSE"], sorts=["TRADES", "VOLUME"], window_minutes=5)
    assert [(request.path, request.params, request.symbols) for request in made] == [
        ("/movers/NYSE", (("sort", "TRADES"), ("frequency", "5")), ("NYSE",)),
        ("/movers/NYSE", (("sort", "VOLUME"), ("frequency", "5")), ("NYSE",)),
    ]


def test_rows_of_a_list() -> None:
    """Every member is a column, the change in percent, with the list, its order, and the place in it."""
    found = normalized(payload("movers/by_volume.json"))
    assert found.frame.row(1, named=True) == {
        "movers_of": "$SPX",
        "sort_order": "VOLUME",
        "window_minutes": 0,
        "place": 2,
        "symbol": "TD",
        "session_date": date(2026, 1, 5),
        "snapshot_time": RECEIVED,
        "description": "S&P TOOLS & DIES 'A'",
        "last": 50.88,
        "net_change": 1.57,
        "net_change_pct": 3.18,
        "change_status": "ok",
        "volume": 750_000,
        "trades": 9_000,
        "market_share_pct": 30.0,
        "list_volume": 2_500_000,
    }
    assert found.frame["net_change_pct"].to_list() == [1.0, 3.18, -5.0]
    assert (found.problems, found.rejected.height, broken(found)) == ((), 0, {})
    assert found.counts == {"html_entity:description": 1}


def test_change_outside_market_hours_is_none() -> None:
    """A change equal to the price says that there was no close to compare with; a true doubling stays."""
    found = normalized(payload("movers/after_hours.json"))
    columns = ["symbol", "last", "net_change", "net_change_pct", "change_status"]
    assert found.frame.select(columns).rows() == [
        ("XYZ", 101.0, None, None, "no_close"),
        ("UP", 8.0, 4.0, 100.0, "ok"),
    ]
    assert found.counts == {"no_close": 1}


def test_change_that_was_not_sent() -> None:
    """Without any change the status says so; a price of 0 is none."""
    found = with_first(lambda entry: [entry.pop("netChange"), entry.pop("netPercentChange"), entry.update(lastPrice=0)])
    row = found.frame.row(0, named=True)
    assert (row["last"], row["net_change"], row["net_change_pct"], row["change_status"]) == (
        None,
        None,
        None,
        "not_sent",
    )
    assert found.counts["sentinel:last"] == 1


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("AT&amp;T INC", "AT&T INC"),
        ("MOODY&#39;S", "MOODY'S"),
        ("MOODY&#x27;S", "MOODY'S"),
        ("AT&T INC", "AT&T INC"),
        ("A&LT B&GT CO", "A&LT B&GT CO"),
        ("X &nosuch; Y", "X &nosuch; Y"),
    ],
)
def test_entities_in_descriptions(sent: str, shown: str) -> None:
    """Complete entities are the characters they stand for; what only looks like one is left alone."""
    assert movers.plain_text(sent) == shown


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"volume": -1}, "negative_volume"),
        ({"trades": -1}, "negative_trades"),
        ({"volume": 2_500_001}, "volume_beyond_list"),
        ({"marketShare": 100.5}, "share_outside_range"),
        ({"netPercentChange": -0.01}, "change_signs_differ"),
    ],
)
def test_rules(change: dict[str, Any], rule: str) -> None:
    """Each rule is broken by what it is about, and by nothing else here."""
    assert broken(with_first(lambda entry: entry.update(change))) == {rule: 1}


def test_bad_entry_leaves_the_others_in_their_places() -> None:
    """An entry that cannot be typed is rejected; the places of the others are those of the list as sent."""
    found = with_first(lambda entry: entry.update(symbol=None))
    assert found.rejected["rule"].to_list() == ["type_symbol"]
    assert found.frame["place"].to_list() == [2, 3]
    assert normalized({"screeners": [7]}).rejected["rule"].to_list() == ["not_an_object"]


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("movers/empty.json", 200, "no_movers"),
        ("movers/not_found.json", 404, "http_status"),
        ("movers/not_found.json", 200, "error_body"),
        ("expirations/list.json", 200, "missing_field"),
    ],
)
def test_answers_without_movers_are_problems(body: str, status: int, reason: str) -> None:
    """No entry, a refusal and another endpoint's answer: each is a problem of the list asked for."""
    found = normalized(payload(body), status=status)
    assert [(problem.reason, problem.symbols) for problem in found.problems] == [(reason, ("$SPX",))]


def test_recording_without_its_request() -> None:
    """What was asked for is unknown, not guessed, where only the body is there."""
    found = normalized(payload("movers/by_volume.json"), request=MarketDataRequest("movers", "import:x", (), ()))
    assert found.frame.select("movers_of", "sort_order", "window_minutes").unique().rows() == [
        ("unknown", "unknown", None)
    ]


def test_simulator_ranks_movers() -> None:
    """Each default request is answered in market hours with true changes."""
    market = Market(7)
    responses = [
        answered(request, answer(market, RECEIVED, request.path, dict(request.params)).body)
        for request in movers.requests()
    ]
    found = movers.normalize(responses, session_date=SESSION)
    assert set(found.frame["movers_of"]) == set(movers.LISTS)
    assert set(found.frame["change_status"]) == {"ok"}
    assert (found.problems, found.rejected.height, broken(found)) == ((), 0, {})
