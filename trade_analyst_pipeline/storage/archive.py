"""The raw archive: each capture one sealed, append-only file of verbatim responses.

`<root>/<dataset>/session_date=YYYY-MM-DD/<capture_id>.raw`. A capture is written to `<capture_id>.part`, locked by its
process, then sealed: footer, sync, rename, sync of the folder. Nothing here looks into a body, and nothing ever
changes or removes a sealed file. What is inside one file belongs to `captures.py` and `frames.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path

from trade_analyst_pipeline.errors import CaptureDamagedError, CaptureMissingError, StorageError
from trade_analyst_pipeline.schwab.messages import RawResponse
from trade_analyst_pipeline.storage import captures, durable, frames
from trade_analyst_pipeline.storage.captures import (
    INTERRUPTED,
    SEALED_SUFFIX,
    UNSEALED_SUFFIX,
    Capture,
    CaptureWriter,
    Footer,
    Gap,
    Header,
    IndexEntry,
    Lacking,
)
from trade_analyst_pipeline.storage.counting import ASKED_IN_PARTS, counting
from trade_analyst_pipeline.storage.frames import DamagedFrameError, FrameCodec, OpenFile
from trade_analyst_pipeline.storage.manifest import partition_of

__all__ = ["Archive", "Capture", "CaptureWriter", "Gap", "IndexEntry", "Lacking"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MOST_OF_ONE_TIME = 10_000


class Archive:
    """All captures below one folder (`data/<env>/raw`). Many processes may use it at once; one object, one thread."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._codec = FrameCodec()
        self._known: dict[Path, tuple[tuple[int, int, int], Capture]] = {}

    def begin(
        self,
        *,
        dataset: str,
        session_date: date,
        scheduled_time: datetime,
        started_time: datetime,
        symbols: tuple[str, ...] | None = None,
        terms: tuple[tuple[str, str], ...] = (),
    ) -> CaptureWriter:
        """Start a capture; any number may have the same scheduled time, each gets its own id.

        `symbols` and `terms` say what it sets out to take, for whoever asks later what is missing of it.

        Raises StorageError for a dataset that is not a plain lower-case word, or a folder that is a link.
        """
        folder = durable.make_folders(self._root, *_folder_names(dataset, session_date))
        scheduled, started = scheduled_time.astimezone(UTC), started_time.astimezone(UTC)
        for number in range(_MOST_OF_ONE_TIME):
            capture_id = f"{scheduled:%Y%m%dT%H%M%S%fZ}-{dataset}-{number:04d}"
            header = Header(capture_id, dataset, session_date, scheduled, started, symbols, terms)
            writer = captures.start(folder, header)
            if writer is not None:
                return writer
        message = (
            f"{folder} already has {_MOST_OF_ONE_TIME:,} captures scheduled for {scheduled.isoformat()}; "
            "look for what starts them in a loop"
        )
        raise StorageError(message)

    def captures(self, dataset: str, session_date: date | None = None) -> list[Capture]:
        """Sealed captures of one session, or of all, ascending by id; only footers are read, each once per object.

        Raises CaptureDamagedError when a file is not a whole sealed capture.
        """
        days = self._days(dataset) if session_date is None else [session_date]
        found = [self.capture(path) for day in days for path in self._files(dataset, day, SEALED_SUFFIX)]
        return sorted(found, key=lambda capture: capture.capture_id)

    def find(self, dataset: str, capture_id: str) -> Capture:
        """The sealed capture with an id, whatever session it is of.

        Raises CaptureMissingError where none is archived, CaptureDamagedError where it is not whole.
        """
        for day in self._days_of(dataset, capture_id):
            path = self._root.joinpath(*_folder_names(dataset, day), capture_id + SEALED_SUFFIX)
            if path.is_file():
                return self.capture(path)
        message = (
            f"{self._root / dataset} has no capture {capture_id}, which a table was made from; restore the file from "
            "a copy, or run `trade-analyst rebuild` to make the tables of what is left"
        )
        raise CaptureMissingError(message)

    def sessions(self, dataset: str) -> list[date]:
        """Session dates with at least one sealed capture, ascending."""
        return [day for day in self._days(dataset) if self._files(dataset, day, SEALED_SUFFIX)]

    def responses(self, capture: Capture) -> Iterator[RawResponse]:
        """The responses as they arrived, in the order they were archived.

        All is checked on the way: CRC of each frame, SHA-256 of each body, agreement with the footer. Raises
        CaptureDamagedError naming the file and the record.
        """
        with _damage_named(capture.path, "footer"), OpenFile(durable.open_file(capture.path)) as file:
            footer, end = self._footer(file)
            expected = iter(footer.index)
            gaps: list[Gap] = []
            offset, number = len(frames.MAGIC), 0
            while offset < end:
                with _damage_named(capture.path, f"frame {number}"):
                    frame = self._codec.unpack_at(file, offset, limit=end)
                    if frame.kind == frames.RECORD:
                        response, entry = captures.decode_record(frame)
                        _require(entry == next(expected, None), "not the record that the footer lists here")
                    elif frame.kind == frames.GAP:
                        gaps.append(captures.decode(frame.payload, Gap))
                    else:
                        _require(
                            number == 0 and captures.decode(frame.payload, Header) == footer.header,
                            "does not belong here",
                        )
                if frame.kind == frames.RECORD:
                    yield response
                offset, number = frame.end, number + 1
            _require(
                next(expected, None) is None and tuple(gaps) == footer.gaps,
                "lists records or gaps that are not there",
            )

    def answers(self, captures: Sequence[Capture]) -> Iterator[RawResponse]:
        """The responses that count of captures that are attempts at one snapshot; all is read and checked.

        Raises CaptureDamagedError.
        """
        offsets = {(capture.capture_id, entry.offset) for capture, entry in self.counting(captures)}
        for capture in captures:
            for entry, response in zip(self.index(capture), self.responses(capture), strict=True):
                if (capture.capture_id, entry.offset) in offsets:
                    yield response

    def counting(self, captures: Sequence[Capture]) -> list[tuple[Capture, IndexEntry]]:
        """The records that count (`counting.py`) of captures that are attempts at one snapshot, in archive order.

        From the footers alone; raises CaptureDamagedError.
        """
        records = [(capture, entry) for capture in captures for entry in self.index(capture)]
        places = counting([entry for _, entry in records], _gaps_of(captures))
        return [records[place] for place in places]

    def index(self, capture: Capture) -> tuple[IndexEntry, ...]:
        """What each record answers, in archive order, from the footer alone; raises CaptureDamagedError."""
        with _damage_named(capture.path, "footer"), OpenFile(durable.open_file(capture.path)) as file:
            return self._footer(file)[0].index

    def response(self, capture: Capture, entry: IndexEntry) -> RawResponse:
        """The response of one entry of a capture's index, checked; raises CaptureDamagedError."""
        return self.record(capture, entry)[0]

    def record(self, capture: Capture, entry: IndexEntry) -> tuple[RawResponse, int]:
        """The response of one entry of a capture's index, and how many bytes of the file from `entry.offset` hold it.

        Checked as by `responses`; raises CaptureDamagedError.
        """
        with _damage_named(capture.path, "record"), OpenFile(durable.open_file(capture.path)) as file:
            frame = self._codec.unpack_at(file, entry.offset, limit=file.size)
            response, found = captures.decode_record(frame)
            _require(found == entry, "not the record that the footer lists here")
            return response, frame.end - frame.offset

    def open_gaps(self, captures: Sequence[Capture]) -> list[Gap]:
        """What is still missing of these captures (ascending by id), each request that failed once, as it did last.

        A gap is closed when a record of the same scheduled time answers its request, and an interruption when that
        time was captured once more. Raises CaptureDamagedError.
        """
        found: dict[tuple[object, ...], Gap] = {}
        for moment in sorted({capture.scheduled_time for capture in captures if capture.gaps}):
            together = [capture for capture in captures if capture.scheduled_time == moment]
            answered = {entry.request for _, entry in self.counting(together)}
            for capture in together:
                for gap in capture.gaps:
                    is_closed = gap.request in answered or (gap.reason == INTERRUPTED and capture is not together[-1])
                    if not is_closed and gap.reason != ASKED_IN_PARTS:
                        found[moment, gap.request or (gap.symbols, gap.reason)] = gap
        return list(found.values())

    def completions(self, captures: Sequence[Capture]) -> list[list[Capture]]:
        """The captures (ascending by id), each that asked for what an earlier one missed put together with that one.

        Only captures of one scheduled time belong together: attempts at one snapshot. Raises CaptureDamagedError.
        """
        groups: list[list[Capture]] = []
        for capture in captures:
            lacking = [each for each in groups if each[0].scheduled_time == capture.scheduled_time and _gaps_of(each)]
            # what is left of a chain may be cut otherwise than before, so it is known by its symbol
            asked = {name for entry in self.index(capture) for name in entry.request.symbols} if lacking else set()
            earlier = [
                each
                for each in lacking
                if any(gap.reason == INTERRUPTED or asked.intersection(gap.symbols) for gap in _gaps_of(each))
            ]
            if earlier:
                earlier[-1].append(capture)
            else:
                groups.append([capture])
        return groups

    def verify(self, capture: Capture) -> None:
        """Read every byte back; raises CaptureDamagedError when any is not as it was written."""
        for _response in self.responses(capture):
            pass

    def recover(self, dataset: str) -> list[Capture]:
        """Seal what dead processes left unsealed, cut after the last whole record and with an `interrupted` gap.

        Captures being written now are left alone; one without any whole record holds nothing and is removed.
        Returns the captures sealed.
        """
        parts = [path for day in self._days(dataset) for path in self._files(dataset, day, UNSEALED_SUFFIX)]
        return [capture for path in parts if (capture := captures.recover(path)) is not None]

    def _days(self, dataset: str) -> list[date]:
        keys = map(partition_of, durable.list_names(self._root / _checked(dataset)))
        return sorted(key for key in keys if isinstance(key, date))

    def _days_of(self, dataset: str, capture_id: str) -> Iterator[date]:
        """Sessions that a capture may be of: first that of the day it was scheduled for, which it nearly always is."""
        with suppress(ValueError):
            yield date.fromisoformat(capture_id[:8])
        yield from self._days(dataset)

    def _files(self, dataset: str, day: date, suffix: str) -> list[Path]:
        folder = self._root.joinpath(*_folder_names(dataset, day))
        return [folder / name for name in sorted(durable.list_names(folder)) if name.endswith(suffix)]

    def paths(self, dataset: str, session_date: date) -> list[Path]:
        """The files of the sealed captures of one session, ascending, whatever is in them."""
        return self._files(dataset, session_date, SEALED_SUFFIX)

    def capture(self, path: Path) -> Capture:
        """The sealed capture in a file of this archive, from its footer; raises CaptureDamagedError."""
        state = path.lstat()
        stamp = (state.st_mtime_ns, state.st_size, state.st_ino)
        known = self._known.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        with _damage_named(path, "footer"), OpenFile(durable.open_file(path)) as file:
            footer, _end = self._footer(file)
            header = footer.header
            own = (*_folder_names(header.dataset, header.session_date), header.capture_id + SEALED_SUFFIX)
            _require(path.parts[-len(own) :] == own, f"is that of {'/'.join(own)}")
            capture = footer.capture(path, file.size)
        self._known[path] = (stamp, capture)
        return capture

    def _footer(self, file: OpenFile) -> tuple[Footer, int]:
        """The footer of a sealed file and where it starts; raises DamagedFrameError."""
        _require(file.read_at(0, len(frames.MAGIC)) == frames.MAGIC, "the file does not start as a capture does")
        end = max(0, file.size - frames.TRAILER_BYTES)
        offset = frames.footer_offset(file.read_at(end, frames.TRAILER_BYTES), file_size=file.size)
        frame = self._codec.unpack_at(file, offset, limit=end)
        _require(frame.kind == frames.FOOTER and frame.end == end, "is not where the trailer says")
        return captures.decode(frame.payload, Footer), offset


def _gaps_of(captures: Sequence[Capture]) -> list[Gap]:
    return [gap for capture in captures for gap in capture.gaps]


def _checked(dataset: str) -> str:
    if _NAME.fullmatch(dataset) is None:
        message = f"{dataset!r} cannot name a dataset: lower-case letters, digits and underscores only"
        raise StorageError(message)
    return dataset


def _folder_names(dataset: str, day: date) -> tuple[str, str]:
    return _checked(dataset), f"session_date={day.isoformat()}"


def _require(is_so: bool, problem: str) -> None:
    if not is_so:
        raise DamagedFrameError(problem)


@contextmanager
def _damage_named(path: Path, part: str) -> Iterator[None]:
    """Give damage found inside the file's path, the part of it, and what to do."""
    try:
        yield
    except DamagedFrameError as error:
        message = (
            f"{path}: {part}: {error}. The capture is damaged; restore the file from a copy, or move it out of the "
            "archive so that its session shows as a gap"
        )
        raise CaptureDamagedError(message) from error
