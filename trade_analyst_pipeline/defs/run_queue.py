"""Dagster's queue of runs, in which every run has a class of urgency.

Named in `dagster.yaml`, so that every process of an instance queues through it. Jobs and schedules tag their runs; what
is materialised from an asset's page, and a backfill started there, belongs to a job of Dagster's own that has no tags.
"""

from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext
from dagster._core.storage.dagster_run import DagsterRun

from trade_analyst_pipeline.defs.run_tags import LEAST_URGENT, URGENCY_TAG


class ClassedRunQueue(QueuedRunCoordinator):
    """The queue of runs; one that bears no class when it is queued is given the lowest, as every job's runs have."""

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Queue a run, and return it as it is then."""
        run = context.dagster_run
        if URGENCY_TAG not in run.tags:
            self._instance.add_run_tags(run.run_id, LEAST_URGENT)
        return super().submit_run(context)
