"""A copy of the archive as one tar stream: only plain files, each with one header, the manifest first.

Whatever else a tar can hold is refused: links, devices, folders, sparse files, extended headers. Nothing is read that
was not asked for, and no size that the stream states is believed. What the files mean does not belong here.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

from trade_analyst_pipeline.errors import ArchiveCopyError

CHUNK_BYTES: Final = 1 << 20
_BLOCK: Final = tarfile.BLOCKSIZE
_PLAIN: Final = (tarfile.REGTYPE, tarfile.AREGTYPE)


def write_member(stream: BinaryIO, name: str, size: int, chunks: Iterable[bytes]) -> None:
    """Write one file, whose chunks have `size` bytes in all; raises ValueError for a name over 100 bytes."""
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o644
    block = header.tobuf(format=tarfile.GNU_FORMAT)
    if len(block) != _BLOCK:
        message = f"{name} is too long for one header"
        raise ValueError(message)
    stream.write(block)
    stream.writelines(chunks)
    stream.write(bytes(-size % _BLOCK))


def write_end(stream: BinaryIO) -> None:
    """Write what stands behind the last file."""
    stream.write(bytes(2 * _BLOCK))


class TarMember:
    """One file of a stream: its name, the size it states, and its bytes, to be read once and in order."""

    def __init__(self, stream: BinaryIO, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self._stream = stream
        self._left = size

    def chunks(self) -> Iterator[bytes]:
        """The bytes that are left; raises ArchiveCopyError where the stream ends before them."""
        while self._left:
            chunk = self._stream.read(min(self._left, CHUNK_BYTES))
            if not chunk:
                message = f"the stream ended in the middle of {self.name}; what came before it stands. Send it again"
                raise ArchiveCopyError(message)
            self._left -= len(chunk)
            yield chunk


def read_members(stream: BinaryIO) -> Iterator[TarMember]:
    """The files of a stream, in order; bytes of one that nobody asked for are passed over.

    Raises ArchiveCopyError for a stream that is cut or damaged between files, and for anything but a plain file.
    """
    last = "its beginning"
    while (block := _exactly(stream, _BLOCK, last)) != bytes(_BLOCK):
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            message = (
                f"behind {last} the stream is no tar any more ({error}): it was changed or cut on its way; what came "
                "before stands. Send it again"
            )
            raise ArchiveCopyError(message) from error
        if header.type not in _PLAIN or header.size < 0:
            message = (
                f"{header.name!r} in the stream is no plain file; only what `trade-analyst archive export` writes is "
                "taken. What came before it stands"
            )
            raise ArchiveCopyError(message)
        member = TarMember(stream, header.name, header.size)
        yield member
        for _unread in member.chunks():
            pass
        _exactly(stream, -header.size % _BLOCK, header.name)
        last = header.name
    _exactly(stream, _BLOCK, last)


def _exactly(stream: BinaryIO, size: int, last: str) -> bytes:
    data = b""
    while len(data) < size:
        part = stream.read(size - len(data))
        if not part:
            message = f"the stream ended behind {last}, before its end; what came before stands. Send it again"
            raise ArchiveCopyError(message)
        data += part
    return data
