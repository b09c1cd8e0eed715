"""Asset checks: one for each rule of a table's schema, one for the sessions of a run, and some across tables.

The rules themselves stand in the schemas; a check reports how many rows broke one, in clean runs too. Rows that break
an error rule are in quarantine and the verdict has kept bad partitions out already, so these checks warn. What fails
a run is `every_session`: a session asked for whose data is not there or not current.

Dagster lists an asset's checks by name, so a rule's check is named `error_<rule>` or `warning_<rule>`: by what a row
that breaks it meets with.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from trade_analyst_pipeline.capture.gap_lines import sums
from trade_analyst_pipeline.datasets import DATASETS, TABLES
from trade_analyst_pipeline.defs.reporting import fail_when_sessions_are_missing
from trade_analyst_pipeline.defs.resources import SourceResource, StorageResource
from trade_analyst_pipeline.lineage.built import Built
from trade_analyst_pipeline.lineage.tables import missing_sessions
from trade_analyst_pipeline.market.columns import Rule, TableSchema
from trade_analyst_pipeline.metrics import surface_check
from trade_analyst_pipeline.storage.tables import TableStore
from trade_analyst_pipeline.validation import all_rules

Source = dg.ResourceParam[SourceResource]
Storage = dg.ResourceParam[StorageResource]
LARGEST_CLOSE_DIFFERENCE = 0.01
COMPARED_SESSIONS = 10


def rule_checks(key: dg.AssetKey, schema: TableSchema) -> list[dg.AssetCheckSpec]:
    """A check for each rule of the schema, with the rule's own words and what becomes of a row that breaks it."""
    return [
        dg.AssetCheckSpec(
            _check_name(rule),
            asset=key,
            description=f"{rule.meaning} {_CONSEQUENCES[rule.severity]}",
            metadata={"rule": rule.name, "severity": rule.severity},
        )
        for rule in all_rules(schema)
    ]


_CONSEQUENCES = {
    "error": "A row that breaks this goes to quarantine.",
    "warning": "A row that breaks this is kept and counted.",
}


def _check_name(rule: Rule) -> str:
    return f"{rule.severity}_{rule.name}"


def rule_results(key: dg.AssetKey, schema: TableSchema, built: Sequence[Built]) -> list[dg.AssetCheckResult]:
    """One result for each rule over all sessions of the step: how many rows broke it, and in which sessions.

    Nothing passes where nothing was judged.
    """
    judged = [result for result in built if result.rule_counts]
    return [_rule_result(key, rule, judged) for rule in all_rules(schema)]


def _rule_result(key: dg.AssetKey, rule: Rule, judged: Sequence[Built]) -> dg.AssetCheckResult:
    sessions = [result.session_date for result in judged if result.rule_counts.get(rule.name)]
    count = sum(result.rule_counts.get(rule.name, 0) for result in judged)
    metadata: dict[str, Any] = {"rows": count, "judged_sessions": len(judged)}
    if sessions:
        metadata |= {"sessions": len(sessions), "first_session": str(min(sessions)), "last_session": str(max(sessions))}
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=_check_name(rule),
        passed=bool(judged) and not count,
        severity=dg.AssetCheckSeverity.WARN,
        description=None if judged else "no capture of these sessions could be judged",
        metadata=metadata,
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


def no_gaps(dataset: str) -> dg.AssetChecksDefinition:
    """Warns when the ledger says that something of the run's sessions is lacking."""

    @dg.asset_check(
        asset=dg.AssetKey(["raw", dataset]),
        name="no_gaps",
        description="Nothing of the sessions is lacking that was to be had by now; `trade-analyst gaps` lists it.",
    )
    def check(context: dg.AssetCheckExecutionContext, source: Source, storage: Storage) -> dg.AssetCheckResult:
        ledger = source.ledger(storage.archive)
        days = [date.fromisoformat(key) for key in context.op_execution_context.partition_keys]
        found = sums(line for day in days for line in ledger.lines(dataset, day))
        types: dict[str, Any] = {f"gaps_{kind}": count for kind, count in found.gaps.items()}
        return dg.AssetCheckResult(
            passed=found.adds_up and not found.lacking and not ledger.damaged,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "expected": found.expected,
                "captured": found.captured,
                "lacking": found.lacking,
                "requests_answered": found.answered,
                "requests_missing": found.missing,
                **types,
                **({"damaged": "; ".join(map(str, ledger.damaged))} if ledger.damaged else {}),
            },
        )

    return check


def table_checks() -> list[dg.AssetChecksDefinition]:
    """The checks that are steps of their own."""
    return [
        *(no_gaps(name) for name in DATASETS),
        *(every_session(name) for name in TABLES),
        closes_agree,
        surface_holds,
    ]


@dg.asset_check(
    asset=dg.AssetKey(["tables", "ohlc"]),
    additional_deps=[dg.AssetKey(["tables", "quotes"])],
    description=(
        "The close of the latest daily bar that has quotes is, to 1 %, the last price of regular trading in the "
        "session's last quotes. Nothing to compare does not pass."
    ),
)
def closes_agree(storage: Storage) -> dg.AssetCheckResult:
    """Compare each symbol's latest daily close that has quotes of its session with the last of these."""
    closes = _latest_closes(storage.tables)
    apart = (pl.col("close") / pl.col("regular_last") - 1).abs()
    differing = closes.filter(apart > LARGEST_CLOSE_DIFFERENCE)
    sessions = closes["session_date"].unique().sort()
    return dg.AssetCheckResult(
        passed=bool(closes.height) and differing.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        description=None if closes.height else "nothing to compare: no session has both a daily bar and quotes",
        metadata={
            "compared": closes.height,
            "sessions": ", ".join(map(str, sessions)),
            "differing": ", ".join(sorted(differing["symbol"])),
        },
    )


@dg.asset_check(
    asset=dg.AssetKey(["metrics", "surface_check"]),
    description=(
        "In the latest session no quotes contradict each other by more than their spreads: bounds, strikes, expiries, "
        "the vendor's volatilities. Nothing to test does not pass."
    ),
)
def surface_holds(storage: Storage) -> dg.AssetCheckResult:
    """Add up what `metrics/surface_check` has of its latest session: how many of each check were tested and broken."""
    schema, days = surface_check.SCHEMA, storage.tables.partitions("metrics", surface_check.SCHEMA.name)[-1:]
    rows = storage.tables.scan("metrics", schema.name, partitions=days, schema=schema)
    counts = rows.group_by("check").agg(pl.col("tested", "violations", "inside_spread").sum()).sort("check").collect()
    tested = int(counts["tested"].sum())
    lines = [f"| {' | '.join(map(str, row))} |" for row in counts.rows()]
    table = "\n".join(["| check | tested | violations | inside spread |", "|---|---|---|---|", *lines])
    return dg.AssetCheckResult(
        passed=bool(tested) and not counts["violations"].sum(),
        severity=dg.AssetCheckSeverity.WARN,
        description=None if tested else "nothing to test: no session has volatilities",
        metadata={
            "session": str(days[0]) if days else "none",
            "tested": tested,
            "violations": int(counts["violations"].sum()),
            "by_check": dg.MetadataValue.md(table),
        },
    )


def _latest_closes(store: TableStore) -> pl.DataFrame:
    """Symbol, session, close and last regular price, of the latest session of each symbol that has both."""
    schema = DATASETS["quotes"].schema
    days = store.partitions("tables", "quotes")[-COMPARED_SESSIONS:]
    quotes = store.scan("tables", "quotes", partitions=days, schema=schema).filter(_regular_last().is_not_null())
    bars = store.scan("tables", "ohlc", partitions=days, schema=DATASETS["ohlc"].schema)
    last = quotes.sort("snapshot_time").group_by("symbol", "session_date").last()
    daily = (
        bars.filter(pl.col("frequency") == "daily")
        .sort("known_time")
        .group_by("symbol", "session_date")
        .agg(pl.col("close").last())
    )
    both = last.select("symbol", "session_date", _regular_last()).join(daily, on=["symbol", "session_date"])
    return both.sort("session_date").group_by("symbol").last().collect()


def _regular_last() -> pl.Expr:
    """The last price of regular trading; an index, which has no other, states it as its last."""
    is_index = pl.col("asset_type") == "INDEX"
    return pl.when(is_index).then(pl.coalesce("regular_last", "last")).otherwise("regular_last").alias("regular_last")
