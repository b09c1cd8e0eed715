"""The one shape in which bad rows of every dataset are kept."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import polars as pl

from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.market.columns import TIME, Column, Rule, TableSchema
from trade_analyst_pipeline.market.normalized import REJECTED_COLUMNS
from trade_analyst_pipeline.quarantine import quarantine_rows, quarantine_schema
from trade_analyst_pipeline.validation import validate

SESSION = date(2026, 1, 5)
ARRIVED = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)
NAMES = ["symbol", "session_date", "snapshot_time", "broken_rules", "detail", "request", "row_json"]
NONE_REJECTED = pl.DataFrame(schema=REJECTED_COLUMNS)


def schema(arrival: str) -> TableSchema:
    """A table of prices whose time of arrival has that name."""
    return TableSchema(
        name="prices",
        version="1.0",
        key=("symbol", arrival),
        columns=(
            Column("symbol", pl.String(), None, "Who."),
            Column(arrival, TIME, "UTC", "When."),
            Column("price", pl.Float64(), "dollars", "How much."),
        ),
        required=frozenset({"symbol", arrival}),
        rules=(Rule("negative", pl.col("price") >= 0, ""), Rule("tiny", pl.col("price") >= -5, "")),
    )


def table(arrival: str, *prices: float) -> pl.DataFrame:
    """One row per price, all of other symbols."""
    rows = [(f"S{number}", ARRIVED, value) for number, value in enumerate(prices)]
    return pl.DataFrame(rows, schema=schema(arrival).polars_schema, orient="row")


def test_row_that_broke_rules_is_kept_as_its_json() -> None:
    """A typed bad row keeps symbol, arrival, the rules it broke in order and all its values; good rows stay out."""
    judged = validate(table("snapshot_time", 1.0, -9.5), schema("snapshot_time"))
    (row,) = quarantine_rows(judged, NONE_REJECTED, session_date=SESSION).rows(named=True)
    assert json.loads(row.pop("row_json"))["price"] == -9.5
    assert row == {
        "symbol": "S1",
        "session_date": SESSION,
        "snapshot_time": ARRIVED,
        "broken_rules": "negative, tiny",
        "detail": None,
        "request": None,
    }


def test_arrival_of_bars_is_their_known_time() -> None:
    """A dataset without snapshots gives the time its rows became known."""
    judged = validate(table("known_time", -1.0), schema("known_time"))
    assert quarantine_rows(judged, NONE_REJECTED, session_date=SESSION)["snapshot_time"].to_list() == [ARRIVED]


def test_row_without_any_arrival_has_none() -> None:
    """A table without a time of arrival leaves it null."""
    judged = validate(table("other_time", -1.0), schema("other_time"))
    assert quarantine_rows(judged, NONE_REJECTED, session_date=SESSION)["snapshot_time"].to_list() == [None]


def test_row_that_could_not_be_typed_keeps_its_own_text() -> None:
    """An untyped row keeps its JSON, the rule, what was found, and the request it came in."""
    rejected = pl.DataFrame(
        [("XYZ", ARRIVED, "/chains?symbol=XYZ", "type_bid", "Expected `float`, got `str`", '{"bid": "4"}')],
        schema=REJECTED_COLUMNS,
        orient="row",
    )
    judged = validate(table("snapshot_time", 1.0), schema("snapshot_time"))
    found = quarantine_rows(judged, rejected, session_date=SESSION)
    assert found.columns == NAMES
    assert found.row(0) == (
        "XYZ",
        SESSION,
        ARRIVED,
        "type_bid",
        "Expected `float`, got `str`",
        "/chains?symbol=XYZ",
        '{"bid": "4"}',
    )


def test_equal_bad_rows_are_kept_once() -> None:
    """The same bad row offered twice is one row, so that the table keeps its key."""
    line = ("XYZ", ARRIVED, "/chains?symbol=XYZ", "type_bid", "d", "{}")
    rejected = pl.DataFrame([line, line], schema=REJECTED_COLUMNS, orient="row")
    judged = validate(table("snapshot_time"), schema("snapshot_time"))
    assert quarantine_rows(judged, rejected, session_date=SESSION).height == 1


def test_quarantine_meets_its_own_schema() -> None:
    """Bad rows of any kind make a valid quarantine table of every dataset."""
    line = (None, ARRIVED, "/chains", "not_an_object", "d", "7")
    rejected = pl.DataFrame([line], schema=REJECTED_COLUMNS, orient="row")
    found = quarantine_rows(
        validate(table("snapshot_time", -1.0), schema("snapshot_time")), rejected, session_date=SESSION
    )
    for name in DATASETS:
        declared = quarantine_schema(name)
        assert declared.name == name
        assert declared.names == NAMES
        assert declared.required == {"session_date", "broken_rules", "row_json"}
        assert validate(found, declared).valid.height == 2
