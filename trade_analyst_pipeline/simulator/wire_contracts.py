"""One option contract as the wire spells it: every field, its order and its arithmetic.

`mark` is the mid rounded half up, percentages are against the unrounded close, `intrinsicValue` is signed, `openPrice`
is always 0, and where the vendor's model fails volatility and Greeks are -999. Runs of fields that a contract or an
expiration never changes are encoded once and reused: half of an answer is such text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import repeat
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trade_analyst_pipeline.market.option_symbols import OptionType, format_option_symbol
from trade_analyst_pipeline.market.sessions import NEW_YORK, previous_session
from trade_analyst_pipeline.simulator.contracts import Board
from trade_analyst_pipeline.simulator.instruments import Instrument
from trade_analyst_pipeline.simulator.listing import Expiration
from trade_analyst_pipeline.simulator.noise import Floats
from trade_analyst_pipeline.simulator.paths import midnight

OPTION_TYPES: tuple[OptionType, OptionType] = ("C", "P")
MODEL_FAILS = -999.0
THEORETICAL_VOLATILITY = 29.0


class Contract(msgspec.Struct, gc=False):
    """One contract in the order of the wire. A Raw field holds the text of its value and of the fields that follow.

    `putCall` carries symbol, description, exchangeName; `theoreticalVolatility` optionDeliverablesList, strikePrice;
    `expirationDate` the fields up to deliverableNote; `optionRoot` exerciseType; `nonStandard` pennyPilot.
    """

    putCall: msgspec.Raw  # noqa: N815  the names of the wire, here and below
    bid: float
    ask: float
    last: float
    mark: float
    bidSize: int  # noqa: N815
    askSize: int  # noqa: N815
    bidAskSize: str  # noqa: N815
    lastSize: int  # noqa: N815
    highPrice: float  # noqa: N815
    lowPrice: float  # noqa: N815
    openPrice: float  # noqa: N815
    closePrice: float  # noqa: N815
    totalVolume: int  # noqa: N815
    tradeTimeInLong: int  # noqa: N815
    quoteTimeInLong: int  # noqa: N815
    netChange: float  # noqa: N815
    volatility: float
    delta: float
    gamma: float
    theta: float
    vega: float
    rho: float
    openInterest: int  # noqa: N815
    timeValue: float  # noqa: N815
    theoreticalOptionValue: float  # noqa: N815
    theoreticalVolatility: msgspec.Raw  # noqa: N815
    expirationDate: msgspec.Raw  # noqa: N815
    percentChange: float  # noqa: N815
    markChange: float  # noqa: N815
    markPercentChange: float  # noqa: N815
    intrinsicValue: float  # noqa: N815
    extrinsicValue: float  # noqa: N815
    optionRoot: msgspec.Raw  # noqa: N815
    high52Week: float  # noqa: N815
    low52Week: float  # noqa: N815
    nonStandard: msgspec.Raw  # noqa: N815
    inTheMoney: bool  # noqa: N815
    mini: bool


def contracts_of(board: Board, columns: Columns, labels: list[Labels], row: int) -> list[Contract]:
    """The contracts of one side (row 0 calls, 1 puts), in the order of the board."""
    fields: dict[str, Iterable[Any]] = {name: values[row] for name, values in columns.items()}
    listed, place, day = board.selection.expirations, board.series.tolist(), board.moment.day
    instrument = board.moment.instrument
    ends = [series_texts(instrument, item, day).rest for item in listed]
    roots = [_run(item.root, exerciseType="E" if instrument.is_index else "A") for item in listed]
    fields |= {
        "putCall": [label.heads[row] for label in labels],
        "bidAskSize": [
            f"{bid}X{ask}" for bid, ask in zip(columns["bidSize"][row], columns["askSize"][row], strict=True)
        ],
        "openPrice": repeat(0.0),
        "theoreticalVolatility": [label.middle for label in labels],
        "expirationDate": [ends[number] for number in place],
        "optionRoot": [roots[number] for number in place],
        "nonStandard": _standards(instrument, listed, place),
        "mini": repeat(False),
    }
    return list(map(Contract, *(fields[name] for name in Contract.__struct_fields__)))


def _standards(instrument: Instrument, listed: tuple[Expiration, ...], place: list[int]) -> Iterable[msgspec.Raw]:
    """Whether each contract is adjusted, and the field that follows."""
    if all(item.is_standard for item in listed):
        return repeat(_run(value=False, pennyPilot=instrument.is_penny_pilot))
    each = [_run(value=not item.is_standard, pennyPilot=instrument.is_penny_pilot) for item in listed]
    return [each[number] for number in place]


# -- texts that are encoded once -----------------------------------------------------------------------------------


def _run(value: object, **fields: object) -> msgspec.Raw:
    """The JSON text of a value and of the fields after it."""
    following = msgspec.json.encode(fields)[1:-1]
    return msgspec.Raw(msgspec.json.encode(value) + b"," + following)


@dataclass(frozen=True)
class Labels:
    """The texts of one strike: its key in the map, the heads of call and put, and the run around the strike price."""

    strike: str
    heads: tuple[msgspec.Raw, msgspec.Raw]
    middle: msgspec.Raw


def board_labels(board: Board) -> list[Labels]:
    """The texts of each strike of a board."""
    listed, symbol = board.selection.expirations, board.moment.instrument.symbol
    return [
        _labels(symbol, listed[place].root, listed[place].expiration_date, strike, listed[place].shares)
        for place, strike in zip(board.series.tolist(), board.strikes.tolist(), strict=True)
    ]


def board_symbols(board: Board) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Symbol and description of each contract of a board, calls and puts."""
    listed = [board.selection.expirations[place] for place in board.series.tolist()]
    calls, puts = (
        [
            (
                format_option_symbol(item.root, item.expiration_date, side, strike),
                f"{item.root} {item.expiration_date:%m/%d/%Y} {strike:.2f} {side}",
            )
            for item, strike in zip(listed, board.strikes.tolist(), strict=True)
        ]
        for side in OPTION_TYPES
    )
    return calls, puts


@lru_cache(maxsize=65536)
def _labels(symbol: str, root: str, expiration_date: date, strike: float, shares: int) -> Labels:
    deliverable = [{"symbol": symbol, "assetType": "STOCK", "deliverableUnits": float(shares)}]
    text = f"{root} {expiration_date:%m/%d/%Y} {strike:.2f} "
    call = format_option_symbol(root, expiration_date, "C", strike)
    put = format_option_symbol(root, expiration_date, "P", strike)
    heads = (
        _run("CALL", symbol=call, description=text + "C", exchangeName="OPR"),
        _run("PUT", symbol=put, description=text + "P", exchangeName="OPR"),
    )
    middle = _run(THEORETICAL_VOLATILITY, optionDeliverablesList=deliverable, strikePrice=strike)
    return Labels(str(float(strike)), heads, middle)


@dataclass(frozen=True)
class SeriesTexts:
    """What all contracts of an expiration share on a day: the key of its map, and a run of fields."""

    map_key: str
    rest: msgspec.Raw


@lru_cache(maxsize=8192)
def series_texts(instrument: Instrument, item: Expiration, day: date) -> SeriesTexts:
    """The texts of an expiration, days counted from `day`."""
    when = item.expiration_date
    days = (when - day).days
    close = datetime(when.year, when.month, when.day, 16, tzinfo=NEW_YORK).astimezone(UTC)
    rest = _run(
        f"{close:%Y-%m-%dT%H:%M:%S}.000+00:00",
        daysToExpiration=days,
        expirationType=item.kind,
        lastTradingDay=last_trading_day(item),
        multiplier=100.0,
        settlementType=item.settlement,
        deliverableNote=deliverable_note(instrument, item.shares),
    )
    return SeriesTexts(f"{when.isoformat()}:{days}", rest)


def last_trading_day(item: Expiration) -> int:
    """20:00 New York of the last day the contract trades, in milliseconds; the day before for AM settlement."""
    day = previous_session(item.expiration_date) if item.settlement == "A" else item.expiration_date
    return round((midnight(day) + 20 * 3600.0) * 1000.0)


def deliverable_note(instrument: Instrument, shares: int) -> str:
    """What a contract delivers, as text."""
    return f"{shares} {instrument.symbol}(Cash)" if instrument.is_index else f"{shares} {instrument.root}"


# -- numbers -------------------------------------------------------------------------------------------------------

Columns = dict[str, list[list[Any]]]


def wire_columns(board: Board, decimals: int) -> Columns:
    """The numbers of the wire by field name, as two lists (calls, puts) each; model figures to `decimals`."""
    cents = _as_dollars(board)
    last, has_traded = cents["last"], board.trades.last > 0
    close: Floats = np.maximum(np.round(board.previous_value, 4), 0.0001)
    shown_close: Floats = np.round(close, 2)
    intrinsic: Floats = np.round(board.intrinsic, 2)
    net = np.where(has_traded, np.round(last - shown_close, 2), 0.0)
    mark_change = 0.5 * (cents["bid"] + cents["ask"]) - close
    rounded: dict[str, NDArray[Any]] = {
        "closePrice": shown_close,
        "netChange": net,
        "timeValue": np.where(has_traded, last - np.maximum(intrinsic, 0.0), 0.0),
        "percentChange": net / close * 100.0,
        "markChange": mark_change,
        "markPercentChange": mark_change / close * 100.0,
        "intrinsicValue": intrinsic,
        "extrinsicValue": last - intrinsic,
        **_year_range(board, last, shown_close),
    }
    whole = {
        "bidSize": board.quotes.bid_size,
        "askSize": board.quotes.ask_size,
        "lastSize": board.trades.size,
        "totalVolume": board.activity.volume,
        "openInterest": board.activity.open_interest,
        "tradeTimeInLong": np.floor(board.trades.seconds * 1000.0).astype(np.int64),
        "quoteTimeInLong": np.floor(board.quotes.seconds * 1000.0).astype(np.int64),
    }
    parts = (cents, _rounded(rounded, 2), _model_columns(board, decimals), whole, {"inTheMoney": intrinsic > 0.0})
    return {name: values.tolist() for part in parts for name, values in part.items()}


def _rounded(columns: dict[str, NDArray[Any]], decimals: int) -> dict[str, NDArray[Any]]:
    block = np.round(np.stack(list(columns.values())), decimals)
    return dict(zip(columns, block, strict=True))


def _as_dollars(board: Board) -> dict[str, NDArray[Any]]:
    cents = {
        "bid": board.quotes.bid,
        "ask": board.quotes.ask,
        "last": board.trades.last,
        "highPrice": board.trades.high,
        "lowPrice": board.trades.low,
        "mark": (board.quotes.bid + board.quotes.ask + 1) // 2,
    }
    return dict(zip(cents, np.stack(list(cents.values())) / 100.0, strict=True))


def _model_columns(board: Board, decimals: int) -> dict[str, NDArray[Any]]:
    model = board.greeks
    fields = {
        "volatility": board.volatility,
        "delta": model.delta,
        "gamma": model.gamma,
        "theta": model.theta,
        "vega": model.vega,
        "rho": model.rho,
    }
    shown = np.where(board.is_modelled, np.stack(list(fields.values())), MODEL_FAILS)
    return _rounded({**dict(zip(fields, shown, strict=True)), "theoreticalOptionValue": board.value}, decimals)


def _year_range(board: Board, last: Floats, close: Floats) -> dict[str, NDArray[Any]]:
    top = np.maximum(np.maximum(last, board.trades.high / 100.0), close)
    floor = np.where(board.trades.low > 0, np.minimum(last, board.trades.low / 100.0), last)
    low = np.minimum(np.maximum(floor * (0.3 + 0.6 * board.luck.floor), 0.01), floor)
    traded = board.trades.last > 0
    high = top * (1.0 + 1.5 * board.luck.peak)
    return {"high52Week": np.where(traded, high, 0.0), "low52Week": np.where(traded, low, 0.0)}


def board_fields(board: Board, decimals: int, row: int) -> dict[str, Any]:
    """The numbers of the first contract of a board on one side (0 calls, 1 puts)."""
    return {name: values[row][0] for name, values in wire_columns(board, decimals).items()}
