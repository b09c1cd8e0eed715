"""The pages of metrics against the code: every column and word is named in the section of its metric."""

from __future__ import annotations

import ast
import doctest
import inspect
import math
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.metrics import (
    aggressor_confidence,
    aggressor_side,
    bulk_volume,
    exposure,
    forward,
    implied_volatility,
    iv_history,
    iv_rank,
    put_call_ratio,
    realized_volatility,
    term_structure,
    trade_location,
)

SCHEMAS = (
    aggressor_side.SCHEMA,
    aggressor_side.CUSTOMER_SCHEMA,
    aggressor_confidence.SCHEMA,
    bulk_volume.SCHEMA,
    forward.SCHEMA,
    implied_volatility.SCHEMA,
    iv_history.SCHEMA,
    iv_rank.SCHEMA,
    put_call_ratio.SCHEMA,
    put_call_ratio.DAILY_SCHEMA,
    realized_volatility.SCHEMA,
    term_structure.SCHEMA,
    exposure.SCHEMA,
    trade_location.SCHEMA,
)
MODULES = {
    "forward": forward,
    "implied_volatility": implied_volatility,
    "iv_history": iv_history,
    "iv_rank": iv_rank,
    "put_call_ratio": put_call_ratio,
    "realized_volatility": realized_volatility,
    "term_structure": term_structure,
    "exposure": exposure,
}


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    """Text of all pages."""
    pages = [repository / "docs/metrics.md", *sorted((repository / "docs/metrics").glob("*.md"))]
    return "\n".join(path.read_text(encoding="utf-8") for path in pages)


@pytest.fixture(scope="module")
def sections(page: str) -> dict[str, str]:
    """Text of each metric's section."""
    return dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def inputs(page: str) -> dict[str, Any]:
    """What the examples of the page assign, among it the tables they start from."""
    example = doctest.DocTestParser().get_doctest(page, {}, "metrics", None, None)
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(example, out=lambda _: None, clear_globs=False)
    return example.globs


def prose(section: str) -> str:
    """The sentences of a section, its examples left out, spaces and line ends alike."""
    return " ".join(re.sub(r"```.*?```", "", section, flags=re.DOTALL).split())


def words_of(module: ModuleType) -> set[str]:
    """Every word the module can put into a row: its literals, and the names of its conditions."""
    words = set()
    for function in ast.walk(ast.parse(inspect.getsource(module))):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pl.lit":
                words |= {part.value for part in node.args if isinstance(part, ast.Constant)}
            elif isinstance(node, ast.Dict) and function.name in {"_status", "_flags", "_days_bucket"}:
                words |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
    return {word for word in words if isinstance(word, str) and word}


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.name)
def test_every_column_is_named_in_its_section(sections: dict[str, str], schema: TableSchema) -> None:
    """Each column stands in code letters in the section of its table, whole and not abbreviated."""
    named = set(re.findall(r"`(\w+)`", sections[schema.name]))
    assert set(schema.names) - named == set()


@pytest.mark.parametrize(
    ("name", "fewest"),
    [
        ("forward", 14),
        ("implied_volatility", 10),
        ("iv_history", 14),
        ("iv_rank", 5),
        ("put_call_ratio", 12),
        ("realized_volatility", 2),
        ("term_structure", 8),
        ("exposure", 4),
    ],
)
def test_every_word_of_the_code_is_named_in_its_section(sections: dict[str, str], name: str, fewest: int) -> None:
    """A status, flag or scope that the code can write, also one added later, is in the section of its metric."""
    words = words_of(MODULES[name])
    if name == "put_call_ratio":
        words |= {word for quantity in put_call_ratio._QUANTITIES for word in (quantity.nothing, quantity.missing)}
        words.add(put_call_ratio.UNIVERSE)
    if name == "implied_volatility":
        words |= set(implied_volatility.REASONS)
    assert len(words) >= fewest
    assert words - set(re.findall(r"`(\w+)`", sections[name])) == set()


def test_series_of_the_code_is_named(sections: dict[str, str]) -> None:
    """Each series has in the page the name it has in the table."""
    assert set(iv_history.SERIES) <= set(re.findall(r"`(\w+)`", sections["iv_history"]))


def test_windows_and_limits_are_those_of_the_code(sections: dict[str, str]) -> None:
    """The windows and the least history that the page names are the ones in use."""
    assert iv_rank.WINDOWS == (63, 126, 252)
    assert "once per window W of 63, 126 and 252 sessions" in sections["iv_rank"]
    assert iv_rank.MINIMUM_OBSERVATIONS == 60
    assert "fewer than 60 prior values" in sections["iv_rank"]
    assert realized_volatility.WINDOWS == (10, 21, 63, 252)
    assert "n = 10, 21, 63 and 252 returns" in sections["realized_volatility"]
    assert realized_volatility.SESSIONS_PER_YEAR == 252
    assert put_call_ratio.SMOOTHED_SESSIONS == (5, 10, 21)


def expiry_by_hand(rows: list[dict[str, Any]]) -> tuple[float, float, float, float]:
    """Days, forward, weight of the upper strike and volatility of an expiry with two strikes and no interest."""
    mids = {(row["strike"], row["option_type"]): (row["bid"] + row["ask"]) / 2 for row in rows}
    volatilities = {row["strike"]: row["vendor_implied_volatility"] for row in rows}
    low, high = sorted(volatilities)
    closest = min((low, high), key=lambda strike: abs(mids[strike, "C"] - mids[strike, "P"]))
    forward = closest + mids[closest, "C"] - mids[closest, "P"]
    weight = math.log(forward / low) / math.log(high / low)
    iv = math.sqrt((1 - weight) * volatilities[low] ** 2 + weight * volatilities[high] ** 2)
    days = (rows[0]["expiration_time"] - rows[0]["snapshot_time"]).total_seconds() / 86400
    return days, forward, weight, iv


def test_iv_history_example_by_hand(sections: dict[str, str], inputs: dict[str, Any]) -> None:
    """From the chain printed, the page's steps give every number of its sentences."""
    expiries: dict[Any, list[dict[str, Any]]] = {}
    for row in inputs["chain"].iter_rows(named=True):
        expiries.setdefault(row["expiration_date"], []).append(row)
    near, far = (expiry_by_hand(expiries[day]) for day in sorted(expiries))
    near_total, far_total = near[0] * near[3] ** 2, far[0] * far[3] ** 2
    way = (30 - near[0]) / (far[0] - near[0])
    total = near_total + way * (far_total - near_total)
    text = prose(sections["iv_history"])
    assert near[1] == pytest.approx(102, abs=1e-9)
    for number in (near[2], near[3], far[3], near[0], far[0], way, near_total, far_total, total):
        assert f"{number:.5f}" in text
    assert f"√({total:.5f} / 30) = {math.sqrt(total / 30):.5f}" in text
    assert f"{math.sqrt(total / 30):.5f})" in sections["iv_history"]
