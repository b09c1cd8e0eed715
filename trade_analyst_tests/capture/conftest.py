"""An archive, a scripted source, and taking snapshots from the one into the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from scripted import DUE, ScriptedSource

from trade_analyst_pipeline.capture.ask import ask
from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.capture.take import Outcome, take_each
from trade_analyst_pipeline.settings import BoundedChainSettings
from trade_analyst_pipeline.storage.archive import Archive


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """An empty archive."""
    return Archive(tmp_path / "raw")


@pytest.fixture
def take_all(archive: Archive, capture_from: Callable[..., list[Outcome]]) -> Callable[..., list[Outcome]]:
    """Takes snapshots from a scripted source and returns what became of them."""
    return partial(capture_from, archive)


@pytest.fixture
def capture_from() -> Callable[..., list[Outcome]]:
    """As `take_all`, into any archive."""

    def run(archive: Archive, source: ScriptedSource, *snapshots: Snapshot) -> list[Outcome]:
        async def outcomes() -> list[Outcome]:
            asked = partial(ask, bounds=BoundedChainSettings(), archive=archive)
            taken = take_each(
                snapshots, source_for=lambda each: source.at(each.scheduled_time), ask=asked, archive=archive
            )
            return [outcome async for outcome in taken]

        source.asked.clear()
        return asyncio.run(outcomes())

    return run


@pytest.fixture
def source() -> ScriptedSource:
    """A source at the instant of the snapshots that answers everything."""
    return ScriptedSource(DUE)
