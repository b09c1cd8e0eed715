"""The collector against the simulator's streamer in virtual time: what is sent is kept, or is a gap."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from streamed import MIDDAY, Streamed, collected

from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.streamer_desk import StreamerDesk, StreamRules
from trade_analyst_pipeline.simulator.tape import Tape


@pytest.fixture(scope="session")
def tape() -> Tape:
    """One tape for all, whose updates are made once."""
    return Tape(Market(seed=20250185))


@pytest.fixture
def desk(tape: Tape) -> StreamerDesk:
    """A streamer that keeps a record."""
    return StreamerDesk(tape, lambda token: token.strip() == "good-token", StreamRules(keeps_record=True))


def test_an_undisturbed_stream_is_kept_whole(tmp_path: Path, desk: StreamerDesk) -> None:
    """Every item sent, once, and no gap but the time before the collector ran."""
    found = collected(tmp_path, desk, duration=150.0)
    sent = [item for each in found.sent if each.kind == "data" for item in each.items]
    assert sum(found.delivered().values()) == len(sent) > 100
    assert [gap.reason for gap in found.gaps if gap.service != "CHART_EQUITY"] == ["not_running"]


ENDS = ("close-normal", "close-going-away", "close-policy", "close-error", "close-restart", "reset", "end", "cut-frame")
FAULTS: dict[str, dict[str, Any]] = {
    **{name: {"skip": 40, "times": 3} for name in ENDS},
    "stop-streaming": {"skip": 40},
    "connection-limit": {"skip": 40},
    "mute": {"skip": 40, "seconds": 60.0},
    "mute-data": {"skip": 40, "seconds": 60.0},
    "stall": {"skip": 40, "seconds": 20.0},
    "drip": {"skip": 40},
    "fragments": {"skip": 40},
    "repeated-frame": {"skip": 40, "times": 5},
    "late-frame": {"skip": 40, "times": 5},
    "cut-json": {"skip": 40},
    "bad-utf8": {"skip": 40},
    "giant": {"skip": 40},
    "late-answer": {"path": "*/SUBS", "seconds": 4.0},
    "no-answer": {"path": "*/SUBS"},
    "login-denied": {"path": "ADMIN/LOGIN"},
    "lost-frame": {"path": "CHART_EQUITY", "skip": 1},
    "refused": {"path": "*/SUBS"},
}
"""25 faults, and when they strike; left out of the quick form are those that repeat another's way of ending."""

_LEFT_OUT = ("close-going-away", "close-policy", "close-restart", "end", "late-answer")
REASONS = {
    **dict.fromkeys((*ENDS, "stop-streaming"), "disconnect"),
    "connection-limit": "displaced",
    **dict.fromkeys(("mute", "mute-data"), "silence"),
    **dict.fromkeys(("cut-json", "bad-utf8"), "unreadable"),
    "lost-frame": "sequence",
}
LONG = frozenset({"connection-limit", "lost-frame"})  # that take minutes to show
UNREADABLE = frozenset({"cut-json", "bad-utf8"})


def struck(folder: Path, desk: StreamerDesk, name: str, *, seed: int = 1, start: datetime = MIDDAY) -> Streamed:
    """A stretch of the stream with one fault in it, from a collector with two tokens."""
    desk.faults.add(name, **FAULTS[name])
    found = collected(
        folder,
        desk,
        duration=200.0 if name in LONG else 110.0,
        seed=seed,
        start=start,
        tokens=("good-token", "good-token "),
    )
    assert sum(strike.rule.struck for strike in desk.faults.strikes) >= 1
    return found


def kept_wrongly(found: Streamed) -> Counter[tuple[str, str, Any]]:
    """Items that are in the segments more or less often than they went out; without those no program can read."""
    sent: Counter[tuple[str, str, Any]] = Counter()
    for each in found.sent:
        if each.kind == "data" and each.fate != "lost" and each.fault not in UNREADABLE:
            for item in each.items:
                sent[item] += 2 if each.fate == "repeated" else 1
    kept = found.delivered()
    return (sent - kept) + (kept - sent)


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in _LEFT_OUT])
def test_what_a_fault_takes_is_a_gap_and_nothing_else_is_missing(tmp_path: Path, desk: StreamerDesk, name: str) -> None:
    """Delivered and gaps are all that was sent; what went out is kept as often as it went out."""
    found = struck(tmp_path, desk, name)
    assert found.unexplained() == []
    assert not kept_wrongly(found)
    assert {str(gap.reason) for gap in found.gaps} - {"not_running"} == ({REASONS[name]} if name in REASONS else set())


@pytest.mark.parametrize("name", ["mute-data", "lost-frame", "close-normal"])
def test_without_its_gaps_the_same_stream_is_found_wanting(tmp_path: Path, desk: StreamerDesk, name: str) -> None:
    """The control: the comparison with what was sent does not pass because there is nothing to compare."""
    found = struck(tmp_path, desk, name)
    kept = [gap for gap in found.gaps if gap.reason == "not_running"]
    assert replace(found, gaps=kept).unexplained() != []


@pytest.mark.full_only
@pytest.mark.reliability
@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_with_many_seeds(tmp_path: Path, tape: Tape, name: str, harness_seed: int) -> None:
    """500 stretches of the session, each with other waits, another instant and another place of the fault."""
    rng = random.Random(harness_seed)  # noqa: S311  not for secrets
    for number in range(500):
        desk = StreamerDesk(tape, lambda token: token.strip() == "good-token", StreamRules(keeps_record=True))
        start = MIDDAY + timedelta(seconds=rng.randrange(5400))
        found = struck(tmp_path / str(number), desk, name, seed=number, start=start)
        assert (found.unexplained(), kept_wrongly(found)) == ([], Counter()), f"seed {number}, from {start}"
        shutil.rmtree(tmp_path / str(number))
