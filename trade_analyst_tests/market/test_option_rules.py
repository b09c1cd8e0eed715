"""Rules of option contracts on rows made by hand: each broken alone, and the price bounds worked out on paper."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from trade_analyst_pipeline.market.columns import COLUMNS
from trade_analyst_pipeline.market.option_rules import CONTRACT_RULES

# A European call one year (365 days) from its end; strike 100, spot 120, rate 5 %, yield 2 %.
CALL: dict[str, Any] = {
    "option_symbol": "ABC   270105C00100000",
    "option_root": "ABC",
    "option_type": "C",
    "session_date": date(2026, 1, 5),
    "snapshot_time": datetime(2026, 1, 5, 21, 0, tzinfo=UTC),
    "expiration_date": date(2027, 1, 5),
    "expiration_time": datetime(2027, 1, 5, 21, 0, tzinfo=UTC),
    "days_to_expiration": 365,
    "strike": 100.0,
    "exercise_type": "E",
    "underlying_price": 120.0,
    "interest_rate": 0.05,
    "dividend_yield": 0.02,
    "bid": 23.0,
    "ask": 24.0,
    "bid_size": 1,
    "ask_size": 1,
    "last_size": 1,
    "volume": 1,
    "open_interest": 1,
    "multiplier": 100.0,
    "high": 24.0,
    "low": 23.0,
    "vendor_delta": 0.9,
    "vendor_gamma": 0.01,
    "vendor_theta": -0.01,
    # 120² x 0.01 x 0.25 x 1 year, per point
    "vendor_vega": 0.36,
    "vendor_rho": 0.5,
    "vendor_implied_volatility": 0.25,
}
PUT = CALL | {
    "option_symbol": "ABC   270105P00100000",
    "option_type": "P",
    "underlying_price": 80.0,
    "bid": 17.0,
    "ask": 18.0,
    "vendor_delta": -0.8,
    # 80² x 0.01 x 0.25 x 1 year, per point
    "vendor_vega": 0.16,
    "vendor_rho": -0.5,
}


def broken(row: dict[str, Any]) -> set[str]:
    """The rules that a row breaks; null counts as kept."""
    frame = pl.DataFrame([row], schema={name: COLUMNS[name].dtype for name in CALL})
    outcomes = frame.select(rule.passes.fill_null(value=True).alias(rule.name) for rule in CONTRACT_RULES)
    return {name for name, held in outcomes.row(0, named=True).items() if not held}


@pytest.mark.parametrize("row", [CALL, PUT])
def test_good_rows_break_nothing(row: dict[str, Any]) -> None:
    """A call and a put within all bounds keep every rule."""
    assert broken(row) == set()


def test_rules_have_distinct_names_and_a_meaning() -> None:
    """Each rule can be told from the others and says what holds when it is kept."""
    names = [rule.name for rule in CONTRACT_RULES]
    assert len(set(names)) == len(names)
    assert all(rule.meaning.endswith(".") for rule in CONTRACT_RULES)


@pytest.mark.parametrize("name", sorted(set(CALL) - {"option_symbol", "option_type", "expiration_date", "strike"}))
def test_unknown_value_breaks_nothing(name: str) -> None:
    """A null in any column but those of the contract's identity leaves every rule kept."""
    assert broken(CALL | {name: None}) == set()


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({"strike": -100.0}, {"strike_not_positive", "symbol_disagrees", "ask_below_bound"}),
        ({"strike": 100.001}, {"symbol_disagrees"}),
        ({"strike": 100.0000001}, set()),
        ({"option_symbol": "ABC   270105C0010000"}, {"symbol_disagrees"}),
        ({"option_symbol": "ABC   27O105C00100000"}, {"symbol_disagrees"}),
        ({"option_symbol": "ABC   270105C001000O0"}, {"symbol_disagrees"}),
        ({"option_symbol": "ABCDEF270105C00100000"}, {"root_disagrees"}),
        ({"option_symbol": "ABCDEF270105C00100000", "option_root": "ABCDEF"}, set()),
        ({"option_type": "CALL"}, {"unknown_option_type", "symbol_disagrees", "delta_out_of_range", "rho_sign"}),
        ({"session_date": date(2027, 1, 6), "days_to_expiration": -1}, {"expired"}),
        ({"session_date": date(2027, 1, 5), "days_to_expiration": 0}, set()),
        ({"high": 22.9}, {"high_below_low"}),
        ({"multiplier": 0.0}, {"multiplier_not_positive"}),
        ({"last_size": -1}, {"negative_last_size"}),
        ({"vendor_delta": 1.0005}, set()),
        ({"vendor_delta": 1.002}, {"delta_out_of_range"}),
        ({"vendor_delta": -0.002}, {"delta_out_of_range"}),
        ({"vendor_implied_volatility": 0.01, "vendor_vega": 0.014}, {"volatility_too_low"}),
        ({"days_to_expiration": 364}, {"days_disagree"}),
    ],
)
def test_one_change_breaks_its_rules_alone(change: dict[str, Any], rules: set[str]) -> None:
    """Each contradiction is found under its own name, at its bound."""
    assert broken(CALL | change) == rules


def test_put_delta_and_rho_have_the_other_sign() -> None:
    """A put's delta is -1 to 0 and its rho not positive."""
    assert broken(PUT | {"vendor_delta": 0.3, "vendor_rho": 0.1}) == {"delta_out_of_range", "rho_sign"}
    assert broken(PUT | {"vendor_delta": -1.002}) == {"delta_out_of_range"}


@pytest.mark.parametrize(
    ("row", "least"),
    [
        # 120 exp(-0.02) - 100 exp(-0.05) = 117.6238 - 95.1229 = 22.5009
        (CALL, 22.50),
        # without a dividend yield the least value of a European call is unknown
        (CALL | {"dividend_yield": None}, None),
        # 120 - 100
        (CALL | {"exercise_type": "A"}, 20.00),
        # of unknown style: at least what the European one is worth
        (CALL | {"exercise_type": None}, 22.50),
        # 100 exp(-0.05) - 80 exp(-0.02) = 95.1229 - 78.4159 = 16.7070
        (PUT, 16.71),
        # without a dividend yield at least 100 exp(-0.05) - 80 = 15.1229
        (PUT | {"dividend_yield": None}, 15.12),
        (PUT | {"exercise_type": None}, 16.71),
        # 100 - 80
        (PUT | {"exercise_type": "A"}, 20.00),
        # an hour after its end, nothing is discounted any more: 100 - 80
        (PUT | {"expiration_time": datetime(2026, 1, 5, 20, 0, tzinfo=UTC), "vendor_vega": 0.0}, 20.00),
    ],
)
def test_ask_below_what_exercise_is_worth_is_a_warning(row: dict[str, Any], least: float | None) -> None:
    """A cent below the least value is found, the least value itself is not."""
    below = broken(row | {"ask": (least or 1.0) - 0.01, "bid": None})
    assert below == ({"ask_below_bound"} if least else set())
    assert broken(row | {"ask": (least or 1.0) + 0.01, "bid": None}) == set()


@pytest.mark.parametrize(
    ("row", "most"),
    [
        # 120 exp(-0.02) = 117.6238 and 100 exp(-0.05) = 95.1229
        (CALL, 117.62),
        (PUT, 95.12),
        (CALL | {"exercise_type": "A"}, 120.0),
        (PUT | {"exercise_type": "A"}, 100.0),
        (CALL | {"exercise_type": None}, 120.0),
        (CALL | {"dividend_yield": None}, 120.0),
        (PUT | {"interest_rate": None}, 100.0),
    ],
)
def test_bid_above_what_an_option_can_be_worth_is_a_warning(row: dict[str, Any], most: float) -> None:
    """A call is never worth more than the underlying, a put never more than its strike; European ones discounted."""
    assert broken(row | {"bid": most, "ask": None}) == set()
    assert broken(row | {"bid": most + 0.01, "ask": None}) == {"bid_above_bound"}


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({"dividend_yield": 0.0, "vendor_theta": 0.001, "ask": 30.0}, {"theta_sign"}),
        ({"dividend_yield": 0.0, "vendor_theta": -0.0, "ask": 30.0}, set()),
        ({"vendor_theta": 0.001}, set()),
        ({"dividend_yield": None, "vendor_theta": 0.001}, set()),
    ],
)
def test_theta_of_a_call_is_positive_only_with_dividends(change: dict[str, Any], rules: set[str]) -> None:
    """Without dividends a call loses with time; with them, or where they are unknown, it may gain."""
    assert broken(CALL | change) == rules


def test_theta_of_a_put_may_be_positive() -> None:
    """A deep European put gains with time."""
    assert broken(PUT | {"dividend_yield": 0.0, "vendor_theta": 0.01}) == set()


@pytest.mark.parametrize(
    ("vega", "rules"),
    [
        # 0.36 x 0.95 x 0.0095/0.01 - 0.0005 = 0.3244; 0.36 x 1.05 x 0.0105/0.01 x 366/365 + 0.0005 = 0.3985
        (0.325, set()),
        (0.324, {"vega_disagrees"}),
        (0.398, set()),
        (0.399, {"vega_disagrees"}),
    ],
)
def test_vega_follows_from_gamma(vega: float, rules: set[str]) -> None:
    """European vega is S² gamma sigma T to 5 % and the last digit of both, and a day of the vendor's clock."""
    assert broken(CALL | {"vendor_vega": vega}) == rules
    assert broken(CALL | {"vendor_vega": vega, "exercise_type": "A"}) == set()
    assert broken(CALL | {"vendor_vega": vega, "vendor_implied_volatility": None}) == set()
