"""`trade-analyst symbols`: which of the symbols watched the source knows, what may be meant, what became of them."""

from __future__ import annotations

import asyncio
import json as json_text
import sys
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trade_analyst_pipeline.cli.shown import show_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trade_analyst_pipeline.capture.symbol_check import Checked, Verdict
    from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
    from trade_analyst_pipeline.settings import Settings
    from trade_analyst_pipeline.storage.archive import Archive


def symbols(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Ask the source which of the symbols watched it knows; exit 1 when it does not know one of them.

    For those it does not know: how the name may be spelt, the new name where the CUSIP answers under another one, and
    since when the archive says so.
    """
    from trade_analyst_pipeline.capture.symbol_life import lives, sightings
    from trade_analyst_pipeline.cli.source import running_source
    from trade_analyst_pipeline.market.clock import MachineClock
    from trade_analyst_pipeline.settings import load_settings
    from trade_analyst_pipeline.storage.archive import Archive

    settings = load_settings()
    archive, now = Archive(settings.data_folder / "raw"), MachineClock().now()
    past = lives(sightings(archive))
    with running_source(settings) as running:
        checked = asyncio.run(_ask(running, past, now))
    _keep(archive, checked.answers, now)
    if json:
        typer.echo(json_text.dumps({"symbols": [document_of(each) for each in checked.verdicts]}, indent=2))
    else:
        _show(checked.verdicts)
    sys.exit(0 if all(each.status == "known" for each in checked.verdicts) else 1)


async def _ask(settings: Settings, past: Any, now: datetime) -> Checked:
    from trade_analyst_pipeline.capture.symbol_check import check_symbols
    from trade_analyst_pipeline.defs.resources import open_source
    from trade_analyst_pipeline.schwab.budget import Priority, Usage

    async with open_source(settings, Usage()) as open_at:
        client = open_at(now, Priority.INTRADAY).client

        async def fetch(request: MarketDataRequest) -> RawResponse:
            return await client.fetch(request)

        watched = settings.universe.all_symbols
        return await check_symbols(watched, fetch=fetch, past=past, also=past.keys(), today=now.date())


def _keep(archive: Archive, answers: Sequence[RawResponse], now: datetime) -> None:
    """Archive what says that a symbol has a new name, while the source shows a session."""
    from trade_analyst_pipeline.market.sessions import capturable_session

    session = capturable_session(now)
    if session is None or not answers:
        return
    with archive.begin(dataset="instruments", session_date=session, scheduled_time=now, started_time=now) as writer:
        for answer in answers:
            writer.append(answer)
        writer.seal(max(answer.received_time for answer in answers))


def document_of(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain values; `docs/commands.md` describes them."""
    life = asdict(verdict.life) if verdict.life is not None else {}
    past = {name: life.get(name) for name in ("first_known", "last_known", "unknown_since", "cusip")}
    return {
        "symbol": verdict.symbol,
        "status": status_of(verdict),
        "new_symbol": verdict.new_symbol,
        "suggestions": list(verdict.suggestions),
        **{name: None if value is None else str(value) for name, value in past.items()},
    }


def status_of(verdict: Verdict) -> str:
    """What the source and the archive say together: `known`, `unknown`, `delisted`, `renamed` or `not answered`."""
    if verdict.status != "unknown":
        return verdict.status
    if verdict.new_symbol is not None:
        return "renamed"
    return "delisted" if verdict.life is not None and verdict.life.last_known is not None else "unknown"


def _show(verdicts: Sequence[Verdict]) -> None:
    rows = [
        [
            each.symbol,
            status_of(each),
            each.new_symbol or ", ".join(each.suggestions),
            "" if each.life is None or each.life.last_known is None else str(each.life.last_known),
            "" if each.life is None or each.life.unknown_since is None else str(each.life.unknown_since),
        ]
        for each in verdicts
    ]
    show_table(("symbol", "status", "meant may be", "last known", "unknown since"), rows)
    wrong = [each for each in verdicts if each.status != "known"]
    if not wrong:
        typer.echo(f"The source knows all {len(verdicts)} symbols.")
        return
    typer.echo(
        f"{len(wrong)} of {len(verdicts)} symbols are not known. Correct them in [universe] of config.toml; all else "
        "is captured all the same, and what is missing is recorded as a gap with its reason."
    )
