"""The smile of every expiry in a few numbers: at the money, risk reversal, butterfly, skew slope, expected move.

One row per expiry of a snapshot and `source`: `own` from the volatilities and deltas of the metric
`implied_volatility`, `vendor` from the vendor's. The two are never mixed. Read along the expirations, the volatilities
at the money are the term structure. The arithmetic is in `kernels/smile`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from trade_analyst_pipeline.market.column_arithmetic import YEAR, floats
from trade_analyst_pipeline.market.columns import Rule, table_schema
from trade_analyst_pipeline.market.expiry_key import EXPIRY_KEY
from trade_analyst_pipeline.market.quote_status import USABLE
from trade_analyst_pipeline.market.volatility_limits import EUROPEAN_UP_TO, HIGHEST_IV

Floats = npt.NDArray[np.float64]

OWN, VENDOR = "own", "vendor"
OPTION_COLUMNS: Final = (
    *("option_symbol", "snapshot_time", "quote_status", "is_non_standard"),
    *("vendor_implied_volatility", "vendor_delta"),
)
VOLATILITY_COLUMNS: Final = (
    *("option_symbol", *EXPIRY_KEY, "chain_scope", "option_type", "strike", "mid", "implied_volatility", "delta"),
)
FORWARD_COLUMNS: Final = (
    *(*EXPIRY_KEY, "session_date", "exercise_type", "expiration_time", "years", "forward", "forward_error"),
    *("status", "flags"),
)
_WINGS: Final = ("put_25_delta_volatility", "call_25_delta_volatility")
_VOLATILITIES: Final = ("at_money_volatility", *_WINGS)

SCHEMA = table_schema(
    "term_structure",
    "1.0",
    key=(*EXPIRY_KEY, "source"),
    columns=(
        *(*EXPIRY_KEY, "source", "session_date", "chain_scope", "exercise_type", "expiration_time", "years"),
        *("forward", "forward_error", *_VOLATILITIES, "risk_reversal_25_delta", "butterfly_25_delta"),
        *("skew_slope", "skew_strikes", "expected_move", "straddle_strike", "straddle_price", "strikes"),
        *("status", "wing_status", "skew_status", "flags"),
    ),
    required=("session_date", "strikes", "skew_strikes", "status", "wing_status", "skew_status", "flags"),
    rules=(
        *(
            Rule(f"{name}_range", pl.col(name).is_between(0, HIGHEST_IV, closed="none"), "A volatility is 0 to 500 %.")
            for name in _VOLATILITIES
        ),
        Rule(
            "at_money_volatility_or_reason",
            pl.col("at_money_volatility").is_not_null() == (pl.col("status") == "ok"),
            "A row has a volatility at the money exactly when its status is ok.",
        ),
        Rule(
            "wings_or_reason",
            pl.all_horizontal(pl.col("risk_reversal_25_delta", "butterfly_25_delta").is_not_null())
            == (pl.col("wing_status") == "ok"),
            "A row has risk reversal and butterfly exactly when its wing_status is ok.",
        ),
        Rule(
            "skew_slope_or_reason",
            pl.col("skew_slope").is_not_null() == (pl.col("skew_status") == "ok"),
            "A row has a skew slope exactly when its skew_status is ok.",
        ),
    ),
)


def term_structure(options: pl.DataFrame, volatilities: pl.DataFrame, forwards: pl.DataFrame) -> pl.DataFrame:
    """The figures of each expiry in `forwards`, once per source; rows as `SCHEMA`, sorted by its key.

    `options` are rows of the table `options`, `volatilities` of the metric `implied_volatility` and `forwards` of the
    metric `forward`, of the same snapshots, any number of them. Volatilities are annualised fractions: risk reversal =
    call less put at 25 delta, butterfly = their mean less that at the money. `skew_slope` is per 1.00 of
    ln(strike / forward). `expected_move` = forward x volatility at the money x sqrt(years), dollars: one standard
    deviation at the expiry; it and the straddle are given in rows of our own only, for the vendor's volatility runs on
    another clock. Null has its reason in the status beside it.
    """
    expiries = forwards.select(FORWARD_COLUMNS).sort(EXPIRY_KEY).with_row_index("expiry")
    contracts = _contracts(options, volatilities, expiries)
    scopes = contracts.group_by("expiry").agg(pl.col("chain_scope").first())
    expiries = expiries.join(scopes, on="expiry", how="left", maintain_order="left")
    parts = [_judged(_with_smiles(expiries, contracts, source), source) for source in (OWN, VENDOR)]
    return pl.concat(parts).select(SCHEMA.names).sort(SCHEMA.key)


def _contracts(options: pl.DataFrame, volatilities: pl.DataFrame, expiries: pl.DataFrame) -> pl.DataFrame:
    """The contracts by expiry and strike, with the volatility and the delta that each source has of them."""
    iv, delta = pl.col("vendor_implied_volatility"), pl.col("vendor_delta")
    is_usable = pl.col("quote_status").is_in(USABLE) & ~pl.col("is_non_standard").fill_null(value=False)
    known = options.select(OPTION_COLUMNS)
    return (
        volatilities.select(VOLATILITY_COLUMNS)
        .filter(pl.col("strike") > 0)
        .join(expiries.select("expiry", *EXPIRY_KEY), on=EXPIRY_KEY)
        .join(known, on=("option_symbol", "snapshot_time"), how="left", validate="1:1")
        .with_columns(
            pl.when(pl.col("implied_volatility") < HIGHEST_IV).then("implied_volatility").alias("own_iv"),
            pl.col("delta").alias("own_delta"),
            pl.when(is_usable & (iv > 0) & (iv < HIGHEST_IV)).then(iv).alias("vendor_iv"),
            pl.when(is_usable & (delta.abs() <= 1)).then(delta).alias("vendor_delta"),
            pl.when(is_usable).then("mid").alias("mid"),
        )
        .sort("expiry", "strike", "option_type", "option_symbol")
    )


def _with_smiles(expiries: pl.DataFrame, contracts: pl.DataFrame, source: str) -> pl.DataFrame:
    """The expiries with what the kernel finds of each by one source's volatilities and deltas."""
    from trade_analyst_pipeline.kernels import smile  # compiled when it is first needed

    places = contracts["expiry"].to_numpy()
    starts = np.searchsorted(places, np.arange(expiries.height + 1)).astype(np.int64)
    run: Callable[..., Floats] = smile.smiles
    found = run(
        starts,
        contracts["strike"].to_numpy(),
        contracts["option_type"].eq("C").fill_null(value=False).to_numpy(),
        *(floats(contracts[name]) for name in (f"{source}_iv", f"{source}_delta", "mid")),
        floats(expiries["forward"]),
    )
    names = {
        "strikes": smile.STRIKES,
        "at_money": smile.AT_MONEY,
        "disagreement": smile.DISAGREEMENT,
        "put_25": smile.PUT,
        "call_25": smile.CALL,
        "deltas": smile.DELTAS,
        "slope": smile.SLOPE,
        "skew_strikes": smile.SLOPE_STRIKES,
        "straddle_strike": smile.STRADDLE_STRIKE,
        "straddle_price": smile.STRADDLE,
    }
    return expiries.with_columns(pl.Series(name, found[:, place], nan_to_null=True) for name, place in names.items())


def _judged(found: pl.DataFrame, source: str) -> pl.DataFrame:
    """Those with statuses and flags; figures that a status refuses are null."""
    is_ok, has_wings, has_skew = (pl.col(name) == "ok" for name in ("status", "wing_status", "skew_status"))
    put, call, at_money = (pl.col(name) for name in ("put_25", "call_25", "at_money"))
    is_own = pl.lit(source == OWN)
    return (
        found.with_columns(
            pl.col("strikes", "skew_strikes").fill_null(0).cast(pl.Int64),
            pl.lit(source).alias("source"),
            _status().alias("status"),
            forward_flags=pl.col("flags"),
        )
        .with_columns(_wing_status().alias("wing_status"), _skew_status().alias("skew_status"))
        .with_columns(
            pl.when(is_ok).then(at_money).alias("at_money_volatility"),
            *(pl.when(has_wings).then(side).alias(name) for side, name in zip((put, call), _WINGS, strict=True)),
            pl.when(has_wings).then(call - put).alias("risk_reversal_25_delta"),
            pl.when(has_wings).then((call + put) / 2 - at_money).alias("butterfly_25_delta"),
            pl.when(has_skew).then("slope").alias("skew_slope"),
            pl.when(is_ok & is_own).then(pl.col("forward") * at_money * pl.col("years").sqrt()).alias("expected_move"),
            *(pl.when(is_own).then(name).alias(name) for name in ("straddle_strike", "straddle_price")),
            pl.when(is_ok).then(_flags(source)).otherwise(pl.lit("")).alias("flags"),
        )
    )


def _status() -> pl.Expr:
    """`ok`, why the expiry has no forward, or the first thing that keeps it from a volatility there."""
    steps = {
        "no_volatility": pl.col("strikes").fill_null(0) == 0,
        "no_strikes": pl.col("at_money").is_null(),
        "sides_disagree": pl.col("disagreement") > 1,
    }
    words = (pl.when(holds).then(pl.lit(word)) for word, holds in steps.items())
    return pl.when(pl.col("status") != "ok").then("status").otherwise(pl.coalesce(*words, pl.lit("ok")))


def _wing_status() -> pl.Expr:
    return (
        pl.when(pl.col("status") != "ok")
        .then("status")
        .when(pl.col("deltas") < 2)
        .then(pl.lit("no_delta"))
        .when(pl.any_horizontal(pl.col("put_25", "call_25").is_null()))
        .then(pl.lit("out_of_reach"))
        .otherwise(pl.lit("ok"))
    )


def _skew_status() -> pl.Expr:
    return (
        pl.when(pl.col("status") != "ok")
        .then("status")
        .when(pl.col("slope").is_null())
        .then(pl.lit("few_strikes"))
        .otherwise(pl.lit("ok"))
    )


def _flags(source: str) -> pl.Expr:
    """Those of the forward, and that an American expiry was inverted as a European one where that tells."""
    may_be_exercised = (pl.col("exercise_type") != "E").fill_null(value=True)
    is_long = pl.col("years") > EUROPEAN_UP_TO / YEAR
    early = pl.when(may_be_exercised & is_long & pl.lit(source == OWN)).then(pl.lit("early_exercise"))
    kept = pl.when(pl.col("forward_flags") != "").then("forward_flags")
    return pl.concat_str([kept, early], separator=",", ignore_nulls=True)
