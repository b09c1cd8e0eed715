"""Contradictions among quotes: none on a clean surface, planted ones found, counts as by plain counting."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from plain_metrics import surface_check as plain
from simulated_chains import simulated_chain

from trade_analyst_pipeline.metrics.forward import forward
from trade_analyst_pipeline.metrics.implied_volatility import SCHEMA as IV_SCHEMA
from trade_analyst_pipeline.metrics.implied_volatility import implied_volatility
from trade_analyst_pipeline.metrics.surface_check import CHECKS, SCHEMA, surface_check
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.validation import validate

SNAPSHOT = datetime(2025, 3, 12, 19, 55, tzinfo=UTC)
WITHOUT_ARBITRAGE = set(CHECKS) - {"vendor_volatility"}


@pytest.fixture(scope="module")
def chain() -> pl.DataFrame:
    """All options on a stock, quoted around values of one surface without arbitrage."""
    found = simulated_chain(Market(7), "AAPL", SNAPSHOT)
    return found.with_columns(vendor_implied_volatility="vendor_volatility").filter(quote_status="ok")


def checked(chain: pl.DataFrame) -> Mapping[str, Mapping[str, Any]]:
    """The row of each check of the only snapshot."""
    forwards = forward(chain)
    made = surface_check(implied_volatility(chain, forwards), forwards, chain)
    assert validate(made, SCHEMA).quarantined.is_empty()
    assert sorted(made["check"]) == sorted(CHECKS)
    return {row["check"]: row for row in made.rows(named=True)}


def changed(chain: pl.DataFrame, name: str, *, bid: float = 0.0, ask: float = 0.0) -> pl.DataFrame:
    """The chain with the quotes of a contract moved by so many dollars."""
    here = pl.col("option_symbol") == name
    moved = [
        pl.when(here).then(pl.col(side) + by).otherwise(side).alias(side) for side, by in (("bid", bid), ("ask", ask))
    ]
    return chain.with_columns(moved)


def middle(chain: pl.DataFrame) -> dict[str, Any]:
    """A call of the second expiry, a tenth out of the money."""
    day = chain["expiration_date"].unique().sort()[1]
    calls = chain.filter(pl.col("strike") >= 1.02 * pl.col("true_forward"), expiration_date=day, option_type="C")
    return calls.sort("strike").row(1, named=True)


def test_a_clean_surface_counts_nothing(chain: pl.DataFrame) -> None:
    """Quotes around values without arbitrage break nothing by more than their spreads, though many mids do."""
    found = checked(chain)
    assert {check: found[check]["violations"] for check in WITHOUT_ARBITRAGE} == dict.fromkeys(WITHOUT_ARBITRAGE, 0)
    assert min(found[check]["tested"] for check in WITHOUT_ARBITRAGE) > 500
    assert found["butterfly"]["inside_spread"] > 0
    assert {found[check]["status"] for check in WITHOUT_ARBITRAGE} == {"ok"}


def test_a_planted_butterfly_is_counted_beyond_the_spread_only(chain: pl.DataFrame) -> None:
    """A body lifted by dollars is one violation, named and measured; with as low a bid as before it is none."""
    body = middle(chain)
    side = chain.filter(expiration_date=body["expiration_date"], option_type="C").sort("strike")
    at = side["option_symbol"].to_list().index(body["option_symbol"])
    (low, high), strikes = side["ask"].gather([at - 1, at + 1]), side["strike"].gather([at - 1, at, at + 1])
    part = (strikes[2] - strikes[1]) / (strikes[2] - strikes[0])
    found = checked(changed(chain, body["option_symbol"], bid=0.4, ask=0.4))["butterfly"]
    assert (found["violations"], found["worst_option_symbol"], found["status"]) == (
        1,
        body["option_symbol"],
        "violated",
    )
    assert found["worst_excess"] == pytest.approx(body["bid"] + 0.4 - part * low - (1 - part) * high, abs=1e-9)
    wide = checked(changed(chain, body["option_symbol"], ask=0.8))["butterfly"]
    assert (wide["violations"], wide["inside_spread"] > 0) == (0, True)


def test_a_planted_calendar_is_counted_beyond_the_spread_only(chain: pl.DataFrame) -> None:
    """A bid of an expiry above what the next one asks at the same strike over forward is named; a wide quote is not."""
    body = middle(chain)
    found = checked(changed(chain, body["option_symbol"], bid=9.0, ask=9.0))["calendar"]
    assert (found["violations"], found["worst_option_symbol"]) == (1, body["option_symbol"])
    wide = checked(changed(chain, body["option_symbol"], ask=18.0))["calendar"]
    assert wide["violations"] == 0


@pytest.mark.parametrize(
    ("check", "side", "by"),
    [("lower_bound", "P", -30.0), ("upper_bound", "C", 300.0), ("monotone", "C", 60.0), ("slope", "P", 60.0)],
)
def test_other_planted_violations_are_counted(chain: pl.DataFrame, check: str, side: str, by: float) -> None:
    """A quote moved out of its bounds, or past its neighbour, breaks just that rule; the clean chain does not."""
    rich = chain.filter(pl.col("bid") > 31, option_type=side).sort("bid").row(0, named=True)
    assert checked(chain)[check]["violations"] == 0
    assert checked(changed(chain, rich["option_symbol"], bid=by, ask=by))[check]["violations"] > 0


def test_a_vendor_that_is_two_points_off_is_counted(chain: pl.DataFrame) -> None:
    """With all of the vendor's volatilities at ours the check is ok, with one three points off it names that one."""
    forwards = forward(chain)
    made = implied_volatility(chain, forwards)
    same = made.select("option_symbol", "snapshot_time", vendor_implied_volatility="implied_volatility")
    (agreed,) = surface_check(made, forwards, same).filter(check="vendor_volatility").rows(named=True)
    assert (agreed["status"], agreed["tested"] > 300) == ("ok", True)
    name = middle(chain)["option_symbol"]
    off = pl.col("vendor_implied_volatility") + pl.when(pl.col("option_symbol") == name).then(0.03).otherwise(0)
    apart = surface_check(made, forwards, same.with_columns(off)).filter(check="vendor_volatility")
    ((violations, worst, excess),) = apart.select("violations", "worst_option_symbol", "worst_excess").rows()
    assert (violations, worst) == (1, name)
    assert excess == pytest.approx(0.02)


def test_counts_are_those_of_plain_counting(chain: pl.DataFrame, harness_seed: int) -> None:
    """On chains with a third of the quotes moved or missing every row equals the second implementation's."""
    chance = np.random.default_rng(harness_seed)
    days = chain["expiration_date"].unique().sort()
    chain = chain.filter(pl.col("expiration_date").is_in(days[1:5].implode()))
    for _ in range(3):
        shifts = chance.choice([0.0, 0.0, 0.0, 0.0, -2.0, 2.0], chain.height)
        gone = chance.random(chain.height) < 0.1
        bids = pl.max_horizontal(pl.col("bid") + pl.Series(shifts), 0.01).round(2)
        rough = chain.with_columns(
            bid=pl.when(~pl.Series(gone)).then(bids),
            ask=pl.max_horizontal(pl.col("ask") + pl.Series(shifts), bids).round(2),
            quote_status=pl.when(pl.Series(gone)).then(pl.lit("no_bid")).otherwise("quote_status"),
        )
        forwards = forward(rough)
        made = implied_volatility(rough, forwards)
        ours = surface_check(made, forwards, rough)
        wanted = (
            exact(made),
            exact(forwards),
            exact(rough.select("option_symbol", "snapshot_time", "vendor_implied_volatility")),
        )
        theirs = plain.surface_check(*wanted)
        counts = ("check", "tested", "violations", "inside_spread", "worst_option_symbol", "status")
        assert ours.select(counts).rows() == [tuple(row[name] for name in counts) for row in theirs]
        excess = [row["worst_excess"] for row in theirs]
        assert ours["worst_excess"].to_list() == pytest.approx(
            [None if each is None else float(each) for each in excess]
        )
        assert ours["violations"].sum() > 20


def exact(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows with the decimals that floats print."""
    return [
        {name: Decimal(repr(value)) if isinstance(value, float) else value for name, value in row.items()}
        for row in frame.rows(named=True)
    ]


def test_nothing_to_test() -> None:
    """Without rows there are none; stale contracts are a row of each check that tested nothing."""
    nothing = pl.DataFrame(schema=IV_SCHEMA.polars_schema)
    chain = simulated_chain(Market(7), "AAPL", SNAPSHOT).with_columns(
        vendor_implied_volatility=pl.lit(None, pl.Float64), quote_status=pl.lit("stale")
    )
    forwards = forward(chain)
    assert surface_check(nothing, forwards, chain).rows() == []
    made = surface_check(implied_volatility(chain, forwards), forwards, chain)
    assert made.select("tested", "violations", "inside_spread", "status").unique().rows() == [(0, 0, 0, "nothing")]
