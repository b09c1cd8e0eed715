"""Counting callbacks: what the statistics say, restarts, several processes, kills and damaged files."""

from __future__ import annotations

import multiprocessing
import os
import random
import stat
import zlib
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from trade_analyst_pipeline.schwab import callback_ledger
from trade_analyst_pipeline.schwab.callback_ledger import (
    REFUSAL_REASONS,
    CallbackArrival,
    CallbackLedger,
    CallbackStatistics,
)

STATE, OTHER = SecretStr("S" * 43), SecretStr("T" * 43)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger lies."""
    return tmp_path / "callbacks" / "ledger"


@pytest.fixture
def ledger(path: Path, hand_time: Any) -> CallbackLedger:
    """A ledger on a clock moved by hand."""
    hand_time.at = 1000.0
    return CallbackLedger(path, now=hand_time)


def test_nothing_recorded_is_all_zero(ledger: CallbackLedger, path: Path) -> None:
    """Statistics of a ledger that was never used; looking writes nothing."""
    assert ledger.statistics() == CallbackStatistics()
    assert ledger.fate(STATE) is None
    assert not path.parent.exists()


def test_an_accepted_callback(ledger: CallbackLedger, hand_time: Any) -> None:
    """Expected, then accepted after 12 s: the counts, the latency and the time."""
    ledger.expect(STATE, seconds=300)
    assert (ledger.statistics().open, ledger.fate(STATE)) == (1, "open")
    hand_time.at = 1012.0
    ledger.accept(STATE)
    assert ledger.statistics() == CallbackStatistics(
        expected=1,
        received=1,
        accepted=1,
        last_latency_seconds=12.0,
        median_latency_seconds=12.0,
        longest_latency_seconds=12.0,
        last_accepted_time=1012.0,
        since_time=1000.0,
        recent=(CallbackArrival(1012.0, "accepted"),),
    )
    assert ledger.fate(STATE) == "answered"


def test_latencies_are_summed_up(ledger: CallbackLedger, hand_time: Any) -> None:
    """Of 5, 90 and 10 s the last is 10, the median 10, the longest 90."""
    for number, seconds in enumerate((5.0, 90.0, 10.0)):
        state = SecretStr(f"state-{number}")
        ledger.expect(state, seconds=300)
        hand_time.at += seconds
        ledger.accept(state)
    found = ledger.statistics()
    assert (found.last_latency_seconds, found.median_latency_seconds, found.longest_latency_seconds) == (10, 10, 90)


def test_refusals_are_counted_by_reason(ledger: CallbackLedger) -> None:
    """Each reason has its count; the expectation stays open."""
    ledger.expect(STATE, seconds=300)
    for reason in ("method", "unexpected", "unexpected"):
        ledger.refuse(reason)  # type: ignore[arg-type]  # a loop variable is a plain str to mypy
    found = ledger.statistics()
    assert (found.received, found.accepted, found.open) == (3, 0, 1)
    assert found.refused == {"method": 1, "unexpected": 2}
    assert [item.outcome for item in found.recent] == ["method", "unexpected", "unexpected"]


@pytest.mark.parametrize("reason", REFUSAL_REASONS)
def test_a_refusal_that_answers_the_login_closes_it(ledger: CallbackLedger, reason: Any) -> None:
    """With the right state a denial, a wrong issuer or no code is the answer; anything else leaves it open."""
    ledger.expect(STATE, seconds=300)
    ledger.refuse(reason, STATE)
    assert ledger.statistics().open == (0 if reason in ("denied", "issuer", "no_code") else 1)


def test_what_does_not_come_in_time_expires(ledger: CallbackLedger, hand_time: Any) -> None:
    """Open until its second, expired from then on, also for a reader alone and after other records."""
    ledger.expect(STATE, seconds=300)
    hand_time.at = 1299.9
    assert ledger.fate(STATE) == "open"
    hand_time.at = 1300.0
    found = ledger.statistics()
    assert (found.open, found.expired, ledger.fate(STATE)) == (0, 1, "expired")
    ledger.refuse("late")
    found = ledger.statistics()
    assert (found.expected, found.open, found.expired, ledger.fate(STATE)) == (1, 0, 1, "expired")


def test_statistics_survive_a_restart(ledger: CallbackLedger, path: Path, hand_time: Any) -> None:
    """Another object on the same file knows and continues the counts."""
    ledger.expect(STATE, seconds=300)
    ledger.refuse("host")
    again = CallbackLedger(path, now=hand_time)
    assert again.statistics() == ledger.statistics()
    again.accept(STATE)
    assert (ledger.statistics().accepted, ledger.statistics().refused) == (1, {"host": 1})


def test_a_clock_put_back_gives_no_negative_latency(ledger: CallbackLedger, hand_time: Any) -> None:
    """An answer before its question counts as immediate."""
    ledger.expect(STATE, seconds=300)
    hand_time.at -= 3600
    ledger.accept(STATE)
    assert ledger.statistics().last_latency_seconds == 0.0


def test_the_file_is_private_and_without_secrets(ledger: CallbackLedger, path: Path) -> None:
    """Mode 0600 in a folder of 0700 whatever the umask; no state in it."""
    before = os.umask(0)
    try:
        ledger.expect(STATE, seconds=300)
        ledger.accept(STATE)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(file.name for file in path.parent.iterdir()) == ["ledger", "ledger.lock"]
    assert b"SSSS" not in path.read_bytes()


def test_the_file_stays_small(ledger: CallbackLedger, path: Path) -> None:
    """After 130 expectations and refusals of every kind it is far below its bound, and the counts are whole."""
    for number in range(130):
        ledger.expect(SecretStr(f"state-{number}"), seconds=1e6)
        ledger.refuse(REFUSAL_REASONS[number % len(REFUSAL_REASONS)])
    found = ledger.statistics()
    assert path.stat().st_size < 16_384
    assert (found.expected, found.received, found.open, found.expired, len(found.recent)) == (130, 130, 32, 98, 20)


# --- what must not stop a login


def summed(body: bytes) -> bytes:
    """A body with its checksum in front, as the ledger writes it."""
    return f"{zlib.crc32(body):08x}\n".encode() + body


DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "no checksum": b'{"version":1}',
    "wrong checksum": b"00000000\n" + b'{"version":1}',
    "no JSON": summed(b"\x00\xff\xfe" * 40),
    "not UTF-8": summed(b'{"problem":"\xff"}'),
    "other JSON": summed(b"[1,2,3]"),
    "unknown field": summed(b'{"version":1,"surprise":1}'),
    "wrong type": summed(b'{"version":1,"expected":"many"}'),
    "negative": summed(b'{"version":1,"accepted":-5}'),
    "later version": summed(b'{"version":2}'),
    "unknown reason": summed(b'{"refused":{"bad mood":1}}'),
    "huge": summed(b'{"version":1}' + b" " * 70_000),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_ledger_is_set_aside_and_said_so(
    ledger: CallbackLedger, path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Reading says what is wrong and changes nothing; the next record begins anew beside the damaged file.

    The statistics say so until a login is accepted, not for ever.
    """
    path.parent.mkdir()
    path.write_bytes(DAMAGED[case])
    found = ledger.statistics()
    assert (found.expected, str(path) in (found.problem or "")) == (0, True)
    assert path.read_bytes() == DAMAGED[case]
    ledger.expect(STATE, seconds=300)
    found = ledger.statistics()
    assert (found.expected, found.open) == (1, 1)
    assert "set aside as" in (found.problem or "")
    assert path.with_name("ledger.damaged").read_bytes() == DAMAGED[case]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    ledger.refuse("unexpected")
    assert "set aside as" in (ledger.statistics().problem or "")
    ledger.accept(STATE)
    assert (ledger.statistics().problem, ledger.statistics().accepted) == (None, 1)
    assert len(caplog.records) == 1


def test_a_link_in_the_ledgers_place_is_not_followed(ledger: CallbackLedger, path: Path, tmp_path: Path) -> None:
    """The file it points to stays; the link is set aside."""
    target = tmp_path / "precious"
    target.write_bytes(b"{}")
    path.parent.mkdir()
    path.symlink_to(target)
    assert "cannot be read" in (ledger.statistics().problem or "")
    ledger.expect(STATE, seconds=300)
    assert (ledger.statistics().expected, target.read_bytes(), path.is_symlink()) == (1, b"{}", False)


@pytest.mark.parametrize("case", ["folder in the way", "file in the folder's way", "locked", "lock is a link"])
def test_a_ledger_that_cannot_be_written_is_only_logged(
    ledger: CallbackLedger, path: Path, case: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is raised, one warning names the file, and nothing of the state is in it."""
    lock = path.with_name("ledger.lock")
    if case == "file in the folder's way":
        path.parent.write_bytes(b"")
    else:
        path.parent.mkdir()
    if case == "folder in the way":
        path.mkdir()
        path.with_name("ledger.damaged").write_bytes(b"")
    if case == "lock is a link":
        lock.symlink_to(path)
    if case == "locked":
        monkeypatch.setattr(callback_ledger, "_LOCK_SECONDS", 0.01)
        with callback_ledger.hold_lock(lock, 1.0):
            ledger.expect(STATE, seconds=300)
    else:
        ledger.expect(STATE, seconds=300)
    assert len(caplog.records) == 1
    assert str(path) in caplog.text
    assert "the login goes on" in caplog.text
    assert STATE.get_secret_value() not in caplog.text


def test_a_killed_writer_leaves_a_draft_that_is_removed(ledger: CallbackLedger, path: Path) -> None:
    """What a killed process left half written is never read, and gone after the next record."""
    ledger.expect(STATE, seconds=300)
    path.with_name("ledger.draft").write_bytes(b"{half")
    ledger.refuse("host")
    assert ledger.statistics().received == 1
    assert not path.with_name("ledger.draft").exists()


# --- harnesses


def _record_many(path: Path, number: int, count: int) -> None:
    ledger = CallbackLedger(path)
    for turn in range(count):
        state = SecretStr(f"{number}-{turn}")
        ledger.expect(state, seconds=300)
        ledger.refuse("unexpected")
        ledger.accept(state)


def _run_all(target: Any, jobs: list[tuple[Any, ...]]) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=target, args=job) for job in jobs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


@pytest.mark.reliability
def test_several_processes_lose_no_count(path: Path, is_full: bool) -> None:
    """Processes that count at the same time in one ledger: every record is there."""
    processes, turns = (8, 50) if is_full else (3, 15)
    _run_all(_record_many, [(path, number, turns) for number in range(processes)])
    found = CallbackLedger(path).statistics()
    total = processes * turns
    print(
        f"{processes} processes x {turns} logins: {found.expected} expected, {found.received} received of {2 * total}"
    )
    assert (found.expected, found.accepted, found.refused, found.open) == (total, total, {"unexpected": total}, 0)
    assert found.problem is None


def _without_lock(path: Path, number: int, count: int) -> None:
    import contextlib

    callback_ledger.hold_lock = lambda *_: contextlib.nullcontext()  # type: ignore[assignment]  # the known-bad control
    logging_off()
    _record_many(path, number, count)


def logging_off() -> None:
    """The control's lost drafts are expected: its warnings would only drown the report."""
    import logging

    logging.disable(logging.CRITICAL)


@pytest.mark.reliability
def test_the_lock_is_what_keeps_the_counts(path: Path) -> None:
    """Known-bad control: the same writers without the lock lose counts, so the harness above can fail."""
    _run_all(_without_lock, [(path, number, 40) for number in range(3)])
    found = CallbackLedger(path).statistics()
    print(f"control without lock: {found.received} received of 240")
    assert found.received < 240


@pytest.mark.reliability
def test_no_damage_is_taken_for_a_ledger(path: Path, harness_seed: int, is_full: bool, hand_time: Any) -> None:
    """Cut at every byte and with flipped bits, the file is never accepted and never raises; then counting goes on."""
    rng = random.Random(harness_seed)  # noqa: S311 - a seeded harness
    ledger = CallbackLedger(path, now=hand_time)
    for number in range(5):
        ledger.expect(SecretStr(f"state-{number}"), seconds=300)
        ledger.refuse(REFUSAL_REASONS[number])
    good = path.read_bytes()
    cuts = range(0, len(good), 1 if is_full else 7)
    flips = [rng.randrange(8 * len(good)) for _ in range(3000 if is_full else 200)]
    accepted = 0
    for data in [*(good[:cut] for cut in cuts), *(flipped(good, bit) for bit in flips)]:
        path.write_bytes(data)
        accepted += ledger.statistics().problem is None
    print(f"{len(cuts)} cuts and {len(flips)} bit flips of {len(good)} bytes: {accepted} accepted")
    assert accepted == 0
    ledger.expect(STATE, seconds=300)
    assert ledger.fate(STATE) == "open"


def flipped(data: bytes, bit: int) -> bytes:
    """The bytes with one bit turned."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.reliability
def test_the_checksum_is_what_finds_damage(path: Path, hand_time: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known-bad control: without the checksum a flipped digit is read as another count."""
    monkeypatch.setattr(callback_ledger.zlib, "crc32", lambda _: 0)
    ledger = CallbackLedger(path, now=hand_time)
    ledger.expect(STATE, seconds=300)
    good = path.read_bytes()
    path.write_bytes(good.replace(b'"expected":1', b'"expected":3'))
    assert (ledger.statistics().expected, ledger.statistics().problem) == (3, None)


@pytest.mark.reliability
@pytest.mark.full_only
def test_kills_leave_a_whole_ledger(path: Path, harness_seed: int) -> None:
    """A writer killed 40 times in mid-work: the ledger is whole each time, and no lock stays behind."""
    rng = random.Random(harness_seed)  # noqa: S311 - a seeded harness
    context = multiprocessing.get_context("spawn")
    before = -1
    for number in range(40):
        process = context.Process(target=_record_many, args=(path, number, 1_000_000))
        process.start()
        while CallbackLedger(path).statistics().received <= before:
            process.join(0.001)
        process.join(rng.uniform(0.0, 0.02))
        process.kill()
        process.join(10)
        found = CallbackLedger(path).statistics()
        assert found.problem is None
        assert found.received > before
        before = found.received
    CallbackLedger(path).refuse("host")
    assert CallbackLedger(path).statistics().received == before + 1
    print(f"40 kills: 0 unreadable ledgers, {before} callbacks counted")
