"""A capture that hangs where an answer that lacks something is to be asked for again, to be killed there.

As a program: `hanging.py FOLDER DATASET FIRST_BODY [holding]`. Says `again` once it hangs. With `holding` it keeps an
answer that lacks something in memory until the second has come, which is what must not be done.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from scripted import BARS, CHAINS, DUE, QUOTES, ScriptedSource, well

from trade_analyst_pipeline.capture.ask import ask
from trade_analyst_pipeline.capture.requesting import Source
from trade_analyst_pipeline.capture.take import take_each
from trade_analyst_pipeline.market.clock import SimulatedClock
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.settings import BoundedChainSettings
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.captures import CaptureWriter

SNAPSHOTS = {each.dataset: each for each in (CHAINS, QUOTES, BARS)}


async def hang() -> None:
    """Say so, and wait for the end."""
    print("again", flush=True)
    await asyncio.Event().wait()


class HangingClock(SimulatedClock):
    """A clock on which no pause ends."""

    async def sleep(self, seconds: float) -> None:
        """Hang."""
        del seconds
        await hang()


class Once(ScriptedSource):
    """Answers each request of a dataset's own path once, with one body, and never a second time."""

    def __init__(self, first: bytes, path: str) -> None:
        super().__init__(DUE, lambda request: first if request.path == path else well(request))
        self._path = path

    async def fetch(self, request: MarketDataRequest) -> RawResponse:
        """The answer, or none any more."""
        if request.path == self._path and request in self.asked:
            await hang()
        return await super().fetch(request)

    def at(self, instant: Any) -> Source:
        """This source, on the clock that stands still."""
        del instant
        return Source(self, HangingClock(self.now))  # type: ignore[arg-type]  # all that is used of a client


def hold_lacking() -> None:
    """Keep answers that lack something in memory, as the known-bad control does."""
    append = CaptureWriter.append

    def held(writer: CaptureWriter, response: RawResponse, lacking: Any = None) -> Any:
        return append(writer, response) if lacking is None else SimpleNamespace(is_answer=True)

    CaptureWriter.append = held  # type: ignore[method-assign]


async def main(folder: Path, dataset: str, first: bytes) -> None:
    """Take the snapshot of the dataset for one symbol."""
    snapshot, paths = SNAPSHOTS[dataset], {"options": "/chains", "quotes": "/quotes", "ohlc": "/pricehistory"}
    source, archive = Once(first, paths[dataset]), Archive(folder)
    source.now = snapshot.scheduled_time
    asked = partial(ask, bounds=BoundedChainSettings(), archive=archive)
    async for _ in take_each([snapshot], source_for=source.at, ask=asked, archive=archive):
        pass


if __name__ == "__main__":
    if sys.argv[4:] == ["holding"]:
        hold_lacking()
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3].encode()))
