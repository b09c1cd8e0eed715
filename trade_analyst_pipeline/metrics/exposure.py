"""Gamma and delta exposure of open contracts: by strike and expiration, by strike, by expiration, and in all.

What dealers would have to trade for each move of the underlying if every open contract stood against them. Greeks are
our own, and of each strike those of the side out of the money, whose price tells most; the other side's follow by
parity. How much of the open interest has any is told beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import polars as pl

from trade_analyst_pipeline.market.column_arithmetic import quotient
from trade_analyst_pipeline.market.columns import Rule, table_schema
from trade_analyst_pipeline.market.expiry_key import EXPIRY_KEY
from trade_analyst_pipeline.market.sessions import previous_session

OPTION_COLUMNS: Final = (
    *("option_symbol", "snapshot_time", "open_interest", "multiplier", "is_non_standard", "is_mini"),
)
VOLATILITY_COLUMNS: Final = (
    *("option_symbol", *EXPIRY_KEY, "session_date", "chain_scope", "option_type", "strike"),
    *("forward", "discount_factor", "spot", "delta", "gamma"),
)
SIDES: Final = {"call": "C", "put": "P"}
# What is added up of each scope besides symbol and snapshot.
SCOPES: Final = {
    "expiration_strike": ("expiration_date", "strike"),
    "strike": ("strike",),
    "expiration": ("expiration_date",),
    "underlying": (),
}
_SNAPSHOT: Final = ("symbol", "session_date", "snapshot_time", "chain_scope")
_EXPOSURES: Final = tuple(f"{side}_{greek}_exposure" for greek in ("gamma", "delta") for side in SIDES)
_COUNTS: Final = (
    *("call_open_interest", "put_open_interest", "valued_open_interest", "known_open_interests"),
    *("contracts", "excluded_contracts"),
)
_CENTS: Final = 100
_MOVE: Final = 0.01  # of the underlying's price: gamma exposure is per one percent

_SCHEMA = table_schema(
    "exposure",
    "1.0",
    key=("scope", "symbol", "expiration_date", "strike", "snapshot_time", "chain_scope"),
    columns=(
        *("scope", "symbol", "expiration_date", "strike", "snapshot_time", "chain_scope", "session_date", "spot"),
        *("call_open_interest", "put_open_interest", "open_interest_date", "open_interest_coverage"),
        *("call_gamma_exposure", "put_gamma_exposure", "gamma_exposure"),
        *("call_delta_exposure", "put_delta_exposure", "delta_exposure"),
        *("contracts", "excluded_contracts", "status"),
    ),
    required=("session_date", "contracts", "excluded_contracts", "status"),
    rules=(
        Rule(
            "exposure_or_reason",
            pl.all_horizontal(pl.col("gamma_exposure", "delta_exposure").is_not_null()) == (pl.col("status") == "ok"),
            "A row has exposures exactly when its status is ok.",
        ),
        Rule(
            "open_interest_coverage_range",
            pl.col("open_interest_coverage").is_between(0, 100),
            "A coverage is 0 to 100.",
        ),
    ),
)
# both are part of the key and null where a row covers several
SCHEMA = replace(_SCHEMA, required=_SCHEMA.required - {"expiration_date", "strike"})


def exposure(options: pl.DataFrame, volatilities: pl.DataFrame) -> pl.DataFrame:
    """Exposures of every snapshot in `volatilities`, once per scope; rows as `SCHEMA`, sorted by its key.

    `options` are rows of the table `options`, `volatilities` of the metric `implied_volatility`, of the same snapshots.
    With OI the open interest, m the multiplier and S the spot price, of calls and of puts:
    `*_gamma_exposure` = sum of gamma x OI x m x S² / 100, dollars of the underlying per move of one percent;
    `*_delta_exposure` = sum of delta x OI x m x S, dollars. `gamma_exposure` is calls less puts (dealers long calls and
    short puts), `delta_exposure` calls plus puts (a put's delta is negative). Each contract counts in whole cents, so
    that no sum depends on its order. Adjusted and mini contracts are left out and counted. Null: see `status`.
    """
    contracts = _contracts(options, volatilities)
    cells = _cells(_sides(contracts), contracts)
    parts = [_added_up(cells, keys, scope) for scope, keys in SCOPES.items()]
    return _judged(pl.concat(parts, how="diagonal")).select(SCHEMA.names).sort(SCHEMA.key)


def _contracts(options: pl.DataFrame, volatilities: pl.DataFrame) -> pl.DataFrame:
    """The contracts with what is open of each; nothing is known of adjusted ones."""
    is_adjusted = pl.col("is_non_standard").fill_null(value=False) | pl.col("is_mini").fill_null(value=False)
    return (
        volatilities.select(VOLATILITY_COLUMNS)
        .join(options.select(OPTION_COLUMNS), on=("option_symbol", "snapshot_time"), how="left", validate="1:1")
        .with_columns(is_adjusted=is_adjusted)
        .with_columns(
            pl.when(~pl.col("is_adjusted") & (pl.col(name) >= 0)).then(name).alias(name)
            for name in ("open_interest", "multiplier")
        )
    )


def _sides(contracts: pl.DataFrame) -> pl.DataFrame:
    """One row per expiry and strike: gamma, and the delta of call and put, from the side out of the money if it can be.

    The delta of a call less that of its put is exp(-qT), which is forward x discount factor / spot.
    """
    key = (*EXPIRY_KEY, "strike")
    greeks = [
        pl.col(name).filter(~pl.col("is_adjusted") & (pl.col("option_type") == letter)).max().alias(f"{side}_{name}")
        for side, letter in SIDES.items()
        for name in ("delta", "gamma")
    ]
    figures = (pl.col("forward", "discount_factor", "spot").max(), *greeks)
    strikes = contracts.group_by(key).agg(figures)
    has_call, has_put = (pl.col(f"{side}_gamma").is_not_null() for side in SIDES)
    is_call_out = pl.col("strike") >= pl.col("forward")
    carried = pl.col("forward") * pl.col("discount_factor") / pl.col("spot")
    takes_call = has_call & (is_call_out | ~has_put)
    return strikes.select(
        *key,
        pl.when(takes_call).then("call_gamma").otherwise("put_gamma").alias("strike_gamma"),
        pl.when(takes_call).then("call_delta").otherwise(pl.col("put_delta") + carried).alias("strike_call_delta"),
        pl.when(takes_call).then(pl.col("call_delta") - carried).otherwise("put_delta").alias("strike_put_delta"),
    )


def _cells(strikes: pl.DataFrame, contracts: pl.DataFrame) -> pl.DataFrame:
    """What each contract adds to a sum, in whole cents and contracts."""
    size = pl.col("open_interest") * pl.col("multiplier") * pl.col("spot")
    gamma = pl.col("strike_gamma") * size * pl.col("spot") * _MOVE
    is_call = pl.col("option_type") == "C"
    delta = pl.when(is_call).then("strike_call_delta").otherwise("strike_put_delta") * size
    cents = {
        greek: (value * _CENTS).round().cast(pl.Int64, strict=False)
        for greek, value in (("gamma", gamma), ("delta", delta))
    }
    is_valued = pl.all_horizontal(value.is_not_null() for value in cents.values())
    return contracts.join(strikes, on=(*EXPIRY_KEY, "strike"), how="left", nulls_equal=True).select(
        *(*_SNAPSHOT, "expiration_date", "strike", "spot"),
        *(
            pl.when(is_valued & (pl.col("option_type") == letter))
            .then(value)
            .otherwise(0)
            .alias(f"{side}_{greek}_exposure")
            for greek, value in cents.items()
            for side, letter in SIDES.items()
        ),
        *(
            pl.when(pl.col("option_type") == letter).then("open_interest").otherwise(0).alias(f"{side}_open_interest")
            for side, letter in SIDES.items()
        ),
        pl.when(is_valued).then("open_interest").otherwise(0).alias("valued_open_interest"),
        pl.col("open_interest").is_not_null().cast(pl.Int64).alias("known_open_interests"),
        (~pl.col("is_adjusted")).cast(pl.Int64).alias("contracts"),
        pl.col("is_adjusted").cast(pl.Int64).alias("excluded_contracts"),
    )


def _added_up(cells: pl.DataFrame, keys: Sequence[str], scope: str) -> pl.DataFrame:
    sums = cells.group_by(*_SNAPSHOT, *keys).agg(pl.col(*_EXPOSURES, *_COUNTS).sum(), pl.col("spot").median())
    return sums.with_columns(scope=pl.lit(scope))


def _judged(sums: pl.DataFrame) -> pl.DataFrame:
    """The sums in dollars, with what is made of them; null where nothing that is open has a value."""
    previous = {day: previous_session(day) for day in sums["session_date"].unique()}
    is_ok = pl.col("status") == "ok"
    is_open = pl.col("call_open_interest") + pl.col("put_open_interest")
    call_gamma, put_gamma, call_delta, put_delta = (pl.col(name) for name in _EXPOSURES)
    nets = {"gamma_exposure": call_gamma - put_gamma, "delta_exposure": call_delta + put_delta}
    status = (
        pl.when((is_open == 0) & (pl.col("known_open_interests") < pl.col("contracts")))
        .then(pl.lit("unknown"))
        .when(pl.col("contracts") == 0)
        .then(pl.lit("adjusted"))
        .when((is_open > 0) & (pl.col("valued_open_interest") == 0))
        .then(pl.lit("no_greeks"))
        .otherwise(pl.lit("ok"))
    )
    is_known = ~pl.col("status").is_in(["unknown", "adjusted"])
    return sums.with_columns(
        pl.col("session_date").replace_strict(previous, return_dtype=pl.Date).alias("open_interest_date"),
        status=status,
    ).with_columns(
        *(pl.when(is_ok).then(quotient(pl.col(name), _CENTS)).alias(name) for name in _EXPOSURES),
        *(pl.when(is_ok).then(quotient(net, _CENTS)).alias(name) for name, net in nets.items()),
        *(pl.when(is_known).then(name).alias(name) for name in ("call_open_interest", "put_open_interest")),
        pl.when(is_known & (is_open > 0))
        .then(100.0 * pl.col("valued_open_interest") / is_open)
        .alias("open_interest_coverage"),
    )
