"""Whether a full chain is whole: every listed expiration there, no piece missing, no contract short.

The proof is the source's own list of expirations and its own count of contracts. What is not proven whole is refused
in words that say what is missing. How list and count are spelled on
the wire is in `chain_outline`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import date
from typing import Final

from trade_analyst_pipeline.market.chain_outline import Listed
from trade_analyst_pipeline.market.chain_pieces import ChainPiece
from trade_analyst_pipeline.market.chain_windows import uncovered

_SHOWN: Final = 6
_TYPES: Final = {"CALL": "calls", "PUT": "puts"}


def shortfall(
    listed: Listed,
    pieces: Collection[ChainPiece],
    seen: Collection[tuple[date, str]],
    short: int,
    *,
    session_date: date,
) -> str:
    """What is missing of a full chain, in words; empty when it is proven whole.

    `listed` are the entries of the list by date and plain roots, one of which is enough, `pieces` those that came,
    `seen` the expirations of their contracts by date and plain root, `short` how many contracts fewer came than were
    announced. What is no fault: more than what is listed, and no contract of the session's own date any more.
    """
    if not listed:
        return "the list of expirations is empty, so nothing proves the chain whole" if seen else ""
    if not pieces:
        return f"nothing came of its {_counted(len(listed), 'expiration')}"
    never = {day: parts for day in sorted({day for day, _ in listed}) if (parts := uncovered(day, pieces))}
    has_ended = all(day != session_date for day, _root in seen)
    lost = sorted(
        (day, sorted(roots))
        for day, roots in listed
        if day not in never
        and not (has_ended and day == session_date)
        and not any((day, root) in seen for root in roots)
    )
    problems = [
        f"{len(lost)} of {_counted(len(listed), 'expiration')} missing: {_shown(map(_expiration, lost))}" * bool(lost),
        f"a piece never came, with {_shown(_part(day, parts) for day, parts in never.items())}" * bool(never),
        f"{_counted(short, 'contract')} fewer than announced" * (short > 0),
    ]
    return "; ".join(filter(None, problems))


def _expiration(entry: tuple[date, list[str]]) -> str:
    return f"{entry[0]} {' or '.join(entry[1])}"


def _part(day: date, missing: Collection[tuple[str, str]]) -> str:
    """What of a date no piece holds: all of it, one type of it, or by side of the money."""
    by_type: dict[str, list[str]] = {}
    for side, money in missing:
        by_type.setdefault(_TYPES[side], []).append(money)
    if all(len(money) == 2 for money in by_type.values()):
        return str(day) if len(by_type) == 2 else f"the {next(iter(by_type))} of {day}"
    return f"{' and '.join(f'{money} {side}' for side, each in by_type.items() for money in each)} of {day}"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" + "s" * (number != 1)


def _shown(texts: Iterable[str]) -> str:
    each = list(texts)
    more = f" and {len(each) - _SHOWN} more" if len(each) > _SHOWN else ""
    return ", ".join(each[:_SHOWN]) + more
