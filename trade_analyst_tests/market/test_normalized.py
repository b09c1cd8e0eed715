"""What is collected beside the rows of a capture: rejected rows, problems, counts."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market.normalized import (
    MAX_SOURCE_CHARACTERS,
    REJECTED_COLUMNS,
    Intake,
    ResponseProblem,
    request_text,
)
from trade_analyst_pipeline.market.tolerant_json import (
    BadRow,
)

MOMENT = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)


def test_everything_noted_comes_back_with_the_rows() -> None:
    """Problems and rejected rows come in the order noted; counts by name, without zeros."""
    intake = Intake()
    intake.note_problem(ResponseRejectedError("html", "a page"), symbols=("A",), request="/chains?symbol=A")
    intake.reject(
        [BadRow("type_bid", "text for a number", '{"bid": "1"}'), BadRow("not_an_object", "a list", "[]")],
        symbol="B",
        snapshot_time=MOMENT,
        request="/chains?symbol=B",
    )
    intake.counts.update(z=2, a=1, none=0)
    found = intake.normalized(pl.DataFrame({"x": [1, 2, 3]}))
    assert found.problems == (ResponseProblem("html", "a page", ("A",), "/chains?symbol=A"),)
    assert found.rejected.rows() == [
        ("B", MOMENT, "/chains?symbol=B", "type_bid", "text for a number", '{"bid": "1"}'),
        ("B", MOMENT, "/chains?symbol=B", "not_an_object", "a list", "[]"),
    ]
    assert list(found.counts.items()) == [("a", 1), ("z", 2)]
    assert found.offered_rows == 5


def test_nothing_noted_is_an_empty_table_of_the_right_columns() -> None:
    """Without a rejected row the table still has its columns and types."""
    found = Intake().normalized(pl.DataFrame())
    assert found.rejected.schema == REJECTED_COLUMNS
    assert (found.problems, found.counts, found.offered_rows) == ((), {}, 0)


def test_text_of_a_rejected_row_is_bounded() -> None:
    """A row as large as a body is cut; the archive has the rest."""
    intake = Intake()
    intake.reject([BadRow("type_bid", "", "x" * 1_000_000)], symbol=None, snapshot_time=MOMENT, request="")
    (source,) = intake.normalized(pl.DataFrame()).rejected["source"]
    assert len(source) == MAX_SOURCE_CHARACTERS


def test_request_is_one_line_of_ascii() -> None:
    """Path and query are told encoded, whatever a symbol holds."""
    assert request_text("/quotes", []) == "/quotes"
    text = request_text("/quotes", [("symbols", "BRK/B,$SPX,ü\r\n\ud800"), ("fields", "")])
    assert text == "/quotes?symbols=BRK%2FB%2C%24SPX%2C%C3%BC%0D%0A%5Cud800&fields="
    assert text.isascii()


def test_text_that_is_no_utf8_can_be_stored_and_shown() -> None:
    """Symbols, details and counts that hold a lone surrogate have it written out; everything else is as sent."""
    intake = Intake()
    intake.note_problem(ResponseRejectedError("reason", "a \udcd5 b"), symbols=("X\udcd5", "Ü"), request="/x")
    intake.reject([BadRow("rule", "d\udcd5", "{}")], symbol="S\udcd5", snapshot_time=MOMENT, request="/x")
    intake.counts["unknown_field:a.\udcd5"] += 1
    found = intake.normalized(pl.DataFrame())
    assert found.problems[0].symbols == ("X\\udcd5", "Ü")
    assert found.problems[0].detail == "a \\udcd5 b"
    assert found.rejected.select("symbol", "detail").rows() == [("S\\udcd5", "d\\udcd5")]
    assert found.counts == {"unknown_field:a.\\udcd5": 1}
