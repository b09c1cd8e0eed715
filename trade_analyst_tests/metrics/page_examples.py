"""The examples of the pages of metrics: tables as an analyst reads them, made into input and expected result.

A table after a line that begins `Given` and names it in code letters is input; what holds in every row may stand in
that line as `column` = value. A table after a line that ends in `gives` or `has among others` is the result of the call
in code letters in that line. Headers are columns of `market/columns`; a table whose first header is `column` lies on
its side, one result row a column. `…` between two cells of one row stands for the sessions between, or for equal steps,
or between two times for the first one's hour in each session.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl

from trade_analyst_pipeline.market.columns import COLUMNS
from trade_analyst_pipeline.market.sessions import sessions

Row = dict[str, Any]

_GIVEN = re.compile(r"^Given `(?P<name>\w+)`(?P<constants>.*):$", re.DOTALL)
_CONSTANT = re.compile(r"`(\w+)` = (.+?)(?=,| and |$)")
_RESULT = re.compile(r"`(?P<call>\w+\([^`]*\))` (?P<how>gives|has among others)(?:, rounded)?:$", re.DOTALL)
# Columns of tapes and curves that belong to no table of ours.
_OUTSIDE = {
    **dict.fromkeys(("bid_exchange", "ask_exchange", "bid_size_exchange", "ask_size_exchange"), pl.Float64()),
    "is_multi_leg": pl.Boolean(),
    "quote_reason": pl.String(),
    "days": pl.Int64(),
    "rate": pl.Float64(),
}
EMPTY, NULL = "(empty)", "null"


@dataclass(frozen=True, eq=False)
class Expected:
    """What a call gives: its rows as printed, all in order or some of them."""

    call: str
    rows: Sequence[Mapping[str, str]]
    is_whole: bool

    @property
    def function(self) -> str:
        """The function called, without its arguments."""
        return self.call.partition("(")[0]


@dataclass(eq=False)
class Example:
    """Everything below one **Example** of a page: input tables by name, and what calls on them give."""

    title: str
    given: dict[str, list[Row]] = field(default_factory=dict)
    expected: list[Expected] = field(default_factory=list)


def examples_of(text: str) -> Iterator[Example]:
    """The examples of a page, in order."""
    for title, body in re.findall(
        r"^\*\*Example(.*?)\*\*(.*?)(?=^\*\*Example|^## |\Z)", text, re.MULTILINE | re.DOTALL
    ):
        example = Example(title.strip(":. "))
        lead = ""
        for block in re.split(r"\n\s*\n", body):
            if not block.startswith("|"):
                lead = " ".join(block.split())
            elif given := _GIVEN.search(lead[lead.rfind("Given `") :]):
                constants = {name: value.strip("`") for name, value in _CONSTANT.findall(given["constants"])}
                rows = [constants | dict(row) for row in _table(block)]
                example.given[given["name"]] = [each for row in rows for each in _expanded(row)]
            elif found := _RESULT.search(lead):
                example.expected.append(Expected(found["call"], list(_table(block)), found["how"] == "gives"))
        yield example


def _table(block: str) -> Iterator[Mapping[str, str]]:
    lines = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()]
    header, rows = [cell.strip("`") for cell in lines[0]], lines[2:]
    if header[0] == "column":
        for place in range(1, len(header)):
            yield {row[0].strip("`"): row[place] for row in rows}
    else:
        yield from (dict(zip(header, row, strict=True)) for row in rows)


def _expanded(row: Mapping[str, str]) -> Iterator[Row]:
    """The rows that a printed one stands for, values in exact types: decimals, dates, times, words."""
    runs = {name: cell.split(" … ") for name, cell in row.items() if " … " in cell}
    if not runs:
        yield {name: value_of(name, cell) for name, cell in row.items()}
        return
    days = next(ends for name, ends in runs.items() if name.endswith("_date"))
    span = sessions(*(date.fromisoformat(day) for day in days))
    for i, day in enumerate(span):
        values = {name: value_of(name, cell) for name, cell in row.items() if name not in runs}
        for name, (first, last) in runs.items():
            if name.endswith("_date"):
                values[name] = day
            elif name.endswith("_time"):
                values[name] = datetime.combine(day, value_of(name, first).timetz())
            else:
                values[name] = Decimal(first) + i * (Decimal(last) - Decimal(first)) / (len(span) - 1)
        yield values


def dtype_of(name: str) -> pl.DataType:
    """The type of a column."""
    return _OUTSIDE[name] if name in _OUTSIDE else COLUMNS[name].dtype


def value_of(name: str, cell: str) -> Any:
    """A cell in the exact type of its column; numbers that are not whole as decimals."""
    dtype = dtype_of(name)
    if cell == NULL:
        return None
    if dtype == pl.String:
        return "" if cell == EMPTY else cell.strip("`")
    if dtype == pl.Boolean:
        return {"true": True, "false": False}[cell]
    if dtype == pl.Date:
        return date.fromisoformat(cell)
    if isinstance(dtype, pl.Datetime):
        return datetime.fromisoformat(cell).replace(tzinfo=UTC)
    return Decimal(cell.replace(",", "")) if dtype.is_float() else int(cell.replace(",", ""))


def frame_of(rows: Sequence[Row]) -> pl.DataFrame:
    """The same rows as the product takes them."""
    schema = {name: dtype_of(name) for name in rows[0]}
    floats = [{name: float(v) if isinstance(v, Decimal) else v for name, v in row.items()} for row in rows]
    return pl.DataFrame(floats, schema=schema)


def is_as_printed(name: str, cell: str, value: Any) -> bool:
    """Whether a value is the one printed, to the digits given."""
    printed = value_of(name, cell)
    if printed is None or value is None or not isinstance(printed, Decimal):
        return bool(printed == value)
    digits = -int(printed.as_tuple().exponent)
    return abs(float(value) - float(printed)) <= 0.5 * 10**-digits * (1 + 1e-9)
