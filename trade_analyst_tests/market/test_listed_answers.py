"""Answers that are one list: the fast and the slow way give the same rows, and what is wrong is named."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market.listed_answers import ListedAnswer, ListedRows, ListShape, read_listed
from trade_analyst_pipeline.market.tolerant_json import BadRow
from trade_analyst_pipeline.market.wire_json import RowShape, wire_fields

BLOCK = RowShape("block", wire_fields("b:inner:number"))
SHAPE = ListShape(
    "things", RowShape("head", wire_fields("h:head:text")), RowShape("thing", wire_fields("n:number:number!")), (BLOCK,)
)


@dataclass(frozen=True)
class Asked:
    """A request without anything."""

    path: str = "/things"
    params: tuple[tuple[str, str], ...] = ()
    symbols: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answered:
    """A response with this body."""

    body: bytes
    status: int = 200
    request: Asked = field(default_factory=Asked)
    received_time: datetime = datetime(2026, 1, 5, tzinfo=UTC)


def read(body: Any) -> ListedAnswer:
    """A body read as a list of things."""
    return read_listed(Answered(body if isinstance(body, bytes) else json.dumps(body).encode()), SHAPE, "things")


def table(*answers: ListedAnswer) -> list[tuple[Any, ...]]:
    """Name, place, number and inner number of all rows, each answer named by its number."""
    rows = ListedRows(SHAPE, {"name": pl.String()})
    for number, answer in enumerate(answers):
        rows.extend(answer, f"answer {number}")
    return rows.table().select("name", "place", "number", "inner").rows()


THINGS = [{"n": 1}, {"n": 2.5, "block": {"b": 7}}, {"n": 3, "block": None}]


def test_both_ways_give_the_same_rows() -> None:
    """Rows with and without their block come alike from an answer that is as declared and from one that is not."""
    strict, tolerant = read({"things": THINGS, "h": "x"}), read({"things": THINGS, "h": 7})
    assert (strict.counts, tolerant.counts) == ({}, {"tolerant_parse": 1, "left_out:type_head": 1})
    assert (strict.header.head, tolerant.header.head) == ("x", None)
    expected = [(1, 1.0, None), (2, 2.5, 7.0), (3, 3.0, None)]
    assert table(strict, tolerant) == [(f"answer {n}", *row) for n in (0, 1) for row in expected]


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (7, "not_an_object"),
        ({}, "missing_number"),
        ({"n": "1"}, "type_number"),
        ({"n": 1, "block": 7}, "not_an_object"),
        ({"n": 1, "block": {"b": "x"}}, "type_inner"),
    ],
)
def test_bad_row_is_named_and_shown_whole(row: Any, rule: str) -> None:
    """A row or block that is wrong makes one bad row with its own text; the others keep their places."""
    answer = read({"things": [row, *THINGS]})
    assert [(bad.rule, json.loads(bad.source)) for bad in answer.bad] == [(rule, row)]
    assert answer.places == [2, 3, 4]


@pytest.mark.parametrize(
    "body",
    [b'{"things": [{"n": 1, "n": 2}]}', b'{"things": [{"n": 1, "block": {"b": 1, "b": 2}}]}'],
)
def test_repeated_fields_are_bad_rows(body: bytes) -> None:
    """A field that came twice in a row or its block spoils the row."""
    assert [bad.rule for bad in read(body).bad] == ["repeated_field"]


def test_list_that_came_twice_is_read_twice() -> None:
    """Rows of both lists are there, and the repetition is counted."""
    answer = read(b'{"things": [{"n": 1}], "things": [{"n": 2}]}')
    assert [row[1:3] for row in table(answer)] == [(1, 1.0), (2, 2.0)]
    assert answer.counts == {"repeated_field:head": 1, "tolerant_parse": 1}


def test_new_fields_are_counted_wherever_they_are() -> None:
    """Undeclared fields around rows, in rows and in blocks are read past and counted, at full speed."""
    answer = read({"things": [{"n": 1, "m": 2, "block": {"b": 1, "c": 2}}], "z": 1})
    rows = ListedRows(SHAPE, {})
    rows.extend(answer)
    assert answer.counts + rows.counts == {
        "unknown_field:head.z": 1,
        "unknown_field:thing.m": 1,
        "unknown_field:block.c": 1,
    }


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"[]", "not_an_object"), (b"{}", "missing_field"), (b'{"errors": []}', "error_body"), (b"<p>", "html")],
)
def test_no_such_answer_is_refused(body: bytes, reason: str) -> None:
    """What is no list of things is refused with a word for why."""
    with pytest.raises(ResponseRejectedError) as refused:
        read(body)
    assert refused.value.reason == reason


def test_rows_refused_later_become_bad() -> None:
    """A dataset's own reason moves a row to the bad ones and leaves the places of the others."""
    answer = read({"things": THINGS})
    answer.reject(lambda row: BadRow("odd", "", "") if row.number == 1 else None)
    assert ([bad.rule for bad in answer.bad], answer.places) == (["odd"], [2, 3])
