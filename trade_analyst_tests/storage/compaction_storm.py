"""Run by a test in a process of its own: compactions that die at any call, amid captures, commits and readers.

What was sealed and committed is remembered here, by whoever did it; after each death, and while a compaction works, the
archive and the tables are held against that. The controls compact, or read, as one would without care.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from trade_analyst_pipeline.errors import StorageError
from trade_analyst_pipeline.lineage.point_in_time import as_of
from trade_analyst_pipeline.market.columns import Column, TableSchema
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage import durable
from trade_analyst_pipeline.storage.archive import Archive, Capture, Gap, Lacking
from trade_analyst_pipeline.storage.archive_check import look_at_captures
from trade_analyst_pipeline.storage.compaction import compact_captures
from trade_analyst_pipeline.storage.packs import PACK_NAME
from trade_analyst_pipeline.storage.tables import TableStore

DATASETS, DAYS = ("options", "quotes"), (date(2026, 1, 5), date(2026, 1, 6))
MOMENT = datetime(2026, 1, 5, 14, 45, tzinfo=UTC)
ROUNDS_OF_A_LIFE = 20
DIED, RAISED = 9, 3
CHANGING = ("fsync", "rename", "unlink")
# calls that a child may die at, and about how many of them a compaction of all sessions makes
POINTS = ((CHANGING, 32), ((*CHANGING, "open", "write", "pread", "stat", "lstat", "listdir", "close"), 420))
SCHEMA = TableSchema(
    "samples",
    "1.0",
    ("n", "known_time"),
    tuple(
        Column(name, dtype, None, "")
        for name, dtype in (
            ("n", pl.UInt64()),
            ("known_time", pl.Datetime("us", "UTC")),
            ("happened_time", pl.Datetime("us", "UTC")),
            ("value", pl.Int64()),
        )
    ),
    frozenset({"n"}),
    event_time="happened_time",
    known_time="known_time",
)
Told = list[tuple[str, str, str, bytes, tuple[RawResponse, ...], tuple[Gap, ...], str]]


class World:
    """An archive and a table, and what is known to be in them."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.root, self.rng = root, rng
        self.sealed: Told = []
        self.rows: list[tuple[int, datetime, datetime, int]] = []
        for _ in range(4):
            self.seal()
        self.commit()

    def seal(self) -> None:
        """A capture of some records and gaps, of a session and an instant that others may be of."""
        rng = self.rng
        dataset, day = rng.choice(DATASETS), rng.choice(DAYS)
        moment = datetime.combine(day, MOMENT.timetz()) + timedelta(minutes=15 * rng.randrange(6))
        archive = Archive(self.root / "raw")
        responses, gaps = [], []
        with archive.begin(dataset=dataset, session_date=day, scheduled_time=moment, started_time=moment) as writer:
            for _ in range(rng.randrange(1, 4)):
                request = MarketDataRequest(dataset, "/x", (("symbol", rng.choice("ABC")),), ())
                body = rng.choice([rng.randbytes(rng.randrange(3000)), b"a" * rng.randrange(9000)])
                response = RawResponse(request, 200, body, (), moment, moment + timedelta(seconds=rng.randrange(9)))
                writer.append(response, rng.choice([None, None, Lacking("short", len(body))]))
                responses.append(response)
            if rng.random() < 0.3:
                gaps.append(Gap(dataset, ("D",), "unavailable", "503"))
                writer.note_gap(gaps[0])
            place = self.root / "raw" / dataset / f"session_date={day}" / f"{writer.capture_id}.part"
            with place.open("rb") as file:  # open before it is sealed, for a compaction may take its name away at once
                capture = writer.seal(moment)
                content = file.read()
        self.sealed.append(
            (dataset, day.isoformat(), capture.capture_id, content, (*responses,), (*gaps,), capture.content_hash)
        )

    def commit(self) -> None:
        """A row more in the table, of an event that may have been known otherwise before."""
        known = MOMENT + timedelta(minutes=len(self.rows))
        self.rows.append((self.rng.randrange(4), known, MOMENT, self.rng.randrange(1000)))
        store = TableStore(self.root)
        store.write(
            "tables",
            pl.DataFrame(self.rows, schema=SCHEMA.polars_schema, orient="row"),
            schema=SCHEMA,
            partition=DAYS[0],
            fence=store.take_fence("tables", "samples", DAYS[0]),
            source_captures=(),
            code_version="0",
            created_time=MOMENT,
        )

    def answers_are_right(self) -> bool:
        """Whether the table as of random instants is what each event was last known as, counted by hand."""
        for _ in range(3):
            instant = MOMENT + timedelta(minutes=self.rng.uniform(-1, len(self.rows) + 1))
            # in the order in which they became known, so the last one of an event stays
            wanted = {event: value for event, known, _happened, value in self.rows if known <= instant}
            found = as_of(TableStore(self.root).scan("tables", "samples", schema=SCHEMA), SCHEMA, instant).collect()
            if sorted(found.select("n", "value").rows()) != sorted(wanted.items()):
                return False
        return True

    def is_told(self, archive: Archive, *, twice: bool = False) -> bool:
        """Whether each capture that was sealed is in the archive, once, with the very bytes, records and gaps."""
        try:
            found = [_told(archive, each) for each in (_doubly(archive, self.root) if twice else _listed(archive))]
        except (StorageError, OSError):
            return False
        return sorted(found, key=_name) == sorted(self.sealed, key=_name)

    def compact(self) -> None:
        """Every session, and what commits replaced, at once; whatever was left by the dead goes too."""
        for dataset in DATASETS:
            for day in Archive(self.root / "raw").sessions(dataset):
                done = compact_captures(self.root, dataset, day, now=time.time() + 7200)
                if done.problem:
                    raise StorageError(done.problem)
        TableStore(self.root, grace=timedelta(0)).drop_retired("tables", "samples", DAYS[0], now=time.time() + 7200)

    def is_compact(self) -> bool:
        """Whether each session has one file, each partition too, and nothing else is left or wrong."""
        folders = list((self.root / "raw").glob("*/*"))
        tables = list((self.root / "tables").rglob("*.parquet"))
        flaws = [
            flaw
            for path in folders
            for flaw in look_at_captures(
                self.root, path.parent.name, path.name, flaw_in=lambda _: None, now=time.time() + 7200
            ).flaws
        ]
        return all(len(list(path.iterdir())) == 1 for path in folders) and len(tables) == 1 and not flaws


def _listed(archive: Archive) -> Iterator[Capture]:
    for dataset in DATASETS:
        yield from archive.captures(dataset)


def _doubly(archive: Archive, root: Path) -> Iterator[Capture]:
    """The control of a reader: all that lies in a pack, and all that lies beside it."""
    for path in sorted((root / "raw").glob("*/*/*.raw")):
        yield archive.capture(path)
    for path in sorted((root / "raw").glob(f"*/*/{PACK_NAME}")):
        yield from (archive.capture(path, member) for member in archive.members(path))


def _told(archive: Archive, capture: Capture) -> tuple[Any, ...]:
    return (
        capture.dataset,
        capture.session_date.isoformat(),
        capture.capture_id,
        b"".join(archive.content(capture)),
        tuple(archive.responses(capture)),
        capture.gaps,
        capture.content_hash,
    )


def _name(told: tuple[Any, ...]) -> tuple[str, ...]:
    return told[:3]


def removing_first() -> None:
    """The control of a writer: the captures' own files leave before the pack is in place."""
    rename = durable.rename

    def careless(source: Path, destination: Path) -> None:
        if destination.name == PACK_NAME:
            for path in destination.parent.glob("*.raw"):
                path.unlink()
        rename(source, destination)

    durable.rename = careless


def die_at(calls: Sequence[str], number: int) -> None:
    """End this process, as a kill does, right before the `number`th of these calls of the system."""
    left = number

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if not left:
                os._exit(DIED)
            return real(*arguments, **options)

        return step

    for name in calls:
        setattr(os, name, counted(getattr(os, name)))


def start(work: Callable[[], None], *, at: tuple[Sequence[str], int] | None, careless: bool) -> int:
    """A child that does the work, dying at a call of the system; its process id."""
    child = os.fork()
    if child:
        return child
    try:
        if careless:
            removing_first()
        if at is not None:
            die_at(*at)
        work()
    except BaseException:  # noqa: BLE001  told by the exit code, and seen
        traceback.print_exc()
        os._exit(RAISED)
    os._exit(0)


def storm(rounds: int, seed: int, control: str) -> Counter[str]:
    """Compact again and again, and count what came of it."""
    rng, totals, world = random.Random(seed), Counter[str](), None  # noqa: S311  seeded
    with tempfile.TemporaryDirectory() as place:
        for number in range(rounds):
            if world is None or number % ROUNDS_OF_A_LIFE == 0:
                world = World(Path(place) / str(number), rng)
                reader = Archive(world.root / "raw")
            one_round(world, reader, rng, totals, control)
            if number % ROUNDS_OF_A_LIFE == ROUNDS_OF_A_LIFE - 1 and control != "removing_first":
                world.compact()
                totals["not_compact"] += not world.is_compact()
                totals["lost"] += not world.is_told(Archive(world.root / "raw"))
    return totals


def one_round(world: World, reader: Archive, rng: random.Random, totals: Counter[str], control: str) -> None:
    """One compaction, most often a dying one, with reads and maybe a capture meanwhile, and a look behind it."""
    for _ in range(rng.randrange(3)):
        world.seal()
    if rng.random() < 0.5:
        world.commit()
    calls, most = rng.choice(POINTS)
    at = (calls, rng.randrange(1, most)) if rng.random() < 0.75 else None
    child = start(world.compact, at=at, careless=control == "removing_first")
    totals["compactions"] += 1
    if at is None and rng.random() < 0.7:
        time.sleep(rng.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
    elif rng.random() < 0.5:
        world.seal()
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        totals["reads"] += 1
        totals["wrong_reads"] += not world.is_told(reader, twice=control == "double_listing")
    status = os.waitstatus_to_exitcode(ended[1])
    totals["died"] += status in (DIED, -signal.SIGKILL)
    totals["raised"] += status == RAISED
    lasting = world.is_told(Archive(world.root / "raw"), twice=control == "double_listing")
    totals["lost"] += not lasting
    totals["wrong_answers"] += not world.answers_are_right()


if __name__ == "__main__":
    counts = storm(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    names = ("compactions", "died", "raised", "reads", "wrong_reads", "lost", "wrong_answers", "not_compact")
    sys.stdout.write(" ".join(f"{name}={counts[name]}" for name in names) + "\n")
