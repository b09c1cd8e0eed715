"""The assets, in the order the data flows: raw, tables, metrics, exports; and the observed token.

A body reads the context, calls one plain function and reports. Raw and table assets are made from `DATASETS`; metric
assets are written out, since their inputs differ. Series metrics are not partitioned in Dagster: one run brings
whole years up to date, whatever sessions it is about.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import dagster as dg
from dagster_duckdb import DuckDBResource

from trade_analyst_pipeline.capture.take import Outcome
from trade_analyst_pipeline.datasets import DATASETS, STREAMED, TABLES, Dataset
from trade_analyst_pipeline.defs import pictures
from trade_analyst_pipeline.defs.checks import column_metadata, rule_checks, rule_results
from trade_analyst_pipeline.defs.login_foresight import check_login, estimated_duration
from trade_analyst_pipeline.defs.partitions import session_of, session_partitions
from trade_analyst_pipeline.defs.reporting import Event, SessionResult, report_sessions
from trade_analyst_pipeline.defs.resources import SourceResource, StorageResource
from trade_analyst_pipeline.defs.run_tags import TICK_TAG
from trade_analyst_pipeline.defs.standing import TokenResource
from trade_analyst_pipeline.defs.stream_handover import raw_stream_asset
from trade_analyst_pipeline.defs.token import Token, token_asset
from trade_analyst_pipeline.errors import AuthError, CaptureDamagedError
from trade_analyst_pipeline.export import publish_session
from trade_analyst_pipeline.lineage.built import Built, BuiltSeries
from trade_analyst_pipeline.lineage.code_versions import code_version, fingerprint
from trade_analyst_pipeline.lineage.metrics import (
    EXPOSURE,
    FORWARD,
    IMPLIED_VOLATILITY,
    PUT_CALL_RATIO,
    SURFACE_CHECK,
    TERM_STRUCTURE,
    SnapshotMetric,
    build_snapshot_metric,
    refresh_iv_history,
    refresh_iv_rank,
    refresh_put_call_ratio_daily,
    refresh_realized_volatility,
    refresh_volatility_index,
)
from trade_analyst_pipeline.lineage.schemas import METRIC_SCHEMAS, TRADE_SCHEMAS, table_schemas
from trade_analyst_pipeline.lineage.tables import build_tables
from trade_analyst_pipeline.lineage.trade_metrics import TRADE_METRICS
from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.metrics import iv_history, iv_rank, put_call_ratio, realized_volatility, volatility_index
from trade_analyst_pipeline.ops.visible import in_markdown
from trade_analyst_pipeline.schwab.budget import Usage
from trade_analyst_pipeline.settings import Settings
from trade_analyst_pipeline.storage.catalogue import build_catalogue, create_views
from trade_analyst_pipeline.storage.tables import Manifest, TableStore

SINGLE_RUN = dg.BackfillPolicy.single_run()
PROGRESS_EVERY = 20

Source = dg.ResourceParam[SourceResource]
Storage = dg.ResourceParam[StorageResource]
Refresh = Callable[..., BuiltSeries]
Picture = Callable[[TableStore], str]
SessionPicture = Callable[[TableStore, date], str]


def all_assets(settings: Settings) -> list[dg.AssetsDefinition | dg.SourceAsset]:
    """Every asset, in the order the data flows."""
    partitions = session_partitions(settings.start_date)
    return [
        token_asset(),
        *(raw_asset(dataset, partitions) for dataset in DATASETS.values()),
        raw_stream_asset(partitions),
        *(table_asset(dataset, partitions) for dataset in TABLES.values()),
        *snapshot_assets(partitions),
        *trade_assets(partitions),
        *series_assets(),
        exports_asset(partitions),
    ]


def asset_key(stage: str, name: str) -> dg.AssetKey:
    """The key of an asset: `<stage>/<name>`, the same words as its folder."""
    return dg.AssetKey([stage, name])


def sessions_of(context: dg.AssetExecutionContext, now: datetime) -> list[date]:
    """The sessions this step is about; raises for one that has not begun."""
    return [session_of(key, now) for key in context.partition_keys]


def raw_asset(dataset: Dataset, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """`raw/<dataset>`: the session's snapshots in the archive; what is archived already is not asked for again."""
    key = asset_key("raw", dataset.name)

    @dg.asset(
        key=key,
        group_name="raw",
        partitions_def=partitions,
        backfill_policy=SINGLE_RUN,
        description=(
            f"Responses of the {dataset.name} requests of a session, kept as they arrived. {_filled(dataset.name)}"
        ),
        kinds={"raw"},
        op_tags={"dagster/priority": "1"} if dataset.name == "quotes" else None,  # few requests, and the first to age
    )
    def raw(context: dg.AssetExecutionContext, source: Source, storage: Storage, token: Token) -> Iterator[Event]:
        sessions = sessions_of(context, source.now())
        tick = context.run.tags.get(TICK_TAG)
        snapshots = source.plan(dataset.name, sessions, tick=datetime.fromisoformat(tick) if tick else None)
        try:
            _foresee_login(context, token, sessions, lambda: source.has_to_ask(snapshots, storage.archive))
        except AuthError as error:
            source.note_failure(snapshots, storage.archive, error)
            raise
        outcomes, usage = [], Usage()
        for outcome in source.take(snapshots, storage.archive, usage):
            outcomes.append(outcome)
            _report_progress(context, len(outcomes), len(snapshots), "snapshots")
        nothing = _why_nothing(dataset.name, is_watched=source.is_watched(dataset.name))
        results = [_raw_result(day, outcomes, usage, nothing) for day in sessions]
        yield from report_sessions(context, key, [_with_captures(result, storage, dataset.name) for result in results])

    return raw


def _with_captures(result: SessionResult, storage: StorageResource, name: str) -> SessionResult:
    """The result with all captures of its session, which never change, as the version of its data."""
    if result.failure is not None:
        return result
    try:
        ids = "\n".join(sorted(storage.archive.capture_ids(name, result.session_date)))
    except CaptureDamagedError:
        return result
    return replace(result, data_version=hashlib.sha256(ids.encode()).hexdigest())


def _why_nothing(dataset: str, *, is_watched: bool) -> str:
    return "nothing is due yet in this session" if is_watched else f"no symbol is watched in {dataset}"


def _foresee_login(
    context: dg.AssetExecutionContext, token: TokenResource, sessions: Sequence[date], has_to_ask: Callable[[], bool]
) -> None:
    """Say in the run's log that the login ends too soon; raises LoginRequiredError when it is over or missing."""
    takes = estimated_duration(context.instance, context.run.job_name, len(sessions))
    told = check_login(token, takes=takes, days=sessions, has_to_ask=has_to_ask)
    if told is not None:
        context.log.warning(told)


def _report_progress(context: dg.AssetExecutionContext, done: int, total: int, what: str) -> None:
    if done == total or done % PROGRESS_EVERY == 0:
        context.log.info(f"{context.asset_key.to_user_string()}: {done} of {total} {what}")


def _raw_result(session_date: date, outcomes: Sequence[Outcome], usage: Usage, nothing: str) -> SessionResult:
    """What is reported of a session; `nothing` is why there is neither a capture nor a gap."""
    of_session = [outcome for outcome in outcomes if outcome.snapshot.session_date == session_date]
    captures = [capture for outcome in of_session for capture in outcome.captures]
    gaps = [gap for outcome in of_session for gap in outcome.gaps]
    if not any(capture.answer_count for capture in captures):
        reason = gaps[0].detail if gaps else nothing
        return SessionResult(session_date, failure=f"nothing captured: {reason}")
    return SessionResult(
        session_date,
        {
            "responses": sum(capture.record_count for capture in captures),
            "bytes": sum(capture.body_bytes for capture in captures),
            "stored_bytes": sum(capture.stored_bytes for capture in captures),
            "gaps": len(gaps),
            "first_gap": gaps[0].detail if gaps else "none",
            "late": sum(outcome.is_late for outcome in of_session),
            "was_archived": all(outcome.was_archived for outcome in of_session),
            "run_requests": usage.requests,
            "run_busiest_minute": usage.busiest_minute,
            "run_refusals": usage.refusals,
            "from_time": dg.MetadataValue.timestamp(min(capture.started_time for capture in captures)),
            "to_time": dg.MetadataValue.timestamp(max(capture.finished_time for capture in captures)),
        },
    )


def table_asset(dataset: Dataset, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """`tables/<dataset>`: valid, typed rows of the session's captures; bad rows go to quarantine."""
    key = asset_key("tables", dataset.name)

    @dg.asset(
        key=key,
        deps=[asset_key("raw", dataset.source)],
        group_name="tables",
        partitions_def=partitions,
        backfill_policy=SINGLE_RUN,
        check_specs=rule_checks(key, dataset.schema),
        description=(
            f"Typed and validated rows of {dataset.name}; bad rows stand in quarantine/{dataset.name}. "
            f"{_USES[dataset.name]} {_filled(dataset.name)}"
        ),
        metadata=column_metadata(dataset.schema),
        code_version=fingerprint(f"tables/{dataset.name}"),
        kinds={"polars", "parquet"},
    )
    def table(context: dg.AssetExecutionContext, source: Source, storage: Storage) -> Iterator[Event]:
        now = source.now()
        sessions = sessions_of(context, now)
        results = build_tables(storage.data_folder, dataset.name, sessions, workers=storage.workers, created_time=now)
        built = _collect(context, results, len(sessions))
        manifests = storage.tables.manifests("tables", dataset.name)
        reported = [_built_result(result, manifests) for result in built]
        yield from report_sessions(context, key, reported, rule_results(key, dataset.schema, built))

    return table


_USES = {
    "options": "Put/call ratios and implied volatilities are made from them.",
    "quotes": "No metric needs them: they are for SQL and export, and closes_agree checks tables/ohlc against them.",
    "ohlc": "Realised volatility is made from the daily bars.",
    "expirations": "They say which expirations a whole chain has to have.",
    "markets": "They tell half days and holidays as the source sees them, beside the exchange calendar.",
    "instruments": "Who is behind a symbol, and the vendor's fundamentals.",
    "movers": "What moved most shortly before the close.",
    "timesales": "Sides of trades, their probabilities and the sums over intervals are made of it.",
}


_PARTITIONS = "Its partitions are all sessions since start_date, so most may be empty."
_EMPTY = "An empty one was not captured: the simulator gives it when materialised here, a live source only today's."


def _filled(name: str) -> str:
    """Which sessions of a dataset are there, and why others are not: the asset's page counts all partitions alike."""
    if name in STREAMED:
        return f"{_PARTITIONS} The collector `trade-analyst stream` fills them, the sensor closed_segments as it goes."
    if name == "options":
        filled = "`trade-analyst run` fills those of the last capture.history_sessions, the schedules each as it goes."
    else:
        filled = "`trade-analyst run` fills the latest alone, the schedules each as it goes."
    if name == "ohlc":
        return f"{_PARTITIONS} {filled} One capture holds bars of two years: those are stored under their own sessions."
    return f"{_PARTITIONS} {filled} {_EMPTY}"


def _collect(context: dg.AssetExecutionContext, results: Iterator[Built], total: int) -> list[Built]:
    built = []
    for result in results:
        built.append(result)
        _report_progress(context, len(built), total, "sessions")
    return built


def _built_result(built: Built, manifests: Sequence[Manifest]) -> SessionResult:
    """What is reported of a session, with its place among the partitions of the table."""
    if built.status in {"empty", "failed"}:
        return SessionResult(built.session_date, failure=built.detail)
    metadata: dict[str, Any] = {
        "dagster/row_count": built.rows,
        "quarantined": built.quarantined,
        "status": built.status,
        "bytes": built.size_bytes,
        "content_hash": built.content_hash,
        "unknown_fields_and_values": sum(count for what, count in built.seen.items() if what.startswith("unknown_")),
        "seen": dg.MetadataValue.md(_seen_table(built.seen)),
        "picture": dg.MetadataValue.md(pictures.rows_picture(manifests, built.session_date)),
    }
    if built.first_time is not None and built.last_time is not None:
        metadata["from_time"] = dg.MetadataValue.timestamp(built.first_time)
        metadata["to_time"] = dg.MetadataValue.timestamp(built.last_time)
    if built.problems:
        metadata["unusable_responses"] = dg.MetadataValue.md(
            "\n".join(f"- {in_markdown(problem)}" for problem in built.problems[:20])
        )
    return SessionResult(built.session_date, metadata, data_version=built.content_hash)


def _seen_table(seen: Mapping[str, int]) -> str:
    """What the wire showed besides rows, as a table, what is unknown first; docs/counts.md says what each means."""
    if not seen:
        return "nothing besides rows"
    order = sorted(seen, key=lambda what: (not what.startswith("unknown_"), what))
    return "\n".join(
        ["| count | times |", "|---|---|", *(f"| {in_markdown(what)} | {seen[what]:,} |" for what in order)]
    )


def snapshot_assets(partitions: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The metrics of each snapshot, kept by the session."""
    return [
        snapshot_asset(
            PUT_CALL_RATIO,
            partitions,
            "Put/call ratios by volume, open interest, premium and delta: per symbol, expiration and bucket.",
        ),
        snapshot_asset(
            FORWARD, partitions, "Forward price and interest rate of each expiry of a chain, by put-call parity."
        ),
        snapshot_asset(
            IMPLIED_VOLATILITY,
            partitions,
            "Our own implied volatility and Greeks of every contract, or why it has none.",
            by_symbol=pictures.smiles,
        ),
        snapshot_asset(
            TERM_STRUCTURE,
            partitions,
            "Of each expiry: volatility at the money, 25-delta risk reversal and butterfly, skew slope, expected move.",
        ),
        snapshot_asset(
            SURFACE_CHECK,
            partitions,
            "How often the quotes of a snapshot contradict each other, across strikes and expiries, or the vendor.",
        ),
        snapshot_asset(
            EXPOSURE,
            partitions,
            "Gamma and delta exposure of open contracts by strike and expiration, and how much of them has Greeks.",
        ),
    ]


def trade_assets(partitions: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """What is made of the trades of the stream, kept by the session, and its publication."""
    told = {
        "aggressor_side": "Who crossed the spread in each trade by the rule of Lee and Ready, and where it stood.",
        "aggressor_confidence": "The probability that the buyer was the aggressor of each trade.",
        "trade_location": "Volume at bid, mid and ask, and the share bought, per minute, half hour and session.",
    }
    made = [
        snapshot_asset(metric, partitions, told[metric.schema.name], made_from="timesales") for metric in TRADE_METRICS
    ]
    return [*made, classification_asset(partitions)]


def snapshot_asset(
    metric: SnapshotMetric,
    partitions: dg.PartitionsDefinition,
    description: str,
    *,
    made_from: str = "options",
    by_symbol: SessionPicture | None = None,
) -> dg.AssetsDefinition:
    """`metrics/<metric>`: a metric of each snapshot of the session; of the last one a picture of each symbol."""
    schema = metric.schema
    key = asset_key("metrics", schema.name)

    @dg.asset(
        key=key,
        deps=[asset_key(*source) for source in metric.sources],
        group_name="metrics",
        partitions_def=partitions,
        backfill_policy=SINGLE_RUN,
        description=f"{description} {_filled(made_from)}",
        metadata=column_metadata(schema),
        code_version=fingerprint(metric.step),
        kinds={"polars", "parquet"},
    )
    def snapshots(context: dg.AssetExecutionContext, source: Source, storage: Storage) -> Iterator[Event]:
        now = source.now()
        sessions = sessions_of(context, now)
        results = build_snapshot_metric(storage.tables, metric, sessions, created_time=now)
        built = _collect(context, results, len(sessions))
        manifests = storage.tables.manifests("metrics", schema.name)
        reported = [_built_result(result, manifests) for result in built]
        last = next((i for i in reversed(range(len(reported))) if not reported[i].failure), None)
        if by_symbol and last is not None:
            drawn = dg.MetadataValue.md(by_symbol(storage.tables, reported[last].session_date))
            reported[last] = replace(reported[last], metadata={**reported[last].metadata, "by_symbol": drawn})
        yield from report_sessions(context, key, reported)

    return snapshots


def series_assets() -> list[dg.AssetsDefinition]:
    """The metrics kept by the year."""
    return [
        series_asset(
            iv_history.SCHEMA,
            refresh_iv_history,
            [asset_key("tables", "options")],
            "30-day at-the-money implied volatility of each symbol and session, from the best closing snapshot.",
            pictures.iv_history_picture,
            by_symbol=pictures.term_structures,
        ),
        series_asset(
            iv_rank.SCHEMA,
            refresh_iv_rank,
            [asset_key("metrics", "iv_history"), asset_key("metrics", "volatility_index")],
            "IV rank and IV percentile over 63, 126 and 252 sessions.",
            pictures.iv_rank_picture,
            by_symbol=pictures.volatility_histories,
        ),
        series_asset(
            put_call_ratio.DAILY_SCHEMA,
            refresh_put_call_ratio_daily,
            [asset_key("metrics", "put_call_ratio")],
            "Put/call ratios of each session's closing snapshot, and smoothed over 5, 10 and 21 sessions.",
            pictures.put_call_ratio_picture,
            by_symbol=pictures.put_call_histories,
        ),
        series_asset(
            realized_volatility.SCHEMA,
            refresh_realized_volatility,
            [asset_key("tables", "ohlc")],
            "Realised volatility by six estimators over 10, 21, 63 and 252 sessions.",
            pictures.realized_volatility_picture,
        ),
        series_asset(
            volatility_index.SCHEMA,
            refresh_volatility_index,
            [asset_key("tables", "ohlc")],
            "Published volatility indices as series of the symbols they are about, each a series of its own.",
            pictures.volatility_index_picture,
        ),
    ]


def series_asset(
    schema: TableSchema,
    refresh: Refresh,
    deps: Sequence[dg.AssetKey],
    description: str,
    picture: Picture,
    *,
    by_symbol: Picture | None = None,
) -> dg.AssetsDefinition:
    """`metrics/<series>`: a series kept by the year; a run brings it up to date with its source as it stands."""

    @dg.asset(
        key=asset_key("metrics", schema.name),
        deps=deps,
        group_name="metrics",
        description=description,
        metadata=column_metadata(schema),
        code_version=fingerprint(f"metrics/{schema.name}"),
        kinds={"polars", "parquet"},
    )
    def series(source: Source, storage: Storage) -> dg.MaterializeResult[None]:
        built = refresh(storage.tables, created_time=source.now())
        return dg.MaterializeResult(
            data_version=dg.DataVersion(storage.tables.combined_hash("metrics", schema.name)),
            metadata={
                "dagster/row_count": built.rows,
                "sessions": built.sessions,
                "last_session": str(built.last_session),
                "written_years": ", ".join(map(str, built.written_years)) or "none: unchanged",
                "picture": dg.MetadataValue.md(picture(storage.tables)),
                **({"by_symbol": dg.MetadataValue.md(by_symbol(storage.tables))} if by_symbol else {}),
            },
        )

    return series


def exports_asset(partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """`exports/metrics`: the session's metrics as plain files for other programs, and the SQL catalogue."""
    key = asset_key("exports", "metrics")

    @dg.asset(
        key=key,
        deps=[asset_key("metrics", schema.name) for schema in METRIC_SCHEMAS],
        group_name="exports",
        partitions_def=partitions,
        backfill_policy=SINGLE_RUN,
        description=(
            "A session's metrics as Parquet and CSV with a manifest, for readers of plain folders. "
            f"{_PARTITIONS} `trade-analyst run` publishes the latest alone, the schedule end_of_day each; any other "
            "with metrics can be materialised here."
        ),
        code_version=fingerprint("exports/metrics"),
        kinds={"parquet", "csv", "duckdb"},
    )
    def published(
        context: dg.AssetExecutionContext, source: Source, storage: Storage, duckdb: DuckDBResource
    ) -> Iterator[Event]:
        now = source.now()
        results = [_publish(storage.tables, day, now) for day in sessions_of(context, now)]
        build_catalogue(storage.data_folder, declared=table_schemas())
        with duckdb.get_connection() as connection:
            views = create_views(connection, storage.data_folder, declared=table_schemas())
        context.log.info(f"{key.to_user_string()}: {len(results)} sessions published, {len(views)} SQL views")
        yield from report_sessions(context, key, results)

    return published


def classification_asset(partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """`exports/classification`: the session's classified trades as plain files for other programs."""
    key = asset_key("exports", "classification")

    @dg.asset(
        key=key,
        deps=[asset_key("metrics", schema.name) for schema in TRADE_SCHEMAS],
        group_name="exports",
        partitions_def=partitions,
        backfill_policy=SINGLE_RUN,
        description=(
            "A session's classified trades and their sums as Parquet and CSV with a manifest, for readers of plain "
            f"folders. {_filled('timesales')}"
        ),
        code_version=fingerprint("exports/classification"),
        kinds={"parquet", "csv"},
    )
    def classification(context: dg.AssetExecutionContext, source: Source, storage: Storage) -> Iterator[Event]:
        now = source.now()
        results = [_publish(storage.tables, day, now, what="classification") for day in sessions_of(context, now)]
        yield from report_sessions(context, key, results)

    return classification


_PUBLISHED = {"metrics": METRIC_SCHEMAS, "classification": TRADE_SCHEMAS}


def _publish(store: TableStore, day: date, now: datetime, what: str = "metrics") -> SessionResult:
    made_by = code_version(f"exports/{what}")
    published = publish_session(store, day, schemas=_PUBLISHED[what], code_version=made_by, created_time=now, what=what)
    files = [file for table in published.tables for file in table.files]
    return SessionResult(
        day,
        {
            "files": len(files),
            "dagster/row_count": sum(file.row_count for file in files if file.format == "parquet"),
            "bytes": sum(file.size_bytes for file in files),
        },
        data_version=hashlib.sha256("\n".join(table.content_hash for table in published.tables).encode()).hexdigest(),
    )
