"""The manifest of a partition: the only truth about which files it consists of, and the fence that guards it.

A partition is a folder with immutable Parquet files, `_manifest.json`, and `_fence`, which is both the lock and the
memory of the fence numbers handed out and accepted. Writing and reading rows is `tables.py`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TypeAlias

import msgspec

from trade_analyst_pipeline.errors import PartitionDamagedError, StorageError
from trade_analyst_pipeline.storage import durable
from trade_analyst_pipeline.storage.checked_json import checked_json, refuse_unchecked

Partition: TypeAlias = date | int

MANIFEST_NAME = "_manifest.json"
FENCE_NAME = "_fence"
STAGES = ("tables", "metrics", "quarantine", "exports")
_MANIFEST_LIMIT = 16 << 20
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_FOLDER = re.compile(r"session_date=(?P<day>\d{4}-\d{2}-\d{2})|year=(?P<year>\d{4})")
_FILE_NAME = re.compile(r"part-(?P<fence>\d{1,19})-[0-9a-f]{12}\.parquet")
_SLOT_BYTES = 64


@dataclass(frozen=True)
class PartFile:
    """One immutable Parquet file of a partition."""

    name: str
    size_bytes: int
    row_count: int
    sha256: str


@dataclass(frozen=True)
class RetiredFile:
    """A file that a newer one has replaced; kept for readers that still have it in their plan. Epoch seconds."""

    name: str
    retired_at: float


@dataclass(frozen=True)
class Findings:
    """What was found when the sources of a partition were judged, for whoever asks again without judging again.

    `rule_counts` has every rule with the rows that broke it, `seen` what the wire showed besides, `failures` why a
    source was not used at all, `problems` what else of the sources could not be used.
    """

    rule_counts: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """What one partition holds, as of its last commit.

    `columns` maps names to our type names; `first_time` and `last_time` are the range of the first time column of the
    key, UTC, None without rows or without such a column. `created_time` is when the rows were written;
    `source_captures`, `code_version`, `code` (modules by a digest, packages by version; empty where it is not known)
    and `findings` are those of the last making, which may have found the same rows.
    """

    stage: str
    name: str
    partition: Partition
    schema_name: str
    schema_version: str
    columns: dict[str, str]
    key: tuple[str, ...]
    row_count: int
    content_hash: str
    fence: int
    source_captures: tuple[str, ...]
    code_version: str
    created_time: datetime
    first_time: datetime | None
    last_time: datetime | None
    files: tuple[PartFile, ...]
    retired: tuple[RetiredFile, ...] = ()
    findings: Findings = field(default_factory=Findings)
    code: dict[str, str] = field(default_factory=dict)

    @property
    def file_names(self) -> frozenset[str]:
        """Names of all files it lists, those that count and those retired."""
        return frozenset(file.name for file in self.files) | frozenset(file.name for file in self.retired)

    @property
    def size_bytes(self) -> int:
        """Bytes of all its files."""
        return sum(file.size_bytes for file in self.files)


def folder_name(partition: Partition) -> str:
    """`session_date=YYYY-MM-DD` for a date, `year=YYYY` for a year from 1000 to 9999; raises StorageError."""
    if isinstance(partition, datetime | bool):
        message = f"{partition!r} is no partition key: give a session date or a year"
        raise StorageError(message)
    if isinstance(partition, date):
        return f"session_date={partition.isoformat()}"
    if not 1000 <= partition <= 9999:
        message = f"{partition!r} is no partition key: a year has four digits"
        raise StorageError(message)
    return f"year={partition}"


def partition_of(name: str) -> Partition | None:
    """The partition key of a folder name, or None when it is not one."""
    match = _FOLDER.fullmatch(name)
    if match is None:
        return None
    try:
        return date.fromisoformat(match["day"]) if match["day"] else int(match["year"])
    except ValueError:  # no day of the calendar
        return None


def table_folder_names(stage: str, name: str) -> tuple[str, str]:
    """Folder names of a table, checked; raises StorageError for an unknown stage or a name that is not a plain word."""
    if stage not in STAGES:
        message = f"{stage!r} is no stage; stages are {', '.join(STAGES)}"
        raise StorageError(message)
    if _NAME.fullmatch(name) is None:
        message = f"{name!r} cannot name a table: lower-case letters, digits and underscores only"
        raise StorageError(message)
    return stage, name


# made here: two threads that decode a type for the first time at once crash the library
_MANIFEST = msgspec.json.Decoder(Manifest)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest in a partition's folder, None without one; raises PartitionDamagedError."""
    path = folder / MANIFEST_NAME
    try:
        text = durable.read_bytes(path, limit=_MANIFEST_LIMIT)
    except FileNotFoundError:
        return None
    try:
        refuse_unchecked(text)
        manifest = _MANIFEST.decode(text)
    except ValueError as error:
        message = f"{path} is not a manifest ({error}); run `trade-analyst rebuild` to make it again"
        raise PartitionDamagedError(message) from error
    for name in manifest.file_names:
        if fence_in(name) is None:
            message = f"{path} lists {name!r}, which is no file of ours; run `trade-analyst rebuild`"
            raise PartitionDamagedError(message)
    return manifest


def file_name(fence: int, sha256: str) -> str:
    """The name of a data file: the same name always means the same bytes."""
    return f"part-{fence}-{sha256[:12]}.parquet"


def fence_in(name: str) -> int | None:
    """The fence number in the name of a data file, or None for any other name."""
    match = _FILE_NAME.fullmatch(name)
    return int(match["fence"]) if match else None


def sha256_starts_as_named(name: str, content: bytes) -> bool:
    """Whether the bytes of a data file are those that its name was made of, by twelve hexadecimal digits."""
    fence = fence_in(name)
    return fence is not None and file_name(fence, hashlib.sha256(content).hexdigest()) == name


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make `manifest` the truth about its partition, atomically and durably; raises DiskFullError."""
    durable.write_bytes(folder / MANIFEST_NAME, checked_json(manifest))


class Fence:
    """Fence numbers of one partition while its lock is held: the highest handed out and the highest accepted."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        content = os.pread(descriptor, 2 * _SLOT_BYTES, 0)
        slots = [(*_numbers(content[start : start + _SLOT_BYTES]), start) for start in (0, _SLOT_BYTES)]
        self.issued, self.accepted, self._start = max(slots)

    def record(self, *, issued: int, accepted: int) -> None:
        """Remember new numbers; the slot with the present ones stays, should this write be torn.

        Not forced to the disk: what a power cut can undo here concerns only writers that it has ended too, and what
        was committed is known by the manifest.
        """
        self._start = _SLOT_BYTES - self._start
        os.pwrite(self._descriptor, _slot(issued, accepted), self._start)
        self.issued, self.accepted = issued, accepted

    def rewrite(self, *, issued: int, accepted: int) -> None:
        """Record new numbers in both slots, and cut off what lies behind them."""
        for _ in range(2):
            self.record(issued=issued, accepted=accepted)
        os.ftruncate(self._descriptor, 2 * _SLOT_BYTES)
        os.fsync(self._descriptor)


def fence_problem(folder: Path) -> str | None:
    """What is wrong with the fence file of a partition, byte for byte, read while nobody writes it; None if nothing."""
    try:
        descriptor = durable.open_file(folder / FENCE_NAME)
    except (StorageError, OSError) as error:
        return f"it cannot be read: {error}"
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        content = os.pread(descriptor, 2 * _SLOT_BYTES + 1, 0)
    finally:
        os.close(descriptor)
    slots = [content[start : start + _SLOT_BYTES] for start in range(0, len(content), _SLOT_BYTES)]
    if content and all(slot == _slot(*_numbers(slot)) for slot in slots) and len(slots) <= 2:
        return None
    return "a fence number in it is not as it was written"


@contextmanager
def locked_fence(folder: Path) -> Iterator[Fence]:
    """Hold the lock of a partition, waiting for it; raises StorageError for a link, DiskFullError."""
    path = folder / FENCE_NAME
    descriptor = durable.open_file(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with durable.disk_full_as_ours(path):
            yield Fence(descriptor)
    finally:
        os.close(descriptor)


def _slot(issued: int, accepted: int) -> bytes:
    text = f"{issued} {accepted}"
    return (f"{text} {zlib.crc32(text.encode()):08x}".ljust(_SLOT_BYTES - 1) + "\n").encode()


def _numbers(slot: bytes) -> tuple[int, int]:
    words = slot.split()
    if len(words) == 3 and f"{zlib.crc32(b' '.join(words[:2])):08x}".encode() == words[2]:
        return int(words[0]), int(words[1])
    return 0, 0
