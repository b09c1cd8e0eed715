"""The exchange's hours as table columns: when the options of each symbol trade in each session.

The hours themselves come from `sessions`; here they are only laid beside rows.
"""

from __future__ import annotations

import polars as pl

from trade_analyst_pipeline.market.columns import TIME
from trade_analyst_pipeline.market.sessions import option_product, session_close, session_open


def option_hours(rows: pl.DataFrame) -> pl.DataFrame:
    """Each (symbol, session_date) of `rows` once, with `open_time` and `close_time` of the symbol's options, UTC.

    Raises ValueError for a date that is not a session of the exchange.
    """
    pairs = rows.select("symbol", "session_date").unique()
    products = {symbol: option_product(symbol) for symbol in pairs["symbol"].unique()}
    opens = [session_open(day) for day in pairs["session_date"]]
    closes = [session_close(day, products[symbol]) for symbol, day in pairs.iter_rows()]
    return pairs.with_columns(pl.Series("open_time", opens, TIME), pl.Series("close_time", closes, TIME))


def up_to_close(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows whose `snapshot_time` is not after the close of their symbol's options, with the columns above."""
    hours = option_hours(rows)
    return rows.join(hours, on=("symbol", "session_date")).filter(pl.col("snapshot_time") <= pl.col("close_time"))
