"""What snapshots cost: requests and bytes for each symbol, measured from the archive where it has any, else assumed.

What is assumed comes from answers of the source that were recorded in public, see `ASSUMED`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from trade_analyst_pipeline.capture.ask import ask
from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.capture.requesting import Held
from trade_analyst_pipeline.datasets import options
from trade_analyst_pipeline.market.chain_pieces import piece_of
from trade_analyst_pipeline.market.sessions import option_product
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.settings import BoundedChainSettings
from trade_analyst_pipeline.storage.archive import Archive, Capture, IndexEntry

MEASURED_SESSIONS: Final = 5  # how many of the latest archived sessions sizes are measured over

_BOUNDS: Final = BoundedChainSettings()
_NOTHING: Final = Held((), frozenset(), ())
_LATE_PIECES: Final = 2


@dataclass(frozen=True)
class Size:
    """Bytes of a dataset for one symbol and snapshot: as they come, unpacked, and as the archive keeps them."""

    body: float
    stored: float


# Compact JSON of recorded answers: a chain has 1,130 bytes a contract (taken for 1,500 contracts) and is kept in 11 %;
# a quote 1,500 bytes, kept in 40 %; a bar 100 bytes (two years of days and a day of minutes), kept in 17 %.
ASSUMED: Final[Mapping[str, Size]] = {
    "options": Size(1_700_000, 187_000),
    "quotes": Size(1_500, 600),
    "ohlc": Size(90_000, 15_000),
    "expirations": Size(4_300, 400),
    "instruments": Size(1_500, 800),
    "markets": Size(840, 260),
    "movers": Size(7_600, 2_500),
}
ASSUMPTION: Final = "recorded answers of the source"


@dataclass(frozen=True)
class Costs:
    """Bytes by dataset, and how many requests the chain of a symbol takes beside its list of expirations.

    What is not in them is assumed. `bars` are the frequencies asked for, a request for each symbol and frequency.
    """

    sizes: Mapping[str, Size] = field(default_factory=dict)
    chain_pieces: Mapping[str, int] = field(default_factory=dict)
    bars: Sequence[str] = ("daily", "minute")

    def size(self, dataset: str) -> Size:
        """Bytes for each symbol of a snapshot."""
        return self.sizes.get(dataset) or ASSUMED[dataset]

    def pieces(self, symbol: str) -> int:
        """Requests for a whole chain: as many as last time, else one, and two for what trades to 16:15."""
        return self.chain_pieces.get(symbol) or (_LATE_PIECES if option_product(symbol) == "late" else 1)

    def rounds(self, snapshot: Snapshot) -> list[list[tuple[str, ...]]]:
        """The symbols of each request, round by round: a round is asked once the one before it has been.

        A snapshot is complete for a symbol with the last request that names it.
        """
        first = [request.symbols for request in ask(snapshot, _BOUNDS, bars=self.bars).missing(_NOTHING)]
        if snapshot.dataset != options.NAME or snapshot.scope != "full":
            return [first]
        return [first, [(symbol,) for symbol in snapshot.symbols for _ in range(self.pieces(symbol))]]


def measured_costs(archive: Archive, *, bars: Sequence[str]) -> Costs:
    """The costs that the archive's latest sessions show; of a chain those of whole ones only."""
    sizes, pieces = dict[str, Size](), dict[str, int]()
    for dataset in ASSUMED:
        recent = [
            capture
            for day in archive.sessions(dataset)[-MEASURED_SESSIONS:]
            for capture in archive.captures(dataset, day)
        ]
        entries = [
            (capture, [entry for _, entry in archive.counting([capture]) if _is_whole(entry)]) for capture in recent
        ]
        if (size := _size(entries)) is not None:
            sizes[dataset] = size
        if dataset == options.NAME:
            pieces = _pieces(entries)
    return Costs(sizes, pieces, bars)


def _is_whole(entry: IndexEntry) -> bool:
    """Whether a record counts: not a chain around the money, whose size says nothing about a whole one."""
    piece = piece_of(entry.request.params) if entry.request.path == options.PATH else None
    return piece is None or piece.strike_count is None


def _size(captures: Iterable[tuple[Capture, Sequence[IndexEntry]]]) -> Size | None:
    body, stored, symbols = 0.0, 0.0, 0
    for capture, entries in captures:
        bytes_here = sum(entry.body_bytes for entry in entries)
        body += bytes_here
        stored += capture.stored_bytes * bytes_here / max(1, capture.body_bytes)
        symbols += len({symbol for entry in entries for symbol in entry.request.symbols})
    return Size(body / symbols, stored / symbols) if symbols and body else None


def _pieces(captures: Iterable[tuple[Capture, Sequence[IndexEntry]]]) -> dict[str, int]:
    """How many requests the chain of each symbol took last time; captures of one time are attempts at one snapshot."""
    asked: dict[datetime, dict[str, set[MarketDataRequest]]] = {}
    for capture, entries in captures:
        of_snapshot = asked.setdefault(capture.scheduled_time, {})
        for entry in entries:
            if entry.request.path == options.PATH:
                for symbol in entry.request.symbols:
                    of_snapshot.setdefault(symbol, set()).add(entry.request)
    return {symbol: len(of) for due in sorted(asked) for symbol, of in asked[due].items()}
