"""The slow way to read wire JSON: what it keeps, how it names what is wrong, and what it refuses altogether."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec
import polars as pl
import pytest

from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market.tolerant_json import (
    NonFinite,
    RepeatedKeys,
    convert_header,
    convert_rows,
    entries,
    parse_tolerant,
    repeated_field,
    repeated_keys,
)
from trade_analyst_pipeline.market.wire_json import RowColumns, RowShape, row_type, wire_fields

ROW = RowShape(
    "row",
    wire_fields(
        "id:name:text! price:price:number size:size:whole at:at_time:instant",
        "vol:volatility:model open:is_open:flag day:day:day extra:extra:raw",
    ),
)
HEAD = RowShape("head", wire_fields("symbol:symbol:text! delayed:is_delayed:flag"))


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
    body, row = json.dumps(rows).encode(), row_type(ROW)
    fast, slow = RowColumns(ROW), RowColumns(ROW)
    fast.extend(msgspec.json.decode(body, type=list[row]))  # type: ignore[valid-type]  # a type made at run time
    good, bad, _ = convert_rows(parse_tolerant(body), ROW)
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


def test_undeclared_fields_beyond_a_few_names_are_counted_together() -> None:
    """Of 500 undeclared fields 64 are counted by name, in wire order, and the rest as others; long names are cut."""
    shape = RowShape("thing", wire_fields("a:a:number"))
    row = {"a": 1, **{f"new{number:03d}": 1 for number in range(499)}, "x" * 5_000: 1}
    good, bad, unknown = convert_rows([row, {"another": 1}], shape)
    assert (len(good), bad) == (2, [])
    assert len(unknown) == 65
    assert unknown["unknown_field:thing.new063"] == 1
    assert unknown["unknown_field:thing.(others)"] == 500 - 64 + 1
    _, _, unknown = convert_rows([{"x" * 5_000: 1}], shape)
    assert list(unknown) == [f"unknown_field:thing.{'x' * 64}"]


def test_field_that_came_very_often_is_shown_in_part() -> None:
    """What is shown of a row with a field a million times is as long as what is kept of it, not the whole."""
    row = parse_tolerant(b'{"a": 1' + b', "b": 2' * 100_000 + b"}")
    bad = repeated_field(row)
    assert bad.detail == "more than once: b"
    assert bad.source.startswith('{"a": 1, "b": 2, "b": 2, ')
    assert 8_192 < len(bad.source) < 20_000
