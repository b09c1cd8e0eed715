"""The record of what was sent, over many seeds in virtual time: with it every print is delivered or accounted for.

A client reconnects whenever its connection ends, under random failures. What it got is what the record says was sent,
and what was sent or lost on a connection is every print of its time, as the tape tells them.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from streaming import TOKEN, Listener

from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.streamer_desk import Sent, StreamerDesk, StreamRules
from trade_analyst_pipeline.simulator.tape import Tape

EQUITIES = "LEVELONE_EQUITIES"
SYMBOLS = ("AAPL", "JPM")
SECONDS = 40.0
DATA_FAULTS = (
    "close-normal", "close-going-away", "close-policy", "close-error", "close-restart", "reset", "end", "cut-frame",
    "stop-streaming", "connection-limit", "mute", "mute-data", "stall", "lost-frame", "repeated-frame", "late-frame",
    "giant", "foreign-response",
)  # fmt: skip
OTHER_FAULTS = (
    "late-answer",
    "no-answer",
    "repeated-answer",
    "login-denied",
    "no-heartbeat",
    "heartbeat-of-another-shape",
)
Told = tuple[int, str, str, int | None]


def disturbed(tape: Tape, seed: int) -> tuple[StreamerDesk, list[Listener]]:
    """Forty seconds of two symbols under a few failures, with as many connections as it takes."""
    rng = random.Random(seed)  # noqa: S311  not for secrets
    desk = StreamerDesk(tape, lambda token: token == TOKEN, StreamRules(keeps_record=True, step_ms=200))
    for _ in range(rng.randrange(1, 5)):
        name, told = rng.choice(DATA_FAULTS), {}
        if name in {"mute", "mute-data", "stall", "late-frame"}:
            told = {"seconds": rng.uniform(0.5, 10.0)}
        elif name == "giant":
            told = {"size_bytes": 10_000}
        desk.faults.add(name, path=EQUITIES, skip=rng.randrange(1, 40), times=rng.randrange(1, 3), **told)
    desk.faults.add(rng.choice(OTHER_FAULTS), skip=rng.randrange(4))
    listeners, now = list[Listener](), 0.0
    while now < SECONDS:
        listener = Listener.connect(desk, now=now)
        listeners.append(listener)
        for service, command, asked in (
            ("ADMIN", "LOGIN", {"Authorization": TOKEN}),
            (EQUITIES, "SUBS", {"keys": ",".join(SYMBOLS), "fields": "0,1,2,3,8,9,35"}),
        ):
            listener.send(service, command, **asked)
        listener.run(now + rng.uniform(4.0, 25.0))
        listener.stream.leave()
        now = listener.stream.now + rng.uniform(0.0, 3.0)
    return desk, listeners


def delivered(listeners: list[Listener]) -> Counter[Told]:
    """Connection, service, key and volume of every item that came."""
    return Counter(
        (listener.stream.session.number, EQUITIES, item["key"], item.get("8"))
        for listener in listeners
        for item in listener.items(EQUITIES)
    )


def recorded(records: list[Sent]) -> Counter[Told]:
    """The same, as the record says."""
    copies = {"sent": 1, "late": 1, "repeated": 2, "lost": 0}
    found: Counter[Told] = Counter()
    for entry in records:
        for item in entry.items:
            found[(entry.connection, *item)] += copies[entry.fate]
    return +found


def unaccounted(desk: StreamerDesk) -> int:
    """Prints of a connection's time that are neither sent nor lost according to the record."""
    missing = 0
    for connection in {entry.connection for entry in desk.records if entry.items}:
        for symbol in SYMBOLS:
            told = [
                (entry.timestamp, item[2])
                for entry in desk.records
                if entry.connection == connection
                for item in entry.items
                if item[1] == symbol and item[2] is not None
            ]
            if not told:
                missing += 1  # not even the image
                continue
            first, last = (datetime.fromtimestamp(end / 1000.0, UTC) for end in (min(told)[0], max(told)[0]))
            truth = desk.tape.prints(symbol, first, last)["size"]
            base, volumes = min(volume for _, volume in told), {volume for _, volume in told}
            missing += sum(base + int(total) not in volumes for total in truth.cum_sum())
    return missing


@pytest.mark.reliability
def test_what_came_and_what_was_lost_is_everything(market: Market, harness_seed: int, is_full: bool) -> None:
    """500 seeds, 20 in quick form: delivered = recorded as sent; recorded as sent or lost = every print of the time."""
    tape, faults, connections = Tape(market), Counter[str | None](), 0
    for seed in range(harness_seed, harness_seed + (500 if is_full else 20)):
        desk, listeners = disturbed(tape, seed)
        assert delivered(listeners) == recorded([entry for entry in desk.records if entry.kind == "data"]), seed
        assert unaccounted(desk) == 0, seed
        faults.update(entry.fault for entry in desk.records if entry.fault)
        connections += len(listeners)
    print(f"{connections} connections, messages struck: {dict(faults)}")
    assert len(faults) >= (22 if is_full else 8)


def test_control_a_record_that_hides_a_loss_is_found(market: Market) -> None:
    """Known-bad: a loss told as sent, and a loss not told at all, each make one of the two sums wrong."""
    tape, found, noticed = Tape(market), 0, 0
    for seed in range(60):
        desk, listeners = disturbed(tape, seed)
        records = [entry for entry in desk.records if entry.kind == "data"]
        lost = [entry for entry in records if entry.fate == "lost" and any(item[2] is not None for item in entry.items)]
        if not lost:
            continue
        found += 1
        hidden = [replace(entry, fate="sent") if entry is lost[0] else entry for entry in records]
        assert delivered(listeners) != recorded(hidden)
        desk.records.remove(lost[0])
        noticed += unaccounted(desk) > 0
    assert found >= 5
    assert noticed >= 5  # a loss at the very end of a connection leaves no print after it to tell
