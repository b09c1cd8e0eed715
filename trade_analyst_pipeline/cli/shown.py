"""What several commands take from and show to a person: dates, byte counts, tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import polars as pl


def parse_session(text: str | None, option: str) -> date | None:
    """The date in an option's value; wrong use when it is none."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        message = f"{text!r} is not a date; write it as 2026-01-05"
        raise typer.BadParameter(message, param_hint=option) from None


def byte_count(count: int) -> str:
    """A number of bytes in the largest unit that keeps it above one."""
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:,.0f} {units[0]}" if units[0] == "bytes" else f"{size:,.1f} {units[0]}"


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    """A table on standard output: boxed on a terminal, tab-separated lines when piped."""
    if not sys.stdout.isatty():
        for cells in [headings, *rows]:
            typer.echo("\t".join(cells))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for cells in rows:
        table.add_row(*cells)
    Console().print(table)


def cell(value: object) -> str:
    """A value as people read it in a table: floats to six digits, null as nothing."""
    if value is None:
        return ""
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def show_frame(frame: pl.DataFrame) -> None:
    """A Polars frame as `show_table` shows it."""
    show_table(frame.columns, [[cell(value) for value in row] for row in frame.iter_rows()])
