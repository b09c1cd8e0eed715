"""What stays of a capture whose bytes were retired from the archive: its footer, its hash, and where it is held.

`<capture_id>.retired`, in the place of the capture: a magic number, one frame, a trailer. All that listings, the ledger
of gaps and the chain to tables ask of a capture is in its footer; only its bodies are elsewhere. What may be retired
when is decided in `lineage/retirement.py`; `retiring.py` does it, and `copy_in.py` brings captures back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from trade_analyst_pipeline.errors import CaptureRetiredError
from trade_analyst_pipeline.storage import durable, frames
from trade_analyst_pipeline.storage.captures import Footer
from trade_analyst_pipeline.storage.frames import DamagedFrameError, FrameCodec, OpenFile


@dataclass(frozen=True)
class Retired:
    """A capture that was retired: its size and SHA-256, and the copy that was proven to hold it, None for none."""

    footer: Footer
    size_bytes: int
    sha256: str
    held_in: str | None
    retired_time: datetime


# made here: two threads that decode a type for the first time at once crash the library
_RETIRED: Final = msgspec.json.Decoder(Retired)


def write_retired(path: Path, retired: Retired) -> None:
    """Put the record in place, durably; raises DiskFullError."""
    head = frames.MAGIC + FrameCodec().pack(frames.RETIRED, msgspec.json.encode(retired))
    whole = len(head) + frames.TRAILER_BYTES
    durable.write_bytes(path, head + frames.pack_trailer(footer_offset=len(frames.MAGIC), file_size=whole))


def read_retired(path: Path) -> Retired:
    """The record in a file; raises DamagedFrameError."""
    with OpenFile(durable.open_file(path)) as file:
        end = max(0, file.size - frames.TRAILER_BYTES)
        offset = frames.footer_offset(file.read_at(end, frames.TRAILER_BYTES), file_size=file.size)
        frame = FrameCodec().unpack_at(file, offset, limit=end)
        is_alone = frame.kind == frames.RETIRED and offset == len(frames.MAGIC) and frame.end == end
        if not is_alone or file.read_at(0, offset) != frames.MAGIC:
            raise DamagedFrameError("it is no record of a retired capture")
    try:
        return _RETIRED.decode(frame.payload)
    except msgspec.DecodeError as error:
        raise DamagedFrameError(f"it is not as written: {error}") from error


def refusal(path: Path, retired: Retired) -> CaptureRetiredError:
    """Why the bodies of a retired capture cannot be read, and how to bring them back."""
    header = retired.footer.header
    day, when = header.session_date, retired.retired_time.date()
    back = f"`trade-analyst archive import {retired.held_in} --from {day} --to {day} --dataset {header.dataset}`"
    how = "nothing else held it, so nothing brings it back" if retired.held_in is None else f"bring it back by {back}"
    return CaptureRetiredError(f"{path}: capture {header.capture_id} was retired on {when}; {how}", path)
