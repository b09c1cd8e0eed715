"""Bars that came with captures of later sessions: one answer of price history spans years."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from functools import cache, cached_property
from operator import itemgetter

from trade_analyst_pipeline.capture.attempts import Attempt, answered_requests
from trade_analyst_pipeline.capture.sound import SoundCaptures
from trade_analyst_pipeline.datasets import ohlc
from trade_analyst_pipeline.errors import CaptureDamagedError
from trade_analyst_pipeline.schwab.messages import MarketDataRequest

Windows = dict[MarketDataRequest, frozenset[str]]


class LaterBars:
    """Of each capture of `ohlc` only the windows it was asked for are kept, with the symbols of each."""

    def __init__(self, captures: SoundCaptures) -> None:
        self._captures = captures
        self._windows = cache(self._windows_anew)
        self._served = cache(self._served_anew)
        self._sets: dict[frozenset[str], frozenset[str]] = {}  # most days ask for the same symbols

    def serving(self, session_date: date, symbol: str, wanted: Iterable[MarketDataRequest]) -> str | None:
        """The first capture of a later session with which all bars wanted of a symbol are there; None: they are not."""
        left = [_without_symbol(request) for request in wanted]
        for _, capture_id in self._filed[bisect_right(self._filed, session_date, key=itemgetter(0)) :]:
            left = [window for window in left if symbol not in self._served(capture_id, window)]
            if not left:
                return capture_id
        return None

    @cached_property
    def _filed(self) -> list[tuple[date, str]]:
        """Session and id of each capture, ascending."""
        found = []
        for day in self._captures.archive.sessions(ohlc.NAME):
            ids = self._captures.ids(ohlc.NAME, day)
            found += [] if isinstance(ids, CaptureDamagedError) else [(day, each) for each in ids]
        return found

    def _served_anew(self, capture_id: str, wanted: MarketDataRequest) -> frozenset[str]:
        """The symbols of which a capture holds the bars wanted."""
        serving = (symbols for window, symbols in self._windows(capture_id).items() if ohlc.serves(window, wanted))
        return frozenset().union(*serving)

    def _windows_anew(self, capture_id: str) -> Windows:
        capture = self._captures.at(ohlc.NAME, capture_id)
        if isinstance(capture, CaptureDamagedError):
            return {}
        found: dict[MarketDataRequest, set[str]] = {}
        for request in answered_requests([Attempt(capture, self._captures.archive.index(capture))]):
            found.setdefault(_without_symbol(request), set()).update(request.symbols)
        return {window: self._shared(frozenset(symbols)) for window, symbols in found.items()}

    def _shared(self, symbols: frozenset[str]) -> frozenset[str]:
        return self._sets.setdefault(symbols, symbols)


def _without_symbol(request: MarketDataRequest) -> MarketDataRequest:
    return replace(request, params=tuple(pair for pair in request.params if pair[0] != "symbol"), symbols=())
