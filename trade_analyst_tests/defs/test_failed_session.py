"""A range run in which one session goes wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest

from trade_analyst_pipeline.cli.login import login_to_simulator
from trade_analyst_pipeline.cli.source import _of_its_own
from trade_analyst_pipeline.definitions import assemble
from trade_analyst_pipeline.defs.automation import CHAIN_ASSETS
from trade_analyst_pipeline.defs.runs import PlannedRun, execute
from trade_analyst_pipeline.errors import RunFailedError
from trade_analyst_pipeline.market.sessions import session_close
from trade_analyst_pipeline.settings import Settings, load_settings
from trade_analyst_pipeline.simulator.faults import html_page
from trade_analyst_pipeline.simulator.server import SimulatorServer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*currently in beta:Warning"),
    pytest.mark.filterwarnings("ignore:Property `OpDefinition.version`:DeprecationWarning"),  # Dagster's own use
]
SESSIONS = tuple(date(2026, 10, day) for day in (27, 28, 29, 30))
BAD = SESSIONS[2]
PARTITIONED = (
    "raw/options",
    "tables/options",
    "metrics/put_call_ratio",
    "metrics/forward",
    "metrics/implied_volatility",
    "metrics/term_structure",
    "metrics/exposure",
)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """One symbol, on ports of its own."""
    shutil.copy(Path(__file__).resolve().parents[2] / "config.toml", "config.toml")
    monkeypatch.setenv("TRADE_ANALYST_UNIVERSE__SYMBOLS", json.dumps(["AAPL"]))
    return _of_its_own(load_settings())


@pytest.fixture
def server(settings: Settings) -> Iterator[SimulatorServer]:
    """A simulator that is logged in to."""
    ca_file = settings.cache_folder / "simulator-ca.pem"
    ca_file.parent.mkdir(parents=True)
    redirects = settings.schwab.redirect_allowlist
    with SimulatorServer(seed=7, port=settings.simulator.port, ca_file=ca_file, redirect_uris=redirects) as running:
        login_to_simulator(settings)
        yield running


def _materialized(instance: dg.DagsterInstance) -> list[set[str]]:
    return [instance.get_materialized_partitions(dg.AssetKey(key.split("/"))) for key in PARTITIONED]


def test_a_bad_session_fails_alone(settings: Settings, server: SimulatorServer) -> None:
    """It is named and fails the run; the others go through to the metrics; once well, it alone is captured again."""
    instant = session_close(BAD) - timedelta(minutes=5)
    server.faults.add(html_page(), path="/chains", instant=instant, times=None)
    run = PlannedRun("history", SESSIONS, CHAIN_ASSETS)
    good = {day.isoformat() for day in SESSIONS if day != BAD}
    with dg.DagsterInstance.ephemeral() as instance:
        with pytest.raises(RunFailedError, match=r"1 of the sessions.*\n2026-10-29: .*status 200 with HTML"):
            execute(assemble(settings), instance, run)
        assert _materialized(instance) == [good] * len(PARTITIONED)
        assert instance.get_latest_materialization_event(dg.AssetKey(["metrics", "iv_rank"])) is not None
        server.faults.clear()
        asked = server.requests["/chains"]
        execute(assemble(settings), instance, run)
        assert _materialized(instance) == [good | {BAD.isoformat()}] * len(PARTITIONED)
        assert server.requests["/chains"] == asked + 1
