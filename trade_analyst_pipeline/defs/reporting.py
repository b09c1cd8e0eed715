"""How results become Dagster events: one materialisation per good session, none for a failed one.

A range run goes through many sessions in one step. When all are good, Dagster's own bookkeeping materialises each
partition of the range. When some are not, the good ones are reported one by one and the step still ends well, so
that what lies downstream goes on for them; the check `every_session` then lists the others and fails the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION

from trade_analyst_pipeline.ops.visible import in_markdown

# Metadata under this key tells Dagster 1.13 to record no materialisation of its own for an output; pinned by a test.
_NO_EVENTS_OF_YOUR_OWN = {SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True}

Event = dg.AssetMaterialization | dg.MaterializeResult[None] | dg.AssetCheckResult


@dataclass(frozen=True)
class SessionResult:
    """What an asset reports of one session: metadata, and why it failed (None when it did not)."""

    session_date: date
    metadata: Mapping[str, Any] = field(default_factory=dict)
    failure: str | None = None

    @property
    def partition_key(self) -> str:
        """The session as Dagster's partition key."""
        return self.session_date.isoformat()


def report_sessions(
    context: dg.AssetExecutionContext,
    key: dg.AssetKey,
    results: Sequence[SessionResult],
    checks: Sequence[dg.AssetCheckResult] = (),
) -> Iterator[Event]:
    """The events of a step that went through `results`, and its check results."""
    if all(result.failure is None for result in results):
        for result in results:
            context.add_asset_metadata(result.metadata, asset_key=key, partition_key=result.partition_key)
        yield dg.MaterializeResult(asset_key=key, check_results=checks)
        return
    for result in results:
        if result.failure is None:
            yield dg.AssetMaterialization(asset_key=key, partition=result.partition_key, metadata=result.metadata)
        else:
            context.log.error(f"{key.to_user_string()} {result.partition_key}: {result.failure}")
    yield dg.MaterializeResult(asset_key=key, check_results=checks, metadata=_NO_EVENTS_OF_YOUR_OWN)


def fail_when_sessions_are_missing(missing: Mapping[date, str]) -> dg.AssetCheckResult:
    """A passed check when nothing is missing; otherwise raises Failure listing each session and its reason."""
    if not missing:
        return dg.AssetCheckResult(passed=True)
    lines = [f"{session}: {reason}" for session, reason in sorted(missing.items())]
    raise dg.Failure(
        description=f"{len(missing)} of the sessions asked for are not there:\n" + "\n".join(lines),
        metadata={"missing_sessions": dg.MetadataValue.md("\n".join(f"- {in_markdown(line)}" for line in lines))},
        allow_retries=False,
    )
