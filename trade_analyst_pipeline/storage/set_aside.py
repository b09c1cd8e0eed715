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
    folder = durable.make_folders(data_folder, SET_ASIDE, *PurePosixPath(name).parent.parts)
    taken = durable.list_names(folder)
    names = (f"{path.name}.{number}" if number else path.name for number in count())
    free = next(each for each in names if each not in taken)
    durable.move(path, folder / free)
    return f"moved to {(folder / free).relative_to(data_folder).as_posix()}"
