"""Every file of one session of the archive, read to its last byte: what is damaged, misplaced, unsealed or a stray.

What is inside a body is judged by a function that is handed in. Nothing here changes a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from trade_analyst_pipeline.errors import CaptureDamagedError, StorageError
from trade_analyst_pipeline.schwab.messages import RawResponse
from trade_analyst_pipeline.storage import captures, durable
from trade_analyst_pipeline.storage.archive import Archive, Capture
from trade_analyst_pipeline.storage.captures import RETIRED_SUFFIX, SEALED_SUFFIX, UNSEALED_SUFFIX
from trade_analyst_pipeline.storage.flaws import Away, Flaw, Looked, is_untouched
from trade_analyst_pipeline.storage.packs import PACK_NAME, Member

_SHOWN_RECORDS = 10


def look_at_captures(
    data_folder: Path, dataset: str, folder: str, *, flaw_in: Callable[[RawResponse], str | None], now: float
) -> Looked:
    """Look at every file in `raw/<dataset>/<folder>`; `flaw_in` says what is wrong with a response, None if nothing.

    `now` is in epoch seconds, for the age of what may still be in the making.
    """
    archive = Archive(data_folder / "raw")
    place = data_folder / "raw" / dataset / folder
    names = sorted(durable.list_names(place))
    found = Looked()
    for name in names:
        path = place / name
        if name.endswith(SEALED_SUFFIX):
            found += _look_at_capture(archive, data_folder, path, flaw_in)
        elif name.endswith(RETIRED_SUFFIX):
            found += _look_at_retired(archive, data_folder, path)
        elif name == PACK_NAME:
            found += _look_at_pack(archive, data_folder, path, flaw_in)
        elif problem := _problem_of_other(path, now):
            found += Looked((_flaw(data_folder, path, problem),))
    if not names and is_untouched(place, now=now):
        found += Looked((Flaw(place.relative_to(data_folder).as_posix(), "orphan", "an empty folder"),))
    return found


def _look_at_retired(archive: Archive, data_folder: Path, path: Path) -> Looked:
    """The record of a retired capture: whole, and of one whose bytes are not here."""
    name = path.relative_to(data_folder).as_posix()
    try:
        capture = archive.capture(path)
        held_in = archive.retired(capture).held_in
    except CaptureDamagedError as error:
        return Looked((Flaw(name, "damaged", f"{without_path(error, path)}. Import the capture from the copy again"),))
    except (StorageError, OSError) as error:
        return Looked((Flaw(name, "damaged", f"it cannot be read: {error}"),))
    found = Looked((), 1, capture.stored_bytes)
    try:
        is_back = not archive.find(capture.dataset, capture.capture_id).is_retired
    except CaptureDamagedError:
        is_back = True  # its bytes are here, damaged, and told so
    if is_back:
        return found + Looked((Flaw(name, "orphan", "the record of a retired capture whose bytes are here"),))
    return found + Looked(retired=(Away(Path(name).with_suffix(SEALED_SUFFIX).as_posix(), held_in),))


def _look_at_pack(
    archive: Archive, data_folder: Path, path: Path, flaw_in: Callable[[RawResponse], str | None]
) -> Looked:
    """Its directory, each capture in it, and those that still have a file of their own beside it."""
    name = path.relative_to(data_folder).as_posix()
    try:
        members = archive.members(path)
    except CaptureDamagedError as error:
        return Looked((Flaw(name, "damaged", without_path(error, path)),))
    except (StorageError, OSError) as error:
        return Looked((Flaw(name, "damaged", f"it cannot be read: {error}"),))
    found = Looked((), 1, path.stat().st_size)
    for member in members:
        inside = _look_at_capture(archive, data_folder, path, flaw_in, member)
        flaws = tuple(replace(flaw, captures=(member.capture_id,)) for flaw in inside.flaws)
        own = path.with_name(member.capture_id + SEALED_SUFFIX)
        if own.is_file() and (problem := _difference(own, member)):
            flaws += (_flaw(data_folder, own, problem),)
        found += Looked(flaws)
    return found


def _difference(own: Path, member: Member) -> str | None:
    """The kind of flaw where a capture's own file is not the one that went into the pack; None where it is."""
    with own.open("rb") as file:
        return None if hashlib.file_digest(file, "sha256").hexdigest() == member.sha256 else "differs"


def _look_at_capture(
    archive: Archive,
    data_folder: Path,
    path: Path,
    flaw_in: Callable[[RawResponse], str | None],
    member: Member | None = None,
) -> Looked:
    """A capture in a file of its own, or in a pack."""
    name = path.relative_to(data_folder).as_posix()
    of = f"capture {member.capture_id}: " if member else ""
    flaws: list[Flaw] = []
    try:
        capture = archive.capture(path, member)
    except CaptureDamagedError as error:
        return Looked((Flaw(name, "damaged", without_path(error, path)),))
    except (StorageError, OSError) as error:
        return Looked((Flaw(name, "damaged", f"it cannot be read: {error}"),))
    try:
        for number, response in enumerate(archive.responses(capture)):
            if problem := flaw_in(response):
                problem = f"{of}record {number}, {response.request.path}: {problem}"
                flaws.append(Flaw(name, "repeated_keys", problem))
    except CaptureDamagedError as error:
        flaws.append(Flaw(name, "damaged", f"{without_path(error, path)}{_bad_records(archive, capture)}"))
    return Looked(tuple(flaws), 1, capture.stored_bytes)


def _bad_records(archive: Archive, capture: Capture) -> str:
    """Which records of a damaged capture cannot be read, each looked up by itself through the footer."""
    bad = [f"{number} ({', '.join(symbols[:3])})" for number, symbols in _unreadable(archive, capture)]
    more = f" and {len(bad) - _SHOWN_RECORDS} more" if len(bad) > _SHOWN_RECORDS else ""
    unread = f"record {', '.join(bad[:_SHOWN_RECORDS])}{more}" if bad else "no record"
    return f"; {unread} of its {capture.record_count} cannot be read"


def _unreadable(archive: Archive, capture: Capture) -> Iterator[tuple[int, tuple[str, ...]]]:
    for number, entry in enumerate(archive.index(capture)):
        try:
            archive.response(capture, entry)
        except CaptureDamagedError:
            yield number, entry.request.symbols


def without_path(error: CaptureDamagedError, path: Path) -> str:
    """The part of a file that is damaged and how, without the path before it and the advice behind it."""
    return str(error).removeprefix(f"{path}: ").partition(". The capture is damaged")[0]


def _problem_of_other(path: Path, now: float) -> str | None:
    if path.name.endswith(UNSEALED_SUFFIX) and path.is_file() and not path.is_symlink():
        return "unsealed" if captures.is_abandoned(path) else None
    if durable.is_temporary(path.name) and not durable.is_left_behind(path, now=now):
        return None
    return "stray"


def _flaw(data_folder: Path, path: Path, problem: str) -> Flaw:
    name = path.relative_to(data_folder).as_posix()
    if problem == "unsealed":
        return Flaw(name, "unsealed", "the process that wrote it is dead; what it had received is still to be sealed")
    if problem == "differs":
        return Flaw(name, "damaged", f"it is not the capture of this id in {PACK_NAME}, which is the one that is read")
    return Flaw(name, "orphan", "no capture: nothing reads it")
