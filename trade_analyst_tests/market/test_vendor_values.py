"""Stand-ins of the vendor's: what becomes null, what keeps its value, and the state of a quote."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from trade_analyst_pipeline.market import vendor_values as vendor
from trade_analyst_pipeline.market.columns import TIME

SESSION = date(2026, 1, 5)
NOON = datetime(2026, 1, 5, 17, 0, tzinfo=UTC)


def result(expression: pl.Expr, **columns: list[object]) -> list[object]:
    """The values an expression gives over a table of these columns."""
    return pl.DataFrame(columns).select(expression).to_series().to_list()


@pytest.mark.parametrize(
    ("expression", "sent", "kept"),
    [
        (vendor.price("x"), [0.01, 0.0, -1.0, -999.0, None], [0.01, None, None, None, None]),
        (vendor.greek("x"), [0.5, -998.9, 998.9, -999.0, 999.0, None], [0.5, -998.9, 998.9, None, None, None]),
        (vendor.model_value("x"), [0.0, 3.5, -0.1, -999.0, None], [0.0, 3.5, None, None, None]),
        (vendor.fraction("x"), [25.0, -50.0, None], [0.25, -0.5, None]),
        (vendor.volatility("x"), [50.0, 0.0, -999.0, 500.0, 499.0, None], [0.5, None, None, None, 4.99, None]),
        (vendor.whole("x"), [7.0, -1.0, None], [7, -1, None]),
        (vendor.instant("x"), [1767632400123.0, 0.0, None], [NOON + timedelta(milliseconds=123), None, None]),
    ],
)
def test_values_and_stand_ins(expression: pl.Expr, sent: list[object], kept: list[object]) -> None:
    """Real values stay, in our unit; those that stand for none are null."""
    assert result(expression, x=sent) == kept


def test_volatility_equal_to_the_models_default_is_none() -> None:
    """The default volatility is a stand-in; where there is no default every value counts."""
    assert result(vendor.volatility("x", default="d"), x=[29.0, 29.0, 30.0], d=[29.0, None, 29.0]) == [None, 0.29, 0.3]


@pytest.mark.parametrize(
    ("snapshot", "product", "expected"),
    [
        (NOON, "regular", datetime(2026, 1, 5, 16, 45, tzinfo=UTC)),
        (NOON, None, datetime(2026, 1, 5, 16, 45, tzinfo=UTC)),
        (datetime(2026, 1, 5, 14, 40, tzinfo=UTC), "late", datetime(2026, 1, 5, 14, 30, tzinfo=UTC)),
        (datetime(2026, 1, 5, 23, 0, tzinfo=UTC), "regular", datetime(2026, 1, 5, 20, 45, tzinfo=UTC)),
        (datetime(2026, 1, 5, 23, 0, tzinfo=UTC), "late", datetime(2026, 1, 5, 21, 0, tzinfo=UTC)),
        (datetime(2026, 1, 5, 23, 0, tzinfo=UTC), None, datetime(2026, 1, 5, 22, 45, tzinfo=UTC)),
    ],
)
def test_fresh_since(snapshot: datetime, product: vendor.Product | None, expected: datetime) -> None:
    """15 minutes before the snapshot or the product's close, never before the open; round-the-clock ones before now."""
    assert vendor.fresh_since(snapshot, SESSION, product) == expected


def test_fresh_since_on_a_day_without_a_session() -> None:
    """On a Saturday only the snapshot's own time counts."""
    saturday = datetime(2026, 1, 3, 17, 0, tzinfo=UTC)
    assert vendor.fresh_since(saturday, date(2026, 1, 3), "regular") == saturday - timedelta(minutes=15)


@pytest.mark.parametrize(
    ("bid", "ask", "quoted", "status"),
    [
        (None, None, NOON, "no_quote"),
        (None, 1.0, NOON, "no_bid"),
        (1.0, None, NOON, "no_ask"),
        (1.1, 1.0, None, "crossed"),
        (1.0, 1.1, None, "stale"),
        (1.0, 1.1, NOON - timedelta(seconds=1), "stale"),
        (0.04, 0.05, NOON, "low_priced"),
        (0.05, 0.15, NOON, "ok"),  # 10 cents is never wide
        (0.05, 0.16, NOON, "wide"),  # 11 cents on a mid of 10.5
        (3.0, 5.0, NOON, "ok"),  # spread 2 is half of the mid 4: not more than half
        (2.99, 5.0, NOON, "wide"),
        (1.0, 1.0, NOON, "locked"),
        (1.0, 1.1, NOON, "ok"),
    ],
)
def test_quote_status(bid: float | None, ask: float | None, quoted: datetime | None, status: str) -> None:
    """The first state that holds, in the order of the definition."""
    table = pl.DataFrame(
        {"bid": [bid], "ask": [ask], "quote_time": [quoted], "fresh": [NOON]},
        schema={"bid": pl.Float64, "ask": pl.Float64, "quote_time": TIME, "fresh": TIME},
    )
    assert table.select(vendor.quote_status("fresh")).item() == status


def test_crossed_sides_are_null() -> None:
    """A crossed quote has no side; others keep theirs."""
    assert result(vendor.uncrossed("bid"), bid=[1.0, 2.0], quote_status=["crossed", "wide"]) == [None, 2.0]


def test_nulled_tells_absent_from_stand_in() -> None:
    """What was not sent and what was sent as a stand-in are counted apart."""
    wire = pl.DataFrame({"x": [None, 0.0, 1.0], "y": [1.0, 1.0, 1.0]})
    table = pl.DataFrame({"x": [None, None, 1.0], "y": [1.0, 1.0, 1.0]})
    counts = vendor.nulled(wire, table, ["x", "y"])
    assert {name: count for name, count in counts.items() if count} == {"absent:x": 1, "sentinel:x": 1}


def test_unexpected_texts_are_counted_by_value() -> None:
    """Values outside those expected are counted, each under its name cut at 40 characters; nulls are not."""
    table = pl.DataFrame({"kind": ["A", "Z", "Z", None, "q" * 60]})
    assert vendor.unexpected_values(table, {"kind": frozenset("A")}) == {
        "unknown_value:kind=Z": 2,
        f"unknown_value:kind={'q' * 40}": 1,
    }
