"""The main job on a live account: a source that shows one session only, and a clock nobody can set back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Protocol

import polars as pl
import pytest
from live_source import LiveSource

from trade_analyst_pipeline.cli import login
from trade_analyst_pipeline.settings import load_settings
from trade_analyst_pipeline.simulator.faults import html_page
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.tables import TableStore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*currently in beta:Warning"),
    pytest.mark.filterwarnings("ignore:Property `OpDefinition.version`:DeprecationWarning"),  # Dagster's own use
]
MONDAY, TUESDAY = date(2026, 11, 23), date(2026, 11, 24)
DATA = Path("data") / "live"


class Outcome(Protocol):
    """What a command left behind."""

    code: int
    out: str
    err: str


def gaps(dataset: str) -> list[tuple[date, str]]:
    """Session and reason of every gap in the archive."""
    found = Archive(DATA / "raw").captures(dataset)
    return [(capture.session_date, gap.reason) for capture in found for gap in capture.gaps]


def test_the_first_day_of_an_account(
    live: LiveSource, run_command: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a login nothing starts. With one, before the close, the session there is comes, and years of daily bars.

    Two earlier sessions, named in a second run, are told and recorded as gaps and fail nothing; what is archived is not
    asked for again.
    """
    monkeypatch.setenv("TRADE_ANALYST_CAPTURE__BARS", '["daily", "minute"]')
    outcome = run_command("run")
    assert (outcome.code, live.requests()) == (1, {})
    assert outcome.err.strip().startswith("nothing was captured: nobody has logged in. Run `trade-analyst login`")
    assert not (DATA / "raw").exists()
    login.login_to_simulator(load_settings())
    outcome = run_command("run")
    assert outcome.code == 0, outcome.err
    asked = live.requests()
    assert (asked["/quotes"], asked["/pricehistory"]) == (2, 4)
    assert [gaps(name) for name in ("options", "quotes", "ohlc")] == [[], [], []]
    store = TableStore(DATA)
    assert store.partitions("tables", "options") == store.partitions("tables", "quotes") == [MONDAY]
    assert len(store.partitions("tables", "ohlc")) > 490
    values = pl.read_parquet(list((DATA / "exports").rglob("*iv_history*.parquet")))
    assert values.filter(pl.col("iv").is_not_null())["symbol"].unique().sort().to_list() == ["AAPL", "IWM"]
    live.now = LiveSource.now  # when these chains were taken as they stood
    outcome = run_command("run", "--from", "2026-11-19", "--assets", "raw/options,tables/options")
    assert outcome.code == 0, outcome.err
    assert "2 of the sessions from 2026-11-19 to 2026-11-20 were over" in outcome.err
    assert sorted(set(gaps("options"))) == [(date(2026, 11, day), "session_over") for day in (19, 20)]
    assert live.requests() == {}


def test_before_the_open_bars_are_taken_and_it_is_said(
    logged_in: LiveSource, run_command: Callable[..., Outcome]
) -> None:
    """At 03:52 in New York there is no session to be had: history of bars comes, nothing else is asked or recorded."""
    logged_in.now = datetime(2026, 11, 24, 8, 52, tzinfo=UTC)
    outcome = run_command("run")
    assert outcome.code == 0, outcome.err
    assert logged_in.requests() == {"/pricehistory": 4}
    assert "can be captured from 2026-11-24 09:30 New York (14:30 UTC)" in outcome.err
    assert [gaps(name) for name in ("options", "quotes", "ohlc")] == [[], [], []]
    outcome = run_command("run", "--to", "2026-11-24")
    assert (outcome.code, logged_in.requests()) == (2, {})
    assert "opens at 09:30 New York" in " ".join(outcome.err.replace("│", " ").split())


def test_what_was_missed_is_late_and_then_a_gap(logged_in: LiveSource, run_command: Callable[..., Outcome]) -> None:
    """In the evening the session is captured for its closing times, and told to be late.

    The next day nobody comes: on the day after that it is a gap, told once, and the evening's capture still stands
    without a request.
    """
    only = ("--assets", "raw/options,tables/options")
    logged_in.now = datetime(2026, 11, 23, 23, 0, tzinfo=UTC)
    outcome = run_command("run", *only)
    assert outcome.code == 0, outcome.err
    captures = Archive(DATA / "raw").captures("options")
    assert [(f"{each.scheduled_time:%H:%M}", each.is_late) for each in captures] == [("20:55", True), ("21:10", True)]
    assert "options of session 2026-11-23 due at 15:55 New York came late, at 18:00" in outcome.err
    logged_in.now = datetime(2026, 11, 25, 15, 0, tzinfo=UTC)
    for is_first in (True, False):
        outcome = run_command("run", *only)
        assert outcome.code == 0, outcome.err
        assert set(gaps("options")) == {(TUESDAY, "session_over")}
        assert ("options of session 2026-11-24 was missed" in outcome.err) is is_first
    shutil.rmtree(DATA / "tables" / "options")
    logged_in.requests()
    outcome = run_command("run", "--from", "2026-11-23", "--to", "2026-11-24", "--all", *only)
    assert (outcome.code, logged_in.requests()) == (0, {})
    assert TableStore(DATA).partitions("tables", "options") == [MONDAY]


def test_a_job_that_fails_stops_no_other(logged_in: LiveSource, run_command: Callable[..., Outcome]) -> None:
    """No chain can be had: quotes, bars and exports come all the same, each symbol is told, and the exit code is 1.

    Once the source is well, a second run asks for the chains alone.
    """
    logged_in.server.faults.add(html_page(), path="/chains", times=None)
    outcome = run_command("run")
    assert outcome.code == 1
    store = TableStore(DATA)
    assert (store.partitions("tables", "options"), store.partitions("tables", "quotes")) == ([], [MONDAY])
    assert MONDAY in store.partitions("tables", "ohlc")
    assert (DATA / "exports").is_dir()
    assert "AAPL: options incomplete in session 2026-11-23 (unexpected_content): options /chains [AAPL]" in outcome.err
    assert "of job history failed" in outcome.err
    logged_in.server.faults.clear()
    logged_in.requests()
    logged_in.now = LiveSource.now  # when these chains were asked for as they stood
    assert run_command("run", "--assets", "raw/options,tables/options").code == 0
    assert set(logged_in.requests()) == {"/chains"}
    assert store.partitions("tables", "options") == [MONDAY]
