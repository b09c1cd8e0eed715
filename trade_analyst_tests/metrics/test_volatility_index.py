"""Published volatility indices: values, whose they are, what was known when, and which bars count."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from trade_analyst_pipeline.market.columns import TIME
from trade_analyst_pipeline.market.sessions import sessions_ending
from trade_analyst_pipeline.metrics.iv_rank import iv_rank
from trade_analyst_pipeline.metrics.volatility_index import INDICES, SCHEMA, volatility_index
from trade_analyst_pipeline.validation import validate

DAY = date(2025, 6, 30)
EVENING = datetime(2025, 6, 30, 21, tzinfo=UTC)


def bar(close: float | None, symbol: str = "$VIX", **other: object) -> dict[str, object]:
    """A daily bar of an index."""
    usual = {"frequency": "daily", "session_date": DAY, "is_complete": True, "known_time": EVENING}
    return {"symbol": symbol, "close": close} | usual | other


def series_of(*bars: dict[str, object]) -> pl.DataFrame:
    """The series made of these bars."""
    return volatility_index(pl.DataFrame(bars, schema_overrides={"known_time": TIME}))


@pytest.mark.parametrize(
    ("index", "close", "rows"),
    [
        ("$VIX", 18.7, [("$SPX", "index_vix", 0.187), ("SPY", "index_vix", 0.187)]),
        ("$RVX", 25.0, [("$RUT", "index_rvx", 0.25), ("IWM", "index_rvx", 0.25)]),
        ("$OVX", 41.5, [("USO", "index_ovx", 0.415)]),
        ("$SPX", 6000.0, []),
    ],
)
def test_an_index_is_a_series_of_what_it_is_about(index: str, close: float, rows: list[tuple[str, str, float]]) -> None:
    """Percent become a fraction, once for the index and the fund on it; the level of another index gives nothing."""
    found = series_of(bar(close, index))
    assert found.select("symbol", "series", "iv").rows() == rows
    assert set(found["status"]) <= {"published"}
    assert validate(found, SCHEMA).quarantined.is_empty()


@pytest.mark.parametrize(
    "other",
    [
        *({"frequency": "weekly"}, {"frequency": "minute"}, {"is_complete": False}, {"is_complete": None}),
        *({"close": 0.0}, {"close": None}, {"close": float("nan")}, {"close": float("inf")}, {"close": -18.7}),
    ],
)
def test_bars_that_do_not_count(other: dict[str, object]) -> None:
    """Other lengths, sessions still going on and closes that are no volatility give no row."""
    assert series_of(bar(18.7) | other, bar(30.0, "$VXN"))["series"].to_list() == ["index_vxn"] * 2


def test_the_bar_known_latest_wins() -> None:
    """A correction that came later stands, in any order of rows, and says when it came."""
    later = EVENING + timedelta(days=3)
    for bars in ([bar(18.7), bar(19.0, known_time=later)], [bar(19.0, known_time=later), bar(18.7)]):
        assert series_of(*bars).select("iv", "known_time").unique().rows() == [(0.19, later)]


def test_each_series_is_ranked_against_itself() -> None:
    """With a fund's own series beside it, an index that rises stands at 100 and the own one, which falls, at 0."""
    days = sessions_ending(DAY, 70)
    index = series_of(*(bar(10.0 + number, session_date=day) for number, day in enumerate(days)))
    columns = ("symbol", "series", "session_date", "iv")
    falling = [0.9 - 0.01 * number for number in range(70)]
    own = pl.DataFrame({"symbol": "SPY", "series": "atm30", "session_date": days, "iv": falling})
    ranks = iv_rank(pl.concat([index.select(columns), own]), windows=(63,)).filter(symbol="SPY", session_date=DAY)
    assert ranks.select("series", "iv_rank", "iv_percentile").rows() == [("atm30", 0, 0), ("index_vix", 100, 100)]


def test_no_symbol_gets_two_indices() -> None:
    """An underlying has one published series at most, so its name is enough to tell which."""
    symbols = [symbol for each in INDICES.values() for symbol in each]
    assert len(symbols) == len(set(symbols)) == 17
