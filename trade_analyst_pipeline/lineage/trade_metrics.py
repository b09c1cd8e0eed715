"""What is made of `timesales`: the side of every trade, how far it can be trusted, and the sums over intervals.

They are kept by the session and brought up to date as the other metrics are (`metrics.py`), when a segment of the
stream has come: no run of the day's job waits for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from trade_analyst_pipeline.datasets import timesales
from trade_analyst_pipeline.lineage.metrics import Reader, SnapshotMetric
from trade_analyst_pipeline.market.aggressor_posterior import default_posterior
from trade_analyst_pipeline.metrics import aggressor_confidence, aggressor_side, trade_location


def _trades(store: Reader, days: Sequence[date]) -> pl.DataFrame:
    """The rows of `timesales` that are classified, in order of symbol and time."""
    rows = store.scan("tables", "timesales", partitions=days, schema=timesales.SCHEMA)
    is_print = pl.col("volume_kind").is_in(["shown", "unseen"]) & pl.col("exclusion").is_null()
    return rows.filter(is_print).sort("symbol", "session_date", "trade_time", "sequence").collect()


def _aggressor_side(store: Reader, days: Sequence[date]) -> pl.DataFrame:
    return aggressor_side.aggressor_side(_trades(store, days))


def _aggressor_confidence(store: Reader, days: Sequence[date]) -> pl.DataFrame:
    signed = store.scan("metrics", "aggressor_side", partitions=days, schema=aggressor_side.SCHEMA).collect()
    return aggressor_confidence.aggressor_confidence(signed, default_posterior())


def _trade_location(store: Reader, days: Sequence[date]) -> pl.DataFrame:
    return trade_location.trade_location(
        store.scan("tables", "timesales", partitions=days, schema=timesales.SCHEMA).collect(),
        store.scan("metrics", "aggressor_side", partitions=days, schema=aggressor_side.SCHEMA).collect(),
        store.scan("metrics", "aggressor_confidence", partitions=days, schema=aggressor_confidence.SCHEMA).collect(),
    )


AGGRESSOR_SIDE = SnapshotMetric(aggressor_side.SCHEMA, (("tables", "timesales"),), _aggressor_side)
AGGRESSOR_CONFIDENCE = SnapshotMetric(
    aggressor_confidence.SCHEMA, (("metrics", "aggressor_side"),), _aggressor_confidence
)
TRADE_LOCATION = SnapshotMetric(
    trade_location.SCHEMA,
    (("tables", "timesales"), ("metrics", "aggressor_side"), ("metrics", "aggressor_confidence")),
    _trade_location,
)
# Each after those it is made of.
TRADE_METRICS = (AGGRESSOR_SIDE, AGGRESSOR_CONFIDENCE, TRADE_LOCATION)
