"""The page of formulas: its examples run and give the numbers printed, and it names every metric, status and flag."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

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
    surface_check,
    term_structure,
    trade_location,
    volatility_index,
)


@pytest.fixture(scope="module")
def page(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages in one."""
    pages = [repository / "docs/metrics.md", *sorted((repository / "docs/metrics").glob("*.md"))]
    whole = tmp_path_factory.mktemp("pages") / "metrics.md"
    whole.write_text("\n".join(path.read_text(encoding="utf-8") for path in pages), encoding="utf-8")
    return whole


def test_examples_give_the_numbers_printed(page: Path) -> None:
    """Every example of the page runs as it stands and prints what the page says."""
    result = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert result.attempted >= 20
    assert result.failed == 0


def test_every_metric_has_a_section(page: Path) -> None:
    """Each metric table has a section of its own."""
    sections = set(re.findall(r"^## (\S+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE))
    schemas = (
        forward.SCHEMA,
        implied_volatility.SCHEMA,
        iv_history.SCHEMA,
        iv_rank.SCHEMA,
        put_call_ratio.SCHEMA,
        put_call_ratio.DAILY_SCHEMA,
        term_structure.SCHEMA,
        exposure.SCHEMA,
        volatility_index.SCHEMA,
        surface_check.SCHEMA,
    )
    of_trades = (aggressor_side.SCHEMA, aggressor_side.CUSTOMER_SCHEMA, aggressor_confidence.SCHEMA, bulk_volume.SCHEMA)
    assert sections == {
        "prevailing_quote",
        *(schema.name for schema in (*schemas, *of_trades, realized_volatility.SCHEMA, trade_location.SCHEMA)),
    }


@pytest.mark.parametrize(
    "word",
    [
        *("ok", "single", "after_hours", "no_expiry", "no_quotes", "no_volatility", "no_forward", "no_strikes"),
        *("sides_disagree", "calendar", "forward_spread", "short_expiry", "rate_assumed", "early_snapshot"),
        *("expiry_skipped", "partial", "flat", "short", "stale", "no_calls", "no_trades", "no_open_interest"),
        *("first_trade", "undecided", "even", "multi_leg", "option_prior", "previous_update", "unseen"),
        *("no_price", "no_delta", "unknown", "underlying", "expiration", "universe", "days_over_90", "delta_unknown"),
        *("no_expiration_time", "expired", "one_sided", "no_pairs", "inconsistent", "few_pairs", "extrapolated"),
        *("adjusted", "parity", "curve", "chain", "assumed"),
    ],
)
def test_every_word_a_row_may_hold_is_explained(page: Path, word: str) -> None:
    """Each status, flag and scope stands in the first column of a table of the page."""
    first_columns = [line.split("|")[1] for line in page.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    assert any(f"`{word}`" in cell for cell in first_columns)
