"""What a dataset makes of the responses of one capture, before any row is judged by its schema.

Nothing is lost without a trace: rows offered = rows of `frame` + rows of `rejected`, and a response of which no row
could be read at all is one of `problems`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urlencode

import polars as pl

from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market.columns import TIME
from trade_analyst_pipeline.market.tolerant_json import (
    BadRow,
)

MAX_SOURCE_CHARACTERS = 8192

REJECTED_COLUMNS = pl.Schema(
    {
        "symbol": pl.String(),
        "snapshot_time": TIME,
        "request": pl.String(),
        "rule": pl.String(),
        "detail": pl.String(),
        "source": pl.String(),
    }
)


@dataclass(frozen=True)
class ResponseProblem:
    """A response none of whose rows is used: `reason` a short stable word, `request` its path and query."""

    reason: str
    detail: str
    symbols: tuple[str, ...]
    request: str


class RejectedRow(NamedTuple):
    """A row that could not be typed: the `rule` it broke, and its own JSON text, cut at 8,192 characters."""

    symbol: str | None
    snapshot_time: datetime
    request: str
    rule: str
    detail: str
    source: str


@dataclass(frozen=True)
class Normalized:
    """Rows of one capture in the columns of the dataset's schema, in wire order, and what was seen on the way.

    `counts` has one entry per observation, `kind:where`: `unknown_field:contract.newName`,
    `unknown_value:settlement_type=Z`, `sentinel:vendor_delta`, `absent:volume`, `crossed_quote` and the like.
    """

    frame: pl.DataFrame
    rejected: pl.DataFrame
    problems: tuple[ResponseProblem, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def offered_rows(self) -> int:
        """Rows found in usable responses."""
        return self.frame.height + self.rejected.height


class Intake:
    """Collects what becomes of the responses of one capture besides the rows themselves."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._problems: list[ResponseProblem] = []
        self._rejected: list[RejectedRow] = []

    def note_problem(self, error: ResponseRejectedError, *, symbols: tuple[str, ...], request: str) -> None:
        """Record a response, or a symbol of one, that gave no row."""
        named = tuple(map(_readable, symbols))
        self._problems.append(ResponseProblem(error.reason, _readable(error.detail), named, request))

    def reject(self, rows: Iterable[BadRow], *, symbol: str | None, snapshot_time: datetime, request: str) -> None:
        """Record rows that could not be typed."""
        for row in rows:
            named = None if symbol is None else _readable(symbol)
            source, detail = row.source[:MAX_SOURCE_CHARACTERS], _readable(row.detail)
            self._rejected.append(RejectedRow(named, snapshot_time, request, row.rule, detail, source))

    def normalized(self, frame: pl.DataFrame) -> Normalized:
        """Everything collected, with the rows."""
        rejected = pl.DataFrame(self._rejected, schema=REJECTED_COLUMNS, orient="row")
        counts = {_readable(name): self.counts[name] for name in sorted(self.counts) if self.counts[name]}
        return Normalized(frame, rejected, tuple(self._problems), counts)


def _readable(text: str) -> str:
    """A text of the wire that can be stored and shown: bytes that were no UTF-8 are written out as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def request_text(path: str, params: Iterable[tuple[str, str]]) -> str:
    """Path and query of a request as one line of ASCII."""
    query = urlencode(list(params), errors="backslashreplace")
    return f"{path}?{query}" if query else path
