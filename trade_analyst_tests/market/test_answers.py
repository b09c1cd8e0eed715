"""How a response is read or refused: strictly, else tolerantly, else under a stable reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market.answers import (
    read_body,
    refuse_error_body,
    require_symbol,
    required_members,
    tolerant_object,
    unknown_around,
    usable_answers,
)
from trade_analyst_pipeline.market.normalized import Intake, ResponseProblem
from trade_analyst_pipeline.market.tolerant_json import parse_tolerant
from trade_analyst_pipeline.market.wire_json import RowShape, UnknownField


@dataclass(frozen=True)
class Asked:
    """A request as plain values."""

    path: str = "/chains"
    params: tuple[tuple[str, str], ...] = (("symbol", "XYZ"),)
    symbols: tuple[str, ...] = ("XYZ",)


@dataclass(frozen=True)
class Answered:
    """A response as plain values."""

    body: bytes
    status: int = 200
    request: Asked = Asked()
    received_time: datetime = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)


def number(body: bytes) -> int | None:
    """A strict reader: an integer, but not 0."""
    return msgspec.json.decode(body, type=int) or None


def reason(caught: pytest.ExceptionInfo[ResponseRejectedError]) -> str:
    """The stable word of a refusal."""
    return caught.value.reason


@pytest.mark.parametrize(
    ("body", "expected"), [(b"7", 7), (b"0", "slow"), (b"[]", "slow"), (b"\xff", "slow"), (b"[" * 100_000, "slow")]
)
def test_what_the_fast_path_refuses_is_read_by_the_slow_one(body: bytes, expected: Any) -> None:
    """Wrong types, bytes that are no UTF-8, bottomless nesting and a fast path that gives up all go to the slow one."""
    assert read_body(Answered(body), strict=number, tolerant=lambda _: "slow") == expected


def test_errors_of_our_own_are_not_taken_for_a_bad_body() -> None:
    """Only what a strict decode raises on its input leads to the slow path."""

    def broken(body: bytes) -> int:
        raise KeyError(body)

    with pytest.raises(KeyError):
        read_body(Answered(b"7"), strict=broken, tolerant=lambda _: 1)


def test_body_under_another_status_is_not_read() -> None:
    """A good body under 502 is refused."""
    with pytest.raises(ResponseRejectedError) as caught:
        read_body(Answered(b"7", status=502), strict=number, tolerant=lambda _: 1)
    assert (reason(caught), "502" in caught.value.detail) == ("http_status", True)


def test_refused_responses_are_problems_and_the_others_are_given() -> None:
    """Responses come in order with their request as text; a refused one is noted with its symbols instead."""

    def read(response: Answered) -> int:
        return read_body(response, strict=number, tolerant=lambda body: len(tolerant_object(body, "a thing")))

    intake = Intake()
    given = [Answered(b"7"), Answered(b"null"), Answered(b"{}")]
    found = list(usable_answers(given, read, intake))
    assert found == [(given[0], 7, "/chains?symbol=XYZ"), (given[2], 0, "/chains?symbol=XYZ")]
    problem = ResponseProblem("not_an_object", "NoneType where a thing belongs", ("XYZ",), "/chains?symbol=XYZ")
    assert intake.normalized(None).problems == (problem,)  # type: ignore[arg-type]  # the rows do not matter here


def test_members_are_found_as_often_as_they_came() -> None:
    """A member that came twice is given twice, in order; others are left."""
    document = parse_tolerant(b'{"a": 1, "b": 2, "c": 3, "a": 4}')
    assert required_members(document, ("a", "b")) == [1, 2, 4]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"errors": []}, "error_body"),
        ({"fault": {}}, "error_body"),
        ({"message": "x"}, "error_body"),
        ({"error": "x"}, "missing_field"),
        ({}, "missing_field"),
    ],
)
def test_answer_without_its_member_says_why(document: dict[str, Any], expected: str) -> None:
    """An object that reports an error is told from one that merely lacks what was asked for."""
    with pytest.raises(ResponseRejectedError) as caught:
        required_members(document, ("candles", "bars"))
    assert reason(caught) == expected
    if expected == "missing_field":
        assert "bars or candles" in caught.value.detail


def test_members_that_report_errors_can_be_chosen() -> None:
    """Where a member belongs to good answers too, only the others speak of an error."""
    refuse_error_body({"errors": {}}, ("fault",))
    with pytest.raises(ResponseRejectedError):
        refuse_error_body({"errors": {}, "fault": 1}, ("fault",))


def test_symbol_has_to_be_one_asked_for_if_any_was() -> None:
    """An answer for another symbol is refused; a recording without its request may answer anything."""
    require_symbol("ABC", ("XYZ", "ABC"))
    require_symbol("ABC", ())
    with pytest.raises(ResponseRejectedError) as caught:
        require_symbol("A" * 100, ("XYZ", "ABC"))
    assert (reason(caught), caught.value.detail) == ("other_symbol", f"asked for XYZ, answered {'A' * 40}")


def test_undeclared_members_outside_the_rows_are_counted_once() -> None:
    """Those of rows are counted row by row elsewhere, those around them here."""
    unknown = frozenset({UnknownField("row", "a"), UnknownField("head", "b"), UnknownField("head", "c")})
    expected = Counter({"unknown_field:head.b": 1, "unknown_field:head.c": 1})
    assert unknown_around(unknown, RowShape("row", ())) == expected
