"""Run by tests in a process of its own: writers killed at random moments, then a look at what they left.

A writer acknowledges each finished write over a pipe. What was acknowledged has to be there; of the write under way
when the kill came, old and new are both right. The control writes in place and is expected to leave wrecks.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from trade_analyst_pipeline.errors import StorageError
from trade_analyst_pipeline.market.columns import Column, TableSchema
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.tables import TableStore

DAY = date(2026, 1, 5)
MOMENT = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)
SCHEMA = TableSchema("samples", "1.0", ("n",), (Column("n", pl.UInt64(), None, ""),), frozenset({"n"}))


def tell(*words: object) -> None:
    """Report to the test that started this."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")


def storm(kills: int, write_forever: Callable[[int], None], check: Callable[[list[str]], None]) -> None:
    """Start a writer, let it finish one write, kill it within 30 ms, check; again and again.

    The seed is fixed; where in a write the kill falls is not.
    """
    rng = random.Random(7)  # noqa: S311  seeded, for repeatable kills
    for _ in range(kills):
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ours)
            write_forever(theirs)
        os.close(theirs)
        with os.fdopen(ours) as pipe:
            first = pipe.readline()
            time.sleep(rng.uniform(0, 0.030))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            check([*first.split(), *pipe.read().split()])


def archive_storm(root: Path, kills: int) -> None:
    """Seal captures of a few records; an acknowledged one must be listed and whole, the rest recoverable."""
    archive = Archive(root / "raw")
    body = random.Random(1).randbytes(30_000)  # noqa: S311  seeded noise
    totals = {"kills": kills, "acknowledged": 0, "lost": 0, "damaged": 0, "recovered": 0}

    def write_forever(acknowledgements: int) -> None:
        while True:
            writer = archive.begin(dataset="options", session_date=DAY, scheduled_time=MOMENT, started_time=MOMENT)
            for _ in range(3):
                writer.append(RawResponse(MarketDataRequest("options", "/chains"), 200, body, (), MOMENT, MOMENT))
            capture = writer.seal(MOMENT)
            os.write(acknowledgements, capture.capture_id.encode() + b"\n")

    def check(acknowledged: list[str]) -> None:
        recovered = archive.recover("options")
        try:
            captures = archive.captures("options")
            for capture in captures:
                archive.verify(capture)
        except StorageError:
            totals["damaged"] += 1
            captures = []
        totals["acknowledged"] += len(acknowledged)
        totals["recovered"] += len(recovered)
        totals["lost"] += len(set(acknowledged) - {capture.capture_id for capture in captures})
        for capture in captures:
            capture.path.unlink()

    storm(kills, write_forever, check)
    totals["left"] = len([path for path in root.rglob("*") if path.is_file()])
    tell(*(f"{name}={count}" for name, count in totals.items()))


def table_storm(root: Path, kills: int, *, in_place: bool) -> None:
    """Replace a partition; its manifest carries the generation, each file's SHA-256 says whether it is whole."""
    store = TableStore(root)
    totals = {"kills": kills, "acknowledged": 0, "lost": 0, "unreadable": 0}
    generation = 0

    def write_forever(acknowledgements: int) -> None:
        number = generation
        while True:
            number += 1
            frame = pl.int_range(number, number + 20_000, eager=True, dtype=pl.UInt64).alias("n").to_frame()
            fence = store.take_fence("tables", "samples", DAY)
            values = {
                "schema": SCHEMA,
                "partition": DAY,
                "fence": fence,
                "source_captures": (),
                "code_version": str(number),
                "created_time": MOMENT,
            }
            store.write("tables", frame, **values)
            os.write(acknowledgements, b"%d\n" % number)

    def check(acknowledged: list[str]) -> None:
        nonlocal generation
        totals["acknowledged"] += len(acknowledged)
        try:
            manifest = store.manifest("tables", "samples", DAY)
            if manifest is not None:
                store.verify("tables", "samples", DAY)
        except StorageError:
            totals["unreadable"] += 1
            for path in root.rglob("*.*"):
                path.unlink()
            return
        found = int(manifest.code_version) if manifest else 0
        totals["lost"] += not in_place and found < max(map(int, acknowledged), default=generation)
        generation = max(generation, found)

    if in_place:
        write_in_place()
    storm(kills, write_forever, check)
    totals["temporary"] = len(list(root.rglob("*.tmp")))
    tell(*(f"{name}={count}" for name, count in totals.items()))


def write_in_place() -> None:
    """The known-bad control: every write goes straight into the file of the final name."""
    from trade_analyst_pipeline.storage import durable, tables

    def in_place(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            for start in range(0, len(data), 256):
                file.write(data[start : start + 256])
                file.flush()
                os.fsync(file.fileno())

    durable.write_bytes = in_place
    tables.file_name = lambda *_: "part-1-000000000000.parquet"


if __name__ == "__main__":
    folder, count = Path(sys.argv[2]), int(sys.argv[3])
    if sys.argv[1] == "archive":
        archive_storm(folder, count)
    else:
        table_storm(folder, count, in_place=sys.argv[1] == "in_place")
