"""Market hours, instruments and movers as the wire spells them."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from visiting import BEFORE_CLOSE, recording, shape

from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.routes import answer
from trade_analyst_pipeline.simulator.wire_reference import errors_body

MOVER_FIELDS = [
    "description",
    "volume",
    "lastPrice",
    "netChange",
    "marketShare",
    "totalVolume",
    "trades",
    "netPercentChange",
    "symbol",
]


def ask(market: Market, path: str, instant: datetime = BEFORE_CLOSE, **params: str) -> Any:
    """The decoded body of a good request."""
    found = answer(market, instant, path, params)
    assert found.status == 200, found.body
    return json.loads(found.body)


def test_hours_of_an_open_day(market: Market) -> None:
    """Stocks 09:30 to 16:00, index options to 16:15, in New York time, with pre and post market of stocks."""
    body = ask(market, "/markets", markets="equity,option", date="2025-12-10")
    equity = body["equity"]["EQ"]
    assert equity["isOpen"] is True
    assert equity["sessionHours"] == {
        "preMarket": [{"start": "2025-12-10T07:00:00-05:00", "end": "2025-12-10T09:30:00-05:00"}],
        "regularMarket": [{"start": "2025-12-10T09:30:00-05:00", "end": "2025-12-10T16:00:00-05:00"}],
        "postMarket": [{"start": "2025-12-10T16:00:00-05:00", "end": "2025-12-10T20:00:00-05:00"}],
    }
    assert body["option"]["IND"]["sessionHours"]["regularMarket"][0]["end"] == "2025-12-10T16:15:00-05:00"
    assert body["option"]["EQO"]["sessionHours"]["regularMarket"][0]["end"] == "2025-12-10T16:00:00-05:00"


def test_hours_of_a_half_day(market: Market) -> None:
    """On Christmas Eve stocks close at 13:00 and index options at 13:15."""
    body = ask(market, "/markets", markets="equity,option", date="2025-12-24")
    assert body["equity"]["EQ"]["sessionHours"]["regularMarket"][0]["end"] == "2025-12-24T13:00:00-05:00"
    assert body["option"]["IND"]["sessionHours"]["regularMarket"][0]["end"] == "2025-12-24T13:15:00-05:00"


def test_a_closed_day_bears_the_markets_own_name(market: Market) -> None:
    """On a Saturday the product is the market itself, with neither hours nor product name."""
    body = ask(market, "/markets/equity", date="2025-12-13")
    assert body == {
        "equity": {"equity": {"date": "2025-12-13", "marketType": "EQUITY", "product": "equity", "isOpen": False}}
    }


def test_hours_have_the_recorded_shapes(market: Market) -> None:
    """An open and a closed day look like the recorded ones; without a date today's hours are told."""
    opened = recording("markets_equity_option_open_day_2025-07-21.json")
    ours = ask(market, "/markets", markets="equity,option", date="2025-12-10")
    assert shape(ours) == shape(opened)
    assert shape(ask(market, "/markets/equity", date="2025-12-13")) == shape(
        recording("markets_equity_closed_day.json")
    )
    assert ask(market, "/markets/bond")["bond"]["BON"]["date"] == "2025-12-09"


@pytest.mark.parametrize("day", ["2025-12-08", "2027-01-01", "yesterday"])
def test_hours_of_a_date_out_of_reach_are_refused(market: Market, day: str) -> None:
    """Only today up to a year ahead can be asked for."""
    assert answer(market, BEFORE_CLOSE, "/markets/equity", {"date": day}).status == 400


@pytest.mark.parametrize(
    ("projection", "text", "symbols"),
    [
        ("symbol-search", "AAPL,SPY", ["AAPL", "SPY"]),
        ("symbol-regex", "A.*", ["AAPL", "AMZN", "AAAIX"]),
        ("desc-search", "berkshire", ["BRK/B"]),
        ("desc-regex", "^Apple", ["AAPL"]),
        ("search", "500", ["SPY", "$SPX", "/ES"]),
        ("fundamental", "MSFT", ["MSFT"]),
    ],
)
def test_instruments_are_found(market: Market, projection: str, text: str, symbols: list[str]) -> None:
    """Each projection searches in its own way."""
    body = ask(market, "/instruments", symbol=text, projection=projection)
    assert [item["symbol"] for item in body["instruments"]] == symbols


def test_nothing_found_is_an_empty_object(market: Market) -> None:
    """An unknown symbol gives {}; an unknown CUSIP a 404."""
    assert ask(market, "/instruments", symbol="ZZZZ", projection="symbol-search") == {}
    assert answer(market, BEFORE_CLOSE, "/instruments/000000000", {}).status == 404


def test_instruments_have_the_recorded_shapes(market: Market) -> None:
    """By CUSIP, leading zero and all, and with fundamentals the names and types are those recorded."""
    ours = ask(market, "/instruments/037833100")
    assert shape(ours) == shape(recording("instruments_by_cusip_AAPL.json"))
    detailed = ask(market, "/instruments", symbol="AAPL", projection="fundamental")["instruments"][0]
    recorded = recording("instruments_fundamental_AAPL_2024-10-18.json")["instruments"][0]
    optional = {"declarationDate", "nextDividendPayDate", "nextDividendDate"}
    assert set(recorded["fundamental"]) - set(detailed["fundamental"]) <= optional
    for name, value in detailed["fundamental"].items():
        assert shape(value) == shape(recorded["fundamental"][name])


def test_movers_are_sorted_and_share_out_the_volume(market: Market) -> None:
    """At most ten, by volume; shares are percent of the total; the change is a fraction in hours."""
    rows = ask(market, "/movers/$SPX", sort="VOLUME")["screeners"]
    assert 0 < len(rows) <= 10
    assert all(list(row) == MOVER_FIELDS for row in rows)
    volumes = [row["volume"] for row in rows]
    assert volumes == sorted(volumes, reverse=True)
    assert rows[0]["marketShare"] == pytest.approx(100.0 * volumes[0] / rows[0]["totalVolume"], abs=0.006)
    close = market.moment(rows[0]["symbol"], BEFORE_CLOSE).previous_close
    assert rows[0]["netPercentChange"] == pytest.approx(rows[0]["netChange"] / close, abs=0.00006)
    up = ask(market, "/movers/NASDAQ", sort="PERCENT_CHANGE_UP")["screeners"]
    assert [row["netPercentChange"] for row in up] == sorted((row["netPercentChange"] for row in up), reverse=True)
    assert shape(rows[0]) == shape(recording("movers_by_volume_2025-07.json")["screeners"][0])


def test_movers_out_of_hours_show_the_price_as_change(market: Market) -> None:
    """In the evening netChange equals lastPrice and netPercentChange is 1.0, as observed."""
    evening = datetime(2025, 12, 9, 23, 0, tzinfo=UTC)
    for row in ask(market, "/movers/NYSE", evening, sort="TRADES")["screeners"]:
        assert (row["netChange"], row["netPercentChange"]) == (row["lastPrice"], 1.0)


def test_refusals_have_the_shape_of_the_source() -> None:
    """A 404 has its status as text and no detail; others a number, detail and source."""
    (missing,) = errors_body(404, "Not Found")["errors"]
    assert list(missing) == ["id", "status", "title"]
    assert missing["status"] == "404"
    (wrong,) = errors_body(400, "Bad Request", "why", {"parameter": "x"})["errors"]
    assert list(wrong) == ["id", "status", "title", "detail", "source"]
    assert wrong["status"] == 400
