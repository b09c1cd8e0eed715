"""What processes of the storage harnesses do: one commit under the eyes of strace, or commits until the power goes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from kill_storm import write_in_place

from trade_analyst_pipeline.errors import StorageError
from trade_analyst_pipeline.market.columns import Column, TableSchema
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.catalogue import build_catalogue, catalogue_views
from trade_analyst_pipeline.storage.compaction import compact_captures
from trade_analyst_pipeline.storage.copy_in import import_copy
from trade_analyst_pipeline.storage.copy_out import export_copy
from trade_analyst_pipeline.storage.tables import TableStore

DAY = date(2026, 1, 5)
MOMENT = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)
SCHEMA = TableSchema("samples", "1.0", ("n",), (Column("n", pl.UInt64(), None, ""),), frozenset({"n"}))
ROWS = 5

# --- a partition: its generation is the number in each row and in the manifest


def commit(root: Path, number: int) -> None:
    """Make the rows of a partition those of this generation."""
    store = TableStore(root)
    store.write(
        "tables",
        pl.DataFrame({"n": range(number, number + ROWS)}, schema=SCHEMA.polars_schema),
        schema=SCHEMA,
        partition=DAY,
        fence=store.take_fence("tables", "samples", DAY),
        source_captures=(),
        code_version=str(number),
        created_time=MOMENT,
    )


def committed(root: Path) -> int:
    """The generation stored, checked byte for byte; 0 without one. Raises StorageError."""
    store = TableStore(root)
    manifest = store.manifest("tables", "samples", DAY)
    if manifest is None:
        return 0
    store.verify("tables", "samples", DAY)
    found = int(manifest.code_version)
    assert store.scan("tables", "samples", schema=SCHEMA).collect()["n"].to_list() == list(range(found, found + ROWS))
    return found


# --- an archive: its generation is the number of its captures


def capture(root: Path, number: int) -> None:
    """Seal a capture of two records, the `number`th."""
    moment = MOMENT + timedelta(seconds=number)
    archive = Archive(root / "raw")
    with archive.begin(dataset="options", session_date=DAY, scheduled_time=moment, started_time=moment) as writer:
        for symbol in ("AAPL", "MSFT"):
            request = MarketDataRequest("options", "/chains", (("symbol", symbol),), (symbol,))
            writer.append(RawResponse(request, 200, symbol.encode() * 9, (), moment, moment))
        writer.seal(moment)


def captured(root: Path) -> int:
    """The number of sealed captures, all of them whole and none missing; raises StorageError."""
    archive = Archive(root / "raw")
    archive.recover("options")
    found = archive.captures("options")
    for each in found:
        archive.verify(each)
    if left := [*root.rglob("*.part")]:
        message = f"{left} is left after the recovery"
        raise StorageError(message)
    numbers = [int((each.scheduled_time - MOMENT).total_seconds()) for each in found]
    if numbers != list(range(1, len(numbers) + 1)):
        message = f"of the captures only {numbers} are there"
        raise StorageError(message)
    return len(numbers)


def arrive(root: Path, number: int) -> None:
    """Take in a copy that holds one capture of two records, the `number`th."""
    with tempfile.TemporaryDirectory() as name:
        whole = {"environment": "simulate", "wanted": lambda *_: True}
        capture(Path(name) / "from", number)
        list(export_copy(Path(name) / "from", Path(name) / "copy", created_time=MOMENT, **whole))
        (moved,) = import_copy(root, Path(name) / "copy", now=MOMENT.timestamp(), **whole)
    if moved.outcome not in ("copied", "held"):
        raise StorageError(moved.detail)


# --- a compacted archive: as above, each capture put into the pack with those before


def capture_and_compact(root: Path, number: int) -> None:
    """Seal the `number`th capture and compact the session; raises StorageError where damage was in the way."""
    capture(root, number)
    if problem := compact_captures(root, "options", DAY, now=MOMENT.timestamp()).problem:
        raise StorageError(problem)


# --- a catalogue: its generation is the number of its views


def catalogue(root: Path, number: int) -> None:
    """Build the catalogue with so many views."""
    declared = {f"metrics.m{n}": SCHEMA for n in range(number)}
    build_catalogue(root, declared=declared)


def catalogued(root: Path) -> int:
    """How many views the catalogue has, as other programs open it; 0 without one. Raises QueryError."""
    return len(catalogue_views(root)) if (root / "catalogue.duckdb").exists() else 0


KINDS: dict[str, tuple[Callable[[Path, int], None], Callable[[Path], int]]] = {
    "partition": (commit, committed),
    "archive": (capture, captured),
    "import": (arrive, captured),
    "compaction": (capture_and_compact, captured),
    "catalogue": (catalogue, catalogued),
}


def write_when_told(kind: str, root: str, number: int, in_place: bool, line: Any) -> None:
    """Say ready, wait, write that generation, and say `done` or the name of the error."""
    write = KINDS[kind][0]
    write(Path(root).with_name("before"), number)  # whatever is imported late is imported now
    if in_place:
        write_in_place()
    line.send("ready")
    line.recv()
    try:
        write(Path(root), number)
        outcome = "done"
    except Exception as error:  # noqa: BLE001  whatever it is, the harness judges it
        outcome = type(error).__name__
    line.send(outcome)
    os._exit(0)


def write_until_the_power_goes(kind: str, root: str, number: int, careless: str, line: Any) -> None:
    """Write generations from `number` on without pause, saying each once it is done, until the disk fails."""
    sync = os.fsync
    if careless == "no sync":
        os.fsync = lambda _: None
    elif careless == "no folder sync":
        os.fsync = lambda descriptor: None if Path(f"/proc/self/fd/{descriptor}").is_dir() else sync(descriptor)
    line.send(number - 1)
    try:
        while True:
            KINDS[kind][0](Path(root), number)
            line.send(number)
            number += 1
    finally:
        os._exit(0)
