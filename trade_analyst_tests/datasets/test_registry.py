"""The registry of datasets: what each offers, and how captures of one session become one table."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from wire_bodies import RECEIVED, SESSION, answered, payload

from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.validation import all_rules

KEYS = {
    "options": ("option_symbol", "snapshot_time"),
    "quotes": ("symbol", "snapshot_time"),
    "ohlc": ("symbol", "frequency", "bar_time", "known_time"),
    "expirations": ("symbol", "expiration_date", "option_roots", "settlement_type", "snapshot_time"),
    "markets": ("market", "market_product", "hours_date", "snapshot_time"),
    "instruments": ("symbol", "snapshot_time"),
    "movers": ("movers_of", "sort_order", "symbol", "snapshot_time"),
}
PAYLOADS = {
    "options": "options/chain.json",
    "quotes": "quotes/several.json",
    "ohlc": "ohlc/daily.json",
    "expirations": "expirations/list.json",
    "markets": "markets/half_day.json",
    "instruments": "instruments/fundamental.json",
    "movers": "movers/by_volume.json",
}
MORE: dict[str, dict[str, Any]] = {"ohlc": {"session_date": SESSION, "years": 1}, "markets": {"session_date": SESSION}}


def rows(name: str, seconds: int = 0) -> pl.DataFrame:
    """The payload's rows as they arrived some seconds later."""
    dataset = DATASETS[name]
    request = dataset.requests(["XYZ"], **MORE.get(name, {}))[0]
    response = answered(request, payload(PAYLOADS[name]), received=RECEIVED + timedelta(seconds=seconds))
    return dataset.normalize([response], session_date=SESSION).frame


def test_datasets_and_their_keys() -> None:
    """Seven datasets, each known by its schema's name, with the keys of the design."""
    assert {name: dataset.schema.key for name, dataset in DATASETS.items()} == KEYS
    assert all(dataset.name == name == dataset.schema.name for name, dataset in DATASETS.items())
    assert {name for name, dataset in DATASETS.items() if dataset.spans_sessions} == {"ohlc"}


def test_what_is_taken_once_a_session() -> None:
    """Four datasets are taken once a session; two of them are not asked for by the symbols watched."""
    once = {name: dataset.subjects for name, dataset in DATASETS.items() if dataset.is_current_only}
    assert once == {
        "expirations": (),
        "markets": ("equity", "option", "bond", "future", "forex"),
        "instruments": (),
        "movers": ("$SPX", "$COMPX", "$DJI", "NYSE", "NASDAQ", "EQUITY_ALL"),
    }


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_rule_has_a_name_of_its_own_and_a_meaning(name: str) -> None:
    """Rules are told apart by name, in lower case with underscores, and each says what holds."""
    rules = all_rules(DATASETS[name].schema)
    names = [rule.name for rule in rules]
    assert len(set(names)) == len(names)
    assert all(rule.name.replace("_", "").isalnum() and rule.name == rule.name.lower() for rule in rules)
    assert all(rule.meaning.endswith(".") for rule in rules)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_rows_come_in_the_columns_of_the_schema(name: str) -> None:
    """What a dataset makes of a payload has exactly the columns and types of its schema."""
    assert rows(name).schema == DATASETS[name].schema.polars_schema


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_captures_combine_to_each_key_once_however_grouped(name: str) -> None:
    """Rows that came twice are kept once, and combining in steps gives what combining at once gives."""
    combine, key = DATASETS[name].combine, list(KEYS[name])
    first, second = rows(name), rows(name, seconds=60)
    at_once = combine(pl.concat([first, first, second]))
    in_steps = combine(pl.concat([combine(pl.concat([first, second])), combine(first), second]))
    assert at_once.select(key).is_unique().all()
    assert at_once.sort(key).equals(in_steps.sort(key))
    assert at_once.filter(pl.col(key[-1]) == RECEIVED).height == first.height
