"""Failures on demand, as clients meet them."""

import json
import math
from datetime import UTC, datetime

import httpx
import pytest
from visiting import BEFORE_CLOSE, Visitor

from trade_analyst_pipeline.simulator import faults
from trade_analyst_pipeline.simulator.answers import Answer
from trade_analyst_pipeline.simulator.faults import Ask, Change, FaultPlan

ASKED = {"symbol": "AAPL", "strikeCount": 2, "toDate": "2025-12-31"}


def first_contract(text: str) -> dict[str, object]:
    """The first contract of a chain."""
    return next(faults.contracts_in(json.loads(text)))


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        (faults.rate_limited(), 429, "Too Many Requests"),
        (faults.rate_limited("7"), 429, "Too Many Requests"),
        (faults.server_error(), 500, "Internal Server Error"),
        (faults.body_too_big(), 502, "protocol.http.TooBigBody"),
        (faults.access_denied(), 403, "Access Denied"),
        (faults.html_page(), 200, "<!DOCTYPE html>"),
        (faults.unauthorized(), 401, "Client not authorized"),
        (faults.answered(503, b"down", retry_after="3"), 503, "down"),
    ],
)
def test_whole_answers_are_replaced_once(visitor: Visitor, change: Change, status: int, text: str) -> None:
    """The next matching request gets the failure, the one after it is well again."""
    fault = visitor.server.faults.add(change, path="/chains")
    response = visitor.get("/chains", **ASKED)
    assert (response.status_code, text in response.text) == (status, True)
    assert visitor.get("/chains", **ASKED).json()["status"] == "SUCCESS"
    assert fault.struck == 1


def test_retry_after_is_sent_when_wanted(visitor: Visitor) -> None:
    """429 comes with or without the header."""
    visitor.server.faults.add(faults.rate_limited("7"))
    visitor.server.faults.add(faults.rate_limited())
    assert visitor.get("/chains", **ASKED).headers["retry-after"] == "7"
    assert "retry-after" not in visitor.get("/chains", **ASKED).headers


def test_pages_say_that_they_are_html(visitor: Visitor) -> None:
    """An HTML page has its content type even with status 200."""
    visitor.server.faults.add(faults.html_page())
    assert visitor.get("/chains", **ASKED).headers["content-type"] == "text/html;charset=UTF-8"


def test_a_cut_body_breaks_the_connection(visitor: Visitor) -> None:
    """The client sees fewer bytes than announced; a new connection works."""
    visitor.server.faults.add(faults.cut_body())
    with pytest.raises(httpx.RemoteProtocolError):
        visitor.get("/chains", **ASKED)
    assert visitor.get("/chains", **ASKED).status_code == 200


def test_truncated_json_is_a_complete_answer(visitor: Visitor) -> None:
    """Length and body agree, but the JSON ends early."""
    visitor.server.faults.add(faults.truncated_json(0.9))
    response = visitor.get("/chains", **ASKED)
    assert int(response.headers["content-length"]) == len(response.content)
    with pytest.raises(json.JSONDecodeError):
        response.json()


@pytest.mark.parametrize(
    "fields",
    [{"bid": "12.5"}, {"bidSize": -5}, {"bid": 5.0, "ask": 1.0}, {"volatility": -999.0}, {"exchangeName": "MARS"},
     {"newField": 1}, {"delta": "NaN"}],
)  # fmt: skip
def test_fields_of_a_contract_are_changed(visitor: Visitor, fields: dict[str, object]) -> None:
    """Wrong types, sizes, crossed quotes, sentinels, new values and fields appear in the first contract only."""
    well = visitor.get("/chains", **ASKED).text
    visitor.server.faults.add(faults.contract_fields(**fields))
    ill = visitor.get("/chains", **ASKED).text
    assert first_contract(ill) == first_contract(well) | fields
    others = [list(faults.contracts_in(json.loads(text)))[1:] for text in (well, ill)]
    assert others[0] == others[1]


def test_nan_is_a_bare_token(visitor: Visitor) -> None:
    """NaN stands in the text as no JSON number may."""
    visitor.server.faults.add(faults.contract_fields(count=3, bid=math.nan))
    assert visitor.get("/chains", **ASKED).text.count('"bid":NaN') == 3


def test_fields_can_be_missing_or_doubled(visitor: Visitor) -> None:
    """A field is gone from the first contract, or its key stands twice."""
    visitor.server.faults.add(faults.without_fields("openInterest", "delta"))
    assert {"openInterest", "delta"}.isdisjoint(first_contract(visitor.get("/chains", **ASKED).text))
    before = visitor.get("/chains", **ASKED).text.count('"bid":')
    visitor.server.faults.add(faults.duplicate_key("bid", "0.5"))
    doubled = visitor.get("/chains", **ASKED).text
    assert doubled.count('"bid":') == before + 1
    assert '"bid":0.5,"bid":' in doubled


def test_a_chain_can_be_empty(visitor: Visitor) -> None:
    """Status FAILED, no contracts, still a 200."""
    visitor.server.faults.add(faults.empty_chain())
    body = visitor.json("/chains", **ASKED)
    assert (body["status"], body["numberOfContracts"], body["callExpDateMap"]) == ("FAILED", 0, {})


def test_the_log_in_can_fail_too(visitor: Visitor) -> None:
    """Faults reach the OAuth paths."""
    visitor.server.faults.add(faults.server_error(), path="/v1/oauth/token")
    assert visitor.ask_token(grant_type="refresh_token").status_code == 500


def well() -> Answer:
    """A good answer."""
    return Answer(200, b"{}")


def test_a_fault_strikes_what_it_names() -> None:
    """Path, symbol and instant all have to match; None matches anything."""
    plan, later = FaultPlan(), datetime(2026, 1, 5, 20, 55, tzinfo=UTC)
    plan.add(faults.server_error(), path="/chains", symbol="SPY", instant=BEFORE_CLOSE, times=None)
    for ask in (
        Ask("/quotes", ("SPY",), BEFORE_CLOSE),
        Ask("/chains", ("AAPL",), BEFORE_CLOSE),
        Ask("/chains", ("SPY",), later),
    ):
        assert plan.apply(ask, well()).status == 200
    assert plan.apply(Ask("/chains", ("QQQ", "SPY"), BEFORE_CLOSE), well()).status == 500


def test_a_fault_strikes_as_often_as_told() -> None:
    """Twice means twice; None means always, until cleared; the older fault goes first."""
    plan, ask = FaultPlan(), Ask("/chains")
    plan.add(faults.server_error(), times=2)
    plan.add(faults.access_denied(), times=None)
    assert [plan.apply(ask, well()).status for _ in range(5)] == [500, 500, 403, 403, 403]
    plan.clear()
    assert plan.apply(ask, well()).status == 200
