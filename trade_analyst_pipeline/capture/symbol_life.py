"""What the archive knows of the life of each symbol: since when it answers, since when no more, and its new name.

A pure function of raw quotes and instruments: nothing is kept but captures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

from trade_analyst_pipeline.datasets import instruments, quotes
from trade_analyst_pipeline.schwab.messages import RawResponse
from trade_analyst_pipeline.storage.archive import Archive

Status = Literal["known", "unknown", "delisted", "renamed"]
_SOURCES: Final = (quotes.NAME, instruments.NAME)


@dataclass(frozen=True)
class Sighting:
    """What one session's answers say: the symbols that answered with their CUSIP ('' if not said), and the unknown."""

    session_date: date
    known: Mapping[str, str]
    unknown: frozenset[str]


@dataclass(frozen=True)
class Life:
    """The life of one symbol; sessions are the first and last of the archive in which it answered.

    `unknown_since` is the session from which on the source has not known it; None while it does. One that answered
    before is `delisted`, and `renamed` (to `new_symbol`) when its CUSIP answers under another symbol later.
    """

    symbol: str
    status: Status
    first_known: date | None = None
    last_known: date | None = None
    unknown_since: date | None = None
    cusip: str | None = None
    new_symbol: str | None = None


def lives(sightings: Iterable[Sighting]) -> dict[str, Life]:
    """The life of each symbol that was asked for, from what sessions saw, ascending."""
    ordered = sorted(sightings, key=lambda each: each.session_date)
    symbols = sorted({symbol for each in ordered for symbol in (*each.known, *each.unknown)})
    return {symbol: _life(symbol, ordered) for symbol in symbols}


def _life(symbol: str, sightings: list[Sighting]) -> Life:
    known = [each for each in sightings if symbol in each.known]
    last = known[-1].session_date if known else None
    after = [each for each in sightings if symbol in each.unknown and (last is None or each.session_date > last)]
    cusips = [each.known[symbol] for each in known if each.known[symbol]]
    first, cusip = (known[0].session_date if known else None), (cusips[-1] if cusips else None)
    if not after:
        return Life(symbol, "known", first, last, None, cusip)
    since = after[0].session_date
    new = _under_another_name(cusip, symbol, [each for each in sightings if each.session_date >= since])
    status: Status = "renamed" if new else "delisted" if known else "unknown"
    return Life(symbol, status, first, last, since, cusip, new)


def _under_another_name(cusip: str | None, symbol: str, later: Iterable[Sighting]) -> str | None:
    if cusip is None:
        return None
    names = [other for each in later for other, of in each.known.items() if of == cusip and other != symbol]
    return names[-1] if names else None


def sightings(archive: Archive) -> Iterator[Sighting]:
    """What each archived session says, of each symbol the last answer that it was asked for in.

    A snapshot late in the day asks for few symbols, so no capture stands for its session. A capture that is damaged
    raises CaptureDamagedError.
    """
    days = sorted({day for dataset in _SOURCES for day in archive.sessions(dataset)})
    for day in days:
        yield sighting(day, [answer for dataset in _SOURCES for answer in _last_answers(archive, dataset, day)])


def _last_answers(archive: Archive, dataset: str, session_date: date) -> list[RawResponse]:
    """The answers that are the last ones for some symbol of their request, ascending; the others are not unpacked.

    One whose request names no symbol counts as well; of retired captures nothing is known.
    """
    found: list[RawResponse] = []
    later: set[str] = set()
    for capture in reversed(archive.captures(dataset, session_date)):
        for _, entry in [] if capture.is_retired else reversed(archive.counting([capture])):
            symbols = set(entry.request.symbols)
            if not symbols or symbols - later:
                found.append(archive.response(capture, entry))
            later |= symbols
    return found[::-1]


def sighting(session_date: date, responses: Iterable[RawResponse]) -> Sighting:
    """What some answers of a session say: of each symbol the later answer counts; the unreadable say nothing."""
    known: dict[str, str] = {}
    unknown: set[str] = set()
    for response in responses:
        named, refused = _SAID[response.request.dataset](response)
        unknown |= refused
        for symbol in refused:
            known.pop(symbol, None)
        for symbol, cusip in named.items():
            unknown.discard(symbol)
            known[symbol] = cusip or known.get(symbol, "")
    return Sighting(session_date, known, frozenset(unknown))


_SAID: Final[Mapping[str, Callable[[RawResponse], tuple[dict[str, str], frozenset[str]]]]] = {
    quotes.NAME: quotes.names,
    instruments.NAME: lambda response: (instruments.names(response), frozenset()),
}
