"""One capture's records."""

import hashlib
import os
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from trade_analyst_pipeline.schwab.messages import RawResponse
from trade_analyst_pipeline.storage import captures, frames
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.frames import DamagedFrameError, Frame, FrameCodec, OpenFile

MOMENT = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)


@pytest.fixture
def record(archive: Archive, response: Callable[..., RawResponse]) -> Frame:
    """The frame of one archived response with the body `abc`."""
    with archive.begin(
        dataset="options", session_date=date(2026, 1, 5), scheduled_time=MOMENT, started_time=MOMENT
    ) as writer:
        writer.append(response(b"abc"))
        capture = writer.seal(MOMENT)
    descriptor = os.open(capture.path, os.O_RDONLY)
    with OpenFile(descriptor) as file:
        return FrameCodec().unpack_at(file, archive.index(capture)[0].offset, limit=file.size)


def test_a_record_carries_its_response(record: Frame, response: Callable[..., RawResponse]) -> None:
    """The body follows its head verbatim, and the entry for the index names its SHA-256."""
    found, entry = captures.decode_record(record)
    assert found == response(b"abc")
    assert record.payload.endswith(b"abc")
    assert (entry.body_sha256, entry.body_bytes) == (hashlib.sha256(b"abc").hexdigest(), 3)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda payload: payload[:-1] + b"x", "does not match its SHA-256"),
        (lambda payload: payload[:3], "without a head"),
        (lambda payload: payload[:4] + b"[" + payload[5:], "not as written"),
        (lambda payload: payload[:4], "not as written"),
    ],
)
def test_a_changed_record_is_refused(record: Frame, change: Callable[[bytes], bytes], problem: str) -> None:
    """A body, a head or a length that is not as written is told, should a CRC ever miss it."""
    changed = Frame(frames.RECORD, record.offset, record.end, change(record.payload))
    with pytest.raises(DamagedFrameError, match=problem):
        captures.decode_record(changed)


def test_a_taken_id_gives_no_writer(archive: Archive, record: Frame, tmp_path: Path) -> None:
    """An id that is sealed already, or being written, cannot be started again, and what is there stays."""
    assert record.kind == frames.RECORD
    (sealed,) = archive.captures("options")
    header = captures.Header(sealed.capture_id, "options", date(2026, 1, 5), MOMENT, MOMENT)
    before = sealed.path.read_bytes()
    assert captures.start(sealed.path.parent, header) is None
    other = captures.Header("other", "options", date(2026, 1, 5), MOMENT, MOMENT)
    with captures.start(tmp_path, other) as writer:
        writer.note_gap(captures.Gap("options", (), "unavailable", ""))
        assert captures.start(tmp_path, other) is None
    assert [path.name for path in sealed.path.parent.iterdir()] == [sealed.path.name]
    assert sealed.path.read_bytes() == before
