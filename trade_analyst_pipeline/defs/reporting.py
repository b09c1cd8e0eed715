"""How results become Dagster events: one materialisation per good session, none for a failed one.

A range run goes through many sessions in one step. Each good one is reported with the version of its own data, which
Dagster's bookkeeping of a range cannot do: there all sessions share one. When some are not good the step still ends
well, so that what lies downstream goes on for the others; the check `every_session` then lists them and fails the run.

What a materialisation says of code and data versions is put together by Dagster 1.13's own functions, pinned by a test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import uuid4

import dagster as dg
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata
from dagster._core.execution.plan.execute_step import (
    _build_data_version_tags,
    _get_code_version,
    _get_input_provenance_data,
)

from trade_analyst_pipeline.ops.visible import in_markdown

# Metadata under this key tells Dagster 1.13 to record no materialisation of its own for an output; pinned by a test.
_NO_EVENTS_OF_YOUR_OWN = {SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True}

Event = DagsterEvent | dg.MaterializeResult[None] | dg.AssetCheckResult


@dataclass(frozen=True)
class SessionResult:
    """What an asset reports of one session: metadata, and why it failed (None when it did not).

    `data_version` is a hash that is equal where what is stored of the session is; `unknown` where damage hides it.
    """

    session_date: date
    metadata: Mapping[str, Any] = field(default_factory=dict)
    failure: str | None = None
    data_version: str = "unknown"

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
    for result in results:
        if result.failure is not None:
            context.log.error(f"{key.to_user_string()} {result.partition_key}: {result.failure}")
    good = [result for result in results if result.failure is None]
    step, batch = context.get_step_execution_context(), str(uuid4())
    code_version, inputs = _get_code_version(key, step), _get_input_provenance_data(key, step)
    for number, result in enumerate(good, start=1):
        version = dg.DataVersion(result.data_version)
        materialization = dg.AssetMaterialization(
            asset_key=key,
            partition=result.partition_key,
            metadata=result.metadata,
            tags=_build_data_version_tags(version, code_version, inputs, data_version_is_user_provided=True),
        )
        in_batch = DagsterEventBatchMetadata(batch, is_end=number == len(good))
        yield DagsterEvent.asset_materialization(step, materialization, in_batch)
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
