"""Quotes of stocks and ETFs as the wire spells them, and the parts other quotes share.

`closePrice` is the previous session's close until the day rolls over, also in the evening; percentages are percent.
Bid and ask sizes are round lots, `lastSize` is shares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from trade_analyst_pipeline.simulator.instruments import Instrument
from trade_analyst_pipeline.simulator.noise import number_of, uniform
from trade_analyst_pipeline.simulator.paths import calendar, dividend_schedule, midnight

if TYPE_CHECKING:
    from trade_analyst_pipeline.simulator.market import Market, Moment

Entry = dict[str, Any]


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


def ssid(symbol: str) -> int:
    """The source's own number for a symbol."""
    return number_of("ssid", symbol) % 2_000_000_000


def milliseconds(seconds: float) -> int:
    """Seconds since 1970 as whole milliseconds."""
    return math.floor(seconds * 1000.0)


def change_of(price: float, base: float, decimals: int = 2) -> tuple[float, float]:
    """Change from a base and the same in percent; 0 percent for a base of 0."""
    change = round(price - base, decimals)
    return change, round(100.0 * change / base, 8) if base else 0.0


def entry_head(instrument: Instrument, kind: str) -> Entry:
    """What every entry begins with."""
    return {
        "assetMainType": kind,
        "realtime": True,
        "ssid": ssid(instrument.symbol),
        "symbol": instrument.symbol,
    }


@dataclass(frozen=True)
class Touch:
    """Bid and offer in dollars, sizes in round lots, quote time in seconds; `luck` varies what hangs on it."""

    bid: float
    ask: float
    bid_size: int
    ask_size: int
    mark: float
    seconds: float
    luck: float


def touch_of(market: Market, moment: Moment) -> Touch:
    """Best bid and offer at a moment."""
    symbol, second = moment.instrument.symbol, math.floor(moment.seconds)
    luck, other = (uniform(market.seed, symbol, second, name) for name in ("touch", "size"))
    width = max(round(moment.spot * (0.00004 if moment.phase == "open" else 0.0008) * 100.0), 1)
    above = round(luck * width)
    bid, ask = moment.spot - (width - above) / 100.0, moment.spot + above / 100.0
    ask = max(ask, bid + 0.01)
    shown = min(moment.seconds, market_end(moment))
    return Touch(
        round(bid, 2), round(ask, 2), 1 + int(3.0 / (0.05 + luck)), 1 + int(3.0 / (0.05 + other)),
        round(min(max(moment.spot, bid), ask), 2), shown - luck, luck,
    )  # fmt: skip


def market_end(moment: Moment) -> float:
    """When the last trade of the session shown can have been: 20:00 New York, in seconds since 1970."""
    return midnight(calendar().days[moment.index]) + 20 * 3600.0


def fundamental_block(market: Market, moment: Moment) -> Entry:
    """Volumes, dividends and earnings; dates are missing for who pays none. A fund pays on the day it goes ex."""
    instrument, reach = moment.instrument, year_range(market, moment)
    block: Entry = {"avg10DaysVolume": reach.ten_day_volume, "avg1YearVolume": reach.year_volume}
    schedule, payments = dividend_schedule(market.seed, instrument), instrument.payments
    past = [item for item in schedule if item.ex_date <= moment.day]
    amount = past[-1].amount if past else 0.0
    is_fund = instrument.kind == "fund"
    later = timedelta(days=0 if is_fund else 4)
    if past and not is_fund:
        block |= {"declarationDate": _eastern(past[-1].ex_date - timedelta(days=11))}
    block |= {"divAmount": round(payments * amount, 4)}
    block |= {"divExDate": _eastern(past[-1].ex_date)} if past else {}
    block |= {"divFreq": payments if past else 0, "divPayAmount": amount}
    block |= {"divPayDate": _eastern(past[-1].ex_date + later)} if past else {}
    share = round(100.0 * payments * amount / moment.previous_close, 5)
    block |= {"divYield": share, "eps": instrument.earnings_per_share, "fundLeverageFactor": 0.0}
    block |= {"lastEarningsDate": _eastern(_last_earnings(moment.day))} if instrument.kind == "stock" else {}
    coming = next((item.ex_date for item in schedule if item.ex_date > moment.day), None)
    if past and coming:
        block |= {"nextDivExDate": _eastern(coming), "nextDivPayDate": _eastern(coming + later)}
    earnings = instrument.earnings_per_share
    return block | {"peRatio": round(moment.previous_close / earnings, 5) if earnings else 0.0}


def _last_earnings(day: date) -> date:
    """The first of the latest February, May, August or November."""
    year, quarter = divmod(day.year * 12 + day.month - 2, 12)
    return date(year, quarter // 3 * 3 + 2, 1)


def _eastern(day: date) -> str:
    """Midnight New York of a date, as a UTC text."""
    return datetime.fromtimestamp(midnight(day), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def share_entry(market: Market, moment: Moment) -> Entry:
    """The whole entry of a stock or ETF."""
    instrument, touch = moment.instrument, touch_of(market, moment)
    entry: Entry = {
        "assetMainType": "EQUITY",
        "assetSubType": "ETF" if instrument.kind == "etf" else "COE",
        "quoteType": "NBBO",
        "realtime": True,
        "ssid": ssid(instrument.symbol),
        "symbol": instrument.symbol,
    }
    if moment.phase != "open":
        entry["extended"] = _extended(moment, touch)
    return entry | {
        "fundamental": fundamental_block(market, moment),
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


def _extended(moment: Moment, touch: Touch) -> Entry:
    whole = milliseconds(math.floor(touch.seconds))
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


def _share_quote(market: Market, moment: Moment, touch: Touch) -> Entry:
    reach, close = year_range(market, moment), moment.previous_close
    net, mark = change_of(moment.spot, close), change_of(touch.mark, close)
    post = change_of(moment.spot, moment.regular_last)
    quoted = milliseconds(touch.seconds)
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
        "securityStatus": _status(market, moment),
        "totalVolume": market.volume(moment),
        "tradeTime": quoted - int(900 * touch.luck),
    }


def _status(market: Market, moment: Moment) -> str:
    if moment.phase == "open" and market.is_halted(moment.instrument.symbol, moment.index, moment.minute):
        return "Halted"
    return "Closed" if moment.phase == "closed" else "Normal"


def _regular(moment: Moment) -> Entry:
    change = change_of(moment.regular_last, moment.previous_close)
    table = calendar()
    closed = table.closes[moment.index - (moment.phase == "pre")]
    traded = moment.seconds if moment.phase == "open" else closed
    return {
        "regularMarketLastPrice": moment.regular_last,
        "regularMarketLastSize": 100,
        "regularMarketNetChange": change[0],
        "regularMarketPercentChange": change[1],
        "regularMarketTradeTime": milliseconds(traded) + (78 if moment.phase != "open" else 0),
    }
