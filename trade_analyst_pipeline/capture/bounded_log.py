"""A log that cannot grow without bound: of each kind of line one a minute, with how many were left out since."""

from __future__ import annotations

import logging
import time
from typing import Final

QUIET_SECONDS: Final = 60.0


class BoundedLog:
    """Writes warnings to a logger, each kind at most once a minute."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._last: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warning(self, kind: str, text: str, *values: object) -> None:
        """Write a line, unless one of its kind was written within the minute."""
        now = time.monotonic()
        if now - self._last.get(kind, -QUIET_SECONDS) < QUIET_SECONDS:
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        self._last[kind] = now
        count = self._left_out.pop(kind, 0)
        self._log.warning(text + (f" ({count} more like it since the last)" if count else ""), *values)
