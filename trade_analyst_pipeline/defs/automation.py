"""When things run: jobs, schedules and sensors, all in New York time, following the calendar on half days.

Schedules are written out by hand: one derived from the partitions would ask for the next session on days without
one. They are on by default on the simulator; for a live source a person turns them on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product

import dagster as dg
import msgspec

from trade_analyst_pipeline.capture.plan import Snapshot, closing_due, intraday_due, once_a_session
from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.defs.pruning import prune_run_records
from trade_analyst_pipeline.defs.run_tags import LEAST_URGENT, TICK_TAG, URGENCY_TAG
from trade_analyst_pipeline.defs.token import Token, foresee, login_events, remembered
from trade_analyst_pipeline.errors import SettingsError
from trade_analyst_pipeline.market.sessions import NEW_YORK, current_session
from trade_analyst_pipeline.ops.login_outlook import standing
from trade_analyst_pipeline.settings import MOMENTS, Settings

MAX_RUN_SECONDS = 7200
_ZONE = "America/New_York"
_CLOSES = ("16:00", "16:15", "13:00", "13:15")
_LOG = logging.getLogger("trade_analyst.runs")
_LOGIN_LOG = logging.getLogger("trade_analyst.login")

CHAIN_ASSETS = (
    "raw/options",
    "tables/options",
    "metrics/put_call_ratio",
    "metrics/put_call_ratio_daily",
    "metrics/iv_history",
    "metrics/iv_rank",
)
QUOTE_ASSETS = ("raw/quotes", "tables/quotes")
REFERENCE_DATASETS = ("markets", "expirations", "instruments")
MOVER_ASSETS = ("raw/movers", "tables/movers")
REFERENCE_ASSETS = (*(f"{stage}/{name}" for name in REFERENCE_DATASETS for stage in ("raw", "tables")), *MOVER_ASSETS)
_MOMENT_ASSETS = {"quotes": QUOTE_ASSETS, "options": CHAIN_ASSETS}
END_OF_DAY_ASSETS = ("raw/ohlc", "tables/ohlc", "metrics/realized_volatility", "exports/metrics")


def jobs() -> list[dg.UnresolvedAssetJobDefinition]:
    """`history`: chains and all metrics on them; `snapshots`: the same with quotes; `reference`; `end_of_day`."""
    return [
        _asset_job("history", CHAIN_ASSETS, "Option chains of a range of sessions, and the metrics on them."),
        _asset_job("snapshots", (*QUOTE_ASSETS, *CHAIN_ASSETS), "Quotes and option chains as they stand."),
        _asset_job("reference", REFERENCE_ASSETS, "Market hours, expirations, instruments and movers of the session."),
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
    """Closing snapshots, intraday snapshots, reference data, movers, end of day, pruning."""
    return [
        _snapshot_schedule("closing", closing_crons(settings), settings, _CLOSING_WORDS),
        _snapshot_schedule("intraday", intraday_cron(settings), settings, _INTRADAY_WORDS),
        _once_a_day("reference", ["45 9 * * 1-5"], settings, REFERENCE_DATASETS, _REFERENCE_WORDS),
        _once_a_day("movers", movers_crons(settings), settings, ("movers",), _MOVERS_WORDS),
        _end_of_day_schedule(settings),
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
    return _crons_before(_CLOSES, settings.capture.closing_snapshot_minutes)


def _crons_before(closes: Iterable[str], minutes_before: Iterable[int]) -> list[str]:
    moments = set()
    for close, minutes in product(closes, minutes_before):
        instant = datetime.strptime(close, "%H:%M") - timedelta(minutes=minutes)  # noqa: DTZ007 - a time of day
        moments.add((instant.hour, instant.minute))
    return [f"{minute} {hour} * * 1-5" for hour, minute in sorted(moments)]


def intraday_cron(settings: Settings) -> list[str]:
    """Cron lines for all minutes at which some symbol's intraday snapshot can be due; the grids start at 09:30."""
    steps = {every for name in MOMENTS for every in settings.cadences(name).values() if isinstance(every, int)}
    opened, closed = 9 * 60 + 30, 16 * 60 + 15
    by_hour: dict[int, list[int]] = {}
    for minute in sorted({minute for step in steps for minute in range(opened + step, closed, step)}):
        by_hour.setdefault(minute // 60, []).append(minute % 60)
    return [f"{','.join(map(str, of_hour))} {hour} * * 1-5" for hour, of_hour in by_hour.items()]


def _closes_at(tick: datetime, settings: Settings) -> bool:
    """Whether some closing snapshot is due at a tick: then the run of closing snapshots takes all that is due."""
    minutes = settings.capture.closing_snapshot_minutes
    return any(closing_due(name, tick, settings.universe.symbols_of(name), minutes_before=minutes) for name in MOMENTS)


def _due_at(dataset: str, tick: datetime, settings: Settings) -> list[Snapshot]:
    cadences, minutes = settings.cadences(dataset), settings.capture.closing_snapshot_minutes
    closing = closing_due(dataset, tick, tuple(cadences), minutes_before=minutes)
    return [*closing, *intraday_due(dataset, tick, cadences, minutes_before=minutes)]


_CLOSING_WORDS = (
    "Quotes and chains shortly before each product's close, then tables and metrics; the best valid snapshot becomes "
    "the session's value. Ticks at which no product of the watch list closes are skipped, half days followed."
)
_INTRADAY_WORDS = "Quotes and chains through the session, added to the session's partition, then tables and metrics."


def _snapshot_schedule(urgency: str, crons: list[str], settings: Settings, description: str) -> dg.ScheduleDefinition:
    """A schedule of runs that take all that is due at a tick: `closing` where a closing snapshot is, else `intraday`.

    A run holds the assets of the datasets due, and asks for quotes, which are few requests, before chains.
    """
    name = f"{urgency}_snapshots"

    @dg.schedule(
        name=name,
        job_name="snapshots",
        cron_schedule=crons,
        execution_timezone=_ZONE,
        default_status=_default_status(settings),
        description=description,
    )
    def evaluate(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        tick = context.scheduled_execution_time
        is_mine = _closes_at(tick, settings) == (urgency == "closing")
        keys = [key for dataset, of in _MOMENT_ASSETS.items() if _due_at(dataset, tick, settings) for key in of]
        if not keys or not is_mine:
            return dg.SkipReason(f"nothing is due at {tick.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York")
        moment = f"{tick.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        return dg.RunRequest(
            run_key=f"{name}/{moment}",
            partition_key=tick.astimezone(NEW_YORK).date().isoformat(),
            tags={TICK_TAG: moment, URGENCY_TAG: urgency},
            asset_selection=[dg.AssetKey(key.split("/")) for key in keys],
        )

    return evaluate


def movers_crons(settings: Settings) -> list[str]:
    """One cron line for the last closing snapshot before each hour at which stocks may close."""
    return _crons_before(("16:00", "13:00"), [min(settings.capture.closing_snapshot_minutes)])


_REFERENCE_WORDS = "Market hours, expirations and instruments, a quarter of an hour after the open; once a session."
_MOVERS_WORDS = (
    "Movers shortly before the stocks' close, half days followed: after it the source takes the close before for 0."
)


def _once_a_day(
    name: str, crons: list[str], settings: Settings, datasets: Sequence[str], description: str
) -> dg.ScheduleDefinition:
    """A schedule that takes these datasets of the job `reference` in the minute they are planned for."""
    watched = [name for name in datasets if DATASETS[name].subjects or settings.universe.symbols_of(name)]
    keys = [dg.AssetKey([stage, dataset]) for dataset in watched for stage in ("raw", "tables")]

    @dg.schedule(
        name=name,
        job_name="reference",
        cron_schedule=crons,
        execution_timezone=_ZONE,
        default_status=_default_status(settings),
        description=description,
    )
    def evaluate(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        tick = context.scheduled_execution_time
        session, minutes = current_session(tick), settings.capture.closing_snapshot_minutes
        if session is None:
            return dg.SkipReason("the exchange is closed today")
        if once_a_session(datasets[0], session, (), minutes_before=minutes).scheduled_time != tick:
            return dg.SkipReason(f"nothing is due at {tick.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York")
        return dg.RunRequest(
            run_key=f"{name}/{session}",
            partition_key=session.isoformat(),
            tags=LEAST_URGENT,
            asset_selection=keys,
        )

    return evaluate


def _end_of_day_schedule(settings: Settings) -> dg.ScheduleDefinition:
    @dg.schedule(
        name="end_of_day",
        job_name="end_of_day",
        cron_schedule="0 17 * * 1-5",
        execution_timezone=_ZONE,
        default_status=_default_status(settings),
        description="Final bars of the session, realised volatility and exports; skipped on days without a session.",
    )
    def evaluate(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        session = current_session(context.scheduled_execution_time)
        if session is None:
            return dg.SkipReason("the exchange is closed today")
        if not settings.universe.symbols_of("ohlc"):
            return dg.SkipReason("no symbol is watched whose bars are taken")
        return dg.RunRequest(run_key=f"end_of_day/{session}", partition_key=session.isoformat(), tags=LEAST_URGENT)

    return evaluate


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
