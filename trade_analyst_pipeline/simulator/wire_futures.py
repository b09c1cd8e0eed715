"""Quotes of futures and of options on them as the wire spells them.

Contracts of one product differ by the carry between their expirations; a product is answered under its active contract.
Options are valued by Black's formula on their future and the product's volatility surface. What an option on a future
looks like was never recorded; its fields are those of the source's description, the misspelt one included.
"""

from __future__ import annotations

import math
from datetime import date, datetime
from typing import TYPE_CHECKING

import numpy as np

from trade_analyst_pipeline.market.sessions import NEW_YORK
from trade_analyst_pipeline.simulator.futures import FutureContract, FutureOption, future_of, option_of, product_of
from trade_analyst_pipeline.simulator.instruments import Instrument, instrument_on
from trade_analyst_pipeline.simulator.market import expiry_seconds
from trade_analyst_pipeline.simulator.noise import number_of, uniform
from trade_analyst_pipeline.simulator.paths import YEAR_SECONDS, midnight
from trade_analyst_pipeline.simulator.pricing import black
from trade_analyst_pipeline.simulator.wire_shares import (
    Entry,
    change_of,
    entry_head,
    milliseconds,
    ssid,
    touch_of,
)

if TYPE_CHECKING:
    from trade_analyst_pipeline.simulator.market import Market, Moment

_CARRY = 0.028
_STRIKE_STEP = {"/ES": 5.0, "/NQ": 25.0}
_STRIKE_REACH = 0.2
_OPTION_TICK = 0.05
_TRADING_HOURS = "GLBX(de=1640;0=-17001600;1=r-17001600d-15551640;7=d-16401555)"


def future_entry(market: Market, instant: datetime, symbol: str) -> Entry | None:
    """The entry of a product, a dated contract or an option on one; None for what is not listed."""
    product, day = product_of(symbol), instant.astimezone(NEW_YORK).date()
    if product is None or instrument_on(product, day) is None:
        return None
    moment = market.moment(product, instant)
    if symbol.startswith("./"):
        option = option_of(symbol, day)
        return (
            None if option is None or not _is_listed(moment, option) else _option_entry(market, moment, option, symbol)
        )
    contract = future_of(symbol, day)
    return None if contract is None else _contract_entry(market, moment, contract)


def contract_price(moment: Moment, contract: FutureContract, price: float) -> float:
    """A price of the active contract carried on to another one, at whole ticks; 0 stays 0."""
    active = future_of(contract.product, moment.day)
    years = (contract.expiration_date - (active or contract).expiration_date).days / 365.0
    tick = moment.instrument.tick
    return round(price * math.exp(_CARRY * years) / tick) * tick


def _contract_entry(market: Market, moment: Moment, contract: FutureContract) -> Entry:
    active = future_of(contract.product, moment.day)
    symbol, is_active = contract.symbol, active == contract
    return entry_head(moment.instrument, "FUTURE") | {
        "symbol": symbol,
        "ssid": ssid(symbol),
        "quote": _contract_quote(market, moment, contract, share=1.0 if is_active else 0.01),
        "reference": {
            "description": f"{moment.instrument.description},{contract.expiration_date:%b-%Y},ETH",
            "exchange": "@",
            "exchangeName": moment.instrument.exchange_name,
            **({"futureActiveSymbol": symbol} if is_active else {}),
            "futureExpirationDate": milliseconds(midnight(contract.expiration_date)),
            "futureIsActive": is_active,
            "futureMultiplier": moment.instrument.multiplier,
            "futurePriceFormat": "D,D",
            "futureSettlementPrice": contract_price(moment, contract, moment.previous_close),
            "futureTradingHours": _TRADING_HOURS,
            "product": contract.product,
        },
    }


def _contract_quote(market: Market, moment: Moment, contract: FutureContract, share: float) -> Entry:
    touch, tick = touch_of(market, moment), moment.instrument.tick
    names = (moment.spot, moment.previous_close, moment.high, moment.low, moment.opened)
    price, close, high, low, opened = (contract_price(moment, contract, value) for value in names)
    change, quoted = change_of(price, close), milliseconds(moment.seconds - touch.luck)
    is_open = moment.phase == "open"
    return {
        "askPrice": price + tick,
        "askSize": touch.ask_size,
        "askTime": quoted,
        "bidPrice": price,
        "bidSize": touch.bid_size,
        "bidTime": quoted,
        "closePrice": close,
        "futurePercentChange": change[1],
        "highPrice": high,
        "lastPrice": price,
        "lastSize": 1,
        "lowPrice": low,
        "mark": price,
        "netChange": change[0],
        "openInterest": int(share * (2_000_000 + number_of(market.seed, contract.symbol, moment.index) % 300_000)),
        "openPrice": opened,
        "quoteTime": quoted,
        "quotedInSession": is_open,
        "securityStatus": "Normal" if is_open else "Closed",
        "settleTime": milliseconds(midnight(moment.day)),
        "tick": tick,
        "tickAmount": tick * moment.instrument.multiplier,
        "totalVolume": int(share * market.volume(moment)),
        "tradeTime": quoted,
    }


# -- options on futures --------------------------------------------------------------------------------------------


def _is_listed(moment: Moment, option: FutureOption) -> bool:
    """Strikes are whole steps within a fifth of the close before."""
    step = _STRIKE_STEP[option.future.product]
    is_near = abs(option.strike / moment.previous_close - 1.0) <= _STRIKE_REACH
    return is_near and option.strike % step == 0.0


def future_option_value(moment: Moment, option: FutureOption) -> float:
    """What the option is worth in points: discounted Black value at the surface's volatility."""
    years = np.array([(expiry_seconds(option.expiration_date) - moment.seconds) / YEAR_SECONDS])
    forward = np.array([contract_price(moment, option.future, moment.spot)])
    strike = np.array([option.strike])
    surface = moment.surface
    variance = surface.total_variance(surface.at_the_money_variance(years), np.log(strike / forward))
    values = black(forward, strike, np.sqrt(variance), np.exp(-moment.rate * years)).european
    return float(values[0 if option.contract_type == "C" else 1, 0])


def _option_entry(market: Market, moment: Moment, option: FutureOption, symbol: str) -> Entry:
    entry = entry_head(moment.instrument, "FUTURE_OPTION")
    return entry | {
        "symbol": symbol,
        "ssid": ssid(symbol),
        "quote": _option_quote(market, moment, option, symbol),
        "reference": {
            "contractType": option.contract_type,
            "description": _option_words(moment.instrument, option.expiration_date, option),
            "exchange": "@",
            "exchangeName": moment.instrument.exchange_name,
            "expirationDate": milliseconds(midnight(option.expiration_date)),
            "expirationStyle": "AMERICAN",
            "multiplier": moment.instrument.multiplier,
            "strikePrice": option.strike,
            "underlying": option.future.symbol,
        },
    }


def _option_words(instrument: Instrument, when: date, option: FutureOption) -> str:
    kind = "Call" if option.contract_type == "C" else "Put"
    return f"{instrument.description},{when:%b-%Y},{option.strike:g} {kind}"


def _option_quote(market: Market, moment: Moment, option: FutureOption, symbol: str) -> Entry:
    touch, value = touch_of(market, moment), future_option_value(moment, option)
    close = _to_tick(future_option_value(market.previous(moment), option))
    bid, ask = _to_tick(value * 0.98), _to_tick(value * 1.02) + _OPTION_TICK
    luck = uniform(market.seed, symbol, moment.index)
    last, volume = _to_tick(value), int(400.0 * luck * moment.minute / 390.0)
    change, mark = change_of(last, close), round((bid + ask) / 2.0, 4)
    quoted = milliseconds(moment.seconds - touch.luck)
    return {
        "askPrice": ask,
        "askSize": touch.ask_size,
        "bidPrice": bid,
        "bidSize": touch.bid_size if bid > 0.0 else 0,
        "closePrice": close,
        "highPrice": max(last, close) if volume else 0.0,
        "lastPrice": last,
        "lastSize": 1,
        "lowPrice": min(last, close) if volume else 0.0,
        "mark": mark,
        "markChange": round(mark - close, 4),
        "netChange": change[0],
        "netPercentChange": change[1],
        "openInterest": int(9000.0 * luck),
        "openPrice": close if volume else 0.0,
        "quoteTime": quoted,
        "securityStatus": "Normal" if moment.phase == "open" else "Closed",
        "settlemetPrice": close,
        "tick": _OPTION_TICK,
        "tickAmount": _OPTION_TICK * moment.instrument.multiplier,
        "totalVolume": volume,
        "tradeTime": quoted,
    }


def _to_tick(value: float) -> float:
    return round(round(value / _OPTION_TICK) * _OPTION_TICK, 2)
