"""The pictures on the assets' pages: what is drawn of which rows."""

from __future__ import annotations

import base64
import re
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest
import stored
from stored import rows_of

from trade_analyst_pipeline.defs import pictures
from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.metrics import implied_volatility, iv_history, iv_rank, put_call_ratio
from trade_analyst_pipeline.storage.tables import TableStore

DAYS = tuple(date(2026, 1, day) for day in (5, 6, 7))


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    """An empty store."""
    return TableStore(tmp_path)


def put(store: TableStore, schema: TableSchema, rows: list[dict[str, Any]]) -> None:
    """Rows of one year of a series; columns that are not given are null."""
    stored.put(store, schema, rows_of(schema, rows), 2026, stage="metrics")


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


def images(markdown: str) -> list[str]:
    """The titles of the pictures in a Markdown text, in order."""
    found = re.findall(r"!\[[^\n]*\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", markdown)
    return [re.findall(r"<text[^>]*>([^<]*)<", base64.b64decode(each).decode())[0] for each in found]


def test_each_of_the_first_symbols_has_a_picture_of_its_own(store: TableStore) -> None:
    """Of the headline series and the longest window; those beyond the first six are named, whatever they are called."""
    symbols = ["!`](x", "B", "C", "D", "E", "F", "`G`", "](H)"]
    rows = [
        {"symbol": symbol, "series": series, "window_sessions": 252, "session_date": day, "iv": 0.2, "status": "short"}
        for symbol in symbols
        for series in ("atm30", "atm30_vendor")
        for day in DAYS
    ]
    put(store, iv_rank.SCHEMA, rows)
    text = pictures.volatility_histories(store)
    assert images(text) == [f"{symbol} implied volatility atm30" for symbol in sorted(symbols)[:6]]
    assert text.splitlines()[-1] == "2 more (\\]\\(H\\), \\`G\\`): docs/python.md draws any."
    assert len(text) < 64 * 1024


def test_put_call_picture_is_of_the_scope_of_the_last_session(store: TableStore) -> None:
    """A symbol whose chains were bounded once and are whole now is drawn whole."""
    rows = [
        {"symbol": "A", "chain_scope": scope, "session_date": day, "put_call_volume_ratio": 0.5, "volume_status": "ok"}
        for scope, day in (("full", DAYS[2]), ("bounded strikes=15", DAYS[0]), ("bounded strikes=15", DAYS[1]))
    ]
    put(
        store,
        put_call_ratio.DAILY_SCHEMA,
        [row | {"snapshot_time": datetime(2026, 1, 7, 21, tzinfo=UTC)} for row in rows],
    )
    assert images(pictures.put_call_histories(store)) == ["A puts per call, full chains"]


def test_maturities_are_of_the_last_session(store: TableStore) -> None:
    """One picture a symbol, of its own last session."""
    rows = [
        {"symbol": symbol, "series": series, "session_date": day, "iv": 0.2, "status": "ok", "flags": ""}
        for symbol, days in (("A", DAYS), ("B", DAYS[:1]))
        for day in days
        for series in ("atm7", "atm30")
    ]
    put(store, iv_history.SCHEMA, rows)
    assert images(pictures.term_structures(store)) == [
        "A volatility by maturity, 2026-01-07",
        "B volatility by maturity, 2026-01-05",
    ]


def test_smiles_are_of_the_last_snapshot(store: TableStore) -> None:
    """Of the session's snapshots the last one is drawn."""
    schema = implied_volatility.SCHEMA
    rows = [
        {
            "option_symbol": f"A     260220C{strike:08}",
            "symbol": "A",
            "option_root": "A",
            "settlement_type": "P",
            "session_date": DAYS[0],
            "snapshot_time": datetime(2026, 1, 5, hour, tzinfo=UTC),
            "option_type": "C",
            "expiration_date": date(2026, 2, 20),
            "strike": float(strike),
            "years": 0.1,
            "forward": 99.0,
            "implied_volatility": 0.2,
            **{f"{side}implied_volatility_status": "ok" for side in ("", "bid_", "ask_")},
            "greeks_status": "ok",
        }
        for hour in (15, 20)
        for strike in (100, 105)
    ]
    stored.put(store, schema, rows_of(schema, rows), DAYS[0], stage="metrics")
    assert images(pictures.smiles(store, DAYS[0])) == ["A volatility smile, 2026-01-05 20:00 UTC"]
    assert pictures.smiles(store, DAYS[1]) == "no value yet"
