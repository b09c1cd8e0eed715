"""Run by tests in a process of its own: several processes use one archive, or one partition, at once."""

import multiprocessing
import sys
from datetime import UTC, date, datetime
from pathlib import Path

from trade_analyst_pipeline.errors import FencedWriteError
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive

DAY = date(2026, 1, 5)
MOMENT = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)


def capture(root: Path) -> None:
    """Take 25 captures of the same scheduled time, and recover meanwhile as a starting process would."""
    archive = Archive(root)
    for number in range(25):
        with archive.begin(dataset="options", session_date=DAY, scheduled_time=MOMENT, started_time=MOMENT) as writer:
            archive.recover("options")
            body = b"%d" % number * 1000
            writer.append(RawResponse(MarketDataRequest("options", "/chains"), 200, body, (), MOMENT, MOMENT))
            writer.seal(MOMENT)


def replace(root: Path, outcomes: "multiprocessing.Queue[tuple[int, bool]]") -> None:
    """Replace one partition 25 times, each time telling the fence and whether the commit was accepted."""
    import polars as pl
    from full_disk import SCHEMA

    from trade_analyst_pipeline.storage.tables import TableStore

    store = TableStore(root)
    for _ in range(25):
        fence = store.take_fence("tables", "samples", DAY)
        frame = pl.DataFrame({"n": [fence]}, schema=SCHEMA.polars_schema)
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
            outcomes.put((fence, False))
        else:
            outcomes.put((fence, True))


def main(what: str, root: Path) -> None:
    """Four processes; for tables print each fence with its outcome."""
    context = multiprocessing.get_context("spawn")
    outcomes: multiprocessing.Queue[tuple[int, bool]] = context.Queue()
    arguments = (root,) if what == "archive" else (root, outcomes)
    workers = [context.Process(target=capture if what == "archive" else replace, args=arguments) for _ in range(4)]
    for worker in workers:
        worker.start()
    if what == "table":
        for _ in range(4 * 25):
            print(*outcomes.get())
    for worker in workers:
        worker.join()
    sys.exit(max(worker.exitcode or 0 for worker in workers))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
