"""Run by tests in a process of its own: several processes use one archive, or one partition, at once."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from trade_analyst_pipeline.errors import FencedWriteError
from trade_analyst_pipeline.market.columns import Column, TableSchema
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.tables import GRACE, TableStore

DAY = date(2026, 1, 5)
MOMENT = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)
DAYS = [DAY + timedelta(days=number) for number in range(4)]
ROWS = 4000
SCHEMA = TableSchema(
    "samples",
    "1.0",
    ("day", "n"),
    (Column("day", pl.Date(), None, ""), Column("n", pl.UInt64(), None, "")),
    frozenset({"day", "n"}),
)


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


def write(store: TableStore, day: date, fence: int) -> bool:
    """Replace a partition by the rows of this fence; whether the commit was accepted."""
    first = fence * ROWS
    frame = pl.DataFrame({"n": pl.int_range(first, first + ROWS, eager=True, dtype=pl.UInt64)})
    try:
        store.write(
            "tables",
            frame.select(pl.lit(day).alias("day"), "n"),
            schema=SCHEMA,
            partition=day,
            fence=fence,
            source_captures=(),
            code_version="0",
            created_time=MOMENT,
        )
    except FencedWriteError:
        return False
    return True


def replace(root: Path, count: int) -> Iterator[tuple[int, bool]]:
    """Replace one partition as fast as possible, each time giving the fence and whether the commit was accepted."""
    store = TableStore(root)
    for _ in range(count):
        fence = store.take_fence("tables", "samples", DAY)
        yield fence, write(store, DAY, fence)


def replace_forever(root: Path, grace: timedelta) -> None:
    """Replace four partitions in turn, telling each fence."""
    store = TableStore(root, grace=grace)
    while True:
        for day in DAYS:
            fence = store.take_fence("tables", "samples", day)
            write(store, day, fence)
            tell(fence)
            sys.stdout.flush()


def zombie(root: Path, days: list[date]) -> None:
    """Take a fence of each partition, stop, and commit when woken."""
    store = TableStore(root)
    fences = {day: store.take_fence("tables", "samples", day) for day in days}
    tell("ready")
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGSTOP)
    accepted = [write(store, day, fence) for day, fence in fences.items()]
    sys.stdout.write(f"refused {accepted.count(False)}, committed {accepted.count(True)}\n")


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
        replace_forever(Path(sys.argv[2]), GRACE if sys.argv[3] == "kept" else timedelta(0))
    elif sys.argv[1] == "zombie":
        zombie(Path(sys.argv[2]), [date.fromisoformat(day) for day in sys.argv[3:]])
    else:
        together(sys.argv[1], Path(sys.argv[2]))
