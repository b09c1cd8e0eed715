"""What holds for any option contract that can be believed: its identity, its sizes, its model values, its price bounds.

Errors are contradictions within a row. Warnings are bounds that vendors are known to break now and then.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from trade_analyst_pipeline.market.column_arithmetic import years_to_expiry
from trade_analyst_pipeline.market.columns import Rule
from trade_analyst_pipeline.market.quote_rules import ANY_QUOTE_RULES, PRICE_SLACK

# Greeks come with three decimals.
LAST_DIGIT: Final = 0.001
# The vendor's clock runs to about the morning after the last instant.
_VENDOR_CLOCK_YEARS: Final = 1 / 365
_VENDOR_VEGA_SLACK: Final = 0.05

_SYMBOL = pl.col("option_symbol")
_STRIKE = pl.col("strike")
_EXPIRATION = pl.col("expiration_date")
IS_CALL = pl.col("option_type") == "C"
IS_EUROPEAN = pl.col("exercise_type") == "E"
IS_AMERICAN = pl.col("exercise_type") == "A"
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


def years_left() -> pl.Expr:
    """Years of 365 days from the snapshot to the contract's last instant; 0 after it."""
    return years_to_expiry().clip(lower_bound=0)


def _carried(value: pl.Expr, rate: str) -> pl.Expr:
    """A value at the contract's end as of now, by a rate that may be null."""
    return value * (-pl.col(rate) * years_left()).exp()


def _least_value() -> pl.Expr:
    """The least an option is worth; null for a European call whose dividend yield is unknown.

    A contract of unknown style is taken as European, the lesser of the two; a put without a dividend yield as if it
    were 0, which is the lesser too.
    """
    spot, strike = _carried(_SPOT, "dividend_yield"), _carried(_STRIKE, "interest_rate")
    european = pl.when(IS_CALL).then(spot - strike).otherwise(strike - pl.coalesce(spot, _SPOT))
    american = pl.when(IS_CALL).then(_SPOT - _STRIKE).otherwise(_STRIKE - _SPOT)
    return pl.when(IS_AMERICAN).then(american).otherwise(european)


def _most_value() -> pl.Expr:
    """The most an option is worth: the underlying or the strike; of a European one as of now where rates are known."""
    spot, strike = _carried(_SPOT, "dividend_yield"), _carried(_STRIKE, "interest_rate")
    european = pl.when(IS_CALL).then(pl.coalesce(spot, _SPOT)).otherwise(pl.coalesce(strike, _STRIKE))
    american = pl.when(IS_CALL).then(_SPOT).otherwise(_STRIKE)
    return pl.when(IS_EUROPEAN).then(european).otherwise(american)


def is_above_least() -> pl.Expr:
    """Whether the ask is at least what the contract is worth whatever happens; null where that is not known.

    The ask, so that a wide quote is not condemned.
    """
    return pl.col("ask") >= _least_value() - PRICE_SLACK


def is_below_most() -> pl.Expr:
    """Whether the bid is at most what the contract can be worth; null where that is not known."""
    return pl.col("bid") <= _most_value() + PRICE_SLACK


def _vega_agrees() -> pl.Expr:
    """Whether vega is S² gamma sigma T, for some T from the contract's last instant to a day later.

    Vega is per point of volatility, hence the 100. Gamma and vega may be off by half their last digit.
    """
    digits = LAST_DIGIT / 2
    per_gamma = _SPOT.pow(2) * pl.col("vendor_implied_volatility") / 100
    gamma, vega = pl.col("vendor_gamma"), pl.col("vendor_vega")
    least = (1 - _VENDOR_VEGA_SLACK) * per_gamma * (gamma - digits) * years_left() - digits
    most = (1 + _VENDOR_VEGA_SLACK) * per_gamma * (gamma + digits) * (years_left() + _VENDOR_CLOCK_YEARS) + digits
    return IS_EUROPEAN.not_() | vega.is_between(least, most)


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
        pl.when(IS_CALL)
        .then(_within("vendor_delta", 0, 1, LAST_DIGIT))
        .otherwise(_within("vendor_delta", -1, 0, LAST_DIGIT)),
        "Delta is 0 to 1 for a call, -1 to 0 for a put.",
        "warning",
    ),
    Rule("negative_gamma", pl.col("vendor_gamma") >= 0, "Gamma is not negative.", "warning"),
    Rule("negative_vega", pl.col("vendor_vega") >= 0, "Vega is not negative.", "warning"),
    Rule(
        "rho_sign",
        pl.when(IS_CALL).then(pl.col("vendor_rho") >= 0).otherwise(pl.col("vendor_rho") <= 0),
        "Rho is not negative for a call, not positive for a put.",
        "warning",
    ),
    Rule(
        "theta_sign",
        (IS_CALL & (pl.col("dividend_yield") == 0)).not_() | (pl.col("vendor_theta") <= 0),
        "Theta of a call without dividends is not positive.",
        "warning",
    ),
    Rule(
        "vega_disagrees",
        _vega_agrees(),
        "European: vega is S² gamma sigma T to 5 % and the last digits, T up to a day longer on the vendor's clock.",
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
        is_above_least(),
        "The ask is not below what exercise is worth (European: discounted; a call's needs the dividend yield).",
        "warning",
    ),
    Rule(
        "bid_above_bound",
        is_below_most(),
        "The bid is not above the underlying for a call, the strike for a put (European: discounted).",
        "warning",
    ),
)
