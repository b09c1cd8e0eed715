"""tclf 0.4.0, the public reference for trade classification, in an environment of its own: it needs numpy below 2.

The environment is made with uv under .cache once. Arrays are handed over by file. The same file is the worker that
runs there: each line read names a stack of layers; it predicts once, leaves its signs in a file and writes the seconds
it took.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

VERSION = "0.4.0"
REPOSITORY = Path(__file__).resolve().parents[1]
ENVIRONMENT = REPOSITORY / ".cache" / "tclf"
SETUP_SECONDS = 300

Layers = Sequence[tuple[str, str]]


def peer_python() -> Path | None:
    """The interpreter that has tclf, its environment made where missing; None, and why, where it cannot be had."""
    python = ENVIRONMENT / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    check = [python, "-c", f"from importlib.metadata import version; assert version('tclf') == {VERSION!r}"]
    if python.exists() and subprocess.run(check, capture_output=True, check=False).returncode == 0:
        return python
    if not uv.exists():
        print(f"NOT RUN: uv, which makes the environment of tclf {VERSION}, is not installed", file=sys.stderr)
        return None
    make = [uv, "venv", "-q", "--clear", "--python", sys.executable, ENVIRONMENT]
    install = [uv, "pip", "install", "-q", "--python", python, f"tclf=={VERSION}", "numpy<2"]
    for step in (make, install):
        done = subprocess.run(step, capture_output=True, text=True, check=False, timeout=SETUP_SECONDS)
        if done.returncode:
            print(f"NOT RUN: tclf {VERSION} cannot be installed: {done.stderr.strip()[-300:]}", file=sys.stderr)
            return None
    return python


class Peer:
    """tclf with its arrays loaded, for one or several stacks of layers."""

    def __init__(self, python: Path, folder: Path, columns: Mapping[str, Any], stacks: Sequence[Layers]) -> None:
        """Hand over `columns` (as tclf names them) and the stacks."""
        np.save(folder / "columns.npy", np.stack([np.asarray(values, dtype=np.float64) for values in columns.values()]))
        self._folder = folder
        words = [",".join(f"{rule}:{subset}" for rule, subset in layers) for layers in stacks]
        command = [python, __file__, str(folder), ",".join(columns), *words]
        self._worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def predict(self, stack: int = 0) -> float:
        """Seconds of one prediction."""
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        self._worker.stdin.write(f"{stack}\n")
        self._worker.stdin.flush()
        return float(self._worker.stdout.readline())

    def signs(self, stack: int = 0) -> Any:
        """What it predicted last: 1, -1, and 0 for what no layer decides."""
        return np.load(self._folder / f"signs-{stack}.npy")

    def close(self) -> None:
        """End the worker."""
        self._worker.communicate()


@contextmanager
def tclf(python: Path, columns: Mapping[str, Any], *stacks: Layers) -> Iterator[Peer]:
    """The peer ready to predict these rows."""
    with tempfile.TemporaryDirectory(prefix="tclf-") as folder:
        peer = Peer(python, Path(folder), columns, stacks)
        try:
            yield peer
        finally:
            peer.close()


def _work(folder: Path, names: list[str], stacks: list[str]) -> None:
    from tclf.classical_classifier import ClassicalClassifier

    rows = np.load(folder / "columns.npy").T  # each column contiguous, as tclf reads them
    for line in sys.stdin:
        layers = [tuple(each.split(":")) for each in stacks[int(line)].split(",")]
        classifier = ClassicalClassifier(layers=layers, features=names, strategy="const").fit(rows)
        start = time.perf_counter()
        signs = classifier.predict(rows)
        seconds = time.perf_counter() - start
        np.save(folder / f"signs-{int(line)}.npy", signs.astype(np.int8))
        print(seconds, flush=True)


if __name__ == "__main__":
    _work(Path(sys.argv[1]), sys.argv[2].split(","), sys.argv[3:])
