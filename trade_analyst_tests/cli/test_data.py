"""The commands over the data folder: what they print, write and refuse."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trade_analyst_pipeline.cli import data
from trade_analyst_pipeline.lineage.built import Built

PAYLOADS = Path(__file__).resolve().parents[1] / "payloads"
CAPTURED = ("--captured-at", "2026-01-05T20:55:00Z")
DAY = date(2026, 1, 5)
BEFORE, ARRIVED = "2026-01-05T20:54:59.999999Z", "2026-01-05T20:55:00Z"


@pytest.mark.usefixtures("project")
def test_chain_offered_as_quotes_leaves_nothing_to_rebuild(run_command: Callable[..., Any]) -> None:
    """The import is refused with exit code 1, and `rebuild` then has nothing that fails."""
    refused = run_command("import", str(PAYLOADS / "options/chain.json"), "--dataset", "quotes", *CAPTURED)
    assert (refused.code, refused.out) == (1, "")
    assert "Is it of options? Then say --dataset options." in refused.err
    assert run_command("rebuild", "--workers", "1").code == 0


@pytest.mark.usefixtures("project")
def test_rebuild_names_what_could_not_be_used(run_command: Callable[..., Any]) -> None:
    """A symbol that the source did not know is listed below the line of its session, which is built all the same."""
    assert run_command("import", str(PAYLOADS / "quotes/several.json"), "--dataset", "quotes", *CAPTURED).code == 0
    rebuilt = run_command("rebuild", "--workers", "1")
    assert rebuilt.code == 0
    lines = rebuilt.out.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("quotes 2026-01-05: built"))
    assert lines[place + 1].startswith("  unknown_symbol (NOPE): ")


@pytest.mark.usefixtures("project")
def test_rebuild_makes_the_exports_again(run_command: Callable[..., Any]) -> None:
    """Those of the latest session and of each that has a folder; made once, nothing is written a second time."""
    chain = str(PAYLOADS / "options/chain.json")
    for day in (5, 6, 7):
        instant = f"2026-01-0{day}T20:55:00Z"
        assert run_command("import", chain, "--dataset", "options", "--captured-at", instant).code == 0
    folder = Path("data/simulate/exports/metrics")
    rebuilt = run_command("rebuild", "--workers", "1")
    assert rebuilt.out.splitlines()[-1] == "exports/metrics: 1 sessions, the last 2026-01-07"
    made = {path: path.read_bytes() for path in folder.rglob("*.*")}
    assert folder / "session_date=2026-01-07" / "manifest.json" in made
    assert folder / "session_date=2026-01-07" / "put_call_ratio.parquet" in made
    shutil.rmtree(folder)
    (folder / "session_date=2026-01-05").mkdir(parents=True)
    rebuilt = run_command("rebuild", "--workers", "1")
    assert rebuilt.out.splitlines()[-1] == "exports/metrics: 2 sessions, the last 2026-01-07"
    sessions = [pl.read_parquet(each)["session_date"].unique().to_list() for each in folder.rglob("put_call_ratio.*et")]
    assert sorted(sessions) == [[DAY], [date(2026, 1, 7)]]
    manifests = {path: path.stat().st_mtime_ns for path in folder.rglob("manifest.json")}
    assert run_command("rebuild", "--workers", "1").code == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("manifest.json")} == manifests


def test_problems_of_a_session_are_said_once_and_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    """What is part of the detail is not repeated, and of many problems the first five are listed."""
    problems = ("it broke", *(f"problem {number}" for number in range(7)))
    data._show_result(Built("quotes", DAY, "failed", detail="capture x: it broke", problems=problems))
    assert capsys.readouterr().out.splitlines() == [
        "quotes 2026-01-05: failed, 0 rows, 0 quarantined. capture x: it broke",
        *(f"  problem {number}" for number in range(5)),
        "  and 2 more problems",
    ]


@pytest.fixture
def with_quotes(project: Path, run_command: Callable[..., Any]) -> Path:
    """A project whose one table, quotes, has the session 2026-01-05."""
    assert run_command("import", str(PAYLOADS / "quotes/several.json"), "--dataset", "quotes", *CAPTURED).code == 0
    assert run_command("rebuild", "--workers", "1").code == 0
    return project


def test_export_writes_the_sessions_asked_for(with_quotes: Path, run_command: Callable[..., Any]) -> None:
    """Bounds are inclusive, and the path written is printed."""
    for bounds in (
        (),
        ("--from", "2026-01-05"),
        ("--to", "2026-01-05"),
        ("--from", "2025-01-01", "--to", "2026-12-31"),
    ):
        done = run_command("export", "tables.quotes", "--format", "parquet", *bounds)
        assert (done.code, done.out) == (0, "tables.quotes.parquet\n")
        assert set(pl.read_parquet(with_quotes / "tables.quotes.parquet")["session_date"]) == {DAY}


@pytest.mark.usefixtures("with_quotes")
def test_reads_as_of_an_instant_end_with_it(run_command: Callable[..., Any]) -> None:
    """Quotes that arrived at 20:55 are known from that instant on, in another zone too, to `query` and `export`."""
    count = ("query", "select count(*)::int as n from quotes", "--json")
    known = {
        at: json.loads(run_command(*count, "--as-of", at).out) for at in (BEFORE, ARRIVED, "2026-01-05T15:55-05:00")
    }
    stored = json.loads(run_command(*count).out)
    assert list(known.values()) == [[{"n": 0}], stored, stored]
    assert stored[0]["n"] > 0
    done = run_command("export", "tables.quotes", "--format", "parquet", "--as-of", ARRIVED)
    assert (done.code, pl.read_parquet("tables.quotes.parquet").height) == (0, stored[0]["n"])


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("instant", ["2026-01-05", "2026-01-05T20:55:00", "yesterday"])
def test_an_instant_needs_its_time_zone(run_command: Callable[..., Any], instant: str) -> None:
    """Wrong use, named by its option, rather than an instant of the machine's own zone."""
    for command in (("query", "select 1"), ("export", "tables.quotes", "--format", "csv")):
        refused = run_command(*command, "--as-of", instant)
        assert (refused.code, refused.out) == (2, "")
        assert "--as-of" in refused.err
        assert "time zone" in refused.err


@pytest.mark.usefixtures("with_quotes")
@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (
            ("tables.quotes", "--as-of", "2026-01-05T20:54:59Z"),
            1,
            "tables.quotes as of 2026-01-05T20:54:59Z has no rows",
        ),
        (
            ("tables.quotes", "--from", "2026-01-06"),
            1,
            "tables.quotes has no rows of sessions from 2026-01-06 to the last",
        ),
        (("tables.quotes", "--to", "2026-01-04"), 1, "nothing was written; it has 2026-01-05 to 2026-01-05"),
        (("tables.options",), 1, "tables.options has no rows, so nothing was written; `trade-analyst run`"),
        (("tables.quotes", "--from", "2026-01-06", "--to", "2026-01-05"), 2, "2026-01-06 is after 2026-01-05"),
        (("tables.quotes", "--output", "data"), 1, "data is a folder; name the file to write, such as data/table.csv"),
        (("tables.nonsense",), 1, "there is no table 'tables.nonsense'"),
    ],
)
def test_export_of_nothing_is_no_success(
    run_command: Callable[..., Any], arguments: tuple[str, ...], code: int, problem: str
) -> None:
    """Without a row, or with a folder for a file, the command says so, writes nothing and does not exit with 0."""
    refused = run_command("export", *arguments, "--format", "csv")
    assert (refused.code, refused.out) == (code, "")
    assert problem in refused.err
    assert not list(Path().glob("*.csv"))


@pytest.mark.usefixtures("project")
def test_query_answers_in_json_that_any_program_reads(run_command: Callable[..., Any]) -> None:
    """NaN and the infinities are null, also inside lists and structures; other values stay."""
    sql = "select 'nan'::double a, ['inf'::double, 1.5] b, {'x': '-inf'::double, 'y': 2} c, null d, 'NaN' e"
    answered = run_command("query", sql, "--json")

    def refuse(word: str) -> None:
        raise AssertionError(word)

    (row,) = json.loads(answered.out, parse_constant=refuse)
    assert row == {"a": None, "b": [None, 1.5], "c": {"x": None, "y": 2}, "d": None, "e": "NaN"}


@pytest.mark.usefixtures("project")
def test_query_says_when_rows_were_left_out(run_command: Callable[..., Any]) -> None:
    """The bound of 1,000 rows, or the one given, is told on standard error when it cuts."""
    whole = run_command("query", "select * from range(1000)")
    assert (len(whole.out.splitlines()), whole.err) == (1001, "")
    cut = run_command("query", "select * from range(1001)")
    assert (len(cut.out.splitlines()), cut.err) == (1001, "There are more rows; shown are the first 1,000 (--limit).\n")


@pytest.mark.usefixtures("project")
def test_ctrl_c_ends_a_long_query_at_once_and_quietly() -> None:
    """A query that would take hours ends within seconds of an interrupt, without a word."""
    sql = "select count(*) from range(3000000) a, range(3000000) b where a.range + b.range > 3"
    code = "from trade_analyst_pipeline.storage import catalogue\n"
    code += "known = catalogue.query\n"
    code += "def told(*args, **options):\n    print('asked', flush=True)\n    return known(*args, **options)\n"
    code += "catalogue.query = told\n"
    code += f"from trade_analyst_pipeline.cli.main import main\nmain(['query', {sql!r}])\n"
    running = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert running.stdout is not None
    assert running.stdout.readline() == b"asked\n"
    os.killpg(running.pid, signal.SIGINT)
    started = time.monotonic()
    _, said = running.communicate(timeout=60)
    assert time.monotonic() - started < 10
    assert (running.returncode, said) == (-signal.SIGINT, b"")


def test_rebuild_says_what_it_would_make_and_makes_that(with_quotes: Path, run_command: Callable[..., Any]) -> None:
    """What is current is left; a new capture and damage are named as reasons, made anew, and gone afterwards."""
    assert run_command("rebuild", "--dry-run").out == "all is current\n"
    assert "tables/quotes: 1 sessions are current" in run_command("rebuild", "--workers", "1").out
    chain = str(PAYLOADS / "options/chain.json")
    for minute in (50, 55):
        instant = f"2026-01-05T20:{minute}:00Z"
        assert run_command("import", chain, "--dataset", "options", "--captured-at", instant).code == 0
    (file,) = with_quotes.glob("data/simulate/tables/quotes/*/*.parquet")
    file.write_bytes(file.read_bytes()[:-1])
    told = run_command("rebuild", "--dry-run").out.splitlines()
    assert told[0] == "tables/options 2026-01-05: not made yet"
    assert told[1].startswith("tables/quotes 2026-01-05: ")
    assert f"{file.name} has " in told[1]
    follows = "made again if the rows change of"
    assert told[2:] == [
        f"metrics/put_call_ratio 2026-01-05: {follows} tables/options 2026-01-05",
        f"metrics/forward 2026-01-05: {follows} tables/options 2026-01-05",
        (
            f"metrics/implied_volatility 2026-01-05: {follows} tables/options 2026-01-05; "
            f"{follows} metrics/forward 2026-01-05"
        ),
        (
            f"metrics/term_structure 2026-01-05: {follows} tables/options 2026-01-05; "
            f"{follows} metrics/forward 2026-01-05; {follows} metrics/implied_volatility 2026-01-05"
        ),
        (
            f"metrics/surface_check 2026-01-05: {follows} tables/options 2026-01-05; "
            f"{follows} metrics/forward 2026-01-05; {follows} metrics/implied_volatility 2026-01-05"
        ),
        (
            f"metrics/exposure 2026-01-05: {follows} tables/options 2026-01-05; "
            f"{follows} metrics/implied_volatility 2026-01-05"
        ),
        f"metrics/iv_history 2026: {follows} tables/options 2026-01-05",
        f"metrics/iv_rank 2026: {follows} metrics/iv_history 2026",
        f"metrics/put_call_ratio_daily 2026: {follows} metrics/put_call_ratio 2026-01-05",
    ]
    as_json = json.loads(run_command("rebuild", "--dry-run", "--json").out)
    assert as_json[0] == {"table": "tables/options", "partition": "2026-01-05", "reasons": ["not made yet"]}
    rebuilt = run_command("rebuild", "--workers", "1")
    assert rebuilt.code == 0
    assert "quotes 2026-01-05: built" in rebuilt.out
    assert run_command("rebuild", "--dry-run", "--json").out == "[]\n"


@pytest.mark.usefixtures("with_quotes")
def test_rebuild_full_makes_what_is_current(run_command: Callable[..., Any]) -> None:
    """With --full nothing is left, and there is nothing to find out."""
    assert "quotes 2026-01-05: built" in run_command("rebuild", "--full", "--workers", "1").out
    refused = run_command("rebuild", "--full", "--dry-run")
    assert refused.code == 2
    assert "--full makes all anew" in refused.err
