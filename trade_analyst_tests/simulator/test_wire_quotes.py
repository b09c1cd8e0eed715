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
