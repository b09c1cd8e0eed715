"""The sensor that keeps on record what is planned: the settings in force, and which schedules are on."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorStatus

from trade_analyst_pipeline.capture.planned import note_plan, plan_of
from trade_analyst_pipeline.defs.resources import StorageResource
from trade_analyst_pipeline.market.clock import MachineClock
from trade_analyst_pipeline.settings import Settings

KIND_OF: Final = {
    "closing_snapshots": "closing",
    "intraday_snapshots": "intraday",
    "reference": "reference",
    "movers": "movers",
    "end_of_day": "end_of_day",
}
"""Which kind of run each schedule starts."""


def plan_on_record(settings: Settings) -> dg.SensorDefinition:
    """The sensor; what it writes is what the ledger of gaps holds sessions against."""

    @dg.sensor(
        name="plan_on_record",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Keeps on record what is planned, so that `trade-analyst gaps` can say what is missing.",
    )
    def evaluate(context: dg.SensorEvaluationContext, storage: dg.ResourceParam[StorageResource]) -> dg.SkipReason:
        kinds = kinds_on(context.instance, are_on=settings.environment == "simulate")
        if note_plan(plan_of(settings, kinds, MachineClock().now()), storage.archive):
            return dg.SkipReason(f"a new plan is on record: {', '.join(kinds) or 'no schedule is on'}")
        return dg.SkipReason("the plan is as it was")

    return evaluate


def kinds_on(instance: dg.DagsterInstance, *, are_on: bool) -> list[str]:
    """The kinds of runs whose schedules are on; `are_on` says it for those nobody has turned on or off."""
    states = {
        state.instigator_name: state.status
        for state in instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
    }
    return [kind for name, kind in KIND_OF.items() if _is_on(states.get(name), are_on=are_on)]


def _is_on(status: InstigatorStatus | None, *, are_on: bool) -> bool:
    told: Collection[InstigatorStatus] = (InstigatorStatus.RUNNING, InstigatorStatus.STOPPED)
    return status is InstigatorStatus.RUNNING if status in told else are_on
