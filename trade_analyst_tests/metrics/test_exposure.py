"""Gamma and delta exposure: a worked strike, a second reckoning in plain Python, coverage, every null."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest
from smile_chains import (
    EXPIRATION,
    NORMAL,
    RATE,
    SNAPSHOT,
    SPOT,
    Contract,
    chain,
    changed,
    d1_of,
    flat,
    table,
    years_to,
)

from trade_analyst_pipeline.metrics.exposure import SCHEMA, SCOPES, exposure
from trade_analyst_pipeline.metrics.forward import forward
from trade_analyst_pipeline.metrics.implied_volatility import implied_volatility

NEXT = date(2025, 5, 16)


def made(rows: list[Contract]) -> pl.DataFrame:
    """The metric of these contracts, through the metrics it is made of."""
    options = table(rows)
    return exposure(options, implied_volatility(options, forward(options)))


def row_of(rows: list[Contract], **where: Any) -> dict[str, Any]:
    """The one row of a scope, of all the symbol unless said."""
    found = made(rows).filter(**({"scope": "underlying"} | where))
    assert found.height == 1
    return found.row(0, named=True)


def test_a_strike_by_hand() -> None:
    """At one strike: gamma of Black-Scholes times contracts, shares and price squared, a hundredth of it."""
    years, strike = years_to(EXPIRATION), 105.0
    forward_price = SPOT * math.exp(RATE * years)
    d1 = d1_of(forward_price, strike, years, 0.3)
    gamma = NORMAL.pdf(d1) / (SPOT * 0.3 * math.sqrt(years))
    row = row_of(chain(smile=flat), scope="expiration_strike", strike=strike)
    # 205 of each open; what is open is of the day before
    assert (row["call_open_interest"], row["put_open_interest"], row["contracts"]) == (205, 205, 2)
    assert row["open_interest_date"] == date(2025, 3, 11)
    assert row["call_gamma_exposure"] == pytest.approx(gamma * 205 * 100 * SPOT**2 / 100, rel=1e-3)
    assert row["call_delta_exposure"] == pytest.approx(NORMAL.cdf(d1) * 205 * 100 * SPOT, rel=1e-3)
    assert row["put_delta_exposure"] == pytest.approx((NORMAL.cdf(d1) - 1) * 205 * 100 * SPOT, rel=1e-3)
    assert row["gamma_exposure"] == pytest.approx(0, abs=0.01)
    assert row["status"] == "ok"


def test_equals_a_plain_reckoning() -> None:
    """Every scope's sums are those of plain Python from the same Greeks, to the cent a contract is rounded to."""
    rows = chain([EXPIRATION, NEXT], half_spread=0.02)
    for number, row in enumerate(rows):
        row["open_interest"] = (number * 37) % 211
        if number % 13 == 0:
            row |= {"bid": None, "quote_status": "no_bid"}
    options = table(rows)
    volatilities = implied_volatility(options, forward(options)).to_dicts()
    openly = {row["option_symbol"]: row["open_interest"] for row in rows}
    pairs: dict[tuple[date, float], dict[str, dict[str, Any]]] = defaultdict(dict)
    for each in volatilities:
        pairs[each["expiration_date"], each["strike"]][each["option_type"]] = each
    expected: dict[tuple[str, date | None, float | None], list[float]] = defaultdict(lambda: [0.0] * 5)
    for (day, strike), pair in pairs.items():
        out, other = ("C", "P") if strike >= pair["C"]["forward"] else ("P", "C")
        chosen = next((pair[letter] for letter in (out, other) if pair[letter]["gamma"] is not None), None)
        if chosen is None:
            continue
        carried = chosen["forward"] * chosen["discount_factor"] / SPOT
        call_delta = chosen["delta"] + (0 if chosen["option_type"] == "C" else carried)
        for letter, delta in (("C", call_delta), ("P", call_delta - carried)):
            count = openly[pair[letter]["option_symbol"]]
            gamma_part, delta_part = chosen["gamma"] * count * 100 * SPOT**2 / 100, delta * count * 100 * SPOT
            place = 0 if letter == "C" else 1
            for key in (
                ("expiration_strike", day, strike),
                *(("strike", None, strike), ("expiration", day, None), ("underlying", None, None)),
            ):
                expected[key][place] += gamma_part
                expected[key][place + 2] += delta_part
                expected[key][4] += 2
    found = exposure(options, implied_volatility(options, forward(options)))
    seen = 0
    for row in found.filter(pl.col("status") == "ok").iter_rows(named=True):
        sums = expected[row["scope"], row["expiration_date"], row["strike"]]
        slack = 0.01 * sums[4] + 1e-6
        names = ("call_gamma_exposure", "put_gamma_exposure", "call_delta_exposure", "put_delta_exposure")
        assert [row[name] for name in names] == pytest.approx(sums[:4], abs=slack)
        assert row["gamma_exposure"] == pytest.approx(sums[0] - sums[1], abs=slack)
        assert row["delta_exposure"] == pytest.approx(sums[2] + sums[3], abs=slack)
        seen += 1
    assert seen >= 61 * 3 + 3
    assert set(found["scope"]) == set(SCOPES)


def test_scopes_add_up_exactly() -> None:
    """The rows of a finer scope add up to those of a coarser one to the cent, in any order of the input."""
    rows = chain([EXPIRATION, NEXT])
    found = made(rows)
    cents = (pl.col("gamma_exposure", "delta_exposure", "call_gamma_exposure") * 100).round().cast(pl.Int64).sum()
    totals = [found.filter(scope=scope).select(cents).row(0) for scope in SCOPES]
    assert totals == [totals[0]] * 4
    assert made(rows[::-1]).equals(found)


def test_greeks_are_of_the_side_out_of_the_money() -> None:
    """An absurd price of a call in the money moves nothing; without the put its own Greeks count."""
    rows = chain(smile=flat)
    where = {"option_type": "C", "strike": 85.0}
    dear = changed(rows, {"bid": 17.0, "ask": 17.1}, **where)
    at = {"scope": "expiration_strike", "strike": 85.0}
    usual = row_of(rows, **at)
    assert row_of(dear, **at)["gamma_exposure"] == pytest.approx(usual["gamma_exposure"], abs=0.02)
    assert row_of(dear, **at)["call_delta_exposure"] == pytest.approx(usual["call_delta_exposure"], rel=1e-3)
    alone = changed(dear, {"bid": None, "ask": None, "quote_status": "no_quote"}, option_type="P", strike=85.0)
    assert row_of(alone, **at)["call_delta_exposure"] < 0.95 * usual["call_delta_exposure"]


def test_coverage_tells_what_has_no_greeks() -> None:
    """Open contracts of strikes without a volatility lower the coverage; the rest still counts."""
    rows = chain()
    dark = changed(rows, {"bid": None, "ask": None, "quote_status": "no_quote"}, strike=100.0)
    all_open = sum(row["open_interest"] for row in rows)
    assert row_of(rows)["open_interest_coverage"] == 100
    assert row_of(dark)["open_interest_coverage"] == pytest.approx(100 * (all_open - 400) / all_open)
    assert row_of(dark, scope="expiration_strike", strike=100.0)["status"] == "no_greeks"


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        (changed(chain(), {"open_interest": None}), "unknown"),
        ([chain()[0] | {"open_interest": 0}, *changed(chain()[1:], {"open_interest": None})], "unknown"),
        (changed(chain(), {"is_non_standard": True}), "adjusted"),
        (changed(chain(), {"bid": None, "ask": None, "quote_status": "crossed"}), "no_greeks"),
        (chain(strikes=(100.0,), expiration_time=SNAPSHOT), "no_greeks"),
        (changed(chain(), {"bid": None, "quote_status": "no_bid"}, option_type="P"), "no_greeks"),
        (changed(chain(), {"underlying_price": None}), "no_greeks"),
    ],
)
def test_every_reason_for_null(rows: list[Contract], status: str) -> None:
    """A snapshot without exposures says why; nothing is NaN."""
    row = row_of(rows)
    assert row["status"] == status
    assert {row[name] for name in row if name.endswith("_exposure")} == {None}
    assert not any(isinstance(value, float) and math.isnan(value) for value in row.values())


def test_nothing_open_is_no_exposure() -> None:
    """With open interest 0 everywhere exposures are 0, which is known; of what there is no coverage can be told."""
    row = row_of(changed(chain(), {"open_interest": 0}))
    assert (row["status"], row["gamma_exposure"], row["open_interest_coverage"]) == ("ok", 0, None)


def test_adjusted_and_mini_contracts_are_counted_apart() -> None:
    """They are in no sum and told in a column of their own."""
    rows = chain()
    mini = [
        row | {"is_mini": True, "option_root": "XYZ7", "option_symbol": f"XYZ7{row['option_symbol'][4:]}"}
        for row in rows
    ]
    usual, both = row_of(rows), row_of(rows + mini)
    assert (both["contracts"], both["excluded_contracts"]) == (len(rows), len(mini))
    assert both["gamma_exposure"] == usual["gamma_exposure"]


def test_rows_have_the_declared_shape_and_later_ones_change_nothing() -> None:
    """Columns are the schema's and its rules hold; rows of other snapshots leave those of this one alone."""
    later = chain(taken=datetime(2025, 3, 13, 19, 55, tzinfo=UTC), smile=flat)
    found = made(chain() + later)
    assert found.schema == SCHEMA.polars_schema
    for rule in SCHEMA.rules:
        assert found.select(rule.passes.fill_null(value=True).all()).item(), rule.name
    assert found.filter(snapshot_time=SNAPSHOT).equals(made(chain()))
    assert made([]).equals(SCHEMA.empty())
