"""`trade-analyst verify`: every stored file read back, what is not well with it, and what of it can be mended."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trade_analyst_pipeline.cli.data import publish_again
from trade_analyst_pipeline.cli.shown import byte_count, parse_session, row_progress, say_line
from trade_analyst_pipeline.errors import PartitionDamagedError, SchemaMismatchError, StorageError
from trade_analyst_pipeline.ops.visible import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trade_analyst_pipeline.lineage.chain import Scope
    from trade_analyst_pipeline.lineage.repair import Repaired
    from trade_analyst_pipeline.storage.flaws import Flaw, Looked


SHOWN_FLAWS = 3


def verify(
    from_session: Annotated[str | None, typer.Option("--from", help="First session, YYYY-MM-DD. [all]")] = None,
    to_session: Annotated[str | None, typer.Option("--to", help="Last session, YYYY-MM-DD. [all]")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Only this dataset; may be repeated.")] = None,
    against_sources: Annotated[
        bool, typer.Option("--against-sources", help="Make tables and metrics again in memory and compare.")
    ] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what the archive allows, then look again.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as one JSON object.")] = False,
) -> None:
    """Read every file of archive, tables, metrics and exports back, and name what is damaged, missing or left over.

    Nothing of it is changed without --repair. Exit 1 when something is not well, with --repair: is still not well.
    """
    from trade_analyst_pipeline.datasets import DATASETS
    from trade_analyst_pipeline.lineage.chain import Scope
    from trade_analyst_pipeline.settings import load_settings

    settings = load_settings()
    folder, workers = settings.data_folder.resolve(), settings.capture.workers
    if unknown := sorted(set(dataset or ()) - set(DATASETS)):
        message = f"no dataset {unknown[0]!r}; choose from {', '.join(DATASETS)}"
        raise typer.BadParameter(message, param_hint="--dataset")
    scope = Scope(tuple(dataset or DATASETS), parse_session(from_session, "--from"), parse_session(to_session, "--to"))
    whole, flaws = find(folder, scope, workers, against_sources=against_sources)
    steps: list[Repaired] = []
    if repair and flaws:
        for step in mend(folder, scope, flaws, workers):
            steps.append(step)
            if not as_json:
                _say("mended" if step.is_mended else "left", step.path, step.detail)
        whole, flaws = find(folder, scope, workers, against_sources=against_sources)
    if as_json:
        told = [{"path": flaw.path, "kind": flaw.kind, "detail": flaw.detail} for flaw in flaws]
        done = [{"path": step.path, "is_mended": step.is_mended, "detail": step.detail} for step in steps]
        found = {"is_well": not flaws, "files": whole.files, "size_bytes": whole.size_bytes, "flaws": told}
        found["retired"] = [{"path": each.path, "held_in": each.held_in} for each in whole.retired]
        typer.echo(json.dumps(found | ({"repaired": done} if repair else {})))
    else:
        for flaw in flaws:
            _say(flaw.kind, flaw.path, flaw.detail)
        for (place, held_in), count in Counter(
            (_dataset_of(away.path), away.held_in) for away in whole.retired
        ).items():
            _say("retired", place, f"{count:,} captures, {f'held in {held_in}' if held_in else 'held nowhere else'}")
        outcome = f"{len(flaws):,} findings" if flaws else "all well"
        typer.echo(f"{whole.files:,} files, {byte_count(whole.size_bytes)} read back: {outcome}")
    if scope == Scope():
        _keep(folder, whole, flaws)
    if flaws:
        raise typer.Exit(1)


def _keep(folder: Path, whole: Looked, flaws: Sequence[Flaw]) -> None:
    """Keep the result for `healthcheck`; where the disk does not take it, that is said, and is no finding."""
    from trade_analyst_pipeline.storage.last_verification import Verification, keep_verification

    shown = tuple(f"{flaw.kind} {flaw.path}" for flaw in flaws[:SHOWN_FLAWS])
    try:
        keep_verification(folder, Verification(datetime.now(UTC), whole.files, whole.size_bytes, len(flaws), shown))
    except (StorageError, OSError) as error:
        say_line(f"The result could not be kept for healthcheck: {error}", err=True)


def _dataset_of(path: str) -> str:
    """The folder of a dataset that a file of the archive lies in."""
    return "/".join(path.split("/")[:2])


def _say(*words: str) -> None:
    typer.echo("\t".join(map(one_line, words)))


def find(folder: Path, scope: Scope, workers: int, *, against_sources: bool = False) -> tuple[Looked, list[Flaw]]:
    """What was read, and all that is not well."""
    from trade_analyst_pipeline.export import look_at_publication, published_sessions
    from trade_analyst_pipeline.lineage.against_sources import source_looks
    from trade_analyst_pipeline.lineage.verification import joined_flaws, looked, looks
    from trade_analyst_pipeline.storage.flaws import Looked

    whole, now = Looked(), datetime.now(UTC).timestamp()
    with row_progress("Reading files back") as progress:
        chosen = looks(folder, scope, now=now) + (source_looks(folder, scope) if against_sources else [])
        for each in looked(chosen, workers=workers):
            whole += each
            if progress is not None:
                progress(whole.files)
    for day in published_sessions(folder):
        if scope.holds(day):
            whole += look_at_publication(folder, day, now=now)
    return whole, joined_flaws(folder, scope, whole.flaws)


def mend(folder: Path, scope: Scope, flaws: Sequence[Flaw], workers: int) -> Iterator[Repaired]:
    """Mend captures, tables and metrics; where the metrics are whole then, exports as well; and the catalogue."""
    from trade_analyst_pipeline.lineage.repair import Repaired, is_whole, repair
    from trade_analyst_pipeline.lineage.schemas import METRIC_SCHEMAS, table_schemas
    from trade_analyst_pipeline.storage.catalogue import CATALOGUE_NAME, build_catalogue

    reasons = [flaw.path for flaw in flaws if flaw.path.startswith("exports/")]
    for step in repair(folder, scope, flaws, workers=workers, created_time=datetime.now(UTC)):
        reasons += [step.path] if step.path.startswith("metrics/") else []
        yield step
    if not is_whole(folder, "metrics", [schema.name for schema in METRIC_SCHEMAS], now=datetime.now(UTC).timestamp()):
        yield Repaired("exports/metrics", False, "left as they are, for a metric is not whole")
    elif reasons and (published := publish_again(folder, latest=False)):
        yield Repaired("exports/metrics", True, published.partition(": ")[2])
    try:
        build_catalogue(folder, declared=table_schemas())
    except (PartitionDamagedError, SchemaMismatchError) as error:
        yield Repaired(CATALOGUE_NAME, False, str(error))
