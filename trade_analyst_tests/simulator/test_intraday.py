"""Minutes that agree with their session."""

from datetime import date

import numpy as np
import pytest

from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.paths import calendar

DAYS = [date(2021, 1, 4), date(2024, 7, 3), date(2025, 4, 9), date(2025, 12, 9), date(2026, 11, 27)]


@pytest.mark.parametrize("day", DAYS)
@pytest.mark.parametrize("symbol", ["AAPL", "NVDA", "$SPX", "BRK/B"])
def test_minute_bars_make_up_the_daily_bar(market: Market, symbol: str, day: date) -> None:
    """First open, highest high, lowest low, last close and summed volume are the session's, half days included."""
    daily = market.daily_bars(symbol, day, day).row(0, named=True)
    bars = market.minute_bars(symbol, day)
    assert bars.height == calendar().minutes(calendar().index_of(day))
    assert bars["open"][0] == daily["open"]
    assert bars["high"].max() == daily["high"]
    assert bars["low"].min() == daily["low"]
    assert bars["close"][-1] == daily["close"]
    assert bars["volume"].sum() == daily["volume"]


@pytest.mark.parametrize("symbol", ["AAPL", "$SPX"])
def test_bars_are_well_formed(market: Market, symbol: str) -> None:
    """Low <= open, close <= high; each minute opens where the last one closed; volumes are not negative."""
    bars = market.minute_bars(symbol, date(2025, 12, 9))
    top = bars.select(low="low", inner="open", close="close", high="high").to_numpy()
    assert (top[:, 0] <= top[:, 1:3].min(axis=1)).all()
    assert (top[:, 3] >= top[:, 1:3].max(axis=1)).all()
    assert bars["open"][1:].to_list() == bars["close"][:-1].to_list()
    assert bars["volume"].min() >= 0
    assert bars["low"].min() > 0.0


def test_daily_bars_are_well_formed_over_years(market: Market) -> None:
    """Over all sessions of 2025 the high is the highest and the low the lowest of the four prices."""
    bars = market.daily_bars("TSLA", date(2025, 1, 1), date(2025, 12, 31))
    assert bars.height == 250
    assert (bars["high"] >= bars.select("open", "close").max_horizontal()).all()
    assert (bars["low"] <= bars.select("open", "close").min_horizontal()).all()


def test_the_price_runs_through_its_bars(market: Market) -> None:
    """At a bar's start the price is its open, inside it between its low and high, at the close the session's close."""
    intraday, index = market.intraday("AAPL"), calendar().index_of(date(2025, 12, 9))
    bars = intraday.bars(index)
    for minute in (0, 17, 200, 389):
        assert intraday.price(index, minute) == bars.opens[minute]
        assert bars.lows[minute] <= intraday.price(index, minute + 0.4) <= bars.highs[minute]
    assert intraday.price(index, 390.0) == bars.closes[-1]


def test_range_and_volume_only_grow(market: Market) -> None:
    """High, low and volume so far are monotone through the session and end at the session's."""
    intraday, index = market.intraday("AAPL"), calendar().index_of(date(2025, 12, 9))
    steps = [0.0, 0.5, 1.0, 10.0, 100.3, 389.5, 390.0]
    ranges = [intraday.range_until(index, minute) for minute in steps]
    volumes = [intraday.volume_until(index, minute) for minute in steps]
    assert [high for high, _ in ranges] == sorted(high for high, _ in ranges)
    assert [low for _, low in ranges] == sorted((low for _, low in ranges), reverse=True)
    assert volumes == sorted(volumes)
    assert volumes[0] == 0
    assert volumes[-1] == int(market.path("AAPL").volumes[index])


def test_volume_is_heavy_at_open_and_close(market: Market) -> None:
    """The first and last half hour trade more than the half hours around noon."""
    volumes = market.intraday("AAPL").bars(calendar().index_of(date(2025, 12, 9))).volumes
    noon = volumes[165:225].sum() / 2
    assert volumes[:30].sum() > 1.5 * noon
    assert volumes[-30:].sum() > 1.2 * noon


def test_extended_hours_are_thin_and_join_the_session(market: Market) -> None:
    """Before 09:30 and after 16:00 some minutes are missing, and the last early price is near the open."""
    index = calendar().index_of(date(2025, 12, 9))
    early, late = market.intraday("AAPL").night_bars(index)
    assert 200 < len(early.starts) < 330
    assert 150 < len(late.starts) < 240
    assert early.starts.max() < calendar().opens[index]
    assert late.starts.min() >= calendar().closes[index]
    assert early.closes[-1] == pytest.approx(market.path("AAPL").opens[index], rel=0.003)
    assert np.all(early.volumes > 0)
