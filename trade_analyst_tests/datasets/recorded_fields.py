"""What each field of the recorded answers becomes, written out a second time, without the code under test."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

NEW_YORK = ZoneInfo("America/New_York")


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
Wire = dict[str, Any]


def untraced(wire: Wire, row: dict[str, Any], traces: dict[str, Trace]) -> list[str]:
    """The wire fields that are not in the row as the map says, with both values."""
    wrong = []
    for name, value in wire.items():
        column, told = traces[name]
        expected, seen = told(value), row[column]
        if isinstance(expected, float) and isinstance(seen, float):
            agrees = seen == pytest.approx(expected, rel=1e-15, abs=0)
        else:
            agrees = seen == expected
        if not agrees:
            wrong.append(f"{name}: wire {value!r}, column {column} {seen!r}, expected {expected!r}")
    return wrong


def unfounded(row: dict[str, Any], traced: list[tuple[Wire, dict[str, Trace]]], derived: set[str]) -> list[str]:
    """The columns with a value that neither a wire field says nor the dataset derives."""
    told = {traces[name][0] for wire, traces in traced for name in wire}
    return [f"{name}: {value!r}" for name, value in row.items() if value is not None and name not in told | derived]


CONTRACT: dict[str, Trace] = {
    "putCall": ("option_type", {"CALL": "C", "PUT": "P", "C": "C", "P": "P"}.__getitem__),
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
    "settlementPrice": ("settlement_price", price),
    "settlemetPrice": ("settlement_price", price),
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
    "expirationDate": ("expiration_date", new_york_date),
    "expirationStyle": ("expiration_style", same),
    "expirationType": ("expiration_type", same),
    "fsiDesc": ("financial_status", same),
    "futureActiveSymbol": ("active_symbol", same),
    "futureExpirationDate": ("expiration_date", new_york_date),
    "futureIsActive": ("is_active", same),
    "futureIsTradable": ("is_tradable", same),
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
    "marketMaker": ("market_maker", same),
    "multiplier": ("multiplier", same),
    "otcMarketTier": ("otc_market_tier", same),
    "product": ("product", same),
    "settlementType": ("settlement_type", same),
    "strikePrice": ("strike", same),
    "tradingHours": ("trading_hours", same),
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
EXTENDED: dict[str, Trace] = {
    "askPrice": ("extended_ask", price),
    "askSize": ("extended_ask_size", same),
    "bidPrice": ("extended_bid", price),
    "bidSize": ("extended_bid_size", same),
    "lastPrice": ("extended_last", price),
    "lastSize": ("extended_last_size", same),
    "mark": ("extended_mark", price),
    "quoteTime": ("extended_quote_time", instant),
    "totalVolume": ("extended_volume", same),
    "tradeTime": ("extended_trade_time", instant),
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
    "fundStrategy": ("fund_strategy", same),
    "lastEarningsDate": ("last_earnings_date", stated_date),
    "nextDivExDate": ("next_dividend_ex_date", stated_date),
    "nextDivPayDate": ("next_dividend_pay_date", stated_date),
    "peRatio": ("price_earnings_ratio", same),
}
BLOCKS = {
    "quote": QUOTE,
    "reference": REFERENCE,
    "regular": REGULAR,
    "extended": EXTENDED,
    "fundamental": FUNDAMENTAL,
}
BAR: dict[str, Trace] = {
    "open": ("open", same),
    "high": ("high", same),
    "low": ("low", same),
    "close": ("close", same),
    "volume": ("volume", same),
    "datetime": ("bar_time", instant),
}
CHAIN: dict[str, Trace] = {
    "symbol": ("symbol", same),
    "isDelayed": ("is_delayed", same),
    "isIndex": ("is_index", same),
    "interestRate": ("interest_rate", fraction),
    "underlyingPrice": ("underlying_price", price),
    "dividendYield": ("dividend_yield", lambda value: None if value < 0 else value / 100),
    "assetMainType": ("underlying_asset_type", same),
    "assetSubType": ("underlying_asset_sub_type", lambda text: text or None),
}
# Of the question or of all contracts together, and so in no row.
CHAIN_ALONE = {
    *("status", "strategy", "interval", "volatility", "daysToExpiration", "numberOfContracts", "isChainTruncated"),
    "underlying",
}
