"""Backfills started as Dagster's page starts them: over GraphQL, through its web server, daemon and run processes.

The simulator stands behind them on a port of its own. What was made is read back over GraphQL too, as the page does.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from trade_analyst_pipeline.cli.dagster_instance import choose_instance
from trade_analyst_pipeline.cli.login import login_to_simulator
from trade_analyst_pipeline.cli.source import _of_its_own
from trade_analyst_pipeline.defs.run_tags import URGENCY_TAG
from trade_analyst_pipeline.market.sessions import session_close
from trade_analyst_pipeline.settings import Settings, load_settings
from trade_analyst_pipeline.simulator.faults import html_page
from trade_analyst_pipeline.simulator.server import SimulatorServer

pytestmark = pytest.mark.reliability
REPOSITORY = Path(__file__).resolve().parents[2]
ASSETS = (
    ["raw", "options"],
    ["tables", "options"],
    ["metrics", "put_call_ratio"],
    ["metrics", "forward"],
    ["metrics", "implied_volatility"],
    ["metrics", "term_structure"],
    ["metrics", "exposure"],
)
PATIENCE = 300  # seconds; a machine with much else to do needs minutes for what takes one
ENDED = {"COMPLETED_SUCCESS", "COMPLETED_FAILED", "COMPLETED", "FAILED", "CANCELED"}


def _weekdays(monday: date, weeks: int) -> list[str]:
    return [str(monday + timedelta(days=7 * week + day)) for week in range(weeks) for day in range(5)]


# Weeks without a holiday: the exchange is open on Columbus Day, 12 October.
GOOD = _weekdays(date(2026, 10, 5), 4)
MIXED = {"quick": _weekdays(date(2026, 8, 10), 1), "full": _weekdays(date(2026, 8, 3), 4)}
BAD = "2026-08-12"

# The mutation and its variables as the page's own program has them (LaunchAssetChoosePartitionsDialog).
LAUNCH = """
mutation LaunchPartitionBackfill($backfillParams: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $backfillParams) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PartitionKeysNotFoundError { message }
    ... on PythonError { message }
  }
}"""
BACKFILL = """
query Backfill($backfillId: String!) {
  partitionBackfillOrError(backfillId: $backfillId) {
    ... on PartitionBackfill { status numPartitions runs { id status tags { key value } } error { message } }
    ... on PythonError { message }
  }
}"""
ASSET = """
query Asset($key: AssetKeyInput!, $partitions: [String!]) {
  assetNodeOrError(assetKey: $key) {
    ... on AssetNode {
      latestMaterializationByPartition(partitions: $partitions) { runId partition }
      assetPartitionStatuses {
        ... on TimePartitionStatuses { ranges { status startKey endKey } }
      }
    }
  }
}"""
FAILURES = """
query Failures($runId: ID!) {
  logsForRun(runId: $runId) {
    ... on EventConnection {
      events { ... on ExecutionStepFailureEvent { stepKey failureMetadata { description } } }
    }
  }
}"""
READY = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"


class Page:
    """Dagster's web server as the page in a browser sees it."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}/graphql"

    def ask(self, query: str, **variables: Any) -> Any:
        """The data of a GraphQL answer."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(self.address, body, {"content-type": "application/json"})  # noqa: S310  our own loopback address
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  likewise
            found = json.load(answer)
        assert "errors" not in found, found["errors"]
        return found["data"]

    def is_ready(self) -> bool:
        """Whether it answers and has loaded the code location."""
        try:
            return bool(self.ask(READY)["repositoriesOrError"].get("nodes"))
        except (urllib.error.URLError, ConnectionError):
            return False

    def launch(self, sessions: Sequence[str]) -> str:
        """Start a backfill of the assets over these partitions; its id."""
        params = {
            "tags": [],
            "assetSelection": [{"path": path} for path in ASSETS],
            "partitionNames": sessions,
            "fromFailure": False,
        }
        launched = self.ask(LAUNCH, backfillParams=params)["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def backfill(self, backfill_id: str) -> Any:
        """Status and runs of a backfill."""
        return self.ask(BACKFILL, backfillId=backfill_id)["partitionBackfillOrError"]

    def have_ended(self, *backfill_ids: str) -> bool:
        """Whether the daemon has closed all these backfills."""
        return all(self.backfill(each)["status"] in ENDED for each in backfill_ids)

    def materialized(self, asset: Sequence[str], sessions: Sequence[str]) -> dict[str, str]:
        """The run that last materialised each of these partitions; those without one are left out."""
        node = self.ask(ASSET, key={"path": asset}, partitions=sessions)["assetNodeOrError"]
        events = [event for event in node["latestMaterializationByPartition"] if event]
        return {event["partition"]: event["runId"] for event in events}

    def failed(self, asset: Sequence[str], sessions: Sequence[str]) -> list[str]:
        """Which of these partitions the page shows as failed."""
        node = self.ask(ASSET, key={"path": asset}, partitions=[])["assetNodeOrError"]
        spans = [span for span in node["assetPartitionStatuses"]["ranges"] if span["status"] == "FAILED"]
        return [key for key in sessions if any(span["startKey"] <= key <= span["endKey"] for span in spans)]

    def failures(self, run_id: str) -> dict[str, str]:
        """What each failed step of a run said."""
        events = [event for event in self.ask(FAILURES, runId=run_id)["logsForRun"]["events"] if event]
        return {
            event["stepKey"]: (event["failureMetadata"] or event["error"]).get("description", "") for event in events
        }


@contextmanager
def _running(name: str, *arguments: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a process group of its own, which is killed at the end."""
    with (folder / f"{name}.log").open("wb") as log:
        command = [sys.executable, "-m", *arguments]
        program = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield program
    finally:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait(PATIENCE)


def _left_in(folder: Path) -> list[int]:
    """The processes other than this one whose current folder it is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile, or is not ours to look at
            if (process / "cwd").readlink() == folder and int(process.name) != os.getpid():
                found.append(int(process.name))
    return found


def _until(condition: Callable[[], bool], what: str, *programs: subprocess.Popen[bytes]) -> float:
    """Look again and again until the condition holds; how long that took. Fails when it takes too long.

    Fails at once when one of the programs has ended.
    """
    started = time.monotonic()
    while not condition():
        for program in programs:
            assert program.poll() is None, (
                f"before {what}, {program.args!r} ended with {program.returncode}; see its log"
            )
        assert time.monotonic() - started < PATIENCE, f"{what}: not within {PATIENCE} s"
        time.sleep(0.5)  # between two looks
    return time.monotonic() - started


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Settings]:
    """A project folder of its own with one symbol and free ports, known to every process started from here.

    Whatever still runs in that folder in the end is killed.
    """
    for name in ("config.toml", "dagster.yaml", "workspace.yaml"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRADE_ANALYST_UNIVERSE__SYMBOLS", '["AAPL"]')
    monkeypatch.setenv("TRADE_ANALYST_CAPTURE__WORKERS", "1")
    made = _of_its_own(load_settings())
    monkeypatch.setenv("TRADE_ANALYST_SIMULATOR__PORT", str(made.simulator.port))
    monkeypatch.setenv("TRADE_ANALYST_SCHWAB__REDIRECT_URI", made.schwab.redirect_uri)
    monkeypatch.setenv("TRADE_ANALYST_SCHWAB__REDIRECT_ALLOWLIST", json.dumps(made.schwab.redirect_allowlist))
    monkeypatch.setenv("TRADE_ANALYST_CACHE_ROOT", str(made.cache_root))
    for name in ("DAGSTER_HOME", "DAGSTER_INSTANCE_DIR"):
        monkeypatch.setenv(name, "")  # set by choose_instance, and then forgotten again
    yield made
    for process in _left_in(tmp_path):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


@pytest.fixture
def server(settings: Settings) -> Iterator[SimulatorServer]:
    """A simulator that is logged in to, and answers the chain of the bad session with a page."""
    ca_file = settings.cache_folder / "simulator-ca.pem"
    redirects = settings.schwab.redirect_allowlist
    with SimulatorServer(seed=7, port=settings.simulator.port, ca_file=ca_file, redirect_uris=redirects) as running:
        instant = session_close(date.fromisoformat(BAD)) - timedelta(minutes=5)
        running.faults.add(html_page(), path="/chains", instant=instant, times=None)
        login_to_simulator(settings)
        yield running


@pytest.mark.usefixtures("server")
def test_backfills_launched_over_graphql(settings: Settings, tmp_path: Path, is_full: bool) -> None:
    """Twenty sessions succeed as one run; in another backfill a bad session fails alone, and is shown so.

    The second is the control of the first: by the measure of success it fails.
    """
    port, mixed_sessions = _free_port(), MIXED["full" if is_full else "quick"]
    page, workspace = Page(port), ("-w", "workspace.yaml")
    choose_instance(settings)
    with _running("webserver", "dagster_webserver", *workspace, "-p", str(port), folder=tmp_path) as webserver:
        ready = _until(page.is_ready, "the page answers", webserver)
        good, mixed = page.launch(GOOD), page.launch(mixed_sessions)
        # the daemon looks for backfills when it starts, and every 30 seconds after that
        with _running("daemon", "dagster._daemon", "run", *workspace, folder=tmp_path) as daemon:
            took = _until(lambda: page.have_ended(good, mixed), "the backfills end", webserver, daemon)
        _assert_succeeded(page, good, GOOD)
        with pytest.raises(AssertionError):
            _assert_succeeded(page, mixed, mixed_sessions)
        _assert_one_failed(page, mixed, mixed_sessions)
    print(f"two backfills: page ready after {ready:.1f} s, closed {took:.1f} s after the daemon's start")


@pytest.mark.full_only
@pytest.mark.usefixtures("settings")
def test_a_backfill_in_the_users_own_processes(tmp_path: Path) -> None:
    """The same twenty sessions succeed as one run with everything that `trade-analyst ui` starts, and stops again."""
    port = _free_port()
    page = Page(port)
    with _running("ui", "trade_analyst_pipeline.cli.main", "ui", "--port", str(port), folder=tmp_path) as program:
        ready = _until(page.is_ready, "the page answers", program)
        backfill = page.launch(GOOD)
        took = _until(lambda: page.have_ended(backfill), "the backfill ends", program)
        _assert_succeeded(page, backfill, GOOD)
        program.terminate()
        assert program.wait(PATIENCE) == 0
        stopped = _until(lambda: not _left_in(tmp_path), "everything it started has ended")
    print(
        f"trade-analyst ui: page ready after {ready:.1f} s, backfill closed {took:.1f} s after its launch, "
        f"the last process gone {stopped:.1f} s after the command"
    )


def _assert_succeeded(page: Page, backfill_id: str, sessions: Sequence[str]) -> None:
    """One run, and every partition of every asset was materialised by it."""
    backfill = page.backfill(backfill_id)
    assert (backfill["status"], backfill["numPartitions"]) == ("COMPLETED_SUCCESS", len(sessions))
    assert [run["status"] for run in backfill["runs"]] == ["SUCCESS"]
    run = backfill["runs"][0]
    assert {"key": URGENCY_TAG, "value": "backfill"} in run["tags"]
    assert [page.materialized(asset, sessions) for asset in ASSETS] == [dict.fromkeys(sessions, run["id"])] * len(
        ASSETS
    )
    assert [page.failed(asset, sessions) for asset in ASSETS] == [[]] * len(ASSETS)


def _assert_one_failed(page: Page, backfill_id: str, sessions: Sequence[str]) -> None:
    """One run that failed by naming the bad session; the others are materialised by it."""
    backfill = page.backfill(backfill_id)
    assert (backfill["status"], backfill["numPartitions"]) == ("COMPLETED_FAILED", len(sessions))
    assert [run["status"] for run in backfill["runs"]] == ["FAILURE"]
    run = backfill["runs"][0]
    good = dict.fromkeys([session for session in sessions if session != BAD], run["id"])
    assert [page.materialized(asset, sessions) for asset in ASSETS] == [good] * len(ASSETS)
    assert [page.failed(asset, sessions) for asset in ASSETS] == [[BAD]] * len(ASSETS)
    (step, said), *others = page.failures(run["id"]).items()
    assert not others
    assert step == "tables__options_every_session"
    assert said.startswith(f"1 of the sessions asked for are not there:\n{BAD}: ")
