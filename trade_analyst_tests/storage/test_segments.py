"""Segments of the stream: messages byte for byte, gaps as they were noted, and all that holds for any capture."""

from __future__ import annotations

import random
import struct
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from trade_analyst_pipeline.errors import StreamFrameError
from trade_analyst_pipeline.lineage.chain import Scope
from trade_analyst_pipeline.lineage.verification import flaw_in, looks
from trade_analyst_pipeline.market.stream_blocks import StreamMessage, pack_block, unpack_block
from trade_analyst_pipeline.storage.archive import Archive, CaptureWriter
from trade_analyst_pipeline.storage.compaction import compact
from trade_analyst_pipeline.storage.flaws import Flaw
from trade_analyst_pipeline.storage.segments import (
    NAME,
    StreamBlock,
    StreamGap,
    StreamGapReason,
    read_blocks,
    stream_gaps,
)

DAY = date(2026, 1, 5)
MOMENT = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
RECEIVED_NS = int(MOMENT.timestamp()) * 1_000_000_000 + 123_456_789
MESSAGES = (
    StreamMessage(RECEIVED_NS, b'{"data":[]}'),
    StreamMessage(RECEIVED_NS + 1, b"\xff\x00"),
    StreamMessage(RECEIVED_NS + 2, b""),
)
BLOCKS = (StreamBlock(5, True, MESSAGES[:1]), StreamBlock(5, False, MESSAGES), StreamBlock(9, False, MESSAGES[1:]))
GAP = StreamGap(
    StreamGapReason.SEQUENCE,
    MOMENT,
    MOMENT + timedelta(seconds=3.25),
    "numbers 5 to 7",
    "CHART_EQUITY",
    ("AAPL",),
    4,
    8,
)
EVERYWHERE = StreamGap(StreamGapReason.DISCONNECT, MOMENT, MOMENT, "closed with 1001")


def begun(root: Path, moment: datetime = MOMENT) -> CaptureWriter:
    """A segment with two blocks, two gaps and another block."""
    writer = Archive(root / "raw").begin(
        dataset=NAME, session_date=DAY, scheduled_time=moment, started_time=moment, symbols=("AAPL",)
    )
    for block in BLOCKS[:2]:
        writer.append(block.as_record())
    writer.note_gap(GAP.as_gap())
    writer.note_gap(EVERYWHERE.as_gap())
    writer.append(BLOCKS[2].as_record())
    writer.sync()
    return writer


def flaws(root: Path) -> list[Flaw]:
    """What reading everything back finds."""
    return [flaw for look in looks(root, Scope(), now=MOMENT.timestamp() + 86400.0) for flaw in look().flaws]


def test_a_block_is_laid_out_as_written_down() -> None:
    """Instant (8 bytes), length (4), bytes: little-endian, end to end."""
    assert pack_block(MESSAGES[:2]) == (
        struct.pack("<QI", RECEIVED_NS, 11) + b'{"data":[]}' + struct.pack("<QI", RECEIVED_NS + 1, 2) + b"\xff\x00"
    )
    assert tuple(unpack_block(pack_block(MESSAGES))) == MESSAGES


@pytest.mark.parametrize("size", [1, 11, 12, 22])
def test_a_block_that_is_cut_is_refused(size: int) -> None:
    """Within a head and within a message."""
    with pytest.raises(StreamFrameError, match="damaged_block"):
        list(unpack_block(pack_block(MESSAGES[:1])[:size]))


def test_a_segment_gives_back_what_was_put_in(tmp_path: Path) -> None:
    """Blocks and gaps, each as it was; verify finds nothing wrong with it."""
    capture = begun(tmp_path).seal(MOMENT + timedelta(seconds=60))
    archive = Archive(tmp_path / "raw")
    assert tuple(read_blocks(archive, capture)) == BLOCKS
    assert stream_gaps(capture) == [GAP, EVERYWHERE]
    assert capture.path.relative_to(tmp_path).as_posix() == (
        "raw/stream/session_date=2026-01-05/20260105T143000000000Z-stream-0000.raw"
    )
    assert flaws(tmp_path) == []


def test_a_dead_process_leaves_a_segment_that_is_sealed_later(tmp_path: Path) -> None:
    """With all whole blocks; what the archive says of the interruption is no interval."""
    begun(tmp_path)._close()
    archive = Archive(tmp_path / "raw")
    (capture,) = archive.recover(NAME)
    assert tuple(read_blocks(archive, capture)) == BLOCKS
    assert stream_gaps(capture) == [GAP, EVERYWHERE]
    assert [gap.reason for gap in capture.gaps] == ["sequence", "disconnect", "interrupted"]


def test_segments_are_compacted_as_captures_are(tmp_path: Path) -> None:
    """Into one file, with the same content."""
    for minute in range(3):
        moment = MOMENT + timedelta(minutes=minute)
        begun(tmp_path, moment).seal(moment)
    assert any(done.is_changed for done in compact(tmp_path, now=MOMENT.timestamp() + 2 * 86400.0))
    archive = Archive(tmp_path / "raw")
    captures = archive.captures(NAME, DAY)
    assert [capture.path.name for capture in captures] == ["captures.pack"] * 3
    assert [tuple(read_blocks(archive, capture)) for capture in captures] == [BLOCKS] * 3
    assert flaws(tmp_path) == []


def test_a_key_named_twice_in_a_message_is_told() -> None:
    """Of each message of a block, not of the block as a whole."""
    twice = StreamMessage(RECEIVED_NS, b'{"data":[{"service":"S","content":[{"key":"A","1":5,"1":6}]}]}')
    good = StreamBlock(5, False, MESSAGES).as_record()
    assert flaw_in(good) is None
    found = flaw_in(StreamBlock(5, False, (*MESSAGES, twice)).as_record())
    assert found == "a key came more than once in one object: 1"


def test_any_damage_to_a_segment_is_found(tmp_path: Path, harness_seed: int) -> None:
    """A byte changed anywhere is told by reading it back."""
    rng = random.Random(harness_seed)  # noqa: S311  not for secrets
    capture = begun(tmp_path).seal(MOMENT)
    whole = capture.path.read_bytes()
    for _ in range(40):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        capture.path.write_bytes(damaged)
        assert [flaw.kind for flaw in flaws(tmp_path)] == ["damaged"]
