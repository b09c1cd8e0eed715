"""JSON that the strict decode refused: the good rows kept, each bad one with the rule it broke, in plain Python.

What is no JSON at all is refused as a whole with a stable word for why. Slow, and only reached by answers that hold
something unexpected; the fast path and the declarations are in `wire_json.py`.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market.wire_json import (
    MAX_NAME_CHARACTERS,
    NON_FINITE_TEXTS,
    RowShape,
    WireField,
    count_keys,
    row_type,
    unknown_field,
)

MAX_NAMES = 64  # of the fields of one row that are named each
OTHERS = "(others)"
SHOWN_CHARACTERS = 10_000


class NonFinite(str):
    """The text of a number that is not finite: NaN, Infinity, or beyond the range of a float."""

    __slots__ = ()


class RepeatedKeys(dict[str, Any]):
    """A JSON object some of whose keys came more than once; `pairs` has all of them in wire order."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs

    @property
    def repeated(self) -> list[str]:
        """The keys that came more than once, sorted."""
        return sorted(name for name, times in Counter(name for name, _ in self.pairs).items() if times > 1)


def parse_tolerant(body: bytes) -> Any:
    """The document as plain objects, NaN and the like as `NonFinite`, objects with repeated keys as `RepeatedKeys`.

    Bytes that are not UTF-8 become lone surrogates, found again in the row they spoil. Raises ResponseRejectedError:
    empty_body, html, encoding, truncated, not_json, nested_too_deep.
    """
    start = body.lstrip()[:1]
    if not start:
        raise ResponseRejectedError("empty_body", "no bytes but white space")
    if start == b"<":
        raise ResponseRejectedError("html", f"a page instead of JSON: {_excerpt(body)}")
    if body[:3] == b"\xef\xbb\xbf" or b"\x00" in body[:4] or body[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise ResponseRejectedError("encoding", "a byte order mark or UTF-16 where plain UTF-8 belongs")
    text = body.decode("utf-8", "surrogateescape")
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_constant=NonFinite, parse_float=_float, parse_int=_integer
        )
    except RecursionError:
        raise ResponseRejectedError("nested_too_deep", f"nesting beyond any response: {_excerpt(body)}") from None
    except json.JSONDecodeError as error:
        raise ResponseRejectedError("truncated" if _is_cut(error) else "not_json", str(error)) from None


_LAST_TOKEN = re.compile(r"[^\s,:{}\[\]\"]*\s*")


def _is_cut(error: json.JSONDecodeError) -> bool:
    """Whether the text ended before its JSON did, in the middle of a token or between two."""
    if error.msg == "Extra data":
        return False
    return error.msg.startswith("Unterminated string") or _LAST_TOKEN.fullmatch(error.doc, error.pos) is not None


def _excerpt(body: bytes) -> str:
    return ascii(body[:80].decode("utf-8", "replace"))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    return plain if len(plain) == len(pairs) else RepeatedKeys(pairs)


def _float(text: str) -> float | NonFinite:
    number = float(text)
    return number if math.isfinite(number) else NonFinite(text)


def _integer(text: str) -> int | float | NonFinite:
    return int(text) if len(text) <= 18 else _float(text)


def entries(value: Any) -> list[tuple[str, Any]]:
    """Members of a JSON object in wire order, repeated keys each time they came; none for anything else."""
    if isinstance(value, RepeatedKeys):
        return value.pairs
    return list(value.items()) if isinstance(value, dict) else []


class BadRow(NamedTuple):
    """A row that could not be typed: the rule it broke, what was found, its JSON text, and the column if it was one."""

    rule: str
    detail: str
    source: str
    column: str | None = None


def repeated_field(row: RepeatedKeys) -> BadRow:
    """A row of which nobody can say what it states, because some of its fields came more than once.

    The fields are shown as they came, as far as anyone keeps them.
    """
    shown, length = list[str](), 0
    for name, value in row.pairs:
        shown.append(f"{json.dumps(name)}: {json.dumps(value)}")
        length += len(shown[-1])
        if length > SHOWN_CHARACTERS:
            break
    named = ", ".join(name[:MAX_NAME_CHARACTERS] for name in row.repeated[:MAX_NAMES])
    return BadRow("repeated_field", f"more than once: {named}", f"{{{', '.join(shown)}}}")


def convert_rows(rows: Iterable[Any], shape: RowShape) -> tuple[list[msgspec.Struct], list[BadRow], Counter[str]]:
    """Rows of the tolerant path as structs of the shape, the bad ones with their rule, and the unknown fields counted.

    Rules: `not_an_object`, `repeated_field`, `encoding`, `missing_<column>`, `not_finite_<column>`, `type_<column>`.
    """
    good: list[msgspec.Struct] = []
    bad: list[BadRow] = []
    unknown: Counter[str] = Counter()
    known = {field.wire for field in shape.fields}
    for row in rows:
        if isinstance(row, RepeatedKeys):
            bad.append(repeated_field(row))
            continue
        try:
            good.append(_convert(row, shape))
        except _RowError as error:
            bad.append(BadRow(error.rule, error.detail, json.dumps(row), error.column))
        if isinstance(row, dict):
            _count_unknown(row.keys() - known, row, shape, unknown)
    return good, bad, unknown


def _count_unknown(extra: set[str], row: Iterable[str], shape: RowShape, counts: Counter[str]) -> None:
    """Count undeclared fields by name, in wire order; beyond the first few names together."""
    if not extra:
        return
    for name in islice((name for name in row if name in extra), MAX_NAMES):
        key = unknown_field(shape.name, name)
        counts[key if key in counts or len(counts) < MAX_NAMES else unknown_field(shape.name, OTHERS)] += 1
    if len(extra) > MAX_NAMES:
        counts[unknown_field(shape.name, OTHERS)] += len(extra) - MAX_NAMES


class _RowError(Exception):
    def __init__(self, rule: str, detail: str, column: str | None = None) -> None:
        super().__init__(rule)
        self.rule = rule
        self.detail = detail
        self.column = column


def _convert(row: Any, shape: RowShape) -> msgspec.Struct:
    if not isinstance(row, dict):
        raise _RowError("not_an_object", f"{type(row).__name__} where an object belongs")
    members = {}
    for field in shape.fields:
        if field.wire in row:
            members[field.wire] = _member(row[field.wire], field)
    try:
        return msgspec.convert(members, row_type(shape, is_open=True))
    except msgspec.ValidationError as error:
        raise _named(str(error), members, shape) from None


def _member(value: Any, field: WireField) -> Any:
    if isinstance(value, NonFinite) and field.kind in {"text", "day", "raw"}:
        raise _RowError(f"not_finite_{field.column}", f"{field.wire} is {value}", field.column)
    if isinstance(value, str) and not isinstance(value, NonFinite):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _RowError("encoding", f"{field.wire} holds what is no UTF-8 text", field.column) from None
    if field.kind == "raw":
        return msgspec.Raw(json.dumps(value).encode())
    if field.kind == "model" and isinstance(value, NonFinite):
        return "Infinity" if value not in NON_FINITE_TEXTS else str(value)
    return value


_MISSING_MESSAGE = re.compile(r"missing required field `(?P<name>[^`]*)`")
_PLACE = re.compile(r"at `\$\.(?P<name>[^`]*)`$")


def _named(message: str, members: Mapping[str, Any], shape: RowShape) -> _RowError:
    """The rule behind a message of msgspec's about one member of a row."""
    missing = _MISSING_MESSAGE.search(message)
    place = missing or _PLACE.search(message)
    wire = place["name"] if place else ""
    column = next((field.column for field in shape.fields if field.wire == wire), "row")
    if missing:
        return _RowError(f"missing_{column}", message, column)
    if isinstance(members.get(wire), NonFinite):
        return _RowError(f"not_finite_{column}", f"{wire} is {members[wire]}", column)
    return _RowError(f"type_{column}", message, column)


def convert_header(value: dict[str, Any], shape: RowShape) -> tuple[msgspec.Struct, Counter[str]]:
    """An object around rows as a struct of the shape; an optional member that is wrong is left out and counted.

    Raises ResponseRejectedError, missing_field or wrong_type, for a required member.
    """
    members = dict(value)
    counts: Counter[str] = Counter()
    wires = {field.column: field for field in shape.fields}
    while True:
        good, bad, unknown = convert_rows([members], shape)
        if good:
            return good[0], counts + unknown
        field = wires.get(bad[0].column or "")
        if field is None or field.required:
            is_missing = bad[0].rule.startswith("missing_")
            raise ResponseRejectedError(
                "missing_field" if is_missing else "wrong_type", f"{shape.name}: {bad[0].detail}"
            )
        counts[f"left_out:{bad[0].rule}"] += 1
        del members[field.wire]


def repeated_keys(body: bytes) -> list[str]:
    """Every key that came more than once in one object of the body, sorted; raises as `parse_tolerant`.

    A body that holds all the keys which a decode and encode leave of it has none.
    """
    if _keeps_all_keys(body):
        return []
    found: set[str] = set()
    waiting = [parse_tolerant(body)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, RepeatedKeys):
            found.update(value.repeated)
        if isinstance(value, dict):
            waiting += [member for _, member in entries(value)]
        elif isinstance(value, list):
            waiting += value
    return sorted(found)


_HIDDEN_KEY_END = re.compile(rb'"[ \t\r\n]+:|\\u0022')


def _keeps_all_keys(body: bytes) -> bool:
    """Whether decoding loses no key; False also where that cannot be told by counting."""
    try:
        again = msgspec.json.encode(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return count_keys(body) == count_keys(again) and _HIDDEN_KEY_END.search(body) is None
