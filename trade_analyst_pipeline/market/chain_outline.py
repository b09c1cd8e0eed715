"""What the body of a chain, or of a list of expirations, shows without its contracts being read.

Enough to tell while capturing whether an answer is whole. What becomes of contracts is in `datasets/options`.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Any, Final, NamedTuple

import msgspec

from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market.wire_json import NOT_STRICT

# Each entry of a list: its date and the plain roots that it names.
Listed = frozenset[tuple[date, frozenset[str]]]

_NOT_IN_A_ROOT: Final = re.compile(r"[^A-Z0-9]")


class Outline(NamedTuple):
    """Contracts of a chain, how many it announces (None: not said), and its expiration dates."""

    contracts: int
    announced: int | None
    dates: frozenset[date]


class _Wire(msgspec.Struct):
    is_truncated: Any = msgspec.field(name="isChainTruncated", default=False)
    announced: Any = msgspec.field(name="numberOfContracts", default=None)
    calls: dict[str, msgspec.Raw] | None = msgspec.field(name="callExpDateMap", default=None)
    puts: dict[str, msgspec.Raw] | None = msgspec.field(name="putExpDateMap", default=None)


# made here: two threads that decode a type for the first time at once crash the library
_WIRE = msgspec.json.Decoder(_Wire)


def is_marked_short(body: bytes) -> bool:
    """Whether the source says that it left contracts out of the chain (`isChainTruncated`)."""
    found = _wire(body)
    return found is not None and found.is_truncated is True


def outline(body: bytes) -> Outline | None:
    """The outline of a chain's body; None where it cannot be read."""
    found = _wire(body)
    if found is None:
        return None
    announced = found.announced if isinstance(found.announced, int) else None
    keys = {key for side in (found.calls, found.puts) for key in side or ()}
    dates = frozenset(day for key in keys if (day := _date_of(key)) is not None)
    return Outline(body.count(b'"strikePrice"'), announced, dates)


def _wire(body: bytes) -> _Wire | None:
    try:
        return _WIRE.decode(body)
    except NOT_STRICT:
        return None


def _date_of(text: str) -> date | None:
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None


class _Expiration(msgspec.Struct):
    roots: str = msgspec.field(name="optionRoots")
    expiration_date: date | None = msgspec.field(name="expirationDate", default=None)
    expiration: date | None = None  # as the source's own description calls it


class _Listing(msgspec.Struct):
    expirations: list[_Expiration] = msgspec.field(name="expirationList")


# made here: two threads that decode a type for the first time at once crash the library
_LISTING = msgspec.json.Decoder(_Listing)


def listed_expirations(body: bytes) -> Listed:
    """The entries of a list, each by date and plain roots; raises ResponseRejectedError for what is no such list."""
    try:
        found = _LISTING.decode(body)
    except NOT_STRICT as error:
        raise ResponseRejectedError("no_expiration_list", str(error)) from error
    return frozenset(
        (day, roots)
        for item in found.expirations
        if (day := item.expiration_date or item.expiration) and (roots := _plain_roots(item.roots))
    )


def _plain_roots(text: str) -> frozenset[str]:
    return frozenset(filter(None, map(plain_root, text.split(","))))


def plain_root(text: str) -> str:
    """A root as letters and digits alone, so that `$SPX` is SPX and `BRK/B` is BRKB, whoever spells it."""
    return _NOT_IN_A_ROOT.sub("", text.upper())
