"""Captures of price history built into tables in any order: one late capture changes nothing that follows it.

Bars of one day come in captures of several sessions, with the same or other values. Whatever order the captures
arrive and are built in, the tables have the content that building all of them at once gives.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from wire_bodies import answered

from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.lineage import merging, tables
from trade_analyst_pipeline.market.bars import CENTRAL
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.tables import TableStore

SESSIONS = (date(2026, 1, 5), date(2026, 1, 6), date(2026, 1, 7))
CREATED = datetime(2026, 1, 8, tzinfo=UTC)
DAILY = MarketDataRequest("ohlc", "/pricehistory", (("symbol", "XYZ"), ("frequencyType", "daily")), ("XYZ",))


@dataclass(frozen=True)
class Captured:
    """One capture: when it was taken, and the close of each day it tells of."""

    session_date: date
    hour: int
    closes: tuple[tuple[date, float], ...]

    @property
    def taken(self) -> datetime:
        """When its answer arrived."""
        return datetime.combine(self.session_date, time(self.hour), UTC)


def archive(folder: Path, captured: Captured) -> None:
    """Seal a capture, as the source's answer."""
    candles = [
        {"open": 100.0, "high": 101.0, "low": 99.0, "close": close, "volume": 1_000, "datetime": central_midnight(day)}
        for day, close in captured.closes
    ]
    body = {"symbol": "XYZ", "candles": candles}
    with Archive(folder / "raw").begin(
        dataset="ohlc", session_date=captured.session_date, scheduled_time=captured.taken, started_time=captured.taken
    ) as writer:
        writer.append(answered(DAILY, body, received=captured.taken))
        writer.seal(captured.taken)


def central_midnight(day: date) -> int:
    """Epoch milliseconds of midnight in Chicago."""
    return int(datetime(day.year, day.month, day.day, tzinfo=CENTRAL).timestamp() * 1000)


def content(captures: Sequence[Sequence[Captured]]) -> dict[Any, str]:
    """The content hash of each partition after groups of captures arrived and were built one group after the other."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for group in captures:
            for captured in group:
                archive(folder, captured)
            sessions = sorted({captured.session_date for captured in group})
            list(tables.build_tables(folder, "ohlc", sessions, workers=1, created_time=CREATED))
        store = TableStore(folder)
        rows = store.scan("tables", "ohlc", schema=DATASETS["ohlc"].schema).collect()
        assert rows.height >= len({day for group in captures for captured in group for day, _ in captured.closes})
        return {manifest.partition: manifest.content_hash for manifest in store.manifests("tables", "ohlc")}


@st.composite
def some_captures(draw: st.DrawFn) -> list[Captured]:
    """Two to five captures at different times; each tells of some days up to its own, with one of two closes."""
    times = draw(st.lists(st.tuples(st.sampled_from(SESSIONS), st.sampled_from([15, 22])), min_size=2, unique=True))
    captures = []
    for session_date, hour in times[:5]:
        days = [day for day in SESSIONS if day <= session_date]
        told = draw(st.lists(st.sampled_from(days), min_size=1, unique=True).map(sorted))
        captures.append(
            Captured(session_date, hour, tuple((day, draw(st.sampled_from([100.0, 100.5]))) for day in told))
        )
    return captures


def groups(captures: Sequence[Captured], cuts: Sequence[bool]) -> list[list[Captured]]:
    """Captures in groups that arrive together: a new group wherever `cuts` says so."""
    found: list[list[Captured]] = [[]]
    for captured, cut in zip(captures, cuts, strict=True):
        if cut and found[-1]:
            found.append([])
        found[-1].append(captured)
    return found


@pytest.mark.reliability
def test_captures_built_in_any_order_give_one_table(is_full: bool, harness_seed: int) -> None:
    """Arriving one by one or in groups, in any order, they leave what one building of all leaves."""
    examples = 60 if is_full else 6
    seen = 0

    @seed(harness_seed)
    @settings(
        max_examples=examples, deadline=None, database=None, phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def check(data: st.DataObject) -> None:
        nonlocal seen
        captures = data.draw(some_captures())
        order = data.draw(st.permutations(captures))
        cuts = data.draw(st.lists(st.booleans(), min_size=len(order), max_size=len(order)))
        assert content(groups(order, cuts)) == content([captures])
        seen += 1

    check()
    print(f"ohlc captures: {seen} sets of captures in a random order, 0 tables that differ")


# The close of 5 January is 100, then 100.5, then 100 again; the capture in the middle arrives last.
FIRST, MIDDLE, LAST = (
    Captured(session_date, 22, ((SESSIONS[0], close),))
    for session_date, close in zip(SESSIONS, (100.0, 100.5, 100.0), strict=True)
)


def test_value_that_returned_survives_a_capture_that_came_late() -> None:
    """The third value repeats the first as long as the second is not known; then it is a revision of its own."""
    assert content([[FIRST, LAST], [MIDDLE]]) == content([[FIRST, MIDDLE, LAST]])
    assert content([[LAST], [MIDDLE], [FIRST]]) == content([[FIRST, MIDDLE, LAST]])


def test_control_without_merging_again_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that does not merge later captures once more loses the third value, and the comparison sees it."""
    expected = content([[FIRST, MIDDLE, LAST]])
    monkeypatch.setattr(merging._Merging, "_merge_again", lambda *_: iter(()))
    assert content([[FIRST, LAST], [MIDDLE]]) != expected
