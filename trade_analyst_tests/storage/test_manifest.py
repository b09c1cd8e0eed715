"""Manifests, partition keys and fence numbers."""

import os
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from trade_analyst_pipeline.errors import PartitionDamagedError, StorageError
from trade_analyst_pipeline.storage import manifest as manifests
from trade_analyst_pipeline.storage.manifest import FENCE_NAME, MANIFEST_NAME, locked_fence, read_manifest


def test_partition_keys_are_folder_names() -> None:
    """A session date and a year map to their folder and back; nothing else is a key."""
    assert manifests.folder_name(date(2026, 1, 5)) == "session_date=2026-01-05"
    assert manifests.folder_name(2026) == "year=2026"
    assert manifests.partition_of("session_date=2026-01-05") == date(2026, 1, 5)
    assert manifests.partition_of("year=2026") == 2026
    for name in ("session_date=2026-1-5", "session_date=2026-02-30", "year=26", "year=2026x", "other", ".x"):
        assert manifests.partition_of(name) is None


@pytest.mark.parametrize("key", [999, 10_000, True, datetime(2026, 1, 5, tzinfo=UTC)])
def test_other_keys_are_refused(key: int) -> None:
    """Years have four digits; an instant or a flag is no key."""
    with pytest.raises(StorageError, match="no partition key"):
        manifests.folder_name(key)


@pytest.mark.parametrize(("stage", "name"), [("raw", "options"), ("tables", "../x"), ("tables", "A"), ("tables", "")])
def test_stages_and_names_are_checked(stage: str, name: str) -> None:
    """Only known stages and plain lower-case words become folders."""
    with pytest.raises(StorageError, match=r"no stage|cannot name"):
        manifests.table_folder_names(stage, name)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[1]",
        b"\xff",
        b'{"stage": 1}',
    ],
)
def test_a_broken_manifest_is_damage(tmp_path: Path, content: bytes) -> None:
    """Whatever stands in the manifest's place is refused with the way out, never taken as an empty partition."""
    (tmp_path / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(PartitionDamagedError, match="rebuild"):
        read_manifest(tmp_path)


def test_fence_numbers_survive_a_torn_write(tmp_path: Path) -> None:
    """When the newest slot is torn at any byte, the numbers before it still stand."""
    for issued in (1, 2, 3):
        with locked_fence(tmp_path) as fence:
            fence.record(issued=issued, accepted=issued - 1)
    path = tmp_path / FENCE_NAME
    whole = path.read_bytes()
    newest = 0 if whole[:1] == b"3" else 64
    line = whole[newest : newest + 64].rstrip()
    for cut in range(len(line)):
        torn = line[:cut] + b"\x00" * (64 - cut)
        path.write_bytes(whole[:newest] + torn + whole[newest + 64 :])
        with locked_fence(tmp_path) as fence:
            assert (fence.issued, fence.accepted) == (2, 1)


def test_a_lost_fence_file_starts_at_zero(tmp_path: Path) -> None:
    """Garbage in the fence file is no number."""
    (tmp_path / FENCE_NAME).write_bytes(os.urandom(200))
    with locked_fence(tmp_path) as fence:
        assert (fence.issued, fence.accepted) == (0, 0)


def test_a_linked_fence_is_refused(tmp_path: Path) -> None:
    """A link in the lock's place is not followed."""
    (tmp_path / "target").write_bytes(b"")
    (tmp_path / FENCE_NAME).symlink_to(tmp_path / "target")
    with pytest.raises(StorageError, match="link"), locked_fence(tmp_path):
        pass
