"""Instants, forwards and truth."""

import math
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from visiting import BEFORE_CLOSE

from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.paths import dividend_schedule

FRIDAY = date(2025, 12, 12)


def at(text: str) -> datetime:
    """An instant written as UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("instant", "phase"),
    [
        ("2025-12-09T14:29:59", "pre"),
        ("2025-12-09T14:30:00", "open"),
        ("2025-12-09T20:59:59", "open"),
        ("2025-12-09T21:00:00", "post"),
        ("2025-11-28T17:59:00", "open"),
        ("2025-11-28T18:00:00", "post"),
        ("2025-12-06T16:00:00", "closed"),
        ("2025-11-27T16:00:00", "closed"),
        ("2025-12-10T03:00:00", "post"),
    ],
)
def test_an_instant_knows_where_it_stands(market: Market, instant: str, phase: str) -> None:
    """Phases follow New York hours, half days (28 November) and holidays (27 November) included."""
    assert market.moment("AAPL", at(instant)).phase == phase


def test_the_previous_close_rolls_over_with_the_date(market: Market) -> None:
    """In the evening the previous close is still yesterday's; after midnight New York it is today's."""
    monday, tuesday = market.daily_bars("AAPL", date(2025, 12, 8), date(2025, 12, 9))["close"].to_list()
    assert market.moment("AAPL", at("2025-12-10T02:00:00")).previous_close == monday
    assert market.moment("AAPL", at("2025-12-10T06:00:00")).previous_close == tuesday


def test_an_index_stands_still_after_its_close(market: Market) -> None:
    """At 16:10 the index is at its close, while a fund still trades near its own."""
    late = at("2025-12-09T21:10:00")
    close = {s: market.daily_bars(s, date(2025, 12, 9), date(2025, 12, 9))["close"][0] for s in ("$SPX", "SPY")}
    assert market.price("$SPX", late) == close["$SPX"]
    assert market.price("SPY", late) == pytest.approx(close["SPY"], rel=0.002)


def test_outside_its_life_the_market_says_so(market: Market) -> None:
    """Before the epoch an instant is refused with the market's life in the message."""
    with pytest.raises(ValueError, match="lives from 2021-01-04"):
        market.moment("AAPL", at("2020-12-31T15:00:00"))


def test_clocks_run_to_their_ends(market: Market) -> None:
    """Two days before 16:00 on expiry the true clock shows 2.0 days, the vendor's 2.67; AM ends at 09:30."""
    two_days_before = at("2025-12-10T21:00:00")
    assert market.years(two_days_before, FRIDAY) * 365.0 == pytest.approx(2.0, abs=1e-9)
    assert market.vendor_clock_years(two_days_before, FRIDAY) * 365.0 == pytest.approx(2.0 + 16 / 24, abs=1e-9)
    assert market.years(two_days_before, FRIDAY, "A") * 365.0 == pytest.approx(2.0 - 6.5 / 24, abs=1e-9)


def test_the_true_clock_ends_early_on_half_days(market: Market) -> None:
    """Options expiring on 28 November 2025 end at 13:00 New York, 18:00 UTC."""
    assert market.years(at("2025-11-28T17:00:00"), date(2025, 11, 28)) * 365.0 * 24.0 == pytest.approx(1.0)


def test_the_forward_carries_rate_and_dividends(market: Market) -> None:
    """Without dividends F = S exp(rT); with one before expiry F drops by it, grown at the rate; worked by hand."""
    years = market.years(BEFORE_CLOSE, FRIDAY)
    amazon = market.moment("AMZN", BEFORE_CLOSE)
    assert market.forward("AMZN", BEFORE_CLOSE, FRIDAY) == pytest.approx(amazon.spot * math.exp(amazon.rate * years))
    apple = market.moment("AAPL", BEFORE_CLOSE)
    schedule = dividend_schedule(market.seed, apple.instrument)
    paid = next(item for item in schedule if item.ex_date > date(2025, 12, 9))
    expiration = date(2026, 3, 20)
    assert paid.ex_date < expiration
    wait = (paid.ex_date - date(2025, 12, 9)).days / 365.0
    years = market.years(BEFORE_CLOSE, expiration)
    expected = (apple.spot - paid.amount * math.exp(-apple.rate * wait)) * math.exp(apple.rate * years)
    assert market.forward("AAPL", BEFORE_CLOSE, expiration) == pytest.approx(expected, rel=1e-12)


def test_true_volatility_is_known_for_every_strike(market: Market) -> None:
    """Puts below the forward are dearer in volatility than calls above it; at the forward it is the ATM one."""
    forward = market.forward("$SPX", BEFORE_CLOSE, date(2026, 1, 16))
    low, middle, high = (
        market.true_volatility("$SPX", BEFORE_CLOSE, date(2026, 1, 16), forward * part) for part in (0.93, 1.0, 1.03)
    )
    assert low > middle > high
    assert middle == pytest.approx(market.true_atm_volatility("$SPX", BEFORE_CLOSE, date(2026, 1, 16)), rel=1e-12)
    assert 0.05 < middle < 0.6


def test_constant_maturity_truth_on_the_vendor_clock(market: Market) -> None:
    """At 08:00 New York, 30 days before the end of 9 January for the vendor, it is that expiration in vendor terms."""
    instant, expiration = at("2025-12-11T13:00:00"), date(2026, 1, 9)
    assert market.vendor_clock_years(instant, expiration) * 365.0 == pytest.approx(30.0, abs=1e-9)
    true, years = market.true_atm_volatility("AAPL", instant, expiration), market.years(instant, expiration)
    expected = true * math.sqrt(years / (30.0 / 365.0))
    assert market.true_vendor_clock_volatility("AAPL", instant, 30.0) == pytest.approx(expected, rel=1e-9)


def test_an_expired_contract_has_no_volatility(market: Market) -> None:
    """After its end the truth is NaN, not a number."""
    assert math.isnan(market.true_volatility("AAPL", at("2025-12-12T21:00:01"), FRIDAY, 200.0))


def test_volatility_is_continuous_through_the_session(market: Market) -> None:
    """From minute to minute the at-the-money volatility of a month ahead moves by less than 0.3 points."""
    values = [
        market.true_atm_volatility("TSLA", at("2025-12-09T14:30:00") + timedelta(minutes=step), date(2026, 1, 9))
        for step in range(0, 390, 5)
    ]
    assert max(abs(a - b) for a, b in pairwise(values)) < 0.003


@pytest.mark.parametrize(
    ("index", "underlying"), [("$VIX", "$SPX"), ("$VXN", "$NDX"), ("$RVX", "$RUT"), ("$VXD", "$DJI")]
)
def test_a_volatility_index_follows_its_index(market: Market, index: str, underlying: str) -> None:
    """$VIX is 105 % of the 30-day volatility of $SPX at its close, in points; so are the others of theirs."""
    day, close = date(2025, 12, 9), at("2025-12-09T21:00:00")
    shown = market.daily_bars(index, day, day)["close"][0]
    truth = market.true_atm_volatility(underlying, close, date(2026, 1, 8))
    assert shown == pytest.approx(105.0 * truth, rel=0.01)


def test_bars_of_a_day_without_session_are_empty(market: Market) -> None:
    """A weekend has no daily bars, October 2025 has 23."""
    assert market.daily_bars("AAPL", date(2025, 12, 6), date(2025, 12, 7)).height == 0
    assert market.daily_bars("AAPL", date(2025, 10, 1), date(2025, 10, 31)).height == 23
