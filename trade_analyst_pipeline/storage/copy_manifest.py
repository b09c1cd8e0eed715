"""The manifest of a copy of the archive: which environment it is of, and name, size and SHA-256 of each file.

A copy is a folder or a tar stream with `manifest.json` and each capture as a file of its own, below the name it has in
the data folder, or had before it was put together with others. It comes from outside: nothing in it is believed before
it was checked. Moving files is `copy_out.py` and `copy_in.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from trade_analyst_pipeline.errors import ArchiveCopyError, StorageError
from trade_analyst_pipeline.storage import durable, frames
from trade_analyst_pipeline.storage.captures import SEALED_SUFFIX
from trade_analyst_pipeline.storage.checked_json import checked_json, refuse_unchecked
from trade_analyst_pipeline.storage.manifest import partition_of

COPY_MANIFEST: Final = "manifest.json"
MANIFEST_LIMIT: Final = 256 << 20
_VERSION: Final = 1
_NAME: Final = re.compile(
    rf"raw/(?P<dataset>[a-z][a-z0-9_]{{0,63}})/(?P<folder>session_date=[0-9-]{{10}})/"
    rf"[0-9A-Za-z][0-9A-Za-z_-]{{0,127}}{re.escape(SEALED_SUFFIX)}"
)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_LEAST_BYTES: Final = len(frames.MAGIC) + frames.TRAILER_BYTES


@dataclass(frozen=True, order=True)
class CopiedFile:
    """One file of the archive: its name below the data folder, its bytes and their SHA-256."""

    name: str
    size_bytes: int
    sha256: str

    @property
    def dataset(self) -> str:
        """The dataset, or what else of the archive, it is of."""
        return self.name.split("/")[1]

    @property
    def capture_id(self) -> str:
        """The capture it is."""
        return self.name.split("/")[3].removesuffix(SEALED_SUFFIX)

    @property
    def session_date(self) -> date:
        """The session it is filed under."""
        return date.fromisoformat(self.name.split("/")[2].removeprefix("session_date="))


Wanted = Callable[[str, date], bool]
"""Whether files of a dataset and session are wanted."""

Outcome = Literal[
    "copied",  # it is where it was to come now
    "retired",  # its bytes are in another copy already, and no more here
    "held",  # the same bytes were there already
    "refused",  # other bytes are there under its name, and stay
    "damaged",  # it is not whole, or not as listed; nothing of it was placed
]


@dataclass(frozen=True)
class Moved:
    """What became of one file on its way out or in, and why where it was not copied."""

    name: str
    outcome: Outcome
    size_bytes: int = 0
    detail: str = ""


@dataclass(frozen=True)
class CopyManifest:
    """What a copy says it holds: files of one environment, each once, in order."""

    environment: str
    created_time: datetime
    files: tuple[CopiedFile, ...]
    version: int = _VERSION


# made here: two threads that decode a type for the first time at once crash the library
_MANIFEST: Final = msgspec.json.Decoder(CopyManifest)


def manifest_bytes(environment: str, created_time: datetime, files: Sequence[CopiedFile]) -> bytes:
    """The text of a manifest."""
    return checked_json(CopyManifest(environment, created_time, tuple(sorted(files))))


def parse_manifest(text: bytes, source: str, *, environment: str) -> CopyManifest:
    """The manifest of a copy that comes from `source`; every name in it is one of a capture, and named once.

    Raises ArchiveCopyError for anything else, and for a copy of another environment: nothing of one is read by another.
    """
    try:
        refuse_unchecked(text)
        manifest = _MANIFEST.decode(text)
    except ValueError as error:
        advice = "make the copy again with `trade-analyst archive export`"
        raise ArchiveCopyError(f"{source}: {COPY_MANIFEST} is not as it was written ({error}); {advice}") from error
    if manifest.version != _VERSION:
        message = f"{source}: its manifest is of version {manifest.version}, this program knows {_VERSION}: update it"
        raise ArchiveCopyError(message)
    if manifest.environment != environment:
        message = (
            f"{source} is a copy of the archive of `{manifest.environment}`, and this is `{environment}`: nothing of "
            "one is ever read by the other. Choose the environment by TRADE_ANALYST_ENVIRONMENT"
        )
        raise ArchiveCopyError(message)
    counts = Counter(file.name for file in manifest.files)
    wrong = [file for file in manifest.files if not _is_plain(file)] or [
        file for file in manifest.files if counts[file.name] > 1
    ]
    if wrong:
        what = "named twice" if _is_plain(wrong[0]) else "no capture of an archive"
        message = f"{source}: {wrong[0].name!r} of {wrong[0].size_bytes:,} bytes is {what}; nothing was taken from it"
        raise ArchiveCopyError(message)
    return manifest


def _is_plain(file: CopiedFile) -> bool:
    """Whether a name leads to the place of a capture and nowhere else, and size and hash can be those of one."""
    match = _NAME.fullmatch(file.name)
    is_place = match is not None and isinstance(partition_of(match["folder"]), date)
    return is_place and file.size_bytes >= _LEAST_BYTES and _SHA256.fullmatch(file.sha256) is not None


def read_manifest(folder: Path, *, environment: str) -> CopyManifest | None:
    """The manifest of a copy in a folder, None without one; raises ArchiveCopyError."""
    path = folder / COPY_MANIFEST
    try:
        text = durable.read_bytes(path, limit=MANIFEST_LIMIT)
    except FileNotFoundError:
        return None
    except (StorageError, OSError) as error:
        raise ArchiveCopyError(f"{path} cannot be read: {error}") from error
    return parse_manifest(text, str(folder), environment=environment)
