"""Movers as the wire spells them: at most ten stocks or option contracts of a list, by a sort.

Outside the session's hours the change equals the price and its share is 1, as observed. Descriptions are upper case,
cut to twenty characters, and `&` stands as an HTML entity.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from trade_analyst_pipeline.market.sessions import NEW_YORK
from trade_analyst_pipeline.simulator.contracts import Selection, evaluate
from trade_analyst_pipeline.simulator.instruments import INSTRUMENTS, Instrument
from trade_analyst_pipeline.simulator.listing import expirations
from trade_analyst_pipeline.simulator.wire_contracts import board_symbols, wire_columns

if TYPE_CHECKING:
    from trade_analyst_pipeline.simulator.market import Market

MOVER_SORTS = frozenset({"VOLUME", "TRADES", "PERCENT_CHANGE_UP", "PERCENT_CHANGE_DOWN"})
MOVER_FREQUENCIES = frozenset({"0", "1", "5", "10", "30", "60"})
_MOST = 10
_DESCRIPTION_CHARACTERS = 20
_EXCHANGES = {"NYSE": "N", "NASDAQ": "Q", "$COMPX": "Q", "OTCBB": "9"}
_SHARE_LISTS = frozenset({"$DJI", "$COMPX", "$SPX", "NYSE", "NASDAQ", "OTCBB", "INDEX_ALL", "EQUITY_ALL"})
_OPTION_LISTS = {"OPTION_ALL": (0, 1), "OPTION_CALL": (0,), "OPTION_PUT": (1,)}
_OPTION_UNDERLYINGS = ("SPY", "NVDA", "TSLA", "AAPL")
MOVER_LISTS = _SHARE_LISTS | _OPTION_LISTS.keys()

Row = dict[str, Any]


def movers_body(market: Market, instant: datetime, name: str, sort: str) -> dict[str, Any]:
    """Up to ten of a list by `sort`; volumes and shares are of the whole list."""
    rows = _contracts(market, instant, _OPTION_LISTS[name]) if name in _OPTION_LISTS else _shares(market, instant, name)
    total = sum(row["volume"] for row in rows)
    for row in rows:
        row["totalVolume"] = total
        row["marketShare"] = round(100.0 * row["volume"] / total, 2) if total else 0.0
    return {"screeners": sorted(rows, key=_ORDER[sort])[:_MOST]}


_ORDER: dict[str, Callable[[Row], float]] = {
    "VOLUME": lambda row: -float(row["volume"]),
    "TRADES": lambda row: -float(row["trades"]),
    "PERCENT_CHANGE_UP": lambda row: -float(row["netPercentChange"]),
    "PERCENT_CHANGE_DOWN": lambda row: float(row["netPercentChange"]),
}


def _shares(market: Market, instant: datetime, name: str) -> list[Row]:
    kinds = {"stock", "etf"} if name in {"EQUITY_ALL", "INDEX_ALL"} else {"stock"}
    day = instant.astimezone(NEW_YORK).date()
    return [
        _share(market, instant, item)
        for item in INSTRUMENTS.values()
        if item.kind in kinds and item.exchange == _EXCHANGES.get(name, item.exchange) and item.is_known_on(day)
    ]


def _share(market: Market, instant: datetime, item: Instrument) -> Row:
    moment = market.moment(item.symbol, instant)
    change = round(moment.spot - moment.previous_close, 2)
    share = round(change / moment.previous_close, 4)
    if moment.phase != "open":
        change, share = moment.spot, 1.0
    words = html.escape(item.description.upper()[:_DESCRIPTION_CHARACTERS], quote=False)
    volume = market.volume(moment)
    return _row(words, volume, moment.spot, change, share, trades=volume // 90, symbol=item.symbol)


def _contracts(market: Market, instant: datetime, sides: tuple[int, ...]) -> list[Row]:
    """Traded contracts of the next expiration of the busiest underlyings."""
    found: list[Row] = []
    for underlying in _OPTION_UNDERLYINGS:
        moment = market.moment(underlying, instant)
        item = expirations(moment.instrument, moment.day)[0]
        board = evaluate(market, moment, Selection((item,), (market.strikes(underlying, item, moment.day),)))
        columns, named = wire_columns(board, 3), board_symbols(board)
        for side in sides:
            names = ("totalVolume", "last", "netChange", "percentChange")
            for (symbol, words), volume, last, change, percent in zip(
                named[side], *(columns[name][side] for name in names), strict=True
            ):
                if volume:
                    is_open = moment.phase == "open"
                    net, share = (change, round(percent / 100.0, 4)) if is_open else (last, 1.0)
                    found.append(_row(words, volume, last, net, share, trades=1 + volume // 6, symbol=symbol))
    return found


def _row(words: str, volume: int, last: float, change: float, share: float, *, trades: int, symbol: str) -> Row:
    return {
        "description": words,
        "volume": volume,
        "lastPrice": last,
        "netChange": change,
        "marketShare": 0.0,
        "totalVolume": 0,
        "trades": trades,
        "netPercentChange": share,
        "symbol": symbol,
    }
