"""What holds for any quote that can be believed, of an option too, and for the quotes of the dataset `quotes`.

Errors are contradictions within a row. Warnings are relations that vendors are known to break now and then.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from trade_analyst_pipeline.market.columns import Rule

# Half a cent: the wire rounds prices to cents.
PRICE_SLACK: Final = 0.005

ANY_QUOTE_RULES: Final = (
    Rule("negative_bid_size", pl.col("bid_size") >= 0, "The size at the bid is not negative."),
    Rule("negative_ask_size", pl.col("ask_size") >= 0, "The size at the ask is not negative."),
    Rule("negative_last_size", pl.col("last_size") >= 0, "The size of the last trade is not negative."),
    Rule("negative_volume", pl.col("volume") >= 0, "The volume is not negative."),
    Rule("negative_open_interest", pl.col("open_interest") >= 0, "The open interest is not negative."),
    Rule("high_below_low", pl.col("high") >= pl.col("low"), "The session's high is not below its low."),
    Rule("strike_not_positive", pl.col("strike") > 0, "The strike of an option is above zero."),
    Rule("unknown_option_type", pl.col("option_type").is_in(["C", "P"]), "An option is a call or a put."),
)

QUOTE_RULES: Final = (
    *ANY_QUOTE_RULES,
    Rule(
        "year_range_disordered",
        pl.col("high_52_week") >= pl.col("low_52_week"),
        "The 52-week high is not below the low.",
        "warning",
    ),
    Rule(
        "mark_outside_quote",
        (pl.col("quote_status") != "ok")
        | pl.col("mark").is_between(pl.col("bid") - PRICE_SLACK, pl.col("ask") + PRICE_SLACK),
        "The vendor's mark lies between bid and ask.",
        "warning",
    ),
)
