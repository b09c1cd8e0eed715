"""`trade-analyst login`: on the simulator, in a browser, and by hand."""

import getpass
import io
import socket
import ssl
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from trade_analyst_pipeline.cli import login as command
from trade_analyst_pipeline.schwab.callback_ledger import CallbackLedger
from trade_analyst_pipeline.schwab.keys import ephemeral_folder
from trade_analyst_pipeline.settings import load_settings
from trade_analyst_pipeline.simulator import faults
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.server import SimulatorServer

Run = Callable[..., Any]


@pytest.fixture(scope="session")
def market() -> Market:
    """A market nobody looks at."""
    return Market(7)


@pytest.fixture
def simulator(project: Path, market: Market, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatorServer]:
    """A running simulator that the settings point to, and a redirect address on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        redirect_uri = f"https://127.0.0.1:{probe.getsockname()[1]}/callback"
    ca_file = project / ".cache" / "simulate" / "simulator-ca.pem"
    with SimulatorServer(seed=7, market=market, ca_file=ca_file, redirect_uris=(redirect_uri,)) as server:
        monkeypatch.setenv("TRADE_ANALYST_SIMULATOR__PORT", server.base_url.rpartition(":")[2])
        monkeypatch.setenv("TRADE_ANALYST_SCHWAB__REDIRECT_URI", redirect_uri)
        monkeypatch.setenv("TRADE_ANALYST_SCHWAB__REDIRECT_ALLOWLIST", f'["{redirect_uri}"]')
        yield server


def redirected(simulator: SimulatorServer, url: str) -> str:
    """The address that consent leads to."""
    context = ssl.create_default_context(cafile=str(simulator.ca_file))
    return httpx.get(url, verify=context, trust_env=False).headers["location"]


def statistics() -> Any:
    """What the settings' ledger has counted."""
    return CallbackLedger(load_settings().callback_ledger_file).statistics()


@pytest.mark.auth_real_flow
def test_a_login_to_the_simulator(simulator: SimulatorServer, run_command: Run) -> None:
    """The whole flow by itself: exit 0, tokens stored, the callback counted."""
    outcome = run_command("login")
    assert (outcome.code, outcome.out) == (0, "Logged in to the simulator.\n")
    assert load_settings().token_file.stat().st_mode & 0o777 == 0o600
    assert (statistics().expected, statistics().accepted, statistics().refused) == (1, 1, {})
    assert simulator.desk.exchanges == 1


@pytest.mark.usefixtures("project")
def test_without_a_simulator_the_message_says_how_to_start_one(run_command: Run) -> None:
    """Never started, or not running: exit 1 and the commands that start it."""
    outcome = run_command("login")
    assert outcome.code == 1
    assert "`trade-analyst simulator` or `make ui`" in outcome.err


def test_a_simulator_that_has_ended_is_told(simulator: SimulatorServer, run_command: Run) -> None:
    """Its certificate is there, but nobody answers."""
    simulator.stop()
    outcome = run_command("login")
    assert outcome.code == 1
    assert "no simulator answers at 127.0.0.1:" in outcome.err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (faults.app_pending(), "'Ready For Use'"),
        (faults.access_denied(), "leave VPNs and proxies"),
        (faults.app_refused(), "TRADE_ANALYST_APP_KEY"),
    ],
)
def test_a_page_in_place_of_consent_is_explained(
    simulator: SimulatorServer, run_command: Run, change: faults.Change, words: str
) -> None:
    """What a person would see in the browser is said by the command, at once."""
    simulator.faults.add(change, path="/v1/oauth/authorize", times=None)
    begin = time.monotonic()
    outcome = run_command("login")
    assert outcome.code == 1
    assert words in outcome.err
    assert time.monotonic() - begin < 5


# --- by hand


class Typist:
    """Standard input and error of a person: pastes what the links shown so far lead to."""

    def __init__(self, simulator: SimulatorServer, *answers: Callable[[str], str]) -> None:
        self._simulator = simulator
        self._answers = list(answers)
        self.links: list[str] = []
        self.shown: list[str] = []

    def echo(self, text: str, **_: Any) -> None:
        """Take what the command shows, and remember the link in it."""
        self.shown.append(text)
        self.links += [line for line in text.splitlines() if line.startswith("https://")]

    def paste(self, *_: Any, **__: Any) -> str:
        """The next answer."""
        return self._answers.pop(0)(redirected(self._simulator, self.links[-1])) + "\n"


@pytest.fixture
def typist(simulator: SimulatorServer, monkeypatch: pytest.MonkeyPatch) -> Typist:
    """Somebody at a pipe, who pastes one good address."""
    person = Typist(simulator, lambda address: address)
    monkeypatch.setattr(command.typer, "echo", person.echo)

    class Pipe(io.StringIO):
        def readline(self, *_: Any) -> str:  # type: ignore[override]  # the base takes a size
            return person.paste()

    monkeypatch.setattr("sys.stdin", Pipe())
    return person


@pytest.mark.auth_real_flow
def test_a_login_by_hand(typist: Typist, run_command: Run) -> None:
    """The link is shown, the pasted address logs in, and nothing of it is shown."""
    outcome = run_command("login", "--manual")
    assert outcome.code == 0
    assert len(typist.links) == 1
    text = "\n".join([*typist.shown, outcome.out, outcome.err])
    assert "Logged in. Tokens are stored in" in text
    assert "code=" not in text
    assert statistics().accepted == 1


@pytest.mark.auth_real_flow
def test_a_code_too_old_gets_a_fresh_link(simulator: SimulatorServer, typist: Typist, run_command: Run) -> None:
    """No exit: the fault is told, another link is shown, and the second address logs in."""
    simulator.faults.add(faults.answered(400, b'{"error":"invalid_grant"}'), path="/v1/oauth/token")
    typist._answers = [lambda address: address, lambda address: f"  {address}  "]
    assert run_command("login", "--manual").code == 0
    assert len(set(typist.links)) == 2
    assert any("That did not work: the source refused the code" in text for text in typist.shown)


def test_the_end_of_the_input_gives_up(typist: Typist, run_command: Run) -> None:
    """Exit 1 without a hang when there is nothing to read."""
    typist._answers = [lambda _: ""]
    outcome = run_command("login", "--manual")
    assert outcome.code == 1
    assert "no address was given" in typist.shown[-1]


def test_a_closed_input_is_the_end_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `<&-` there is no standard input at all: nothing was pasted."""
    monkeypatch.setattr("sys.stdin", None)
    assert command._pasted_address().get_secret_value() == ""


def test_on_a_terminal_the_address_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read as a password is."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    asked: list[str] = []

    def hidden(prompt: str, stream: Any) -> str:  # noqa: ARG001 - the signature is given
        asked.append(prompt)
        return " https://x "

    monkeypatch.setattr("sys.stdin", Terminal("shown"))
    monkeypatch.setattr(getpass, "getpass", hidden)
    assert command._pasted_address().get_secret_value() == "https://x"
    assert "not shown" in asked[0]


# --- the browser


def test_without_a_browser_the_way_by_hand_is_suggested(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The link and `--manual` are named, and nothing is raised."""

    def none(*_: Any) -> Any:
        message = "could not locate runnable browser"
        raise webbrowser.Error(message)

    monkeypatch.setattr(webbrowser, "get", none)
    command.open_in_browser("https://127.0.0.1/x")
    shown = capsys.readouterr().err
    assert "https://127.0.0.1/x" in shown
    assert "trade-analyst login --manual" in shown


def test_a_browser_that_does_not_come_back_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that runs in the terminal returns when it is closed: the command goes on."""
    closed = threading.Event()
    monkeypatch.setattr(command, "BROWSER_SECONDS", 0.05)
    monkeypatch.setattr(webbrowser, "get", lambda *_: None)
    monkeypatch.setattr(webbrowser, "open", lambda *_: closed.wait(20))
    begin = time.monotonic()
    command.open_in_browser("https://127.0.0.1/x")
    assert time.monotonic() - begin < 5
    closed.set()


@pytest.mark.auth_real_flow
def test_a_live_login_through_the_browser(
    simulator: SimulatorServer, run_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the live environment the browser is opened and the redirect waited for; the simulator plays the source."""
    monkeypatch.setenv("TRADE_ANALYST_ENVIRONMENT", "live")
    monkeypatch.setenv("TRADE_ANALYST_SCHWAB__BASE_URL", simulator.base_url)
    monkeypatch.setenv("TRADE_ANALYST_APP_KEY", simulator.desk._app_key)
    monkeypatch.setenv("TRADE_ANALYST_APP_SECRET", simulator.desk._app_secret)
    monkeypatch.setenv("TRADE_ANALYST_TOKEN_KEY", "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=")
    monkeypatch.setattr("trade_analyst_pipeline.defs.resources.certificate_authority", lambda _: simulator.ca_file)
    monkeypatch.setattr(webbrowser, "get", lambda *_: None)
    monkeypatch.setattr(webbrowser, "open", lambda url: visit(simulator, url))
    outcome = run_command("login", "--wait-seconds", "10")
    assert outcome.code == 0, outcome.err
    assert "Logged in. Tokens are stored in .cache/live/tokens/tokens.bin (fingerprint " in outcome.out
    assert statistics().accepted == 1


@pytest.mark.auth_real_flow
def test_a_login_under_an_ephemeral_key_says_where_it_really_lies(
    typist: Typist, run_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens are in a folder that ends with the process, not where they would be kept."""
    monkeypatch.setenv("TRADE_ANALYST_TOKEN_KEY_SOURCE", "ephemeral")
    assert run_command("login", "--manual").code == 0
    assert f"stored in {ephemeral_folder()}/tokens.bin" in typist.shown[-1]
    assert not load_settings().token_file.exists()


def visit(simulator: SimulatorServer, url: str) -> bool:
    """A person's browser: follows the redirect, and accepts the listener's certificate."""
    address = redirected(simulator, url)
    return httpx.get(address, verify=False, trust_env=False).status_code == 200  # noqa: S501 - as a person would
