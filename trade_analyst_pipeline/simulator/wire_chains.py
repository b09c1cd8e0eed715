"""Option chains as the wire spells them: which contracts a query means, and every field of each.

Field names, order and arithmetic follow recorded answers: `mark` is the mid rounded half up, percentages are against
the unrounded close, `intrinsicValue` is signed, `openPrice` is always 0, absent figures are 0 or -999.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from itertools import compress, repeat
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from trade_analyst_pipeline.market.option_symbols import format_option_symbol
from trade_analyst_pipeline.market.sessions import NEW_YORK, previous_session
from trade_analyst_pipeline.simulator.contracts import Board, Selection
from trade_analyst_pipeline.simulator.listing import Expiration, expirations, option_root
from trade_analyst_pipeline.simulator.noise import Floats
from trade_analyst_pipeline.simulator.paths import midnight

if TYPE_CHECKING:
    from trade_analyst_pipeline.simulator.market import Market, Moment

MODEL_FAILS = -999.0
THEORETICAL_VOLATILITY = 29.0
BYTES_PER_CONTRACT = 1150

Side = Literal["CALL", "PUT"]


class Contract(msgspec.Struct, gc=False):
    """One contract: the fields of the wire in the order of the wire."""

    putCall: str  # noqa: N815  the names of the wire, here and below
    symbol: str
    description: str
    exchangeName: str  # noqa: N815
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
    theoreticalVolatility: float  # noqa: N815
    optionDeliverablesList: msgspec.Raw  # noqa: N815
    strikePrice: float  # noqa: N815
    expirationDate: str  # noqa: N815
    daysToExpiration: int  # noqa: N815
    expirationType: str  # noqa: N815
    lastTradingDay: int  # noqa: N815
    multiplier: float
    settlementType: str  # noqa: N815
    deliverableNote: str  # noqa: N815
    percentChange: float  # noqa: N815
    markChange: float  # noqa: N815
    markPercentChange: float  # noqa: N815
    intrinsicValue: float  # noqa: N815
    extrinsicValue: float  # noqa: N815
    optionRoot: str  # noqa: N815
    exerciseType: str  # noqa: N815
    high52Week: float  # noqa: N815
    low52Week: float  # noqa: N815
    nonStandard: bool  # noqa: N815
    pennyPilot: bool  # noqa: N815
    inTheMoney: bool  # noqa: N815
    mini: bool


class Alone(msgspec.Struct, array_like=True, gc=False):
    """A list of one contract, without the cost of a list."""

    contract: Contract


ChainMap = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class ChainQuery:
    """What a chain request asks for, after its parameters have been checked; bounds are inclusive dates.

    `strike_count` strikes in all are taken around the money of each expiration date.
    """

    symbol: str
    sides: tuple[Side, ...] = ("CALL", "PUT")
    strike_count: int | None = None
    strike: float | None = None
    moneyness: str = "ALL"
    first: date | None = None
    last: date | None = None
    month: int | None = None
    with_underlying: bool = False
    is_standard_wanted: bool = True


def select(market: Market, moment: Moment, query: ChainQuery) -> Selection:
    """The contracts a query means, by expiration."""
    chosen = [item for item in expirations(moment.instrument, moment.day) if _is_wanted(item, query)]
    rows = [_narrowed(market.strikes(query.symbol, item, moment.day), moment.spot, query) for item in chosen]
    pairs = [(item, row) for item, row in zip(chosen, rows, strict=True) if len(row)]
    return Selection(tuple(item for item, _ in pairs), tuple(row for _, row in pairs))


def _is_wanted(item: Expiration, query: ChainQuery) -> bool:
    when = item.expiration_date
    return (
        query.is_standard_wanted
        and (query.first is None or when >= query.first)
        and (query.last is None or when <= query.last)
        and (query.month is None or when.month == query.month)
    )


def _narrowed(row: Floats, spot: float, query: ChainQuery) -> Floats:
    if query.strike is not None:
        row = row[np.abs(row - query.strike) < 0.0005]
    if query.moneyness == "NTM":
        row = row[np.abs(np.log(row / spot)) < 0.08]
    elif query.moneyness in {"SAK", "SBK", "SNK"}:
        row = row[{"SAK": row > spot, "SBK": row < spot, "SNK": np.abs(np.log(row / spot)) < 0.02}[query.moneyness]]
    if query.strike_count is not None:
        place = int(np.searchsorted(row, spot))
        start = max(place - query.strike_count // 2 - query.strike_count % 2, 0)
        if place < len(row) and query.strike_count % 2 and (place == 0 or row[place] - spot < spot - row[place - 1]):
            start = max(place - query.strike_count // 2, 0)
        row = row[start : start + query.strike_count]
    return row


def chain_body(
    board: Board | None, moment: Moment, query: ChainQuery, underlying: dict[str, Any] | None
) -> dict[str, Any]:
    """The whole answer, ready to encode; a board of None means that nothing was selected."""
    maps = chain_maps(board, query) if board is not None else ({}, {})
    instrument = moment.instrument
    count = sum(_count(row) for chain in maps for row in chain.values())
    return {
        "symbol": query.symbol,
        "status": "SUCCESS" if count else "FAILED",
        "strategy": "SINGLE",
        "interval": 0.0,
        "isDelayed": False,
        "isIndex": instrument.is_index,
        "interestRate": round(100.0 * moment.rate, 3),
        "underlyingPrice": moment.spot,
        "volatility": THEORETICAL_VOLATILITY,
        "daysToExpiration": 0.0,
        "dividendYield": -1.0 if instrument.is_index else round(100.0 * instrument.dividend_yield, 3),
        "numberOfContracts": count,
        "assetMainType": "INDEX" if instrument.is_index else "EQUITY",
        "assetSubType": {"stock": "COE", "etf": "ETF"}.get(instrument.kind, ""),
        "isChainTruncated": False,
        "underlying": underlying,
        "callExpDateMap": maps[0],
        "putExpDateMap": maps[1],
    }


def _count(row: dict[str, Any]) -> int:
    return sum(1 if isinstance(found, Alone) else len(found) for found in row.values())


def chain_maps(board: Board, query: ChainQuery) -> tuple[ChainMap, ChainMap]:
    """Calls and puts by `YYYY-MM-DD:DTE` and strike, both ascending; a side not asked for is empty."""
    columns, labels = _columns(board, 3), _board_labels(board)
    return (
        _side_map(board, columns, labels, "CALL", query) if "CALL" in query.sides else {},
        _side_map(board, columns, labels, "PUT", query) if "PUT" in query.sides else {},
    )


@dataclass(frozen=True)
class _Labels:
    """The texts of one strike: its key in the map, symbols and descriptions of call and put."""

    strike: str
    symbols: tuple[str, str]
    descriptions: tuple[str, str]


@lru_cache(maxsize=65536)
def _labels(root: str, expiration_date: date, strike: float) -> _Labels:
    call = format_option_symbol(root, expiration_date, "C", strike)
    text = f"{root} {expiration_date:%m/%d/%Y} {strike:.2f} "
    return _Labels(str(float(strike)), (call, f"{call[:12]}P{call[13:]}"), (text + "C", text + "P"))


def _board_labels(board: Board) -> list[_Labels]:
    listed = board.selection.expirations
    return [
        _labels(listed[place].root, listed[place].expiration_date, strike)
        for place, strike in zip(board.series.tolist(), board.strikes.tolist(), strict=True)
    ]


@dataclass(frozen=True)
class _SeriesFields:
    """What all contracts of an expiration share."""

    map_key: str
    expiration_text: str
    days: int
    last_trading_day: int


@lru_cache(maxsize=8192)
def _series_fields(item: Expiration, day: date) -> _SeriesFields:
    when = item.expiration_date
    close = datetime(when.year, when.month, when.day, 16, tzinfo=NEW_YORK)
    hour = 20 if close.utcoffset() == datetime(2025, 7, 1, tzinfo=NEW_YORK).utcoffset() else 21
    last_day = previous_session(when) if item.settlement == "A" else when
    days = (when - day).days
    return _SeriesFields(
        map_key=f"{when.isoformat()}:{days}",
        expiration_text=f"{when.isoformat()}T{hour}:00:00.000+00:00",
        days=days,
        last_trading_day=round((midnight(last_day) + 20 * 3600.0) * 1000.0),
    )


Columns = dict[str, list[list[Any]]]


def _columns(board: Board, decimals: int) -> Columns:
    """The numbers of the wire by field name, as two lists (calls, puts) each."""
    close: Floats = np.maximum(np.round(board.previous_value, 4), 0.0001)
    shown_close: Floats = np.round(close, 2)
    mid = (board.bid + board.ask) / 200.0
    mark = (board.bid + board.ask + 1) // 2 / 100.0
    last, has_traded = board.last / 100.0, board.last > 0
    intrinsic = np.round(board.intrinsic, 2)
    net = np.where(has_traded, np.round(last - shown_close, 2), 0.0)
    mark_change = mid - close
    extremes = _year_range(board, last, shown_close)
    numbers: dict[str, NDArray[Any]] = {
        "bid": board.bid / 100.0,
        "ask": board.ask / 100.0,
        "last": last,
        "mark": mark,
        "bidSize": board.bid_size,
        "askSize": board.ask_size,
        "lastSize": board.last_size,
        "highPrice": board.high / 100.0,
        "lowPrice": board.low / 100.0,
        "closePrice": shown_close,
        "totalVolume": board.volume,
        "tradeTimeInLong": np.floor(board.trade_seconds * 1000.0).astype(np.int64),
        "quoteTimeInLong": np.floor(board.quote_seconds * 1000.0).astype(np.int64),
        "netChange": net,
        "openInterest": board.open_interest,
        "timeValue": np.where(has_traded, np.round(last - np.maximum(intrinsic, 0.0), 2), 0.0),
        "theoreticalOptionValue": np.round(board.value, decimals),
        "percentChange": np.round(net / close * 100.0, 2),
        "markChange": np.round(mark_change, 2),
        "markPercentChange": np.round(mark_change / close * 100.0, 2),
        "intrinsicValue": intrinsic,
        "extrinsicValue": np.round(last - intrinsic, 2),
        "high52Week": extremes[0],
        "low52Week": extremes[1],
        "inTheMoney": intrinsic > 0.0,
        **_model_columns(board, decimals),
    }
    return {name: values.tolist() for name, values in numbers.items()}


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
    return {
        name: np.where(board.is_modelled, np.round(values, decimals), MODEL_FAILS) for name, values in fields.items()
    }


def _year_range(board: Board, last: Floats, close: Floats) -> tuple[Floats, Floats]:
    top = np.maximum(np.maximum(last, board.high / 100.0), close)
    floor = np.where(board.low > 0, np.minimum(last, board.low / 100.0), last)
    high = np.round(top * (1.0 + 1.5 * board.luck.peak), 2)
    low = np.maximum(np.round(floor * (0.3 + 0.6 * board.luck.floor), 2), 0.01)
    traded = board.last > 0
    return np.where(traded, high, 0.0), np.where(traded, np.minimum(low, floor), 0.0)


def _side_map(board: Board, columns: Columns, labels: list[_Labels], side: Side, query: ChainQuery) -> ChainMap:
    row = 0 if side == "CALL" else 1
    rows = list(map(Alone, _contracts(board, columns, labels, row)))
    keep = _kept(columns["intrinsicValue"][row], query.moneyness)
    chain: ChainMap = {}
    start = 0
    for item, strikes_of in zip(board.selection.expirations, board.selection.strikes, strict=True):
        stop = start + len(strikes_of)
        keys = [label.strike for label in labels[start:stop]]
        found = dict(zip(keys, rows[start:stop], strict=True))
        if keep is not None:
            found = dict(compress(found.items(), keep[start:stop]))
        start = stop
        map_key = _series_fields(item, board.moment.day).map_key
        if map_key in chain:
            chain[map_key] = _merged(chain[map_key], found)
        elif found:
            chain[map_key] = found
    return chain


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Contracts of two settlements on one date: both under a strike they share, strikes ascending."""
    merged: dict[str, Any] = {}
    for key in sorted({**first, **second}, key=float):
        merged[key] = [row[key].contract for row in (first, second) if key in row]
    return merged


def _contracts(board: Board, columns: Columns, labels: list[_Labels], row: int) -> list[Contract]:
    """The contracts of one side; every field is an iterable over them, in the order of the wire."""
    fields = {name: values[row] for name, values in columns.items()}
    shared = _fixed_fields(board.moment, row)
    fields |= _series_columns(board)
    fields["symbol"] = [label.symbols[row] for label in labels]
    fields["description"] = [label.descriptions[row] for label in labels]
    fields["strikePrice"] = board.strikes.tolist()
    sizes = zip(fields["bidSize"], fields["askSize"], strict=True)
    fields["bidAskSize"] = [f"{bid}X{ask}" for bid, ask in sizes]
    in_order = [fields[name] if name in fields else repeat(shared[name]) for name in Contract.__struct_fields__]
    return list(map(Contract, *in_order))


def _series_columns(board: Board) -> dict[str, list[Any]]:
    listed, place = board.selection.expirations, board.series.tolist()
    shared = [_series_fields(item, board.moment.day) for item in listed]
    values: dict[str, list[Any]] = {
        "expirationDate": [fields.expiration_text for fields in shared],
        "daysToExpiration": [fields.days for fields in shared],
        "lastTradingDay": [fields.last_trading_day for fields in shared],
        "expirationType": [item.kind for item in listed],
        "settlementType": [item.settlement for item in listed],
        "optionRoot": [item.root for item in listed],
    }
    return {name: [each[number] for number in place] for name, each in values.items()}


def _kept(intrinsic: list[float], moneyness: str) -> list[bool] | None:
    if moneyness == "ITM":
        return [value > 0.0 for value in intrinsic]
    return [value <= 0.0 for value in intrinsic] if moneyness == "OTM" else None


def _fixed_fields(moment: Moment, row: int) -> dict[str, Any]:
    instrument = moment.instrument
    deliverable = [{"symbol": instrument.symbol, "assetType": "STOCK", "deliverableUnits": 100.0}]
    cash = f"100 {instrument.symbol}(Cash)"
    return {
        "putCall": "PUT" if row else "CALL",
        "exchangeName": "OPR",
        "openPrice": 0.0,
        "theoreticalVolatility": THEORETICAL_VOLATILITY,
        "optionDeliverablesList": msgspec.Raw(msgspec.json.encode(deliverable)),
        "multiplier": 100.0,
        "deliverableNote": cash if instrument.is_index else f"100 {option_root(instrument.symbol)}",
        "exerciseType": "E" if instrument.is_index else "A",
        "nonStandard": False,
        "pennyPilot": instrument.is_penny_pilot,
        "mini": False,
    }


def expiration_chain_body(moment: Moment) -> dict[str, Any]:
    """The expirations of a symbol; one entry per expiration and root."""
    return {
        "expirationList": [
            {
                "expirationDate": item.expiration_date.isoformat(),
                "daysToExpiration": (item.expiration_date - moment.day).days,
                "expirationType": item.kind,
                "settlementType": item.settlement,
                "optionRoots": item.root,
                "standard": True,
            }
            for item in expirations(moment.instrument, moment.day)
        ]
    }


def estimated_bytes(selection: Selection, sides: int) -> int:
    """About how long the encoded chain will be."""
    return math.ceil(selection.size * sides * BYTES_PER_CONTRACT)


def board_fields(board: Board, decimals: int, row: int) -> dict[str, Any]:
    """The fields of the first contract of a board on one side (0 calls, 1 puts), model figures to `decimals`."""
    item = board.selection.expirations[0]
    fields = {name: values[row][0] for name, values in _columns(board, decimals).items()}
    return fields | {"lastTradingDay": _series_fields(item, board.moment.day).last_trading_day}
