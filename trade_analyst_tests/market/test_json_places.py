"""Members of JSON found in its bytes: the same as a parser finds, at the bytes they are written in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trade_analyst_pipeline.market.json_places import Place, PlaceUnknownError, holders, items, whole

TRICKY = (
    b' {"a": [1, {"b" : "}]\\"{", "c": []}, null ],\n "odd name": {"x":-1.5e3 ,"y":true},"\\u00e4":"\xc3\xa4",'
    b'"a":[ ], "empty": {} } '
)


def walked(body: bytes, place: Place) -> list[tuple[str, Any]]:
    """Every value below a place with its path, as its own bytes parse."""
    found = [(place.path, json.loads(body[place.offset : place.offset + place.length]))]
    return found + [pair for item in items(body, place) for pair in walked(body, item.place)]


def below(body: bytes, place: Place) -> list[str]:
    """The paths of every value at and below a place."""
    return [place.path, *(path for item in items(body, place) for path in below(body, item.place))]


def test_every_value_is_where_its_bytes_are() -> None:
    """Each value is found once by its path, repeated names each time, and its bytes alone parse to it."""
    assert walked(TRICKY, whole(TRICKY))[1:] == [
        ("$.a", [1, {"b": '}]"{', "c": []}, None]),
        ("$.a[0]", 1),
        ("$.a[1]", {"b": '}]"{', "c": []}),
        ("$.a[1].b", '}]"{'),
        ("$.a[1].c", []),
        ("$.a[2]", None),
        ('$["odd name"]', {"x": -1500.0, "y": True}),
        ('$["odd name"].x', -1500.0),
        ('$["odd name"].y', True),
        ('$["\\u00e4"]', "ä"),
        ("$.a", []),
        ("$.empty", {}),
    ]


def test_what_a_strict_parser_refuses_is_found_too() -> None:
    """NaN and bytes that are no UTF-8 have places like anything else."""
    body = b'{"n":NaN,"t":"\xff","list":[{"m":Infinity}],"\xff":1}'
    assert [(item.name, item.place.text(body)) for item in items(body, whole(body))] == [
        ("n", "NaN"),
        ("t", '"\\xff"'),
        ("list", '[{"m":Infinity}]'),
        ("\udcff", "1"),
    ]


def test_holders_leave_out_what_is_passed_over() -> None:
    """A way of steps leads to what holds the wanted items, the others told apart from them."""
    body = b'{"A":{"p":1},"errors":{"q":2},"B":{"r":3}}'
    (outer,) = holders(body, ["*"], passed_over=frozenset({"errors"}))
    assert [outer.items[number].name for number in outer.wanted] == ["A", "B"]
    assert [each.place.path for each in holders(body, ["*", "*"])] == ["$.A", "$.errors", "$.B"]


@pytest.mark.parametrize("body", [b"", b'{"a" 1}', b'{"a":1 "b":2}', b'{"a":[1,2}', b"[" * 100 + b"]" * 100])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    """Bytes that are not nested as JSON is, or too deeply, have no places."""
    with pytest.raises(PlaceUnknownError):
        below(body, whole(body))
