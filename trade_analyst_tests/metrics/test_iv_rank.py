"""IV rank and percentile: golden values, a second reckoning in plain Python, properties, edge cases."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trade_analyst_pipeline.market.columns import TIME
from trade_analyst_pipeline.market.sessions import sessions, sessions_ending
from trade_analyst_pipeline.metrics.iv_rank import INPUT_COLUMNS, SCHEMA, iv_rank

LAST = date(2025, 6, 30)

VIX_GOLDEN = [
    (date(2008, 10, 10), 16.30, 69.95, 100.0, 252, 100.0),
    (date(2017, 11, 3), 9.14, 22.51, 0.0, 0, 0.0),
    (date(2020, 12, 31), 12.10, 82.69, 15.0871, 68, 26.9841),
    (date(2024, 12, 31), 11.86, 38.57, 20.5541, 195, 77.3810),
    (date(2025, 4, 8), 11.86, 52.33, 100.0, 252, 100.0),
    (date(2026, 7, 23), 13.47, 31.05, 29.7497, 177, 70.2381),
]
VXAPL_GOLDEN = [
    (date(2013, 1, 28), 19.55, 48.77, 38.9459, 84, 33.3333),
    (date(2014, 6, 6), 17.96, 36.68, 34.1346, 101, 40.0794),
    (date(2020, 12, 31), 25.90, 101.69, 21.8630, 152, 60.3175),
]


def history(values: list[float | None], *, symbol: str = "X", last: date = LAST) -> pl.DataFrame:
    """One series with a value for each of the sessions that end with `last`."""
    days = sessions_ending(last, len(values))
    return pl.DataFrame(
        {"symbol": symbol, "series": "s", "session_date": days, "iv": values},
        schema={"symbol": pl.String, "series": pl.String, "session_date": pl.Date, "iv": pl.Float64},
    )


def published(path: Path, date_format: str) -> pl.DataFrame:
    """Closes of an index as published, in vol points."""
    rows = pl.read_csv(path, schema_overrides={"DATE": pl.String})
    return rows.select(
        pl.lit(path.stem).alias("symbol"),
        pl.lit("close").alias("series"),
        pl.col("DATE").str.to_date(date_format).alias("session_date"),
        pl.col("CLOSE").alias("iv"),
    )


def last_row(values: list[float | None], window: int = 252) -> dict[str, object]:
    """The row of the last session."""
    return iv_rank(history(values), windows=(window,)).row(-1, named=True)


@pytest.mark.parametrize(
    ("file", "date_format", "golden"),
    [("vix_daily.csv", "%Y-%m-%d", VIX_GOLDEN), ("vxapl_daily.csv", "%m/%d/%Y", VXAPL_GOLDEN)],
    ids=["VIX", "VXAPL"],
)
def test_published_index_gives_golden_values(
    market_samples: Path, file: str, date_format: str, golden: list[tuple[date, float, float, float, int, float]]
) -> None:
    """Rank, percentile and extremes of published indices are the golden ones, counted on the index's own days."""
    closes = published(market_samples / file, date_format)
    found = iv_rank(closes, windows=(252,), calendar=closes["session_date"].to_list())
    for day, lo, hi, rank, below, percentile in golden:
        row = found.row(by_predicate=pl.col("session_date") == day, named=True)
        assert (row["lo"], row["hi"], row["n_obs"], row["status"]) == (lo, hi, 252, "ok")
        assert row["iv_rank"] == pytest.approx(rank, abs=5e-5)
        assert row["iv_percentile"] == pytest.approx(percentile, abs=5e-5)
        assert row["iv_percentile"] == pytest.approx(100 * below / 252, abs=1e-12)


def test_days_the_exchange_was_closed_need_a_calendar(market_samples: Path) -> None:
    """Closes published on holidays of the exchange are refused unless the series' own calendar is given."""
    closes = published(market_samples / "vix_daily.csv", "%Y-%m-%d").filter(pl.col("session_date") >= date(2025, 1, 2))
    with pytest.raises(ValueError, match="2025-01-09 is not a session of the calendar"):
        iv_rank(closes)


def test_small_series_by_hand() -> None:
    """70 sessions at 10, 11, ..., 79 % and today at 30 %: 20 of 70 below, rank 19/68, and one tie counted half."""
    row = last_row([i / 100 for i in range(10, 80)] + [0.30], window=70)
    days = sessions_ending(LAST, 71)
    # lo and hi are over the 70 sessions ending today: 11 % is the lowest, 79 % the highest
    assert row["lo"] == pytest.approx(0.11)
    assert row["hi"] == pytest.approx(0.79)
    assert (row["lo_date"], row["hi_date"], row["first_date"]) == (days[1], days[69], days[0])
    assert row["iv_rank"] == pytest.approx(100 * 19 / 68)
    assert row["iv_percentile"] == pytest.approx(100 * 20 / 70)
    assert row["iv_percentile_mid"] == pytest.approx(100 * 20.5 / 70)
    assert (row["n_obs"], row["window_sessions"], row["status"]) == (70, 70, "ok")


def test_ties_count_half_in_the_mid_percentile_only() -> None:
    """With 40 lower, 20 equal and 40 higher prior sessions: 40 % strictly lower, 50 % with ties counted half."""
    row = last_row([0.1] * 40 + [0.2] * 20 + [0.3] * 40 + [0.2], window=100)
    assert (row["iv_percentile"], row["iv_percentile_mid"]) == (40.0, 50.0)


def test_latest_of_equal_extremes_is_dated() -> None:
    """Of several sessions at the lowest or highest value the latest is named."""
    row = last_row([0.1, 0.9] + [0.5] * 60 + [0.1, 0.9, 0.5], window=100)
    days = sessions_ending(LAST, 65)
    assert (row["lo_date"], row["hi_date"]) == (days[62], days[63])


@pytest.mark.parametrize(
    ("prior", "window", "status"),
    [
        (59, 252, "short"),
        (60, 252, "partial"),
        (226, 252, "partial"),
        (227, 252, "ok"),
        (63, 63, "ok"),
        (59, 63, "short"),
    ],
)
def test_minimum_history(prior: int, window: int, status: str) -> None:
    """Below 60 prior values nothing is given; below 0.9 W the values are marked partial."""
    row = last_row([0.2 + 0.001 * i for i in range(prior + 1)], window)
    assert (row["n_obs"], row["status"]) == (prior, status)
    assert (row["iv_rank"], row["iv_percentile"]) == ((None, None) if status == "short" else (100.0, 100.0))


def test_null_today_is_stale() -> None:
    """A session without a value has neither rank nor percentile, and says so; its window is still described."""
    row = last_row([0.2 + 0.001 * i for i in range(252)] + [None])
    assert (row["iv"], row["iv_rank"], row["iv_percentile"], row["iv_percentile_mid"]) == (None, None, None, None)
    assert (row["status"], row["n_obs"]) == ("stale", 252)


def test_nothing_but_nulls_has_no_extremes() -> None:
    """Where no session of the window has a value, neither extremes nor their dates are known."""
    row = last_row([None] * 70)
    assert (row["status"], row["n_obs"]) == ("stale", 0)
    assert [row[name] for name in ("lo", "hi", "lo_date", "hi_date", "first_date")] == [None] * 5


def test_missing_and_null_sessions_lower_n_and_are_not_filled() -> None:
    """A session absent from the table counts as a null one: the window does not reach further back for it."""
    values: list[float | None] = [0.1] * 10 + [0.2 + 0.001 * i for i in range(252)]
    with_null = list(values)
    with_null[100] = None
    absent = history(values).filter(pl.col("session_date") != history(values)["session_date"][100])
    for found in (iv_rank(history(with_null), windows=(252,)), iv_rank(absent, windows=(252,))):
        row = found.row(-1, named=True)
        assert (row["n_obs"], row["status"]) == (251, "ok")
        assert row["iv_percentile"] == 100.0


def test_constant_series_is_flat() -> None:
    """A constant series has no rank (status flat), percentile 0, and 50 with ties counted half."""
    row = last_row([0.25] * 253)
    assert (row["iv_rank"], row["iv_percentile"], row["iv_percentile_mid"]) == (None, 0.0, 50.0)
    assert row["status"] == "flat"


def test_strictly_increasing_series_is_at_the_top() -> None:
    """A strictly increasing series stands at rank 100 and percentile 100 in every window."""
    found = iv_rank(history([0.1 + 0.001 * i for i in range(300)])).filter(pl.col("status") == "ok")
    assert found["window_sessions"].unique().sort().to_list() == [63, 126, 252]
    assert found["iv_rank"].unique().to_list() == [100.0]
    assert found["iv_percentile"].unique().to_list() == [100.0]


def random_values(seed: int, count: int) -> list[float | None]:
    """A rounded random walk with ties and about one null in fifteen."""
    source = np.random.default_rng(seed)
    level, values = 0.3, []
    for _ in range(count):
        level *= math.exp(source.normal(0, 0.05))
        values.append(None if source.random() < 0.07 else round(level, 3))
    return values


def plain_reckoning(values: list[float | None], at: int, window: int) -> tuple[float | None, float | None, int]:
    """Rank, percentile and n of one session, written from the definitions without any table library."""
    today = values[at]
    prior = [value for value in values[max(0, at - window) : at] if value is not None]
    if today is None or len(prior) < 60:
        return None, None, len(prior)
    around = [value for value in values[max(0, at - window + 1) : at + 1] if value is not None]
    width = max(around) - min(around)
    rank = 100 * (today - min(around)) / width if width else None
    return rank, 100 * sum(value < today for value in prior) / len(prior), len(prior)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_plain_reckoning(seed: int) -> None:
    """Every row of two random series with holes equals a second, plain implementation, in all three windows."""
    series = {symbol: random_values(10 * seed + i, 400) for i, symbol in enumerate(("A", "B"))}
    found = iv_rank(pl.concat([history(values, symbol=symbol) for symbol, values in series.items()]))
    assert found.height == 2 * 3 * 400
    position = {day: i for i, day in enumerate(sessions_ending(LAST, 400))}
    for row in found.iter_rows(named=True):
        rank, percentile, n = plain_reckoning(
            series[row["symbol"]], position[row["session_date"]], row["window_sessions"]
        )
        assert row["n_obs"] == n
        assert row["iv_rank"] == (None if rank is None else pytest.approx(rank, abs=1e-9))
        assert row["iv_percentile"] == (None if percentile is None else pytest.approx(percentile, abs=1e-9))


def test_scale_does_not_matter() -> None:
    """Multiplying a series by a positive number changes neither rank nor percentile."""
    table = history(random_values(5, 350))
    plain, scaled = iv_rank(table), iv_rank(table.with_columns(pl.col("iv") * 8))
    assert scaled["iv_percentile"].equals(plain["iv_percentile"])
    assert (scaled["iv_rank"] - plain["iv_rank"]).abs().max() == pytest.approx(0, abs=1e-9)


def test_increasing_map_keeps_the_percentile() -> None:
    """Any increasing map of the values leaves both percentiles as they are."""
    table = history(random_values(6, 350))
    mapped = iv_rank(table.with_columns(pl.col("iv").exp()))
    for name in ("iv_percentile", "iv_percentile_mid"):
        assert mapped[name].equals(iv_rank(table)[name])


def test_future_rows_do_not_change_the_past() -> None:
    """Results up to a session are the same with and without later sessions."""
    table = history(random_values(7, 400))
    known = table.filter(pl.col("session_date") <= date(2025, 1, 15))
    found = iv_rank(table).filter(pl.col("session_date") <= date(2025, 1, 15))
    assert found.equals(iv_rank(known))


def test_order_of_rows_does_not_matter() -> None:
    """Shuffled input gives the same table."""
    table = pl.concat([history(random_values(i, 300), symbol=f"S{i}") for i in range(3)])
    assert iv_rank(table.sample(fraction=1, shuffle=True, seed=3)).equals(iv_rank(table))


def test_series_do_not_touch() -> None:
    """A series has the same rows alone as among others."""
    tables = [history(random_values(i, 300), symbol=f"S{i}") for i in range(3)]
    together = iv_rank(pl.concat(tables))
    assert together.filter(pl.col("symbol") == "S1").equals(iv_rank(tables[1]))


def test_long_windows_count_every_session() -> None:
    """Windows longer than 255 sessions: the highest of 600 is above all of them, and equal to all of a constant."""
    rising = last_row([0.1 + 0.0001 * i for i in range(601)], window=600)
    assert (rising["n_obs"], rising["iv_percentile"], rising["iv_percentile_mid"]) == (600, 100.0, 100.0)
    constant = last_row([0.25] * 601, window=600)
    assert (constant["n_obs"], constant["iv_percentile"], constant["iv_percentile_mid"]) == (600, 0.0, 50.0)


def test_a_window_has_the_same_rows_alone_as_among_others() -> None:
    """Asked for together, in any order and twice, windows have the rows each has alone."""
    table = history(random_values(9, 400))
    together = iv_rank(table, windows=(300, 63, 256, 255, 63))
    assert together["window_sessions"].unique().sort().to_list() == [63, 255, 256, 300]
    for window in (63, 255, 256, 300):
        assert together.filter(pl.col("window_sessions") == window).equals(iv_rank(table, windows=(window,)))


def test_large_tables_are_not_torn() -> None:
    """Of 70 series together, far more than is counted at once, each has the rows it has alone."""
    tables = [history(random_values(i, 300), symbol=f"S{i:02}") for i in range(70)]
    together = iv_rank(pl.concat(tables), windows=(252,))
    for number in range(2, 70, 3):
        alone = iv_rank(tables[number], windows=(252,))
        assert together.filter(pl.col("symbol") == f"S{number:02}").equals(alone)


def test_table_has_the_declared_shape() -> None:
    """Columns and types are the schema's, rows are in the order of its key, and no rule is broken."""
    found = iv_rank(history(random_values(8, 300)))
    assert found.schema == SCHEMA.polars_schema
    assert found.equals(found.sort(SCHEMA.key))
    for rule in SCHEMA.rules:
        assert found.select(rule.passes.fill_null(value=True).all()).item(), rule.name


def test_no_rows_give_an_empty_table() -> None:
    """An empty history gives an empty table of the same shape."""
    assert iv_rank(history([0.2]).clear()).equals(SCHEMA.empty())


def test_input_beyond_the_four_columns_is_ignored() -> None:
    """Further columns of the history, such as its snapshot time, do not disturb."""
    table = history([0.2, 0.3]).with_columns(pl.lit(None, dtype=TIME).alias("snapshot_time"))
    assert iv_rank(table).equals(iv_rank(table.select(INPUT_COLUMNS)))


@pytest.mark.parametrize("value", [0.0, -0.1, math.nan, math.inf])
def test_impossible_volatility_is_refused(value: float) -> None:
    """A volatility that is not above 0 and finite is an error, never a rank."""
    with pytest.raises(ValueError, match="needs an iv above 0 or null"):
        iv_rank(history([0.2, value]))


def test_a_date_twice_is_refused() -> None:
    """Two rows of one series on one session are an error."""
    with pytest.raises(ValueError, match="comes twice in a series"):
        iv_rank(pl.concat([history([0.2, 0.3]), history([0.25])]))


def test_a_missing_column_is_named() -> None:
    """A table without one of the four columns fails before anything is computed, naming the column."""
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="iv"):
        iv_rank(history([0.2]).drop("iv"))


def test_half_days_and_holidays_count_as_the_exchange_counts_them() -> None:
    """The window over Thanksgiving 2024 holds the half day of the 29th and not the holiday of the 28th."""
    days = sessions(date(2024, 11, 27), date(2024, 12, 2))
    assert days == [date(2024, 11, 27), date(2024, 11, 29), date(2024, 12, 2)]
    row = iv_rank(history([0.2] * 61 + [0.3], last=date(2024, 12, 2)), windows=(61,)).row(-1, named=True)
    assert (row["n_obs"], row["lo_date"]) == (61, date(2024, 11, 29))
