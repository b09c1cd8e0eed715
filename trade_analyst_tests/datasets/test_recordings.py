"""Real answers of the source: every recorded row is in its table, each of its fields traced to the wire by hand.

The maps below are written out on purpose: what a field becomes is stated here a second time, without the code.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from wire_bodies import RECORDINGS

from trade_analyst_pipeline.datasets import ohlc, options, quotes
from trade_analyst_pipeline.market.normalized import Normalized
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.validation import validate

SCHWAB = RECORDINGS / "schwab"
NEW_YORK = ZoneInfo("America/New_York")
pytestmark = pytest.mark.skipif(not SCHWAB.is_dir(), reason="NOT RUN: no recordings beside the checkout")


def recorded(name: str, folder: str = "schwab") -> Any:
    """A recording as plain objects."""
    return json.loads((RECORDINGS / folder / name).read_bytes())


def answer(name: str, dataset: str, path: str, symbol: str, arrived: datetime, folder: str = "schwab") -> RawResponse:
    """A recording as it would be imported: without the query that led to it."""
    request = MarketDataRequest(dataset, path, (), (symbol,) if symbol else ())
    return RawResponse(request, 200, (RECORDINGS / folder / name).read_bytes(), (), arrived, arrived)


# -- how a wire value is told in a table -----------------------------------------------------------------------------


def same(value: Any) -> Any:
    """Unchanged."""
    return value


def price(value: float) -> float | None:
    """A price; 0 says none."""
    return None if value <= 0 else value


def fraction(value: float) -> float:
    """Percent as a fraction."""
    return value / 100


def instant(value: int) -> datetime | None:
    """Epoch milliseconds; 0 says never."""
    return None if value == 0 else datetime.fromtimestamp(value / 1000, UTC)


def new_york_date(value: int) -> date:
    """The date in New York at epoch milliseconds."""
    return datetime.fromtimestamp(value / 1000, NEW_YORK).date()


def stated_date(value: str) -> date:
    """The date in New York of a UTC text."""
    return datetime.fromisoformat(value).astimezone(NEW_YORK).date()


Trace = tuple[str, Callable[[Any], Any]]


def untraced(wire: dict[str, Any], row: dict[str, Any], traces: dict[str, Trace]) -> list[str]:
    """The wire fields that are not in the row as the map says, with both values."""
    wrong = []
    for name, value in wire.items():
        column, told = traces[name]
        expected = told(value)
        seen = row[column]
        if isinstance(expected, float) and isinstance(seen, float):
            agrees = seen == pytest.approx(expected, rel=1e-15, abs=0)
        else:
            agrees = seen == expected
        if not agrees:
            wrong.append(f"{name}: wire {value!r}, column {column} {seen!r}, expected {expected!r}")
    return wrong


CONTRACT: dict[str, Trace] = {
    "putCall": ("option_type", {"CALL": "C", "PUT": "P"}.__getitem__),
    "symbol": ("option_symbol", same),
    "description": ("description", same),
    "exchangeName": ("exchange_name", same),
    "bid": ("bid", price),
    "ask": ("ask", price),
    "last": ("last", price),
    "mark": ("mark", price),
    "bidSize": ("bid_size", same),
    "askSize": ("ask_size", same),
    "lastSize": ("last_size", same),
    "highPrice": ("high", price),
    "lowPrice": ("low", price),
    "openPrice": ("open", price),
    "closePrice": ("previous_close", price),
    "totalVolume": ("volume", same),
    "tradeTimeInLong": ("trade_time", instant),
    "quoteTimeInLong": ("quote_time", instant),
    "netChange": ("net_change", same),
    "volatility": ("vendor_implied_volatility", fraction),
    "delta": ("vendor_delta", same),
    "gamma": ("vendor_gamma", same),
    "theta": ("vendor_theta", same),
    "vega": ("vendor_vega", same),
    "rho": ("vendor_rho", same),
    "openInterest": ("open_interest", same),
    "timeValue": ("time_value", same),
    "theoreticalOptionValue": ("vendor_theoretical_value", same),
    "theoreticalVolatility": ("vendor_theoretical_volatility", fraction),
    "optionDeliverablesList": ("deliverables", lambda listed: "100 $SPX STOCK" if len(listed) == 1 else listed),
    "strikePrice": ("strike", same),
    "expirationDate": ("expiration_date", stated_date),
    "daysToExpiration": ("days_to_expiration", same),
    "expirationType": ("expiration_type", same),
    "lastTradingDay": ("last_trading_date", new_york_date),
    "multiplier": ("multiplier", same),
    "settlementType": ("settlement_type", same),
    "deliverableNote": ("deliverable_note", same),
    "percentChange": ("net_change_pct", same),
    "markChange": ("mark_change", same),
    "markPercentChange": ("mark_change_pct", same),
    "intrinsicValue": ("intrinsic_value", same),
    "extrinsicValue": ("extrinsic_value", same),
    "optionRoot": ("option_root", same),
    "exerciseType": ("exercise_type", same),
    "high52Week": ("high_52_week", price),
    "low52Week": ("low_52_week", price),
    "nonStandard": ("is_non_standard", same),
    "pennyPilot": ("is_penny_pilot", same),
    "inTheMoney": ("is_in_the_money", same),
    "mini": ("is_mini", same),
}


def contracts(chain: dict[str, Any]) -> list[dict[str, Any]]:
    """All contracts of a chain in wire order."""
    return [
        contract
        for side in ("callExpDateMap", "putExpDateMap")
        for strikes in chain.get(side, {}).values()
        for listed in strikes.values()
        for contract in listed
    ]


def test_recorded_chain_is_in_the_table_field_by_field() -> None:
    """All 162 recorded contracts are valid rows; every wire field of each is in its row, and none is unknown."""
    name, arrived = "chain_SPX_one_expiry_2025-05-09.json", datetime(2025, 5, 9, 21, 0, tzinfo=UTC)
    found = options.normalize([answer(name, "options", "/chains", "$SPX", arrived)], session_date=date(2025, 5, 9))
    chain = recorded(name)
    wires = contracts(chain)
    rows = validate(found.frame, options.SCHEMA).valid.rows(named=True)
    assert len(wires) == len(rows) == 162
    wrong = []
    for wire, row in zip(wires, rows, strict=True):
        assert wire.pop("bidAskSize") == f"{row['bid_size']}X{row['ask_size']}"
        wrong += untraced(wire, row, CONTRACT)
    assert wrong == []
    head = rows[0]
    assert (head["symbol"], head["underlying_price"], head["interest_rate"]) == ("$SPX", 5659.91, 0.0425)
    assert (head["is_index"], head["is_delayed"], head["underlying_asset_type"]) == (True, False, "INDEX")
    assert head["dividend_yield"] is None, "-1 is no yield"
    assert head["underlying_asset_sub_type"] is None, "an empty text is none"
    assert head["expiration_time"] == datetime(2025, 5, 20, 20, 0, tzinfo=UTC)
    assert head["chain_scope"] == "unknown"
    assert not any(name.startswith(("unknown", "tolerant", "left_out", "non_finite")) for name in found.counts)
    assert found.problems == ()


def predecessor(chain: dict[str, Any]) -> Normalized:
    """The chain of the predecessor's API as one capture."""
    arrived = datetime(2023, 3, 8, 21, 0, tzinfo=UTC)
    request = MarketDataRequest("options", "/chains", (), ("AAPL",))
    response = RawResponse(request, 200, json.dumps(chain).encode(), (), arrived, arrived)
    return options.normalize([response], session_date=date(2023, 3, 8))


def test_predecessor_rows_without_an_option_symbol_are_rejected_with_that_reason() -> None:
    """The predecessor's ten contracts carry no option symbol, so none can be told apart: all are in quarantine."""
    found = predecessor(recorded("schwab_predecessor_chain_aapl_20230308.json", "market"))
    assert found.frame.is_empty()
    assert found.rejected["rule"].to_list() == ["missing_option_symbol"] * 10


def test_predecessor_nan_texts_are_null_and_everything_else_is_traced() -> None:
    """With option symbols added, all ten rows stand: NaN texts are null and counted, the other values as sent."""
    chain = recorded("schwab_predecessor_chain_aapl_20230308.json", "market")
    wires = contracts(chain)
    for wire in wires:
        wire["symbol"] = f"AAPL  230310P{round(wire['strikePrice'] * 1000):08d}"
    found = predecessor(chain)
    rows = validate(found.frame, options.SCHEMA).valid.rows(named=True)
    assert len(rows) == 10
    known = CONTRACT | {
        "expirationDate": ("expiration_date", new_york_date),
        "volatility": ("vendor_implied_volatility", lambda value: None if value == "NaN" else value / 100),
        **{
            wire: (CONTRACT[wire][0], lambda value: None if value == "NaN" else value)
            for wire in ("delta", "gamma", "theta", "vega", "rho", "theoreticalOptionValue")
        },
    }
    assert [text for wire, row in zip(wires, rows, strict=True) for text in untraced(wire, row, known)] == []
    failed = sum(wire["delta"] == "NaN" for wire in wires)
    assert 0 < failed < 10
    assert found.counts["non_finite:vendor_delta"] == failed
    assert "tolerant_parse" not in found.counts


ENTRY: dict[str, Trace] = {
    "assetMainType": ("asset_type", same),
    "assetSubType": ("asset_sub_type", same),
    "quoteType": ("quote_type", same),
    "realtime": ("is_realtime", same),
    "ssid": ("security_id", same),
    "symbol": ("symbol", same),
}
QUOTE: dict[str, Trace] = {
    "52WeekHigh": ("high_52_week", price),
    "52WeekLow": ("low_52_week", price),
    "askMICId": ("ask_venue", same),
    "askPrice": ("ask", price),
    "askSize": ("ask_size", same),
    "askTime": ("ask_time", instant),
    "bidMICId": ("bid_venue", same),
    "bidPrice": ("bid", price),
    "bidSize": ("bid_size", same),
    "bidTime": ("bid_time", instant),
    "closePrice": ("previous_close", price),
    "delta": ("vendor_delta", same),
    "futurePercentChange": ("net_change_pct", same),
    "gamma": ("vendor_gamma", same),
    "highPrice": ("high", price),
    "impliedYield": ("implied_yield", same),
    "indAskPrice": ("indicative_ask", price),
    "indBidPrice": ("indicative_bid", price),
    "indQuoteTime": ("indicative_quote_time", instant),
    "lastMICId": ("last_venue", same),
    "lastPrice": ("last", price),
    "lastSize": ("last_size", same),
    "lowPrice": ("low", price),
    "mark": ("mark", price),
    "markChange": ("mark_change", same),
    "markPercentChange": ("mark_change_pct", same),
    "moneyIntrinsicValue": ("intrinsic_value", same),
    "nAV": ("net_asset_value", price),
    "netChange": ("net_change", same),
    "netPercentChange": ("net_change_pct", same),
    "openInterest": ("open_interest", same),
    "openPrice": ("open", price),
    "postMarketChange": ("post_market_change", same),
    "postMarketPercentChange": ("post_market_change_pct", same),
    "quoteTime": ("quote_time", instant),
    "quotedInSession": ("is_quoted_in_session", same),
    "rho": ("vendor_rho", same),
    "securityStatus": ("security_status", same),
    "settleTime": ("settle_time", instant),
    "theoreticalOptionValue": ("vendor_theoretical_value", same),
    "theta": ("vendor_theta", same),
    "tick": ("tick_size", price),
    "tickAmount": ("tick_value", price),
    "timeValue": ("time_value", same),
    "totalVolume": ("volume", same),
    "tradeTime": ("trade_time", instant),
    "underlyingPrice": ("underlying_price", price),
    "vega": ("vendor_vega", same),
    "volatility": ("vendor_implied_volatility", lambda value: value / 100 if value < 500 else None),
}
REFERENCE: dict[str, Trace] = {
    "contractType": ("option_type", same),
    "cusip": ("cusip", same),
    "daysToExpiration": ("days_to_expiration", same),
    "deliverables": ("deliverables", same),
    "description": ("description", same),
    "exchange": ("exchange_code", same),
    "exchangeName": ("exchange_name", same),
    "exerciseType": ("exercise_type", same),
    "expirationType": ("expiration_type", same),
    "futureExpirationDate": ("expiration_date", new_york_date),
    "futureIsActive": ("is_active", same),
    "futureMultiplier": ("multiplier", same),
    "futurePriceFormat": ("price_format", same),
    "futureSettlementPrice": ("settlement_price", price),
    "futureTradingHours": ("trading_hours", same),
    "htbQuantity": ("hard_to_borrow_quantity", same),
    "htbRate": ("hard_to_borrow_rate", same),
    "isHardToBorrow": ("is_hard_to_borrow", same),
    "isPennyPilot": ("is_penny_pilot", same),
    "isShortable": ("is_shortable", same),
    "isTradable": ("is_tradable", same),
    "lastTradingDay": ("last_trading_date", new_york_date),
    "multiplier": ("multiplier", same),
    "product": ("product", same),
    "settlementType": ("settlement_type", same),
    "strikePrice": ("strike", same),
    "underlying": ("underlying_symbol", same),
    "underlyingAssetType": ("underlying_asset_type", same),
}
REGULAR: dict[str, Trace] = {
    "regularMarketLastPrice": ("regular_last", price),
    "regularMarketLastSize": ("regular_last_size", same),
    "regularMarketNetChange": ("regular_net_change", same),
    "regularMarketPercentChange": ("regular_net_change_pct", same),
    "regularMarketTradeTime": ("regular_trade_time", instant),
}
FUNDAMENTAL: dict[str, Trace] = {
    "avg10DaysVolume": ("average_volume_10_days", same),
    "avg1YearVolume": ("average_volume_1_year", same),
    "declarationDate": ("dividend_declaration_date", stated_date),
    "divAmount": ("dividend_amount", same),
    "divExDate": ("dividend_ex_date", stated_date),
    "divFreq": ("dividend_frequency", same),
    "divPayAmount": ("dividend_pay_amount", same),
    "divPayDate": ("dividend_pay_date", stated_date),
    "divYield": ("dividend_yield", fraction),
    "eps": ("earnings_per_share", same),
    "fundLeverageFactor": ("fund_leverage_factor", same),
    "lastEarningsDate": ("last_earnings_date", stated_date),
    "nextDivExDate": ("next_dividend_ex_date", stated_date),
    "nextDivPayDate": ("next_dividend_pay_date", stated_date),
    "peRatio": ("price_earnings_ratio", same),
}
BLOCKS = {"quote": QUOTE, "reference": REFERENCE, "regular": REGULAR, "fundamental": FUNDAMENTAL}


@pytest.mark.parametrize(
    ("name", "arrived", "rows"),
    [
        ("quote_equity_INTC_2024-10-18.json", datetime(2024, 10, 18, 23, 59, 5, tzinfo=UTC), 1),
        ("quote_index_SPX_2025-01-30.json", datetime(2025, 1, 30, 22, 0, tzinfo=UTC), 1),
        ("quote_option_META_2025-01-24.json", datetime(2025, 1, 24, 21, 5, tzinfo=UTC), 1),
        ("quotes_mixed_six_asset_types_2024-05-17.json", datetime(2024, 5, 18, 0, 10, tzinfo=UTC), 6),
    ],
)
def test_recorded_quotes_are_in_the_table_field_by_field(name: str, arrived: datetime, rows: int) -> None:
    """Every recorded entry is a valid row that has each field of each of its blocks."""
    found = quotes.normalize(
        [answer(name, "quotes", "/quotes", "", arrived)], session_date=arrived.astimezone(NEW_YORK).date()
    )
    table = {row["symbol"]: row for row in validate(found.frame, quotes.SCHEMA).valid.rows(named=True)}
    entries = recorded(name)
    assert len(table) == len(entries) == rows
    wrong = []
    for symbol, entry in entries.items():
        row = table[symbol]
        blocks = {block: entry.pop(block) for block in BLOCKS if block in entry}
        wrong += untraced(entry, row, ENTRY)
        parts = [blocks.get("reference", {}).pop(f"expiration{part}", None) for part in ("Year", "Month", "Day")]
        if parts[0] is not None:
            assert row["expiration_date"] == date(*parts)
        for block, wire in blocks.items():
            wrong += untraced(wire, row, BLOCKS[block])
    assert wrong == []
    assert not any(name.startswith(("unknown", "tolerant", "non_finite")) for name in found.counts)
    assert found.problems == ()


def test_recorded_invalid_symbols_are_problems() -> None:
    """The recorded errors block gives no row and names each of its four symbols."""
    name = "quotes_errors_block_invalid_symbols.json"
    found = quotes.normalize(
        [answer(name, "quotes", "/quotes", "", datetime(2024, 5, 18, tzinfo=UTC))], session_date=date(2024, 5, 17)
    )
    assert found.frame.is_empty()
    (problem,) = found.problems
    assert (problem.reason, problem.symbols) == (
        "unknown_symbol",
        ("^IRX", "/ESZ21", "ESM24.CME", "AMZN  220617C03170000"),
    )


@pytest.mark.parametrize(
    ("name", "symbol", "arrived", "frequency", "rows"),
    [
        (
            "pricehistory_1min_AAPL_2024-05_first_half.json",
            "AAPL",
            datetime(2024, 5, 18, tzinfo=UTC),
            "minute",
            3_797,
        ),
        ("pricehistory_daily_SPY_2025-07.json", "SPY", datetime(2025, 7, 20, tzinfo=UTC), "daily", 21),
        ("pricehistory_monthly_AAPL_2024-10.json", "AAPL", datetime(2024, 10, 19, tzinfo=UTC), "monthly", 12),
    ],
)
def test_recorded_bars_are_in_the_table_field_by_field(
    name: str, symbol: str, arrived: datetime, frequency: str, rows: int
) -> None:
    """Every recorded bar is a valid row with its values and start, its frequency read from the stamps."""
    found = ohlc.normalize(
        [answer(name, "ohlc", "/pricehistory", symbol, arrived)], session_date=arrived.astimezone(NEW_YORK).date()
    )
    table = validate(found.frame, ohlc.SCHEMA).valid
    wires = recorded(name)["candles"]
    assert table.height == len(wires) == rows
    expected = [
        (
            symbol,
            frequency,
            instant(wire["datetime"]),
            arrived,
            *tuple(wire[field] for field in ("open", "high", "low", "close", "volume")),
        )
        for wire in wires
    ]
    names = ("symbol", "frequency", "bar_time", "known_time", "open", "high", "low", "close", "volume")
    assert table.select(names).rows() == expected
    assert found.problems == ()
    assert found.counts == {}


def test_recorded_minutes_have_full_regular_sessions() -> None:
    """Each of the five recorded sessions has 390 regular minutes, the rest are extended hours from 04:00 to 19:59."""
    name = "pricehistory_1min_AAPL_2024-05_first_half.json"
    arrived = datetime(2024, 5, 18, tzinfo=UTC)
    frame = ohlc.normalize(
        [answer(name, "ohlc", "/pricehistory", "AAPL", arrived)], session_date=date(2024, 5, 17)
    ).frame
    regular = frame.filter(session_part="regular").group_by("session_date").len()
    assert regular["len"].to_list() == [390] * 5
    assert set(frame["session_part"]) == {"regular", "extended"}


def test_recorded_daily_bars_are_of_sessions() -> None:
    """The recorded daily bars run from 18 June to 18 July 2025 without 19 June and 4 July, both holidays."""
    name = "pricehistory_daily_SPY_2025-07.json"
    arrived = datetime(2025, 7, 20, tzinfo=UTC)
    frame = ohlc.normalize(
        [answer(name, "ohlc", "/pricehistory", "SPY", arrived)], session_date=date(2025, 7, 18)
    ).frame
    days = frame["session_date"].to_list()
    assert (days[0], days[-1]) == (date(2025, 6, 18), date(2025, 7, 18))
    assert {date(2025, 6, 19), date(2025, 7, 4)}.isdisjoint(days)
    assert all(day.weekday() < 5 for day in days)
