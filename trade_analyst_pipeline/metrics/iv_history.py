"""One volatility per symbol, series and session, from the option chain.

Series `atm30_vendor`: at the money, constant maturity of 30 days, from the vendor's own implied volatilities. The
vendor's clock is in it, so it is ranked against its own history only and never mixed with a series of our own.
Which contracts and strikes make a volatility is decided here; when a quote is usable is in `market/quote_status`.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from trade_analyst_pipeline.market.chain_pieces import PARTIAL
from trade_analyst_pipeline.market.columns import TIME, Rule, table_schema
from trade_analyst_pipeline.market.option_rules import is_above_least, is_below_most
from trade_analyst_pipeline.market.prices import TICKS_PER_DOLLAR, ticks
from trade_analyst_pipeline.market.quote_status import fresh_since, is_usable
from trade_analyst_pipeline.market.session_hours import up_to_close
from trade_analyst_pipeline.market.sessions import option_product

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

SERIES = "atm30_vendor"
INPUT_COLUMNS = (
    *("symbol", "session_date", "snapshot_time", "chain_scope", "option_root", "option_type"),
    *("expiration_date", "expiration_time", "strike", "bid", "ask", "quote_time"),
    *("vendor_implied_volatility", "is_non_standard", "is_mini", "interest_rate"),
    *("underlying_price", "dividend_yield", "exercise_type"),
)

TARGET = timedelta(days=30)
SHORTEST, LONGEST = timedelta(days=2), timedelta(days=365)
SINGLE_FROM, SINGLE_TO = timedelta(days=23), timedelta(days=37)
SHORT_EXPIRY = timedelta(days=7)
EARLY_SNAPSHOT = timedelta(minutes=30)
DAY, YEAR = timedelta(days=1), timedelta(days=365)

HIGHEST_IV = 5.0
LARGEST_SIDE_DIFFERENCE = 0.05
LARGEST_RELATIVE_SIDE_DIFFERENCE = 0.2

SCHEMA = table_schema(
    "iv_history",
    "1.0",
    key=("symbol", "series", "session_date"),
    columns=(
        *("symbol", "series", "session_date", "snapshot_time", "iv", "status", "flags"),
        *("near_expiration_date", "far_expiration_date", "near_days", "far_days", "near_iv", "far_iv"),
        *("near_forward", "far_forward", "near_strikes", "far_strikes", "discount_rate", "clean_contracts"),
    ),
    required=("status", "flags"),
    rules=(
        Rule("iv_range", pl.col("iv").is_between(0, HIGHEST_IV, closed="none"), "A volatility is 0 to 500 %."),
        Rule(
            "iv_or_reason",
            pl.col("iv").is_not_null() == pl.col("status").is_in(["ok", "single"]),
            "A row has a value exactly when its status is ok or single.",
        ),
    ),
)


def iv_history(options: pl.DataFrame) -> pl.DataFrame:
    """The series' value of each symbol and session in `options`, one row each, as `SCHEMA`, sorted by its key.

    The value is that of the best valid snapshot: the latest one, at or before the close of the symbol's options, that
    yields a value. A snapshot after that close never counts, nor one that is not whole. When none yields one, `iv` is
    null and `status` is the reason the latest gave; `incomplete_chain` or `after_hours` when there was none.
    """
    values = snapshot_values(options).sort("symbol", "session_date", pl.col("iv").is_not_null(), "snapshot_time")
    best = values.unique(("symbol", "session_date"), keep="last", maintain_order=True)
    each = options.group_by("symbol", "session_date").agg((pl.col("chain_scope") == PARTIAL).any().alias("is_short"))
    status = pl.when("is_short").then(pl.lit("incomplete_chain")).otherwise(pl.lit("after_hours"))
    none = each.join(best, on=("symbol", "session_date"), how="anti")
    none = none.with_columns(series=pl.lit(SERIES), status=status, flags=pl.lit("")).drop("is_short")
    return pl.concat([best, none], how="diagonal").select(SCHEMA.names).sort(SCHEMA.key)


def snapshot_values(options: pl.DataFrame) -> pl.DataFrame:
    """The series' value at every whole snapshot up to the close of the symbol's options; columns as `SCHEMA`.

    `options` are rows of the table `options`, of any number of symbols and snapshots. The forward of an expiry comes
    from put-call parity on mids; the strikes next to it give its volatility, total variance being linear in
    log-moneyness; total variance is linear in time between the two expiries around 30 days. Years are seconds /
    (365 * 86400). `status`: `ok`, `single` (one expiry of 23 to 37 days, taken flat), else the reason for null.
    """
    options = options.select(INPUT_COLUMNS).filter(pl.col("chain_scope") != PARTIAL)
    snapshots = _snapshots(options)
    contracts = _standard_contracts(options, snapshots)
    summary = _summary(contracts)
    strikes = _strikes(contracts)
    forwards = _forwards(strikes.join(summary.select("snapshot", "discount_rate"), on="snapshot"))
    expiries = _expiries(strikes.join(forwards, on="expiry", maintain_order="left"))
    stages = snapshots.join(summary, on="snapshot", how="left").with_columns(
        has_forward=pl.col("snapshot").is_in(forwards["snapshot"].implode()),
        has_atm=pl.col("snapshot").is_in(expiries["snapshot"].implode()),
        has_consistent=pl.col("snapshot").is_in(expiries.filter("is_consistent")["snapshot"].implode()),
    )
    return _valued(_around_target(stages, expiries.filter("is_consistent"))).select(SCHEMA.names)


def _snapshots(options: pl.DataFrame) -> pl.DataFrame:
    """Every snapshot not after its close, numbered; `fresh_since` is the oldest time a quote may have."""
    each = ("symbol", "session_date", "snapshot_time")
    snapshots = up_to_close(options.select(each).unique()).sort(each).with_row_index("snapshot")
    fresh = [
        fresh_since(snapshot_time, day, option_product(symbol))
        for symbol, day, snapshot_time in snapshots.select(each).iter_rows()
    ]
    return snapshots.with_columns(pl.Series("fresh_since", fresh, TIME))


def _standard_contracts(options: pl.DataFrame, snapshots: pl.DataFrame) -> pl.DataFrame:
    """The unadjusted contracts of those snapshots with 2 to 365 days to live, with integer prices and `is_clean`.

    Clean is a usable quote within the bounds that hold for any option at the underlying's price, where that is known.
    """
    remaining = pl.col("expiration_time") - pl.col("snapshot_time")
    bid, ask = (_ticks(pl.col(side)) for side in ("bid", "ask"))
    iv = pl.col("vendor_implied_volatility")
    is_possible = (is_above_least() & is_below_most()).fill_null(value=True)
    is_adjusted = pl.col("is_non_standard").fill_null(value=False) | pl.col("is_mini").fill_null(value=False)
    return (
        options.join(
            snapshots.select("symbol", "session_date", "snapshot_time", "snapshot", "fresh_since"),
            on=("symbol", "session_date", "snapshot_time"),
        )
        .with_columns(remaining=remaining)
        .filter(pl.col("remaining").is_between(SHORTEST, LONGEST) & ~is_adjusted)
        .with_columns(
            is_clean=is_usable("fresh_since") & is_possible,
            bid=bid,
            ask=ask,
            iv=pl.when((iv > 0) & (iv < HIGHEST_IV)).then(iv),
        )
    )


def _ticks(price: pl.Expr) -> pl.Expr:
    """A price as an integer of 1/10000 dollar."""
    return ticks(price).cast(pl.Int64)


def _quotient(dividend: pl.Expr, divisor: int) -> pl.Expr:
    """The correctly rounded quotient of each row: many rows at once Polars multiplies by the rounded reciprocal."""
    return dividend / (dividend * 0 + divisor)


def _in_units(duration: pl.Expr, unit: timedelta) -> pl.Expr:
    """A duration as a number of these units."""
    return _quotient(duration.dt.total_microseconds(), unit // timedelta(microseconds=1))


def _summary(contracts: pl.DataFrame) -> pl.DataFrame:
    """Per snapshot: the rate, counts, and the listed expiries next to 30 days."""
    remaining = pl.col("remaining")
    return contracts.group_by("snapshot").agg(
        pl.col("interest_rate").max().fill_null(0.0).alias("discount_rate"),
        pl.col("interest_rate").is_null().all().alias("is_rate_assumed"),
        pl.col("is_clean").sum().cast(pl.Int64).alias("clean_contracts"),
        (pl.col("is_clean") & pl.col("iv").is_not_null()).any().alias("has_iv"),
        remaining.filter(remaining <= TARGET).max().alias("listed_near"),
        remaining.filter(remaining > TARGET).min().alias("listed_far"),
    )


def _strikes(contracts: pl.DataFrame) -> pl.DataFrame:
    """One row per strike with a clean quote, in order, with the call's and the put's figures; `expiry` numbers them.

    Two roots that expire at one instant are two expiries. Mids are doubled integer prices, so that they stay exact.
    """
    key = ("snapshot", "expiration_time", "option_root", "strike")
    figures = {"mid": pl.col("bid") + pl.col("ask"), "spread": pl.col("ask") - pl.col("bid"), "iv": pl.col("iv")}
    sides = {
        f"{side}_{name}": pl.when(pl.col("option_type") == letter).then(figure)
        for side, letter in (("call", "C"), ("put", "P"))
        for name, figure in figures.items()
    }
    return (
        contracts.filter("is_clean")
        .with_columns(**sides)
        .group_by(key)
        .agg(pl.col("expiration_date", "remaining", *sides).max())
        .sort(key)
        .with_columns(
            pl.struct(key[:3]).rle_id().cast(pl.Int64).alias("expiry"),
            _in_units(pl.col("remaining"), YEAR).alias("years"),
            _ticks(pl.col("strike")).alias("strike_ticks"),
        )
    )


def _forwards(strikes: pl.DataFrame) -> pl.DataFrame:
    """Each expiry's `forward` by put-call parity, of those that have a strike with both sides.

    It is strike + exp(rT) (call mid - put mid) where the two mids are closest, at the lower strike of two. When that
    and its two nearest strikes differ by more than the largest of their half-spreads, `is_spread` is set and the
    median of the three is taken.
    """
    both = strikes.filter(pl.col("call_mid").is_not_null() & pl.col("put_mid").is_not_null())
    both = both.with_columns(pl.int_range(pl.len()).alias("row"))
    gap = (pl.col("call_mid") - pl.col("put_mid")).abs()
    at = both.sort("expiry", gap, "strike").unique("expiry", keep="first", maintain_order=True)
    growth = (pl.col("discount_rate") * pl.col("years")).exp()
    parity = both.select(
        pl.col("strike") + _quotient(growth * (pl.col("call_mid") - pl.col("put_mid")), 2 * TICKS_PER_DOLLAR)
    ).to_series()
    half_spread = both.select(
        _quotient(pl.max_horizontal("call_spread", "put_spread"), 2 * TICKS_PER_DOLLAR)
    ).to_series()
    trio = _nearest_three(both["expiry"].to_numpy(), both["strike"].to_numpy(), at["row"].to_numpy())
    values, slack = parity.to_numpy()[trio], half_spread.to_numpy()[trio].max(axis=0, initial=0)
    is_spread = np.ptp(values, axis=0) > slack
    nearest = parity.to_numpy()[at["row"].to_numpy()]
    return at.select("snapshot", "expiry").with_columns(
        pl.Series("forward", np.where(is_spread, np.median(values, axis=0), nearest)),
        pl.Series("is_spread", is_spread),
    )


def _nearest_three(expiry: Indices, strike: Floats, at: Indices) -> Indices:
    """Rows of the three strikes of the same expiry nearest each row `at`, itself included.

    Rows are in order of strike; of two strikes equally far the lower is nearer. Three times `at` where there are
    fewer than three strikes.
    """

    def distance(step: int) -> Floats:
        row = np.clip(at + step, 0, len(expiry) - 1)
        inside = (row == at + step) & (expiry[row] == expiry[at])
        return np.where(inside, np.abs(strike[row] - strike[at]), np.inf)

    below, above, far_below, far_above = (distance(step) for step in (-1, 1, -2, 2))
    first = np.select([far_below <= above, far_above < below], [-2, 0], default=-1)
    has_three = np.select([first == -2, first == 0], [far_below, far_above], np.maximum(below, above)) < np.inf
    steps = first + np.arange(3)[:, None]
    rows: Indices = np.where(has_three, at + steps, at)
    return rows


def _expiries(strikes: pl.DataFrame) -> pl.DataFrame:
    """Each expiry whose forward lies between two strikes with a usable volatility, and its `atm_iv` there.

    `strikes` counts the usable ones; `is_consistent` is false when call and put volatility of a strike used for
    `atm_iv` are too far apart.
    """
    usable = strikes.with_columns(
        _strike_iv().alias("strike_iv"),
        _sides_agree().alias("agrees"),
        _ticks(pl.col("forward")).alias("forward_ticks"),
    ).filter(pl.col("strike_iv").is_not_null())
    is_below = pl.col("strike_ticks") <= pl.col("forward_ticks")
    below = usable.filter(is_below).unique("expiry", keep="last", maintain_order=True)
    above = usable.filter(~is_below).unique("expiry", keep="first", maintain_order=True)
    is_exact = pl.col("strike_ticks") == pl.col("forward_ticks")
    is_found = is_exact | pl.col("strike_iv_above").is_not_null()
    return (
        below.join(above.select("expiry", "strike", "strike_iv", "agrees"), on="expiry", how="left", suffix="_above")
        .join(usable.group_by("expiry").agg(pl.len().cast(pl.Int64).alias("strikes")), on="expiry")
        .filter(is_found)
        .with_columns(
            atm_iv=pl.when(is_exact).then("strike_iv").otherwise(_interpolated_iv()),
            is_consistent=pl.col("agrees") & (is_exact | pl.col("agrees_above")),
        )
    )


def _strike_iv() -> pl.Expr:
    """The mean of call and put volatility, or that of the out-of-the-money side when the other is missing."""
    call, put, strike, forward = (pl.col(name) for name in ("call_iv", "put_iv", "strike", "forward"))
    return (
        pl.when(call.is_not_null() & put.is_not_null())
        .then((call + put) / 2)
        .when(strike >= forward)
        .then(call)
        .otherwise(put)
    )


def _sides_agree() -> pl.Expr:
    """Whether call and put volatility differ by no more than 5 points and 20 % of their mean; true with one side."""
    difference, mean = (pl.col("call_iv") - pl.col("put_iv")).abs(), (pl.col("call_iv") + pl.col("put_iv")) / 2
    limit = pl.min_horizontal(pl.lit(LARGEST_SIDE_DIFFERENCE), LARGEST_RELATIVE_SIDE_DIFFERENCE * mean)
    return (difference <= limit).fill_null(value=True)


def _interpolated_iv() -> pl.Expr:
    """Volatility at the forward, total variance being linear in the logarithm of strike / forward."""
    low, high = ((pl.col(name) / pl.col("forward")).log() for name in ("strike", "strike_above"))
    weight = -low / (high - low)
    return ((1 - weight) * pl.col("strike_iv") ** 2 + weight * pl.col("strike_iv_above") ** 2).sqrt()


def _around_target(stages: pl.DataFrame, expiries: pl.DataFrame) -> pl.DataFrame:
    """The snapshots with the figures of the last expiry up to 30 days (`near_*`) and the first one after (`far_*`).

    Of two roots that expire at one instant the one with more usable strikes counts, then the first by name.
    """
    figures = ("expiration_date", "remaining", "atm_iv", "forward", "is_spread", "strikes")
    ordered = expiries.sort(
        "snapshot", "remaining", "strikes", "option_root", descending=[False, False, True, False]
    ).unique(("snapshot", "remaining"), keep="first", maintain_order=True)
    is_near = pl.col("remaining") <= TARGET
    chosen = {
        "near": ordered.filter(is_near).unique("snapshot", keep="last", maintain_order=True),
        "far": ordered.filter(~is_near).unique("snapshot", keep="first", maintain_order=True),
    }
    for side, expiry in chosen.items():
        renamed = expiry.select("snapshot", pl.col(figures).name.prefix(f"{side}_"))
        stages = stages.join(renamed, on="snapshot", how="left", maintain_order="left")
    return stages


def _valued(pairs: pl.DataFrame) -> pl.DataFrame:
    """Those snapshots with `iv`, `status` and `flags`; what was not used for a value is null."""
    is_used = pl.col("status").is_in(["ok", "single"])
    figures = ("expiration_date", "days", "iv", "forward", "strikes")
    unused = [f"{side}_{figure}" for side in ("near", "far") for figure in figures]
    return (
        pairs.rename({"near_atm_iv": "near_iv", "far_atm_iv": "far_iv"})
        .with_columns(
            _status().alias("status"),
            pl.lit(SERIES).alias("series"),
            pl.col("clean_contracts").fill_null(0),
            *(_in_units(pl.col(f"{side}_remaining"), DAY).alias(f"{side}_days") for side in ("near", "far")),
        )
        .with_columns(
            pl.when(is_used).then(_constant_maturity_iv()).alias("iv"),
            pl.when(is_used).then(_flags()).otherwise(pl.lit("")).alias("flags"),
            *(pl.when(is_used).then(pl.col(name)).alias(name) for name in unused),
        )
    )


def _status() -> pl.Expr:
    """`ok`, `single`, or the first step at which nothing of the chain was left."""
    near, far = pl.col("near_remaining"), pl.col("far_remaining")
    is_single = ((near >= SINGLE_FROM) & far.is_null()) | ((far <= SINGLE_TO) & near.is_null())
    steps = {
        "ok": near.is_not_null() & far.is_not_null(),
        "single": is_single,
        "no_expiry": pl.col("has_iv").is_null(),
        "no_quotes": pl.col("clean_contracts") == 0,
        "no_volatility": ~pl.col("has_iv"),
        "no_forward": ~pl.col("has_forward"),
        "no_strikes": ~pl.col("has_atm"),
        "sides_disagree": ~pl.col("has_consistent"),
    }
    return pl.coalesce(*(pl.when(holds).then(pl.lit(word)) for word, holds in steps.items()), pl.lit("no_expiry"))


def _constant_maturity_iv() -> pl.Expr:
    """Volatility of 30 days, total variance being linear in time; with one expiry that one's volatility."""
    target = TARGET // DAY
    near_days, far_days = pl.col("near_days"), pl.col("far_days")
    near, far = (pl.col(f"{side}_iv") ** 2 * pl.col(f"{side}_days") for side in ("near", "far"))
    total = near + (far - near) * (target - near_days) / (far_days - near_days)
    return pl.coalesce(_quotient(total, target).sqrt(), "near_iv", "far_iv")


def _flags() -> pl.Expr:
    near, far = (pl.col(f"{side}_iv") ** 2 * pl.col(f"{side}_days") for side in ("near", "far"))
    skips = [pl.col(f"listed_{side}").ne_missing(pl.col(f"{side}_remaining")) for side in ("near", "far")]
    flags = {
        "calendar": far < near,
        "forward_spread": pl.any_horizontal("near_is_spread", "far_is_spread"),
        "short_expiry": pl.col("near_remaining") < SHORT_EXPIRY,
        "rate_assumed": pl.col("is_rate_assumed"),
        "early_snapshot": pl.col("close_time") - pl.col("snapshot_time") > EARLY_SNAPSHOT,
        "expiry_skipped": pl.any_horizontal(*skips),
    }
    words = [pl.when(holds).then(pl.lit(word)) for word, holds in flags.items()]
    return pl.concat_str(words, separator=",", ignore_nulls=True)
