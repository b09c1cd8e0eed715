"""Which options are listed."""

from datetime import date, timedelta

import numpy as np
import pytest

from trade_analyst_pipeline.market.sessions import is_session, sessions
from trade_analyst_pipeline.simulator.instruments import INSTRUMENTS
from trade_analyst_pipeline.simulator.listing import Expiration, expirations, strikes, third_friday
from trade_analyst_pipeline.simulator.market import Market

TUESDAY = date(2025, 12, 9)


def dates(symbol: str, day: date = TUESDAY) -> list[date]:
    """Expiration dates of a symbol."""
    return [item.expiration_date for item in expirations(INSTRUMENTS[symbol], day)]


def test_stocks_expire_on_the_next_eight_fridays() -> None:
    """From Tuesday 9 December 2025 eight Fridays; the one on 26 December is a session."""
    fridays = [
        "2025-12-12",
        "2025-12-19",
        "2025-12-26",
        "2026-01-02",
        "2026-01-09",
        "2026-01-16",
        "2026-01-23",
        "2026-01-30",
    ]
    assert [day.isoformat() for day in dates("AAPL")[:8]] == fridays


@pytest.mark.parametrize("offset", range(0, 250, 7))
def test_stocks_always_have_eight_expirations_within_sixty_days(offset: int) -> None:
    """On any session at least eight expirations lie within 60 calendar days."""
    day = sessions(date(2025, 1, 2), date(2025, 12, 31))[offset]
    assert len([when for when in dates("AAPL", day) if (when - day).days <= 60]) >= 8


def test_an_expiration_on_a_holiday_moves_to_the_session_before() -> None:
    """Good Friday 2025 was 18 April: the monthly expires on Thursday the 17th. Juneteenth 2026 is a third Friday."""
    assert third_friday(2025, 4) == date(2025, 4, 17)
    assert third_friday(2026, 6) == date(2026, 6, 18)
    assert third_friday(2025, 12) == date(2025, 12, 19)
    assert date(2025, 4, 17) in dates("AAPL", date(2025, 4, 1))
    assert date(2025, 4, 18) not in dates("AAPL", date(2025, 4, 1))


@pytest.mark.parametrize("symbol", ["AAPL", "SPY", "$SPX"])
def test_all_expirations_are_sessions_and_ascend(symbol: str) -> None:
    """No expiration lies on a day without trading or in the past, and long-dated ones reach over a year ahead."""
    for day in (TUESDAY, date(2025, 11, 26), date(2025, 7, 20)):
        found = dates(symbol, day)
        assert all(is_session(when) for when in found)
        assert found == sorted(found)
        assert found[0] >= day
        assert found[-1] > day + timedelta(days=400)


def test_funds_expire_daily_then_three_times_a_week() -> None:
    """SPY has each of the next ten sessions; from the fourth week on Mondays, Wednesdays and Fridays only."""
    found = dates("SPY")
    assert set(sessions(TUESDAY, date(2025, 12, 22))) <= set(found)
    later = [when for when in found if date(2026, 1, 5) <= when <= date(2026, 1, 16)]
    assert [when.isoformat()[5:] for when in later] == ["01-05", "01-07", "01-09", "01-12", "01-14", "01-16"]


def test_the_index_has_two_settlements_on_third_fridays() -> None:
    """SPXW expires every weekday in the afternoon, SPX on the third Friday in the morning, both on that date."""
    found = expirations(INSTRUMENTS["$SPX"], TUESDAY)
    on_third = [item for item in found if item.expiration_date == date(2025, 12, 19)]
    assert [(item.root, item.settlement) for item in on_third] == [("SPX", "A"), ("SPXW", "P")]
    afternoon = {item.expiration_date for item in found if item.root == "SPXW"}
    assert set(sessions(TUESDAY, date(2026, 1, 9))) <= afternoon
    assert all(item.settlement == "P" for item in found if item.root == "SPXW")


def test_kinds_of_expirations_are_those_of_the_wire() -> None:
    """Third Fridays are S, quarter ends of funds Q, the end of this month M or Q, all else W."""
    kinds = {item.expiration_date.isoformat(): item.kind for item in expirations(INSTRUMENTS["SPY"], date(2025, 7, 21))}
    assert kinds["2025-07-31"] == "M"
    assert kinds["2025-08-15"] == "S"
    assert kinds["2025-09-30"] == "Q"
    assert kinds["2025-07-21"] == "W"


def test_nothing_is_listed_on_an_index_without_options() -> None:
    """$VIX and $DJI have none here."""
    assert dates("$VIX") == dates("$DJI") == []


@pytest.mark.parametrize("symbol", ["AAPL", "NVDA", "TSLA", "BRK/B", "SPY"])
def test_strikes_once_listed_stay(market: Market, symbol: str) -> None:
    """While an expiration lives its strikes only become more, and they surround the price."""
    item = Expiration(date(2025, 12, 19), symbol.replace("/", ""), "P", "S")
    path, before = market.path(symbol), set[float]()
    for day in sessions(date(2025, 10, 1), date(2025, 12, 19)):
        row = strikes(path, item, day)
        assert before <= set(row.tolist())
        assert (np.diff(row) > 0.0).all()
        before = set(row.tolist())
        spot = market.daily_bars(symbol, day, day)["close"][0]
        assert (row < spot).sum() >= 10
        assert (row > spot).sum() >= 10


@pytest.mark.parametrize("day", [date(2022, 6, 15), date(2024, 3, 4), TUESDAY, date(2026, 11, 20)])
def test_the_index_chain_is_large(market: Market, day: date) -> None:
    """$SPX has 15,000 to 20,500 contracts, whatever the level of the index."""
    path = market.path("$SPX")
    count = sum(2 * len(strikes(path, item, day)) for item in expirations(path.instrument, day))
    assert 15_000 <= count <= 20_500
