"""Captures to judged rows: normalise, validate, decide which captures are used, and keep what was found.

What was found stands in `quarantine/<dataset>` under the session the captures were taken in, also when no row was
bad: its rows are the bad ones, the findings in its manifest say the rest. Which partitions good rows go to is decided
in `tables.py` and `merging.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from trade_analyst_pipeline.datasets import Dataset
from trade_analyst_pipeline.errors import VerdictError
from trade_analyst_pipeline.lineage.built import why_stale
from trade_analyst_pipeline.lineage.code_versions import made_by
from trade_analyst_pipeline.market.normalized import Normalized, ResponseProblem
from trade_analyst_pipeline.quarantine import quarantine_rows, quarantine_schema
from trade_analyst_pipeline.storage.archive import Archive, Capture
from trade_analyst_pipeline.storage.tables import Findings, Manifest, TableStore
from trade_analyst_pipeline.validation import Validated, validate, verdict

SHOWN_SYMBOLS = 10
NO_CAPTURE = "no capture of this session is archived"


@dataclass(frozen=True)
class Judged:
    """The captures of one session, judged: rows of those that are used (None when none is), and all bad rows."""

    session_date: date
    sources: tuple[str, ...]
    valid: pl.DataFrame | None
    bad: pl.DataFrame
    findings: Findings


def recorded(archive: Archive, name: str, session_date: date) -> list[Capture]:
    """The captures of a session that hold an answer, in order; raises CaptureDamagedError."""
    return [capture for capture in archive.captures(name, session_date) if capture.answer_count]


def judge(archive: Archive, dataset: Dataset, session_date: date, captures: Sequence[Capture]) -> Judged:
    """Normalise, validate and judge each capture; raises CaptureDamagedError when one cannot be read.

    A capture that completes an earlier one of the same snapshot is judged together with it; a segment of the stream by
    itself.
    """
    valid, bad, failures, problems = [], [], list[str](), list[str]()
    rules, seen = Counter[str](), Counter[str]()
    for attempts in [[each] for each in captures] if dataset.is_streamed else archive.completions(captures):
        found = _normalized(archive, dataset, session_date, attempts)
        judged = validate(found.frame, dataset.schema)
        seen.update(found.counts)
        rules.update(judged.rule_counts)
        problems += sorted(map(_problem_text, found.problems))  # answers stand in the order in which they came
        bad.append(quarantine_rows(judged, found.rejected, session_date=session_date))
        if (failure := _failure(dataset, found, judged)) is not None:
            names = " and ".join(capture.capture_id for capture in attempts)
            failures.append(f"capture {names}: {failure}")
        else:
            valid.append(judged.valid)
    return Judged(
        session_date,
        tuple(capture.capture_id for capture in captures),
        pl.concat(valid) if valid else None,
        pl.concat(bad),
        Findings(dict(rules), dict(sorted(seen.items())), tuple(failures), tuple(problems)),
    )


def _normalized(archive: Archive, dataset: Dataset, session_date: date, attempts: Sequence[Capture]) -> Normalized:
    """The rows of attempts at one snapshot, or of one segment, each of whose records counts."""
    if dataset.is_streamed:
        return dataset.normalize(archive.responses(attempts[0]), session_date=session_date)
    found = dataset.normalize(archive.answers(attempts), session_date=session_date)
    unanswered = [gap.request for gap in archive.open_gaps(attempts) if gap.request is not None]
    return dataset.without_proof(found, unanswered)


def _failure(dataset: Dataset, found: Normalized, judged: Validated) -> str | None:
    """Why a capture is not used at all; None when it is."""
    try:
        verdict(judged, dataset.schema, tolerance=dataset.tolerance, rejected_rows=found.rejected.height)
    except VerdictError as error:
        return str(error)
    return None if found.offered_rows else "no response of it holds a row that can be read"


def _problem_text(problem: ResponseProblem) -> str:
    """Reason, symbols and words of a problem in one line."""
    symbols = ", ".join(problem.symbols[:SHOWN_SYMBOLS])
    more = len(problem.symbols) - SHOWN_SYMBOLS
    of = f" ({symbols}{f' and {more} more' if more > 0 else ''})" if symbols else ""
    return f"{problem.reason}{of}: {problem.detail}"


def keep_judgement(store: TableStore, name: str, judged: Judged, *, fence: int, created_time: datetime) -> Manifest:
    """Write the judgement of a session; `fence` is that of `quarantine/<name>`, taken before the captures were read."""
    return store.write(
        "quarantine",
        judged.bad,
        schema=quarantine_schema(name),
        partition=judged.session_date,
        fence=fence,
        source_captures=judged.sources,
        **made_by(f"tables/{name}"),
        created_time=created_time,
        findings=judged.findings,
    )


def current_judgement(store: TableStore, name: str, day: date, captures: Sequence[Capture]) -> Manifest | None:
    """The judgement of just these captures by the code there is; None when they have not been judged so."""
    kept = store.manifest("quarantine", name, day)
    ids = tuple(capture.capture_id for capture in captures)
    return kept if kept is not None and not why_judged_anew(kept, name, ids) else None


def why_judged_anew(kept: Manifest | None, name: str, ids: Sequence[str]) -> tuple[str, ...]:
    """Why captures have to be judged once more, in words; empty when what was found in them is current."""
    reasons = why_stale(kept, f"tables/{name}", ids)
    return reasons or (() if kept and kept.findings.rule_counts else ("made before findings were kept",))


def is_refused(archive: Archive, kept: Manifest, captures: Sequence[Capture]) -> bool:
    """Whether, as they were judged, no capture of the session was found fit for the table."""
    failures = kept.findings.failures
    return bool(failures) and len(failures) == len(archive.completions(captures))


def is_current(table: Manifest | None, name: str, captures: Sequence[Capture]) -> bool:
    """Whether a partition was made by the code there is from all these captures, and maybe others."""
    ids = [capture.capture_id for capture in captures]
    return not why_stale(table, f"tables/{name}", ids, may_have_others=True)
