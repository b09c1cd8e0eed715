"""The forward price and the interest rate of each expiry of an option chain, by put-call parity.

Discounted, calls minus puts of one strike are worth forward minus strike; over many strikes that is a line whose slope
is the discount factor. European chains give both. Of contracts exercised at any time only the pairs near the money
count, and the rate is the curve's or the chain's own: early exercise bends the line. The arithmetic is in
`kernels/parity`; when a quote is usable is in `market/quote_status`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from trade_analyst_pipeline.market.chain_pieces import PARTIAL
from trade_analyst_pipeline.market.column_arithmetic import YEAR, quotient, years_to_expiry
from trade_analyst_pipeline.market.columns import Rule, table_schema
from trade_analyst_pipeline.market.expiry_key import EXPIRY_KEY, root_and_settlement
from trade_analyst_pipeline.market.prices import TICKS_PER_DOLLAR, ticks
from trade_analyst_pipeline.market.quote_status import USABLE

Floats = npt.NDArray[np.float64]

INPUT_COLUMNS: Final = (
    *("symbol", "session_date", "snapshot_time", "chain_scope", "option_symbol", "option_root", "option_type"),
    *("expiration_date", "expiration_time", "settlement_type", "exercise_type", "strike", "bid", "ask", "quote_status"),
    *("underlying_price", "underlying_bid", "underlying_ask", "interest_rate", "is_non_standard"),
)
CURVE_COLUMNS: Final = ("session_date", "days", "rate")

# A price too low for a volatility is as good as any for parity, which adds dollars up.
USABLE_FOR_PARITY: Final = (*USABLE, "low_priced")
LARGEST_PRICE: Final = 1e9
LARGEST_RATE: Final = 0.5
LARGEST_RATE_ERROR: Final = 0.005
LARGEST_ERROR: Final = 0.1  # of the forward
FEW_PAIRS: Final = 3

SCHEMA = table_schema(
    "forward",
    "1.0",
    key=EXPIRY_KEY,
    columns=(
        *("symbol", "session_date", "snapshot_time", "expiration_date", "option_root", "settlement_type"),
        *("exercise_type", "expiration_time", "years", "spot", "forward", "forward_error", "at_money_forward"),
        *("discount_rate", "discount_rate_error", "rate_source", "discount_factor", "implied_dividend_yield"),
        *("strike_pairs", "used_pairs", "parity_scale", "status", "flags"),
    ),
    required=("session_date", "strike_pairs", "used_pairs", "status", "flags"),
    rules=(
        Rule("forward_positive", pl.col("forward") > 0, "A forward is above 0."),
        Rule(
            "forward_or_reason",
            pl.col("forward").is_not_null() == (pl.col("status") == "ok"),
            "A row has a forward exactly when its status is ok.",
        ),
    ),
)


def forward(options: pl.DataFrame, *, curve: pl.DataFrame | None = None, is_rate_fitted: bool = True) -> pl.DataFrame:
    """Forward, rate and discount factor of each expiry in `options`, one row each, as `SCHEMA`, sorted by its key.

    `options` are rows of the table `options`, of any number of symbols and snapshots; chains that are not whole count
    for nothing. `curve` has zero rates: `session_date`, `days` from it, and `rate`, a continuous fraction; of several
    dates the latest up to the session counts, linear between days, level beyond them. The rate of an expiry is that of
    parity where its contracts are European and its standard error at most 0.005 (never with `is_rate_fitted` false),
    else the curve's, else the chain's own, else 0; `rate_source` says which.
    """
    expiries = _expiries(options.select(INPUT_COLUMNS).filter(pl.col("chain_scope") != PARTIAL))
    if expiries.is_empty():
        return SCHEMA.empty()
    expiries = _with_rates(expiries, curve)
    return _judged(_fitted(expiries, is_rate_fitted=is_rate_fitted)).select(SCHEMA.names).sort(EXPIRY_KEY)


def _expiries(options: pl.DataFrame) -> pl.DataFrame:
    """One row per expiry, its usable quotes as lists; prices are whole numbers of 1/10000 dollar."""
    strike, bid, ask = (ticks(pl.col(name)) for name in ("strike", "bid", "ask"))
    is_usable = (
        pl.col("quote_status").is_in(USABLE_FOR_PARITY)
        & (bid > 0)
        & (ask >= bid)
        & (ask <= LARGEST_PRICE * TICKS_PER_DOLLAR)
        & strike.is_between(1, LARGEST_PRICE * TICKS_PER_DOLLAR)
        & pl.col("option_type").is_in(["C", "P"])
    ).fill_null(value=False)
    quotes = {"strike": strike, "bid": bid, "ask": ask, "is_call": pl.col("option_type") == "C"}
    rate = pl.col("interest_rate")
    exercise = pl.col("exercise_type")
    is_one_style = (exercise == "E").fill_null(value=False).all() | (exercise == "A").fill_null(value=False).all()
    return (
        options.with_columns(*root_and_settlement(), _spot().alias("spot"))
        .group_by(EXPIRY_KEY, maintain_order=True)
        .agg(
            pl.col("session_date").min(),
            pl.col("expiration_time").max(),
            pl.when(is_one_style).then(exercise.first()),
            pl.col("spot").median(),
            rate.filter(rate.abs() <= LARGEST_RATE).max().alias("chain_rate"),
            pl.col("is_non_standard").fill_null(value=False).any().alias("is_adjusted"),
            *(value.filter(is_usable).alias(f"quoted_{name}") for name, value in quotes.items()),
        )
        .with_columns(years=years_to_expiry())
    )


def _spot() -> pl.Expr:
    """The underlying's mid; its price where it has no two-sided quote; null where neither is above 0."""
    bid, ask, price = (pl.col(f"underlying_{name}") for name in ("bid", "ask", "price"))
    has_quote = (bid > 0) & (ask >= bid) & (ask <= LARGEST_PRICE)
    has_price = (price > 0) & (price <= LARGEST_PRICE)
    return pl.when(has_quote).then((bid + ask) / 2).when(has_price).then(price)


def _with_rates(expiries: pl.DataFrame, curve: pl.DataFrame | None) -> pl.DataFrame:
    """Those with `rate`, the one to take where parity gives none, and where it is from."""
    curve_rate = pl.lit(None, pl.Float64) if curve is None else _curve_rates(expiries, curve)
    return expiries.with_columns(curve_rate.alias("curve_rate")).with_columns(
        pl.coalesce("curve_rate", "chain_rate", 0.0).alias("rate"),
        pl.when(pl.col("curve_rate").is_not_null())
        .then(pl.lit("curve"))
        .when(pl.col("chain_rate").is_not_null())
        .then(pl.lit("chain"))
        .otherwise(pl.lit("assumed"))
        .alias("rate_source"),
    )


def _curve_rates(expiries: pl.DataFrame, curve: pl.DataFrame) -> pl.Series:
    """The rate of each expiry's life on the latest curve up to its session; null where there is none."""
    is_rate = pl.col("rate").abs() <= LARGEST_RATE
    knots = curve.select(CURVE_COLUMNS).drop_nulls().filter(is_rate).sort("session_date", "days")
    dates = knots["session_date"].unique().sort()
    days = expiries["years"].fill_null(0.0).to_numpy() * (YEAR / timedelta(days=1))
    rates = np.full(len(days), np.nan)
    sessions = expiries["session_date"]
    for session_date in sessions.unique():
        known = dates.filter(dates <= session_date)
        if not known.is_empty():
            of_date = knots.filter(session_date=known[-1])
            rows = (sessions == session_date).to_numpy()
            rates[rows] = np.interp(days[rows], of_date["days"].to_numpy(), of_date["rate"].to_numpy())
    return pl.Series(rates, nan_to_null=True)


def _fitted(expiries: pl.DataFrame, *, is_rate_fitted: bool) -> pl.DataFrame:
    """Those with what parity says of each; null where it says nothing."""
    from trade_analyst_pipeline.kernels import parity  # compiled when it is first needed

    quotes = {name: expiries[f"quoted_{name}"].explode().drop_nulls().to_numpy() for name in ("strike", "bid", "ask")}
    is_call = expiries["quoted_is_call"].explode().drop_nulls().to_numpy()
    starts = np.concatenate([[0], np.cumsum(expiries["quoted_strike"].list.len().to_numpy())]).astype(np.int64)
    is_alive = expiries["years"].fill_null(0.0).to_numpy() > 0
    is_european = expiries["exercise_type"].eq("E").fill_null(value=False).to_numpy()
    found = parity.fit_expiries(
        starts,
        quotes["strike"],
        is_call,
        quotes["bid"],
        quotes["ask"],
        np.maximum(expiries["years"].fill_null(0.0).to_numpy(), 0.0),
        expiries["rate"].to_numpy(),
        is_european & is_alive & is_rate_fitted,
        LARGEST_RATE_ERROR,
    )
    names = {
        "calls": parity.CALLS,
        "puts": parity.PUTS,
        "strike_pairs": parity.PAIRS,
        "used_pairs": parity.USED,
        "at_money_forward": parity.AT_MONEY,
        "forward": parity.FORWARD,
        "forward_error": parity.ERROR,
        "fitted_rate": parity.RATE,
        "discount_rate_error": parity.RATE_ERROR,
        "parity_scale": parity.SCALE,
        "is_spread": parity.IS_SPREAD,
        "lowest": parity.LOWEST,
        "highest": parity.HIGHEST,
    }
    return expiries.with_columns(pl.Series(name, found[:, place], nan_to_null=True) for name, place in names.items())


def _judged(fitted: pl.DataFrame) -> pl.DataFrame:
    """Those with `status` and `flags`; figures of an expiry without a forward are null."""
    is_ok = pl.col("status") == "ok"
    figures = ("forward", "forward_error", "at_money_forward", "parity_scale", "discount_rate_error")
    has_rate = pl.col("years") > 0
    discount_rate = pl.coalesce("fitted_rate", "rate")
    growth = quotient(pl.col("forward"), pl.col("spot")).log()
    dividend_yield = pl.col("discount_rate") - quotient(growth, pl.col("years"))
    return (
        fitted.with_columns(
            pl.col("strike_pairs").cast(pl.Int64),
            pl.col("used_pairs").fill_null(0).cast(pl.Int64),
            _status().alias("status"),
        )
        .with_columns(
            pl.when(is_ok).then(_flags()).otherwise(pl.lit("")).alias("flags"),
            pl.when(is_ok & pl.col("fitted_rate").is_not_null())
            .then(pl.lit("parity"))
            .when(has_rate)
            .then("rate_source")
            .alias("rate_source"),
            pl.when(has_rate).then(pl.when(is_ok).then(discount_rate).otherwise("rate")).alias("discount_rate"),
            pl.when(is_ok).then("used_pairs").otherwise(0).alias("used_pairs"),
            *(pl.when(is_ok).then(name).alias(name) for name in figures),
        )
        .with_columns(discount_factor=(-pl.col("discount_rate") * pl.col("years")).exp())
        .with_columns(implied_dividend_yield=pl.when(~pl.col("is_adjusted")).then(dividend_yield))
    )


def _status() -> pl.Expr:
    """`ok`, or the first thing that keeps an expiry from having a forward."""
    forward_price, error = pl.col("forward"), pl.col("forward_error")
    steps = {
        "no_expiration_time": pl.col("years").is_null(),
        "expired": pl.col("years") <= 0,
        "no_quotes": (pl.col("calls") == 0) & (pl.col("puts") == 0),
        "one_sided": (pl.col("calls") == 0) | (pl.col("puts") == 0),
        "no_pairs": pl.col("strike_pairs") == 0,
        "inconsistent": ~((forward_price > 0) & (error <= LARGEST_ERROR * forward_price)),
    }
    return pl.coalesce(*(pl.when(holds).then(pl.lit(word)) for word, holds in steps.items()), pl.lit("ok"))


def _flags() -> pl.Expr:
    flags = {
        "forward_spread": pl.col("is_spread") == 1,
        "few_pairs": pl.col("used_pairs") < FEW_PAIRS,
        "extrapolated": ~pl.col("forward").is_between("lowest", "highest"),
        "rate_assumed": (pl.col("rate_source") == "assumed") & pl.col("fitted_rate").is_null(),
        "adjusted": pl.col("is_adjusted"),
    }
    words = [pl.when(holds).then(pl.lit(word)) for word, holds in flags.items()]
    return pl.concat_str(words, separator=",", ignore_nulls=True)
