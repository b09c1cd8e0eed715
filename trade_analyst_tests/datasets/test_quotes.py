"""Quotes: batches, one table for all kinds of instrument, unknown symbols, bad entries and bad answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from wire_bodies import RECEIVED, SESSION, answered, changed, document, payload

from trade_analyst_pipeline.datasets import quotes
from trade_analyst_pipeline.market.normalized import Normalized
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.routes import answer
from trade_analyst_pipeline.validation import validate

OPTION = "XYZ   260116C00100000"
ASKED = ("XYZ", "$IDX", OPTION, "/QQ", "NOPE")
REQUEST = MarketDataRequest("quotes", "/quotes", (("symbols", ",".join(ASKED)),), ASKED)


def normalized(*bodies: Any, request: MarketDataRequest = REQUEST, **response: Any) -> Normalized:
    """What the dataset makes of these bodies as one capture."""
    return quotes.normalize([answered(request, body, **response) for body in bodies], session_date=SESSION)


def with_entry(change: Callable[[dict[str, Any]], Any], symbol: str = "XYZ") -> Any:
    """The payload with one entry changed."""
    return changed(document("quotes/several.json"), lambda answer: change(answer[symbol]))


def row(found: Normalized, symbol: str = "XYZ") -> dict[str, Any]:
    """The row of one symbol."""
    return found.frame.filter(symbol=symbol).row(0, named=True)


def given(found: dict[str, Any]) -> dict[str, Any]:
    """The columns of a row that have a value."""
    return {name: value for name, value in found.items() if value is not None}


def test_batches_of_five_hundred_each_symbol_once() -> None:
    """Symbols are asked once, in the order given, at most 500 in one request."""
    asked = [f"S{number}" for number in range(1001)]
    made = quotes.requests([*asked, "S0", "S7"])
    assert [len(request.symbols) for request in made] == [500, 500, 1]
    assert [symbol for request in made for symbol in request.symbols] == asked
    assert made[2].params == (("symbols", "S1000"),)
    assert {request.path for request in made} == {"/quotes"}


def test_row_of_a_stock() -> None:
    """Every block of a stock's entry lands in its own columns, in our units."""
    assert given(row(normalized(payload("quotes/several.json")))) == {
        "symbol": "XYZ",
        "requested_symbol": "XYZ",
        "session_date": date(2026, 1, 5),
        "snapshot_time": RECEIVED,
        "asset_type": "EQUITY",
        "asset_sub_type": "COE",
        "quote_type": "NBBO",
        "is_realtime": True,
        "security_id": 1001,
        "security_status": "Normal",
        "bid": 100.98,
        "ask": 101.02,
        "quote_status": "ok",
        "bid_size": 3,
        "ask_size": 5,
        "bid_time": datetime(2026, 1, 5, 20, 54, 55, 900_000, tzinfo=UTC),
        "ask_time": datetime(2026, 1, 5, 20, 54, 56, tzinfo=UTC),
        "bid_venue": "ARCX",
        "ask_venue": "XNAS",
        "quote_time": datetime(2026, 1, 5, 20, 54, 56, tzinfo=UTC),
        "last": 101.0,
        "last_size": 100,
        "last_venue": "XADF",
        "trade_time": datetime(2026, 1, 5, 20, 54, 55, 500_000, tzinfo=UTC),
        "mark": 101.0,
        "mark_change": 1.0,
        "mark_change_pct": 1.0,
        "net_change": 1.0,
        "net_change_pct": 1.0,
        "open": 100.25,
        "high": 102.0,
        "low": 99.5,
        "previous_close": 100.0,
        "high_52_week": 130.0,
        "low_52_week": 80.0,
        "volume": 1_250_000,
        "post_market_change": 0.0,
        "post_market_change_pct": 0.0,
        "regular_last": 101.0,
        "regular_last_size": 100,
        "regular_net_change": 1.0,
        "regular_net_change_pct": 1.0,
        "regular_trade_time": datetime(2026, 1, 5, 20, 54, 55, 500_000, tzinfo=UTC),
        "extended_bid": 100.9,
        "extended_ask": 101.1,
        "extended_bid_size": 200,
        "extended_ask_size": 300,
        "extended_last": 101.05,
        "extended_last_size": 50,
        "extended_mark": 101.05,
        "extended_volume": 0,
        "extended_quote_time": datetime(2026, 1, 5, 20, 55, tzinfo=UTC),
        "extended_trade_time": datetime(2026, 1, 5, 20, 53, 20, tzinfo=UTC),
        "description": "XYZ CORP",
        "cusip": "012345678",
        "exchange_code": "Q",
        "exchange_name": "NASDAQ",
        "is_shortable": True,
        "is_hard_to_borrow": False,
        "hard_to_borrow_quantity": 1_000_000.0,
        "hard_to_borrow_rate": 0.25,
        "average_volume_10_days": 1_200_000.0,
        "average_volume_1_year": 1_500_000.0,
        "dividend_yield": 0.004,
        "dividend_amount": 0.4,
        "dividend_pay_amount": 0.1,
        "dividend_frequency": 4,
        "dividend_declaration_date": date(2025, 11, 3),
        "dividend_ex_date": date(2025, 11, 14),
        "dividend_pay_date": date(2025, 12, 1),
        "next_dividend_ex_date": date(2026, 2, 13),
        "next_dividend_pay_date": date(2026, 3, 2),
        "last_earnings_date": date(2025, 10, 28),
        "earnings_per_share": 4.2,
        "price_earnings_ratio": 24.05,
        "fund_leverage_factor": 0.0,
    }


def test_index_has_no_quote() -> None:
    """An index has a last price and neither bid nor ask; its quote status is none, and no rule is broken."""
    found = normalized(payload("quotes/several.json"))
    index = given(row(found, "$IDX"))
    assert index["quote_status"] == "none"
    assert index["last"] == 500.0
    assert index.keys().isdisjoint({"bid", "ask", "quote_time", "bid_size"})
    assert not any(validate(found.frame, quotes.SCHEMA).rule_counts.values())


def test_row_of_an_option() -> None:
    """An option's entry gives its terms, its expiration from three numbers, and its Greeks."""
    found = given(row(normalized(payload("quotes/several.json")), OPTION))
    expected = {
        "option_type": "C",
        "strike": 100.0,
        "expiration_date": date(2026, 1, 16),
        "last_trading_date": date(2026, 1, 16),
        "underlying_symbol": "XYZ",
        "underlying_price": 101.0,
        "vendor_implied_volatility": 0.3125,
        "vendor_delta": 0.55012345,
        "open_interest": 900,
        "deliverables": "100 XYZ",
        "multiplier": 100.0,
    }
    assert {name: found[name] for name in expected} == expected


def test_row_of_a_future() -> None:
    """A future's own names for change, multiplier and expiration land in the shared columns."""
    found = given(row(normalized(payload("quotes/several.json")), "/QQH26"))
    expected = {
        "net_change_pct": 0.16694491,
        "multiplier": 50.0,
        "expiration_date": date(2026, 3, 20),
        "is_tradable": True,
        "settlement_price": 5990.0,
        "settle_time": datetime(2026, 1, 5, 0, 0, tzinfo=UTC),
        "tick_size": 0.25,
        "tick_value": 12.5,
        "product": "/QQ",
    }
    assert {name: found[name] for name in expected} == expected


FUTURE: dict[str, Any] = {"assetMainType": "FUTURE", "symbol": "/QQH26", "reference": {"product": "/QQ"}}


def future(symbol: str, **reference: Any) -> dict[str, Any]:
    """The entry of a contract of the product /QQ."""
    return FUTURE | {"symbol": symbol, "reference": FUTURE["reference"] | reference}


def asked(*symbols: str) -> MarketDataRequest:
    """A request for these symbols."""
    (request,) = quotes.requests(symbols)
    return request


@pytest.mark.parametrize(
    ("symbols", "entries", "requested"),
    [
        (("/QQ",), [future("/QQH26")], {"/QQH26": "/QQ"}),
        (("/QQ",), [future("/QQH26", futureIsActive=False)], {"/QQH26": "/QQ"}),
        (("/QQH26",), [future("/QQH26")], {"/QQH26": "/QQH26"}),
        # both asked: the contract in front answers the root, a later one only itself
        (
            ("/QQ", "/QQM26"),
            [future("/QQH26", futureActiveSymbol="/QQH26"), future("/QQM26", futureActiveSymbol="/QQH26")],
            {"/QQH26": "/QQ", "/QQM26": "/QQM26"},
        ),
        (("/QQH26", "/QQ"), [future("/QQH26", futureIsActive=True)], {"/QQH26": "/QQ"}),
        ((), [future("/QQH26")], {"/QQH26": None}),
    ],
)
def test_future_has_both_names(
    symbols: tuple[str, ...], entries: list[dict[str, Any]], requested: dict[str, str | None]
) -> None:
    """A root is answered by the contract in front: `symbol` says which, `requested_symbol` by which name it came."""
    request = asked(*symbols) if symbols else MarketDataRequest("quotes", "/quotes", (), ())
    found = normalized({entry["symbol"]: entry for entry in entries}, request=request)
    assert dict(found.frame.select("symbol", "requested_symbol").rows()) == requested
    assert found.problems == ()


def test_entry_under_the_name_asked_keeps_that_name() -> None:
    """Where the source answers under the name asked for, with another symbol inside, both names are in the row."""
    found = normalized({"/QQ": future("/QQH26", product=None)}, request=asked("/QQ"))
    assert found.frame.select("symbol", "requested_symbol").rows() == [("/QQH26", "/QQ")]
    assert found.problems == ()


def test_root_is_not_answered_by_a_later_contract_that_was_asked_for() -> None:
    """A later contract asked for by its own name does not stand for the root beside it."""
    request = asked("/QQ", "/QQM26")
    found = normalized({"/QQM26": future("/QQM26", futureIsActive=False)}, request=request)
    assert [(problem.reason, problem.symbols) for problem in found.problems] == [("not_answered", ("/QQ",))]


def test_row_of_an_option_on_a_future() -> None:
    """An option on a future has its own names for expiration and settlement, one of them misspelt by the source."""
    entry = {
        "assetMainType": "FUTURE_OPTION",
        "symbol": "./QQH26C6000",
        "quote": {"bidPrice": 10.0, "askPrice": 10.5, "settlemetPrice": 9.75, "tick": 0.05, "tickAmount": 2.5},
        "reference": {
            "contractType": "C",
            "expirationDate": 1773982800000,
            "expirationStyle": "E",
            "multiplier": 50.0,
            "strikePrice": 6000.0,
            "underlying": "/QQH26",
        },
    }
    found = normalized({"./QQH26C6000": entry}, request=asked("./QQH26C6000"))
    expected = {
        "option_type": "C",
        "strike": 6000.0,
        "expiration_date": date(2026, 3, 20),
        "expiration_style": "E",
        "settlement_price": 9.75,
        "multiplier": 50.0,
        "underlying_symbol": "/QQH26",
        "tick_size": 0.05,
        "tick_value": 2.5,
    }
    seen = row(found, "./QQH26C6000")
    assert {name: seen[name] for name in expected} == expected
    assert not any(name.startswith("unknown") for name in found.counts)


def test_left_out_are_the_symbols_neither_answered_nor_unknown() -> None:
    """Of five asked one is listed as unknown and four are answered; without its entry one is left out."""
    assert quotes.left_out(answered(REQUEST, payload("quotes/several.json"))) == ()
    short = changed(document("quotes/several.json"), lambda answer: answer.pop("$IDX"))
    assert quotes.left_out(answered(REQUEST, short)) == ("$IDX",)
    assert quotes.left_out(answered(REQUEST, b"<html>")) == ()


def test_unknown_symbol_is_a_problem_of_that_symbol_alone() -> None:
    """A symbol listed under errors is reported; the others have rows, a future asked for by its root among them."""
    found = normalized(payload("quotes/several.json"))
    assert [(problem.reason, problem.symbols) for problem in found.problems] == [("unknown_symbol", ("NOPE",))]
    assert found.frame["symbol"].to_list() == ["XYZ", "$IDX", OPTION, "/QQH26"]


def test_symbol_left_out_without_a_word_is_a_problem() -> None:
    """A symbol that is neither answered nor listed as unknown is reported too."""
    answer = changed(document("quotes/several.json"), lambda answer: answer.pop("$IDX"))
    assert ("not_answered", ("$IDX",)) in [(problem.reason, problem.symbols) for problem in normalized(answer).problems]


def test_answer_of_nothing_but_unknown_symbols_has_no_rows() -> None:
    """When every symbol is unknown the response is sound, has no row and one problem."""
    found = normalized(
        {"errors": {"invalidSymbols": ["NOPE"]}}, request=MarketDataRequest("quotes", "/quotes", (), ("NOPE",))
    )
    assert found.frame.is_empty()
    assert [problem.reason for problem in found.problems] == ["unknown_symbol"]


@pytest.mark.parametrize(
    ("bid", "ask", "status"),
    [(101.0, 101.02, "ok"), (0.0, 101.02, "no_bid"), (101.05, 101.02, "crossed"), (101.02, 101.02, "locked")],
)
def test_quote_status(bid: float, ask: float, status: str) -> None:
    """The state of a stock's quote follows from its bid and ask."""
    found = normalized(with_entry(lambda entry: entry["quote"].update(bidPrice=bid, askPrice=ask)))
    assert row(found)["quote_status"] == status
    assert found.counts.get("crossed_quote", 0) == (status == "crossed")


def test_index_option_quotes_are_fresh_until_their_own_close() -> None:
    """Options on an index trade until 16:15: a quote of 16:05 is fresh at 16:19, one on a stock of 15:44 is not."""

    def put(entry: dict[str, Any], underlying: str, quoted: datetime) -> None:
        entry["reference"]["underlying"] = underlying
        entry["quote"]["quoteTime"] = int(quoted.timestamp() * 1000)

    received = datetime(2026, 1, 5, 21, 19, tzinfo=UTC)
    late = with_entry(lambda entry: put(entry, "$IDX", datetime(2026, 1, 5, 21, 5, tzinfo=UTC)), OPTION)
    early = with_entry(lambda entry: put(entry, "XYZ", datetime(2026, 1, 5, 20, 44, tzinfo=UTC)), OPTION)
    assert row(normalized(late, received=received), OPTION)["quote_status"] == "ok"
    assert row(normalized(early, received=received), OPTION)["quote_status"] == "stale"


def test_volatility_of_a_stock_is_not_an_implied_one() -> None:
    """Only an option has an implied volatility; a stock's field of the same name is not taken for one."""
    found = normalized(with_entry(lambda entry: entry["quote"].update(volatility=25.0)))
    assert row(found)["vendor_implied_volatility"] is None


def test_absurd_volatility_is_null_and_counted() -> None:
    """1318 % of a deep option on its last day is no volatility."""
    found = normalized(with_entry(lambda entry: entry["quote"].update(volatility=1318.9), OPTION))
    assert row(found, OPTION)["vendor_implied_volatility"] is None
    assert found.counts["sentinel:vendor_implied_volatility"] == 1


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda entry: entry["quote"].update(bidPrice="100"), "type_bid"),
        (lambda entry: entry["quote"].update(lastPrice=float("nan")), "not_finite_last"),
        (lambda entry: entry["reference"].update(cusip=12345678), "type_cusip"),
        (lambda entry: entry["fundamental"].update(eps={}), "type_earnings_per_share"),
        (lambda entry: entry.update(quote=[1]), "not_an_object"),
        (lambda entry: entry.pop("assetMainType"), "missing_asset_type"),
        (lambda entry: entry.pop("symbol"), "missing_symbol"),
    ],
)
def test_entry_that_cannot_be_typed_is_rejected_alone(change: Callable[[Any], Any], rule: str) -> None:
    """A wrong block costs its own symbol's row only; the row rejected is named by the key it stood under."""
    found = normalized(with_entry(change))
    assert found.frame.height == 3
    assert found.rejected.select("symbol", "rule").rows() == [("XYZ", rule)]
    assert json.loads(found.rejected["source"][0]).keys() >= {"quote", "regular"}


def test_entry_that_is_no_object_is_rejected() -> None:
    """A number where an entry belongs is rejected under its key."""
    found = normalized(document("quotes/several.json") | {"XYZ": 7})
    assert found.rejected.select("symbol", "rule").rows() == [("XYZ", "not_an_object")]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda entry: entry["quote"].update(bidSize=-1), "negative_bid_size"),
        (lambda entry: entry["quote"].update(askSize=-1), "negative_ask_size"),
        (lambda entry: entry["quote"].update(lastSize=-1), "negative_last_size"),
        (lambda entry: entry["quote"].update(totalVolume=-1), "negative_volume"),
        (lambda entry: entry["quote"].update(openInterest=-1), "negative_open_interest"),
        (lambda entry: entry["quote"].update(highPrice=99.0), "high_below_low"),
        (lambda entry: entry["reference"].update(strikePrice=-5.0), "strike_not_positive"),
        (lambda entry: entry["reference"].update(contractType="X"), "unknown_option_type"),
    ],
)
def test_row_that_contradicts_itself_is_quarantined(change: Callable[[Any], Any], rule: str) -> None:
    """A typed row that breaks a rule goes to quarantine with that rule alone."""
    found = validate(normalized(with_entry(change)).frame, quotes.SCHEMA)
    assert found.quarantined.select("symbol", "broken_rules").rows() == [("XYZ", [rule])]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda entry: entry["quote"].update({"52WeekHigh": 70.0}), "year_range_disordered"),
        (lambda entry: entry["quote"].update(mark=102.0), "mark_outside_quote"),
    ],
)
def test_vendor_error_is_a_warning(change: Callable[[Any], Any], rule: str) -> None:
    """What vendors get wrong now and then is counted and the row kept."""
    found = validate(normalized(with_entry(change)).frame, quotes.SCHEMA)
    assert found.valid.height == 4
    assert {name for name, count in found.rule_counts.items() if count} == {rule}


def test_new_field_and_new_value_are_counted() -> None:
    """A field in any block that nobody declared is counted by block; so is a kind of asset not known so far."""

    def add(answer: Any) -> None:
        answer["XYZ"]["quote"]["mood"] = "good"
        answer["XYZ"]["regular"]["mood"] = "good"
        answer["XYZ"]["novel"] = {"block": 1}
        answer["$IDX"]["assetMainType"] = "WEATHER"
        answer["$IDX"]["quote"]["mood"] = "bad"

    found = normalized(changed(document("quotes/several.json"), add))
    assert {name: count for name, count in found.counts.items() if name.startswith("unknown")} == {
        "unknown_field:quote.mood": 2,
        "unknown_field:regular.mood": 1,
        "unknown_field:entry.novel": 1,
        "unknown_value:asset_type=WEATHER": 1,
    }
    assert row(found, "$IDX")["asset_type"] == "WEATHER"
    assert "tolerant_parse" not in found.counts


def test_tolerant_path_counts_new_fields_alike() -> None:
    """The slow path sees the same new fields as the fast one."""
    body = json.dumps(with_entry(lambda entry: entry["quote"].update(mood="good"))).encode()
    slow = normalized(body.replace(b'"eps": 4.2', b'"eps": NaN', 1))
    assert slow.counts["unknown_field:quote.mood"] == 1
    assert slow.rejected["rule"].to_list() == ["not_finite_earnings_per_share"]


def test_tolerant_path_gives_the_same_rows() -> None:
    """When one entry forces the slow path, the other rows are what the fast path makes of them."""
    slow = normalized(with_entry(lambda entry: entry["quote"].update(bidPrice="100")))
    assert slow.counts["tolerant_parse"] == 1
    fast = normalized(changed(document("quotes/several.json"), lambda answer: answer.pop("XYZ")))
    assert slow.frame.equals(fast.frame)


def test_symbol_answered_twice_hides_no_row() -> None:
    """When a symbol's key comes twice both entries are offered, and as two different rows of one key both fall."""
    twice = document("quotes/several.json")
    other = changed(twice["XYZ"], lambda entry: entry["quote"].update(lastPrice=100.5))
    body = json.dumps(twice).encode().replace(b'"$IDX":', b'"XYZ": ' + json.dumps(other).encode() + b', "$IDX":', 1)
    found = validate(normalized(body).frame, quotes.SCHEMA)
    assert found.quarantined.select("symbol", "broken_rules").rows() == [("XYZ", ["duplicate_key"])] * 2


def test_field_that_comes_twice_is_rejected_by_the_tolerant_path() -> None:
    """An entry whose symbol comes twice is not read as either of them once the slow path looks at it."""
    body = payload("quotes/several.json").replace(b'"symbol": "XYZ"', b'"symbol": "ABC", "symbol": "XYZ"', 1)
    found = normalized(body.replace(b'"$IDX": {', b'"BAD": 7, "$IDX": {', 1))
    assert found.rejected.select("symbol", "rule").rows() == [("XYZ", "repeated_field"), ("BAD", "not_an_object")]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (payload("quotes/access_denied.html"), "html"),
        (payload("quotes/not_found.json"), "error_body"),
        (payload("quotes/several.json")[:500], "truncated"),
        (b"{}", "no_quotes"),
        (b"[1]", "not_an_object"),
        (b'{"message": "down"}', "error_body"),
        (b" ", "empty_body"),
        (b'{"a":' * 100_000, "nested_too_deep"),
    ],
)
def test_unusable_response_is_a_problem(body: bytes, reason: str) -> None:
    """A response without quotes is reported with its reason and all its symbols."""
    found = normalized(body)
    assert [(problem.reason, problem.symbols) for problem in found.problems] == [(reason, ASKED)]
    assert found.frame.is_empty()


def test_error_status_is_a_problem() -> None:
    """A body under another status than 200 is not read."""
    assert normalized(payload("quotes/several.json"), status=500).problems[0].reason == "http_status"


def test_no_response_makes_an_empty_table_of_the_schema() -> None:
    """Without responses there are no rows, and the columns still have their types."""
    assert normalized().frame.schema == quotes.SCHEMA.polars_schema


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("2024-08-12T04:00:00Z", date(2024, 8, 12)),
        ("2024-12-12T05:00:00Z", date(2024, 12, 12)),
        ("soon", None),
        ("", None),
    ],
)
def test_dates_of_dividends_are_new_york_dates(stated: str, expected: date | None) -> None:
    """Midnight in New York, told in UTC, is the date there; a text that is no date is null and counted."""
    found = normalized(with_entry(lambda entry: entry["fundamental"].update(divExDate=stated)))
    assert row(found)["dividend_ex_date"] == expected
    assert found.counts.get("sentinel:dividend_ex_date", 0) == (expected is None)


# -- repeated fields -------------------------------------------------------------------------------------------------


def twice(field: str, *, times: int = 1) -> bytes:
    """The payload with a field stated twice where it comes first."""
    return payload("quotes/several.json").replace(
        f'"{field}":'.encode(), f'"{field}": null, "{field}":'.encode(), times
    )


@pytest.mark.parametrize("field", ["symbol", "ssid", "bidPrice", "volatility", "cusip", "peRatio", "totalVolume"])
def test_any_repeated_field_costs_its_entry(field: str) -> None:
    """An entry that states one of its fields twice is rejected, though a decoder would quietly take the last."""
    found = normalized(twice(field))
    assert found.rejected["rule"].to_list() == ["repeated_field"]
    assert found.rejected["detail"].to_list() == [f"more than once: {field}"]
    assert found.frame.height == 3
    assert {name: n for name, n in found.counts.items() if name.startswith(("unknown", "tol"))} == {"tolerant_parse": 1}


def test_repeated_block_costs_its_entry() -> None:
    """Two quotes of one entry cannot both be meant; the quarantined text shows both."""
    body = payload("quotes/several.json").replace(b'"quote": {', b'"quote": {"bidPrice": 7.5}, "quote": {', 1)
    found = normalized(body)
    assert found.rejected.select("symbol", "rule", "detail").rows() == [
        ("XYZ", "repeated_field", "more than once: quote")
    ]
    assert '"bidPrice": 7.5' in found.rejected["source"][0]
    assert '"bidPrice": 100.98' in found.rejected["source"][0]


def test_nulls_new_fields_and_texts_like_keys_are_no_repeats() -> None:
    """A field sent as null, one nobody declared, and a text that looks like a key leave every row in place."""

    def change(entry: dict[str, Any]) -> None:
        entry["quote"] |= {"askSize": None, "new": {"a": [{"b": 1}]}}
        entry["reference"]["description"] = 'say "bid": 1'
        entry["fundamental"] = None

    found = normalized(with_entry(change))
    assert found.frame.height == 4
    assert found.rejected.is_empty()
    assert found.counts["unknown_field:quote.new"] == 1
    assert "tolerant_parse" not in found.counts


# -- simulated -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "instant", [datetime(2025, 12, 9, 20, 55, tzinfo=UTC), datetime(2025, 12, 9, 23, 30, tzinfo=UTC)]
)
def test_simulated_quotes_are_all_valid(instant: datetime) -> None:
    """The simulator's answer, before the close and in the evening, has no rejected and no quarantined row."""
    symbols = ("AAPL", "SPY", "BRK/B", "$SPX", "AAAIX", "/ESZ25", "EUR/USD", "NOPE")
    (request,) = quotes.requests(symbols)
    body = answer(Market(7), instant, request.path, dict(request.params)).body
    found = quotes.normalize([answered(request, body, received=instant)], session_date=date(2025, 12, 9))
    judged = validate(found.frame, quotes.SCHEMA)
    assert sorted(judged.valid["symbol"]) == sorted(set(symbols) - {"NOPE"})
    assert (found.rejected.height, judged.quarantined.height) == (0, 0)
    assert [(problem.reason, problem.symbols) for problem in found.problems] == [("unknown_symbol", ("NOPE",))]


@pytest.mark.parametrize("year", [-2026, 0, 20_260, 1])
def test_year_of_no_calendar_is_no_expiration(year: int) -> None:
    """An option that expires in a year without four digits has no expiration date, and can be read back."""
    found = normalized(with_entry(lambda entry: entry["reference"].update(expirationYear=year), OPTION))
    assert row(found, OPTION)["expiration_date"] is None


@pytest.mark.parametrize("place", [("quote", "securityStatus"), ("reference", "description")])
def test_bare_nan_is_no_text(place: tuple[str, str]) -> None:
    """NaN where a text belongs makes the row bad, and is not kept as a text that says NaN."""
    block, name = place
    found = normalized(with_entry(lambda entry: entry[block].update({name: float("nan")})))
    assert [rule.partition("_")[0] for rule in found.rejected["rule"]] == ["not"]


def test_bad_entry_under_a_key_that_is_no_utf8_is_rejected() -> None:
    """The name it is rejected under has the byte written out."""
    body = json.dumps(with_entry(lambda entry: entry["quote"].update(bidPrice="x"))).encode()
    found = normalized(body.replace(b'"XYZ": {', b'"X\xd5": {', 1))
    assert found.rejected["symbol"].to_list() == ["X\\udcd5"]
