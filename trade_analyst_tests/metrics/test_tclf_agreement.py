"""tclf 0.4.0, the public reference, on the same trades: equal but where its floats and its tolerance are at fault."""

from __future__ import annotations

import importlib.util
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest
from random_trades import random_trades

from trade_analyst_pipeline.metrics.aggressor_side import customer_side

# our rule -> tclf's; the subset of the quote is also that of the tick
SHARED = {
    "tick": "tick",
    "reverse_tick": "rev_tick",
    "quote": "quote",
    "lee_ready": "lr",
    "reverse_lee_ready": "rev_lr",
    "emo": "emo",
    "reverse_emo": "rev_emo",
    "clnv": "clnv",
    "reverse_clnv": "rev_clnv",
    "trade_size": "trade_size",
    "depth": "depth",
}
NAMES = {"earlier_price": "price_{}_lag", "later_price": "price_{}_lead"} | {
    name: name + "_{}" for name in ("bid", "ask", "bid_size", "ask_size")
}


@pytest.fixture(scope="module")
def peer(repository: Path) -> ModuleType:
    """The module of the benchmarks that runs tclf."""
    spec = importlib.util.spec_from_file_location("tclf_peer", repository / "benchmarks/tclf_peer.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tclf_peer"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def python(peer: ModuleType, is_full: bool) -> Path:
    """The interpreter with tclf; in the quick form only if `make bench` or a full run has made its environment."""
    found = peer.peer_python() if is_full or peer.ENVIRONMENT.exists() else None
    if found is None:
        pytest.skip("NOT RUN: tclf has no environment; make reliability makes one where the package index has it")
    assert isinstance(found, Path)
    return found


def as_named_there(trades: pl.DataFrame) -> dict[str, np.ndarray]:
    """Our columns as tclf names them, best and exchange."""
    columns = {name: trades[name].to_numpy() for name in ("trade_price", "trade_size")}
    for ours, theirs in (("", "best"), ("_exchange", "ex")):
        columns |= {name.format(theirs): trades[own + ours].to_numpy() for own, name in NAMES.items()}
    return columns


def floats_are_at_fault(row: dict[str, float | None], rule: str) -> bool:
    """Whether tclf's test of prices says another thing of this row than exact arithmetic does.

    Each price is the decimal that was printed, a whole number of 1/10000 dollar; tclf compares the floats next to them.
    """
    price, bid, ask = row["trade_price"], row["bid"], row["ask"]
    if price is None or bid is None or ask is None:
        return False
    p, b, a = (Fraction(round(value * 10_000)) for value in (price, bid, ask))
    middle = 0.5 * (ask + bid)
    differs = {"quote": ((price > middle) - (price < middle)) != (2 * p > a + b) - (2 * p < a + b)}
    close = [bool(np.isclose(price, side, atol=1e-4)) for side in (ask, bid)]
    differs["emo"] = close != [p == a, p == b]
    differs["depth"] = bool(np.isclose(middle, price, atol=1e-4)) != (2 * p == a + b)
    upper = (0.7 * ask + 0.3 * bid <= price <= ask, 7 * a + 3 * b <= 10 * p <= 10 * a)
    lower = (bid <= price <= 0.3 * ask + 0.7 * bid, 10 * b <= 10 * p <= 3 * a + 7 * b)
    differs["clnv"] = upper[0] != upper[1] or lower[0] != lower[1]
    kinds = {"emo": ("emo", "quote"), "clnv": ("clnv", "quote"), "depth": ("depth",)}
    return any(differs[kind] for kind in kinds.get(rule.removeprefix("reverse_"), ("quote",)))


def is_at_a_side_of_no_quote(row: dict[str, float | None], rule: str) -> bool:
    """Whether EMO meets a crossed or one-sided quote with the price on a side: tclf gives up, we go to the tick."""
    if rule not in ("emo", "reverse_emo"):
        return False
    price, bid, ask = row["trade_price"], row["bid"], row["ask"]
    is_no_quote = bid is None or ask is None or ask < bid
    return is_no_quote and any(side is not None and np.isclose(price, side, atol=1e-4) for side in (bid, ask))


@pytest.mark.reliability
@pytest.mark.parametrize("around", [100.0, 1500.0])
def test_every_shared_rule_agrees(
    peer: ModuleType, python: Path, around: float, is_full: bool, harness_seed: int
) -> None:
    """Each rule on random trades: tclf and we differ only where exact arithmetic shows its comparison to be wrong.

    Of quotes that are crossed or one-sided, with EMO, the rules differ by definition: these are counted apart.
    """
    count = 1_000_000 if is_full else 20_000
    trades = random_trades(count, harness_seed, around=around)
    stacks = [[(theirs, "best")] for theirs in SHARED.values()]
    with peer.tclf(python, as_named_there(trades), *stacks) as there:
        for number, ours in enumerate(SHARED):
            there.predict(number)
            print(f"RUN: {ours}, {count:,} trades around {around}: {judged(trades, ours, there.signs(number))}")


def judged(trades: pl.DataFrame, rule: str, reference: np.ndarray) -> str:
    """How many signs differ and why, in words. AssertionError for one that nothing accounts for."""
    sides = customer_side(trades, [(rule, "best")])["customer_side"]
    found = sides.replace_strict({"buyer": 1, "seller": -1}, default=0, return_dtype=pl.Int8).to_numpy()
    assert np.count_nonzero(reference), rule
    differing = trades[np.flatnonzero(found != reference)].select("trade_price", "bid", "ask")
    left, by_definition = [], 0
    for row in differing.iter_rows(named=True):
        if is_at_a_side_of_no_quote(row, rule):
            by_definition += 1
        else:
            left.append(row)
    assert [row for row in left if not floats_are_at_fault(row, rule)] == [], rule
    return f"{len(left):,} differ by comparing floats, {by_definition:,} at a side of a quote that is none"


def test_a_difference_that_floats_do_not_explain_is_found() -> None:
    """The control: a sign turned round at an ordinary quote is not accounted for."""
    trades = random_trades(200, 1)
    sides = customer_side(trades, [("quote", "best")])["customer_side"]
    wrong = -sides.replace_strict({"buyer": 1, "seller": -1}, default=0, return_dtype=pl.Int8).to_numpy()
    with pytest.raises(AssertionError, match="quote"):
        judged(trades, "quote", wrong)


def test_fault_of_floats_is_told_from_agreement() -> None:
    """The half-cent mid of the hand table is one, an ordinary trade is none, a spread of a cent at 1,500 is for EMO."""
    assert floats_are_at_fault({"trade_price": 10.005, "bid": 9.99, "ask": 10.02}, "lee_ready")
    assert not floats_are_at_fault({"trade_price": 10.02, "bid": 9.99, "ask": 10.02}, "lee_ready")
    assert floats_are_at_fault({"trade_price": 1500.01, "bid": 1500.00, "ask": 1500.01}, "emo")
    assert not floats_are_at_fault({"trade_price": 1500.01, "bid": 1500.00, "ask": 1500.01}, "quote")
