"""Quotes as the wire spells them, one entry per symbol by kind of instrument.

`closePrice` is the previous session's close until the day rolls over, also in the evening; percentages are percent.
Bid and ask sizes of shares are round lots, `lastSize` is shares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from trade_analyst_pipeline.market.option_symbols import OptionSymbol, parse_option_symbol
from trade_analyst_pipeline.simulator.contracts import Board, Selection, evaluate
from trade_analyst_pipeline.simulator.instruments import INSTRUMENTS, Instrument
from trade_analyst_pipeline.simulator.listing import Expiration, expirations, option_root, third_friday
from trade_analyst_pipeline.simulator.noise import number_of, uniform
from trade_analyst_pipeline.simulator.paths import calendar, dividend_schedule, midnight
from trade_analyst_pipeline.simulator.wire_contracts import board_fields, deliverable_note, last_trading_day

if TYPE_CHECKING:
    from trade_analyst_pipeline.simulator.market import Market, Moment

QUOTE_BLOCKS = ("quote", "fundamental", "extended", "reference", "regular")
Entry = dict[str, Any]


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
        return _option_entry(market, instant, symbol)
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


@dataclass(frozen=True)
class YearRange:
    """Highest and lowest price of the 52 weeks up to a moment, dollars, with the mean volumes of it."""

    high: float
    low: float
    ten_day_volume: float
    year_volume: float


def year_range(market: Market, moment: Moment) -> YearRange:
    """The extremes of the last 252 sessions and of the one going on."""
    symbol = moment.instrument.symbol
    path, start = market.path(symbol), max(moment.index - 252, 0)
    closes = path.previous_closes[start : moment.index + 1]
    volumes = path.volumes[start : moment.index] if moment.index else path.volumes[:1]
    high, low = max(float(closes.max()), moment.spot), min(float(closes.min()), moment.spot)
    if moment.high > 0.0:
        high, low = max(high, moment.high), min(low, moment.low)
    return YearRange(high, low, float(round(volumes[-10:].mean())), float(round(volumes.mean())))


def _ssid(symbol: str) -> int:
    return number_of("ssid", symbol) % 2_000_000_000


def _milliseconds(seconds: float) -> int:
    return math.floor(seconds * 1000.0)


def _change(price: float, base: float, decimals: int = 2) -> tuple[float, float]:
    change = round(price - base, decimals)
    return change, round(100.0 * change / base, 8) if base else 0.0


@dataclass(frozen=True)
class _Touch:
    bid: float
    ask: float
    bid_size: int
    ask_size: int
    mark: float
    seconds: float
    luck: float


def _touch(market: Market, moment: Moment) -> _Touch:
    symbol, second = moment.instrument.symbol, math.floor(moment.seconds)
    luck, other = (uniform(market.seed, symbol, second, name) for name in ("touch", "size"))
    width = max(round(moment.spot * (0.00004 if moment.phase == "open" else 0.0008) * 100.0), 1)
    above = round(luck * width)
    bid, ask = moment.spot - (width - above) / 100.0, moment.spot + above / 100.0
    ask = max(ask, bid + 0.01)
    shown = min(moment.seconds, market_end(moment))
    return _Touch(
        round(bid, 2), round(ask, 2), 1 + int(3.0 / (0.05 + luck)), 1 + int(3.0 / (0.05 + other)),
        round(min(max(moment.spot, bid), ask), 2), shown - luck, luck,
    )  # fmt: skip


def market_end(moment: Moment) -> float:
    """When the last trade of the session shown can have been: 20:00 New York, in seconds since 1970."""
    return midnight(calendar().days[moment.index]) + 20 * 3600.0


def _fundamental(market: Market, moment: Moment) -> Entry:
    instrument, reach = moment.instrument, year_range(market, moment)
    block: Entry = {"avg10DaysVolume": reach.ten_day_volume, "avg1YearVolume": reach.year_volume}
    schedule = dividend_schedule(market.seed, instrument)
    past = [item for item in schedule if item.ex_date <= moment.day]
    amount = past[-1].amount if past else 0.0
    if past:
        block |= {"declarationDate": _eastern(past[-1].ex_date - timedelta(days=11))}
    block |= {"divAmount": round(4.0 * amount, 4)}
    block |= {"divExDate": _eastern(past[-1].ex_date)} if past else {}
    block |= {"divFreq": 4 if past else 0, "divPayAmount": amount}
    block |= {"divPayDate": _eastern(past[-1].ex_date + timedelta(days=4))} if past else {}
    block |= {"divYield": round(400.0 * amount / moment.previous_close, 5), "eps": instrument.earnings_per_share}
    block |= {"fundLeverageFactor": 0.0}
    coming = next((item.ex_date for item in schedule if item.ex_date > moment.day), None)
    if past and coming:
        block |= {"nextDivExDate": _eastern(coming), "nextDivPayDate": _eastern(coming + timedelta(days=4))}
    earnings = instrument.earnings_per_share
    return block | {"peRatio": round(moment.previous_close / earnings, 5) if earnings else 0.0}


def _eastern(day: date) -> str:
    """Midnight New York of a date, as a UTC text."""
    return datetime.fromtimestamp(midnight(day), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _share_entry(market: Market, moment: Moment) -> Entry:
    instrument, touch = moment.instrument, _touch(market, moment)
    entry: Entry = {
        "assetMainType": "EQUITY",
        "assetSubType": "ETF" if instrument.kind == "etf" else "COE",
        "quoteType": "NBBO",
        "realtime": True,
        "ssid": _ssid(instrument.symbol),
        "symbol": instrument.symbol,
    }
    if moment.phase != "open":
        entry["extended"] = _extended(moment, touch)
    return entry | {
        "fundamental": _fundamental(market, moment),
        "quote": _share_quote(market, moment, touch),
        "reference": {
            "cusip": instrument.cusip,
            "description": instrument.description,
            "exchange": instrument.exchange,
            "exchangeName": instrument.exchange_name,
            "isHardToBorrow": False,
            "isShortable": True,
            "htbRate": 0.0,
        },
        "regular": _regular(moment),
    }


def _extended(moment: Moment, touch: _Touch) -> Entry:
    whole = _milliseconds(math.floor(touch.seconds))
    return {
        "askPrice": touch.ask,
        "askSize": touch.ask_size * 100,
        "bidPrice": touch.bid,
        "bidSize": touch.bid_size * 100,
        "lastPrice": moment.spot,
        "lastSize": 1 + int(99 * touch.luck),
        "mark": touch.mark,
        "quoteTime": whole,
        "totalVolume": 0,
        "tradeTime": whole,
    }


def _share_quote(market: Market, moment: Moment, touch: _Touch) -> Entry:
    reach, close = year_range(market, moment), moment.previous_close
    net, mark = _change(moment.spot, close), _change(touch.mark, close)
    post = _change(moment.spot, moment.regular_last)
    quoted = _milliseconds(touch.seconds)
    return {
        "52WeekHigh": reach.high,
        "52WeekLow": reach.low,
        "askMICId": "ARCX",
        "askPrice": touch.ask,
        "askSize": touch.ask_size,
        "askTime": quoted,
        "bidMICId": "XNAS",
        "bidPrice": touch.bid,
        "bidSize": touch.bid_size,
        "bidTime": quoted,
        "closePrice": close,
        "highPrice": moment.high,
        "lastMICId": "XADF",
        "lastPrice": moment.spot,
        "lastSize": 1 + int(400 * touch.luck),
        "lowPrice": moment.low,
        "mark": touch.mark,
        "markChange": mark[0],
        "markPercentChange": mark[1],
        "netChange": net[0],
        "netPercentChange": net[1],
        "openPrice": moment.opened,
        "postMarketChange": post[0],
        "postMarketPercentChange": post[1],
        "quoteTime": quoted,
        "securityStatus": "Closed" if moment.phase == "closed" else "Normal",
        "totalVolume": market.volume(moment),
        "tradeTime": quoted - int(900 * touch.luck),
    }


def _regular(moment: Moment) -> Entry:
    change = _change(moment.regular_last, moment.previous_close)
    table = calendar()
    closed = table.closes[moment.index - (moment.phase == "pre")]
    traded = moment.seconds if moment.phase == "open" else closed
    return {
        "regularMarketLastPrice": moment.regular_last,
        "regularMarketLastSize": 100,
        "regularMarketNetChange": change[0],
        "regularMarketPercentChange": change[1],
        "regularMarketTradeTime": _milliseconds(traded) + (78 if moment.phase != "open" else 0),
    }


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


def _head(instrument: Instrument, kind: str) -> Entry:
    return {
        "assetMainType": kind,
        "realtime": True,
        "ssid": _ssid(instrument.symbol),
        "symbol": instrument.symbol,
    }


def _index_entry(market: Market, moment: Moment) -> Entry:
    reach, change = year_range(market, moment), _change(moment.spot, moment.previous_close)
    traded = moment.seconds if moment.phase == "open" else calendar().closes[moment.index] + 1320.0
    return _head(moment.instrument, "INDEX") | {
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
            "tradeTime": _milliseconds(min(moment.seconds, traded)),
        },
        "reference": {"description": moment.instrument.description, "exchange": "0", "exchangeName": "Index"},
    }


def _fund_entry(market: Market, moment: Moment) -> Entry:
    reach, instrument = year_range(market, moment), moment.instrument
    value = float(market.path(instrument.symbol).closes[moment.index])
    value = value if moment.phase in {"post", "closed"} else moment.previous_close
    change = _change(value, moment.previous_close)
    return _head(instrument, "MUTUAL_FUND") | {
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
            "tradeTime": _milliseconds(calendar().closes[moment.index] + 9900.0),
        },
        "reference": {
            "cusip": instrument.cusip,
            "description": instrument.description,
            "exchange": instrument.exchange,
            "exchangeName": instrument.exchange_name,
        },
    }


def _future_entry(market: Market, moment: Moment) -> Entry:
    touch = _touch(market, moment)
    instant = datetime.fromtimestamp(moment.seconds, UTC)
    symbol = active_future(instant)
    price, close = round(moment.spot * 4.0) / 4.0, round(moment.previous_close * 4.0) / 4.0
    change = _change(price, close)
    quoted = _milliseconds(moment.seconds - touch.luck)
    expires = third_friday(2000 + int(symbol[-2:]), {"H": 3, "M": 6, "U": 9, "Z": 12}[symbol[3]])
    month = expires.strftime("%b-%Y")
    return _head(moment.instrument, "FUTURE") | {
        "symbol": symbol,
        "ssid": _ssid(symbol),
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
            "settleTime": _milliseconds(midnight(moment.day)),
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
            "futureExpirationDate": _milliseconds(midnight(expires)),
            "futureIsActive": True,
            "futureMultiplier": 50.0,
            "futurePriceFormat": "D,D",
            "futureSettlementPrice": close,
            "futureTradingHours": "GLBX(de=1640;0=-17001600;1=r-17001600d-15551640;7=d-16401555)",
            "product": "/ES",
        },
    }


def _forex_entry(market: Market, moment: Moment) -> Entry:
    touch = _touch(market, moment)
    pips = uniform(market.seed, "EUR/USD", math.floor(moment.seconds), "pips")
    rate, close = round(moment.spot + 0.01 * (pips - 0.5), 5), moment.previous_close
    change = _change(rate, close, 5)
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
            "quoteTime": _milliseconds(touch.seconds),
            "securityStatus": "Unknown",
            "tick": 0.0,
            "tickAmount": 0.0,
            "totalVolume": 0,
            "tradeTime": _milliseconds(touch.seconds) - 900,
        },
        "reference": {
            "description": moment.instrument.description,
            "exchange": "!",
            "exchangeName": "GFT",
            "isTradable": False,
        },
    }


_ENTRIES: dict[str, Callable[[Market, Moment], Entry]] = {
    "stock": _share_entry,
    "etf": _share_entry,
    "index": _index_entry,
    "fund": _fund_entry,
    "future": _future_entry,
    "forex": _forex_entry,
}


# -- single option contracts -------------------------------------------------------------------------------------


def _option_entry(market: Market, instant: datetime, symbol: str) -> Entry | None:
    try:
        parsed = parse_option_symbol(symbol)
    except ValueError:
        return None
    found = _listed(market, instant, parsed)
    if found is None:
        return None
    moment, item = found
    selection = Selection((item,), (np.array([parsed.strike]),))
    board = evaluate(market, moment, selection)
    row = 0 if parsed.option_type == "C" else 1
    fields = board_fields(board, 8, row)
    entry = _head(moment.instrument, "OPTION") | {"symbol": symbol, "ssid": _ssid(symbol)}
    return entry | {
        "quote": _option_quote(board, fields),
        "reference": _option_reference(moment, item, parsed),
    }


def _listed(market: Market, instant: datetime, parsed: OptionSymbol) -> tuple[Moment, Expiration] | None:
    for instrument in INSTRUMENTS.values():
        root = option_root(instrument.symbol)
        if not instrument.has_options or parsed.root not in {root, f"{root}W"}:
            continue
        moment = market.moment(instrument.symbol, instant)
        for item in expirations(instrument, moment.day):
            if (item.root, item.expiration_date) == (parsed.root, parsed.expiration_date) and np.any(
                np.abs(market.strikes(instrument.symbol, item, moment.day) - parsed.strike) < 0.0005
            ):
                return moment, item
    return None


def _option_quote(board: Board, fields: dict[str, Any]) -> Entry:
    opened = fields["lowPrice"] if fields["totalVolume"] else 0.0
    return {
        "52WeekHigh": fields["high52Week"],
        "52WeekLow": fields["low52Week"],
        "askPrice": fields["ask"],
        "askSize": fields["askSize"],
        "bidPrice": fields["bid"],
        "bidSize": fields["bidSize"],
        "closePrice": fields["closePrice"],
        "delta": fields["delta"],
        "gamma": fields["gamma"],
        "highPrice": fields["highPrice"],
        "indAskPrice": 0.0,
        "indBidPrice": 0.0,
        "indQuoteTime": 0,
        "impliedYield": 0.0,
        "lastPrice": fields["last"],
        "lastSize": fields["lastSize"],
        "lowPrice": fields["lowPrice"],
        "mark": fields["mark"],
        "markChange": fields["markChange"],
        "markPercentChange": fields["markPercentChange"],
        "moneyIntrinsicValue": fields["intrinsicValue"],
        "netChange": fields["netChange"],
        "netPercentChange": fields["percentChange"],
        "openInterest": fields["openInterest"],
        "openPrice": opened,
        "quoteTime": fields["quoteTimeInLong"],
        "rho": fields["rho"],
        "securityStatus": "Normal",
        "theoreticalOptionValue": fields["theoreticalOptionValue"],
        "theta": fields["theta"],
        "timeValue": fields["timeValue"],
        "totalVolume": fields["totalVolume"],
        "tradeTime": fields["tradeTimeInLong"],
        "underlyingPrice": board.moment.spot,
        "vega": fields["vega"],
        "volatility": fields["volatility"],
    }


def _option_reference(moment: Moment, item: Expiration, parsed: OptionSymbol) -> Entry:
    instrument, when = moment.instrument, parsed.expiration_date
    return {
        "contractType": parsed.option_type,
        "daysToExpiration": (when - moment.day).days,
        "deliverables": deliverable_note(instrument),
        "description": f"{parsed.root} {when:%m/%d/%Y} {parsed.strike:.2f} {parsed.option_type}",
        "exchange": "O",
        "exchangeName": "OPR",
        "exerciseType": "E" if instrument.is_index else "A",
        "expirationDay": when.day,
        "expirationMonth": when.month,
        "expirationType": item.kind,
        "expirationYear": when.year,
        "isPennyPilot": instrument.is_penny_pilot,
        "lastTradingDay": last_trading_day(item),
        "multiplier": 100.0,
        "settlementType": item.settlement,
        "strikePrice": parsed.strike,
        "underlying": instrument.symbol,
        "underlyingAssetType": "INDEX" if instrument.is_index else "EQUITY",
    }
