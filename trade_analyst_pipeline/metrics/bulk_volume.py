"""How much of a bar's volume was bought, judged by its price change alone, without trades or quotes."""

from __future__ import annotations

import numpy as np
import polars as pl

from trade_analyst_pipeline.market.columns import Rule, table_schema
from trade_analyst_pipeline.market.prices import ticks
from trade_analyst_pipeline.market.symbol_runs import RUN_COLUMNS, symbol_runs

SCHEMA = table_schema(
    "bulk_volume",
    "1.0",
    key=("symbol", "bar_time"),
    columns=("symbol", "bar_time", "volume", "bulk_buy_volume", "status"),
    required=("status",),
    rules=(
        Rule(
            "bulk_buy_volume_range",
            pl.col("bulk_buy_volume").is_between(0, pl.col("volume")),
            "What was bought is a part of the volume.",
        ),
    ),
)


def bulk_volume(bars: pl.DataFrame, *, freedom: float | None = None) -> pl.DataFrame:
    """Bought volume of each bar, V Z(change / deviation); rows as `SCHEMA`, in the order given.

    Z is the normal distribution, or Student's with `freedom` degrees. The change is that of `close` from the bar before
    of the symbol (and session, where there is a `session_date`), the deviation the sample deviation of such changes up
    to and with this one, so that no later bar counts. Null with `status` `short` (fewer than two changes), `flat` (the
    deviation is 0) or `no_volume`. Bars are in order of symbol and time. Raises ValueError for symbols that are not,
    and for a `freedom` that is not above 0. Easley, Lopez de Prado and O'Hara 2012. On real tapes worse than the tick
    or Lee-Ready at any length of bar (Chakrabarty, Pascual and Shkilko 2015): for bars without quotes only.
    """
    from trade_analyst_pipeline.kernels.bulk_shares import bulk_shares

    if freedom is not None and not freedom > 0:
        message = f"a Student distribution needs degrees of freedom above 0, got {freedom}"
        raise ValueError(message)
    runs = symbol_runs("bars", bars, [name for name in RUN_COLUMNS if name in bars.columns])
    closes = bars.select(ticks(pl.col("close").cast(pl.Float64))).to_series().to_numpy()
    shares = np.empty(bars.height)
    bulk_shares(closes, np.append(runs["start"].to_numpy(), bars.height), freedom or 0.0, shares)
    share = pl.Series("share", shares)
    status = (
        pl.when(pl.col("volume").is_null())
        .then(pl.lit("no_volume"))
        .when(share == -1)
        .then(pl.lit("short"))
        .when(share == -2)
        .then(pl.lit("flat"))
        .otherwise(pl.lit("ok"))
    )
    return bars.select(
        "symbol",
        "bar_time",
        "volume",
        pl.when(share >= 0).then(pl.col("volume") * share).alias("bulk_buy_volume"),
        status.alias("status"),
    )
