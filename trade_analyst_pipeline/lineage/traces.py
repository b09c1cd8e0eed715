"""What tracing a value found, as plain values: the stored row, what is between, the records, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from trade_analyst_pipeline.lineage.metric_sources import Below
from trade_analyst_pipeline.storage.manifest import Partition

Row = dict[str, Any]
Verdict = Literal["equal", "unequal", "no_row"]


@dataclass(frozen=True)
class Member:
    """A member of a JSON body that a column comes from: its path, first byte and length there, and what it says."""

    column: str
    path: str
    offset: int
    length: int
    text: str


@dataclass(frozen=True)
class RowObject:
    """The object of a JSON body that became the row traced: path, first byte and length there."""

    path: str
    offset: int
    length: int


@dataclass(frozen=True)
class SourceRecord:
    """One archived record that was read.

    `number` counts the records of the capture from 1; `offset` and `length` are the bytes of `file` that hold it,
    compressed and checked; `body_sha256` and `body_bytes` are of the body as it arrived. `request` is path and query;
    times are UTC, on the source's clock. Only the record that holds the row traced has `row`, and `members`: those
    that the columns traced come from. A row of a metric comes from the whole bodies of its records.
    """

    dataset: str
    session_date: date
    capture_id: str
    file: str
    number: int
    offset: int
    length: int
    request: str
    status: int
    requested_time: datetime
    received_time: datetime
    body_sha256: str
    body_bytes: int
    row: RowObject | None = None
    members: tuple[Member, ...] = ()


@dataclass(frozen=True)
class StoredIn:
    """The partition that holds the row: its schema version, the code that made it, when, and from what."""

    partition: Partition
    schema_version: str
    code_version: str
    content_hash: str
    created_time: datetime
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Trace:
    """The way from a stored row to the bytes of the archive, and what those bytes give.

    `table` is the name in SQL, `key` the row's key, `stored` the columns asked for as stored. `verdict` is `equal` when
    the `records`, read, normalised and computed by the code of `code_version`, give the same values; `unequal` when
    they give others (`recomputed`; `differing` names the columns); `no_row` when they give no such row, for the reason
    in `detail`. `below` are the tables between a metric and the archive, from the metric down. `beside` says of a
    column what it comes from besides members of a body: the `arrival` of the answer, the `capture` it was filed in,
    the `request`, the `name` above the row, its `position` in the list, `other answers` of the capture.
    """

    table: str
    key: Row
    column: str | None
    stored: Row
    recomputed: Row | None
    verdict: Verdict
    differing: tuple[str, ...]
    detail: str
    stored_in: StoredIn
    code_version: str
    below: tuple[Below, ...]
    beside: dict[str, str]
    records: tuple[SourceRecord, ...]

    @property
    def is_equal(self) -> bool:
        """Whether the bytes give what is stored."""
        return self.verdict == "equal"
