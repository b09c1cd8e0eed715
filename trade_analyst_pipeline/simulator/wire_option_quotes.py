"""Quotes of single option contracts as the wire spells them: volatility and Greeks with eight decimals."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from trade_analyst_pipeline.market.option_symbols import OptionSymbol, parse_option_symbol
from trade_analyst_pipeline.market.sessions import NEW_YORK
from trade_analyst_pipeline.simulator.contracts import Board, Selection, evaluate
from trade_analyst_pipeline.simulator.instruments import instrument_on, owner_of_root
from trade_analyst_pipeline.simulator.listing import Expiration, expirations
from trade_analyst_pipeline.simulator.wire_contracts import board_fields, deliverable_note, last_trading_day
from trade_analyst_pipeline.simulator.wire_shares import Entry, entry_head, ssid

if TYPE_CHECKING:
    from trade_analyst_pipeline.simulator.market import Market, Moment


def option_entry(market: Market, instant: datetime, symbol: str) -> Entry | None:
    """A contract's entry, or None for a symbol that is malformed, expired or not listed."""
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
    entry = entry_head(moment.instrument, "OPTION") | {"symbol": symbol, "ssid": ssid(symbol)}
    return entry | {
        "quote": _option_quote(board, fields),
        "reference": _option_reference(moment, item, parsed),
    }


def _listed(market: Market, instant: datetime, parsed: OptionSymbol) -> tuple[Moment, Expiration] | None:
    symbol = owner_of_root(parsed.root)
    if symbol is None or instrument_on(symbol, instant.astimezone(NEW_YORK).date()) is None:
        return None
    moment = market.moment(symbol, instant)
    for item in expirations(moment.instrument, moment.day):
        if (item.root, item.expiration_date) == (parsed.root, parsed.expiration_date) and np.any(
            np.abs(market.strikes(symbol, item, moment.day) - parsed.strike) < 0.0005
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
        "deliverables": deliverable_note(instrument, item.shares),
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
