"""Price history as the source really sent it, and as the simulator sends it: every bar becomes a row, values kept."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from wire_bodies import RECORDINGS, answered

from trade_analyst_pipeline.datasets import ohlc
from trade_analyst_pipeline.market.normalized import Normalized
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.routes import answer
from trade_analyst_pipeline.validation import validate

UNSTATED = MarketDataRequest("ohlc", "import:recording", (), ())
DAILY = "pricehistory_daily_SPY_2025-07.json"
MONTHLY = "pricehistory_monthly_AAPL_2024-10.json"
MINUTES = "pricehistory_1min_AAPL_2024-05_first_half.json"
RECEIVED = {
    DAILY: datetime(2025, 7, 20, 12, 0, tzinfo=UTC),
    MONTHLY: datetime(2024, 10, 18, 23, 59, tzinfo=UTC),
    MINUTES: datetime(2024, 5, 17, 23, 0, tzinfo=UTC),
}


def recording(name: str) -> Any:
    """A recorded answer; the test is skipped, visibly, where the recordings are absent."""
    path = RECORDINGS / "schwab" / name
    if not path.is_file():
        pytest.skip(f"NOT RUN: no recordings beside the checkout ({name})")
    return json.loads(path.read_bytes())


def normalized(name: str) -> Normalized:
    """What the dataset makes of a recording that came without its request."""
    received = RECEIVED[name]
    return ohlc.normalize([answered(UNSTATED, recording(name), received=received)], session_date=received.date())


@pytest.mark.parametrize(("name", "frequency"), [(DAILY, "daily"), (MONTHLY, "monthly"), (MINUTES, "minute")])
def test_every_recorded_bar_is_a_valid_row_with_the_values_of_the_wire(name: str, frequency: str) -> None:
    """No recorded bar is lost, rejected or quarantined; frequency is read from the stamps, values are those sent."""
    found = normalized(name)
    judged = validate(found.frame, ohlc.SCHEMA)
    assert (found.problems, found.rejected.height, judged.quarantined.height, dict(found.counts)) == ((), 0, 0, {})
    sent = recording(name)
    assert set(judged.valid["symbol"]) == {sent["symbol"]}
    assert set(judged.valid["frequency"]) == {frequency}
    columns = ["open", "high", "low", "close", "volume"]
    assert judged.valid.select(columns).to_dicts() == [{name: bar[name] for name in columns} for bar in sent["candles"]]
    assert judged.valid["bar_time"].dt.epoch("ms").to_list() == [bar["datetime"] for bar in sent["candles"]]


def test_first_recorded_daily_bar_is_of_the_session_it_was_traded_in() -> None:
    """Golden: the stamp 1750222800000 is SPY's session of 18 June 2025; the last bar is of 18 July."""
    found = normalized(DAILY).frame
    columns = ["session_date", "open", "high", "low", "close", "volume"]
    assert found.select(columns).row(0) == (date(2025, 6, 18), 598.44, 601.22, 596.47, 597.44, 76_605_029)
    assert found["session_date"][-1] == date(2025, 7, 18)


def test_first_recorded_minute_is_seven_in_new_york() -> None:
    """Golden: the minute recording begins at 07:00 New York of 3 May 2024, which is extended hours."""
    first = normalized(MINUTES).frame.row(0, named=True)
    assert first["bar_time"] == datetime(2024, 5, 3, 11, 0, tzinfo=UTC)
    assert (first["session_date"], first["session_part"]) == (date(2024, 5, 3), "extended")


def test_recorded_minutes_have_390_regular_bars_in_each_session() -> None:
    """Each of the five recorded sessions has one bar for each minute from 09:30 to 15:59 New York."""
    regular = normalized(MINUTES).frame.filter(session_part="regular")
    assert regular.group_by("session_date").len().sort("session_date").rows() == [
        (date(2024, 5, day), 390) for day in (3, 6, 7, 8, 9)
    ]


def test_last_recorded_month_is_not_complete() -> None:
    """The month in which the recording was made is the only one not over."""
    found = normalized(MONTHLY).frame
    assert found["session_date"][-1] == date(2024, 10, 1)
    assert found["is_complete"].to_list() == [True] * 11 + [False]


def test_simulated_history_is_all_valid() -> None:
    """The simulator's bars have no rejected and no quarantined row, and the session's own bars are among them."""
    market, evening, session = Market(7), datetime(2025, 12, 9, 23, 30, tzinfo=UTC), date(2025, 12, 9)
    requests = ohlc.requests(("AAPL", "SPY", "$SPX"), session_date=session, years=2)
    responses = [
        answered(request, answer(market, evening, request.path, dict(request.params)).body, received=evening)
        for request in requests
    ]
    found = ohlc.normalize(responses, session_date=session)
    judged = validate(found.frame, ohlc.SCHEMA)
    assert (found.problems, found.rejected.height, judged.quarantined.height) == ((), 0, 0)
    own = judged.valid.filter(session_date=session).group_by("symbol", "frequency").len().sort("symbol", "frequency")
    assert own.rows() == [
        (symbol, frequency, bars)
        for symbol in ("$SPX", "AAPL", "SPY")
        for frequency, bars in (("daily", 1), ("minute", 390))
    ]
    # From 11 December 2023: 14 sessions of that year, 252 of 2024, 235 of 2025 up to 9 December.
    assert set(judged.valid.filter(frequency="daily").group_by("symbol").len()["len"]) == {501}


def test_simulated_unknown_symbol_has_no_bars() -> None:
    """A symbol the source does not know is answered with an empty list, which is a problem of that symbol."""
    request, _ = ohlc.requests(["NOPE"], session_date=date(2025, 12, 9))
    evening = datetime(2025, 12, 9, 23, 30, tzinfo=UTC)
    body = answer(Market(7), evening, request.path, dict(request.params)).body
    found = ohlc.normalize([answered(request, body, received=evening)], session_date=date(2025, 12, 9))
    assert [(problem.reason, problem.symbols) for problem in found.problems] == [("no_bars", ("NOPE",))]
    assert found.frame.is_empty()
