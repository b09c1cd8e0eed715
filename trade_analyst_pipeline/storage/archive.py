"""The raw archive: each capture one sealed, append-only file of verbatim responses.

`<root>/<dataset>/session_date=YYYY-MM-DD/<capture_id>.raw`. A capture is written to `<capture_id>.part`, locked by its
process, then sealed: footer, sync, rename, sync of the folder. Compaction (`compaction.py`) puts sealed ones end to end
into `captures.pack`, and only then removes their own files; one that is in both counts once. Of one that was retired
(`retired.py`) the footer is left. Nothing here looks into a body, and nothing here ever changes or removes a sealed
file. What is inside belongs to `captures.py` and `frames.py`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path

from trade_analyst_pipeline.errors import CaptureDamagedError, CaptureMissingError, StorageError
from trade_analyst_pipeline.schwab.messages import RawResponse
from trade_analyst_pipeline.storage import captures, durable, frames
from trade_analyst_pipeline.storage.captures import (
    INTERRUPTED,
    RETIRED_SUFFIX,
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
from trade_analyst_pipeline.storage.packs import PACK_NAME, Member, read_directory
from trade_analyst_pipeline.storage.retired import Retired, read_retired, refusal

__all__ = ["Archive", "Capture", "CaptureWriter", "Gap", "IndexEntry", "Lacking"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MOST_OF_ONE_TIME = 10_000
_CHUNK_BYTES = 1 << 20
_RECENT = 8  # captures whose index is kept: whoever lists captures mostly looks into them next
_INSTANT = "%Y%m%dT%H%M%S%fZ"
_Stamp = tuple[int, int, int]


class Archive:
    """All captures below one folder (`data/<env>/raw`). Many processes may use it at once; one object, one thread."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._codec = FrameCodec()
        self._known: dict[tuple[Path, int], tuple[_Stamp, Capture]] = {}
        self._indexes: dict[tuple[Path, int], tuple[_Stamp, tuple[IndexEntry, ...]]] = {}
        self._packed: dict[Path, tuple[_Stamp, Mapping[str, Member]]] = {}

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
        for number in range(self._first_number(folder), _MOST_OF_ONE_TIME):
            capture_id = f"{scheduled:{_INSTANT}}-{dataset}-{number:04d}"
            header = Header(capture_id, dataset, session_date, scheduled, started, symbols, terms)
            writer = captures.start(folder, header)
            if writer is not None and self._is_packed(folder, capture_id):
                writer.abandon()
            elif writer is not None:
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
        folders = [self._folder(dataset, day) for day in days]
        found = [self._sealed(folder, *each) for folder in folders for each in self._listed(folder).items()]
        return sorted(found, key=lambda capture: capture.capture_id)

    def capture_ids(self, dataset: str, session_date: date) -> list[str]:
        """Ids of the sealed captures of one session, ascending, whatever is in them.

        Raises CaptureDamagedError where the directory of its pack cannot be read.
        """
        return sorted(self._listed(self._folder(dataset, session_date)))

    def find(self, dataset: str, capture_id: str) -> Capture:
        """The sealed capture with an id, whatever session it is of.

        Raises CaptureMissingError where none is archived, CaptureDamagedError where it is not whole.
        """
        for day in self._days_of(dataset, capture_id):
            with suppress(FileNotFoundError):
                return self._sealed(self._folder(dataset, day), capture_id)
        message = (
            f"{self._root / dataset} has no capture {capture_id}, which a table was made from; restore the file from "
            "a copy, or run `trade-analyst rebuild` to make the tables of what is left"
        )
        raise CaptureMissingError(message)

    def names(self) -> list[str]:
        """The datasets, and what else is kept as captures, that have a folder here, in order."""
        return sorted(name for name in durable.list_names(self._root) if _NAME.fullmatch(name))

    def sessions(self, dataset: str) -> list[date]:
        """Session dates with at least one sealed capture, ascending."""
        return [*self.sessions_back(dataset, date.max)][::-1]

    def sessions_back(self, dataset: str, until: date) -> Iterator[date]:
        """Session dates up to `until` with at least one sealed capture, descending, each looked up when it is due."""
        for day in reversed(self._days(dataset)):
            if day <= until and any(map(is_sealed, durable.list_names(self._folder(dataset, day)))):
                yield day

    def responses(self, capture: Capture) -> Iterator[RawResponse]:
        """The responses as they arrived, in the order they were archived.

        All is checked on the way: CRC of each frame, SHA-256 of each body, agreement with the footer. Raises
        CaptureDamagedError naming the file and the record.
        """
        with _damage_named(capture, "footer"), self._opened(capture) as file:
            footer, end = self._footer(file)
            expected = iter(footer.index)
            gaps: list[Gap] = []
            offset, number = len(frames.MAGIC), 0
            while offset < end:
                with _damage_named(capture, f"frame {number}"):
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
        place = (capture.path, capture.offset)
        stamp = _stamp(capture.path) if capture.path.exists() else None  # None: it has gone into the pack
        if stamp is not None and place in self._indexes and self._indexes[place][0] == stamp:
            return self._indexes[place][1]
        index = self.footer(capture).index
        if stamp is not None:
            self._indexes = dict([*self._indexes.items()][1 - _RECENT :]) | {place: (stamp, index)}
        return index

    def response(self, capture: Capture, entry: IndexEntry) -> RawResponse:
        """The response of one entry of a capture's index, checked; raises CaptureDamagedError."""
        return self.record(capture, entry)[0]

    def record(self, capture: Capture, entry: IndexEntry) -> tuple[RawResponse, int]:
        """The response of one entry of a capture's index, and how many bytes of the file from `entry.offset` hold it.

        Checked as by `responses`; raises CaptureDamagedError.
        """
        with _damage_named(capture, "record"), self._opened(capture) as file:
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

    def content(self, capture: Capture) -> Iterator[bytes]:
        """The sealed bytes of a capture in pieces, the same wherever they lie: what its own file holds, or held."""
        with self._opened(capture) as file:
            for offset in range(0, file.size, _CHUNK_BYTES):
                yield file.read_at(offset, _CHUNK_BYTES)

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
        folder = self._folder(dataset, day)
        return [folder / name for name in sorted(durable.list_names(folder)) if name.endswith(suffix)]

    def _folder(self, dataset: str, day: date) -> Path:
        return self._root.joinpath(*_folder_names(dataset, day))

    def _listed(self, folder: Path) -> dict[str, Member | None]:
        """By id, the sealed captures of a session: where in its pack, None for a file of its own."""
        while True:
            members = self._members(folder)
            own = [name for name in durable.list_names(folder) if name.endswith((SEALED_SUFFIX, RETIRED_SUFFIX))]
            # A pack that came while the names were read may hold what was taken away before they were.
            if self._members(folder) == members:
                return {Path(name).stem: None for name in own} | dict(members)

    def _sealed(self, folder: Path, capture_id: str, member: Member | None = None) -> Capture:
        """The capture of an id; raises FileNotFoundError where there is none, CaptureDamagedError."""
        if member is None:
            try:
                return self.capture(folder / (capture_id + SEALED_SUFFIX))
            except FileNotFoundError:
                member = self._members(folder).get(capture_id)
                if member is None:
                    return self.capture(folder / (capture_id + RETIRED_SUFFIX))
        return self.capture(folder / PACK_NAME, member)

    def _members(self, folder: Path) -> Mapping[str, Member]:
        """The captures in the pack of a session, by id; none without a pack. Raises CaptureDamagedError."""
        path = folder / PACK_NAME
        try:
            stamp = _stamp(path)
        except FileNotFoundError:
            return {}
        known = self._packed.get(path)
        if known is None or known[0] != stamp:
            known = stamp, {member.capture_id: member for member in self.members(path)}
            self._packed[path] = known
        return known[1]

    def members(self, path: Path) -> tuple[Member, ...]:
        """The captures in a pack of this archive, in the order of their bytes; raises CaptureDamagedError."""
        with _damage_named(path, "directory"), OpenFile(durable.open_file(path)) as file:
            directory = read_directory(file)
            own = (*_folder_names(directory.dataset, directory.session_date), PACK_NAME)
            _require(path.parts[-len(own) :] == own, f"is that of {'/'.join(own)}")
        return directory.members

    def _is_packed(self, folder: Path, capture_id: str) -> bool:
        try:
            return capture_id in self._members(folder)
        except CaptureDamagedError:
            return False

    def _first_number(self, folder: Path) -> int:
        """Where the numbers of new captures start: far above those in a pack that cannot be read."""
        try:
            self._members(folder)
        except CaptureDamagedError:
            return _MOST_OF_ONE_TIME // 2
        return 0

    def _opened(self, capture: Capture) -> OpenFile:
        """The bytes of a capture, also where they have gone into the pack or out of it since it was listed.

        Raises CaptureRetiredError.
        """
        try:
            descriptor = durable.open_file(capture.path)
        except FileNotFoundError:
            found = self._sealed(capture.path.parent, capture.capture_id)
            if found.path == capture.path:
                raise
            return self._opened(found)
        if capture.is_retired:
            os.close(descriptor)
            raise refusal(capture.path, self.retired(capture))
        if _in_pack(capture) and self._has_moved(capture):
            os.close(descriptor)
            return self._opened(self._sealed(capture.path.parent, capture.capture_id))
        return OpenFile(descriptor, capture.offset, capture.stored_bytes if _in_pack(capture) else None)

    def _has_moved(self, capture: Capture) -> bool:
        """Whether the pack was made anew without a capture that was retired, and this one is not where it was."""
        member = self._members(capture.path.parent).get(capture.capture_id)
        return member is None or (member.offset, member.size_bytes) != (capture.offset, capture.stored_bytes)

    def retired(self, capture: Capture) -> Retired:
        """What is on record of a retired capture; raises CaptureDamagedError."""
        with _damage_named(capture, "record"):
            return read_retired(capture.path)

    def footer(self, capture: Capture) -> Footer:
        """The footer of a capture, retired or not; raises CaptureDamagedError."""
        if capture.is_retired:
            return self.retired(capture).footer
        with _damage_named(capture, "footer"), self._opened(capture) as file:
            return self._footer(file)[0]

    def capture(self, path: Path, member: Member | None = None) -> Capture:
        """The capture in a file of its own in this archive, or of a `member` of a pack, from its footer.

        Raises CaptureDamagedError.
        """
        stamp, offset = _stamp(path), member.offset if member else 0
        known = self._known.get((path, offset))
        if known is not None and known[0] == stamp:
            return known[1]
        place = path if member is None else path.with_name(member.capture_id + SEALED_SUFFIX)
        capture = self._capture_in(path, place, member)
        self._known[path, offset] = (stamp, capture)
        return capture

    def prove(self, path: Path, place: Path) -> None:
        """Read every byte of a file that is to become the capture at `place`; raises CaptureDamagedError."""
        self.verify(self._capture_in(path, place))

    def _capture_in(self, path: Path, place: Path, member: Member | None = None) -> Capture:
        if path.suffix == RETIRED_SUFFIX:
            with _damage_named(path, "record"):
                footer = read_retired(path).footer
                _require_own(footer, place.with_suffix(SEALED_SUFFIX))
                return footer.capture(path, path.lstat().st_size)
        part = f"capture {member.capture_id}: footer" if member else "footer"
        offset, size = (member.offset, member.size_bytes) if member else (0, None)
        with _damage_named(path, part), OpenFile(durable.open_file(path), offset, size) as file:
            footer, _end = self._footer(file)
            _require_own(footer, place)
            return footer.capture(path, file.size, offset)

    def _footer(self, file: OpenFile) -> tuple[Footer, int]:
        """The footer of a sealed file and where it starts; raises DamagedFrameError."""
        _require(file.read_at(0, len(frames.MAGIC)) == frames.MAGIC, "the file does not start as a capture does")
        end = max(0, file.size - frames.TRAILER_BYTES)
        offset = frames.footer_offset(file.read_at(end, frames.TRAILER_BYTES), file_size=file.size)
        frame = self._codec.unpack_at(file, offset, limit=end)
        _require(frame.kind == frames.FOOTER and frame.end == end, "is not where the trailer says")
        return captures.decode(frame.payload, Footer), offset


def instant_of(capture_id: str) -> datetime | None:
    """The instant (UTC) that a capture is scheduled for by its id; None for what is no id."""
    try:
        return datetime.strptime(capture_id.partition("-")[0], _INSTANT).replace(tzinfo=UTC)
    except ValueError:
        return None


def _gaps_of(captures: Sequence[Capture]) -> list[Gap]:
    return [gap for capture in captures for gap in capture.gaps]


def _checked(dataset: str) -> str:
    if _NAME.fullmatch(dataset) is None:
        message = f"{dataset!r} cannot name a dataset: lower-case letters, digits and underscores only"
        raise StorageError(message)
    return dataset


def _folder_names(dataset: str, day: date) -> tuple[str, str]:
    return _checked(dataset), f"session_date={day.isoformat()}"


def is_sealed(name: str) -> bool:
    """Whether a file of that name holds captures, or the record of a retired one."""
    return name.endswith((SEALED_SUFFIX, RETIRED_SUFFIX)) or name == PACK_NAME


def _in_pack(capture: Capture) -> bool:
    return capture.path.name == PACK_NAME


def _stamp(path: Path) -> _Stamp:
    state = path.lstat()
    return state.st_mtime_ns, state.st_size, state.st_ino


def _require_own(footer: Footer, place: Path) -> None:
    header = footer.header
    own = (*_folder_names(header.dataset, header.session_date), header.capture_id + SEALED_SUFFIX)
    _require(place.parts[-len(own) :] == own, f"is that of {'/'.join(own)}")


def _require(is_so: bool, problem: str) -> None:
    if not is_so:
        raise DamagedFrameError(problem)


@contextmanager
def _damage_named(of: Path | Capture, part: str) -> Iterator[None]:
    """Give damage found inside the file's path, the part of it, and what to do."""
    try:
        yield
    except DamagedFrameError as error:
        path = of if isinstance(of, Path) else of.path
        part = part if isinstance(of, Path) or not _in_pack(of) else f"capture {of.capture_id}: {part}"
        message = (
            f"{path}: {part}: {error}. The capture is damaged; restore the file from a copy, or move it out of the "
            "archive so that its session shows as a gap"
        )
        raise CaptureDamagedError(message, path) from error
