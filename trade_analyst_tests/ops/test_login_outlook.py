"""How long the login lasts is told in both zones, and what does not fit into it is named."""

from datetime import UTC, date, datetime, timedelta

import pytest

from trade_analyst_pipeline.ops.login_outlook import (
    Login,
    ending_notice,
    passed_threshold,
    shortfall,
    span,
    standing,
)

ENDS = datetime(2026, 3, 8, 12, 30, tzinfo=UTC)  # New York's clocks go forward at 07:00 UTC that day
LOGIN = Login(ENDS - timedelta(days=7), ENDS, generation=4, key_source="file")
HOUR = timedelta(hours=1)


def test_instants_are_told_in_both_zones_across_a_clock_change() -> None:
    """Before the change New York is five hours behind, after it four."""
    assert "until 2026-03-08 12:30:00 UTC (2026-03-08 08:30 New York)" in standing(LOGIN, ENDS - HOUR)
    before = Login(LOGIN.login_time, ENDS - timedelta(days=1))
    assert "until 2026-03-07 12:30:00 UTC (2026-03-07 07:30 New York)" in standing(before, ENDS - timedelta(days=2))


@pytest.mark.parametrize(
    ("minutes", "text"),
    [(0, "0 min"), (59, "59 min"), (60, "1 h 0 min"), (719, "11 h 59 min"), (1440, "1 day 0 h"), (9000, "6 days 6 h")],
)
def test_lengths_are_told_in_two_units(minutes: int, text: str) -> None:
    """Minutes below an hour, hours and minutes below a day, then days and hours."""
    assert span(timedelta(minutes=minutes)) == text


@pytest.mark.parametrize(
    ("left", "threshold"),
    [(48.01, None), (48, 48), (12.01, 48), (12, 12), (0.01, 12), (0, None), (-1, None)],
)
def test_threshold_passed_is_the_smallest(left: float, threshold: int | None) -> None:
    """48 from 48 hours down to just over 12, then 12; none before, and none once it is over."""
    assert passed_threshold(LOGIN, ENDS - left * HOUR) == threshold


def test_login_that_is_over_refused_or_absent_is_not_usable() -> None:
    """At the very end it is over; a refused one has nothing left; without one there is nothing to use."""
    assert LOGIN.is_usable(ENDS - timedelta(seconds=1))
    assert not LOGIN.is_usable(ENDS)
    refused = Login(LOGIN.login_time, ENDS, problem="the source refused it")
    assert refused.left(ENDS - HOUR) == timedelta()
    assert not Login(None, None).is_usable(ENDS)
    assert standing(LOGIN, ENDS - HOUR) == "1 h 0 min left, until 2026-03-08 12:30:00 UTC (2026-03-08 08:30 New York)"
    assert standing(LOGIN, ENDS).startswith("the login ended at 2026-03-08 12:30:00 UTC")
    assert standing(refused, ENDS - HOUR) == "the source refused it"
    assert standing(Login(None, None), ENDS) == "nobody has logged in"
    assert standing(Login(None, None, problem="no key"), ENDS) == "no key"


def test_notice_says_when_and_what_to_do() -> None:
    """Both zones, and the command."""
    notice = ending_notice(LOGIN, ENDS - 12 * HOUR)
    assert "12 h 0 min left, until 2026-03-08 12:30:00 UTC (2026-03-08 08:30 New York)" in notice
    assert "trade-analyst login" in notice


def test_login_of_the_future_may_end_at_any_time() -> None:
    """It is warned of at once, with its date and not with an end that nobody knows."""
    ahead = Login(LOGIN.login_time, ENDS, lead=timedelta(days=2, hours=1))
    assert passed_threshold(ahead, ENDS - 167 * HOUR) == 48
    notice = ending_notice(ahead, ENDS - 167 * HOUR)
    assert notice.startswith("the login at the source may end at any time: the login is dated 2 days 1 h ahead of this")
    assert "left, until" not in notice


FRIDAY, MONDAY = date(2026, 3, 6), date(2026, 3, 9)


@pytest.mark.parametrize(
    ("before", "takes", "days", "words"),
    [
        (2 * HOUR, HOUR, [FRIDAY], None),
        (2 * HOUR, 2 * HOUR, [FRIDAY], None),
        (HOUR, timedelta(hours=1, minutes=1), [FRIDAY], "estimated to take 1 h 1 min, until 2026-03-08 12:31:00 UTC"),
        (
            9 * HOUR,
            HOUR,
            [FRIDAY, MONDAY],
            "session 2026-03-09 closes at 2026-03-09 20:15:00 UTC (2026-03-09 16:15 New York)",
        ),
        (9 * HOUR, HOUR, [], None),
    ],
)
def test_run_that_outlives_the_login_is_told_so(
    before: timedelta, takes: timedelta, days: list[date], words: str | None
) -> None:
    """A run may end with the login to the minute; one that ends later, or whose last session closes later, is told."""
    told = shortfall(LOGIN, now=ENDS - before, takes=takes, sessions=days)
    if words is None:
        assert told is None
    else:
        assert told is not None
        assert words in told
        assert "2026-03-08 12:30:00 UTC (2026-03-08 08:30 New York)" in told
        assert "trade-analyst login" in told


def test_without_a_login_nothing_can_be_too_short() -> None:
    """That it is missing is another message."""
    assert shortfall(Login(None, None), now=ENDS, takes=HOUR, sessions=[FRIDAY]) is None
