"""The command line called in-process, as the shell would."""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from live_source import LiveSource

from trade_analyst_pipeline.cli import login
from trade_analyst_pipeline.cli.main import main
from trade_analyst_pipeline.cli.source import _free_port
from trade_analyst_pipeline.defs import resources
from trade_analyst_pipeline.market.clock import MachineClock
from trade_analyst_pipeline.settings import load_settings
from trade_analyst_pipeline.simulator.oauth import SIMULATOR_APP_KEY, SIMULATOR_APP_SECRET
from trade_analyst_pipeline.simulator.server import SimulatorServer


@dataclass(frozen=True)
class Outcome:
    """What a command left behind: exit code, standard output and standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def project(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder, made the current one, with the settings and the instance of the checkout.

    But for the sets of symbols and for daily bars: years of them are most of the work of a first run.
    """
    (tmp_path / "dagster.yaml").write_bytes((repository / "dagster.yaml").read_bytes())
    paragraphs = (repository / "config.toml").read_text(encoding="utf-8").split("\n\n")
    kept = "\n\n".join(each for each in paragraphs if "\n[universe.sets." not in each)
    (tmp_path / "config.toml").write_text(kept.replace('bars = ["daily",', 'bars = ["monthly",'), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Outcome]]:
    """Runs `trade-analyst` with these arguments; logging is put back as it was."""
    root, factory = logging.getLogger(), logging.getLogRecordFactory()
    level, handlers = root.level, root.handlers[:]

    def run(*arguments: str) -> Outcome:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        shown = capsys.readouterr()
        code = stop.value.code
        return Outcome(code if isinstance(code, int) else int(code is not None), shown.out, shown.err)

    yield run
    logging.setLogRecordFactory(factory)
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture
def live(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveSource]:
    """A live account that nobody has logged in to, with one stock and one ETF in the universe."""
    assert project
    redirect_uri = f"https://127.0.0.1:{_free_port()}/callback"
    server = SimulatorServer(
        seed=7, ca_file=Path("ca.pem").absolute(), now=lambda: source.now, redirect_uris=(redirect_uri,)
    )
    source = LiveSource(server)
    with server:
        values = {
            "ENVIRONMENT": "live",
            "UNIVERSE__SYMBOLS": json.dumps(["AAPL", "IWM"]),
            "SCHWAB__BASE_URL": server.base_url,
            "SCHWAB__REDIRECT_URI": redirect_uri,
            "SCHWAB__REDIRECT_ALLOWLIST": json.dumps([redirect_uri]),
            "APP_KEY": SIMULATOR_APP_KEY,
            "APP_SECRET": SIMULATOR_APP_SECRET,
            "TOKEN_KEY": Fernet.generate_key().decode(),
            "CAPTURE__WORKERS": "1",
        }
        for name, value in values.items():
            monkeypatch.setenv(f"TRADE_ANALYST_{name}", value)
        for name in ("DAGSTER_HOME", "DAGSTER_INSTANCE_DIR", "DAGSTER_EVENT_BATCH_SIZE"):
            monkeypatch.setenv(name, "")  # set by the command, and then forgotten again
            monkeypatch.delenv(name)
        monkeypatch.setattr(resources, "certificate_authority", lambda _: server.ca_file)
        monkeypatch.setattr(MachineClock, "now", lambda _: source.now)
        monkeypatch.setattr(MachineClock, "sleep", lambda _, seconds: source.sleep(seconds))
        yield source


@pytest.fixture
def logged_in(live: LiveSource) -> LiveSource:
    """The same, logged in to."""
    login.login_to_simulator(load_settings())
    return live
