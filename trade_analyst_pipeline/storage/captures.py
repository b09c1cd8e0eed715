"""One capture: its values, how its records are laid out inside frames, and the writer that seals it.

Which captures there are and where they lie is `archive.py`; the frames are `frames.py`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage import durable, frames
from trade_analyst_pipeline.storage.frames import DamagedFrameError, Frame, FrameCodec, OpenFile

SEALED_SUFFIX, UNSEALED_SUFFIX, RETIRED_SUFFIX = ".raw", ".part", ".retired"
INTERRUPTED, SESSION_OVER = "interrupted", "session_over"  # reasons of gaps that no request left
LATE_AFTER = timedelta(minutes=2)
_HEAD_LENGTH = struct.Struct("<I")
_CREATE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
T = TypeVar("T")


@dataclass(frozen=True)
class Gap:
    """Something asked for that did not come: which symbols, a short stable `reason`, and a sentence of `detail`.

    `request` is the one that failed; None where nothing was asked, or nobody knows any more what was. `cause` is the
    class of the error that ended a capture early; None where it ended otherwise, or wrote no word.
    """

    dataset: str
    symbols: tuple[str, ...]
    reason: str
    detail: str
    request: MarketDataRequest | None = None
    cause: str | None = None


@dataclass(frozen=True)
class Capture:
    """A sealed capture: one dataset, one snapshot, all its symbols.

    `capture_id` sorts by scheduled time and is unique within its dataset and session. Times are UTC on the source's
    clock. `answer_count` is how many of the records are answers, be it short ones; `body_bytes` counts bodies as they
    arrived, `stored_bytes` what it takes of the file at `path`, from `offset` on. `content_hash` is a SHA-256 over the
    sorted (request, body) pairs: the same whatever the id, the times and the order of arrival. `symbols` are those it
    set out to take, on `terms` (how much was asked of each, see `capture/ask.py`); None where it does not say so.
    """

    capture_id: str
    dataset: str
    session_date: date
    path: Path
    scheduled_time: datetime
    started_time: datetime
    finished_time: datetime
    record_count: int
    answer_count: int
    body_bytes: int
    stored_bytes: int
    gaps: tuple[Gap, ...]
    content_hash: str
    symbols: tuple[str, ...] | None = None
    terms: tuple[tuple[str, str], ...] = ()
    offset: int = 0

    @property
    def is_retired(self) -> bool:
        """Whether its bodies were retired from this archive; what its footer says is still known."""
        return self.path.suffix == RETIRED_SUFFIX

    @property
    def is_late(self) -> bool:
        """Whether it was begun more than `LATE_AFTER` past its scheduled time: the tick itself was missed."""
        return self.started_time - self.scheduled_time > LATE_AFTER


@dataclass(frozen=True)
class Lacking:
    """What a record lacks although the source must have it, as it was judged when it came.

    `content` is how much of it is there, to tell which of several is the fullest; None for one that is no answer.
    """

    detail: str
    content: int | None = None


@dataclass(frozen=True)
class IndexEntry:
    """Where one record of a capture starts in its file and what it answers, as the footer lists it."""

    offset: int
    request: MarketDataRequest
    status: int
    requested_time: datetime
    received_time: datetime
    body_sha256: str
    body_bytes: int
    lacking: Lacking | None = None

    @property
    def is_answer(self) -> bool:
        """Whether it answers its request, be it short of something."""
        return self.lacking is None or self.lacking.content is not None


@dataclass(frozen=True)
class Header:
    """The first frame: what the capture is, and what it set out to take; older ones do not say that."""

    capture_id: str
    dataset: str
    session_date: date
    scheduled_time: datetime
    started_time: datetime
    symbols: tuple[str, ...] | None = None
    terms: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Footer:
    """The last frame: all that a listing needs, and where each record is."""

    header: Header
    finished_time: datetime
    body_bytes: int
    gaps: tuple[Gap, ...]
    content_hash: str
    index: tuple[IndexEntry, ...]

    def capture(self, path: Path, stored_bytes: int, offset: int = 0) -> Capture:
        """The capture as callers see it."""
        return Capture(
            capture_id=self.header.capture_id,
            dataset=self.header.dataset,
            session_date=self.header.session_date,
            path=path,
            scheduled_time=self.header.scheduled_time,
            started_time=self.header.started_time,
            finished_time=self.finished_time,
            record_count=len(self.index),
            answer_count=sum(entry.is_answer for entry in self.index),
            body_bytes=self.body_bytes,
            stored_bytes=stored_bytes,
            gaps=self.gaps,
            content_hash=self.content_hash,
            symbols=self.header.symbols,
            terms=self.header.terms,
            offset=offset,
        )


@dataclass(frozen=True)
class _RecordHead:
    """What precedes a body inside a record frame: all of a response but the body."""

    request: MarketDataRequest
    status: int
    headers: tuple[tuple[str, str], ...]
    requested_time: datetime
    received_time: datetime
    attempts: int
    body_sha256: str
    lacking: Lacking | None = None


# made here: two threads that decode a type for the first time at once crash the library
_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (Header, Gap, Footer, _RecordHead)
}


def decode(payload: bytes, kind: type[T]) -> T:
    """A payload of JSON as its dataclass; raises DamagedFrameError."""
    try:
        found: T = _DECODERS[kind].decode(payload)
    except msgspec.DecodeError as error:
        raise DamagedFrameError(f"a {kind.__name__.strip('_').lower()} is not as written: {error}") from error
    return found


def decode_record(frame: Frame) -> tuple[RawResponse, IndexEntry]:
    """The response in a record frame and what the footer has to say of it; raises DamagedFrameError."""
    start = _HEAD_LENGTH.size
    if len(frame.payload) < start:
        raise DamagedFrameError("a record without a head")
    body_start = start + _HEAD_LENGTH.unpack_from(frame.payload)[0]
    head = decode(frame.payload[start:body_start], _RecordHead)
    body = frame.payload[body_start:]
    sha = hashlib.sha256(body).hexdigest()
    if sha != head.body_sha256:
        raise DamagedFrameError("the body does not match its SHA-256")
    response = RawResponse(
        head.request,
        head.status,
        body,
        head.headers,
        head.requested_time,
        head.received_time,
        head.attempts,
    )
    return response, _index_entry(frame.offset, response, sha, head.lacking)


def content_hash(index: Iterable[IndexEntry]) -> str:
    """SHA-256 over the sorted (request, body) pairs of a capture."""
    pairs = sorted(
        hashlib.sha256(msgspec.json.encode(entry.request) + bytes.fromhex(entry.body_sha256)).digest()
        for entry in index
    )
    return hashlib.sha256(b"".join(pairs)).hexdigest()


def _index_entry(offset: int, response: RawResponse, sha: str, lacking: Lacking | None) -> IndexEntry:
    return IndexEntry(
        offset,
        response.request,
        response.status,
        response.requested_time,
        response.received_time,
        sha,
        len(response.body),
        lacking,
    )


@dataclass
class _Contents:
    """What a file being written holds so far."""

    size: int = 0
    index: list[IndexEntry] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)


class CaptureWriter:
    """A capture being taken. Used as a context it is abandoned when the block ends without `seal`.

    For one thread at a time. Writing raises DiskFullError, and then the file holds what it held before; after a `seal`
    that failed only `leave` and `abandon` make sense.
    """

    def __init__(self, path: Path, descriptor: int, header: Header, contents: _Contents) -> None:
        self.capture_id = header.capture_id
        self._path = path
        self._descriptor = descriptor
        self._header = header
        self._contents = contents
        self._codec = FrameCodec()
        if not contents.size:
            self._write(frames.MAGIC + self._codec.pack(frames.HEADER, msgspec.json.encode(header)))

    @property
    def record_count(self) -> int:
        """How many responses it holds."""
        return len(self._contents.index)

    @property
    def stored_bytes(self) -> int:
        """How much of the file is written."""
        return self._contents.size

    def sync(self) -> None:
        """Force what is written to the disk: from the return on it survives a power cut. Raises DiskFullError."""
        with durable.disk_full_as_ours(self._path):
            os.fsync(self._descriptor)

    def append(self, response: RawResponse, lacking: Lacking | None = None) -> IndexEntry:
        """Add a response with its body byte for byte, and what it lacks; gives its entry of the index."""
        sha = hashlib.sha256(response.body).hexdigest()
        head = msgspec.json.encode(
            _RecordHead(
                response.request,
                response.status,
                response.headers,
                response.requested_time,
                response.received_time,
                response.attempts,
                sha,
                lacking,
            )
        )
        offset = self._contents.size
        self._write(self._codec.pack(frames.RECORD, b"".join((_HEAD_LENGTH.pack(len(head)), head, response.body))))
        entry = _index_entry(offset, response, sha, lacking)
        self._contents.index.append(entry)
        return entry

    def note_gap(self, gap: Gap) -> None:
        """Record that something asked for did not come."""
        self._write(self._codec.pack(frames.GAP, msgspec.json.encode(gap)))
        self._contents.gaps.append(gap)

    def seal(self, finished_time: datetime) -> Capture:
        """Close the capture for good: from the return on it survives a power cut. Raises DiskFullError."""
        footer = self._footer(finished_time.astimezone(UTC))
        offset = self._contents.size
        packed = self._codec.pack(frames.FOOTER, msgspec.json.encode(footer))
        whole = offset + len(packed) + frames.TRAILER_BYTES
        self._write(packed + frames.pack_trailer(footer_offset=offset, file_size=whole))
        self.sync()
        final = self._path.with_suffix(SEALED_SUFFIX)
        durable.rename(self._path, final)
        self._close()
        return footer.capture(final, whole)

    def abandon(self) -> None:
        """Throw away what was written; nothing is left in the archive. Does nothing once sealed."""
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)
            self._close()

    def leave(self) -> None:
        """Close it unsealed: what it holds stays, for `recover` to seal; nothing stays where it holds no response.

        Does nothing once sealed.
        """
        if not self.record_count:
            self.abandon()
        elif self._descriptor >= 0:
            self._close()

    def __enter__(self) -> CaptureWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def _footer(self, finished_time: datetime) -> Footer:
        index = tuple(self._contents.index)
        return Footer(
            header=self._header,
            finished_time=finished_time,
            body_bytes=sum(entry.body_bytes for entry in index),
            gaps=tuple(self._contents.gaps),
            content_hash=content_hash(index),
            index=index,
        )

    def _write(self, data: bytes) -> None:
        try:
            with durable.disk_full_as_ours(self._path):
                durable.write_all(self._descriptor, data)
        except BaseException:
            self._cut()
            raise
        self._contents.size += len(data)

    def _cut(self) -> None:
        """Cut off the beginning of what could not be written."""
        os.ftruncate(self._descriptor, self._contents.size)
        os.lseek(self._descriptor, self._contents.size, os.SEEK_SET)

    def _close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1


def start(folder: Path, header: Header) -> CaptureWriter | None:
    """A writer for a new capture in `folder`, or None when that id is taken, sealed or not."""
    path = folder / (header.capture_id + UNSEALED_SUFFIX)
    descriptor = _claim(path)
    if descriptor is None:
        return None
    if path.with_suffix(RETIRED_SUFFIX).exists():
        path.unlink()
        os.close(descriptor)
        return None
    try:
        return CaptureWriter(path, descriptor, header, _Contents())
    except BaseException:
        path.unlink()
        os.close(descriptor)
        raise


def place(whole: Path, final: Path) -> bool:
    """Make a whole, synced file in the same folder the sealed capture `final`; False when that id is taken or claimed.

    What a dead process left of a capture of that id is sealed first, or removed where it holds nothing.
    """
    claimed = final.with_suffix(UNSEALED_SUFFIX)
    recover(claimed)
    descriptor = _claim(claimed)
    if descriptor is None:
        return False
    try:
        durable.rename(whole, final)
    finally:
        claimed.unlink()
        os.close(descriptor)
    return True


def _claim(path: Path) -> int | None:
    """An unsealed file of that name, made and locked; None when the id is taken, sealed or not."""
    try:
        descriptor = os.open(path, _CREATE_FLAGS, 0o644)
    except FileExistsError:
        return None
    # Looking for the sealed file after claiming the unsealed name leaves no moment in which both seem free.
    if not _hold(descriptor, path):
        os.close(descriptor)
        return None
    if path.with_suffix(SEALED_SUFFIX).exists():
        path.unlink()
        os.close(descriptor)
        return None
    return descriptor


def recover(path: Path) -> Capture | None:
    """Seal a capture whose writer died, cut after its last whole frame and with a gap that says so.

    None when its writer lives, and when it holds no whole record: such a file is removed. None also when whole records
    stand behind damaged bytes: no crash leaves that, so the file stays as it is, for `verify` to tell of. Raises
    DiskFullError; the file stays then, for another time.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if not _hold(descriptor, path):
        os.close(descriptor)
        return None
    file = OpenFile(descriptor)
    header, contents = _salvage(file)
    if frames.has_record_behind(file, contents.size if header else 0):
        os.close(descriptor)
        return None
    if header is None or not contents.index:
        path.unlink()
        os.close(descriptor)
        return None
    dropped = os.fstat(descriptor).st_size - contents.size
    os.ftruncate(descriptor, contents.size)
    os.lseek(descriptor, contents.size, os.SEEK_SET)
    writer = CaptureWriter(path, descriptor, header, contents)
    try:
        detail = f"the capturing process ended before sealing; {dropped} bytes of an unfinished record were dropped"
        writer.note_gap(Gap(header.dataset, (), INTERRUPTED, detail))
        return writer.seal(max(entry.received_time for entry in contents.index))
    finally:
        writer.leave()


def is_abandoned(path: Path) -> bool:
    """Whether an unsealed capture is there that no living process writes."""
    try:
        descriptor = durable.open_file(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return _hold(descriptor, path)
    finally:
        os.close(descriptor)


def _hold(descriptor: int, path: Path) -> bool:
    """Lock an open file for this process; False when another has it or `path` has become another file meanwhile."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return path.lstat().st_ino == os.fstat(descriptor).st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


def _salvage(file: OpenFile) -> tuple[Header | None, _Contents]:
    """All whole frames from the start of an unsealed file; a footer without a trailer is dropped."""
    header, contents = None, _Contents(size=len(frames.MAGIC))
    try:
        if file.read_at(0, len(frames.MAGIC)) != frames.MAGIC:
            return None, contents
        for frame in FrameCodec().frames(file, len(frames.MAGIC), file.size):
            if frame.kind == frames.HEADER:
                header = decode(frame.payload, Header)
            elif frame.kind == frames.RECORD:
                contents.index.append(decode_record(frame)[1])
            elif frame.kind == frames.GAP:
                contents.gaps.append(decode(frame.payload, Gap))
            else:
                break
            contents.size = frame.end
    except DamagedFrameError:
        pass  # the first frame that is not whole is where the crash cut the file
    return header, contents
