"""What holds for any option contract that can be believed: its identity, its sizes, its model values, its price bounds.

Errors are contradictions within a row. Warnings are bounds that vendors are known to break now and then.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from trade_analyst_pipeline.market.columns import Rule
from trade_analyst_pipeline.market.quote_rules import ANY_QUOTE_RULES, PRICE_SLACK

# Deltas come with three decimals.
_DELTA_SLACK = 0.001
_YEAR_MICROSECONDS = 365 * 86_400 * 1_000_000

_SYMBOL = pl.col("option_symbol")
_STRIKE = pl.col("strike")
_EXPIRATION = pl.col("expiration_date")
_IS_CALL = pl.col("option_type") == "C"
_IS_EUROPEAN = pl.col("exercise_type") == "E"
_SPOT = pl.col("underlying_price")


def _symbol_agrees() -> pl.Expr:
    """Whether date, type and strike inside the 21 characters are those of the columns."""
    written_date = _SYMBOL.str.slice(6, 6).cast(pl.Int32, strict=False)
    day = _EXPIRATION.dt.day().cast(pl.Int32) + _EXPIRATION.dt.month().cast(pl.Int32) * 100
    written_strike = _SYMBOL.str.slice(13, 8).cast(pl.Int64, strict=False)
    return (
        (_SYMBOL.str.len_bytes() == 21)
        & (written_date == day + (_EXPIRATION.dt.year() % 100) * 10_000).fill_null(value=False)
        & (_SYMBOL.str.slice(12, 1) == pl.col("option_type"))
        & (written_strike == (_STRIKE * 1000).round().cast(pl.Int64, strict=False)).fill_null(value=False)
    )


def _years() -> pl.Expr:
    lifetime = pl.col("expiration_time") - pl.col("snapshot_time")
    return lifetime.dt.total_microseconds().clip(lower_bound=0) / _YEAR_MICROSECONDS


def _least_value() -> pl.Expr:
    """The least an option is worth; null for a European call whose dividend yield is unknown."""
    carried_strike = _STRIKE * (-pl.col("interest_rate") * _years()).exp()
    call = _SPOT * (-pl.col("dividend_yield") * _years()).exp() - carried_strike
    european = pl.when(_IS_CALL).then(call).otherwise(carried_strike - _SPOT)
    american = pl.when(_IS_CALL).then(_SPOT - _STRIKE).otherwise(_STRIKE - _SPOT)
    return pl.when(_IS_EUROPEAN).then(european).otherwise(american)


def _within(column: str, low: float, high: float, slack: float) -> pl.Expr:
    return pl.col(column).is_between(low - slack, high + slack)


CONTRACT_RULES: Final = (
    *ANY_QUOTE_RULES,
    Rule("expired", pl.col("session_date") <= _EXPIRATION, "The contract expires on or after the session."),
    Rule("symbol_disagrees", _symbol_agrees(), "The option symbol states the row's date, type and strike."),
    Rule("multiplier_not_positive", pl.col("multiplier") > 0, "The multiplier is above zero."),
    Rule(
        "root_disagrees",
        _SYMBOL.str.slice(0, 6).str.strip_chars_end() == pl.col("option_root"),
        "The option symbol starts with the row's root.",
        "warning",
    ),
    Rule(
        "days_disagree",
        (_EXPIRATION - pl.col("session_date")).dt.total_days() == pl.col("days_to_expiration"),
        "The vendor's days to expiration are the calendar days from the session.",
        "warning",
    ),
    Rule(
        "delta_out_of_range",
        pl.when(_IS_CALL)
        .then(_within("vendor_delta", 0, 1, _DELTA_SLACK))
        .otherwise(_within("vendor_delta", -1, 0, _DELTA_SLACK)),
        "Delta is 0 to 1 for a call, -1 to 0 for a put.",
        "warning",
    ),
    Rule("negative_gamma", pl.col("vendor_gamma") >= 0, "Gamma is not negative.", "warning"),
    Rule("negative_vega", pl.col("vendor_vega") >= 0, "Vega is not negative.", "warning"),
    Rule(
        "rho_sign",
        pl.when(_IS_CALL).then(pl.col("vendor_rho") >= 0).otherwise(pl.col("vendor_rho") <= 0),
        "Rho is not negative for a call, not positive for a put.",
        "warning",
    ),
    Rule(
        "volatility_too_low",
        pl.col("vendor_implied_volatility") > 0.01,
        "The vendor's volatility is above 1 %.",
        "warning",
    ),
    Rule(
        "ask_below_bound",
        pl.col("ask") >= _least_value() - PRICE_SLACK,
        "The ask is not below what exercise is worth (European: discounted; null with the dividend yield).",
        "warning",
    ),
    Rule(
        "bid_above_bound",
        pl.col("bid") <= pl.when(_IS_CALL).then(_SPOT).otherwise(_STRIKE) + PRICE_SLACK,
        "The bid is not above the underlying for a call, the strike for a put.",
        "warning",
    ),
)
