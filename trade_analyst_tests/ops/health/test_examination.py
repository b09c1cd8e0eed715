"""The whole report: every check in its place, its JSON as documented, and an end in time whatever the network does."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
from jsonschema import Draft202012Validator

from trade_analyst_pipeline.errors import SettingsError
from trade_analyst_pipeline.ops.health import examination, running
from trade_analyst_pipeline.ops.health.examination import LOOKS, Wiring, health_report
from trade_analyst_pipeline.ops.health.report import Check, HealthReport
from trade_analyst_pipeline.ops.health.running import Probe, Shared
from trade_analyst_pipeline.ops.login_outlook import Login
from trade_analyst_pipeline.schwab.budget import BudgetState
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.settings import Settings
from trade_analyst_pipeline.storage.archive import Archive, Gap

Treatment = Callable[[socket.socket, threading.Event], None]


class HangingServer(Protocol):
    """A server of the fixture `serve`."""

    base_url: str


NOW = datetime(2026, 6, 1, 15, 0, tzinfo=UTC)
NAMES = [
    *("settings", "python", "system", "versions", "calendar", "redirect address", "credentials", "token"),
    *("callbacks", "source", "clock", "adapter", "request budget", "data folder", "free space", "local disk"),
    *("catalogue", "freshness", "open errors", "dagster"),
]
WIRING = Wiring(
    source_address="https://127.0.0.1:1",
    ca_file=None,
    build_client=lambda: None,
    login=lambda: Login(NOW, NOW + timedelta(days=7), generation=1, key_source="the environment"),
    budget=lambda: None,
    failed_runs=list,
)


def make_settings(**changes: Any) -> Settings:
    """Settings of the simulator with data under the current folder."""
    return Settings(universe={"symbols": ["SPY"]}, **changes)


def examine(wiring: Wiring = WIRING, *, seconds: float = 60, **changes: Any) -> HealthReport:
    """The report of an installation put together like this."""
    Path("dagster.yaml").touch()
    return health_report(now=lambda: NOW, load=lambda: make_settings(**changes), wire=lambda _: wiring, seconds=seconds)


def by_name(report: HealthReport) -> dict[str, Check]:
    """Each check by its name."""
    return {check.name: check for check in report.checks}


def test_everything_in_order_is_well() -> None:
    """A project folder with valid settings is well without making the data folder; what is not there yet is skipped."""
    report = examine()
    assert [check.name for check in report.checks] == NAMES
    statuses = {name: check.status for name, check in by_name(report).items()}
    skipped = {"callbacks", "source", "clock", "adapter", "request budget", "catalogue", "freshness", "open errors"}
    assert {name for name, status in statuses.items() if status == "skipped"} == skipped
    assert {statuses[name] for name in set(NAMES) - skipped - {"versions"}} == {"ok"}
    assert report.is_well
    assert report.environment == "simulate"
    assert not Path("data").exists()
    assert not Path(".cache").exists()


def test_unusable_settings_leave_what_does_not_need_them() -> None:
    """When the settings cannot be read, their message is the finding, and what needs them is skipped."""

    def load() -> Settings:
        message = "universe.symbols: missing"
        raise SettingsError(message)

    report = health_report(now=lambda: NOW, load=load, wire=lambda _: WIRING, seconds=60)
    checks = by_name(report)
    assert list(checks) == NAMES
    assert (checks["settings"].status, checks["settings"].detail) == ("fail", "universe.symbols: missing")
    assert {checks[name].detail for name in LOOKS} == {"the settings are not usable"}
    assert checks["python"].status == "ok"
    assert report.environment is None
    assert not report.is_well


def test_live_installation_is_looked_at_as_such() -> None:
    """Live needs credentials, a login, an adapter and the shared budget; each missing one is told."""

    def refuse() -> None:
        message = "set the app key"
        raise SettingsError(message)

    wiring = replace(
        WIRING,
        build_client=refuse,
        login=lambda: Login(None, None),
        budget=lambda: BudgetState(110, 7, None, is_known=True),
    )
    checks = by_name(examine(wiring, environment="live"))
    assert {name for name, check in checks.items() if check.status == "fail"} == {
        *("credentials", "token", "source", "adapter"),
    }
    assert "Connection refused" in checks["source"].detail
    assert checks["clock"].detail == "the source did not answer"
    assert checks["request budget"].detail == "110 a minute for this machine; 7 may go at once"
    assert by_name(examine(replace(WIRING, ca_file=None), environment="live"))["adapter"].status == "ok"


def test_running_simulator_is_asked(ca: tuple[Any, Path], answering: Callable[[bytes], Any]) -> None:
    """Where the certificate is there and something listens, the simulator is a source like any other."""
    server = answering(b"HTTP/1.1 400 Bad\r\nDate: Mon, 01 Jun 2026 15:00:00 GMT\r\nContent-Length: 0\r\n\r\n")
    checks = by_name(examine(replace(WIRING, source_address=server.base_url, ca_file=ca[1])))
    assert checks["source"].status == "ok"
    assert checks["source"].detail.startswith(f"{server.base_url} answered 400 in 0 ms")
    assert checks["clock"].detail == "the source's clock stands 0.5 s ahead (read to 1 s)"
    assert checks["adapter"].status == "ok"


@pytest.mark.parametrize(
    ("day", "status", "words"),
    [(29, "ok", "session 2026-05-29 is archived"), (28, "warn", "complete since: 1, the last 2026-05-29")],
)
def test_freshness_counts_from_the_archive(day: int, status: str, words: str) -> None:
    """On Monday 1 June at 11:00 New York the last complete session is Friday 29 May; the gap captured is told."""
    instant = datetime(2026, 5, day, 20, tzinfo=UTC)
    writer = Archive(Path("data") / "simulate" / "raw").begin(
        dataset="options", session_date=instant.date(), scheduled_time=instant, started_time=instant
    )
    request = MarketDataRequest("options", "/chains", (("symbol", "SPY"),), ("SPY",))
    writer.append(RawResponse(request, 200, b"{}", (), instant, instant))
    writer.note_gap(Gap("options", ("QQQ",), "rate_limited", "over the limit"))
    writer.seal(instant)
    checks = by_name(examine())
    assert checks["freshness"].status == status
    assert words in checks["freshness"].detail
    assert checks["open errors"].detail.endswith(f"gaps in session 2026-05-{day}: 1: options QQQ: rate_limited")


def test_late_checks_say_what_they_waited_for(never: threading.Event) -> None:
    """A source not asked yet is no outage but a busy machine; a disk that does not answer is a failure."""
    examined = examination._Examination(make_settings(), Shared(lambda: WIRING), NOW, lambda: NOW)
    late = {probe.name: probe.late() for probe in examined.probes()}
    assert {name for name, finding in late.items() if finding.status == "fail"} == {
        *("data folder", "free space", "local disk"),
    }
    assert (late["clock"].status, late["source"].status, late["token"].status) == ("skipped", "warn", "warn")

    def wire(_: Settings) -> Wiring:
        never.wait()
        return WIRING

    report = health_report(now=lambda: NOW, load=make_settings, wire=wire, seconds=0.3)
    assert by_name(report)["source"].status == "warn"


# -- the JSON form -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema(repository: Path) -> Any:
    """The documented schema, itself checked, as a validator."""
    loaded = json.loads((repository / "docs" / "healthcheck.schema.json").read_text())
    Draft202012Validator.check_schema(loaded)
    return Draft202012Validator(loaded)


@pytest.fixture(scope="module")
def reports() -> dict[str, str]:
    """Reports of four installations as JSON: on the simulator, live, hanging, and with unusable settings."""
    hanging = threading.Event()

    def unusable() -> Settings:
        message = "universe.symbols: missing"
        raise SettingsError(message)

    made = {
        "simulate": examine(),
        "live": examine(replace(WIRING, login=lambda: Login(None, None)), environment="live"),
        "late": examine(replace(WIRING, login=hanging.wait), seconds=0.5),  # type: ignore[arg-type]
        "unset": health_report(now=lambda: NOW, load=unusable, wire=lambda _: WIRING, seconds=60),
    }
    hanging.set()
    return {name: report.to_json() for name, report in made.items()}


def test_reports_follow_the_documented_schema(schema: Any, reports: dict[str, str]) -> None:
    """Four real reports, in which every status occurs, are valid."""
    documents = [json.loads(text) for text in reports.values()]
    assert [error.message for document in documents for error in schema.iter_errors(document)] == []
    statuses = {check["status"] for document in documents for check in document["checks"]}
    assert statuses == {"ok", "warn", "fail", "skipped"}


@pytest.mark.parametrize(
    ("found", "replaced"),
    [
        (r'"remedy": null,', ""),
        (r'"status": "ok"', '"status": "good"'),
        (r'"is_well"', '"other": 1, "is_well"'),
        (r'"name": "python"', '"name": "ruby"'),
        (r'"remedy": null', '"remedy": "Do something."'),
        (r'"duration_seconds": [0-9.]+', '"duration_seconds": "long"'),
    ],
)
def test_control_other_documents_do_not_follow_it(
    schema: Any, reports: dict[str, str], found: str, replaced: str
) -> None:
    """The schema can say no: missing, wrong, unknown and contradicting parts are each refused."""
    wrong = re.sub(found, replaced, reports["simulate"], count=1)
    assert wrong != reports["simulate"]
    assert not schema.is_valid(json.loads(wrong))


def test_schema_lists_the_checks_in_their_order(repository: Path) -> None:
    """A reader may rely on the names: the schema has each, and no other."""
    schema = json.loads((repository / "docs" / "healthcheck.schema.json").read_text())
    assert schema["$defs"]["check"]["properties"]["name"]["enum"] == NAMES


# -- an end in time ------------------------------------------------------------------------------------------------


def silent(connection: socket.socket, over: threading.Event) -> None:
    """A black hole: the connection is taken and nothing comes back."""
    over.wait()
    connection.close()


def dripping(head: bytes, drop: bytes, wrap: Callable[[socket.socket], socket.socket]) -> Treatment:
    """`head`, then `drop` again and again, slowly: no single wait for bytes is ever long."""

    def treat(connection: socket.socket, over: threading.Event) -> None:
        with contextlib.suppress(OSError), wrap(connection) as wrapped:
            wrapped.sendall(head)
            while not over.wait(0.05):
                wrapped.sendall(drop)

    return treat


@pytest.fixture
def full_backlog() -> Iterator[str]:
    """An address whose connections are neither taken nor refused: the listener never accepts and its queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield f"https://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def hanging_address(
    request: pytest.FixtureRequest,
    serve: Callable[[Treatment], HangingServer],
    server_context: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """The address of a source that keeps a caller waiting in the way named."""

    def tls(connection: socket.socket) -> socket.socket:
        return server_context.wrap_socket(connection, server_side=True)

    kind = request.param
    if kind == "full backlog":
        return str(request.getfixturevalue("full_backlog"))
    if kind == "names are not resolved":
        over = threading.Event()
        request.addfinalizer(over.set)  # noqa: PT021  the event ends with this test
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: over.wait() and [])
        return "https://api.example"
    treatments = {
        "silent": silent,
        "TLS drips": dripping(b"\x16\x03\x03\x40\x00", b"\x02", lambda connection: connection),
        "headers drip": dripping(b"HTTP/1.1 200 OK\r\nX: ", b"x", tls),
        "status drips": dripping(b"", b"H", tls),
    }
    return serve(treatments[kind]).base_url


KINDS = ["silent", "full backlog", "TLS drips", "headers drip", "status drips", "names are not resolved"]
BOUND, SLACK = 1.0, 3.0  # the slack is for a busy machine: what hangs here hangs for ever


@pytest.mark.reliability
@pytest.mark.parametrize("hanging_address", KINDS, indirect=True)
def test_report_ends_in_time_when_the_network_hangs(
    hanging_address: str, ca: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever keeps the ping waiting, the report ends by its bound, the source has failed, and the rest is told."""
    monkeypatch.setattr(examination, "PING_SECONDS", 30.0)
    wiring = replace(WIRING, source_address=hanging_address, ca_file=ca[1])
    started = time.monotonic()
    report = examine(wiring, environment="live", app_key="key-of-the-app", app_secret="its-secret", seconds=BOUND)
    took = time.monotonic() - started
    print(f"{took:.2f} s of {BOUND} s")
    checks = by_name(report)
    assert took <= BOUND + SLACK
    assert checks["source"].status == "fail"
    assert checks["clock"].status == "skipped"
    assert {checks[name].status for name in ("settings", "redirect address", "credentials", "data folder")} == {"ok"}


@pytest.mark.reliability
@pytest.mark.parametrize("hanging_address", ["headers drip"], indirect=True)
def test_control_waiting_for_the_threads_hangs_with_the_network(
    hanging_address: str, ca: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same checks on a pool that waits for its threads do not end by the bound: the harness sees a hang."""

    def pooled(probes: Sequence[Probe], *, seconds: float) -> tuple[Check, ...]:  # noqa: ARG001  the bound is ignored
        with ThreadPoolExecutor(len(probes)) as pool:
            return tuple(pool.map(running._check, probes))

    monkeypatch.setattr(examination, "run_probes", pooled)
    monkeypatch.setattr(examination, "PING_SECONDS", 30.0)
    wiring = replace(WIRING, source_address=hanging_address, ca_file=ca[1])
    done = threading.Event()

    def examine_and_tell() -> None:
        examine(wiring, environment="live", seconds=BOUND)
        done.set()

    threading.Thread(target=examine_and_tell, daemon=True).start()
    assert not done.wait(BOUND + SLACK)


def run_command(folder: Path, code: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """`trade-analyst healthcheck --json` in a process of its own after some code, and how long it took."""
    program = f"{code}\nfrom trade_analyst_pipeline.cli.main import main\nmain(['healthcheck', '--json'])"
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=os.environ | {"HOME": str(folder)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done, time.monotonic() - started


@pytest.fixture
def live_project(repository: Path, tmp_path: Path) -> Path:
    """A project folder with the settings and the instance of the checkout."""
    for name in ("config.toml", "dagster.yaml"):
        (tmp_path / name).write_bytes((repository / name).read_bytes())
    return tmp_path


@pytest.mark.reliability
@pytest.mark.parametrize("kind", ["a stalled resolver", pytest.param("a black hole", marks=pytest.mark.full_only)])
def test_command_ends_within_five_seconds_when_the_network_hangs(
    live_project: Path, serve: Callable[[Treatment], HangingServer], is_full: bool, kind: str
) -> None:
    """As a user starts it: the process ends with a whole report, and nothing waits for the hanging thread.

    On a busy machine starting Python alone takes seconds, so the bound counts from a command that does not hang.
    """
    code, address = "", serve(silent).base_url
    if kind == "a stalled resolver":
        code = "import socket, time\nsocket.getaddrinfo = lambda *a, **k: time.sleep(600)"
        address = "https://api.example"
    usual, without = run_command(live_project, "")
    assert usual.returncode == 0, usual.stdout + usual.stderr
    done, took = run_command(
        live_project,
        code,
        TRADE_ANALYST_ENVIRONMENT="live",
        TRADE_ANALYST_APP_KEY="key-of-the-app",
        TRADE_ANALYST_APP_SECRET="its-secret",  # pragma: allowlist secret
        TRADE_ANALYST_SCHWAB__BASE_URL=address,
    )
    print(f"{kind}: {took:.2f} s, without hanging {without:.2f} s")
    report = json.loads(done.stdout)
    source = next(check for check in report["checks"] if check["name"] == "source")
    assert done.returncode == int(not report["is_well"])
    assert source["status"] in ("warn", "fail")
    assert "key-of-the-app" not in done.stdout + done.stderr
    assert took <= without + examination.CHECK_SECONDS + SLACK
    if is_full:
        assert (source["status"], done.returncode) == ("fail", 1)
        assert took < 5.0


def test_default_bound_leaves_time_to_start() -> None:
    """3.5 s for the checks, of which the ping may take 2 s a step: with the start of Python under 5 s in all."""
    assert (examination.CHECK_SECONDS, examination.PING_SECONDS) == (3.5, 2.0)
