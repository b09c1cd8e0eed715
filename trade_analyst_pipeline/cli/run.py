"""`trade-analyst run`: the main job, from log-in to a table of what came out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trade_analyst_pipeline.cli.shown import parse_session

if TYPE_CHECKING:
    from trade_analyst_pipeline.defs.resources import SourceResource
    from trade_analyst_pipeline.settings import Settings

RANGE_OPTIONS = "--from/--to"


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
    on which the exchange is closed are passed over. A live source has chains and quotes of its current session only.
    """
    from trade_analyst_pipeline.cli.dagster_instance import choose_instance
    from trade_analyst_pipeline.cli.exclusive import only_run
    from trade_analyst_pipeline.cli.source import running_source
    from trade_analyst_pipeline.cli.summary import show_summary
    from trade_analyst_pipeline.defs.resources import SourceResource
    from trade_analyst_pipeline.settings import load_settings

    settings = load_settings()
    picked = _assets(assets)
    sessions = _sessions(settings, SourceResource(settings), from_session, to_session)
    choose_instance(settings)
    try:
        with only_run(settings.data_folder), running_source(settings) as running:
            _announce_source(SourceResource(running))
            named = from_session is not None or to_session is not None
            problem = _run(running, sessions, picked, everything=everything, is_range_named=named)
    except KeyboardInterrupt:
        typer.echo(
            f"\nStopped. What was archived and built until then stands in {settings.data_folder}. Run the command "
            "again to go on: only what is missing is asked for.",
            err=True,
        )
        raise typer.Exit(1) from None
    show_summary(settings, sessions)
    if problem is not None:
        raise problem


def _assets(text: str | None) -> list[str] | None:
    """The asset keys named, None for all; wrong use when one is unknown."""
    from trade_analyst_pipeline.defs.automation import (
        CHAIN_ASSETS,
        END_OF_DAY_ASSETS,
        QUOTE_ASSETS,
        REFERENCE_ASSETS,
    )

    if text is None:
        return None
    known = (*CHAIN_ASSETS, *QUOTE_ASSETS, *REFERENCE_ASSETS, *END_OF_DAY_ASSETS)
    picked = [key.strip() for key in text.split(",")]
    unknown = [repr(key) for key in picked if key not in known]
    if unknown:
        message = f"no asset {' or '.join(unknown)}; choose from {', '.join(known)}"
        raise typer.BadParameter(message, param_hint="--assets")
    return picked


def _sessions(settings: Settings, source: SourceResource, first: str | None, last: str | None) -> list[date]:
    """The sessions asked for; wrong use when there is none, one has not begun, or all lie before the partitions."""
    from trade_analyst_pipeline.capture.plan import not_begun
    from trade_analyst_pipeline.market.sessions import latest_complete_session, sessions, sessions_ending

    now = source.now()
    start, end = parse_session(first, "--from"), parse_session(last, "--to")
    latest = source.shown_session() or latest_complete_session(now)
    end = end or latest
    found = sessions(start, end) if start else sessions_ending(end, settings.capture.history_sessions)
    if not found:
        message = f"no session of the exchange from {start} to {end}; the latest one to be had is {latest}"
        raise typer.BadParameter(message, param_hint=RANGE_OPTIONS)
    if (problem := not_begun(found[-1], now)) is not None:
        message = f"{problem}. The latest session to be had is {latest}"
        raise typer.BadParameter(message, param_hint=RANGE_OPTIONS)
    kept = [day for day in found if day >= settings.start_date]
    if not kept or (start and len(kept) < len(found)):
        reason = f"sessions before start_date ({settings.start_date}) have no partition; set start_date in config.toml"
        if not kept:
            raise typer.BadParameter(reason, param_hint=RANGE_OPTIONS)
        typer.echo(f"{len(found) - len(kept)} sessions left out: {reason} to have them too.", err=True)
    return kept


def _run(
    settings: Settings,
    sessions: Sequence[date],
    assets: Sequence[str] | None,
    *,
    everything: bool,
    is_range_named: bool,
) -> Exception | None:
    """Run what is to be done, each job whatever becomes of the others; returns what failed, None when all is well.

    Sessions that were named and can be had no more are recorded as gaps.
    """
    import warnings

    warnings.filterwarnings("ignore", message=".*currently in beta")
    from trade_analyst_pipeline.definitions import assemble
    from trade_analyst_pipeline.defs import runs as planning
    from trade_analyst_pipeline.defs.resources import SourceResource, StorageResource
    from trade_analyst_pipeline.errors import RunFailedError

    definitions, source, archive = assemble(settings), SourceResource(settings), StorageResource(settings).archive
    problems = []
    with planning.open_instance(Path.cwd()) as instance:
        on_record = planning.materialized_sessions(instance, planning.HISTORY_PARTITIONED).intersection(sessions)
        incomplete = planning.incomplete_sessions(source, archive, on_record)
        runs = planning.plan_runs(
            sessions,
            on_record.difference(incomplete),
            assets=assets,
            everything=everything,
            is_available=partial(planning.is_available, source, archive),
            settled=planning.settled_datasets(instance, source, StorageResource(settings), sessions[-1]),
        )
        _announce_lost(planning.record_lost_sessions(source, archive, sessions) if is_range_named else [])
        if (told := planning.foresee_login(instance, settings, runs)) is not None:
            typer.echo(f"Warning: {told}", err=True)
        _announce_incomplete(incomplete)
        for planned in runs:
            _announce(planned.job, planned.sessions)
            started = time.monotonic()
            try:
                planning.execute(definitions, instance, planned)
            except RunFailedError as error:
                problems.append(str(error))
            typer.echo(f"  {planned.job} took {time.monotonic() - started:.1f} s", err=True)
    return RunFailedError("\n".join(problems)) if problems else None


def _announce_source(source: SourceResource) -> None:
    """Say it when the source shows no session: then only bars and what is archived can be worked on."""
    from trade_analyst_pipeline.market.sessions import NEW_YORK, next_session, session_open

    if source.shown_session() is not None:
        return
    now = source.now().astimezone(NEW_YORK)
    today = session_open(next_session(now.date() - timedelta(days=1)))
    opens = today if today > now else session_open(next_session(now.date()))
    typer.echo(
        f"The source shows no session now ({now:%Y-%m-%d %H:%M} New York). Option chains and quotes can be captured "
        f"from {opens.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York ({opens:%H:%M} UTC) until midnight there; daily "
        "bars are taken at any time.",
        err=True,
    )


def _announce_lost(lost: Sequence[date]) -> None:
    if lost:
        typer.echo(
            f"{len(lost)} of the sessions from {lost[0]} to {lost[-1]} were over before they were captured, and the "
            "source has their chains no more: each is recorded as a gap (session_over). `trade-analyst import` takes "
            "recordings.",
            err=True,
        )


def _announce_incomplete(incomplete: Mapping[date, Sequence[str]]) -> None:
    """Say which symbols are asked for in sessions that are on record without them."""
    counts = Counter(symbol for symbols in incomplete.values() for symbol in symbols)
    for symbol, count in counts.items():
        typer.echo(f"{symbol}: chains of {count} sessions on record are asked for, and nothing else of them", err=True)


def _announce(job: str, sessions: Sequence[date]) -> None:
    span = (
        f"session {sessions[0]}" if len(sessions) == 1 else f"{len(sessions)} sessions {sessions[0]} to {sessions[-1]}"
    )
    typer.echo(f"{job}: {span}", err=True)
