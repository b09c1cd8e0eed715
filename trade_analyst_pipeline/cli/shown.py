"""What several commands take from and show to a person: dates, byte counts, tables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import typer

from trade_analyst_pipeline.ops.visible import escaped, one_line

if TYPE_CHECKING:
    import polars as pl

SHOWN_CHARACTERS = 40
SHOWN_RECORDS = 3


def parse_session(text: str | None, option: str) -> date | None:
    """The date in an option's value; wrong use when it is none."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        message = f"{text!r} is not a date; write it as 2026-01-05"
        raise typer.BadParameter(message, param_hint=option) from None


def parse_instant(text: str, option: str) -> datetime:
    """The instant in an option's value, UTC; wrong use when it is none or has no time zone."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        message = f"{text!r} is not an instant with a time zone; write it as 2025-05-09T20:59:00Z"
        raise typer.BadParameter(message, param_hint=option)
    return instant.astimezone(UTC)


def byte_count(count: int) -> str:
    """A number of bytes in the largest unit that keeps it above one."""
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:,.0f} {units[0]}" if units[0] == "bytes" else f"{size:,.1f} {units[0]}"


def say_line(text: str, *, err: bool = False) -> None:
    """One line on standard output or error, whatever is in the text."""
    typer.echo(one_line(text), err=err)


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    r"""A table on standard output: boxed on a terminal, tab-separated lines when piped.

    Line ends, tabs and other controls in a cell are written `\n`, `\t`, `\x1b`, and a backslash `\\`.
    """
    _print_table(*_escaped(headings, rows), title=title)


def _escaped(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    return [escaped(text) for text in headings], [[escaped(text) for text in cells] for cells in rows]


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    if not sys.stdout.isatty():
        for cells in [headings, *rows]:
            typer.echo("\t".join(cells))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title)
    for number, heading in enumerate(headings):
        table.add_column(Text(heading), justify="left" if number == 0 else "right")
    for cells in rows:
        table.add_row(*map(Text, cells))
    Console().print(table)


def fitting_columns(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> int:
    """How many columns, from the first, a boxed table of that many characters can show whole; at least one."""
    used = 1
    for number, heading in enumerate(headings):
        used += max(len(heading), *(len(cells[number]) for cells in rows), 0) + 3
        if used > width:
            return max(number, 1)
    return len(headings)


def _show_records(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows below each other on a terminal, each a block of names and values."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    for number, cells in enumerate(rows, start=1):
        block = Table("row", str(number), show_edge=False)
        for heading, text in zip(headings, cells, strict=True):
            block.add_row(Text(heading), Text(text))
        Console().print(block)


@contextmanager
def row_progress(text: str) -> Iterator[Callable[[int], object] | None]:
    """What a long work tells its rows to, shown on a terminal's standard error; None where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status(text) as status:
        yield lambda rows: status.update(f"{text}: {rows:,} rows")


def cell(value: object) -> str:
    """A value as people read it in a table: floats to six digits, null as nothing."""
    if value is None:
        return ""
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def show_frame(frame: pl.DataFrame) -> None:
    """A Polars frame as `show_table` shows it.

    Too wide for the terminal, few rows are shown as records, and of many the first columns, with a note on the rest.
    """
    headings, rows = _escaped(frame.columns, ([cell(value) for value in row] for row in frame.iter_rows()))
    if not sys.stdout.isatty():
        _print_table(headings, rows)
        return
    from rich.console import Console

    short = [
        [text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…" for text in r] for r in rows
    ]
    fitting = fitting_columns(headings, short, Console().width)
    if fitting < len(headings) and len(rows) <= SHOWN_RECORDS:
        _show_records(headings, rows)
        return
    _print_table(headings[:fitting], [cells[:fitting] for cells in short])
    if fitting < len(headings):
        message = f"Shown are the first {fitting} of {len(headings)} columns: the terminal is not wider."
        typer.echo(f"{message} Name columns in the SELECT, add LIMIT {SHOWN_RECORDS} or --json for all.", err=True)
