"""Captures to tables, session by session: judge, commit, and say what is missing.

A pure function of archived captures, schemas and code version: any order, any number of workers and any number of
repeats give the same content. A partition whose captures are those it was made from is left alone, and what was found
in them is reported as it was then. A session of which a capture is damaged keeps its last good data and fails alone;
one of which captures were retired keeps what was made of them, and fails only where it is to be made anew.
Datasets whose captures describe other sessions too are built in `merging.py`.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date, datetime
from functools import partial
from pathlib import Path

from trade_analyst_pipeline.datasets import TABLES, Dataset
from trade_analyst_pipeline.errors import CaptureDamagedError, CaptureRetiredError
from trade_analyst_pipeline.lineage.built import Built, built_from
from trade_analyst_pipeline.lineage.code_versions import made_by
from trade_analyst_pipeline.lineage.judging import (
    NO_CAPTURE,
    current_judgement,
    is_current,
    is_refused,
    judge,
    keep_judgement,
    recorded,
)
from trade_analyst_pipeline.lineage.merging import NO_ROWS, build_spanning
from trade_analyst_pipeline.storage.archive import Archive, Capture
from trade_analyst_pipeline.storage.captures import SESSION_OVER
from trade_analyst_pipeline.storage.tables import Manifest, TableStore

INLINE_SESSIONS = 4


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
    if TABLES[name].spans_sessions:
        yield from build_spanning(data_folder, name, sessions, created_time=created_time, again=again)
        return
    one = partial(_build_session, data_folder, name, created_time=created_time, again=again)
    if workers == 1 or len(sessions) <= INLINE_SESSIONS:
        yield from map(one, sessions)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=workers, mp_context=context) as pool:
        yield from pool.map(one, sessions, chunksize=2)


def _build_session(data_folder: Path, name: str, session_date: date, *, created_time: datetime, again: bool) -> Built:
    archive, store = Archive(data_folder / "raw"), TableStore(data_folder)
    try:
        captures = recorded(archive, TABLES[name].source, session_date)
        if not captures:
            return Built(name, session_date, "empty", detail=NO_CAPTURE)
        kept = None if again else current_judgement(store, name, session_date, captures)
        if kept is not None and is_refused(archive, kept, captures):
            return _refused(kept, name, session_date)
        if kept is not None and is_current(table := store.manifest("tables", name, session_date), name, captures):
            return built_from(table, kept, name=name, session_date=session_date, status="unchanged")
        return _commit(store, archive, TABLES[name], session_date, captures, created_time)
    except CaptureDamagedError as error:
        if isinstance(error, CaptureRetiredError) and not again and (made := _made(archive, store, name, session_date)):
            return built_from(*made, name=name, session_date=session_date, status="unchanged", detail=str(error))
        return Built(name, session_date, "failed", detail=str(error), problems=(str(error),))


def _made(archive: Archive, store: TableStore, name: str, session_date: date) -> tuple[Manifest, Manifest] | None:
    """The rows of a session and the judgement of all its captures, by whatever version."""
    table, kept = store.manifest("tables", name, session_date), store.manifest("quarantine", name, session_date)
    if table is None or kept is None:
        return None
    ids = {capture.capture_id for capture in recorded(archive, TABLES[name].source, session_date)}
    return (table, kept) if ids <= set(kept.source_captures) else None


def _commit(
    store: TableStore,
    archive: Archive,
    dataset: Dataset,
    session_date: date,
    captures: Sequence[Capture],
    created_time: datetime,
) -> Built:
    """Judge the captures of a session; make the rows of those that are used, if any, its partition."""
    name = dataset.name
    fences = {stage: store.take_fence(stage, name, session_date) for stage in ("tables", "quarantine")}
    judged = judge(archive, dataset, session_date, captures)
    kept = keep_judgement(store, name, judged, fence=fences["quarantine"], created_time=created_time)
    if judged.valid is None:
        return _refused(kept, name, session_date)
    table = store.write(
        "tables",
        dataset.combine(judged.valid),
        schema=dataset.schema,
        partition=session_date,
        fence=fences["tables"],
        source_captures=judged.sources,
        **made_by(f"tables/{name}"),
        created_time=created_time,
    )
    return built_from(table, kept, name=name, session_date=session_date, status="built")


def _refused(kept: Manifest, name: str, session_date: date) -> Built:
    detail = "; ".join(kept.findings.failures)
    return built_from(None, kept, name=name, session_date=session_date, status="failed", detail=detail)


def missing_sessions(data_folder: Path, name: str, sessions: Sequence[date]) -> dict[date, str]:
    """The sessions whose partition is not there or not made of all that is archived, each with the reason.

    A session that was over before it was captured is none of them: its gap is on record, and no run can fill it.
    """
    archive, store = Archive(data_folder / "raw"), TableStore(data_folder)
    reasons = ((day, _why_missing(archive, store, name, day)) for day in sessions)
    return {day: reason for day, reason in reasons if reason is not None}


def _why_missing(archive: Archive, store: TableStore, name: str, day: date) -> str | None:
    try:
        captures = archive.captures(TABLES[name].source, day)
        held = [capture for capture in captures if capture.answer_count]
        if not held:
            gaps = [gap for capture in captures for gap in capture.gaps if gap.reason != SESSION_OVER]
            return gaps[0].detail if gaps else (None if captures else NO_CAPTURE)
        table, kept = store.manifest("tables", name, day), current_judgement(store, name, day, held)
        if kept is None:
            for capture in held:
                archive.verify(capture)
            return f"{name} has not been built from all that is archived; run this session again"
        if is_refused(archive, kept, held):
            return f"{'; '.join(kept.findings.failures)} (quarantine.{name})"
        if TABLES[name].spans_sessions and (table is None or not table.row_count):
            return NO_ROWS
        return None if is_current(table, name, held) else f"{name} has not been built; run this session again"
    except CaptureRetiredError as error:
        return None if _made(archive, store, name, day) else str(error)
    except CaptureDamagedError as error:
        return str(error)
