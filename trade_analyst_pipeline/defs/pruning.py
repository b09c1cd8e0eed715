"""Old run records go; the record of each asset's latest materialisation, partition by partition, stays."""

from datetime import timedelta

import dagster as dg
from dagster._core.event_api import EventRecordsFilter

from trade_analyst_pipeline.defs.run_tags import LEAST_URGENT
from trade_analyst_pipeline.market.clock import MachineClock

KEEP_DAYS = 30
FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def old_run_ids(instance: dg.DagsterInstance, keep_days: int) -> list[str]:
    """Finished runs older than `keep_days` that hold no asset's latest materialisation."""
    limit = MachineClock().now() - timedelta(days=keep_days)
    records = instance.get_run_records(dg.RunsFilter(statuses=FINISHED, created_before=limit))
    kept = {run_id for key in instance.all_asset_keys() for run_id in _latest_run_ids(instance, key)}
    return [record.dagster_run.run_id for record in records if record.dagster_run.run_id not in kept]


def _latest_run_ids(instance: dg.DagsterInstance, key: dg.AssetKey) -> set[str]:
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    by_partition = instance.get_latest_storage_id_by_partition(key, kind)
    latest = instance.get_latest_materialization_event(key)
    run_ids = {latest.run_id} if latest else set()
    if by_partition:
        wanted = EventRecordsFilter(event_type=kind, asset_key=key, storage_ids=list(by_partition.values()))
        run_ids |= {record.run_id for record in instance.get_event_records(wanted)}
    return run_ids


@dg.op(config_schema={"keep_days": dg.Field(int, default_value=KEEP_DAYS)})
def delete_old_run_records(context: dg.OpExecutionContext) -> None:
    """Delete old run records, one by one, and say how many went."""
    run_ids = old_run_ids(context.instance, context.op_config["keep_days"])
    for run_id in run_ids:
        context.instance.delete_run(run_id)
    context.log.info(f"{len(run_ids)} old run records deleted")


@dg.job(executor_def=dg.in_process_executor, tags=LEAST_URGENT)
def prune_run_records() -> None:
    """Keep the run database small: Dagster itself keeps run records for ever."""
    delete_old_run_records()
