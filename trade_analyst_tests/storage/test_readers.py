"""P9: readers see whole generations while partitions are replaced; P13: a late writer overwrites nothing newer."""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from many_writers import DAY, DAYS, MOMENT, ROWS, SCHEMA

from trade_analyst_pipeline.errors import PartitionDamagedError
from trade_analyst_pipeline.storage.catalogue import create_views
from trade_analyst_pipeline.storage.manifest import read_manifest, write_manifest
from trade_analyst_pipeline.storage.tables import TableStore

pytestmark = [pytest.mark.reliability, pytest.mark.slow]

Reader = Callable[[Path], list[tuple[date, int, int, int]]]
HARNESS = Path(__file__).parent / "many_writers.py"
DAYS_OF = {f"session_date={day.isoformat()}": day for day in DAYS}


def by_duckdb(root: Path) -> list[tuple[date, int, int, int]]:
    """Rows, lowest and highest value of each partition, through the SQL views."""
    with closing(duckdb.connect()) as connection:
        create_views(connection, root)
        rows = connection.execute("SELECT day, count(*), min(n), max(n) FROM tables.samples GROUP BY day").fetchall()
    return [(day, rows, low, high) for day, rows, low, high in rows]


def by_polars(root: Path) -> list[tuple[date, int, int, int]]:
    """The same through our own scan."""
    frame = TableStore(root).scan("tables", "samples", schema=SCHEMA)
    return frame.group_by("day").agg(pl.len(), pl.min("n").alias("low"), pl.max("n").alias("high")).collect().rows()


def by_pyarrow(root: Path) -> list[tuple[date, int, int, int]]:
    """The same, file by file as the manifests list them."""
    found = []
    for path in TableStore(root).files("tables", "samples"):
        column = pq.read_table(path)["n"]
        found.append((DAYS_OF[path.parent.name], len(column), column[0].as_py(), column[-1].as_py()))
    return found


def by_glob(root: Path) -> list[tuple[date, int, int, int]]:
    """The control: whatever Parquet files lie there."""
    with closing(duckdb.connect()) as connection:
        pattern = f"{root}/tables/samples/*/*.parquet"
        rows = connection.execute("SELECT day, count(*), min(n), max(n) FROM read_parquet(?) GROUP BY day", [pattern])
        return [(day, count, low, high) for day, count, low, high in rows.fetchall()]


def swarm(root: Path, readers: dict[Reader, int], *, grace: str = "kept") -> tuple[collections.Counter[str], int]:
    """Read so often by each while a process replaces four partitions as fast as it can: outcomes, generations seen."""
    outcomes: collections.Counter[str] = collections.Counter()
    generations = set()
    arguments = [sys.executable, str(HARNESS), "endless", str(root), grace]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None
            for _ in DAYS:
                writer.stdout.readline()
            for turn in range(max(readers.values())):
                for reader in [each for each, count in readers.items() if turn < count]:
                    try:
                        found = reader(root)
                    except (duckdb.Error, pl.exceptions.PolarsError, OSError, PartitionDamagedError) as error:
                        outcomes[f"{reader.__name__}: {type(error).__name__}"] += 1
                        continue
                    is_whole = [day for day, *_ in sorted(found)] == DAYS and all(
                        (rows, high - low, low % ROWS) == (ROWS, ROWS - 1, 0) for _, rows, low, high in found
                    )
                    outcomes[f"{reader.__name__}: {'whole' if is_whole else 'wrong'}"] += 1
                    generations |= {low for _, _, low, _ in found}
        finally:
            writer.kill()
    return outcomes, len(generations)


def test_readers_never_see_half_a_partition(tmp_path: Path, *, is_full: bool) -> None:
    """DuckDB, Polars and pyarrow under constant replacement: 0 errors, 0 wrong counts, 0 mixed generations."""
    share = 1 if is_full else 10
    readers: dict[Reader, int] = {by_duckdb: 1000 // share, by_polars: 1000 // share, by_pyarrow: 2000 // share}
    outcomes, generations = swarm(tmp_path, readers)
    print(f"P9: {dict(outcomes)}, {generations} generations seen")
    assert outcomes == {f"{reader.__name__}: whole": count for reader, count in readers.items()}
    assert generations > 10


def test_control_readers_without_manifests_and_grace_are_disturbed(tmp_path: Path) -> None:
    """The swarm is able to find harm: who globs, while replaced files go at once, meets errors or wrong counts."""
    outcomes, _ = swarm(tmp_path, {by_glob: 60}, grace="none")
    assert outcomes["by_glob: whole"] < 60


# --- late writers


def put(store: TableStore, day: date, fence: int, value: int) -> None:
    """Replace a partition by rows that begin with this value."""
    frame = pl.DataFrame({"day": [day], "n": [value]}, schema=SCHEMA.polars_schema)
    writing = {"schema": SCHEMA, "partition": day, "fence": fence, "source_captures": (), "code_version": "0"}
    store.write("tables", frame, created_time=MOMENT, **writing)


def zombie(root: Path, days: list[date], *, has_fences: bool) -> str:
    """A process that took its fences, was stopped, and goes on once newer runs have committed: what became of it."""
    store = TableStore(root)
    arguments = [sys.executable, str(HARNESS), "zombie", str(root), *(day.isoformat() for day in days)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as late:
        assert late.stdout is not None
        late.stdout.readline()
        os.waitid(os.P_PID, late.pid, os.WSTOPPED)
        for day in days:
            put(store, day, store.take_fence("tables", "samples", day), 2)
            if not has_fences:
                folder = root / "tables" / "samples" / f"session_date={day}"
                (folder / "_fence").unlink()
                manifest = read_manifest(folder)
                assert manifest is not None
                write_manifest(folder, replace(manifest, fence=0))
        late.send_signal(signal.SIGCONT)
        return late.communicate(timeout=120)[0].strip()


def test_zombies_never_overwrite_newer_results(tmp_path: Path) -> None:
    """100 of 100 stale commits are refused, and each partition keeps what the newer run wrote."""
    days = [DAY + timedelta(days=number) for number in range(100)]
    assert zombie(tmp_path, days, has_fences=True) == "refused 100, committed 0"
    stored = TableStore(tmp_path).scan("tables", "samples", schema=SCHEMA).collect()
    print("P13: 100 of 100 stale commits refused")
    assert stored["n"].to_list() == [2] * 100


def test_control_without_fences_zombies_win(tmp_path: Path) -> None:
    """The stale commits are able to do harm: where the fences are gone they all go through."""
    days = [DAY + timedelta(days=number) for number in range(5)]
    assert zombie(tmp_path, days, has_fences=False) == "refused 0, committed 5"
