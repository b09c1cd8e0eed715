"""The daily life of instruments."""

from datetime import date

import numpy as np
import pytest
from visiting import SEED

from trade_analyst_pipeline.simulator.instruments import INSTRUMENTS
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.paths import calendar, dividend_schedule, draw_path, rate


def test_a_path_depends_on_seed_and_symbol_only() -> None:
    """Drawn again after other paths it is the same; another seed gives another one."""
    first = draw_path(3, INSTRUMENTS["AAPL"])
    draw_path(3, INSTRUMENTS["TSLA"])
    again = draw_path(3, INSTRUMENTS["AAPL"])
    assert np.array_equal(first.closes, again.closes)
    assert np.array_equal(first.volatilities, again.volatilities)
    assert not np.array_equal(first.closes, draw_path(4, INSTRUMENTS["AAPL"]).closes)


def test_sessions_follow_the_exchange() -> None:
    """Thanksgiving is no session, the day after is a half day of 210 minutes, and a normal day has 390."""
    table = calendar()
    assert date(2025, 11, 27) not in table.days
    assert table.minutes(table.index_of(date(2025, 11, 28))) == 210
    assert table.minutes(table.index_of(date(2025, 12, 9))) == 390


def test_a_day_without_session_is_refused() -> None:
    """Asking for a Saturday by name says so."""
    with pytest.raises(ValueError, match="2025-12-06 is no session"):
        calendar().index_of(date(2025, 12, 6))


@pytest.mark.parametrize("symbol", ["AAPL", "SPY", "$SPX", "TSLA"])
def test_volatility_moves_over_its_range_within_a_year(market: Market, symbol: str) -> None:
    """In every calendar year the highest volatility is at least half as high again as the lowest."""
    years = np.array([day.year for day in calendar().days])
    volatilities = market.path(symbol).volatilities
    for year in range(2021, 2028):
        of_year = volatilities[years == year]
        assert of_year.max() > 1.5 * of_year.min()


def test_volatility_rises_when_prices_fall(market: Market) -> None:
    """Daily returns and changes of log volatility are clearly negatively correlated."""
    path = market.path("SPY")
    returns = np.log(path.closes / path.previous_closes)
    changes = np.log(path.volatilities / path.previous_volatilities)
    assert np.corrcoef(returns, changes)[0, 1] < -0.4


def test_the_index_and_its_fund_move_together(market: Market) -> None:
    """Returns of $SPX and SPY are correlated above 0.95; those of a stock with them above 0.4."""
    returns = {
        symbol: np.log(market.path(symbol).closes / market.path(symbol).previous_closes)
        for symbol in ("$SPX", "SPY", "AAPL")
    }
    assert np.corrcoef(returns["$SPX"], returns["SPY"])[0, 1] > 0.95
    assert np.corrcoef(returns["$SPX"], returns["AAPL"])[0, 1] > 0.4


def test_prices_are_positive_cents(market: Market) -> None:
    """Every open and close is a positive whole number of cents, and overnight gaps exist."""
    for symbol in INSTRUMENTS:
        path = market.path(symbol)
        assert path.closes.min() > 0.0
        assert np.abs(path.closes * 100.0 - np.rint(path.closes * 100.0)).max() < 1e-6
        assert (path.opens != path.previous_closes).mean() > 0.9 or INSTRUMENTS[symbol].kind in {"fund", "forex"}


def test_payers_pay_four_times_a_year() -> None:
    """Apple has 40 payments from 2021 to 2030, three months apart, on sessions; Amazon and the index have none."""
    paid = dividend_schedule(SEED, INSTRUMENTS["AAPL"])
    assert len(paid) == 40
    assert [item.ex_date.month for item in paid[:4]] == [2, 5, 8, 11]
    assert all(item.ex_date in calendar().days for item in paid)
    assert all(item.amount > 0.0 for item in paid)
    assert dividend_schedule(SEED, INSTRUMENTS["AMZN"]) == ()
    assert dividend_schedule(SEED, INSTRUMENTS["$SPX"]) == ()


def test_rates_are_those_of_the_years() -> None:
    """Near zero in 2021, above 4.5 % in late 2023, and never negative."""
    table = calendar()
    assert rate(SEED, table.index_of(date(2021, 6, 1))) < 0.005
    assert rate(SEED, table.index_of(date(2023, 11, 1))) > 0.045
    assert min(rate(SEED, index) for index in range(len(table.days))) > 0.0
