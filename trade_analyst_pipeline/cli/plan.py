"""`trade-analyst plan`: what a session asks the source for, whether it fits into the limit, and what to cut if not."""

from __future__ import annotations

import itertools
import json as json_text
import string
import sys
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trade_analyst_pipeline.cli.shown import byte_count, parse_session, show_table

if TYPE_CHECKING:
    from trade_analyst_pipeline.capture.costs import Costs
    from trade_analyst_pipeline.capture.cuts import Cut
    from trade_analyst_pipeline.capture.timetable import Planned, Timetable
    from trade_analyst_pipeline.settings import Settings

SESSIONS_A_MONTH = 21
SHOWN_LATE = 5
HEADINGS = (
    "dataset",
    "symbols",
    "snapshots",
    "requests",
    "worst age",
    "not in time",
    "bytes a day",
    "archived a day",
    "sizes",
)


def plan(
    symbols: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Plan as if so many symbols were watched, sets left out.")
    ] = None,
    session: Annotated[str | None, typer.Option(help="The session to plan, as 2026-01-05. [today or the next]")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the plan as one JSON document.")] = False,
) -> None:
    """Show requests, freshness and bytes of a session under the limit, and what to cut; exit 1 when it does not fit."""
    from trade_analyst_pipeline.capture.costs import measured_costs
    from trade_analyst_pipeline.capture.cuts import cuts
    from trade_analyst_pipeline.capture.slots import Allowance
    from trade_analyst_pipeline.capture.timetable import timetable, watched
    from trade_analyst_pipeline.settings import load_settings
    from trade_analyst_pipeline.storage.archive import Archive

    settings = load_settings()
    day = _session(parse_session(session, "--session"))
    if symbols is not None:
        settings = _as_if(settings, symbols)
    costs = measured_costs(Archive(settings.data_folder / "raw"), bars=settings.capture.bars)
    what = watched(settings)
    schwab = settings.schwab
    allowance = Allowance(schwab.requests_per_minute, schwab.reserved_per_minute, schwab.requests_in_flight)
    found = timetable(day, what, allowance, costs)
    proposed = cuts(found, what, costs)
    if json:
        typer.echo(json_text.dumps(plan_document(found, costs, proposed, len(settings.universe.all_symbols)), indent=2))
    else:
        _show(found, costs, proposed, len(settings.universe.all_symbols))
    sys.exit(0 if found.fits else 1)


def _session(day: date | None) -> date:
    """The session asked for; today's, or the next where there is none today. Wrong use on a day without one."""
    from trade_analyst_pipeline.market.clock import MachineClock
    from trade_analyst_pipeline.market.sessions import NEW_YORK, is_session, next_session

    if day is None:
        today = MachineClock().now().astimezone(NEW_YORK).date()
        return today if is_session(today) else next_session(today)
    if not is_session(day):
        message = f"the exchange is closed on {day}"
        raise typer.BadParameter(message, param_hint="--session")
    return day


def _as_if(settings: Settings, count: int) -> Settings:
    """Settings under which that many symbols are watched: the first ones there are, then stocks with made-up names."""
    known = settings.universe.all_symbols[:count]
    names = ("".join(letters) for letters in itertools.product(string.ascii_uppercase, repeat=4))
    made_up = (name for name in names if name not in known)
    symbols = (*known, *itertools.islice(made_up, count - len(known)))
    universe = settings.universe.model_copy(update={"symbols": symbols, "sets": {}})
    return settings.model_copy(update={"universe": universe})


def plan_document(found: Timetable, costs: Costs, proposed: Sequence[Cut], symbols: int) -> dict[str, Any]:
    """The plan as plain values; `docs/commands.md` describes them."""
    datasets = [_dataset(found, name, costs) for name in _names(found)]
    day = {
        "requests": found.requests,
        "bytes": sum(each["bytes"] for each in datasets),
        "archived_bytes": sum(each["archived_bytes"] for each in datasets),
    }
    return {
        "session_date": found.session_date.isoformat(),
        "symbols": symbols,
        "limit": {
            "per_minute": found.allowance.per_minute,
            "reserved": found.allowance.reserved,
            "usable": found.allowance.usable,
        },
        "fits": found.fits,
        "busiest_minute": max(found.minutes.values(), default=0),
        "day": day,
        "month": {"sessions": SESSIONS_A_MONTH, **{name: value * SESSIONS_A_MONTH for name, value in day.items()}},
        "datasets": datasets,
        "minutes": [{"time": _text(minute), "requests": count} for minute, count in found.minutes.items()],
        "snapshots": [_snapshot(each) for each in found.planned],
        "cuts": [{"change": cut.words, "is_enough_alone": cut.is_enough_alone} for cut in proposed],
    }


def _names(found: Timetable) -> list[str]:
    return list(dict.fromkeys(each.snapshot.dataset for each in found.planned))


def _dataset(found: Timetable, name: str, costs: Costs) -> dict[str, Any]:
    planned, size = found.of(name), costs.size(name)
    answers = sum(len(each.arrivals) for each in planned)
    age = found.worst_age(name)
    return {
        "dataset": name,
        "symbols": len({symbol for each in planned for symbol in each.snapshot.symbols}),
        "snapshots": len(planned),
        "requests": sum(each.requests for each in planned),
        "worst_age_seconds": None if age is None else round(age.total_seconds(), 1),
        "not_in_time": sum(not each.fits for each in planned),
        "bytes": round(answers * size.body),
        "archived_bytes": round(answers * size.stored),
        "sizes": "measured" if name in costs.sizes else "assumed",
    }


def _snapshot(each: Planned) -> dict[str, Any]:
    return {
        "dataset": each.snapshot.dataset,
        "kind": each.kind,
        "due": _text(each.snapshot.scheduled_time),
        "symbols": len(each.snapshot.symbols),
        "requests": each.requests,
        "given_up": each.given_up,
        "finished": None if each.finished is None else _text(each.finished),
        "needed_by": _text(each.needed_by),
        "fits": each.fits,
    }


def _text(instant: datetime) -> str:
    from datetime import UTC

    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _show(found: Timetable, costs: Costs, proposed: Sequence[Cut], symbols: int) -> None:
    document = plan_document(found, costs, proposed, symbols)
    allowance = found.allowance
    typer.echo(
        f"Session {found.session_date}: {symbols:,} symbols, {allowance.usable} requests a minute "
        f"({allowance.per_minute} less {allowance.reserved} reserved), busiest minute {document['busiest_minute']}."
    )
    show_table(HEADINGS, [_row(each) for each in document["datasets"]])
    show_table(("from (New York)", "requests", "a minute", "of the limit"), _half_hours(found), title="Requests")
    for name, sessions in (("day", 1), ("month", SESSIONS_A_MONTH)):
        total = document[name]
        typer.echo(
            f"A {name} ({sessions} session{'s' * (sessions > 1)}): {total['requests']:,} requests, "
            f"{byte_count(total['bytes'])} received, {byte_count(total['archived_bytes'])} archived."
        )
    if "assumed" in {each["sizes"] for each in document["datasets"]}:
        from trade_analyst_pipeline.capture.costs import ASSUMPTION

        typer.echo(f"Sizes that are not measured in the archive are those of {ASSUMPTION}.")
    _show_fit(found, proposed)


def _row(each: dict[str, Any]) -> list[str]:
    age = each["worst_age_seconds"]
    return [
        each["dataset"],
        f"{each['symbols']:,}",
        f"{each['snapshots']:,}",
        f"{each['requests']:,}",
        "" if age is None else _duration(timedelta(seconds=age)),
        f"{each['not_in_time']:,}",
        byte_count(each["bytes"]),
        byte_count(each["archived_bytes"]),
        each["sizes"],
    ]


def _half_hours(found: Timetable) -> list[list[str]]:
    """Requests in each half hour that has some: their number, how many a minute, and that as a share of the limit."""
    from trade_analyst_pipeline.market.sessions import NEW_YORK

    counted: dict[datetime, int] = {}
    for minute, count in found.minutes.items():
        start = minute.replace(minute=minute.minute // 30 * 30)
        counted[start] = counted.get(start, 0) + count
    return [
        [
            f"{start.astimezone(NEW_YORK):%H:%M}",
            f"{count:,}",
            f"{count / 30:.1f}",
            f"{count / 30 / found.allowance.usable:.0%}",
        ]
        for start, count in counted.items()
    ]


def _show_fit(found: Timetable, proposed: Sequence[Cut]) -> None:
    from trade_analyst_pipeline.market.sessions import NEW_YORK

    late = [each for each in found.planned if not each.fits]
    if not late:
        typer.echo("All of it fits: every snapshot is complete in time.")
        return
    typer.echo(f"Does not fit: {len(late)} of {len(found.planned)} snapshots are not complete in time.")
    for each in late[:SHOWN_LATE]:
        typer.echo(
            f"  {each.snapshot.dataset} of {each.snapshot.scheduled_time.astimezone(NEW_YORK):%H:%M} ({each.kind}): "
            f"{_ended(each)}, needed by {each.needed_by.astimezone(NEW_YORK):%H:%M}"
        )
    if len(late) > SHOWN_LATE:
        typer.echo(f"  and {len(late) - SHOWN_LATE} more (--json lists all)")
    together = [cut.words for cut in proposed if not cut.is_enough_alone]
    ways = ["\n    and ".join(together)] * bool(together) + [cut.words for cut in proposed if cut.is_enough_alone]
    for number, way in enumerate(ways):
        typer.echo(f"{'To make it fit:' if number == 0 else 'Or:'} {way}")
    if not ways:
        typer.echo("To make it fit: watch fewer symbols, or in fewer datasets (docs/settings.md, universe.sets)")


def _ended(each: Planned) -> str:
    from trade_analyst_pipeline.market.sessions import NEW_YORK

    if each.given_up:
        return f"never complete, {each.given_up:,} of {each.requests:,} requests find no slot in time"
    if each.finished is None:
        return "complete not before midnight"
    return f"complete at {each.finished.astimezone(NEW_YORK):%H:%M:%S}"


def _duration(span: timedelta) -> str:
    minutes, seconds = divmod(round(span.total_seconds()), 60)
    return f"{minutes} min {seconds:02d} s"
