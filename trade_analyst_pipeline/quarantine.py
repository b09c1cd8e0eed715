"""The shape in which bad rows are kept: one for all datasets, each row with the rules it broke and its own text.

Which rows are bad is decided in `validation.py` and in the datasets.
"""

from __future__ import annotations

from datetime import date

import polars as pl

from trade_analyst_pipeline.market.columns import COLUMNS, TIME, TableSchema
from trade_analyst_pipeline.validation import BROKEN_RULES, Validated

_NAMES = ("symbol", "session_date", "snapshot_time", "broken_rules", "detail", "request", "row_json")
_KEY = ("symbol", "snapshot_time", "broken_rules", "row_json")


def quarantine_schema(dataset: str) -> TableSchema:
    """The schema of `quarantine/<dataset>`; the same columns for every dataset, only broken_rules never null."""
    return TableSchema(
        name=dataset,
        version="1.0",
        key=_KEY,
        columns=tuple(COLUMNS[name] for name in _NAMES),
        required=frozenset({"session_date", "broken_rules", "row_json"}),
        event_time="snapshot_time",
        known_time="snapshot_time",
    )


def quarantine_rows(judged: Validated, rejected: pl.DataFrame, *, session_date: date) -> pl.DataFrame:
    """All bad rows of a capture: those that broke a rule, and `rejected` ones that could not even be typed.

    `row_json` is the typed row, or the row as the wire had it (cut at 8,192 characters); equal rows are kept once.
    """
    broken = judged.quarantined
    arrival = next((name for name in ("snapshot_time", "known_time") if name in broken.columns), None)
    symbol = pl.col("symbol") if "symbol" in broken.columns else pl.lit(None, pl.String).alias("symbol")
    typed = broken.select(
        symbol,
        pl.lit(session_date).alias("session_date"),
        (pl.col(arrival) if arrival else pl.lit(None, TIME)).alias("snapshot_time"),
        pl.col(BROKEN_RULES).list.join(", "),
        pl.lit(None, pl.String).alias("detail"),
        pl.lit(None, pl.String).alias("request"),
        pl.struct(pl.exclude(BROKEN_RULES)).struct.json_encode().alias("row_json"),
    )
    untyped = rejected.select(
        pl.col("symbol"),
        pl.lit(session_date).alias("session_date"),
        pl.col("snapshot_time"),
        pl.col("rule").alias("broken_rules"),
        pl.col("detail"),
        pl.col("request"),
        pl.col("source").alias("row_json"),
    )
    return pl.concat([typed, untyped]).unique(_KEY, keep="first", maintain_order=True)
