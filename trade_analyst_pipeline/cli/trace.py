"""`trade-analyst trace`: from a stored value back to the bytes it came from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trade_analyst_pipeline.cli.shown import say_line

if TYPE_CHECKING:
    import polars as pl

    from trade_analyst_pipeline.lineage.traces import SourceRecord, Trace

SHOWN_RECORDS = 3
SHOWN_COLUMNS = 12
_WORDS = "NAME=VALUE for a column of the row, NAME= for null, NAME~TEXT for a text with TEXT in it."


def trace(
    table: Annotated[str, typer.Argument(help="Its name in SQL, such as metrics.iv_rank or tables.quotes.")],
    key: Annotated[list[str] | None, typer.Argument(help=_WORDS)] = None,
    column: Annotated[str | None, typer.Option(help="Only this column. [all]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as one JSON document.")] = False,
) -> None:
    """Show the way of one stored value back to the archived bytes, and make it once more from those alone.

    Exit code 1 when the bytes give something else than what is stored, or are damaged.
    """
    from trade_analyst_pipeline.cli.data import plain_json
    from trade_analyst_pipeline.lineage.stored_rows import schema_of
    from trade_analyst_pipeline.lineage.tracing import trace as trace_row
    from trade_analyst_pipeline.settings import load_settings

    name, schema = schema_of(table)
    values, containing = _parsed(key or [], schema.polars_schema)
    found = trace_row(load_settings().data_folder, name, values, column=column, containing=containing)
    if as_json:
        typer.echo(json.dumps(plain_json(asdict(found)), default=str, allow_nan=False))
    else:
        for line in _lines(found):
            say_line(line)
    if not found.is_equal:
        raise typer.Exit(1)


def _parsed(words: Iterable[str], types: pl.Schema) -> tuple[dict[str, object], dict[str, str]]:
    """Values and parts of texts by column; wrong use for a word that is neither."""
    values, containing = dict[str, object](), dict[str, str]()
    for word in words:
        name, sign, text = _split(word)
        if sign == "~":
            containing[name] = text
        elif sign == "=":
            values[name] = None if text == "" else _value(name, text, types.get(name))
        else:
            message = f"{word!r} names nothing; write {_WORDS}"
            raise typer.BadParameter(message, param_hint="KEY")
    return values, containing


def _split(word: str) -> tuple[str, str, str]:
    """A word at its first `=` or `~`."""
    place = min((word.index(sign) for sign in "=~" if sign in word), default=len(word))
    return word[:place], word[place : place + 1], word[place + 1 :]


def _value(name: str, text: str, dtype: pl.DataType | None) -> object:
    """A text as a value of a column's type; wrong use where it is none. Times without a zone are UTC."""
    import polars as pl

    try:
        if isinstance(dtype, pl.Datetime):
            instant = datetime.fromisoformat(text)
            return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
        if isinstance(dtype, pl.Date):
            return date.fromisoformat(text)
        if isinstance(dtype, pl.Boolean):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(dtype, pl.Int64):
            return int(text)
        return float(text) if isinstance(dtype, pl.Float64) else text
    except (ValueError, KeyError):
        message = f"{text!r} is no value of {name}, which is a {dtype}"
        raise typer.BadParameter(message, param_hint="KEY") from None


def _lines(found: Trace) -> Iterable[str]:
    yield f"{found.table}  {'  '.join(f'{name}={_shown(value)}' for name, value in found.key.items())}"
    columns = list(found.stored)
    for name in columns[: len(columns) if found.column else SHOWN_COLUMNS]:
        beside = found.beside.get(name)
        yield f"  {name} = {_shown(found.stored[name])}" + (f"   (from the {beside})" if beside else "")
    if not found.column and len(columns) > SHOWN_COLUMNS:
        yield f"  and {len(columns) - SHOWN_COLUMNS} more columns (--column, --json)"
    made = found.stored_in
    yield f"stored in partition {made.partition}, schema {made.schema_version}, made by version {made.code_version}"
    for below in found.below:
        days = f"{below.sessions[0]} to {below.sessions[-1]}" if below.sessions else "none"
        yield f"made from {below.table}: {below.rows:,} rows of {len(below.sessions):,} sessions, {days}"
    yield from _record_lines(found.records)
    yield _verdict(found)


def _record_lines(records: tuple[SourceRecord, ...]) -> Iterable[str]:
    """The record that holds the row, else the first ones; how many there are."""
    captures = len({record.capture_id for record in records})
    yield f"read from the archive: {len(records):,} records of {captures:,} captures"
    holding = [record for record in records if record.row]
    for record in holding or records[:SHOWN_RECORDS]:
        yield f"  capture {record.capture_id}, record {record.number}: {record.file}"
        yield f"    bytes {record.offset:,} to {record.offset + record.length:,} of the file, compressed"
        yield f"    GET {record.request}, answered {record.status} at {record.received_time.isoformat()}"
        yield f"    body of {record.body_bytes:,} bytes, SHA-256 {record.body_sha256}"
        if record.row:
            row = record.row
            yield f"    row {row.path}: bytes {row.offset:,} to {row.offset + row.length:,} of the body"
        for member in record.members[:SHOWN_COLUMNS]:
            place = f"bytes {member.offset:,} to {member.offset + member.length:,}"
            yield f"      {member.column} from {member.path}: {place}, {member.text[:60]}"
        if len(record.members) > SHOWN_COLUMNS:
            yield f"      and {len(record.members) - SHOWN_COLUMNS} more members (--json)"
    left = len(records) - len(holding or records[:SHOWN_RECORDS])
    if left:
        yield f"  and {left:,} more (--json)"


def _verdict(found: Trace) -> str:
    if found.verdict == "equal":
        return f"EQUAL: made again from these bytes by version {found.code_version}"
    if found.recomputed is None:
        return f"NOT EQUAL: {found.detail}"
    said = "; ".join(f"{name} would be {_shown(found.recomputed[name])}" for name in found.differing)
    return f"NOT EQUAL: from these bytes {said}"


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    return value.isoformat() if isinstance(value, datetime) else str(value)
