"""Run by tests in a process of its own: writers under a limit on the size of files, which acts like a full disk."""

import resource
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from trade_analyst_pipeline.errors import DiskFullError
from trade_analyst_pipeline.market.columns import Column, TableSchema
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.catalogue import build_catalogue
from trade_analyst_pipeline.storage.tables import TableStore

LIMIT = 300_000
DAY = date(2026, 1, 5)
MOMENT = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)
SCHEMA = TableSchema("samples", "1.0", ("n",), (Column("n", pl.UInt64(), None, ""),), frozenset({"n"}))


def tell(*words: object) -> None:
    """Report to the test that started this."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")


def limit(size: int) -> None:
    """From now on no file of this process grows over `size` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def archive(root: Path) -> None:
    """Capture a body that cannot be compressed below the limit, then a small one."""
    noise = pl.int_range(100_000, eager=True).hash(seed=1).to_numpy().tobytes()
    store, request = Archive(root), MarketDataRequest("options", "/chains")
    for body in (noise, b"{}"):
        try:
            with store.begin(dataset="options", session_date=DAY, scheduled_time=MOMENT, started_time=MOMENT) as writer:
                writer.append(RawResponse(request, 200, body, (), MOMENT, MOMENT))
                writer.seal(MOMENT)
        except DiskFullError:
            tell("full", len([path for path in root.rglob("*") if path.is_file()]), "files")
        else:
            tell("sealed")


def table(root: Path) -> None:
    """Replace a small partition by one that does not fit."""
    store = TableStore(root)
    small = pl.DataFrame({"n": [1]}, schema=SCHEMA.polars_schema)
    large = pl.int_range(100_000, eager=True).hash(seed=1).alias("n").to_frame()
    for frame in (small, large, small.with_columns(pl.col("n") + 1)):
        fence = store.take_fence("tables", "samples", DAY)
        try:
            store.write(
                "tables",
                frame,
                schema=SCHEMA,
                partition=DAY,
                fence=fence,
                source_captures=(),
                code_version="0",
                created_time=MOMENT,
            )
        except DiskFullError:
            tell("full")
        tell(store.scan("tables", "samples", schema=SCHEMA).collect()["n"].to_list())
    tell(sorted(path.name.split("-")[0] for path in root.rglob("*") if path.is_file()))


def catalogue(root: Path) -> None:
    """Build a catalogue that does not fit over one that does."""
    before = build_catalogue(root).read_bytes()
    limit(10_000)
    try:
        build_catalogue(root)
    except DiskFullError:
        tell("full", (root / "catalogue.duckdb").read_bytes() == before, [path.name for path in root.iterdir()])


if __name__ == "__main__":
    limit(LIMIT)
    {"archive": archive, "table": table, "catalogue": catalogue}[sys.argv[1]](Path(sys.argv[2]))
