"""JSON of the wire: the strict decode, what it learns, and the tolerant path that names what is wrong."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import polars as pl
import pytest

from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market import wire_json
from trade_analyst_pipeline.market.wire_json import RowColumns, RowShape, Unknown, UnknownField, WireField

THING = RowShape(
    "thing",
    wire_json.wire_fields(
        "theName:name:text! price:price:number size:size:whole madeAt:made_time:instant",
        "guess:guess:model isNew:is_new:flag until:until:day rest:rest:raw",
    ),
)
PLACES = {"$.things[...]": "thing"}


def document_type(unknown: Unknown) -> Any:
    """A document that lists things."""
    thing: Any = wire_json.row_type(THING, unknown)
    return msgspec.defstruct("document", [("things", list[thing])], forbid_unknown_fields=True)


def strict(*things: str) -> tuple[list[Any], Unknown]:
    """The things of a document, by the strict decode."""
    found, unknown = wire_json.decode_strict(f'{{"things": [{", ".join(things)}]}}'.encode(), document_type, PLACES)
    return found.things, unknown


def rejected(body: bytes) -> str:
    """The reason for which the tolerant parse refuses a body."""
    with pytest.raises(ResponseRejectedError) as error:
        wire_json.parse_tolerant(body)
    return error.value.reason


def test_fields_are_declared_as_text() -> None:
    """`wire:column:kind` makes a field, and `!` makes it required."""
    assert THING.fields[:2] == (
        WireField("theName", "name", "text", required=True),
        WireField("price", "price", "number"),
    )
    assert THING.columns == ("name", "price", "size", "made_time", "guess", "is_new", "until", "rest")


def test_strict_decode_gives_typed_rows() -> None:
    """Whole numbers may be written with or without a fraction; what is absent or null is None."""
    (one, two), unknown = strict(
        '{"theName": "a", "price": 7, "size": 3.0, "madeAt": 1767632400123, "guess": "NaN", "isNew": true,'
        ' "until": 5, "rest": {"a": 1}}',
        '{"theName": "b", "price": null, "guess": 0.5}',
    )
    assert (one.name, one.price, one.size, one.made_time, one.guess, one.is_new, one.until) == (
        *("a", 7.0, 3.0, 1767632400123.0, "NaN", True, 5),
    )
    assert bytes(one.rest) == b'{"a": 1}'
    assert (two.price, two.guess, bytes(two.rest)) == (None, 0.5, b"")
    assert unknown == frozenset()


@pytest.mark.parametrize(
    "thing",
    [
        '{"price": 1}',
        '{"theName": null}',
        '{"theName": "a", "price": "1"}',
        '{"theName": "a", "price": NaN}',
        '{"theName": "a", "price": true}',
        '{"theName": "a", "size": 1.5}',
        '{"theName": "a", "size": 9007199254740994}',
        '{"theName": "a", "madeAt": -1}',
        '{"theName": "a", "madeAt": 253402300800000}',
        '{"theName": "a", "guess": "much"}',
        '{"theName": "a", "isNew": 1}',
        '{"theName": "a", "until": 1.5}',
        "7",
    ],
)
def test_strict_decode_accepts_nothing_else(thing: str) -> None:
    """Any other type or range fails as a whole and is left to the tolerant path."""
    with pytest.raises(msgspec.DecodeError):
        strict(thing)


def test_unknown_fields_are_learned_and_counted() -> None:
    """Undeclared members are returned by shape and name, and rows tell how many had each."""
    things, unknown = strict(
        '{"theName": "a", "zeta": 1}', '{"zeta": null, "theName": "b", "alpha": [1]}', '{"theName": "c"}'
    )
    assert unknown == {UnknownField("thing", "zeta"), UnknownField("thing", "alpha")}
    rows = RowColumns(THING)
    rows.extend(things, unknown)
    assert rows.values("name") == ["a", "b", "c"]
    assert rows.counts == {"unknown_field:thing.zeta": 2, "unknown_field:thing.alpha": 1}


def test_unknown_field_of_an_undeclared_place_fails() -> None:
    """A member in an object without a shape is no drift we know how to read past."""
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        wire_json.decode_strict(b'{"things": [], "other": 1}', document_type, PLACES)


def test_too_many_unknown_fields_fail() -> None:
    """More than sixteen new fields are another format, not drift."""
    members = ", ".join(f'"new{number}": 1' for number in range(17))
    with pytest.raises(msgspec.ValidationError, match="more than 16"):
        strict(f'{{"theName": "a", {members}}}')


@pytest.mark.parametrize("name", ["it`s new", "sp ace", "ünïcode", "", "unknown_0", "name"])
def test_unknown_field_with_a_strange_name(name: str) -> None:
    """A name with back-ticks, spaces or nothing in it, or one of ours, is learned like any other."""
    things, unknown = strict(json.dumps({"theName": "a", name: 1}, ensure_ascii=False))
    assert unknown == {UnknownField("thing", name)}
    assert things[0].name == "a"


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "line\nbreak", "\x01"])
def test_name_that_no_field_can_have_is_left_to_the_tolerant_path(name: str) -> None:
    """Names with quotes, backslashes or control characters fail the strict decode; the tolerant one counts them."""
    text = json.dumps({"theName": "a", name: 1})
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        strict(text)
    (good,), bad, unknown = wire_json.convert_rows([wire_json.parse_tolerant(text.encode())], THING)
    assert (good.name, bad) == ("a", [])  # type: ignore[attr-defined]  # made at run time
    assert unknown == {f"unknown_field:thing.{name}": 1}


def test_columns_have_plain_types_and_count_what_is_not_finite() -> None:
    """Numbers, instants and model values become floats; the text NaN is null, counted; raw and day have no series."""
    things, _ = strict(
        *('{"theName": "a", "guess": "NaN", "size": 2}', '{"theName": "b", "guess": 1.5}', '{"theName": "c"}')
    )
    rows = RowColumns(THING)
    rows.extend(things)
    series = {found.name: found for found in rows.series()}
    assert list(series) == ["name", "price", "size", "made_time", "guess", "is_new"]
    assert series["guess"].to_list() == [None, 1.5, None]
    assert series["size"].to_list() == [2.0, None, None]
    assert series["is_new"].dtype == pl.Boolean()
    assert rows.counts == {"non_finite:guess": 1}
    assert rows.height == 3


def test_rows_beyond_one_chunk_keep_their_order() -> None:
    """Rows are collected in chunks without losing or turning any."""
    things, _ = strict(*(f'{{"theName": "{number}"}}' for number in range(300)))
    rows = RowColumns(THING)
    rows.extend(things)
    assert rows.values("name") == [str(number) for number in range(300)]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty_body"),
        (b" \r\n", "empty_body"),
        (b"<html>", "html"),
        (b"\n <!DOCTYPE html>", "html"),
        (b"\xef\xbb\xbf{}", "encoding"),
        ("{}".encode("utf-16"), "encoding"),
        ("{}".encode("utf-16-be"), "encoding"),
        (b'{"a": [1, 2', "truncated"),
        (b'{"a": "bc', "truncated"),
        (b'{"a": ', "truncated"),
        (b'{"a": 1} x', "not_json"),
        (b"{'a': 1}", "not_json"),
        (b"plain text", "not_json"),
        (b"[" * 100_000, "nested_too_deep"),
    ],
)
def test_body_that_cannot_be_read(body: bytes, reason: str) -> None:
    """Each way of not being JSON has its own word."""
    assert rejected(body) == reason


def test_tolerant_parse_keeps_what_json_has_no_place_for() -> None:
    """NaN, Infinity and numbers beyond a float's range are marked texts; huge whole numbers are floats."""
    found = wire_json.parse_tolerant(b'{"a": NaN, "b": -Infinity, "c": 1e999, "d": 12345678901234567890, "e": 1.5}')
    assert [found[name] for name in "abc"] == ["NaN", "-Infinity", "1e999"]
    assert all(isinstance(found[name], wire_json.NonFinite) for name in "abc")
    assert (found["d"], found["e"]) == (12345678901234567890.0, 1.5)
    assert isinstance(wire_json.parse_tolerant(b"1" + b"0" * 5000), wire_json.NonFinite)


def test_repeated_keys_are_kept_and_found() -> None:
    """An object with a key twice keeps both members in wire order; a dict has the last."""
    body = b'{"a": 1, "b": [{"c": 1, "c": 2}], "a": 3}'
    found = wire_json.parse_tolerant(body)
    assert wire_json.entries(found) == [("a", 1), ("b", [{"c": 2}]), ("a", 3)]
    assert wire_json.repeated_keys(body) == ["a", "c"]
    assert wire_json.repeated_keys(b'{"a": {"b": 1}, "c": {"b": 1}}') == []
    assert wire_json.entries([1]) == []


@pytest.mark.parametrize(
    ("row", "rule", "column"),
    [
        ("7", "not_an_object", None),
        ('{"theName": "a", "price": 1, "price": 2}', "repeated_field", None),
        ('{"price": 1}', "missing_name", "name"),
        ('{"theName": "a", "price": NaN}', "not_finite_price", "price"),
        ('{"theName": "a", "size": 1e999}', "not_finite_size", "size"),
        ('{"theName": "a", "price": "1"}', "type_price", "price"),
        ('{"theName": "a", "guess": "much"}', "type_guess", "guess"),
        ('{"theName": "a", "madeAt": -1}', "type_made_time", "made_time"),
        ('{"theName": "\\ud800"}', "encoding", "name"),
    ],
)
def test_bad_row_is_named_and_its_neighbour_kept(row: str, rule: str, column: str | None) -> None:
    """One bad row gives its rule, its column and its text; the next row is read."""
    rows = wire_json.parse_tolerant(f'[{row}, {{"theName": "good", "extra": 1}}]'.encode())
    good, bad, unknown = wire_json.convert_rows(rows, THING)
    assert [found.name for found in good] == ["good"]
    assert [(found.rule, found.column) for found in bad] == [(rule, column)]
    assert json.loads(bad[0].source) is not None
    assert unknown == {"unknown_field:thing.extra": 1}


def test_tolerant_row_equals_the_strict_one() -> None:
    """Both paths read a good row alike, not-finite guesses included."""
    text = (
        '{"theName": "a", "price": 7, "size": 3.0, "madeAt": 5, "guess": NaN, "isNew": false, "until": "d", "rest": []}'
    )
    (good,), bad, _ = wire_json.convert_rows([wire_json.parse_tolerant(text.encode())], THING)
    (same,), _ = strict(text.replace("NaN", '"NaN"'))
    assert not bad
    assert msgspec.structs.astuple(good)[:-1] == msgspec.structs.astuple(same)[:-1]
    assert bytes(good.rest) == bytes(same.rest) == b"[]"  # type: ignore[attr-defined]  # made at run time


def test_guess_beyond_a_float_is_not_finite() -> None:
    """A model value too large for a float counts as Infinity."""
    (good,), _, _ = wire_json.convert_rows([wire_json.parse_tolerant(b'{"theName": "a", "guess": -1e999}')], THING)
    assert good.guess == "Infinity"  # type: ignore[attr-defined]  # made at run time


def test_header_leaves_out_what_is_wrong_and_optional() -> None:
    """Optional members of a wrong type are left out one by one and counted; a required one refuses the response."""
    header, counts = wire_json.convert_header({"theName": "a", "price": "x", "isNew": 3, "more": 1}, THING)
    assert (header.name, header.price, header.is_new) == ("a", None, None)  # type: ignore[attr-defined]  # likewise
    assert counts == {"left_out:type_price": 1, "left_out:type_is_new": 1, "unknown_field:thing.more": 1}
    for value, reason in (({}, "missing_field"), ({"theName": 5}, "wrong_type")):
        with pytest.raises(ResponseRejectedError) as error:
            wire_json.convert_header(value, THING)
        assert error.value.reason == reason
