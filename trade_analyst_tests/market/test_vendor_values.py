"""Stand-ins for missing values, and units."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import polars as pl
import pytest

from trade_analyst_pipeline.market import vendor_values as vendor


def told(value: float | None, expression: pl.Expr, **more: float | None) -> object:
    """What an expression over the column `x` makes of one value."""
    frame = pl.DataFrame(
        {"x": [value], **{name: [other] for name, other in more.items()}}, schema_overrides={"x": pl.Float64}
    )
    return frame.select(expression).item()


@pytest.mark.parametrize(("value", "expected"), [(0.01, 0.01), (0.0, None), (-0.0, None), (-1.0, None), (None, None)])
def test_price(value: float | None, expected: float | None) -> None:
    """Only what is above zero is a price."""
    assert told(value, vendor.price("x")) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(-998.9, -998.9), (998.9, 998.9), (0.0, 0.0), (-999.0, None), (999.0, None), (None, None)]
)
def test_greek(value: float | None, expected: float | None) -> None:
    """From 999 up in either direction the model failed; zero and negative values are values."""
    assert told(value, vendor.greek("x")) == expected


@pytest.mark.parametrize(("value", "expected"), [(0.0, 0.0), (3.2, 3.2), (-999.0, None), (-0.01, None), (None, None)])
def test_model_value(value: float | None, expected: float | None) -> None:
    """A model price is zero or more."""
    assert told(value, vendor.model_value("x")) == expected


@pytest.mark.parametrize(
    ("value", "default", "expected"),
    [
        (25.0, 29.0, 0.25),
        (29.0, 29.0, None),
        (29.0, None, 0.29),
        (0.0, 29.0, None),
        (-999.0, 29.0, None),
        (500.0, 29.0, None),
        (499.99, 29.0, 4.9999),
        (None, 29.0, None),
    ],
)
def test_volatility(value: float | None, default: float | None, expected: float | None) -> None:
    """Percent becomes a fraction inside its bounds; equal to the default it says nothing."""
    frame = pl.DataFrame({"x": [value], "d": [default]}, schema={"x": pl.Float64, "d": pl.Float64})
    seen = frame.select(vendor.volatility("x", default="d")).item()
    assert seen == (None if expected is None else pytest.approx(expected))


def test_units_of_percent_counts_and_times() -> None:
    """Percent divides by 100, counts are integers, milliseconds are instants and 0 is never."""
    assert told(4.5, vendor.fraction("x")) == 0.045
    assert told(7.0, vendor.whole("x")) == 7
    assert told(1767646495123.0, vendor.instant("x")) == datetime(2026, 1, 5, 20, 54, 55, 123_000, tzinfo=UTC)
    assert told(0.0, vendor.instant("x")) is None
    assert told(None, vendor.instant("x")) is None


def test_nulls_are_counted_by_cause() -> None:
    """What was not sent and what stood for nothing are counted apart."""
    wire = pl.DataFrame({"a": [1.0, 0.0, None], "b": [1.0, 2.0, 3.0]})
    table = wire.with_columns(vendor.price("a"))
    assert +vendor.nulled(wire, table, ["a", "b"]) == Counter({"absent:a": 1, "sentinel:a": 1})


def test_unexpected_values_are_counted_by_name() -> None:
    """Values beyond those known are counted, nulls are not, and a long one is cut."""
    table = pl.DataFrame({"kind": ["A", "Z", None, "Z", "y" * 100]})
    assert vendor.unexpected_values(table, {"kind": frozenset("A")}) == Counter(
        {"unknown_value:kind=Z": 2, f"unknown_value:kind={'y' * 40}": 1}
    )


def test_division_by_a_hundred_is_that_of_python() -> None:
    """The fraction is the correctly rounded quotient, so a reader can check it by hand."""
    values = [18.658, 73.76379641, 0.52709, 4.25, 1e-3, *(number / 7 for number in range(1, 500))]
    expected = [value / 100 for value in values]
    frame = pl.DataFrame({"x": values})
    assert frame.select(vendor.fraction("x"))["x"].to_list() == expected
    assert frame.lazy().with_columns(vendor.volatility("x")).collect()["x"].to_list() == expected
