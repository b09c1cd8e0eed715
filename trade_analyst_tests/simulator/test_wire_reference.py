"""Market hours, instruments and movers as the wire spells them."""

import json
from datetime import UTC, datetime, timedelta
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
        ("symbol-regex", "A.*", ["AAPL", "AMZN", "AAAIX", "ARM"]),
        ("symbol-regex", "SY000[12]", ["SY0001", "SY0002"]),
        ("symbol-search", "SY0777,/ES,ZZZZ,AAPL,AAPL", ["SY0777", "/ES", "AAPL"]),
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


@pytest.mark.parametrize(("former", "since", "now"), [("FB", "2022-06-09", "META"), ("SQ", "2025-01-21", "XYZ")])
def test_a_renamed_company_is_known_by_the_name_of_the_day(market: Market, former: str, since: str, now: str) -> None:
    """Up to the day before by the old name only, from the day on by the new one only; the prices are one company's."""
    day = datetime.fromisoformat(f"{since}T15:00:00+00:00")
    for instant, known, unknown in ((day - timedelta(days=1), former, now), (day, now, former)):
        body = ask(market, "/quotes", instant, symbols=f"{former},{now}")
        assert (set(body), body["errors"]) == ({known, "errors"}, {"invalidSymbols": [unknown]})
        found = ask(market, "/instruments", instant, symbol=f"{former},{now}", projection="symbol-search")
        assert [item["symbol"] for item in found["instruments"]] == [known]
        assert answer(market, instant, "/chains", {"symbol": unknown}).status == 404
        assert answer(market, instant, "/expirationchain", {"symbol": unknown}).status == 404
        asked = {"periodType": "month", "frequencyType": "daily"}
        assert ask(market, "/pricehistory", instant, symbol=unknown, **asked)["empty"] is True
        assert len(ask(market, "/pricehistory", instant, symbol=known, **asked)["candles"]) >= 18
    assert market.path(former) is market.path(now)


def test_a_delisted_company_is_gone(market: Market) -> None:
    """TWTR trades to 27 October 2022 and is unknown from the next day on, by symbol, CUSIP and contract."""
    last, after = datetime(2022, 10, 27, 15, tzinfo=UTC), datetime(2022, 10, 28, 15, tzinfo=UTC)
    (contract, *_) = market.contracts("TWTR", last)["option_symbol"]
    assert set(ask(market, "/quotes", last, symbols=f"TWTR,{contract}")) == {"TWTR", contract}
    assert ask(market, "/quotes", after, symbols=f"TWTR,{contract}") == {
        "errors": {"invalidSymbols": ["TWTR", contract]}
    }
    assert ask(market, "/instruments/90184L102", last)["instruments"][0]["symbol"] == "TWTR"
    assert answer(market, after, "/instruments/90184L102", {}).status == 404


def test_history_begins_with_the_first_day_of_trading(market: Market) -> None:
    """ARM's first bar is of 14 September 2023, and the day before nothing is known of it."""
    body = ask(market, "/pricehistory", symbol="ARM", periodType="year", period="5", frequencyType="daily")
    assert body["candles"][0]["datetime"] == datetime(2023, 9, 14, 5, tzinfo=UTC).timestamp() * 1000
    before = datetime(2023, 9, 13, 15, tzinfo=UTC)
    assert ask(market, "/quotes", before, symbols="ARM") == {"errors": {"invalidSymbols": ["ARM"]}}


def test_a_pattern_that_is_none_is_refused(market: Market) -> None:
    """An unclosed bracket is a 400, not a failure."""
    for projection in ("symbol-regex", "desc-regex"):
        found = answer(market, BEFORE_CLOSE, "/instruments", {"symbol": "[", "projection": projection})
        assert (found.status, "no pattern" in found.body.decode()) == (400, True)


def test_options_move_too(market: Market) -> None:
    """Lists of calls and of puts hold ten contracts each by volume, in the shape of stocks; all of both in one."""
    calls = ask(market, "/movers/OPTION_CALL", sort="VOLUME")["screeners"]
    puts = ask(market, "/movers/OPTION_PUT", sort="VOLUME")["screeners"]
    both = ask(market, "/movers/OPTION_ALL", sort="VOLUME")["screeners"]
    assert [len(rows) for rows in (calls, puts, both)] == [10, 10, 10]
    assert {row["symbol"][12] for row in calls} == {"C"}
    assert {row["symbol"][12] for row in puts} == {"P"}
    assert [row["volume"] for row in both] == sorted((row["volume"] for row in calls + puts), reverse=True)[:10]
    top = ask(market, "/quotes", symbols=calls[0]["symbol"])[calls[0]["symbol"]]
    assert (top["quote"]["totalVolume"], top["quote"]["lastPrice"]) == (calls[0]["volume"], calls[0]["lastPrice"])
    assert list(calls[0]) == MOVER_FIELDS


def test_movers_of_a_list_without_members_are_none(market: Market) -> None:
    """Nothing here trades over the counter."""
    assert ask(market, "/movers/OTCBB", sort="VOLUME") == {"screeners": []}


def test_movers_descriptions_are_cut_and_escaped(market: Market) -> None:
    """Twenty characters of the name in upper case; an ampersand is an HTML entity."""
    rows = {row["symbol"]: row["description"] for row in ask(market, "/movers/NYSE", sort="VOLUME")["screeners"]}
    assert rows["JPM"] == "JPMORGAN CHASE &amp; CO"
    assert rows["BRK/B"] == "BERKSHIRE HATHAWAY C"


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
    assert list(recorded["fundamental"]) == list(detailed["fundamental"])
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
