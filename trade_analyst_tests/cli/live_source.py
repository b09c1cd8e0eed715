"""The simulator under the address of a live source: it stands at the same instant as the machine's clock.

Nothing but the certificate it is trusted by tells the code that it is none.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from trade_analyst_pipeline.simulator.server import SimulatorServer


@dataclass
class LiveSource:
    """A live source and the machine's clock, both at `now`."""

    server: SimulatorServer
    now: datetime = datetime(2026, 11, 23, 20, 56, tzinfo=UTC)

    async def sleep(self, seconds: float) -> None:
        """Time passes only here, where the request limit makes somebody wait."""
        self.now += timedelta(seconds=seconds)
        await asyncio.sleep(0)

    def requests(self) -> dict[str, int]:
        """How often each path was asked for since the last look."""
        counts = {path: count for path, count in self.server.requests.items() if not path.startswith("/v1")}
        self.server.requests.clear()
        return counts
