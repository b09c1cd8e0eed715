"""All benchmarks, one after the other, as one table: what was measured, ours, the other side, the ratio.

`python -m benchmarks` (`make bench`). The main job runs in an empty data folder of its own, twice. Ratios are ours over
the other side: for times below 1 is better, for speeds above 1.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version

from benchmarks import metrics
from benchmarks.normalize import measure_normalize

PACKAGES = ("dagster", "polars", "duckdb", "pandera", "msgspec", "orjson", "pandas", "httpx", "numpy")


def main_job() -> list[float]:
    """Seconds of the first and of the second main job, simulator and log-in included, set-up not."""
    command = [sys.executable, "-m", "trade_analyst_pipeline.cli.main", "run"]
    seconds = []
    with tempfile.TemporaryDirectory(prefix="trade-analyst-bench-") as folder:
        environment = os.environ | {"TRADE_ANALYST_DATA_ROOT": folder}
        for _ in range(2):
            started = time.perf_counter()
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603  our own command
            seconds.append(time.perf_counter() - started)
    return seconds


def main() -> None:
    """Measure and print."""
    print(", ".join(f"{name} {version(name)}" for name in PACKAGES), flush=True)
    for name, value in dataclasses.asdict(measure_normalize()).items():
        print(f"chain to validated table: {name} = {value}", flush=True)
    for name, measure in (
        ("iv_rank against pandas", metrics.iv_rank_against_pandas),
        ("put_call_ratio", metrics.put_call_ratio_speed),
        ("iv_history", metrics.iv_history_speed),
    ):
        print(f"{name}: {measure()}", flush=True)
    first, second = main_job()
    print(f"main job: first run {first:.1f} s, second run {second:.1f} s", flush=True)


if __name__ == "__main__":
    main()
