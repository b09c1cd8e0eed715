"""Asset checks: one for each rule of a table's schema, one for the sessions of a run, and some across tables.

The rules themselves stand in the schemas; a check reports how many rows broke one, in clean runs too. Rows that break
an error rule are in quarantine and the verdict has kept bad partitions out already, so these checks warn. What fails
a run is `every_session`: a session asked for whose data is not there or not current.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.defs.reporting import fail_when_sessions_are_missing
from trade_analyst_pipeline.defs.resources import StorageResource
from trade_analyst_pipeline.lineage.built import Built
from trade_analyst_pipeline.lineage.tables import missing_sessions
from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.validation import all_rules

Storage = dg.ResourceParam[StorageResource]


def rule_checks(key: dg.AssetKey, schema: TableSchema) -> list[dg.AssetCheckSpec]:
    """A check for each rule of the schema, with the rule's own words."""
    return [dg.AssetCheckSpec(rule.name, asset=key, description=rule.meaning) for rule in all_rules(schema)]


def rule_results(key: dg.AssetKey, schema: TableSchema, built: Sequence[Built]) -> list[dg.AssetCheckResult]:
    """One result for each rule over all sessions of the step: how many rows broke it, and in which sessions."""
    counts: Counter[str] = Counter()
    sessions: dict[str, list[date]] = {}
    for result in built:
        counts.update(result.rule_counts)
        for name, count in result.rule_counts.items():
            if count:
                sessions.setdefault(name, []).append(result.session_date)
    return [_rule_result(key, rule.name, counts[rule.name], sessions.get(rule.name, [])) for rule in all_rules(schema)]


def _rule_result(key: dg.AssetKey, name: str, count: int, sessions: Sequence[date]) -> dg.AssetCheckResult:
    metadata: dict[str, Any] = {"rows": count}
    if sessions:
        metadata |= {"sessions": len(sessions), "first_session": str(min(sessions)), "last_session": str(max(sessions))}
    return dg.AssetCheckResult(
        asset_key=key, check_name=name, passed=not count, severity=dg.AssetCheckSeverity.WARN, metadata=metadata
    )


def column_metadata(schema: TableSchema) -> Mapping[str, Any]:
    """The columns of a table with type, unit and meaning, for the asset's page."""
    columns = [
        dg.TableColumn(
            name=column.name,
            type=str(column.dtype),
            description=f"{column.meaning} Unit: {column.unit}." if column.unit else column.meaning,
            constraints=dg.TableColumnConstraints(nullable=column.name not in schema.required),
        )
        for column in schema.columns
    ]
    return {"dagster/column_schema": dg.TableSchema(columns=columns), "schema_version": schema.version}


def every_session(dataset: str) -> dg.AssetChecksDefinition:
    """Fails the run when a session it was asked for is not in the table, or not made of all that is archived."""

    @dg.asset_check(
        asset=dg.AssetKey(["tables", dataset]),
        name="every_session",
        description="Each session of the run is in the table and made of everything archived for it.",
    )
    def check(context: dg.AssetCheckExecutionContext, storage: Storage) -> dg.AssetCheckResult:
        sessions = [date.fromisoformat(key) for key in context.op_execution_context.partition_keys]
        return fail_when_sessions_are_missing(missing_sessions(storage.data_folder, dataset, sessions))

    return check


def table_checks() -> list[dg.AssetChecksDefinition]:
    """The checks that are steps of their own."""
    return [*(every_session(name) for name in DATASETS), closes_agree]


@dg.asset_check(
    asset=dg.AssetKey(["tables", "ohlc"]),
    additional_deps=[dg.AssetKey(["tables", "quotes"])],
    description="The close of the latest daily bar is the regular session's last price of the quotes, to 1 %.",
)
def closes_agree(storage: Storage) -> dg.AssetCheckResult:
    """Compare the latest daily close of each symbol with the quotes of that session's closing snapshot."""
    closes = _latest_closes(storage)
    differing = closes.filter((pl.col("close") / pl.col("last") - 1).abs() > 0.01)
    return dg.AssetCheckResult(
        passed=differing.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"compared": closes.height, "differing": ", ".join(differing["symbol"])},
    )


def _latest_closes(storage: StorageResource) -> pl.DataFrame:
    quotes = storage.tables.scan("tables", "quotes", schema=DATASETS["quotes"].schema)
    bars = storage.tables.scan("tables", "ohlc", schema=DATASETS["ohlc"].schema)
    latest = quotes.sort("snapshot_time").group_by("symbol").last().select("symbol", "session_date", "last")
    daily = (
        bars.filter(pl.col("frequency") == "daily")
        .sort("known_time")
        .unique(("symbol", "session_date"), keep="last", maintain_order=True)
    )
    return latest.join(daily.select("symbol", "session_date", "close"), on=["symbol", "session_date"]).collect()
