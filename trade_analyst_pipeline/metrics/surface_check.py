"""Whether the quotes of a chain can stand beside each other: price bounds, strikes, expiries, and the vendor's word.

What counts is what could be traded: the bid of what is sold against the ask of what is bought. A contradiction of the
mids within their spreads is counted apart. Rules within one row of `options` stand in its schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import polars as pl

from trade_analyst_pipeline.market.columns import Rule, table_schema
from trade_analyst_pipeline.market.expiry_key import EXPIRY_KEY
from trade_analyst_pipeline.market.prices import HALF_TICK, ticks
from trade_analyst_pipeline.market.volatility_limits import HIGHEST_IV, LEAST_IV

CHECKS: Final = (
    *("lower_bound", "upper_bound", "monotone", "slope", "butterfly", "calendar"),
    *("volatility_range", "greeks", "vendor_volatility"),
)
VEGA_IDENTITY: Final = 1e-10
VENDOR_APART: Final = 0.01
VENDOR_YEARS: Final = 7 / 365
VENDOR_DELTA: Final = (0.1, 0.9)
FORWARD_ERRORS: Final = 2.0
OPTION_COLUMNS = ("option_symbol", "snapshot_time", "vendor_implied_volatility")
FORWARD_COLUMNS = (*EXPIRY_KEY, "forward_error")

_NOT_ONE_PRICE: Final = ("adjusted", "no_quote", "crossed", "stale", "no_expiration_time", "expired")
_SIDE: Final = (*EXPIRY_KEY, "option_type")
_IS_CALL = pl.col("option_type") == "C"

SCHEMA = table_schema(
    "surface_check",
    "1.0",
    key=("symbol", "snapshot_time", "check"),
    columns=(
        *("symbol", "session_date", "snapshot_time", "check", "tested", "violations", "inside_spread"),
        *("worst_excess", "worst_option_symbol", "status"),
    ),
    required=("session_date", "tested", "violations", "inside_spread", "status"),
    rules=(
        Rule(
            "counts_fit",
            pl.col("violations") + pl.col("inside_spread") <= pl.col("tested"),
            "No more is found than was tested.",
        ),
    ),
)


def surface_check(volatilities: pl.DataFrame, forwards: pl.DataFrame, options: pl.DataFrame) -> pl.DataFrame:
    """How often each snapshot breaks each of `CHECKS`, one row each; rows as `SCHEMA`, sorted by its key.

    `volatilities` are rows of `implied_volatility`, `forwards` of `forward`, `options` of `options`, of whole
    snapshots. Quotes that are adjusted, crossed, stale or expired take no part. `status` is `ok`, `violated`, or
    `nothing` when no quotes could be held against each other.
    """
    each = ("symbol", "session_date", "snapshot_time")
    quotes = (
        volatilities.filter(~pl.col("implied_volatility_status").is_in(_NOT_ONE_PRICE))
        .join(options.select(OPTION_COLUMNS), on=("option_symbol", "snapshot_time"), how="left")
        .join(forwards.select(FORWARD_COLUMNS), on=EXPIRY_KEY, how="left")
        .sort(*_SIDE, "strike", "option_symbol")
        .unique((*_SIDE, "strike"), keep="first", maintain_order=True)
    )
    found = pl.concat([_counted(check, rows) for check, rows in _tests(quotes)])
    wanted = volatilities.select(each).unique().join(pl.DataFrame({"check": CHECKS}), how="cross")
    counts = wanted.join(found, on=("symbol", "snapshot_time", "check"), how="left")
    return (
        counts.with_columns(pl.col("tested", "violations", "inside_spread").fill_null(0))
        .with_columns(
            status=pl.when(pl.col("tested") == 0)
            .then(pl.lit("nothing"))
            .when(pl.col("violations") > 0)
            .then(pl.lit("violated"))
            .otherwise(pl.lit("ok"))
        )
        .select(SCHEMA.names)
        .sort(SCHEMA.key)
    )


def _counted(check: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with `excess` (above 0: broken) and `mid_excess` (of the mids; null: no mids) as counts by snapshot."""
    is_broken = pl.col("excess") > 0
    tested = rows.filter(pl.col("excess").is_not_null())
    worst = (
        pl.col("excess", "option_symbol")
        .filter(is_broken)
        .sort_by(pl.col("excess").filter(is_broken), maintain_order=True)
        .last()
    )
    return (
        tested.sort("option_symbol", descending=True)
        .group_by("symbol", "snapshot_time")
        .agg(
            pl.lit(check).first().alias("check"),
            pl.len().cast(pl.Int64).alias("tested"),
            is_broken.sum().cast(pl.Int64).alias("violations"),
            (~is_broken & (pl.col("mid_excess") > 0)).sum().cast(pl.Int64).alias("inside_spread"),
            worst.name.prefix("worst_"),
        )
    )


def _tests(quotes: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Each check with its rows: `excess` is by how much it is broken, null where it cannot be told."""
    excess, mid_excess = pl.col("excess"), pl.col("mid_excess")
    yield (
        "lower_bound",
        quotes.with_columns(
            (_least() - HALF_TICK - pl.col("ask")).alias("excess"),
            (_least() - HALF_TICK - pl.col("mid")).alias("mid_excess"),
        ),
    )
    yield (
        "upper_bound",
        quotes.with_columns(
            (pl.col("bid") - _most() - HALF_TICK).alias("excess"),
            (pl.col("mid") - _most() - HALF_TICK).alias("mid_excess"),
        ),
    )
    yield from _across_strikes(quotes)
    yield "calendar", _across_expiries(quotes)
    iv, delta = pl.col("implied_volatility"), pl.col("delta")
    bid_iv, ask_iv = pl.col("bid_implied_volatility"), pl.col("ask_implied_volatility")
    yield (
        "volatility_range",
        quotes.filter(iv.is_not_null()).with_columns(
            excess=pl.max_horizontal(LEAST_IV - ask_iv, bid_iv - HIGHEST_IV).fill_null(-LEAST_IV),
            mid_excess=pl.max_horizontal(LEAST_IV - iv, iv - HIGHEST_IV),
        ),
    )
    yield (
        "greeks",
        quotes.filter(pl.col("greeks_status") == "ok").with_columns(
            excess=_greeks_apart(), mid_excess=pl.lit(None, pl.Float64)
        ),
    )
    vendor = pl.col("vendor_implied_volatility")
    apart = (iv - vendor).abs() - VENDOR_APART
    outside = pl.max_horizontal(bid_iv - vendor, vendor - ask_iv)
    compared = quotes.filter(
        pl.all_horizontal(_is_out_of_the_money(), iv.is_not_null(), vendor.is_not_null())
        & (pl.col("years") > VENDOR_YEARS)
        & delta.abs().is_between(*VENDOR_DELTA)
    )
    yield (
        "vendor_volatility",
        compared.with_columns(
            excess=pl.when(outside > 0).then(apart).otherwise(pl.min_horizontal(apart, 0.0)), mid_excess=apart
        ).select(*quotes.columns, excess, mid_excess),
    )


def _least() -> pl.Expr:
    """What an option is worth in any case: its forward less the strike, or the exercise of an American one."""
    discounted = pl.col("discount_factor") * (pl.col("forward") - pl.col("strike"))
    now = pl.col("spot") - pl.col("strike")
    european = pl.when(_IS_CALL).then(discounted).otherwise(-discounted)
    exercise = pl.when(pl.col("exercise_type") == "A").then(pl.when(_IS_CALL).then(now).otherwise(-now))
    return pl.max_horizontal(european, exercise.fill_null(0.0), 0.0)


def _most() -> pl.Expr:
    """What an option is worth at most: what it is on, or its strike; of a European one as of now."""
    is_american = pl.col("exercise_type") != "E"
    carried = pl.col("discount_factor") * pl.col("forward")
    call = pl.when(is_american).then(pl.max_horizontal(carried, "spot")).otherwise(carried)
    discount = pl.when(is_american).then(pl.max_horizontal("discount_factor", 1.0)).otherwise("discount_factor")
    return pl.when(_IS_CALL).then(call).otherwise(discount * pl.col("strike"))


def _is_out_of_the_money() -> pl.Expr:
    return (
        pl.when(_IS_CALL).then(pl.col("strike") >= pl.col("forward")).otherwise(pl.col("strike") <= pl.col("forward"))
    )


def _greeks_apart() -> pl.Expr:
    """By how much our Greeks break a sign, the range of delta, or vega = S^2 gamma sigma T."""
    most = pl.col("discount_factor") * pl.col("forward") / pl.col("spot")
    delta = pl.when(_IS_CALL).then(pl.col("delta")).otherwise(-pl.col("delta"))
    vega = pl.col("spot") ** 2 * pl.col("gamma") * pl.col("implied_volatility") * pl.col("years")
    identity = (pl.col("vega") - vega).abs() - VEGA_IDENTITY * pl.col("vega").abs()
    return pl.max_horizontal(-delta, delta - most * (1 + VEGA_IDENTITY), -pl.col("gamma"), -pl.col("vega"), identity)


def _across_strikes(quotes: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Neighbouring strikes of one side of an expiry, prices and strikes as whole 1/10000 dollars, so exact."""
    names = {"strike": "k", "bid": "b", "ask": "a"}
    whole = quotes.filter(pl.col("ask").is_not_null()).with_columns(
        *(ticks(pl.col(name)).alias(short) for name, short in names.items())
    )
    whole = whole.with_columns(m=pl.col("a") + pl.col("b"))  # twice the mid
    next_ = {f"{name}{i}": pl.col(name).shift(-i).over(_SIDE) for name in "kbam" for i in (1, 2)}
    rows = whole.with_columns(**next_)
    k, k1, k2 = (pl.col(name) for name in ("k", "k1", "k2"))
    sold = {"C": ("b1", "a", "m1", "m"), "P": ("b", "a1", "m", "m1")}  # the dearer strike of the two has to be so
    for check, sides, width in (("monotone", sold, pl.lit(0)), ("slope", _turned(sold), k1 - k)):
        # a European vertical pays its width at the end, an American one at once
        most = pl.when(pl.col("exercise_type") == "E").then(pl.col("discount_factor") * width)
        limit = pl.coalesce(most, width)
        parts = [
            rows.filter(pl.col("option_type") == letter).with_columns(
                excess=(pl.col(bid) - pl.col(ask) - limit) / 10_000,
                mid_excess=(pl.col(mid) - pl.col(other) - 2 * limit) / 20_000,
            )
            for letter, (bid, ask, mid, other) in sides.items()
        ]
        yield check, pl.concat(parts)
    between = pl.col("b1") * (k2 - k) - pl.col("a") * (k2 - k1) - pl.col("a2") * (k1 - k)
    mids = pl.col("m1") * (k2 - k) - pl.col("m") * (k2 - k1) - pl.col("m2") * (k1 - k)
    yield (
        "butterfly",
        rows.with_columns(
            excess=between / (k2 - k) / 10_000,
            mid_excess=mids / (k2 - k) / 20_000,
            option_symbol=pl.col("option_symbol").shift(-1).over(_SIDE),
        ),
    )


def _turned(sold: dict[str, tuple[str, str, str, str]]) -> dict[str, tuple[str, str, str, str]]:
    """The other spread of the two strikes: what was bought is sold."""
    return {
        letter: (ask.replace("a", "b"), bid.replace("b", "a"), other, mid)
        for letter, (bid, ask, mid, other) in sold.items()
    }


def _across_expiries(quotes: pl.DataFrame) -> pl.DataFrame:
    """Out-of-the-money quotes against the next expiry of their root at the same K / F, both in parts of D F.

    The later price at that strike is at most the line between its neighbours, for prices are convex in the strike;
    F may be wrong by `FORWARD_ERRORS` of its standard errors.
    """
    root = ("symbol", "snapshot_time", "option_root", "settlement_type")
    known = quotes.filter(pl.col("forward").is_not_null() & pl.col("discount_factor").is_not_null())
    figures = ("forward", "discount_factor", "forward_error")
    expiries = known.select(*EXPIRY_KEY, "years", *figures).unique(EXPIRY_KEY).sort(*root, "years")
    later = expiries.with_columns(
        *(pl.col(name).shift(-1).over(root).alias(f"later_{name}") for name in ("expiration_date", *figures))
    ).select(*EXPIRY_KEY, "^later_.*$")
    near = (
        known.filter(_is_out_of_the_money() & (pl.col("bid") > 0))
        .join(later, on=EXPIRY_KEY)
        .with_columns(at=pl.col("strike") * pl.col("later_forward") / pl.col("forward"))
        .filter(pl.col("at").is_not_null())
        .sort("at")
    )
    side = (*root, "option_type")
    far = (
        known.filter(pl.col("ask").is_not_null())
        .select(*side, pl.col("expiration_date").alias("later_expiration_date"), "strike", "ask", "mid")
        .with_columns(at=pl.col("strike"))
        .sort("at")
    )
    keys = [*side, "later_expiration_date"]
    both = near.join_asof(far, on="at", by=keys, strategy="backward", suffix="_low", check_sortedness=False)
    both = both.join_asof(far, on="at", by=keys, strategy="forward", suffix="_high", check_sortedness=False)
    width = pl.col("strike_high") - pl.col("strike_low")
    weight = pl.when(width > 0).then((pl.col("at") - pl.col("strike_low")) / width).otherwise(0.0)
    scale, later_scale = (pl.col(f"{of}discount_factor") * pl.col(f"{of}forward") for of in ("", "later_"))
    errors = [pl.col(f"{of}forward_error") / pl.col(f"{of}forward") for of in ("", "later_")]
    slack = FORWARD_ERRORS * scale * (errors[0] + errors[1]).fill_null(0.0) + HALF_TICK

    def line(price: str) -> pl.Expr:
        low, high = pl.col(f"{price}_low"), pl.col(f"{price}_high")
        return (low + weight * (high - low)) * scale / later_scale

    return both.with_columns(excess=pl.col("bid") - line("ask") - slack, mid_excess=pl.col("mid") - line("mid") - slack)
