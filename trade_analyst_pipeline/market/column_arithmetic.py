"""Arithmetic on whole columns that gives each row what a single number would give, whatever rows are beside it.

By one number for all rows Polars may multiply by the rounded reciprocal: a quotient is then rounded twice.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

YEAR = timedelta(days=365)
"""The year of every volatility and rate."""

_MICROSECOND = timedelta(microseconds=1)


def quotient(dividend: pl.Expr, divisor: int | pl.Expr) -> pl.Expr:
    """The correctly rounded quotient of each row."""
    return dividend / (dividend * 0 + divisor)


def in_units(duration: pl.Expr, unit: timedelta) -> pl.Expr:
    """A duration as a number of these units."""
    return quotient(duration.dt.total_microseconds(), unit // _MICROSECOND)


def years_to_expiry() -> pl.Expr:
    """From `snapshot_time` to `expiration_time`, in years."""
    return in_units(pl.col("expiration_time") - pl.col("snapshot_time"), YEAR)


def floats(values: pl.Series) -> npt.NDArray[np.float64]:
    """A column as an array, NaN for null."""
    return values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
