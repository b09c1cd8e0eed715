"""Every table of the data folder with its schema, by the name it has in SQL: `<stage>.<table>`."""

from __future__ import annotations

from trade_analyst_pipeline.datasets import TABLES
from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.metrics import (
    aggressor_confidence,
    aggressor_side,
    exposure,
    forward,
    implied_volatility,
    iv_history,
    iv_rank,
    put_call_ratio,
    realized_volatility,
    surface_check,
    term_structure,
    trade_location,
    volatility_index,
)
from trade_analyst_pipeline.quarantine import quarantine_schema

METRIC_SCHEMAS: tuple[TableSchema, ...] = (
    put_call_ratio.SCHEMA,
    put_call_ratio.DAILY_SCHEMA,
    forward.SCHEMA,
    implied_volatility.SCHEMA,
    term_structure.SCHEMA,
    surface_check.SCHEMA,
    exposure.SCHEMA,
    iv_history.SCHEMA,
    iv_rank.SCHEMA,
    realized_volatility.SCHEMA,
    volatility_index.SCHEMA,
)
# Of the trades of the stream, published by themselves.
TRADE_SCHEMAS: tuple[TableSchema, ...] = (aggressor_side.SCHEMA, aggressor_confidence.SCHEMA, trade_location.SCHEMA)


def table_schemas() -> dict[str, TableSchema]:
    """Schemas of tables, metrics and quarantine."""
    return {
        **{f"tables.{name}": dataset.schema for name, dataset in TABLES.items()},
        **{f"metrics.{schema.name}": schema for schema in (*METRIC_SCHEMAS, *TRADE_SCHEMAS)},
        **{f"quarantine.{name}": quarantine_schema(name) for name in TABLES},
    }
