"""Which pieces to ask of a full chain, so that each fits into one response and there are as few as can be.

Packed from the listed expirations and what each is expected to weigh: by the sizes of an earlier chain of the same
symbol, or by a first guess. A wrong guess costs a request, never a contract: what comes too large is halved.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise
from typing import Final

from trade_analyst_pipeline.market.chain_pieces import ChainPiece

# The source's gateway refuses bodies of about this many bytes (`TooBigBody`); a tenth of it is left free.
LARGEST_BODY: Final = 10_000_000
ROOM: Final = LARGEST_BODY * 9 // 10
# Symbols with many expirations have many strikes too: a chain of n expirations is first taken for n * n times this.
_FIRST_GUESS: Final = 9_000

_DAY: Final = timedelta(days=1)
_SIDES: Final = ("CALL", "PUT")
_MONEY: Final = ("ITM", "OTM")


def expected_sizes(dates: Iterable[date], known: Mapping[ChainPiece, int]) -> dict[date, int]:
    """What the contracts of each expiration date are expected to weigh, in bytes of a body.

    `known` are bytes of the pieces that an earlier chain came in, each shared out evenly among its dates. A date that
    none of them holds weighs as much as the others on average; with no piece known all is a guess.
    """
    listed = sorted(set(dates))
    if not known:
        return dict.fromkeys(listed, _FIRST_GUESS * len(listed))
    found = dict.fromkeys(listed, 0)
    for piece, size in known.items():
        inside = [day for day in listed if piece.spans(day)]
        for day in inside:
            found[day] += size // len(inside)
    weighed = [size for size in found.values() if size]
    mean = sum(weighed) // len(weighed) if weighed else _FIRST_GUESS * len(listed)
    return {day: size or mean for day, size in found.items()}


def planned_pieces(
    dates: Collection[date], answered: Collection[ChainPiece], sizes: Mapping[date, int], *, room: int = ROOM
) -> list[ChainPiece]:
    """The pieces still to ask of a chain with these expiration dates, so that each weighs at most `room`.

    Nothing of what `answered` covers is asked again. Windows end on an expiration and start the day after the one
    before; those at either end of the list stay open. A date that outweighs `room` alone is asked for by type, one
    that outweighs it twice also by the side of the money.
    """
    listed = sorted(set(dates))
    pieces: list[ChainPiece] = []
    for run in _runs(listed, answered):
        if len(run) == 1 and (parts := _rest_of_date(run[0], answered)):
            pieces += parts
            continue
        for window in _packed(run, sizes, room):
            pieces += _pieces_of(window, listed, sizes, room)
    return pieces


def uncovered(day: date, answered: Iterable[ChainPiece]) -> list[tuple[str, str]]:
    """The type and side of the money of an expiration's contracts that no piece holds; empty when all are covered."""
    holding = [piece for piece in answered if piece.spans(day) and piece.strike_count is None]
    return [
        (side, money)
        for side in _SIDES
        for money in _MONEY
        if not any(piece.contract_type in {"ALL", side} and piece.moneyness in {"ALL", money} for piece in holding)
    ]


def _runs(listed: Sequence[date], answered: Collection[ChainPiece]) -> list[list[date]]:
    """The dates not wholly covered, in runs without a covered one between; one covered in part stands alone."""
    runs: list[list[date]] = [[]]
    for day in listed:
        missing = len(uncovered(day, answered))
        if missing == len(_SIDES) * len(_MONEY):
            runs[-1].append(day)
        else:
            runs += [[day], []] if missing else [[]]
    return [run for run in runs if run]


def _rest_of_date(day: date, answered: Collection[ChainPiece]) -> list[ChainPiece]:
    """What is missing of a date that is covered in part: a type at a time, whole where all of it is missing."""
    missing = uncovered(day, answered)
    if len(missing) == len(_SIDES) * len(_MONEY):
        return []
    by_side = {side: [money for kind, money in missing if kind == side] for side in _SIDES}
    return [
        ChainPiece(day, day, None, side, "ALL" if len(money) == len(_MONEY) else money[0])
        for side, money in by_side.items()
        if money
    ]


def _packed(run: Sequence[date], sizes: Mapping[date, int], room: int) -> list[list[date]]:
    """A run of dates as the fewest windows of at most `room`, these as even as they can be."""
    windows = _filled(run, sizes, room)
    low, high = max(sizes[day] for day in run), room
    while low < high:
        middle = (low + high) // 2
        tried = _filled(run, sizes, middle)
        if len(tried) > len(windows):
            low = middle + 1
        else:
            windows, high = tried, middle
    return windows


def _filled(run: Sequence[date], sizes: Mapping[date, int], room: int) -> list[list[date]]:
    """A run of dates as windows, each filled up to `room` from the first date on; a date over `room` stands alone."""
    windows: list[list[date]] = []
    weight = 0
    for day in run:
        if windows and weight + sizes[day] <= room:
            windows[-1].append(day)
            weight += sizes[day]
        else:
            windows.append([day])
            weight = sizes[day]
    return windows


def _pieces_of(
    window: Sequence[date], listed: Sequence[date], sizes: Mapping[date, int], room: int
) -> list[ChainPiece]:
    before = {later: earlier for earlier, later in pairwise(listed)}
    first = before[window[0]] + _DAY if window[0] in before else None
    whole = ChainPiece(first, None if window[-1] == listed[-1] else window[-1])
    if len(window) > 1 or sizes[window[0]] <= room:
        return [whole]
    sides = [replace(whole, contract_type=side) for side in _SIDES]
    if sizes[window[0]] <= 2 * room:
        return sides
    return [replace(side, moneyness=money) for side in sides for money in _MONEY]
