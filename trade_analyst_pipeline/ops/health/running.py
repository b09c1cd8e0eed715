"""How checks are run: side by side, each on a thread of its own, all within one bound on time.

A check never raises: what it raises is its finding. One that does not end in time is told as late and left behind
on its thread, which ends with the process; nothing waits for it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from trade_analyst_pipeline.errors import TradeAnalystError
from trade_analyst_pipeline.ops.health.report import Check, Finding, fail, warn
from trade_analyst_pipeline.ops.redaction import redact

Value = TypeVar("Value")


def busy() -> Finding:
    """What a check is told as that does not end in time and waits for nothing but this machine."""
    return warn("timed out", "Run it again; if it stays so, look at what keeps this machine busy.")


@dataclass(frozen=True)
class Probe:
    """A check to be made: its name, the look itself, and what is found when that does not end in time."""

    name: str
    look: Callable[[], Finding]
    late: Callable[[], Finding] = busy


class Shared(Generic[Value]):
    """A value several probes need: made by the first that asks, on its thread; what that raises, all of them get."""

    def __init__(self, make: Callable[[], Value]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: list[Value] = []
        self._error: Exception | None = None

    @property
    def made(self) -> Value | None:
        """The value if it is there by now, without waiting for it."""
        return self._made[0] if self._made else None

    def __call__(self) -> Value:
        """The value, waited for where another thread is making it."""
        with self._lock:
            if self._error is not None:
                raise self._error
            if not self._made:
                try:
                    self._made.append(self._make())
                except Exception as error:  # whatever it is, it goes on to each who asks, on threads of their own
                    self._error = error
                    raise
            return self._made[0]


def run_probes(probes: Sequence[Probe], *, seconds: float) -> tuple[Check, ...]:
    """Every probe's check, in the order given, after at most `seconds`; one that is not done by then has failed."""
    done: queue.SimpleQueue[Check] = queue.SimpleQueue()
    for probe in probes:
        threading.Thread(target=lambda probe=probe: done.put(_check(probe)), name=probe.name, daemon=True).start()
    found: dict[str, Check] = {}
    deadline = time.monotonic() + seconds
    while len(found) < len(probes) and (left := deadline - time.monotonic()) > 0:
        try:
            check = done.get(timeout=left)
        except queue.Empty:
            break
        found[check.name] = check
    return tuple(found.get(probe.name) or _told(probe.name, probe.late(), seconds) for probe in probes)


def _check(probe: Probe) -> Check:
    started = time.monotonic()
    finding = _finding(probe)
    return _told(probe.name, finding, time.monotonic() - started)


def _told(name: str, finding: Finding, seconds: float) -> Check:
    remedy = None if finding.remedy is None else redact(finding.remedy)
    return Check(name, finding.status, redact(finding.detail), remedy, round(seconds, 3))


def _finding(probe: Probe) -> Finding:
    try:
        return probe.look()
    except TradeAnalystError as error:
        return fail(str(error), "Do what the message says.")
    except Exception as error:  # noqa: BLE001  whatever a check meets is its finding, never the report's end
        return fail(f"{type(error).__name__}: {error}", "Run `trade-analyst --debug` with the command that shows it.")
