"""Columns are declared once, and schemas are built from them."""

from __future__ import annotations

import re

import polars as pl
import pytest

from trade_analyst_pipeline.market.columns import COLUMNS, TIME, Rule, table_schema


def test_schema_lists_columns_in_order_with_their_types() -> None:
    """A schema has the columns as listed, each with its declared type; key columns are required."""
    rule = Rule("r", pl.col("bid") > 0, "")
    schema = table_schema(
        "t", "1.0", key=iter(["symbol"]), columns=["symbol", "snapshot_time", "bid"], required=["bid"], rules=[rule]
    )
    assert schema.names == ["symbol", "snapshot_time", "bid"]
    assert schema.polars_schema == pl.Schema({"symbol": pl.String(), "snapshot_time": TIME, "bid": pl.Float64()})
    assert schema.required == {"symbol", "bid"}
    assert schema.rules == (rule,)
    assert rule.severity == "error"
    assert schema.empty().schema == schema.polars_schema
    assert schema.empty().is_empty()


def test_undeclared_column_is_refused() -> None:
    """A schema cannot invent a column."""
    with pytest.raises(KeyError, match="no_such_column"):
        table_schema("t", "1.0", key=["symbol"], columns=["symbol", "no_such_column"])


def test_no_column_is_declared_under_two_names_or_without_meaning() -> None:
    """Each column is found under its own snake_case name and says in a sentence what it is."""
    for name, column in COLUMNS.items():
        assert column.name == name
        assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name)
        assert column.meaning.endswith(".")


def test_numbers_have_units_and_the_rest_has_none() -> None:
    """A number without a unit means nothing, but for names and places in an order; text has none; instants are UTC."""
    for column in COLUMNS.values():
        if column.dtype == TIME:
            assert column.unit == "UTC", column.name
        elif column.dtype.is_numeric():
            assert column.unit or column.name in {"security_id", "sequence"}, column.name
        else:
            assert column.unit is None, column.name
