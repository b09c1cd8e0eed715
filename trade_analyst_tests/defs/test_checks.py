"""What asset checks say: of rules that were judged, of rules that were not, and of closes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
import stored
from stored import rows_of

from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.defs.checks import closes_agree, rule_checks, rule_results, surface_holds
from trade_analyst_pipeline.lineage.built import Built
from trade_analyst_pipeline.metrics import surface_check
from trade_analyst_pipeline.storage.tables import TableStore
from trade_analyst_pipeline.validation import all_rules

pytestmark = pytest.mark.filterwarnings("ignore:.*currently in beta:Warning")
KEY = dg.AssetKey(["tables", "options"])
SCHEMA = DATASETS["options"].schema
MONDAY, TUESDAY, WEDNESDAY = date(2026, 1, 5), date(2026, 1, 6), date(2026, 1, 7)


def results(*built: Built) -> dict[str, dg.AssetCheckResult]:
    """Check results by name."""
    return {str(result.check_name): result for result in rule_results(KEY, SCHEMA, built)}


def judged(day: date, status: Any = "built", **broken: int) -> Built:
    """A session whose captures were judged."""
    return Built("options", day, status, rule_counts={rule.name: 0 for rule in all_rules(SCHEMA)} | broken)


def test_checks_are_named_by_what_a_row_meets_with() -> None:
    """In the list, which is by name, errors stand together, then warnings; the description says what they mean."""
    specs = {spec.name: spec for spec in rule_checks(KEY, SCHEMA)}
    assert {"error_required_symbol", "error_negative_volume", "warning_delta_parity"} <= specs.keys()
    assert {name.partition("_")[0] for name in specs} == {"error", "warning"}
    assert specs["error_negative_volume"].description == (
        "The volume is not negative. A row that breaks this goes to quarantine."
    )
    assert str(specs["warning_delta_parity"].description).endswith("A row that breaks this is kept and counted.")


def test_an_unchanged_session_keeps_its_warnings() -> None:
    """Whether a session was built now or before, a rule broken in it does not pass."""
    for status in ("built", "unchanged"):
        found = results(judged(MONDAY), judged(TUESDAY, status, negative_volume=3))
        assert not found["error_negative_volume"].passed
        metadata = found["error_negative_volume"].metadata
        assert {name: value.value for name, value in metadata.items()} == {
            "rows": 3,
            "judged_sessions": 2,
            "sessions": 1,
            "first_session": "2026-01-06",
            "last_session": "2026-01-06",
        }
        assert found["error_expired"].passed


def test_nothing_passes_where_nothing_was_judged() -> None:
    """A session that could not be read says nothing about any rule; beside one that could, the latter counts."""
    unread = Built("options", MONDAY, "failed", detail="frame 1: damaged")
    assert not any(result.passed for result in results(unread).values())
    assert all(result.passed for result in results(unread, judged(TUESDAY)).values())


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    """An empty store."""
    return TableStore(tmp_path)


def put(store: TableStore, name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Rows as partitions of a table; columns that are not given are null."""
    schema = DATASETS[name].schema
    for (day,), part in rows_of(schema, rows).partition_by("session_date", as_dict=True).items():
        stored.put(store, schema, part, day, created_time=datetime.combine(day, time(21), UTC))


def quote(symbol: str, day: date, minute: int, **prices: Any) -> dict[str, Any]:
    """A quote before the close of a session."""
    moment = datetime.combine(day, time(20, minute), UTC)
    return {"symbol": symbol, "session_date": day, "snapshot_time": moment, "asset_type": "EQUITY"} | prices


def bar(symbol: str, day: date, close: float, known: int = 22) -> dict[str, Any]:
    """A daily bar."""
    at = datetime.combine(day, time(6), UTC)
    known_time = datetime.combine(day, time(), UTC) + timedelta(hours=known)
    return {"symbol": symbol, "frequency": "daily", "session_date": day, "bar_time": at, "close": close} | {
        "known_time": known_time
    }


def agree(store: TableStore) -> tuple[bool, dict[str, Any], str | None]:
    """Whether the check passes, what it says, and why."""
    result: Any = closes_agree(SimpleNamespace(tables=store))
    return result.passed, {name: value.value for name, value in result.metadata.items()}, result.description


def test_nothing_to_compare_does_not_pass(store: TableStore) -> None:
    """Without bars, without quotes, or with none of a common session, the check says so and warns."""
    assert agree(store)[0] is False
    put(store, "ohlc", [bar("XYZ", MONDAY, 100.0)])
    put(store, "quotes", [quote("XYZ", TUESDAY, 55, regular_last=100.0), quote("ABC", MONDAY, 55, last=100.0)])
    passed, said, why = agree(store)
    assert (passed, said["compared"]) == (False, 0)
    assert why == "nothing to compare: no session has both a daily bar and quotes"


def test_the_last_regular_price_is_compared_not_the_last_price(store: TableStore) -> None:
    """A trade after hours does not count; the latest quote and the latest revision of the bar do."""
    put(store, "ohlc", [bar("XYZ", MONDAY, 120.0), bar("XYZ", MONDAY, 100.0, known=40)])
    put(
        store,
        "quotes",
        [quote("XYZ", MONDAY, 45, regular_last=90.0), quote("XYZ", MONDAY, 55, regular_last=100.9, last=130.0)],
    )
    assert agree(store)[:2] == (True, {"compared": 1, "sessions": "2026-01-05", "differing": ""})


def test_a_close_that_differs_by_more_than_a_percent_is_named(store: TableStore) -> None:
    """An index is compared by its last price, and the latest session that has both is taken of each symbol."""
    put(store, "ohlc", [bar("XYZ", MONDAY, 100.0), bar("$IDX", MONDAY, 50.0), bar("$IDX", TUESDAY, 50.0)])
    put(
        store,
        "quotes",
        [
            quote("XYZ", MONDAY, 55, regular_last=101.1, last=100.0),
            quote("XYZ", TUESDAY, 55, regular_last=1.0),
            quote("$IDX", TUESDAY, 55, last=50.1, asset_type="INDEX"),
        ],
    )
    assert agree(store)[:2] == (False, {"compared": 2, "sessions": "2026-01-05, 2026-01-06", "differing": "XYZ"})


def test_violations_of_the_latest_session_are_added_up(store: TableStore) -> None:
    """Nothing tested does not pass, nor does one violation of the latest session; one of an earlier session does."""

    def held() -> tuple[bool, Any, Any]:
        result: Any = surface_holds(SimpleNamespace(tables=store))
        return result.passed, result.metadata["tested"].value, result.metadata["violations"].value

    assert held() == (False, 0, 0)
    schema = surface_check.SCHEMA
    for day, violations in ((MONDAY, 2), (TUESDAY, 0), (WEDNESDAY, 1)):
        moment = datetime.combine(day, time(20, 55), UTC)
        counts = {"tested": 40, "violations": violations, "inside_spread": 3, "status": "ok"}
        rows = [
            {"symbol": symbol, "session_date": day, "snapshot_time": moment, "check": "butterfly"} | counts
            for symbol in ("XYZ", "ABC")
        ]
        stored.put(store, schema, rows_of(schema, rows), day, stage="metrics", created_time=moment)
        assert held() == (violations == 0, 80, 2 * violations)
