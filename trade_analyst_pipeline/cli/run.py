"""`trade-analyst run`: the main job, from log-in to a table of what came out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from trade_analyst_pipeline.cli.shown import parse_session

if TYPE_CHECKING:
    from trade_analyst_pipeline.settings import Settings


def run(
    from_session: Annotated[
        str | None, typer.Option("--from", help="First session, YYYY-MM-DD. [capture.history_sessions back]")
    ] = None,
    to_session: Annotated[str | None, typer.Option("--to", help="Last session, YYYY-MM-DD. [the latest]")] = None,
    assets: Annotated[
        str | None, typer.Option(help="Only these assets, comma-separated, such as raw/options,tables/options.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also sessions that are on record already.")] = False,
) -> None:
    """Capture, build tables and metrics through Dagster, for the latest session and the history before it.

    Sessions on record are not run again, and what is archived is never asked for again. Days between the two dates
    on which the exchange is closed are passed over.
    """
    from trade_analyst_pipeline.cli.dagster_instance import choose_instance
    from trade_analyst_pipeline.cli.source import running_source
    from trade_analyst_pipeline.cli.summary import show_summary
    from trade_analyst_pipeline.settings import load_settings

    settings = load_settings()
    sessions = _sessions(settings, from_session, to_session)
    choose_instance(settings)
    with running_source(settings) as settings:
        _run(settings, sessions, assets.split(",") if assets else None, everything=everything)
    show_summary(settings, sessions)


def _sessions(settings: Settings, first: str | None, last: str | None) -> list[date]:
    """The sessions asked for; wrong use when there is none or one lies outside the partitions."""
    from trade_analyst_pipeline.market.sessions import latest_complete_session, sessions, sessions_ending

    start, end = parse_session(first, "--from"), parse_session(last, "--to")
    latest = latest_complete_session(datetime.now(UTC))
    end = end or latest
    found = sessions(start, end) if start else sessions_ending(end, settings.capture.history_sessions)
    found = [day for day in found if day >= settings.start_date]
    if not found or end > datetime.now(UTC).date():
        message = (
            f"no session of the exchange from {start or settings.start_date} to {end}; "
            f"the latest complete one is {latest}"
        )
        raise typer.BadParameter(message, param_hint="--from/--to")
    return found


def _run(settings: Settings, sessions: Sequence[date], assets: Sequence[str] | None, *, everything: bool) -> None:
    import warnings

    import dagster as dg

    warnings.filterwarnings("ignore", message=".*currently in beta")
    from trade_analyst_pipeline.definitions import assemble
    from trade_analyst_pipeline.defs.runs import (
        HISTORY_PARTITIONED,
        execute,
        foresee_login,
        materialized_sessions,
        plan_runs,
    )

    definitions = assemble(settings)
    with dg.DagsterInstance.get() as instance:
        on_record = materialized_sessions(instance, HISTORY_PARTITIONED)
        runs = plan_runs(sessions, on_record, assets=assets, everything=everything)
        if (told := foresee_login(instance, settings, runs)) is not None:
            typer.echo(f"Warning: {told}", err=True)
        for planned in runs:
            _announce(planned.job, planned.sessions)
            started = time.monotonic()
            execute(definitions, instance, planned)
            typer.echo(f"  {planned.job} took {time.monotonic() - started:.1f} s", err=True)


def _announce(job: str, sessions: Sequence[date]) -> None:
    span = (
        f"session {sessions[0]}" if len(sessions) == 1 else f"{len(sessions)} sessions {sessions[0]} to {sessions[-1]}"
    )
    typer.echo(f"{job}: {span}", err=True)
