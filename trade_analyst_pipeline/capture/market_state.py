"""What captured answers say of the market at an instant: whether the exchange was shut, whether a symbol was halted."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import cache, partial
from typing import Final

from trade_analyst_pipeline.capture.plan import SHOWS_TRADING
from trade_analyst_pipeline.capture.sound import SoundCaptures
from trade_analyst_pipeline.datasets import markets, quotes
from trade_analyst_pipeline.market.sessions import LATE_CLOSE_DELAY, option_product
from trade_analyst_pipeline.schwab.messages import RawResponse
from trade_analyst_pipeline.settings import MOMENTS
from trade_analyst_pipeline.storage.archive import Capture

HALT_IS_SEEN_WITHIN: Final = timedelta(minutes=30)  # by quotes of a symbol whose chain came without anything


class MarketState:
    """Asks captures of `markets` and `quotes` alone, each once; one that cannot be read says nothing."""

    def __init__(self, captures: SoundCaptures) -> None:
        self._captures = captures
        self._hours = cache(self._hours_anew)
        self._quotes = cache(partial(captures.of, quotes.NAME))
        self._halts = cache(self._halts_anew)

    def why_shut(self, dataset: str, session_date: date, symbol: str, instant: datetime) -> str | None:
        """In words that the exchange was shut, for the day or before an instant of trading; None where none says so."""
        hours = self._hours(session_date)
        if hours is None:
            return None
        if hours.closes is None:
            return "the exchange was shut on that day, say the market hours captured on it"
        shows_trading = dataset in MOMENTS or dataset in SHOWS_TRADING
        closes = hours.closes + LATE_CLOSE_DELAY if option_product(symbol) == "late" else hours.closes
        if shows_trading and instant >= closes:
            return f"the exchange had shut at {closes:%H:%M} UTC, say the market hours captured on that day"
        return None

    def is_halted(self, symbol: str, session_date: date, asked: datetime) -> bool:
        """Whether the quote of the symbol that was asked for nearest to that instant, the earlier of two, says so."""
        near = [
            (abs(capture.started_time - asked), capture)
            for capture in self._quotes(session_date)
            if abs(capture.started_time - asked) <= HALT_IS_SEEN_WITHIN
        ]
        for _, capture in sorted(near, key=lambda pair: pair[0]):
            known, halted = self._halts(capture.capture_id)
            if symbol in known:
                return symbol in halted
        return False

    def _hours_anew(self, session_date: date) -> markets.ExchangeHours | None:
        captures = self._captures.of(markets.NAME, session_date)
        answers = [response for capture in captures for response in self._answers(capture)]
        return markets.exchange_hours(answers, session_date=session_date)

    def _halts_anew(self, capture_id: str) -> tuple[frozenset[str], frozenset[str]]:
        """The symbols that a capture of quotes is about, and those of them that are halted."""
        answers = self._answers(self._captures.archive.find(quotes.NAME, capture_id))
        known = frozenset(symbol for response in answers for symbol in response.request.symbols)
        return known, frozenset(symbol for response in answers for symbol in quotes.halted(response))

    def _answers(self, capture: Capture) -> list[RawResponse]:
        """All answers of a capture; none of one that is damaged, or whose bodies were retired."""
        if capture.is_retired:
            return []
        return self._captures.reading(lambda: list(self._captures.archive.answers([capture]))) or []
