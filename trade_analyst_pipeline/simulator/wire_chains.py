"""Option chains as the wire spells them: which contracts a query means, and the maps they stand in.

What one contract looks like is in `wire_contracts`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from itertools import compress
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from trade_analyst_pipeline.simulator.contracts import Board, Selection
from trade_analyst_pipeline.simulator.listing import Expiration, expirations
from trade_analyst_pipeline.simulator.noise import Floats
from trade_analyst_pipeline.simulator.wire_contracts import (
    THEORETICAL_VOLATILITY,
    Columns,
    Contract,
    Labels,
    board_labels,
    contracts_of,
    series_texts,
    wire_columns,
)

if TYPE_CHECKING:
    from trade_analyst_pipeline.simulator.market import Market, Moment

BYTES_PER_CONTRACT = 1150

Side = Literal["CALL", "PUT"]


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
    option_type: Literal["S", "NS", "ALL"] = "ALL"


def select(market: Market, moment: Moment, query: ChainQuery) -> Selection:
    """The contracts a query means, by expiration."""
    chosen = [item for item in expirations(moment.instrument, moment.day) if _is_wanted(item, query)]
    rows = [_narrowed(market.strikes(query.symbol, item, moment.day), moment.spot, query) for item in chosen]
    pairs = [(item, row) for item, row in zip(chosen, rows, strict=True) if len(row)]
    return Selection(tuple(item for item, _ in pairs), tuple(row for _, row in pairs))


def _is_wanted(item: Expiration, query: ChainQuery) -> bool:
    when = item.expiration_date
    return (
        (query.option_type == "ALL" or item.is_standard == (query.option_type == "S"))
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
    maps, count = chain_maps(board, query) if board is not None else (({}, {}), 0)
    instrument = moment.instrument
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
        **({} if underlying is None and instrument.is_index else {"underlying": underlying}),
        "callExpDateMap": maps[0],
        "putExpDateMap": maps[1],
    }


def chain_maps(board: Board, query: ChainQuery) -> tuple[tuple[ChainMap, ChainMap], int]:
    """Calls and puts by `YYYY-MM-DD:DTE` and strike, both ascending, and how many there are in all.

    A side that was not asked for is empty.
    """
    columns, labels = wire_columns(board, 3), board_labels(board)
    sides: tuple[Side, Side] = ("CALL", "PUT")
    calls, puts = (_side_map(board, columns, labels, side, query) if side in query.sides else ({}, 0) for side in sides)
    return (calls[0], puts[0]), calls[1] + puts[1]


def _side_map(
    board: Board, columns: Columns, labels: list[Labels], side: Side, query: ChainQuery
) -> tuple[ChainMap, int]:
    row = 0 if side == "CALL" else 1
    rows = list(map(Alone, contracts_of(board, columns, labels, row)))
    keep = _kept(columns["intrinsicValue"][row], query.moneyness)
    chain: ChainMap = {}
    instrument, start, count = board.moment.instrument, 0, 0
    for item, strikes_of in zip(board.selection.expirations, board.selection.strikes, strict=True):
        stop = start + len(strikes_of)
        keys = [label.strike for label in labels[start:stop]]
        found = dict(zip(keys, rows[start:stop], strict=True))
        if keep is not None:
            found = dict(compress(found.items(), keep[start:stop]))
        start = stop
        count += len(found)
        map_key = series_texts(instrument, item, board.moment.day).map_key
        if map_key in chain:
            chain[map_key] = _merged(chain[map_key], found)
        elif found:
            chain[map_key] = found
    return chain, count


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Contracts of two roots on one date: both under a strike they share, strikes ascending."""
    merged: dict[str, Any] = {}
    for key in sorted({**first, **second}, key=float):
        merged[key] = [row[key].contract for row in (first, second) if key in row]
    return merged


def _kept(intrinsic: list[float], moneyness: str) -> list[bool] | None:
    if moneyness == "ITM":
        return [value > 0.0 for value in intrinsic]
    return [value <= 0.0 for value in intrinsic] if moneyness == "OTM" else None


def truncated(body: dict[str, Any], most: int) -> dict[str, Any]:
    """A chain of more than `most` contracts cut to them, half of them on each side, and marked as truncated."""
    if body["numberOfContracts"] <= most:
        return body
    calls, first = _first_of(body["callExpDateMap"], most // 2 if body["putExpDateMap"] else most)
    puts, second = _first_of(body["putExpDateMap"], most - first)
    cut = {"numberOfContracts": first + second, "isChainTruncated": True}
    return body | cut | {"callExpDateMap": calls, "putExpDateMap": puts}


def _first_of(chain: ChainMap, most: int) -> tuple[ChainMap, int]:
    kept: ChainMap = {}
    count = 0
    for key, row in chain.items():
        for strike, found in row.items():
            size = len(found) if isinstance(found, list) else 1
            if count + size > most:
                return kept, count
            kept.setdefault(key, {})[strike] = found
            count += size
    return kept, count


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
                "standard": item.is_standard,
            }
            for item in expirations(moment.instrument, moment.day)
        ],
        "status": None,
    }


def estimated_bytes(selection: Selection, sides: int) -> int:
    """About how long the encoded chain will be."""
    return math.ceil(selection.size * sides * BYTES_PER_CONTRACT)
