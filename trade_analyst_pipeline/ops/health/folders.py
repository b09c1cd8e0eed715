"""The folders this installation keeps things in: whether they take a file, have room, and lie on a local disk.

Not here: what the files hold (`stores.py` for the data, `access.py` for the login). Nothing is changed by looking: a
file made to see whether one can be made is gone at once.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from trade_analyst_pipeline.ops.health.report import Finding, fail, ok, skipped
from trade_analyst_pipeline.schwab.private_files import is_locked
from trade_analyst_pipeline.settings import Settings

GIB, MIB = 1 << 30, 1 << 20
MINIMUM_FREE_BYTES = 2 * GIB
MINIMUM_CACHE_BYTES = 16 * MIB
MOUNTS_FILE = Path("/proc/self/mounts")
# Locks and durable renames cannot be relied on there.
NETWORK_FILE_SYSTEMS = frozenset(
    ("9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "nfs", "nfs4", "smb3")
)


def nearest_existing(folder: Path) -> Path:
    """The folder itself, or the closest parent that is there."""
    resolved = folder.absolute()
    return next(path for path in (resolved, *resolved.parents) if path.exists())


def _refusal(folder: Path) -> str | None:
    """Why the folder, or where it would be made, takes no new file; None where it does."""
    place = nearest_existing(folder)
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".healthcheck-"):
            return None
    except OSError as error:
        return f"{place}: {error.strerror}"


def _standing(folder: Path) -> str:
    return f"{folder}" if folder.exists() else f"{folder} will be made at first use"


def check_data_folder(folder: Path) -> Finding:
    """The data folder, or where it would be made, has to take a new file."""
    refusal = _refusal(folder)
    if refusal is not None:
        return fail(refusal, "Give this user write access, or set data_root to another folder.")
    return ok(_standing(folder))


def check_free_space(folder: Path) -> Finding:
    """At least `MINIMUM_FREE_BYTES` have to be free where the data goes."""
    free = shutil.disk_usage(nearest_existing(folder)).free
    detail = f"{free / GIB:.1f} GiB free"
    if free < MINIMUM_FREE_BYTES:
        return fail(detail, f"Free {MINIMUM_FREE_BYTES / GIB:.0f} GiB, or move data_root.")
    return ok(detail)


def check_cache_folder(settings: Settings) -> Finding:
    """Where logins, callbacks and the request limit are kept: takes a file and has room; the login can be locked.

    Without it no token is renewed, and no request is made. Raises an AuthError where the login's lock is not usable.
    """
    folder, tokens = settings.cache_folder, settings.token_file.parent
    problem = _refusal(settings.cache_root) or _refusal(folder) or _privacy_problem(tokens) or _refusal(tokens)
    if problem is not None:
        return fail(problem, "Give this user, and nobody else, write access, or set cache_root to another folder.")
    free = shutil.disk_usage(nearest_existing(folder)).free
    if free < MINIMUM_CACHE_BYTES:
        remedy = f"Free {MINIMUM_CACHE_BYTES / MIB:.0f} MiB, or move cache_root: a renewed login could not be stored."
        return fail(f"{folder}: {free / MIB:.1f} MiB free", remedy)
    is_locked(settings.token_file.with_name(settings.token_file.name + ".lock"))
    return ok(f"{_standing(folder)}; {free / GIB:.1f} GiB free")


def _privacy_problem(folder: Path) -> str | None:
    """Why a login may not be kept in the folder; None where it may, or where it is still to be made."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{folder}: {error.strerror}"
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        return f"{folder} is not a folder of this user"
    if found.st_mode & 0o022:
        return f"{folder} can be written by others (mode {found.st_mode & 0o777:03o})"
    return None


def folders_to_trust(settings: Settings) -> dict[str, Path]:
    """Folders with files that are locked and replaced, each by what moves it; that of the key where it is a file."""
    found = {"data_root": settings.data_folder, "cache_root": settings.cache_folder}
    is_in_file = settings.token_key_source == "file"  # noqa: S105  a place, not a password
    if settings.token_key is None and (is_in_file or settings.key_file.exists()):
        found["token_key_source"] = settings.key_file.parent
    return found


def check_file_systems(folders: Mapping[str, Path], *, mounts_file: Path) -> Finding:
    """The folders have to lie on local disks: locks and renames on network file systems cannot be trusted.

    Each folder is given with the setting that moves it.
    """
    if not mounts_file.exists():
        return skipped("this system does not list its mounts")
    mounts = mounts_file.read_text(errors="replace")
    kinds = {name: file_system_kind(nearest_existing(path).resolve(), mounts) for name, path in folders.items()}
    remote = {name: kind for name, kind in kinds.items() if kind in NETWORK_FILE_SYSTEMS}
    if remote:
        detail = "; ".join(f"{folders[name]} is on {kind}" for name, kind in remote.items())
        return fail(detail, f"Keep what is there on a local disk: set {' and '.join(remote)} otherwise.")
    return ok(", ".join(dict.fromkeys(kinds.values())))


def file_system_kind(path: Path, mounts: str) -> str:
    """Type of the file system `path` is on: of the deepest mount point above it, the last of equal ones."""
    found = (0, "unknown")
    for line in mounts.splitlines():
        _, mount_point, kind, *_ = line.split(" ")
        point = Path(mount_point.replace("\\040", " "))
        if path.is_relative_to(point) and len(str(point)) >= found[0]:
            found = (len(str(point)), kind)
    return found[1]
