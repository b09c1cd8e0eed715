"""`trade-analyst token`: what it shows and does, its exit codes, and that nothing secret is printed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import keyring
import pytest
from pydantic import SecretStr

from trade_analyst_pipeline.defs.resources import token_store
from trade_analyst_pipeline.errors import AuthUnavailableError, LoginRequiredError, SettingsError
from trade_analyst_pipeline.schwab.callback_ledger import CallbackLedger
from trade_analyst_pipeline.schwab.key_places import KeyFile, KeyPlace, SystemKeyring
from trade_analyst_pipeline.schwab.key_sets import new_key
from trade_analyst_pipeline.schwab.keys import open_keys
from trade_analyst_pipeline.schwab.token_records import TokenGrant
from trade_analyst_pipeline.schwab.tokens import TokenStore, token_owner
from trade_analyst_pipeline.schwab.uptime import NO_UPTIME
from trade_analyst_pipeline.settings import Settings, load_settings
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.oauth import SIMULATOR_APP_KEY, SIMULATOR_APP_SECRET
from trade_analyst_pipeline.simulator.server import SimulatorServer

DAY = 86_400.0
RunCommand = Callable[..., Any]


def grant(name: str = "first", life: float = 1800.0) -> TokenGrant:
    """Tokens with canaries in them."""
    return TokenGrant(SecretStr(f"CANARY-access-{name}"), SecretStr("CANARY-refresh"), life)


@pytest.fixture
def store(project: Path) -> TokenStore:
    """The store of the project's simulate environment, logged in."""
    assert Path.cwd() == project
    found = token_store(load_settings())
    found.save_login(grant())
    return found


def report(run_command: RunCommand, code: int = 0) -> dict[str, Any]:
    """What `token status --json` prints."""
    outcome = run_command("token", "status", "--json")
    assert outcome.code == code
    shown: dict[str, Any] = json.loads(outcome.out)
    return shown


def failing(error: Exception) -> Callable[[SecretStr], TokenGrant]:
    """A refresh that fails so."""

    def refresh(_: SecretStr) -> TokenGrant:
        raise error

    return refresh


# --- status


def test_status_of_a_login(run_command: RunCommand, store: TokenStore) -> None:
    """File, key, generation, both ends and the callbacks are told, on lines and as JSON, without any secret."""
    shown = report(run_command)
    login = shown["login"]
    assert (shown["environment"], shown["is_usable"], shown["problem"]) == ("simulate", True, None)
    assert shown["token_file"] == ".cache/simulate/tokens/tokens.bin"
    assert shown["key"] == {
        "source": "file",
        "place": "key file .cache/simulate/key/token.key",
        "is_changing": False,
    }
    assert (login["generation"], login["renewed_by"], login["fingerprint"]) == (1, "login", store.load().fingerprint)
    assert login["days_left"] == 7.0
    assert login["is_access_alive"] is True
    assert login["refresh"] == {"state": "idle", "since": None, "process": None}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \(.* New York\)", login["login_ends_text"])
    assert shown["callbacks"]["expected"] == 0
    outcome = run_command("token", "status")
    assert outcome.code == 0
    for text in (
        "file: key file .cache/simulate/key/token.key",
        "generation 1",
        "7.0 days left",
        "New York",
        "0 expected",
    ):
        assert text in outcome.out
    assert "CANARY" not in outcome.out + json.dumps(shown)


def test_a_login_of_the_future_is_told_as_one_whose_end_is_not_known(
    run_command: RunCommand, store: TokenStore
) -> None:
    """Dated two hours ahead of the clock it can be used, but seven days are not promised; one in time says nothing."""
    assert report(run_command)["login"]["clock_problem"] is None
    now = time.time() + 2 * 3600 + 30
    store.now = lambda: now
    store._uptime = lambda: NO_UPTIME
    store.save_login(grant())
    shown = report(run_command)
    assert shown["is_usable"] is True
    assert shown["login"]["clock_problem"].startswith("the login is dated 2 h 0 min ahead of this machine's clock")
    lines = run_command("token", "status").out
    assert "when it ends is not known: set the clock (NTP)" in lines
    assert "days left" not in lines


def test_the_days_of_the_login_count_from_the_login(run_command: RunCommand, store: TokenStore) -> None:
    """A refresh on the third day leaves four days; what it did with the refresh token is told."""
    now = time.time() - 3 * DAY
    store.now = lambda: now
    store._uptime = lambda: NO_UPTIME
    store.save_login(grant())
    now = time.time()
    store.renew(is_good=lambda _: False, refresh=lambda _: TokenGrant(SecretStr("a"), None, 1800.0))
    login = report(run_command)["login"]
    assert (login["days_left"], login["generation"], login["renewed_by"]) == (4.0, 3, "omitted")


@pytest.mark.usefixtures("project")
def test_status_without_a_login(run_command: RunCommand, project: Path) -> None:
    """Exit code 1, no key is made, and the message names the command to run."""
    shown = report(run_command, code=1)
    assert (shown["is_usable"], shown["key"], shown["login"]) == (False, None, None)
    outcome = run_command("token", "status")
    assert outcome.code == 1
    assert "trade-analyst login" in outcome.out
    assert not (project / ".cache" / "simulate" / "key").exists()


def test_status_of_a_file_that_cannot_be_opened(run_command: RunCommand, store: TokenStore, project: Path) -> None:
    """Damage is told with the way out; the file stays, no login is shown."""
    file = project / store.path
    file.write_bytes(b"x" + file.read_bytes())
    before = file.read_bytes()
    shown = report(run_command, code=1)
    assert "the key is another one or the file is damaged" in shown["problem"]
    assert "token revoke" in shown["problem"]
    assert (shown["login"], shown["key"], file.read_bytes()) == (None, None, before)


@pytest.mark.parametrize(
    ("error", "state", "code", "line"),
    [
        (AuthUnavailableError("no answer"), "unanswered", 0, "had no answer"),
        (LoginRequiredError("dead"), "refused", 1, "refused by the source at"),
    ],
)
def test_status_after_a_refresh_that_failed(
    run_command: RunCommand, store: TokenStore, error: Exception, state: str, code: int, line: str
) -> None:
    """What became of the last refresh is told; only a refusal makes the login unusable."""
    with pytest.raises(type(error)):
        store.renew(is_good=lambda _: False, refresh=failing(error))
    refresh = report(run_command, code=code)["login"]["refresh"]
    assert (refresh["state"], refresh["process"]) == (state, os.getpid())
    assert line in run_command("token", "status").out


def test_status_of_a_refresh_under_way_and_cut_off(run_command: RunCommand, store: TokenStore, project: Path) -> None:
    """A refresh that holds the lock is under way; its note without the lock says that it was cut off."""
    seen: list[Any] = []

    def refresh(_: SecretStr) -> TokenGrant:
        seen.append(report(run_command)["login"]["refresh"]["state"])
        note = (project / store.path).with_name("tokens.bin.note").read_bytes()
        seen.append(note)
        return grant("second")

    store.renew(is_good=lambda _: False, refresh=refresh)
    note = (project / store.path).with_name("tokens.bin.note")
    note.write_bytes(seen[1].replace(b'"generation":1', b'"generation":2'))
    note.chmod(0o600)
    assert [seen[0], report(run_command)["login"]["refresh"]["state"]] == ["asking", "cut_off"]
    assert "cut off" in run_command("token", "status").out


def test_status_with_a_key_of_ones_own(run_command: RunCommand, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key from the environment is in force whatever else there is; two of them are a change under way."""
    monkeypatch.setenv("TRADE_ANALYST_TOKEN_KEY", new_key().get_secret_value())
    token_store(load_settings()).save_login(grant())
    assert report(run_command)["key"] == {
        "source": "environment",
        "place": "TRADE_ANALYST_TOKEN_KEY",
        "is_changing": False,
    }
    assert not (project / ".cache" / "simulate" / "key").exists()
    both = f"{new_key().get_secret_value()},{os.environ['TRADE_ANALYST_TOKEN_KEY']}"
    monkeypatch.setenv("TRADE_ANALYST_TOKEN_KEY", both)
    assert "token rotate-key" in run_command("token", "status").out


def test_status_with_an_ephemeral_key(run_command: RunCommand, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for by name only: the login lies outside the project, and the warning says that it will not last."""
    monkeypatch.setenv("TRADE_ANALYST_TOKEN_KEY_SOURCE", "ephemeral")
    token_store(load_settings()).save_login(grant())
    shown = report(run_command)
    assert shown["key"]["source"] == "ephemeral"
    assert not Path(shown["token_file"]).is_relative_to(project)
    assert "ends with its process" in run_command("token", "status").out
    assert not (project / ".cache").exists()
    assert run_command("token", "rotate-key").code == 1


@pytest.mark.usefixtures("project")
def test_an_ephemeral_login_ends_with_its_process() -> None:
    """Another process sees none of it, and what was left on disk is removed."""
    code = (
        "from trade_analyst_pipeline.settings import load_settings\n"
        "from trade_analyst_pipeline.defs.resources import token_store\n"
        "from trade_analyst_pipeline.schwab.token_records import TokenGrant\n"
        "from pydantic import SecretStr\n"
        "store = token_store(load_settings(token_key_source='ephemeral'))\n"
        "store.save_login(TokenGrant(SecretStr('a'), SecretStr('r'), 1800.0))\n"
        "assert token_store(load_settings(token_key_source='ephemeral')).load().generation == 1\n"
        "print(store.path)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ends with this process" in done.stderr
    assert not Path(done.stdout.strip()).parent.exists()


def test_an_empty_variable_is_not_a_key(run_command: RunCommand, store: TokenStore, project: Path) -> None:
    """`.env` copied from the example, with nothing behind the names, leaves the key where it is."""
    (project / ".env").write_text("TRADE_ANALYST_TOKEN_KEY=\nTRADE_ANALYST_APP_KEY=\n")
    assert report(run_command)["key"]["source"] == "file"
    assert store.load().generation == 1


def test_callbacks_are_counted(run_command: RunCommand, store: TokenStore) -> None:
    """Login callbacks are told with reasons and latency, from the ledger that all processes share."""
    assert store.load().generation == 1
    ledger = CallbackLedger(load_settings().callback_ledger_file)
    ledger.expect(SecretStr("CANARY-state"), seconds=60)
    ledger.accept(SecretStr("CANARY-state"))
    ledger.refuse("unexpected")
    callbacks = report(run_command)["callbacks"]
    assert (callbacks["expected"], callbacks["accepted"], callbacks["refused"]) == (1, 1, {"unexpected": 1})
    out = run_command("token", "status").out
    assert "1 expected, 2 received, 1 accepted, 0 never came; refused: 1 unexpected; 0.0 s" in out
    assert "CANARY" not in out


# --- refresh


@pytest.fixture(scope="module")
def market() -> Market:
    """A market nobody looks at."""
    return Market(7)


@pytest.fixture
def simulator(project: Path, market: Market, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatorServer]:
    """The simulator of the project, on a free port."""
    ca_file = project / ".cache" / "simulate" / "simulator-ca.pem"
    with SimulatorServer(seed=7, market=market, ca_file=ca_file) as server:
        monkeypatch.setenv("TRADE_ANALYST_SIMULATOR__PORT", str(urlsplit(server.base_url).port))
        yield server


def log_in_at(server: SimulatorServer) -> TokenStore:
    """A login given by the simulator's desk without a browser, stored."""
    redirect = "https://127.0.0.1:8182/callback"
    answer = server.desk.authorize({"client_id": SIMULATOR_APP_KEY, "redirect_uri": redirect})
    code = parse_qs(urlsplit(dict(answer.headers)["location"]).query)["code"][0]
    basic = base64.b64encode(f"{SIMULATOR_APP_KEY}:{SIMULATOR_APP_SECRET}".encode()).decode()
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect}
    fields = json.loads(server.desk.token(f"Basic {basic}", form).body)
    store = token_store(load_settings())
    store.save_login(TokenGrant(SecretStr(fields["access_token"]), SecretStr(fields["refresh_token"]), 1800.0))
    return store


def test_refresh_asks_the_source_once(run_command: RunCommand, simulator: SimulatorServer) -> None:
    """A fresh token is renewed all the same; the source knows the new one, the old fingerprint is gone."""
    store = log_in_at(simulator)
    before = store.load()
    outcome = run_command("token", "refresh")
    assert outcome.code == 0
    after = store.load()
    assert simulator.desk.refreshes == 1
    assert simulator.desk.accepts(after.access_token.get_secret_value())
    assert f"generation 2, fingerprint {after.fingerprint}" in outcome.out
    assert (after.login_time, before.fingerprint in outcome.out) == (before.login_time, False)


def test_a_refused_refresh_is_told_and_not_repeated(run_command: RunCommand, simulator: SimulatorServer) -> None:
    """A login ended elsewhere: exit code 1 with what to do; the second try asks nothing."""
    log_in_at(simulator)
    simulator.desk.revoke()
    for _ in range(2):
        outcome = run_command("token", "refresh")
        assert (outcome.code, outcome.out) == (1, "")
        assert "trade-analyst login" in outcome.err
    assert simulator.requests["/v1/oauth/token"] == 1


@pytest.mark.usefixtures("project")
def test_refresh_without_a_login(run_command: RunCommand) -> None:
    """There is nothing to refresh: exit code 1."""
    outcome = run_command("token", "refresh")
    assert outcome.code == 1
    assert "no tokens are stored" in outcome.err


# --- revoke


def test_revoke_forgets_the_login_and_keeps_the_key(run_command: RunCommand, store: TokenStore, project: Path) -> None:
    """Nothing of it is left but the lock; a second time there is nothing to do."""
    outcome = run_command("token", "revoke")
    assert (outcome.code, "Forgotten" in outcome.out) == (0, True)
    assert [path.name for path in (project / store.path).parent.iterdir()] == ["tokens.bin.lock"]
    assert (project / ".cache" / "simulate" / "key" / "token.key").exists()
    assert "nothing to forget" in run_command("token", "revoke").out
    assert report(run_command, code=1)["login"] is None


@pytest.mark.usefixtures("store")
def test_revoke_removes_what_cannot_be_opened(run_command: RunCommand, project: Path) -> None:
    """After a lost key this is the way back to a login."""
    (project / ".cache" / "simulate" / "key" / "token.key").unlink()
    assert "its key is missing" in report(run_command, code=1)["problem"]
    assert run_command("token", "revoke").code == 0
    assert token_store(load_settings()).save_login(grant()).generation == 1
    assert report(run_command)["is_usable"] is True


def live(monkeypatch: pytest.MonkeyPatch, home: Path, **variables: str) -> None:
    """Switch to the live environment with an app of one's own; the key file lies in `home`."""
    monkeypatch.setenv("TRADE_ANALYST_ENVIRONMENT", "live")
    for name in ("APP_KEY", "APP_SECRET"):
        monkeypatch.setenv(f"TRADE_ANALYST_{name}", f"CANARY-{name}")
    for name, value in variables.items():
        monkeypatch.setenv(f"TRADE_ANALYST_{name}", value)
    monkeypatch.setenv("HOME", str(home))


def test_revoke_of_a_live_login_says_how_to_end_it_at_the_source(
    run_command: RunCommand, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Schwab has no address for it: the three things that end the tokens are named."""
    live(monkeypatch, tmp_path / "home", TOKEN_KEY_SOURCE="file")
    token_store(load_settings()).save_login(grant())
    shown = report(run_command)
    name = hashlib.sha256(str(project / ".cache/live/tokens/tokens.bin").encode()).hexdigest()[:10]
    assert shown["key"]["place"] == f"key file {tmp_path}/home/.config/trade-analyst/token-{name}.key"
    assert not list((project / ".cache").rglob("*.key"))
    out = run_command("token", "revoke").out
    for text in ("no way to end a login", "trade-analyst login", "Schwab password", "app's secret"):
        assert text in out


@pytest.mark.parametrize("trouble", ["bad key", "no app key", "no home"])
def test_what_hinders_the_login_hinders_neither_status_nor_revoke(
    run_command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str, project: Path
) -> None:
    """Status always prints its object, with the problem in it; forgetting needs neither key nor app."""
    live(monkeypatch, tmp_path / "home", TOKEN_KEY_SOURCE="file")
    token_store(load_settings()).save_login(grant())
    if trouble == "bad key":
        monkeypatch.setenv("TRADE_ANALYST_TOKEN_KEY", "CANARY-no-key")
        words = "TRADE_ANALYST_TOKEN_KEY is not 32 bytes"
    elif trouble == "no app key":
        monkeypatch.delenv("TRADE_ANALYST_APP_KEY")
        words = "TRADE_ANALYST_APP_KEY"
    else:
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(Settings, "key_file", property(without_home))
        words = "HOME"
    shown = report(run_command, code=1)
    assert words in shown["problem"]
    assert (shown["is_usable"], shown["key"], shown["login"]) == (False, None, None)
    assert shown["token_file"] == ".cache/live/tokens/tokens.bin"
    assert words in run_command("token", "status").out
    outcome = run_command("token", "revoke")
    assert (outcome.code, "Forgotten" in outcome.out) == (0, True), outcome.err
    assert not (project / ".cache" / "live" / "tokens" / "tokens.bin").exists()


def without_home(_: Settings) -> Path:
    """What the settings do where no home folder is known."""
    message = "set HOME, or TRADE_ANALYST_TOKEN_KEY"
    raise SettingsError(message)


@pytest.mark.usefixtures("project")
def test_a_key_of_ones_own_needs_no_home(
    run_command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container without a home folder a given key is enough."""
    live(monkeypatch, tmp_path / "home", TOKEN_KEY=new_key().get_secret_value())
    monkeypatch.setattr(Settings, "key_file", property(without_home))
    token_store(load_settings()).save_login(grant())
    assert report(run_command)["key"]["source"] == "environment"


@pytest.mark.usefixtures("project")
def test_a_key_in_the_keyring_needs_no_home_that_can_be_written(
    run_command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is made beside the key file that is not used."""
    live(monkeypatch, tmp_path / "home", TOKEN_KEY_SOURCE="keyring")
    use_keyring(monkeypatch)
    token_store(load_settings()).save_login(grant())
    assert run_command("token", "rotate-key").code == 0
    assert report(run_command)["key"]["source"] == "keyring"
    assert not (tmp_path / "home").exists()


class MemoryKeyring:
    """Stands for a keyring of the machine, by the names that the library calls."""

    priority = 9

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        """An entry."""
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        """Add or replace an entry."""
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        """Remove an entry."""
        del self.entries[service, username]


def use_keyring(monkeypatch: pytest.MonkeyPatch) -> MemoryKeyring:
    """The keyring of this machine, for this test."""
    found = MemoryKeyring()
    monkeypatch.setattr(keyring.core, "_keyring_backend", found)
    return found


# --- rotate-key


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("source", ["file", "keyring"])
def test_project_folders_have_keys_of_their_own(
    run_command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """Changing the key in one folder, or losing it there, ends no other login."""
    live(monkeypatch, tmp_path / "home", TOKEN_KEY_SOURCE=source)
    machine = use_keyring(monkeypatch)
    for folder in ("first", "second"):
        monkeypatch.setenv("TRADE_ANALYST_CACHE_ROOT", str(tmp_path / folder))
        token_store(load_settings()).save_login(grant(folder))
    assert run_command("token", "rotate-key").code == 0
    keys = list((tmp_path / "home").rglob("token-*.key"))
    assert (len(keys), len(machine.entries)) == ((2, 0) if source == "file" else (0, 2))
    for folder in ("first", "second"):
        monkeypatch.setenv("TRADE_ANALYST_CACHE_ROOT", str(tmp_path / folder))
        assert report(run_command)["is_usable"] is True


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("source", ["file", "keyring"])
def test_a_login_under_the_name_all_folders_shared_still_opens(
    run_command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """It is used as it is; a change of keys gives it a key of its own and leaves the shared one to the others."""
    live(monkeypatch, tmp_path / "home", TOKEN_KEY_SOURCE=source)
    use_keyring(monkeypatch)
    settings = load_settings()
    places: tuple[KeyPlace, KeyPlace] = (KeyFile(settings.key_file), SystemKeyring("live"))
    place = places[source == "keyring"]
    place.put("current", new_key().get_secret_value())
    before = place.get("current")
    keys = open_keys(SecretStr(before or ""), token_file=settings.token_file)
    TokenStore(settings.token_file, keys=keys, owner=token_owner("live", settings.app_key)).save_login(grant())
    assert report(run_command)["key"]["place"] == place.label
    assert run_command("token", "rotate-key").code == 0
    shown = report(run_command)
    assert shown["is_usable"] is True
    assert shown["key"]["place"] != place.label
    assert place.get("current") == before


def test_rotate_key_keeps_the_login(run_command: RunCommand, store: TokenStore, project: Path) -> None:
    """The login opens with the new key, by a process that still knew the old one too; the old key opens nothing."""
    key_file = project / ".cache" / "simulate" / "key" / "token.key"
    old = key_file.read_text()
    outcome = run_command("token", "rotate-key")
    assert outcome.code == 0
    assert "key file .cache/simulate/key/token.key" in outcome.out
    assert key_file.read_text() != old
    assert old not in outcome.out + key_file.read_text()
    assert store.load().generation == 1
    assert report(run_command)["key"]["is_changing"] is False
    key_file.write_text(old)
    assert "the key is another one" in report(run_command, code=1)["problem"]


def test_rotate_key_from_the_environment(
    run_command: RunCommand, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One key: the procedure is told. New and old: the login goes under the new one, which then is enough."""
    assert project.exists()
    old, new = new_key().get_secret_value(), new_key().get_secret_value()
    monkeypatch.setenv("TRADE_ANALYST_TOKEN_KEY", old)
    token_store(load_settings()).save_login(grant())
    outcome = run_command("token", "rotate-key")
    assert outcome.code == 1
    assert "the new and the old one with a comma" in outcome.err
    monkeypatch.setenv("TRADE_ANALYST_TOKEN_KEY", f"{new},{old}")
    outcome = run_command("token", "rotate-key")
    assert (outcome.code, "to that key alone" in outcome.out) == (0, True)
    monkeypatch.setenv("TRADE_ANALYST_TOKEN_KEY", new)
    assert report(run_command)["login"]["generation"] == 1
    monkeypatch.setenv("TRADE_ANALYST_TOKEN_KEY", old)
    assert report(run_command, code=1)["login"] is None


@pytest.mark.usefixtures("project")
def test_rotate_key_without_a_login(run_command: RunCommand) -> None:
    """There is nothing under a key: exit code 1, and no key is made."""
    assert run_command("token", "rotate-key").code == 1
    assert not Path(".cache/simulate/key").exists()


# --- keyrings that hang


def test_a_keyring_that_hangs_costs_three_seconds_at_most(project: Path, tmp_path: Path, repository: Path) -> None:
    """The key cannot be looked up, status says so and ends, and the hanging call does not hold up the exit."""
    environment = os.environ | {
        "HOME": str(tmp_path),
        "PYTHONPATH": str(repository / "trade_analyst_tests" / "schwab"),
        "PYTHON_KEYRING_BACKEND": "stand_in_keyrings.HangingKeyring",
        "TRADE_ANALYST_ENVIRONMENT": "live",
        "TRADE_ANALYST_APP_KEY": "k",
        "TRADE_ANALYST_APP_SECRET": "s",
    }
    program = [sys.executable, "-m", "trade_analyst_pipeline.cli.main", "token", "status", "--json"]
    started = time.monotonic()
    done = subprocess.run(
        program, check=False, cwd=project, env=environment, capture_output=True, text=True, timeout=30
    )
    seconds = time.monotonic() - started
    print(f"TOK-8: token status with a hanging keyring ended after {seconds:.1f} s")
    assert (done.returncode, json.loads(done.stdout)["key"], done.stderr) == (1, None, "")
    assert 3.0 <= seconds < 15.0
