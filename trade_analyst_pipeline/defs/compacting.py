"""The many small files of finished sessions become few, every night."""

import dagster as dg

from trade_analyst_pipeline.defs.resources import StorageResource
from trade_analyst_pipeline.defs.run_tags import LEAST_URGENT
from trade_analyst_pipeline.market.clock import MachineClock
from trade_analyst_pipeline.storage.compaction import compact


@dg.op(required_resource_keys={"storage"})
def compact_sessions(context: dg.OpExecutionContext) -> None:
    """Compact captures and tables of all sessions before today's; fails at the end where damage was in the way."""
    storage: StorageResource = context.resources.storage
    found = list(compact(storage.data_folder.resolve(), now=MachineClock().now().timestamp()))
    context.log.info(f"{sum(each.is_changed for each in found)} of {len(found)} folders compacted")
    left = [f"{each.stage}/{each.name} {each.partition}: {each.problem}" for each in found if each.problem]
    if left:
        raise dg.Failure("left alone: " + "; ".join(left))


@dg.job(executor_def=dg.in_process_executor, tags=LEAST_URGENT)
def compact_finished_sessions() -> None:
    """Keep the data folder small: a session leaves a file for each snapshot, and those that newer ones replaced."""
    compact_sessions()
