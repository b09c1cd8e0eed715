"""What Dagster is given, written by hand: a change of the graph has to be made here too."""

from __future__ import annotations

import re
import shutil
import warnings
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from trade_analyst_pipeline.capture.slots import RUNS_AT_ONCE
from trade_analyst_pipeline.definitions import assemble
from trade_analyst_pipeline.defs.automation import closing_crons, intraday_cron, schedules
from trade_analyst_pipeline.defs.partitions import session_of, session_partitions
from trade_analyst_pipeline.defs.reporting import fail_when_sessions_are_missing
from trade_analyst_pipeline.defs.run_tags import TICK_TAG, URGENCY_TAG
from trade_analyst_pipeline.defs.runs import plan_runs
from trade_analyst_pipeline.errors import SessionNotCapturableError
from trade_analyst_pipeline.settings import Settings, load_settings

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*currently in beta:Warning"),
    pytest.mark.filterwarnings("ignore:Property `OpDefinition.version`:DeprecationWarning"),  # Dagster's own use
]

REPOSITORY = Path(__file__).resolve().parents[1]
ASSETS = {
    *("token", "raw/options", "raw/quotes", "raw/ohlc", "tables/options", "tables/quotes", "tables/ohlc"),
    *("metrics/put_call_ratio", "metrics/put_call_ratio_daily", "metrics/iv_history", "metrics/iv_rank"),
    *(
        "metrics/forward",
        "metrics/implied_volatility",
        "metrics/term_structure",
        "metrics/surface_check",
        "metrics/exposure",
        "metrics/realized_volatility",
        "metrics/volatility_index",
        "exports/metrics",
        "raw/expirations",
        "raw/markets",
        "raw/instruments",
    ),
    *(
        "raw/stream",
        "tables/timesales",
        "raw/movers",
        "tables/expirations",
        "tables/markets",
        "tables/instruments",
        "tables/movers",
    ),
    *("metrics/aggressor_side", "metrics/aggressor_confidence", "metrics/trade_location", "exports/classification"),
}
ONCE_A_DAY = {
    "movers": {"raw/movers", "tables/movers"},
    "reference": {
        *("raw/markets", "raw/expirations", "raw/instruments"),
        *("tables/markets", "tables/expirations", "tables/instruments"),
    },
}
MONDAY, TUESDAY, THANKSGIVING, HALF_DAY = (date(2026, 11, day) for day in (23, 24, 26, 27))


@pytest.fixture
def settings() -> Settings:
    """The settings as shipped."""
    shutil.copy(REPOSITORY / "config.toml", "config.toml")
    return load_settings()


def test_the_graph_is_the_one_written_here(settings: Settings) -> None:
    """Assets, jobs, schedules and sensors."""
    definitions = assemble(settings)
    keys = {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    assert keys == ASSETS
    repository = definitions.get_repository_def()
    named = {
        "history",
        "snapshots",
        "reference",
        "stream",
        "end_of_day",
        "prune_run_records",
        "compact_finished_sessions",
    }
    assert named <= set(repository.job_names)
    assert {schedule.name for schedule in repository.schedule_defs} == {
        *("closing_snapshots", "intraday_snapshots", "reference", "movers", "end_of_day", "prune_run_records"),
        "compact_finished_sessions",
    }
    assert all(schedule.description for schedule in repository.schedule_defs)
    assert {sensor.name for sensor in repository.sensor_defs} == {
        *("failed_runs", "login_ending", "plan_on_record", "closed_segments"),
    }
    checks = {
        key.name for key in definitions.resolve_asset_graph().asset_check_keys if key.asset_key == dg.AssetKey("token")
    }
    assert checks == {"login_lasts"}


def test_beta_parts_of_dagster_are_used_without_a_word(settings: Settings) -> None:
    """Nobody who starts the page or a run is told at each start which parts of Dagster are in beta."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        assert assemble(settings).jobs
    assert [str(warning.message) for warning in shown if "in beta" in str(warning.message)] == []


def test_each_partitioned_asset_says_which_sessions_are_filled(settings: Settings) -> None:
    """The page counts empty partitions as missing; the asset says which are filled by what, and why others are not."""
    definitions = assemble(settings)
    graph = definitions.resolve_asset_graph()
    partitioned = [key for key in graph.get_all_asset_keys() if graph.get(key).partitions_def is not None]
    words = {key.to_user_string(): str(graph.get(key).description) for key in partitioned}
    assert {"raw/options", "tables/quotes", "metrics/put_call_ratio", "exports/metrics"} <= set(words)
    commands = ("`trade-analyst run`", "`trade-analyst stream`")
    assert all("all sessions since start_date" in text for text in words.values())
    assert all(any(command in text for command in commands) for text in words.values())
    assert "those of the last capture.history_sessions" in words["tables/options"]
    assert "the latest alone" in words["raw/quotes"]
    assert "bars of two years" in words["tables/ohlc"]


def test_partitions_are_sessions() -> None:
    """No weekend, no Thanksgiving, the half day after it; and a day that has not begun is refused."""
    keys = session_partitions(date(2025, 11, 24)).get_partition_keys()[:5]
    assert keys == ["2025-11-24", "2025-11-25", "2025-11-26", "2025-11-28", "2025-12-01"]
    now = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)  # still Monday in New York
    assert session_of("2026-11-23", now) == MONDAY
    with pytest.raises(SessionNotCapturableError, match="has not begun"):
        session_of("2026-11-24", now)


def test_schedules_tick_before_each_close(settings: Settings) -> None:
    """15 and 5 minutes before 13:00, 13:15, 16:00 and 16:15; the intraday grid starts at 09:45 and ends at 16:00."""
    assert closing_crons(settings) == [
        *("45 12 * * 1-5", "55 12 * * 1-5", "0 13 * * 1-5", "10 13 * * 1-5"),
        *("45 15 * * 1-5", "55 15 * * 1-5", "0 16 * * 1-5", "10 16 * * 1-5"),
    ]
    grid = intraday_cron(settings)
    assert (grid[0], grid[1], grid[-1]) == ("45 9 * * 1-5", "0,15,30,45 10 * * 1-5", "0 16 * * 1-5")


@pytest.mark.parametrize(
    ("name", "tick", "partition"),
    [
        ("closing_snapshots", datetime(2026, 11, 23, 20, 45, tzinfo=UTC), "2026-11-23"),
        ("closing_snapshots", datetime(2026, 11, 23, 17, 45, tzinfo=UTC), None),
        ("closing_snapshots", datetime(2026, 11, 27, 17, 45, tzinfo=UTC), "2026-11-27"),
        ("intraday_snapshots", datetime(2026, 11, 26, 16, 0, tzinfo=UTC), None),
        ("intraday_snapshots", datetime(2026, 11, 23, 20, 30, tzinfo=UTC), "2026-11-23"),
        ("intraday_snapshots", datetime(2026, 11, 23, 20, 45, tzinfo=UTC), None),  # the run before the close takes all
        ("reference", datetime(2026, 11, 23, 14, 45, tzinfo=UTC), "2026-11-23"),
        ("reference", datetime(2026, 11, 26, 14, 45, tzinfo=UTC), None),
        ("movers", datetime(2026, 11, 23, 20, 55, tzinfo=UTC), "2026-11-23"),
        ("movers", datetime(2026, 11, 23, 17, 55, tzinfo=UTC), None),
        ("movers", datetime(2026, 11, 27, 17, 55, tzinfo=UTC), "2026-11-27"),
        ("movers", datetime(2026, 11, 27, 20, 55, tzinfo=UTC), None),
        ("end_of_day", datetime(2026, 11, 23, 22, 0, tzinfo=UTC), "2026-11-23"),
        ("end_of_day", datetime(2026, 11, 26, 22, 0, tzinfo=UTC), None),
    ],
)
def test_a_tick_asks_for_its_session_or_is_skipped(
    settings: Settings, name: str, tick: datetime, partition: str | None
) -> None:
    """Half days are followed and holidays skipped; a snapshot's run carries the tick it is for."""
    schedule = next(found for found in schedules(settings) if found.name == name)
    repository = assemble(settings).get_repository_def()
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(instance, scheduled_execution_time=tick, repository_def=repository)
        requests = schedule.evaluate_tick(context).run_requests
    assert [request.partition_key for request in requests or []] == ([partition] if partition else [])
    if name in {"reference", "movers"}:
        of_run = [{key.to_user_string() for key in request.asset_selection or []} for request in requests or []]
        assert of_run == ([ONCE_A_DAY[name]] if partition else [])
    elif partition and name != "end_of_day":
        assert requests
        assert requests[0].tags[TICK_TAG] == f"{tick:%Y-%m-%dT%H:%M:%SZ}"


def test_only_new_sessions_and_the_latest_are_run() -> None:
    """Sessions on record are left out, stretches without a hole are one run, and the latest is always run."""
    sessions = [date(2026, 11, day) for day in (16, 17, 18, 19, 20, 23)]
    on_record = {sessions[0], sessions[2], sessions[5]}
    runs = plan_runs(sessions, on_record, assets=["raw/options", "raw/ohlc"], everything=False)
    assert [(run.job, run.sessions) for run in runs] == [
        ("history", (sessions[1],)),
        ("history", tuple(sessions[3:])),
        ("end_of_day", (sessions[5],)),
    ]
    assert runs[-1].assets == ("raw/ohlc",)


def _run_at(schedule_name: str, tick: datetime, settings: Settings) -> dg.RunRequest | None:
    """The run that a schedule asks for at a tick."""
    schedule = next(found for found in schedules(settings) if found.name == schedule_name)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(
            instance, scheduled_execution_time=tick, repository_def=assemble(settings).get_repository_def()
        )
        return next(iter(schedule.evaluate_tick(context).run_requests or []), None)


def test_a_run_holds_what_is_due_at_its_tick_alone(settings: Settings) -> None:
    """A set with quotes every 5 minutes brings runs of quotes between those that have chains too."""
    fast = {"fast": {"symbols": ["/ES"], "datasets": {"quotes": 5}}}
    settings = load_settings(universe={"symbols": ["SPY"], "sets": fast})
    assert intraday_cron(settings)[:2] == ["35,40,45,50,55 9 * * 1-5", "0,5,10,15,20,25,30,35,40,45,50,55 10 * * 1-5"]
    raw = {}
    for minute in (40, 45):
        request = _run_at("intraday_snapshots", datetime(2026, 11, 23, 14, minute, tzinfo=UTC), settings)
        assert request is not None
        raw[minute] = {key.path[1] for key in request.asset_selection or [] if key.path[0] == "raw"}
    assert raw == {40: {"quotes"}, 45: {"quotes", "options"}}


def test_nothing_is_run_for_datasets_without_a_symbol() -> None:
    """With a set of futures alone there are quotes, hours and movers, and neither chains nor bars."""
    fast = {"fast": {"symbols": ["/ES"], "datasets": {"quotes": 5}}}
    settings = load_settings(universe={"symbols": [], "sets": fast})
    assert _run_at("end_of_day", datetime(2026, 11, 23, 22, 0, tzinfo=UTC), settings) is None
    reference = _run_at("reference", datetime(2026, 11, 23, 14, 45, tzinfo=UTC), settings)
    assert reference is not None
    assert {key.path[1] for key in reference.asset_selection or []} == {"markets"}
    runs = plan_runs([MONDAY], (), assets=None, everything=False, is_available=lambda name, _: name == "quotes")
    assert [run.job for run in runs] == ["snapshots"]


def test_each_class_of_runs_has_places_of_its_own(settings: Settings) -> None:
    """Every run of a schedule bears one of the classes that dagster.yaml gives places to."""
    limit = re.compile(rf"{{key: {URGENCY_TAG}, value: ([a-z]+), limit: ([0-9]+)}}")
    text = (REPOSITORY / "dagster.yaml").read_text(encoding="utf-8")
    assert dict(limit.findall(text)) == {"closing": "3", "intraday": "2", "backfill": "2"}
    assert {priority.name.lower(): places for priority, places in RUNS_AT_ONCE.items()} == {
        "closing": 3,
        "intraday": 2,
        "backfill": 2,
    }
    assert re.findall(r"max_concurrent_runs: (-?[0-9]+)", text) == ["-1"]  # no total that could keep a class waiting
    ticks = {
        "closing_snapshots": (datetime(2026, 11, 23, 20, 55, tzinfo=UTC), "closing"),
        "intraday_snapshots": (datetime(2026, 11, 23, 15, 0, tzinfo=UTC), "intraday"),
        "reference": (datetime(2026, 11, 23, 14, 45, tzinfo=UTC), "backfill"),
        "movers": (datetime(2026, 11, 23, 20, 55, tzinfo=UTC), "intraday"),
        "end_of_day": (datetime(2026, 11, 23, 22, 0, tzinfo=UTC), "backfill"),
    }
    for name, (tick, urgency) in ticks.items():
        request = _run_at(name, tick, settings)
        assert request is not None
        assert request.tags[URGENCY_TAG] == urgency


def test_every_job_is_least_urgent_unless_a_schedule_says_otherwise(settings: Settings) -> None:
    """What a person starts from the page of a job, and housekeeping, takes no place of the snapshots before a close."""
    repository = assemble(settings).get_repository_def()
    for name in ("history", "snapshots", "reference", "end_of_day", "prune_run_records", "compact_finished_sessions"):
        assert repository.get_job(name).run_tags[URGENCY_TAG] == "backfill"


def test_reference_is_run_for_the_latest_session_unless_it_is_settled() -> None:
    """What is taken once a session is run once for the latest one; again when it is named, or everything is."""
    sessions = [date(2026, 11, day) for day in (20, 23)]
    settled = {"markets", "expirations", "instruments"}

    def reference(**asked: Any) -> list[str]:
        named = {"assets": None, "everything": False} | asked
        return [key for run in plan_runs(sessions, (), **named) if run.job == "reference" for key in run.assets]

    assert len(reference()) == 8
    assert reference(settled=settled) == ["raw/movers", "tables/movers"]
    assert reference(settled={*settled, "movers"}) == []
    assert len(reference(settled=settled, everything=True)) == 8
    assert reference(settled=settled, assets=["raw/markets", "raw/quotes"]) == ["raw/markets"]
    assert reference(is_available=lambda name, _: name != "movers") == reference()[:6]


def test_missing_sessions_fail_the_check_by_name() -> None:
    """Nothing missing passes; anything missing fails and is listed with its reason."""
    assert fail_when_sessions_are_missing({}).passed
    with pytest.raises(dg.Failure, match="2026-11-23: too few rows"):
        fail_when_sessions_are_missing({MONDAY: "too few rows"})
