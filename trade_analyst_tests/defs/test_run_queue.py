"""Every run that is queued has a class of urgency, with Dagster's instance as dagster.yaml describes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget

from trade_analyst_pipeline.defs.run_tags import URGENCY_TAG


@pytest.fixture
def instance(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance, stored in a folder of the test."""
    monkeypatch.setenv("DAGSTER_INSTANCE_DIR", str(tmp_path / "instance"))
    with dg.DagsterInstance.from_config(str(repository)) as made:
        yield made


@dg.asset
def anything() -> None:
    """An asset."""


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, "backfill"),
        ({"dagster/partition": "2026-11-23"}, "backfill"),
        ({URGENCY_TAG: "closing"}, "closing"),
        ({URGENCY_TAG: "intraday"}, "intraday"),
    ],
)
def test_a_queued_run_has_a_class(instance: dg.DagsterInstance, tags: Mapping[str, str], expected: str) -> None:
    """The job of all assets has no tags, as on an asset's page; a class that a schedule gave stays, other tags too."""
    job = dg.Definitions(assets=[anything]).resolve_implicit_global_asset_job_def()
    assert job.run_tags == {}
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("trade_analyst"), "__repository__")
    run = instance.create_run_for_job(
        job,
        tags=tags,
        status=dg.DagsterRunStatus.NOT_STARTED,
        remote_job_origin=RemoteJobOrigin(repository, job.name),
    )
    with WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as process:
        context = SubmitRunContext(run, process.create_request_context())
        queued = instance.run_coordinator.submit_run(context)
    assert queued.status is dg.DagsterRunStatus.QUEUED
    assert queued.tags.items() >= {**tags, URGENCY_TAG: expected}.items()
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.tags[URGENCY_TAG] == expected
