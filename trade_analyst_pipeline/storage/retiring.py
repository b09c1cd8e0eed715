"""Captures whose bytes leave the archive: records of them all first, and only then the bytes.

Cut off anywhere, each capture is there as before, or as its record, or both, and then its bytes count. What may leave
is decided in `lineage/retirement.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from trade_analyst_pipeline.errors import CaptureDamagedError
from trade_analyst_pipeline.storage import durable
from trade_analyst_pipeline.storage.archive import Archive, Capture
from trade_analyst_pipeline.storage.captures import RETIRED_SUFFIX, SEALED_SUFFIX
from trade_analyst_pipeline.storage.compaction import compact_captures
from trade_analyst_pipeline.storage.copy_manifest import CopiedFile
from trade_analyst_pipeline.storage.copy_source import sha256_of_file
from trade_analyst_pipeline.storage.manifest import folder_name
from trade_analyst_pipeline.storage.packs import PACK_NAME, Member
from trade_analyst_pipeline.storage.retired import Retired, write_retired


@dataclass(frozen=True)
class Leaving:
    """A capture that is to leave, as it was proven to be, and the copy that holds it; None for none."""

    capture: Capture
    file: CopiedFile
    held_in: str | None


def retire(data_folder: Path, leaving: Sequence[Leaving], *, retired_time: datetime) -> None:
    """Put the record of each capture in its place, durably, then take all their bytes away.

    Raises DiskFullError, CaptureDamagedError where a capture that stays cannot be taken out of a pack: then nothing of
    that session leaves.
    """
    archive, sessions = Archive(data_folder / "raw"), defaultdict[tuple[str, date], set[str]](set)
    for each in leaving:
        file, footer = each.file, archive.footer(each.capture)
        record = Retired(footer, file.size_bytes, file.sha256, each.held_in, retired_time)
        write_retired((data_folder / file.name).with_suffix(RETIRED_SUFFIX), record)
        sessions[file.dataset, file.session_date].add(file.capture_id)
    for (dataset, day), ids in sessions.items():
        if _take_away(archive, data_folder / "raw" / dataset / folder_name(day), ids):
            compact_captures(data_folder, dataset, day, now=retired_time.timestamp())


def _take_away(archive: Archive, folder: Path, ids: Collection[str]) -> bool:
    """Remove the bytes of these captures of one session; whether others were taken out of a pack for it."""
    with durable.locked_folder(folder):
        pack = folder / PACK_NAME
        members = archive.members(pack) if pack.exists() else ()
        is_mixed = any(member.capture_id in ids for member in members)
        kept = [member for member in members if member.capture_id not in ids] if is_mixed else []
        for member in kept:
            _take_out(archive, pack, member)
        own = [folder / (capture_id + SEALED_SUFFIX) for capture_id in ids]
        durable.remove([*own, pack] if is_mixed else own)
    return bool(kept)


def _take_out(archive: Archive, pack: Path, member: Member) -> None:
    """Give a capture of a pack a file of its own, byte for byte."""
    own = pack.with_name(member.capture_id + SEALED_SUFFIX)
    if not own.exists():
        with durable.replacing(own) as file:
            file.writelines(archive.content(archive.capture(pack, member)))
    if sha256_of_file(own) != member.sha256:
        message = (
            f"{own}: capture {member.capture_id} does not match its SHA-256 in {pack.name}; run `trade-analyst verify`"
        )
        raise CaptureDamagedError(message, own)
