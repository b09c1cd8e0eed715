"""Run by tests in a process of its own: several processes use one archive, or one partition, at once."""

import multiprocessing
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from trade_analyst_pipeline.errors import FencedWriteError
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


def capture(root: Path) -> None:
    """Take 25 captures of the same scheduled time, and recover meanwhile as a starting process would."""
    archive = Archive(root)
    for number in range(25):
        with archive.begin(dataset="options", session_date=DAY, scheduled_time=MOMENT, started_time=MOMENT) as writer:
            archive.recover("options")
            body = b"%d" % number * 1000
            writer.append(RawResponse(MarketDataRequest("options", "/chains"), 200, body, (), MOMENT, MOMENT))
            writer.seal(MOMENT)


def replace(root: Path, count: int) -> Iterator[tuple[int, bool]]:
    """Replace one partition as fast as possible, each time giving the fence and whether the commit was accepted."""
    store = TableStore(root)
    for _ in range(count):
        fence = store.take_fence("tables", "samples", DAY)
        frame = pl.int_range(fence * 10_000, fence * 10_000 + 4000, eager=True, dtype=pl.UInt64).alias("n").to_frame()
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
        except FencedWriteError:
            yield fence, False
        else:
            yield fence, True


def replace_and_tell(root: Path, outcomes: "multiprocessing.Queue[tuple[int, bool]]") -> None:
    """Replace 25 times and put each outcome on the queue."""
    for outcome in replace(root, 25):
        outcomes.put(outcome)


def together(what: str, root: Path) -> None:
    """Four processes at once; for tables tell each fence with its outcome."""
    context = multiprocessing.get_context("spawn")
    outcomes: multiprocessing.Queue[tuple[int, bool]] = context.Queue()
    if what == "archive":
        workers = [context.Process(target=capture, args=(root,)) for _ in range(4)]
    else:
        workers = [context.Process(target=replace_and_tell, args=(root, outcomes)) for _ in range(4)]
    for worker in workers:
        worker.start()
    if what == "table":
        for _ in range(4 * 25):
            tell(*outcomes.get())
    for worker in workers:
        worker.join()
    sys.exit(max(worker.exitcode or 0 for worker in workers))


if __name__ == "__main__":
    if sys.argv[1] == "endless":
        for outcome in replace(Path(sys.argv[2]), 10**9):
            tell(*outcome)
            sys.stdout.flush()
    else:
        together(sys.argv[1], Path(sys.argv[2]))
