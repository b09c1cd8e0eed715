"""The two ways to read wire JSON: what the fast one learns, what the slow one keeps, names and refuses."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec
import polars as pl
import pytest

from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market import wire_json
from trade_analyst_pipeline.market.wire_json import (
    NOTHING_UNKNOWN,
    NonFinite,
    RepeatedKeys,
    RowColumns,
    RowShape,
    Unknown,
    UnknownField,
    WireField,
    convert_header,
    convert_rows,
    count_keys,
    decode_strict,
    entries,
    parse_tolerant,
    repeated_keys,
    row_type,
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
    rows: Any = list[row]
    return msgspec.defstruct(
        "document", [("rows", rows)], bases=(row_type(HEAD, unknown),), kw_only=True, forbid_unknown_fields=True
    )


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


# -- the slow path ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty_body"),
        (b" \n\t", "empty_body"),
        (b"  <!DOCTYPE html>", "html"),
        (b"\xef\xbb\xbf{}", "encoding"),
        ('{"a": 1}'.encode("utf-16"), "encoding"),
        ('{"a": 1}'.encode("utf-16-le"), "encoding"),
        (b"\x00", "encoding"),
        (b'{"a": [1, 2', "truncated"),
        (b'{"a": 1.', "truncated"),
        (b'{"a": tru', "truncated"),
        (b'{"a": "te', "truncated"),
        (b'{"a"', "truncated"),
        (b'{"a": "\\u00', "truncated"),
        (b'{"a": 1} x', "not_json"),
        (b'{"a": 1}{"a": 1}', "not_json"),
        (b'{"a": no, "b": 1}', "not_json"),
        (b"{'a': 1}", "not_json"),
        (b"plain text, quite a lot of it", "not_json"),
        (b"[" * 200_000, "nested_too_deep"),
        (b'{"a":' * 200_000, "nested_too_deep"),
    ],
)
def test_body_that_is_no_json_is_refused_with_a_reason(content: bytes, reason: str) -> None:
    """A whole body that cannot be parsed is refused with a stable word for why."""
    with pytest.raises(ResponseRejectedError) as caught:
        parse_tolerant(content)
    assert caught.value.reason == reason
    assert str(caught.value).isascii()


def test_numbers_that_are_not_finite_keep_their_text() -> None:
    """NaN, Infinity and numbers beyond a float are marked, and never become numbers."""
    value = parse_tolerant(
        b"[NaN, -Infinity, 1e999, -1e999, 1, 1.5, 123456789012345678901234567890, " + b"9" * 400 + b"]"
    )
    assert [type(item) for item in value] == [NonFinite] * 4 + [int, float, float, NonFinite]
    assert value[:4] == ["NaN", "-Infinity", "1e999", "-1e999"]
    assert value[6] == pytest.approx(1.2345678901234568e29)


def test_repeated_keys_are_kept_with_all_their_values() -> None:
    """An object with a key twice says so and can be walked through without losing a member."""
    value = parse_tolerant(b'{"a": 1, "b": 2, "a": 3}')
    assert isinstance(value, RepeatedKeys)
    assert entries(value) == [("a", 1), ("b", 2), ("a", 3)]
    assert entries({"x": 1}) == [("x", 1)]
    assert entries([1]) == entries(None) == []


def test_repeated_keys_of_a_body_are_listed() -> None:
    """Keys that came twice in one object are found at any depth; the same key in two objects is no repeat."""
    assert repeated_keys(b'{"a": [{"b": 1, "b": 2}], "c": {"d": {"e": 1, "e": 1, "a": 0}}}') == ["b", "e"]
    assert repeated_keys(b'[{"a": 1}, {"a": 2}, {"c": {"a": 3}}]') == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", 0), (b'"', 0), (b'":', 1), (b'x":', 1), (b'{"a":1,"bb":{"c":[]}}', 3), (b'{"a":":"}', 2), (b'{"a" :1}', 0)],
)
def test_keys_are_counted_at_even_and_odd_places(content: bytes, expected: int) -> None:
    """Every quotation mark before a colon counts, wherever it lies; one with a space between does not."""
    assert count_keys(content) == expected == content.count(b'":')


def test_bad_rows_are_named_and_good_ones_kept() -> None:
    """Each row is judged alone: the rule names the column, the source is the row's own JSON."""
    rows = parse_tolerant(
        b'[{"id": "a", "price": 1.5}, {"id": "b", "price": "x"}, {"price": 1}, {"id": "c", "price": NaN}, 5,'
        b' {"id": "d", "id": "e"}, {"id": "f\\ud800"}, {"id": "g", "vol": NaN}, {"id": "h", "vol": 1e999},'
        b' {"id": "i", "extra": {"any": ["thing"]}}, {"id": "j", "size": 8}]'
    )
    good, bad, unknown = convert_rows(rows, ROW)
    columns = RowColumns(ROW)
    columns.extend(good)
    assert columns.values("name") == ["a", "g", "h", "i", "j"]
    assert columns.values("volatility") == [None, "NaN", "Infinity", None, None]
    assert [bytes(raw) for raw in columns.values("extra")] == [b"", b"", b"", b'{"any": ["thing"]}', b""]
    assert [(row.rule, row.column) for row in bad] == [
        ("type_price", "price"),
        ("missing_name", "name"),
        ("not_finite_price", "price"),
        ("not_an_object", None),
        ("repeated_field", None),
        ("encoding", "name"),
    ]
    assert json.loads(bad[0].source) == {"id": "b", "price": "x"}
    assert bad[4].detail == "more than once: id"
    assert unknown == Counter()


def test_both_paths_read_the_same_rows_alike() -> None:
    """A row that both paths accept becomes the same values."""
    rows = [{"id": "a", "price": 1, "size": 7, "at": 12, "vol": "NaN", "open": False, "day": 3}, {"id": "b"}]
    fast = columns_of(body(*rows))
    good, bad, _ = convert_rows(parse_tolerant(body(*rows))["rows"], ROW)
    slow = RowColumns(ROW)
    slow.extend(good)
    assert bad == []
    assert pl.DataFrame(slow.series()).equals(pl.DataFrame(fast.series()))
    assert slow.values("day") == fast.values("day")


def test_header_loses_an_optional_member_that_is_wrong() -> None:
    """A wrong optional member is left out and counted; an unknown one is counted."""
    header, counts = convert_header({"symbol": "X", "delayed": "no", "mood": 1}, HEAD)
    assert header == row_type(HEAD, is_open=True)(symbol="X", is_delayed=None)
    assert counts == Counter({"left_out:type_is_delayed": 1, "unknown_field:head.mood": 1})


@pytest.mark.parametrize(
    ("header", "reason"),
    [({}, "missing_field"), ({"symbol": 5}, "wrong_type"), ({"symbol": None, "delayed": "x"}, "wrong_type")],
)
def test_header_without_a_required_member_is_refused(header: dict[str, Any], reason: str) -> None:
    """What rows cannot do without refuses the whole response."""
    with pytest.raises(ResponseRejectedError) as caught:
        convert_header(header, HEAD)
    assert caught.value.reason == reason
