"""Exit codes, messages and speed of the command line as a whole."""

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trade_analyst_pipeline.cli import main as main_module
from trade_analyst_pipeline.errors import SettingsError

HEAVY = ("dagster", "polars", "duckdb", "pyarrow", "pandera", "httpx", "exchange_calendars", "numpy", "pandas")


def test_version_is_the_one_of_the_project(run_command: Callable[..., Any], repository: Path) -> None:
    """`--version` shows the version stated in pyproject.toml and nowhere else."""
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    outcome = run_command("--version")
    assert (outcome.code, outcome.out) == (0, f"trade-analyst {project['version']}\n")


@pytest.mark.parametrize("arguments", [["nonsense"], ["healthcheck", "--nonsense"], ["simulator", "--port", "x"]])
def test_wrong_use_is_exit_code_2(run_command: Callable[..., Any], arguments: list[str]) -> None:
    """An unknown command, an unknown option and a value of the wrong type are wrong use."""
    outcome = run_command(*arguments)
    assert outcome.code == 2
    assert outcome.err


@pytest.mark.parametrize("command", sorted(main_module.COMMANDS))
def test_each_command_has_help_with_an_example(run_command: Callable[..., Any], command: str) -> None:
    """`--help` of a command says what it does and shows one way to call it."""
    outcome = run_command(*command.split(), "--help")
    assert outcome.code == 0
    assert f"Example: trade-analyst {command}" in outcome.out


def _fail_with(error: BaseException) -> Callable[..., Any]:
    def command(*_args: Any, **_options: Any) -> None:
        raise error

    return command


def test_known_error_is_one_message_and_exit_code_1(
    run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of ours is printed as its message on standard error, without a traceback."""
    monkeypatch.setattr(main_module, "app", _fail_with(SettingsError("schwab.base_url: only https:// is accepted")))
    outcome = run_command("healthcheck")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == "schwab.base_url: only https:// is accepted\n"


def test_unexpected_error_names_its_type_and_the_way_to_the_traceback(
    run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anything else ends in exit code 1 too, with the command that shows the traceback, and secrets masked."""
    monkeypatch.setattr(main_module, "app", _fail_with(KeyError("Bearer abcdef123456")))
    outcome = run_command("gaps", "--json")
    assert outcome.code == 1
    assert outcome.err.splitlines() == [
        "Unexpected KeyError: 'Bearer [secret]'",
        "For the traceback: trade-analyst --debug gaps --json",
    ]


@pytest.mark.parametrize("arguments", [("token", "status"), ("--debug", "token", "status")])
def test_ctrl_c_is_exit_code_130_without_a_word(
    run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """An interrupt ends a command as it ends any other program, wherever it arrives, and is no error."""
    monkeypatch.setattr("trade_analyst_pipeline.settings.load_settings", _fail_with(KeyboardInterrupt()))
    inside = run_command(*arguments)
    monkeypatch.setattr(main_module, "app", _fail_with(KeyboardInterrupt()))
    outside = run_command(*arguments)
    for outcome in (inside, outside):
        assert (outcome.code, outcome.out, outcome.err) == (130, "", "")


def test_debug_lets_the_error_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--debug` the error itself arrives, traceback and all."""
    monkeypatch.setattr(main_module, "app", _fail_with(KeyError("lost")))
    with pytest.raises(KeyError, match="lost"):
        main_module.main(["--debug", "healthcheck"])


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_quick_answers_load_nothing_heavy(option: str) -> None:
    """`--version` and `--help` import none of the heavy libraries."""
    code = (
        "import sys\n"
        "from trade_analyst_pipeline.cli.main import main\n"
        f"try: main(['{option}'])\n"
        f"except SystemExit: print(*[name for name in {HEAVY!r} if name in sys.modules], sep=',', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
