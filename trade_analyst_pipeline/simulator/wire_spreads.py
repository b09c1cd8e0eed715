"""Spread strategies of a chain as the wire spells them: pairs of contracts by expiration instead of the two maps.

No answer of this kind has been recorded. The shape is that of the source's predecessor, which clients still model:
`monthlyStrategyList` with two legs per strategy. Strategies of more than two legs, and those that hold stock, are
refused by `routes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from trade_analyst_pipeline.simulator.wire_contracts import board_symbols, wire_columns

if TYPE_CHECKING:
    from trade_analyst_pipeline.simulator.contracts import Board

LEAP_DAYS: Final = 365


@dataclass(frozen=True)
class Leg:
    """One contract of a strategy: prices in dollars."""

    symbol: str
    description: str
    kind: str
    strike: float
    bid: float
    ask: float
    volume: int
    intrinsic: float

    def spelt(self) -> dict[str, Any]:
        """The leg as the wire has it."""
        return {
            "symbol": self.symbol,
            "putCallInd": self.kind,
            "description": self.description,
            "bid": self.bid,
            "ask": self.ask,
            "range": "ITM" if self.intrinsic > 0.0 else "OTM",
            "strikePrice": self.strike,
            "totalVolume": self.volume,
        }


@dataclass(frozen=True)
class _Series:
    """One expiration: its legs by strike, `calls` and `puts` side by side."""

    expiration_date: date
    kind: str
    calls: list[Leg]
    puts: list[Leg]


Pair = tuple[Leg, Leg]


@dataclass(frozen=True)
class Request:
    """Which strategies are wanted: `sides` of contract, and the distance of strikes (None: neighbours)."""

    strategy: str
    sides: tuple[str, ...]
    interval: float | None


def strategy_list(board: Board, request: Request) -> list[dict[str, Any]]:
    """The strategies of a board by expiration, or by pair of expirations that follow each other."""
    series, day = _series_of(board), board.moment.day
    if request.strategy in _OVER_TIME:
        pairs = pairwise(series)
        months = [(near, far, list(_OVER_TIME[request.strategy](near, far, request))) for near, far in pairs]
    else:
        months = [(item, item, list(_AT_ONCE[request.strategy](item, request))) for item in series]
    is_bought = request.strategy in {"STRADDLE", "STRANGLE"}
    return [_month(near, far, found, day, is_bought=is_bought) for near, far, found in months if found]


def _series_of(board: Board) -> list[_Series]:
    columns, named = wire_columns(board, 3), board_symbols(board)
    strikes, found, start = board.strikes.tolist(), [], 0
    for item, count in zip(board.selection.expirations, board.selection.counts, strict=True):
        legs = [
            [
                Leg(
                    *named[row][place],
                    kind,
                    strikes[place],
                    columns["bid"][row][place],
                    columns["ask"][row][place],
                    columns["totalVolume"][row][place],
                    columns["intrinsicValue"][row][place],
                )
                for place in range(start, start + count)
            ]
            for row, kind in ((0, "C"), (1, "P"))
        ]
        found.append(_Series(item.expiration_date, item.kind, *legs))
        start += count
    return found


def _apart(legs: list[Leg], interval: float | None) -> Iterator[Pair]:
    """Each leg with the one `interval` dollars above, or with its neighbour."""
    if interval is None:
        yield from pairwise(legs)
        return
    by_strike = {leg.strike: leg for leg in legs}
    yield from ((leg, by_strike[leg.strike + interval]) for leg in legs if leg.strike + interval in by_strike)


def _wanted(series: _Series, request: Request) -> list[list[Leg]]:
    return [series.calls if side == "CALL" else series.puts for side in request.sides]


def _verticals(series: _Series, request: Request) -> Iterator[Pair]:
    for legs in _wanted(series, request):
        yield from _apart(legs, request.interval)


def _straddles(series: _Series, _: Request) -> Iterator[Pair]:
    yield from zip(series.calls, series.puts, strict=True)


def _strangles(series: _Series, request: Request) -> Iterator[Pair]:
    calls = {leg.strike: leg for leg in series.calls}
    yield from ((put, calls[high.strike]) for put, high in _apart(series.puts, request.interval))


def _calendars(near: _Series, far: _Series, request: Request) -> Iterator[Pair]:
    for first, second in zip(_wanted(near, request), _wanted(far, request), strict=True):
        later = {leg.strike: leg for leg in second}
        yield from ((leg, later[leg.strike]) for leg in first if leg.strike in later)


def _diagonals(near: _Series, far: _Series, request: Request) -> Iterator[Pair]:
    for first, second in zip(_wanted(near, request), _wanted(far, request), strict=True):
        later = {leg.strike: leg for leg in second}
        yield from (
            (leg, later[above.strike]) for leg, above in _apart(first, request.interval) if above.strike in later
        )


_AT_ONCE: Final[dict[str, Callable[[_Series, Request], Iterator[Pair]]]] = {
    "VERTICAL": _verticals,
    "STRADDLE": _straddles,
    "STRANGLE": _strangles,
}
_OVER_TIME: Final[dict[str, Callable[[_Series, _Series, Request], Iterator[Pair]]]] = {
    "CALENDAR": _calendars,
    "DIAGONAL": _diagonals,
}
SPREADS: Final = frozenset({*_AT_ONCE, *_OVER_TIME})


def _month(near: _Series, far: _Series, pairs: list[Pair], day: date, *, is_bought: bool) -> dict[str, Any]:
    return {
        **_when("", near, day),
        **_when("secondary", far, day),
        "optionStrategyList": [_strategy(first, second, is_bought=is_bought) for first, second in pairs],
    }


def _when(prefix: str, series: _Series, day: date) -> dict[str, Any]:
    when, days = series.expiration_date, (series.expiration_date - day).days
    fields = {
        "month": f"{when:%b}",
        "year": when.year,
        "day": when.day,
        "daysToExp": days,
        "type": series.kind,
        "leap": days > LEAP_DAYS,
    }
    return {prefix + name[0].upper() + name[1:] if prefix else name: value for name, value in fields.items()}


def _strategy(first: Leg, second: Leg, *, is_bought: bool) -> dict[str, Any]:
    """Both legs; the price is the sum of two bought ones, else what the first costs less what the second brings."""
    bid, ask = (first.bid + second.bid, first.ask + second.ask) if is_bought else (
        first.bid - second.ask, first.ask - second.bid,
    )  # fmt: skip
    return {
        "primaryLeg": first.spelt(),
        "secondaryLeg": second.spelt(),
        "strategyStrike": f"{first.strike:g}/{second.strike:g}",
        "strategyBid": round(bid, 2),
        "strategyAsk": round(ask, 2),
    }
