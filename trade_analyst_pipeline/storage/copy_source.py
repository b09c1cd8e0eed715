"""A copy of the archive, read from a folder, a tar file or a stream: its manifest, then each file it offers.

Only what the manifest lists is offered, each file once and with no more bytes than it states. Nothing is changed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from trade_analyst_pipeline.errors import ArchiveCopyError, StorageError
from trade_analyst_pipeline.storage import durable
from trade_analyst_pipeline.storage.copy_manifest import (
    COPY_MANIFEST,
    MANIFEST_LIMIT,
    CopiedFile,
    CopyManifest,
    parse_manifest,
    read_manifest,
)
from trade_analyst_pipeline.storage.copy_tar import CHUNK_BYTES, TarMember, read_members


class UnreadableFileError(ValueError):
    """One file of a copy cannot be read, and the others can."""


@dataclass(frozen=True)
class Offered:
    """A file of a copy and its bytes, to be read at most once; `chunks` raises UnreadableFileError."""

    file: CopiedFile
    chunks: Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class Copy:
    """What a copy says it holds, and the files it offers; going through these raises ArchiveCopyError."""

    manifest: CopyManifest
    offers: Iterator[Offered]


@contextmanager
def open_copy(source: Path | BinaryIO, *, environment: str) -> Iterator[Copy]:
    """The copy in a folder, a tar file or a stream; raises ArchiveCopyError when it is none of this environment."""
    if not isinstance(source, Path):
        yield _from_stream(source, "the stream", environment)
    elif source.is_dir():
        manifest = read_manifest(source, environment=environment)
        if manifest is None:
            message = f"{source} has no {COPY_MANIFEST}: no copy of an archive, or one cut off; export it again"
            raise ArchiveCopyError(message)
        yield Copy(manifest, _from_folder(source, manifest))
    else:
        try:
            file = source.open("rb")
        except OSError as error:
            message = f"{source} cannot be read ({error.strerror}); name the folder or tar file of an exported archive"
            raise ArchiveCopyError(message) from error
        with file:
            yield _from_stream(file, str(source), environment)


def _from_folder(folder: Path, manifest: CopyManifest) -> Iterator[Offered]:
    for file in manifest.files:
        yield Offered(file, partial(_chunks_of, folder / file.name, file.size_bytes))


def _chunks_of(path: Path, size: int) -> Iterator[bytes]:
    """The bytes of a plain file of just that size."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise UnreadableFileError("it is no plain file")
        with os.fdopen(durable.open_file(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode) or state.st_size != size:
                raise UnreadableFileError(f"it has {state.st_size:,} bytes, and {size:,} are listed")
            left = size
            while left and (chunk := file.read(min(left, CHUNK_BYTES))):
                left -= len(chunk)
                yield chunk
    except FileNotFoundError as error:
        raise UnreadableFileError("it is listed and not there") from error
    except (OSError, StorageError) as error:
        raise UnreadableFileError(f"it cannot be read: {error}") from error


def _from_stream(stream: BinaryIO, name: str, environment: str) -> Copy:
    members = read_members(stream)
    first = next(members, None)
    if first is None or first.name != COPY_MANIFEST or first.size > MANIFEST_LIMIT:
        message = f"{name} does not start with {COPY_MANIFEST}: it is no copy that `trade-analyst archive export` wrote"
        raise ArchiveCopyError(message)
    manifest = parse_manifest(b"".join(first.chunks()), name, environment=environment)
    return Copy(manifest, _offers(members, manifest, name))


def _offers(members: Iterator[TarMember], manifest: CopyManifest, name: str) -> Iterator[Offered]:
    listed = {file.name: file for file in manifest.files}
    for member in members:
        file = listed.pop(member.name, None)
        if file is None or member.size != file.size_bytes:
            what = "not listed in its manifest, or came twice" if file is None else "not of the size listed"
            message = f"{name}: {member.name!r} of {member.size:,} bytes is {what}; what came before it stands"
            raise ArchiveCopyError(message)
        yield Offered(file, member.chunks)
    if listed:
        message = f"{name} ended without {len(listed):,} of the files it lists, such as {min(listed)}; send it again"
        raise ArchiveCopyError(message)


def sha256_of(chunks: Iterable[bytes]) -> str:
    """The SHA-256 of some bytes in pieces, in hex."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a plain file, in hex."""
    with os.fdopen(durable.open_file(path), "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
