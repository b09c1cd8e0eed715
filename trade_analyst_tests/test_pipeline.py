"""The main job as a user runs it: simulator to SQL through Dagster, in processes of its own."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from trade_analyst_pipeline.lineage.schemas import table_schemas
from trade_analyst_pipeline.lineage.tracing import trace
from trade_analyst_pipeline.market.sessions import sessions_ending
from trade_analyst_pipeline.storage.tables import TableStore

TABLES = [
    *(("tables", name) for name in ("options", "quotes", "ohlc", "expirations", "markets", "instruments", "movers")),
    *(("metrics", name) for name in ("put_call_ratio", "put_call_ratio_daily", "iv_history", "iv_rank")),
    ("metrics", "realized_volatility"),
]
LAST = date(2026, 11, 20)


def _command(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"TRADE_ANALYST_UNIVERSE__SYMBOLS": '["AAPL", "SPY"]'}
    finished = subprocess.run(
        [sys.executable, "-m", "trade_analyst_pipeline.cli.main", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    return finished.stdout


def _hashes(folder: Path) -> dict[str, str]:
    store = TableStore(folder / "data" / "simulate")
    return {f"{stage}/{name}": store.combined_hash(stage, name) for stage, name in TABLES}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder in which the main job has run for three sessions."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("config.toml", "dagster.yaml", "workspace.yaml"):
        shutil.copy(Path(__file__).resolve().parents[1] / name, folder / name)
    first = sessions_ending(LAST, 3)[0]
    shown = _command(folder, "run", "--from", first.isoformat(), "--to", LAST.isoformat())
    assert "(a row is a contract in a snapshot) in 3 sessions" in shown
    return folder


def test_every_session_is_in_the_tables_and_sql_answers(project: Path) -> None:
    """Three sessions of both symbols have chains, volatilities and ratios, and SQL over them answers."""
    sql = "select symbol, count(*) as sessions from metrics.iv_history where iv is not null group by symbol order by 1"
    rows = json.loads(_command(project, "query", sql, "--json"))
    assert rows == [{"symbol": "AAPL", "sessions": 3}, {"symbol": "SPY", "sessions": 3}]
    _command(project, "export", "metrics.iv_rank", "--format", "csv", "--output", "rank.csv")
    assert (project / "rank.csv").read_text().startswith("symbol,series,")


def test_random_values_are_traced_and_made_again(project: Path, harness_seed: int, is_full: bool) -> None:
    """Random values of every table and metric equal what the bytes they came from give: 1,000 in the full form."""
    root, source = project / "data" / "simulate", random.Random(harness_seed)  # noqa: S311  not for secrets
    schemas, store = table_schemas(), TableStore(root)
    rows = {".".join(table): _rows_of(store, *table) for table in TABLES}
    wrong = []
    for number in range(1_000 if is_full else 96):
        table = ".".join(TABLES[number % len(TABLES)])
        row = source.choice(rows[table])
        column = source.choice(schemas[table].names)
        found = trace(root, table, row, column=column)
        wrong += [] if found.is_equal and found.records else [(table, row, column, found.verdict)]
    assert wrong == []


def _rows_of(store: TableStore, stage: str, name: str) -> list[dict[str, Any]]:
    """What names each row of a table."""
    schema = table_schemas()[f"{stage}.{name}"]
    return store.scan(stage, name, schema=schema).select({*schema.key, "session_date"}).collect().rows(named=True)


def test_rebuild_gives_the_same_content(project: Path) -> None:
    """With tables and metrics deleted, rebuilding from the archive with another number of workers equals the run."""
    before = _hashes(project)
    for stage in ("tables", "metrics"):
        shutil.rmtree(project / "data" / "simulate" / stage)
    assert _hashes(project) != before
    _command(project, "rebuild", "--workers", "1")
    assert _hashes(project) == before


def test_recordings_are_imported_once(project: Path) -> None:
    """A body imported twice for the same time is one capture, filed under the session of that time."""
    body = project / "quotes.json"
    body.write_bytes((Path(__file__).parent / "payloads" / "quotes" / "several.json").read_bytes())
    arguments = ("import", str(body), "--dataset", "quotes", "--captured-at", "2026-01-05T20:55:00Z")
    assert "session 2026-01-05" in _command(project, *arguments)
    _command(project, *arguments)
    folder = project / "data" / "simulate" / "raw" / "quotes" / "session_date=2026-01-05"
    assert len(list(folder.glob("*.raw"))) == 1
