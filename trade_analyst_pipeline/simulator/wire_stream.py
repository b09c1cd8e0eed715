"""Level-one states as the streamer spells them: field numbers, full images, and what changed since the state before.

Field 0 is sent as `key`. A full image also says what the instrument is; whatever in it does not move with the flow is
what /quotes answers. Prices are dollars, volatility and percentages percent, times milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np

from trade_analyst_pipeline.market.sessions import NEW_YORK
from trade_analyst_pipeline.simulator.instruments import instrument_on
from trade_analyst_pipeline.simulator.order_flow import SCALE, VENUES
from trade_analyst_pipeline.simulator.stream_sources import Source
from trade_analyst_pipeline.simulator.tape import Updates

Item = dict[str, Any]
Column = Callable[[Updates, float], Any]

_LETTERS = np.array([letter for letter, _ in VENUES], dtype=object)
_MICS = np.array([mic for _, mic in VENUES], dtype=object)


def _dollars(name: str) -> Column:
    return lambda updates, _: getattr(updates, name) / SCALE


def _plain(name: str) -> Column:
    return lambda updates, _: getattr(updates, name)


def _letter(name: str) -> Column:
    return lambda updates, _: _LETTERS[getattr(updates, name)]


def _mic(name: str) -> Column:
    return lambda updates, _: _MICS[getattr(updates, name)]


def _change(updates: Updates, close: float) -> Any:
    return np.round(updates.last / SCALE - close, 4)


def _percent(updates: Updates, close: float) -> Any:
    return np.round(100.0 * (updates.last / SCALE - close) / close, 8) if close else np.zeros(len(updates))


def _mark(updates: Updates, _: float) -> Any:
    """The last price, held between bid and ask where there are both."""
    last = updates.last / SCALE
    held = np.clip(last, updates.bid / SCALE, np.maximum(updates.ask, updates.bid) / SCALE)
    return np.where((updates.bid > 0) & (updates.ask > 0), held, last)


def _mark_change(updates: Updates, close: float) -> Any:
    return np.round(_mark(updates, close) - close, 4)


def _mark_percent(updates: Updates, close: float) -> Any:
    return np.round(100.0 * (_mark(updates, close) - close) / close, 8) if close else np.zeros(len(updates))


def _status(updates: Updates, _: float) -> Any:
    """Without quotes once trading has begun, a stock is halted."""
    is_halted = (updates.bid == 0) & (updates.ask == 0) & (updates.volume > 0)
    return np.where(is_halted, "Halted", "Normal").astype(object)


_NOT_OF_INDEX = frozenset({"1", "2", "4", "5", "6", "7", "16", "32", "34", "37", "38", "39", "40", "41"})
_SHARES: Mapping[str, Column] = {
    "1": _dollars("bid"), "2": _dollars("ask"), "3": _dollars("last"), "4": _plain("bid_size"), "5": _plain("ask_size"),
    "6": _letter("ask_venue"), "7": _letter("bid_venue"), "8": _plain("volume"), "9": _plain("last_size"),
    "10": _dollars("high"), "11": _dollars("low"), "16": _letter("last_venue"), "17": _dollars("opened"),
    "18": _change, "29": _dollars("last"), "30": _plain("last_size"), "31": _change, "33": _mark,
    "34": _plain("quote_time"), "35": _plain("trade_time"), "36": _plain("trade_time"), "37": _plain("quote_time"),
    "38": _plain("quote_time"), "39": _mic("ask_venue"), "40": _mic("bid_venue"), "41": _mic("last_venue"),
    "32": _status, "42": _percent, "43": _percent, "44": _mark_change, "45": _mark_percent,
}  # fmt: skip
_FUTURES: Mapping[str, Column] = {
    "1": _dollars("bid"), "2": _dollars("ask"), "3": _dollars("last"), "4": _plain("bid_size"), "5": _plain("ask_size"),
    "8": _plain("volume"), "9": _plain("last_size"), "10": _plain("quote_time"), "11": _plain("trade_time"),
    "12": _dollars("high"), "13": _dollars("low"), "18": _dollars("opened"), "19": _change, "20": _percent,
    "24": _mark, "37": _plain("quote_time"), "38": _plain("quote_time"),
}  # fmt: skip
_OPTIONS: Mapping[str, Column] = {
    "2": _dollars("bid"), "3": _dollars("ask"), "4": _dollars("last"), "5": _dollars("high"), "6": _dollars("low"),
    "8": _plain("volume"), "15": _dollars("opened"), "16": _plain("bid_size"), "17": _plain("ask_size"),
    "18": _plain("last_size"), "19": _change, "37": _mark, "38": _plain("quote_time"), "39": _plain("trade_time"),
    "44": _percent, "45": _mark_change, "46": _mark_percent,
}  # fmt: skip

LEVEL_ONE: Mapping[str, Mapping[str, Column]] = {
    "LEVELONE_EQUITIES": _SHARES,
    "LEVELONE_OPTIONS": _OPTIONS,
    "LEVELONE_FUTURES": _FUTURES,
}
CLOSE_FIELDS: Mapping[str, str] = {"LEVELONE_EQUITIES": "12", "LEVELONE_OPTIONS": "7", "LEVELONE_FUTURES": "14"}
PRODUCTS: Mapping[str, frozenset[str]] = {
    "LEVELONE_EQUITIES": frozenset({"share", "index"}),
    "LEVELONE_OPTIONS": frozenset({"option"}),
    "LEVELONE_FUTURES": frozenset({"future"}),
}


def _columns(service: str, source: Source, fields: frozenset[str]) -> list[tuple[str, Column]]:
    known = LEVEL_ONE[service]
    hidden = _NOT_OF_INDEX if source.product == "index" else frozenset[str]()
    return [(name, known[name]) for name in sorted(fields & known.keys() - hidden, key=int)]


def full_image(service: str, source: Source, fields: frozenset[str], entry: Item, state: tuple[Updates, int]) -> Item:
    """All subscribed fields of a symbol; `entry` is what /quotes answers, `state` the updates and the one in force."""
    updates, place = state
    still = _STILL[service](source, entry)
    item = {"key": source.symbol, "delayed": False, **_kind(entry)}
    now = _slice(updates, place)
    moving = {name: _listed(column(now, close_of(entry)))[0] for name, column in _columns(service, source, fields)}
    found = {name: value for name, value in still.items() if name in fields and name not in moving} | moving
    return item | dict(sorted(found.items(), key=lambda pair: int(pair[0])))


def changes(
    service: str, source: Source, fields: frozenset[str], close: float, updates: Updates, *, is_new_session: bool
) -> list[Item]:
    """Per state after the first, the key and the subscribed fields that differ from the state before.

    In a new session the first of them tells every field that moves, and the close before.
    """
    found: list[Item] = [{"key": source.symbol} for _ in range(len(updates) - 1)]
    if is_new_session and (name := CLOSE_FIELDS[service]) in fields:
        found[0][name] = close
    for name, column in _columns(service, source, fields):
        values = column(updates, close)
        differs = values[1:] != values[:-1]
        differs[:1] |= is_new_session
        moved = np.flatnonzero(differs)
        for place, value in zip(moved.tolist(), _listed(values[1:][moved]), strict=True):
            found[place][name] = value
    return found


def close_of(entry: Item) -> float:
    """The close before, that changes are told from."""
    return float(entry["quote"]["closePrice"])


def _listed(values: Any) -> list[Any]:
    found: list[Any] = values.tolist()
    return found


def _slice(updates: Updates, place: int) -> Updates:
    return Updates(**{name: column[place : place + 1] for name, column in vars(updates).items()})


# -- what stands still ---------------------------------------------------------------------------------------------


def _kind(entry: Item) -> Item:
    told = {"assetMainType": entry["assetMainType"]}
    if "assetSubType" in entry:
        told["assetSubType"] = entry["assetSubType"]
    return told | ({"cusip": entry["reference"]["cusip"]} if "cusip" in entry["reference"] else {})


def _still_share(source: Source, entry: Item) -> Item:
    quote, reference, fundamental = entry["quote"], entry["reference"], entry["fundamental"]
    still = {
        "12": quote["closePrice"], "13": reference["exchange"], "14": source.product == "share",
        "15": reference["description"], "19": quote["52WeekHigh"], "20": quote["52WeekLow"],
        "21": fundamental["peRatio"], "22": fundamental["divAmount"], "23": fundamental["divYield"], "24": 0.0,
        "25": reference["exchangeName"], "26": fundamental.get("divExDate", " ")[:10], "27": True, "28": True,
        "32": quote["securityStatus"],
    }  # fmt: skip
    if source.product == "share":
        still |= {
            "46": 0, "47": reference["htbRate"], "48": int(reference["isHardToBorrow"]), "49": 1,
            "50": quote["postMarketChange"], "51": quote["postMarketPercentChange"],
        }  # fmt: skip
    return still


def _still_future(_: Source, entry: Item) -> Item:
    quote, reference = entry["quote"], entry["reference"]
    return {
        "6": "?", "7": "?", "14": quote["closePrice"], "15": reference["exchange"], "16": reference["description"],
        "17": "?", "21": reference["exchangeName"], "22": quote["securityStatus"], "23": quote["openInterest"],
        "25": quote["tick"], "26": quote["tickAmount"], "27": reference["product"],
        "28": reference["futurePriceFormat"],
        "29": reference["futureTradingHours"], "30": True, "31": reference["futureMultiplier"],
        "32": reference["futureIsActive"], "33": reference["futureSettlementPrice"],
        "34": reference.get("futureActiveSymbol", ""), "35": reference["futureExpirationDate"], "36": " ",
        "39": quote["quotedInSession"], "40": reference["futureExpirationDate"],
    }  # fmt: skip


def _still_option(_: Source, entry: Item) -> Item:
    quote, reference = entry["quote"], entry["reference"]
    return {
        "1": reference["description"], "7": quote["closePrice"], "9": quote["openInterest"], "10": quote["volatility"],
        "11": quote["moneyIntrinsicValue"], "12": reference["expirationYear"], "13": reference["multiplier"],
        "14": 2, "20": reference["strikePrice"], "21": reference["contractType"], "22": reference["underlying"],
        "23": reference["expirationMonth"], "24": reference["deliverables"], "25": quote["timeValue"],
        "26": reference["expirationDay"], "27": reference["daysToExpiration"], "28": quote["delta"],
        "29": quote["gamma"], "30": quote["theta"], "31": quote["vega"], "32": quote["rho"],
        "33": quote["securityStatus"], "34": quote["theoreticalOptionValue"], "35": quote["underlyingPrice"],
        "36": reference["expirationType"], "40": reference["exchange"], "41": reference["exchangeName"],
        "42": reference["lastTradingDay"], "43": reference["settlementType"], "47": quote["impliedYield"],
        "48": reference["isPennyPilot"], "49": reference["description"].partition(" ")[0], "50": quote["52WeekHigh"],
        "51": quote["52WeekLow"], "52": 0.0, "53": 0.0, "54": 0, "55": reference["exerciseType"],
    }  # fmt: skip


_STILL: Mapping[str, Callable[[Source, Item], Item]] = {
    "LEVELONE_EQUITIES": _still_share,
    "LEVELONE_OPTIONS": _still_option,
    "LEVELONE_FUTURES": _still_future,
}
# Fields of a contract that the vendor's model gives; they are told again at each whole minute.
MODELLED = ("10", "11", "25", "28", "29", "30", "31", "32", "34", "35")


def modelled(source: Source, fields: frozenset[str], entries: list[Item]) -> list[Item]:
    """Per entry after the first, the fields of the vendor's model that differ from the entry before."""
    told = [_still_option(source, entry) for entry in entries]
    chosen = [name for name in MODELLED if name in fields]
    return [
        {"key": source.symbol} | {name: after[name] for name in chosen if after[name] != before[name]}
        for before, after in pairwise(told)
    ]


def book_service(symbol: str, instant: datetime) -> str | None:
    """The service that has a symbol's book: that of its listing exchange; None where there is none."""
    if len(symbol) == 21:
        return "OPTIONS_BOOK"
    instrument = instrument_on(symbol, instant.astimezone(NEW_YORK).date())
    if instrument is None or instrument.kind not in {"stock", "etf"}:
        return None
    return "NASDAQ_BOOK" if instrument.exchange == "Q" else "NYSE_BOOK"
