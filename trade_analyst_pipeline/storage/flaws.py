"""What can be wrong with a stored file, as a value; finding it belongs to the modules that know the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trade_analyst_pipeline.storage.durable import ORPHAN_AGE_SECONDS

Kind = Literal[
    "damaged",  # not as it was written: bytes, sizes, counts, or whose place it stands in
    "newer",  # of a schema version that this program does not know
    "missing",  # something else says that the file exists
    "unsealed",  # a capture whose process died before sealing it
    "repeated_keys",  # a JSON body with a key that came twice in one object: its value is a guess
    "orphan",  # listed nowhere: left by a dead process, or not of this program
    "differs",  # whole, and not what its sources give
    "not_built",  # made of other sources than there are now, or not made yet
]


@dataclass(frozen=True, order=True)
class Flaw:
    """One thing that is not well: the file, below the data folder; what kind of thing; and what was found, in words.

    `captures` are the ids of those it is about, where a file holds several.
    """

    path: str
    kind: Kind
    detail: str
    captures: tuple[str, ...] = ()


@dataclass(frozen=True, order=True)
class Away:
    """A capture, by the file it had below the data folder, whose bytes were retired into a copy; None for into none."""

    path: str
    held_in: str | None


@dataclass(frozen=True)
class Looked:
    """What looking at some files gave: the flaws, how many files of how many bytes were read, and what is retired."""

    flaws: tuple[Flaw, ...] = ()
    files: int = 0
    size_bytes: int = 0
    retired: tuple[Away, ...] = ()

    def __add__(self, other: Looked) -> Looked:
        return Looked(
            self.flaws + other.flaws,
            self.files + other.files,
            self.size_bytes + other.size_bytes,
            self.retired + other.retired,
        )


def is_untouched(path: Path, *, now: float) -> bool:
    """Whether nothing has written to a file or folder for an hour before `now` (epoch seconds).

    What a living process has made and not listed yet is no orphan for so long.
    """
    try:
        return now - path.lstat().st_mtime > ORPHAN_AGE_SECONDS
    except FileNotFoundError:
        return False
