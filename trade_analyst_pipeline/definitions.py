"""The code location Dagster loads: assembles the definitions, and nothing else."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from trade_analyst_pipeline.settings import Settings


def assemble(settings: Settings) -> dg.Definitions:
    """All definitions for these settings; that parts of Dagster used here are in beta is not told each time anew."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*currently in beta")
        return _assemble(settings)


def _assemble(settings: Settings) -> dg.Definitions:
    from dagster_duckdb import DuckDBResource

    from trade_analyst_pipeline.defs.assets import all_assets
    from trade_analyst_pipeline.defs.automation import failed_runs, jobs, login_ending, schedules
    from trade_analyst_pipeline.defs.checks import table_checks
    from trade_analyst_pipeline.defs.compacting import compact_finished_sessions
    from trade_analyst_pipeline.defs.plan_record import plan_on_record
    from trade_analyst_pipeline.defs.progress import plain_console
    from trade_analyst_pipeline.defs.pruning import prune_run_records
    from trade_analyst_pipeline.defs.resources import SourceResource, StorageResource
    from trade_analyst_pipeline.defs.standing import TokenResource
    from trade_analyst_pipeline.defs.stream_handover import closed_segments
    from trade_analyst_pipeline.defs.token import login_lasts
    from trade_analyst_pipeline.ops.logs import protect_records

    protect_records()
    return dg.Definitions(
        assets=all_assets(settings),
        asset_checks=[*table_checks(), login_lasts],
        jobs=[*jobs(), compact_finished_sessions, prune_run_records],
        schedules=schedules(settings),
        sensors=[failed_runs, login_ending, plan_on_record(settings), closed_segments],
        resources={
            "source": SourceResource(settings),
            "storage": StorageResource(settings),
            "token": TokenResource(settings),
            "duckdb": DuckDBResource(database=":memory:"),
        },
        loggers={"console": plain_console},
        executor=dg.in_process_executor,
    )


@dg.definitions
def definitions() -> dg.Definitions:
    """What Dagster loads: the settings as they stand."""
    from trade_analyst_pipeline.ops.logs import protect_crashes
    from trade_analyst_pipeline.settings import load_settings

    protect_crashes()
    return assemble(load_settings())
