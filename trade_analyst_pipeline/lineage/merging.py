"""Captures to tables where one capture describes many sessions: rows of all captures of a session are one partition.

New captures are merged into what is stored; with `again`, or when code or schema has another version, the table is
computed from every archived capture, so that it is the same whatever was stored before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Literal

import polars as pl

from trade_analyst_pipeline.datasets import DATASETS, Dataset
from trade_analyst_pipeline.errors import CaptureDamagedError, PartitionDamagedError
from trade_analyst_pipeline.lineage.built import Built, built_from
from trade_analyst_pipeline.lineage.code_versions import made_by
from trade_analyst_pipeline.lineage.judging import (
    NO_CAPTURE,
    Judged,
    current_judgement,
    is_current,
    is_refused,
    judge,
    keep_judgement,
    recorded,
)
from trade_analyst_pipeline.storage.archive import Archive, Capture
from trade_analyst_pipeline.storage.tables import Manifest, TableStore

SYNCS_AT_ONCE = 8
FOLDED_ROWS = 1_000_000
NO_ROWS = "what is archived of this session holds no row of the session itself yet"


def build_spanning(
    data_folder: Path, name: str, sessions: Sequence[date], *, created_time: datetime, again: bool
) -> Iterator[Built]:
    """Bring `tables/<name>` up to date with the captures filed under each session, yielding results in order.

    When everything is computed anew, sessions that were not asked for are part of it and not reported, damaged ones
    apart.
    """
    merging = _Merging(TableStore(data_folder), Archive(data_folder / "raw"), DATASETS[name], created_time)
    days = sorted(sessions)
    yield from merging.anew(days) if again or merging.is_outdated() else merging.added(days)


@dataclass
class Fed:
    """The rows of many captures by the sessions they describe, and the captures that each of these was fed by.

    A session is fed by its own captures even where none of them holds a row of it.
    """

    dataset: Dataset
    rows: pl.DataFrame
    pending: list[pl.DataFrame] = field(default_factory=list)
    sources: dict[date, set[str]] = field(default_factory=dict)

    def add(self, judged: Judged) -> None:
        """Take the rows of a session's captures; sessions are to come in the order they were captured."""
        if judged.valid is None:
            return
        self.pending.append(judged.valid)
        for day in {judged.session_date, *judged.valid["session_date"].unique()}:
            self.sources.setdefault(day, set()).update(judged.sources)
        if sum(frame.height for frame in self.pending) > max(FOLDED_ROWS, self.rows.height):
            self.fold()

    def fold(self) -> pl.DataFrame:
        """All rows taken so far, those that say nothing new left out."""
        self.rows = self.dataset.combine(pl.concat([self.rows, *self.pending]))
        self.pending.clear()
        return self.rows


@dataclass(frozen=True)
class _Merging:
    """One bringing up to date of a table whose captures describe many sessions."""

    store: TableStore
    archive: Archive
    dataset: Dataset
    created_time: datetime

    def is_outdated(self) -> bool:
        """Whether anything stored was made by another code or schema version."""
        stored = self.store.manifests("tables", self.dataset.name)
        return not all(is_current(manifest, self.dataset.name, ()) for manifest in stored)

    def added(self, days: Sequence[date]) -> Iterator[Built]:
        """Merge what is new, then captures of later sessions once more.

        A capture that came late may have brought a value back that a later one was taken to repeat.
        """
        merged = dict[date, set[date]]()
        for day in days:
            yield self._session(day, merged)
        if merged:
            later = [day for day in self._archived() if day not in merged and day > min(merged)]
            yield from self._merge_again(later, set[date]().union(*merged.values()))

    def _merge_again(self, days: Sequence[date], fed: Collection[date]) -> Iterator[Built]:
        """Merge what the captures of these sessions say of sessions that were fed, reporting only those that fail."""
        for day in days:
            try:
                if captures := recorded(self.archive, self.dataset.name, day):
                    self._feed(day, judge(self.archive, self.dataset, day, captures), only=fed)
            except (CaptureDamagedError, PartitionDamagedError) as error:
                yield self._damaged(day, error)

    def _archived(self) -> list[date]:
        return self.archive.sessions(self.dataset.name)

    def _session(self, day: date, merged: dict[date, set[date]]) -> Built:
        """Bring one session up to date; where it was merged, `merged` gets the sessions that it fed."""
        name = self.dataset.name
        try:
            captures = recorded(self.archive, name, day)
            if not captures:
                return Built(name, day, "empty", detail=NO_CAPTURE)
            kept = current_judgement(self.store, name, day, captures)
            table = self.store.manifest("tables", name, day)
            if kept is not None and (is_refused(self.archive, kept, captures) or is_current(table, name, captures)):
                return self._reported(day, kept, "unchanged")
            judged, kept = self._judge(day, captures)
            merged[day] = self._feed(day, judged)
            return self._reported(day, kept, "built")
        except (CaptureDamagedError, PartitionDamagedError) as error:
            return self._damaged(day, error)

    def _feed(self, day: date, judged: Judged, *, only: Collection[date] | None = None) -> set[date]:
        """Merge rows into the partitions of the sessions they describe, or `only` of those; returns these sessions.

        The own partition of the session comes last, and also without rows: it says that all of them are done.
        """
        if judged.valid is None:
            return set()
        parts = {of: rows for (of,), rows in judged.valid.partition_by("session_date", as_dict=True).items()}
        wanted = sorted({*parts, day} if only is None else set(parts).intersection(only))
        with ThreadPoolExecutor(SYNCS_AT_ONCE) as pool:
            list(pool.map(lambda of: self._merge(of, parts[of], judged.sources), [of for of in wanted if of != day]))
        if day in wanted:
            self._merge(day, parts.get(day, judged.valid.clear()), judged.sources)
        return set(wanted)

    def _judge(self, day: date, captures: Sequence[Capture]) -> tuple[Judged, Manifest]:
        fence = self.store.take_fence("quarantine", self.dataset.name, day)
        judged = judge(self.archive, self.dataset, day, captures)
        kept = keep_judgement(self.store, self.dataset.name, judged, fence=fence, created_time=self.created_time)
        return judged, kept

    def _merge(self, day: date, rows: pl.DataFrame, sources: Sequence[str]) -> None:
        """Add rows to a partition that other captures feed too."""
        name = self.dataset.name
        fence = self.store.take_fence("tables", name, day)
        present = self.store.manifest("tables", name, day)
        everything = {*sources, *(present.source_captures if present else ())}
        self._write(self.dataset.combine(pl.concat([self._stored(day), rows])), day, fence, everything)

    def _stored(self, day: date) -> pl.DataFrame:
        """The rows of a partition to go on from, none without one; raises PartitionDamagedError."""
        if self.store.manifest("tables", self.dataset.name, day) is not None:
            self.store.verify("tables", self.dataset.name, day)
        schema = self.dataset.schema
        return self.store.scan("tables", self.dataset.name, partitions=[day], schema=schema).collect()

    def anew(self, days: Sequence[date]) -> Iterator[Built]:
        """Compute the whole table from every archived capture.

        A damaged capture feeds nothing; what it fed before keeps the rows it had, and where these are damaged too, all
        stays as it is.
        """
        fed, judgements, damaged = Fed(self.dataset, self.dataset.schema.empty()), dict[date, Manifest](), []
        fences = self._take_fences(self.store.partitions("tables", self.dataset.name))
        for day in self._archived():
            try:
                if captures := recorded(self.archive, self.dataset.name, day):
                    judged, judgements[day] = self._judge(day, captures)
                    fed.add(judged)
            except CaptureDamagedError as error:
                damaged.append(self._damaged(day, error))
        lost = self._replace(fed, fences, keep_unknown=bool(damaged))
        damaged += [self._damaged(day, error) for day, error in lost.items()]
        yield from damaged
        for day in days:
            if day in judgements:
                yield self._reported(day, judgements[day], "built")
            elif day not in {failed.session_date for failed in damaged}:
                yield Built(self.dataset.name, day, "empty", detail=NO_CAPTURE)

    def _take_fences(self, days: Sequence[object]) -> dict[date, int]:
        dates = [day for day in days if isinstance(day, date)]
        with ThreadPoolExecutor(SYNCS_AT_ONCE) as pool:
            taken = pool.map(lambda day: self.store.take_fence("tables", self.dataset.name, day), dates)
            return dict(zip(dates, taken, strict=True))

    def _replace(self, fed: Fed, fences: dict[date, int], *, keep_unknown: bool) -> dict[date, PartitionDamagedError]:
        """Make the rows the whole table; partitions that nothing feeds are left without rows.

        Returns the partitions left as they are, for their present rows were needed and are damaged.
        """
        parts = {day: rows for (day,), rows in fed.fold().partition_by("session_date", as_dict=True).items()}
        fences |= self._take_fences([day for day in {*parts, *fed.sources} if day not in fences])
        known = set[str]().union(*fed.sources.values())
        lost = dict[date, PartitionDamagedError]()

        def replace(day: date) -> None:
            rows, sources = parts.get(day, self.dataset.schema.empty()), fed.sources.get(day, set())
            try:
                present = self.store.manifest("tables", self.dataset.name, day) if keep_unknown else None
                unknown = set(present.source_captures) - known if present else set()
                if unknown:
                    rows = self.dataset.combine(pl.concat([self._stored(day), rows]))
            except PartitionDamagedError as error:
                lost[day] = error
                return
            self._write(rows, day, fences[day], sources | unknown)

        with ThreadPoolExecutor(SYNCS_AT_ONCE) as pool:
            list(pool.map(replace, sorted(fences)))
        return dict(sorted(lost.items()))

    def _write(self, rows: pl.DataFrame, day: date, fence: int, sources: set[str]) -> None:
        self.store.write(
            "tables",
            rows,
            schema=self.dataset.schema,
            partition=day,
            fence=fence,
            source_captures=sorted(sources),
            **made_by(f"tables/{self.dataset.name}"),
            created_time=self.created_time,
        )

    def _reported(self, day: date, kept: Manifest, status: Literal["built", "unchanged"]) -> Built:
        """What the session's own partition holds, whatever else its captures fed."""
        name, failures = self.dataset.name, kept.findings.failures
        table = self.store.manifest("tables", name, day)
        if len(failures) == len(kept.source_captures):
            detail = "; ".join(failures)
            return built_from(None, kept, name=name, session_date=day, status="failed", detail=detail)
        if table is None or not table.row_count:
            return built_from(None, kept, name=name, session_date=day, status="empty", detail=NO_ROWS)
        return built_from(table, kept, name=name, session_date=day, status=status)

    def _damaged(self, day: date, error: CaptureDamagedError | PartitionDamagedError) -> Built:
        return Built(self.dataset.name, day, "failed", detail=str(error), problems=(str(error),))
