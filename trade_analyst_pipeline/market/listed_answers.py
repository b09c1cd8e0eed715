"""Answers that are one list of rows below one member, rows that may hold blocks: read strictly, else tolerantly.

What the members are called and mean belongs to the datasets.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import polars as pl

from trade_analyst_pipeline.market.answers import (
    Answered,
    read_body,
    required_members,
    tolerant_object,
    unknown_around,
)
from trade_analyst_pipeline.market.tolerant_json import (
    BadRow,
    RepeatedKeys,
    convert_header,
    convert_rows,
    repeated_field,
    repeated_keys,
)
from trade_analyst_pipeline.market.wire_json import (
    NOTHING_UNKNOWN,
    RowColumns,
    RowShape,
    Unknown,
    count_keys,
    decode_strict,
    envelope_type,
    row_type,
    stated_keys,
)

Document = dict[str, Any]


@dataclass(frozen=True)
class ListShape:
    """The declared form of an answer: its rows stand in a list below `member`, beside the members of `header`.

    `blocks` are objects that a row may hold, each below the name of its shape; none of their fields is required.
    """

    member: str
    header: RowShape
    row: RowShape
    blocks: tuple[RowShape, ...] = ()

    @property
    def places(self) -> Mapping[str, str]:
        """Where an undeclared field may be found, and in which shape."""
        rows = f"$.{self.member}[...]"
        return {
            "$": self.header.name,
            rows: self.row.name,
            **{f"{rows}.{each.name}": each.name for each in self.blocks},
        }

    def entry_type(self, unknown: Unknown = NOTHING_UNKNOWN) -> type[msgspec.Struct]:
        """The struct of a row with its blocks, which are None where they are missing."""
        blocks = [(block.name, row_type(block, unknown) | None, None) for block in self.blocks]
        return envelope_type(self.row, unknown, blocks) if blocks else row_type(self.row, unknown)

    def document_type(self, unknown: Unknown) -> type[msgspec.Struct]:
        """The struct of the whole answer."""
        entry: Any = self.entry_type(unknown)
        return envelope_type(self.header, unknown, [(self.member, list[entry])])


@dataclass
class ListedAnswer:
    """One answer, read: its header, the rows with their places in the list (from 1), the bad ones, what was seen."""

    header: Any
    rows: list[Any]
    places: list[int]
    unknown: Unknown = NOTHING_UNKNOWN
    bad: list[BadRow] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def reject(self, refuse: Callable[[Any], BadRow | None]) -> None:
        """Move the rows for which `refuse` gives a reason to the bad ones."""
        verdicts = [refuse(row) for row in self.rows]
        self.bad += [verdict for verdict in verdicts if verdict is not None]
        kept = [number for number, verdict in enumerate(verdicts) if verdict is None]
        self.rows, self.places = [self.rows[n] for n in kept], [self.places[n] for n in kept]


def _unchanged(document: Document) -> Document:
    return document


def read_listed(
    response: Answered, shape: ListShape, what: str, *, as_listed: Callable[[Document], Document] = _unchanged
) -> ListedAnswer:
    """The rows of a response, `what` in words; raises ResponseRejectedError when it is no such answer.

    `as_listed` brings an object that has the rows elsewhere into the declared form.
    """
    return read_body(
        response,
        strict=lambda body: _read_strict(body, shape),
        tolerant=lambda body: _read_tolerant(as_listed(tolerant_object(body, what)), shape),
    )


def _read_strict(body: bytes, shape: ListShape) -> ListedAnswer | None:
    """The rows by the fast path; None when a key is repeated."""
    document, unknown = decode_strict(body, shape.document_type, shape.places)
    rows = getattr(document, shape.member)
    if count_keys(body) > stated_keys(document) + sum(map(stated_keys, rows)) and repeated_keys(body):
        return None
    of_rows = {shape.row.name, *(block.name for block in shape.blocks)}
    around = frozenset(found for found in unknown if found.shape not in of_rows)
    return ListedAnswer(document, rows, list(range(1, len(rows) + 1)), unknown, [], unknown_around(around, shape.row))


def _read_tolerant(document: Document, shape: ListShape) -> ListedAnswer:
    """The rows by the slow path, which keeps what can be read and names what cannot."""
    lists = required_members(document, (shape.member,))
    around = {name: value for name, value in document.items() if name != shape.member}
    header, counts = convert_header(around, shape.header)
    counts[f"repeated_field:{shape.header.name}"] += isinstance(document, RepeatedKeys)
    answer = ListedAnswer(header, [], [], counts=counts + Counter(tolerant_parse=1))
    found = [
        row for listed in lists if listed is not None for row in (listed if isinstance(listed, list) else [listed])
    ]
    for place, value in enumerate(found, 1):
        entry = _converted(value, shape, answer.counts)
        if isinstance(entry, BadRow):
            answer.bad.append(entry)
        else:
            answer.rows.append(entry)
            answer.places.append(place)
    return answer


def _converted(value: Any, shape: ListShape, counts: Counter[str]) -> Any | BadRow:
    """A row with its blocks, or what is wrong with it; a block that is wrong makes the whole row bad."""
    if isinstance(value, RepeatedKeys):
        return repeated_field(value)
    blocks = {block.name: block for block in shape.blocks}
    parts: dict[str, Any] = {}
    inner = value
    if isinstance(value, dict):
        inner = {name: member for name, member in value.items() if name not in blocks}
        parts = {name: value[name] for name in blocks if value.get(name) is not None}
    for name, part in {"": inner, **parts}.items():
        good, bad, unknown = convert_rows([part], blocks.get(name, shape.row))
        counts.update(unknown)
        if bad:
            return bad[0]._replace(source=json.dumps(value))
        parts[name] = good[0]
    head = parts.pop("")
    members = {name: getattr(head, name) for name in row_type(shape.row).__struct_fields__}
    return shape.entry_type()(**members, **parts)


class ListedRows:
    """The rows of the answers of one capture becoming one table of wire columns.

    `same` are the columns that are equal in all rows of an answer, `place` is the row's place in its list.
    """

    PLACE: Final = "place"

    def __init__(self, shape: ListShape, same: Mapping[str, pl.DataType]) -> None:
        self._shape = shape
        self._parts = [RowColumns(part) for part in (shape.row, *shape.blocks)]
        self._schema = pl.Schema({**same, self.PLACE: pl.Int64()})
        self._around: list[tuple[Any, ...]] = []

    @property
    def counts(self) -> Counter[str]:
        """What was seen in the rows; complete once `table` was made."""
        return sum((columns.counts for columns in self._parts), Counter[str]())

    def values(self, column: str) -> list[Any]:
        """The values of one column of the rows themselves as Python objects."""
        return self._parts[0].values(column)

    def extend(self, answer: ListedAnswer, *same: Any) -> None:
        """Take on the rows of an answer, with their values of the columns that are the same."""
        first, *blocks = self._parts
        for row, place in zip(answer.rows, answer.places, strict=True):
            first.extend([_only(row, self._shape.row, answer.unknown)], answer.unknown)
            for columns in blocks:
                block = getattr(row, columns.shape.name)
                empty = row_type(columns.shape)
                columns.extend([empty() if block is None else block], answer.unknown if block else NOTHING_UNKNOWN)
            self._around.append((*same, place))

    def table(self) -> pl.DataFrame:
        """All of them: the columns that are the same, `place`, and the fields with a plain type."""
        around = pl.DataFrame(self._around, schema=self._schema, orient="row")
        return pl.concat([around, *(pl.DataFrame(part.series()) for part in self._parts)], how="horizontal")


def _only(row: Any, shape: RowShape, unknown: Unknown) -> msgspec.Struct:
    """The part of a row that is declared in one shape."""
    kind = row_type(shape, unknown)
    return kind(**{name: getattr(row, name) for name in kind.__struct_fields__})
