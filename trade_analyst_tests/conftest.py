"""What holds for every test: no setting of the machine leaks in, and nothing is written beside the code.

Also the two forms of the fault harnesses: quick in `make test`, full in `make reliability` (`--full`).
"""

import copy
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

from trade_analyst_pipeline.ops import redaction
from trade_analyst_pipeline.ops.logs import TALKATIVE_LOGGERS

FOREIGN_PREFIXES = ("TRADE_ANALYST_", "DAGSTER_")
REPOSITORY = Path(__file__).resolve().parents[1]

set_hypothesis_home_dir(REPOSITORY / ".cache" / "hypothesis")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the fault harnesses."""
    parser.addoption("--full", action="store_true", help="fault harnesses in their full form, as in make reliability")
    parser.addoption("--harness-seed", type=int, help="seed of every random harness, to repeat a failure")


def pytest_configure() -> None:
    """Let programs that tests start hear Ctrl-C, also where a shell in the background had it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what runs in the full form only out of the quick one, visibly."""
    if config.getoption("--full"):
        return
    for item in items:
        if item.get_closest_marker("full_only"):
            item.add_marker(pytest.mark.skip(reason="full form only: make reliability"))


@pytest.fixture(scope="session")
def is_full(pytestconfig: pytest.Config) -> bool:
    """Whether harnesses run in their full form."""
    return bool(pytestconfig.getoption("--full"))


@pytest.fixture
def harness_seed(pytestconfig: pytest.Config) -> int:
    """The seed of a random harness: as given, else a new one; printed, so that a failure shows it."""
    given = pytestconfig.getoption("--harness-seed")
    seed = random.SystemRandom().getrandbits(32) if given is None else int(given)
    print(f"harness seed {seed}: repeat with --harness-seed={seed}")
    return seed


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Run each test without variables of ours or Dagster's, in an empty folder of its own."""
    for name in [name for name in os.environ if name.upper().startswith(FOREIGN_PREFIXES)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Undo what a test does to the process's output: how records are made, levels of libraries, hooks, secrets."""
    factory = logging.getLogRecordFactory()
    levels = {name: logging.getLogger(name).level for name in TALKATIVE_LOGGERS}
    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning)
    known = copy.deepcopy(redaction._known)
    yield
    redaction._known = known
    sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks
    logging.setLogRecordFactory(factory)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder of the checkout."""
    return REPOSITORY
