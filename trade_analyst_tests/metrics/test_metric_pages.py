"""The pages of metrics are a specification that executes.

Every example is worked twice, by the product and by a second implementation in exact or 30-digit arithmetic that shares
nothing with it (`plain_metrics/`), and both must give what is printed. Every column is shown in an example, and every
page says which code it was last read beside.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import mpmath
import plain_metrics
import pytest
from page_examples import Example, Expected, Row, examples_of, frame_of, is_as_printed

from trade_analyst_pipeline import metrics
from trade_analyst_pipeline.market.aggressor_posterior import default_posterior
from trade_analyst_pipeline.market.columns import TableSchema

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((REPOSITORY / "docs/metrics").glob("*.md"))}
EXAMPLES = [(page, example) for page, text in PAGES.items() for example in examples_of(text)]
# How far the two may be apart: rounding of doubles, and what an inversion or a fit makes of it.
CLOSENESS = 1e-11


def public(package: ModuleType) -> dict[str, Callable[..., Any]]:
    """The functions of a package's modules that have a page, by name."""
    modules = [importlib.import_module(f"{package.__name__}.{page}") for page in PAGES if has_module(package, page)]
    found = [(name, value) for module in modules for name, value in vars(module).items()]
    return {name: value for name, value in found if callable(value) and not name.startswith("_")}


def has_module(package: ModuleType, name: str) -> bool:
    """Whether a package has a module of that name."""
    return name in {info.name for info in pkgutil.iter_modules(package.__path__)}


PRODUCT = public(metrics) | {"default_posterior": default_posterior}
PLAIN = public(plain_metrics)


def called(call: str, functions: Mapping[str, Callable[..., Any]], tables: Mapping[str, Any]) -> Any:
    """What the call printed in a page gives with these functions."""
    names = {**functions, **tables, "timedelta": timedelta, "date": date, "datetime": datetime}
    return eval(call, {"__builtins__": {}}, names)  # noqa: S307  a line of our own pages


@cache
def outcomes(example: Example, expected: Expected) -> tuple[list[Row], list[Row]]:
    """The rows that the product gives, and those of the second implementation."""
    frames = {name: frame_of(rows) for name, rows in example.given.items()}
    with mpmath.workdps(30):
        return called(expected.call, PRODUCT, frames).to_dicts(), called(expected.call, PLAIN, example.given)


def matched(expected: Expected, rows: Sequence[Row]) -> Iterator[tuple[Mapping[str, str], Row]]:
    """Each row printed with the one it stands for; fails where there is none, or one too many."""
    if expected.is_whole:
        assert len(rows) == len(expected.rows), f"{expected.call} gives {len(rows)} rows"
        yield from zip(expected.rows, rows, strict=True)
        return
    for printed in expected.rows:
        exact = [name for name in printed if not isinstance(rows[0][name], float)]
        key = [name for name in exact if name in KEYS]
        found = [row for row in rows if all(is_as_printed(name, printed[name], row[name]) for name in key)]
        assert len(found) == 1, f"{expected.call} gives {len(found)} rows for {printed}"
        yield printed, found[0]


KEYS = frozenset(
    name
    for page in PAGES
    for schema in vars(importlib.import_module(f"{metrics.__name__}.{page}")).values()
    if isinstance(schema, TableSchema)
    for name in schema.key
)
CALLS = [
    pytest.param(example, expected, id=f"{page}: {expected.call} {i}")
    for page, example in EXAMPLES
    for i, expected in enumerate(example.expected)
]


@pytest.mark.parametrize(("example", "expected"), CALLS)
def test_both_give_what_is_printed(example: Example, expected: Expected) -> None:
    """The product and the second implementation give every figure of the page, to the digits printed."""
    for rows in outcomes(example, expected):
        for printed, row in matched(expected, rows):
            wrong = {name: row[name] for name, cell in printed.items() if not is_as_printed(name, cell, row[name])}
            assert wrong == {}, printed


@pytest.mark.parametrize(("example", "expected"), CALLS)
def test_both_agree_in_every_column(example: Example, expected: Expected) -> None:
    """Rows that are printed or not, figures rounded or not: the two implementations say the same."""
    ours, theirs = outcomes(example, expected)
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        assert our.keys() == their.keys()
        apart = {name: (our[name], their[name]) for name in our if not is_close(our[name], their[name])}
        assert apart == {}, our


def is_close(ours: Any, theirs: Any) -> bool:
    """Whether two values are the same, numbers within rounding."""
    if isinstance(ours, float) and theirs is not None:
        return abs(ours - float(theirs)) <= CLOSENESS * max(1.0, abs(ours))
    return bool(ours == theirs)


def shown(page: str) -> Mapping[str, set[str]]:
    """Every column printed as a result in a page's examples, by function and column: `function.column` to its cells."""
    found: dict[str, set[str]] = {}
    for _, example in (each for each in EXAMPLES if each[0] == page):
        for expected in example.expected:
            for row in expected.rows:
                for name, cell in row.items():
                    found.setdefault(f"{expected.function}.{name}", set()).add(cell)
    return found


SCHEMAS = [
    pytest.param(page, schema, id=schema.name)
    for page in PAGES
    for schema in vars(importlib.import_module(f"{metrics.__name__}.{page}")).values()
    if isinstance(schema, TableSchema) and not schema.name.startswith("_")
]


# Pages whose examples are still Python sessions.
PYTHON_EXAMPLES = {"exposure", "iv_history", "term_structure"}


@pytest.mark.parametrize(("page", "schema"), SCHEMAS)
def test_every_column_has_an_example(page: str, schema: TableSchema) -> None:
    """Each column stands in a result printed in the page of its metric, with a value in one of them."""
    if page in PYTHON_EXAMPLES:
        pytest.skip("its examples run as Python sessions")
    cells = shown(page)
    assert [name for name in schema.names if not cells.get(f"{schema.name}.{name}", set()) - {"null"}] == []


def test_every_metric_has_a_page_and_every_page_a_metric() -> None:
    """One page for each module of `metrics/`, under its name."""
    assert set(PAGES) == {info.name for info in pkgutil.iter_modules(metrics.__path__)}


@pytest.fixture(scope="module")
def reading() -> ModuleType:
    """The script that says which pages have to be read again."""
    spec = importlib.util.spec_from_file_location("ci_metric_pages", REPOSITORY / ".ci/metric_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ci_metric_pages"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES)
def test_page_was_read_beside_this_code(reading: ModuleType, page: str) -> None:
    """A change of what a metric reaches has to be followed by a look at its page."""
    assert reading.changed(page, PAGES[page]) == [], f"read docs/metrics/{page}.md, then: make pages ARGS={page}"


def test_changed_code_is_noticed(reading: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: one digest that is another, one module that is new and one that is gone are each named."""
    page = reading.accepted("iv_rank", PAGES["iv_rank"])
    assert reading.changed("iv_rank", page) == []
    now = dict(reading.digests("iv_rank"))
    other = now | {"metrics.iv_rank": "0" * 16, "kernels.new": "1" * 16}
    del other["market.sessions"]
    monkeypatch.setattr(reading, "digests", lambda _: other)
    assert reading.changed("iv_rank", page) == ["kernels.new", "market.sessions", "metrics.iv_rank"]
