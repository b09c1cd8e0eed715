"""What the vendor's numbers mean where it sends a stand-in instead of a value, as expressions over a wire table.

Every function keeps a real value as it is (or changes only its unit) and turns a stand-in into null; `nulled` counts
how often. Which field is which belongs to the dataset modules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import polars as pl

from trade_analyst_pipeline.market.column_arithmetic import quotient
from trade_analyst_pipeline.market.columns import TIME
from trade_analyst_pipeline.market.sessions import NEW_YORK

MODEL_FAILED = 999.0
MAX_VOLATILITY_PERCENT = 500.0
EARLIEST_YEAR = 1900


def price(column: str) -> pl.Expr:
    """Dollars; null for 0 or less, which is how the wire says that there is none."""
    return pl.when(pl.col(column) > 0).then(pl.col(column)).alias(column)


def greek(column: str) -> pl.Expr:
    """A model value; null from 999 up in either direction, which says that the model failed."""
    return pl.when(pl.col(column).abs() < MODEL_FAILED).then(pl.col(column)).alias(column)


def model_value(column: str) -> pl.Expr:
    """A model price in dollars; null below 0, as -999 says that the model failed."""
    return pl.when(pl.col(column) >= 0).then(pl.col(column)).alias(column)


def fraction(column: str) -> pl.Expr:
    """A percentage as a fraction."""
    return quotient(pl.col(column), 100).alias(column)


def volatility(column: str, default: str | None = None) -> pl.Expr:
    """A volatility in percent as a fraction; null outside (0 %, 500 %), or when equal to the `default` column."""
    percent = pl.col(column)
    is_value = (percent > 0) & (percent < MAX_VOLATILITY_PERCENT)
    if default is not None:
        is_value &= (percent != pl.col(default)).fill_null(value=True)
    return pl.when(is_value).then(quotient(percent, 100)).alias(column)


def whole(column: str) -> pl.Expr:
    """A count as an integer."""
    return pl.col(column).cast(pl.Int64).alias(column)


def instant(column: str) -> pl.Expr:
    """Epoch milliseconds as an instant; null for 0, which says never."""
    milliseconds = pl.when(pl.col(column) > 0).then(pl.col(column))
    return (milliseconds.cast(pl.Int64) * 1000).cast(TIME).alias(column)


def known(column: str) -> pl.Expr:
    """A number; null for 0, where the wire says 0 for what it does not know."""
    return pl.when(pl.col(column) != 0).then(pl.col(column)).alias(column)


def stated_day(column: str) -> pl.Expr:
    """The date of a text; null for what is none.

    Read are a date alone, also with midnight behind it (2024-08-12, 2024-08-12 00:00:00.0), and an instant in UTC,
    which stands for its date in New York (2024-08-12T04:00:00Z).
    """
    text = pl.col(column)
    alone = text.str.extract(r"^(\d{4}-\d{2}-\d{2})(?:[ T]00:00:00(?:\.0+)?)?$", 1).str.to_date(
        "%Y-%m-%d", strict=False
    )
    in_utc = text.str.extract(r"^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.\d+)?(?:Z|\+00:?00)$", 1)
    instant = in_utc.str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="us", time_zone="UTC", strict=False)
    day = pl.coalesce(alone, instant.dt.convert_time_zone(str(NEW_YORK)).dt.date())
    return pl.when(day.dt.year() >= EARLIEST_YEAR).then(day).alias(column)


def nulled(wire: pl.DataFrame, table: pl.DataFrame, columns: Iterable[str]) -> Counter[str]:
    """For each column, values not sent (`absent:`), and values sent that stand for none (`sentinel:`)."""
    counts: Counter[str] = Counter()
    for column in columns:
        absent = wire[column].null_count()
        counts[f"absent:{column}"] = absent
        counts[f"sentinel:{column}"] = table[column].null_count() - absent
    return counts


def sentinels(wire: pl.DataFrame, table: pl.DataFrame, columns: Iterable[str]) -> Counter[str]:
    """As `nulled`, without the values not sent: of columns that most rows do not have."""
    counts = nulled(wire, table, columns)
    return Counter({name: count for name, count in counts.items() if not name.startswith("absent:")})


def unexpected_values(table: pl.DataFrame, expected: dict[str, frozenset[str]]) -> Counter[str]:
    """Texts outside the values known so far, by column: they stay in the table as sent and are counted."""
    counts: Counter[str] = Counter()
    for column, known in expected.items():
        for value in table[column].drop_nulls().unique():
            if value not in known:
                counts[f"unknown_value:{column}={value[:40]}"] = table[column].eq(value).sum()
    return counts
