"""`trade-analyst compact`: many small files of a session made one, and replaced files of tables removed."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from trade_analyst_pipeline.cli.shown import byte_count, parse_session, row_progress, say_line

if TYPE_CHECKING:
    from trade_analyst_pipeline.storage.compaction import Compacted, Taken


def compact(
    from_session: Annotated[str | None, typer.Option("--from", help="First session, YYYY-MM-DD. [all]")] = None,
    to_session: Annotated[
        str | None, typer.Option("--to", help="Last session, YYYY-MM-DD. [the day before today, New York]")
    ] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Only this dataset; may be repeated.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="What was done as one JSON object.")] = False,
) -> None:
    """Put a session's captures of a dataset into one file, and remove table files replaced over a day ago.

    No row, time, number or hash changes, and captures, readers and runs may go on meanwhile. A session that can still
    be captured is left alone unless --to names it. Running it again does nothing. Exit 1 when damage was in the way.
    """
    from trade_analyst_pipeline.datasets import DATASETS
    from trade_analyst_pipeline.settings import load_settings
    from trade_analyst_pipeline.storage import compaction

    if unknown := sorted(set(dataset or ()) - set(DATASETS)):
        message = f"no dataset {unknown[0]!r}; choose from {', '.join(DATASETS)}"
        raise typer.BadParameter(message, param_hint="--dataset")
    found: list[Compacted] = []
    with row_progress("Compacting") as progress:
        for each in compaction.compact(
            load_settings().data_folder.resolve(),
            first=parse_session(from_session, "--from"),
            last=parse_session(to_session, "--to"),
            datasets=dataset or (),
            now=datetime.now(UTC).timestamp(),
            dry_run=dry_run,
        ):
            found.append(each)
            if progress is not None:
                progress(len(found))
    _tell(found, dry_run=dry_run, as_json=as_json)
    if any(each.problem for each in found):
        raise typer.Exit(1)


def _tell(found: list[Compacted], *, dry_run: bool, as_json: bool) -> None:
    from trade_analyst_pipeline.storage.compaction import Taken

    told = [each for each in found if each.is_changed or each.problem]
    before, after = (sum((getattr(each, when) for each in found), Taken()) for when in ("before", "after"))
    if as_json:
        folders = [asdict(each) | {"partition": str(each.partition)} for each in told]
        totals = {"is_dry_run": dry_run, "before": asdict(before), "after": asdict(after)}
        typer.echo(json.dumps(totals | {"folders": folders}))
        return
    for each in told:
        became = f"left alone: {each.problem}" if each.problem else _change(each.before, each.after)
        say_line(f"{each.stage}/{each.name} {each.partition}: {became}")
    done = "would be compacted" if dry_run else "compacted"
    say_line(f"{sum(each.is_changed for each in found):,} of {len(found):,} folders {done}: {_change(before, after)}")


def _change(before: Taken, after: Taken) -> str:
    sizes = (f"{each.files:,} files with {byte_count(each.disk_bytes)} of the disk" for each in (before, after))
    return " to ".join(sizes)
