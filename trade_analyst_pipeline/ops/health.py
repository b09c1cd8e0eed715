"""One report on whether this installation can do its work: named checks, what each found and what to do.

Nothing here talks to the source or loads Dagster; a check never raises, it fails.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from trade_analyst_pipeline.errors import SettingsError
from trade_analyst_pipeline.market import sessions
from trade_analyst_pipeline.settings import Settings, load_settings

Result = Literal["ok", "note", "failed"]

GIB = 1 << 30
MINIMUM_FREE_BYTES = 2 * GIB
CALENDAR_AHEAD = timedelta(days=365)
DAGSTER_FILE = Path("dagster.yaml")
MOUNTS_FILE = Path("/proc/self/mounts")
# Locks and durable renames cannot be relied on there.
NETWORK_FILE_SYSTEMS = frozenset(
    ("9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "nfs", "nfs4", "smb3")
)


@dataclass(frozen=True)
class Check:
    """One thing looked at; a `note` is worth knowing but not wrong, `advice` is None if nothing is to do."""

    name: str
    result: Result
    detail: str
    advice: str | None = None


@dataclass(frozen=True)
class HealthReport:
    """All checks, in the order they were made."""

    checks: tuple[Check, ...]

    @property
    def is_well(self) -> bool:
        """Whether no check failed."""
        return all(check.result != "failed" for check in self.checks)

    def to_json(self) -> str:
        """One JSON object: `is_well`, and `checks` as a list of name, result, detail and advice."""
        return json.dumps({"is_well": self.is_well, "checks": [asdict(check) for check in self.checks]}, indent=2)


def health_report(*, now: datetime, load: Callable[[], Settings] = load_settings) -> HealthReport:
    """Make every check; where the settings are not usable, that is the only one."""
    try:
        settings = load()
    except SettingsError as error:
        return HealthReport((Check("settings", "failed", str(error), "Correct the keys named above."),))
    return HealthReport(
        (
            Check(
                "settings",
                "ok",
                f"environment {settings.environment}, {len(settings.universe.symbols)} symbols",
            ),
            check_calendar(now),
            check_data_folder(settings.data_folder),
            check_free_space(settings.data_folder),
            check_file_system(settings.data_folder, mounts_file=MOUNTS_FILE),
            check_redirect(settings),
            check_credentials(settings),
            check_dagster(DAGSTER_FILE),
        )
    )


def check_calendar(now: datetime) -> Check:
    """The exchange calendar has to cover today and the 365 days after it."""
    last_needed = (now + CALENDAR_AHEAD).date()
    if not sessions.CALENDAR_START <= now.date() <= last_needed <= sessions.CALENDAR_END:
        covered = f"the calendar runs from {sessions.CALENDAR_START} to {sessions.CALENDAR_END}"
        return Check("calendar", "failed", f"{covered}, needed to {last_needed}", "Install a newer release.")
    return Check("calendar", "ok", f"latest complete session {sessions.latest_complete_session(now)}")


def nearest_existing(folder: Path) -> Path:
    """The folder itself, or the closest parent that is there."""
    resolved = folder.absolute()
    return next(path for path in (resolved, *resolved.parents) if path.exists())


def check_data_folder(folder: Path) -> Check:
    """The data folder, or where it would be made, has to take a new file."""
    place = nearest_existing(folder)
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".healthcheck-"):
            pass
    except OSError as error:
        advice = "Give this user write access, or set data_root to another folder."
        return Check("data folder", "failed", f"{place}: {error.strerror}", advice)
    return Check("data folder", "ok", f"{folder}" if folder.exists() else f"{folder} will be made at first use")


def check_free_space(folder: Path) -> Check:
    """At least `MINIMUM_FREE_BYTES` have to be free where the data goes."""
    free = shutil.disk_usage(nearest_existing(folder)).free
    detail = f"{free / GIB:.1f} GiB free"
    if free < MINIMUM_FREE_BYTES:
        return Check("free space", "failed", detail, f"Free {MINIMUM_FREE_BYTES / GIB:.0f} GiB, or move data_root.")
    return Check("free space", "ok", detail)


def check_file_system(folder: Path, *, mounts_file: Path) -> Check:
    """The data has to lie on a local disk: locks and renames on network file systems cannot be trusted."""
    if not mounts_file.exists():
        return Check("local disk", "note", "not checked: this system does not list its mounts")
    kind = file_system_kind(nearest_existing(folder).resolve(), mounts_file.read_text(errors="replace"))
    if kind in NETWORK_FILE_SYSTEMS:
        return Check("local disk", "failed", f"{folder} is on {kind}", "Set data_root to a folder on a local disk.")
    return Check("local disk", "ok", kind)


def file_system_kind(path: Path, mounts: str) -> str:
    """Type of the file system `path` is on: of the deepest mount point above it, the last of equal ones."""
    found = (0, "unknown")
    for line in mounts.splitlines():
        _, mount_point, kind, *_ = line.split(" ")
        point = Path(mount_point.replace("\\040", " "))
        if path.is_relative_to(point) and len(str(point)) >= found[0]:
            found = (len(str(point)), kind)
    return found[1]


def check_redirect(settings: Settings) -> Check:
    """The redirect address has to be private to this machine and match an allowed one exactly."""
    uri, allowed = settings.schwab.redirect_uri, settings.schwab.redirect_allowlist
    strangers = [entry for entry in (uri, *allowed) if not _is_private(entry)]
    if strangers or uri not in allowed:
        problem = f"not https on 127.0.0.1: {', '.join(strangers)}" if strangers else f"{uri} is not in the allowlist"
        return Check("redirect address", "failed", problem, "Correct redirect_uri and redirect_allowlist.")
    return Check("redirect address", "ok", f"{uri} (register exactly this with the source)")


def _is_private(uri: str) -> bool:
    parts = urlsplit(uri)
    return parts.scheme == "https" and parts.hostname == "127.0.0.1"


def check_credentials(settings: Settings) -> Check:
    """The live environment needs the app's key and secret; the simulator knows its own."""
    if settings.environment == "simulate":
        return Check("credentials", "ok", "the simulator needs none")
    missing = [name for name in ("app_key", "app_secret") if getattr(settings, name) is None]
    if missing:
        advice = "Set TRADE_ANALYST_APP_KEY and TRADE_ANALYST_APP_SECRET in the environment or .env."
        return Check("credentials", "failed", f"{' and '.join(missing)} not set", advice)
    return Check("credentials", "ok", "app key and secret are set")


def check_dagster(file: Path) -> Check:
    """Dagster's instance is described by `dagster.yaml` in the folder the command is started from."""
    if not file.is_file():
        advice = "Start the command in the project folder."
        return Check("dagster", "failed", f"no {file} in {Path.cwd()}", advice)
    return Check("dagster", "ok", f"instance described by {file}")
