"""Option chains: requests, the fields of a row, stand-ins for missing values, and every kind of bad answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from wire_bodies import RECEIVED, SESSION, answered, changed, document, payload

from trade_analyst_pipeline.datasets import options
from trade_analyst_pipeline.market.normalized import Normalized
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.validation import Validated, validate

EXPIRY = "2026-01-16:11"
REQUEST = options.requests(["XYZ"])[0]


def normalized(*bodies: Any, request: MarketDataRequest = REQUEST, **response: Any) -> Normalized:
    """What the dataset makes of these bodies as one capture."""
    return options.normalize([answered(request, body, **response) for body in bodies], session_date=SESSION)


def judged(*bodies: Any, **response: Any) -> Validated:
    """The same, judged by the schema."""
    return validate(normalized(*bodies, **response).frame, options.SCHEMA)


def contract(chain: Any, side: str = "call", strike: str = "100.0") -> dict[str, Any]:
    """One contract of a chain document."""
    found: dict[str, Any] = chain[f"{side}ExpDateMap"][EXPIRY][strike][0]
    return found


def with_contract(change: Callable[[dict[str, Any]], Any]) -> Any:
    """The payload's chain with its first call changed."""
    return changed(document("options/chain.json"), lambda chain: change(contract(chain)))


def first(found: Normalized) -> dict[str, Any]:
    """The row of the first call."""
    return found.frame.row(0, named=True)


# -- requests --------------------------------------------------------------------------------------------------------


def test_full_chain_is_asked_with_the_underlying_and_without_bounds() -> None:
    """A full chain names the symbol as Schwab spells it and asks for the underlying's quote."""
    full = options.requests(["BRK/B", "$SPX"])
    assert [request.symbols for request in full] == [("BRK/B",), ("$SPX",)]
    assert full[0].path == "/chains"
    assert full[0].params == (("symbol", "BRK/B"), ("includeUnderlyingQuote", "true"))


def test_bounded_chain_states_its_bounds_as_plain_dates() -> None:
    """Bounds become strikeCount, fromDate and toDate."""
    (request,) = options.requests(
        ["XYZ"], strike_count=15, first_expiration=date(2026, 1, 6), last_expiration=date(2026, 3, 6)
    )
    assert request.param("strikeCount") == "15"
    assert request.param("fromDate") == "2026-01-06"
    assert request.param("toDate") == "2026-03-06"


def test_split_halves_the_window_of_a_request() -> None:
    """The two parts of a request have adjoining windows and everything else in common."""
    (whole,) = options.requests(
        ["XYZ"], strike_count=5, first_expiration=date(2026, 1, 6), last_expiration=date(2026, 1, 9)
    )
    near, far = options.split(whole, session_date=SESSION)
    assert (near.param("fromDate"), near.param("toDate")) == ("2026-01-06", "2026-01-07")
    assert (far.param("fromDate"), far.param("toDate")) == ("2026-01-08", "2026-01-09")
    assert near.param("strikeCount") == far.param("strikeCount") == "5"
    assert near.symbols == far.symbols == ("XYZ",)


def test_split_refuses_a_request_it_did_not_make() -> None:
    """A query with another parameter cannot be split without changing its meaning."""
    request = MarketDataRequest("options", "/chains", (("symbol", "XYZ"), ("strategy", "VERTICAL")), ("XYZ",))
    with pytest.raises(ValueError, match="cannot be split"):
        options.split(request, session_date=SESSION)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"isChainTruncated": true}', True),
        (b'{"isChainTruncated": false}', False),
        (b'{"isChainTruncated": "yes"}', False),
        (b"{}", False),
        (b"<html>", False),
        (b'{"isChainTruncated": tr', False),
        (b"[" * 100_000, False),
    ],
)
def test_cut_short_only_when_the_source_says_so(body: bytes, expected: bool) -> None:
    """Only a true mark in a readable body says that contracts were left out."""
    assert options.is_cut_short(answered(REQUEST, body)) is expected


# -- a good chain ----------------------------------------------------------------------------------------------------


def test_row_of_a_traded_call() -> None:
    """Each column of a row holds the value written in the payload, in our units."""
    row = first(normalized(payload("options/chain.json")))
    assert row == {
        "symbol": "XYZ",
        "option_symbol": "XYZ   260116C00100000",
        "session_date": date(2026, 1, 5),
        "snapshot_time": RECEIVED,
        "chain_scope": "full",
        "option_root": "XYZ",
        "option_type": "C",
        "expiration_date": date(2026, 1, 16),
        "expiration_time": datetime(2026, 1, 16, 21, 0, tzinfo=UTC),
        "last_trading_date": date(2026, 1, 16),
        "days_to_expiration": 11,
        "strike": 100.0,
        "bid": 4.1,
        "ask": 4.3,
        "quote_status": "ok",
        "last": 4.25,
        "mark": 4.2,
        "bid_size": 12,
        "ask_size": 8,
        "last_size": 3,
        "open": None,
        "high": 4.6,
        "low": 3.9,
        "previous_close": 4.0,
        "net_change": 0.25,
        "net_change_pct": 6.25,
        "mark_change": 0.2,
        "mark_change_pct": 5.0,
        "volume": 150,
        "open_interest": 900,
        "quote_time": datetime(2026, 1, 5, 20, 54, 55, tzinfo=UTC),
        "trade_time": datetime(2026, 1, 5, 20, 0, tzinfo=UTC),
        "vendor_implied_volatility": 0.3125,
        "vendor_delta": 0.55,
        "vendor_gamma": 0.04,
        "vendor_theta": -0.06,
        "vendor_vega": 0.07,
        "vendor_rho": 0.015,
        "vendor_theoretical_value": 4.19,
        "vendor_theoretical_volatility": 0.29,
        "intrinsic_value": 1.0,
        "extrinsic_value": 3.25,
        "time_value": 3.25,
        "high_52_week": 9.5,
        "low_52_week": 2.15,
        "multiplier": 100.0,
        "settlement_type": "P",
        "expiration_type": "S",
        "exercise_type": "A",
        "is_in_the_money": True,
        "is_non_standard": False,
        "is_mini": False,
        "is_penny_pilot": True,
        "deliverables": "100 XYZ STOCK",
        "deliverable_note": "100 XYZ",
        "description": "XYZ 01/16/2026 100.00 C",
        "exchange_name": "OPR",
        "underlying_price": 101.0,
        "underlying_bid": 100.98,
        "underlying_ask": 101.02,
        "underlying_last": 101.0,
        "underlying_mark": 101.0,
        "underlying_quote_time": datetime(2026, 1, 5, 20, 54, 56, tzinfo=UTC),
        "underlying_asset_type": "EQUITY",
        "underlying_asset_sub_type": "COE",
        "interest_rate": 0.045,
        "dividend_yield": 0.004,
        "is_index": False,
        "is_delayed": False,
    }


def test_good_chain_breaks_no_rule() -> None:
    """All four contracts of the payload are valid and not one rule, warnings included, is broken."""
    found = judged(payload("options/chain.json"))
    assert found.valid.height == 4
    assert found.valid["option_type"].to_list() == ["C", "C", "P", "P"]
    assert {name for name, count in found.rule_counts.items() if count} == set()


def test_contract_without_a_trade_has_no_prices_of_trades() -> None:
    """Zeros of an untraded contract become null, not prices; its quote stands."""
    row = normalized(payload("options/chain.json")).frame.row(1, named=True)
    assert row["bid"] == 1.75
    assert [row[name] for name in ("last", "high", "low", "trade_time")] == [None] * 4
    assert row["volume"] == 0


def test_several_responses_make_one_table_with_their_own_headers() -> None:
    """Rows keep the symbol, time and underlying of the response they came in."""
    other = changed(document("options/chain.json"), lambda chain: chain.update(symbol="ABC", underlyingPrice=55.0))
    responses = [
        answered(REQUEST, payload("options/chain.json")),
        answered(options.requests(["ABC"])[0], other, received=RECEIVED + timedelta(seconds=1)),
    ]
    frame = options.normalize(responses, session_date=SESSION).frame
    assert frame.group_by("symbol", "underlying_price", "snapshot_time").len().sort("symbol").rows() == [
        ("ABC", 55.0, RECEIVED + timedelta(seconds=1), 4),
        ("XYZ", 101.0, RECEIVED, 4),
    ]


def test_large_chain_keeps_every_row_across_batches() -> None:
    """A chain longer than one batch keeps each contract once and in wire order."""
    strikes = [50 + 0.5 * step for step in range(options.ROWS_AT_ONCE + 500)]
    template = contract(document("options/chain.json"))
    calls = {str(strike): [template | {"strikePrice": strike}] for strike in strikes}
    chain = document("options/chain.json") | {"callExpDateMap": {EXPIRY: calls}, "putExpDateMap": {}}
    frame = normalized(chain).frame
    assert frame["strike"].to_list() == strikes


def test_no_response_makes_an_empty_table_of_the_schema() -> None:
    """Without responses there are no rows, and the columns still have their types."""
    frame = normalized().frame
    assert frame.schema == options.SCHEMA.polars_schema
    assert frame.is_empty()


def test_result_does_not_depend_on_white_space_or_order_of_fields() -> None:
    """The same chain with its members reversed and without white space gives the same table."""
    chain = document("options/chain.json")
    reversed_contracts = changed(chain, lambda _: None)
    for side in ("callExpDateMap", "putExpDateMap"):
        for listed in reversed_contracts[side][EXPIRY].values():
            listed[0] = dict(reversed(listed[0].items()))
    compact = json.dumps(dict(reversed(reversed_contracts.items())), separators=(",", ":")).encode()
    assert normalized(compact).frame.equals(normalized(payload("options/chain.json")).frame)


# -- stand-ins -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "column"),
    [
        ("volatility", -999.0, "vendor_implied_volatility"),
        ("volatility", 0.0, "vendor_implied_volatility"),
        ("volatility", 500.0, "vendor_implied_volatility"),
        ("volatility", 29.0, "vendor_implied_volatility"),
        ("delta", -999.0, "vendor_delta"),
        ("gamma", -999, "vendor_gamma"),
        ("theta", 999.0, "vendor_theta"),
        ("vega", -999.0, "vendor_vega"),
        ("rho", 1000.0, "vendor_rho"),
        ("theoreticalOptionValue", -999.0, "vendor_theoretical_value"),
        ("bid", 0.0, "bid"),
        ("ask", -1.0, "ask"),
        ("last", 0, "last"),
        ("quoteTimeInLong", 0, "quote_time"),
        ("closePrice", 0.0, "previous_close"),
    ],
)
def test_stand_in_becomes_null_and_is_counted(field: str, value: float, column: str) -> None:
    """A value that stands for a missing one is null in the table, counted by column, and nothing else changes."""
    found = normalized(with_contract(lambda one: one.update({field: value})))
    assert first(found)[column] is None
    untouched = normalized(payload("options/chain.json"))
    before = untouched.counts.get(f"sentinel:{column}", 0)
    assert found.counts[f"sentinel:{column}"] == before + 1
    changed_columns = {name for name, seen in first(found).items() if seen != first(untouched)[name]}
    assert changed_columns <= {column, "quote_status"}


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_number_as_text_is_null_each_field_on_its_own(text: str) -> None:
    """NaN as a string in one Greek leaves the others as they are; it is counted and takes the fast path."""
    found = normalized(with_contract(lambda one: one.update(delta=text, volatility=text)))
    row = first(found)
    assert (row["vendor_delta"], row["vendor_implied_volatility"], row["vendor_vega"]) == (None, None, 0.07)
    assert found.counts["non_finite:vendor_delta"] == 1
    assert "tolerant_parse" not in found.counts


def test_bare_nan_token_spoils_only_its_field() -> None:
    """NaN written without quotes is no JSON; the tolerant path reads it as a missing Greek and keeps every row."""
    body = payload("options/chain.json").replace(b'"delta": 0.55', b'"delta": NaN', 1)
    found = normalized(body)
    assert found.frame.height == 4
    assert first(found)["vendor_delta"] is None
    assert found.counts["non_finite:vendor_delta"] == 1
    assert found.counts["tolerant_parse"] == 1


def test_default_volatility_is_counted_apart() -> None:
    """A volatility equal to the theoretical one is a default: null, and counted under its own name."""
    found = normalized(with_contract(lambda one: one.update(volatility=29.0)))
    assert found.counts["default_volatility"] == 1


def test_volatility_just_inside_the_bounds_is_kept() -> None:
    """499.9 % is a value, odd as it is."""
    found = normalized(with_contract(lambda one: one.update(volatility=499.9)))
    assert first(found)["vendor_implied_volatility"] == pytest.approx(4.999)


def test_dividend_yield_below_zero_is_unknown() -> None:
    """The index's -1 is no yield."""
    chain = changed(document("options/chain.json"), lambda chain: chain.update(dividendYield=-1.0))
    assert first(normalized(chain))["dividend_yield"] is None


def test_header_number_as_nan_text_is_unknown() -> None:
    """NaN as text in the chain's own numbers is null for all its rows."""
    chain = changed(document("options/chain.json"), lambda chain: chain.update(underlyingPrice="NaN"))
    assert normalized(chain).frame["underlying_price"].null_count() == 4


# -- quotes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bid", "ask", "status", "kept"),
    [
        (4.1, 4.3, "ok", (4.1, 4.3)),
        (0.0, 4.3, "no_bid", (None, 4.3)),
        (4.1, 0.0, "no_ask", (4.1, None)),
        (0.0, 0.0, "no_quote", (None, None)),
        (4.4, 4.3, "crossed", (None, None)),
        (4.3, 4.3, "locked", (4.3, 4.3)),
        (0.02, 0.05, "low_priced", (0.02, 0.05)),
        (2.0, 4.0, "wide", (2.0, 4.0)),
        (0.1, 0.2, "ok", (0.1, 0.2)),
    ],
)
def test_quote_status(bid: float, ask: float, status: str, kept: tuple[float | None, float | None]) -> None:
    """The state of a quote follows from bid and ask alone while it is fresh; only a crossed one loses both sides."""
    row = first(normalized(with_contract(lambda one: one.update(bid=bid, ask=ask))))
    assert row["quote_status"] == status
    assert (row["bid"], row["ask"]) == kept


def test_crossed_quote_is_counted_and_the_row_kept() -> None:
    """A crossed quote is no bad row: it is counted, both sides are null, volume and open interest stand."""
    found = normalized(with_contract(lambda one: one.update(bid=4.4)))
    assert found.counts["crossed_quote"] == 1
    assert validate(found.frame, options.SCHEMA).valid.height == 4
    assert first(found)["open_interest"] == 900


@pytest.mark.parametrize(
    ("quoted", "received", "status"),
    [
        (datetime(2026, 1, 5, 20, 40, tzinfo=UTC), RECEIVED, "ok"),
        (datetime(2026, 1, 5, 20, 39, 59, tzinfo=UTC), RECEIVED, "stale"),
        (datetime(2026, 1, 5, 20, 59, tzinfo=UTC), datetime(2026, 1, 6, 0, 30, tzinfo=UTC), "ok"),
        (datetime(2026, 1, 5, 20, 44, 59, tzinfo=UTC), datetime(2026, 1, 6, 0, 30, tzinfo=UTC), "stale"),
        (datetime(2026, 1, 5, 14, 29, 59, tzinfo=UTC), datetime(2026, 1, 5, 14, 35, tzinfo=UTC), "stale"),
        (datetime(2026, 1, 5, 14, 30, tzinfo=UTC), datetime(2026, 1, 5, 14, 35, tzinfo=UTC), "ok"),
    ],
)
def test_stale_quotes(quoted: datetime, received: datetime, status: str) -> None:
    """A quote is stale 15 minutes before the snapshot, or before the close when that is earlier, or before the open."""
    milliseconds = int(quoted.timestamp() * 1000)
    body = with_contract(lambda one: one.update(quoteTimeInLong=milliseconds))
    assert first(normalized(body, received=received))["quote_status"] == status


def test_old_trade_does_not_make_a_quote_stale() -> None:
    """The time of the last trade never disqualifies a quote."""
    assert first(normalized(with_contract(lambda one: one.update(tradeTimeInLong=1))))["quote_status"] == "ok"


def test_wrecked_quotes_after_the_close_stay_in_their_own_snapshot() -> None:
    """After the close quotes without a bid and failed Greeks are rows of a later snapshot; the closing one stands."""

    def wreck(chain: Any) -> None:
        for side in ("callExpDateMap", "putExpDateMap"):
            for listed in chain[side][EXPIRY].values():
                listed[0].update(bid=0.0, volatility=-999.0, delta=-999.0)

    closing = answered(REQUEST, payload("options/chain.json"))
    later = answered(REQUEST, changed(document("options/chain.json"), wreck), received=RECEIVED + timedelta(minutes=40))
    frame = options.normalize([closing, later], session_date=SESSION).frame
    valid = validate(frame, options.SCHEMA).valid
    assert valid.filter(snapshot_time=RECEIVED)["bid"].to_list() == [4.1, 1.75, 3.0, 5.6]
    assert valid.filter(snapshot_time=RECEIVED + timedelta(minutes=40))["bid"].to_list() == [None] * 4


# -- bad rows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda one: one.update(bid="4.1"), "type_bid"),
        (lambda one: one.update(bid=[4.1]), "type_bid"),
        (lambda one: one.update(bid=True), "type_bid"),
        (lambda one: one.update(delta="much"), "type_vendor_delta"),
        (lambda one: one.update(bidSize=1.5), "type_bid_size"),
        (lambda one: one.update(totalVolume=1e300), "type_volume"),
        (lambda one: one.update(quoteTimeInLong=10**18), "type_quote_time"),
        (lambda one: one.update(strikePrice=None), "type_strike"),
        (lambda one: one.update(inTheMoney="true"), "type_is_in_the_money"),
        (lambda one: one.pop("symbol"), "missing_option_symbol"),
        (lambda one: one.pop("putCall"), "missing_option_type"),
        (lambda one: one.pop("strikePrice"), "missing_strike"),
        (lambda one: one.pop("expirationDate"), "missing_expiration"),
        (lambda one: one.update(last=float("nan")), "not_finite_last"),
        (lambda one: one.update(last=float("inf")), "not_finite_last"),
    ],
)
def test_row_that_cannot_be_typed_is_rejected_alone(change: Callable[[Any], Any], rule: str) -> None:
    """A wrong type, a missing required field or a number that is not finite costs that row only, with its rule."""
    found = normalized(with_contract(change))
    assert found.frame.height == 3
    assert found.rejected["rule"].to_list() == [rule]
    assert found.offered_rows == 4


def test_rejected_row_says_where_it_came_from() -> None:
    """A rejected row keeps its symbol, time, request and own JSON text."""
    row = normalized(with_contract(lambda one: one.update(bid="4.1"))).rejected.row(0, named=True)
    assert row["symbol"] == "XYZ"
    assert row["snapshot_time"] == RECEIVED
    assert row["request"] == "/chains?symbol=XYZ&includeUnderlyingQuote=true"
    assert json.loads(row["source"])["bid"] == "4.1"
    assert "float" in row["detail"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda one: one.update(bidSize=-1), "negative_bid_size"),
        (lambda one: one.update(askSize=-1), "negative_ask_size"),
        (lambda one: one.update(totalVolume=-1), "negative_volume"),
        (lambda one: one.update(openInterest=-5), "negative_open_interest"),
        (lambda one: one.update(strikePrice=0.0), "strike_not_positive"),
        (lambda one: one.update(putCall="BOTH"), "unknown_option_type"),
        (lambda one: one.update(symbol="XYZ   260117C00100000"), "symbol_disagrees"),
        (lambda one: one.update(symbol="XYZ   260116C00100500"), "symbol_disagrees"),
        (lambda one: one.update(symbol="XYZ   260116X00100000"), "symbol_disagrees"),
        (lambda one: one.update(symbol="XYZ"), "symbol_disagrees"),
        (lambda one: one.update(expirationDate="2026-01-02T21:00:00.000+00:00"), "expired"),
        (lambda one: one.update(expirationDate="some day"), "required_expiration_date"),
    ],
)
def test_row_that_contradicts_itself_is_quarantined(change: Callable[[Any], Any], rule: str) -> None:
    """A typed row that breaks a rule goes to quarantine with the rule; the other three stay."""
    found = judged(with_contract(change))
    assert found.valid.height == 3
    assert rule in found.quarantined["broken_rules"].to_list()[0]
    assert found.rule_counts[rule] == 1


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        (lambda one: one.update(delta=1.2), {"delta_out_of_range"}),
        (lambda one: one.update(gamma=-0.01), {"negative_gamma"}),
        (lambda one: one.update(vega=-0.01), {"negative_vega"}),
        (lambda one: one.update(rho=-0.01), {"rho_sign"}),
        (lambda one: one.update(volatility=0.5), {"volatility_too_low"}),
        # the call at 105 then has a bid of 1.75, above the ask of this one at 100
        (lambda one: one.update(ask=0.9, bid=0.8), {"ask_below_bound", "price_not_monotonic"}),
        (lambda one: one.update(bid=101.5, ask=101.6), {"bid_above_bound"}),
        (lambda one: one.update(daysToExpiration=9), {"days_disagree"}),
        (lambda one: one.update(optionRoot="XYZ1"), {"root_disagrees"}),
    ],
)
def test_vendor_error_is_a_warning(change: Callable[[Any], Any], rules: set[str]) -> None:
    """A bound that vendors break now and then is counted; the row stays."""
    found = judged(with_contract(change))
    assert found.valid.height == 4
    assert {name for name, count in found.rule_counts.items() if count} == rules


def test_contract_listed_twice_is_refused_when_the_two_differ() -> None:
    """Two different rows of one contract and snapshot cannot both be right: both go to quarantine."""
    chain = document("options/chain.json")
    listed = chain["callExpDateMap"][EXPIRY]["100.0"]
    listed.append(listed[0] | {"bid": 4.15})
    found = judged(chain)
    assert found.quarantined["broken_rules"].to_list() == [["duplicate_key"]] * 2
    assert found.valid.height == 3


def test_contract_listed_twice_alike_is_kept_once() -> None:
    """Equal rows say the same thing, so one stays and the other is counted."""
    chain = document("options/chain.json")
    listed = chain["callExpDateMap"][EXPIRY]["100.0"]
    listed.append(dict(listed[0]))
    found = judged(chain)
    assert (found.valid.height, found.quarantined.height) == (4, 1)


def test_two_contracts_under_one_strike_are_two_rows() -> None:
    """AM- and PM-settled contracts of one strike and day both become rows, with their own last instants."""
    chain = document("options/chain.json")
    listed = chain["callExpDateMap"][EXPIRY]["100.0"]
    listed.append(listed[0] | {"symbol": "XYZA  260116C00100000", "optionRoot": "XYZA", "settlementType": "A"})
    found = judged(chain).valid.filter(strike=100.0, option_type="C")
    assert found.select("option_root", "expiration_time").rows() == [
        ("XYZ", datetime(2026, 1, 16, 21, 0, tzinfo=UTC)),
        ("XYZA", datetime(2026, 1, 16, 14, 30, tzinfo=UTC)),
    ]


def test_repeated_strike_key_hides_no_contract() -> None:
    """When a JSON key comes twice, the contracts under both are offered."""
    body = payload("options/chain.json").replace(b'"105.0": [', b'"100.0": [', 1)
    found = normalized(body)
    assert found.offered_rows == 4
    assert found.frame["strike"].to_list() == [100.0, 105.0, 100.0, 105.0]
    assert found.counts["tolerant_parse"] == 1


def test_repeated_strike_key_hides_no_contract_beside_new_or_missing_fields() -> None:
    """Neither a field nobody declared nor fields that are missing keep a repeated key from being seen."""

    def thin(chain: Any) -> None:
        contract(chain)["new"] = 1
        for field in ("description", "mini", "high52Week"):
            contract(chain, "put").pop(field)

    for chain in (changed(document("options/chain.json"), thin), with_contract(lambda one: one.pop("openInterest"))):
        body = json.dumps(chain).encode().replace(b'"105.0": [', b'"100.0": [', 1)
        assert normalized(body).offered_rows == 4


def test_repeated_field_of_a_contract_is_found_by_the_tolerant_path() -> None:
    """A contract that states its strike twice is rejected; its neighbours stay."""
    body = payload("options/chain.json").replace(
        b'"strikePrice": 100.0,', b'"strikePrice": 100.0, "strikePrice": 99.0,', 1
    )
    found = normalized(body)
    assert found.rejected["rule"].to_list() == ["repeated_field"]
    assert "strikePrice" in found.rejected["detail"][0]
    assert found.frame.height == 3


@pytest.mark.parametrize("junk", [None, 7, "contract", [], [1]])
def test_something_else_where_a_contract_belongs(junk: Any) -> None:
    """A value that is no object where a contract belongs is rejected as such, the rest is read."""

    def put(chain: Any) -> None:
        chain["callExpDateMap"][EXPIRY]["100.0"] = [junk]

    found = normalized(changed(document("options/chain.json"), put))
    assert found.frame.height == 3
    assert found.rejected["rule"].to_list() == ["not_an_object"]


def test_bytes_that_are_no_utf8_cost_their_row() -> None:
    """A row with bytes outside UTF-8 in a text is rejected with `encoding`."""
    body = payload("options/chain.json").replace(b"XYZ 01/16/2026 100.00 C", b"XYZ \xff\xfe", 1)
    found = normalized(body)
    assert found.rejected["rule"].to_list() == ["encoding"]
    assert found.frame.height == 3


def test_lone_surrogate_costs_its_row() -> None:
    """A text with half a surrogate pair is no text; the row is rejected and its JSON can still be written."""
    body = payload("options/chain.json").replace(b"XYZ 01/16/2026 100.00 C", b"XYZ \\ud800", 1)
    found = normalized(body)
    assert found.rejected["rule"].to_list() == ["encoding"]
    assert found.rejected["source"][0].encode()


# -- drift -----------------------------------------------------------------------------------------------------------


def test_new_field_is_counted_and_read_past() -> None:
    """A field nobody declared changes no row, and the count says in how many contracts it came."""

    def add(chain: Any) -> None:
        contract(chain)["sizeOfThings"] = {"a": [1, 2]}
        contract(chain, "put")["sizeOfThings"] = None
        chain["newHeader"] = 1
        chain["underlying"]["mood"] = "good"

    found = normalized(changed(document("options/chain.json"), add))
    assert found.frame.equals(normalized(payload("options/chain.json")).frame)
    assert {name: count for name, count in found.counts.items() if name.startswith("unknown")} == {
        "unknown_field:contract.sizeOfThings": 2,
        "unknown_field:chain.newHeader": 1,
        "unknown_field:underlying.mood": 1,
    }
    assert "tolerant_parse" not in found.counts


def test_optional_field_that_is_gone_is_null_and_counted() -> None:
    """A missing optional field is null in its row, and the count says so."""
    found = normalized(with_contract(lambda one: one.pop("openInterest")))
    assert first(found)["open_interest"] is None
    assert found.counts["absent:open_interest"] == 1


def test_new_enumeration_value_is_kept_and_counted() -> None:
    """A value outside those known so far stays as sent and is counted by name."""
    found = normalized(with_contract(lambda one: one.update(expirationType="D")))
    assert first(found)["expiration_type"] == "D"
    assert found.counts["unknown_value:expiration_type=D"] == 1


def test_wrong_header_field_is_left_out_and_counted() -> None:
    """A header field of the wrong type is null for the rows instead of costing them."""
    chain = changed(document("options/chain.json"), lambda chain: chain.update(isDelayed="no"))
    found = normalized(chain)
    assert found.frame["is_delayed"].null_count() == 4
    assert found.counts["left_out:type_is_delayed"] == 1


def test_number_of_contracts_that_differs_is_counted() -> None:
    """An announced number of contracts other than the one found is seen."""
    chain = changed(document("options/chain.json"), lambda chain: chain.update(numberOfContracts=5))
    assert normalized(chain).counts["announced_contracts_differ"] == 1


# -- bad responses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (payload("options/access_denied.html"), "html"),
        (payload("options/not_found.json"), "error_body"),
        (payload("options/too_big.json"), "error_body"),
        (payload("options/empty_chain.json"), "empty_chain"),
        (payload("options/failed.json"), "chain_failed"),
        (payload("options/chain.json")[:3000], "truncated"),
        (payload("options/chain.json") + b"x", "not_json"),
        (b"", "empty_body"),
        (b"[]", "not_an_object"),
        (b"null", "not_an_object"),
        (b'{"symbol": "XYZ"}', "missing_field"),
        (b'{"callExpDateMap": {"d": {"1": [{}]}}}', "missing_field"),
        (b'{"symbol": 5, "callExpDateMap": {"d": {"1": [{}]}}}', "wrong_type"),
        (b"\xff\xfe{\x00", "encoding"),
        (b'{"a":' * 100_000, "nested_too_deep"),
        (document("options/chain.json") | {"isChainTruncated": True}, "chain_truncated"),
        (document("options/chain.json") | {"symbol": "ABC"}, "other_symbol"),
    ],
)
def test_unusable_response_is_a_problem_and_spares_the_others(body: Any, reason: str) -> None:
    """A response that cannot be used as a whole is reported with its reason and symbol; the next one is read."""
    found = normalized(body, payload("options/chain.json"))
    assert [(problem.reason, problem.symbols) for problem in found.problems] == [(reason, ("XYZ",))]
    assert found.frame.height == 4


def test_error_status_is_a_problem() -> None:
    """A body under another status than 200 is not read."""
    assert normalized(payload("options/chain.json"), status=502).problems[0].reason == "http_status"


# -- scope -----------------------------------------------------------------------------------------------------------


def test_scope_of_an_imported_recording_is_unknown() -> None:
    """Without the query of the request nobody can say how much of the chain was asked for."""
    bare = MarketDataRequest("options", "/chains", (), ("XYZ",))
    assert first(normalized(payload("options/chain.json"), request=bare))["chain_scope"] == "unknown"


def test_scope_of_a_full_chain_asked_in_pieces_is_full() -> None:
    """Pieces that together ask for everything make a full chain; with one of them missing it is partial."""
    pieces = options.split(REQUEST, session_date=SESSION)
    responses = [answered(piece, payload("options/chain.json")) for piece in pieces]
    whole = options.normalize(responses, session_date=SESSION).frame
    assert whole["chain_scope"].unique().to_list() == ["full"]
    part = options.normalize(responses[:1], session_date=SESSION).frame
    assert part["chain_scope"].unique().to_list() == ["partial"]


def test_expiration_beyond_the_calendar_has_no_last_instant() -> None:
    """Where the exchange calendar ends, the date stands and the last instant is unknown."""
    day = "2039-01-21"
    body = with_contract(
        lambda one: one.update(expirationDate=f"{day}T21:00:00.000+00:00", symbol="XYZ   390121C00100000")
    )
    row = first(normalized(body))
    assert (row["expiration_date"], row["expiration_time"]) == (date(2039, 1, 21), None)


def test_expiration_as_epoch_milliseconds_is_read() -> None:
    """The predecessor's form of the expiration date gives the same date."""
    body = with_contract(lambda one: one.update(expirationDate=1768597200000))
    assert first(normalized(body))["expiration_date"] == date(2026, 1, 16)


@pytest.mark.parametrize(
    ("listed", "text"),
    [
        ([], None),
        (None, None),
        (
            [
                {"symbol": "XYZ", "assetType": "STOCK", "deliverableUnits": 50.0},
                {"symbol": "USD", "assetType": "CASH", "deliverableUnits": 12.5},
            ],
            "50 XYZ STOCK; 12.5 USD CASH",
        ),
        ([{"symbol": "XYZ"}], '[{"symbol": "XYZ"}]'),
    ],
)
def test_deliverables_as_text(listed: Any, text: str | None) -> None:
    """Deliverables are told as units, symbol and kind; what has another shape stays as its JSON."""
    assert (
        first(normalized(with_contract(lambda one: one.update(optionDeliverablesList=listed))))["deliverables"] == text
    )


def test_table_has_the_columns_of_the_schema() -> None:
    """Normalised rows have exactly the schema's columns and types, so that judging can start."""
    assert normalized(payload("options/chain.json")).frame.schema == options.SCHEMA.polars_schema
    assert isinstance(options.SCHEMA.empty(), pl.DataFrame)


@pytest.mark.parametrize(
    "stated", ["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59-12:00", -62_135_596_800_000, 253_402_318_799_000]
)
def test_expiration_at_the_edge_of_the_calendar_is_no_date(stated: Any) -> None:
    """An instant whose date in New York no calendar can hold is no expiration: the row is quarantined for that."""
    found = judged(with_contract(lambda one: one.update(expirationDate=stated)))
    assert "required_expiration_date" in found.quarantined["broken_rules"].to_list()[0]
    assert found.valid.height == 3


@pytest.mark.parametrize("field", ["bidAskSize", "openInterest", "delta", "putCall", "mini"])
def test_any_repeated_field_costs_its_row(field: str) -> None:
    """A contract that states one of its fields twice is rejected, though a decoder would quietly take the last."""
    body = payload("options/chain.json").replace(f'"{field}":'.encode(), f'"{field}": null, "{field}":'.encode(), 1)
    found = normalized(body)
    assert found.rejected["rule"].to_list() == ["repeated_field"]
    assert found.frame.height == 3


@pytest.mark.parametrize(
    ("field", "name"),
    [("status", "chain"), ("underlyingPrice", "chain"), ("bid", "underlying"), ("fiftyTwoWeekLow", "underlying")],
)
def test_repeated_field_around_the_contracts_is_counted(field: str, name: str) -> None:
    """Of a header field that comes twice the last stands, as anywhere in JSON; that it happened is counted."""
    body = payload("options/chain.json").replace(f'"{field}":'.encode(), f'"{field}": null, "{field}":'.encode(), 1)
    found = normalized(body)
    assert found.counts[f"repeated_field:{name}"] == 1
    assert found.frame.equals(normalized(payload("options/chain.json")).frame)


def test_fields_that_look_repeated_in_a_text_cost_nothing() -> None:
    """A text that holds what looks like a key only takes the slow path; all rows are kept."""
    found = normalized(with_contract(lambda one: one.update(description='say "bid": 1')))
    assert first(found)["description"] == 'say "bid": 1'
    assert found.frame.height == 4
    assert found.rejected.is_empty()


def test_field_name_that_no_struct_can_have_costs_no_row() -> None:
    """A new field with a quote or a line break in its name is counted and read past, by the slow path."""
    found = normalized(with_contract(lambda one: one.update({'new "field"\n': 1})))
    assert found.frame.height == 4
    assert found.counts['unknown_field:contract.new "field"\n'] == 1
    assert found.counts["tolerant_parse"] == 1
