"""Which answer a path and its parameters get, refusals included."""

import json
from datetime import UTC, datetime

import pytest
from visiting import BEFORE_CLOSE

from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.routes import answer


@pytest.mark.parametrize(
    ("path", "params", "detail"),
    [
        ("/quotes", {}, "Search combination should have min of 1."),
        ("/quotes", {"symbols": ","}, "Search combination should have min of 1."),
        ("/quotes", {"symbols": ",".join(f"S{n}" for n in range(501))}, "Search combination should not exceed 500."),
        ("/quotes", {"symbols": "AAPL", "fields": "price"},
         "valid fields should be any of all,fundamental,reference,extended,quote,regular or empty value"),
        ("/chains", {}, "symbol is required"),
        ("/chains", {"symbol": "AAPL", "fromDate": "2025-12-10T00:00:00"}, "fromDate must be of format yyyy-MM-dd"),
        ("/chains", {"symbol": "AAPL", "toDate": "2025-13-01"}, "month must be in 1..12"),
        ("/chains", {"symbol": "AAPL", "fromDate": "2025-12-08"}, "fromDate must not be before today"),
        ("/chains", {"symbol": "AAPL", "fromDate": "2025-12-12", "toDate": "2025-12-11"},
         "toDate must not be before fromDate"),
        ("/chains", {"symbol": "AAPL", "contractType": "BOTH"}, "valid values for contractType are: ALL, CALL, PUT"),
        ("/chains", {"symbol": "AAPL", "strikeCount": "0"}, "strikeCount must be a positive whole number"),
        ("/chains", {"symbol": "AAPL", "strikeCount": "many"}, "strikeCount must be a positive whole number"),
        ("/chains", {"symbol": "AAPL", "strike": "-1"}, "strike must be a positive number"),
        ("/chains", {"symbol": "AAPL", "strategy": "BUTTERFLY"}, "strategy BUTTERFLY is not simulated"),
        ("/expirationchain", {}, "symbol is required"),
        ("/pricehistory", {}, "symbol is required"),
        ("/markets", {}, "valid values for markets are: equity, option, bond, future, forex"),
        ("/instruments", {}, "symbol is required"),
        ("/movers/$SPX", {"frequency": "7"}, "valid values for frequency are: 0, 1, 10, 30, 5, 60"),
    ],
)  # fmt: skip
def test_wrong_parameters_are_refused(market: Market, path: str, params: dict[str, str], detail: str) -> None:
    """A 400 in the source's error shape says what is wrong."""
    found = answer(market, BEFORE_CLOSE, path, params)
    (error,) = json.loads(found.body)["errors"]
    assert (found.status, error["status"], error["title"]) == (400, 400, "Bad Request")
    assert detail in error["detail"]


def test_five_hundred_symbols_are_accepted(market: Market) -> None:
    """The limit itself is allowed."""
    found = answer(market, BEFORE_CLOSE, "/quotes", {"symbols": ",".join(f"S{n}" for n in range(500))})
    assert found.status == 200
    assert len(json.loads(found.body)["errors"]["invalidSymbols"]) == 500


@pytest.mark.parametrize(
    "path", ["/ZZZZ/quotes", "/chains?ZZZZ", "/expirationchain?ZZZZ", "/movers/$ABC", "/markets/tulips"]
)
def test_unknown_names_are_not_found(market: Market, path: str) -> None:
    """A 404 with only id, status as text, and title."""
    head, _, symbol = path.partition("?")
    found = answer(market, BEFORE_CLOSE, head, {"symbol": symbol} if symbol else {})
    (error,) = json.loads(found.body)["errors"]
    assert found.status == 404
    assert (error["status"], error["title"]) == ("404", "Not Found")


def test_unknown_routes_are_named(market: Market) -> None:
    """A route that does not exist is answered with the gateway's text."""
    found = answer(market, BEFORE_CLOSE, "/timesales", {})
    assert (found.status, found.body) == (404, b"Requested route ('/timesales') does not exist")


def test_a_chain_over_the_gateways_limit_is_refused(market: Market) -> None:
    """The whole $SPX chain is a 502 TooBigBody; each bounded part of it fits below 10 MB."""
    found = answer(market, BEFORE_CLOSE, "/chains", {"symbol": "$SPX"})
    assert found.status == 502
    assert json.loads(found.body) == {
        "fault": {"faultstring": "Body buffer overflow", "detail": {"errorcode": "protocol.http.TooBigBody"}}
    }
    part = answer(market, BEFORE_CLOSE, "/chains", {"symbol": "$SPX", "toDate": "2025-12-31"})
    assert part.status == 200
    assert 1_000_000 < len(part.body) < 10_000_000


def test_before_the_epoch_there_is_no_market(market: Market) -> None:
    """An instant before 2021 is a 400 that says when the market lives."""
    found = answer(market, datetime(2019, 1, 2, 15, 0, tzinfo=UTC), "/chains", {"symbol": "AAPL"})
    assert found.status == 400
    assert "lives from 2021-01-04" in json.loads(found.body)["errors"][0]["detail"]


def test_a_single_quote_is_the_batch_with_one_key(market: Market) -> None:
    """/{symbol}/quotes answers as /quotes does for that symbol."""
    single = answer(market, BEFORE_CLOSE, "/AAPL/quotes", {"fields": "quote"})
    batch = answer(market, BEFORE_CLOSE, "/quotes", {"symbols": "AAPL", "fields": "quote"})
    assert single.body == batch.body
