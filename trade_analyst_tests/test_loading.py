"""Loading rows for notebooks and scripts: by name, symbols, sessions and instant."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from stored import put, rows_of

from trade_analyst_pipeline import load
from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.errors import LoadError, PointInTimeError
from trade_analyst_pipeline.storage.tables import TableStore

SCHEMA = DATASETS["ohlc"].schema
DAYS = [date(2026, 1, day) for day in (5, 6, 7)]
KNOWN = datetime(2026, 1, 8, tzinfo=UTC)
CORRECTED = KNOWN + timedelta(days=1)


def bar(symbol: str, day: date, known_time: datetime = KNOWN, close: float = 100.0) -> dict[str, Any]:
    """A daily bar."""
    start = datetime(day.year, day.month, day.day, 14, 30, tzinfo=UTC)
    return {
        "symbol": symbol,
        "frequency": "daily",
        "bar_time": start,
        "known_time": known_time,
        "session_date": day,
        **dict.fromkeys(("open", "high", "low", "close"), close),
        "volume": 1,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bars of two symbols in three sessions, one of them corrected later."""
    folder = tmp_path_factory.mktemp("data")
    store = TableStore(folder)
    for day in DAYS:
        rows = [bar("SPY", day), bar("AAPL", day)]
        if day == DAYS[0]:
            rows.append(bar("AAPL", day, CORRECTED, 101.0))
        put(store, SCHEMA, rows_of(SCHEMA, rows), day)
    return folder


def loaded(folder: Path, table: str = "ohlc", **choice: Any) -> list[tuple[str, date, float]]:
    """Symbol, session and close of the rows loaded."""
    return load(table, data_folder=folder, **choice).select("symbol", "session_date", "close").rows()


def test_all_rows_come_in_the_order_of_the_key(folder: Path) -> None:
    """Without a choice every row of every session is there, sorted, under either name."""
    expected = [("AAPL", DAYS[0], 100.0), ("AAPL", DAYS[0], 101.0)]
    expected += [(symbol, day, 100.0) for symbol in ("AAPL", "SPY") for day in DAYS][1:]
    assert loaded(folder) == loaded(folder, "tables.ohlc") == expected
    assert load("ohlc", data_folder=folder).columns == list(SCHEMA.names)


@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        ({"symbols": "SPY"}, lambda symbol, _: symbol == "SPY"),
        ({"symbols": ["SPY", "AAPL"]}, lambda *_: True),
        ({"symbols": []}, lambda *_: False),
        ({"first": DAYS[1]}, lambda _, day: day >= DAYS[1]),
        ({"last": DAYS[1]}, lambda _, day: day <= DAYS[1]),
        (
            {"first": DAYS[1], "last": DAYS[1], "symbols": ("AAPL",)},
            lambda symbol, day: (symbol, day) == ("AAPL", DAYS[1]),
        ),
        ({"first": date(2027, 1, 1)}, lambda *_: False),
    ],
    ids=["one symbol", "several", "none", "from", "to", "both", "later than all"],
)
def test_a_choice_leaves_exactly_its_rows(
    folder: Path, choice: dict[str, Any], kept: Callable[[str, date], bool]
) -> None:
    """Symbols and both bounds of sessions, which are inclusive, choose among all rows."""
    assert loaded(folder, **choice) == [row for row in loaded(folder) if kept(row[0], row[1])]


def test_rows_as_of_an_instant(folder: Path) -> None:
    """A correction is there from the instant it was known on, in place of what it corrects."""
    before = [(symbol, day, 100.0) for symbol in ("AAPL", "SPY") for day in DAYS]
    assert loaded(folder, as_of=CORRECTED - timedelta(microseconds=1)) == before
    assert loaded(folder, as_of=CORRECTED) == [("AAPL", DAYS[0], 101.0), *before[1:]]
    assert loaded(folder, as_of=KNOWN - timedelta(microseconds=1)) == []
    with pytest.raises(PointInTimeError, match="time zone"):
        load("ohlc", data_folder=folder, as_of=datetime(2026, 1, 8))  # noqa: DTZ001  that is what is refused


def test_what_there_is_not_is_named(folder: Path) -> None:
    """An unknown table or symbol is an error that says what there is; a table without rows is none."""
    with pytest.raises(LoadError, match=r"no table 'iv_histroy'.*metrics\.iv_history"):
        load("iv_histroy", data_folder=folder)
    with pytest.raises(LoadError, match=r"tables\.ohlc has no rows of the symbol 'APPL'; is it AAPL\?"):
        load("ohlc", data_folder=folder, symbols="APPL")
    with pytest.raises(LoadError, match=r"tables\.markets has no symbols"):
        load("markets", data_folder=folder, symbols="AAPL")
    assert load("iv_history", data_folder=folder).is_empty()


def test_the_package_itself_imports_nothing() -> None:
    """Commands start without Polars: only asking for `load` imports it."""
    loaded_now = "'polars' in sys.modules"
    code = f"import sys, trade_analyst_pipeline as p; assert not {loaded_now}; p.load; assert {loaded_now}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        __import__("trade_analyst_pipeline").lode  # noqa: B018  the attribute is what is asked for
