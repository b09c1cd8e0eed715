"""What is asked of an option chain: the whole, or pieces of it, and how much all pieces of a snapshot are together.

A chain too large for one response is asked in pieces: windows of expirations, then calls and puts apart, then in and
out of the money apart. Together the pieces have the scope of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Final

FULL: Final = "full"
PARTIAL: Final = "partial"
UNKNOWN: Final = "unknown"

# No expiration is listed further ahead than this.
_FARTHEST_DAYS: Final = 4 * 366
_QUERY_NAMES: Final = frozenset(
    {"symbol", "includeUnderlyingQuote", "contractType", "strikeCount", "range", "fromDate", "toDate"}
)


@dataclass(frozen=True)
class ChainPiece:
    """What one request asks for; None is no bound. `first` and `last` expiration are included."""

    first: date | None = None
    last: date | None = None
    strike_count: int | None = None
    contract_type: str = "ALL"
    moneyness: str = "ALL"

    def params(self) -> tuple[tuple[str, str], ...]:
        """The bounds as query pairs, only those there are."""
        bounds = (
            ("contractType", None if self.contract_type == "ALL" else self.contract_type),
            ("strikeCount", self.strike_count),
            ("range", None if self.moneyness == "ALL" else self.moneyness),
            ("fromDate", self.first),
            ("toDate", self.last),
        )
        return tuple((name, str(value)) for name, value in bounds if value is not None)

    def spans(self, expiration_date: date) -> bool:
        """Whether the expiration lies within the window."""
        return (self.first or date.min) <= expiration_date <= (self.last or date.max)

    def covers(self, other: ChainPiece) -> bool:
        """Whether every contract that `other` asks for is among those asked for here."""
        own, wanted = self.strike_count, other.strike_count
        return (own is None or (wanted is not None and wanted <= own)) and self._spans(other)

    def holds_part(self, other: ChainPiece) -> bool:
        """Whether `other` can be one of the pieces this one was split into."""
        return self.strike_count == other.strike_count and self._spans(other)

    def _spans(self, other: ChainPiece) -> bool:
        """Whether expirations, type and side of the money of `other` lie within these."""
        starts = self.first is None or (other.first is not None and self.first <= other.first)
        ends = self.last is None or (other.last is not None and other.last <= self.last)
        sides = self.contract_type in {"ALL", other.contract_type} and self.moneyness in {"ALL", other.moneyness}
        return starts and ends and sides


def piece_of(params: Iterable[tuple[str, str]]) -> ChainPiece | None:
    """What a query asked for; None when it has no symbol (a recording without its request) or asks something else."""
    query = dict(params)
    if "symbol" not in query or not query.keys() <= _QUERY_NAMES:
        return None
    try:
        return ChainPiece(
            first=date.fromisoformat(query["fromDate"]) if "fromDate" in query else None,
            last=date.fromisoformat(query["toDate"]) if "toDate" in query else None,
            strike_count=int(query["strikeCount"]) if "strikeCount" in query else None,
            contract_type=query.get("contractType", "ALL"),
            moneyness=query.get("range", "ALL"),
        )
    except ValueError:
        return None


def halves(piece: ChainPiece, session_date: date, expirations: Sequence[date] = ()) -> list[ChainPiece]:
    """Two pieces that together are this one; raises ValueError when no way to halve it is left.

    The window of expirations is cut at the middle of the known `expirations` inside it; where none is known at all, by
    its days. One expiration is cut into calls and puts, then in and out of the money. An open window stays open at its
    outer ends.
    """
    middle = _middle(piece, session_date, expirations)
    if middle is not None:
        return [replace(piece, last=middle), replace(piece, first=middle + timedelta(days=1))]
    if piece.contract_type == "ALL":
        return [replace(piece, contract_type=side) for side in ("CALL", "PUT")]
    if piece.moneyness == "ALL":
        return [replace(piece, moneyness=side) for side in ("ITM", "OTM")]
    message = f"one day, one type and one side of the money are still too large for one response: {piece}"
    raise ValueError(message)


def _middle(piece: ChainPiece, session_date: date, expirations: Sequence[date]) -> date | None:
    """The last day of the first half of a window, or None when it is a single day or expiration."""
    first = max(piece.first or session_date, session_date)
    last = piece.last or max(first, session_date + timedelta(days=_FARTHEST_DAYS))
    inside = sorted(day for day in set(expirations) if first <= day <= last)
    if expirations:
        return inside[len(inside) // 2 - 1] if len(inside) > 1 else None
    days = (last - first).days
    # Expirations thin out with time: half of those of an open window lie in its first quarter or less.
    return None if days <= 0 else first + timedelta(days=days // 4 if piece.last is None else days // 2)


def chain_scope(pieces: Iterable[ChainPiece | None], session_date: date) -> str:
    """The scope of all pieces of one symbol's chain in one snapshot; None is a request of which nothing is known.

    `full`; `bounded strikes=15 days=0..60 type=CALL` with only the bounds there are, days counted from the session to
    the expirations, so that equal questions of different sessions read alike; `partial` when the pieces leave a hole;
    `unknown`.
    """
    asked = list(dict.fromkeys(pieces))
    known = [piece for piece in asked if piece is not None]
    if not known or len(known) < len(asked):
        return UNKNOWN
    window = _window(known)
    if window is None or len({piece.strike_count for piece in known}) > 1:
        return PARTIAL
    first, last, contract_type = window
    bounds = [] if known[0].strike_count is None else [f"strikes={known[0].strike_count}"]
    if first is not None and last is not None:
        bounds.append(f"days={(first - session_date).days}..{(last - session_date).days}")
    elif first is not last:
        return PARTIAL
    if contract_type != "ALL":
        bounds.append(f"type={contract_type}")
    return f"bounded {' '.join(bounds)}" if bounds else FULL


class Snapshots:
    """The pieces of the chains of one capture, as they are added, and the snapshots that they make up.

    A piece of a symbol's chain that was asked for again belongs to another snapshot of it.
    """

    def __init__(self) -> None:
        self._pieces: dict[str, list[ChainPiece | None]] = {}
        self._snapshots: list[tuple[str, int]] = []
        self._last_arrival: dict[tuple[str, int], datetime] = {}

    def add(self, symbol: str, params: Iterable[tuple[str, str]], *, received_time: datetime) -> None:
        """Take on a piece: whose chain, the query that asked for it, and when it arrived."""
        piece, pieces = piece_of(params), self._pieces.setdefault(symbol, [])
        snapshot = (symbol, pieces.count(piece))
        pieces.append(piece)
        self._snapshots.append(snapshot)
        self._last_arrival[snapshot] = max(self._last_arrival.get(snapshot, received_time), received_time)

    def pieces(self) -> dict[str, list[ChainPiece | None]]:
        """The pieces of each symbol's chain, in the order added; None is a request of which nothing is known."""
        return self._pieces

    def each(self, session_date: date) -> list[tuple[str, datetime]]:
        """For each piece, in the order added, the scope of its symbol's chain and when its snapshot was complete."""
        scopes = {symbol: chain_scope(pieces, session_date) for symbol, pieces in self._pieces.items()}
        return [(scopes[snapshot[0]], self._last_arrival[snapshot]) for snapshot in self._snapshots]


def _window(pieces: list[ChainPiece]) -> tuple[date | None, date | None, str] | None:
    """The one window of expirations and the contract type that the pieces fill, or None when they leave a hole."""
    types = {piece.contract_type for piece in pieces}
    contract_type = types.pop() if len(types) == 1 else "ALL"
    sides = ("CALL", "PUT") if contract_type == "ALL" else (contract_type,)
    found = {_joined([piece for piece in pieces if piece.contract_type in {side, "ALL"}]) for side in sides}
    joined = found.pop()
    return None if found or joined is None else (*joined, contract_type)


def _joined(pieces: list[ChainPiece]) -> tuple[date | None, date | None] | None:
    """The window that pieces of one side fill without a hole, or None."""
    spans: dict[tuple[date, date], set[str]] = {}
    for piece in pieces:
        spans.setdefault((piece.first or date.min, piece.last or date.max), set()).add(piece.moneyness)
    if not spans or any("ALL" not in sides and sides != {"ITM", "OTM"} for sides in spans.values()):
        return None
    (first, reached), *later = sorted(spans)
    for start, end in later:
        if reached < date.max and start > reached + timedelta(days=1):
            return None
        reached = max(reached, end)
    return None if first == date.min else first, None if reached == date.max else reached
