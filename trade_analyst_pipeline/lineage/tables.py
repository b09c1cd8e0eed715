"""Captures to tables: normalise, validate, judge, commit.

A pure function of archived captures, schemas and code version: any order, any number of workers and any number of
repeats give the same content. A partition whose captures are those it was made from is left alone.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from pathlib import Path

import polars as pl

from trade_analyst_pipeline.datasets import DATASETS, Dataset
from trade_analyst_pipeline.errors import VerdictError
from trade_analyst_pipeline.lineage.built import Built, code_version
from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.quarantine import quarantine_rows, quarantine_schema
from trade_analyst_pipeline.storage.archive import Archive, Capture
from trade_analyst_pipeline.storage.tables import Manifest, TableStore
from trade_analyst_pipeline.validation import validate, verdict

INLINE_SESSIONS = 4
SYNCS_AT_ONCE = 8


def build_tables(
    data_folder: Path,
    name: str,
    sessions: Sequence[date],
    *,
    workers: int,
    created_time: datetime,
    again: bool = False,
) -> Iterator[Built]:
    """Bring `tables/<name>` up to date with the captures filed under each session, yielding results in order.

    More than a few sessions are shared out among `workers` processes, unless captures of different sessions feed the
    same partitions. With `again` partitions are made anew even where their sources have not changed.
    """
    one = partial(_build_session, data_folder, name, created_time=created_time, again=again)
    if DATASETS[name].spans_sessions:
        yield from map(one, sorted(sessions))
        _merge_later(data_folder, name, sessions, created_time)
        return
    if workers == 1 or len(sessions) <= INLINE_SESSIONS:
        yield from map(one, sessions)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=workers, mp_context=context) as pool:
        yield from pool.map(one, sessions, chunksize=2)


def _merge_later(data_folder: Path, name: str, sessions: Sequence[date], created_time: datetime) -> None:
    """Merge captures of later sessions once more, so that a capture that came late leaves what follows it intact."""
    archived = Archive(data_folder / "raw").sessions(name)
    for day in [day for day in archived if day > min(sessions, default=day) and day not in set(sessions)]:
        _build_session(data_folder, name, day, created_time=created_time, again=True)


def _build_session(data_folder: Path, name: str, session_date: date, *, created_time: datetime, again: bool) -> Built:
    archive, store, dataset = Archive(data_folder / "raw"), TableStore(data_folder), DATASETS[name]
    captures = [capture for capture in archive.captures(name, session_date) if capture.record_count]
    if not captures:
        return Built(name, session_date, "empty", detail="no capture of this session is archived")
    present = store.manifest("tables", name, session_date)
    if present is not None and not again and _is_current(present, captures, dataset.schema):
        quarantine = store.manifest("quarantine", name, session_date)
        quarantined = quarantine.row_count if quarantine else 0
        return Built(name, session_date, "unchanged", present.row_count, quarantined, present.content_hash)
    return _Build(store, dataset, session_date, created_time).from_captures(archive, captures)


def missing_sessions(data_folder: Path, name: str, sessions: Sequence[date]) -> dict[date, str]:
    """The sessions whose partition is not there or not made of all that is archived, each with the reason."""
    archive, store = Archive(data_folder / "raw"), TableStore(data_folder)
    missing = {}
    for day in sessions:
        captures = archive.captures(name, day)
        held = [capture for capture in captures if capture.record_count]
        present = store.manifest("tables", name, day)
        if not held:
            gaps = [gap.detail for capture in captures for gap in capture.gaps]
            missing[day] = gaps[0] if gaps else "no capture of this session is archived"
        elif present is None or not _is_current(present, held, DATASETS[name].schema):
            missing[day] = f"its captures were judged unfit for the table; see quarantine/{name} of that session"
    return missing


def _is_current(present: Manifest, captures: Sequence[Capture], schema: TableSchema) -> bool:
    return (
        set(present.source_captures).issuperset(capture.capture_id for capture in captures)
        and present.code_version == code_version()
        and present.schema_version == schema.version
    )


@dataclass(frozen=True)
class _Build:
    """One building of the partitions that the captures of one session feed."""

    store: TableStore
    dataset: Dataset
    session_date: date
    created_time: datetime

    def from_captures(self, archive: Archive, captures: Sequence[Capture]) -> Built:
        """Normalise, validate and judge each capture; commit those that pass, if any, and quarantine in any case."""
        schema, fence = self.dataset.schema, self.store.take_fence("tables", self.dataset.name, self.session_date)
        valid, bad, failures = [], [], []
        rules, seen, problems = Counter[str](), Counter[str](), list[str]()
        for capture in captures:
            found = self.dataset.normalize(archive.responses(capture), session_date=self.session_date)
            judged = validate(found.frame, schema)
            seen.update(found.counts)
            rules.update(judged.rule_counts)
            problems += [f"{problem.reason}: {problem.detail}" for problem in found.problems]
            bad.append(quarantine_rows(judged, found.rejected, session_date=self.session_date))
            try:
                verdict(judged, schema, rejected_rows=found.rejected.height)
            except VerdictError as error:
                failures.append(f"capture {capture.capture_id}: {error}")
                continue
            if not found.offered_rows:
                failures.append(f"capture {capture.capture_id}: no response of it holds a row that can be read")
                continue
            valid.append(judged.valid)
        sources = [capture.capture_id for capture in captures]
        built = Built(
            self.dataset.name,
            self.session_date,
            "failed",
            quarantined=self._write_quarantine(pl.concat(bad), sources),
            detail="; ".join(failures),
            rule_counts=rules,
            seen=seen,
            problems=(*failures, *problems),
        )
        return self._commit(built, pl.concat(valid), sources, fence) if valid else built

    def _write_quarantine(self, bad: pl.DataFrame, sources: Sequence[str]) -> int:
        """Keep the bad rows of the session; an empty partition is only written over one that had some."""
        name, day = self.dataset.name, self.session_date
        if bad.height or self.store.manifest("quarantine", name, day) is not None:
            fence = self.store.take_fence("quarantine", name, day)
            self._write("quarantine", bad, quarantine_schema(name), day, fence, sources)
        return bad.height

    def _commit(self, built: Built, valid: pl.DataFrame, sources: Sequence[str], fence: int) -> Built:
        if not self.dataset.spans_sessions:
            frame = self.dataset.combine(valid)
            manifest = self._write("tables", frame, self.dataset.schema, self.session_date, fence, sources)
            return replace(built, status="built", detail="", rows=frame.height, content_hash=manifest.content_hash)
        days = {day: rows for (day,), rows in valid.partition_by("session_date", as_dict=True).items()}
        with ThreadPoolExecutor(SYNCS_AT_ONCE) as pool:
            written = list(pool.map(lambda day: self._merge(day, days[day], sources), sorted(days)))
        digest = hashlib.sha256("".join(manifest.content_hash for manifest in written).encode()).hexdigest()
        return replace(built, status="built", detail="", rows=valid.height, content_hash=digest)

    def _merge(self, day: date, rows: pl.DataFrame, sources: Sequence[str]) -> Manifest:
        """Add rows to a partition that other captures feed too."""
        name, schema = self.dataset.name, self.dataset.schema
        fence = self.store.take_fence("tables", name, day)
        present = self.store.manifest("tables", name, day)
        stored = self.store.scan("tables", name, partitions=[day], schema=schema).collect()
        everything = sorted({*sources, *(present.source_captures if present else ())})
        return self._write("tables", self.dataset.combine(pl.concat([stored, rows])), schema, day, fence, everything)

    def _write(
        self, stage: str, frame: pl.DataFrame, schema: TableSchema, day: date, fence: int, sources: Sequence[str]
    ) -> Manifest:
        return self.store.write(
            stage,
            frame,
            schema=schema,
            partition=day,
            fence=fence,
            source_captures=sources,
            code_version=code_version(),
            created_time=self.created_time,
        )
