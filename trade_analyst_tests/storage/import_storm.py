"""Run by tests in a process of its own: an import killed at random moments, started again until it is done.

After each kill every visible capture has the bytes it had where it comes from, and what was told as copied is there.
The control gives files their names before they are whole and is expected to leave wrecks.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from copied_archives import contents, export, small_archive, take_in

from trade_analyst_pipeline.storage import captures, copy_source, copy_tar, durable
from trade_analyst_pipeline.storage.copy_in import import_copy


def storm(root: Path, form: str, kills: int, seed: int) -> str:
    """Import until so many kills have come, from nothing again whenever it is done."""
    rolled = random.Random(seed)  # noqa: S311  seeded, for repeatable kills
    here, there = small_archive(root / "here", captures=4, body_bytes=40_000), root / "there"
    copy = root / ("copy.tar" if form == "tar" else "copy")
    export(here, copy)
    wanted = contents(here)
    totals = {"kills": 0, "amid": 0, "finished": 0, "wrong": 0, "lost": 0}
    while totals["kills"] < kills and not totals["wrong"]:
        done, told = killed(there, copy, rolled.uniform(0, 0.030))
        found = {name: sha for name, sha in contents(there).items() if name.endswith(".raw")}
        totals["kills"] += 1
        totals["amid"] += 0 < len(found) < len(wanted)
        totals["wrong"] += not found.items() <= wanted.items()
        totals["lost"] += not told <= set(found)
        if done:
            for path in sorted(there.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            totals["finished"] += 1
    if not totals["wrong"]:
        take_in(there, copy)
    totals["unequal"] = contents(there) != wanted
    return " ".join(f"{name}={int(count)}" for name, count in totals.items())


def killed(there: Path, copy: Path, seconds: float) -> tuple[bool, set[str]]:
    """One import, killed so long after its first file; whether it was done, and what it had told as copied."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        for each in import_copy(there, copy, environment="simulate", wanted=lambda *_: True, now=time.time()):
            os.write(theirs, each.name.encode() + b"\n")
        os.write(theirs, b"done\n")
        signal.pause()
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        first = pipe.readline()
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        told = {*first.split(), *pipe.read().split()}
    return "done" in told, told - {"done"}


def name_first() -> None:
    """The known-bad control: an arriving file has its name from its first byte on."""

    @contextmanager
    def in_place(path: Path) -> Iterator[Path]:
        yield path

    durable.beside = in_place
    captures.place = lambda *_: True
    copy_source.CHUNK_BYTES = copy_tar.CHUNK_BYTES = 64


if __name__ == "__main__":
    if sys.argv[1] == "in_place":
        name_first()
    sys.stdout.write(storm(Path(sys.argv[2]), "tar" if sys.argv[1] == "tar" else "folder", *map(int, sys.argv[3:])))
