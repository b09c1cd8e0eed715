"""Minute bars beside the daily bar of their session: what agrees, what does not, and when nothing is said."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from trade_analyst_pipeline.market.bar_agreement import AGREEMENT_RULES
from trade_analyst_pipeline.market.columns import COLUMNS

# A half day, 09:30 to 13:00 New York: seven bars of half an hour.
DAY = date(2025, 11, 28)
OPEN = datetime(2025, 11, 28, 14, 30, tzinfo=UTC)
EVENING = datetime(2025, 11, 28, 23, 0, tzinfo=UTC)
DAILY: dict[str, Any] = {
    "symbol": "XYZ",
    "session_date": DAY,
    "frequency": "daily",
    "bar_time": datetime(2025, 11, 28, 6, 0, tzinfo=UTC),
    "known_time": EVENING,
    "open": 100.0,
    "high": 103.0,
    "low": 98.0,
    "close": 101.0,
    "volume": 700,
    "session_part": "regular",
    "is_complete": True,
}


def minutes(count: int = 7, length: int = 30, **more: Any) -> list[dict[str, Any]]:
    """Bars of the session from its open: the first opens at 100, the last closes at 101; 98 to 103 in between."""
    bars = [
        DAILY
        | {"frequency": f"minute_{length}", "bar_time": OPEN + step * timedelta(minutes=length)}
        | {"open": 100.5, "high": 102.0, "low": 99.0, "close": 100.5, "volume": 700 // count}
        | more
        for step in range(count)
    ]
    bars[0] |= {"open": 100.0}
    bars[1] |= {"high": 103.0}
    bars[2] |= {"low": 98.0}
    bars[-1] |= {"close": 101.0}
    return bars


def outcomes(rows: list[dict[str, Any]]) -> dict[str, list[bool | None]]:
    """Each rule's outcome for each row, by figure."""
    frame = pl.DataFrame(rows, schema={name: COLUMNS[name].dtype for name in DAILY}, orient="row")
    found = frame.select(rule.passes.alias(rule.name.removesuffix("_disagrees")) for rule in AGREEMENT_RULES)
    return found.to_dict(as_series=False)


def of_daily(rows: list[dict[str, Any]]) -> dict[str, bool | None]:
    """The outcomes of the first row, which has to be the only one judged."""
    found = outcomes(rows)
    assert all(held is None for each in found.values() for held in each[1:])
    return {figure: each[0] for figure, each in found.items()}


AGREED = dict.fromkeys(("open", "high", "low", "close", "volume"), True)
NOT_JUDGED = dict.fromkeys(AGREED)


def test_every_rule_is_a_warning_with_a_meaning() -> None:
    """Such bars are counted, never repaired or removed."""
    assert {rule.severity for rule in AGREEMENT_RULES} == {"warning"}
    assert all(rule.meaning.endswith(".") for rule in AGREEMENT_RULES)


def test_daily_bar_is_what_its_minutes_make() -> None:
    """First open, highest high, lowest low, last close and summed volume, whatever the order of the rows."""
    assert of_daily([DAILY, *minutes()]) == AGREED
    assert of_daily([DAILY, *minutes()[::-1]]) == AGREED


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        ({"open": 100.0001}, {"open"}),
        ({"open": 100.00004}, set()),
        ({"high": 103.01}, {"high"}),
        ({"high": 102.99}, {"high"}),
        ({"low": 97.99}, {"low"}),
        ({"close": 100.99}, {"close"}),
        ({"volume": 707}, set()),
        ({"volume": 708}, {"volume"}),
        ({"volume": 694}, set()),
        ({"volume": 693}, {"volume"}),
        ({"volume": 0}, {"volume"}),
    ],
)
def test_each_figure_is_judged_on_its_own(change: dict[str, Any], differing: set[str]) -> None:
    """Prices in 1/10000 dollar without slack, volume to 1 % of the day's."""
    found = of_daily([DAILY | change, *minutes()])
    assert {figure for figure, held in found.items() if held is False} == differing


@pytest.mark.parametrize(
    "rows",
    [
        [DAILY],
        [DAILY, *minutes()[1:]],
        [DAILY, *minutes()[:-1]],
        [DAILY, *minutes(session_part="post")],
        [DAILY, *minutes(is_complete=False)],
        [DAILY, *minutes(symbol="ABC")],
        [DAILY, *minutes(session_date=date(2025, 11, 26))],
        [DAILY | {"is_complete": False}, *minutes()],
        [DAILY | {"frequency": "weekly"}, *minutes()],
        [DAILY | {"session_part": "outside", "session_date": date(2025, 11, 29)}, *minutes()],
    ],
)
def test_minutes_that_do_not_cover_the_session_judge_nothing(rows: list[dict[str, Any]]) -> None:
    """Bars of a part of the session, of other hours, symbols or days, or still forming, say nothing of the day."""
    assert of_daily(rows) == NOT_JUDGED


def test_finest_bars_judge() -> None:
    """Of bars of 5 and of 30 minutes the shorter ones count, unless they cover less."""
    wrong = minutes(42, 5, high=110.0, volume=1)
    assert of_daily([DAILY, *minutes(), *wrong]) == AGREED | {"high": False, "volume": False}
    assert of_daily([DAILY, *minutes(), *wrong[1:]]) == AGREED


def test_last_answer_judges_and_repeats_count_once() -> None:
    """Bars that came in two answers are not summed; the later answer is the one believed, and equal bars are one."""
    early = minutes(high=110.0, known_time=EVENING - timedelta(hours=1))
    assert of_daily([DAILY, *early, *minutes()]) == AGREED
    assert of_daily([DAILY, *minutes(), *early]) == AGREED
    assert of_daily([DAILY, *minutes(), *minutes()]) == AGREED


def test_table_without_bars_has_no_outcome() -> None:
    """No rows in, no outcomes out."""
    assert all(each == [] for each in outcomes([]).values())
