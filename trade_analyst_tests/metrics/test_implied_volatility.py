"""Own volatilities: the table with its reasons, the functions on columns, their properties, and hostile chains."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from simulated_chains import simulated_chain

from trade_analyst_pipeline.market.sessions import expiration_time
from trade_analyst_pipeline.metrics.forward import SCHEMA as FORWARD_SCHEMA
from trade_analyst_pipeline.metrics.forward import forward
from trade_analyst_pipeline.metrics.implied_volatility import (
    REASONS,
    SCHEMA,
    black_greeks,
    black_volatility,
    implied_volatility,
)
from trade_analyst_pipeline.simulator.market import Market

SNAPSHOT = datetime(2025, 3, 12, 19, 55, tzinfo=UTC)
EXPIRY = date(2025, 4, 17)
YEARS = (expiration_time(EXPIRY) - SNAPSHOT) / timedelta(days=365)
S_OF_FOUR = 2 * NormalDist().inv_cdf(0.52)  # of an option at the money that is worth 4 % of the forward


def contract(strike: float = 100.0, letter: str = "C", mid: float = 4.0, **changes: Any) -> dict[str, Any]:
    """A row of `options` two cents wide around `mid`."""
    return {
        "option_symbol": f"XYZ   250417{letter}{round(strike * 1000):08}",
        "snapshot_time": SNAPSHOT,
        "symbol": "XYZ",
        "session_date": SNAPSHOT.date(),
        "chain_scope": "full",
        "option_root": "XYZ",
        "option_type": letter,
        "expiration_date": EXPIRY,
        "expiration_time": expiration_time(EXPIRY),
        "settlement_type": "P",
        "exercise_type": "A",
        "strike": strike,
        "bid": mid - 0.01,
        "ask": mid + 0.01,
        "quote_status": "ok",
        "is_non_standard": False,
    } | changes


def forward_row(**changes: Any) -> dict[str, Any]:
    """A row of `forward` for those contracts: 100 without interest."""
    return {
        "symbol": "XYZ",
        "snapshot_time": SNAPSHOT,
        "expiration_date": EXPIRY,
        "option_root": "XYZ",
        "settlement_type": "P",
        "forward": 100.0,
        "discount_factor": 1.0,
        "spot": 99.0,
    } | changes


def forwards(*rows: dict[str, Any]) -> pl.DataFrame:
    """Rows of the metric `forward`, null where nothing is said."""
    return pl.DataFrame(list(rows), schema=FORWARD_SCHEMA.polars_schema)


def table(*rows: dict[str, Any]) -> pl.DataFrame:
    """Rows of `options`."""
    types = {"snapshot_time": pl.Datetime("us", "UTC"), "expiration_time": pl.Datetime("us", "UTC")}
    prices = dict.fromkeys(("strike", "bid", "ask"), pl.Float64())
    return pl.DataFrame(list(rows), schema_overrides=types | prices, infer_schema_length=None)


def one(row: dict[str, Any], *known: dict[str, Any]) -> dict[str, Any]:
    """The only row made of one contract."""
    return implied_volatility(table(row), forwards(*(known or [forward_row()]))).row(0, named=True)


def test_at_the_money_in_closed_form() -> None:
    """At the money the price is D F (2 N(s/2) - 1): a mid of 4 says s = 2 N⁻¹(0.52), by the true time to the close."""
    made = one(contract())
    s = S_OF_FOUR
    assert made["years"] == pytest.approx((36 * 86400 + 300) / (365 * 86400), rel=1e-15)
    assert made["implied_volatility"] == pytest.approx(s / math.sqrt(YEARS), rel=1e-13)
    assert made["bid_implied_volatility"] < made["implied_volatility"] < made["ask_implied_volatility"]
    assert {made[name] for name in made if name.endswith("_status")} == {"ok"}
    assert made["delta"] == pytest.approx(0.52 * 100 / 99, rel=1e-13)
    assert made["vega"] == pytest.approx(
        100 * math.sqrt(YEARS) * math.exp(-(s**2) / 8) / math.sqrt(2 * math.pi), rel=1e-12
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"is_non_standard": True}, ("adjusted", "adjusted", "adjusted")),
        ({"quote_status": "no_quote", "bid": None, "ask": None}, ("no_quote", "no_quote", "no_quote")),
        ({"quote_status": "crossed", "bid": None, "ask": None}, ("crossed", "crossed", "crossed")),
        ({"quote_status": "stale"}, ("stale", "stale", "stale")),
        ({"quote_status": "no_bid", "bid": None}, ("no_bid", "no_bid", "ok")),
        ({"quote_status": "no_ask", "ask": None}, ("no_ask", "ok", "no_ask")),
        ({"quote_status": "wide", "bid": 1.0, "ask": 7.0}, ("wide", "ok", "ok")),
        ({"quote_status": "low_priced", "bid": 0.01, "ask": 0.03}, ("low_priced", "ok", "ok")),
        ({"quote_status": "locked", "bid": 4.0, "ask": 4.0}, ("ok", "ok", "ok")),
        ({"expiration_time": None}, ("no_expiration_time",) * 3),
        ({"expiration_time": SNAPSHOT}, ("expired",) * 3),
        ({"option_root": "XYZ1"}, ("no_forward",) * 3),
        ({"settlement_type": "A"}, ("no_forward",) * 3),
        ({"strike": 0.0}, ("no_strike",) * 3),
        ({"option_type": "X"}, ("no_option_type",) * 3),
        ({"strike": 90.0, "bid": 9.999, "ask": 10.001}, ("at_intrinsic", "at_intrinsic", "ok")),
        ({"strike": 90.0, "bid": 9.9, "ask": 9.99}, ("below_intrinsic",) * 3),
        ({"bid": 99.9, "ask": 100.1}, ("above_max", "ok", "above_max")),
        ({"strike": 1e305, "bid": 1.0, "ask": 1.02}, ("out_of_range",) * 3),
    ],
    ids=str,
)
def test_every_null_says_why(changes: dict[str, Any], words: tuple[str, str, str]) -> None:
    """Mid, bid and ask each have a volatility or the first reason that holds, and the Greeks go with the mid."""
    made = one(contract() | changes)
    names = ("implied_volatility", "bid_implied_volatility", "ask_implied_volatility")
    assert tuple(made[f"{name}_status"] for name in names) == words
    assert [made[name] is None for name in names] == [word != "ok" for word in words]
    assert made["greeks_status"] == words[0]
    assert (made["vega"] is None) == (words[0] != "ok")


def test_without_a_spot_price_vega_and_rho_are_there() -> None:
    """What needs the spot price is null with `no_spot`; the volatility does not need it."""
    made = one(contract(), forward_row(spot=None))
    assert made["greeks_status"] == "no_spot"
    assert (made["delta"], made["gamma"], made["theta"]) == (None, None, None)
    assert made["vega"] == one(contract())["vega"]
    assert made["rho"] == one(contract())["rho"]


def test_discount_and_forward_are_those_of_the_expiry() -> None:
    """Two roots of one date keep their own forward, and the price is undiscounted by the expiry's own factor."""
    near, far = contract(mid=3.8), contract(mid=4.0, option_root="XYZW", option_symbol="XYZW  250417C00100000")
    known = (forward_row(discount_factor=0.95), forward_row(option_root="XYZW", forward=100.0))
    made = implied_volatility(table(near, far), forwards(*known))
    assert made["implied_volatility"].to_list() == pytest.approx([S_OF_FOUR / math.sqrt(YEARS)] * 2, rel=1e-12)
    assert made["discount_factor"].to_list() == [0.95, 1.0]


def test_order_of_rows_does_not_matter() -> None:
    """The same rows in any order give the same bits."""
    chain = simulated_chain(Market(7), "AAPL", SNAPSHOT)
    known = forward(chain)
    shuffled = chain.sample(fraction=1, shuffle=True, seed=1)
    assert_frame_equal(implied_volatility(shuffled, known), implied_volatility(chain, known), check_exact=True)


def test_empty_chain() -> None:
    """Nothing in, nothing out."""
    chain = simulated_chain(Market(7), "AAPL", SNAPSHOT).clear()
    assert_frame_equal(implied_volatility(chain, forwards()), SCHEMA.empty())


def test_the_simulators_volatility_is_recovered() -> None:
    """From quotes of whole cents of European contracts, the true volatility within what half a cent moves it."""
    chain = simulated_chain(Market(7), "$SPX", SNAPSHOT)
    made = implied_volatility(chain, forward(chain)).join(chain, on="option_symbol")
    is_out = (pl.col("option_type") == "C") == (pl.col("strike") > pl.col("true_forward"))
    used = made.filter(is_out, implied_volatility_status="ok").filter(pl.col("vega") > 50)
    assert used.height > 1000
    width = (pl.col("ask") - pl.col("bid")) / 2 / pl.col("vega")
    error = (pl.col("implied_volatility") - pl.col("true_volatility")).abs()
    within = used.select((error <= width + 2e-4).mean()).item()
    assert within > 0.95
    assert used.select(error.median()).item() < 5e-4


def random_options(seed: int, count: int) -> dict[str, Any]:
    """Columns of options out of the money, with the volatility that priced them."""
    noise = np.random.default_rng(seed)
    years = noise.uniform(1 / 365, 2, count)
    sigma = np.exp(noise.uniform(np.log(0.05), np.log(2), count))
    forward_price = noise.uniform(5, 5000, count)
    strike = forward_price * np.exp(noise.uniform(-3, 3, count) * sigma * np.sqrt(years))
    rest = {"discount_factor": noise.uniform(0.9, 1, count), "is_call": strike > forward_price}
    return {"sigma": sigma, "forward": forward_price, "strike": strike, "years": years, **rest}


def priced(columns: dict[str, Any], **changes: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """Prices, and the arguments that their inversion takes."""
    arguments = {name: value for name, value in columns.items() if name != "sigma"} | changes
    return black_greeks(columns["sigma"], spot=columns["forward"], **arguments).price, arguments


def test_round_trip_monotone_and_symmetric(harness_seed: int) -> None:
    """The volatility comes back; it rises with the price; put-call symmetry and scale leave it alone."""
    columns = random_options(harness_seed, 5000)
    price, arguments = priced(columns)
    sigma, reason = black_volatility(price, **arguments)
    assert set(reason) == {0}
    assert np.abs(sigma / columns["sigma"] - 1).max() < 1e-13
    higher, _ = black_volatility(price * (1 + 1e-9), **arguments)
    assert (higher > sigma).all()
    # a call on F struck at K is worth what a put on K struck at F is
    twin = arguments | {
        "forward": columns["strike"],
        "strike": columns["forward"],
        "is_call": ~columns["is_call"],
    }
    assert black_volatility(price, **twin)[0] == pytest.approx(sigma, rel=1e-12)
    tenfold = arguments | {"forward": 8 * columns["forward"], "strike": 8 * columns["strike"]}
    assert black_volatility(8 * price, **tenfold)[0] == pytest.approx(sigma, rel=1e-13)


def test_null_in_null_out_and_shapes() -> None:
    """NaN in any place gives NaN with a reason there alone; scalars broadcast; any shape comes back."""
    arguments = {"forward": 100.0, "strike": 100.0, "years": 0.25, "discount_factor": 1.0, "is_call": True}
    sigma, reason = black_volatility([[4.0, math.nan], [-1.0, 200.0]], **arguments)
    assert sigma.shape == reason.shape == (2, 2)
    assert [REASONS[code] for code in reason.flat] == ["ok", "no_quote", "below_intrinsic", "above_max"]
    assert np.isfinite(sigma).tolist() == [[True, False], [False, False]]
    words = {
        "forward": "no_forward",
        "strike": "no_forward",
        "discount_factor": "no_discount_factor",
        "years": "expired",
    }
    for name, word in words.items():
        _, reason = black_volatility([4.0, 4.0], **arguments | {name: [arguments[name], math.nan]})
        assert [REASONS[code] for code in reason] == ["ok", word]
    assert np.isnan(black_greeks(math.nan, spot=100.0, **arguments)).all()
    with pytest.raises(ValueError, match="shape"):
        black_volatility([4.0, 4.0], **arguments | {"strike": [1.0, 2.0, 3.0]})


def test_threads_change_no_bit(harness_seed: int) -> None:
    """One thread or several, the same bits."""
    price, arguments = priced(random_options(harness_seed, 70_000))
    assert black_volatility(price, **arguments, threads=1)[0].tobytes() == (
        black_volatility(price, **arguments, threads=4)[0].tobytes()
    )


HOSTILE = (0.0, -1.0, 5e-324, 1e-310, 1e300, 1.7e308, math.inf, -math.inf, math.nan, None, 1e9, 0.01, 1e-5)


def hostile_chain(noise: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A small chain with its numbers, times and words gone bad, and forwards of its own or as bad."""
    strikes = noise.choice(np.arange(60.0, 160.0, 5.0), noise.integers(1, 12), replace=False)
    rows = [
        contract(float(strike), letter, max(4.0 + (100.0 - strike) * sign, 0.0) + float(noise.uniform(0, 3)))
        | {"underlying_price": 99.0, "underlying_bid": None, "underlying_ask": None, "interest_rate": 0.02}
        for strike in strikes
        for letter, sign in (("C", 1.0), ("P", -1.0))
    ]
    for row in rows:
        for name in ("strike", "bid", "ask"):
            if noise.random() < 0.15:
                row[name] = HOSTILE[noise.integers(len(HOSTILE))]
        if noise.random() < 0.1:
            row["quote_status"] = [None, "none", "wide", "stale", "crossed", "no_bid"][noise.integers(6)]
        if noise.random() < 0.05:
            row[
                ("option_root", "settlement_type", "exercise_type", "option_type", "is_non_standard")[noise.integers(5)]
            ] = None
    lives = (
        None,
        timedelta(days=-3),
        timedelta(),
        timedelta(microseconds=1),
        timedelta(hours=2),
        timedelta(days=20_000),
    )
    if noise.random() < 0.4:
        life = lives[noise.integers(len(lives))]
        for row in rows:
            row["expiration_time"] = None if life is None else SNAPSHOT + life
    chain = table(*(row for row in rows if noise.random() < 0.9)) if len(rows) > 2 else table(*rows)
    chain = chain if chain.height else table(*rows)
    if noise.random() < 0.5:
        return chain, forward(chain)
    bad = {
        name: HOSTILE[noise.integers(len(HOSTILE))]
        for name in ("forward", "discount_factor", "spot")
        if noise.random() < 0.5
    }
    return chain, forwards(forward_row(**bad))


def faults(made: pl.DataFrame) -> list[str]:
    """What is wrong with rows of the metric, whatever they were made of."""
    floats = [name for name, dtype in made.schema.items() if dtype == pl.Float64]
    found = [name for name in floats if not made[name].drop_nulls().is_finite().all()]
    found += [name for name in SCHEMA.required if made[name].null_count()]
    found += [rule.name for rule in SCHEMA.rules if not made.select(rule.passes.fill_null(value=True).all()).item()]
    found += ["empty reason"] * int(made.select(pl.any_horizontal(pl.col("^.*_status$") == "").any()).item())
    return found


def test_hostile_chains(is_full: bool, harness_seed: int) -> None:
    """No exception, no NaN, and a reason for each null, on 10,000 chains gone bad (full form; quick 300)."""
    noise = np.random.default_rng(harness_seed)
    seen: set[str] = set()
    for each in range(10_000 if is_full else 300):
        chain, known = hostile_chain(noise)
        made = implied_volatility(chain, known)
        assert made.height == chain.height
        assert faults(made) == [], f"chain {each} of seed {harness_seed}"
        seen |= set(made["implied_volatility_status"]) | set(made["bid_implied_volatility_status"])
    assert seen >= {"ok", "no_forward", "expired", "no_strike", "no_bid", "below_intrinsic", "above_max", "wide"}


@pytest.mark.parametrize(
    "damage",
    [
        {"implied_volatility": math.nan},
        {"implied_volatility": None},
        {"implied_volatility": -0.2},
        {"gamma": math.inf},
        {"delta": None},
        {"bid_implied_volatility_status": "stale"},
        {"greeks_status": ""},
        {"greeks_status": None},
    ],
    ids=str,
)
def test_faults_are_found(damage: dict[str, Any]) -> None:
    """The check of hostile chains tells a row that is bad."""
    made = implied_volatility(table(contract()), forwards(forward_row()))
    assert faults(made) == []
    types = SCHEMA.polars_schema
    assert faults(made.with_columns(pl.lit(value, types[name]).alias(name) for name, value in damage.items()))
