"""The smile of each expiry in numbers: known smiles recovered, a second reckoning in plain Python, every null."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from statistics import linear_regression
from typing import Any

import numpy as np
import polars as pl
import pytest
from interpreted import interpret
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
    skewed,
    table,
    years_to,
)

from trade_analyst_pipeline.kernels import smile as kernel
from trade_analyst_pipeline.metrics.forward import forward
from trade_analyst_pipeline.metrics.implied_volatility import implied_volatility
from trade_analyst_pipeline.metrics.term_structure import SCHEMA, term_structure

FORWARD = SPOT * math.exp(RATE * years_to(EXPIRATION))


def made(rows: list[Contract]) -> pl.DataFrame:
    """The metric of these contracts, through the metrics it is made of."""
    options = table(rows)
    forwards = forward(options)
    return term_structure(options, implied_volatility(options, forwards), forwards)


def row_of(rows: list[Contract], source: str = "own") -> dict[str, Any]:
    """The row of one source of the single expiry."""
    return made(rows).filter(source=source).row(0, named=True)


# -------------------------------------------------------------------------------------------------- known smiles


def wing(sign: int) -> float:
    """The true volatility where the delta is a quarter in size, by bisection in the strike."""
    low, high = 60.0, 150.0
    years = years_to(EXPIRATION)
    for _ in range(100):
        strike = (low + high) / 2
        size = NORMAL.cdf(sign * d1_of(FORWARD, strike, years, skewed(math.log(strike / FORWARD))))
        low, high = (strike, high) if (size > 0.25) == (sign > 0) else (low, strike)
    return skewed(math.log(strike / FORWARD))


@pytest.mark.parametrize("source", ["own", "vendor"])
def test_known_smile_comes_out(source: str) -> None:
    """Volatility at the money, both wings and what is made of them are those of the smile the prices came from."""
    row = row_of(chain(), source)
    put, call = wing(-1), wing(1)
    assert (row["status"], row["wing_status"], row["skew_status"], row["flags"]) == ("ok", "ok", "ok", "")
    assert row["at_money_volatility"] == pytest.approx(skewed(0.0), abs=1e-4)
    assert row["put_25_delta_volatility"] == pytest.approx(put, abs=1e-4)
    assert row["call_25_delta_volatility"] == pytest.approx(call, abs=1e-4)
    assert row["risk_reversal_25_delta"] == pytest.approx(call - put, abs=2e-4)
    assert row["butterfly_25_delta"] == pytest.approx((call + put) / 2 - 0.25, abs=2e-4)
    assert row["skew_slope"] == pytest.approx(-0.2, abs=0.01)


def test_flat_smile_has_no_skew() -> None:
    """Of a volatility that is the same everywhere risk reversal, butterfly and slope are 0."""
    row = row_of(chain(smile=flat))
    assert row["at_money_volatility"] == pytest.approx(0.3, abs=1e-5)
    for name in ("risk_reversal_25_delta", "butterfly_25_delta", "skew_slope"):
        assert row[name] == pytest.approx(0, abs=3e-4)


def test_expected_move_and_straddle() -> None:
    """One deviation in dollars; the straddle at the forward is worth sqrt(2 / pi) of it, discounted, nearly."""
    row = row_of(chain(smile=flat))
    assert row["expected_move"] == pytest.approx(FORWARD * 0.3 * math.sqrt(years_to(EXPIRATION)), abs=2e-3)
    assert row["straddle_strike"] == 100.0
    assert row["straddle_price"] == pytest.approx(math.sqrt(2 / math.pi) * row["expected_move"], rel=0.01)
    vendor = row_of(chain(smile=flat), "vendor")
    assert [vendor[name] for name in ("expected_move", "straddle_strike", "straddle_price")] == [None] * 3


def test_sources_are_never_mixed() -> None:
    """Without a word of the vendor's its rows are null and ours are as before; so the other way round."""
    rows = chain()
    blank = {"vendor_implied_volatility": None, "vendor_delta": None}
    ours, theirs = (made(changed(rows, blank)).filter(source=source) for source in ("own", "vendor"))
    assert ours.equals(made(rows).filter(source="own"))
    assert theirs.select("status", "at_money_volatility", "strikes").row(0) == ("no_volatility", None, 0)
    shifted = [row | {"vendor_implied_volatility": 2 * row["vendor_implied_volatility"]} for row in rows]
    assert row_of(shifted, "vendor")["at_money_volatility"] == pytest.approx(0.5, abs=1e-3)
    assert made(shifted).filter(source="own").equals(made(rows).filter(source="own"))


# ------------------------------------------------------------------------------------------ against plain Python


def plain(contracts: list[dict[str, Any]], forward_price: float) -> dict[str, Any]:
    """The figures of one expiry from the volatilities and deltas of its contracts, straight from the page."""
    board: dict[float, dict[str, tuple[float, float]]] = {}
    for each in contracts:
        if each["implied_volatility"] is not None and each["implied_volatility"] < 5:
            board.setdefault(each["strike"], {})[each["option_type"]] = (each["implied_volatility"], each["delta"])
    levels: dict[float, float] = {}
    for strike, sides in board.items():
        out = "C" if strike >= forward_price else "P"
        if len(sides) == 2:
            levels[strike] = (sides["C"][0] + sides["P"][0]) / 2
        elif out in sides:
            levels[strike] = sides[out][0]
    found: dict[str, Any] = {"strikes": len(levels), "at_money_volatility": None}
    below = max((k for k in levels if k <= forward_price), default=None)
    above = min((k for k in levels if k > forward_price), default=None)
    if below is not None and above is not None:
        low, high = math.log(below / forward_price), math.log(above / forward_price)
        weight = -low / (high - low)
        found["at_money_volatility"] = math.sqrt((1 - weight) * levels[below] ** 2 + weight * levels[above] ** 2)
    for letter, name in (("P", "put"), ("C", "call")):
        out = [k for k in sorted(board) if letter in board[k] and (k > forward_price) == (letter == "C")]
        walk = [board[k][letter] for k in (out if letter == "C" else reversed(out))]
        sizes = [abs(delta) for _, delta in walk]
        first = next((i for i, size in enumerate(sizes) if size <= 0.25), None)
        found[name] = None
        if first is not None and first > 0:
            ratio = (0.25 - sizes[first]) / (sizes[first - 1] - sizes[first])
            found[name] = walk[first][0] + ratio * (walk[first - 1][0] - walk[first][0])
    near = [
        (math.log(k / forward_price), sides[out][0])
        for k, sides in sorted(board.items())
        for out in ["C" if k >= forward_price else "P"]
        if out in sides and abs(sides[out][1]) >= 0.25
    ]
    found["skew_strikes"] = len(near)
    found["skew_slope"] = linear_regression(*zip(*near, strict=True)).slope if len(near) >= 3 else None
    return found


@pytest.mark.parametrize("seed", range(6))
def test_equals_a_plain_reckoning(seed: int) -> None:
    """Every figure is that of plain Python from the same volatilities, on chains with holes and odd prices."""
    random = np.random.default_rng(seed)
    rows = chain(half_spread=0.03)
    for _ in range(40):
        row = rows[random.integers(len(rows))]
        kind = random.choice(["no_bid", "crossed", "wide", "stale"])
        row |= {"quote_status": kind} | ({"bid": None} if kind == "no_bid" else {})
    for row in rows:
        shift = round(float(random.normal(0, 0.005)), 4)
        row |= {"ask": row["ask"] + shift, "bid": row["bid"] and max(row["bid"] + shift, 0.0001)}
    options = table(rows)
    forwards = forward(options)
    volatilities = implied_volatility(options, forwards)
    row = term_structure(options, volatilities, forwards).filter(source="own").row(0, named=True)
    expected = plain(list(volatilities.iter_rows(named=True)), forwards["forward"][0])
    assert (row["strikes"], row["skew_strikes"]) == (expected["strikes"], expected["skew_strikes"])
    assert row["skew_slope"] == pytest.approx(expected["skew_slope"], abs=1e-11)
    if row["status"] == "ok":
        assert row["at_money_volatility"] == pytest.approx(expected["at_money_volatility"], abs=1e-13)
        put, call = expected["put"], expected["call"]
        assert row["put_25_delta_volatility"] == pytest.approx(put, abs=1e-13)
        assert row["risk_reversal_25_delta"] == pytest.approx(call - put, abs=1e-13)
        middle = expected["at_money_volatility"]
        assert row["butterfly_25_delta"] == pytest.approx((call + put) / 2 - middle, abs=1e-13)


def test_compiled_and_interpreted_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled lines give what the same lines give as plain Python."""
    rows = chain(strikes=[70.0 + 5 * i for i in range(13)]) + chain([date(2025, 5, 16)], strikes=(100.0,))
    compiled = made(rows)
    interpret(monkeypatch, kernel)
    assert made(rows).equals(compiled)


# -------------------------------------------------------------------------------------------------- every null


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (chain(strikes=(100.0,)), ("no_strikes", "no_strikes", "no_strikes")),
        (changed(chain(), {"bid": None, "quote_status": "no_bid"}, option_type="P"), ("one_sided",) * 3),
        (changed(chain(), {"bid": None, "ask": None, "quote_status": "crossed"}), ("no_quotes",) * 3),
        (changed(chain(), {"expiration_time": None}), ("no_expiration_time",) * 3),
        (chain(taken=SNAPSHOT, expiration_time=SNAPSHOT), ("expired",) * 3),
        (chain(strikes=(95.0, 105.0)), ("ok", "out_of_reach", "few_strikes")),
        (chain(strikes=(98.0, 99.0, 100.0, 101.0, 102.0)), ("ok", "out_of_reach", "ok")),
        (changed(chain(), {"underlying_price": None}), ("ok", "no_delta", "few_strikes")),
        (changed(chain(), {"is_non_standard": True}), ("no_volatility",) * 3),
    ],
)
def test_every_reason_for_null(rows: list[Contract], expected: tuple[str, str, str]) -> None:
    """A figure that cannot be had is null, and the status beside it says why; nothing is NaN."""
    row = row_of(rows)
    assert (row["status"], row["wing_status"], row["skew_status"]) == expected
    assert (row["at_money_volatility"] is None, row["expected_move"] is None) == (expected[0] != "ok",) * 2
    assert (row["risk_reversal_25_delta"] is None, row["butterfly_25_delta"] is None) == (expected[1] != "ok",) * 2
    assert (row["skew_slope"] is None) == (expected[2] != "ok")
    assert not any(isinstance(value, float) and math.isnan(value) for value in row.values())


def test_sides_that_disagree_are_refused() -> None:
    """Call and put of the strikes around the forward by more than five points apart give no volatility."""
    rows = chain()
    apart = changed(rows, {"vendor_implied_volatility": 0.5}, option_type="C", strike=100.0)
    assert row_of(apart, "vendor")["status"] == "sides_disagree"
    assert row_of(apart)["status"] == "ok"


def test_same_day_expiry_and_missing_rate() -> None:
    """An expiry of five minutes still has its figures; one without a rate says that it was taken as 0."""
    day = SNAPSHOT.date()
    rows = chain([day], strikes=[99.5 + 0.05 * i for i in range(21)], half_spread=0.0005, smile=flat)
    row = row_of(rows)
    assert row["years"] == pytest.approx(5 / 525_600)
    assert row["at_money_volatility"] == pytest.approx(0.3, abs=0.01)
    without = row_of(changed(chain(exercise_type="A"), {"interest_rate": None}))
    assert "rate_assumed" in without["flags"].split(",")


def test_long_american_expiries_are_flagged() -> None:
    """Beyond 60 days an American expiry is flagged, in our own rows; the vendor's model is the vendor's."""
    rows = chain([date(2025, 4, 17), date(2025, 6, 20)], exercise_type="A")
    flags = made(rows).select("expiration_date", "source", "flags").rows()
    assert [source for day, source, words in flags if "early_exercise" in words] == ["own"]
    assert not any("early_exercise" in words for words in made(chain([date(2025, 6, 20)]))["flags"])


def test_rows_have_the_declared_shape() -> None:
    """Columns and types are the schema's, and no rule is broken; no rows give an empty table."""
    found = made(chain() + chain([date(2025, 5, 16)], strikes=(90.0, 110.0)))
    assert found.schema == SCHEMA.polars_schema
    assert found.height == 4
    for rule in SCHEMA.rules:
        assert found.select(rule.passes.fill_null(value=True).all()).item(), rule.name
    assert made([]).equals(SCHEMA.empty())


def test_later_snapshots_change_nothing() -> None:
    """A row of a snapshot is the same whatever other snapshots, symbols and orders of rows are beside it."""
    later = datetime(2025, 3, 13, 19, 55, tzinfo=UTC)
    other = [
        row | {"symbol": "ABC", "option_root": "ABC", "option_symbol": f"ABC{row['option_symbol'][3:]}"}
        for row in chain()
    ]
    together = table(chain() + chain(taken=later, smile=flat) + other).sample(fraction=1, shuffle=True, seed=3)
    forwards = forward(together)
    found = term_structure(together, implied_volatility(together, forwards), forwards)
    alone = made(chain())
    assert found.filter(symbol="XYZ", snapshot_time=SNAPSHOT).equals(alone)
    assert found.height == 6
