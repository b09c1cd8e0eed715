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
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pydantic_settings
import pytest
from jsonschema import Draft202012Validator

from trade_analyst_pipeline.errors import SettingsError
from trade_analyst_pipeline.ops.health import examination, machine, running
from trade_analyst_pipeline.ops.health.examination import LOOKS, Wiring, health_report
from trade_analyst_pipeline.ops.health.report import Check, HealthReport
from trade_analyst_pipeline.ops.health.running import Probe, Shared
from trade_analyst_pipeline.ops.health.stores import GapCount
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
    *("callbacks", "source", "clock", "adapter", "request budget", "cache folder", "data folder", "free space"),
    *("local disk", "catalogue", "verification", "stream", "freshness", "gaps", "open errors", "dagster"),
]
WIRING = Wiring(
    source_address="https://127.0.0.1:1",
    ca_file=None,
    build_client=lambda: None,
    login=lambda: Login(NOW, NOW + timedelta(days=7), generation=1, key_source="the environment"),
    budget=lambda: None,
    failed_runs=list,
    gaps=lambda day: GapCount(day, 0, 0, {}, 0),
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
    skipped = {
        "callbacks",
        "source",
        "clock",
        "adapter",
        "request budget",
        "catalogue",
        "verification",
        "stream",
        "freshness",
        "gaps",
        "open errors",
    }
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


def undecodable() -> Settings:
    """As a file that is not UTF-8 is refused."""
    b"\xff".decode()
    raise AssertionError


def unreadable() -> Settings:
    """As the system refuses a file."""
    raise PermissionError(13, "Permission denied", "config.toml")


def malformed() -> Settings:
    """As the library of settings refuses a variable that is no JSON."""
    message = 'error parsing value for field "schwab"'
    raise pydantic_settings.SettingsError(message)


def broken() -> Settings:
    """An error that nobody thought of."""
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (undecodable, "the settings cannot be read: UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff"),
        (unreadable, "the settings cannot be read: PermissionError: [Errno 13] Permission denied: 'config.toml'"),
        (malformed, 'the settings cannot be read: SettingsError: error parsing value for field "schwab"'),
        (broken, "ZeroDivisionError: "),
    ],
)
def test_whatever_hinders_the_settings_is_the_finding(load: Callable[[], Settings], words: str) -> None:
    """The report is whole whatever reading the settings raises: told with its kind, and with a remedy."""
    report = health_report(now=lambda: NOW, load=load, wire=lambda _: WIRING, seconds=60)
    settings = by_name(report)["settings"]
    assert (settings.status, settings.detail.startswith(words)) == ("fail", True)
    assert settings.remedy
    assert [check.name for check in report.checks] == NAMES
    assert not report.is_well


def test_settings_and_facts_that_hang_are_told(never: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that never answers fails the settings; a machine that does not tell leaves `system` null."""

    def hang(*_: object) -> Any:
        never.wait()

    monkeypatch.setattr(machine, "system_facts", hang)
    started = time.monotonic()
    report = health_report(now=lambda: NOW, load=hang, wire=lambda _: WIRING, seconds=0.4)
    assert time.monotonic() - started < 0.4 + SLACK
    checks = by_name(report)
    assert (checks["settings"].status, report.is_well, report.environment) == ("fail", False, None)
    assert checks["settings"].detail.startswith("timed out: config.toml or .env")
    assert {checks[name].status for name in LOOKS} == {"skipped"}
    assert (checks["system"].detail, report.system) == ("timed out", None)


def test_live_installation_is_looked_at_as_such() -> None:
    """Live needs credentials, a login, an adapter and the shared budget; each missing one is told."""

    def refuse() -> None:
        message = "set the app key"
        raise SettingsError(message)

    wiring = replace(
        WIRING,
        build_client=refuse,
        login=lambda: Login(None, None),
        budget=lambda: BudgetState(110, 0, 110, 110, 3, None, 5, 0, 0, None, is_down=False, is_known=True),
    )
    report = examine(wiring, environment="live")
    checks = by_name(report)
    assert report.request_budget == wiring.budget()
    assert {name for name, check in checks.items() if check.status == "fail"} == {
        *("credentials", "token", "source", "adapter"),
    }
    assert "Connection refused" in checks["source"].detail
    assert checks["clock"].detail == "the source did not answer"
    assert checks["request budget"].detail == (
        "110 a minute for this machine (110 set, 110 learned, 0 reserved); "
        "5 went in the last minute, 3 may go at once; no 429 so far"
    )
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
    """A source not asked yet is no outage but a busy machine; a disk or a login that does not answer is a failure."""
    examined = examination._Examination(make_settings(), Shared(lambda: WIRING), NOW, lambda: NOW)
    late = {probe.name: probe.late() for probe in examined.probes()}
    assert {name for name, finding in late.items() if finding.status == "fail"} == {
        *("token", "adapter", "cache folder", "data folder", "free space", "local disk"),
    }
    assert (late["clock"].status, late["source"].status, late["callbacks"].status) == ("skipped", "warn", "warn")

    def wire(_: Settings) -> Wiring:
        never.wait()
        return WIRING

    report = health_report(now=lambda: NOW, load=make_settings, wire=wire, seconds=0.3)
    assert by_name(report)["source"].status == "warn"


def test_silent_program_in_the_simulators_place_is_no_failure(
    ca: tuple[Any, Path], serve: Callable[[Treatment], HangingServer]
) -> None:
    """Runs start a simulator of their own on another port: what hangs on the port of `simulator` only warns."""
    wiring = replace(WIRING, source_address=serve(silent).base_url, ca_file=ca[1])
    checks = by_name(examine(wiring, seconds=0.8))
    assert (checks["source"].status, checks["clock"].status) == ("warn", "skipped")
    assert "simulator.port" in (checks["source"].remedy or "")


# -- the JSON form -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema(repository: Path) -> Any:
    """The documented schema, itself checked, as a validator."""
    loaded = json.loads((repository / "docs" / "healthcheck.schema.json").read_text())
    Draft202012Validator.check_schema(loaded)
    return Draft202012Validator(loaded)


@pytest.fixture(scope="module")
def reports() -> dict[str, str]:
    """Reports of five installations as JSON: on the simulator, live, hanging, and with settings unusable or late."""
    hanging = threading.Event()

    def unusable() -> Settings:
        message = "universe.symbols: missing"
        raise SettingsError(message)

    made = {
        "simulate": examine(),
        "live": examine(replace(WIRING, login=lambda: Login(None, None)), environment="live"),
        "late": examine(replace(WIRING, login=hanging.wait), seconds=0.4),  # type: ignore[arg-type]
        "unset": health_report(now=lambda: NOW, load=unusable, wire=lambda _: WIRING, seconds=60),
        "silent": health_report(now=lambda: NOW, load=hanging.wait, wire=lambda _: WIRING, seconds=0.1),  # type: ignore[arg-type]
    }
    hanging.set()
    return {name: report.to_json() for name, report in made.items()}


def test_reports_follow_the_documented_schema(schema: Any, reports: dict[str, str]) -> None:
    """Five real reports, in which every status occurs, are valid."""
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


KINDS = ["silent", "full backlog", "TLS drips", "headers drip", "status drips", "names are not resolved"]
BOUND, SLACK = 1.0, 2.0  # the slack is for a busy machine: what hangs here hangs for ever
CREDENTIALS = {"app_key": "key-of-the-app", "app_secret": "its-secret"}  # pragma: allowlist secret


@pytest.fixture
def hanging_addresses(
    serve: Callable[[Treatment], HangingServer],
    server_context: ssl.SSLContext,
    full_backlog: str,
    never: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, str]:
    """Addresses of sources that keep a caller waiting, by the way they do it."""
    resolve = socket.getaddrinfo

    def tls(connection: socket.socket) -> socket.socket:
        return server_context.wrap_socket(connection, server_side=True)

    def stall(host: Any, *rest: Any, **options: Any) -> Any:
        return (never.wait() and []) if host == "api.example" else resolve(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", stall)
    return {
        "silent": serve(silent).base_url,
        "full backlog": full_backlog,
        "TLS drips": serve(dripping(b"\x16\x03\x03\x40\x00", b"\x02", lambda connection: connection)).base_url,
        "headers drip": serve(dripping(b"HTTP/1.1 200 OK\r\nX: ", b"x", tls)).base_url,
        "status drips": serve(dripping(b"", b"H", tls)).base_url,
        "names are not resolved": "https://api.example",
    }


@pytest.mark.reliability
def test_report_ends_in_time_when_the_network_hangs(
    hanging_addresses: dict[str, str], ca: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever keeps the ping waiting, the report ends by its bound, the source has failed, and the rest is told."""
    assert list(hanging_addresses) == KINDS
    monkeypatch.setattr(examination, "PING_SECONDS", 30.0)

    def timed(address: str) -> tuple[HealthReport, float]:
        wiring = replace(WIRING, source_address=address, ca_file=ca[1])
        started = time.monotonic()
        report = examine(wiring, environment="live", **CREDENTIALS, seconds=BOUND)
        return report, time.monotonic() - started

    with ThreadPoolExecutor(len(KINDS)) as pool:
        reports = dict(zip(KINDS, pool.map(timed, hanging_addresses.values()), strict=True))
    for kind, (report, took) in reports.items():
        print(f"{kind}: {took:.2f} s of {BOUND} s")
        checks = by_name(report)
        assert took <= BOUND + SLACK, kind
        assert (checks["source"].status, checks["clock"].status) == ("fail", "skipped"), kind
        usual = {checks[name].status for name in ("settings", "redirect address", "credentials", "data folder")}
        assert usual == {"ok"}, kind


@pytest.mark.reliability
def test_control_waiting_for_the_threads_hangs_with_the_network(
    hanging_addresses: dict[str, str], ca: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same checks on a pool that waits for its threads do not end by the bound: the harness sees a hang."""

    def pooled(probes: Sequence[Probe], *, seconds: float) -> tuple[Check, ...]:  # noqa: ARG001  the bound is ignored
        with ThreadPoolExecutor(len(probes)) as pool:
            return tuple(pool.map(running._check, probes))

    monkeypatch.setattr(examination, "run_probes", pooled)
    monkeypatch.setattr(examination, "PING_SECONDS", 30.0)
    wiring = replace(WIRING, source_address=hanging_addresses["headers drip"], ca_file=ca[1])
    done = threading.Event()

    def examine_and_tell() -> None:
        examine(wiring, environment="live", seconds=0.1)
        done.set()

    threading.Thread(target=examine_and_tell, daemon=True).start()
    assert not done.wait(0.1 + SLACK)


@dataclass(frozen=True)
class Command:
    """What `trade-analyst healthcheck --json` left: report, exit code, what it printed, and the time it took.

    `own_seconds` is processor time of its main thread, which does everything but the checks: start, print, end.
    """

    report: dict[str, Any]
    code: int
    text: str
    seconds: float
    own_seconds: float

    def breaches(self) -> list[str]:
        """What speaks against an end within five seconds; measured so that a busy machine alone is no breach."""
        found = []
        if self.report["duration_seconds"] > examination.CHECK_SECONDS + 0.5:
            found.append(f"the checks took {self.report['duration_seconds']} s")
        if examination.CHECK_SECONDS + self.own_seconds > 5.0:
            found.append(f"the checks leave less than the {self.own_seconds:.2f} s that everything else needs")
        beside = self.seconds - self.report["duration_seconds"]
        if beside > 3 * self.own_seconds + 1.0:
            found.append(f"{beside:.1f} s went by beside the checks, of which {self.own_seconds:.2f} s of work")
        return found


def run_command(folder: Path, code: str, **environment: str) -> Command:
    """The command in a process of its own, after some code."""
    program = f"""
{code}
import atexit, sys, time
from trade_analyst_pipeline.cli.main import main
atexit.register(lambda: print(time.thread_time(), file=sys.stderr))
main(["healthcheck", "--json"])"""
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
    seconds = time.monotonic() - started
    text = done.stdout + done.stderr
    return Command(json.loads(done.stdout), done.returncode, text, seconds, float(done.stderr.split()[-1]))


@pytest.fixture
def live_project(repository: Path, tmp_path: Path) -> Path:
    """A project folder with the settings and the instance of the checkout."""
    for name in ("config.toml", "dagster.yaml"):
        (tmp_path / name).write_bytes((repository / name).read_bytes())
    return tmp_path


STALLED_RESOLVER = "import socket, time\nsocket.getaddrinfo = lambda *a, **k: time.sleep(600)"
FULL = pytest.mark.full_only


@pytest.mark.reliability
@pytest.mark.parametrize(
    "kind", ["a stalled resolver", pytest.param("a black hole", marks=FULL), pytest.param("a pipe as .env", marks=FULL)]
)
def test_command_ends_within_five_seconds_whatever_hangs(
    live_project: Path, serve: Callable[[Treatment], HangingServer], is_full: bool, kind: str
) -> None:
    """As a user starts it: the process ends with a whole report, and nothing waits for the hanging thread."""
    address = "https://api.example" if kind == "a stalled resolver" else serve(silent).base_url
    if kind == "a pipe as .env":
        os.mkfifo(live_project / ".env")
    for _ in range(3 if is_full else 1):  # other programs may take the machine for a while, not three times
        done = run_command(
            live_project,
            STALLED_RESOLVER if kind == "a stalled resolver" else "",
            TRADE_ANALYST_ENVIRONMENT="live",
            TRADE_ANALYST_APP_KEY="key-of-the-app",
            TRADE_ANALYST_APP_SECRET="its-secret",  # pragma: allowlist secret
            TRADE_ANALYST_SCHWAB__BASE_URL=address,
        )
        checks = done.report["duration_seconds"]
        print(f"{kind}: {done.seconds:.2f} s, checks {checks} s, beside {done.own_seconds:.2f} s")
        if done.seconds < 5.0:
            break
    hangs = "settings" if kind == "a pipe as .env" else "source"
    (check,) = (check for check in done.report["checks"] if check["name"] == hangs)
    assert (done.code, done.report["is_well"], check["status"]) == (1, False, "fail")
    assert "timed out" in check["detail"]
    assert "key-of-the-app" not in done.text
    assert done.breaches() == []
    if is_full:
        assert done.seconds < 5.0


@pytest.mark.parametrize(
    ("checks", "whole", "own"), [(5.0, 6.1, 1.0), (2.5, 8.5, 1.0), (2.5, 5.6, 2.9), (3.1, 4.1, 0.9)]
)
def test_control_slow_commands_are_breaches(checks: float, whole: float, own: float) -> None:
    """Checks over their bound, a hang before or after them, and a heavy start are each seen; what is usual is none."""
    assert Command({"duration_seconds": checks}, 0, "", whole, own).breaches()
    assert Command({"duration_seconds": 2.55}, 0, "", 3.7, 0.95).breaches() == []
    assert Command({"duration_seconds": 2.9}, 0, "", 6.5, 1.1).breaches() == []  # on a busy machine
