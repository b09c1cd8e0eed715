"""Commands over the data folder: `import`, `rebuild`, `query`, `export`."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trade_analyst_pipeline.cli.shown import parse_instant, parse_session, row_progress, say_line, show_frame
from trade_analyst_pipeline.errors import ExportError

if TYPE_CHECKING:
    import polars as pl

    from trade_analyst_pipeline.lineage.built import Built, BuiltSeries
    from trade_analyst_pipeline.lineage.rebuild import Current
    from trade_analyst_pipeline.lineage.staleness import Stale

SHOWN_PROBLEMS = 5
ExportFormat = Literal["parquet", "csv", "json", "xlsx"]


def import_recordings(
    files: Annotated[list[Path], typer.Argument(help="Files, each with the body of one response.")],
    dataset: Annotated[str, typer.Option(help="Which dataset, such as options; README.md lists them.")],
    captured_at: Annotated[str, typer.Option(help="When the responses arrived, such as 2025-05-09T20:59:00Z.")],
    symbol: Annotated[list[str] | None, typer.Option(help="A symbol that was asked for; may be repeated.")] = None,
) -> None:
    """Put recorded responses into the archive, exactly as if they had just been captured.

    Importing the same files for the same time again changes nothing. Afterwards: trade-analyst rebuild.
    """
    from trade_analyst_pipeline.capture import recordings
    from trade_analyst_pipeline.settings import load_settings
    from trade_analyst_pipeline.storage.archive import Archive

    capture = recordings.import_recordings(
        files,
        dataset=dataset,
        captured_time=parse_instant(captured_at, "--captured-at"),
        symbols=tuple(symbol or ()),
        archive=Archive(load_settings().data_folder / "raw"),
        now=datetime.now(UTC),
    )
    typer.echo(f"{capture.record_count} responses, session {capture.session_date}: {capture.path}")


def rebuild(
    from_session: Annotated[str | None, typer.Option("--from", help="First session, YYYY-MM-DD. [all]")] = None,
    to_session: Annotated[str | None, typer.Option("--to", help="Last session, YYYY-MM-DD. [all]")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Only this dataset's tables; may be repeated.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Processes. [capture.workers]")] = None,
    full: Annotated[bool, typer.Option("--full", help="Make all anew, also what is current.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be made anew, and why.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: a JSON array.")] = False,
) -> None:
    """Make anew from the archive whatever tables, metrics and exports are not current, without Dagster and the source.

    Current is what was made by the code there is from the captures there are, and is whole; --full makes that anew too,
    with the same content. Exports are those of the sessions exported before, and of the latest. Exit 1 when a session
    could not be built.
    """
    from trade_analyst_pipeline.datasets import DATASETS
    from trade_analyst_pipeline.lineage import rebuild as rebuilding
    from trade_analyst_pipeline.lineage.schemas import table_schemas
    from trade_analyst_pipeline.lineage.staleness import plan
    from trade_analyst_pipeline.settings import load_settings
    from trade_analyst_pipeline.storage.catalogue import build_catalogue

    settings = load_settings()
    chosen = dataset or list(DATASETS)
    unknown = sorted(set(chosen) - set(DATASETS))
    if unknown:
        message = f"no dataset {unknown[0]!r}; choose from {', '.join(DATASETS)}"
        raise typer.BadParameter(message, param_hint="--dataset")
    if full and dry_run:
        message = "--full makes all anew, so there is nothing to find out"
        raise typer.BadParameter(message, param_hint="--dry-run")
    first, last = parse_session(from_session, "--from"), parse_session(to_session, "--to")
    if dry_run:
        _show_plan(plan(settings.data_folder, chosen, first=first, last=last), as_json=as_json)
        return
    results = rebuilding.rebuild(
        settings.data_folder,
        datasets=chosen,
        first=first,
        last=last,
        workers=workers or settings.capture.workers,
        created_time=datetime.now(UTC),
        full=full,
    )
    failed = sum([_show_result(result) for result in results])
    build_catalogue(settings.data_folder, declared=table_schemas())
    if published := publish_again(settings.data_folder, latest=True):
        typer.echo(published)
    if failed:
        raise typer.Exit(1)


def publish_again(data_folder: Path, *, latest: bool) -> str:
    """Export the sessions that were exported before, and the `latest` with option chains; says how many, if any."""
    from trade_analyst_pipeline.export import publish_session, published_sessions
    from trade_analyst_pipeline.lineage.code_versions import code_version
    from trade_analyst_pipeline.lineage.schemas import METRIC_SCHEMAS
    from trade_analyst_pipeline.storage.tables import TableStore

    store = TableStore(data_folder)
    stored = [day for day in store.partitions("tables", "options") if isinstance(day, date)] if latest else []
    days = sorted({*published_sessions(data_folder), *stored[-1:]})
    made_by = code_version("exports/metrics")
    for day in days:
        publish_session(store, day, schemas=METRIC_SCHEMAS, code_version=made_by, created_time=datetime.now(UTC))
    return f"exports/metrics: {len(days)} sessions, the last {days[-1]}" if days else ""


def _show_plan(stale: Sequence[Stale], *, as_json: bool) -> None:
    """Print what would be made anew: every partition as JSON, or a line for those that follow for the same reasons."""
    if as_json:
        told = [{"table": each.table, "partition": str(each.partition), "reasons": each.reasons} for each in stale]
        typer.echo(json.dumps(told))
        return
    for (table, reasons), group in groupby(stale, key=lambda each: (each.table, each.reasons)):
        partitions = [each.partition for each in group]
        many = "" if len(partitions) == 1 else f" to {partitions[-1]} ({len(partitions):,} partitions)"
        say_line(f"{table} {partitions[0]}{many}: {'; '.join(reasons)}")
    if not stale:
        typer.echo("all is current")


def _show_result(result: Built | BuiltSeries | Current) -> int:
    """Print one line, and one for each of the first problems; 1 when the session could not be built, else 0."""
    from trade_analyst_pipeline.lineage.built import BuiltSeries
    from trade_analyst_pipeline.lineage.rebuild import Current

    if isinstance(result, Current):
        typer.echo(f"{result.table}: {result.sessions:,} sessions are current")
        return 0
    if isinstance(result, BuiltSeries):
        made = f", {', '.join(map(str, result.written_years)) or 'no year'} made anew"
        typer.echo(f"metrics/{result.name}: {result.rows:,} rows in {result.sessions} sessions{made}")
        return 0
    counts = f"{result.rows:,} rows, {result.quarantined:,} quarantined"
    line = f"{result.name} {result.session_date}: {result.status}, {counts}"
    say_line(f"{line}. {result.detail}" if result.detail else line)
    problems = [problem for problem in result.problems if problem not in result.detail]
    for problem in problems[:SHOWN_PROBLEMS]:
        say_line(f"  {problem}")
    if len(problems) > SHOWN_PROBLEMS:
        typer.echo(f"  and {len(problems) - SHOWN_PROBLEMS:,} more problems")
    return 1 if result.status == "failed" else 0


def query(
    sql: Annotated[str, typer.Argument(help='One SELECT, such as "select * from metrics.iv_rank".')],
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="The most rows to show.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Rows as a JSON array.")] = False,
    as_of: Annotated[str | None, typer.Option(help="Only what was known then: 2025-05-09T20:59:00Z. [all]")] = None,
) -> None:
    """Answer one reading SQL statement (DuckDB) over tables, metrics and quarantine.

    At most 1,000 rows are shown unless --limit says otherwise; when there are more, a note on standard error says so.
    """
    from trade_analyst_pipeline.lineage.point_in_time import read_as_of
    from trade_analyst_pipeline.lineage.schemas import table_schemas
    from trade_analyst_pipeline.settings import load_settings
    from trade_analyst_pipeline.storage import catalogue

    data_folder = load_settings().data_folder
    instant = None if as_of is None else parse_instant(as_of, "--as-of")
    computed = None if instant is None else partial(read_as_of, data_folder, instant=instant)
    with _interrupted_at_once():
        result = catalogue.query(
            data_folder, sql, limit=limit, declared=table_schemas(), as_of=instant, computed=computed
        )
    if as_json:
        typer.echo(json.dumps(plain_json(result.frame.to_dicts()), default=str, allow_nan=False))
    else:
        show_frame(result.frame)
    if result.is_cut:
        typer.echo(f"There are more rows; shown are the first {limit:,} (--limit).", err=True)


@contextmanager
def _interrupted_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process as the system does: DuckDB does not return for it, and reading leaves nothing."""
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def plain_json(value: object) -> object:
    """A value with null for NaN and the infinities, which JSON cannot say, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: plain_json(item) for name, item in value.items()}
    return [plain_json(item) for item in value] if isinstance(value, list) else value


def export(
    table: Annotated[str, typer.Argument(help="Stage and name, such as metrics.iv_rank or tables.options.")],
    format: Annotated[ExportFormat, typer.Option(help="Kind of file.")],  # noqa: A002 - the word users type
    output: Annotated[Path | None, typer.Option(help="File to write. [<table>.<format>]")] = None,
    from_session: Annotated[str | None, typer.Option("--from", help="First session, YYYY-MM-DD. [all]")] = None,
    to_session: Annotated[str | None, typer.Option("--to", help="Last session, YYYY-MM-DD. [all]")] = None,
    formulas: Annotated[bool, typer.Option(help="Leave text as it is that a spreadsheet would calculate.")] = False,
    as_of: Annotated[str | None, typer.Option(help="Only what was known then: 2025-05-09T20:59:00Z. [all]")] = None,
) -> None:
    """Write a table as Parquet, CSV, JSON or XLSX for other programs. Without a row nothing is written: exit 1."""
    from trade_analyst_pipeline.export import export_table
    from trade_analyst_pipeline.lineage.schemas import table_schemas
    from trade_analyst_pipeline.loading import rows_of
    from trade_analyst_pipeline.settings import load_settings

    schemas = table_schemas()
    if table not in schemas:
        message = f"there is no table {table!r}; choose one of {', '.join(sorted(schemas))}"
        raise ExportError(message)
    rows = rows_of(load_settings().data_folder, table, None if as_of is None else parse_instant(as_of, "--as-of"))
    described = table if as_of is None else f"{table} as of {as_of}"
    rows = _of_sessions(rows, described, parse_session(from_session, "--from"), parse_session(to_session, "--to"))
    path = output or Path(f"{table}.{format}")
    with row_progress(f"Writing {path}") as progress:
        export_table(rows, path, format=format, guard_formulas=not formulas, progress=progress)
    typer.echo(str(path))


def _of_sessions(rows: pl.LazyFrame, table: str, first: date | None, last: date | None) -> pl.LazyFrame:
    """The rows of sessions from `first` to `last`, None for no bound; wrong use, or ExportError, when that is none."""
    import polars as pl

    if first and last and first > last:
        message = f"{first} is after {last}"
        raise typer.BadParameter(message, param_hint="--from/--to")
    session = pl.col("session_date")
    stored = rows.select(first=session.min(), last=session.max()).collect().row(0)
    if stored[0] is None:
        message = f"{table} has no rows, so nothing was written; `trade-analyst run` makes what there is"
        raise ExportError(message)
    chosen = rows.filter(session.is_between(first or stored[0], last or stored[1]))
    if chosen.select(pl.len()).collect().item() == 0:
        asked = f"from {first or 'the first'} to {last or 'the last'}"
        message = f"{table} has no rows of sessions {asked}, so nothing was written; it has {stored[0]} to {stored[1]}"
        raise ExportError(message)
    return chosen
