"""A pack: sealed captures of one dataset and session end to end in one file, each byte for byte as it was sealed.

    capture | capture … | directory frame | trailer

The directory says which capture starts where, how long it is, and its SHA-256. A newer pack of a session starts with
all bytes of the older one up to its directory, so a capture never changes its place. Who makes packs is
`compaction.py`, who reads them `archive.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import msgspec

from trade_analyst_pipeline.storage import frames
from trade_analyst_pipeline.storage.frames import DamagedFrameError, FrameCodec, OpenFile

PACK_NAME = "captures.pack"


@dataclass(frozen=True)
class Member:
    """One capture of a pack: where its bytes start, how many there are, and their SHA-256."""

    capture_id: str
    offset: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Directory:
    """What a pack is of, and its captures in the order of their bytes."""

    dataset: str
    session_date: date
    members: tuple[Member, ...]


# made here: two threads that decode a type for the first time at once crash the library
_DIRECTORY = msgspec.json.Decoder(Directory)


def directory_bytes(directory: Directory) -> bytes:
    """What ends a pack of these captures."""
    offset = sum(member.size_bytes for member in directory.members)
    packed = FrameCodec().pack(frames.DIRECTORY, msgspec.json.encode(directory))
    return packed + frames.pack_trailer(footer_offset=offset, file_size=offset + len(packed) + frames.TRAILER_BYTES)


def read_directory(file: OpenFile) -> Directory:
    """The directory of a pack, which accounts for every byte before it; raises DamagedFrameError."""
    end = max(0, file.size - frames.TRAILER_BYTES)
    offset = frames.footer_offset(file.read_at(end, frames.TRAILER_BYTES), file_size=file.size)
    frame = FrameCodec().unpack_at(file, offset, limit=end)
    if frame.kind != frames.DIRECTORY or frame.end != end:
        raise DamagedFrameError("is not where the trailer says")
    try:
        directory = _DIRECTORY.decode(frame.payload)
    except msgspec.DecodeError as error:
        raise DamagedFrameError(f"is not as written: {error}") from error
    place = 0
    for member in directory.members:
        if member.offset != place or member.size_bytes <= 0:
            raise DamagedFrameError(f"capture {member.capture_id} is not where the one before it ends")
        place += member.size_bytes
    if place != offset or len({member.capture_id for member in directory.members}) != len(directory.members):
        raise DamagedFrameError("does not account for each byte of the file once")
    return directory
