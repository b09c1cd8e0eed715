"""Whole chains: values, quotes, volume and open interest."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from visiting import BEFORE_CLOSE

from trade_analyst_pipeline.simulator.contracts import Board, Selection, evaluate, everything_listed
from trade_analyst_pipeline.simulator.market import Market

SYMBOLS = ["AAPL", "BRK/B", "SPY", "$SPX"]
OPENED = datetime(2025, 12, 9, 14, 30, tzinfo=UTC)


def board_of(market: Market, symbol: str, instant: datetime = BEFORE_CLOSE) -> Board:
    """All listed contracts at an instant."""
    moment = market.moment(symbol, instant)
    return evaluate(market, moment, everything_listed(market, moment))


def test_contracts_are_reproducible(market: Market) -> None:
    """Another market of the same seed shows the same contracts; one of another seed does not."""
    frame = market.contracts("AAPL", BEFORE_CLOSE)
    assert_frame_equal(Market(market.seed).contracts("AAPL", BEFORE_CLOSE), frame, check_exact=True)
    assert not Market(market.seed + 1).contracts("AAPL", BEFORE_CLOSE).equals(frame)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_a_part_of_a_chain_has_the_numbers_of_the_whole(market: Market, symbol: str) -> None:
    """Asking for some strikes of one expiration changes none of their numbers."""
    whole, moment = board_of(market, symbol), market.moment(symbol, BEFORE_CLOSE)
    place = 4
    row = whole.selection.strikes[place]
    part = evaluate(market, moment, Selection((whole.selection.expirations[place],), (row[10:15],)))
    start = sum(whole.selection.counts[:place]) + 10
    columns = slice(start, start + 5)
    assert np.array_equal(part.value, whole.value[:, columns])
    assert np.array_equal(part.quotes.bid, whole.quotes.bid[:, columns])
    assert np.array_equal(part.quotes.ask_size, whole.quotes.ask_size[:, columns])
    assert np.array_equal(part.activity.volume, whole.activity.volume[:, columns])
    assert np.array_equal(part.activity.open_interest, whole.activity.open_interest[:, columns])
    assert np.array_equal(part.trades.last, whole.trades.last[:, columns])
    assert np.array_equal(part.volatility, whole.volatility[:, columns])


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_values_stand_inside_their_quotes(market: Market, symbol: str) -> None:
    """In hours bid <= value <= ask, bid < ask, ask above zero, and no price is negative."""
    board = board_of(market, symbol)
    assert (board.quotes.bid / 100.0 <= board.value + 1e-9).all()
    assert (board.quotes.ask / 100.0 >= board.value - 1e-9).all()
    assert (board.quotes.bid < board.quotes.ask).all()
    assert board.quotes.bid.min() == 0
    assert board.value.min() >= 0.0


@pytest.mark.parametrize(("symbol", "is_american"), [("AMZN", True), ("$SPX", False)])
def test_parity_and_bounds_hold(market: Market, symbol: str, is_american: bool) -> None:
    """European values obey parity with the forward; American ones are never below intrinsic."""
    board, moment = board_of(market, symbol), market.moment(symbol, BEFORE_CLOSE)
    alive = board.years > 1e-6
    discount = np.exp(-moment.rate * board.years)
    if is_american:
        assert (board.value >= np.maximum(board.intrinsic, 0.0) - 1e-12).all()
        assert (board.value[0] <= moment.spot + 1e-9).all()
    else:
        gap = board.value[0] - board.value[1] - discount * (board.forwards - board.strikes)
        assert np.abs(gap[alive]).max() < 1e-8


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_near_the_money_quotes_are_tight_before_the_close(market: Market, symbol: str) -> None:
    """Within 3 % of the money and beyond a week the spread is under a tenth of the mid, and all are modelled."""
    board, spot = board_of(market, symbol), market.price(symbol, BEFORE_CLOSE)
    near = (np.abs(np.log(board.strikes / spot)) < 0.03) & (board.years > 7 / 365)
    mid = (board.quotes.bid + board.quotes.ask) / 2.0
    spread = (board.quotes.ask - board.quotes.bid) / mid
    assert spread[:, near].max() < 0.25
    assert np.median(spread[:, near]) < 0.05
    assert board.is_modelled[:, near].mean() > 0.97


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("hours_later", [0.5, 3.0, 12.0, 100.0])
def test_quotes_are_wrecked_outside_hours(market: Market, symbol: str, hours_later: float) -> None:
    """After the product's close and before its open nothing is modelled; bids are 0 or the pair is very wide."""
    board = board_of(market, symbol, BEFORE_CLOSE + timedelta(hours=hours_later))
    assert not board.is_modelled.any()
    assert (board.quotes.bid == 0).mean() > 0.4
    mid = (board.quotes.bid + board.quotes.ask) / 2.0
    assert ((board.quotes.ask - board.quotes.bid) / mid > 0.3).all()


def test_late_products_trade_on_for_a_quarter_of_an_hour(market: Market) -> None:
    """At 16:05 the quotes of the fund and the index still live, those of the stock are wrecked."""
    later = datetime(2025, 12, 9, 21, 5, tzinfo=UTC)
    modelled = {symbol: board_of(market, symbol, later).is_modelled.mean() for symbol in SYMBOLS}
    assert modelled["AAPL"] == modelled["BRK/B"] == 0.0
    assert modelled["SPY"] > 0.5
    assert modelled["$SPX"] > 0.5


def test_vendor_volatility_is_the_true_one_on_the_vendor_clock(market: Market) -> None:
    """Variance agrees: vendor volatility squared times the vendor's time is the true one times the true time."""
    board = board_of(market, "AAPL")
    dates = [board.selection.expirations[place].expiration_date for place in board.series.tolist()]
    vendor_years = np.array([market.vendor_clock_years(BEFORE_CLOSE, day) for day in dates])
    vendor = (board.volatility[0] / 100.0) ** 2 * vendor_years
    assert vendor == pytest.approx(board.true_volatility**2 * board.years, rel=1e-12)


def test_truth_agrees_with_the_market(market: Market) -> None:
    """The table of contracts has the volatility and forward that the market tells for a strike."""
    frame = market.contracts("AAPL", BEFORE_CLOSE)
    row = frame.filter(pl.col("expiration_date") == date(2026, 1, 16)).row(20, named=True)
    truth = market.true_volatility("AAPL", BEFORE_CLOSE, date(2026, 1, 16), row["strike"])
    assert row["true_volatility"] == pytest.approx(truth, rel=1e-12)
    assert row["forward"] == pytest.approx(market.forward("AAPL", BEFORE_CLOSE, date(2026, 1, 16)), rel=1e-12)
    assert row["option_symbol"].startswith("AAPL  260116")


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_volume_accumulates_and_open_interest_stands(market: Market, symbol: str) -> None:
    """Volume is 0 at the open, never falls through the session, and stays after the close; open interest is fixed."""
    instants = [OPENED, OPENED + timedelta(hours=1), OPENED + timedelta(hours=4), BEFORE_CLOSE]
    boards = [board_of(market, symbol, instant) for instant in instants]
    evening = board_of(market, symbol, BEFORE_CLOSE + timedelta(hours=2))
    volumes = [board.activity.volume for board in (*boards, evening)]
    assert volumes[0].sum() == 0
    assert all((later >= earlier).all() for earlier, later in pairwise(volumes))
    assert volumes[1].sum() > 0
    assert all(np.array_equal(board.activity.open_interest, evening.activity.open_interest) for board in boards)


def test_before_the_open_there_is_no_volume(market: Market) -> None:
    """An hour before the open today's volume is 0 and open interest is already today's."""
    early, later = (board_of(market, "AAPL", OPENED + timedelta(hours=step)) for step in (-1, 1))
    assert early.activity.volume.sum() == 0
    assert np.array_equal(early.activity.open_interest, later.activity.open_interest)


def test_volume_lies_near_the_money_and_near_in_time(market: Market) -> None:
    """Most of a stock's volume is within 10 % of the money, and more in the nearest month than after it."""
    frame, spot = market.contracts("AAPL", BEFORE_CLOSE), market.price("AAPL", BEFORE_CLOSE)
    near = frame.filter((pl.col("strike") / spot - 1.0).abs() < 0.1)["volume"].sum()
    soon = frame.filter(pl.col("years") < 30 / 365)["volume"].sum()
    assert near > 0.6 * frame["volume"].sum()
    assert soon > 0.5 * frame["volume"].sum()


def test_put_call_ratios_vary_by_day(market: Market) -> None:
    """Over ten sessions the ratio of put to call volume moves by more than a third."""
    ratios = []
    for back in range(14):
        instant = BEFORE_CLOSE - timedelta(days=back)
        if instant.weekday() < 5:
            calls, puts = board_of(market, "SPY", instant).activity.volume.sum(axis=1)
            ratios.append(puts / calls)
    assert max(ratios) > 1.33 * min(ratios)


def test_trades_fit_their_day(market: Market) -> None:
    """Where there is volume: low <= last <= high, traded today; where there is none: no range, traded earlier."""
    board = board_of(market, "AAPL")
    trades, traded = board.trades, board.activity.volume > 0
    assert traded.any()
    assert (trades.low[traded] <= trades.last[traded]).all()
    assert (trades.high[traded] >= trades.last[traded]).all()
    assert (trades.seconds[traded] >= OPENED.timestamp()).all()
    assert (trades.seconds <= BEFORE_CLOSE.timestamp()).all()
    assert not trades.high[~traded].any()
    assert (trades.seconds[~traded] < OPENED.timestamp()).all()
    never = trades.last == 0
    assert never.any()
    assert not trades.seconds[never].any()


def test_prices_are_at_whole_ticks(market: Market) -> None:
    """Funds trade in cents; penny-pilot stocks in nickels from 3 dollars on; the others in dimes from 3 dollars on."""
    for symbol, step in (("AAPL", 5), ("BRK/B", 10), ("$SPX", 10)):
        board = board_of(market, symbol)
        dear = board.value > 3.2
        assert not (board.quotes.bid[dear] % step).any()
        assert not (board.quotes.ask[dear] % step).any()
    cheap = board_of(market, "AAPL")
    assert (cheap.quotes.bid[cheap.value < 2.5] % 5).any()


def test_expired_contracts_are_over(market: Market) -> None:
    """After 16:00 of its day a late-closing contract has no volatility although its product still trades."""
    later = datetime(2025, 12, 9, 21, 5, tzinfo=UTC)
    board = board_of(market, "SPY", later)
    today = board.series == 0
    assert board.selection.expirations[0].expiration_date == date(2025, 12, 9)
    assert not board.is_modelled[:, today].any()
    assert np.isnan(board.true_volatility[today]).all()
