"""Every state that a power cut can leave of a recorded piece of work, in plain Python: no root and no special disk.

`Recorder` runs the work and notes what reaches the file system. `states` then gives each state that a disk may show
after a cut, as POSIX allows it: an entry of a folder counts for sure once that folder was synced, before that each
change of it may be there or not; the content of a file counts for sure once it was synced, before that any older
content may be there, or half of a newer one. A rename is one change.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Entries = dict[str, int]


@dataclass(frozen=True)
class Content:
    """The content of a file has become this."""

    inode: int
    data: bytes


@dataclass(frozen=True)
class Entry:
    """In one folder these names now lead to these files or folders; None where a name has gone."""

    folder: int
    changed: Mapping[str, int | None]


@dataclass(frozen=True)
class Synced:
    """The content of a file, or the entries of a folder, were forced to the disk."""

    inode: int


@dataclass(frozen=True)
class Told:
    """From here on the caller may believe that this was done."""

    what: object


Step = Content | Entry | Synced | Told


@dataclass
class _Seen:
    folders: dict[int, Entries] = field(default_factory=dict)
    files: dict[int, bytes] = field(default_factory=dict)


class Recorder:
    """Notes the steps of what is done below `root` while it is the context; the caller adds what it was told.

    After each call that syncs, renames, removes or makes something the whole tree is looked at, so that whatever wrote
    a file is noticed. What is there at the beginning counts as synced.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.steps = root, list[Step]()
        self._numbers: dict[int, int] = {}
        self._count = itertools.count(1)
        self._seen = self._look()
        self.before = self._seen
        self._real = {name: getattr(os, name) for name in ("fsync", "rename", "unlink", "mkdir", "open", "ftruncate")}

    def told(self, what: object) -> None:
        """The work has said that this is done."""
        self._note()
        self.steps.append(Told(what))

    def __enter__(self) -> Recorder:
        for name in self._real:
            setattr(os, name, self._noting(name))
        return self

    def __exit__(self, *_: object) -> None:
        for name, call in self._real.items():
            setattr(os, name, call)
        self._note()

    def _noting(self, name: str) -> Callable[..., Any]:
        call = self._real[name]

        def noted(*arguments: Any, **options: Any) -> Any:
            self._note()
            result = call(*arguments, **options)
            self._note()
            if name == "fsync" and (number := self._numbers.get(os.fstat(arguments[0]).st_ino)):
                self.steps.append(Synced(number))
            return result

        return noted

    def _note(self) -> None:
        """Add what has changed since the last look: contents first, then the entries of each folder as one change."""
        seen = self._look()
        for inode, data in seen.files.items():
            if self._seen.files.get(inode, b"") != data:
                self.steps.append(Content(inode, data))
        for inode, entries in reversed(seen.folders.items()):
            before = self._seen.folders.get(inode, {})
            changed = {name: entries.get(name) for name in entries | before if entries.get(name) != before.get(name)}
            if changed or inode not in self._seen.folders:
                self.steps.append(Entry(inode, changed))
        self._seen = seen

    def _look(self) -> _Seen:
        """The tree now. What has no name any more loses its number, for its inode may come back as another file."""
        seen, todo = _Seen(), [self.root]
        numbers: dict[int, int] = {}

        def number_of(inode: int) -> int:
            numbers[inode] = number = self._numbers.get(inode) or next(self._count)
            return number

        self.top = number_of(self.root.stat().st_ino)
        while todo:
            folder = todo.pop()
            entries = seen.folders.setdefault(number_of(folder.stat().st_ino), {})
            for entry in sorted(os.scandir(folder), key=lambda found: found.name):
                entries[entry.name] = number_of(entry.inode())
                if entry.is_dir():
                    todo.append(Path(entry.path))
                    self._numbers |= numbers
                else:
                    seen.files[entries[entry.name]] = Path(entry.path).read_bytes()
        self._numbers = numbers
        return seen


@dataclass(frozen=True)
class State:
    """What a disk shows after a cut, and the last thing that had been told before it."""

    told: object
    root: int
    folders: Mapping[int, Entries]
    files: Mapping[int, bytes]

    def make(self, place: Path) -> None:
        """Make these files in an empty folder."""
        todo = [(self.root, place)]
        while todo:
            inode, folder = todo.pop()
            folder.mkdir()
            for name, found in self.folders[inode].items():
                if found in self.folders:
                    todo.append((found, folder / name))
                else:
                    (folder / name).write_bytes(self.files.get(found, b""))


def states(recorder: Recorder, steps: Sequence[Step] | None = None) -> Iterator[State]:
    """Each different state after a cut behind any step; `steps` in place of the recorded ones for a control."""
    steps = recorder.steps if steps is None else steps
    disk, distinct = _Disk(recorder), set()
    for number in range(len(steps) + 1):
        if number:
            disk.do(steps[number - 1])
        for state in disk.cut():
            key = repr((state.told, sorted(_tree(state))))
            if key not in distinct:
                distinct.add(key)
                yield state


class _Disk:
    """What is on a disk for sure, and what may be."""

    def __init__(self, recorder: Recorder) -> None:
        self._top = recorder.top
        self._folders = {number: dict(entries) for number, entries in recorder.before.folders.items()}
        self._pending: dict[int, list[Entry]] = {}
        self._contents = {number: [data] for number, data in recorder.before.files.items()}
        self._told: object = None

    def do(self, step: Step) -> None:
        match step:
            case Told():
                self._told = step.what
            case Content():
                self._contents.setdefault(step.inode, [b""]).append(step.data)
            case Entry():
                self._folders.setdefault(step.folder, {})
                self._pending.setdefault(step.folder, []).append(step)
            case Synced() if step.inode in self._folders:
                self._folders[step.inode] = _with(self._folders[step.inode], self._pending.pop(step.inode, []))
            case Synced():
                self._contents[step.inode] = self._contents.get(step.inode, [b""])[-1:]

    def cut(self) -> Iterator[State]:
        """Each choice of what may be there, once for all contents that no name leads to."""
        trees = [_choices(entries, self._pending.get(number, ())) for number, entries in self._folders.items()]
        possible = {number: _torn(versions) for number, versions in self._contents.items()}
        sure = {number: versions[0] for number, versions in possible.items()}
        for entries in itertools.product(*trees):
            tree = dict(zip(self._folders, entries, strict=True))
            open_ones = [number for number in _reached(self._top, tree) if len(possible.get(number, ())) > 1]
            for choice in itertools.product(*(possible[number] for number in open_ones)):
                yield State(self._told, self._top, tree, sure | dict(zip(open_ones, choice, strict=True)))


def _choices(entries: Entries, changes: Sequence[Entry]) -> list[Entries]:
    """The entries with each selection of the changes made."""
    counts = range(len(changes) + 1)
    return [_with(entries, chosen) for count in counts for chosen in itertools.combinations(changes, count)]


def _with(entries: Entries, changes: Sequence[Entry]) -> Entries:
    merged: dict[str, int | None] = dict(entries)
    for change in changes:
        merged |= change.changed
    return {name: inode for name, inode in merged.items() if inode is not None}


def _torn(versions: Sequence[bytes]) -> list[bytes]:
    """Any version since the last sync, and the newest half written."""
    return list(dict.fromkeys([*versions, *(_half_written(*pair) for pair in itertools.pairwise(versions[-2:]))]))


def _alike(first: bytes, second: bytes) -> int:
    """How many bytes both begin with."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((number for number, (one, other) in pairs if one != other), min(len(first), len(second)))


def _half_written(old: bytes, new: bytes) -> bytes:
    """`old` when half of what makes it `new` has reached the disk."""
    start = _alike(old, new)
    if len(old) != len(new):
        return new[: (start + len(new)) // 2]
    end = len(new) - _alike(old[::-1], new[::-1])
    return new[: (start + end) // 2] + old[(start + end) // 2 :]


def _reached(root: int, folders: Mapping[int, Entries]) -> list[int]:
    """Files that some name leads to."""
    found, todo = [], [root]
    while todo:
        for inode in folders[todo.pop()].values():
            if inode in folders:
                todo.append(inode)
            else:
                found.append(inode)
    return sorted(set(found))


def _tree(state: State) -> Iterator[tuple[str, bytes]]:
    todo = [(state.root, "")]
    while todo:
        inode, path = todo.pop()
        yield path, b"folder"
        for name, found in state.folders[inode].items():
            if found in state.folders:
                todo.append((found, f"{path}/{name}"))
            else:
                yield f"{path}/{name}", state.files.get(found, b"")
