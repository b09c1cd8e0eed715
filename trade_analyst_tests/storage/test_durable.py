"""Atomic, durable writes."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from trade_analyst_pipeline.errors import DiskFullError, StorageError
from trade_analyst_pipeline.storage import durable


def test_a_write_replaces_the_whole_file(tmp_path: Path) -> None:
    """After a write the file holds exactly the new bytes and no temporary file is left."""
    path = tmp_path / "f.json"
    path.write_bytes(b"a much longer old content")
    durable.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]


def test_a_failed_write_changes_nothing(tmp_path: Path) -> None:
    """An error inside the block leaves the old file and no temporary file."""
    path = tmp_path / "f.json"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), durable.replacing(path) as file:
        file.write(b"%d" % (1 // 0))
    assert path.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EFBIG"])
def test_no_space_is_one_error(tmp_path: Path, name: str) -> None:
    """Each errno that means "no room" becomes DiskFullError naming the file; the temporary file is gone."""
    with pytest.raises(DiskFullError, match=r"f\.json"), durable.replacing(tmp_path / "f.json"):
        raise OSError(getattr(errno, name), "x")
    assert [path.name for path in tmp_path.iterdir()] == []


def test_other_errors_stay_themselves(tmp_path: Path) -> None:
    """An I/O error is not reported as a full disk."""
    with pytest.raises(OSError, match="broken") as caught, durable.replacing(tmp_path / "f.json"):
        raise OSError(errno.EIO, "broken")
    assert not isinstance(caught.value, DiskFullError)


FULL_DISK = """
import resource, sys
from pathlib import Path
import polars as pl
from trade_analyst_pipeline.errors import DiskFullError
from trade_analyst_pipeline.export import export_table
frame = pl.DataFrame({"a": pl.int_range(400_000, eager=True).hash()})
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
for kind in ("parquet", "csv", "json"):
    try:
        export_table(frame.with_columns(pl.col("a").cast(pl.String)), Path(sys.argv[1]) / f"x.{kind}", format=kind)
    except DiskFullError:
        print(kind, "full")
"""


def test_polars_writers_report_a_full_disk(tmp_path: Path) -> None:
    """Polars says "no room" as ComputeError or as OSError without errno; both become DiskFullError, nothing is left."""
    done = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["parquet full", "csv full", "json full", ""]
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (OSError("File too large (os error 27)"), True),
        (pl.exceptions.ComputeError("parquet: No space left on device (os error 28)"), True),
        (OSError("Permission denied (os error 13)"), False),
        (pl.exceptions.ComputeError("cannot parse"), False),
    ],
)
def test_full_disks_are_told_by_their_text_too(error: Exception, *, is_full: bool) -> None:
    """Libraries that drop the errno are understood by the number in their text."""
    assert durable.is_disk_full(error) is is_full


def test_links_are_refused(tmp_path: Path) -> None:
    """A link as folder or as file is never followed: nothing appears outside, nothing outside is read."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"s")
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    with pytest.raises(StorageError, match="linked"):
        durable.make_folders(root, "linked", "deeper")
    with pytest.raises(StorageError, match="linked"):
        durable.list_names(root / "linked")
    with pytest.raises(StorageError, match="linked"):
        durable.write_bytes(root / "linked" / "f", b"x")
    with pytest.raises(StorageError, match="file"):
        durable.read_bytes(root / "file", limit=10)
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_a_link_in_the_place_of_a_file_is_replaced(tmp_path: Path) -> None:
    """Writing where a link stands replaces the link and leaves what it points at alone."""
    target = tmp_path / "target"
    target.write_bytes(b"t")
    (tmp_path / "f").symlink_to(target)
    durable.write_bytes(tmp_path / "f", b"x")
    assert target.read_bytes() == b"t"
    assert not (tmp_path / "f").is_symlink()


def test_reads_are_bounded(tmp_path: Path) -> None:
    """A file larger than its kind may be is refused before it is read."""
    (tmp_path / "f").write_bytes(b"12345")
    assert durable.read_bytes(tmp_path / "f", limit=5) == b"12345"
    with pytest.raises(StorageError, match="5 bytes"):
        durable.read_bytes(tmp_path / "f", limit=4)


def test_only_orphans_of_the_dead_are_removed(tmp_path: Path) -> None:
    """Of temporary files, only those over an hour old whose process is gone go; a reused pid counts as gone."""
    own = os.getpid()
    started = Path(f"/proc/{own}/stat").read_text().rpartition(")")[2].split()[19]
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    files = {
        "living": f".f.{own}-{started}-00000000.tmp",
        "reused": f".f.{own}-1-00000000.tmp",
        "dead": f".f.{ended.pid}-1-00000000.tmp",
        "young": f".f.{ended.pid}-1-00000001.tmp",
        "other": "f.parquet",
    }
    for name in files.values():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    os.utime(tmp_path / files["young"], (5000, 5000))
    removed = durable.remove_orphans(tmp_path, now=5000.0 + 3600)
    assert {path.name for path in removed} == {files["reused"], files["dead"]}
    assert {path.name for path in tmp_path.iterdir()} == {files["living"], files["young"], files["other"]}


def test_a_library_file_takes_its_place_only_when_whole(tmp_path: Path) -> None:
    """A file that a library makes by itself is renamed in at the end; on an error it and its log are removed."""
    path = tmp_path / "c.db"
    path.write_bytes(b"old")

    def fail(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        temporary.with_name(temporary.name + ".wal").write_bytes(b"log")
        raise RuntimeError

    with pytest.raises(RuntimeError), durable.building(path) as temporary:
        fail(temporary)
    assert (path.read_bytes(), [path.name for path in tmp_path.iterdir()]) == (b"old", ["c.db"])
    with durable.building(path) as temporary:
        temporary.write_bytes(b"new")
    assert (path.read_bytes(), [path.name for path in tmp_path.iterdir()]) == (b"new", ["c.db"])


def test_the_order_of_calls_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced before the rename and the folder after it: any other order can lose data in a power cut."""
    calls: list[str] = []
    sync, rename = os.fsync, os.rename

    def fsync(descriptor: int) -> None:
        calls.append("sync folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "sync file")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", lambda *a, **k: (calls.append("rename"), rename(*a, **k)))
    durable.write_bytes(tmp_path / "f", b"x")
    assert calls == ["sync file", "rename", "sync folder"]
    calls.clear()
    durable.make_folders(tmp_path, "a", "b")
    assert calls == ["sync folder", "sync folder"]
