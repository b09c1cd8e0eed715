"""What holds between the contracts of one chain at one instant. All are warnings: such a row is counted and kept.

Prices are judged by their quotes, each as much as half its spread off its mid: a bid against the asks beside it. What
needs a volatility of our own (own against vendor, parity of prices) is not judged here.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from trade_analyst_pipeline.market.chain_pieces import PARTIAL
from trade_analyst_pipeline.market.columns import Rule
from trade_analyst_pipeline.market.option_rules import IS_CALL, IS_EUROPEAN, LAST_DIGIT, years_left
from trade_analyst_pipeline.market.prices import ticks
from trade_analyst_pipeline.market.quote_status import USABLE

Floats = npt.NDArray[np.float64]

DELTA_PARITY_SLACK: Final = 0.02
# Vendors differ among themselves by a few percent.
LARGEST_SIDE_DIFFERENCE: Final = 0.05
# Volatilities come in percent with three decimals.
_IV_DIGITS: Final = 0.000005

_EXPIRATION = ("symbol", "snapshot_time", "option_root", "expiration_date")
_IS_USABLE = pl.col("quote_status").is_in(USABLE)
_STRIKE = pl.col("strike")
_BID, _ASK = (pl.when(_IS_USABLE).then(ticks(pl.col(side))) for side in ("bid", "ask"))


def _beside(value: pl.Expr, step: int) -> pl.Expr:
    """The value at the next lower (1) or higher (-1) strike of the same expiration and side that has a usable quote."""
    return value.shift(step).over(*_EXPIRATION, "option_type", _IS_USABLE, order_by="strike")


def _is_monotonic() -> pl.Expr:
    dearer_ask = pl.when(IS_CALL).then(_beside(_ASK, 1)).otherwise(_beside(_ASK, -1))
    return dearer_ask >= _BID


def _is_convex() -> pl.Expr:
    below, above = (_beside(_STRIKE, step) for step in (1, -1))
    weighted = _beside(_ASK, 1) * (above - _STRIKE) + _beside(_ASK, -1) * (_STRIKE - below)
    return _BID * (above - below) <= weighted


def _of_pair(value: pl.Expr) -> pl.Expr:
    """A figure over call and put of one strike; null where not both are there."""
    return value.over(*_EXPIRATION, "strike")


def _has_delta_parity() -> pl.Expr:
    """Whether delta of the call less delta of the put is exp(-qT); at most 1 where the dividend yield is unknown."""
    signed = pl.when(IS_CALL).then(pl.col("vendor_delta")).otherwise(-pl.col("vendor_delta"))
    difference = _of_pair(pl.when(signed.count() == 2).then(signed.sum()))
    carried = (-pl.col("dividend_yield") * years_left()).exp()
    is_near = (difference - carried).abs() <= DELTA_PARITY_SLACK
    is_possible = difference <= 1 + DELTA_PARITY_SLACK
    return IS_EUROPEAN.not_() | pl.when(carried.is_null()).then(is_possible).otherwise(is_near)


def _sides_agree(column: str) -> pl.Expr:
    """Whether a Greek is equal for call and put of a strike, to 5 % of the larger and the last digit sent."""
    low, high = (_of_pair(getattr(pl.col(column), extreme)()) for extreme in ("min", "max"))
    return IS_EUROPEAN.not_() | (high - low <= LARGEST_SIDE_DIFFERENCE * high + LAST_DIGIT)


_SMILE_COLUMNS: Final = (
    *("symbol", "snapshot_time", "option_root", "expiration_time", "option_type", "strike", "underlying_price"),
    *("interest_rate", "dividend_yield", "bid", "ask", "quote_status", "vendor_implied_volatility", "vendor_vega"),
    *("is_non_standard", "is_mini"),
)


def _variance_grows() -> pl.Expr:
    return pl.struct(_SMILE_COLUMNS).map_batches(_grows_to_next_expiration, return_dtype=pl.Boolean())


def _grows_to_next_expiration(contracts: pl.Series) -> pl.Series:
    """For each contract whether total variance is no smaller at the next expiration; null where that is not known.

    Compared at one moneyness ln(K / F), between the two strikes around it there, of out-of-the-money contracts with a
    usable quote. F is the underlying carried at the chain's rate and dividend yield (0 where unknown). Both variances
    may be off by what half their spread is worth.
    """
    smiles = _smiles(contracts.struct.unnest())
    expiry = smiles["expiry"].to_numpy()
    starts = np.flatnonzero(np.diff(expiry, prepend=-1))
    bounds = [*starts.tolist(), len(expiry)]
    chain, end = smiles["chain"].to_numpy()[starts], smiles["expiration_time"].to_numpy()[starts]
    moneyness, most, least = (smiles[name].to_numpy() for name in ("moneyness", "most", "least"))
    outcome = np.full(len(contracts), np.nan)
    rows = smiles["row"].to_numpy()
    for place in range(len(starts) - 1):
        following = next((n for n in range(place + 1, len(starts)) if end[n] > end[place]), None)
        if following is None or chain[following] != chain[place]:
            continue
        here, there = (slice(bounds[n], bounds[n + 1]) for n in (place, following))
        later = np.interp(moneyness[here], moneyness[there], most[there], left=np.nan, right=np.nan)
        outcome[rows[here]] = np.where(np.isnan(later), np.nan, least[here] <= later)
    return pl.Series(contracts.name, outcome, nan_to_null=True).cast(pl.Boolean)


def _smiles(contracts: pl.DataFrame) -> pl.DataFrame:
    """The contracts to compare by chain, expiration and moneyness, numbered: `row` in the input, `chain`, `expiry`.

    `least` and `most` bound the total variance.
    """
    years, carry = years_left(), pl.col("interest_rate").fill_null(0) - pl.col("dividend_yield").fill_null(0)
    half_spread = (pl.col("ask") - pl.col("bid")) / 2
    digits = LAST_DIGIT / 2
    # a vega of few digits says little about what a spread is worth
    slack = half_spread / (pl.col("vendor_vega") - digits) / 100 + _IV_DIGITS
    volatility = pl.col("vendor_implied_volatility")
    is_standard = ~(pl.col("is_non_standard") | pl.col("is_mini")).fill_null(value=False)
    is_judged = _IS_USABLE & is_standard & (years > 0) & (volatility > 0) & (pl.col("vendor_vega") > 2 * digits)
    return (
        contracts.lazy()
        .with_row_index("row")
        .filter(is_judged, pl.col("underlying_price") > 0, _STRIKE > 0)
        .with_columns(
            moneyness=(_STRIKE / pl.col("underlying_price")).log() - carry * years,
            least=pl.max_horizontal(volatility - slack, 0).pow(2) * years,
            most=(volatility + slack).pow(2) * years,
        )
        .filter((pl.col("moneyness") >= 0) == IS_CALL)
        .sort("symbol", "snapshot_time", "expiration_time", "option_root", "moneyness")
        .with_columns(
            chain=pl.struct("symbol", "snapshot_time").rle_id(),
            expiry=pl.struct("symbol", "snapshot_time", "expiration_time", "option_root").rle_id(),
        )
        .select("row", "chain", "expiry", "expiration_time", "moneyness", "least", "most")
        .collect()
    )


CHAIN_RULES: Final = (
    Rule(
        "chain_incomplete",
        pl.col("chain_scope") != PARTIAL,
        "The chain is proven whole: each listed expiration and each announced contract came. Else no metric uses it.",
        "warning",
    ),
    Rule(
        "price_not_monotonic",
        _is_monotonic(),
        "A call's bid is not above the ask at the next lower strike, a put's not above the ask at the next higher.",
        "warning",
    ),
    Rule(
        "price_not_convex",
        _is_convex(),
        "The bid is not above what the asks at the strikes on both sides give in between (butterfly).",
        "warning",
    ),
    Rule(
        "variance_falls",
        _variance_grows(),
        "The vendor's total variance is no smaller at the next expiration and the same moneyness (calendar).",
        "warning",
    ),
    Rule(
        "delta_parity",
        _has_delta_parity(),
        "European: delta of the call less that of the put is exp(-qT) to 0.02; at most 1.02 if q is unknown.",
        "warning",
    ),
    Rule(
        "gamma_sides_differ",
        _sides_agree("vendor_gamma"),
        "European: gamma is equal for call and put of a strike, to 5 % and the last digit.",
        "warning",
    ),
    Rule(
        "vega_sides_differ",
        _sides_agree("vendor_vega"),
        "European: vega is equal for call and put of a strike, to 5 % and the last digit.",
        "warning",
    ),
)
