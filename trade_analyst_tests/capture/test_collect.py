"""The collector against the simulator's streamer in virtual time: what is sent is kept, or is a gap."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from streamed import MIDDAY, Streamed, VirtualSource, collected, parts
from virtual_time import seconds

from trade_analyst_pipeline.capture import collect
from trade_analyst_pipeline.settings import StreamSettings
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


def test_a_token_that_ends_is_renewed_without_a_wait(tmp_path: Path, desk: StreamerDesk) -> None:
    """Refused at the log-in after a disconnect, the next one is tried at once: a gap of moments, and no login gap."""
    good = {"old"}
    desk.accepts = lambda token: token in good

    async def expire(source: VirtualSource) -> None:
        await asyncio.sleep(30.0)
        good.clear()
        good.add("new")
        source.connections[-1].abort("broken", "reset")

    found = collected(tmp_path, desk, duration=60.0, tokens=("old", "new"), scene=expire)
    assert found.source.renewals == 1
    assert found.unexplained() == []
    (gap,) = [each for each in found.gaps if each.reason == "disconnect" and each.service != "CHART_EQUITY"]
    assert (gap.to_time - gap.from_time).total_seconds() < 5.0


def test_a_login_that_has_ended_is_waited_for(tmp_path: Path, desk: StreamerDesk) -> None:
    """It goes on by itself once somebody has logged in; the time between is told as what it was."""

    async def log_in_later(source: VirtualSource) -> None:
        await asyncio.sleep(90.0)
        source.tokens.append("good-token")

    found = collected(tmp_path, desk, duration=200.0, tokens=(), scene=log_in_later)
    reasons = [each.reason for each in found.gaps if each.service == "LEVELONE_EQUITIES"]
    assert reasons == ["not_running", "login"]
    assert sum(found.delivered().values()) > 50


def test_a_disk_that_stalls_holds_the_source_up(tmp_path: Path, desk: StreamerDesk) -> None:
    """For a minute nothing is written: no more than the buffer is held, and nothing is lost without a gap."""
    stalls = iter([60.0])

    async def stalling(work: Callable[[], None]) -> None:
        if seconds() > 20.0:
            await asyncio.sleep(next(stalls, 0.0))
        work()

    held: list[int] = []

    async def look(source: VirtualSource) -> None:
        for _ in range(100):
            await asyncio.sleep(1.0)
            held.append(source.connections[-1]._messages.qsize())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect, "_MIB", 1 << 10)
        settings = StreamSettings(buffer_mib=4)
        found = collected(tmp_path, desk, duration=150.0, settings=settings, on_disk=stalling, scene=look)
    assert max(held) > 5  # the peer was held up
    assert found.unexplained() == []
    assert not kept_wrongly(found)


def test_what_a_crash_takes_is_a_gap(tmp_path: Path, desk: StreamerDesk) -> None:
    """A collector that was killed is followed by one that seals what it left and says from when to when it was away."""
    collected(tmp_path, desk, duration=40.0)
    (sealed,) = (tmp_path / "raw/stream/session_date=2025-12-09").glob("*.raw")
    sealed.rename(sealed.with_suffix(".part"))
    content = sealed.with_suffix(".part").read_bytes()
    sealed.with_suffix(".part").write_bytes(content[: len(content) // 2])
    found = collected(tmp_path, desk, duration=40.0, start=MIDDAY + timedelta(seconds=60))
    crashes = [each for each in found.gaps if each.reason == "crash" and each.service == "LEVELONE_EQUITIES"]
    assert [each.symbols for each in crashes] == [()]
    assert MIDDAY < crashes[0].from_time < MIDDAY + timedelta(seconds=40)
    assert crashes[0].to_time > MIDDAY + timedelta(seconds=60)


def test_a_segment_that_begins_in_the_middle_says_how_things_stand(tmp_path: Path, desk: StreamerDesk) -> None:
    """What is carried is what the messages before add up to, and each segment is one of its own."""
    found = collected(tmp_path, desk, duration=40.0, settings=StreamSettings(segment_seconds=10))
    assert len(found.carried) >= 2
    plain: dict[str, dict[str, Any]] = {}
    states = []
    for _, text in found.messages:
        for part in parts(text):
            if part["service"] == "LEVELONE_EQUITIES":
                for item in part["content"]:
                    plain[item["key"]] = plain.get(item["key"], {}) | item
        states.append(json.dumps(plain, sort_keys=True))
    for before, text in found.carried:
        (part,) = parts(text)
        assert part["command"] == "CARRIED"
        carried = json.dumps({item["key"]: item for item in part["content"]}, sort_keys=True)
        assert carried == states[before - 1]


def test_the_hours_of_a_session_are_kept(tmp_path: Path, desk: StreamerDesk) -> None:
    """It waits until half a minute before they begin, has no gap then, and ends with them where told to."""
    settings = StreamSettings(before_open_minutes=0, after_close_minutes=0, charts=False)
    early = datetime(2025, 12, 9, 14, 25, tzinfo=UTC)
    found = collected(tmp_path / "early", desk, duration=320.0, settings=settings, start=early)
    assert found.source.tries == [pytest.approx(270.0, abs=0.5)]
    assert found.gaps == []
    desk.reset()
    late = datetime(2025, 12, 9, 20, 59, tzinfo=UTC)
    found = collected(tmp_path / "late", desk, duration=900.0, settings=settings, start=late, once=True)
    (gap,) = found.gaps
    assert (gap.reason, gap.from_time) == ("not_running", datetime(2025, 12, 9, 14, 30, tzinfo=UTC))
    assert len(found.source.tries) == 1
