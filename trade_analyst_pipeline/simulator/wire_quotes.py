"""Quotes as the wire spells them: the answer as a whole, and indices, funds, futures and currencies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from trade_analyst_pipeline.simulator.instruments import INSTRUMENTS
from trade_analyst_pipeline.simulator.listing import third_friday
from trade_analyst_pipeline.simulator.noise import number_of, uniform
from trade_analyst_pipeline.simulator.paths import calendar, midnight
from trade_analyst_pipeline.simulator.wire_option_quotes import option_entry
from trade_analyst_pipeline.simulator.wire_shares import (
    Entry,
    change_of,
    entry_head,
    milliseconds,
    share_entry,
    ssid,
    touch_of,
    year_range,
)

if TYPE_CHECKING:
    from trade_analyst_pipeline.simulator.market import Market, Moment

QUOTE_BLOCKS = ("quote", "fundamental", "extended", "reference", "regular")


def quotes_body(market: Market, instant: datetime, symbols: Iterable[str], blocks: frozenset[str]) -> dict[str, Any]:
    """Entries by symbol; symbols that are not known stand together under `errors`."""
    body: dict[str, Any] = {}
    unknown: list[str] = []
    for symbol in dict.fromkeys(symbols):
        entry = quote_entry(market, instant, symbol)
        if entry is None:
            unknown.append(symbol)
        else:
            body[entry["symbol"]] = {
                name: value for name, value in entry.items() if name not in QUOTE_BLOCKS or name in blocks
            }
    if unknown:
        body["errors"] = {"invalidSymbols": unknown}
    return body


def quote_entry(market: Market, instant: datetime, symbol: str) -> Entry | None:
    """One symbol's entry with all its blocks, or None for a symbol that is not traded."""
    if len(symbol) == 21:
        return option_entry(market, instant, symbol)
    name = "/ES" if symbol == active_future(instant) else symbol
    if name not in INSTRUMENTS:
        return None
    moment = market.moment(name, instant)
    return _ENTRIES[moment.instrument.kind](market, moment)


def active_future(instant: datetime) -> str:
    """The contract a query for `/ES` is answered under: the next quarterly one."""
    day = instant.date()
    for year in (day.year, day.year + 1):
        for month, code in ((3, "H"), (6, "M"), (9, "U"), (12, "Z")):
            if third_friday(year, month) > day:
                return f"/ES{code}{year % 100}"
    raise ValueError("no active future contract")  # unreachable: a later year always has one


_NO_FUNDAMENTALS: Entry = {
    "avg10DaysVolume": 0.0,
    "avg1YearVolume": 0.0,
    "divAmount": 0.0,
    "divFreq": 0,
    "divPayAmount": 0.0,
    "divYield": 0.0,
    "eps": 0.0,
    "fundLeverageFactor": 0.0,
    "peRatio": 0.0,
}


def _index_entry(market: Market, moment: Moment) -> Entry:
    reach, change = year_range(market, moment), change_of(moment.spot, moment.previous_close)
    traded = moment.seconds if moment.phase == "open" else calendar().closes[moment.index] + 1320.0
    return entry_head(moment.instrument, "INDEX") | {
        "fundamental": dict(_NO_FUNDAMENTALS),
        "quote": {
            "52WeekHigh": reach.high,
            "52WeekLow": reach.low,
            "closePrice": moment.previous_close,
            "highPrice": moment.high,
            "lastPrice": moment.spot,
            "lowPrice": moment.low,
            "netChange": change[0],
            "netPercentChange": change[1],
            "openPrice": moment.opened,
            "securityStatus": "Normal" if moment.phase == "open" else "Closed",
            "totalVolume": market.volume(moment),
            "tradeTime": milliseconds(min(moment.seconds, traded)),
        },
        "reference": {"description": moment.instrument.description, "exchange": "0", "exchangeName": "Index"},
    }


def _fund_entry(market: Market, moment: Moment) -> Entry:
    reach, instrument = year_range(market, moment), moment.instrument
    value = float(market.path(instrument.symbol).closes[moment.index])
    value = value if moment.phase in {"post", "closed"} else moment.previous_close
    change = change_of(value, moment.previous_close)
    return entry_head(instrument, "MUTUAL_FUND") | {
        "assetSubType": "OEF",
        "fundamental": _NO_FUNDAMENTALS | {"divYield": round(100.0 * instrument.dividend_yield, 5), "divFreq": 1},
        "quote": {
            "52WeekHigh": reach.high,
            "52WeekLow": reach.low,
            "lastPrice": value,
            "closePrice": moment.previous_close,
            "nAV": value,
            "netChange": change[0],
            "netPercentChange": change[1],
            "securityStatus": "Normal",
            "tradeTime": milliseconds(calendar().closes[moment.index] + 9900.0),
        },
        "reference": {
            "cusip": instrument.cusip,
            "description": instrument.description,
            "exchange": instrument.exchange,
            "exchangeName": instrument.exchange_name,
        },
    }


def _future_entry(market: Market, moment: Moment) -> Entry:
    touch = touch_of(market, moment)
    instant = datetime.fromtimestamp(moment.seconds, UTC)
    symbol = active_future(instant)
    price, close = round(moment.spot * 4.0) / 4.0, round(moment.previous_close * 4.0) / 4.0
    change = change_of(price, close)
    quoted = milliseconds(moment.seconds - touch.luck)
    expires = third_friday(2000 + int(symbol[-2:]), {"H": 3, "M": 6, "U": 9, "Z": 12}[symbol[3]])
    month = expires.strftime("%b-%Y")
    return entry_head(moment.instrument, "FUTURE") | {
        "symbol": symbol,
        "ssid": ssid(symbol),
        "quote": {
            "askPrice": price + 0.25,
            "askSize": touch.ask_size,
            "askTime": quoted,
            "bidPrice": price,
            "bidSize": touch.bid_size,
            "bidTime": quoted,
            "closePrice": close,
            "futurePercentChange": change[1],
            "highPrice": round(moment.high * 4.0) / 4.0,
            "lastPrice": price,
            "lastSize": 1,
            "lowPrice": round(moment.low * 4.0) / 4.0,
            "mark": price,
            "netChange": change[0],
            "openInterest": 2_000_000 + number_of(market.seed, symbol, moment.index) % 300_000,
            "openPrice": round(moment.opened * 4.0) / 4.0,
            "quoteTime": quoted,
            "quotedInSession": moment.phase == "open",
            "securityStatus": "Normal" if moment.phase == "open" else "Closed",
            "settleTime": milliseconds(midnight(moment.day)),
            "tick": 0.25,
            "tickAmount": 12.5,
            "totalVolume": market.volume(moment),
            "tradeTime": quoted,
        },
        "reference": {
            "description": f"{moment.instrument.description},{month},ETH",
            "exchange": "@",
            "exchangeName": "XCME",
            "futureActiveSymbol": symbol,
            "futureExpirationDate": milliseconds(midnight(expires)),
            "futureIsActive": True,
            "futureMultiplier": 50.0,
            "futurePriceFormat": "D,D",
            "futureSettlementPrice": close,
            "futureTradingHours": "GLBX(de=1640;0=-17001600;1=r-17001600d-15551640;7=d-16401555)",
            "product": "/ES",
        },
    }


def _forex_entry(market: Market, moment: Moment) -> Entry:
    touch = touch_of(market, moment)
    pips = uniform(market.seed, "EUR/USD", math.floor(moment.seconds), "pips")
    rate, close = round(moment.spot + 0.01 * (pips - 0.5), 5), moment.previous_close
    change = change_of(rate, close, 5)
    return {
        "assetMainType": "FOREX",
        "realtime": True,
        "symbol": moment.instrument.symbol,
        "quote": {
            "52WeekHigh": 0.0,
            "52WeekLow": 0.0,
            "askPrice": round(rate + 0.00007, 5),
            "askSize": 1000000,
            "bidPrice": round(rate - 0.00007, 5),
            "bidSize": 1200000,
            "closePrice": close,
            "highPrice": 0.0,
            "lastPrice": rate,
            "lastSize": 10000,
            "lowPrice": 0.0,
            "mark": rate,
            "netChange": change[0],
            "netPercentChange": change[1],
            "openPrice": 0.0,
            "quoteTime": milliseconds(touch.seconds),
            "securityStatus": "Unknown",
            "tick": 0.0,
            "tickAmount": 0.0,
            "totalVolume": 0,
            "tradeTime": milliseconds(touch.seconds) - 900,
        },
        "reference": {
            "description": moment.instrument.description,
            "exchange": "!",
            "exchangeName": "GFT",
            "isTradable": False,
        },
    }


_ENTRIES: dict[str, Callable[[Market, Moment], Entry]] = {
    "stock": share_entry,
    "etf": share_entry,
    "index": _index_entry,
    "fund": _fund_entry,
    "future": _future_entry,
    "forex": _forex_entry,
}
