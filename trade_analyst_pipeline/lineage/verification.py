"""All that is stored, looked at: which files there are to read, who reads them, and the chain that joins them.

What is looked for in one file belongs to `storage/`, the chain to `chain.py`. Nothing is changed.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.lineage.chain import METRIC_DATASETS, Scope, chain_flaws, dependents
from trade_analyst_pipeline.lineage.schemas import table_schemas
from trade_analyst_pipeline.market.tolerant_json import repeated_keys
from trade_analyst_pipeline.schwab.messages import RawResponse
from trade_analyst_pipeline.storage import durable, segments
from trade_analyst_pipeline.storage.archive import is_sealed
from trade_analyst_pipeline.storage.archive_check import look_at_captures
from trade_analyst_pipeline.storage.flaws import Flaw, Looked
from trade_analyst_pipeline.storage.manifest import partition_of
from trade_analyst_pipeline.storage.table_check import look_at_partition, partition_folders, strays_above

Look = Callable[[], Looked]
BESIDES_DATASETS = frozenset({"plan", segments.NAME})
"""What the archive holds besides datasets: plans on record, and segments of the stream."""

STAGES = ("tables", "quarantine", "metrics")
INLINE_LOOKS = 64


def looks(data_folder: Path, scope: Scope, *, now: float) -> list[Look]:
    """One look for each folder of captures and each partition in scope; each can be made in another process.

    What the archive holds besides datasets, such as the plans, is always in scope.
    """
    found: list[Look] = [partial(strays_above, data_folder, ("raw", *STAGES), now=now)]
    for _, name, folder in partition_folders(data_folder, ("raw",)):
        if (name in scope.datasets or name not in DATASETS) and scope.holds(partition_of(folder.name)):
            found += [partial(look_at_captures, data_folder, name, folder.name, flaw_in=flaw_in, now=now)]
            if name not in DATASETS and name not in BESIDES_DATASETS:
                found += [partial(_look_at_misnamed, data_folder, name, folder.name)]
    for stage, name, folder in partition_folders(data_folder, STAGES):
        if METRIC_DATASETS.get(name, name) in scope.datasets and scope.holds(partition_of(folder.name)):
            found += [partial(_look_at_partition, data_folder, folder, f"{stage}.{name}", now=now)]
    return found


def _look_at_misnamed(data_folder: Path, name: str, folder: str) -> Looked:
    """A folder below a name that nothing is read from: captures in it are missed by every table."""
    place = data_folder / "raw" / name / folder
    held = [each for each in durable.list_names(place) if is_sealed(each)]
    problem = f"captures below {name!r}, which is no dataset of this program: nothing reads them. Rename the folder"
    return Looked((Flaw(place.relative_to(data_folder).as_posix(), "damaged", problem),) if held else ())


def _look_at_partition(data_folder: Path, folder: Path, table: str, *, now: float) -> Looked:
    return look_at_partition(data_folder, folder, table_schemas().get(table), now=now)


def looked(chosen: Sequence[Look], *, workers: int) -> Iterator[Looked]:
    """What each look gave, in order; many are shared out among `workers` processes."""
    if workers == 1 or len(chosen) <= INLINE_LOOKS:
        yield from (look() for look in chosen)
        return
    with ProcessPoolExecutor(max_workers=workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_made, chosen, chunksize=8)


def _made(look: Look) -> Looked:
    return look()


def flaw_in(response: RawResponse) -> str | None:
    """The keys that a body names more than once in one object, in words; None without any, or where it is no JSON.

    Of a block of the stream, those of each of its messages.
    """
    if response.request.dataset == segments.NAME:
        bodies = [message.data for message in segments.as_block(response).messages]
    else:
        bodies = [response.body]
    keys = list(dict.fromkeys(key for body in bodies for key in _repeated(body)))
    return f"a key came more than once in one object: {', '.join(keys[:5])}" if keys else None


def _repeated(body: bytes) -> list[str]:
    try:
        return repeated_keys(body)
    except ResponseRejectedError:
        return []


def joined_flaws(data_folder: Path, scope: Scope, found: Sequence[Flaw]) -> list[Flaw]:
    """All flaws in order of their files: those found, with what damage to a capture costs, and those of the chain."""
    made = {name: dependents(data_folder, name) for name in scope.datasets}
    told = [_with_cost(flaw, made) for flaw in [*found, *chain_flaws(data_folder, scope)]]
    return sorted(set(told))


def _with_cost(flaw: Flaw, made: dict[str, dict[str, list[str]]]) -> Flaw:
    stage, _, below = flaw.path.partition("/")
    dataset = below.partition("/")[0]
    if stage != "raw" or dataset not in made or flaw.kind not in ("damaged", "missing"):
        return flaw
    ids = flaw.captures or (Path(below).stem,)
    tables = list(dict.fromkeys(each for capture_id in ids for each in made[dataset].get(capture_id, [])))
    cost = f"{'; '.join(tables)} made of it, which keep their rows" if tables else "nothing was made of it yet"
    return replace(flaw, detail=f"{flaw.detail}. {cost}")
