"""Quotes as the wire spells them."""

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from visiting import BEFORE_CLOSE, recording, shape

from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.routes import answer

EVENING = datetime(2025, 12, 9, 23, 30, tzinfo=UTC)
QUOTE_FIELDS = [
    "52WeekHigh",
    "52WeekLow",
    "askMICId",
    "askPrice",
    "askSize",
    "askTime",
    "bidMICId",
    "bidPrice",
    "bidSize",
    "bidTime",
    "closePrice",
    "highPrice",
    "lastMICId",
    "lastPrice",
    "lastSize",
    "lowPrice",
    "mark",
    "markChange",
    "markPercentChange",
    "netChange",
    "netPercentChange",
    "openPrice",
    "postMarketChange",
    "postMarketPercentChange",
    "quoteTime",
    "securityStatus",
    "totalVolume",
    "tradeTime",
]
INDEX_FIELDS = [
    "52WeekHigh",
    "52WeekLow",
    "closePrice",
    "highPrice",
    "lastPrice",
    "lowPrice",
    "netChange",
    "netPercentChange",
    "openPrice",
    "securityStatus",
    "totalVolume",
    "tradeTime",
]
OPTION_FIELDS = [
    "52WeekHigh",
    "52WeekLow",
    "askPrice",
    "askSize",
    "bidPrice",
    "bidSize",
    "closePrice",
    "delta",
    "gamma",
    "highPrice",
    "indAskPrice",
    "indBidPrice",
    "indQuoteTime",
    "impliedYield",
    "lastPrice",
    "lastSize",
    "lowPrice",
    "mark",
    "markChange",
    "markPercentChange",
    "moneyIntrinsicValue",
    "netChange",
    "netPercentChange",
    "openInterest",
    "openPrice",
    "quoteTime",
    "rho",
    "securityStatus",
    "theoreticalOptionValue",
    "theta",
    "timeValue",
    "totalVolume",
    "tradeTime",
    "underlyingPrice",
    "vega",
    "volatility",
]


def ask(market: Market, symbols: str, instant: datetime = BEFORE_CLOSE, **params: str) -> Any:
    """The decoded quotes of a good request."""
    found = answer(market, instant, "/quotes", {"symbols": symbols, **params})
    assert found.status == 200, found.body
    return json.loads(found.body)


def a_contract(market: Market) -> str:
    """The symbol of a put near the money with volume."""
    frame = market.contracts("AAPL", BEFORE_CLOSE)
    near = frame.filter((frame["option_type"] == "P") & (frame["volume"] > 100) & (frame["value"] > 2.0))
    return str(near["option_symbol"][0])


def test_fields_of_each_kind(market: Market) -> None:
    """Stock, index and option have the documented quote fields in the recorded order."""
    contract = a_contract(market)
    body = ask(market, f"AAPL,$SPX,{contract}")
    assert list(body["AAPL"]["quote"]) == QUOTE_FIELDS
    assert list(body["$SPX"]["quote"]) == INDEX_FIELDS
    assert list(body[contract]["quote"]) == OPTION_FIELDS


@pytest.mark.parametrize(
    ("symbol", "theirs", "source"),
    [
        ("AAPL", "AAPL", "quotes_mixed_six_asset_types_2024-05-17.json"),
        ("AAPL", "INTC", "quote_equity_INTC_2024-10-18.json"),
        ("$SPX", "$SPX", "quote_index_SPX_2025-01-30.json"),
        ("EUR/USD", "EUR/USD", "quotes_mixed_six_asset_types_2024-05-17.json"),
        ("/ES", "/ESZ24", "quotes_mixed_six_asset_types_2024-05-17.json"),
        ("AAAIX", "AAAIX", "quotes_mixed_six_asset_types_2024-05-17.json"),
        ("option", "META  250131P00525000", "quote_option_META_2025-01-24.json"),
    ],
)
def test_shapes_are_the_recorded_ones(market: Market, symbol: str, theirs: str, source: str) -> None:
    """Every field of ours is in the recording with the same type; only documented optional ones are missing."""
    recorded = recording(source)
    asked = a_contract(market) if symbol == "option" else symbol
    (ours,) = ask(market, asked).values()
    optional = {"htbQuantity", "declarationDate", "divExDate", "divPayDate", "nextDivExDate", "nextDivPayDate"}
    added = {"futureActiveSymbol", "futureIsTradable"}
    expected = recorded[theirs]
    assert set(ours) == set(expected)
    for name, block in expected.items():
        if isinstance(block, dict):
            assert set(ours[name]) - added <= set(block)
            assert set(block) - set(ours[name]) <= optional
            common = set(block) & set(ours[name])
            assert shape({key: ours[name][key] for key in common}) == shape({key: block[key] for key in common})
        else:
            assert shape(ours[name]) == shape(block)


def test_unknown_symbols_are_collected(market: Market) -> None:
    """Bad symbols, unpadded, expired and foreign ones, stand under errors beside the good ones; all bad is fine too."""
    bad = ["^IRX", "ZZZZ", "AAPL251219P00200000", "AAPL  220617C00100000", "/ESZ21"]
    body = ask(market, ",".join(["AAPL", *bad]))
    assert set(body) == {"AAPL", "errors"}
    assert body["errors"] == {"invalidSymbols": bad}
    assert shape(ask(market, "^IRX")) == shape(recording("quotes_errors_block_invalid_symbols.json"))


def test_duplicates_collapse(market: Market) -> None:
    """A symbol asked for twice is answered once."""
    assert list(ask(market, "AAPL,SPY,AAPL")) == ["AAPL", "SPY"]


def test_a_future_root_is_answered_under_its_contract(market: Market) -> None:
    """/ES in early December 2025 is /ESZ25, on and after its third Friday /ESH26."""
    (body,) = ask(market, "/ES").values()
    assert body["symbol"] == "/ESZ25"
    assert body["reference"]["futureActiveSymbol"] == "/ESZ25"
    assert "/ESZ25" in ask(market, "/ESZ25")
    assert "/ESH26" in ask(market, "/ES", datetime(2025, 12, 19, 20, 0, tzinfo=UTC))
    assert "errors" in ask(market, "/ESZ26")


def test_dated_futures_stand_beside_the_active_one(market: Market) -> None:
    """Four quarters of each product; only the active one names itself so; later ones cost the carry more."""
    asked = [f"/{root}{month}" for root in ("ES", "NQ") for month in ("Z25", "H26", "M26", "U26")]
    body = ask(market, ",".join(asked))
    assert list(body) == asked
    active = [symbol for symbol, entry in body.items() if entry["reference"]["futureIsActive"]]
    assert active == ["/ESZ25", "/NQZ25"]
    assert ["futureActiveSymbol" in entry["reference"] for entry in body.values()] == [True, False, False, False] * 2
    for product, multiplier, tick_amount in (("/ES", 50.0, 12.5), ("/NQ", 20.0, 5.0)):
        entries = [entry for symbol, entry in body.items() if symbol.startswith(product)]
        prices = [entry["quote"]["lastPrice"] for entry in entries]
        assert prices == sorted(prices)
        assert 1.005 < prices[1] / prices[0] < 1.01
        assert all(price % 0.25 == 0.0 for price in prices)
        assert {entry["reference"]["product"] for entry in entries} == {product}
        assert {entry["reference"]["futureMultiplier"] for entry in entries} == {multiplier}
        assert {entry["quote"]["tickAmount"] for entry in entries} == {tick_amount}
    expires = body["/ESH26"]["reference"]["futureExpirationDate"]
    assert datetime.fromtimestamp(expires / 1000, UTC) == datetime(2026, 3, 20, 4, tzinfo=UTC)
    assert "errors" in ask(market, "/ESU25,/ESF26,/ESZ26,/ZZ,/ESZ2025")


def test_a_dated_future_has_the_recorded_shape(market: Market) -> None:
    """/ESZ24 was recorded while /ESM24 was active: the same fields, without futureActiveSymbol."""
    recorded = recording("quotes_mixed_six_asset_types_2024-05-17.json")["/ESZ24"]
    assert shape(ask(market, "/ESH26")["/ESH26"]) == shape(recorded)


def test_a_root_and_its_contract_are_one(market: Market) -> None:
    """Asked for both, the answer has one entry."""
    assert list(ask(market, "/ES,/ESZ25")) == ["/ESZ25"]


FUTURE_OPTION_FIELDS = [
    "askPrice", "askSize", "bidPrice", "bidSize", "closePrice", "highPrice", "lastPrice", "lastSize", "lowPrice",
    "mark", "markChange", "netChange", "netPercentChange", "openInterest", "openPrice", "quoteTime", "securityStatus",
    "settlemetPrice", "tick", "tickAmount", "totalVolume", "tradeTime",
]  # fmt: skip


def test_options_on_futures(market: Market) -> None:
    """Fields of the source's description; call less put is the discounted distance of the future from the strike."""
    price = ask(market, "/ESH26")["/ESH26"]["quote"]["lastPrice"]
    strike = round(price / 5.0) * 5
    call, put = ask(market, f"./ESF26C{strike},./ESF26P{strike}").values()
    assert list(call["quote"]) == FUTURE_OPTION_FIELDS
    assert (call["assetMainType"], call["symbol"]) == ("FUTURE_OPTION", f"./ESF26C{strike}")
    assert call["reference"]["underlying"] == put["reference"]["underlying"] == "/ESH26"
    assert (call["reference"]["contractType"], put["reference"]["contractType"]) == ("C", "P")
    assert (call["reference"]["strikePrice"], call["reference"]["multiplier"]) == (strike, 50.0)
    difference = call["quote"]["lastPrice"] - put["quote"]["lastPrice"]
    assert difference == pytest.approx(price - strike, abs=0.11)
    for entry in (call, put):
        assert 0.0 < entry["quote"]["bidPrice"] < entry["quote"]["lastPrice"] < entry["quote"]["askPrice"]


@pytest.mark.parametrize(
    "symbol", ["./ESZ24C6000", "./ESF27C6000", "./ESF26C6003", "./ESF26C99000", "./ESF26X6000", "./ZZF26C6000", "./ES"]
)
def test_options_on_futures_that_are_not_listed(market: Market, symbol: str) -> None:
    """Expired, too far ahead, off the strikes, no side or no product: invalid like any other symbol."""
    assert ask(market, symbol) == {"errors": {"invalidSymbols": [symbol]}}


def test_indicative_adds_an_entry_for_each_etf(market: Market) -> None:
    """`indicative` brings $SPY.IV beside SPY, and none for a stock; it can also be asked for by its name."""
    body = ask(market, "SPY,AAPL", indicative="true")
    assert list(body) == ["SPY", "AAPL", "$SPY.IV"]
    shown = body["$SPY.IV"]
    assert (shown["assetMainType"], shown["symbol"]) == ("INDEX", "$SPY.IV")
    assert list(shown["quote"]) == INDEX_FIELDS
    assert shown["quote"]["lastPrice"] == pytest.approx(body["SPY"]["quote"]["lastPrice"], rel=0.0003)
    assert ask(market, "$SPY.IV") == {"$SPY.IV": shown}
    assert list(ask(market, "SPY", indicative="false")) == ["SPY"]
    assert ask(market, "$AAPL.IV") == {"errors": {"invalidSymbols": ["$AAPL.IV"]}}
    assert answer(market, BEFORE_CLOSE, "/quotes", {"symbols": "SPY", "indicative": "perhaps"}).status == 400


def test_currencies_have_their_own_decimals(market: Market) -> None:
    """Yen are quoted to three decimals, euros and pounds to five; the pair's price lies between bid and ask."""
    body = ask(market, "EUR/USD,GBP/USD,USD/JPY")
    for symbol, decimals in (("EUR/USD", 5), ("GBP/USD", 5), ("USD/JPY", 3)):
        quote = body[symbol]["quote"]
        assert quote["bidPrice"] < quote["lastPrice"] < quote["askPrice"]
        for name in ("bidPrice", "lastPrice", "askPrice"):
            assert quote[name] == round(quote[name], decimals)
    assert 60.0 < body["USD/JPY"]["quote"]["lastPrice"] < 200.0


def test_a_fund_pays_once_a_year(market: Market) -> None:
    """In December, at once; its figures are a year's payment, and next time is a year later."""
    block = ask(market, "AAAIX")["AAAIX"]["fundamental"]
    assert block["divFreq"] == 1
    assert block["divAmount"] == block["divPayAmount"] > 0.0
    assert block["divExDate"] == block["divPayDate"]
    assert [block[name][:7] for name in ("divExDate", "nextDivExDate")] in (
        ["2024-12", "2025-12"], ["2025-12", "2026-12"],
    )  # fmt: skip
    assert "declarationDate" not in block
    assert "divExDate" not in ask(market, "SWVXX")["SWVXX"]["fundamental"]


def test_a_money_fund_stays_at_one_dollar(market: Market) -> None:
    """Its sub type is MMF and its value 1.00; the other funds are open-end ones."""
    body = ask(market, "SWVXX,VTSAX,VWELX,AAAIX")
    assert [entry["assetSubType"] for entry in body.values()] == ["MMF", "OEF", "OEF", "OEF"]
    assert body["SWVXX"]["quote"]["nAV"] == 1.0


def test_five_hundred_made_up_symbols_are_quoted(market: Market) -> None:
    """SY0001 to SY3000 are stocks like any other; every 24th has the same price; there is no SY0000 or SY3001."""
    body = ask(market, ",".join(f"SY{number:04d}" for number in range(1, 501)))
    assert len(body) == 500
    assert list(body["SY0001"]["quote"]) == QUOTE_FIELDS
    assert len({entry["reference"]["cusip"] for entry in body.values()}) == 500
    last = {symbol: entry["quote"]["lastPrice"] for symbol, entry in body.items()}
    assert last["SY0001"] == last["SY0025"] != last["SY0002"]
    assert ask(market, "SY0000,SY3001,SY3000")["errors"] == {"invalidSymbols": ["SY0000", "SY3001"]}
    chain = json.loads(answer(market, BEFORE_CLOSE, "/chains", {"symbol": "SY3000", "strikeCount": "2"}).body)
    assert chain["numberOfContracts"] > 10
    contract = next(iter(chain["callExpDateMap"].values()))
    symbol = next(iter(contract.values()))[0]["symbol"]
    assert symbol.startswith("SY3000")
    assert symbol in ask(market, symbol)


def test_arithmetic_of_a_stock(market: Market) -> None:
    """Changes are against yesterday's close, in percent too; the post-market change is against the regular last."""
    body = ask(market, "AAPL", EVENING)["AAPL"]
    quote, regular = body["quote"], body["regular"]
    bars = market.daily_bars("AAPL", date(2025, 12, 8), date(2025, 12, 9))["close"].to_list()
    assert (quote["closePrice"], regular["regularMarketLastPrice"]) == (bars[0], bars[1])
    assert quote["netChange"] == pytest.approx(quote["lastPrice"] - bars[0], abs=1e-9)
    assert quote["netPercentChange"] == pytest.approx(100 * quote["netChange"] / bars[0], abs=1e-7)
    assert quote["postMarketChange"] == pytest.approx(quote["lastPrice"] - bars[1], abs=1e-9)
    assert quote["bidPrice"] < quote["askPrice"]
    assert quote["bidPrice"] <= quote["mark"] <= quote["askPrice"]
    assert quote["52WeekLow"] <= quote["lowPrice"] <= quote["highPrice"] <= quote["52WeekHigh"]


def test_extended_block_exists_outside_hours(market: Market) -> None:
    """In hours there is none; in the evening it has bid, ask and last."""
    assert "extended" not in ask(market, "AAPL")["AAPL"]
    assert ask(market, "AAPL", EVENING)["AAPL"]["extended"]["lastPrice"] > 0.0


def test_fields_choose_blocks(market: Market) -> None:
    """fields=quote,reference leaves out the others but keeps the envelope."""
    body = ask(market, "AAPL", fields="quote,reference")["AAPL"]
    assert "fundamental" not in body
    assert "regular" not in body
    assert {"quote", "reference", "assetMainType", "symbol"} <= set(body)


def test_an_option_quote_agrees_with_its_chain(market: Market) -> None:
    """Bid, ask, volume and open interest equal the chain's; volatility agrees to three decimals, told with eight."""
    symbol = a_contract(market)
    quote = ask(market, symbol)[symbol]["quote"]
    chain = json.loads(answer(market, BEFORE_CLOSE, "/chains", {"symbol": "AAPL", "contractType": "PUT"}).body)
    found = next(
        item for row in chain["putExpDateMap"].values() for listed in row.values() for item in listed
        if item["symbol"] == symbol
    )  # fmt: skip
    same = ("bid", "bidPrice"), ("ask", "askPrice"), ("totalVolume", "totalVolume"), ("openInterest", "openInterest")
    assert all(found[ours] == quote[theirs] for ours, theirs in same)
    assert quote["volatility"] == pytest.approx(found["volatility"], abs=0.00051)
    assert quote["volatility"] != found["volatility"]
    assert quote["moneyIntrinsicValue"] == found["intrinsicValue"]


def test_an_index_is_closed_after_hours(market: Market) -> None:
    """Status Normal in the session, Closed after it, when the last is the close."""
    assert ask(market, "$SPX")["$SPX"]["quote"]["securityStatus"] == "Normal"
    quote = ask(market, "$SPX", EVENING)["$SPX"]["quote"]
    day = date(2025, 12, 9)
    assert quote["securityStatus"] == "Closed"
    assert quote["lastPrice"] == market.daily_bars("$SPX", day, day)["close"][0]


def test_dividends_are_told(market: Market) -> None:
    """A payer has dates and amounts; who pays nothing has zeros and no dates."""
    body = ask(market, "AAPL,AMZN")
    paid, none = body["AAPL"]["fundamental"], body["AMZN"]["fundamental"]
    assert paid["divAmount"] == pytest.approx(4 * paid["divPayAmount"])
    assert paid["divExDate"].endswith("Z")
    assert (none["divAmount"], none["divFreq"]) == (0.0, 0)
    assert "divExDate" not in none


@pytest.mark.parametrize("path", ["/quotes", "/pricehistory", "/chains"])
@pytest.mark.parametrize("second", [0, 1, 30, 59])
def test_the_first_minute_is_answered_too(market: Market, path: str, second: int) -> None:
    """From the open on, before a whole minute has gone by."""
    instant = datetime(2025, 12, 9, 14, 30, second, tzinfo=UTC)
    given = {"symbols": "AAPL,$SPX,/ES", "symbol": "AAPL", "strikeCount": "2", "includeUnderlyingQuote": "true"}
    found = answer(market, instant, path, given)
    assert found.status == 200, found.body
    json.loads(found.body)
