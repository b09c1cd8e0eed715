"""From the clean contracts of a chain to the at-the-money volatility of each expiry.

The forward of an expiry comes from put-call parity on mids; the strikes next to it give its volatility, total variance
being linear in log-moneyness. Whose volatilities are taken, the vendor's or those inverted here, is all that differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from trade_analyst_pipeline.market.column_arithmetic import YEAR, floats, in_units, quotient
from trade_analyst_pipeline.market.prices import HALF_TICK, TICKS_PER_DOLLAR, ticks

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

LARGEST_SIDE_DIFFERENCE = 0.05
LARGEST_RELATIVE_SIDE_DIFFERENCE = 0.2
SIDES = ("call", "put")
_OF_STRIKES = ("option_type", "exercise_type", "expiration_date", "remaining", "strike", "bid", "ask", "iv")


def in_ticks(price: pl.Expr) -> pl.Expr:
    """A price as an integer of 1/10000 dollar."""
    return ticks(price).cast(pl.Int64)


def numbered(rows: pl.DataFrame, names: Sequence[str]) -> tuple[pl.DataFrame, Indices]:
    """The distinct values of these columns, sorted, and for each row the place of its own among them.

    Equal rows mostly follow each other in a chain: only the first of each run is looked up.
    """
    run = rows.select(pl.struct(names).rle_id()).to_series().to_numpy()
    heads = rows.select(names)[np.flatnonzero(np.diff(run, prepend=-1))]
    distinct = heads.unique().sort(names)
    places = heads.join(
        distinct.with_row_index("place"), on=names, how="left", nulls_equal=True, maintain_order="left"
    )["place"]
    return distinct, places.cast(pl.Int64).to_numpy()[run]


def strikes_of(contracts: pl.DataFrame) -> pl.DataFrame:
    """One row per strike with a clean quote, in order, with the call's and the put's figures; `expiry` numbers them.

    Two roots that expire at one instant are two expiries. Mids are doubled integer prices, so that they stay exact. Of
    several contracts of one strike and type the greatest figures count.
    """
    clean = contracts.filter("is_clean")
    expiries, expiry = numbered(clean, ("snapshot", "expiration_time", "option_root"))
    order = np.lexsort((clean["strike"].to_numpy(), expiry))
    expiry, ordered = expiry[order], clean.select(_OF_STRIKES)[order]
    strike = ordered["strike"].to_numpy()
    starts = np.flatnonzero((np.diff(expiry, prepend=-1) != 0) | (np.diff(strike, prepend=-1.0) != 0))
    figures = {"mid": pl.col("bid") + pl.col("ask"), "spread": pl.col("ask") - pl.col("bid"), "iv": pl.col("iv")}
    sides = ordered.select(
        pl.when(pl.col("option_type") == letter).then(figure).alias(f"{side}_{name}")
        for side, letter in (("call", "C"), ("put", "P"))
        for name, figure in figures.items()
    )
    is_european = ordered.select(_is_european()).to_series().to_numpy()
    dates = ordered["expiration_date"].to_physical().to_numpy()
    return (
        expiries[expiry[starts]]
        .with_columns(_greatest(figure, starts) for figure in sides)
        .with_columns(
            pl.Series("strike", strike[starts]),
            pl.Series("is_european", _of_each(np.logical_and, is_european, starts)),
            pl.Series("expiration_date", _of_each(np.maximum, dates, starts)).cast(pl.Date),
            ordered["remaining"].gather(starts),
            pl.Series("expiry", expiry[starts]),
        )
        .with_columns(
            in_units(pl.col("remaining"), YEAR).alias("years"), in_ticks(pl.col("strike")).alias("strike_ticks")
        )
    )


def _greatest(figure: pl.Series, starts: Indices) -> pl.Series:
    """The greatest value of each part that starts at one of these rows; null where it has none."""
    return pl.Series(figure.name, _of_each(np.fmax, floats(figure), starts), nan_to_null=True).cast(figure.dtype)


def _of_each(joined: np.ufunc, values: npt.NDArray[Any], starts: Indices) -> npt.NDArray[Any]:
    """The values of each part joined to one; numpy joins no parts of nothing."""
    return joined.reduceat(values, starts) if len(starts) else values


def _is_european() -> pl.Expr:
    return (pl.col("exercise_type") == "E").fill_null(value=False)


def inverted(strikes: pl.DataFrame, highest: float) -> pl.DataFrame:
    """The strikes with the volatilities of their own mids in place of the vendor's: Black's formula on the forward.

    `strikes` have `forward` and `discount_rate` besides. A mid without a volatility up to `highest` has none. Exercise
    before expiry is not accounted for.
    """
    from trade_analyst_pipeline.kernels.inversion import invert  # compiled when it is first needed

    doubled = 2.0 * TICKS_PER_DOLLAR
    mids = [floats(strikes[f"{side}_mid"]) / doubled for side in SIDES]
    discount = strikes.select((-pl.col("discount_rate") * pl.col("years")).exp()).to_series().to_numpy()
    columns = [np.tile(each, 2) for each in (*(strikes[name].to_numpy() for name in ("forward", "strike")), discount)]
    years = np.tile(strikes["years"].to_numpy(), 2)
    is_call = np.repeat([True, False], strikes.height)
    volatility, reason = np.empty(2 * strikes.height), np.empty(2 * strikes.height, dtype=np.int8)
    run: Callable[..., None] = invert
    run(np.concatenate(mids), *columns, years, is_call, HALF_TICK, volatility, reason)
    found = pl.Series(volatility, nan_to_null=True)
    found = pl.select(pl.when(found < highest).then(found)).to_series()
    parts = (found[: strikes.height], found[strikes.height :])
    return strikes.with_columns(part.alias(f"{side}_iv") for side, part in zip(SIDES, parts, strict=True))


def forwards_of(strikes: pl.DataFrame) -> pl.DataFrame:
    """Each expiry's `forward` by put-call parity, of those that have a strike with both sides.

    It is strike + exp(rT) (call mid - put mid) where the two mids are closest, at the lower strike of two. When that
    and its two nearest strikes differ by more than the largest of their half-spreads, `is_spread` is set and the
    median of the three is taken.
    """
    both = strikes.filter(pl.all_horizontal(pl.col(f"{side}_mid").is_not_null() for side in SIDES))
    difference = pl.col("call_mid") - pl.col("put_mid")
    growth = (pl.col("discount_rate") * pl.col("years")).exp()
    found = both.select(
        "expiry",
        "strike",
        difference.abs().alias("gap"),
        parity=pl.col("strike") + quotient(growth * difference, 2 * TICKS_PER_DOLLAR),
        half_spread=quotient(pl.max_horizontal("call_spread", "put_spread"), 2 * TICKS_PER_DOLLAR),
    )
    expiry, strike, gap, parity, half_spread = (column.to_numpy() for column in found)
    order = np.lexsort((strike, gap, expiry))
    at = order[np.flatnonzero(np.diff(expiry[order], prepend=-1))]
    trio = _nearest_three(expiry, strike, at)
    values, slack = parity[trio], half_spread[trio].max(axis=0, initial=0)
    is_spread = np.ptp(values, axis=0) > slack
    forward = np.where(is_spread, np.median(values, axis=0), parity[at])
    return pl.DataFrame(
        {
            "expiry": expiry[at],
            "forward": pl.Series(np.where(np.isfinite(forward), forward, np.nan), nan_to_null=True),
            "is_spread": is_spread,
        }
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


def expiries_of(strikes: pl.DataFrame) -> pl.DataFrame:
    """Each expiry whose forward lies between two strikes with a usable volatility, and its `atm_iv` there.

    `strikes` counts the usable ones; `is_consistent` is false when call and put volatility of a strike used for
    `atm_iv` are too far apart.
    """
    usable = strikes.with_columns(
        _strike_iv().alias("strike_iv"),
        _sides_agree().alias("agrees"),
        (pl.col("strike_ticks") - in_ticks(pl.col("forward"))).alias("over"),
    ).filter(pl.col("strike_iv").is_not_null())
    is_below = pl.col("over") <= 0
    has_next = (pl.col("expiry").shift(-1) == pl.col("expiry")).fill_null(value=False)
    following = {
        f"{name}_above": pl.when(has_next).then(pl.col(name).shift(-1)) for name in ("strike", "strike_iv", "agrees")
    }
    is_exact = pl.col("over") == 0
    is_found = is_exact | pl.col("strike_iv_above").is_not_null()
    return (
        usable.with_columns(**following, strikes=pl.len().over("expiry").cast(pl.Int64))
        .filter(is_below & ~(has_next & is_below.shift(-1)))
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
