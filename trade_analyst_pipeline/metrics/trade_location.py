"""Where volume traded against the quotes, and how much of it was bought: sums over intervals, with how far they hold.

What of the tape was seen stands beside every share. How a trade is classified is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl

from trade_analyst_pipeline.market.columns import TIME, Rule, table_schema
from trade_analyst_pipeline.market.sessions import session_open

INTERVALS: Final[Mapping[str, int | None]] = {"minute": 1, "minute_30": 30, "session": None}
"""The intervals summed over, in minutes; the session is as long as it is."""

# The columns that shares of the classified volume are in, and the locations in each; they add up to 100.
SHARES: Final[Mapping[str, tuple[str | None, ...]]] = {
    "above_pct": ("above", "far_above"),
    "at_ask_pct": ("ask",),
    "upper_inside_pct": ("upper_near", "upper_outer"),
    "at_mid_pct": ("mid",),
    "lower_inside_pct": ("lower_near", "lower_outer"),
    "at_bid_pct": ("bid",),
    "below_pct": ("below", "far_below"),
    "no_quote_pct": (None,),
}
CALIBRATION_ERROR: Final[Mapping[str, float]] = {
    "exact": 0.011,
    "strict": 0.017,
    "concurrent": 0.011,
    "concurrent_fine": 0.012,
    "matched": 0.001,
    "arrival": 0.011,
    "previous_update": 0.024,
    "unseen": 0.014,
    "option_prior": 0.100,
    "block": 0.100,
}
"""By quality of the quote, how far probabilities of the table of the package are off on average (docs/metrics.md).

Of options and blocks there is no labelled tape: theirs is an assumption.
"""
NORMAL_95: Final = 1.96
WIDENING: Final[Mapping[str, float]] = {"exact": 1.1}
"""By quality, what bands have to be widened by to hold at least 90 % of the five-minute windows of labelled tapes."""

KEY = ("symbol", "interval", "interval_start")
_VOLUMES = ("classified_volume", "unseen_volume", "excluded_volume", "gap_volume")

SCHEMA = table_schema(
    "trade_location",
    "1.0",
    key=KEY,
    columns=(
        *KEY,
        *("session_date", "prints", "traded_volume", *_VOLUMES, "completeness_pct", "coverage_pct"),
        *(*SHARES, "bid_side_pct", "ask_side_pct"),
        *("buy_share_pct", "imbalance", "mean_confidence", "buy_share_standard_error", "buy_share_half_width"),
        *("posterior_version", "location_status"),
    ),
    required=("session_date", "prints", "traded_volume", *_VOLUMES, "location_status"),
    rules=(
        Rule("buy_share_range", pl.col("buy_share_pct").is_between(0, 100), "A share is 0 to 100."),
        Rule(
            "shares_add_up",
            (pl.sum_horizontal(*SHARES) - 100).abs() < 1e-6,
            "The shares of the locations add up to 100.",
        ),
        Rule("coverage_range", pl.col("coverage_pct").is_between(0, 100), "A share is 0 to 100."),
        Rule("completeness_range", pl.col("completeness_pct").is_between(0, 100), "A share is 0 to 100."),
    ),
)


def trade_location(
    trades: pl.DataFrame,
    signed: pl.DataFrame,
    confidence: pl.DataFrame,
    *,
    intervals: Mapping[str, int | None] = INTERVALS,
    calibration_error: Mapping[str, float] = CALIBRATION_ERROR,
) -> pl.DataFrame:
    """Sums of each symbol and interval of its session that any volume is known of; rows as `SCHEMA`, in order of key.

    `trades` are rows of `timesales`, `signed` and `confidence` the rows of `aggressor_side` and `aggressor_confidence`
    for those of them that are classified, in any order. An interval begins at a whole multiple of its length since
    midnight UTC, the session's at the open, whatever it holds besides. A gap is counted where it ends.

    `completeness_pct` is the size of prints that were shown over all volume, `coverage_pct` the volume with a
    probability over all volume. With p that probability and v the size, the share bought is sum v p / sum v. Its
    standard error adds two parts in squares: that of the sides, trades of one symbol and millisecond counted as one
    burst, sqrt(sum over bursts of (sum v sqrt(p (1 - p)))²) / sum v; and the `calibration_error` of the qualities,
    weighted by volume. `buy_share_half_width` is 1.96 of them, times the mean of `WIDENING`: docs/metrics.md has the
    share of windows that such bands hold, as measured. Null with `location_status` `nothing_classified` where no volume
    has a probability.
    """
    if trades.is_empty():
        return SCHEMA.empty()
    classified = signed.select("symbol", "trade_time", "sequence", "trade_location").join(
        confidence.select("symbol", "trade_time", "sequence", "buy_probability", "posterior_version"),
        on=("symbol", "trade_time", "sequence"),
        how="inner",
    )
    joined = trades.join(classified, on=("symbol", "trade_time", "sequence"), how="left").with_columns(
        _weights(calibration_error)
    )
    parts = [_summed(joined, name, minutes) for name, minutes in intervals.items()]
    return pl.concat([SCHEMA.empty(), *parts]).sort(KEY)


def _weights(calibration_error: Mapping[str, float]) -> list[pl.Expr]:
    """Of each row its volume as it is summed: all of it, what of it is located, and what has a probability."""
    size = pl.col("trade_size").fill_null(0.0)
    is_print = pl.col("volume_kind").is_in(["shown", "unseen"])
    is_open = is_print & pl.col("exclusion").is_null()
    buys = pl.col("buy_probability")
    known = pl.when(is_open & buys.is_not_null()).then(size).otherwise(0.0)
    off, wider = (
        pl.col("quote_quality").replace_strict(dict(by_quality), default=default, return_dtype=pl.Float64)
        for by_quality, default in ((calibration_error, None), (WIDENING, 1.0))
    )
    return [
        size.alias("size"),
        pl.when(is_open).then(size).otherwise(0.0).alias("located"),
        known.alias("known"),
        (known * buys).fill_null(0.0).alias("bought"),
        (known * (buys * (1 - buys)).sqrt()).fill_null(0.0).alias("deviation"),
        (known * pl.max_horizontal(buys, 1 - buys)).fill_null(0.0).alias("confident"),
        (known * off).fill_null(0.0).alias("off"),
        (known * wider).fill_null(0.0).alias("wider"),
    ]


def _summed(joined: pl.DataFrame, name: str, minutes: int | None) -> pl.DataFrame:
    """One row per symbol and interval of that length."""
    if minutes is None:
        opens = {day: session_open(day) for day in joined["session_date"].unique()}
        start = pl.col("session_date").replace_strict(opens, return_dtype=TIME)
    else:
        start = pl.col("trade_time").dt.truncate(f"{minutes}m")
    placed = joined.with_columns(start.alias("interval_start"))
    by = ("symbol", "session_date", "interval_start")
    bursts = placed.group_by(*by, pl.col("trade_time").dt.truncate("1ms")).agg(pl.col("deviation").sum())
    squares = bursts.group_by(by).agg((pl.col("deviation") ** 2).sum().alias("squares"))
    is_excluded = pl.col("exclusion").is_not_null()
    sums = placed.group_by(by).agg(
        ((pl.col("volume_kind") == "shown") & (pl.col("size") > 0)).sum().cast(pl.Int64).alias("prints"),
        pl.col("size").sum().alias("traded_volume"),
        pl.col("known").sum().alias("classified_volume"),
        *(_where(pl.col("volume_kind") == kind).alias(f"{kind}_volume") for kind in ("shown", "unseen", "gap")),
        _where(is_excluded).alias("excluded_volume"),
        *(_located(places).alias(share) for share, places in SHARES.items()),
        *(pl.col(each).sum() for each in ("located", "bought", "confident", "off", "wider")),
        pl.col("posterior_version").drop_nulls().first(),
    )
    found = sums.filter(pl.col("traded_volume") > 0).join(squares, on=by)
    return found.with_columns(pl.lit(name).alias("interval"), *_shares()).select(SCHEMA.names)


def _where(condition: pl.Expr) -> pl.Expr:
    return pl.col("size").filter(condition).sum()


def _located(places: Sequence[str | None]) -> pl.Expr:
    named = pl.col("trade_location").is_in([place for place in places if place is not None])
    return pl.col("located").filter(named if None not in places else pl.col("trade_location").is_null()).sum()


def _shares() -> list[pl.Expr]:
    """The columns that are ratios of the sums; null where there is nothing to divide by."""
    located, known = (pl.when(pl.col(name) > 0).then(pl.col(name)) for name in ("located", "classified_volume"))
    lower, upper = (
        pl.sum_horizontal(*names) * 100 / located
        for names in (("below_pct", "at_bid_pct", "lower_inside_pct"), ("above_pct", "at_ask_pct", "upper_inside_pct"))
    )
    share = pl.col("bought") / known
    error = ((pl.col("squares") / known**2) + (pl.col("off") / known) ** 2).sqrt()
    return [
        *(pl.col(name) * 100 / located for name in SHARES),
        lower.alias("bid_side_pct"),
        upper.alias("ask_side_pct"),
        (pl.col("shown_volume") * 100 / pl.col("traded_volume")).alias("completeness_pct"),
        (pl.col("classified_volume") * 100 / pl.col("traded_volume")).alias("coverage_pct"),
        (100 * share).alias("buy_share_pct"),
        (2 * share - 1).alias("imbalance"),
        (pl.col("confident") / known).alias("mean_confidence"),
        (100 * error).alias("buy_share_standard_error"),
        (100 * NORMAL_95 * error * pl.col("wider") / known).alias("buy_share_half_width"),
        pl.when(known.is_null()).then(pl.lit("nothing_classified")).otherwise(pl.lit("ok")).alias("location_status"),
    ]
