"""Forward and rate by parity: against published values, against the simulator's truth, and on chains gone bad."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from simulated_chains import simulated_chain

from trade_analyst_pipeline.market.columns import COLUMNS
from trade_analyst_pipeline.market.sessions import session_close
from trade_analyst_pipeline.metrics.forward import INPUT_COLUMNS, SCHEMA, forward
from trade_analyst_pipeline.simulator.market import Market

DAY = date(2025, 3, 12)
SNAPSHOT = datetime(2025, 3, 12, 19, 55, tzinfo=UTC)
EXPIRATION = datetime(2025, 9, 12, 20, tzinfo=UTC)
YEARS = (EXPIRATION - SNAPSHOT) / timedelta(days=365)
INPUT = pl.Schema({name: COLUMNS[name].dtype for name in INPUT_COLUMNS})
STRIKES = tuple(range(80, 126, 5))

Contract = dict[str, Any]


def contract(strike: float, letter: str, mid: float, **changed: Any) -> Contract:
    """One row of the table `options`, two ticks wide."""
    row: Contract = {
        "symbol": "$XYZ",
        "session_date": DAY,
        "snapshot_time": SNAPSHOT,
        "chain_scope": "full",
        "option_symbol": f"XYZ   250912{letter}{round(1000 * strike):08}",
        "option_root": "XYZ",
        "option_type": letter,
        "expiration_date": EXPIRATION.date(),
        "expiration_time": EXPIRATION,
        "settlement_type": "P",
        "exercise_type": "E",
        "strike": float(strike),
        "bid": mid - 0.02,
        "ask": mid + 0.02,
        "quote_status": "ok",
        "underlying_price": 101.0,
        "interest_rate": 0.03,
        "is_non_standard": False,
    }
    return dict.fromkeys(INPUT_COLUMNS) | row | changed


def expiry(
    price: float = 102.0, rate: float = 0.04, strikes: tuple[float, ...] = STRIKES, **changed: Any
) -> list[Contract]:
    """An expiry on whose every strike parity holds to a hundredth of a cent."""
    rows = []
    for strike in strikes:
        gap = math.exp(-rate * YEARS) * (price - strike)
        rows += [
            contract(strike, letter, round(2 + max(sign * gap, 0), 4), **changed)
            for letter, sign in (("C", 1), ("P", -1))
        ]
    return rows


def table(rows: list[Contract]) -> pl.DataFrame:
    """Rows as a table."""
    return pl.DataFrame(rows, schema=INPUT)


def only_row(rows: list[Contract], **options: Any) -> dict[str, Any]:
    """The one row made of one expiry."""
    made = forward(table(rows), **options)
    assert made.schema == SCHEMA.polars_schema
    assert made.height == 1
    return made.row(0, named=True)


# ------------------------------------------------------------------------------------------------ published values


def recorded(frame: pl.DataFrame, lifetimes: dict[Any, timedelta], rates: dict[Any, float]) -> pl.DataFrame:
    """A recorded chain in long form (`expiry`, `strike`, `right`, `bid`, `ask`) as rows of the table `options`."""
    rows = [
        contract(row["strike"], row["right"], 0.0)
        | {
            "bid": row["bid"],
            "ask": row["ask"],
            "quote_status": "ok" if (row["bid"] or 0) > 0 and (row["ask"] or 0) >= (row["bid"] or 0) else "no_bid",
            "expiration_time": SNAPSHOT + lifetimes[row["expiry"]],
            "expiration_date": DAY + lifetimes[row["expiry"]],
            "interest_rate": rates[row["expiry"]],
        }
        for row in frame.iter_rows(named=True)
        if row["expiry"] in lifetimes
    ]
    return table(rows)


def test_white_paper_forwards(market_samples: Path) -> None:
    """The two forwards of the volatility index's white paper; the robust ones lie 0.2 points from them at most."""
    golden = json.loads((market_samples / "golden.json").read_text(encoding="utf-8"))["vix_whitepaper_2014"]
    quotes = pl.read_csv(market_samples / "vix_whitepaper_2014_quotes.csv")
    sides = [
        quotes.select(
            pl.col("term").alias("expiry"),
            pl.col("strike").cast(pl.Float64),
            pl.lit(letter).alias("right"),
            pl.col(f"{side}_bid").alias("bid"),
            pl.col(f"{side}_ask").alias("ask"),
        )
        for letter, side in (("C", "call"), ("P", "put"))
    ]
    minutes = dict(zip(("near", "next"), golden["minutes"], strict=True))
    chain = recorded(
        pl.concat(sides),
        {term: timedelta(minutes=count) for term, count in minutes.items()},
        {"near": golden["R1"], "next": golden["R2"]},
    )
    made = forward(chain, is_rate_fitted=False).sort("years")
    assert made["at_money_forward"].to_list() == pytest.approx([golden["F1"], golden["F2"]], abs=5e-6)
    assert made["years"].to_list() == pytest.approx([count / 525600 for count in golden["minutes"]], abs=1e-12)
    assert ((made["forward"] - made["at_money_forward"]).abs() < 0.2).all()
    assert made["forward_error"].max() < 0.1
    fitted = forward(chain)
    assert set(fitted["rate_source"]) <= {"parity", "chain"}
    assert ((fitted["forward"] - fitted["at_money_forward"]).abs() < 0.5).all()


@pytest.mark.parametrize(
    ("file", "rate", "days", "forwards"),
    [
        (
            "chain_aapl_20140606.csv",
            0.0004,
            {date(2014, 7, 3): 27, date(2014, 7, 11): 35},
            (645.724873505, 645.925035480),
        ),
        (
            "chain_aapl_20140606.csv",
            0.0004,
            {date(2014, 6, 21): 14, date(2014, 7, 19): 42},
            (645.65000997, 645.75003452),
        ),
        ("chain_goog_20151223.csv", 0.002, {date(2016, 1, 15): 23, date(2016, 2, 19): 58}, (750.2500315, 750.6001907)),
    ],
)
def test_golden_forwards(
    market_samples: Path, file: str, rate: float, days: dict[date, int], forwards: tuple[float, ...]
) -> None:
    """The forwards of recorded stock chains to the digits given; the robust ones within 0.03 %."""
    quotes = pl.read_csv(market_samples / file, try_parse_dates=True)
    chain = recorded(quotes, {day: timedelta(days=count) for day, count in days.items()}, dict.fromkeys(days, rate))
    made = forward(chain.with_columns(exercise_type=pl.lit("A"))).sort("years")
    assert made["at_money_forward"].to_list() == pytest.approx(forwards, abs=1e-7)
    assert made["forward"].to_list() == pytest.approx(forwards, rel=3e-4)
    assert made["rate_source"].to_list() == ["chain", "chain"]


# ---------------------------------------------------------------------------------------------- the market's truth


@pytest.mark.parametrize("symbol", ["$SPX", "SPY", "AAPL"])
def test_truth_of_the_simulator_lies_within_the_errors(is_full: bool, symbol: str) -> None:
    """Of true forwards nine in ten lie within two standard errors, none beyond eight; so do the rates of an index."""
    days = [
        date(2026, 11, day) for day in ((3, 11, 19) if not is_full else (2, 3, 4, 5, 9, 10, 11, 12, 16, 17, 18, 19, 23))
    ]
    off, rates = [], []
    for day in days:
        chain = simulated_chain(Market(7), symbol, session_close(day) - timedelta(minutes=15))
        truth = chain.group_by("expiration_date", "option_root").agg(pl.col("true_forward", "true_rate").first())
        made = forward(chain).filter(status="ok").join(truth, on=("expiration_date", "option_root"))
        assert made.height >= 0.9 * truth.height
        off += ((made["forward"] - made["true_forward"]) / made["forward_error"]).to_list()
        assert ((made["forward"] / made["true_forward"] - 1).abs() < 2e-4).all()
        fitted = made.filter(rate_source="parity")
        assert (fitted.height > 50) == (symbol == "$SPX")
        rates += ((fitted["discount_rate"] - fitted["true_rate"]) / fitted["discount_rate_error"]).to_list()
        assert (made["discount_rate"] - made["true_rate"]).abs().max() < 0.01
    assert np.mean(np.abs(off) < 2) >= 0.9
    assert np.max(np.abs(off)) < 8
    assert not rates or np.mean(np.abs(rates) < 2) >= 0.9


# ---------------------------------------------------------------------------------------------- parts of the rule


def test_european_strikes_give_forward_and_rate() -> None:
    """On a chain without errors both come out to the digits of the prices."""
    row = only_row(expiry(rate=0.04))
    assert row["forward"] == pytest.approx(102, abs=1e-3)
    assert row["discount_rate"] == pytest.approx(0.04, abs=1e-5)
    assert row["discount_factor"] == pytest.approx(math.exp(-0.04 * YEARS), abs=1e-5)
    assert (row["status"], row["flags"], row["rate_source"]) == ("ok", "", "parity")
    assert (row["strike_pairs"], row["used_pairs"]) == (10, 10)
    yielded = row["discount_rate"] - math.log(row["forward"] / 101) / row["years"]
    assert row["implied_dividend_yield"] == pytest.approx(yielded, abs=1e-12)


def test_outliers_change_nothing() -> None:
    """Two of twenty-four strikes far off parity are rejected and counted."""
    rows = expiry(strikes=tuple(range(80, 128, 2)))
    for row in rows:
        if (row["strike"], row["option_type"]) in {(90.0, "C"), (110.0, "P")}:
            row["bid"], row["ask"] = row["bid"] + 3, row["ask"] + 3
    made = only_row(rows)
    assert made["forward"] == pytest.approx(102, abs=1e-3)
    assert made["discount_rate"] == pytest.approx(0.04, abs=1e-4)
    assert (made["strike_pairs"], made["used_pairs"]) == (24, 22)


@pytest.mark.parametrize("status", ["stale", "wide", "crossed", "no_bid", "no_ask", "no_quote"])
def test_unusable_quotes_do_not_count(status: str) -> None:
    """A strike with such a quote is no pair, whatever its prices."""
    rows = expiry()
    rows[4] |= {"bid": 50.0, "ask": 50.1, "quote_status": status}
    made = only_row(rows)
    assert (made["strike_pairs"], made["used_pairs"]) == (9, 9)
    assert made["forward"] == pytest.approx(102, abs=1e-3)


def test_american_early_exercise_far_from_the_money_does_not_count() -> None:
    """Puts far in the money are dearer than parity has it; forward and rate of an American expiry do not hear of it."""
    rows = expiry(rate=0.03, exercise_type="A")
    for row in rows:
        if row["option_type"] == "P" and row["strike"] > 104:
            row["bid"], row["ask"] = (row[side] + 0.1 * (row["strike"] - 104) for side in ("bid", "ask"))
    made = only_row(rows)
    assert made["forward"] == pytest.approx(102, abs=1e-3)
    assert (made["rate_source"], made["discount_rate"], made["discount_rate_error"]) == ("chain", 0.03, None)
    assert made["used_pairs"] < made["strike_pairs"]


def test_few_strikes() -> None:
    """One pair gives a forward, flagged, with the error its spreads allow; none of it a rate."""
    made = only_row(expiry(strikes=(100.0,), rate=0.03))
    assert made["forward"] == pytest.approx(102, abs=1e-3)
    assert (made["flags"], made["used_pairs"], made["parity_scale"]) == ("few_pairs,extrapolated", 1, 1.0)
    assert made["forward_error"] == pytest.approx(0.02 * math.sqrt(2 / 3) * math.exp(0.03 * YEARS), rel=1e-9)
    assert made["rate_source"] == "chain"


def test_rate_of_the_curve_of_the_latest_known_date() -> None:
    """Linear between days; a curve of a later date is not looked at; the chain's rate is for where there is none."""
    knots = [
        (DAY - timedelta(days=3), 0, 0.01),
        (DAY - timedelta(days=3), 368.00694444, 0.05),
        (DAY + timedelta(days=1), 0, 0.4),
    ]
    curve = pl.DataFrame(knots, schema=["session_date", "days", "rate"], orient="row")
    rows = expiry(exercise_type="A")
    made = only_row(rows, curve=curve)
    assert (made["rate_source"], made["discount_rate"]) == ("curve", pytest.approx(0.03, abs=1e-9))
    assert only_row(rows, curve=curve.filter(pl.col("session_date") > DAY))["rate_source"] == "chain"
    none = [row | {"interest_rate": None} for row in rows]
    made = only_row(none)
    assert (made["rate_source"], made["discount_rate"], "rate_assumed" in made["flags"]) == ("assumed", 0.0, True)


@pytest.mark.parametrize("rate", [4.5, -0.51, 1e5, float("inf"), float("nan")])
def test_a_rate_beyond_half_is_none_of_a_curve_either(rate: float) -> None:
    """One in percent, or one that leaves nothing of a dollar, is not taken for a fraction."""
    curve = pl.DataFrame({"session_date": [DAY], "days": [30], "rate": [rate]})
    assert only_row(expiry(exercise_type="A"), curve=curve)["rate_source"] == "chain"


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"expiration_time": None}, "no_expiration_time"),
        ({"expiration_time": SNAPSHOT}, "expired"),
        ({"quote_status": "stale"}, "no_quotes"),
        ({"option_type": "C"}, "one_sided"),
    ],
)
def test_reasons_for_no_forward(changed: dict[str, Any], status: str) -> None:
    """An expiry without a forward says why, and has no figure of one."""
    made = only_row([row | changed for row in expiry()])
    assert made["status"] == status
    figures = (
        "forward",
        "forward_error",
        "at_money_forward",
        "parity_scale",
        "discount_rate_error",
        "implied_dividend_yield",
    )
    assert [made[name] for name in figures] == [None] * len(figures)
    assert (made["flags"], made["used_pairs"]) == ("", 0)


def test_no_pairs_and_no_agreement() -> None:
    """Calls and puts at different strikes are no pairs; a negative forward is none."""
    rows = expiry()
    apart = [row for row in rows if (row["strike"] % 10 == 0) == (row["option_type"] == "C")]
    assert only_row(apart)["status"] == "no_pairs"
    assert only_row([contract(1.0, "C", 1.0), contract(1.0, "P", 90.0)])["status"] == "inconsistent"


def test_expiries_of_one_date_stay_apart() -> None:
    """Morning and evening settlement, and roots, have rows of their own; a chain that is not whole has none."""
    morning = expiry(price=101.9, settlement_type="A", expiration_time=EXPIRATION - timedelta(hours=6.5))
    weekly = expiry(price=103.0, option_root="XYZW")
    partial = expiry(price=500.0, symbol="OTHER", chain_scope="partial")
    made = forward(table([*expiry(), *morning, *weekly, *partial]))
    assert made["symbol"].to_list() == ["$XYZ"] * 3
    found = made.select("option_root", "settlement_type", pl.col("forward").round(2)).rows()
    assert found == [("XYZ", "A", 101.9), ("XYZ", "P", 102.0), ("XYZW", "P", 103.0)]
    unnamed = only_row([row | {"option_root": None, "settlement_type": None} for row in expiry()])
    assert (unnamed["option_root"], unnamed["settlement_type"]) == ("XYZ", "P")


# ---------------------------------------------------------------------------------------------------- properties


def noisy_chain(seed: int) -> pl.DataFrame:
    """Three expiries of random size with random errors, a third of them American."""
    noise = np.random.default_rng(seed)
    rows = []
    for i in range(3):
        strikes = tuple(sorted(set(noise.integers(60, 160, noise.integers(1, 40)).tolist())))
        found = expiry(float(noise.uniform(70, 150)), float(noise.uniform(-0.01, 0.08)), strikes, option_root=f"X{i}")
        for row in found:
            error = float(noise.normal(0, 0.01))
            row |= {"bid": row["bid"] + error, "ask": row["ask"] + error, "exercise_type": "EEA"[i]}
        rows += found
    return table(rows)


@pytest.mark.parametrize("seed", range(5))
def test_order_of_rows_does_not_matter(seed: int) -> None:
    """The same rows in any order give the same bits."""
    chain = noisy_chain(seed)
    assert_frame_equal(forward(chain.sample(fraction=1, shuffle=True, seed=seed)), forward(chain), check_exact=True)


def test_a_column_of_one_value_counts_as_any_other() -> None:
    """A chain whose spot price was put in as a constant gives the same bits beside another symbol's."""
    alone = simulated_chain(Market(7), "AAPL", SNAPSHOT)
    both = pl.concat([alone, simulated_chain(Market(7), "$SPX", SNAPSHOT)])
    assert_frame_equal(forward(both).filter(symbol="AAPL"), forward(alone), check_exact=True)


@pytest.mark.parametrize("seed", range(5))
def test_other_snapshots_do_not_matter(seed: int) -> None:
    """Rows of a later snapshot, or of another symbol, change nothing."""
    chain = noisy_chain(seed)
    later = noisy_chain(seed + 100).with_columns(pl.col("snapshot_time") + timedelta(minutes=15))
    both = forward(pl.concat([chain, later])).filter(snapshot_time=SNAPSHOT)
    assert_frame_equal(both, forward(chain), check_exact=True)


@pytest.mark.parametrize("seed", range(5))
def test_scales_with_the_price(seed: int) -> None:
    """Ten times every dollar gives ten times the forward and its error, and the same rate."""
    chain = noisy_chain(seed)
    dollars = ("strike", "bid", "ask", "underlying_price")
    once, tenfold = forward(chain), forward(chain.with_columns(pl.col(dollars).round(4) * 10))
    assert tenfold["forward"].to_list() == pytest.approx([10 * value for value in once["forward"]], rel=1e-5)
    assert tenfold["discount_rate"].to_list() == pytest.approx(once["discount_rate"].to_list(), abs=1e-4)


HOSTILE = (0.0, -1.0, 5e-324, 1e-310, 1e300, math.inf, -math.inf, math.nan, None, 1e9, 1e12, 0.01, 1e-5)


def hostile_chain(noise: np.random.Generator) -> pl.DataFrame:
    """A chain with any of its numbers, times and words gone bad, its gaps, and its contracts twice."""
    chain = noisy_chain(int(noise.integers(1 << 30)))
    rows = chain.to_dicts()
    columns = ("strike", "bid", "ask", "underlying_price", "underlying_bid", "underlying_ask", "interest_rate")
    for row in rows:
        for name in columns:
            if noise.random() < 0.1:
                row[name] = HOSTILE[noise.integers(len(HOSTILE))]
    if noise.random() < 0.3:
        lives = (
            timedelta(days=-3),
            timedelta(),
            timedelta(microseconds=1),
            timedelta(minutes=5),
            timedelta(days=20_000),
            None,
        )
        life = lives[noise.integers(len(lives))]
        for row in rows:
            row["expiration_time"] = None if life is None else SNAPSHOT + life
    if noise.random() < 0.3:
        for row in rows:
            row[("option_root", "settlement_type", "exercise_type", "option_type")[noise.integers(4)]] = None
    kept = [row for row in rows if noise.random() < 0.9]
    return table(kept + kept[: noise.integers(5)])


def faults(made: pl.DataFrame) -> list[str]:
    """What is wrong with rows of the metric, whatever they were made of."""
    found = [
        name
        for name, dtype in made.schema.items()
        if dtype == pl.Float64 and not made[name].drop_nulls().is_finite().all()
    ]
    found += [name for name in SCHEMA.required if made[name].null_count()]
    found += [rule.name for rule in SCHEMA.rules if not made.select(rule.passes.fill_null(value=True).all()).item()]
    is_ok = made["status"] == "ok"
    for name in ("forward_error", "at_money_forward", "parity_scale", "discount_rate", "discount_factor"):
        found += [name] * int(made.filter(is_ok)[name].null_count() > 0)
    found += ["no reason"] * int((made["status"] == "").any())
    if made.select(SCHEMA.key).is_duplicated().any():
        found.append("key")
    return found


def test_hostile_chains(is_full: bool, harness_seed: int) -> None:
    """No exception, nothing but finite numbers and reasons, on 10,000 chains gone bad (full form; quick 400)."""
    noise = np.random.default_rng(harness_seed)
    seen: set[str] = set()
    for _ in range(10_000 if is_full else 400):
        made = forward(hostile_chain(noise))
        assert faults(made) == [], f"seed {harness_seed}"
        seen |= set(made["status"])
    assert seen >= {"ok", "no_expiration_time", "expired", "one_sided", "no_pairs", "inconsistent"}


@pytest.mark.parametrize(
    "damage",
    [
        {"forward": math.nan},
        {"forward": None},
        {"forward_error": None},
        {"discount_factor": math.inf},
        {"status": "expired"},
        {"status": ""},
    ],
)
def test_faults_are_found(damage: dict[str, Any]) -> None:
    """The check of hostile chains tells a row that is bad."""
    made = forward(table(expiry()))
    assert faults(made) == []
    assert faults(
        made.with_columns(pl.lit(value, SCHEMA.polars_schema[name]).alias(name) for name, value in damage.items())
    )


def test_importing_the_metric_compiles_nothing() -> None:
    """Numba is imported when a forward is first reckoned, not before."""
    code = "import sys; import trade_analyst_pipeline.metrics.forward; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
