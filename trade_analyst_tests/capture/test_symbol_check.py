"""The source is asked which symbols it knows, and for the others what may be meant."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import pytest

from trade_analyst_pipeline.capture.symbol_check import Checked, check_symbols, other_forms
from trade_analyst_pipeline.capture.symbol_life import Life
from trade_analyst_pipeline.errors import BadRequestError, RequestSummary, SymbolNotFoundError
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse

NOW = datetime(2026, 11, 23, 20, tzinfo=UTC)
LISTED = {"AAPL": "037833100", "APA": "03743Q108", "META": "30303M102", "$SPX": "", "BRK/B": "084670702"}


class Source:
    """A source that lists LISTED, and remembers what it was asked."""

    def __init__(self, *, answers_search: bool = True) -> None:
        self.asked: list[MarketDataRequest] = []
        self._answers_search = answers_search

    async def fetch(self, request: MarketDataRequest) -> RawResponse:
        """Quotes, a search, or an instrument by its CUSIP."""
        self.asked.append(request)
        return RawResponse(request, 200, json.dumps(self._body(request)).encode(), (), NOW, NOW)

    def _body(self, request: MarketDataRequest) -> dict[str, Any]:
        if request.path == "/quotes":
            known = {name: {"symbol": name} for name in request.symbols if name in LISTED}
            unknown = [name for name in request.symbols if name not in LISTED and name != "QUIET"]
            return {**known, "errors": {"invalidSymbols": unknown}}
        summary = RequestSummary(request.dataset, request.path, ())
        if request.path == "/instruments":
            if not self._answers_search:
                raise BadRequestError(summary, "no", "Nothing.")
            text = str(request.param("symbol"))
            if request.param("projection") == "desc-search":
                return {"instruments": [{"symbol": "META"}] if text == "FACEBOOK" else []}
            return {"instruments": [{"symbol": name} for name in LISTED if name.startswith(text[:2])]}
        if request.path == "/instruments/30303M102":
            return {"instruments": [{"symbol": "META", "cusip": "30303M102"}]}
        raise SymbolNotFoundError(summary, "no", "Nothing.")


def check(*symbols: str, source: Source | None = None, past: Mapping[str, Life] | None = None) -> Checked:
    """What the source says of these symbols."""
    fetch = (source or Source()).fetch
    return asyncio.run(check_symbols(symbols, fetch=fetch, past=past or {}, also=(), today=date(2026, 11, 23)))


@pytest.mark.parametrize(
    ("symbol", "suggestions"),
    [
        ("SPX", ("$SPX",)),  # an index without its sign
        ("BRKB", ("BRK/B",)),  # a share class without its slash
        ("AAPPL", ("AAPL",)),  # a letter too many: the source's names that begin alike
        ("FACEBOOK", ("META",)),  # a name in place of a symbol
        ("QQQQQ", ()),
    ],
)
def test_unknown_symbols_come_with_what_may_be_meant(symbol: str, suggestions: tuple[str, ...]) -> None:
    """Forms first, then names spelt alike, then names described so."""
    (verdict,) = check(symbol).verdicts
    assert (verdict.status, verdict.suggestions) == ("unknown", suggestions)


def test_known_symbols_cost_one_request() -> None:
    """All in one request of quotes, nothing else; a symbol left out without a word is told as such."""
    source = Source()
    found = check("AAPL", "META", "QUIET", source=source)
    assert [each.status for each in found.verdicts] == ["known", "known", "not answered"]
    assert [request.path for request in source.asked] == ["/quotes"]


def test_a_renamed_symbol_is_found_by_its_cusip() -> None:
    """FB had a CUSIP that answers as META now: the answer is handed back to be archived."""
    past = {"FB": Life("FB", "delisted", date(2026, 1, 5), date(2026, 1, 6), date(2026, 1, 7), "30303M102")}
    found = check("FB", past=past)
    assert found.verdicts[0].new_symbol == "META"
    assert [answer.request.path for answer in found.answers] == ["/instruments/30303M102"]
    known = {"FB": Life("FB", "renamed", cusip="30303M102", new_symbol="META")}
    assert check("FB", past=known).answers == ()  # the archive knows it already


def test_a_cusip_that_is_gone_is_no_new_name() -> None:
    """Delisted: suggestions are sought all the same."""
    found = check("AAPM", past={"AAPM": Life("AAPM", "delisted", cusip="999999999")})
    assert (found.verdicts[0].new_symbol, found.verdicts[0].suggestions) == (None, ("AAPL",))


@pytest.mark.parametrize("cusip", ["../quotes", "30303M102/..", "30303M102\n", "", "30303m102"])
def test_what_is_no_cusip_is_not_asked_for(cusip: str) -> None:
    """An answer's text becomes part of an address only when it has the form of a CUSIP."""
    source = Source()
    check("FB", source=source, past={"FB": Life("FB", "delisted", cusip=cusip)})
    assert {request.path for request in source.asked} == {"/quotes", "/instruments"}


def test_a_search_that_is_refused_leaves_no_suggestion() -> None:
    """What the source says of the symbol stands."""
    (verdict,) = check("AAPPL", source=Source(answers_search=False)).verdicts
    assert (verdict.status, verdict.suggestions) == ("unknown", ())


def test_other_forms_are_those_that_can_be() -> None:
    """Index, future and class; nothing that is no symbol, and not the name itself."""
    assert other_forms("SPX") == ["$SPX", "/SPX", "SP/X"]
    assert other_forms("$ES") == ["ES", "/ES", "E/S"]
