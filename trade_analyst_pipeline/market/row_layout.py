"""Where the rows of a dataset's answers stand in their JSON, and which members each column of a row comes from.

Each dataset declares one `RowLayout` beside its shapes; that is all that tracing needs to know about it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from trade_analyst_pipeline.market.json_places import Holder, Place, holders, items, member, whole
from trade_analyst_pipeline.market.wire_json import RowShape

Beside = Literal["arrival", "capture", "request", "name", "position", "other answers"]


@dataclass(frozen=True)
class RowLayout:
    """The declared places of rows.

    `rows` are the ways to the objects that become rows, steps separated by spaces, as `holders` takes them; where none
    of them is there and it `may_be_bare`, the document itself is the row. `passed_over` are members that are no rows.
    `row` is the shape of such an object, `blocks` are shapes of objects inside it, each below the shape's name,
    `around` shapes of objects that speak for every row of the answer, by the name of their member (empty for the
    document).

    A column comes from the members declared under its name, and from those that `made_of` names for it (their columns).
    `beside` says of columns what else they come from: the `arrival` of the answer, the `capture` it was filed in, the
    `request`, the `name` above the row, its `position` in the list, or `other answers` of the capture.
    """

    rows: tuple[str, ...]
    row: RowShape
    blocks: tuple[RowShape, ...] = ()
    around: Mapping[str, RowShape] = field(default_factory=dict)
    passed_over: frozenset[str] = frozenset()
    may_be_bare: bool = False
    made_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    beside: Mapping[str, Beside] = field(default_factory=dict)

    def ingredients(self, column: str) -> tuple[str, ...]:
        """The declared columns whose members a column of the table comes from, its own first."""
        return tuple(dict.fromkeys((column, *self.made_of.get(column, ()))))

    def columns_of_row(self) -> frozenset[str]:
        """Declared columns of the row and its blocks."""
        return frozenset(each.column for shape in (self.row, *self.blocks) for each in shape.fields)

    def is_told_by_row(self, column: str) -> bool:
        """Whether a column of the table comes from nothing but members of the row."""
        own, said = self.columns_of_row(), set(self.ingredients(column))
        declared = own | {each.column for shape in self.around.values() for each in shape.fields}
        return column not in self.beside and bool(said & own) and not (said & declared) - own


def row_holders(body: bytes, layout: RowLayout) -> list[Holder]:
    """What holds the rows of an answer, in declared order; none where the document is the row.

    Raises PlaceUnknownError.
    """
    return [
        holder
        for way in layout.rows
        for holder in holders(body, way.split(), passed_over=layout.passed_over)
        if holder.wanted
    ]


def row_places(body: bytes, layout: RowLayout) -> list[Place]:
    """The places of the objects that become rows, in declared order; raises PlaceUnknownError."""
    held = [holder.items[number].place for holder in row_holders(body, layout) for number in holder.wanted]
    return held or ([whole(body)] if layout.may_be_bare else [])


def with_rows_only(body: bytes, layout: RowLayout, kept: Collection[int]) -> bytes:
    """The body without all rows but these, counted as in `row_places`; whatever is no row stays.

    Raises PlaceUnknownError.
    """
    edits: list[tuple[int, int, bytes]] = []
    number = 0
    for holder in row_holders(body, layout):
        left = []
        for place, item in enumerate(holder.items):
            is_row = place in holder.wanted
            if not is_row or number in kept:
                left.append(body[item.start : item.end])
            number += is_row
        edits.append((holder.place.offset + 1, holder.place.offset + holder.place.length - 1, b",".join(left)))
    parts, position = [], 0
    for start, end, text in sorted(edits):
        parts += [body[position:start], text]
        position = end
    return b"".join([*parts, body[position:]])


def member_places(body: bytes, layout: RowLayout, row: Place, columns: Collection[str]) -> dict[str, list[Place]]:
    """For each of these columns the members that it comes from in the row at `row`, those that are there.

    Raises PlaceUnknownError.
    """
    found: dict[str, Place] = {}
    undeclared = {name for column in columns for name in layout.ingredients(column)}
    for shape, at in _objects(body, layout, row):
        declared = {each.wire: each.column for each in shape.fields if each.column in undeclared}
        undeclared.difference_update(declared.values())  # a name that several shapes declare is that of the first
        if declared and at is not None:
            found |= {declared[item.name]: item.place for item in items(body, at) if item.name in declared}
    return {column: [found[name] for name in layout.ingredients(column) if name in found] for column in columns}


def _objects(body: bytes, layout: RowLayout, row: Place) -> Iterator[tuple[RowShape, Place | None]]:
    """The shapes of the row, of its blocks and of what stands around it, each with its place where it is there."""
    yield layout.row, row
    for shape in layout.blocks:
        yield shape, member(body, row, shape.name)
    for name, shape in layout.around.items():
        yield shape, member(body, whole(body), name) if name else whole(body)
