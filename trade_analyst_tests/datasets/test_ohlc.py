"""Price history: requests, times of bars, the rules of bars with their golden counts, bad bars and bad answers."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_bodies import RECORDINGS, SESSION, answered, changed, document, payload

from trade_analyst_pipeline.datasets import ohlc
from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market.bars import CENTRAL
from trade_analyst_pipeline.market.normalized import Normalized
from trade_analyst_pipeline.market.sessions import NEW_YORK, sessions
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.routes import answer
from trade_analyst_pipeline.validation import Validated, validate

DAILY, MINUTES = ohlc.requests(["XYZ"], session_date=SESSION, years=1)
EVENING = datetime(2026, 1, 5, 22, 0, tzinfo=UTC)
UNSTATED = MarketDataRequest("ohlc", "/pricehistory", (), ("XYZ",))
UNSTATED_ANY = MarketDataRequest("ohlc", "/pricehistory", (), ())


def normalized(*bodies: Any, request: MarketDataRequest = DAILY, **response: Any) -> Normalized:
    """What the dataset makes of these bodies as one capture."""
    response.setdefault("received", EVENING)
    return ohlc.normalize([answered(request, body, **response) for body in bodies], session_date=SESSION)


def with_bar(change: Callable[[dict[str, Any]], Any], index: int = 0) -> Any:
    """The daily payload with one bar changed."""
    return changed(document("ohlc/daily.json"), lambda history: change(history["candles"][index]))


def judged(body: Any, **response: Any) -> Validated:
    """A body's bars judged by the schema."""
    return validate(normalized(body, **response).frame, ohlc.SCHEMA)


def broken(found: Validated) -> set[str]:
    """The names of the rules that some row broke."""
    return {name for name, count in found.rule_counts.items() if count}


def bars(rows: Sequence[tuple[float, float, float, float, int]], *, last: date = SESSION) -> pl.DataFrame:
    """Daily bars of the sessions that end with `last`, as the table has them."""
    days = sessions(last - timedelta(days=2 * len(rows) + 10), last)[-len(rows) :]
    candles = [
        dict(zip(("open", "high", "low", "close", "volume"), row, strict=True), datetime=central_midnight(day))
        for row, day in zip(rows, days, strict=True)
    ]
    return normalized({"symbol": "XYZ", "candles": candles}).frame


def central_midnight(day: date) -> int:
    """Epoch milliseconds of midnight in Chicago."""
    return int(datetime(day.year, day.month, day.day, tzinfo=CENTRAL).timestamp() * 1000)


# -- requests --------------------------------------------------------------------------------------------------------


def test_daily_request_states_both_ends() -> None:
    """Daily bars are asked from midnight US/Central years before, up to the close of the session."""
    daily, _ = ohlc.requests(["XYZ"], session_date=date(2026, 1, 5), years=2)
    assert daily.params == (
        ("symbol", "XYZ"),
        ("periodType", "year"),
        ("frequencyType", "daily"),
        ("frequency", "1"),
        ("startDate", str(int(datetime(2024, 1, 5, 6, 0, tzinfo=UTC).timestamp()) * 1000)),
        ("endDate", str(int(datetime(2026, 1, 5, 21, 0, tzinfo=UTC).timestamp()) * 1000)),
    )


def test_minute_request_covers_the_regular_hours_of_the_session() -> None:
    """Minute bars are asked from the open to the close, on a half day to 13:00 New York, with the close before."""
    _, minutes = ohlc.requests(["XYZ"], session_date=date(2025, 7, 3), years=1)
    assert minutes.params == (
        ("symbol", "XYZ"),
        ("periodType", "day"),
        ("frequencyType", "minute"),
        ("frequency", "1"),
        ("startDate", str(int(datetime(2025, 7, 3, 13, 30, tzinfo=UTC).timestamp()) * 1000)),
        ("endDate", str(int(datetime(2025, 7, 3, 17, 0, tzinfo=UTC).timestamp()) * 1000)),
        ("needExtendedHoursData", "false"),
        ("needPreviousClose", "true"),
    )


def test_request_for_a_day_without_a_session_is_refused() -> None:
    """On a holiday there is no session whose bars could be asked for."""
    with pytest.raises(ValueError, match="not a session"):
        ohlc.requests(["XYZ"], session_date=date(2025, 7, 4), years=1)


def test_request_on_a_leap_day_has_a_start() -> None:
    """A year before 29 February is a date that exists."""
    daily, _ = ohlc.requests(["XYZ"], session_date=date(2024, 2, 29), years=1)
    start = datetime.fromtimestamp(int(daily.param("startDate") or "") / 1000, CENTRAL)
    assert start.date() == date(2023, 2, 28)


FREQUENCIES = {
    "minute": ("day", "minute", "1"),
    "minute_5": ("day", "minute", "5"),
    "minute_10": ("day", "minute", "10"),
    "minute_15": ("day", "minute", "15"),
    "minute_30": ("day", "minute", "30"),
    "daily": ("year", "daily", "1"),
    "weekly": ("year", "weekly", "1"),
    "monthly": ("year", "monthly", "1"),
}


def test_each_frequency_has_a_request_that_is_read_back_as_it() -> None:
    """All eight kinds of bars can be asked for, in the order given, and the answer is taken for just that kind."""
    made = ohlc.requests(["XYZ"], session_date=SESSION, frequencies=list(FREQUENCIES))
    for request, (name, query) in zip(made, FREQUENCIES.items(), strict=True):
        asked = dict(request.params)
        assert (asked["periodType"], asked["frequencyType"], asked["frequency"]) == query
        assert ohlc.frequency_of(request.params, ()) == name


@pytest.mark.parametrize(
    ("frequency", "first"),
    [("daily", date(2024, 1, 5)), ("weekly", date(2024, 1, 1)), ("monthly", date(2024, 1, 1))],
)
def test_longer_bars_are_asked_from_their_start(frequency: str, first: date) -> None:
    """Two years before 5 January 2026 is a Friday: its week begins on the Monday, its month on the first."""
    (request,) = ohlc.requests(["XYZ"], session_date=date(2026, 1, 5), years=2, frequencies=[frequency])
    assert request.param("startDate") == str(central_midnight(first))


def test_extended_hours_are_asked_from_the_close_before() -> None:
    """With extended hours the window begins with Friday's close, so Friday's post-market bars are final when asked."""
    (request,) = ohlc.requests(["XYZ"], session_date=SESSION, frequencies=["minute_5"], is_extended=True)
    start, end = (
        datetime.fromtimestamp(int(request.param(name) or "") / 1000, UTC) for name in ("startDate", "endDate")
    )
    assert start == datetime(2026, 1, 2, 21, 0, tzinfo=UTC)
    assert end == datetime(2026, 1, 5, 20, 59, 59, 999_000, tzinfo=UTC)
    assert request.param("needExtendedHoursData") == "true"


def test_extended_hours_of_the_simulator_are_told_apart() -> None:
    """Asked after the close: the evening before, the morning and all regular minutes, each under its own session."""
    evening = datetime(2025, 12, 9, 23, 30, tzinfo=UTC)
    (request,) = ohlc.requests(["AAPL"], session_date=date(2025, 12, 9), frequencies=["minute"], is_extended=True)
    body = answer(Market(7), evening, request.path, dict(request.params)).body
    found = ohlc.normalize([answered(request, body, received=evening)], session_date=date(2025, 12, 9))
    judged = validate(found.frame, ohlc.SCHEMA)
    assert judged.quarantined.is_empty()
    parts = judged.valid.group_by("session_date", "session_part").len().sort("session_date", "session_part")
    counts = {(day, part): number for day, part, number in parts.iter_rows()}
    assert counts.keys() == {
        (date(2025, 12, 8), "post"),
        (date(2025, 12, 9), "pre"),
        (date(2025, 12, 9), "regular"),
    }
    assert counts[date(2025, 12, 9), "regular"] == 390
    assert judged.valid["is_complete"].all()


def test_options_futures_and_currencies_have_no_history() -> None:
    """The source keeps no bars of them, so none are asked for."""
    symbols = ["XYZ", "XYZ   260116C00100000", "/ES", "./ESH26C6000", "$SPX", "BRK/B", "EUR/USD"]
    asked = [request.symbols[0] for request in ohlc.requests(symbols, session_date=SESSION, frequencies=["daily"])]
    assert asked == ["XYZ", "$SPX", "BRK/B"]


def test_a_fund_is_asked_for_daily_and_longer_bars_only() -> None:
    """It has one price a day: no minute bars, neither of a session nor of a period."""
    asked = ohlc.requests(["VTSAX", "XYZ"], session_date=SESSION, frequencies=["daily", "minute", "weekly", "minute_5"])
    assert [(request.symbols[0], request.param("frequencyType")) for request in asked] == [
        *(("VTSAX", "daily"), ("VTSAX", "weekly")),
        *(("XYZ", "daily"), ("XYZ", "minute"), ("XYZ", "weekly"), ("XYZ", "minute")),
    ]
    by_period = ohlc.requests_by_period(["VTSAX", "XYZ"], frequency="minute", period_type="day", period=1)
    assert [request.symbols[0] for request in by_period] == ["XYZ"]


def test_unknown_frequency_cannot_be_asked_for() -> None:
    """The message lists what there is."""
    with pytest.raises(ValueError, match=r"no bars hourly; the source has minute, minute_5, .*, monthly"):
        ohlc.requests(["XYZ"], session_date=SESSION, frequencies=["hourly"])


# The table of the source's valid combinations, as its reference states it.
VALID = {
    "day": ((1, 2, 3, 4, 5, 10), ("minute", "minute_5", "minute_10", "minute_15", "minute_30")),
    "month": ((1, 2, 3, 6), ("daily", "weekly")),
    "year": ((1, 2, 3, 5, 10, 15, 20), ("daily", "weekly", "monthly")),
    "ytd": ((1,), ("daily", "weekly")),
}


def test_every_combination_of_period_and_frequency() -> None:
    """61 combinations are valid and answered with bars of their frequency; every other is refused unasked."""
    market, evening, valid = Market(7), datetime(2025, 12, 9, 23, 30, tzinfo=UTC), 0
    for kind, frequency, period in itertools.product([*VALID, "decade"], FREQUENCIES, range(1, 22)):
        periods, frequencies = VALID.get(kind, ((), ()))
        if period in periods and frequency in frequencies:
            (request,) = ohlc.requests_by_period(["AAPL"], frequency=frequency, period_type=kind, period=period)
            body = answer(market, evening, request.path, dict(request.params)).body
            found = ohlc.normalize([answered(request, body, received=evening)], session_date=SESSION)
            assert found.frame["frequency"].unique().to_list() == [frequency], (kind, period)
            assert found.problems == ()
            valid += 1
        else:
            with pytest.raises(ValueError, match="periodType"):
                ohlc.requests_by_period(["AAPL"], frequency=frequency, period_type=kind, period=period)
    assert valid == 6 * 5 + 4 * 2 + 7 * 3 + 1 * 2


EMPTY = {"candles": [], "symbol": "XYZ", "empty": True}


@pytest.mark.parametrize(
    ("frequency", "session", "received", "lacking"),
    [
        ("daily", SESSION, EVENING, "no bars where the calendar has 501 sessions"),
        ("minute", SESSION, EVENING, "no bars where the calendar has 1 session"),
        # just opened, not open yet, and further back than the source reaches
        ("minute", SESSION, datetime(2026, 1, 5, 14, 31, tzinfo=UTC), "no bars where the calendar has 1 session"),
        ("minute", SESSION, datetime(2026, 1, 5, 14, 30, tzinfo=UTC), None),
        ("minute", date(2025, 10, 1), EVENING, None),
        ("minute_30", date(2025, 10, 1), EVENING, "no bars where the calendar has 1 session"),
        ("minute_30", date(2025, 4, 1), EVENING, None),
        ("monthly", date(2025, 4, 1), EVENING, "no bars where the calendar has 501 sessions"),
    ],
)
def test_empty_answer_where_bars_must_exist(
    frequency: str, session: date, received: datetime, lacking: str | None
) -> None:
    """An empty answer lacks something where the calendar has a session that had begun and that the source reaches."""
    (request,) = ohlc.requests(["XYZ"], session_date=session, frequencies=[frequency])
    assert ohlc.missing_bars(answered(request, EMPTY, received=received)) == lacking


@pytest.mark.parametrize(
    ("request_", "body", "status"),
    [
        (DAILY, document("ohlc/daily.json"), 200),
        (DAILY, b"<html>", 200),
        (DAILY, {"candles": 7}, 200),
        (DAILY, EMPTY, 404),
        (UNSTATED, EMPTY, 200),
    ],
)
def test_other_answers_lack_no_bars(request_: MarketDataRequest, body: Any, status: int) -> None:
    """Bars, errors, and answers to requests without a window are judged elsewhere."""
    assert ohlc.missing_bars(answered(request_, body, status=status, received=EVENING)) is None


# -- good bars -------------------------------------------------------------------------------------------------------


def test_daily_bars_are_of_the_session_that_chicago_was_in() -> None:
    """A stamp of midnight US/Central is the session's date, not the day before; values are as sent."""
    found = normalized(payload("ohlc/daily.json"))
    assert found.frame.drop("bar_time").rows() == [
        ("XYZ", "daily", date(2025, 12, 31), EVENING, 99.0, 100.5, 98.5, 100.0, 1_000_000, "regular", True),
        ("XYZ", "daily", date(2026, 1, 2), EVENING, 100.25, 102.0, 99.5, 101.0, 1_250_000, "regular", True),
        ("XYZ", "daily", date(2026, 1, 5), EVENING, 101.0, 101.75, 100.0, 100.5, 990_000, "regular", True),
    ]
    assert found.frame["bar_time"].to_list() == [
        datetime(2025, 12, 31, 6, tzinfo=UTC),
        datetime(2026, 1, 2, 6, tzinfo=UTC),
        datetime(2026, 1, 5, 6, tzinfo=UTC),
    ]
    assert broken(validate(found.frame, ohlc.SCHEMA)) == set()
    assert found.counts == {}


def test_summer_stamp_is_five_hours_after_utc_midnight() -> None:
    """In daylight saving time the stamp of 18 June 2025 is 05:00 UTC and names that session."""
    candle = document("ohlc/daily.json")["candles"][0] | {"datetime": 1750222800000}
    assert normalized({"symbol": "XYZ", "candles": [candle]}).frame["session_date"].to_list() == [date(2025, 6, 18)]


def test_minute_bars_tell_regular_from_extended_hours() -> None:
    """Bars before 09:30 New York are pre-market, from 16:00 on post-market; session and start are as sent."""
    found = normalized(payload("ohlc/minute.json"), request=MINUTES).frame
    assert found["frequency"].unique().to_list() == ["minute"]
    assert found.select("bar_time", "session_part").rows() == [
        (datetime(2026, 1, 5, 14, 29, tzinfo=UTC), "pre"),
        (datetime(2026, 1, 5, 14, 30, tzinfo=UTC), "regular"),
        (datetime(2026, 1, 5, 14, 31, tzinfo=UTC), "regular"),
        (datetime(2026, 1, 5, 21, 0, tzinfo=UTC), "post"),
    ]
    assert found["session_date"].unique().to_list() == [SESSION]


def test_half_day_ends_its_regular_hours_at_one() -> None:
    """On a half day the bar of 13:00 New York is post-market."""
    stamp = int(datetime(2025, 11, 28, 18, 0, tzinfo=UTC).timestamp() * 1000)
    history = changed(document("ohlc/minute.json"), lambda history: history["candles"][1].update(datetime=stamp))
    found = normalized(history, request=MINUTES).frame.filter(session_date=date(2025, 11, 28))
    assert found["session_part"].to_list() == ["post"]


@pytest.mark.parametrize(
    ("hour", "minute", "part"),
    [
        (3, 59, "outside"), (4, 0, "pre"), (9, 29, "pre"), (9, 30, "regular"),
        (15, 59, "regular"), (16, 0, "post"), (19, 59, "post"), (20, 0, "outside"),
    ],
)  # fmt: skip
def test_parts_of_a_session(hour: int, minute: int, part: str) -> None:
    """In New York: pre-market from 04:00, regular from 09:30, post-market from 16:00 to before 20:00."""
    stamp = int(datetime(2026, 1, 5, hour, minute, tzinfo=NEW_YORK).timestamp() * 1000)
    history = changed(document("ohlc/minute.json"), lambda history: history["candles"][0].update(datetime=stamp))
    found = normalized(history, request=MINUTES).frame
    assert found.row(0, named=True)["session_part"] == part
    assert found.row(0, named=True)["session_date"] == SESSION


@pytest.mark.parametrize(
    ("received", "complete"),
    [(datetime(2026, 1, 5, 20, 59, tzinfo=UTC), False), (datetime(2026, 1, 5, 21, 0, tzinfo=UTC), True)],
)
def test_daily_bar_is_complete_from_the_close_on(received: datetime, complete: bool) -> None:
    """The bar of the running session is marked as not over until the close."""
    found = normalized(payload("ohlc/daily.json"), received=received).frame
    assert found["is_complete"].to_list() == [True, True, complete]


def test_minute_bar_is_complete_a_minute_after_its_start() -> None:
    """A minute bar is over one minute after its start."""
    received = datetime(2026, 1, 5, 14, 31, 30, tzinfo=UTC)
    found = normalized(payload("ohlc/minute.json"), request=MINUTES, received=received).frame
    assert found["is_complete"].to_list() == [True, True, False, False]


def test_month_is_complete_after_its_last_session() -> None:
    """A monthly bar is over with the close of the month's last session, whatever day its stamp is."""
    candles = [
        document("ohlc/daily.json")["candles"][0] | {"datetime": central_midnight(day)}
        for day in (date(2025, 11, 1), date(2025, 12, 1), date(2026, 1, 1))
    ]
    found = normalized({"symbol": "XYZ", "candles": candles}, request=UNSTATED).frame
    assert found["frequency"].unique().to_list() == ["monthly"]
    assert found["is_complete"].to_list() == [True, True, False]
    assert broken(validate(found, ohlc.SCHEMA)) == set()


@pytest.mark.parametrize(
    ("frequency", "stamped", "session"),
    [
        ("monthly", date(2025, 11, 1), date(2025, 11, 3)),  # a Saturday
        ("monthly", date(2025, 1, 1), date(2025, 1, 2)),  # New Year's Day
        ("monthly", date(2025, 10, 1), date(2025, 10, 1)),
        ("weekly", date(2025, 5, 26), date(2025, 5, 27)),  # Memorial Day
        ("weekly", date(2025, 6, 2), date(2025, 6, 2)),
        ("daily", date(2025, 5, 26), date(2025, 5, 26)),  # a day without a session stays what it is, and is refused
        ("monthly", date(1998, 3, 1), date(1998, 3, 1)),  # beyond our calendar
    ],
)
def test_longer_bar_is_of_the_session_it_begins_in(frequency: str, stamped: date, session: date) -> None:
    """A week or month stamped with a day without a session is filed under its first session."""
    request = MarketDataRequest("ohlc", "/pricehistory", (("frequencyType", frequency),), ("XYZ",))
    candle = document("ohlc/daily.json")["candles"][0] | {"datetime": central_midnight(stamped)}
    found = normalized({"symbol": "XYZ", "candles": [candle]}, request=request).frame
    assert found["session_date"].to_list() == [session]
    assert found["bar_time"].to_list() == [datetime(stamped.year, stamped.month, stamped.day, tzinfo=CENTRAL)]


def test_week_is_complete_after_its_last_session() -> None:
    """A weekly bar is over with the close of the week's last session, a Thursday before Good Friday."""
    candles = [
        document("ohlc/daily.json")["candles"][0] | {"datetime": central_midnight(day)}
        for day in (date(2025, 4, 7), date(2025, 4, 14))
    ]
    history = {"symbol": "XYZ", "candles": candles}
    thursday = datetime(2025, 4, 17, 20, 0, tzinfo=UTC)
    for received, complete in [(thursday, True), (thursday - timedelta(seconds=1), False)]:
        found = normalized(history, request=UNSTATED, received=received).frame
        assert found.select("frequency", "is_complete").rows() == [("weekly", True), ("weekly", complete)]


# -- frequency -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"frequencyType": "daily"}, "daily"),
        ({"frequencyType": "minute"}, "minute"),
        ({"frequencyType": "minute", "frequency": "1"}, "minute"),
        ({"frequencyType": "minute", "frequency": "30"}, "minute_30"),
        ({"periodType": "day"}, "minute"),
        ({"periodType": "month"}, "weekly"),
        ({"periodType": "year"}, "monthly"),
        ({"periodType": "ytd"}, "weekly"),
        ({"periodType": "year", "frequencyType": "weekly"}, "weekly"),
    ],
)
def test_frequency_is_what_was_asked(query: dict[str, str], expected: str) -> None:
    """The query decides, with the source's defaults, whatever the stamps look like."""
    assert ohlc.frequency_of(query.items(), [0.0]) == expected


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        ([0, 1, 2, 5], "minute"),
        ([0, 5, 15], "minute_5"),
        ([0, 10, 30], "minute_10"),
        ([0, 15, 45], "minute_15"),
        ([0, 30, 90], "minute_30"),
        ([0, 7], "minute"),
    ],
)
def test_frequency_is_read_from_minute_stamps(minutes: list[int], expected: str) -> None:
    """Without a query the longest bar that fits all distances between stamps is it."""
    start = int(datetime(2026, 1, 5, 14, 30, tzinfo=UTC).timestamp() * 1000)
    assert ohlc.frequency_of((), [start + minute * 60_000 for minute in minutes]) == expected


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ([date(2025, 10, 30), date(2025, 10, 31), date(2025, 11, 3)], "daily"),
        ([date(2025, 10, 27), date(2025, 11, 3)], "weekly"),
        ([date(2025, 10, 1), date(2025, 11, 1), date(2025, 12, 1)], "monthly"),
    ],
)
def test_frequency_is_read_from_stamps_of_days(days: list[date], expected: str) -> None:
    """Midnights in Chicago are told apart by their smallest distance, over the change of the clock too."""
    assert ohlc.frequency_of((), [central_midnight(day) for day in days]) == expected


@pytest.mark.parametrize(
    ("query", "stamps"),
    [
        ({}, [0.0]),
        ({}, []),
        ({"frequencyType": "hourly"}, [0.0]),
        ({"frequencyType": "minute", "frequency": "7"}, [0.0]),
    ],
)
def test_frequency_that_nobody_says_is_refused(query: dict[str, str], stamps: list[float]) -> None:
    """One bar alone, or a frequency the source does not have, is not guessed at."""
    with pytest.raises(ResponseRejectedError) as caught:
        ohlc.frequency_of(query.items(), stamps)
    assert caught.value.reason == "unknown_frequency"


# -- rules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        (lambda bar: bar.update(open=0.0, low=0.0), {"open_not_positive", "low_not_positive"}),
        (lambda bar: bar.update(close=-1.0, low=-1.0), {"close_not_positive", "low_not_positive"}),
        (lambda bar: bar.update(high=-1.0), {"high_not_positive", "high_too_low", "low_too_high"}),
        (lambda bar: bar.update(high=99.9999), {"high_too_low"}),
        (lambda bar: bar.update(low=99.0001), {"low_too_high"}),
        (lambda bar: bar.update(volume=-1), {"negative_volume"}),
        (lambda bar: bar.update(datetime=bar["datetime"] + 60_000), {"off_grid"}),
        (lambda bar: bar.update(datetime=bar["datetime"] - 7 * 86_400_000 + 86_400_000), {"not_a_session"}),
    ],
)
def test_bad_bar_is_quarantined_with_its_rules(change: Callable[[Any], Any], rules: set[str]) -> None:
    """A bar that cannot be goes to quarantine with the rules it broke; the other two stay."""
    found = judged(with_bar(change))
    assert found.valid.height == 2
    assert set(found.quarantined["broken_rules"].to_list()[0]) == rules


def test_prices_are_compared_in_ten_thousandths_of_a_dollar() -> None:
    """A difference below 1/10000 dollar is none."""
    assert broken(judged(with_bar(lambda bar: bar.update(high=100.00004, close=100.000041)))) == set()


def test_bars_that_go_back_in_time_are_quarantined() -> None:
    """A bar before one that came earlier is out of order; the ones in order stay."""
    history = changed(document("ohlc/daily.json"), lambda history: history["candles"].reverse())
    found = judged(history)
    assert found.valid["session_date"].to_list() == [SESSION]
    assert found.quarantined["broken_rules"].to_list() == [["out_of_order"]] * 2


def test_order_is_judged_within_one_answer() -> None:
    """Bars of a second answer may be older than those of the first."""
    frame = normalized(payload("ohlc/daily.json")).frame
    earlier = frame.with_columns(pl.col("known_time").dt.offset_by("-1d"), pl.col("session_date"))
    both = pl.concat([frame, earlier.head(2)])
    assert broken(validate(both, ohlc.SCHEMA)) == set()


def test_bar_from_the_future_is_quarantined() -> None:
    """A bar that began after it arrived cannot be."""
    found = judged(payload("ohlc/daily.json"), received=datetime(2026, 1, 3, tzinfo=UTC))
    assert found.quarantined["broken_rules"].to_list() == [["in_the_future"]]


def test_same_stamp_twice_is_a_duplicate() -> None:
    """Two different bars of one time are both refused."""
    history = changed(
        document("ohlc/daily.json"),
        lambda history: history["candles"].insert(1, history["candles"][0] | {"close": 100.25}),
    )
    found = judged(history)
    assert found.quarantined["broken_rules"].to_list() == [["duplicate_key"]] * 2


def test_volume_zero_with_a_range_is_a_warning() -> None:
    """Prices that moved without a trade are counted, the bar kept."""
    found = judged(with_bar(lambda bar: bar.update(volume=0)))
    assert (found.valid.height, broken(found)) == (3, {"zero_volume_range"})


@pytest.mark.parametrize(("flat", "count"), [(2, 0), (3, 3), (5, 5)])
def test_three_flat_bars_in_a_row_are_a_warning(flat: int, count: int) -> None:
    """From three on, bars of a single price with volume are counted, each of them."""
    usual = (100.0, 101.0, 99.0, 100.0, 500)
    found = validate(bars([usual, *[(100.0, 100.0, 100.0, 100.0, 500)] * flat, usual]), ohlc.SCHEMA)
    assert found.rule_counts["flat_bars"] == count
    assert found.quarantined.is_empty()


def test_halved_price_is_a_warning() -> None:
    """A log return beyond 0.5, as of an unadjusted split, is counted; 0.4 is not."""
    split = [(100.0, 100.0, 100.0, 100.0, 0), (50.0, 50.0, 50.0, 50.0, 0)]
    assert validate(bars(split), ohlc.SCHEMA).rule_counts["price_jump"] == 1
    large = 100.0 * math.exp(0.4)
    step = [(100.0, 100.0, 100.0, 100.0, 0), (large, large, large, large, 0)]
    assert validate(bars(step), ohlc.SCHEMA).rule_counts["price_jump"] == 0


@pytest.mark.parametrize(("jump", "count"), [(1.11, 0), (1.14, 1)])
def test_jump_beyond_twelve_deviations_is_a_warning(jump: float, count: int) -> None:
    """After 63 returns of 1 % up and down in turn, 11 % is within twelve deviations (12.1 %) and 14 % is not."""
    closes = [100.0 if step % 2 else 101.0 for step in range(64)]
    closes.append(closes[-1] * jump)
    found = validate(bars([(close, close, close, close, 0) for close in closes]), ohlc.SCHEMA)
    assert found.rule_counts["price_jump"] == count


def test_minute_bar_at_night_is_a_warning() -> None:
    """A minute bar outside 04:00 to 20:00 New York is counted and kept; so is one on a Sunday."""
    stamps = [datetime(2026, 1, 5, 8, 59, tzinfo=UTC), datetime(2026, 1, 4, 16, 0, tzinfo=UTC)]
    for stamp in stamps:
        milliseconds = int(stamp.timestamp() * 1000)
        history = document("ohlc/minute.json")
        history["candles"] = [history["candles"][0] | {"datetime": milliseconds}]
        found = judged(history, request=MINUTES)
        assert (found.valid.height, broken(found)) == (1, {"outside_session"})


def test_missing_sessions_are_counted() -> None:
    """A session between the first and the last bar without one is counted; holidays are not missed."""
    gap = changed(document("ohlc/daily.json"), lambda history: history["candles"].pop(1))
    assert normalized(gap).counts["missing_session"] == 1
    assert "missing_session" not in normalized(payload("ohlc/daily.json")).counts


@pytest.mark.parametrize(
    ("close", "day", "counts"),
    [
        # the payload's bar of 2 January closes at 101.0
        (101.0, date(2026, 1, 2), {}),
        (101.01, date(2026, 1, 2), {}),
        (101.0101, date(2026, 1, 2), {"official_close_differs:XYZ": 1}),
        (100.98, date(2026, 1, 2), {"official_close_differs:XYZ": 1}),
        # the session's own minutes close elsewhere than its daily bar, which is the one meant
        (100.5, SESSION, {}),
        # nothing is known of a day without a bar, or without a close
        (99.0, date(2025, 12, 30), {}),
        (0.0, date(2026, 1, 2), {}),
        (None, date(2026, 1, 2), {}),
    ],
)
def test_official_close_more_than_a_cent_away_is_counted(
    close: float | None, day: date, counts: dict[str, int]
) -> None:
    """The close before the minute bars is that of the daily bar of its session, whichever answer comes first."""
    minutes = document("ohlc/minute.json") | {"previousClose": close, "previousCloseDate": central_midnight(day)}
    answers = [
        answered(DAILY, payload("ohlc/daily.json"), received=EVENING),
        answered(MINUTES, minutes, received=EVENING),
    ]
    for responses in (answers, answers[::-1]):
        found = ohlc.normalize(responses, session_date=SESSION)
        assert {name: n for name, n in found.counts.items() if name.startswith("official")} == counts
    other = answered(MINUTES, minutes | {"symbol": "ABC"}, received=EVENING)
    stranger = RawResponse(UNSTATED_ANY, 200, other.body, (), EVENING, EVENING)
    assert "official_close_differs:XYZ" not in ohlc.normalize([answers[0], stranger], session_date=SESSION).counts


def test_daily_bar_counts_once_whatever_many_answers_say() -> None:
    """Two official closes of one day that both differ from its bar are one bar that differs."""
    minutes = document("ohlc/minute.json") | {"previousCloseDate": central_midnight(date(2026, 1, 2))}
    bodies = [(DAILY, document("ohlc/daily.json"))]
    bodies += [(MINUTES, minutes | {"previousClose": close}) for close in (99.0, 99.5)]
    found = ohlc.normalize([answered(*body, received=EVENING) for body in bodies], session_date=SESSION)
    assert found.counts == {"official_close_differs:XYZ": 1}


def test_official_close_that_is_no_number_is_left_out() -> None:
    """A wrong type around the bars costs no bar; it is counted."""
    found = normalized(document("ohlc/minute.json") | {"previousClose": "NaN"}, request=MINUTES)
    assert found.frame.height == 4
    assert found.counts == {"left_out:type_previous_close": 1, "tolerant_parse": 1}


def test_minute_bars_that_disagree_with_their_day_are_a_warning() -> None:
    """All 390 minutes of the session beside its daily bar: the bar stays, and each figure that differs is counted."""
    opened = int(datetime(2026, 1, 5, 14, 30, tzinfo=UTC).timestamp() * 1000)
    minute = {"open": 101.0, "high": 101.0, "low": 100.0, "close": 100.5, "volume": 2_500}
    candles = [minute | {"datetime": opened + 60_000 * step} for step in range(390)]
    minutes = answered(MINUTES, {"symbol": "XYZ", "candles": candles}, received=EVENING)
    daily = answered(DAILY, payload("ohlc/daily.json"), received=EVENING)
    found = validate(ohlc.normalize([daily, minutes], session_date=SESSION).frame, ohlc.SCHEMA)
    assert found.valid.height == 393
    # the day's high is 101.75; its volume 990,000 against 975,000
    assert broken(found) == {"high_disagrees", "volume_disagrees"}


def test_bars_from_before_our_calendar_are_kept_without_a_session_part() -> None:
    """Where the calendar does not reach, nothing is said about the session and no rule is broken."""
    found = normalized(
        {
            "symbol": "XYZ",
            "candles": [document("ohlc/daily.json")["candles"][0] | {"datetime": central_midnight(date(1998, 3, 2))}],
        }
    ).frame
    assert found.select("session_part", "is_complete").rows() == [(None, None)]
    assert validate(found, ohlc.SCHEMA).quarantined.is_empty()


# -- golden ----------------------------------------------------------------------------------------------------------


def table_of(candles: pl.DataFrame, symbol: str) -> pl.DataFrame:
    """Daily bars of a market sample through the whole wire path."""
    rows = candles.with_columns(
        pl.col("date").map_elements(central_midnight, return_dtype=pl.Int64).alias("datetime")
    ).drop("date")
    request = MarketDataRequest("ohlc", "/pricehistory", (("frequencyType", "daily"),), (symbol,))
    body = {"symbol": symbol, "candles": rows.to_dicts()}
    return normalized(body, request=request, received=datetime(2026, 8, 1, tzinfo=UTC)).frame


def sample(name: str) -> Any:
    """The path of a market sample; skips where the samples are not there."""
    path = RECORDINGS / "market" / name
    if not path.exists():
        pytest.skip(f"NOT RUN: no samples beside the checkout ({name})")
    return path


def test_golden_vix_has_47_disordered_bars() -> None:
    """The published VIX history breaks the ordering rules in exactly 47 rows, first on 11 and 19 February 1992."""
    prices = pl.read_csv(sample("vix_daily.csv"), try_parse_dates=True).rename(str.lower)
    prices = prices.with_columns(pl.lit(0).alias("volume"))
    found = validate(table_of(prices, "$VIX"), ohlc.SCHEMA)
    disordered = found.quarantined.filter(
        pl.col("broken_rules").list.set_intersection(["high_too_low", "low_too_high"]).list.len() > 0
    )
    assert disordered.height == 47
    assert disordered["session_date"].to_list()[:3] == [date(1992, 2, 11), date(1992, 2, 19), date(1992, 8, 24)]


def test_golden_spy_has_no_disordered_bar() -> None:
    """All 5,849 daily rows of SPY keep the rules."""
    prices = pl.read_parquet(sample("ohlcv_spy_daily.parquet")).select(
        pl.col("date").cast(pl.Date), "open", "high", "low", "close", pl.col("volume").cast(pl.Int64)
    )
    found = validate(table_of(prices, "SPY"), ohlc.SCHEMA)
    assert found.valid.height == 5_849
    assert found.quarantined.is_empty()


# -- bad answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda bar: bar.update(open="99"), "type_open"),
        (lambda bar: bar.update(close=None), "type_close"),
        (lambda bar: bar.update(high=float("nan")), "not_finite_high"),
        (lambda bar: bar.update(volume=10.5), "type_volume"),
        (lambda bar: bar.update(datetime=-1), "type_bar_time"),
        (lambda bar: bar.pop("datetime"), "missing_bar_time"),
        (lambda bar: bar.pop("low"), "missing_low"),
    ],
)
def test_bar_that_cannot_be_typed_is_rejected_alone(change: Callable[[Any], Any], rule: str) -> None:
    """A wrong or missing field costs that bar only, with its rule."""
    found = normalized(with_bar(change))
    assert found.frame.height == 2
    assert found.rejected.select("symbol", "rule").rows() == [("XYZ", rule)]
    assert found.counts["tolerant_parse"] == 1


def test_whole_numbers_may_be_written_with_a_point() -> None:
    """A volume of 5.0 is five."""
    found = normalized(with_bar(lambda bar: bar.update(volume=5.0)))
    assert found.frame["volume"].to_list()[0] == 5
    assert "tolerant_parse" not in found.counts


def test_new_fields_are_counted_by_place() -> None:
    """A field nobody declared is counted, in bars by how many have it; the rows are the same."""

    def add(history: Any) -> None:
        history["datetimeISO8601"] = "x"
        history["candles"][0]["vwap"] = 1.0
        history["candles"][2]["vwap"] = 1.0

    found = normalized(changed(document("ohlc/daily.json"), add))
    assert found.counts == {"unknown_field:bar.vwap": 2, "unknown_field:history.datetimeISO8601": 1}
    assert found.frame.equals(normalized(payload("ohlc/daily.json")).frame)


@pytest.mark.parametrize("field", ["open", "high", "low", "close", "volume", "datetime"])
@pytest.mark.parametrize("more", [{}, {"vwap": [{"a": 1}]}])
def test_any_repeated_field_costs_its_bar(field: str, more: dict[str, Any]) -> None:
    """A bar that states a field twice is rejected, whatever fields are missing around it or new in it."""
    history = document("ohlc/daily.json")
    history = {"candles": [bar | more for bar in history["candles"]], "symbol": "XYZ"}
    body = json.dumps(history).encode().replace(f'"{field}":'.encode(), f'"{field}": 5, "{field}":'.encode(), 1)
    found = normalized(body)
    assert found.rejected["rule"].to_list() == ["repeated_field"]
    assert f'"{field}": 5, "{field}": ' in found.rejected["source"][0]
    assert found.frame.height == 2


@pytest.mark.parametrize("field", ["previousClose", "empty"])
def test_repeated_field_around_the_bars_is_counted(field: str) -> None:
    """Of a field around the bars that comes twice the last stands; that it happened is counted."""
    body = payload("ohlc/daily.json").replace(f'"{field}":'.encode(), f'"{field}": null, "{field}":'.encode(), 1)
    found = normalized(body)
    assert found.counts == {"repeated_field:history": 1, "tolerant_parse": 1}
    assert found.frame.equals(normalized(payload("ohlc/daily.json")).frame)


def test_null_around_the_bars_is_no_repeat() -> None:
    """A field sent as null stays on the fast path."""
    assert normalized(document("ohlc/daily.json") | {"previousClose": None, "empty": None}).counts == {}


def test_repeated_list_of_bars_hides_none() -> None:
    """When the list of bars comes twice, the bars of both are offered."""
    body = payload("ohlc/daily.json").replace(b'"symbol"', b'"candles": [], "symbol"', 1)
    assert normalized(body).frame.height == 3


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (payload("ohlc/access_denied.html"), "html"),
        (payload("ohlc/not_found.json"), "error_body"),
        (payload("ohlc/empty.json"), "no_bars"),
        (payload("ohlc/daily.json")[:200], "truncated"),
        (b'{"symbol": "XYZ", "candles": null}', "no_bars"),
        (b'{"symbol": "XYZ"}', "missing_field"),
        (b'{"candles": [1]}', "missing_field"),
        (b"7", "not_an_object"),
        (document("ohlc/daily.json") | {"symbol": "ABC"}, "other_symbol"),
        (b'{"a":' * 100_000, "nested_too_deep"),
    ],
)
def test_unusable_response_is_a_problem_and_spares_the_others(body: Any, reason: str) -> None:
    """A response that cannot be used as a whole is reported with its reason; the next one is read."""
    found = normalized(body, payload("ohlc/daily.json"))
    assert [(problem.reason, problem.symbols) for problem in found.problems] == [(reason, ("XYZ",))]
    assert found.frame.height == 3


def test_error_status_is_a_problem() -> None:
    """A body under another status than 200 is not read."""
    assert normalized(payload("ohlc/daily.json"), status=400).problems[0].reason == "http_status"


def test_answer_of_unknown_frequency_is_a_problem() -> None:
    """One bar without a query that says its length is reported, not guessed at."""
    history = changed(document("ohlc/daily.json"), lambda history: history.update(candles=history["candles"][:1]))
    assert [problem.reason for problem in normalized(history, request=UNSTATED).problems] == ["unknown_frequency"]


# -- revisions -------------------------------------------------------------------------------------------------------


def known(hour: int, close: float) -> pl.DataFrame:
    """One daily bar as it was known at an hour of the session's evening."""
    history = document("ohlc/daily.json")
    history["candles"] = [history["candles"][2] | {"close": close}]
    return normalized(history, received=EVENING.replace(hour=hour)).frame


def test_unchanged_bar_keeps_its_first_known_time() -> None:
    """A bar seen again with the same values is kept once; a changed one is a second row."""
    table = ohlc.revisions(pl.concat([known(21, 100.5), known(22, 100.5), known(23, 100.75)]))
    assert table.select("close", "known_time").rows() == [
        (100.5, EVENING.replace(hour=21)),
        (100.75, EVENING.replace(hour=23)),
    ]


def test_value_that_returns_is_a_revision_of_its_own() -> None:
    """A bar that changed and changed back has three rows."""
    table = ohlc.revisions(pl.concat([known(21, 100.5), known(22, 100.75), known(23, 100.5)]))
    assert table["close"].to_list() == [100.5, 100.75, 100.5]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from([100.0, 100.5])), unique_by=lambda seen: seen[0]), st.data()
)
def test_revisions_depend_neither_on_order_nor_on_repeats(seen: list[tuple[int, float]], data: st.DataObject) -> None:
    """Whatever order captures come in, and however often the result is combined again, the table is the same."""
    parts = [known(12 + hour, close) for hour, close in seen] or [ohlc.SCHEMA.empty()]
    once = ohlc.revisions(pl.concat(parts))
    shuffled = ohlc.revisions(pl.concat(data.draw(st.permutations(parts))))
    assert once.equals(shuffled)
    assert once.equals(ohlc.revisions(pl.concat([once, *parts])))


def test_equal_values_of_different_bars_are_no_repeats() -> None:
    """Bars of two days, and of two symbols, that happen to have the same values all stand."""
    same = document("ohlc/daily.json")["candles"][0]
    days = [same | {"datetime": central_midnight(day)} for day in (date(2025, 12, 31), date(2026, 1, 2))]
    frame = normalized({"symbol": "XYZ", "candles": days}).frame
    both = pl.concat([frame, frame.with_columns(pl.lit("ABC").alias("symbol"))])
    assert ohlc.revisions(both).height == 4


# -- simulated -------------------------------------------------------------------------------------------------------


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
    assert (found.counts, broken(judged)) == ({}, set()), "minute bars, daily bars and official closes agree"
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
