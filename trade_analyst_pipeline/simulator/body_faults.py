"""Failures inside any JSON answer: fields that are missing, renamed, of another type, or hold a sentinel.

Each is a change for `FaultPlan`, like those in `faults.py`, but knows no endpoint: it walks the whole answer and treats
every field of a name alike. A `count` bounds how many are changed, in the order of the answer; None means all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from itertools import islice
from typing import Any, Final, Literal

from trade_analyst_pipeline.simulator.answers import Answer
from trade_analyst_pipeline.simulator.faults import Change, edited

MODEL_FIELDS: Final = ("volatility", "delta", "gamma", "theta", "vega", "rho")
ENUM_FIELDS: Final[Mapping[str, str]] = {
    "assetMainType": "CRYPTO",
    "assetSubType": "QQQ",
    "assetType": "CRYPTO",
    "exchange": "%",
    "exchangeName": "MARS",
    "exerciseType": "B",
    "expirationType": "Y",
    "marketType": "CRYPTO",
    "putCall": "BOTH",
    "quoteType": "XYZ",
    "securityStatus": "Napping",
    "settlementType": "N",
}
Sentinel = Literal["-999", "NaN", "NaN as text", "null", "Infinity"]
_SENTINELS: Final[Mapping[str, Any]] = {
    "-999": -999.0,
    "NaN": float("nan"),
    "NaN as text": "NaN",
    "null": None,
    "Infinity": float("inf"),
}
_DECIMAL: Final = re.compile(rb"(?<=[:\[,])-?\d+\.\d+(?=[,}\]])")

Place = tuple[dict[str, Any], str]


def places(value: Any, names: frozenset[str]) -> Iterator[Place]:
    """Where fields of these names stand, outermost first, as object and name."""
    if isinstance(value, dict):
        yield from [(value, name) for name in value if name in names]
        for inner in list(value.values()):
            yield from places(inner, names)
    elif isinstance(value, list):
        for inner in value:
            yield from places(inner, names)


def _each(names: Iterable[str], count: int | None, act: Callable[[Place], None]) -> Change:
    wanted = frozenset(names)

    def edit(body: Any) -> None:
        for place in list(islice(places(body, wanted), count)):
            act(place)

    return edited(edit)


def omitted(*names: str, count: int | None = None) -> Change:
    """Fields of these names are missing."""

    def act(place: Place) -> None:
        place[0].pop(place[1])

    return _each(names, count, act)


def overwritten(values: Mapping[str, Any], *, count: int | None = None) -> Change:
    """Fields of these names hold these values."""

    def act(place: Place) -> None:
        place[0][place[1]] = values[place[1]]

    return _each(values, count, act)


def renamed(values: Mapping[str, str], *, count: int | None = None) -> Change:
    """Fields of the names on the left have the name on the right, at the end of their object."""

    def act(place: Place) -> None:
        place[0][values[place[1]]] = place[0].pop(place[1])

    return _each(values, count, act)


def as_text(*names: str, count: int | None = None) -> Change:
    """Fields of these names hold their value as text: 404 becomes "404"."""

    def act(place: Place) -> None:
        place[0][place[1]] = str(place[0][place[1]])

    return _each(names, count, act)


def as_number(*names: str, count: int | None = None) -> Change:
    """Fields of these names that hold a number as text hold a number: "404" becomes 404."""

    def act(place: Place) -> None:
        text = place[0][place[1]]
        if isinstance(text, str) and text.lstrip("-").isdigit():
            place[0][place[1]] = int(text)

    return _each(names, count, act)


def with_unknown_enums(*, count: int | None = None) -> Change:
    """Fields that are enumerations in the source's description hold a value that is in none."""
    return overwritten(ENUM_FIELDS, count=count)


def with_sentinels(sentinel: Sentinel = "-999", *, count: int | None = None) -> Change:
    """Volatility and Greeks hold what stands there when the model has failed."""
    return overwritten(dict.fromkeys(MODEL_FIELDS, _SENTINELS[sentinel]), count=count)


def with_unknown_fields(name: str = "addedLater", value: object = 1) -> Change:
    """Every object of the answer has one more field."""

    def edit(body: Any) -> None:
        for found in list(_objects(body)):
            found[name] = value

    return edited(edit)


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict):
        yield value
    for inner in list(inside):
        yield from _objects(inner)


def in_exponent_form() -> Change:
    """Decimal numbers in exponent form, the same values: 301570298.0 becomes 3.015702980E+8."""

    def change(answer: Answer) -> Answer:
        body = _DECIMAL.sub(lambda found: f"{Decimal(found[0].decode()):E}".encode(), answer.body)
        return replace(answer, body=body)

    return change
