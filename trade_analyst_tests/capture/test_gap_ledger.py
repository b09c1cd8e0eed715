"""Captured and gaps are what was expected, of every symbol and day, and each gap has the type of the fault injected."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

import gap_days
import pytest
import virtual_time
from gap_days import FAULTS, FIRST, NEW_YORK, SYMBOLS, Item, Scene, at, is_open, settings_of, ticks_of

from trade_analyst_pipeline.capture.gap_lines import Line, sums
from trade_analyst_pipeline.capture.gaps import Ledger
from trade_analyst_pipeline.capture.planned import KINDS, Plans
from trade_analyst_pipeline.capture.sound import SoundCaptures
from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.storage.archive import Archive

SESSIONS, SESSIONS_IN_FULL = 19, 250
REQUESTS = {"quotes": 1, "options": 2, "ohlc": 2, "expirations": 1, "instruments": 1, "markets": 1}


@dataclass
class Truth:
    """What must stand in the ledger: each item to be had with its type, None for captured, and idle symbols."""

    items: dict[Item, str | None] = field(default_factory=dict)
    idle: dict[tuple[str, date, str], str] = field(default_factory=dict)
    days: list[date] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)


def live(scene: Scene, truth: Truth, sessions: int, seed: int) -> None:
    """Let days pass, each session but those after a change of the plan with one fault in some of its ticks."""
    rng = random.Random(seed)  # noqa: S311
    order: list[str] = []
    day, passed, may_fault = FIRST, 0, False
    while passed < sessions:
        truth.days.append(day)
        if not is_open(day):
            truth.idle |= {(name, day, symbol): "market_closed" for name in DATASETS for symbol in names(name)}
        else:
            if may_fault and not order:
                order = rng.sample(sorted(FAULTS), len(FAULTS))
            fault = order.pop() if may_fault else None
            live_through(scene, truth, day, fault, rng)
            may_fault = fault not in {"removed", "schedule_off"}
            passed += 1
        day += timedelta(days=1)


def names(dataset: str) -> tuple[str, ...]:
    """Whose lines a dataset has."""
    return gap_days.SUBJECTS.get(dataset, SYMBOLS)


def live_through(scene: Scene, truth: Truth, day: date, fault: str | None, rng: random.Random) -> None:
    """One session, and what it must leave."""
    victim = rng.choice(SYMBOLS)
    symbols = tuple(each for each in SYMBOLS if each != victim) if fault == "removed" else SYMBOLS
    kinds = tuple(each for each in KINDS if each != "end_of_day") if fault == "schedule_off" else KINDS
    settings = settings_of(symbols)
    ticks = ticks_of(day)
    first, last = affected(fault, list(ticks.values()), rng)
    if not (fault == "not_running" and first == 0):
        scene.note(at(day, 9, 0), settings, kinds)
    for number, (due, of_tick) in enumerate(ticks.items()):
        now = fault if first <= number <= last else None
        datasets = [name for name in of_tick if not (fault == "schedule_off" and name == "ohlc")]
        if now == "killed":
            kill(scene, due, rng.randint(1, 7))
            datasets.remove("options")
        if now != "not_running":
            scene.tick(due, datasets, settings, now, victim)
        truth.faults[now or "none"] += 1
        for name in datasets if now != "killed" else of_tick:
            watched = [symbol for symbol in of_tick[name] if symbol in symbols or name in gap_days.SUBJECTS]
            truth.items |= {(name, due, symbol): expected_type(now, name, symbol, victim) for symbol in watched}
        if now == "killed":
            scene.stopped |= {("options", due, symbol) for symbol in of_tick["options"]}
    if fault == "removed":
        truth.idle |= {(name, day, victim): "not_scheduled" for name in DATASETS if name not in gap_days.SUBJECTS}
    if fault == "schedule_off":
        truth.idle |= {("ohlc", day, symbol): "not_scheduled" for symbol in SYMBOLS}


def affected(fault: str | None, ticks: list[dict[str, tuple[str, ...]]], rng: random.Random) -> tuple[int, int]:
    """The first and last tick of the day that a fault reaches."""
    if fault in {"no_slot", "killed"}:
        number = rng.choice([number for number, due in enumerate(ticks) if "options" in due][:3])
        return number, number
    if fault == "shut" or (fault == "not_running" and rng.random() < 0.5):
        return 0, len(ticks) - 1
    first, last = sorted(rng.choices(range(len(ticks)), k=2))
    return first, last


def kill(scene: Scene, due: datetime, number: int) -> None:
    """Take the chains of a tick in a process that dies by SIGKILL at one of its eight requests."""
    worker = [sys.executable, gap_days.__file__, str(scene.root), due.isoformat(), str(number)]
    found = {**os.environ, "PYTHONPATH": str(Path(virtual_time.__file__).parent)}
    ended = subprocess.run(worker, check=False, cwd=scene.root, capture_output=True, text=True, env=found)
    assert ended.returncode == -9, ended.stderr


def expected_type(fault: str | None, dataset: str, symbol: str, victim: str) -> str | None:
    """What an item is that met a fault."""
    if fault in {"halted", "empty"}:
        return FAULTS[fault] if dataset == "options" and symbol == victim else None
    if fault == "unknown":
        return "error" if dataset in {"options", "expirations"} and symbol == victim else None
    if fault == "killed":
        return "process_down" if dataset == "options" else None
    if fault == "shut":
        return "market_closed" if dataset in {"options", "ohlc", "movers"} else None
    return FAULTS[fault] if fault in FAULTS and fault not in {"removed", "schedule_off"} else None


def lines_of(ledger: Ledger, truth: Truth) -> list[Line]:
    """The whole ledger."""
    return [line for day in truth.days for dataset in DATASETS for line in ledger.lines(dataset, day)]


@dataclass(frozen=True)
class Verdict:
    """How far a ledger is from the truth."""

    broken_days: int
    gaps: int
    wrong_types: int


def verdict(lines: list[Line], truth: Truth, scene: Scene) -> Verdict:
    """Compare: for every symbol-day the items are those expected, each once; of captured ones every request came."""
    told = Counter((line.dataset, line.scheduled_time, line.symbol) for line in lines if line.scheduled_time)
    broken = {(day_of(due), symbol) for _, due, symbol in told.keys() ^ truth.items.keys() if due}
    broken |= {(day_of(due), symbol) for (_, due, symbol), count in told.items() if count != 1 and due}
    gaps = wrong = 0
    for line in lines:
        if line.scheduled_time is None:
            gaps += 1
            wrong += truth.idle.get((line.dataset, line.session_date, line.symbol)) != line.type
            continue
        item = (line.dataset, line.scheduled_time, line.symbol)
        right, is_open_end = truth.items.get(item), item in scene.stopped
        if (line.type is None) == (line.missing > 0):
            broken.add((line.session_date, line.symbol))
        if line.type is None and not is_open_end:
            came = scene.answered[item]
            is_whole = line.answered == came == REQUESTS.get(line.dataset, came)
            broken |= set() if is_whole else {(line.session_date, line.symbol)}
        if (line.type is None) != (right is None) and not (is_open_end and line.type is None):
            broken.add((line.session_date, line.symbol))
        elif line.type is not None:
            gaps += 1
            wrong += right != line.type
    idle = {(line.dataset, line.session_date, line.symbol) for line in lines if line.scheduled_time is None}
    broken |= {(day, symbol) for _, day, symbol in idle ^ truth.idle.keys()}
    return Verdict(len(broken), gaps, wrong)


def day_of(instant: datetime) -> date:
    """The day in New York."""
    return instant.astimezone(NEW_YORK).date()


def plans_in(folder: Path) -> Plans:
    """The plans of another archive."""
    return Plans(SoundCaptures(Archive(folder)))


@pytest.mark.reliability
def test_every_symbol_and_day_adds_up(tmp_path: Path, harness_seed: int, *, is_full: bool) -> None:
    """Sixteen kinds of faults: the identity holds everywhere, types are right, later settings change nothing.

    A ledger that knows of nothing but captures, and one that holds the settings of today against each day, are caught.
    """
    scene, truth = Scene(tmp_path), Truth()
    live(scene, truth, SESSIONS_IN_FULL if is_full else SESSIONS, harness_seed)
    end = at(truth.days[-1] + timedelta(days=1), 12, 0)

    def judged(plans: Plans | None = None) -> Verdict:
        ledger = Ledger(scene.archive, now=end, goes_back=False)
        ledger.plans = plans or ledger.plans
        return verdict(lines_of(ledger, truth), truth, scene)

    found = judged()
    print(f"{len(truth.days)} days, faults by ticks {dict(truth.faults)}: {found} of {len(truth.items)} items")
    assert found.broken_days == 0
    assert found.wrong_types <= found.gaps / 100
    assert set(truth.faults) | {"removed", "schedule_off"} >= set(FAULTS)

    before = lines_of(Ledger(scene.archive, now=end, goes_back=False), truth)
    assert sums(before).adds_up
    scene.note(end, settings_of(("AAPL", "XOM")), ("closing",))
    assert lines_of(Ledger(scene.archive, now=end, goes_back=False), truth) == before

    assert judged(plans_in(tmp_path / "none")).broken_days > 0
    today = Scene(tmp_path / "today")
    today.note(at(FIRST, 0, 0), settings_of(("AAPL", "XOM")), ("closing",))
    assert judged(plans_in(tmp_path / "today" / "raw")).broken_days > 0
