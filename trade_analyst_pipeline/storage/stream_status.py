"""How the stream collector stands, told by itself every few seconds, kept beside the data for whoever asks."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from trade_analyst_pipeline.storage import durable
from trade_analyst_pipeline.storage.checked_json import checked_json, read_checked

STREAM_STATUS: Final = "stream_status.json"
STREAM_LOCK: Final = ".stream.lock"
_LIMIT: Final = 1 << 20

StreamingState = Literal["waiting", "connecting", "streaming", "stopped"]


@dataclass(frozen=True)
class StreamStatus:
    """What the collector said last: `told_time` by the clock of its source (UTC), counts since its session began.

    `state` is waiting (for the next session), connecting (also again), streaming or stopped; `detail` says why where
    that is not plain. `gaps` counts them by reason; `held_bytes` came and were not written yet.
    """

    told_time: datetime
    process: int
    state: StreamingState
    detail: str = ""
    session_date: date | None = None
    begins_time: datetime | None = None
    ends_time: datetime | None = None
    connected_time: datetime | None = None
    message_time: datetime | None = None
    symbols: int = 0
    messages: int = 0
    message_bytes: int = 0
    connections: int = 0
    segments: int = 0
    held_bytes: int = 0
    left_out: int = 0
    gaps: Mapping[str, int] = field(default_factory=dict)


# made here: two threads that decode a type for the first time at once crash the library
_STATUS: Final = msgspec.json.Decoder(StreamStatus)


def keep_status(data_folder: Path, status: StreamStatus) -> None:
    """Put it in place of the one before. Raises DiskFullError, OSError."""
    durable.write_bytes(durable.make_folders(data_folder) / STREAM_STATUS, checked_json(status))


def last_status(data_folder: Path) -> StreamStatus | None:
    """What was told last, None before the first; raises StorageError where it is not as it was written."""
    return read_checked(
        data_folder / STREAM_STATUS, _STATUS, limit=_LIMIT, advice="`trade-analyst stream` writes it anew"
    )


def told_seconds_ago(data_folder: Path, now: datetime) -> float:
    """How long ago the status was written, by the machine's clock; raises FileNotFoundError before the first."""
    return now.timestamp() - (data_folder / STREAM_STATUS).lstat().st_mtime


def stream_process(data_folder: Path) -> int | None:
    """The process that streams into a data folder, which holds its lock; None where none does."""
    try:
        descriptor = durable.open_file(data_folder / STREAM_LOCK)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
        return int(holder) if holder.isdecimal() else None
    else:
        return None
    finally:
        os.close(descriptor)
