"""The main job as a user runs it: simulator to SQL through Dagster, in processes of its own."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal

from trade_analyst_pipeline.capture.planned import note_plan, plan_of
from trade_analyst_pipeline.lineage.point_in_time import read_as_of
from trade_analyst_pipeline.lineage.schemas import table_schemas
from trade_analyst_pipeline.lineage.traces import SourceRecord
from trade_analyst_pipeline.lineage.tracing import trace
from trade_analyst_pipeline.market.sessions import sessions_ending
from trade_analyst_pipeline.settings import load_settings
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.catalogue import query
from trade_analyst_pipeline.storage.tables import TableStore

TABLES = [
    *(("tables", name) for name in ("options", "quotes", "ohlc", "expirations", "markets", "instruments", "movers")),
    *(
        ("metrics", name)
        for name in ("forward", "implied_volatility", "put_call_ratio", "put_call_ratio_daily", "iv_history", "iv_rank")
    ),
    *(("metrics", name) for name in ("realized_volatility", "volatility_index", "surface_check")),
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
    sql = (
        "select symbol, count(*) as sessions from metrics.iv_history "
        "where series = 'atm30' and iv is not null group by symbol order by 1"
    )
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


def test_an_archive_moved_to_another_machine_gives_the_same(project: Path, tmp_path: Path) -> None:
    """Sent through a pipe and rebuilt there: equal hashes, gaps, as-of answers and traces, and all is well."""
    record_a_plan(project)
    for name in ("config.toml", "dagster.yaml"):
        shutil.copy(project / name, tmp_path / name)
    send, take = (
        [sys.executable, "-m", "trade_analyst_pipeline.cli.main", "archive", *words]
        for words in (("export", "-"), ("import", "-", "--json"))
    )
    with subprocess.Popen(send, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as sender:
        taken = subprocess.run(take, cwd=tmp_path, stdin=sender.stdout, capture_output=True, check=True, timeout=240)
        assert sender.wait(60) == 0, sender.stderr
    told = json.loads(taken.stdout)
    assert (told["held"], told["problems"]) == (0, [])
    assert told["copied"] == len(list((project / "data/simulate/raw").rglob("*.raw"))) > 10
    _command(tmp_path, "rebuild", "--workers", "1")
    assert _hashes(tmp_path) == _hashes(project)
    assert "all well" in _command(tmp_path, "verify", "--against-sources")
    assert _gaps(tmp_path) == _gaps(project)
    roots = [folder / "data" / "simulate" for folder in (project, tmp_path)]
    for root in roots:
        row = _rows_of(TableStore(root), "metrics", "iv_rank")[0]
        assert trace(root, "metrics.iv_rank", row).is_equal
    here, there = ([_below(root, each) for each in trace(root, "metrics.iv_rank", row).records] for root in roots)
    assert here == there
    instant = datetime(2026, 11, 19, 20, 50, tzinfo=UTC)
    for table in ("tables.options", "metrics.iv_history"):
        here, there = (read_as_of(root, table, instant).collect() for root in roots)
        assert here.height > 0
        assert_frame_equal(here, there, check_row_order=False)


def _below(root: Path, record: SourceRecord) -> SourceRecord:
    """A record with its file below the data folder."""
    return replace(record, file=Path(record.file).relative_to(root.resolve()).as_posix())


def record_a_plan(project: Path) -> None:
    """Put on record what the settings of the project plan, from before the first session on."""
    with contextlib.chdir(project):
        settings = load_settings()
    since = datetime(2026, 11, 17, tzinfo=UTC)
    archive = Archive(project / "data" / "simulate" / "raw")
    assert note_plan(plan_of(settings, ("closing", "end_of_day"), since), archive)


def _gaps(folder: Path) -> Any:
    """The whole ledger of gaps of the sessions run; some symbols of the settings were not asked for."""
    command = [sys.executable, "-m", "trade_analyst_pipeline.cli.main", "gaps", "--json"]
    days = ["--from", "2026-11-17", "--to", LAST.isoformat()]
    shown = subprocess.run([*command, *days], cwd=folder, capture_output=True, check=False, timeout=240)
    found = json.loads(shown.stdout)
    assert found["sums"]
    assert {line["type"] for line in found["lines"]} >= {"process_down"}
    return found


def test_every_statement_of_the_cookbook_answers(project: Path) -> None:
    """Each of the ten questions has rows for an answer, and there is nothing in quarantine."""
    page = (Path(__file__).resolve().parents[1] / "docs" / "cookbook.md").read_text(encoding="utf-8")
    answers = {
        title: [query(project / "data" / "simulate", sql, declared=table_schemas()).frame.height for sql in found]
        for title, text in re.findall(r"^## (\d+)\. .*?$(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL)
        if (found := re.findall(r"```sql\n(.*?)```", text, flags=re.DOTALL))
    }
    assert list(answers) == [str(number) for number in (*range(1, 9), 10)]
    assert all(rows > 0 for number in range(1, 9) for rows in answers[str(number)])
    assert answers["10"] == [0]
    (asked,) = re.findall(r"query --as-of (\S+) (\".*?\")", page)
    assert "SELECT symbol" in asked[1]
    shown = _command(project, "query", "--as-of", asked[0], asked[1].strip('"'))
    assert "atm30" in shown


def test_recordings_are_imported_once(project: Path) -> None:
    """A body imported twice for the same time is one capture, filed under the session of that time."""
    body = project / "quotes.json"
    body.write_bytes((Path(__file__).parent / "payloads" / "quotes" / "several.json").read_bytes())
    arguments = ("import", str(body), "--dataset", "quotes", "--captured-at", "2026-01-05T20:55:00Z")
    assert "session 2026-01-05" in _command(project, *arguments)
    _command(project, *arguments)
    folder = project / "data" / "simulate" / "raw" / "quotes" / "session_date=2026-01-05"
    assert len(list(folder.glob("*.raw"))) == 1
