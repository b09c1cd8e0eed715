"""What a recompute touched and what it left, told from the files alone; and who depends on whom, written by hand.

Nothing here asks the package what reaches what, nor what it thinks it has done.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import polars as pl

STAGES = ("tables", "quarantine", "metrics")
TABLES = ("options", "quotes", "ohlc")
# Which table or metric is made of which.
BELOW: Mapping[str, tuple[str, ...]] = {
    "tables/options": (
        *("metrics/put_call_ratio", "metrics/forward", "metrics/implied_volatility", "metrics/term_structure"),
        "metrics/iv_history",
        "metrics/surface_check",
        "metrics/exposure",
    ),
    "metrics/forward": ("metrics/implied_volatility", "metrics/term_structure", "metrics/surface_check"),
    "metrics/implied_volatility": ("metrics/term_structure", "metrics/surface_check", "metrics/exposure"),
    "metrics/iv_history": ("metrics/iv_rank",),
    "metrics/volatility_index": ("metrics/iv_rank",),
    "metrics/put_call_ratio": ("metrics/put_call_ratio_daily",),
    "tables/ohlc": ("metrics/realized_volatility", "metrics/volatility_index"),
}
# Years that a year's sessions lie in the longest window of (252 sessions): the folder has 2023, 2025 and 2026.
LATER_YEARS = {"2023": ("2023",), "2025": ("2025", "2026"), "2026": ("2026",)}
BY_SESSION = (
    "metrics/put_call_ratio",
    "metrics/forward",
    "metrics/implied_volatility",
    "metrics/term_structure",
    "metrics/surface_check",
    "metrics/exposure",
)
WINDOWED = ("metrics/iv_rank", "metrics/put_call_ratio_daily", "metrics/realized_volatility")


def touched(folder: Path) -> dict[str, int]:
    """By partition, how often somebody set out to make it: the highest fence number handed out, from its file."""
    found = {}
    for path in sorted(folder.glob("*/*/*/_fence")):
        words = path.read_text().split()
        numbers = [int(words[at]) for at in range(0, len(words), 3)]
        found[path.parent.relative_to(folder).as_posix()] = max(numbers)
    return found


def recomputed(before: Mapping[str, int], after: Mapping[str, int]) -> set[str]:
    """The partitions that somebody set out to make in between."""
    return {partition for partition, number in after.items() if before.get(partition) != number}


def contents(folder: Path) -> dict[str, str]:
    """The content hash of every partition that holds rows, as its manifest says."""
    manifests = {path.parent: json.loads(path.read_text()) for path in folder.glob("*/*/*/_manifest.json")}
    return {
        place.relative_to(folder).as_posix(): made["content_hash"]
        for place, made in manifests.items()
        if made["stage"] in STAGES and made["row_count"]
    }


def rows(folder: Path, partition: str) -> pl.DataFrame:
    """The rows of a partition by plain reading of the files that its manifest lists, sorted by all columns."""
    made = json.loads((folder / partition / "_manifest.json").read_text())
    frame = pl.concat([pl.read_parquet(folder / partition / file["name"]) for file in made["files"]])
    plain = [name for name, kind in frame.schema.items() if not kind.is_nested()]
    return frame.sort(plain, nulls_last=True)


def of_steps(partitions: Iterable[str], steps: Collection[str]) -> set[str]:
    """All partitions of these tables (each with its quarantine) and metrics."""
    names = {*steps, *(step.replace("tables/", "quarantine/") for step in steps)}
    return {partition for partition in partitions if partition.rpartition("/")[0] in names}


def reachable(partitions: Collection[str], changed: Collection[str]) -> set[str]:
    """These partitions and all below them, by the maps above."""
    found, new = set[str](), set(changed)
    while new:
        found |= new
        new = {below for partition in new for below in _below(partition, partitions)} - found
    return found


def _below(partition: str, partitions: Collection[str]) -> set[str]:
    table, _, key = partition.rpartition("/")
    year = key.partition("=")[2][:4]
    found = set()
    for metric in BELOW.get(table, ()):
        keys = [key] if metric in BY_SESSION else [f"year={year}"]
        if metric in WINDOWED:
            keys = [f"year={later}" for later in LATER_YEARS[year]]
        found |= {f"{metric}/{each}" for each in keys}
    return found.intersection(partitions)
