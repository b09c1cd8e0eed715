"""What holds between bars of different lengths of one session. All are warnings: the daily bar is counted and kept.

A complete daily bar is judged by the finest minute bars of its capture, those of regular hours, when they reach from
the open to the close; else nothing is said. Nothing is repaired.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from trade_analyst_pipeline.market.bars import MINUTES
from trade_analyst_pipeline.market.columns import TIME, Rule
from trade_analyst_pipeline.market.prices import ticks
from trade_analyst_pipeline.market.sessions import session_close, session_open

VOLUME_SLACK: Final = 0.01

_SESSION = ("symbol", "session_date")
_PRICES = ("open", "high", "low", "close")
_COLUMNS = (*_SESSION, "frequency", "bar_time", "known_time", *_PRICES, "volume", "session_part", "is_complete")
_OUTCOMES = dict.fromkeys((*_PRICES, "volume"), pl.Boolean())


def _agreement(bars: pl.Series) -> pl.Series:
    """For each bar and each of its figures whether it is that of the session's minute bars; null where not judged."""
    frame = bars.struct.unnest().with_row_index("row")
    whole = frame.filter((pl.col("session_part") == "regular") & pl.col("is_complete"))
    daily = whole.filter(pl.col("frequency") == "daily").join(_covered_sessions(whole), on=_SESSION, suffix="_minutes")
    held = daily.select(
        "row",
        *(ticks(pl.col(name)) == ticks(pl.col(f"{name}_minutes")) for name in _PRICES),
        (pl.col("volume") - pl.col("volume_minutes")).abs() <= VOLUME_SLACK * pl.col("volume"),
    )
    outcomes = frame.select("row").join(held, on="row", how="left", maintain_order="left")
    return outcomes.select(pl.struct(*_OUTCOMES)).to_series()


def _covered_sessions(bars: pl.DataFrame) -> pl.DataFrame:
    """What the minute bars make of each session that they cover: first, highest, lowest and last price, and volume."""
    answers = (
        bars.filter(pl.col("frequency").is_in(list(MINUTES)))
        .unique((*_SESSION, "frequency", "known_time", "bar_time"), keep="first")
        .sort("bar_time")
        .group_by(*_SESSION, "frequency", "known_time")
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
            start=pl.col("bar_time").first(),
            end=pl.col("bar_time").last(),
        )
        .with_columns(length=pl.col("frequency").replace_strict(MINUTES, return_dtype=pl.Int64))
    )
    days = answers["session_date"]
    covered = answers.filter(
        pl.col("start") == pl.Series(map(session_open, days), dtype=TIME),
        pl.col("end") + pl.duration(minutes="length") == pl.Series(map(session_close, days), dtype=TIME),
    )
    # the finest bars judge, and of those that came in several answers the last
    return covered.sort("length", pl.col("known_time").dt.epoch().neg()).unique(_SESSION, keep="first")


def _agrees(name: str) -> pl.Expr:
    return pl.struct(_COLUMNS).map_batches(_agreement, return_dtype=pl.Struct(_OUTCOMES)).struct.field(name)


AGREEMENT_RULES: Final = (
    Rule("open_disagrees", _agrees("open"), "A daily open is that of the session's first minute bar.", "warning"),
    Rule("high_disagrees", _agrees("high"), "A daily high is the highest of the session's minute bars.", "warning"),
    Rule("low_disagrees", _agrees("low"), "A daily low is the lowest of the session's minute bars.", "warning"),
    Rule("close_disagrees", _agrees("close"), "A daily close is that of the session's last minute bar.", "warning"),
    Rule("volume_disagrees", _agrees("volume"), "A daily volume is that of its minute bars, to 1 %.", "warning"),
)
