"""Files that belong to nothing, taken out of the way without being lost."""

from __future__ import annotations

from itertools import count
from pathlib import Path, PurePosixPath

from trade_analyst_pipeline.storage import durable

SET_ASIDE = "set_aside"


def set_aside(data_folder: Path, name: str) -> str:
    """Move a file or folder, named below the data folder, to the same place below `set_aside/`; says where it went.

    A temporary file of ours and an empty folder are removed instead, for there is nothing in them to be kept. Raises
    StorageError when a link stands in the way, OSError when the system refuses.
    """
    path = data_folder / name
    if durable.is_temporary(path.name) and not path.is_dir():
        path.unlink(missing_ok=True)
        return "removed"
    if path.is_dir() and not path.is_symlink() and not durable.list_names(path):
        path.rmdir()
        return "removed"
    kept = keep_aside(data_folder, name, path)
    return f"moved to {kept.relative_to(data_folder).as_posix()}"


def keep_aside(data_folder: Path, name: str, path: Path) -> Path:
    """Move a file or folder to the place below `set_aside/` that `name` has below the data folder, and say where.

    A name that is taken there gets a number behind it.
    """
    folder = durable.make_folders(data_folder, SET_ASIDE, *PurePosixPath(name).parent.parts)
    taken = durable.list_names(folder)
    last = PurePosixPath(name).name
    names = (f"{last}.{number}" if number else last for number in count())
    kept = folder / next(each for each in names if each not in taken)
    durable.move(path, kept)
    return kept


def kept_aside(data_folder: Path, name: str) -> list[Path]:
    """What is kept below `set_aside/` under that name, numbered ones included, in order."""
    folder, last = data_folder / SET_ASIDE / PurePosixPath(name).parent, PurePosixPath(name).name
    found = (folder / each for each in durable.list_names(folder) if each == last or each.startswith(f"{last}."))
    return sorted(path for path in found if path.is_file() and not path.is_symlink())
