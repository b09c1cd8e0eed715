"""The model-free volatility of 30 days: the series `model_free30`, by the method of published volatility indices.

No volatility of any contract is in it: the prices of a strip of out-of-the-money options are added up (Cboe, white
paper of 2003 and its later editions, and "Volatility Index Mathematics Methodology", 2022). Which quotes and expiries
make the strips is decided here, the sum is in `kernels/strip`. Its expiries are a fixed rule: another one would be
another quantity.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Final

import numpy as np
import polars as pl

from trade_analyst_pipeline.market.column_arithmetic import YEAR, floats, in_units, quotient
from trade_analyst_pipeline.market.prices import TICKS_PER_DOLLAR
from trade_analyst_pipeline.market.quote_status import USABLE
from trade_analyst_pipeline.market.sessions import is_session
from trade_analyst_pipeline.market.volatility_limits import HIGHEST_IV
from trade_analyst_pipeline.metrics.iv_history.expiries import Floats

SERIES: Final = "model_free30"
MATURITY: Final = timedelta(days=30)
NEAREST: Final = timedelta(days=7)
# The index of this symbol is made of Fridays within these bounds, each exclusive; any other of standard expirations.
FRIDAYS_OF: Final = "$SPX"
FRIDAYS_AFTER, FRIDAYS_BEFORE = timedelta(days=23), timedelta(days=37)
FEWEST_STRIKES: Final = 5
LEAST_REACH: Final = 2.0
# Quotes that are in the strip though no volatility is taken from them.
IN_THE_STRIP: Final = (*USABLE, "low_priced", "wide")
_EXPIRY: Final = ("snapshot", "expiration_time", "option_root")
_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)
_SIDES: Final = ("near", "far")


def index_values(
    snapshots: pl.DataFrame, contracts: pl.DataFrame, rates: pl.DataFrame, expiries: pl.DataFrame
) -> pl.DataFrame:
    """The index of each snapshot with `status` and `flags`, one row each; columns as those of `iv_history`, and others.

    `contracts` are standard ones with `snapshot`, `remaining`, `is_in_strip`, `is_bidless` and integer prices;
    `rates` the `discount_rate` of each snapshot, `expiries` the `forward`, `is_spread` and `atm_iv` of each expiry, as
    far as there is one. What a value would be made of is given where it is `truncated`, too.
    """
    snapshots = snapshots.join(rates, on="snapshot", how="left")
    chosen = _chosen(snapshots, contracts)
    known = chosen.join(rates, on="snapshot", how="left").join(
        expiries.select(*_EXPIRY, "forward", "is_spread", "atm_iv"), on=_EXPIRY, how="left", validate="m:1"
    )
    strips = strips_of(_strikes(contracts, chosen), known)
    found = snapshots
    for place, side in enumerate(_SIDES):
        expiry = strips.filter(place=place).select("snapshot", pl.exclude("snapshot", "place").name.prefix(f"{side}_"))
        found = found.join(expiry, on="snapshot", how="left")
    return _valued(found)


def _valued(found: pl.DataFrame) -> pl.DataFrame:
    is_used, is_strip = pl.col("status") == "ok", pl.col("status").is_in(["ok", "truncated"])
    of_side = [
        (f"{side}_{name}", figure)
        for side in _SIDES
        for name, figure in (
            ("expiration_date", pl.col(f"{side}_expiration_date")),
            ("days", in_units(pl.col(f"{side}_remaining"), _DAY)),
            ("iv", pl.col(f"{side}_variance").sqrt()),
            ("forward", pl.col(f"{side}_forward")),
            ("strikes", (pl.col(f"{side}_put_strikes") + pl.col(f"{side}_call_strikes") + 1).cast(pl.Int64)),
        )
    ]
    return (
        found.with_columns(
            pl.lit(SERIES).alias("series"),
            pl.sum_horizontal(f"{side}_quotes" for side in _SIDES).fill_null(0).alias("clean_contracts"),
            index_volatility().alias("iv"),
        )
        .with_columns(_status().alias("status"))
        .with_columns(
            pl.when(is_used).then("iv").alias("iv"),
            pl.when(is_used).then(_flags()).otherwise(pl.lit("")).alias("flags"),
            *(pl.when(is_strip).then(figure).alias(name) for name, figure in of_side),
        )
    )


def _status() -> pl.Expr:
    """`ok`, or the first thing that keeps the two expiries from giving a value."""

    def either(name: str, holds: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
        return pl.any_horizontal(holds(pl.col(f"{side}_{name}")) for side in _SIDES)

    fewest = pl.min_horizontal(f"{side}_{sort}_strikes" for side in _SIDES for sort in ("put", "call"))
    steps = {
        "no_expiry": either("remaining", _is_null),
        "no_quotes": either("quotes", lambda quotes: quotes == 0),
        "no_forward": either("forward", _is_null),
        "few_strikes": either("put_strikes", _is_null) | (fewest < FEWEST_STRIKES),
        "no_volatility": (
            pl.col("iv").is_null() | (pl.col("iv") >= HIGHEST_IV) | either("variance", lambda each: ~(each > 0))
        ),
        "truncated": either("reach", lambda reach: reach.is_null() | reach.is_nan() | (reach < LEAST_REACH)),
    }
    return pl.coalesce(*(pl.when(holds).then(pl.lit(word)) for word, holds in steps.items()), pl.lit("ok"))


def _is_null(figure: pl.Expr) -> pl.Expr:
    return figure.is_null()


def _flags() -> pl.Expr:
    near, far = (pl.col(f"{side}_variance") * in_units(pl.col(f"{side}_remaining"), _DAY) for side in _SIDES)
    flags = {
        "calendar": far < near,
        "forward_spread": pl.any_horizontal("near_is_spread", "far_is_spread"),
        "rate_assumed": pl.col("is_rate_assumed"),
        "early_snapshot": pl.col("is_early"),
        "extrapolated": (pl.col("near_remaining") > MATURITY) | (pl.col("far_remaining") < MATURITY),
    }
    words = [pl.when(holds).then(pl.lit(word)) for word, holds in flags.items()]
    return pl.concat_str(words, separator=",", ignore_nulls=True)


def is_bidless() -> pl.Expr:
    """Whether nobody bids for a contract: its bid is 0, or its row of the table `options` says so.

    Without a word of that, a bid that is null is not known.
    """
    return ((pl.col("bid") <= 0) | pl.col("quote_status").is_in(["no_bid", "no_quote"])).fill_null(value=False)


def _chosen(snapshots: pl.DataFrame, contracts: pl.DataFrame) -> pl.DataFrame:
    """The expiries that the index of each snapshot is made of, the near one `place` 0, the far one 1.

    The near one is the last up to 30 days, else the first; the far one is the one after it.
    """
    is_friday_index = pl.col("symbol") == FRIDAYS_OF
    is_in_range = pl.col("remaining").is_between(FRIDAYS_AFTER, FRIDAYS_BEFORE, closed="none")
    is_wanted = (
        pl.when(is_friday_index)
        .then(is_in_range & pl.col("expiration_date").is_in(_days(contracts, is_friday)))
        .otherwise((pl.col("remaining") >= NEAREST) & pl.col("expiration_date").is_in(_days(contracts, is_standard)))
    )
    listed = (
        contracts.join(snapshots.select("snapshot"), on="snapshot", how="semi")
        .filter(is_wanted)
        .select("expiration_date", "remaining", *_EXPIRY)
        .unique()
        # of two roots of a date the first counts: SPX of the third Friday, settled in the morning, before SPXW
        .sort("snapshot", "expiration_date", "option_root", "expiration_time")
        .unique(("snapshot", "expiration_date"), keep="first", maintain_order=True)
        # of two dates that end at one instant, as a Saturday and the Friday before, the first
        .unique(_EXPIRY, keep="first", maintain_order=True)
    )
    near = ((pl.col("remaining") <= MATURITY).cast(pl.Int64).sum() - 1).clip(lower_bound=0).over("snapshot")
    place = pl.int_range(pl.len()).over("snapshot") - near
    return listed.with_columns(place=place).filter(pl.col("place").is_in([0, 1]))


def _days(contracts: pl.DataFrame, holds: Callable[[date], bool]) -> list[date]:
    return [day for day in contracts["expiration_date"].unique() if holds(day)]


def is_friday(expiration_date: date) -> bool:
    """Whether an expiration is that of a week: a Friday, or the Thursday before one without a session."""
    following = expiration_date + timedelta(days=1)
    return expiration_date.weekday() == 4 or (expiration_date.weekday() == 3 and not is_session(following))


def is_standard(expiration_date: date) -> bool:
    """Whether an expiration is that of a month: the third Friday, the Thursday before where that is no session.

    Until 2015 they were dated the Saturday after.
    """
    if expiration_date.weekday() == 5:
        return 16 <= expiration_date.day <= 22
    friday = expiration_date if expiration_date.weekday() == 4 else expiration_date + timedelta(days=1)
    return is_friday(expiration_date) and 15 <= friday.day <= 21


def _strikes(contracts: pl.DataFrame, chosen: pl.DataFrame) -> pl.DataFrame:
    """One row per strike of those expiries, ascending, with the mid of each side and whether it has no bid."""
    is_fit = pl.col("is_in_strip")
    mid = quotient(pl.col("bid") + pl.col("ask"), 2 * TICKS_PER_DOLLAR)
    sides = {"call": pl.col("option_type") == "C", "put": pl.col("option_type") == "P"}
    return (
        contracts.join(chosen.select(_EXPIRY), on=_EXPIRY)
        .group_by(*_EXPIRY, "strike")
        .agg(
            *(mid.filter(is_fit & of).max().alias(f"{side}_mid") for side, of in sides.items()),
            *((pl.col("is_bidless") & of).any().alias(f"is_{side}_bidless") for side, of in sides.items()),
            is_fit.sum().cast(pl.Int64).alias("quotes"),
        )
        .sort(*_EXPIRY, "strike")
    )


def strips_of(strikes: pl.DataFrame, expiries: pl.DataFrame) -> pl.DataFrame:
    """The expiries with what their strips give: `variance` a year, strikes taken, and how far they reach.

    `strikes` are one row per strike of each expiry, ascending: `call_mid`, `put_mid` (null where not fit),
    `is_call_bidless`, `is_put_bidless` and `quotes`; `expiries` have `remaining`, `forward` and `discount_rate`. Reach
    is |ln(strike / forward)| of the outermost strike in units of sigma sqrt(T), the lesser of both sides.
    """
    from trade_analyst_pipeline.kernels import strip  # compiled when it is first needed

    expiries = expiries.sort(_EXPIRY).with_columns(years=in_units(pl.col("remaining"), YEAR))
    counts = expiries.select(_EXPIRY).join(
        strikes.group_by(_EXPIRY).len(), on=_EXPIRY, how="left", maintain_order="left"
    )
    starts = np.concatenate([[0], np.cumsum(counts["len"].fill_null(0).to_numpy())]).astype(np.int64)
    growth = expiries.select((pl.col("discount_rate").fill_null(0.0) * pl.col("years")).exp()).to_series()
    run: Callable[..., Floats] = strip.strip_variances
    found = run(
        starts,
        strikes["strike"].to_numpy(),
        *(floats(strikes[name]) for name in ("call_mid", "put_mid")),
        *(strikes[name].to_numpy() for name in ("is_call_bidless", "is_put_bidless")),
        floats(expiries["forward"]),
        growth.to_numpy(),
        expiries["years"].to_numpy(),
    )
    names = {
        "variance": strip.VARIANCE,
        "put_strikes": strip.PUTS,
        "call_strikes": strip.CALLS,
        "lowest_strike": strip.LOWEST,
        "highest_strike": strip.HIGHEST,
    }
    quotes = strikes.group_by(_EXPIRY).agg(pl.col("quotes").sum())
    with_strips = expiries.with_columns(
        pl.Series(name, found[:, column], nan_to_null=True) for name, column in names.items()
    )
    return with_strips.join(quotes, on=_EXPIRY, how="left").with_columns(_reach().alias("reach"))


def _reach() -> pl.Expr:
    """In deviations at the money, or of the strip itself where the expiry has no volatility there."""
    deviation = pl.coalesce("atm_iv", pl.col("variance").sqrt()) * pl.col("years").sqrt()
    sides = ((pl.col(name) / pl.col("forward")).log().abs() for name in ("lowest_strike", "highest_strike"))
    return pl.min_horizontal(*(side / deviation for side in sides))


def index_volatility() -> pl.Expr:
    """The volatility of 30 days from the variances of two expiries, a fraction a year; null where that has no root.

    Columns are `near_remaining`, `near_variance` and so for `far`. Total variance is linear in time between the two and
    beyond them.
    """
    near_minutes, far_minutes = (in_units(pl.col(f"{side}_remaining"), _MINUTE) for side in _SIDES)
    near_total, far_total = (
        pl.col(f"{side}_variance") * in_units(pl.col(f"{side}_remaining"), YEAR) for side in _SIDES
    )
    target = MATURITY / _MINUTE
    weighted = near_total * (far_minutes - target) + far_total * (target - near_minutes)
    variance = weighted / (far_minutes - near_minutes) * (YEAR / MATURITY)
    return pl.when(variance > 0).then(variance).sqrt()
