"""`trade-analyst healthcheck` shows the report and ends with its verdict."""

import contextlib
import io
import json
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keyring
import pytest
import trustme
from cryptography.fernet import Fernet
from jsonschema import Draft202012Validator
from keyring.backend import KeyringBackend
from pydantic import SecretStr

from trade_analyst_pipeline.cli import healthcheck, source
from trade_analyst_pipeline.cli.healthcheck import _wiring
from trade_analyst_pipeline.defs.resources import token_store
from trade_analyst_pipeline.ops.health import examination
from trade_analyst_pipeline.ops.health.report import Check, HealthReport
from trade_analyst_pipeline.schwab.token_records import TokenGrant
from trade_analyst_pipeline.settings import load_settings

LIVE = {
    "TRADE_ANALYST_ENVIRONMENT": "live",
    "TRADE_ANALYST_APP_KEY": "key-of-the-app",
    "TRADE_ANALYST_APP_SECRET": "its-secret",  # pragma: allowlist secret
    "TRADE_ANALYST_SCHWAB__BASE_URL": "https://127.0.0.1:1",
}


@pytest.fixture(autouse=True)
def _own_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """No simulator of this machine is asked: the port is one where nothing listens."""
    monkeypatch.setenv("TRADE_ANALYST_SIMULATOR__PORT", str(source._free_port()))


@pytest.mark.usefixtures("project")
def test_checkout_as_it_is_cloned_is_well(run_command: Callable[..., Any]) -> None:
    """With the settings and instance of a fresh clone, every check is shown and the exit code is 0."""
    outcome = run_command("healthcheck")
    assert outcome.code == 0
    for name in ("settings", "calendar", "data folder", "redirect address", "versions", "freshness", "dagster"):
        assert name in outcome.out


@pytest.mark.usefixtures("project")
def test_json_is_one_object(run_command: Callable[..., Any]) -> None:
    """`--json` prints the report as one object and nothing else; nothing failed, and nothing was made."""
    report = json.loads(run_command("healthcheck", "--json").out)
    assert report["is_well"] is True
    assert report["environment"] == "simulate"
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["config.toml", "dagster.yaml"]


def test_failing_check_is_exit_code_1_with_its_remedy(run_command: Callable[..., Any], project: Path) -> None:
    """A missing instance description fails the command and the remedy is shown."""
    (project / "dagster.yaml").unlink()
    outcome = run_command("healthcheck")
    assert outcome.code == 1
    assert "Start the command in the project folder." in outcome.out


def test_broken_settings_are_reported_not_raised(run_command: Callable[..., Any], project: Path) -> None:
    """An unknown key in config.toml fails the settings check, named in the JSON report."""
    (project / "config.toml").write_text("nonsense = 1\n" + (project / "config.toml").read_text())
    outcome = run_command("healthcheck", "--json")
    assert outcome.code == 1
    assert "nonsense" in json.loads(outcome.out)["checks"][0]["detail"]


@pytest.mark.usefixtures("project")
def test_wiring_is_that_of_the_environment() -> None:
    """The simulator is asked on its port with its certificate, the live source at its address with the system's."""
    settings = load_settings()
    wiring = _wiring(settings)
    assert wiring.source_address == f"https://127.0.0.1:{settings.simulator.port}"
    assert wiring.ca_file == Path(".cache/simulate/simulator-ca.pem")
    assert list(wiring.failed_runs()) == []
    live = _wiring(load_settings(environment="live"))
    assert (live.source_address, live.ca_file) == ("https://api.schwabapi.com", None)


# -- what the report is for: installations that are not well -------------------------------------------------------


def log_in_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """The live environment without a source, and a stored login whose key only the environment has."""
    monkeypatch.setenv("HOME", str(Path.cwd() / "home"))
    for name, value in LIVE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TRADE_ANALYST_TOKEN_KEY", Fernet.generate_key().decode())
    token_store(load_settings()).save_login(TokenGrant(SecretStr("access"), SecretStr("refresh"), 1800.0))


class WaitingKeyring(KeyringBackend):
    """One that waits for a person, until the end of the test."""

    priority = 9  # type: ignore[assignment]  # a class property in the library
    over = threading.Event()

    def get_password(self, service: str, username: str) -> str | None:  # noqa: ARG002  the library's signature
        """Waits."""
        self.over.wait()
        return None

    def set_password(self, service: str, username: str, password: str) -> None:  # noqa: ARG002  as above
        """Waits too."""
        self.over.wait()


@pytest.fixture
def waiting_keyring() -> Iterator[None]:
    """The system's keyring does not answer; it lets everybody go at the end."""
    before = keyring.get_keyring()
    WaitingKeyring.over.clear()
    keyring.set_keyring(WaitingKeyring())
    yield
    WaitingKeyring.over.set()
    for thread in threading.enumerate():
        if thread.name == "keyring":
            thread.join()
    keyring.set_keyring(before)


def cache_is_a_file(_: pytest.MonkeyPatch) -> None:
    """Something else stands where logins are kept."""
    Path(".cache").touch()


def login_of_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that the key there is does not open."""
    log_in_live(monkeypatch)
    monkeypatch.setenv("TRADE_ANALYST_TOKEN_KEY", Fernet.generate_key().decode())


def key_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key cut when it was copied."""
    log_in_live(monkeypatch)
    monkeypatch.setenv("TRADE_ANALYST_TOKEN_KEY", "cut")


def budget_is_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of the request limit can be read, and no request could write to it."""
    log_in_live(monkeypatch)
    Path("elsewhere").touch()
    (Path(".cache") / "live" / "request_budget").symlink_to(Path("elsewhere").absolute())


def markup_in_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address whose refusal names the form it should have, [:port][/path]."""
    monkeypatch.setenv("TRADE_ANALYST_SCHWAB__REDIRECT_ALLOWLIST", '["https://10.0.0.1/[/red][b]"]')


def settings_not_utf8(_: pytest.MonkeyPatch) -> None:
    """A settings file from an editor of another age."""
    Path("config.toml").write_bytes(b"# \xff\n" + Path("config.toml").read_bytes())


def secrets_not_utf8(_: pytest.MonkeyPatch) -> None:
    """The same of the file of secrets."""
    Path(".env").write_bytes(b"TRADE_ANALYST_APP_KEY=\xff\n")


def variable_that_is_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """A section of the settings as a plain word."""
    monkeypatch.setenv("TRADE_ANALYST_SCHWAB", "plain")


def pipe_for_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of secrets that nobody ever writes to."""
    monkeypatch.setattr(examination, "SETTINGS_SECONDS", 0.3)
    os.mkfifo(".env")


FAULTS: dict[Callable[[pytest.MonkeyPatch], None], tuple[str, str]] = {
    cache_is_a_file: ("cache folder", ".cache: Not a directory"),
    login_of_another_key: ("token", "cannot be opened: the key is another one"),
    key_that_is_none: ("token", "is not 32 bytes in URL-safe base64"),
    budget_is_a_link: ("request budget", "Make the file and its folder writable"),
    markup_in_a_setting: ("settings", "[:port][/path]"),
    settings_not_utf8: ("settings", "config.toml"),
    secrets_not_utf8: ("settings", ".env"),
    variable_that_is_no_json: ("settings", "schwab"),
    pipe_for_secrets: ("settings", ".env"),
}


@pytest.fixture
def schema(repository: Path) -> Draft202012Validator:
    """The documented form of the report."""
    return Draft202012Validator(json.loads((repository / "docs" / "healthcheck.schema.json").read_text()))


@pytest.fixture
def open_pipes() -> Iterator[None]:
    """Whoever waits for a pipe in the current folder is let go at the end."""
    yield
    for pipe in Path.cwd().glob(".env"):
        if pipe.is_fifo():
            os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))


@pytest.mark.usefixtures("project", "open_pipes")
@pytest.mark.parametrize("arrange", FAULTS, ids=lambda arrange: arrange.__name__)
def test_fault_is_told_in_both_forms(
    arrange: Callable[[pytest.MonkeyPatch], None],
    run_command: Callable[..., Any],
    schema: Draft202012Validator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The check that finds it fails with the true cause; the JSON is as documented, and the table shows it too."""
    name, words = FAULTS[arrange]
    arrange(monkeypatch)
    outcome = run_command("healthcheck", "--json")
    report = json.loads(outcome.out)
    assert [error.message for error in schema.iter_errors(report)] == []
    (check,) = (check for check in report["checks"] if check["name"] == name)
    assert (outcome.code, report["is_well"], check["status"]) == (1, False, "fail")
    assert words.lower() in (check["detail"] + check["remedy"]).lower()
    monkeypatch.setenv("COLUMNS", "400")
    table = run_command("healthcheck")
    assert table.code == 1
    assert words.lower() in table.out.lower()
    assert "cut" not in outcome.out.split() + table.out.split()


@pytest.mark.usefixtures("project", "waiting_keyring")
def test_keyring_that_hangs_is_the_cause_told(
    run_command: Callable[..., Any], schema: Draft202012Validator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login that cannot be opened fails, with the keyring as the reason and not a lack of time."""
    log_in_live(monkeypatch)
    monkeypatch.delenv("TRADE_ANALYST_TOKEN_KEY")
    monkeypatch.setenv("TRADE_ANALYST_TOKEN_KEY_SOURCE", "keyring")
    outcome = run_command("healthcheck", "--json")
    report = json.loads(outcome.out)
    assert [error.message for error in schema.iter_errors(report)] == []
    (token,) = (check for check in report["checks"] if check["name"] == "token")
    assert (outcome.code, token["status"]) == (1, "fail")
    assert "the OS keyring did not answer within 1.5 s" in token["detail"]
    assert token["remedy"].startswith("Do what the message says")


@pytest.mark.usefixtures("project")
def test_another_program_on_the_simulators_port_only_warns(
    run_command: Callable[..., Any], schema: Draft202012Validator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the certificate of an earlier simulator left over, a stranger on its port keeps no run from working."""
    left_over, stranger = trustme.CA(), trustme.CA()
    Path(".cache/simulate").mkdir(parents=True)
    left_over.cert_pem.write_to_path(".cache/simulate/simulator-ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    stranger.issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True):
                        pass

        threading.Thread(target=answer, daemon=True).start()
        monkeypatch.setenv("TRADE_ANALYST_SIMULATOR__PORT", str(server.getsockname()[1]))
        outcome = run_command("healthcheck", "--json")
        server.shutdown(socket.SHUT_RDWR)
    report = json.loads(outcome.out)
    assert [error.message for error in schema.iter_errors(report)] == []
    (found,) = (check for check in report["checks"] if check["name"] == "source")
    assert (outcome.code, report["is_well"], found["status"]) == (0, True, "warn")
    assert "simulator.port" in found["remedy"]


def test_table_is_shown_whatever_the_terminal_and_the_texts_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks like markup stands as it is; letters that the terminal has none for are told by their numbers."""
    screen = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(screen, encoding="ascii"))
    monkeypatch.setenv("COLUMNS", "120")
    check = Check("settings", "fail", "[/path] caf\u00e9 \udc80", "[bold]Mend it.[/nothing]", 0.0)
    healthcheck._show(HealthReport(datetime(2026, 6, 1, tzinfo=UTC), 0.0, None, None, (check,)))
    sys.stdout.flush()
    shown = screen.getvalue().decode("ascii")
    assert r"[/path] caf\xe9 \udc80" in shown
    assert "-> [bold]Mend it.[/nothing]" in shown
