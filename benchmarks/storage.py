"""What storing costs: a durable commit beside a plain write, tables from the archive beside decoding, bytes, a query.

Also compaction beside a plain copy of the same bytes; the query is asked of a folder that was compacted.

Partitions are those of a chain of the simulator's, asked as the capture asks it; five years of `iv_history` are drawn
from a fixed seed. Both sides of a comparison take turns in one process, on the disk of the system's temporary files.
"""

from __future__ import annotations

import gzip
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from benchmarks.normalize import INSTANT, chain_responses
from trade_analyst_pipeline.datasets import options
from trade_analyst_pipeline.lineage.tables import build_tables
from trade_analyst_pipeline.market.sessions import sessions_ending
from trade_analyst_pipeline.metrics import iv_history
from trade_analyst_pipeline.schwab.messages import RawResponse
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.catalogue import create_views
from trade_analyst_pipeline.storage.compaction import Taken, compact, compact_captures
from trade_analyst_pipeline.storage.tables import GRACE, TableStore
from trade_analyst_pipeline.validation import validate

DAY = INSTANT.date()
ROWS = 100_000
SNAPSHOTS = 5
CAPTURES = 27
SESSIONS, SYMBOLS = 1260, 500
RUNS = 5


@dataclass(frozen=True)
class Pair:
    """Seconds of ours and of the other side, medians of several runs; `of` says of how much."""

    ours: float
    other: float
    of: int

    @property
    def ratio(self) -> float:
        """Ours over the other."""
        return self.ours / self.other


@dataclass(frozen=True)
class StorageFigures:
    """Times, and `bytes_each`: stored per contract and snapshot, by form (`archive`, `gzip`, `table`).

    Compaction is of so many bytes in 27 captures, which took `before` of the disk and then `after`.
    """

    commit: Pair
    rebuild: Pair
    bytes_each: dict[str, float]
    query: Pair
    compaction: Pair
    before: Taken
    after: Taken


def storage_figures() -> StorageFigures:
    """All of them."""
    with tempfile.TemporaryDirectory(prefix="trade-analyst-") as folder:
        responses = chain_responses(seed=7)
        table = validate(options.normalize(responses, session_date=DAY).frame, options.SCHEMA).valid
        return StorageFigures(
            commit(Path(folder) / "commit", table),
            *rebuild(Path(folder) / "rebuild", responses),
            query(Path(folder) / "query"),
            *compaction(Path(folder) / "compaction", responses),
        )


def commit(folder: Path, table: pl.DataFrame) -> Pair:
    """A partition of 100,000 rows replaced durably, and the same rows written by pyarrow with one sync."""
    store, count = TableStore(folder), -(-ROWS // table.height)
    copies = [table.with_columns(pl.col("snapshot_time") + timedelta(minutes=each)) for each in range(count)]
    frames = [pl.concat(copies).head(ROWS).with_columns(pl.col("volume") + turn) for turn in range(2)]
    arrow = frames[0].to_arrow()

    def ours(turn: int) -> None:
        store.write(
            "tables",
            frames[turn % 2],
            schema=options.SCHEMA,
            partition=DAY,
            fence=store.take_fence("tables", "options", DAY),
            source_captures=("benchmark",),
            code_version="0",
            created_time=INSTANT,
        )

    def plain(turn: int) -> None:
        path = folder / f"plain-{turn}.parquet"
        with path.open("wb") as file:
            pq.write_table(arrow, file, compression="zstd", compression_level=1)
            file.flush()
            os.fsync(file.fileno())

    return Pair(*_medians(ours, plain), ROWS)


def rebuild(folder: Path, responses: list[RawResponse]) -> tuple[Pair, dict[str, float]]:
    """A session's table made from the archive, and the same bodies decoded and validated alone; bytes of each form.

    Bytes are those of the archive, of each body by gzip (level 6), and of the table, per contract and snapshot.
    """
    archive = Archive(folder / "raw")
    for number in range(SNAPSHOTS):
        moment = INSTANT + timedelta(minutes=15 * number)
        with archive.begin(dataset="options", session_date=DAY, scheduled_time=moment, started_time=moment) as writer:
            for response in responses:
                writer.append(
                    RawResponse(response.request, response.status, response.body, (), moment, moment),
                )
            writer.seal(moment)
    store = TableStore(folder)

    def ours(_: int) -> None:
        (built,) = build_tables(folder, "options", [DAY], workers=1, created_time=INSTANT, again=True)
        assert built.status == "built", built

    def alone(_: int) -> None:
        for number in range(SNAPSHOTS):
            moment = INSTANT + timedelta(minutes=15 * number)
            again = [RawResponse(each.request, each.status, each.body, (), moment, moment) for each in responses]
            validate(options.normalize(again, session_date=DAY).frame, options.SCHEMA)

    times = _medians(ours, alone)
    manifest = store.manifest("tables", "options", DAY)
    assert manifest is not None
    contracts = manifest.row_count
    raw = sum(path.stat().st_size for path in folder.rglob("*.raw"))
    packed = SNAPSHOTS * sum(len(gzip.compress(each.body, 6)) for each in responses)
    sizes = {"archive": raw, "gzip": packed, "table": manifest.size_bytes}
    return Pair(*times, contracts), {name: size / contracts for name, size in sizes.items()}


def query(folder: Path) -> Pair:
    """One symbol's history of five years among 500 symbols by SQL on a new connection; the same from one plain file."""
    import duckdb

    store, history = TableStore(folder), five_years()
    by_year = {int(year): rows for (year,), rows in history.group_by(pl.col("session_date").dt.year())}
    for year, rows in [*((year, rows.head(-1)) for year, rows in by_year.items()), *by_year.items()]:
        store.write(
            "metrics",
            rows,
            schema=iv_history.SCHEMA,
            partition=year,
            fence=store.take_fence("metrics", "iv_history", year),
            source_captures=(),
            code_version="0",
            created_time=INSTANT,
        )
    list(compact(folder, last=DAY, now=time.time() + GRACE.total_seconds()))
    assert len(list(folder.rglob("*.parquet"))) == len(by_year)
    plain = folder / "plain.parquet"
    history.write_parquet(plain)
    wanted = "SELECT session_date, iv FROM {} WHERE symbol = 'S0250' AND series = 'iv30' ORDER BY session_date"

    def ours(_: int) -> None:
        with closing(duckdb.connect()) as connection:
            create_views(connection, folder)
            assert len(connection.execute(wanted.format("metrics.iv_history")).fetchall()) == SESSIONS

    def scan(_: int) -> None:
        with closing(duckdb.connect()) as connection:
            assert len(connection.execute(wanted.format(f"'{plain}'")).fetchall()) == SESSIONS

    return Pair(*_medians(ours, scan, runs=4 * RUNS), history.height)


def compaction(folder: Path, responses: list[RawResponse]) -> tuple[Pair, Taken, Taken]:
    """The captures of a session, every 15 minutes one, made one file; their files read and written as one, and synced.

    Of the disk: what they took before and after.
    """
    archive = Archive(folder / "0" / "raw")
    for number in range(CAPTURES):
        moment = INSTANT - timedelta(minutes=15 * number)
        with archive.begin(dataset="options", session_date=DAY, scheduled_time=moment, started_time=moment) as writer:
            for each in responses:
                writer.append(RawResponse(each.request, each.status, each.body, (), moment, moment))
            writer.seal(moment)
    for turn in range(1, RUNS + 1):
        shutil.copytree(folder / "0", folder / str(turn))
    (folder / "plain").mkdir()
    shutil.copytree(folder / "0", folder / "kept")
    files = [folder / "kept" / capture.path.relative_to(folder / "0") for capture in archive.captures("options", DAY)]
    done = []

    def ours(turn: int) -> None:
        done.append(compact_captures(folder / str(turn), "options", DAY, now=time.time()))

    def plain(turn: int) -> None:
        with (folder / "plain" / str(turn)).open("wb") as file:
            for each in files:
                file.write(each.read_bytes())
            file.flush()
            os.fsync(file.fileno())

    pair = Pair(*_medians(ours, plain), sum(each.stat().st_size for each in files))
    assert all(each.after.files == 1 and not each.problem for each in done)
    return pair, done[-1].before, done[-1].after


def five_years() -> pl.DataFrame:
    """`iv_history` of 500 symbols over 1,260 sessions, drawn from a fixed seed."""
    sessions = sessions_ending(date(2026, 1, 5), SESSIONS)
    count = SESSIONS * SYMBOLS
    frame = pl.DataFrame(
        {
            "symbol": np.repeat([f"S{number:04d}" for number in range(SYMBOLS)], SESSIONS),
            "session_date": list(sessions) * SYMBOLS,
            "iv": np.random.default_rng(20250312).uniform(0.1, 0.9, count),
        }
    )
    filled = frame.with_columns(series=pl.lit("iv30"), status=pl.lit("ok"), flags=pl.lit(""))
    types = iv_history.SCHEMA.polars_schema
    return filled.select(
        pl.col(name).cast(kind) if name in filled.columns else pl.lit(None, dtype=kind).alias(name)
        for name, kind in types.items()
    )


def _medians(ours: Callable[[int], None], other: Callable[[int], None], runs: int = RUNS) -> tuple[float, float]:
    """Median seconds of both, taking turns; the first turn of each warms up and does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(runs + 1):
        for kept, work in zip(times, (ours, other), strict=True):
            start = time.perf_counter()
            work(turn)
            kept.append(time.perf_counter() - start)
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])


if __name__ == "__main__":
    print(storage_figures())
