"""What tells one expiry of an option chain from another: symbol, snapshot, date, root and settlement."""

from __future__ import annotations

from typing import Final

import polars as pl

EXPIRY_KEY: Final = ("symbol", "snapshot_time", "expiration_date", "option_root", "settlement_type")


def root_and_settlement() -> tuple[pl.Expr, pl.Expr]:
    """The root and the settlement of a contract as the key has them.

    The root is the symbol's where the row has none; without a settlement a contract lives to the close (P).
    """
    root = pl.coalesce(
        pl.col("option_root").replace("", None), pl.col("option_symbol").str.slice(0, 6).str.strip_chars()
    )
    return root.fill_null("").alias("option_root"), pl.col("settlement_type").fill_null("P").alias("settlement_type")
