"""Where the time of a program goes, by part, over all its Python processes, without a change to it.

A timer signal asks each process every few milliseconds what its main thread is doing. The wall and processor time
since the last answer is credited to this one, so that a long call into compiled code, which delays the signal, counts
in full; but of the last interval half goes to the answer before, since the change came somewhere within it. Threads of
compiled libraries count where the main thread waits for them. A process keeps its sums in a small file that is mapped
into memory, so they survive however it ends.
"""

from __future__ import annotations

import atexit
import contextlib
import linecache
import mmap
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType

INTERVAL_SECONDS = 0.004
OWN, OTHER = "sampling itself", "everything else"


@dataclass(frozen=True)
class Rule:
    """A frame that tells the part: its file's path contains `path`, and its function and line what is given of them."""

    path: str
    part: str
    function: str | None = None
    line: str | None = None


@dataclass(frozen=True)
class Spent:
    """Seconds of one process, by part; parts without any are left out."""

    pid: int
    wall: Mapping[str, float]
    cpu: Mapping[str, float]


class _Sampler:
    """The sums of this process. The innermost frame that has a rule decides."""

    def __init__(self, folder: Path, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._names = part_names(rules)
        self._by_code: dict[CodeType, str | Sequence[Rule] | None] = {}
        with (folder / str(os.getpid())).open("wb+") as file:
            file.truncate(16 * len(self._names))
            self._sums = memoryview(mmap.mmap(file.fileno(), 0)).cast("d")
        self._place = {name: number for number, name in enumerate(self._names)}
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._last = OTHER

    def sample(self, _number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        wall, cpu = time.perf_counter(), time.process_time()
        part, passed, worked = self._part(frame), wall - self._wall, cpu - self._cpu
        earlier = 0.5 * min(1.0, INTERVAL_SECONDS / passed)
        self._add(self._last, earlier * passed, earlier * worked)
        self._add(part, (1 - earlier) * passed, (1 - earlier) * worked)
        self._last = part
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._add(OWN, self._wall - wall, self._cpu - cpu)

    def _add(self, part: str, wall: float, cpu: float) -> None:
        place = 2 * self._place[part]
        self._sums[place] += wall
        self._sums[place + 1] += cpu

    def _part(self, frame: FrameType | None) -> str:
        while frame is not None:
            code = frame.f_code
            try:
                found = self._by_code[code]
            except KeyError:
                found = self._by_code[code] = self._rules_of(code)
            if found is not None:
                part = found if isinstance(found, str) else self._by_line(found, frame)
                if part is not None:
                    return part
            frame = frame.f_back
        return OTHER

    def _rules_of(self, code: CodeType) -> str | Sequence[Rule] | None:
        """The part that every line of the code belongs to, or the rules among which the line decides."""
        fitting = [r for r in self._rules if r.path in code.co_filename and r.function in (None, code.co_name)]
        if not fitting:
            return None
        return fitting[0].part if fitting[0].line is None else fitting

    @staticmethod
    def _by_line(rules: Sequence[Rule], frame: FrameType) -> str | None:
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        return next((rule.part for rule in rules if rule.line is None or rule.line in text), None)


def part_names(rules: Sequence[Rule]) -> list[str]:
    """Every part, in the order of the rules."""
    return [*dict.fromkeys(rule.part for rule in rules), OTHER, OWN]


def start(folder: Path, rules: Sequence[Rule]) -> None:
    """Sample this process from now to its end; for the main thread of a process of its own."""
    signal.signal(signal.SIGALRM, _Sampler(folder, rules).sample)
    signal.siginterrupt(signal.SIGALRM, False)
    signal.setitimer(signal.ITIMER_REAL, INTERVAL_SECONDS, INTERVAL_SECONDS)
    # Python takes its handlers away before it ends, and then the signal would kill it
    atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)


@contextlib.contextmanager
def sampled_environment(folder: Path, rules_from: str) -> Iterator[dict[str, str]]:
    """Environment variables under which every Python process samples itself into `folder`.

    `rules_from` is `module:name` of the rules. Python imports `sitecustomize` at its start, wherever it finds one.
    """
    module, name = rules_from.split(":")
    hook = folder / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        f"from pathlib import Path\nfrom {module} import {name}\nfrom benchmarks.sampling import start\n"
        f"start(Path({str(folder)!r}), {name})\n",
        encoding="utf-8",
    )
    yield {"PYTHONPATH": os.pathsep.join((str(hook), str(Path(__file__).parents[1])))}


def read(folder: Path, rules: Sequence[Rule]) -> list[Spent]:
    """The sums of all processes sampled into `folder`."""
    names, found = part_names(rules), []
    for path in sorted(folder.iterdir()):
        if path.name.isdecimal():
            sums = memoryview(path.read_bytes()).cast("d")
            pairs = {name: (sums[2 * i], sums[2 * i + 1]) for i, name in enumerate(names)}
            wall = {name: pair[0] for name, pair in pairs.items() if pair[0] > 0}
            found.append(Spent(int(path.name), wall, {name: pairs[name][1] for name in wall}))
    return found
