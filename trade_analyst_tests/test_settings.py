"""Settings come from file and environment in a fixed order, and every mistake is named with its place."""

from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from trade_analyst_pipeline.errors import SettingsError
from trade_analyst_pipeline.settings import load_settings, redirect_problem

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
        ('nonsense = 1\n[universe]\nsymbols = ["SPY"]', "nonsense: names no setting (in config.toml;"),
        ('[universe]\nsymbols = ["spy"]', "universe.symbols: 'spy' is not a Schwab symbol"),
        ('[universe]\nsymbols = ["BRK.B"]', "'BRK.B' is not how Schwab writes a share class; write BRK/B"),
        ('[universe]\nsymbols = ["SPY", "SPY"]', "a symbol is listed twice"),
        ("[universe]\nsymbols = []", "universe.symbols"),
        (MINIMAL + "[capture]\nworkers = 0", "capture.workers: should be greater than or equal to 1"),
        (MINIMAL + "[capture.bounded_chain]\nlate_days = [36, 14]", "first day 36 is after last day 14"),
        (MINIMAL + '[capture]\nbars = ["daily", "daily"]', "a kind of bars is listed twice"),
        (MINIMAL + '[capture]\nbars = ["hourly"]', "'minute_30'"),
        (MINIMAL + "[capture]\nbars = []", "at least 1"),
        (MINIMAL + '[schwab]\nbase_url = "http://127.0.0.1"', "only https:// is accepted"),
        (MINIMAL + "[schwab]\nreserved_per_minute = 119\nrequests_per_minute = 100", "leaves no request"),
        (MINIMAL + '[schwab]\nredirect_uri = "https://127.0.0.1:8182/callback/"', "the match is exact"),
        (MINIMAL + '[schwab]\nredirect_allowlist = ["https://localhost/"]', "'https://localhost/' is not https://127"),
        ("[universe", "config.toml is not valid TOML"),
        ("[capture]\nworkers = 2", "universe: is missing (in config.toml;"),
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


def test_mistake_in_dotenv_is_laid_at_its_door() -> None:
    """A wrong value and a name that is no setting are said to stand in `.env`, not in one file or the other."""
    Path(".env").write_text("TRADE_ANALYST_CAPTURE__WORKERS=many\nTRADE_ANALYST_CAPTURE__NONSENSE=1\n")
    message = message_of()
    assert "capture.workers: should be a valid integer" in message
    assert "capture.nonsense: names no setting (in .env;" in message
    assert message.count("(in .env;") == 2


@pytest.mark.parametrize("text", ["SPY", "SPY,QQQ", "[SPY]"])
def test_list_that_is_no_json_says_how_to_write_one(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A variable of a list that holds plain words is named, in the environment and in `.env`, with an example."""
    advice = """TRADE_ANALYST_UNIVERSE__SYMBOLS is no JSON, in which lists and tables are written: '["SPY","QQQ"]'"""
    Path(".env").write_text(f"export TRADE_ANALYST_UNIVERSE__SYMBOLS='{text}'\n")
    assert advice in message_of()
    Path(".env").unlink()
    monkeypatch.setenv("TRADE_ANALYST_UNIVERSE__SYMBOLS", text)
    assert advice in message_of()
    monkeypatch.setenv("TRADE_ANALYST_UNIVERSE__SYMBOLS", '["SPY","QQQ"]')
    assert load_settings().universe.symbols == ("SPY", "QQQ")


def test_other_folder_is_told_from_an_empty_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without config.toml the message names the folder it was sought in; symbols from a variable do without it."""
    config.unlink()
    assert message_of() == f"config.toml was not found in {Path.cwd()}: start in the project folder"
    monkeypatch.setenv("TRADE_ANALYST_UNIVERSE__SYMBOLS", '["SPY"]')
    assert load_settings().universe.symbols == ("SPY",)


@pytest.mark.parametrize("name", ["config.toml", ".env"])
def test_file_that_is_no_utf_8_is_named_with_the_line(name: str) -> None:
    """A file saved in another encoding is refused with its name and the line of the first wrong byte."""
    Path(name).write_bytes(b"# one\n# caf\xe9\n")
    assert message_of() == f"{name} is not UTF-8 text: byte 0xe9 in line 2. Save it as UTF-8"


@pytest.mark.parametrize("name", ["config.toml", ".env"])
def test_file_that_cannot_be_read_is_named(name: str) -> None:
    """A file that is there and gives an error when read is refused with its name."""
    Path(name).unlink(missing_ok=True)
    Path(name).symlink_to("/proc/self/mem")  # a file whose first byte nobody can read
    assert message_of().startswith(f"{name} cannot be read: ")


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("https://127.0.0.1:443/callback", "browsers leave the port 443 of https out"),
        ("https://127.0.0.1:08182/callback", "the port has to be 1 to 65535, without a leading zero"),
        ("https://127.0.0.1:0/callback", "the port has to be 1 to 65535"),
        ("https://127.0.0.1:99999/callback", "the port has to be 1 to 65535"),
        ("https://127.0.0.1:65536/callback", "the port has to be 1 to 65535"),
        (f"https://127.0.0.1:{'9' * 5000}/callback", "the port has to be 1 to 65535"),
        ("https://127.0.0.1:/callback", "is not https://127.0.0.1[:port][/path]"),
        ("https://127.0.0.1:8182/a/../callback", "browsers resolve . and .. in a path"),
        ("https://127.0.0.1:8182/./callback", "browsers resolve . and .. in a path"),
        ("https://127.0.0.1:8182/callback/..", "browsers resolve . and .. in a path"),
        ("https://127.0.0.1:8182//callback", "use single slashes"),
        ("https://127.0.0.1:8182/callback//", "use single slashes"),
        ("https://127.0.0.1:8182/call back", "is not https://127.0.0.1[:port][/path]"),
        ("http://127.0.0.1:8182/callback", "is not https://127.0.0.1[:port][/path]"),
    ],
)
def test_redirect_address_that_can_never_work_is_refused(config: Path, uri: str, problem: str) -> None:
    """What a browser would change or could not open is no redirect address, and the message says why."""
    config.write_text(f'{MINIMAL}[schwab]\nredirect_uri = "{uri}"\nredirect_allowlist = ["{uri}"]\n')
    assert f"redirect_allowlist: {uri!r}" in message_of()
    assert problem in message_of()


@pytest.mark.parametrize(
    "uri",
    [
        "https://127.0.0.1",
        "https://127.0.0.1/",
        "https://127.0.0.1:1/callback",
        "https://127.0.0.1:65535/callback/",
        "https://127.0.0.1:8182/.well-known/a..b/...",
    ],
)
def test_redirect_address_that_browsers_keep_is_accepted(uri: str) -> None:
    """Addresses that stay as they are stand; dots inside a name are no dot segments."""
    assert redirect_problem(uri) is None


def test_user_without_a_home_folder_is_told_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without HOME and under a user id that nobody has, a live key file has no place; settings can be read."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 2_000_000_111)
    with pytest.raises(SettingsError, match="Set TRADE_ANALYST_TOKEN_KEY"):
        _ = load_settings(environment="live").key_file
    assert load_settings().key_file == Path(".cache/simulate/key/token.key")


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


SETS = """[universe]
symbols = ["SPY", "AAAIX", "AAPL"]
[universe.sets.futures]
symbols = ["/ES", "EUR/USD"]
datasets = { quotes = 5 }
[universe.sets.close]
symbols = ["AAPL", "XOM"]
datasets = { options = "closing", ohlc = "daily" }
"""


def test_sets_add_symbols_and_change_how_often_others_are_taken(config: Path) -> None:
    """Per dataset: the usual symbols it can be had of, then those of sets; a set's cadence replaces the usual one."""
    config.write_text(SETS)
    settings = load_settings()
    assert settings.cadences("quotes") == {"SPY": 15, "AAAIX": 15, "AAPL": 15, "/ES": 5, "EUR/USD": 5}
    assert settings.cadences("options") == {"SPY": 15, "AAPL": "closing", "XOM": "closing"}
    assert settings.cadences("ohlc") == {"SPY": "daily", "AAAIX": "daily", "AAPL": "daily", "XOM": "daily"}
    assert settings.universe.symbols_of("expirations") == ("SPY", "AAPL")
    assert settings.universe.symbols_of("movers") == ()
    assert settings.universe.all_symbols == ("SPY", "AAAIX", "AAPL", "/ES", "EUR/USD", "XOM")


def test_the_usual_cadence_is_that_of_the_capture_section(config: Path) -> None:
    """Where no set says otherwise, quotes and chains are taken every `capture.intraday_minutes`."""
    config.write_text(f"{MINIMAL}[capture]\nintraday_minutes = 30\n")
    assert load_settings().cadences("quotes") == {"SPY": 30}


def test_sets_may_stand_alone_and_come_from_the_environment(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain list may be empty when a set names symbols; a variable holds sets as JSON."""
    config.write_text("[universe]\nsymbols = []\n")
    text = '{"legs": {"symbols": ["AAPL  270115C00200000"], "datasets": {"quotes": "closing"}}}'
    monkeypatch.setenv("TRADE_ANALYST_UNIVERSE__SETS", text)
    assert load_settings().cadences("quotes") == {"AAPL  270115C00200000": "closing"}


@pytest.mark.parametrize(
    ("symbols", "datasets", "message"),
    [
        ('["/ES"]', "{ quote = 5 }", "universe.sets.one.datasets: 'quote' is no dataset that is asked for by symbol"),
        ('["/ES"]', "{ movers = 5 }", "'movers' is no dataset that is asked for by symbol"),
        ('["/ES"]', '{ quotes = "hourly" }', "'hourly' is no cadence of quotes: write the minutes"),
        ('["/ES"]', "{ quotes = 0 }", "0 is no cadence of quotes"),
        ('["/ES"]', "{ quotes = 391 }", "391 is no cadence of quotes"),
        ('["/ES"]', "{ quotes = true }", "True is no cadence of quotes"),
        ('["/ES"]', '{ quotes = "daily" }', "'daily' is no cadence of quotes"),
        ('["XOM"]', "{ ohlc = 15 }", 'ohlc is taken once a session: write ohlc = "daily"'),
        ('["/ES"]', "{ options = 15 }", "the source has no options of /ES, which is a future"),
        ('["AAAIX"]', '{ options = "closing" }', "the source has no options of AAAIX, which is a mutual fund"),
        ('["XOM", "XOM"]', "{ quotes = 5 }", "a symbol is listed twice: XOM"),
        ('["es"]', "{ quotes = 5 }", "universe.sets.one.symbols: 'es' is not a Schwab symbol"),
        ("[]", "{ quotes = 5 }", "universe.sets.one.symbols"),
        ('["XOM"]', "{}", "universe.sets.one.datasets"),
        ('["XOM"]', "3", "universe.sets.one.datasets"),
        ('["SPY"]', "{ options = 5 }", "SPY is in the sets one and two, both with options: keep one of them"),
    ],
)
def test_sets_that_cannot_be_are_refused(config: Path, symbols: str, datasets: str, message: str) -> None:
    """Each mistake in a set is told with its key and what to write."""
    sets = f"[universe.sets.one]\nsymbols = {symbols}\ndatasets = {datasets}\n"
    other = '[universe.sets.two]\nsymbols = ["SPY"]\ndatasets = { options = 30 }\n'
    config.write_text(MINIMAL + sets + other)
    assert message in message_of()
