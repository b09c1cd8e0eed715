"""What became of a table, a session or a series when it was brought up to date; and how sources are named."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

from trade_analyst_pipeline.lineage.code_versions import changed_code
from trade_analyst_pipeline.storage.tables import Manifest

Status = Literal["built", "unchanged", "empty", "failed"]
NOT_MADE = "not made yet"
_SHOWN = 3


@dataclass(frozen=True)
class Built:
    """What became of one table and session.

    `built` and `unchanged` have rows of the session in the table, or are known to have none; `empty` has no archived
    record, or none that holds a row of this session; `failed` keeps its last good data; both say why in `detail`.
    `rule_counts` holds every rule with the rows that broke it, `seen` what the wire showed besides (sentinels, unknown
    fields and the like), `problems` what of the captures could not be used: as many for `unchanged` as when it was
    built. `first_time` and `last_time` are the range of the rows, UTC.
    """

    name: str
    session_date: date
    status: Status
    rows: int = 0
    quarantined: int = 0
    content_hash: str = ""
    detail: str = ""
    rule_counts: Mapping[str, int] = field(default_factory=dict)
    seen: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    size_bytes: int = 0
    first_time: datetime | None = None
    last_time: datetime | None = None


def built_from(
    manifest: Manifest | None, judgement: Manifest, *, name: str, session_date: date, status: Status, detail: str = ""
) -> Built:
    """What the manifests of a session's rows (None: it has none) and of the judgement of its captures say."""
    findings = judgement.findings
    return Built(
        name,
        session_date,
        status,
        rows=manifest.row_count if manifest else 0,
        quarantined=judgement.row_count,
        content_hash=manifest.content_hash if manifest else "",
        detail=detail,
        rule_counts=findings.rule_counts,
        seen=findings.seen,
        problems=(*findings.failures, *findings.problems),
        size_bytes=manifest.size_bytes if manifest else 0,
        first_time=manifest.first_time if manifest else None,
        last_time=manifest.last_time if manifest else None,
    )


@dataclass(frozen=True)
class BuiltSeries:
    """What became of a metric kept by the year: rows and sessions it holds now, and which years were written."""

    name: str
    rows: int
    sessions: int
    last_session: date | None
    written_years: tuple[int, ...]


def reference(manifest: Manifest) -> str:
    """A partition and its content, as a metric's manifest names what it was made from."""
    return f"{manifest.stage}/{manifest.name}/{manifest.partition}@{manifest.content_hash}"


def combined_reference(manifests: Sequence[Manifest]) -> str:
    """A whole table and its content, in one short text."""
    digest = hashlib.sha256("\n".join(map(reference, manifests)).encode()).hexdigest()
    return f"{len(manifests)} partitions@{digest}"


def why_stale(
    present: Manifest | None, step: str, sources: Sequence[str], *, may_have_others: bool = False
) -> tuple[str, ...]:
    """Why a partition is not what its step makes of these sources now, in words; empty when it is.

    With `may_have_others` it may have been made of others besides.
    """
    if present is None:
        return (NOT_MADE,)
    held, wanted = set(present.source_captures), set(sources)
    lacking = "" if may_have_others else gone(present.source_captures, sources)
    reasons = [changed_code(present, step), _listed("new source", sorted(wanted - held)), lacking]
    return tuple(reason for reason in reasons if reason)


def gone(held: Iterable[str], wanted: Collection[str]) -> str:
    """Which sources something was made of that it would not be made of now, in words; empty without any."""
    return _listed("not among its sources any more", sorted(set(held).difference(wanted)))


def _listed(what: str, sources: Sequence[str]) -> str:
    if not sources:
        return ""
    more = f" and {len(sources) - _SHOWN} more" if len(sources) > _SHOWN else ""
    return f"{what}: {', '.join(source.partition('@')[0] for source in sources[:_SHOWN])}{more}"
