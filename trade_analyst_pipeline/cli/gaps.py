"""`trade-analyst gaps`: what of each session is captured, what is missing, of which type, and what can still be had."""

from __future__ import annotations

import json as json_text
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trade_analyst_pipeline.cli.shown import parse_session, say_line, show_table
from trade_analyst_pipeline.errors import CaptureDamagedError

if TYPE_CHECKING:
    from trade_analyst_pipeline.capture.gap_lines import Line
    from trade_analyst_pipeline.capture.gaps import Ledger
    from trade_analyst_pipeline.capture.plan import Snapshot
    from trade_analyst_pipeline.capture.take import Outcome
    from trade_analyst_pipeline.settings import Settings

DEFAULT_DAYS = 7
SHOWN_GAPS = 30


def gaps(
    from_session: Annotated[str | None, typer.Option("--from", help="First day, YYYY-MM-DD. [7 days back]")] = None,
    to_session: Annotated[str | None, typer.Option("--to", help="Last day, YYYY-MM-DD. [today]")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Only this dataset; may be repeated.")] = None,
    symbol: Annotated[list[str] | None, typer.Option(help="Only this symbol; may be repeated.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Ask again for what can still be had.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what was expected of each session, what was captured, and a typed gap for all else.

    Exit code 1 when something is lacking, be it lost for ever, or a file cannot be read. --repair asks the source again
    for just what it can still give; then `trade-analyst rebuild` makes the tables anew.
    """
    from trade_analyst_pipeline.datasets import DATASETS
    from trade_analyst_pipeline.defs.resources import SourceResource, StorageResource
    from trade_analyst_pipeline.market.clock import MachineClock
    from trade_analyst_pipeline.market.sessions import NEW_YORK
    from trade_analyst_pipeline.settings import load_settings

    settings, now = load_settings(), MachineClock().now()
    unknown = sorted(set(dataset or ()) - set(DATASETS))
    if unknown:
        message = f"no dataset {unknown[0]!r}; choose from {', '.join(DATASETS)}"
        raise typer.BadParameter(message, param_hint="--dataset")
    last = parse_session(to_session, "--to") or now.astimezone(NEW_YORK).date()
    first = parse_session(from_session, "--from") or last - timedelta(days=DEFAULT_DAYS - 1)
    if first > last:
        message = f"{first} is after {last}"
        raise typer.BadParameter(message, param_hint="--from/--to")
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]

    def look() -> tuple[list[Line], list[CaptureDamagedError]]:
        ledger = SourceResource(settings).ledger(StorageResource(settings).archive)
        return list(_lines(ledger, days, dataset or list(DATASETS), set(symbol or ()))), ledger.damaged

    lines, damaged = look()
    if repair:
        _repair(settings, lines)
        lines, damaged = look()
    if json:
        typer.echo(json_text.dumps(document_of(lines, damaged), indent=2))
    else:
        _show(lines)
        for error in damaged:
            say_line(str(error))
    sys.exit(1 if damaged or any(line.is_lacking for line in lines) else 0)


def _lines(ledger: Ledger, days: Sequence[date], datasets: Sequence[str], symbols: set[str]) -> Iterable[Line]:
    for day in days:
        for name in datasets:
            yield from (line for line in ledger.lines(name, day) if not symbols or line.symbol in symbols)


def _repair(settings: Settings, lines: Sequence[Line]) -> None:
    """Ask for what can still be had, through the ordinary capture; tell what came of it and what cannot be had."""
    from trade_analyst_pipeline.capture.gap_lines import askable
    from trade_analyst_pipeline.cli.source import running_source
    from trade_analyst_pipeline.defs.resources import SourceResource, StorageResource

    repairs = [line.repair for line in lines if line.repair is not None and line.repair.state == "lost"]
    for why, count in Counter(repair.why for repair in repairs).items():
        typer.echo(f"Not asked for: {count} gaps, because {why}.", err=True)
    wanted: dict[tuple[str, date], list[Snapshot]] = {}
    for snapshot in askable(lines):
        wanted.setdefault((snapshot.dataset, snapshot.session_date), []).append(snapshot)
    if not wanted:
        typer.echo("There is nothing to ask for.", err=True)
        return
    archive = StorageResource(settings).archive
    with running_source(settings) as running:
        for (name, day), snapshots in wanted.items():
            try:
                for outcome in SourceResource(running).take(snapshots, archive):
                    say_line(_became(outcome), err=True)
            except CaptureDamagedError as error:
                say_line(f"{name} of {day} cannot be asked for: {error}", err=True)
    typer.echo("`trade-analyst rebuild` makes the tables of what came.", err=True)


def _became(outcome: Outcome) -> str:
    snapshot = outcome.snapshot
    became = "; ".join(dict.fromkeys(gap.detail for gap in outcome.gaps)) or "complete"
    moment = f"{snapshot.scheduled_time:%Y-%m-%d %H:%M} UTC"
    return f"{snapshot.dataset} of {moment}, {len(snapshot.symbols)} symbols: {became}"


def document_of(lines: Sequence[Line], damaged: Sequence[CaptureDamagedError]) -> dict[str, Any]:
    """The ledger as plain values; `docs/commands.md` describes them."""
    from trade_analyst_pipeline.capture.gap_lines import sums

    total = sums(lines)
    return {
        "sums": {**asdict(total), "adds_up": total.adds_up},
        "lines": [_plain(line) for line in lines if line.type is not None],
        "damaged": [{"file": str(error.path), "problem": str(error)} for error in damaged],
    }


def _plain(line: Line) -> dict[str, Any]:
    found = asdict(line) | {"session_date": str(line.session_date), "scheduled_time": _written(line.scheduled_time)}
    if line.repair is not None:
        found["repair"]["until"] = _written(line.repair.until)
    return found


def _written(instant: datetime | None) -> str | None:
    return None if instant is None else f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _show(lines: Sequence[Line]) -> None:
    from trade_analyst_pipeline.capture.gap_lines import sums

    groups: dict[tuple[date, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.session_date, line.dataset), []).append(line)
    rows = []
    for (day, name), of_group in groups.items():
        found = sums(of_group)
        types = {**found.gaps, **found.days_off}
        told = ", ".join(f"{kind} {count}" for kind, count in sorted(types.items()))
        counts = (found.expected, found.captured, sum(found.gaps.values()), found.lacking)
        rows.append([str(day), name, *map(str, counts), f"{found.answered} + {found.missing}", told])
    headings = ("session", "dataset", "expected", "captured", "gaps", "lacking", "requests", "types")
    show_table(headings, rows)
    lacking = [line for line in lines if line.is_lacking]
    for line in lacking[:SHOWN_GAPS]:
        say_line(_told(line))
    if len(lacking) > SHOWN_GAPS:
        typer.echo(f"and {len(lacking) - SHOWN_GAPS:,} more; --json has all of them")
    if not lines:
        typer.echo("Nothing is on record of these days: neither a plan nor a capture.")


def _told(line: Line) -> str:
    repair = line.repair
    until = f" until {_written(repair.until)}" if repair is not None and repair.until else ""
    state = "" if repair is None else f"{repair.state}{until}"
    if repair is not None and repair.state == "lost":
        state = f"lost: {repair.why}{f', only{until}' if until else ''}"
    word = f" ({line.word})" if line.word else ""
    return f"{line.dataset} {line.symbol} of {_written(line.scheduled_time)}: {line.type}{word}, {state}. {line.detail}"
