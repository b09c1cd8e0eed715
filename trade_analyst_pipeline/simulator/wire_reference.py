"""Market hours, instruments and error bodies as the wire spells them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from trade_analyst_pipeline.market.sessions import NEW_YORK, is_session, session_close, session_open
from trade_analyst_pipeline.simulator.instruments import INSTRUMENTS, Instrument, everything, instrument_of
from trade_analyst_pipeline.simulator.paths import calendar, dividend_schedule
from trade_analyst_pipeline.simulator.wire_shares import year_range

if TYPE_CHECKING:
    from trade_analyst_pipeline.simulator.market import Market

MARKETS = ("equity", "option", "bond", "future", "forex")
PROJECTIONS = frozenset({"symbol-search", "symbol-regex", "desc-search", "desc-regex", "search", "fundamental"})


def errors_body(status: int, title: str, detail: str | None = None, source: Any = None) -> dict[str, Any]:
    """The body of a refusal. As observed, a 404 has its status as text and no detail."""
    error: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "status": str(status) if status == 404 else status,
        "title": title,
    }
    if detail is not None:
        error["detail"] = detail
    if source is not None:
        error["source"] = source
    return {"errors": [error]}


# -- market hours ------------------------------------------------------------------------------------------------


def markets_body(names: Iterable[str], day: date) -> dict[str, Any]:
    """Hours of each market on a date; on a closed day the product bears the market's own name."""
    return {name: _market(name, day) for name in names}


def _market(name: str, day: date) -> dict[str, Any]:
    if not is_session(day):
        closed = {"date": day.isoformat(), "marketType": name.upper(), "product": name, "isOpen": False}
        return {name: closed}
    return {code: _product(name, code, title, day) for code, title in _PRODUCTS[name]}


_PRODUCTS = {
    "equity": (("EQ", "equity"),),
    "option": (("EQO", "equity option"), ("IND", "index option")),
    "bond": (("BON", "bond"),),
    "future": (("/ES", "E-mini S&P 500"),),
    "forex": (("forex", "forex"),),
}


def _product(name: str, code: str, title: str, day: date) -> dict[str, Any]:
    return {
        "date": day.isoformat(),
        "marketType": name.upper(),
        "product": code,
        "productName": title,
        "isOpen": True,
        "sessionHours": _hours(name, code, day),
    }


def _hours(name: str, code: str, day: date) -> dict[str, Any]:
    opened, closed = session_open(day), session_close(day, "late" if code == "IND" else "regular")
    hours: dict[str, Any] = {}
    if name == "equity":
        hours["preMarket"] = [_span(opened - timedelta(minutes=150), opened)]
    hours["regularMarket"] = [_span(opened, closed)]
    if name == "equity":
        hours["postMarket"] = [_span(closed, closed + timedelta(hours=4))]
    return hours


def _span(start: datetime, end: datetime) -> dict[str, str]:
    return {"start": start.astimezone(NEW_YORK).isoformat(), "end": end.astimezone(NEW_YORK).isoformat()}


def last_date_of_hours(day: date) -> date:
    """The last date market hours can be asked for: a year ahead, and not beyond the calendar."""
    return min(day + timedelta(days=366), calendar().days[-1])


# -- instruments -------------------------------------------------------------------------------------------------

_ASSET_TYPES = {
    "stock": "EQUITY",
    "etf": "ETF",
    "index": "INDEX",
    "fund": "MUTUAL_FUND",
    "future": "FUTURE",
    "forex": "FOREX",
}


def find_instruments(market: Market, instant: datetime, text: str, projection: str) -> dict[str, Any]:
    """Instruments matching a search; an empty object when none does."""
    day = instant.astimezone(NEW_YORK).date()
    found = [item for item in _candidates(text, projection) if item.is_known_on(day)]
    if not found:
        return {}
    detailed = projection == "fundamental"
    return {"instruments": [instrument_entry(market, instant, item, detailed=detailed) for item in found]}


def _candidates(text: str, projection: str) -> Iterable[Instrument]:
    """What a search means, whatever the date; raises ValueError for a pattern that is none.

    Stocks made for load are found by their symbols alone.
    """
    if projection in {"symbol-search", "fundamental"}:
        named = [instrument_of(symbol) for symbol in dict.fromkeys(text.split(","))]
        return [item for item in named if item is not None]
    if projection == "symbol-regex":
        pattern = _pattern(text)
        return [item for item in everything() if pattern.fullmatch(item.symbol)]
    real, low = INSTRUMENTS.values(), text.lower()
    if projection == "desc-regex":
        pattern = _pattern(text)
        return [item for item in real if pattern.search(item.description)]
    if projection == "desc-search":
        return [item for item in real if low in item.description.lower()]
    return [item for item in real if low in item.symbol.lower() or low in item.description.lower()]


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        message = f"symbol is no pattern: {error}"
        raise ValueError(message) from error


def by_cusip(market: Market, instant: datetime, cusip: str) -> dict[str, Any] | None:
    """The instrument of a CUSIP, or None."""
    day = instant.astimezone(NEW_YORK).date()
    found = [item for item in everything() if item.cusip == cusip and cusip and item.is_known_on(day)]
    return {"instruments": [instrument_entry(market, instant, found[0], detailed=False)]} if found else None


def instrument_entry(market: Market, instant: datetime, item: Instrument, *, detailed: bool) -> dict[str, Any]:
    """One instrument; `detailed` adds its fundamentals."""
    entry: dict[str, Any] = {"fundamental": _fundamentals(market, instant, item)} if detailed else {}
    return entry | {
        "cusip": item.cusip,
        "symbol": item.symbol,
        "description": item.description.upper(),
        "exchange": item.exchange_name,
        "assetType": _ASSET_TYPES[item.kind],
    }


_UNKNOWN_RATIOS = [
    "pegRatio",
    "pbRatio",
    "prRatio",
    "pcfRatio",
    "grossMarginTTM",
    "grossMarginMRQ",
    "netProfitMarginTTM",
    "netProfitMarginMRQ",
    "operatingMarginTTM",
    "operatingMarginMRQ",
    "returnOnEquity",
    "returnOnAssets",
    "returnOnInvestment",
    "quickRatio",
    "currentRatio",
    "interestCoverage",
    "totalDebtToCapital",
    "ltDebtToEquity",
    "totalDebtToEquity",
]
_UNKNOWN_CHANGES = ["epsChangePercentTTM", "epsChangeYear", "epsChange", "revChangeYear", "revChangeTTM", "revChangeIn"]


def _fundamentals(market: Market, instant: datetime, item: Instrument) -> dict[str, Any]:
    moment = market.moment(item.symbol, instant)
    reach, close, earnings = year_range(market, moment), moment.previous_close, item.earnings_per_share
    past = [paid for paid in dividend_schedule(market.seed, item) if paid.ex_date <= moment.day]
    amount = past[-1].amount if past else 0.0
    fields: dict[str, Any] = {
        "symbol": item.symbol,
        "high52": reach.high,
        "low52": reach.low,
        "dividendAmount": round(item.payments * amount, 4),
        "dividendYield": round(100.0 * item.payments * amount / close, 5),
    }
    fields |= {"dividendDate": f"{past[-1].ex_date} 00:00:00.0"} if past else {}
    fields |= {"peRatio": round(close / earnings, 5) if earnings else 0.0}
    fields |= dict.fromkeys(_UNKNOWN_RATIOS, 0.0) | {"epsTTM": earnings} | dict.fromkeys(_UNKNOWN_CHANGES, 0.0)
    fields |= {
        "sharesOutstanding": item.shares_outstanding,
        "marketCapFloat": 0.0,
        "marketCap": round(item.shares_outstanding * close, 0),
        "bookValuePerShare": 0.0,
        "shortIntToFloat": 0.0,
        "shortIntDayToCover": 0.0,
        "divGrowthRate3Year": 0.0,
        "dividendPayAmount": amount,
    }
    fields |= {"dividendPayDate": f"{past[-1].ex_date + timedelta(days=4)} 00:00:00.0"} if past else {}
    yesterday = float(market.path(item.symbol).volumes[max(moment.index - 1, 0)])
    return fields | {
        "beta": round(item.market_share * item.volatility / 0.165, 5),
        "vol1DayAvg": 0.0,
        "vol10DayAvg": 0.0,
        "vol3MonthAvg": 0.0,
        "avg10DaysVolume": int(reach.ten_day_volume),
        "avg1DayVolume": int(yesterday),
        "avg3MonthVolume": int(reach.year_volume),
        **({"declarationDate": f"{past[-1].ex_date - timedelta(days=11)} 00:00:00.0"} if past else {}),
        "dividendFreq": item.payments if past else 0,
        "eps": earnings,
        "dtnVolume": int(yesterday),
        **_coming_dividend(market, item, moment.day),
        "fundLeverageFactor": 0.0,
    }


def _coming_dividend(market: Market, item: Instrument, day: date) -> dict[str, str]:
    """When it goes ex next and is paid; nothing for one that pays none."""
    coming = next((paid.ex_date for paid in dividend_schedule(market.seed, item) if paid.ex_date > day), None)
    if coming is None:
        return {}
    paid = coming + timedelta(days=4)
    return {"nextDividendPayDate": f"{paid} 00:00:00.0", "nextDividendDate": f"{coming} 00:00:00.0"}
