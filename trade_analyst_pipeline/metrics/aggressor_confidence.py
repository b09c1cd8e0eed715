"""The probability that the buyer was the aggressor, from a table of posteriors; fitting one, and how far it holds.

What a table is, `market/aggressor_posterior` says; where a trade stands, the table of `aggressor_side`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from trade_analyst_pipeline.market.aggressor_posterior import CAPPED, STEPS, TICKS, Cells, Posterior
from trade_analyst_pipeline.market.columns import Rule, table_schema
from trade_analyst_pipeline.market.trade_locations import LOCATIONS, MIDDLE, QUOTE_QUALITIES

EVEN: Final = 0.02
BINS: Final = 10

KEY = ("symbol", "trade_time", "sequence")

SCHEMA = table_schema(
    "aggressor_confidence",
    "1.0",
    key=KEY,
    columns=(
        *(*KEY, "session_date"),
        *("buy_probability", "confidence", "aggressor_side", "aggressor_rule"),
        *("quote_quality", "aggressor_status", "posterior_version"),
    ),
    required=("quote_quality", "aggressor_status", "posterior_version"),
    rules=(
        Rule("buy_probability_range", pl.col("buy_probability").is_between(0, 1), "A probability is 0 to 1."),
        Rule("confidence_range", pl.col("confidence").is_between(0.5, 1), "The likelier side has at least half."),
    ),
)


def fit_posterior(labelled: pl.DataFrame, *, version: str, fitted_on: tuple[str, ...]) -> Posterior:
    """A table fitted on trades whose aggressor is known.

    `labelled` are rows of `aggressor_side` with `true_side`, `buyer` or `seller`; others are left out.
    """
    known = _known(labelled)
    sign, step, tick = _places(known)
    same = (np.where(known["true_side"].to_numpy() == "buyer", 1, -1) == sign).astype(np.int64)
    qualities = known["quote_quality"].to_numpy()
    cells = {}
    for quality in sorted(set(qualities) - set(CAPPED), key=QUOTE_QUALITIES.index):
        of = (qualities == quality) & (sign != 0)
        found = np.zeros((len(STEPS), len(TICKS), 2), dtype=np.int64)
        np.add.at(found, (step[of], tick[of], 0), same[of])
        np.add.at(found, (step[of], tick[of], 1), 1)
        cells[quality] = found
    return Posterior(version, fitted_on, cells)


def aggressor_confidence(signed: pl.DataFrame, posterior: Posterior) -> pl.DataFrame:
    """The probability of a buyer as aggressor for each row of `aggressor_side`; rows as `SCHEMA`, in the order given.

    `aggressor_side` is the likelier side, null with `aggressor_status` `even` when the probability is within 0.02 of
    one half. `aggressor_rule` is `quote` where the quote rule says the same, else `tick` where the tick does, else
    `posterior`. Without a price all are null (`no_price`). Options (`option_prior`) take the cells of `strict`, at most
    0.90 and inside the quotes 0.75; blocks at most 0.60. Raises ValueError for a quality that the table was not fitted
    on.
    """
    sign, step, tick = _places(signed)
    same = np.full(signed.height, 0.5)
    qualities = signed["quote_quality"].to_numpy()
    for quality in signed["quote_quality"].unique().to_list():
        of = qualities == quality
        same[of] = posterior.probabilities(quality)[step[of], tick[of]]
    buyer = np.where(sign > 0, same, np.where(sign < 0, 1 - same, 0.5))
    has_price = (signed["aggressor_status"] != "no_price").to_numpy()
    chance = pl.when(pl.Series(has_price)).then(pl.Series(buyer))
    location = signed["trade_location"].cast(pl.Enum(LOCATIONS)).to_physical().cast(pl.Int64) - MIDDLE
    by_quote, by_tick = (
        location.sign(),
        signed["tick_direction"].replace_strict({"up": 1, "down": -1}, return_dtype=pl.Int64),
    )
    likelier = pl.when((chance - 0.5).abs() >= EVEN).then((chance - 0.5).sign())
    return signed.select(
        *(*KEY, "session_date"),
        chance.alias("buy_probability"),
        pl.max_horizontal(chance, 1 - chance).alias("confidence"),
        pl.when(likelier > 0).then(pl.lit("buyer")).when(likelier < 0).then(pl.lit("seller")).alias("aggressor_side"),
        pl.when(likelier == by_quote)
        .then(pl.lit("quote"))
        .when(likelier == by_tick)
        .then(pl.lit("tick"))
        .when(likelier.is_not_null())
        .then(pl.lit("posterior"))
        .alias("aggressor_rule"),
        "quote_quality",
        pl.when(~pl.Series(has_price))
        .then(pl.lit("no_price"))
        .when(likelier.is_null())
        .then(pl.lit("even"))
        .otherwise(pl.lit("ok"))
        .alias("aggressor_status"),
        pl.lit(posterior.version).alias("posterior_version"),
    )


def _places(signed: pl.DataFrame) -> tuple[Cells, Cells, Cells]:
    """Of each row the side where it stands (1 above, -1 below, 0 nowhere), and its step and tick in the table."""
    missing = len(LOCATIONS)
    codes = signed["trade_location"].cast(pl.Enum(LOCATIONS)).to_physical().cast(pl.Int64).fill_null(missing).to_numpy()
    tick = signed["tick_direction"].replace_strict({"up": 1, "down": -1}, default=0, return_dtype=pl.Int64).to_numpy()
    from_mid = np.where(codes == missing, 0, codes - MIDDLE)
    sign = np.where(from_mid == 0, tick, np.sign(from_mid))
    step = np.where(codes == missing, STEPS.index("no_quote"), np.abs(from_mid))
    return sign, step, tick * sign + TICKS.index("none")


def score(labelled: pl.DataFrame, posterior: Posterior) -> pl.DataFrame:
    """Of each trade with a known aggressor: `symbol`, `quote_quality`, `buy_probability`, `is_buyer`.

    `labelled` as for `fit_posterior`.
    """
    known = _known(labelled)
    found = aggressor_confidence(known, posterior)
    return found.select("symbol", "quote_quality", "buy_probability").with_columns(
        is_buyer=known["true_side"] == "buyer"
    )


def cross_validated(labelled: pl.DataFrame, *, blocks: int = 5) -> pl.DataFrame:
    """As `score`, each of that many stretches of the tape scored with a table fitted on the others."""
    known = _known(labelled)
    block = pl.int_range(pl.len()) * blocks // pl.len()
    numbered = known.with_columns(block.alias("block"))
    parts = []
    for each in range(blocks):
        rest = numbered.filter(pl.col("block") != each)
        parts.append(score(numbered.filter(pl.col("block") == each), fit_posterior(rest, version="", fitted_on=())))
    return pl.concat(parts)


def reliability(scored: pl.DataFrame) -> pl.DataFrame:
    """How often the likelier side was right, by quality and bin of confidence (ten of equal width on [0.5, 1]).

    One row per quality and bin with trades: `from_confidence`, `trades`, `mean_confidence`, `right_share` (fractions).
    """
    confidence = pl.max_horizontal("buy_probability", 1 - pl.col("buy_probability"))
    lowest = ((confidence - 0.5) * 2 * BINS).floor().clip(0, BINS - 1) / (2 * BINS) + 0.5
    lowest = lowest.round(2)
    return (
        scored.with_columns(confidence.alias("confidence"), _right().alias("right"))
        .group_by("quote_quality", lowest.alias("from_confidence"))
        .agg(
            pl.len().alias("trades"),
            pl.col("confidence").mean().alias("mean_confidence"),
            pl.col("right").mean().alias("right_share"),
        )
        .sort("quote_quality", "from_confidence")
    )


def accuracy(scored: pl.DataFrame) -> pl.DataFrame:
    """One row per quality: `trades`, `accuracy_pct` (undecided ones count half), `brier`, `constant_brier`, `ece`.

    The constant forecast is the share of buyers. `ece`, the expected calibration error, is the mean distance of
    confidence and share of right ones over the bins of `reliability`, weighted by trades.
    """
    bins = reliability(scored).group_by("quote_quality").agg(_expected_calibration_error())
    buyer = pl.col("is_buyer").cast(pl.Float64)
    undecided = (pl.col("buy_probability") - 0.5).abs() < EVEN
    return (
        scored.group_by("quote_quality")
        .agg(
            pl.len().alias("trades"),
            (100 * pl.when(undecided).then(0.5).otherwise(_right())).mean().alias("accuracy_pct"),
            ((pl.col("buy_probability") - buyer) ** 2).mean().alias("brier"),
            (buyer.mean() * (1 - buyer.mean())).alias("constant_brier"),
        )
        .join(bins, on="quote_quality")
        .sort("quote_quality")
    )


def _expected_calibration_error() -> pl.Expr:
    distance = (pl.col("mean_confidence") - pl.col("right_share")).abs()
    return ((distance * pl.col("trades")).sum() / pl.col("trades").sum()).alias("ece")


def _right() -> pl.Expr:
    """1 where the likelier side was the aggressor, one half where neither is likelier."""
    buys = pl.col("buy_probability")
    return pl.when(buys == 0.5).then(0.5).otherwise(((buys > 0.5) == pl.col("is_buyer")).cast(pl.Float64))


def _known(labelled: pl.DataFrame) -> pl.DataFrame:
    return labelled.filter(pl.col("true_side").is_in(["buyer", "seller"]) & (pl.col("aggressor_status") != "no_price"))
