"""Random values of every table and metric traced to the archive and made again, each timed.

    python -m benchmarks.tracing data/simulate [values] [seed]

on the data folder of a main job; the warm-up trace is not counted.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from trade_analyst_pipeline.lineage.schemas import table_schemas
from trade_analyst_pipeline.lineage.tracing import trace
from trade_analyst_pipeline.storage.tables import TableStore

VALUES = 1_000


def traced(root: Path, values: int, seed: int) -> Iterator[tuple[str, str, float]]:
    """Table, verdict and seconds of so many random values, the tables in turn."""
    store, source = TableStore(root), random.Random(seed)  # noqa: S311  not for secrets
    schemas = {name: schema for name, schema in table_schemas().items() if not name.startswith("quarantine.")}
    for number in range(values):
        table = list(schemas)[number % len(schemas)]
        stage, _, name = table.partition(".")
        schema = schemas[table]
        partition = source.choice([each.partition for each in store.manifests(stage, name) if each.row_count])
        scan = store.scan(stage, name, partitions=[partition], schema=schema)
        row = source.choice(scan.select({*schema.key, "session_date"}).collect().rows(named=True))
        started = time.perf_counter()
        found = trace(root, table, row, column=source.choice(schema.names))
        yield table, found.verdict, time.perf_counter() - started


def main(root: Path, values: int, seed: int) -> None:
    """Print verdicts, and per table the median and the longest time."""
    list(traced(root, 1, seed))
    found = list(traced(root, values, seed))
    print(f"{len(found):,} values (seed {seed}):", dict(Counter(verdict for _, verdict, _ in found)))
    for table in sorted({table for table, _, _ in found}):
        times = sorted(seconds for name, _, seconds in found if name == table)
        print(f"{table:32} {len(times):4} values, median {times[len(times) // 2]:.3f} s, longest {times[-1]:.3f} s")


if __name__ == "__main__":
    chosen = sys.argv[1:]
    main(Path(chosen[0]), int(chosen[1]) if chosen[1:] else VALUES, int(chosen[2]) if chosen[2:] else 1)
