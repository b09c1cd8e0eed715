"""What a health check says: its finding, the check as reported, and the report as one JSON object.

Not here: what is looked at (the modules beside this one) and how checks are run (`running.py`). The JSON form is
described by `docs/healthcheck.schema.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

from trade_analyst_pipeline.schwab.budget import BudgetState

Status = Literal["ok", "warn", "fail", "skipped"]


@dataclass(frozen=True)
class Finding:
    """What a look brought: `detail` says what was found, or why nothing was looked at; `remedy` what to do about it."""

    status: Status
    detail: str
    remedy: str | None = None


def ok(detail: str) -> Finding:
    """All is well."""
    return Finding("ok", detail)


def warn(detail: str, remedy: str) -> Finding:
    """Worth acting on; the installation can do its work still."""
    return Finding("warn", detail, remedy)


def fail(detail: str, remedy: str) -> Finding:
    """The installation cannot do its work."""
    return Finding("fail", detail, remedy)


def skipped(reason: str) -> Finding:
    """Not looked at, for this reason."""
    return Finding("skipped", reason)


@dataclass(frozen=True)
class Check:
    """One thing looked at; `remedy` is None where nothing is to do, `duration_seconds` real time."""

    name: str
    status: Status
    detail: str
    remedy: str | None
    duration_seconds: float


@dataclass(frozen=True)
class SystemFacts:
    """The machine and the installation: versions, processors this process may use, memory (None: not known)."""

    release: str
    python: str
    operating_system: str
    processors: int
    memory_bytes: int | None
    time_zone: str
    packages: Mapping[str, str]


@dataclass(frozen=True)
class HealthReport:
    """All checks in a fixed order; `environment` is None where the settings cannot be read.

    `system` is None where the machine did not tell in time; the check `system` then says so. `request_budget` is None
    where no limit is shared or it could not be read; the check of that name says which.
    """

    checked_time: datetime
    duration_seconds: float
    environment: str | None
    system: SystemFacts | None
    checks: tuple[Check, ...]
    request_budget: BudgetState | None = None

    @property
    def is_well(self) -> bool:
        """Whether no check failed."""
        return all(check.status != "fail" for check in self.checks)

    def to_json(self) -> str:
        """One JSON object, as `docs/healthcheck.schema.json` describes it; times are UTC, durations seconds."""
        return json.dumps({"is_well": self.is_well, **asdict(self)}, indent=2, default=_written)


def _written(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%SZ}"
