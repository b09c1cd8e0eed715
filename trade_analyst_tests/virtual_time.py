"""An event loop whose time does not pass but jumps: hours of waiting in seconds, in an order that never changes."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

START = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
Result = TypeVar("Result")


class _JumpingLoop(asyncio.SelectorEventLoop):
    """Where a loop would wait for its next timer, its time jumps there; nothing else is waited for."""

    def __init__(self) -> None:
        selector = selectors.DefaultSelector()
        super().__init__(selector)
        self._virtual = 0.0
        real_select = selector.select

        def select(timeout: float | None = None) -> Any:
            if timeout is None:
                message = "nobody waits for a time, and nothing else can happen"
                raise RuntimeError(message)
            self._virtual += max(0.0, timeout)
            return real_select(0)

        selector.select = select  # type: ignore[method-assign]  # of this one selector

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._virtual


class VirtualClock:
    """The time of the loop that runs, from START on; everybody has the same."""

    def now(self) -> datetime:
        """The loop's present instant."""
        return START + timedelta(seconds=asyncio.get_running_loop().time())

    async def sleep(self, seconds: float) -> None:
        """Wait for the loop's time."""
        await asyncio.sleep(seconds)


def seconds() -> float:
    """Seconds since the running loop was made."""
    return asyncio.get_running_loop().time()


def run_virtually(scene: Coroutine[Any, Any, Result]) -> Result:
    """What the scene returns, run on a loop of its own whose time jumps."""
    with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
        return runner.run(scene)
