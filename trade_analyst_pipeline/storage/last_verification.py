"""What the last verification of a whole data folder found, kept beside the data for whoever asks later.

What is verified and how is decided elsewhere; a verification of a part is not kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from trade_analyst_pipeline.storage import durable
from trade_analyst_pipeline.storage.checked_json import checked_json, read_checked

LAST_VERIFICATION: Final = "last_verify.json"
_LIMIT: Final = 1 << 20


@dataclass(frozen=True)
class Verification:
    """When everything was read back (UTC), how much that was, and what was not well: a count, and the first by name."""

    verified_time: datetime
    files: int
    size_bytes: int
    flaws: int
    shown: tuple[str, ...]


# made here: two threads that decode a type for the first time at once crash the library
_VERIFICATION: Final = msgspec.json.Decoder(Verification)


def keep_verification(data_folder: Path, found: Verification) -> None:
    """Put it in place of the one before, durably; nothing without a data folder. Raises DiskFullError, OSError."""
    if data_folder.is_dir():
        durable.write_bytes(data_folder / LAST_VERIFICATION, checked_json(found))


def last_verification(data_folder: Path) -> Verification | None:
    """The last one kept, None before the first; raises StorageError where it is not as it was written."""
    return read_checked(
        data_folder / LAST_VERIFICATION, _VERIFICATION, limit=_LIMIT, advice="run `trade-analyst verify` again"
    )
