"""JSON of the wire to typed rows by one fast strict decode, and the declarations of what it may hold.

A dataset declares the fields of its rows as a `RowShape` and the envelope around them as a msgspec type. The strict
decode accepts only declared fields of declared types; a field the vendor added is learned, counted and read past at
full speed. Anything else that fails is for `tolerant_json.py`. What a field means for the market is not decided here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, NamedTuple, cast

import msgspec
import numpy as np
import polars as pl

MAX_UNKNOWN_FIELDS = 16
MAX_NAME_CHARACTERS = 64
# What a strict decode raises on anything it does not expect.
NOT_STRICT: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_REMEMBERED_TYPES = 128
_LARGEST_EXACT = 2**53
LAST_INSTANT_MS: Final = 253_402_300_799_999
"""The last millisecond that a date can be made of, in the year 9999."""
NON_FINITE_TEXTS = ("NaN", "Infinity", "-Infinity", "nan", "inf", "-inf", "INF", "-INF", "NAN")

_Whole = Annotated[float, msgspec.Meta(ge=-_LARGEST_EXACT, le=_LARGEST_EXACT, multiple_of=1)]
_Instant = Annotated[float, msgspec.Meta(ge=0, le=LAST_INSTANT_MS, multiple_of=1)]
_ModelNumber = float | Literal["NaN", "Infinity", "-Infinity", "nan", "inf", "-inf", "INF", "-INF", "NAN"]

Kind = Literal["number", "whole", "instant", "model", "text", "flag", "day", "raw"]

# The wire writes whole numbers as 7 or 7.0 as it likes, so every number is read as a float; `whole` and `instant`
# accept only values a float holds exactly.
_TYPES: Final[Mapping[Kind, Any]] = {
    "number": float,
    "whole": _Whole,
    "instant": _Instant,
    "model": _ModelNumber,
    "text": str,
    "flag": bool,
    "day": str | int,
    "raw": msgspec.Raw,
}
_DTYPES: Final[Mapping[Kind, pl.DataType]] = {
    "number": pl.Float64(),
    "whole": pl.Float64(),
    "instant": pl.Float64(),
    "model": pl.Float64(),
    "text": pl.String(),
    "flag": pl.Boolean(),
}


@dataclass(frozen=True)
class WireField:
    """One member of a JSON object: its name there, the column it becomes, and the kind of value it holds.

    Kinds: `number`; `whole`, a number without fraction; `instant`, epoch milliseconds; `model`, a number or the text
    NaN or Infinity; `text`; `flag`; `day`, text or epoch milliseconds; `raw`, any JSON kept as bytes.
    """

    wire: str
    column: str
    kind: Kind
    required: bool = False


def wire_fields(*lines: str) -> tuple[WireField, ...]:
    """Fields from texts of `wire:column:kind` separated by spaces; `!` after the kind means required.

    The order is that of the wire: a strict decode is a third faster when members come as declared.
    """
    declared = (member.split(":") for line in lines for member in line.split())
    return tuple(
        WireField(wire, column, cast(Kind, kind.removesuffix("!")), kind.endswith("!"))
        for wire, column, kind in declared
    )


@dataclass(frozen=True)
class RowShape:
    """The declared members of one kind of JSON object."""

    name: str
    fields: tuple[WireField, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names in declared order."""
        return tuple(field.column for field in self.fields)


class UnknownField(NamedTuple):
    """A member nobody declared: the shape it was found in and its name on the wire."""

    shape: str
    wire: str


Unknown = frozenset[UnknownField]
NOTHING_UNKNOWN: Unknown = frozenset()


@lru_cache(maxsize=_REMEMBERED_TYPES)
def row_type(shape: RowShape, unknown: Unknown = NOTHING_UNKNOWN, *, is_open: bool = False) -> type[msgspec.Struct]:
    """The struct of a shape: attributes are column names, unknown fields follow as `unknown_0` and so on.

    An open struct ignores undeclared members, a closed one fails at the first.
    """
    extra = unknown_names(shape, unknown)
    members: list[Any] = []
    for field in shape.fields:
        kind = _TYPES[field.kind]
        if field.required:
            members.append((field.column, kind))
        elif field.kind == "raw":
            members.append((field.column, kind, msgspec.Raw()))
        else:
            members.append((field.column, kind | None, None))
    members += [(f"unknown_{i}", msgspec.Raw, msgspec.UNSET) for i in range(len(extra))]
    renames = {field.column: field.wire for field in shape.fields}
    renames |= {f"unknown_{i}": name for i, name in enumerate(extra)}
    return msgspec.defstruct(
        shape.name, members, rename=renames, kw_only=True, gc=False, forbid_unknown_fields=not is_open
    )


def envelope_type(shape: RowShape, unknown: Unknown, members: Sequence[tuple[Any, ...]]) -> type[msgspec.Struct]:
    """The closed struct of a shape with more members that hold rows, each (name, type) or (name, type, default)."""
    return msgspec.defstruct(
        f"{shape.name}_document",
        members,
        bases=(row_type(shape, unknown),),
        kw_only=True,
        forbid_unknown_fields=True,
    )


def unknown_names(shape: RowShape, unknown: Unknown) -> list[str]:
    """Wire names of the unknown fields of one shape, in the order of their attributes."""
    return sorted(found.wire for found in unknown if found.shape == shape.name)


def unknown_field(shape: str, wire: str) -> str:
    """What an undeclared field is counted as; a long name is cut."""
    return f"unknown_field:{shape}.{wire[:MAX_NAME_CHARACTERS]}"


# msgspec makes no struct with such a field; the tolerant path reads past one.
_NO_FIELD_NAME = re.compile(r'[\\"\x00-\x1f]')
_UNKNOWN_MESSAGE = re.compile(r"Object contains unknown field `(?P<name>.*?)`(?: - at `(?P<place>[^`]*)`)?", re.DOTALL)


def decode_strict(
    body: bytes | msgspec.Raw,
    document_type: Callable[[Unknown], Any],
    places: Mapping[str, str],
    unknown: Unknown = NOTHING_UNKNOWN,
) -> tuple[Any, Unknown]:
    """The typed document, and the undeclared fields: those known before, `unknown`, and those it holds.

    `document_type` builds the type of the whole document; `places` maps the place of an object, as
    `$.candles[...]`, to the name of its shape. Raises one of NOT_STRICT when the body is anything else than
    declared fields of declared types.
    """
    while len(unknown) < MAX_UNKNOWN_FIELDS:
        try:
            return _decoder(document_type, unknown).decode(body), unknown
        except msgspec.ValidationError as error:
            found = _unknown_field(str(error), places)
            if found is None or found in unknown:
                raise
            unknown |= {found}
    message = f"more than {MAX_UNKNOWN_FIELDS} undeclared fields"
    raise msgspec.ValidationError(message)


@lru_cache(maxsize=_REMEMBERED_TYPES)
def _decoder(document_type: Callable[[Unknown], Any], unknown: Unknown) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(document_type(unknown))


def _unknown_field(message: str, places: Mapping[str, str]) -> UnknownField | None:
    match = _UNKNOWN_MESSAGE.fullmatch(message)
    if match is None:
        return None
    shape = places.get(re.sub(r"\[\d+\]", "[...]", match["place"] or "$"))
    if shape is None or _NO_FIELD_NAME.search(match["name"]):
        return None
    return UnknownField(shape, match["name"])


class RowColumns:
    """Collects typed rows as columns, in small chunks because whole chains do not fit a processor's cache."""

    _CHUNK = 128

    def __init__(self, shape: RowShape) -> None:
        self.shape = shape
        self.counts: Counter[str] = Counter()
        self.height = 0
        self._values: dict[str, list[Any]] = {column: [] for column in shape.columns}

    def extend(self, rows: Sequence[msgspec.Struct], unknown: Unknown = NOTHING_UNKNOWN) -> None:
        """Take on rows of one response, decoded with these unknown fields."""
        names = unknown_names(self.shape, unknown)
        collected = list(self._values.values())
        for start in range(0, len(rows), self._CHUNK):
            columns = list(zip(*map(msgspec.structs.astuple, rows[start : start + self._CHUNK]), strict=True))
            for values, column in zip(collected, columns, strict=False):
                values.extend(column)
            for name, column in zip(names, columns[len(collected) :], strict=True):
                self.counts[unknown_field(self.shape.name, name)] += len(column) - column.count(msgspec.UNSET)
        self.height += len(rows)

    def take(self, following: RowColumns) -> None:
        """Take on all rows of another of the same shape."""
        for column, values in self._values.items():
            values.extend(following.values(column))
        self.counts += following.counts
        self.height += following.height

    def values(self, column: str) -> list[Any]:
        """The values of one column as Python objects."""
        return self._values[column]

    def series(self) -> list[pl.Series]:
        """One series per field with a plain type; numbers and instants as floats, NaN and Infinity texts as null."""
        return [self._series(field) for field in self.shape.fields if field.kind in _DTYPES]

    def _series(self, field: WireField) -> pl.Series:
        values = self._values[field.column]
        try:
            return pl.Series(field.column, values, dtype=_DTYPES[field.kind], strict=True)
        except TypeError:
            if field.kind != "model":
                raise
        numbers = [None if isinstance(value, str) else value for value in values]
        self.counts[f"non_finite:{field.column}"] += sum(isinstance(value, str) for value in values)
        return pl.Series(field.column, numbers, dtype=pl.Float64(), strict=True)


def count_keys(body: bytes) -> int:
    """How often `":` occurs: every member of every object once, and wherever a text happens to hold it.

    Only keys written without a space before the colon are counted. As pairs of bytes at even and at odd places this
    takes a sixth of the time of `bytes.count`.
    """
    if len(body) < 2:
        return 0
    pairs = (np.frombuffer(body, "<u2", offset=start, count=(len(body) - start) // 2) for start in (0, 1))
    return sum(int(np.count_nonzero(found == _KEY_END)) for found in pairs)


_KEY_END: Final = int.from_bytes(b'":', "little")


def count_objects(body: bytes) -> int:
    """How often `{` occurs: once for every object, and wherever a text happens to hold it."""
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == _OBJECT_START))


_OBJECT_START: Final = ord("{")


def stated_keys(value: msgspec.Struct) -> int:
    """How many keys a typed object was read from if each came once, those of objects inside it too; nulls not counted.

    Where `count_keys` finds no more than these, no key was repeated.
    """
    count = 0
    for member in msgspec.structs.astuple(value):
        if isinstance(member, msgspec.Struct):
            count += 1 + stated_keys(member)
        elif isinstance(member, msgspec.Raw):
            raw = bytes(member)
            count += bool(raw) + count_keys(raw)
        else:
            count += member is not None and member is not msgspec.UNSET
    return count
