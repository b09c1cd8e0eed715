"""What holds for every test: no setting of the machine leaks in, and nothing is written beside the code."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

from trade_analyst_pipeline.ops.logs import TALKATIVE_LOGGERS

FOREIGN_PREFIXES = ("TRADE_ANALYST_", "DAGSTER_")
REPOSITORY = Path(__file__).resolve().parents[1]

set_hypothesis_home_dir(REPOSITORY / ".cache" / "hypothesis")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Run each test without variables of ours or Dagster's, in an empty folder of its own."""
    for name in [name for name in os.environ if name.upper().startswith(FOREIGN_PREFIXES)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Undo what a test does to the process's logging: how records are made, and the levels of talkative libraries."""
    factory = logging.getLogRecordFactory()
    levels = {name: logging.getLogger(name).level for name in TALKATIVE_LOGGERS}
    yield
    logging.setLogRecordFactory(factory)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder of the checkout."""
    return REPOSITORY
