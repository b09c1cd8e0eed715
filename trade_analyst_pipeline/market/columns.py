"""Each column once: its name, type, unit and meaning; and the schemas of tables built from them.

A dataset or metric module lists the columns it has by name and adds its own rules; nothing else declares a column.
The same declaration gives the Parquet types, the pandera schema, the checks and the data dictionary in `docs/`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import polars as pl

TIME = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class Column:
    """A column: one name means one quantity in one unit everywhere.

    `unit` is None for text, dates and flags; `meaning` says what it is and what null means.
    """

    name: str
    dtype: pl.DataType
    unit: str | None
    meaning: str


@dataclass(frozen=True)
class Rule:
    """A condition each row has to meet.

    `name` is the stable id shown in quarantine, checks and docs. `passes` is true for an acceptable row; null counts
    as acceptable. A row breaking an `error` rule goes to quarantine; a `warning` is counted and the row kept.
    """

    name: str
    passes: pl.Expr
    meaning: str
    severity: Literal["error", "warning"] = "error"


@dataclass(frozen=True)
class TableSchema:
    """The shape of one table: `required` columns are never null; rows are unique and sorted by `key`."""

    name: str
    version: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    required: frozenset[str]
    rules: tuple[Rule, ...] = ()

    @property
    def polars_schema(self) -> pl.Schema:
        """Column names and Polars types, in order."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    @property
    def names(self) -> list[str]:
        """Column names, in order."""
        return [column.name for column in self.columns]

    def empty(self) -> pl.DataFrame:
        """A table of this shape without rows."""
        return pl.DataFrame(schema=self.polars_schema)


def table_schema(
    name: str,
    version: str,
    *,
    key: Iterable[str],
    columns: Iterable[str],
    required: Iterable[str] = (),
    rules: Iterable[Rule] = (),
) -> TableSchema:
    """A schema over declared columns; key columns are always required. Raises KeyError for an undeclared column."""
    key = tuple(key)
    return TableSchema(
        name=name,
        version=version,
        key=key,
        columns=tuple(COLUMNS[column] for column in columns),
        required=frozenset(required) | frozenset(key),
        rules=tuple(rules),
    )


def epoch_milliseconds(instant: datetime) -> int:
    """Milliseconds since 1970, UTC, as the source counts time."""
    return round(instant.timestamp() * 1000)


_DECLARED: tuple[Column, ...] = (
    # identity and time
    Column("symbol", pl.String(), None, "Underlying or instrument, as Schwab spells it."),
    Column("session_date", pl.Date(), None, "The exchange's date of the session the row describes."),
    Column("snapshot_time", TIME, "UTC", "When the response with this row arrived, on the source's clock."),
    Column("known_time", TIME, "UTC", "When this value first became known to us, on the source's clock."),
)

COLUMNS: dict[str, Column] = {column.name: column for column in _DECLARED}
