"""The declared places of rows: bodies with some rows left out, and members by column."""

from __future__ import annotations

import json

import pytest

from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.market.json_places import Place
from trade_analyst_pipeline.market.row_layout import RowLayout, member_places, row_places, with_rows_only
from trade_analyst_pipeline.market.wire_json import RowShape, wire_fields

LAYOUT = RowLayout(
    rows=("list []", "more * []"),
    row=RowShape("row", wire_fields("id:id:text price:price:number")),
    blocks=(RowShape("block", wire_fields("price:inner:number")),),
    around={"": RowShape("whole", wire_fields("id:owner:text price:price:number"))},
    made_of={"sum": ("price", "inner", "owner")},
    beside={"seen": "arrival"},
    may_be_bare=True,
)
BODY = (
    b'{"id":"me","price":9,"list":[{"id":"a","price":1,"block":{"price":2}},{"id":"b"}],'
    b'"more":{"x":[],"y":[{"id":"c"}]}}'
)


@pytest.mark.parametrize("name", DATASETS)
def test_every_column_is_accounted_for(name: str) -> None:
    """A column of a table comes from declared members, or it is said what else it comes from."""
    layout, schema = DATASETS[name].layout, DATASETS[name].schema
    shapes = (layout.row, *layout.blocks, *layout.around.values())
    declared = {each.column for shape in shapes for each in shape.fields}
    unknown = [
        column
        for column in schema.names
        if column not in layout.beside and not declared.intersection(layout.ingredients(column))
    ]
    assert unknown == []
    assert {*layout.made_of, *layout.beside} <= set(schema.names)
    assert {each for parts in layout.made_of.values() for each in parts} <= declared


def test_rows_are_found_in_declared_order() -> None:
    """Rows of all ways are found; without any the document is the row where that may be."""
    assert [place.path for place in row_places(BODY, LAYOUT)] == ["$.list[0]", "$.list[1]", "$.more.y[0]"]
    assert row_places(b' {"id":"z"}', LAYOUT) == [Place("$", 1, 10)]


@pytest.mark.parametrize("kept", [(), (0,), (1,), (0, 2), (0, 1, 2)])
def test_bodies_keep_only_some_rows(kept: tuple[int, ...]) -> None:
    """The rows named stay, the others go, and whatever is no row stays."""
    wanted = json.loads(BODY)
    wanted["list"] = [row for number, row in enumerate(wanted["list"]) if number in kept]
    wanted["more"]["y"] = wanted["more"]["y"] if 2 in kept else []
    assert json.loads(with_rows_only(BODY, LAYOUT, kept)) == wanted


def test_members_of_a_column_are_told_by_its_row_first() -> None:
    """A name that row and document share is the row's; ingredients come in the order declared."""
    first, second, _ = row_places(BODY, LAYOUT)
    found = member_places(BODY, LAYOUT, first, ["price", "sum", "seen"])
    assert {name: [(place.path, place.text(BODY)) for place in places] for name, places in found.items()} == {
        "price": [("$.list[0].price", "1")],
        "sum": [("$.list[0].price", "1"), ("$.list[0].block.price", "2"), ("$.id", '"me"')],
        "seen": [],
    }
    assert member_places(BODY, LAYOUT, second, ["price"]) == {"price": []}
    assert [LAYOUT.is_told_by_row(name) for name in ("id", "price", "sum", "owner", "seen")] == [
        True,
        True,
        False,
        False,
        False,
    ]
