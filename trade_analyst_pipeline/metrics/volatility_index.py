"""Published volatility indices as volatilities of what they are about: a past for symbols that have none of ours yet.

An index is read off its daily bars, which the source serves back for years, where a chain is gone with its session.
Each is a series of its own, named after its index, and ranked against itself: it is another quantity than what
`iv_history` makes, of another underlying where the symbol is a fund on the index, and rounded.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from trade_analyst_pipeline.market.column_arithmetic import quotient
from trade_analyst_pipeline.market.columns import Rule, table_schema

INPUT_COLUMNS = ("symbol", "frequency", "session_date", "close", "is_complete", "known_time")

# By the index, as the source spells it, the symbols whose volatility it tells: 30 days, in percent, by the method of
# the VIX. The exchange's list; of discontinued ones none.
INDICES: Final[dict[str, tuple[str, ...]]] = {
    "$VIX": ("$SPX", "SPY"),
    "$VXN": ("$NDX", "QQQ"),
    "$RVX": ("$RUT", "IWM"),
    "$VXD": ("$DJI", "DIA"),
    "$VXAPL": ("AAPL",),
    "$VXAZN": ("AMZN",),
    "$VXGOG": ("GOOG",),
    "$VXGS": ("GS",),
    "$VXIBM": ("IBM",),
    "$GVZ": ("GLD",),
    "$OVX": ("USO",),
    "$VXEEM": ("EEM",),
    "$VXEFA": ("EFA",),
}
PREFIX: Final = "index_"
PUBLISHED: Final = "published"

_SERIES: Final = pl.DataFrame(
    [
        {"index_symbol": index, "symbol": symbol, "series": f"{PREFIX}{index.removeprefix('$').lower()}"}
        for index, symbols in INDICES.items()
        for symbol in symbols
    ]
)

SCHEMA = table_schema(
    "volatility_index",
    "1.0",
    key=("symbol", "series", "session_date"),
    columns=("symbol", "series", "session_date", "iv", "index_symbol", "known_time", "status"),
    required=("iv", "index_symbol", "status"),
    rules=(Rule("iv_range", pl.col("iv") > 0, "A volatility is above 0."),),
)


def volatility_index(bars: pl.DataFrame) -> pl.DataFrame:
    """Each published index's closes as fractions, once for each symbol it is about; rows as `SCHEMA`, by its key.

    `bars` are rows of `ohlc`; those of frequency `daily` count, of a session that was over when they became known. Of
    several of one session the one known latest wins. A close that is not above 0 and finite gives no row.
    """
    counts = (pl.col("frequency") == "daily") & pl.col("is_complete") & pl.col("symbol").is_in(list(INDICES))
    latest = (
        bars.select(INPUT_COLUMNS)
        .filter(counts & pl.col("close").is_finite() & (pl.col("close") > 0))
        .sort("symbol", "session_date", "known_time", "close")
        .unique(("symbol", "session_date"), keep="last", maintain_order=True)
        .rename({"symbol": "index_symbol"})
    )
    return (
        latest.join(_SERIES, on="index_symbol")
        .with_columns(iv=quotient(pl.col("close"), 100), status=pl.lit(PUBLISHED))
        .select(SCHEMA.names)
        .sort(SCHEMA.key)
    )
