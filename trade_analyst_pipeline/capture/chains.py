"""How full chains are asked for: the list of expirations first, then pieces that fit, planned by last time's sizes.

The list stands in the same capture as the chain and proves it whole. Sizes are remembered by the archive itself: the
windows and body bytes of the symbol's last full chain.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import date, datetime
from functools import cached_property
from typing import Final

from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.capture.requesting import Held, Lack
from trade_analyst_pipeline.capture.sound import SoundCaptures
from trade_analyst_pipeline.datasets import options
from trade_analyst_pipeline.errors import ResponseRejectedError, SymbolNotFoundError
from trade_analyst_pipeline.market.chain_outline import listed_expirations, outline
from trade_analyst_pipeline.market.chain_pieces import FULL, ChainPiece, chain_scope, piece_of
from trade_analyst_pipeline.market.chain_windows import expected_sizes, planned_pieces
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive, Capture, Gap

# How many archived sessions back the size of a chain is looked up.
_MEMORY_SESSIONS: Final = 5
# Before an empty answer is asked for once more.
_PAUSE_SECONDS: Final = 5.0

Sizes = dict[ChainPiece, int]
Split = Callable[[MarketDataRequest], list[MarketDataRequest]]


class FullChains:
    """The question of one snapshot of whole chains; knows the expirations of each symbol whose list has come.

    `archive` is where earlier chains are remembered; None: nothing is. Of a symbol that was never captured whole one
    piece is asked first, a smaller one when it was too large; what it weighs tells how to cut the rest.
    """

    def __init__(self, snapshot: Snapshot, archive: Archive | None) -> None:
        self._snapshot = snapshot
        self._archive = archive
        self._dates: dict[str, list[date]] = {}
        self._answered: dict[str, list[ChainPiece]] = {}
        self._weighed: dict[str, Sizes] = {}
        self._probed: dict[str, bool] = {}  # whether the first piece has come to its end

    def missing(self, held: Held) -> list[MarketDataRequest]:
        """What to ask now: the lists that are not there yet, and pieces that a list before says are missing."""
        self._answered = _pieces_by_symbol(held.answered)
        self._probed = {}
        return [request for symbol in self._snapshot.symbols for request in self._missing(symbol, held)]

    def _missing(self, symbol: str, held: Held) -> list[MarketDataRequest]:
        listing, answered = options.listing_request(symbol), self._answered.get(symbol, [])
        failed = [gap.reason for gap in held.gaps if gap.request == listing]
        is_there = chain_scope(answered, self._snapshot.session_date) == FULL if answered else False
        if listing not in held.answered:
            return [] if is_there and not failed else [listing]
        if is_there or SymbolNotFoundError.reason in failed:
            return []
        if symbol not in self._dates:
            self._dates[symbol] = self._archived_dates(listing, held.captures)
        return self._pieces(symbol)

    def then(self, ended: RawResponse | Gap) -> list[MarketDataRequest]:
        """After a list the pieces of its chain, or the first of them, after that one the rest.

        Without a list the chain all the same, for it may not be had again; but not of a symbol that nobody knows.
        """
        if ended.request is None:
            return []
        symbol, piece = ended.request.symbols[0], piece_of(ended.request.params)
        if ended.request.path != options.LISTING_PATH:
            return self._rest(symbol, piece, ended) if piece and self._is_probing(symbol) else []
        if isinstance(ended, RawResponse):
            self._dates[symbol] = _dates_in(ended)
        elif ended.reason == SymbolNotFoundError.reason:
            return []
        return self._pieces(symbol)

    def split(self, request: MarketDataRequest) -> list[MarketDataRequest]:
        """Two requests for one that was too large, cut between listed expirations; raises ValueError for the last.

        Of a first piece only one: what it weighs decides on the other.
        """
        symbol = request.symbols[0]
        dates = self._dates.get(symbol, [])
        parts = options.split(request, session_date=self._snapshot.session_date, expirations=dates)
        return parts[:1] if self._is_probing(symbol) else parts

    def lacks(self, response: RawResponse) -> Lack | None:
        """What an answer lacks by the list of its symbol and by its own count."""
        if response.request.path == options.LISTING_PATH:
            return _lack_of_listing(response)
        piece, found = piece_of(response.request.params), outline(response.body)
        if piece is None or found is None:
            return None
        listed = [day for day in self._dates.get(response.request.symbols[0], []) if piece.spans(day)]
        if not found.contracts:
            detail = f"no contract of {len(listed)} listed expirations"
            has_ended = set(listed) == {self._snapshot.session_date}  # of that day there may be none any more
            return Lack(detail, is_empty=not has_ended, pause_seconds=_PAUSE_SECONDS) if listed else None
        lost = set(listed).difference(found.dates) if piece.moneyness == "ALL" else ()
        short = (found.announced or 0) - found.contracts
        if not lost and short <= 0:
            return None
        detail = f"{len(lost)} of {len(listed)} listed expirations did not come"
        detail = detail if lost else f"{short} contracts fewer than announced"
        return Lack(detail, is_empty=False, content=found.contracts)

    def _pieces(self, symbol: str) -> list[MarketDataRequest]:
        """What is still to be asked of a symbol's chain; as a whole where no expiration is known."""
        dates, answered = self._dates.get(symbol, []), self._answered.get(symbol, [])
        if not dates:
            return missing_pieces(options.requests([symbol])[0], self.split, answered)
        known = self._remembered.get(symbol) or self._weighed.get(symbol, {})
        planned = planned_pieces(dates, answered, expected_sizes(dates, known))
        if not known and symbol not in self._probed:
            self._probed[symbol] = False
            planned = planned[:1]
        return options.pieces(symbol, planned)

    def _is_probing(self, symbol: str) -> bool:
        return self._probed.get(symbol) is False

    def _rest(self, symbol: str, piece: ChainPiece, ended: RawResponse | Gap) -> list[MarketDataRequest]:
        """The pieces after the first, by what it weighs; by the first guess when it did not come."""
        self._probed[symbol] = True
        self._answered.setdefault(symbol, []).append(piece)
        if isinstance(ended, RawResponse):
            self._weighed[symbol] = {piece: len(ended.body)}
        return self._pieces(symbol)

    def _archived_dates(self, listing: MarketDataRequest, captures: Iterable[Capture]) -> list[date]:
        if self._archive is None:
            return []
        for capture, entry in self._archive.counting(list(captures)):
            if entry.request == listing:
                return _dates_in(self._archive.response(capture, entry))
        return []

    @cached_property
    def _remembered(self) -> dict[str, Sizes]:
        """The pieces that each symbol's last full chain came in, with the bytes of each body."""
        found: dict[str, Sizes] = {}
        for sizes in _earlier_sizes(self._archive, self._snapshot) if self._archive is not None else ():
            for symbol, known in sizes.items():
                found.setdefault(symbol, known)
            if found.keys() >= set(self._snapshot.symbols):
                break
        return found


def _earlier_sizes(archive: Archive, snapshot: Snapshot) -> Iterator[dict[str, Sizes]]:
    """The sizes of the full chains of each earlier instant, the latest first; what cannot be read is not remembered."""
    known = [session for session in archive.sessions(snapshot.dataset) if session <= snapshot.session_date]
    for session in reversed(known[-_MEMORY_SESSIONS:]):
        by_instant: dict[datetime, list[Capture]] = {}
        for capture in SoundCaptures(archive).of(snapshot.dataset, session):
            by_instant.setdefault(capture.scheduled_time, []).append(capture)
        for instant in sorted(by_instant, reverse=True):
            if instant < snapshot.scheduled_time:
                yield _sizes(archive, by_instant[instant])


def _sizes(archive: Archive, captures: Sequence[Capture]) -> dict[str, Sizes]:
    found: dict[str, Sizes] = {}
    for _, entry in archive.counting(captures):
        piece = piece_of(entry.request.params) if entry.request.path == options.PATH else None
        if piece is not None and piece.strike_count is None:
            found.setdefault(entry.request.symbols[0], {})[piece] = entry.body_bytes
    return found


def _pieces_by_symbol(requests: Iterable[MarketDataRequest]) -> dict[str, list[ChainPiece]]:
    """The pieces of chains among some requests, without those that only want strikes around the money."""
    found: dict[str, list[ChainPiece]] = {}
    for request in requests:
        piece = piece_of(request.params) if request.path == options.PATH else None
        if piece is not None and piece.strike_count is None:
            found.setdefault(request.symbols[0], []).append(piece)
    return found


def _dates_in(listing: RawResponse) -> list[date]:
    try:
        return sorted({day for day, _roots in listed_expirations(listing.body)})
    except ResponseRejectedError:
        return []


def _lack_of_listing(response: RawResponse) -> Lack | None:
    try:
        listed = listed_expirations(response.body)
    except ResponseRejectedError as error:
        return Lack(f"no list of expirations ({error.detail})", pause_seconds=_PAUSE_SECONDS)
    return None if listed else Lack("not one expiration is listed", is_empty=False)


def missing_pieces(
    request: MarketDataRequest, split: Split, answered: Collection[ChainPiece]
) -> list[MarketDataRequest]:
    """The request, or those of its parts that are not answered when it was asked for in parts, or nothing."""
    piece = piece_of(request.params)
    if piece is None or any(found.covers(piece) for found in answered):
        return []
    if not any(piece.holds_part(found) for found in answered):
        return [request]
    return [missing for part in split(request) for missing in missing_pieces(part, split, answered)]
