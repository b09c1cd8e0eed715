"""When things run: jobs, schedules and sensors, all in New York time, following the calendar on half days.

Schedules are written out by hand: one derived from the partitions would ask for the next session on days without
one. They are on by default on the simulator; for a live source a person turns them on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
import msgspec

from trade_analyst_pipeline.capture.plan import AFTER_THE_OPEN, END_OF_DAY_DELAY, moments_due, once_a_session
from trade_analyst_pipeline.capture.urgency import urgency_of_run
from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.defs.compacting import compact_finished_sessions
from trade_analyst_pipeline.defs.pruning import prune_run_records
from trade_analyst_pipeline.defs.run_tags import LEAST_URGENT, TICK_TAG, urgency_tag
from trade_analyst_pipeline.defs.stream_handover import JOB, STREAM_ASSETS
from trade_analyst_pipeline.defs.token import Token, foresee, login_events, remembered
from trade_analyst_pipeline.errors import SettingsError
from trade_analyst_pipeline.market.sessions import LATE_CLOSE_DELAY, NEW_YORK, current_session
from trade_analyst_pipeline.ops.login_outlook import standing
from trade_analyst_pipeline.schwab.budget import Priority
from trade_analyst_pipeline.settings import MOMENTS, Settings

MAX_RUN_SECONDS = 7200
_ZONE = "America/New_York"
_OPEN = timedelta(hours=9, minutes=30)  # since midnight New York, as all times of day here
_CLOSES = (timedelta(hours=16), timedelta(hours=13))  # of stocks; on a half day
_LATE_CLOSES = tuple(close + LATE_CLOSE_DELAY for close in _CLOSES)
_LOG = logging.getLogger("trade_analyst.runs")
_LOGIN_LOG = logging.getLogger("trade_analyst.login")

CHAIN_ASSETS = (
    "raw/options",
    "tables/options",
    "metrics/put_call_ratio",
    "metrics/forward",
    "metrics/implied_volatility",
    "metrics/term_structure",
    "metrics/surface_check",
    "metrics/exposure",
    "metrics/put_call_ratio_daily",
    "metrics/iv_history",
    "metrics/iv_rank",
)
QUOTE_ASSETS = ("raw/quotes", "tables/quotes")
REFERENCE_DATASETS = ("markets", "expirations", "instruments")
MOVER_ASSETS = ("raw/movers", "tables/movers")
REFERENCE_ASSETS = (*(f"{stage}/{name}" for name in REFERENCE_DATASETS for stage in ("raw", "tables")), *MOVER_ASSETS)
_MOMENT_ASSETS = {"quotes": QUOTE_ASSETS, "options": CHAIN_ASSETS}
END_OF_DAY_ASSETS = (
    "raw/ohlc",
    "tables/ohlc",
    "metrics/realized_volatility",
    "metrics/volatility_index",
    "metrics/iv_rank",
    "exports/metrics",
)


def jobs() -> list[dg.UnresolvedAssetJobDefinition]:
    """Chains and metrics of a range, snapshots with quotes, reference data, segments of the stream, end of day."""
    return [
        _asset_job("history", CHAIN_ASSETS, "Option chains of a range of sessions, and the metrics on them."),
        _asset_job("snapshots", (*QUOTE_ASSETS, *CHAIN_ASSETS), "Quotes and option chains as they stand."),
        _asset_job("reference", REFERENCE_ASSETS, "Market hours, expirations, instruments and movers of the session."),
        _asset_job(JOB, STREAM_ASSETS, "Segments of the stream as they are sealed, and the trades in them."),
        _asset_job("end_of_day", END_OF_DAY_ASSETS, "Final bars, realised volatility, and the day's exports."),
    ]


def _asset_job(name: str, keys: Sequence[str], description: str) -> dg.UnresolvedAssetJobDefinition:
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*keys),
        description=description,
        executor_def=dg.in_process_executor,
        tags={"dagster/max_runtime": str(MAX_RUN_SECONDS), **LEAST_URGENT},
    )


def schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Closing snapshots, intraday snapshots, reference data, movers, end of day, compaction, pruning."""
    return [
        _snapshot_schedule(Priority.CLOSING, closing_crons(settings), settings, _CLOSING_WORDS),
        _snapshot_schedule(Priority.INTRADAY, intraday_cron(settings), settings, _INTRADAY_WORDS),
        _once_a_day("reference", _crons([_OPEN + AFTER_THE_OPEN]), settings, REFERENCE_DATASETS, _REFERENCE_WORDS),
        _once_a_day("movers", movers_crons(settings), settings, ("movers",), _MOVERS_WORDS),
        _end_of_day_schedule(settings),
        dg.ScheduleDefinition(
            name="compact_finished_sessions",
            job=compact_finished_sessions,
            cron_schedule="45 4 * * *",
            execution_timezone=_ZONE,
            default_status=_default_status(settings),
            description="Makes the captures of each session before today's one file; replaced table files leave.",
        ),
        dg.ScheduleDefinition(
            name="prune_run_records",
            job=prune_run_records,
            cron_schedule="30 4 * * *",
            execution_timezone=_ZONE,
            default_status=_default_status(settings),
            description="Deletes run records older than 30 days; each partition's latest materialisation stays.",
        ),
    ]


def closing_crons(settings: Settings) -> list[str]:
    """One cron line for each minute at which some product's closing snapshot can be due."""
    return _crons_before((*_CLOSES, *_LATE_CLOSES), settings.capture.closing_snapshot_minutes)


def _crons_before(closes: Sequence[timedelta], minutes_before: Iterable[int]) -> list[str]:
    return _crons(close - timedelta(minutes=minutes) for minutes in minutes_before for close in closes)


def _crons(times: Iterable[timedelta]) -> list[str]:
    """One cron line for each time of day, on weekdays."""
    moments = sorted({divmod(time // timedelta(minutes=1), 60) for time in times})
    return [f"{minute} {hour} * * 1-5" for hour, minute in moments]


def intraday_cron(settings: Settings) -> list[str]:
    """Cron lines for all minutes at which some symbol's intraday snapshot can be due; the grids start at the open."""
    steps = {every for name in MOMENTS for every in settings.cadences(name).values() if isinstance(every, int)}
    opened, closed = (time // timedelta(minutes=1) for time in (_OPEN, _LATE_CLOSES[0]))
    by_hour: dict[int, list[int]] = {}
    for minute in sorted({minute for step in steps for minute in range(opened + step, closed, step)}):
        by_hour.setdefault(minute // 60, []).append(minute % 60)
    return [f"{','.join(map(str, of_hour))} {hour} * * 1-5" for hour, of_hour in by_hour.items()]


def _schedule(
    name: str,
    job: str,
    crons: list[str],
    settings: Settings,
    description: str,
    evaluate: Callable[[datetime], dg.RunRequest | dg.SkipReason],
) -> dg.ScheduleDefinition:
    """A schedule of a job in New York time: `evaluate` says what is run at a tick."""

    def at_tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        return evaluate(context.scheduled_execution_time)

    return dg.ScheduleDefinition(
        name=name,
        job_name=job,
        cron_schedule=crons,
        execution_timezone=_ZONE,
        default_status=_default_status(settings),
        description=description,
        execution_fn=at_tick,
    )


def _nothing_due(tick: datetime) -> dg.SkipReason:
    return dg.SkipReason(f"nothing is due at {tick.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York")


_CLOSING_WORDS = (
    "Quotes and chains shortly before each product's close, then tables and metrics; the best valid snapshot becomes "
    "the session's value. Ticks at which no product of the watch list closes are skipped, half days followed."
)
_INTRADAY_WORDS = "Quotes and chains through the session, added to the session's partition, then tables and metrics."


def _snapshot_schedule(
    place: Priority, crons: list[str], settings: Settings, description: str
) -> dg.ScheduleDefinition:
    """A schedule of runs that take all that is due at a tick: those with their place among runs of that class.

    A run holds the assets of the datasets due, and asks for quotes, which are few requests, before chains.
    """
    name, minutes = f"{place.name.lower()}_snapshots", settings.capture.closing_snapshot_minutes

    def evaluate(tick: datetime) -> dg.RunRequest | dg.SkipReason:
        due = {each: moments_due(each, tick, settings.cadences(each), minutes_before=minutes) for each in MOMENTS}
        snapshots = [snapshot for of_dataset in due.values() for snapshot in of_dataset]
        if not snapshots or urgency_of_run(snapshots, minutes_before=minutes) is not place:
            return _nothing_due(tick)
        moment = f"{tick.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        keys = [key for dataset, of_dataset in _MOMENT_ASSETS.items() if due[dataset] for key in of_dataset]
        return dg.RunRequest(
            run_key=f"{name}/{moment}",
            partition_key=tick.astimezone(NEW_YORK).date().isoformat(),
            tags={TICK_TAG: moment, **urgency_tag(place)},
            asset_selection=[dg.AssetKey(key.split("/")) for key in keys],
        )

    return _schedule(name, "snapshots", crons, settings, description, evaluate)


def movers_crons(settings: Settings) -> list[str]:
    """One cron line for the last closing snapshot before each hour at which stocks may close."""
    return _crons_before(_CLOSES, [min(settings.capture.closing_snapshot_minutes)])


_REFERENCE_WORDS = "Market hours, expirations and instruments, a quarter of an hour after the open; once a session."
_MOVERS_WORDS = (
    "Movers shortly before the stocks' close, half days followed: after it the source takes the close before for 0."
)


def _once_a_day(
    name: str, crons: list[str], settings: Settings, datasets: Sequence[str], description: str
) -> dg.ScheduleDefinition:
    """A schedule that takes these datasets of the job `reference` in the minute they are planned for."""
    minutes = settings.capture.closing_snapshot_minutes
    watched = [name for name in datasets if DATASETS[name].subjects or settings.universe.symbols_of(name)]
    keys = [dg.AssetKey([stage, dataset]) for dataset in watched for stage in ("raw", "tables")]

    def evaluate(tick: datetime) -> dg.RunRequest | dg.SkipReason:
        session = current_session(tick)
        if session is None:
            return dg.SkipReason("the exchange is closed today")
        snapshots = [once_a_session(dataset, session, (), minutes_before=minutes) for dataset in datasets]
        if snapshots[0].scheduled_time != tick:
            return _nothing_due(tick)
        return dg.RunRequest(
            run_key=f"{name}/{session}",
            partition_key=session.isoformat(),
            tags=urgency_tag(urgency_of_run(snapshots, minutes_before=minutes)),
            asset_selection=keys,
        )

    return _schedule(name, "reference", crons, settings, description, evaluate)


_END_OF_DAY_WORDS = "Final bars of the session, realised volatility and exports; skipped on days without a session."


def _end_of_day_schedule(settings: Settings) -> dg.ScheduleDefinition:
    def evaluate(tick: datetime) -> dg.RunRequest | dg.SkipReason:
        session = current_session(tick)
        if session is None:
            return dg.SkipReason("the exchange is closed today")
        if not settings.universe.symbols_of("ohlc"):
            return dg.SkipReason("no symbol is watched whose bars are taken")
        return dg.RunRequest(run_key=f"end_of_day/{session}", partition_key=session.isoformat(), tags=LEAST_URGENT)

    crons = _crons([_LATE_CLOSES[0] + END_OF_DAY_DELAY])
    return _schedule("end_of_day", "end_of_day", crons, settings, _END_OF_DAY_WORDS, evaluate)


def _default_status(settings: Settings) -> dg.DefaultScheduleStatus:
    if settings.environment == "simulate":
        return dg.DefaultScheduleStatus.RUNNING
    return dg.DefaultScheduleStatus.STOPPED


@dg.run_failure_sensor(name="failed_runs", default_status=dg.DefaultSensorStatus.RUNNING)
def failed_runs(context: dg.RunFailureSensorContext) -> None:
    """Write each failed run to the log: its job, its sessions and the first line of what went wrong."""
    run = context.dagster_run
    sessions = run.tags.get("dagster/partition") or run.tags.get("dagster/asset_partition_range_start", "no session")
    first_line = (context.failure_event.message or "no message").splitlines()[0]
    _LOG.error("run %s of job %s failed (%s): %s", run.run_id, run.job_name, sessions, first_line)


@dg.sensor(
    name="login_ending",
    minimum_interval_seconds=600,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Warns 48 and 12 hours before the login at the source ends, and when it is over or cannot be read.",
)
def login_ending(context: dg.SensorEvaluationContext, token: Token) -> dg.SensorResult | dg.SkipReason:
    """Look at the stored login: warn in the log, observe `token` and evaluate its check when there is news."""
    try:
        login, now = token.login(), token.now()
    except SettingsError as error:
        return dg.SkipReason(str(error))
    foresight = foresee(login, now, remembered(context.cursor))
    if foresight.warning is not None:
        _LOGIN_LOG.log(logging.ERROR if foresight.is_over else logging.WARNING, foresight.warning)
    return dg.SensorResult(
        skip_reason=foresight.warning or standing(login, now),
        cursor=msgspec.json.encode(foresight.memory).decode(),
        asset_events=login_events(login, now) if foresight.observe else [],
    )
