"""Stand-ins for missing values, units, and the state of a quote."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime

import polars as pl
import pytest

from trade_analyst_pipeline.market import vendor_values as vendor
from trade_analyst_pipeline.market.columns import TIME


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


@pytest.mark.parametrize(
    ("snapshot", "product", "expected"),
    [
        (datetime(2026, 1, 5, 20, 55, tzinfo=UTC), "regular", datetime(2026, 1, 5, 20, 40, tzinfo=UTC)),
        (datetime(2026, 1, 5, 21, 10, tzinfo=UTC), "regular", datetime(2026, 1, 5, 20, 45, tzinfo=UTC)),
        (datetime(2026, 1, 5, 21, 10, tzinfo=UTC), "late", datetime(2026, 1, 5, 20, 55, tzinfo=UTC)),
        (datetime(2026, 1, 6, 2, 0, tzinfo=UTC), "late", datetime(2026, 1, 5, 21, 0, tzinfo=UTC)),
        (datetime(2026, 1, 5, 14, 40, tzinfo=UTC), "regular", datetime(2026, 1, 5, 14, 30, tzinfo=UTC)),
        (datetime(2026, 1, 5, 13, 0, tzinfo=UTC), "regular", datetime(2026, 1, 5, 14, 30, tzinfo=UTC)),
        (datetime(2026, 1, 5, 13, 0, tzinfo=UTC), None, datetime(2026, 1, 5, 12, 45, tzinfo=UTC)),
    ],
)
def test_quotes_are_fresh_since(snapshot: datetime, product: vendor.Product | None, expected: datetime) -> None:
    """Fifteen minutes before the snapshot or the close, whichever is earlier, and never before the open."""
    assert vendor.fresh_since(snapshot, date(2026, 1, 5), product) == expected


def test_half_day_moves_the_close() -> None:
    """On the day after Thanksgiving quotes of 12:45 New York are the oldest still fresh in the evening."""
    evening = datetime(2025, 11, 28, 23, 0, tzinfo=UTC)
    assert vendor.fresh_since(evening, date(2025, 11, 28), "regular") == datetime(2025, 11, 28, 17, 45, tzinfo=UTC)


def test_day_without_a_session_only_looks_at_the_snapshot() -> None:
    """On a Sunday there is no close to go by."""
    sunday = datetime(2026, 1, 4, 18, 0, tzinfo=UTC)
    assert vendor.fresh_since(sunday, date(2026, 1, 4), "regular") == datetime(2026, 1, 4, 17, 45, tzinfo=UTC)


FRESH = datetime(2026, 1, 5, 20, 40, tzinfo=UTC)


@pytest.mark.parametrize(
    ("bid", "ask", "quoted", "expected"),
    [
        (None, None, None, "no_quote"),
        (None, 1.0, None, "no_bid"),
        (1.0, None, None, "no_ask"),
        (1.01, 1.0, None, "crossed"),
        (1.0, 1.1, None, "stale"),
        (1.0, 1.1, datetime(2026, 1, 5, 20, 39, 59, 999_000, tzinfo=UTC), "stale"),
        (1.0, 1.1, FRESH, "ok"),
        (0.04, 0.05, FRESH, "low_priced"),
        (0.04, 0.06, FRESH, "ok"),
        (0.01, 0.09, FRESH, "ok"),
        (0.05, 0.15, FRESH, "ok"),
        (0.05, 0.16, FRESH, "wide"),
        (3.0, 5.0, FRESH, "ok"),
        (3.0, 5.01, FRESH, "wide"),
        (2.0, 2.0, FRESH, "locked"),
        (0.04, 0.04, FRESH, "low_priced"),
    ],
)
def test_quote_status(bid: float | None, ask: float | None, quoted: datetime | None, expected: str) -> None:
    """The first reason in the order of the column's meaning holds; bounds are as the specification draws them."""
    frame = pl.DataFrame(
        {"bid": [bid], "ask": [ask], "quote_time": [quoted], "fresh": [FRESH]},
        schema={"bid": pl.Float64, "ask": pl.Float64, "quote_time": TIME, "fresh": TIME},
    )
    assert frame.select(vendor.quote_status("fresh")).item() == expected


def test_only_a_crossed_quote_loses_its_sides() -> None:
    """Both sides of a crossed quote are null, those of any other stay."""
    frame = pl.DataFrame({"bid": [1.0, 2.0], "quote_status": ["crossed", "stale"]})
    assert frame.select(vendor.uncrossed("bid"))["bid"].to_list() == [None, 2.0]


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
