"""Realised volatility: the golden window, estimators by hand, history of knowledge, edge cases."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from trade_analyst_pipeline.market.sessions import sessions, sessions_ending
from trade_analyst_pipeline.metrics.realized_volatility import ESTIMATORS, SCHEMA, realized_volatility

LAST = date(2025, 6, 30)
KNOWN = datetime(2025, 7, 1, tzinfo=UTC)

# SPY, 21 returns to 2013-10-11
SPY_GOLDEN = (
    0.1318608840239668,
    0.1288054344144203,
    0.0867088948322583,
    0.0802202984160217,
    0.0757274813501054,
    0.1111664343052948,
)
# its 22 bars
SPY_FIRST, SPY_LAST = date(2013, 9, 12), date(2013, 10, 11)

Prices = tuple[float, float, float, float]


def bars(
    prices: list[Prices], *, last: date = LAST, symbol: str = "X", known: datetime = KNOWN, frequency: str = "daily"
) -> pl.DataFrame:
    """Bars of the sessions that end with `last`."""
    days = sessions_ending(last, len(prices))
    opened, high, low, close = zip(*prices, strict=True)
    columns = {"symbol": symbol, "frequency": frequency, "session_date": days, "known_time": known}
    return pl.DataFrame(columns | {"open": opened, "high": high, "low": low, "close": close}).with_columns(
        pl.col("known_time").cast(pl.Datetime("us", "UTC"))
    )


def flat_bars(closes: list[float]) -> list[Prices]:
    """Bars without any range."""
    return [(close, close, close, close) for close in closes]


def row_of(table: pl.DataFrame, day: date, window: int) -> dict[str, float]:
    """The row of a session and window."""
    return table.row(by_predicate=(pl.col("session_date") == day) & (pl.col("window_sessions") == window), named=True)


def test_golden_window_of_spy(market_samples: Path) -> None:
    """All six estimators over 21 returns of SPY to 2013-10-11 are the golden ones within 1e-9."""
    spy = pl.read_parquet(market_samples / "ohlcv_spy_daily.parquet").select(
        pl.lit("SPY").alias("symbol"),
        pl.lit("daily").alias("frequency"),
        pl.col("date").alias("session_date"),
        *("open", "high", "low", "close"),
        pl.lit(KNOWN).alias("known_time"),
    )
    row = row_of(realized_volatility(spy), SPY_LAST, 21)
    assert [row[name] for name in ESTIMATORS] == pytest.approx(SPY_GOLDEN, abs=1e-9)
    assert (row["n_obs"], row["status"]) == (21, "ok")
    only_what_is_needed = spy.filter(pl.col("session_date").is_between(SPY_FIRST, SPY_LAST))
    assert row_of(realized_volatility(only_what_is_needed), SPY_LAST, 21) == row


def test_close_to_close_by_hand() -> None:
    """Closes 100, 110, 100, 110 ...: ten returns of ± ln 1.1 have mean 0, and 10/9 of the mean square as variance."""
    closes = [100.0 if i % 2 == 0 else 110.0 for i in range(11)]
    row = row_of(realized_volatility(bars(flat_bars(closes)), windows=(10,)), LAST, 10)
    step = math.log(1.1)
    assert row["zero_mean_volatility"] == pytest.approx(math.sqrt(252) * step)
    assert row["close_to_close_volatility"] == pytest.approx(math.sqrt(252 * 10 / 9) * step)


def test_range_estimators_by_hand() -> None:
    """A bar that opens and closes at 100 between 98 and 103, repeated: every range estimator has a closed form."""
    row = row_of(realized_volatility(bars([(100.0, 103.0, 98.0, 100.0)] * 11), windows=(10,)), LAST, 10)
    up, down, spread = math.log(1.03), math.log(0.98), math.log(103 / 98)
    assert row["close_to_close_volatility"] == 0.0
    assert row["parkinson_volatility"] == pytest.approx(math.sqrt(252 * spread**2 / (4 * math.log(2))))
    assert row["garman_klass_volatility"] == pytest.approx(math.sqrt(252 * 0.5) * spread)
    assert row["rogers_satchell_volatility"] == pytest.approx(math.sqrt(252 * (up**2 + down**2)))
    # nothing overnight and no change from open to close: the weight of Rogers-Satchell is all that is left
    weight = 1 - 0.34 / (1.34 + 11 / 9)
    assert row["yang_zhang_volatility"] == pytest.approx(math.sqrt(252 * weight * (up**2 + down**2)))


def test_yang_zhang_sees_the_overnight_move() -> None:
    """With moves only overnight the range estimators are 0 and Yang-Zhang equals close to close."""
    closes = [100.0 * math.exp(0.01 * (i % 3)) for i in range(12)]
    row = row_of(realized_volatility(bars(flat_bars(closes)), windows=(11,)), LAST, 11)
    assert row["parkinson_volatility"] == row["rogers_satchell_volatility"] == 0.0
    assert row["yang_zhang_volatility"] == pytest.approx(row["close_to_close_volatility"])


def test_a_window_needs_all_its_returns() -> None:
    """With 10 bars there are 9 returns: a window of 10 is null and short, one of 9 is not."""
    table = realized_volatility(bars(flat_bars([100.0 + i for i in range(10)])), windows=(9, 10))
    assert (row_of(table, LAST, 9)["status"], row_of(table, LAST, 9)["n_obs"]) == ("ok", 9)
    short = row_of(table, LAST, 10)
    assert (short["status"], short["n_obs"]) == ("short", 9)
    assert [short[name] for name in ESTIMATORS] == [None] * 6


@pytest.mark.parametrize("field", ["open", "high", "low", "close"])
@pytest.mark.parametrize("value", [None, 0.0, -1.0, math.nan])
def test_a_bar_without_a_price_breaks_the_window(field: str, value: float | None) -> None:
    """A null, zero, negative or NaN price makes the windows over it null, never a number."""
    table = bars([(100.0, 103.0, 98.0, 100.0)] * 20)
    hurt = table.with_columns(
        pl.when(pl.col("session_date") == table["session_date"][10])
        .then(pl.lit(value, dtype=pl.Float64))
        .otherwise(pl.col(field))
        .alias(field)
    )
    found = realized_volatility(hurt, windows=(5,))
    states = dict(zip(found["session_date"], found["status"], strict=True))
    broken = {day for day, status in states.items() if status == "short"} - set(table["session_date"][:5])
    reach = 5 if field != "close" else 6  # a close is also the base of the next return
    assert broken == set(table["session_date"][10 : 10 + reach])
    assert found.filter(pl.col("status") == "short")["yang_zhang_volatility"].null_count() == len(broken) + 5


def test_a_missing_session_is_not_bridged() -> None:
    """No return is formed across a session that has no bar."""
    table = bars([(100.0, 103.0, 98.0, 100.0)] * 20)
    holed = table.filter(pl.col("session_date") != table["session_date"][10])
    found = realized_volatility(holed, windows=(5,))
    assert row_of(found, table["session_date"][11], 5)["n_obs"] == 3
    assert row_of(found, table["session_date"][16], 5)["status"] == "ok"


def test_latest_known_bar_wins() -> None:
    """Of two versions of a bar the later known is used, and the earlier one as of a time before it was known."""
    first = bars(flat_bars([100.0 + i for i in range(6)]), known=datetime(2025, 7, 1, tzinfo=UTC))
    corrected = bars(flat_bars([200.0]), known=datetime(2025, 7, 2, tzinfo=UTC))
    both = pl.concat([corrected, first])
    now = realized_volatility(both, windows=(5,))
    before = realized_volatility(both, windows=(5,), as_of=datetime(2025, 7, 1, 12, tzinfo=UTC))
    assert before.equals(realized_volatility(first, windows=(5,)))
    last_return = math.log(200 / 104)
    assert row_of(now, LAST, 5)["zero_mean_volatility"] == pytest.approx(
        math.sqrt(252 / 5 * (last_return**2 + sum(math.log((101 + i) / (100 + i)) ** 2 for i in range(4))))
    )


def test_only_daily_bars_on_sessions_count() -> None:
    """Minute bars and bars dated on a holiday or before the calendar take no part."""
    daily = bars(flat_bars([100.0 + i for i in range(6)]))
    strangers = [
        bars(flat_bars([500.0]), frequency="minute", known=datetime(2025, 7, 2, tzinfo=UTC)),
        bars(flat_bars([500.0])).with_columns(pl.lit(date(2025, 6, 19)).alias("session_date")),
        bars(flat_bars([500.0])).with_columns(pl.lit(date(1999, 3, 1)).alias("session_date")),
    ]
    found = realized_volatility(pl.concat([daily, *strangers]), windows=(5,))
    assert found.equals(realized_volatility(daily, windows=(5,)))
    assert row_of(found, LAST, 5)["status"] == "ok"


def test_value_does_not_depend_on_how_long_the_history_is() -> None:
    """The same window gives the same bits whether the table begins with it or long before."""
    closes = [100 * math.exp(0.013 * math.sin(i * i)) for i in range(300)]
    table = bars(flat_bars(closes))
    whole = row_of(realized_volatility(table, windows=(21,)), LAST, 21)
    assert row_of(realized_volatility(table.tail(22), windows=(21,)), LAST, 21) == whole


def test_symbols_do_not_touch() -> None:
    """A symbol has the same rows alone as among others, whatever the order of rows."""
    tables = [bars(flat_bars([100 + i * k % 7 for i in range(40)]), symbol=f"S{k}") for k in (1, 2, 3)]
    together = realized_volatility(pl.concat(tables).sample(fraction=1, shuffle=True, seed=1))
    assert together.filter(pl.col("symbol") == "S2").equals(realized_volatility(tables[1]))


def test_realized_volatility_has_the_declared_shape() -> None:
    """One row per symbol, window and session in key order, with the schema's columns and types."""
    found = realized_volatility(bars([(100.0, 103.0, 98.0, 101.0)] * 30))
    assert found.schema == SCHEMA.polars_schema
    assert found.height == 4 * 30
    assert found.equals(found.sort(SCHEMA.key))
    for rule in SCHEMA.rules:
        assert found.select(rule.passes.fill_null(value=True).all()).item(), rule.name


def test_no_bars_give_an_empty_table() -> None:
    """Without daily bars the table is empty."""
    assert realized_volatility(bars(flat_bars([100.0])).clear()).equals(SCHEMA.empty())


def test_window_of_one_is_refused() -> None:
    """A sample deviation needs two returns."""
    with pytest.raises(ValueError, match="windows of 2 sessions or more"):
        realized_volatility(bars(flat_bars([100.0, 101.0])), windows=(1,))


def test_half_day_is_a_session_like_any_other() -> None:
    """Five sessions around Thanksgiving 2024, with its half day and without the holiday, make four returns."""
    assert len(sessions(date(2024, 11, 25), date(2024, 12, 2))) == 5
    table = realized_volatility(bars(flat_bars([100.0 + i for i in range(5)]), last=date(2024, 12, 2)), windows=(4,))
    assert row_of(table, date(2024, 12, 2), 4)["status"] == "ok"
