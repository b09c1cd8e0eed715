"""Commands over the archive as a whole: `archive export`, `archive import`, `archive retire`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, cast, get_args

import typer

from trade_analyst_pipeline.cli.shown import byte_count, parse_session, row_progress, say_line
from trade_analyst_pipeline.errors import ArchiveCopyError
from trade_analyst_pipeline.ops.visible import one_line

if TYPE_CHECKING:
    from trade_analyst_pipeline.lineage.retirement import Retirement
    from trade_analyst_pipeline.storage.copy_manifest import Moved, Wanted
    from trade_analyst_pipeline.storage.retiring import Leaving

STREAM = "-"
_From = Annotated[str | None, typer.Option("--from", help="First session, YYYY-MM-DD. [all]")]
_To = Annotated[str | None, typer.Option("--to", help="Last session, YYYY-MM-DD. [all]")]
_Dataset = Annotated[list[str] | None, typer.Option(help="Only this dataset; may be repeated.")]


def export_archive(
    destination: Annotated[str, typer.Argument(help="A folder, a new file ending in .tar, or - for standard output.")],
    from_session: _From = None,
    to_session: _To = None,
    dataset: _Dataset = None,
    as_json: Annotated[bool, typer.Option("--json", help="What became of each file, as one JSON object.")] = False,
) -> None:
    """Copy the sealed captures of the archive, verbatim, to take them to another machine or to keep them elsewhere.

    A folder grows: what it holds already is read back and left. Exit code 1 when a capture is damaged here, or the
    copy has other bytes under its name.
    """
    from trade_analyst_pipeline.settings import load_settings
    from trade_analyst_pipeline.storage.copy_out import export_copy

    settings = load_settings()
    told = _Told(as_json=as_json, is_error=destination == STREAM)
    found = export_copy(
        settings.data_folder.resolve(),
        _standard(sys.stdout, "output") if destination == STREAM else Path(destination),
        environment=settings.environment,
        wanted=_wanted(dataset, from_session, to_session),
        created_time=datetime.now(UTC),
    )
    with told.closing(), _whole_stream():
        told.all(found)


def import_archive(
    source: Annotated[str, typer.Argument(help="The folder or .tar file of an exported archive, or - for a stream.")],
    from_session: _From = None,
    to_session: _To = None,
    dataset: _Dataset = None,
    as_json: Annotated[bool, typer.Option("--json", help="What became of each file, as one JSON object.")] = False,
) -> None:
    """Take captures of an exported archive into this one; each is proven whole first, and none replaces another.

    Cut off, run it again: what has arrived is passed over. Afterwards: trade-analyst rebuild. Exit code 1 when a file
    came damaged, or when other bytes are here under its name.
    """
    from trade_analyst_pipeline.settings import load_settings
    from trade_analyst_pipeline.storage.copy_in import import_copy

    settings = load_settings()
    told = _Told(as_json=as_json)
    found = import_copy(
        settings.data_folder.resolve(),
        _standard(sys.stdin, "input") if source == STREAM else Path(source),
        environment=settings.environment,
        wanted=_wanted(dataset, from_session, to_session),
        now=datetime.now(UTC).timestamp(),
    )
    with told.closing():
        told.all(found)


def retire_captures(
    before: Annotated[str, typer.Option(help="Only sessions before this date, YYYY-MM-DD.")],
    held_in: Annotated[str | None, typer.Option(help="A folder or .tar file of an exported archive.")] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="Only this dataset; may be repeated. [all but ohlc]")
    ] = None,
    with_closing: Annotated[bool, typer.Option("--with-closing", help="Closing snapshots as well.")] = False,
    lose: Annotated[bool, typer.Option("--lose", help="Also what no copy holds: it is gone for good.")] = False,
    confirm: Annotated[str | None, typer.Option(help="The code that the same command has shown.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="What leaves and what stays, as one JSON object.")] = False,
) -> None:
    """Take the bytes of old captures out of the archive, once a copy is proven to hold them. Tables stay.

    Said once, it reads both, lists what would leave, and shows a code; said again with that code, it is done. Exit
    code 1 when something is held nowhere else: then nothing leaves without --lose, and each is named.
    """
    from trade_analyst_pipeline.lineage.retirement import RETIRABLE, confirm_retirement, plan_retirement
    from trade_analyst_pipeline.settings import load_settings

    _refuse_unknown(dataset)
    settings, now = load_settings(), datetime.now(UTC)
    folder = settings.data_folder.resolve()
    planned = plan_retirement(
        folder,
        environment=settings.environment,
        before=cast("date", parse_session(before, "--before")),
        held_in=Path(held_in) if held_in else None,
        datasets=tuple(dataset or RETIRABLE),
        with_closing=with_closing,
        now=now,
    )
    is_refused = bool(planned.unheld) and not lose
    is_done = confirm is not None and bool(confirm_retirement(folder, planned, code=confirm, may_lose=lose, now=now))
    if as_json:
        typer.echo(json.dumps(_retirement_told(planned, is_done=is_done, is_refused=is_refused)))
    else:
        _say_retirement(planned, is_done=is_done, is_refused=is_refused)
    if is_refused:
        raise typer.Exit(1)


def _retirement_told(planned: Retirement, *, is_done: bool, is_refused: bool) -> dict[str, object]:
    def listed(leaving: Sequence[Leaving]) -> list[dict[str, object]]:
        return [
            {"path": each.file.name, "size_bytes": each.file.size_bytes, "sha256": each.file.sha256} for each in leaving
        ]

    return {
        "is_done": is_done,
        "code": None if is_refused else planned.code,
        "held": listed(planned.held),
        "unheld": listed(planned.unheld),
        "staying": [{"path": each.name, "reason": each.reason} for each in planned.staying],
    }


def _say_retirement(planned: Retirement, *, is_done: bool, is_refused: bool) -> None:
    for reason, count in Counter(each.reason for each in planned.staying).items():
        say_line(f"{count:,} captures stay: {reason}")
    for each in planned.held if is_done else ():
        say_line(f"retired: {each.file.name}")
    for each in planned.unheld:
        say_line(f"{'lost' if is_done else 'held nowhere else'}: {each.file.name}")
    sizes = [byte_count(sum(each.file.size_bytes for each in leaving)) for leaving in (planned.held, planned.unheld)]
    what = f"{len(planned.held):,} captures ({sizes[0]}) are held by the copy, "
    what += f"{len(planned.unheld):,} ({sizes[1]}) by nothing else"
    if is_refused:
        say_line(f"{what}: nothing leaves. `trade-analyst archive export` copies them, or say --lose")
    elif is_done:
        say_line(f"{what}: all have left; `trade-analyst archive import` brings back what the copy holds")
    elif planned.held or planned.unheld:
        say_line(f"{what}: nothing has left yet. To let them leave, say the same again with --confirm {planned.code}")
    else:
        say_line("nothing is left to retire")


def _wanted(datasets: Sequence[str] | None, first: str | None, last: str | None) -> Wanted:
    """Files of these datasets and sessions; what the archive holds besides datasets, such as the plans, always."""
    from trade_analyst_pipeline.datasets import DATASETS
    from trade_analyst_pipeline.lineage.chain import Scope

    _refuse_unknown(datasets)
    scope = Scope(tuple(datasets or DATASETS), parse_session(first, "--from"), parse_session(last, "--to"))

    def wanted(name: str, day: date) -> bool:
        return name not in DATASETS or (name in scope.datasets and scope.holds(day))

    return wanted


def _refuse_unknown(datasets: Sequence[str] | None) -> None:
    from trade_analyst_pipeline.datasets import DATASETS

    if unknown := sorted(set(datasets or ()) - set(DATASETS)):
        message = f"no dataset {unknown[0]!r}; choose from {', '.join(DATASETS)}"
        raise typer.BadParameter(message, param_hint="--dataset")


def _standard(stream: object, name: str) -> BinaryIO:
    """Standard input or output as bytes; wrong use where a person sits at it."""
    if stream.isatty():  # type: ignore[attr-defined]
        message = f"standard {name} is a terminal; join it to a pipe or a file"
        raise typer.BadParameter(message)
    return stream.buffer  # type: ignore[attr-defined,no-any-return]


@contextmanager
def _whole_stream() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        message = "whoever read the stream has ended before its end; what it says tells why. Send it again"
        raise ArchiveCopyError(message) from error


class _Told:
    """What is told of each file, and the sums at the end, also of work that an error cut off."""

    def __init__(self, *, as_json: bool, is_error: bool = False) -> None:
        self._as_json = as_json
        self._is_error = is_error
        self._counts = Counter[str]()
        self._copied_bytes = 0
        self._problems: list[Moved] = []

    def all(self, found: Iterator[Moved]) -> None:
        """Take each result in, saying at once what is not well."""
        with row_progress("Copying files") as progress:
            for each in found:
                self._counts[each.outcome] += 1
                if each.outcome == "copied":
                    self._copied_bytes += each.size_bytes
                if each.detail:
                    self._problems.append(each)
                    if not self._as_json:
                        self._say(each.outcome, each.name, each.detail)
                if progress is not None:
                    progress(self._counts.total())

    def _say(self, *words: str) -> None:
        typer.echo("\t".join(map(one_line, words)), err=self._is_error)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Say the sums when the block ends, however it does; exit code 1 where something is not well, or nothing is."""
        try:
            yield
        except BaseException:
            if self._counts:
                self._say_sums()
            raise
        self._say_sums()
        if not self._counts:
            raise ArchiveCopyError("no sealed capture of these datasets and sessions is there; look at --from and --to")
        if self._problems:
            raise typer.Exit(1)

    def _say_sums(self) -> None:
        from trade_analyst_pipeline.storage.copy_manifest import Outcome

        counts = {outcome: self._counts[outcome] for outcome in get_args(Outcome)}
        if self._as_json:
            told = [{"path": each.name, "outcome": each.outcome, "detail": each.detail} for each in self._problems]
            found = {**counts, "copied_bytes": self._copied_bytes, "problems": told}
            typer.echo(json.dumps(found), err=self._is_error)
        else:
            words = f"{counts['copied']:,} files copied ({byte_count(self._copied_bytes)}), {counts['held']:,} held"
            words += f" already, {counts['refused']:,} refused, {counts['damaged']:,} damaged"
            self._say(f"{words}, {counts['retired']:,} retired" if counts["retired"] else words)
