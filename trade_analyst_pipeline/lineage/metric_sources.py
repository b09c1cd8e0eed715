"""What a row of a metric is made from: which rows of the tables below it, and the metric computed from those alone.

The stored tables only say which snapshots and bars count; their values are not used. What a metric computes is in
`metrics/`, how it is kept up to date in `metrics.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import polars as pl

from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.market.expiry_key import EXPIRY_KEY
from trade_analyst_pipeline.market.session_hours import up_to_close
from trade_analyst_pipeline.market.sessions import sessions_ending
from trade_analyst_pipeline.metrics import (
    exposure,
    forward,
    implied_volatility,
    iv_history,
    iv_rank,
    put_call_ratio,
    realized_volatility,
    surface_check,
    term_structure,
    volatility_index,
)
from trade_analyst_pipeline.storage.tables import TableStore

Row = Mapping[str, Any]
_SNAPSHOT: Final = ("symbol", "session_date", "snapshot_time")
_BAR: Final = ("symbol", "session_date", "known_time")


@dataclass(frozen=True)
class Below:
    """Rows of a stored table that a metric row is made from: how many, and of which sessions."""

    table: str
    rows: int
    sessions: tuple[date, ...]


@dataclass(frozen=True)
class MetricSource:
    """What one metric row is made from: tables from the metric down, and the snapshots or bars of `dataset`.

    `rows` name those by symbol, session and arrival; `compute` makes the metric of them, and has the row.
    """

    below: tuple[Below, ...]
    dataset: str
    rows: pl.DataFrame
    compute: Callable[[pl.DataFrame], pl.DataFrame]

    def only(self, remade: pl.DataFrame) -> pl.DataFrame:
        """The rows of the dataset that count, each key once."""
        schema = DATASETS[self.dataset].schema
        held = remade.join(self.rows, on=self.rows.columns, how="semi")
        return held.unique(schema.key, keep="first", maintain_order=True)


def _snapshots(store: TableStore, days: Collection[date], symbol: str | None = None) -> pl.DataFrame:
    """The snapshots in `tables.options` of these sessions, of one symbol or all, with their `chain_scope`."""
    scan = store.scan("tables", "options", partitions=days, schema=DATASETS["options"].schema)
    wanted = scan if symbol is None else scan.filter(pl.col("symbol") == symbol)
    return wanted.select(*_SNAPSHOT, "chain_scope").unique().sort(_SNAPSHOT).collect()


def _closing(snapshots: pl.DataFrame) -> pl.DataFrame:
    """The last snapshot up to the close of each symbol, session and chain scope."""
    last = up_to_close(snapshots).sort("snapshot_time")
    return last.unique(("symbol", "session_date", "chain_scope"), keep="last", maintain_order=True)


def _of_snapshots(
    below: Sequence[Below], snapshots: pl.DataFrame, compute: Callable[[pl.DataFrame], pl.DataFrame]
) -> MetricSource:
    named = snapshots.select(_SNAPSHOT).unique().sort(_SNAPSHOT)
    table = _below("tables.options", named)
    return MetricSource((*below, table), "options", named, compute)


def _below(table: str, rows: pl.DataFrame) -> Below:
    return Below(table, rows.height, tuple(rows["session_date"].unique().sort()))


def _iv_history(store: TableStore, row: Row) -> MetricSource:
    return _of_snapshots((), _snapshots(store, [row["session_date"]], row["symbol"]), iv_history.iv_history)


def _iv_rank(store: TableStore, row: Row) -> MetricSource:
    """The window's sessions and the one before, each by the snapshot `iv_history` names; by all where it names none."""
    window = row["window_sessions"]
    days = sessions_ending(row["session_date"], window + 1)
    if row["series"].startswith(volatility_index.PREFIX):
        return _iv_rank_of_index(store, row, days)
    history = (
        store.scan("metrics", "iv_history", partitions={day.year for day in days}, schema=iv_history.SCHEMA)
        .filter(pl.col("session_date").is_in(days), symbol=row["symbol"], series=row["series"])
        .collect()
    )
    named = history.filter(pl.col("snapshot_time").is_not_null())
    unnamed = history.filter(pl.col("snapshot_time").is_null())["session_date"].to_list()
    snapshots = pl.concat([named.select(_SNAPSHOT), _snapshots(store, unnamed, row["symbol"]).select(_SNAPSHOT)])

    def compute(options: pl.DataFrame) -> pl.DataFrame:
        return iv_rank.iv_rank(iv_history.iv_history(options), windows=[window])

    return _of_snapshots([_below("metrics.iv_history", history)], snapshots, compute)


def _iv_rank_of_index(store: TableStore, row: Row, days: Sequence[date]) -> MetricSource:
    """The bars of the index behind each of these sessions."""
    values = (
        store.scan("metrics", "volatility_index", partitions={day.year for day in days}, schema=volatility_index.SCHEMA)
        .filter(pl.col("session_date").is_in(days), symbol=row["symbol"], series=row["series"])
        .sort("session_date")
        .collect()
    )
    bars = values.select(pl.col("index_symbol").alias("symbol"), "session_date", "known_time")

    def compute(remade: pl.DataFrame) -> pl.DataFrame:
        return iv_rank.iv_rank(volatility_index.volatility_index(remade), windows=[row["window_sessions"]])

    below = (_below("metrics.volatility_index", values), _below("tables.ohlc", bars))
    return MetricSource(below, "ohlc", bars, compute)


def _volatility_index(_store: TableStore, row: Row) -> MetricSource:
    bar = pl.DataFrame(
        {"symbol": row["index_symbol"], "session_date": row["session_date"], "known_time": row["known_time"]},
        schema={name: DATASETS["ohlc"].schema.polars_schema[name] for name in _BAR},
    )
    return MetricSource((_below("tables.ohlc", bar),), "ohlc", bar, volatility_index.volatility_index)


def _put_call_ratio(store: TableStore, row: Row) -> MetricSource:
    if row["scope"] == put_call_ratio.UNIVERSE:
        snapshots = _closing(_snapshots(store, [row["session_date"]])).filter(chain_scope=row["chain_scope"])
    else:
        snapshots = pl.DataFrame([{name: row[name] for name in _SNAPSHOT}], schema=_schema_of(_SNAPSHOT))
    return _of_snapshots((), snapshots, put_call_ratio.put_call_ratio)


def _forward(_store: TableStore, row: Row) -> MetricSource:
    snapshot = pl.DataFrame([{name: row[name] for name in _SNAPSHOT}], schema=_schema_of(_SNAPSHOT))
    return _of_snapshots((), snapshot, forward.forward)


def _implied_volatility(store: TableStore, row: Row) -> MetricSource:
    """The forward of the contract's expiry, and the whole snapshot, of which that is made."""
    snapshot = pl.DataFrame([{name: row[name] for name in _SNAPSHOT}], schema=_schema_of(_SNAPSHOT))
    forwards = store.scan("metrics", "forward", partitions=[row["session_date"]], schema=forward.SCHEMA)
    expiry = forwards.filter(pl.col(name) == row[name] for name in EXPIRY_KEY).collect()

    def compute(options: pl.DataFrame) -> pl.DataFrame:
        return implied_volatility.implied_volatility(options, forward.forward(options))

    return _of_snapshots([_below("metrics.forward", expiry)], snapshot, compute)


def _term_structure(store: TableStore, row: Row) -> MetricSource:
    """The forward of the expiry, the volatilities of its contracts, and the whole snapshot, of which those are made."""
    snapshot = pl.DataFrame([{name: row[name] for name in _SNAPSHOT}], schema=_schema_of(_SNAPSHOT))
    below = []
    for schema in (forward.SCHEMA, implied_volatility.SCHEMA):
        rows = store.scan("metrics", schema.name, partitions=[row["session_date"]], schema=schema)
        expiry = rows.filter(pl.col(name) == row[name] for name in EXPIRY_KEY)
        below.append(_below(f"metrics.{schema.name}", expiry.collect()))

    def compute(options: pl.DataFrame) -> pl.DataFrame:
        forwards = forward.forward(options)
        volatilities = implied_volatility.implied_volatility(options, forwards)
        return term_structure.term_structure(options, volatilities, forwards)

    return _of_snapshots(below, snapshot, compute)


def _surface_check(store: TableStore, row: Row) -> MetricSource:
    """The whole snapshot, and the forwards and volatilities that are made of it."""
    snapshot = pl.DataFrame([{name: row[name] for name in _SNAPSHOT}], schema=_schema_of(_SNAPSHOT))
    below = []
    for name, schema in (("forward", forward.SCHEMA), ("implied_volatility", implied_volatility.SCHEMA)):
        rows = store.scan("metrics", name, partitions=[row["session_date"]], schema=schema)
        held = rows.filter(pl.col(key) == row[key] for key in ("symbol", "snapshot_time"))
        below.append(_below(f"metrics.{name}", held.select("session_date").collect()))

    def compute(options: pl.DataFrame) -> pl.DataFrame:
        forwards = forward.forward(options)
        return surface_check.surface_check(implied_volatility.implied_volatility(options, forwards), forwards, options)

    return _of_snapshots(below, snapshot, compute)


def _exposure(store: TableStore, row: Row) -> MetricSource:
    """The volatilities of the contracts added up, and the whole snapshot, of which those are made."""
    snapshot = pl.DataFrame([{name: row[name] for name in _SNAPSHOT}], schema=_schema_of(_SNAPSHOT))
    schema = implied_volatility.SCHEMA
    of_snapshot = (*_SNAPSHOT, *(name for name in ("expiration_date", "strike") if row[name] is not None))
    contracts = store.scan("metrics", schema.name, partitions=[row["session_date"]], schema=schema).filter(
        pl.col(name) == row[name] for name in of_snapshot
    )

    def compute(options: pl.DataFrame) -> pl.DataFrame:
        return exposure.exposure(options, implied_volatility.implied_volatility(options, forward.forward(options)))

    return _of_snapshots([_below(f"metrics.{schema.name}", contracts.collect())], snapshot, compute)


def _put_call_ratio_daily(store: TableStore, row: Row) -> MetricSource:
    """The closing snapshots of as many sessions as the longest smoothing counts."""
    days = sessions_ending(row["session_date"], max(put_call_ratio.SMOOTHED_SESSIONS))
    ratios = store.scan("metrics", "put_call_ratio", partitions=days, schema=put_call_ratio.SCHEMA)
    closing = _closing(ratios.filter(scope="underlying", chain_scope=row["chain_scope"]).collect())
    if row["symbol"] != put_call_ratio.UNIVERSE:
        closing = closing.filter(symbol=row["symbol"])

    def compute(options: pl.DataFrame) -> pl.DataFrame:
        made = put_call_ratio.put_call_ratio(options)
        return put_call_ratio.put_call_ratio_daily(made)

    return _of_snapshots([_below("metrics.put_call_ratio", closing)], closing, compute)


def _realized_volatility(store: TableStore, row: Row) -> MetricSource:
    """The window's daily bars and the one before, each as known latest."""
    window = row["window_sessions"]
    days = sessions_ending(row["session_date"], window + 1)
    bars = (
        store.scan("tables", "ohlc", partitions=days, schema=DATASETS["ohlc"].schema)
        .filter(symbol=row["symbol"], frequency="daily")
        .select(_BAR)
        .group_by("symbol", "session_date")
        .agg(pl.col("known_time").max())
        .sort("session_date")
        .collect()
    )

    def compute(remade: pl.DataFrame) -> pl.DataFrame:
        daily = remade.filter(frequency="daily")
        return realized_volatility.realized_volatility(daily, windows=[window])

    return MetricSource((_below("tables.ohlc", bars),), "ohlc", bars.select(_BAR), compute)


def _schema_of(names: Sequence[str]) -> pl.Schema:
    types = DATASETS["options"].schema.polars_schema
    return pl.Schema({name: types[name] for name in names})


METRIC_SOURCES: Final[Mapping[str, Callable[[TableStore, Row], MetricSource]]] = {
    iv_history.SCHEMA.name: _iv_history,
    iv_rank.SCHEMA.name: _iv_rank,
    volatility_index.SCHEMA.name: _volatility_index,
    put_call_ratio.SCHEMA.name: _put_call_ratio,
    forward.SCHEMA.name: _forward,
    implied_volatility.SCHEMA.name: _implied_volatility,
    term_structure.SCHEMA.name: _term_structure,
    surface_check.SCHEMA.name: _surface_check,
    exposure.SCHEMA.name: _exposure,
    put_call_ratio.DAILY_SCHEMA.name: _put_call_ratio_daily,
    realized_volatility.SCHEMA.name: _realized_volatility,
}
