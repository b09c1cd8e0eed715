"""The main job and its second run, in an empty data folder of their own, and where the time of the first goes.

Both are the plain command `trade-analyst run`, simulator and log-in included, set-up not. Every process of the first
run is sampled (`sampling.py`). Its main process is never idle without a reason, so its parts add up to the time of the
job: while it waits for the processes that build tables, the time is theirs, split as they spend it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sampling import OWN, Rule, Spent, read, sampled_environment

COMMAND = (sys.executable, "-m", "trade_analyst_pipeline.cli.main", "run")

START = "start of processes, imports"
CLIENT = "HTTP client (httpx, TLS, event loop)"
SOURCE = "waiting for the simulator's answers"
ARCHIVE = "archive: compress, checksum, write, read back"
SYNC = "fsync and rename"
DECODE = "JSON decode"
ROWS = "rows to typed columns"
VALIDATION = "validation and quarantine"
PARQUET = "canonical order, content hash, Parquet"
METRICS = "metrics"
DAGSTER = "Dagster"
SHOWN = "exports, catalogue, pictures, summary"
LOGIN = "log-in"
SIMULATOR = "simulator: makes the market's answers"
MAIN, BUILDERS, SERVER = "main process", "table builders", "simulator"
WAIT_WORKERS, IDLE = "waiting for the table builders", "idle"

_PACKAGE = "trade_analyst_pipeline/"
RULES = (
    Rule("multiprocessing/resource_tracker.py", IDLE),
    Rule("multiprocessing/queues.py", IDLE, "get"),
    Rule("<frozen importlib", START),
    Rule("multiprocessing/popen_spawn", START),
    Rule("multiprocessing/spawn.py", START, "prepare"),
    Rule(_PACKAGE + "storage/durable.py", SYNC, line="os.fsync("),
    Rule(_PACKAGE + "storage/durable.py", SYNC, line="os.rename("),
    Rule(_PACKAGE + "storage/captures.py", SYNC, line="os.fsync("),
    Rule(_PACKAGE + "storage/archive.py", ARCHIVE),
    Rule(_PACKAGE + "storage/captures.py", ARCHIVE),
    Rule(_PACKAGE + "storage/frames.py", ARCHIVE),
    Rule(_PACKAGE + "storage/catalogue.py", SHOWN),
    Rule(_PACKAGE + "storage/tables.py", PARQUET),
    Rule(_PACKAGE + "storage/content_hash.py", PARQUET),
    Rule(_PACKAGE + "storage/manifest.py", PARQUET),
    Rule(_PACKAGE + "market/wire_json.py", DECODE, "decode_strict"),
    Rule(_PACKAGE + "market/tolerant_json.py", DECODE),
    Rule(_PACKAGE + "datasets/", ROWS),
    Rule(_PACKAGE + "validation.py", VALIDATION),
    Rule(_PACKAGE + "quarantine.py", VALIDATION),
    Rule(_PACKAGE + "pictures/", SHOWN),
    Rule(_PACKAGE + "metrics/", METRICS),
    Rule(_PACKAGE + "lineage/metrics.py", METRICS),
    Rule(_PACKAGE + "lineage/tables.py", PARQUET, "_commit"),
    Rule(_PACKAGE + "lineage/tables.py", WAIT_WORKERS, "build_tables"),
    Rule(_PACKAGE + "export.py", SHOWN),
    Rule(_PACKAGE + "defs/pictures.py", SHOWN),
    Rule(_PACKAGE + "cli/summary.py", SHOWN),
    Rule(_PACKAGE + "simulator/server.py", CLIENT),
    Rule(_PACKAGE + "simulator/", SIMULATOR),
    Rule(_PACKAGE + "schwab/auth.py", LOGIN),
    Rule(_PACKAGE + "schwab/tokens.py", LOGIN),
    Rule(_PACKAGE + "cli/login.py", LOGIN),
    Rule(_PACKAGE + "cli/source.py", START),
    Rule("selectors.py", SOURCE, "select"),
    Rule(_PACKAGE + "schwab/", CLIENT),
    Rule(_PACKAGE + "capture/", CLIENT),
    Rule("/httpx/", CLIENT),
    Rule("/httpcore/", CLIENT),
    Rule("/asyncio/", CLIENT),
    Rule("/uvicorn/", CLIENT),
    Rule("/starlette/", CLIENT),
    Rule("/dagster/", DAGSTER),
)


@dataclass(frozen=True)
class MainJob:
    """Seconds of both runs; of the first, wall seconds by part and processor seconds of each kind of process."""

    folder: Path
    first: float
    second: float
    parts: Mapping[str, float]
    processor: Mapping[str, float]
    sampling: float

    @property
    def dagster_share(self) -> float:
        """Dagster's share of the first run."""
        return self.parts[DAGSTER] / self.first


@contextmanager
def main_job() -> Iterator[MainJob]:
    """Run the main job twice; its data folder is there until the block ends."""
    with tempfile.TemporaryDirectory(prefix="trade-analyst-bench-") as name:
        folder, samples = Path(name) / "data", Path(name) / "samples"
        samples.mkdir()
        environment = os.environ | {
            "TRADE_ANALYST_DATA_ROOT": str(folder),
            "TRADE_ANALYST_CACHE_ROOT": str(Path(name) / "cache"),
        }
        with sampled_environment(samples, "benchmarks.main_job:RULES") as sampled:
            first, pid = _run(environment | sampled)
        second, _ = _run(environment)
        spent = read(samples, RULES)
        yield MainJob(folder, first, second, split(spent, pid), *_totals(spent, pid))


def _run(environment: Mapping[str, str]) -> tuple[float, int]:
    started = time.perf_counter()
    with subprocess.Popen(COMMAND, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        said = process.communicate()[1]
    if process.returncode:
        raise SystemExit(f"the main job failed:\n{said.decode()}")
    return time.perf_counter() - started, process.pid


def split(spent: Sequence[Spent], pid: int) -> dict[str, float]:
    """Wall seconds of process `pid` by part, longest first, what it waits for the table builders split as theirs."""
    main = next(process for process in spent if process.pid == pid)
    parts = Counter(main.wall)
    waited, theirs = parts.pop(WAIT_WORKERS, 0.0), Counter[str]()
    for process in _builders(spent, pid):
        theirs.update(process.wall)
    del theirs[IDLE]
    for part, seconds in theirs.items():
        parts[part] += waited * seconds / theirs.total()
    return dict(parts.most_common())


def _builders(spent: Sequence[Spent], pid: int) -> list[Spent]:
    return [process for process in spent if process.pid != pid and DECODE in process.wall]


def _totals(spent: Sequence[Spent], pid: int) -> tuple[dict[str, float], float]:
    """Processor seconds by kind of process, and those that the sampling took."""
    builders = [process.pid for process in _builders(spent, pid)]
    totals = Counter[str]()
    for process in spent:
        kind = MAIN if process.pid == pid else BUILDERS if process.pid in builders else SERVER
        if kind != SERVER or SIMULATOR in process.wall:
            totals[kind] += sum(process.cpu.values())
    return dict(totals), sum(process.cpu.get(OWN, 0.0) for process in spent)
