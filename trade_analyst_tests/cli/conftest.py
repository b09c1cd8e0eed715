"""The command line called in-process, as the shell would."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from trade_analyst_pipeline.cli.main import main


@dataclass(frozen=True)
class Outcome:
    """What a command left behind: exit code, standard output and standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def project(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder, made the current one, with the settings and the instance of the checkout."""
    for name in ("config.toml", "dagster.yaml"):
        (tmp_path / name).write_bytes((repository / name).read_bytes())
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
