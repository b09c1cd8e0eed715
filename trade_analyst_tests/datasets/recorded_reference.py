"""What each field of the recorded expirations, hours, instruments and movers becomes, written out a second time."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from recorded_fields import Trace, fraction, same


def day(text: str) -> date:
    """The date at the beginning of a text."""
    return date.fromisoformat(text[:10])


def known(value: float) -> float | None:
    """A figure; 0 says unknown."""
    return None if value == 0 else value


def first_start(spans: list[dict[str, str]]) -> datetime:
    """The start of the first span, in UTC."""
    return datetime.fromisoformat(spans[0]["start"]).astimezone(UTC)


def last_end(spans: list[dict[str, str]]) -> datetime:
    """The end of the last span, in UTC."""
    return datetime.fromisoformat(spans[-1]["end"]).astimezone(UTC)


def all_spans(hours: dict[str, list[dict[str, str]]]) -> str:
    """Every span with its part."""
    return "; ".join(f"{part} {span['start']}/{span['end']}" for part, spans in hours.items() for span in spans)


EXPIRATION: dict[str, Trace] = {
    "expirationDate": ("expiration_date", day),
    "daysToExpiration": ("days_to_expiration", same),
    "expirationType": ("expiration_type", same),
    "settlementType": ("settlement_type", same),
    "optionRoots": ("option_roots", same),
    "standard": ("is_standard", same),
}
PRODUCT: dict[str, Trace] = {
    "date": ("hours_date", day),
    "marketType": ("market_type", same),
    "product": ("market_product", same),
    "productName": ("product_name", same),
    "isOpen": ("is_open", same),
    "sessionHours": ("session_hours", all_spans),
}
HOURS = {"preMarket": "pre_market", "regularMarket": "regular", "postMarket": "post_market"}
INSTRUMENT: dict[str, Trace] = {
    "cusip": ("cusip", same),
    "symbol": ("symbol", same),
    "description": ("description", same),
    "exchange": ("exchange_name", same),
    "assetType": ("instrument_type", same),
}
FUNDAMENTAL: dict[str, Trace] = {
    "symbol": ("symbol", same),
    "high52": ("high_52_week", known),
    "low52": ("low_52_week", known),
    "dividendAmount": ("dividend_amount", same),
    "dividendYield": ("dividend_yield", fraction),
    "dividendDate": ("dividend_ex_date", day),
    "peRatio": ("price_earnings_ratio", known),
    "pegRatio": ("price_earnings_growth_ratio", known),
    "pbRatio": ("price_book_ratio", known),
    "prRatio": ("price_revenue_ratio", known),
    "pcfRatio": ("price_cash_flow_ratio", known),
    "grossMarginTTM": ("gross_margin_ttm_pct", known),
    "grossMarginMRQ": ("gross_margin_mrq_pct", known),
    "netProfitMarginTTM": ("net_margin_ttm_pct", known),
    "netProfitMarginMRQ": ("net_margin_mrq_pct", known),
    "operatingMarginTTM": ("operating_margin_ttm_pct", known),
    "operatingMarginMRQ": ("operating_margin_mrq_pct", known),
    "returnOnEquity": ("return_on_equity_pct", known),
    "returnOnAssets": ("return_on_assets_pct", known),
    "returnOnInvestment": ("return_on_investment_pct", known),
    "quickRatio": ("quick_ratio", known),
    "currentRatio": ("current_ratio", known),
    "interestCoverage": ("interest_coverage", known),
    "totalDebtToCapital": ("total_debt_to_capital_pct", known),
    "ltDebtToEquity": ("long_term_debt_to_equity_pct", known),
    "totalDebtToEquity": ("total_debt_to_equity_pct", known),
    "epsTTM": ("earnings_per_share_ttm", known),
    "epsChangePercentTTM": ("earnings_per_share_change_ttm_pct", known),
    "epsChangeYear": ("earnings_per_share_change_year", known),
    "epsChange": ("earnings_per_share_change", known),
    "revChangeYear": ("revenue_change_year_pct", known),
    "revChangeTTM": ("revenue_change_ttm_pct", known),
    "revChangeIn": ("revenue_change_in", known),
    "sharesOutstanding": ("shares_outstanding", known),
    "marketCapFloat": ("market_cap_float", known),
    "marketCap": ("market_cap", known),
    "bookValuePerShare": ("book_value_per_share", known),
    "shortIntToFloat": ("short_interest_to_float", known),
    "shortIntDayToCover": ("short_interest_days_to_cover", known),
    "divGrowthRate3Year": ("dividend_growth_3_years", known),
    "dividendPayAmount": ("dividend_pay_amount", same),
    "dividendPayDate": ("dividend_pay_date", day),
    "beta": ("beta", known),
    "vol1DayAvg": ("volume_1_day_average", known),
    "vol10DayAvg": ("volume_10_day_average", known),
    "vol3MonthAvg": ("volume_3_month_average", known),
    "avg10DaysVolume": ("average_volume_10_days", same),
    "avg1DayVolume": ("average_volume_1_day", known),
    "avg3MonthVolume": ("average_volume_3_months", known),
    "declarationDate": ("dividend_declaration_date", day),
    "dividendFreq": ("dividend_frequency", same),
    "eps": ("earnings_per_share", same),
    "dtnVolume": ("dtn_volume", known),
    "nextDividendPayDate": ("next_dividend_pay_date", day),
    "nextDividendDate": ("next_dividend_ex_date", day),
    "fundLeverageFactor": ("fund_leverage_factor", same),
}
MOVER: dict[str, Trace] = {
    "description": ("description", same),
    "volume": ("volume", same),
    "lastPrice": ("last", same),
    "netChange": ("net_change", same),
    "marketShare": ("market_share_pct", same),
    "totalVolume": ("list_volume", same),
    "trades": ("trades", same),
    "netPercentChange": ("net_change_pct", lambda share: round(share * 100, 8)),
    "symbol": ("symbol", same),
}


def spans_untraced(hours: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """The parts of a product's hours whose first start and last end are not in the row."""
    wrong = []
    for part, spans in hours.items():
        found = (row[f"{HOURS[part]}_open_time"], row[f"{HOURS[part]}_close_time"])
        if found != (first_start(spans), last_end(spans)):
            wrong.append(f"{part}: wire {spans!r}, columns {found!r}")
    return wrong
