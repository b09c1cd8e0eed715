"""The machine and what is installed on it: Python, system, versions against the lock, clock and calendar."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

from trade_analyst_pipeline.errors import SourceError
from trade_analyst_pipeline.market import sessions
from trade_analyst_pipeline.ops.health.report import Finding, SystemFacts, fail, ok, skipped, warn
from trade_analyst_pipeline.schwab.ping import Ping

PROGRAM = "trade-analyst"
GIB = 1 << 30
CALENDAR_AHEAD = timedelta(days=365)
LARGEST_CLOCK_ERROR = timedelta(seconds=5)

_INSTALL = "Run `make setup`: it installs what is locked."
_BOUND = re.compile(r"(>=|<)\s*(\d+)\.(\d+)")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)\s*(;)?", re.MULTILINE)
_PINNED = re.compile(r"^(dagster[A-Za-z0-9._-]*)==([^\s;,]+)$")


def system_facts(now: datetime) -> SystemFacts:
    """What the machine and the installation are; `now` only tells the time zone's present offset."""
    local = now.astimezone()
    return SystemFacts(
        release=_version(PROGRAM) or "not installed",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        operating_system=f"{platform.system()} {platform.release()} {platform.machine()}",
        processors=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=_memory_bytes(),
        time_zone=f"{local.tzname()} (UTC{local:%z})",
        packages={name: found for name in declared_packages() if (found := _version(name)) is not None},
    )


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every system tells
        return None


def declared_packages() -> list[str]:
    """Names of the packages this one declares that it needs, in the order declared."""
    try:
        needed = metadata.requires(PROGRAM) or []
    except metadata.PackageNotFoundError:
        return []
    return [match[0] for line in needed if "extra ==" not in line and (match := _NAME.match(line))]


def check_system(facts: SystemFacts) -> Finding:
    """Operating system, processors, memory and time zone, for the record."""
    memory = "memory unknown" if facts.memory_bytes is None else f"{facts.memory_bytes / GIB:.1f} GiB memory"
    plural = "processor" if facts.processors == 1 else "processors"
    return ok(f"{facts.operating_system}, {facts.processors} {plural}, {memory}, {facts.time_zone}")


def check_python(wanted: str | None = None, version: tuple[int, int] | None = None) -> Finding:
    """Python has to be one of the versions the package declares; without a declaration, any."""
    wanted = wanted or _declared_python()
    version = version or (sys.version_info.major, sys.version_info.minor)
    shown = f"{platform.python_implementation()} {version[0]}.{version[1]} at {sys.prefix}"
    for sign, major, minor in _BOUND.findall(wanted):
        bound = (int(major), int(minor))
        if (version < bound) if sign == ">=" else (version >= bound):
            return fail(f"{shown} is not {wanted}", "Run make with PYTHON=/path/to/a/supported/python3.")
    return ok(shown)


def _declared_python() -> str:
    try:
        return metadata.metadata(PROGRAM)["Requires-Python"] or ""
    except metadata.PackageNotFoundError:
        return ""


def check_versions(lock_file: Path) -> Finding:
    """What is declared is installed, Dagster's packages fit one another, and versions are those of the lock."""
    missing = [name for name in declared_packages() if _version(name) is None]
    if missing:
        return fail(f"not installed: {', '.join(missing)}", _INSTALL)
    mixed = mixed_dagster_packages()
    if mixed:
        return fail(f"Dagster packages do not fit: {'; '.join(mixed)}", _INSTALL)
    together = f"dagster {_version('dagster')} and its packages fit"
    if not lock_file.is_file():
        return ok(f"{together}; no {lock_file} here to compare the others with")
    locked = locked_versions(lock_file.read_text(encoding="utf-8"))
    differing = [f"{name} {found}" for name, allowed in locked.items() if (found := _version(name)) not in allowed]
    if differing:
        return warn(f"{len(differing)} of {len(locked)} not as locked: {_few(differing)}", _INSTALL)
    return ok(f"{len(locked)} packages as locked; {together}")


def locked_versions(lock: str) -> dict[str, set[str | None]]:
    """The versions a lock allows of each package; None among them where it may be absent (a line with a condition)."""
    allowed: dict[str, set[str | None]] = {}
    for name, version, condition in _LOCKED.findall(lock):
        allowed.setdefault(name, set()).update({version, None} if condition else {version})
    return allowed


def mixed_dagster_packages() -> list[str]:
    """Dagster packages that demand another version of one another than the one installed."""
    names = {name.lower() for name in (item.name for item in metadata.distributions()) if name}
    problems = []
    for name in sorted(name for name in names if name.startswith("dagster")):
        for line in metadata.requires(name) or []:
            pinned = _PINNED.match(line.split(";")[0].strip())
            if pinned and "extra ==" not in line and _version(pinned[1]) != pinned[2]:
                problems.append(f"{name} needs {pinned[0]}, {_version(pinned[1]) or 'nothing'} is installed")
    return problems


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _few(items: list[str]) -> str:
    return ", ".join(items[:5]) + (f" and {len(items) - 5} more" if len(items) > 5 else "")


def check_clock(ask: Callable[[], Ping | None]) -> Finding:
    """The machine's clock agrees with the source's: codes live 30 s, snapshots are taken to the minute."""
    try:
        answer = ask()
    except SourceError:
        return skipped("the source did not answer")
    if answer is None:
        return skipped("no simulator runs here now")
    offset = answer.clock_offset
    if offset is None:
        return skipped("the source does not tell the time")
    seconds = offset.total_seconds()
    detail = f"the source's clock stands {abs(seconds):.1f} s {'ahead' if seconds >= 0 else 'behind'} (read to 1 s)"
    if abs(offset) > LARGEST_CLOCK_ERROR:
        return warn(detail, "Let the system set its clock by NTP.")
    return ok(detail)


def check_calendar(now: datetime) -> Finding:
    """The exchange calendar has to cover today and the 365 days after it."""
    last_needed = (now.astimezone(UTC) + CALENDAR_AHEAD).date()
    if not sessions.CALENDAR_START <= now.date() <= last_needed <= sessions.CALENDAR_END:
        covered = f"the calendar runs from {sessions.CALENDAR_START} to {sessions.CALENDAR_END}"
        return fail(f"{covered}, needed to {last_needed}", "Install a newer release.")
    return ok(f"latest complete session {sessions.latest_complete_session(now)}")
