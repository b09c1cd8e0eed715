"""Small tables, responses and stores for the storage tests."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from trade_analyst_pipeline.market.columns import Column, TableSchema
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.tables import Manifest, TableStore

DAY = date(2026, 1, 5)
MOMENT = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)
COLUMNS = {
    "contract": pl.String(),
    "seen_time": pl.Datetime("us", "UTC"),
    "price": pl.Float64(),
    "size": pl.Int64(),
    "open": pl.Boolean(),
    "day": pl.Date(),
    "broken_rules": pl.List(pl.String()),
}


@pytest.fixture
def schema() -> TableSchema:
    """A table with a column of each kind, keyed by contract and time."""
    columns = tuple(Column(name, dtype, None, "for tests") for name, dtype in COLUMNS.items())
    return TableSchema("samples", "1.0", ("contract", "seen_time"), columns, frozenset({"contract", "seen_time"}))


@pytest.fixture
def frame() -> pl.DataFrame:
    """Three rows of it, with nulls, in key order."""
    return pl.DataFrame(
        {
            "contract": ["A", "A", "B"],
            "seen_time": [MOMENT, MOMENT.replace(minute=56), MOMENT],
            "price": [1.5, None, 0.0],
            "size": [3, 4, None],
            "open": [True, None, False],
            "day": [DAY, DAY, None],
            "broken_rules": [["x", "y"], [], None],
        },
        schema=COLUMNS,
    )


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    """A store in an empty folder."""
    return TableStore(tmp_path / "data")


@pytest.fixture
def put(store: TableStore, schema: TableSchema) -> Callable[..., Manifest]:
    """Write a frame to a partition the ordinary way: take a fence, then write."""

    def write(frame: pl.DataFrame, partition: date | int = DAY, **changes: object) -> Manifest:
        values: dict[str, object] = {
            "schema": schema,
            "source_captures": ("c1",),
            "code_version": "0.1.0",
            "created_time": MOMENT,
            "stage": "tables",
        } | changes
        stage = str(values.pop("stage"))
        if "fence" not in values:
            values["fence"] = store.take_fence(stage, values["schema"].name, partition)
        return store.write(stage, frame, partition=partition, **values)

    return write


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """An empty archive."""
    return Archive(tmp_path / "raw")


@pytest.fixture
def response() -> Callable[..., RawResponse]:
    """A response of the options dataset with the given body."""

    def make(body: bytes = b'{"symbol":"AAPL"}', symbol: str = "AAPL") -> RawResponse:
        request = MarketDataRequest("options", "/chains", (("symbol", symbol), ("strikeCount", "15")), (symbol,))
        headers = (("content-type", "application/json"), ("schwab-client-correlid", "é-1"))
        return RawResponse(request, 200, body, headers, MOMENT, MOMENT.replace(second=2, microsecond=123456), 2)

    return make


@pytest.fixture
def run_harness() -> Callable[..., str]:
    """Run a script of this folder in a fresh interpreter and return what it printed; it must exit with 0."""

    def run(script: str, *arguments: object) -> str:
        command = [sys.executable, str(Path(__file__).parent / script), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
