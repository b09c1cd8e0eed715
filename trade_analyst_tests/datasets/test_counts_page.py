"""docs/counts.md names every count, reason and rule that the code can produce, and nothing else; its example runs."""

from __future__ import annotations

import ast
import doctest
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from mutations import mutated_bodies
from test_mutations import documents, responses
from wire_bodies import SESSION

from trade_analyst_pipeline.datasets import DATASETS

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "trade_analyst_pipeline"
PAGE = REPOSITORY / "docs" / "counts.md"
# Everything that looks at an answer before its rows are judged.
MODULES = [*sorted((PACKAGE / "datasets").glob("*.py")), *sorted((PACKAGE / "market").glob("*.py"))]


def listed(heading: str) -> list[str]:
    """The first cells of the table below a heading of the page, without what stands for a name: `kind:<where>`."""
    (text,) = re.findall(
        rf"^## {heading}\n(.+?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return [cell.partition("<")[0] for cell in re.findall(r"^\| `([^`]+)` \|", text, flags=re.MULTILINE)]


def calls(name: str, modules: list[Path]) -> Iterator[ast.Call]:
    """Every call of a function or class of that name."""
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                yield node


def texts(node: ast.AST) -> Iterator[str]:
    """The texts an expression can be, an f-string up to its first value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield from texts(node.values[0])
    elif isinstance(node, ast.IfExp):
        yield from (*texts(node.body), *texts(node.orelse))


def first_arguments(name: str) -> set[str]:
    """What calls of that name are given first, as text; fails on a call whose text cannot be read off."""
    found = set()
    for call in calls(name, MODULES):
        told = set(texts(call.args[0]))
        assert told, f"line {call.lineno}: write the text where {name} is called"
        found |= told
    return found


def counted() -> set[str]:
    """The kinds of counts in the code: subscripts of `counts`, members of a Counter, and f-strings `kind:…`."""
    found = set()
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("counts"):
                found |= set(texts(node.slice))
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "Counter":
                found |= {keyword.arg for keyword in node.keywords if keyword.arg}
            elif isinstance(node, ast.JoinedStr):
                found |= {text for text in texts(node) if re.fullmatch(r"[a-z][a-z_]*:.*", text)}
    return {text.partition(":")[0] for text in found}


def kinds(names: list[str]) -> list[str]:
    """Counts by kind."""
    return sorted(name.partition(":")[0] for name in names)


def test_every_count_of_the_code_is_on_the_page() -> None:
    """Each kind of count that the code can make has its row, and no row is left over."""
    assert kinds(listed("Counts")) == sorted(counted())


def test_every_reason_and_rule_of_the_code_is_on_the_page() -> None:
    """Each reason of a problem, and each rule of a row that cannot be typed, has its row, and no row is left over."""
    assert sorted(listed("Problems")) == sorted(first_arguments("ResponseRejectedError"))
    repeated = {text for call in calls("BadRow", MODULES) for text in texts(call.args[0])}
    assert sorted(listed("Rows that cannot be typed")) == sorted(first_arguments("_RowError") | repeated)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_what_spoiled_answers_show_is_on_the_page(name: str) -> None:
    """Whatever hundreds of spoiled answers make a dataset count, refuse or reject, the page explains it."""
    bodies = list(mutated_bodies(documents(name), seed=11, count=400))
    found = DATASETS[name].normalize(responses(name, bodies), session_date=SESSION)
    assert set(kinds(list(found.counts))) <= set(kinds(listed("Counts")))
    assert {problem.reason for problem in found.problems} <= set(listed("Problems"))
    heads = tuple(listed("Rows that cannot be typed"))
    assert [rule for rule in found.rejected["rule"].unique() if not rule.startswith(heads)] == []


def test_objects_with_unknown_fields_are_named() -> None:
    """The page says which objects the wire is declared as."""
    shapes = {text for call in calls("RowShape", MODULES) for text in texts(call.args[0])}
    (row,) = re.findall(r"^\| `unknown_field:.+$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert shapes == set(re.findall(r"`(\w+)`", row))


def test_example_of_the_page_runs() -> None:
    """The example gives what the page says."""
    result = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert (result.failed, result.attempted > 8) == (0, True)
