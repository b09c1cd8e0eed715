"""The bytes of an archive file."""

import os
import struct
import zlib
from pathlib import Path

import pytest
import zstandard

from trade_analyst_pipeline.storage import frames
from trade_analyst_pipeline.storage.frames import DamagedFrameError, FrameCodec, OpenFile


def opened(tmp_path: Path, content: bytes) -> OpenFile:
    """A file with that content, opened for reading."""
    path = tmp_path / "frames"
    path.write_bytes(content)
    return OpenFile(os.open(path, os.O_RDONLY))


def test_frames_come_back_in_order(tmp_path: Path) -> None:
    """Kind, place and payload of each frame are as packed, an empty payload too."""
    codec = FrameCodec()
    first, second = codec.pack(frames.RECORD, b"body" * 1000), codec.pack(frames.GAP, b"")
    with opened(tmp_path, first + second) as file:
        one = codec.unpack_at(file, 0, limit=file.size)
        two = codec.unpack_at(file, one.end, limit=file.size)
    assert (one.kind, one.offset, one.payload) == (b"R", 0, b"body" * 1000)
    assert (two.kind, two.end, two.payload) == (b"G", len(first + second), b"")


def head(kind: bytes, length: int, crc: int) -> bytes:
    """A frame head with a right CRC of its own, whatever it claims."""
    start = b"TAF" + kind + struct.pack("<II", length, crc)
    return start + struct.pack("<I", zlib.crc32(start))


def bomb(size: int) -> bytes:
    """A frame that is right in all but the size it unpacks to."""
    packed = bytearray(zstandard.ZstdCompressor().compress(bytes(1 << 20)))
    # Descriptor 0xA0 says "one segment, four bytes of content size follow"; they are set to the size claimed.
    assert packed[4] == 0xA0
    packed[5:9] = struct.pack("<I", size)
    return head(b"R", len(packed), zlib.crc32(packed)) + bytes(packed)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "head of a frame is not whole"),
        (b"x" * 16, "no frame starts here"),
        (head(b"Z", 0, 0), "no frame starts here"),
        (head(b"R", 1 << 31, 0), "impossible length"),
        (head(b"R", 100, 0) + b"x" * 99, "longer than what is left"),
        (head(b"R", 2, 0) + b"xx", "does not match its CRC"),
        (head(b"R", 2, zlib.crc32(b"xx")) + b"xx", "cannot be unpacked"),
        (bomb(frames.MAX_PAYLOAD_BYTES + 1), "impossible size"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    """Each way a frame can be wrong is told, before anything of the claimed size is read or unpacked."""
    with opened(tmp_path, content) as file, pytest.raises(DamagedFrameError, match=problem):
        FrameCodec().unpack_at(file, 0, limit=file.size)


@pytest.mark.parametrize(
    ("trailer", "problem"),
    [
        (b"", "no trailer"),
        (frames.pack_trailer(footer_offset=50, file_size=100)[:-1] + b"x", "sealed trailer"),
        (frames.pack_trailer(footer_offset=50, file_size=99), "written for a file of 99 bytes, this one has 100"),
        (frames.pack_trailer(footer_offset=100, file_size=100), "written for"),
        (frames.pack_trailer(footer_offset=7, file_size=100), "written for"),
    ],
)
def test_a_wrong_trailer_is_named(trailer: bytes, problem: str) -> None:
    """A trailer that is cut, changed, of another file, or pointing outside the frames is refused."""
    with pytest.raises(DamagedFrameError, match=problem):
        frames.footer_offset(trailer, file_size=100)


def test_a_right_trailer_points_at_the_footer() -> None:
    """The place written is the place read."""
    assert frames.footer_offset(frames.pack_trailer(footer_offset=8, file_size=100), file_size=100) == 8


def test_a_record_over_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be read back is not written."""
    monkeypatch.setattr(frames, "MAX_PAYLOAD_BYTES", 10)
    with pytest.raises(ValueError, match="over the bound"):
        FrameCodec().pack(frames.RECORD, b"12345678901")
