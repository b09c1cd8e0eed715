"""The fast way to read wire JSON: what it accepts, what it learns and what it leaves to the slow way."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec
import polars as pl
import pytest

from trade_analyst_pipeline.market import wire_json
from trade_analyst_pipeline.market.tolerant_json import (
    convert_rows,
    parse_tolerant,
)
from trade_analyst_pipeline.market.wire_json import (
    NOTHING_UNKNOWN,
    RowColumns,
    RowShape,
    Unknown,
    UnknownField,
    WireField,
    count_keys,
    decode_strict,
    envelope_type,
    row_type,
    stated_keys,
    unknown_names,
    wire_fields,
)

ROW = RowShape(
    "row",
    wire_fields(
        "id:name:text! price:price:number size:size:whole at:at_time:instant",
        "vol:volatility:model open:is_open:flag day:day:day extra:extra:raw",
    ),
)
HEAD = RowShape("head", wire_fields("symbol:symbol:text! delayed:is_delayed:flag"))
PLACES = {"$": "head", "$.rows[...]": "row"}


def document_type(unknown: Unknown) -> Any:
    """A head around a list of rows."""
    row: Any = row_type(ROW, unknown)
    return envelope_type(HEAD, unknown, [("rows", list[row])])


def body(*rows: dict[str, Any], **head: Any) -> bytes:
    """A document of these rows."""
    return json.dumps({"symbol": "X", "rows": list(rows), **head}).encode()


def columns_of(content: bytes) -> RowColumns:
    """The rows of a document as columns, by the fast path."""
    document, unknown = decode_strict(content, document_type, PLACES)
    columns = RowColumns(ROW)
    columns.extend(document.rows, unknown)
    return columns


# -- declarations ----------------------------------------------------------------------------------------------------


def test_fields_are_declared_by_wire_name_column_and_kind() -> None:
    """`!` marks a field that must be there; the order is that of the text."""
    assert wire_fields("a:x:number b:y:text!", "c:z:flag") == (
        WireField("a", "x", "number"),
        WireField("b", "y", "text", required=True),
        WireField("c", "z", "flag"),
    )
    assert ROW.columns == ("name", "price", "size", "at_time", "volatility", "is_open", "day", "extra")


# -- the fast path ---------------------------------------------------------------------------------------------------


def test_strict_decode_gives_typed_columns() -> None:
    """Values come as declared: whole numbers with or without a point, absent and null alike as null."""
    columns = columns_of(
        body(
            {
                "id": "a",
                "price": 1,
                "size": 7.0,
                "at": 1700000000000,
                "vol": 20.5,
                "open": True,
                "day": "d",
                "extra": [],
            },
            {"id": "b", "price": None},
        )
    )
    table = pl.DataFrame(columns.series())
    assert table.rows() == [
        ("a", 1.0, 7.0, 1.7e12, 20.5, True),
        ("b", None, None, None, None, None),
    ]
    assert table.dtypes == [pl.String, pl.Float64, pl.Float64, pl.Float64, pl.Float64, pl.Boolean]
    assert columns.values("day") == ["d", None]
    assert [bytes(raw) for raw in columns.values("extra")] == [b"[]", b""]


@pytest.mark.parametrize(
    "row",
    [
        {"id": 1},
        {"id": "a", "price": "1"},
        {"id": "a", "price": True},
        {"id": "a", "size": 1.5},
        {"id": "a", "size": 2**54},
        {"id": "a", "at": -1},
        {"id": "a", "at": 0.5},
        {"id": "a", "at": 10**15},
        {"id": "a", "vol": "high"},
        {"id": "a", "open": 1},
        {"id": "a", "day": 1.5},
        {"price": 1.0},
    ],
)
def test_strict_decode_refuses_anything_undeclared(row: dict[str, Any]) -> None:
    """A wrong type, a fraction, a number out of range or a missing field raises; nothing is converted in passing."""
    with pytest.raises(msgspec.ValidationError):
        decode_strict(body(row), document_type, PLACES)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "nan", "INF"])
def test_model_number_may_be_the_text_of_no_number(text: str) -> None:
    """A model's NaN as text is null in the column and counted there."""
    columns = columns_of(body({"id": "a", "vol": text}, {"id": "b", "vol": 3}))
    assert columns.series()[4].to_list() == [None, 3.0]
    assert columns.counts == Counter({"non_finite:volatility": 1})


def test_new_fields_are_learned_and_counted_exactly() -> None:
    """Fields nobody declared are counted by the rows that have them, null included, and cost no row."""
    content = body(
        {"id": "a", "new": 1, "newer": {"deep": [1]}},
        {"id": "b"},
        {"id": "c", "new": None},
        mood="good",
    )
    document, unknown = decode_strict(content, document_type, PLACES)
    assert unknown == {UnknownField("row", "new"), UnknownField("row", "newer"), UnknownField("head", "mood")}
    assert unknown_names(ROW, unknown) == ["new", "newer"]
    columns = RowColumns(ROW)
    columns.extend(document.rows, unknown)
    assert columns.counts == Counter({"unknown_field:row.new": 2, "unknown_field:row.newer": 1})
    assert columns.values("name") == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["a`b", "` - at `$.rows[...]", "", "x.y", "ü", "class", "unknown_0", "new line\n"])
def test_new_field_of_an_awkward_name_is_learned_or_refused(name: str) -> None:
    """Whatever a new field is called, the rows are read past it or the decode fails in the ordinary way."""
    content = body({"id": "a", name: 1})
    try:
        _, unknown = decode_strict(content, document_type, PLACES)
    except msgspec.ValidationError:
        good, bad, counts = convert_rows(parse_tolerant(content)["rows"], ROW)
        assert (len(good), bad, counts) == (1, [], Counter({f"unknown_field:row.{name}": 1}))
    else:
        assert unknown == {UnknownField("row", name)}


def test_too_many_new_fields_are_left_to_the_slow_path() -> None:
    """Beyond a bound the fast path gives up instead of decoding again and again."""
    few = {f"f{number}": 0 for number in range(wire_json.MAX_UNKNOWN_FIELDS - 1)}
    _, unknown = decode_strict(body({"id": "a", **few}), document_type, PLACES)
    assert len(unknown) == wire_json.MAX_UNKNOWN_FIELDS - 1
    many = {f"f{number}": 0 for number in range(wire_json.MAX_UNKNOWN_FIELDS + 1)}
    with pytest.raises(msgspec.ValidationError, match="undeclared fields"):
        decode_strict(body({"id": "a", **many}), document_type, PLACES)


def test_new_field_in_a_place_nobody_declared_is_not_learned() -> None:
    """A new field in an object that is no known place raises."""
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        decode_strict(body({"id": "a", "new": 1}), document_type, {"$": "head"})


def test_messages_of_the_decoder_are_those_expected() -> None:
    """The texts that the learning and the naming of rules read are still those of the library."""
    with pytest.raises(msgspec.ValidationError) as unknown:
        msgspec.json.decode(body({"id": "a", "new": 1}), type=document_type(NOTHING_UNKNOWN))
    assert str(unknown.value) == "Object contains unknown field `new` - at `$.rows[0]`"
    with pytest.raises(msgspec.ValidationError) as missing:
        msgspec.convert({}, row_type(ROW))
    assert str(missing.value) == "Object missing required field `id`"
    with pytest.raises(msgspec.ValidationError) as wrong:
        msgspec.convert({"id": "a", "price": "1"}, row_type(ROW))
    assert str(wrong.value) == "Expected `float | null`, got `str` - at `$.price`"


def test_columns_of_several_responses_follow_each_other() -> None:
    """Rows of responses with different unknown fields are collected in order, more of them than one chunk."""
    columns = RowColumns(ROW)
    for start, more in ((0, {}), (300, {"new": 1})):
        content = body(*({"id": str(start + number), **more} for number in range(300)))
        document, unknown = decode_strict(content, document_type, PLACES)
        columns.extend(document.rows, unknown)
    assert columns.height == 600
    assert columns.values("name") == [str(number) for number in range(600)]
    assert columns.counts["unknown_field:row.new"] == 300


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", 0), (b'"', 0), (b'":', 1), (b'x":', 1), (b'{"a":1,"bb":{"c":[]}}', 3), (b'{"a":":"}', 2), (b'{"a" :1}', 0)],
)
def test_keys_are_counted_at_even_and_odd_places(content: bytes, expected: int) -> None:
    """Every quotation mark before a colon counts, wherever it lies; one with a space between does not."""
    assert count_keys(content) == expected == content.count(b'":')


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # symbol, rows; then id
        ({"rows": [{"id": "a"}]}, (2, 1)),
        # a null is not counted, false and 0 are
        ({"rows": [{"id": "a", "price": None, "size": 0}], "delayed": False}, (3, 2)),
        # an undeclared field counts with the keys inside it, and so does one kept as it came
        ({"rows": [{"id": "a", "extra": {"b": {"c": 1}}, "new": [{"d": 1}, {"d": 2}]}], "more": {"e": 1}}, (4, 7)),
    ],
)
def test_keys_a_typed_object_was_read_from(content: dict[str, Any], expected: tuple[int, int]) -> None:
    """Head and row are told apart; together with the nulls they are all the keys of the body."""
    text = json.dumps({"symbol": "X", **content}).encode()
    document, _ = decode_strict(text, document_type, PLACES)
    head, row = stated_keys(document), stated_keys(document.rows[0])
    assert (head, row) == expected
    assert head + row + text.count(b"null") == count_keys(text)


def test_keys_of_objects_inside_a_typed_object_count_too() -> None:
    """An object inside another counts as a key and with its own."""
    inner = row_type(HEAD)
    outer = msgspec.json.decode(
        b'{"symbol": "X", "head": {"symbol": "Y", "delayed": true}}',
        type=envelope_type(HEAD, NOTHING_UNKNOWN, [("head", inner)]),
    )
    assert stated_keys(outer) == 4
