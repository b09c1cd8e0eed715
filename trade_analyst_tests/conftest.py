"""What holds for every test: no setting of the machine leaks in, and nothing is written beside the code."""

import os
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

FOREIGN_PREFIXES = ("TRADE_ANALYST_", "DAGSTER_")
REPOSITORY = Path(__file__).resolve().parents[1]

set_hypothesis_home_dir(REPOSITORY / ".cache" / "hypothesis")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Run each test without variables of ours or Dagster's, in an empty folder of its own."""
    for name in [name for name in os.environ if name.upper().startswith(FOREIGN_PREFIXES)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder of the checkout."""
    return REPOSITORY
