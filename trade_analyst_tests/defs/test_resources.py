"""What the source resource does before it asks: it seals what dead processes left, and refuses what has not begun."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.capture.take import Outcome
from trade_analyst_pipeline.defs.resources import SourceResource, _next
from trade_analyst_pipeline.errors import SessionNotCapturableError
from trade_analyst_pipeline.market.clock import MachineClock
from trade_analyst_pipeline.schwab.budget import Priority
from trade_analyst_pipeline.settings import load_settings
from trade_analyst_pipeline.storage.archive import Archive

DAY, DUE = date(2026, 11, 20), datetime(2026, 11, 20, 20, 55, tzinfo=UTC)
ONE_RECORD_THEN_DEAD = """
import os, sys, pathlib
from datetime import UTC, date, datetime
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive
due = datetime(2026, 11, 20, 20, 55, tzinfo=UTC)
writer = Archive(pathlib.Path(sys.argv[1])).begin(
    dataset="options", session_date=date(2026, 11, 20), scheduled_time=due, started_time=due
)
request = MarketDataRequest("options", "/chains", (("symbol", "AAPL"),), ("AAPL",))
writer.append(RawResponse(request, 200, b"{}", (), due, due))
os._exit(9)
"""


@pytest.fixture
def source(repository: Path, monkeypatch: pytest.MonkeyPatch) -> SourceResource:
    """A live source on the evening of the next trading day: the session before is over."""
    shutil.copy(repository / "config.toml", "config.toml")
    for name, value in {"ENVIRONMENT": "live", "APP_KEY": "k" * 32, "APP_SECRET": "s" * 16}.items():
        monkeypatch.setenv(f"TRADE_ANALYST_{name}", value)
    monkeypatch.setenv("TRADE_ANALYST_TOKEN_KEY", Fernet.generate_key().decode())
    monkeypatch.setattr(MachineClock, "now", lambda _: datetime(2026, 11, 23, 23, 0, tzinfo=UTC))
    return SourceResource(load_settings())


def test_what_is_taken_once_a_session_is_planned_for_its_instant_or_as_it_stands(
    source: SourceResource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its instant a dataset is planned for it, before it as the source stands; a session over is none."""
    monday, archive = date(2026, 11, 23), Archive(tmp_path / "raw")
    (movers,) = source.plan("movers", [monday])
    assert movers.scheduled_time == datetime(2026, 11, 23, 20, 55, tzinfo=UTC)
    assert len(source.missing(movers, archive)) == 18
    (over,) = source.plan("movers", [DAY])
    assert (source.missing(over, archive), source.is_available("movers", DAY, archive)) == ([], False)
    morning = datetime(2026, 11, 23, 15, 0, 30, 5, tzinfo=UTC)
    monkeypatch.setattr(MachineClock, "now", lambda _: morning)
    (movers,), (hours,) = source.plan("movers", [monday]), source.plan("markets", [monday])
    assert movers.scheduled_time == datetime(2026, 11, 23, 15, 0, 30, tzinfo=UTC)
    assert hours.scheduled_time == datetime(2026, 11, 23, 14, 45, tzinfo=UTC)
    (asked,) = source.missing(hours, archive)
    assert asked.params == (("markets", "equity,option,bond,future,forex"), ("date", "2026-11-23"))
    expirations = source.missing(source.plan("expirations", [monday])[0], archive)
    assert {"AAPL", "SPY", "$SPX"} <= {request.symbols[0] for request in expirations}


def test_each_snapshot_of_a_tick_is_asked_for_in_its_own_class(source: SourceResource) -> None:
    """At 15:45 stocks are before their close, and late options trade on: at 16:00 those are."""

    def asked(hour: int, minute: int) -> list[tuple[bool, Priority]]:
        tick, classes = datetime(2026, 11, 23, hour, minute, tzinfo=UTC), dict[tuple[str, ...], Priority]()
        for snapshot in source.plan("options", [date(2026, 11, 23)], tick=tick):

            def open_at(instant: datetime, priority: Priority, of: Snapshot = snapshot) -> Any:
                assert instant == tick
                classes[of.symbols] = priority

            source._classed(open_at, snapshot)
        return [("SPY" in symbols, priority) for symbols, priority in classes.items()]

    assert asked(20, 45) == [(False, Priority.CLOSING), (True, Priority.INTRADAY)]
    assert asked(21, 0) == [(True, Priority.CLOSING)]


def test_what_a_dead_process_received_is_kept(
    source: SourceResource, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its unsealed capture is sealed and counted in the log before anything is asked, and serves as the session's."""
    raw = tmp_path / "raw"
    ended = subprocess.run([sys.executable, "-c", ONE_RECORD_THEN_DEAD, str(raw)], env=os.environ, check=False)
    assert ended.returncode == 9
    assert len(list(raw.rglob("*.part"))) == 1
    with caplog.at_level(logging.WARNING, logger="trade_analyst.capture"):
        (outcome,) = source.take([Snapshot("options", DAY, DUE, ("AAPL",))], Archive(raw))
    assert [capture.record_count for capture in outcome.captures] == [1]
    assert outcome.gaps == ()  # it holds all that was wanted
    assert "sealed 1 responses of session 2026-11-20" in caplog.text
    assert list(raw.rglob("*.part")) == []


def test_a_capture_being_written_is_left_alone(source: SourceResource, tmp_path: Path) -> None:
    """What another process writes at the moment is neither sealed nor taken for an answer."""
    archive = Archive(tmp_path / "raw")
    with archive.begin(dataset="options", session_date=DAY, scheduled_time=DUE, started_time=DUE):
        (outcome,) = source.take([Snapshot("options", DAY, DUE, ("AAPL",))], archive)
        assert [gap.reason for gap in outcome.gaps] == ["session_over"]
        assert len(list((tmp_path / "raw").rglob("*.part"))) == 1


def test_a_session_that_has_not_begun_is_not_planned(source: SourceResource) -> None:
    """The next session is refused with the time of its open, whatever the dataset."""
    for name in ("options", "quotes", "ohlc"):
        with pytest.raises(SessionNotCapturableError, match="session 2026-11-24 opens at 09:30 New York"):
            source.plan(name, [date(2026, 11, 24)])


def test_a_dataset_without_a_symbol_cannot_be_had(tmp_path: Path) -> None:
    """Of futures alone there are quotes and no chains, whatever the source could give."""
    fast = {"fast": {"symbols": ["/ES"], "datasets": {"quotes": 5}}}
    source = SourceResource(load_settings(universe={"symbols": [], "sets": fast}))
    archive = Archive(tmp_path / "raw")
    names = ("quotes", "options", "ohlc", "markets", "instruments")
    assert [name for name in names if source.is_available(name, DAY, archive)] == ["quotes", "markets"]


def test_ctrl_c_ends_a_capture_whoever_handles_it() -> None:
    """Inside Dagster's handler, whose exception asyncio would drop in a callback, Ctrl-C is KeyboardInterrupt."""

    class DagsterLikeError(BaseException):
        """As Dagster's: no KeyboardInterrupt."""

    def handle(*_: object) -> None:
        raise DagsterLikeError

    async def outcomes() -> AsyncGenerator[Outcome, None]:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        await asyncio.sleep(30)
        yield Outcome(Snapshot("options", DAY, DUE, ()), (), (), was_archived=True)

    before = signal.signal(signal.SIGINT, handle)
    try:
        with asyncio.Runner() as runner, pytest.raises(KeyboardInterrupt):
            _next(runner, outcomes())
        assert signal.getsignal(signal.SIGINT) is handle
    finally:
        signal.signal(signal.SIGINT, before)
