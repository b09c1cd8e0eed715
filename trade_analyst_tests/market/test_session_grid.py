"""Series on the exchange calendar: every session has its cell, missing ones are holes, series do not touch."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from trade_analyst_pipeline.market.session_grid import session_grid

# Wednesday before Thanksgiving 2024, the half day after it, and the Monday
WEDNESDAY, FRIDAY, MONDAY = date(2024, 11, 27), date(2024, 11, 29), date(2024, 12, 2)


def table(rows: list[tuple[str, date, float | None]]) -> pl.DataFrame:
    """Rows of (symbol, session_date, value)."""
    return pl.DataFrame(rows, schema={"symbol": pl.String, "session_date": pl.Date, "value": pl.Float64}, orient="row")


def test_holiday_has_no_cell_and_missing_session_has_one() -> None:
    """Thursday's holiday takes no room; the half day without a row is a hole; room stands before each series."""
    rows = table([("A", WEDNESDAY, 1.0), ("A", MONDAY, 3.0), ("B", FRIDAY, 5.0)])
    grid = session_grid(rows, series=("symbol",), room=2)
    assert grid.positions.tolist() == [2, 4, 7]
    assert grid.series.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(grid.lay(rows["value"]), [np.nan, np.nan, 1, np.nan, 3, np.nan, np.nan, 5])


def test_null_is_a_hole() -> None:
    """A null value is NaN in its cell."""
    rows = table([("A", WEDNESDAY, None), ("A", FRIDAY, 2.0)])
    np.testing.assert_array_equal(session_grid(rows, series=("symbol",), room=0).lay(rows["value"]), [np.nan, 2])


def test_cells_know_their_dates() -> None:
    """A cell, filled or not, has the date of its session; a null cell has none."""
    grid = session_grid(table([("A", WEDNESDAY, 1.0), ("A", MONDAY, 3.0)]), series=("symbol",), room=1)
    assert grid.dates(pl.Series([1, 2, 3, None])).to_list() == [WEDNESDAY, FRIDAY, MONDAY, None]


def test_a_calendar_of_its_own() -> None:
    """With a calendar given, its days are the cells, whether the exchange was open or not."""
    holiday = date(2024, 11, 28)
    rows = table([("A", WEDNESDAY, 1.0), ("A", holiday, 2.0)])
    grid = session_grid(rows, series=("symbol",), room=0, calendar=[WEDNESDAY, holiday, FRIDAY])
    assert grid.lay(rows["value"]).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("day", [date(2024, 11, 28), date(2024, 11, 30), date(1999, 1, 4), date(2099, 1, 2)])
def test_a_day_that_is_no_session_is_named(day: date) -> None:
    """A holiday, a weekend, or a day before or after the calendar is refused by name."""
    with pytest.raises(ValueError, match=f"{day} is not a session of the calendar from 2005-01-03 to "):
        session_grid(table([("A", day, 1.0)]), series=("symbol",), room=0)


@pytest.mark.parametrize(
    "rows",
    [
        [("A", FRIDAY, 1.0), ("A", WEDNESDAY, 2.0)],
        [("A", FRIDAY, 1.0), ("A", FRIDAY, 2.0)],
    ],
    ids=["out of order", "twice"],
)
def test_rows_out_of_order_or_twice_are_refused(rows: list[tuple[str, date, float | None]]) -> None:
    """A table whose rows are not in order of date, or with a date twice, is refused."""
    with pytest.raises(ValueError, match="not sorted by symbol and session_date, or a date comes twice"):
        session_grid(table(rows), series=("symbol",), room=0)


def test_no_rows() -> None:
    """An empty table has an empty grid."""
    grid = session_grid(table([]), series=("symbol",), room=5)
    assert (grid.size, len(grid.positions)) == (0, 0)
