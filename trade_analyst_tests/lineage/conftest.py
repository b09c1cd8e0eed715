"""A data folder to put captures into, and a version of the program to be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_captures import Captures

from trade_analyst_pipeline.lineage import built


@pytest.fixture
def captures(tmp_path: Path) -> Captures:
    """An empty data folder to put captures into."""
    return Captures(tmp_path / "data")


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Go on as another version of the program."""
    return lambda version: monkeypatch.setattr(built, "version", lambda _name: version)
