"""Asking the source which symbols it knows, and what may be meant by those that it does not.

Quotes say of every kind of symbol whether it is known, many in one request. For one that is not, its other forms are
tried (`$SPX` for `SPX`), its CUSIP is looked up if it had answered before, and the source's list of instruments is
searched for names that are spelt alike.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from trade_analyst_pipeline.capture.symbol_life import Life, sighting
from trade_analyst_pipeline.datasets import instruments, quotes
from trade_analyst_pipeline.errors import SourceError, SymbolNotFoundError
from trade_analyst_pipeline.market.symbols import kind_of
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse

MOST_SEARCHED: Final = 20  # unknown symbols whose spelling is searched for; three requests each at most
_ALIKE: Final = 0.6
_MOST_SUGGESTED: Final = 3

Fetch = Callable[[MarketDataRequest], Awaitable[RawResponse]]


@dataclass(frozen=True)
class Verdict:
    """What the source says of a symbol: `known`, `unknown`, or `not answered`; and what may be meant instead.

    `life` is what the archive has of it, None for nothing. `new_symbol` is under which its CUSIP answers now.
    """

    symbol: str
    status: str
    suggestions: tuple[str, ...] = ()
    new_symbol: str | None = None
    life: Life | None = None


@dataclass(frozen=True)
class Checked:
    """The verdicts, and the answers that facts can be derived from again once they are archived."""

    verdicts: tuple[Verdict, ...]
    answers: tuple[RawResponse, ...]


async def check_symbols(
    symbols: Sequence[str], *, fetch: Fetch, past: Mapping[str, Life], also: Collection[str], today: date
) -> Checked:
    """What the source says of each symbol. `past` is what the archive knows of them, `also` further names it has.

    Raises the SourceError of a request that failed; that a name is not found is an answer.
    """
    asked = [await fetch(request) for request in quotes.requests(symbols)]
    seen = sighting(today, asked)
    unknown = [symbol for symbol in symbols if symbol in seen.unknown]
    found = await _known([other for symbol in unknown for other in other_forms(symbol)], fetch)
    verdicts, answers = [], list[RawResponse]()
    for symbol in symbols:
        if symbol not in seen.unknown:
            answered = symbol in seen.known or any(symbol in left_in(each) for each in asked)
            verdicts.append(Verdict(symbol, "known" if answered else "not answered", life=past.get(symbol)))
            continue
        life = past.get(symbol)
        new, proof = await _renamed(life, fetch)
        answers += proof
        suggested = [each for each in other_forms(symbol) if each in found]
        if new is None and unknown.index(symbol) < MOST_SEARCHED:
            suggested += await _alike(symbol, fetch, {*also, *seen.known})
        verdicts.append(Verdict(symbol, "unknown", tuple(dict.fromkeys(suggested))[:_MOST_SUGGESTED], new, life))
    return Checked(tuple(verdicts), tuple(answers))


def left_in(response: RawResponse) -> set[str]:
    """The symbols asked for that an answer has something on, under whatever name it answers."""
    return set(response.request.symbols) - set(quotes.left_out(response))


def other_forms(symbol: str) -> list[str]:
    """How the same name would be written as an index, a future or a share class."""
    bare = symbol.lstrip("$/").removesuffix(".X")
    forms = [bare, f"${bare}", f"/{bare}"]
    if re.fullmatch(r"[A-Z]{2,5}", bare):
        forms.append(f"{bare[:-1]}/{bare[-1]}")
    return [form for form in dict.fromkeys(forms) if form != symbol and kind_of(form) is not None]


async def _known(symbols: Iterable[str], fetch: Fetch) -> set[str]:
    answers = [await fetch(request) for request in quotes.requests(symbols)]
    return {symbol for answer in answers for symbol in left_in(answer) - sighting(date.min, [answer]).unknown}


async def _renamed(life: Life | None, fetch: Fetch) -> tuple[str | None, list[RawResponse]]:
    """The symbol under which the CUSIP answers now, and the answer that says so."""
    if life is None or life.cusip is None or not instruments.is_cusip(life.cusip):
        return None, []
    if life.new_symbol is not None:
        return life.new_symbol, []
    try:
        answer = await fetch(instruments.by_cusip(life.cusip))
    except SymbolNotFoundError:
        return None, []
    names = [name for name in sighting(date.min, [answer]).known if name != life.symbol]
    return (names[0], [answer]) if names else (None, [])


async def _alike(symbol: str, fetch: Fetch, also: Collection[str]) -> list[str]:
    """Names spelt alike, the best first, of those known here and the source's; else names that are described so."""
    letters = re.sub(r"[^A-Z0-9]", "", symbol)
    if not letters:
        return []
    begin_alike = await _found(instruments.search(f"{letters[:2]}.*", projection="symbol-regex"), fetch)
    alike = difflib.get_close_matches(symbol, sorted({*begin_alike, *also}), n=_MOST_SUGGESTED, cutoff=_ALIKE)
    if alike or len(letters) < 3:  # a text of two letters describes everything
        return alike
    described = await _found(instruments.search(letters, projection="desc-search"), fetch)
    return described[:_MOST_SUGGESTED]


async def _found(request: MarketDataRequest, fetch: Fetch) -> list[str]:
    """The symbols that a search finds; none where the source refuses it, which is no answer on the symbol."""
    try:
        answer = await fetch(request)
    except SourceError:
        return []
    return list(sighting(date.min, [answer]).known)
