"""Chains as the wire spells them: fields, arithmetic, and what a query selects."""

import json
import math
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from visiting import BEFORE_CLOSE, recording, shape

from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.routes import answer

CONTRACT_FIELDS = [
    "putCall",
    "symbol",
    "description",
    "exchangeName",
    "bid",
    "ask",
    "last",
    "mark",
    "bidSize",
    "askSize",
    "bidAskSize",
    "lastSize",
    "highPrice",
    "lowPrice",
    "openPrice",
    "closePrice",
    "totalVolume",
    "tradeTimeInLong",
    "quoteTimeInLong",
    "netChange",
    "volatility",
    "delta",
    "gamma",
    "theta",
    "vega",
    "rho",
    "openInterest",
    "timeValue",
    "theoreticalOptionValue",
    "theoreticalVolatility",
    "optionDeliverablesList",
    "strikePrice",
    "expirationDate",
    "daysToExpiration",
    "expirationType",
    "lastTradingDay",
    "multiplier",
    "settlementType",
    "deliverableNote",
    "percentChange",
    "markChange",
    "markPercentChange",
    "intrinsicValue",
    "extrinsicValue",
    "optionRoot",
    "exerciseType",
    "high52Week",
    "low52Week",
    "nonStandard",
    "pennyPilot",
    "inTheMoney",
    "mini",
]
CHAIN_FIELDS = [
    "symbol",
    "status",
    "strategy",
    "interval",
    "isDelayed",
    "isIndex",
    "interestRate",
    "underlyingPrice",
    "volatility",
    "daysToExpiration",
    "dividendYield",
    "numberOfContracts",
    "assetMainType",
    "assetSubType",
    "isChainTruncated",
]


def ask(market: Market, instant: datetime = BEFORE_CLOSE, **params: object) -> Any:
    """The decoded chain of a good request."""
    found = answer(market, instant, "/chains", {name: str(value) for name, value in params.items()})
    assert found.status == 200, found.body
    return json.loads(found.body)


def contracts(chain: Any) -> list[dict[str, Any]]:
    """All contracts of a chain, calls first."""
    maps = (chain["callExpDateMap"], chain["putExpDateMap"])
    return [found for side in maps for row in side.values() for listed in row.values() for found in listed]


@pytest.fixture(scope="module")
def apple(market: Market) -> Any:
    """A part of the chain of a stock."""
    return ask(market, symbol="AAPL", toDate="2026-01-30")


@pytest.fixture(scope="module")
def index(market: Market) -> Any:
    """A part of the chain of an index with both settlements."""
    return ask(market, symbol="$SPX", fromDate="2025-12-17", toDate="2025-12-22")


def test_fields_stand_in_the_order_of_the_wire(apple: Any, index: Any) -> None:
    """Each contract has the 52 recorded fields in order; the head of the chain likewise."""
    assert len(CONTRACT_FIELDS) == 52
    assert all(list(contract) == CONTRACT_FIELDS for contract in contracts(apple))
    assert list(index) == [*CHAIN_FIELDS, "callExpDateMap", "putExpDateMap"]
    assert list(apple) == [*CHAIN_FIELDS, "underlying", "callExpDateMap", "putExpDateMap"]


def test_the_shape_is_the_recorded_one(index: Any) -> None:
    """Names, order and types of the chain and of a contract equal those of a recorded $SPX chain."""
    recorded = recording("chain_SPX_one_expiry_2025-05-09.json")
    assert list(index) == list(recorded)
    assert shape({name: index[name] for name in CHAIN_FIELDS}) == shape({name: recorded[name] for name in CHAIN_FIELDS})
    ours, theirs = contracts(index)[0], contracts(recorded)[0]
    assert list(ours) == list(theirs)
    assert shape(ours) == shape(theirs)


def test_the_recorded_arithmetic_holds(apple: Any, index: Any) -> None:
    """Mark, sizes, intrinsic, extrinsic and time value, changes and ranges follow from the other fields."""
    for chain in (apple, index):
        for found in contracts(chain):
            sign = 1 if found["putCall"] == "CALL" else -1
            cents = round(found["bid"] * 100) + round(found["ask"] * 100)
            assert round(found["mark"] * 100) == math.floor(cents / 2 + 0.5)
            assert found["bidAskSize"] == f"{found['bidSize']}X{found['askSize']}"
            assert found["bid"] <= found["ask"]
            assert (found["bidSize"] == 0) == (found["bid"] == 0.0)
            intrinsic = sign * (chain["underlyingPrice"] - found["strikePrice"])
            assert found["intrinsicValue"] == pytest.approx(intrinsic, abs=0.0051)
            assert found["inTheMoney"] == (found["intrinsicValue"] > 0)
            assert found["extrinsicValue"] == pytest.approx(found["last"] - found["intrinsicValue"], abs=0.0051)
            assert found["openPrice"] == 0.0
            assert (found["highPrice"] == 0.0) == (found["totalVolume"] == 0)
            if found["last"]:
                assert found["netChange"] == pytest.approx(found["last"] - found["closePrice"], abs=0.0051)
                time_value = found["last"] - max(found["intrinsicValue"], 0.0)
                assert found["timeValue"] == pytest.approx(time_value, abs=0.0051)
            else:
                assert found["tradeTimeInLong"] == found["lastSize"] == 0
                assert found["extrinsicValue"] == pytest.approx(-found["intrinsicValue"])
            mid = (found["bid"] + found["ask"]) / 2
            assert found["markChange"] == pytest.approx(mid - found["closePrice"], abs=0.0101)


def test_percentages_are_against_the_unrounded_close(apple: Any) -> None:
    """Where the close shows as 0.0 the percentage is against a hundredth of a cent, as recorded (50000 %)."""
    worthless = [found for found in contracts(apple) if found["closePrice"] == 0.0 and found["netChange"] > 0.0]
    assert worthless
    assert all(found["percentChange"] > 100.0 * found["netChange"] / 0.0051 for found in worthless)
    usual = [found for found in contracts(apple) if found["closePrice"] > 20.0]
    for found in usual:
        assert found["percentChange"] == pytest.approx(
            100.0 * found["netChange"] / found["closePrice"], rel=0.01, abs=0.01
        )


def test_model_figures_have_three_decimals_or_fail_together(apple: Any) -> None:
    """Volatility and Greeks have at most three decimals; where the model fails all six are -999."""
    names = ("volatility", "delta", "gamma", "theta", "vega", "rho")
    failed = 0
    for found in contracts(apple):
        values = [found[name] for name in names]
        assert all(round(value, 3) == value for value in values)
        assert (-999.0 in values) == (set(values) == {-999.0})
        failed += -999.0 in values
        if -999.0 not in values:
            assert -1.0 <= found["delta"] <= 1.0
            assert found["gamma"] >= 0.0
            assert found["vega"] >= 0.0
    assert 0 < failed < 0.6 * len(contracts(apple))


def test_texts_are_those_of_the_contract(apple: Any, index: Any) -> None:
    """Symbol, description, dates and notes, written out by hand for one contract of each kind."""
    put = apple["putExpDateMap"]["2025-12-19:10"]
    strike = next(iter(put))
    found = put[strike][0]
    price = float(strike)
    assert found["symbol"] == f"AAPL  251219P{round(price * 1000):08d}"
    assert found["description"] == f"AAPL 12/19/2025 {price:.2f} P"
    assert found["expirationDate"] == "2025-12-19T21:00:00.000+00:00"
    assert found["lastTradingDay"] == 1766192400000  # 2025-12-19 20:00 New York
    assert (found["daysToExpiration"], found["expirationType"], found["settlementType"]) == (10, "S", "P")
    assert (found["deliverableNote"], found["exerciseType"], found["optionRoot"]) == ("100 AAPL", "A", "AAPL")
    assert found["optionDeliverablesList"] == [{"symbol": "AAPL", "assetType": "STOCK", "deliverableUnits": 100.0}]
    assert found["theoreticalVolatility"] == 29.0
    other = next(iter(index["callExpDateMap"]["2025-12-17:8"].values()))[0]
    assert (other["deliverableNote"], other["exerciseType"], other["optionRoot"]) == ("100 $SPX(Cash)", "E", "SPXW")
    assert other["pennyPilot"] is False


def test_summer_expirations_are_an_hour_earlier_in_utc(market: Market) -> None:
    """In daylight saving time 16:00 New York is 20:00 UTC, also for a date asked about in winter."""
    chain = ask(market, symbol="AAPL", strikeCount=1, fromDate="2026-06-01", toDate="2026-06-30")
    assert contracts(chain)[0]["expirationDate"] == "2026-06-18T20:00:00.000+00:00"


def test_two_settlements_share_a_strike(index: Any) -> None:
    """On the third Friday a strike of the index holds an SPX and an SPXW contract; strikes ascend, as text floats."""
    row = index["callExpDateMap"]["2025-12-19:10"]
    assert [float(key) for key in row] == sorted(float(key) for key in row)
    assert all(key == str(float(key)) for key in row)
    pairs = [[(found["optionRoot"], found["settlementType"]) for found in listed] for listed in row.values()]
    assert [("SPX", "A"), ("SPXW", "P")] in pairs
    morning = next(found for listed in row.values() for found in listed if found["settlementType"] == "A")
    assert morning["lastTradingDay"] == 1766106000000  # the day before: 2025-12-18 20:00 New York


def test_the_count_is_told(apple: Any, index: Any) -> None:
    """NumberOfContracts is the number of contracts in both maps."""
    assert apple["numberOfContracts"] == len(contracts(apple)) > 500
    assert index["numberOfContracts"] == len(contracts(index)) > 500


def test_served_contracts_equal_the_truth_table(market: Market, apple: Any) -> None:
    """Symbol by symbol the chain shows the volume, open interest, bid, ask and volatility the market knows."""
    frame = market.contracts("AAPL", BEFORE_CLOSE).filter(pl.col("expiration_date") <= date(2026, 1, 30))
    truth = {row["option_symbol"]: row for row in frame.iter_rows(named=True)}
    served = contracts(apple)
    assert len(served) == len(truth)
    for found in served:
        row = truth[found["symbol"]]
        assert (found["totalVolume"], found["openInterest"]) == (row["volume"], row["open_interest"])
        assert (found["bid"], found["ask"]) == (row["bid"], row["ask"])
        shown = None if found["volatility"] == -999.0 else found["volatility"] / 100.0
        assert shown == pytest.approx(row["vendor_volatility"], abs=6e-6) if shown else row["vendor_volatility"] is None


def test_put_call_ratio_of_a_full_chain(market: Market) -> None:
    """Sums over the served chain equal the market's own: ratios from the wire can be exact."""
    chain = ask(market, symbol="JPM")
    frame = market.contracts("JPM", BEFORE_CLOSE)
    for side, letter in (("PUT", "P"), ("CALL", "C")):
        rows = frame.filter(pl.col("option_type") == letter)
        served = [found for found in contracts(chain) if found["putCall"] == side]
        assert sum(found["totalVolume"] for found in served) == rows["volume"].sum()
        assert sum(found["openInterest"] for found in served) == rows["open_interest"].sum()


@pytest.mark.parametrize(("count", "below"), [(1, None), (2, 1), (15, None), (6, 3)])
def test_strike_count_is_a_number_of_strikes_around_the_money(market: Market, count: int, below: int | None) -> None:
    """Each expiration has exactly that many strikes, the nearest ones: none left out is nearer than one taken."""
    chain = ask(market, symbol="AAPL", strikeCount=count, toDate="2025-12-31")
    whole = ask(market, symbol="AAPL", toDate="2025-12-31")
    spot = chain["underlyingPrice"]
    for key, row in chain["callExpDateMap"].items():
        taken = [float(strike) for strike in row]
        assert len(taken) == count
        assert below is None or sum(strike < spot for strike in taken) == below
        if count % 2:
            left = [float(strike) for strike in whole["callExpDateMap"][key] if float(strike) not in taken]
            step = max(b - a for a, b in pairwise(taken)) if count > 1 else 0.0
            assert max(abs(strike - spot) for strike in taken) <= min(abs(strike - spot) for strike in left) + step


def test_date_bounds_are_inclusive(market: Market) -> None:
    """FromDate and toDate keep the expirations on both days and between."""
    chain = ask(market, symbol="AAPL", strikeCount=1, fromDate="2025-12-12", toDate="2025-12-26")
    assert list(chain["callExpDateMap"]) == ["2025-12-12:3", "2025-12-19:10", "2025-12-26:17"]


def test_one_side_leaves_the_other_map_empty(market: Market) -> None:
    """contractType=PUT gives an empty call map, and the reverse."""
    puts = ask(market, symbol="AAPL", contractType="PUT", strikeCount=3)
    calls = ask(market, symbol="AAPL", contractType="CALL", strikeCount=3)
    assert puts["callExpDateMap"] == {} == calls["putExpDateMap"]
    assert puts["putExpDateMap"]
    assert calls["callExpDateMap"]


@pytest.mark.parametrize(("moneyness", "is_in"), [("ITM", True), ("OTM", False)])
def test_range_keeps_one_side_of_the_money(market: Market, moneyness: str, is_in: bool) -> None:
    """ITM keeps only contracts in the money, OTM the others."""
    found = contracts(ask(market, symbol="AAPL", range=moneyness, toDate="2025-12-19"))
    assert found
    assert {contract["inTheMoney"] for contract in found} == {is_in}


def test_range_near_the_money(market: Market) -> None:
    """NTM keeps strikes near the price, SAK those above it, SBK those below."""
    for name, keeps in (
        ("NTM", lambda strike, spot: abs(strike / spot - 1) < 0.1),
        ("SAK", lambda strike, spot: strike > spot),
        ("SBK", lambda strike, spot: strike < spot),
        ("SNK", lambda strike, spot: abs(strike / spot - 1) < 0.03),
    ):
        chain = ask(market, symbol="AAPL", range=name, toDate="2025-12-19")
        assert contracts(chain)
        assert all(keeps(found["strikePrice"], chain["underlyingPrice"]) for found in contracts(chain))


def test_single_strike_and_month(market: Market) -> None:
    """Strike keeps that one, expMonth the expirations of that month."""
    price = contracts(ask(market, symbol="AAPL", strikeCount=1, toDate="2025-12-19"))[0]["strikePrice"]
    chain = ask(market, symbol="AAPL", strike=price, expMonth="JAN")
    assert {found["strikePrice"] for found in contracts(chain)} == {price}
    assert {key[5:7] for key in chain["callExpDateMap"]} == {"01"}


def test_nothing_selected_is_a_failed_chain(market: Market) -> None:
    """An index without options, a date without expirations and non-standard contracts give status FAILED."""
    for params in ({"symbol": "$VIX"}, {"symbol": "AAPL", "fromDate": "2025-12-13", "toDate": "2025-12-14"},
                   {"symbol": "AAPL", "optionType": "NS"}):  # fmt: skip
        chain = ask(market, **params)
        assert (chain["status"], chain["numberOfContracts"]) == ("FAILED", 0)
        assert chain["callExpDateMap"] == {} == chain["putExpDateMap"]


def test_the_underlying_is_shown_when_asked_for(market: Market) -> None:
    """IncludeUnderlyingQuote fills the object; its last is the chain's underlyingPrice."""
    names = [
        "symbol",
        "description",
        "change",
        "percentChange",
        "close",
        "quoteTime",
        "tradeTime",
        "bid",
        "ask",
        "last",
        "mark",
        "markChange",
        "markPercentChange",
        "bidSize",
        "askSize",
        "highPrice",
        "lowPrice",
        "openPrice",
        "totalVolume",
        "exchangeName",
        "fiftyTwoWeekHigh",
        "fiftyTwoWeekLow",
        "delayed",
    ]
    chain = ask(market, symbol="AAPL", strikeCount=1, includeUnderlyingQuote="true")
    assert list(chain["underlying"]) == names
    assert chain["underlying"]["last"] == chain["underlyingPrice"]
    assert ask(market, symbol="AAPL", strikeCount=1)["underlying"] is None


def test_after_the_close_the_model_is_silent(market: Market) -> None:
    """Half an hour after the close of stocks every Greek is -999 while the last trades stand."""
    evening = datetime(2025, 12, 9, 21, 30, tzinfo=UTC)
    late, before = (ask(market, instant, symbol="AAPL", strikeCount=5) for instant in (evening, BEFORE_CLOSE))
    assert {found["volatility"] for found in contracts(late)} == {-999.0}
    assert {found["delta"] for found in contracts(late)} == {-999.0}
    pairs = zip(contracts(late), contracts(before), strict=True)
    assert all(a["totalVolume"] >= b["totalVolume"] and a["openInterest"] == b["openInterest"] for a, b in pairs)


def test_expirations_are_listed(market: Market) -> None:
    """The expiration chain has the recorded fields, one entry per root, and the dates of the chain."""
    body = json.loads(answer(market, BEFORE_CLOSE, "/expirationchain", {"symbol": "SPY"}).body)
    fields = ["expirationDate", "daysToExpiration", "expirationType", "settlementType", "optionRoots", "standard"]
    assert list(body) == ["expirationList", "status"]
    assert all(list(entry) == fields for entry in body["expirationList"])
    chain = ask(market, symbol="SPY", strikeCount=1)
    keys = [f"{entry['expirationDate']}:{entry['daysToExpiration']}" for entry in body["expirationList"]]
    assert keys == list(chain["callExpDateMap"])
    assert shape(body) == shape(recording("expirationchain_SPY_2025-07-20.json"))


def ask_at(market: Market, instant: datetime, **params: str) -> Any:
    """The decoded chain of a good request at an instant."""
    return json.loads(answer(market, instant, "/chains", dict(params)).body)


def contracts_by_root(chain: Any) -> dict[str, list[Any]]:
    """All contracts of a chain by their root."""
    found: dict[str, list[Any]] = {}
    for side in ("callExpDateMap", "putExpDateMap"):
        for row in chain[side].values():
            for listed in row.values():
                for contract in listed:
                    found.setdefault(contract["optionRoot"], []).append(contract)
    return found


def test_adjusted_contracts_have_a_root_and_a_deliverable_of_their_own(market: Market) -> None:
    """Since 2 June 2025 the older contracts of XYZ deliver 150 shares under XYZ1; S and NS tell them apart."""
    chain = ask(market, symbol="XYZ")
    by_root = contracts_by_root(chain)
    assert set(by_root) == {"XYZ", "XYZ1"}
    assert chain["numberOfContracts"] == sum(len(found) for found in by_root.values())
    for root, shares, is_adjusted in (("XYZ", 100.0, False), ("XYZ1", 150.0, True)):
        for contract in by_root[root]:
            assert contract["nonStandard"] is is_adjusted
            assert contract["symbol"][:6].rstrip() == root
            assert contract["deliverableNote"] == f"{shares:.0f} XYZ"
            assert contract["optionDeliverablesList"] == [
                {"symbol": "XYZ", "assetType": "STOCK", "deliverableUnits": shares}
            ]
    assert set(contracts_by_root(ask(market, symbol="XYZ", optionType="S"))) == {"XYZ"}
    assert set(contracts_by_root(ask(market, symbol="XYZ", optionType="NS"))) == {"XYZ1"}


def test_an_adjusted_contract_is_worth_its_deliverable(market: Market) -> None:
    """Its intrinsic value is one and a half shares less the strike; far in the money its mid is close to that."""
    chain = ask(market, symbol="XYZ", optionType="NS", contractType="CALL")
    spot = market.price("XYZ", BEFORE_CLOSE)
    contracts = contracts_by_root(chain)["XYZ1"]
    for contract in contracts:
        assert contract["intrinsicValue"] == pytest.approx(1.5 * spot - contract["strikePrice"], abs=0.006)
    near = [each for each in contracts if each["daysToExpiration"] < 60 and each["intrinsicValue"] > 0.4 * 1.5 * spot]
    assert near
    for contract in near:
        assert contract["mark"] == pytest.approx(contract["intrinsicValue"], rel=0.03)


def test_adjusted_strikes_are_those_of_the_day_of_the_adjustment(market: Market) -> None:
    """Each is one and a half times a strike that its date had on 2 June 2025, and no new ones are added later."""
    adjusted = datetime(2025, 6, 2, 15, tzinfo=UTC)
    first, later = (
        {each["symbol"] for each in contracts_by_root(ask_at(market, instant, symbol="XYZ", optionType="NS"))["XYZ1"]}
        for instant in (adjusted, BEFORE_CLOSE)
    )
    assert later < first
    standard = contracts_by_root(ask_at(market, adjusted, symbol="XYZ", optionType="S"))["XYZ"]
    listed = {(each["symbol"][6:13], each["strikePrice"]) for each in standard}
    scaled = {(symbol[6:13], round(int(symbol[13:]) / 1500.0, 4)) for symbol in first}
    assert scaled < listed


def test_two_roots_may_share_a_strike_of_a_date(market: Market) -> None:
    """On a date of both roots a strike that both list holds two contracts, the standard one first."""
    chain = ask(market, symbol="XYZ", contractType="CALL")
    pairs = [listed for row in chain["callExpDateMap"].values() for listed in row.values() if len(listed) > 1]
    assert pairs
    assert all([contract["optionRoot"] for contract in listed] == ["XYZ", "XYZ1"] for listed in pairs)


def test_the_expiration_list_tells_adjusted_ones_apart(market: Market) -> None:
    """Each date and root has an entry; `standard` is false for the adjusted root only."""
    body = json.loads(answer(market, BEFORE_CLOSE, "/expirationchain", {"symbol": "XYZ"}).body)
    told = {(item["optionRoots"], item["standard"]) for item in body["expirationList"]}
    assert told == {("XYZ", True), ("XYZ1", False)}
    listed = [item["expirationDate"] for item in body["expirationList"] if item["optionRoots"] == "XYZ1"]
    assert listed == ["2025-12-19", "2026-01-16", "2026-06-18", "2027-01-15", "2027-06-17"]
    before = datetime(2025, 5, 30, 15, tzinfo=UTC)
    earlier = json.loads(answer(market, before, "/expirationchain", {"symbol": "XYZ"}).body)
    assert {item["optionRoots"] for item in earlier["expirationList"]} == {"XYZ"}


def test_an_adjusted_contract_can_be_quoted(market: Market) -> None:
    """Its symbol is known, and its deliverable is told."""
    contract = contracts_by_root(ask(market, symbol="XYZ", optionType="NS"))["XYZ1"][0]
    body = json.loads(answer(market, BEFORE_CLOSE, "/quotes", {"symbols": contract["symbol"]}).body)
    entry = body[contract["symbol"]]
    assert entry["reference"]["deliverables"] == "150 XYZ"
    assert entry["quote"]["moneyIntrinsicValue"] == contract["intrinsicValue"]


def test_an_index_of_many_contracts(market: Market) -> None:
    """$NDX has more than 20,000 contracts under NDX and NDXP: what a chain of that size takes can be tried."""
    frame = market.contracts("$NDX", BEFORE_CLOSE)
    assert 20_000 < frame.height < 40_000
    assert set(frame["option_symbol"].str.slice(0, 6).str.strip_chars()) == {"NDX", "NDXP"}
