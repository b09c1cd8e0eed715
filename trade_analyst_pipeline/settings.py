"""One frozen Settings object, read from `config.toml`, the environment and `.env` when asked; the only reader of them.

Order of precedence: arguments, environment (`TRADE_ANALYST_` prefix, `__` for nesting), `.env`, `config.toml`.
"""

from __future__ import annotations

import itertools
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic_settings
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from trade_analyst_pipeline.errors import SettingsError
from trade_analyst_pipeline.market.symbols import DATASET_KINDS, KIND_WORDS, form_problem, is_taken_of, kind_of
from trade_analyst_pipeline.ops.redaction import register_secret

PREFIX = "TRADE_ANALYST_"
CONFIG_FILE = "config.toml"
ENV_FILE = ".env"
_JSON_ADVICE = """in which lists and tables are written: '["SPY","QQQ"]', '{"workers": 4}'; see docs/settings.md"""
_REDIRECT = re.compile(r"https://127\.0\.0\.1(?::(?P<port>[0-9]+))?(?P<path>/[A-Za-z0-9._~/-]*)?")

Frequency = Literal["daily", "weekly", "monthly", "minute", "minute_5", "minute_10", "minute_15", "minute_30"]
Days = tuple[Annotated[int, Field(ge=0, le=1100)], Annotated[int, Field(ge=0, le=1100)]]


def redirect_problem(uri: str) -> str | None:
    """Why a log-in can never come back to this address as it stands; None when it can.

    What comes back is compared with it to the letter, so an address that a browser writes differently is none.
    """
    parts = _REDIRECT.fullmatch(uri)
    if parts is None:
        return f"{uri!r} is not https://127.0.0.1[:port][/path]"
    port, path = parts["port"], parts["path"] or ""
    if port is not None and (port.startswith("0") or not 1 <= int(port[:6]) <= 65535):
        return f"{uri!r}: the port has to be 1 to 65535, without a leading zero"
    if port == "443":
        return (
            f"{uri!r}: browsers leave the port 443 of https out; write the address without it, here and at the source"
        )
    if not {".", ".."}.isdisjoint(path.split("/")):
        return f"{uri!r}: browsers resolve . and .. in a path; write the path without them"
    if "//" in path:
        return f"{uri!r}: a path with // is written differently by some programs; use single slashes"
    return None


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Cadence = int | Literal["closing", "daily"]
"""How often a symbol's dataset is taken in a session.

Minutes between intraday snapshots, beside those before the close; `closing`, only those; `daily`, once.
"""

MOMENTS = ("quotes", "options")  # datasets that show a moment; the others are taken once a session
_LONGEST_CADENCE = 390
_PER_SYMBOL = ", ".join(DATASET_KINDS)


def _checked_symbols(symbols: tuple[str, ...]) -> tuple[str, ...]:
    for symbol in symbols:
        if (problem := form_problem(symbol)) is not None:
            raise ValueError(problem)
    if len(set(symbols)) != len(symbols):
        twice = next(symbol for symbol in symbols if symbols.count(symbol) > 1)
        message = f"a symbol is listed twice: {twice}"
        raise ValueError(message)
    return symbols


def _cadence_problem(dataset: str, cadence: object) -> str | None:
    if dataset not in DATASET_KINDS:
        return f"{dataset!r} is no dataset that is asked for by symbol; these are: {_PER_SYMBOL}"
    if dataset not in MOMENTS:
        return None if cadence == "daily" else f'{dataset} is taken once a session: write {dataset} = "daily"'
    if cadence == "closing":
        return None
    if isinstance(cadence, bool) or not isinstance(cadence, int) or not 1 <= cadence <= _LONGEST_CADENCE:
        return (
            f"{cadence!r} is no cadence of {dataset}: write the minutes between its intraday snapshots, "
            f'1 to {_LONGEST_CADENCE}, or "closing" for those before the close alone'
        )
    return None


class WatchSetSettings(_Section):
    """Symbols that are watched in a way of their own: these datasets, this often."""

    symbols: tuple[str, ...] = Field(min_length=1)
    datasets: dict[str, Cadence] = Field(min_length=1)

    _symbols = field_validator("symbols")(_checked_symbols)

    @field_validator("datasets", mode="before")
    @classmethod
    def _known(cls, datasets: object) -> object:
        if isinstance(datasets, Mapping):
            for dataset, cadence in datasets.items():
                if (problem := _cadence_problem(str(dataset), cadence)) is not None:
                    raise ValueError(problem)
        return datasets

    @model_validator(mode="after")
    def _can_be_had(self) -> WatchSetSettings:
        for dataset in self.datasets:
            for symbol in self.symbols:
                kind = kind_of(symbol)
                if kind is not None and not is_taken_of(dataset, symbol):
                    message = f"the source has no {dataset} of {symbol}, which is {KIND_WORDS[kind]}"
                    raise ValueError(message)
        return self


class UniverseSettings(_Section):
    """What is watched: `symbols` in the usual way, and named sets in ways of their own.

    A set says all that is taken of its symbols that are not in `symbols` too. For those that are it only replaces the
    cadence of the datasets it names.
    """

    symbols: tuple[str, ...]
    sets: dict[str, WatchSetSettings] = {}

    _symbols = field_validator("symbols")(_checked_symbols)

    @model_validator(mode="after")
    def _one_cadence_each(self) -> UniverseSettings:
        if not self.symbols and not self.sets:
            message = "nothing is watched: name symbols in universe.symbols or in a set"
            raise ValueError(message)
        seen: dict[tuple[str, str], str] = {}
        for name, watched in self.sets.items():
            for pair in itertools.product(watched.symbols, watched.datasets):
                if (other := seen.setdefault(pair, name)) != name:
                    message = f"{pair[0]} is in the sets {other} and {name}, both with {pair[1]}: keep one of them"
                    raise ValueError(message)
        return self

    @property
    def all_symbols(self) -> tuple[str, ...]:
        """Every symbol that is watched in any way, each once, in the order written."""
        named = (symbol for watched in self.sets.values() for symbol in watched.symbols)
        return tuple(dict.fromkeys([*self.symbols, *named]))

    def symbols_of(self, dataset: str) -> tuple[str, ...]:
        """The symbols of which a dataset is taken, in the order written; none for one not asked for by symbol."""
        return tuple(self.cadences(dataset, minutes=1))

    def cadences(self, dataset: str, *, minutes: int) -> dict[str, Cadence]:
        """How often each symbol of a dataset is taken; `minutes` between intraday snapshots where no set says it.

        Symbols that the source has no such dataset of are left out, as chains of a mutual fund.
        """
        usual: Cadence = minutes if dataset in MOMENTS else "daily"
        found = {symbol: usual for symbol in self.symbols if is_taken_of(dataset, symbol)}
        for watched in self.sets.values():
            if dataset in watched.datasets:
                found |= dict.fromkeys(watched.symbols, watched.datasets[dataset])
        return found


class BoundedChainSettings(_Section):
    """How much of a chain a past session asks for: `strikes` around the money, expirations within days (inclusive)."""

    strikes: int = Field(15, ge=1, le=500)
    regular_days: Days = (0, 60)
    late_days: Days = (14, 36)

    @field_validator("regular_days", "late_days")
    @classmethod
    def _ordered(cls, days: tuple[int, int]) -> tuple[int, int]:
        if days[0] > days[1]:
            message = f"first day {days[0]} is after last day {days[1]}"
            raise ValueError(message)
        return days


class CaptureSettings(_Section):
    """When and how much is captured."""

    history_sessions: int = Field(260, ge=1, le=2600)
    closing_snapshot_minutes: tuple[Annotated[int, Field(ge=1, le=120)], ...] = (15, 5)
    intraday_minutes: int = Field(15, ge=1, le=390)
    workers: int = Field(2, ge=1, le=64)
    bounded_chain: BoundedChainSettings = BoundedChainSettings()
    bars: tuple[Frequency, ...] = Field(("daily", "minute"), min_length=1)
    extended_hours: bool = False

    @field_validator("bars")
    @classmethod
    def _each_once(cls, bars: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(bars)) != len(bars):
            message = "a kind of bars is listed twice"
            raise ValueError(message)
        return bars


class StreamSettings(_Section):
    """What the stream collector asks for, when, and how it keeps it."""

    before_open_minutes: int = Field(5, ge=0, le=330)
    after_close_minutes: int = Field(20, ge=0, le=300)
    charts: bool = True
    segment_seconds: int = Field(60, ge=5, le=3600)
    segment_mib: int = Field(16, ge=1, le=256)
    buffer_mib: int = Field(16, ge=1, le=32)


class SchwabSettings(_Section):
    """Where the live source is and how it may be used."""

    base_url: str = "https://api.schwabapi.com"
    redirect_uri: str = "https://127.0.0.1:8182/callback"
    redirect_allowlist: tuple[str, ...] = ("https://127.0.0.1:8182/callback",)
    pkce: bool = True
    requests_per_minute: int = Field(120, ge=2, le=120)
    reserved_per_minute: int = Field(0, ge=0, le=119)
    deadline_seconds: float = Field(30.0, gt=0, le=300)
    max_response_mib: int = Field(32, ge=1, le=256)
    requests_in_flight: int = Field(6, ge=1, le=64)

    @field_validator("base_url")
    @classmethod
    def _https(cls, url: str) -> str:
        if not url.startswith("https://"):
            message = "only https:// is accepted"
            raise ValueError(message)
        return url.rstrip("/")

    @model_validator(mode="after")
    def _redirect_is_allowed(self) -> SchwabSettings:
        for uri in self.redirect_allowlist:
            if (problem := redirect_problem(uri)) is not None:
                message = f"redirect_allowlist: {problem}"
                raise ValueError(message)
        if self.redirect_uri not in self.redirect_allowlist:
            message = f"redirect_uri {self.redirect_uri!r} is not in redirect_allowlist (the match is exact)"
            raise ValueError(message)
        if self.reserved_per_minute >= self.requests_per_minute:
            message = "reserved_per_minute leaves no request for this program"
            raise ValueError(message)
        return self


class SimulatorSettings(_Section):
    """The built-in source."""

    port: int = Field(8443, ge=1, le=65535)
    seed: int = Field(20250185, ge=0)


class Settings(BaseSettings):
    """Everything that can be set. Folders are relative to the current folder unless absolute."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=ENV_FILE,
        env_ignore_empty=True,
        toml_file=CONFIG_FILE,
        extra="forbid",
        frozen=True,
    )

    environment: Literal["simulate", "live"] = "simulate"
    data_root: Path = Path("data")
    cache_root: Path = Path(".cache")
    start_date: date = date(2025, 1, 2)
    app_key: SecretStr | None = None
    app_secret: SecretStr | None = None
    token_key: SecretStr | None = None
    token_key_source: Literal["auto", "keyring", "file", "ephemeral"] = "auto"  # noqa: S105  where the key lies, no secret
    universe: UniverseSettings
    capture: CaptureSettings = CaptureSettings()
    schwab: SchwabSettings = SchwabSettings()
    stream: StreamSettings = StreamSettings()
    simulator: SimulatorSettings = SimulatorSettings()

    def cadences(self, dataset: str) -> dict[str, Cadence]:
        """The symbols of which a dataset is taken and how often, in the order written."""
        return self.universe.cadences(dataset, minutes=self.capture.intraday_minutes)

    @property
    def data_folder(self) -> Path:
        """Where this environment's data lies; never read by the other environment."""
        return self.data_root / self.environment

    @property
    def cache_folder(self) -> Path:
        """Where this environment's tokens, budget and certificates lie."""
        return self.cache_root / self.environment

    @property
    def token_file(self) -> Path:
        """Where this environment's encrypted login is kept."""
        return self.cache_folder / "tokens" / "tokens.bin"

    @property
    def callback_ledger_file(self) -> Path:
        """Where this environment's login callbacks are counted; holds no secret."""
        return self.cache_folder / "callbacks" / "ledger"

    @property
    def key_file(self) -> Path:
        """Where the key to the login lies when `token_key` is not set: outside the project for a live source.

        Raises SettingsError where that is in the home folder and the user has none, as in some containers.
        """
        if self.environment != "live":
            return self.cache_folder / "key" / "token.key"
        try:
            return Path.home() / ".config" / "trade-analyst" / "token.key"
        except RuntimeError as error:
            message = (
                "the key to the login has no place: this user has no home folder. "
                f"Set {PREFIX}TOKEN_KEY (docs/operations.md, 'The key of the token file'), or HOME"
            )
            raise SettingsError(message) from error

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  the library passes it by name
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, environment, `.env`, `config.toml`; no secrets folder."""
        return init_settings, env_settings, dotenv_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(**overrides: Any) -> Settings:
    """Read and check all settings; raises SettingsError naming each wrong key, its problem and where it stands.

    What is secret in them is masked in all output from then on.
    """
    config, dotenv = _text(CONFIG_FILE), _text(ENV_FILE)
    places = _Places(overrides, _names(os.environ), _names(_assignments(dotenv or "")))
    try:
        settings = Settings(**overrides)
    except tomllib.TOMLDecodeError as error:
        message = f"{CONFIG_FILE} is not valid TOML: {error}"
        raise SettingsError(message) from error
    except pydantic_settings.SettingsError as error:
        raise SettingsError(_not_json(error, os.environ, _assignments(dotenv or ""))) from None
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        if config is None and any(item["loc"] == ("universe",) for item in found):
            message = f"{CONFIG_FILE} was not found in {Path.cwd()}: start in the project folder"
            raise SettingsError(message) from None
        lines = [_explain(item, places) for item in found]
        raise SettingsError("Settings are not usable:\n" + "\n".join(lines)) from None
    _refuse_unknown_variables(os.environ)
    _mask_secrets(settings)
    return settings


def _mask_secrets(settings: Settings) -> None:
    for secret in (settings.app_key, settings.app_secret, settings.token_key):
        for part in secret.get_secret_value().split(",") if secret else ():
            register_secret(part.strip())


def _text(name: str) -> str | None:
    """A file of settings as text; None when there is none. Raises SettingsError when it cannot be read."""
    path = Path(name)
    if not path.is_file():
        return None
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"{name} cannot be read: {error.strerror}. Correct its owner and rights"
        raise SettingsError(message) from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"{name} is not UTF-8 text: byte {data[error.start]:#04x} in line {line}. Save it as UTF-8"
        raise SettingsError(message) from None


def _assignments(dotenv: str) -> dict[str, str]:
    """Variables of a `.env`, by the name they have there, without quotes around the value."""
    lines = (line.strip().removeprefix("export ").partition("=") for line in dotenv.splitlines())
    return {name.strip(): value.strip().strip("'\"") for name, is_set, value in lines if is_set}


def _names(variables: Iterable[str]) -> frozenset[str]:
    return frozenset(name.upper() for name in variables)


@dataclass(frozen=True)
class _Places:
    """Where values may have come from: arguments, and the variables of the environment and of `.env`."""

    arguments: Mapping[str, Any]
    environment: frozenset[str]
    dotenv: frozenset[str]

    def of(self, path: Sequence[str]) -> str:
        """The place of a setting's value in words, by order of precedence."""
        variable = PREFIX + "__".join(path).upper()
        if path and path[0] in self.arguments:
            return "argument"
        if any(name.startswith(variable) for name in self.environment):
            return f"environment variable {variable}"
        if any(name.startswith((variable, "__".join(path).upper())) for name in self.dotenv):
            return ENV_FILE
        return CONFIG_FILE


def _explain(item: Mapping[str, Any], places: _Places) -> str:
    """One refused setting: its name, what is wrong in plain words, and where it stands."""
    path = [str(part) for part in item["loc"]]
    kind, problem = item["type"], str(item["msg"])
    if kind == "extra_forbidden":
        problem = "names no setting"
    elif kind == "missing":
        problem = "is missing"
    else:
        problem = problem.removeprefix("Value error, ").replace("Input should", "should")
    return f"  {'.'.join(path) or 'settings'}: {problem} (in {places.of(path)}; see docs/settings.md)"


def _not_json(error: pydantic_settings.SettingsError, *sources: Mapping[str, str]) -> str:
    """What to say when a variable of a list or section holds something else; never its value."""
    wrong = getattr(error.__cause__, "doc", None)
    for variables in sources:
        for name, value in variables.items():
            if name.upper().startswith(PREFIX) and value == wrong:
                return f"variable {name} is no JSON, {_JSON_ADVICE}"
    return f"a variable is no JSON ({error}), {_JSON_ADVICE}"


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    known = {name.upper() for name in Settings.model_fields}
    for name in environment:
        if name.startswith(PREFIX) and name.removeprefix(PREFIX).split("__")[0] not in known:
            message = f"environment variable {name} names no setting; see docs/settings.md for the list"
            raise SettingsError(message)
