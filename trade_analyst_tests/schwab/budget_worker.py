"""Run by tests in a process of its own: asks a counting source for a while, at the pace of a request budget.

Arguments: one JSON object. Says `ready`, begins when it is given a line, and prints one JSON line at the end: how many
requests were answered and refused, and the scaled seconds that each waited for its slot.
"""

import asyncio
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from trade_analyst_pipeline.schwab.budget import Priority, RequestBudget

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ScaledClock:
    """The machine's clock running `factor` times as fast."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def now(self) -> datetime:
        """Machine time, scaled from a recent day on."""
        return EPOCH + timedelta(seconds=1.7e9 + (time.time() - 1.7e9) * self.factor)

    async def sleep(self, seconds: float) -> None:
        """Wait the scaled time for real."""
        await asyncio.sleep(seconds / self.factor)


async def ask_all(*, port, file, factor, seconds, priority, callers, is_deaf, pause, per_minute, reserved) -> dict:
    """Ask with `callers` tasks for real `seconds`, each `pause` scaled seconds after its last answer."""
    clock = ScaledClock(factor)
    budget = RequestBudget(
        per_minute=per_minute, reserved_per_minute=reserved, clock=clock, state_file=Path(file) if file else None
    )
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    stop, found = time.time() + seconds, {"answered": 0, "refused": 0, "waits": []}

    async def caller() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.time() < stop:
            asked = clock.now()
            try:
                async with asyncio.timeout(stop - time.time()):
                    granted = await budget.acquire(Priority[priority])
            except TimeoutError:
                break
            found["waits"].append((granted - asked).total_seconds())
            writer.write(b"%s\n" % priority.encode())
            is_answered = await reader.readline() == b"200\n"
            found["answered" if is_answered else "refused"] += 1
            if not is_answered and not is_deaf:
                budget.note_refusal(granted)
            if pause:
                await clock.sleep(pause)
        writer.close()

    await asyncio.gather(*(caller() for _ in range(callers)))
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask_all(**json.loads(sys.argv[1])))), flush=True)
