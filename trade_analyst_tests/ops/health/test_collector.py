"""What the health report says of the stream collector."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from trade_analyst_pipeline.ops.health.stream import check_stream
from trade_analyst_pipeline.storage.stream_status import STREAM_LOCK, STREAM_STATUS, StreamStatus, keep_status

NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
STREAMING = StreamStatus(
    told_time=NOW,
    process=77,
    state="streaming",
    session_date=date(2026, 1, 5),
    symbols=12,
    messages=3456,
    segments=7,
    connections=2,
    gaps={"disconnect": 1, "halted": 2},
)


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[int]:
    """A process that holds the lock of a collector, here this one."""
    descriptor = os.open(tmp_path / STREAM_LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield descriptor
    os.close(descriptor)


def told(folder: Path, status: StreamStatus, *, seconds_ago: float = 3.0) -> None:
    """A status written so long before NOW."""
    keep_status(folder, status)
    os.utime(folder / STREAM_STATUS, (NOW.timestamp() - seconds_ago,) * 2)


def test_where_none_ever_ran_nothing_is_said(tmp_path: Path) -> None:
    """Not everybody streams."""
    assert check_stream(tmp_path, NOW).status == "skipped"


@pytest.mark.usefixtures("collector")
def test_one_that_streams_is_well(tmp_path: Path) -> None:
    """With its counts, gaps by reason."""
    told(tmp_path, STREAMING)
    found = check_stream(tmp_path, NOW)
    assert found.status == "ok"
    assert found.detail == (
        "session 2026-01-05: 12 symbols, 3,456 messages, 7 segments, 2 connections, gaps: disconnect 1, halted 2"
    )


@pytest.mark.usefixtures("collector")
def test_one_that_waits_is_well(tmp_path: Path) -> None:
    """And says for what."""
    told(tmp_path, replace(STREAMING, state="waiting", begins_time=NOW + timedelta(hours=1)))
    found = check_stream(tmp_path, NOW)
    assert (found.status, found.detail) == ("ok", "waiting for session 2026-01-05, which begins 2026-01-05 16:00 UTC")


@pytest.mark.usefixtures("collector")
@pytest.mark.parametrize(
    ("status", "seconds_ago", "words"),
    [
        (replace(STREAMING, state="connecting", detail="closed: code 1011"), 3.0, "not connected; closed: code 1011"),
        (
            replace(STREAMING, detail="no space left", held_bytes=5_000_000),
            3.0,
            "no space left; 5,000,000 bytes are held",
        ),
        (replace(STREAMING, left_out=3), 3.0, "3 symbols are left out"),
        (STREAMING, 600.0, "has told nothing for 600 s"),
    ],
)
def test_trouble_is_told(tmp_path: Path, status: StreamStatus, seconds_ago: float, words: str) -> None:
    """Whatever keeps it from receiving or writing."""
    told(tmp_path, status, seconds_ago=seconds_ago)
    found = check_stream(tmp_path, NOW)
    assert found.status == "warn"
    assert words in found.detail
    assert found.remedy


def test_one_that_is_dead_is_told_from_one_that_was_stopped(tmp_path: Path) -> None:
    """By what it said last; a file that is damaged is told too."""
    told(tmp_path, STREAMING)
    assert "ended without a goodbye after 2026-01-05 15:00 UTC" in check_stream(tmp_path, NOW).detail
    told(tmp_path, replace(STREAMING, state="stopped"))
    assert "the last was stopped 2026-01-05 15:00 UTC" in check_stream(tmp_path, NOW).detail
    (tmp_path / STREAM_STATUS).write_bytes(b"{}")
    assert "not as it was written" in check_stream(tmp_path, NOW).detail
