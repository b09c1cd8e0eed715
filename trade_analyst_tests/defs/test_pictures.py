"""The pictures on the assets' pages: what is drawn of which rows."""

from __future__ import annotations

import base64
import re
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trade_analyst_pipeline.defs import pictures
from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.metrics import iv_rank, put_call_ratio
from trade_analyst_pipeline.storage.tables import TableStore

DAYS = tuple(date(2026, 1, day) for day in (5, 6, 7))


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    """An empty store."""
    return TableStore(tmp_path)


def put(store: TableStore, schema: TableSchema, rows: list[dict[str, Any]]) -> None:
    """Rows of one year of a series; columns that are not given are null."""
    frame = pl.concat(
        [schema.empty(), pl.DataFrame(rows, schema_overrides=schema.polars_schema)], how="diagonal"
    ).select(schema.names)
    store.write(
        *("metrics", frame),
        schema=schema,
        partition=2026,
        fence=store.take_fence("metrics", schema.name, 2026),
        source_captures=(),
        code_version="0",
        created_time=datetime(2026, 1, 8, tzinfo=UTC),
    )


def texts(picture: str) -> list[str]:
    """What is written in a picture: title, highest, last, lowest."""
    svg = base64.b64decode(picture.rpartition("base64,")[2].rstrip(")")).decode()
    return re.findall(r"<text[^>]*>([^<]*)<", svg)


def test_ratios_of_one_scope_are_drawn(store: TableStore) -> None:
    """Only rows of the scope that most sessions have are in the line; the others are not added to them."""
    bounded = "bounded strikes=15"
    rows = [
        {
            "symbol": "universe",
            "chain_scope": scope,
            "session_date": day,
            "put_call_volume_ratio": ratio,
            "snapshot_time": datetime.combine(day, time(21), UTC),
        }
        for scope, day, ratio in (
            *((bounded, DAYS[0], 0.5), (bounded, DAYS[1], 0.75), (bounded, DAYS[2], 0.625)),
            ("full", DAYS[2], 9.0),
        )
    ]
    put(store, put_call_ratio.DAILY_SCHEMA, rows)
    assert texts(pictures.put_call_ratio_picture(store)) == ["Puts per call, bounded chains", "0.75", "0.62", "0.50"]


def test_ranks_of_the_longest_window_are_drawn(store: TableStore) -> None:
    """The mean over symbols per session, of 252 sessions and our own 30-day series, no other."""
    rows = [
        {"symbol": symbol, "series": series, "window_sessions": window, "session_date": DAYS[0], "iv_rank": rank}
        for symbol, series, window, rank in (
            *(("A", "atm30", 252, 20.0), ("B", "atm30", 252, 40.0)),
            *(("A", "atm30", 63, 99.0), ("A", "atm30_vendor", 252, 90.0)),
        )
    ]
    put(store, iv_rank.SCHEMA, rows)
    assert texts(pictures.iv_rank_picture(store)) == ["Mean IV rank, 252 sessions", "30", "30", "30"]


def test_without_rows_a_word_stands_there(store: TableStore) -> None:
    """No series, no picture."""
    for picture in (pictures.put_call_ratio_picture, pictures.iv_history_picture, pictures.realized_volatility_picture):
        assert picture(store) == "no value yet"
    assert pictures.rows_picture([], DAYS[0]) == "no value yet"
