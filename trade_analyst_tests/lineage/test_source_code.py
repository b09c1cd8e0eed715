"""What of the source a computation reaches, on a small package written out here."""

from __future__ import annotations

from pathlib import Path

import pytest

from trade_analyst_pipeline.lineage.source_code import SourceTree

P = "trade_analyst_pipeline"
FILES = {
    "market/columns.py": '''
"""Columns."""
from polars import Float64
_DECLARED = (Column("bid", Float64(), "dollars", "Best bid."), Column("ask", Float64(), "dollars", "Best ask."))
COLUMNS = {column.name: column for column in _DECLARED}
def table_schema(names):
    return [COLUMNS[name] for name in names]
''',
    "market/prices.py": f'''
"""Prices."""
from {P}.market.columns import table_schema
SCALE = 10_000
def cents(price):
    """In hundredths."""
    return _rounded(price * 100)
def _rounded(value):  # to the nearest
    return round(value)
def unused(price):
    return price / SCALE
''',
    "market/book.py": f'''
from {P}.market import prices
import numpy as np
class Book:
    """Both sides."""
    depth = 5
    def __init__(self, side):
        self.side = side
    def best(self):
        return prices.cents(self.side[0])
    def worst(self):
        return prices.unused(self.side[-1])
class Shown(Book):
    def best(self):
        return 0
class Json(np.ndarray):
    def dispatched(self):
        return 1
''',
    "metrics/spread.py": f'''
"""Spread."""
from __future__ import annotations
from typing import TYPE_CHECKING
from {P}.market import prices
from {P}.market.columns import table_schema
if TYPE_CHECKING:
    from {P}.market.book import Book
SCHEMA = table_schema(["bid"])
def spread(book: Book):
    """Ask less bid."""
    return book.best()
def late(book):
    from {P}.kernels import fast
    return fast.run(book)
def foreign(array):
    from {P}.market.book import Json
    return Json(array)
def deep(side):
    from {P}.market.book import Book
    return _deeper(Book(side))
def _deeper(book):
    return book.best()
def shadowed(prices):
    return prices[0].unused
def whole(value):
    from {P}.market import prices
    return vars(prices)
''',
    "kernels/__init__.py": "",
    "kernels/fast.py": "from numba import njit\nLIMIT = 3\nnjit(print)\n@njit\ndef run(book):\n    return LIMIT\n",
}
ROOTS = {
    "schema": ("metrics.spread", "SCHEMA"),
    "spread": ("metrics.spread", "spread"),
    "late": ("metrics.spread", "late"),
    "foreign": ("metrics.spread", "foreign"),
    "deep": ("metrics.spread", "deep"),
    "shadowed": ("metrics.spread", "shadowed"),
    "whole": ("metrics.spread", "whole"),
}


def _tree(folder: Path, changed: dict[str, str] | None = None) -> SourceTree:
    for name, text in (FILES | (changed or {})).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return SourceTree(folder)


@pytest.mark.parametrize(
    ("file", "old", "new", "reached_by"),
    [
        ("market/prices.py", "round(value)", "round(value, 1)", "deep spread whole"),
        ("market/prices.py", "price / SCALE", "price", "whole"),
        ("market/prices.py", "10_000", "100", "whole"),
        ("market/book.py", "depth = 5", "depth = 6", "deep spread"),
        ("market/book.py", "self.side[0]", "self.side[1]", "deep spread"),
        ("market/book.py", "self.side[-1]", "self.side[-2]", ""),
        ("market/book.py", "= side", "= list(side)", "deep spread"),
        ("market/book.py", "return 0", "return 2", ""),
        ("market/book.py", "return 1", "return 2", "foreign"),
        ("market/columns.py", '"ask", Float64()', '"ask", Int64()', ""),
        ("market/columns.py", '"bid", Float64()', '"bid", Int64()', "schema"),
        ("market/columns.py", "Best bid.", "The best bid.", ""),
        ("market/columns.py", "in names", "in sorted(names)", "schema whole"),
        ("kernels/fast.py", "LIMIT = 3", "LIMIT = 4", "late"),
        ("kernels/fast.py", "njit(print)", "njit(len)", "late"),
        ("metrics/spread.py", "fast.run(book)", "fast.run(None)", "late"),
        # what does not count
        ("market/prices.py", "In hundredths.", "In cents.", ""),
        ("market/prices.py", "  # to the nearest", "", ""),
        ("market/prices.py", "return round(value)", "return round(\n        value,\n    )", ""),
    ],
)
def test_a_change_is_seen_by_what_it_reaches(tmp_path: Path, file: str, old: str, new: str, reached_by: str) -> None:
    """Each change of the small package alters what those definitions reach that name it, however far away, only."""
    assert FILES[file].count(old) == 1
    before = _tree(tmp_path / "before")
    after = _tree(tmp_path / "after", {file: FILES[file].replace(old, new)})
    seen = {name for name, root in ROOTS.items() if before.reached([root]) != after.reached([root])}
    assert seen == set(reached_by.split())


def test_packages_that_are_imported_on_the_way_are_named(tmp_path: Path) -> None:
    """Only packages that the reached definitions use count, the standard library never."""
    tree = _tree(tmp_path)
    foreign = {name: tree.reached([root]).foreign for name, root in ROOTS.items()}
    assert foreign["late"] == {"numba"}
    assert foreign["schema"] == {"polars"}
    assert foreign["spread"] == set()
    assert foreign["foreign"] == {"numpy"}


def test_names_can_be_left_out_where_a_walk_begins(tmp_path: Path) -> None:
    """What is left out is not followed from the roots themselves, and is further on."""
    tree = _tree(tmp_path)
    spread, late = ROOTS["spread"], ROOTS["late"]
    assert set(tree.reached([late], apart_from=["run"]).modules) == {"metrics.spread"}
    assert "market.prices" in tree.reached([spread], apart_from=["cents"]).modules


@pytest.mark.parametrize("root", [("metrics.spread", "gone"), ("metrics.gone", "spread"), ("market.prices", "x.y")])
def test_a_definition_that_is_not_there_is_an_error(tmp_path: Path, root: tuple[str, str]) -> None:
    """A root that was renamed is named, rather than reaching nothing."""
    with pytest.raises(LookupError, match=r"gone|x\.y"):
        _tree(tmp_path).reached([root])


def test_an_import_of_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A module that imports from nowhere cannot be walked through."""
    tree = _tree(tmp_path, {"metrics/spread.py": f"from {P}.gone import x\ndef spread():\n    return x\n"})
    with pytest.raises(LookupError, match="gone"):
        tree.reached([ROOTS["spread"]])
