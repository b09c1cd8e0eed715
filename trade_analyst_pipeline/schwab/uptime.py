"""How long the machine has been up: a measure of age that setting its clock does not change."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path

_BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Uptime:
    """Seconds since the machine started, time asleep included, and which start that was; `boot` empty: not known."""

    boot: str
    seconds: float

    def since(self, earlier: Uptime) -> float | None:
        """Seconds that have really passed since then; None across a restart or where the system does not tell."""
        passed = self.seconds - earlier.seconds
        return passed if self.boot and self.boot == earlier.boot and passed >= 0 else None


NO_UPTIME = Uptime("", 0.0)


def machine_uptime() -> Uptime:
    """The machine's present uptime; `NO_UPTIME` on systems without such a clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return NO_UPTIME if clock is None else Uptime(_boot(_BOOT_FILE), time.clock_gettime(clock))


@functools.cache
def _boot(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return ""
