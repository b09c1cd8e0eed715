"""Price history as the wire spells it."""

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from visiting import BEFORE_CLOSE, recording, shape

from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.routes import answer

EVENING = datetime(2025, 12, 9, 23, 30, tzinfo=UTC)


def milliseconds(text: str) -> int:
    """An instant written as UTC, in milliseconds."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def ask(market: Market, instant: datetime = BEFORE_CLOSE, **params: object) -> Any:
    """The decoded history of a good request."""
    named = {"symbol": "AAPL", **{name: str(value) for name, value in params.items()}}
    found = answer(market, instant, "/pricehistory", named)
    assert found.status == 200, found.body
    return json.loads(found.body)


def test_daily_bars_are_those_of_the_market(market: Market) -> None:
    """One month of daily bars ends with yesterday's session and has the market's prices and volumes."""
    body = ask(market, periodType="month", period=1, frequencyType="daily")
    bars = market.daily_bars("AAPL", date(2025, 11, 8), date(2025, 12, 8))
    names = ["open", "high", "low", "close", "volume"]
    assert [[candle[name] for name in names] for candle in body["candles"]] == [
        list(row) for row in bars.select(names).rows()
    ]
    assert list(body["candles"][0]) == [*names, "datetime"]
    assert (body["symbol"], body["empty"]) == ("AAPL", False)


def test_daily_stamps_are_midnight_central(market: Market) -> None:
    """06:00 UTC in winter and 05:00 UTC in summer, across the clock change of 2 November 2025."""
    body = ask(
        market, periodType="year", frequencyType="daily",
        startDate=milliseconds("2025-10-30T00:00"), endDate=milliseconds("2025-11-05T00:00"),
    )  # fmt: skip
    stamps = ["2025-10-30T05:00", "2025-10-31T05:00", "2025-11-03T06:00", "2025-11-04T06:00"]
    assert [candle["datetime"] for candle in body["candles"]] == [milliseconds(stamp) for stamp in stamps]


def test_the_forming_bar_needs_an_end_date_and_is_cut_at_the_instant(market: Market) -> None:
    """With an end after now the session's bar stands at what has happened by 15:55; in the evening it is complete."""
    window = {"periodType": "month", "frequencyType": "daily", "startDate": milliseconds("2025-12-08T00:00"),
              "endDate": milliseconds("2025-12-11T00:00")}  # fmt: skip
    forming, complete = ask(market, **window)["candles"], ask(market, EVENING, **window)["candles"]
    assert len(forming) == len(complete) == 2
    assert forming[0] == complete[0]
    assert forming[1]["volume"] < complete[1]["volume"]
    assert forming[1]["close"] == market.price("AAPL", BEFORE_CLOSE)
    day = market.daily_bars("AAPL", date(2025, 12, 9), date(2025, 12, 9)).row(0, named=True)
    assert {name: complete[1][name] for name in ("open", "high", "low", "close", "volume")} == {
        name: day[name] for name in ("open", "high", "low", "close", "volume")
    }


def test_weekly_and_monthly_bars_merge_sessions(market: Market) -> None:
    """A month's bar is stamped its first calendar day and merges its sessions; volumes add up at every width."""
    span = {
        "startDate": milliseconds("2025-10-01T00:00"),
        "endDate": milliseconds("2025-11-30T12:00"),
        "periodType": "year",
    }
    daily, weekly, monthly = (
        ask(market, frequencyType=name, **span)["candles"] for name in ("daily", "weekly", "monthly")
    )
    assert [candle["datetime"] for candle in monthly] == [
        milliseconds("2025-10-01T05:00"), milliseconds("2025-11-01T05:00"),
    ]  # fmt: skip
    assert len(daily) == 42
    assert len(weekly) == 9
    for merged in (weekly, monthly):
        assert sum(candle["volume"] for candle in merged) == sum(candle["volume"] for candle in daily)
        assert max(candle["high"] for candle in merged) == max(candle["high"] for candle in daily)
        assert (merged[0]["open"], merged[-1]["close"]) == (daily[0]["open"], daily[-1]["close"])


def test_minutes_stop_at_the_instant(market: Market) -> None:
    """On the day itself there are 385 finished minutes at 15:55; the last stamp is 15:54 New York."""
    body = ask(
        market,
        frequencyType="minute",
        startDate=milliseconds("2025-12-09T05:00"),
        endDate=milliseconds("2025-12-10T05:00"),
    )
    assert len(body["candles"]) == 385
    assert body["candles"][0]["datetime"] == milliseconds("2025-12-09T14:30")
    assert body["candles"][-1]["datetime"] == milliseconds("2025-12-09T20:54")
    assert sum(candle["volume"] for candle in body["candles"]) == market.volume(market.moment("AAPL", BEFORE_CLOSE))


def test_a_minute_going_on_is_forming(market: Market) -> None:
    """Half way through a minute its bar closes at the present price."""
    instant = datetime(2025, 12, 9, 20, 54, 30, tzinfo=UTC)
    window = {"startDate": milliseconds("2025-12-09T20:50"), "endDate": milliseconds("2025-12-10T05:00")}
    candles = ask(market, instant, frequencyType="minute", **window)["candles"]
    assert len(candles) == 5
    assert candles[-1]["close"] == market.price("AAPL", instant)


def test_an_index_without_volume_has_every_minute(market: Market) -> None:
    """It is calculated all the time: minutes without volume, the one going on included, within the session's bar."""
    instant = datetime(2025, 12, 9, 20, 54, 30, tzinfo=UTC)
    window = {"startDate": milliseconds("2025-12-09T05:00"), "endDate": milliseconds("2025-12-10T05:00")}
    now = ask(market, instant, symbol="$VIX", frequencyType="minute", **window)["candles"]
    assert [candle["volume"] for candle in now] == [0] * 385
    later = datetime(2025, 12, 10, 15, tzinfo=UTC)
    minutes = ask(market, later, symbol="$VIX", frequencyType="minute", **window)["candles"]
    assert (len(minutes), minutes[:384]) == (390, now[:384])
    (session,) = ask(market, later, symbol="$VIX", periodType="year", frequencyType="daily", **window)["candles"]
    assert (session["open"], session["close"]) == (minutes[0]["open"], minutes[-1]["close"])
    assert session["high"] == max(candle["high"] for candle in minutes)
    assert session["low"] == min(candle["low"] for candle in minutes)


def test_extended_hours_come_when_asked_for(market: Market) -> None:
    """Regular sessions have 390 minutes (210 on the half day); extended ones start before 07:00 and end after 19:00."""
    window = {
        "startDate": milliseconds("2025-11-26T05:00"),
        "endDate": milliseconds("2025-11-29T05:00"),
        "frequencyType": "minute",
    }
    regular = ask(market, **window)["candles"]
    extended = ask(market, needExtendedHoursData="true", **window)["candles"]
    assert len(regular) == 390 + 210
    assert len(extended) > 390 + 210 + 400
    assert extended[0]["datetime"] < milliseconds("2025-11-26T12:00")
    assert all(candle["volume"] > 0 for candle in extended)
    stamps = [candle["datetime"] for candle in extended]
    assert stamps == sorted(set(stamps))


def test_without_a_start_date_the_first_extended_day_begins_at_seven(market: Market) -> None:
    """A request by period: 07:00 New York on its first day, 04:00 on the next; with a start date always 04:00."""
    asked = {"periodType": "day", "period": 2, "frequencyType": "minute", "needExtendedHoursData": "true"}
    stamps = [candle["datetime"] for candle in ask(market, **asked)["candles"]]
    friday, monday = milliseconds("2025-12-05T12:00"), milliseconds("2025-12-08T09:00")
    assert friday <= stamps[0] < friday + 600_000
    assert monday <= next(stamp for stamp in stamps if stamp > milliseconds("2025-12-06T12:00")) < monday + 600_000
    begun = ask(market, **asked, startDate=milliseconds("2025-12-05T05:00"))["candles"][0]["datetime"]
    assert begun < milliseconds("2025-12-05T09:10")


@pytest.mark.parametrize(
    ("period_type", "period", "frequency_type", "frequency"),
    [
        *(("day", period, "minute", frequency) for period in (1, 2, 3, 4, 5, 10) for frequency in (1, 5, 10, 15, 30)),
        *(("month", period, kind, 1) for period in (1, 2, 3, 6) for kind in ("daily", "weekly")),
        *(("year", period, kind, 1) for period in (1, 2, 3, 5, 10, 15, 20) for kind in ("daily", "weekly", "monthly")),
        *(("ytd", 1, kind, 1) for kind in ("daily", "weekly")),
    ],
)
def test_every_valid_combination_is_answered(
    market: Market, period_type: str, period: int, frequency_type: str, frequency: int
) -> None:
    """Bars ascend, hold together, end by yesterday and reach as far back as the period, or to the first session."""
    body = ask(market, periodType=period_type, period=period, frequencyType=frequency_type, frequency=frequency)
    candles = body["candles"]
    stamps = [candle["datetime"] for candle in candles]
    assert stamps == sorted(set(stamps))
    assert all(each["low"] <= min(each["open"], each["close"]) for each in candles)
    assert all(each["high"] >= max(each["open"], each["close"]) for each in candles)
    assert stamps[-1] < milliseconds("2025-12-09T05:00")
    days = {"day": 1.4, "month": 30.4, "year": 365.25, "ytd": 342.0}[period_type] * period
    reached = (milliseconds("2025-12-09T05:00") - stamps[0]) / 86_400_000.0
    whole = (milliseconds("2025-12-09T05:00") - milliseconds("2021-01-04T06:00")) / 86_400_000.0
    assert min(days, whole) - 4.0 <= reached <= min(days, whole) + {"weekly": 11, "monthly": 32}.get(frequency_type, 5)


@pytest.mark.parametrize(("frequency", "bars"), [(5, 78), (10, 39), (15, 26), (30, 13)])
def test_wider_minutes_merge(market: Market, frequency: int, bars: int) -> None:
    """A session has 78 five-minute bars and so on, with the session's volume."""
    body = ask(market, periodType="day", period=1, frequencyType="minute", frequency=frequency)
    assert len(body["candles"]) == bars
    day = market.daily_bars("AAPL", date(2025, 12, 8), date(2025, 12, 8)).row(0, named=True)
    assert sum(candle["volume"] for candle in body["candles"]) == day["volume"]
    assert body["candles"][0]["open"] == day["open"]


def test_minutes_do_not_reach_far_back(market: Market) -> None:
    """One-minute bars end 48 days back, wider ones 270 days back."""
    window = {"startDate": milliseconds("2025-01-02T05:00"), "endDate": milliseconds("2025-12-09T05:00")}
    first = ask(market, frequencyType="minute", frequency=1, **window)["candles"][0]["datetime"]
    wide = ask(market, frequencyType="minute", frequency=30, **window)["candles"][0]["datetime"]
    assert milliseconds("2025-10-22T00:00") <= first < milliseconds("2025-10-24T00:00")
    assert milliseconds("2025-03-14T00:00") <= wide < milliseconds("2025-03-19T00:00")


def test_previous_close_stands_before_the_first_candle(market: Market) -> None:
    """NeedPreviousClose tells the close of the session before the first one, with its stamp."""
    body = ask(market, periodType="day", period=2, frequencyType="minute", needPreviousClose="true")
    before = market.daily_bars("AAPL", date(2025, 12, 4), date(2025, 12, 4))["close"][0]
    assert (body["previousClose"], body["previousCloseDate"]) == (before, milliseconds("2025-12-04T06:00"))


def test_a_fund_has_no_minute_bars(market: Market) -> None:
    """It is priced once a day: daily bars come, minute bars answer like what has no history."""
    assert ask(market, symbol="VTSAX", periodType="month", frequencyType="daily")["candles"]
    for frequency in (1, 30):
        body = ask(market, symbol="VTSAX", periodType="day", frequencyType="minute", frequency=frequency)
        assert body == {"candles": [], "symbol": "VTSAX", "empty": True}


def test_what_has_no_history_is_empty(market: Market) -> None:
    """Unknown symbols, options, futures and currencies answer with no candles and empty true."""
    for symbol in ("ZZZZ", "AAPL  251219P00200000", "/ES", "EUR/USD"):
        assert ask(market, symbol=symbol) == {"candles": [], "symbol": symbol, "empty": True}


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"frequencyType": "minute", "frequency": 7},
         "When frequencyType=minute valid values for frequency are: [1, 5, 10, 15, 30]"),
        ({"periodType": "day", "frequencyType": "daily"},
         "When periodType=day valid values for frequencyType are: [minute]"),
        ({"periodType": "month", "period": 4}, "When periodType=month valid values for period are: [1, 2, 3, 6]"),
        ({"periodType": "decade"}, "valid values for periodType are: [day, month, year, ytd]"),
        ({"startDate": "2025-12-01"}, "startDate must be in epoch milliseconds"),
        ({"startDate": 2000, "endDate": 1000}, "startDate must not be after endDate"),
        ({"period": "x"}, "period must be a number"),
    ],
)  # fmt: skip
def test_combinations_that_do_not_exist_are_refused(market: Market, params: dict[str, object], text: str) -> None:
    """A wrong combination is a 400 that lists the right values."""
    found = answer(market, BEFORE_CLOSE, "/pricehistory", {"symbol": "AAPL", **{k: str(v) for k, v in params.items()}})
    assert found.status == 400
    assert json.loads(found.body)["errors"][0]["detail"] == text


@pytest.mark.parametrize(
    ("period_type", "frequency_type", "count"),
    [("day", "minute", 3900), ("month", "weekly", 5), ("year", "monthly", 13), ("ytd", "weekly", 50)],
)
def test_defaults(market: Market, period_type: str, frequency_type: str, count: int) -> None:
    """Each period type has its default period and frequency; from the 9th of December back the counts are these."""
    body = ask(market, periodType=period_type)
    same = ask(market, periodType=period_type, frequencyType=frequency_type)
    assert body == same
    half_days = 180 if period_type == "day" else 0
    assert len(body["candles"]) == count - half_days


def test_shapes_are_the_recorded_ones(market: Market) -> None:
    """Daily, monthly and minute answers have the recorded names and types."""
    cases = (
        ("pricehistory_daily_SPY_2025-07.json", {"periodType": "month", "frequencyType": "daily"}),
        ("pricehistory_monthly_AAPL_2024-10.json", {"periodType": "year"}),
        ("pricehistory_1min_AAPL_2024-05_first_half.json", {"needPreviousClose": "true"}),
    )
    for name, params in cases:
        assert shape(ask(market, **params)) == shape(recording(name))
