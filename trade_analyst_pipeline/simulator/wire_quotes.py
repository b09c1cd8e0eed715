"""Quotes as the wire spells them: the answer as a whole, and indices, funds and currencies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from trade_analyst_pipeline.market.sessions import NEW_YORK
from trade_analyst_pipeline.simulator.instruments import Instrument, instrument_on
from trade_analyst_pipeline.simulator.noise import uniform
from trade_analyst_pipeline.simulator.paths import calendar
from trade_analyst_pipeline.simulator.wire_futures import future_entry
from trade_analyst_pipeline.simulator.wire_option_quotes import option_entry
from trade_analyst_pipeline.simulator.wire_shares import (
    Entry,
    change_of,
    entry_head,
    fundamental_block,
    milliseconds,
    share_entry,
    ssid,
    touch_of,
    year_range,
)

if TYPE_CHECKING:
    from trade_analyst_pipeline.simulator.market import Market, Moment

QUOTE_BLOCKS = ("quote", "fundamental", "extended", "reference", "regular")


def quotes_body(
    market: Market, instant: datetime, symbols: Iterable[str], blocks: frozenset[str], *, indicative: bool = False
) -> dict[str, Any]:
    """Entries by symbol; symbols that are not known stand together under `errors`.

    With `indicative` each ETF brings the level that its holdings are worth, under `$` and its symbol and `.IV`.
    """
    body: dict[str, Any] = {}
    unknown: list[str] = []
    asked = dict.fromkeys(symbols)
    if indicative:
        asked |= dict.fromkeys(f"${symbol}.IV" for symbol in asked if _indicated(f"${symbol}.IV", instant))
    for symbol in asked:
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
    if symbol.startswith(("/", "./")):
        return future_entry(market, instant, symbol)
    etf = _indicated(symbol, instant)
    if etf is not None:
        return _indicative_entry(market, market.moment(etf.symbol, instant), symbol)
    if instrument_on(symbol, instant.astimezone(NEW_YORK).date()) is None:
        return None
    moment = market.moment(symbol, instant)
    return _ENTRIES[moment.instrument.kind](market, moment)


def _indicated(symbol: str, instant: datetime) -> Instrument | None:
    """The ETF behind `$SPY.IV`; None for any other symbol."""
    if not (symbol.startswith("$") and symbol.endswith(".IV")):
        return None
    found = instrument_on(symbol[1:-3], instant.astimezone(NEW_YORK).date())
    return found if found is not None and found.kind == "etf" else None


def _indicative_entry(market: Market, moment: Moment, symbol: str) -> Entry:
    """An index entry of what the ETF's holdings are worth: a few hundredths of a percent off its price."""
    entry = _index_entry(market, moment)
    worth = round(moment.spot * (1.0 + 0.0004 * (uniform(market.seed, symbol, math.floor(moment.seconds)) - 0.5)), 4)
    change = change_of(worth, moment.previous_close, 4)
    quote = entry["quote"] | {"lastPrice": worth, "netChange": change[0], "netPercentChange": change[1]}
    quote |= {"totalVolume": 0}
    reference = {"description": f"{moment.instrument.description} Indicative Value".upper(), "exchange": "0"}
    named = {"symbol": symbol, "ssid": ssid(symbol), "quote": quote}
    return entry | named | {"reference": reference | {"exchangeName": "Index"}}


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
        "assetSubType": instrument.sub_type,
        "fundamental": fundamental_block(market, moment),
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


def _forex_entry(market: Market, moment: Moment) -> Entry:
    touch, decimals = touch_of(market, moment), moment.instrument.decimals
    pips = uniform(market.seed, moment.instrument.symbol, math.floor(moment.seconds), "pips")
    rate, close = round(moment.spot + 0.01 * (pips - 0.5), decimals), moment.previous_close
    change, half = change_of(rate, close, decimals), 7.0 * 10.0**-decimals
    return {
        "assetMainType": "FOREX",
        "realtime": True,
        "symbol": moment.instrument.symbol,
        "quote": {
            "52WeekHigh": 0.0,
            "52WeekLow": 0.0,
            "askPrice": round(rate + half, decimals),
            "askSize": 1000000,
            "bidPrice": round(rate - half, decimals),
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
    "forex": _forex_entry,
}
