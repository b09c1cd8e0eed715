"""Settings come from file and environment in a fixed order, and every mistake is named with its place."""

from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from trade_analyst_pipeline.errors import SettingsError
from trade_analyst_pipeline.settings import load_settings

MINIMAL = '[universe]\nsymbols = ["SPY"]\n'


@pytest.fixture(autouse=True)
def config() -> Path:
    """A config.toml with one symbol in the current folder."""
    path = Path("config.toml")
    path.write_text(MINIMAL)
    return path


def message_of(**overrides: object) -> str:
    """The message with which these settings are refused."""
    with pytest.raises(SettingsError) as refused:
        load_settings(**overrides)
    return str(refused.value)


def test_shipped_settings_are_valid_and_simulated(config: Path, repository: Path) -> None:
    """The config.toml of the checkout loads as it is, on the simulator, with 12 symbols and 260 sessions."""
    config.write_bytes((repository / "config.toml").read_bytes())
    settings = load_settings()
    assert settings.environment == "simulate"
    assert len(settings.universe.symbols) == 12
    assert settings.capture.history_sessions == 260
    assert settings.schwab.requests_per_minute == 120


def test_environments_share_no_folder() -> None:
    """Data and cache of the two environments lie in folders of their own."""
    simulate, live = load_settings(environment="simulate"), load_settings(environment="live")
    assert (simulate.data_folder, live.data_folder) == (Path("data/simulate"), Path("data/live"))
    assert (simulate.cache_folder, live.cache_folder) == (Path(".cache/simulate"), Path(".cache/live"))


def test_arguments_beat_environment_beats_dotenv_beats_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each source overrides the ones behind it, for nested keys too."""
    config.write_text(MINIMAL + "[capture]\nworkers = 3\n")
    assert load_settings().capture.workers == 3
    Path(".env").write_text("TRADE_ANALYST_CAPTURE__WORKERS=4\n")
    assert load_settings().capture.workers == 4
    monkeypatch.setenv("TRADE_ANALYST_CAPTURE__WORKERS", "5")
    assert load_settings().capture.workers == 5
    assert load_settings(capture={"workers": 6}).capture.workers == 6


def test_settings_cannot_be_changed() -> None:
    """The settings are one frozen object, sections included."""
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.environment = "live"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        settings.schwab.pkce = False  # type: ignore[misc]


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Key and secret are read from the environment and never part of the object's text."""
    monkeypatch.setenv("TRADE_ANALYST_APP_KEY", "canary-key")
    monkeypatch.setenv("TRADE_ANALYST_APP_SECRET", "canary-secret")
    settings = load_settings()
    assert settings.app_secret is not None
    assert settings.app_secret.get_secret_value() == "canary-secret"
    assert "canary" not in repr(settings) + str(settings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('nonsense = 1\n[universe]\nsymbols = ["SPY"]', "nonsense: Extra inputs are not permitted (in config.toml"),
        ('[universe]\nsymbols = ["spy"]', "universe.symbols: Value error, 'spy' is not a Schwab symbol"),
        ('[universe]\nsymbols = ["BRK.B"]', "'BRK.B' is not how Schwab writes a share class; write BRK/B"),
        ('[universe]\nsymbols = ["SPY", "SPY"]', "a symbol is listed twice"),
        ("[universe]\nsymbols = []", "universe.symbols"),
        (MINIMAL + "[capture]\nworkers = 0", "capture.workers: Input should be greater than or equal to 1"),
        (MINIMAL + "[capture.bounded_chain]\nlate_days = [36, 14]", "first day 36 is after last day 14"),
        (MINIMAL + '[schwab]\nbase_url = "http://127.0.0.1"', "only https:// is accepted"),
        (MINIMAL + "[schwab]\nreserved_per_minute = 119\nrequests_per_minute = 100", "leaves no request"),
        (MINIMAL + '[schwab]\nredirect_uri = "https://127.0.0.1:8182/callback/"', "the match is exact"),
        (MINIMAL + '[schwab]\nredirect_allowlist = ["https://localhost/"]', "'https://localhost/' is not https://127"),
        ("[universe", "config.toml is not valid TOML"),
    ],
)
def test_mistake_in_the_file_names_key_problem_and_file(config: Path, text: str, expected: str) -> None:
    """A wrong value, an unknown key and broken TOML are each refused with what is wrong and where."""
    config.write_text(text)
    assert expected in message_of()


def test_mistake_in_a_variable_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong value from the environment is laid at its variable's door."""
    monkeypatch.setenv("TRADE_ANALYST_CAPTURE__WORKERS", "many")
    assert "environment variable TRADE_ANALYST_CAPTURE__WORKERS" in message_of()


def test_wrong_argument_is_named() -> None:
    """A wrong value handed in is said to be an argument."""
    assert "(in argument;" in message_of(environment="production")


def test_variable_that_names_no_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable is an error: it would otherwise be ignored in silence."""
    monkeypatch.setenv("TRADE_ANALYST_WORKERS", "2")
    assert "TRADE_ANALYST_WORKERS names no setting" in message_of()


def test_message_never_holds_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """When settings are refused, the values of secrets among them are not part of the message."""
    monkeypatch.setenv("TRADE_ANALYST_APP_SECRET", "canary-secret")
    assert "canary" not in message_of(environment="production")


def test_start_date_is_a_date(config: Path) -> None:
    """The first session is read as a date."""
    config.write_text("start_date = 2025-06-02\n" + MINIMAL)
    assert load_settings().start_date == date(2025, 6, 2)
