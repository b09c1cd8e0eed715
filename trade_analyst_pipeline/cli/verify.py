"""`trade-analyst verify`: every stored file read back, and what is not well with it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from trade_analyst_pipeline.cli.shown import byte_count, parse_session, row_progress


def verify(
    from_session: Annotated[str | None, typer.Option("--from", help="First session, YYYY-MM-DD. [all]")] = None,
    to_session: Annotated[str | None, typer.Option("--to", help="Last session, YYYY-MM-DD. [all]")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Only this dataset; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as one JSON object.")] = False,
) -> None:
    """Read every file of archive, tables, metrics and exports back, and name what is damaged, missing or left over.

    Nothing is changed. Exit 1 when something is not well.
    """
    from trade_analyst_pipeline.datasets import DATASETS
    from trade_analyst_pipeline.export import look_at_publication, published_sessions
    from trade_analyst_pipeline.lineage.chain import Scope
    from trade_analyst_pipeline.lineage.verification import joined_flaws, looked, looks
    from trade_analyst_pipeline.settings import load_settings
    from trade_analyst_pipeline.storage.flaws import Looked

    settings = load_settings()
    folder, now = settings.data_folder.resolve(), datetime.now(UTC).timestamp()
    if unknown := sorted(set(dataset or ()) - set(DATASETS)):
        message = f"no dataset {unknown[0]!r}; choose from {', '.join(DATASETS)}"
        raise typer.BadParameter(message, param_hint="--dataset")
    scope = Scope(tuple(dataset or DATASETS), parse_session(from_session, "--from"), parse_session(to_session, "--to"))
    whole = Looked()
    with row_progress("Reading files back") as progress:
        for each in looked(looks(folder, scope, now=now), workers=settings.capture.workers):
            whole += each
            if progress is not None:
                progress(whole.files)
    for day in published_sessions(folder):
        if scope.holds(day):
            whole += look_at_publication(folder, day, now=now)
    flaws = joined_flaws(folder, scope, whole.flaws)
    if as_json:
        told = [{"path": flaw.path, "kind": flaw.kind, "detail": flaw.detail} for flaw in flaws]
        found = {"is_well": not flaws, "files": whole.files, "size_bytes": whole.size_bytes, "flaws": told}
        typer.echo(json.dumps(found))
    else:
        for flaw in flaws:
            typer.echo(f"{flaw.kind}\t{flaw.path}\t{flaw.detail}")
        outcome = f"{len(flaws):,} findings" if flaws else "all well"
        typer.echo(f"{whole.files:,} files, {byte_count(whole.size_bytes)} read back: {outcome}")
    if flaws:
        raise typer.Exit(1)
