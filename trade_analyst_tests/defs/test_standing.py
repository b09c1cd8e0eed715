"""How things stand is told without asking the source, making a file or changing one."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from trade_analyst_pipeline.defs.resources import token_store
from trade_analyst_pipeline.defs.standing import budget_state, check_client, stored_login
from trade_analyst_pipeline.errors import AuthUnavailableError, LoginRequiredError, SettingsError
from trade_analyst_pipeline.schwab.key_places import SystemKeyring
from trade_analyst_pipeline.schwab.token_records import TokenGrant
from trade_analyst_pipeline.schwab.uptime import NO_UPTIME
from trade_analyst_pipeline.settings import Settings, load_settings

LIVE = {"environment": "live", "app_key": "key-of-the-app", "app_secret": "its-secret"}  # pragma: allowlist secret


@pytest.fixture(autouse=True)
def _project(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The settings as shipped, a key from the environment, and a home folder of the test."""
    shutil.copy(repository / "config.toml", "config.toml")
    monkeypatch.setenv("TRADE_ANALYST_TOKEN_KEY", Fernet.generate_key().decode())
    monkeypatch.setenv("HOME", str(tmp_path))


def log_in(settings: Settings) -> None:
    """Store a login as if it had just been made."""
    token_store(settings).save_login(TokenGrant(SecretStr("access-token"), SecretStr("refresh-token"), 1800.0))


def test_without_a_login_nothing_is_made() -> None:
    """No login, no problem, and no file of any kind."""
    found = stored_login(load_settings())
    assert (found.login_time, found.ends_time, found.problem) == (None, None, None)
    assert "TRADE_ANALYST_TOKEN_KEY" in found.key_source
    assert not Path(".cache").exists()


def test_login_ends_seven_days_after_it_was_made() -> None:
    """The times are those of the stored login, UTC; the key is named by its place."""
    settings = load_settings(**LIVE)
    before = datetime.now(UTC)
    log_in(settings)
    found = stored_login(settings)
    assert found.login_time is not None
    assert before <= found.login_time <= datetime.now(UTC)
    assert found.ends_time == found.login_time + timedelta(days=7)
    assert (found.generation, found.problem) == (1, None)
    assert found.is_usable(datetime.now(UTC))


def test_login_of_the_future_is_told_by_how_far() -> None:
    """A login stored while the clock stood a day ahead is dated a day ahead of the clock as it is now."""
    settings = load_settings(**LIVE)
    store = token_store(settings)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    store.now = tomorrow.timestamp
    store._uptime = lambda: NO_UPTIME
    store.save_login(TokenGrant(SecretStr("access-token"), SecretStr("refresh-token"), 1800.0))
    found = stored_login(settings)
    assert timedelta(hours=23, minutes=59) < found.lead <= timedelta(days=1)
    assert found.is_usable(datetime.now(UTC))


def test_refused_login_is_told_with_the_time_of_the_refusal() -> None:
    """Once the source has refused the refresh token, the login is no longer usable although its days are not over."""
    settings = load_settings(**LIVE)
    log_in(settings)

    def refuse(_: SecretStr) -> TokenGrant:
        message = "dead"
        raise LoginRequiredError(message)

    with pytest.raises(LoginRequiredError):
        token_store(settings).renew(is_good=lambda _: False, refresh=refuse)
    found = stored_login(settings)
    assert found.problem is not None
    assert found.problem.startswith(f"the source refused the stored login at {datetime.now(UTC):%Y-%m-%d}")
    assert not found.is_usable(datetime.now(UTC))


def test_refresh_cut_off_is_no_refusal() -> None:
    """A refresh that could not be made leaves the login usable."""
    settings = load_settings(**LIVE)
    log_in(settings)

    def fail(_: SecretStr) -> TokenGrant:
        message = "no answer"
        raise AuthUnavailableError(message)

    with pytest.raises(AuthUnavailableError):
        token_store(settings).renew(is_good=lambda _: False, refresh=fail)
    assert stored_login(settings).problem is None


def test_file_that_cannot_be_opened_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """With another key the login is unknown, and the message says what to do."""
    log_in(load_settings(**LIVE))
    monkeypatch.setenv("TRADE_ANALYST_TOKEN_KEY", Fernet.generate_key().decode())
    found = stored_login(load_settings(**LIVE))
    assert (found.login_time, found.ends_time) == (None, None)
    assert found.problem is not None
    assert "cannot be opened" in found.problem


def test_a_keyring_that_does_not_answer_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the key cannot be had it is told so, and nobody is advised to give the login up."""
    monkeypatch.delenv("TRADE_ANALYST_TOKEN_KEY")
    monkeypatch.setattr(SystemKeyring, "get", unanswered)
    settings = load_settings(**LIVE, token_key_source="file")
    log_in(settings)
    next((Path.home() / ".config" / "trade-analyst").glob("token-*.key")).unlink()
    found = stored_login(settings)
    assert found.problem is not None
    assert "cannot be opened now: the OS keyring did not answer" in found.problem
    assert "revoke" not in found.problem


def unanswered(_: SystemKeyring, __: str) -> str:
    """A keyring that waits for somebody to unlock it."""
    message = "the OS keyring did not answer within 3 s. Unlock it and try again."
    raise AuthUnavailableError(message)


def test_text_that_is_no_key_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was cut when it was copied is told like a file that cannot be opened, without the text itself."""
    monkeypatch.setenv("TRADE_ANALYST_TOKEN_KEY", "cut-when-copied")
    found = stored_login(load_settings(**LIVE))
    assert found.problem is not None
    assert "is not 32 bytes" in found.problem
    assert "cut-when-copied" not in found.problem
    assert found.key_source == "nowhere: it cannot be read"


def test_live_without_credentials_says_which_to_set() -> None:
    """Neither the login nor a client can be looked at without the app's key and secret."""
    settings = load_settings(environment="live")
    with pytest.raises(SettingsError, match="TRADE_ANALYST_APP_KEY"):
        stored_login(settings)
    with pytest.raises(SettingsError, match="TRADE_ANALYST_APP_KEY"):
        check_client(settings)


def test_client_is_built_and_asks_nothing() -> None:
    """With credentials the live client can be set up; on the simulator its certificate has to be there."""
    check_client(load_settings(**LIVE))
    assert not Path(".cache").exists()
    with pytest.raises(FileNotFoundError):
        check_client(load_settings())


@pytest.mark.parametrize(
    "content", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_damaged_certificate_is_named_with_what_writes_it_anew(content: str) -> None:
    """Empty, cut or of other content, the simulator's certificate is told by its file, not as an error of TLS alone."""
    file = Path(".cache/simulate/simulator-ca.pem")
    file.parent.mkdir(parents=True)
    file.write_text(content)
    with pytest.raises(SettingsError, match=r"simulator-ca\.pem holds no certificate .* `trade-analyst simulator` and"):
        check_client(load_settings())


def test_only_a_shared_limit_has_a_state() -> None:
    """The live limit stands as it is, without a file made; the simulator's is each run's own."""
    state = budget_state(load_settings(**LIVE))
    assert state is not None
    assert (state.per_minute, state.free_now, state.is_known) == (120, 1, True)
    assert budget_state(load_settings()) is None
    assert not Path(".cache").exists()
