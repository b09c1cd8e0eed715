"""The main job as a person starts, repeats, interrupts and misspells it, on the simulator."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pytest

from trade_analyst_pipeline.cli.exclusive import RUN_LOCK, folder_of_its_own, only_run
from trade_analyst_pipeline.cli.summary import QUERY
from trade_analyst_pipeline.errors import AlreadyRunningError
from trade_analyst_pipeline.market.clock import MachineClock
from trade_analyst_pipeline.simulator.instruments import INSTRUMENTS
from trade_analyst_pipeline.storage.archive import Archive

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*currently in beta:Warning"),
    pytest.mark.filterwarnings("ignore:Property `OpDefinition.version`:DeprecationWarning"),  # Dagster's own use
]
RAW = Path("data") / "simulate" / "raw"


class Outcome(Protocol):
    """What a command left behind."""

    code: int
    out: str
    err: str


RunCommand = Callable[..., Outcome]


@pytest.fixture
def own_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with one symbol; what the command sets for Dagster is forgotten again."""
    monkeypatch.setenv("TRADE_ANALYST_UNIVERSE__SYMBOLS", '["AAPL"]')
    monkeypatch.setenv("TRADE_ANALYST_CAPTURE__WORKERS", "1")
    for name in ("DAGSTER_HOME", "DAGSTER_INSTANCE_DIR", "DAGSTER_EVENT_BATCH_SIZE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return project


def words(text: str) -> str:
    """The text of a message without the frame that a terminal draws around it."""
    return " ".join(text.replace("│", " ").split())


def sessions_with(symbol: str) -> list[str]:
    """The sessions in whose chains a symbol is archived."""
    archive = Archive(RAW)
    held = [
        each for each in archive.captures("options") if any(symbol in e.request.symbols for e in archive.index(each))
    ]
    return sorted({each.session_date.isoformat() for each in held})


# -- wrong use -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("own_project")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--assets", "foo/bar"), "no asset 'foo/bar'; choose from raw/options, tables/options,"),
        (("--assets", "raw/quotes, quotes"), "no asset 'quotes'; choose from"),
        (("--from", "2020-01-02", "--to", "2020-02-03"), "sessions before start_date (2025-01-02) have no partition"),
        (("--from", "2026-11-21", "--to", "2026-11-22"), "no session of the exchange from 2026-11-21 to 2026-11-22"),
        (
            ("--to", "2026-11-24"),
            "session 2026-11-24 opens at 09:30 New York (2026-11-24 14:30 UTC), and it is 2026-11-24 03:05",
        ),
        (("--to", "2026-11-25"), "nothing of it can be captured yet"),
    ],
)
def test_what_cannot_be_run_is_refused(
    run_command: RunCommand, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    """Unknown assets, days before the partitions, without a session or not begun: exit 2, the cause, and no work."""
    monkeypatch.setattr(MachineClock, "now", lambda _: datetime(2026, 11, 24, 8, 5, tzinfo=UTC))
    outcome = run_command("run", *arguments)
    assert outcome.code == 2
    assert said in words(outcome.err)
    assert not Path("data").exists()


# -- repeated ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("own_project")
def test_symbols_that_are_wrong_or_new(run_command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    """A symbol nobody knows is told each time and asked for once; one added later gets its history, and alone.

    A capture that is damaged later keeps nothing but itself from being run and summed up, and its file is named.
    """
    dates = ("--from", "2026-11-19", "--to", "2026-11-20")
    monkeypatch.setenv("TRADE_ANALYST_CAPTURE__BARS", '["daily", "minute"]')
    monkeypatch.setenv("TRADE_ANALYST_UNIVERSE__SYMBOLS", '["AAPL", "FOOBAR"]')
    outcome = run_command("run", *dates)
    assert outcome.code == 0, outcome.err
    assert "FOOBAR: the source does not know it; `trade-analyst symbols` says what may be meant" in outcome.err
    before = {name: set(Archive(RAW).captures(name)) for name in ("options", "quotes", "ohlc")}
    monkeypatch.setenv("TRADE_ANALYST_UNIVERSE__SYMBOLS", '["AAPL", "FOOBAR", "MSFT", "AAAIX"]')
    outcome = run_command("run", *dates)
    assert outcome.code == 0, outcome.err
    assert "MSFT: chains of 2 sessions on record are asked for, and nothing else of them" in outcome.err
    assert "FOOBAR: the source does not know it" in outcome.err
    assert "AAAIX" not in outcome.err  # a fund, of which no chains are asked for
    for name, known in before.items():
        archive = Archive(RAW)
        later = [each for each in archive.captures(name) if each not in known]
        answers = [entry for each in later for entry in archive.index(each) if entry.is_answer]
        answered = {symbol for entry in answers for symbol in entry.request.symbols}
        assert answered == ({"MSFT"} if name == "options" else {"MSFT", "AAAIX"}), name
    assert sessions_with("MSFT") == sessions_with("AAPL") == ["2026-11-19", "2026-11-20"]
    assert "over 252 sessions" in outcome.out
    assert "a row is a contract in a snapshot" in outcome.out
    rows = json.loads(run_command("query", QUERY, "--json").out)
    assert [(row["session_date"], row["symbol"]) for row in rows] == [("2026-11-20", "AAPL"), ("2026-11-20", "MSFT")]
    suggested = re.search(r"--output (\S+)", outcome.out)
    assert suggested is not None
    assert suggested[1] == "data/simulate/iv_rank.xlsx"  # .gitignore leaves data/ out
    damaged = Archive(RAW).captures("options")[0].path
    damaged.write_bytes(damaged.read_bytes()[:-40])
    outcome = run_command("run", *dates, "--assets", "tables/options")
    assert outcome.code == 0, outcome.err
    assert "MSFT\t" in outcome.out
    assert f"options of session 2026-11-19 is not counted here: {damaged}: footer: " in outcome.err


def test_the_symbols_of_the_simulator_are_documented(repository: Path) -> None:
    """docs/simulator.md lists every symbol that the simulator knows."""
    text = (repository / "docs" / "simulator.md").read_text(encoding="utf-8")
    assert [symbol for symbol in INSTRUMENTS if f"`{symbol}`" not in text] == []


# -- ended from outside --------------------------------------------------------------------------------------------


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """`trade-analyst run` in a process group of its own, writing to `run.log`, hearing Ctrl-C as in a terminal."""
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from trade_analyst_pipeline.cli.main import main; main(sys.argv[1:])"
    )
    with Path("run.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-c", code, "run", *arguments], stdout=log, stderr=log, start_new_session=True
        )


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 120) -> None:
    """Look again and again until the condition holds."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"{what}: not within {seconds} s\n{Path('run.log').read_text()}"
        time.sleep(0.05)  # between two looks


def children(pid: int) -> list[int]:
    """The processes started by one."""
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def lives(pid: int) -> bool:
    """Whether a process is still there and no mere entry."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def left_open() -> list[Path]:
    """Captures that nobody sealed."""
    return list(RAW.rglob("*.part"))


@pytest.mark.slow
@pytest.mark.reliability
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="NOT RUN: no /proc to find child processes in")
@pytest.mark.usefixtures("own_project")
def test_runs_that_meet_die_or_are_stopped(run_command: RunCommand) -> None:
    """Another run beside one is refused; killed, it takes its simulator along; the next run tidies up and goes on.

    That one is stopped with Ctrl-C: it ends quietly, says how to go on, and leaves nothing half.
    """
    first = start("--from", "2026-06-01", "--to", "2026-11-20")
    try:
        lock = Path("data/simulate") / RUN_LOCK
        wait_until(lambda: lock.exists() and lock.read_text() == f"{first.pid}\n", "the first run has begun")
        outcome = run_command("run")
        assert outcome.code == 1
        assert f"another `trade-analyst run` works on data/simulate (process {first.pid})" in outcome.err
        wait_until(lambda: len(list(RAW.rglob("*.raw"))) > 3, "captures")
        begun = children(first.pid)
        assert begun
    finally:
        first.kill()
        first.wait(10)
    wait_until(lambda: not any(map(lives, begun)), "the simulator ends with its run", seconds=20)
    kept = {path: path.read_bytes() for path in RAW.rglob("*.raw")}
    second = start("--from", "2026-06-01", "--to", "2026-11-20")
    try:
        wait_until(lambda: len(list(RAW.rglob("*.raw"))) > len(kept) + 3, "more captures")
        os.killpg(second.pid, signal.SIGINT)
        assert second.wait(60) == 1
    finally:
        with suppress(ProcessLookupError):
            os.killpg(second.pid, signal.SIGKILL)
    said = Path("run.log").read_text()
    assert "Stopped. What was archived and built until then stands in data/simulate." in said
    assert "Traceback" not in said
    assert [path for path, content in kept.items() if path.read_bytes() != content] == []
    assert left_open() == []
    assert [path.name for path in Path(".cache/runs").iterdir()] == [".lock"]


def test_a_folder_is_removed_with_its_process(tmp_path: Path) -> None:
    """A folder in use is private and stays; one whose process is gone is removed by the next that needs one."""
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "token").touch()
    with folder_of_its_own(tmp_path) as one, folder_of_its_own(tmp_path) as other:
        assert one != other
        assert [folder.stat().st_mode & 0o777 for folder in (one, other)] == [0o700, 0o700]
        assert {path.name for path in tmp_path.iterdir()} == {one.name, other.name, ".lock"}
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_only_one_run_at_a_time(tmp_path: Path) -> None:
    """The second is refused while the first lasts, and let in after it, whoever it was."""
    with only_run(tmp_path), pytest.raises(AlreadyRunningError, match=f"process {os.getpid()}"), only_run(tmp_path):
        pass
    with only_run(tmp_path):
        pass
