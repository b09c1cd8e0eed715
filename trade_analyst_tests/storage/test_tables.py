"""Partitions: atomic, fenced, typed, and whole for every reader at every moment."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from trade_analyst_pipeline.errors import (
    FencedWriteError,
    PartitionDamagedError,
    PartitionMissingError,
    SchemaMismatchError,
    StorageError,
)
from trade_analyst_pipeline.market.columns import Column, TableSchema
from trade_analyst_pipeline.storage import tables
from trade_analyst_pipeline.storage.manifest import (
    MANIFEST_NAME,
    Findings,
    folder_name,
    read_manifest,
    write_manifest,
)
from trade_analyst_pipeline.storage.tables import Manifest, TableStore, content_hash

DAY, NEXT = date(2026, 1, 5), date(2026, 1, 6)
MOMENT = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)
Put = Callable[..., Manifest]


class StandingClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = MOMENT

    def now(self) -> datetime:
        """The instant it is set to."""
        return self.at

    async def sleep(self, seconds: float) -> None:
        """Never used by storage."""


def folder(store: TableStore, key: date | int = DAY, stage: str = "tables") -> Path:
    """The folder of a partition of the sample table."""
    return store.root / stage / "samples" / folder_name(key)


def read(store: TableStore, schema: TableSchema, **options: object) -> pl.DataFrame:
    """All rows of the sample table."""
    return store.scan("tables", "samples", schema=schema, **options).collect()


def test_rows_come_back_typed_and_in_key_order(
    store: TableStore, schema: TableSchema, frame: pl.DataFrame, put: Put
) -> None:
    """Written in any order, a partition reads back sorted by its key, with every type and null as it was."""
    put(frame.reverse())
    assert read(store, schema).equals(frame, null_equal=True)
    assert read(store, schema).schema == schema.polars_schema


def test_the_manifest_says_what_is_there(store: TableStore, frame: pl.DataFrame, put: Put, schema: TableSchema) -> None:
    """Rows, bytes, hash, time range, fence, sources and columns are those of the partition, also read back."""
    manifest = put(frame, source_captures=("c1", "c2"))
    assert store.manifest("tables", "samples", DAY) == manifest
    assert (manifest.row_count, manifest.fence, manifest.source_captures) == (3, 1, ("c1", "c2"))
    assert (manifest.first_time, manifest.last_time) == (MOMENT, MOMENT.replace(minute=56))
    assert manifest.content_hash == content_hash(frame, schema)
    assert manifest.columns["broken_rules"] == "list[text]"
    (file,) = manifest.files
    content = (folder(store) / file.name).read_bytes()
    assert (file.size_bytes, file.row_count) == (len(content), 3)
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert manifest.size_bytes == len(content)


def test_every_file_describes_itself(store: TableStore, frame: pl.DataFrame, put: Put) -> None:
    """A Parquet file alone tells schema, versions, time, sources and rows; zstd with statistics (read by pyarrow)."""
    manifest = put(frame)
    (path,) = store.files("tables", "samples")
    footer = pq.ParquetFile(path).metadata
    expected = {
        "schema_name": "samples",
        "schema_version": "1.0",
        "data_version": manifest.content_hash,
        "code_version": "0.1.0",
        "created_at": "2026-01-05T20:55:00+00:00",
        "source_captures": '["c1"]',
        "row_count": "3",
    }
    stored = {key.decode(): value.decode() for key, value in footer.metadata.items()}
    assert expected.items() <= stored.items()
    column = footer.row_group(0).column(2)
    assert column.compression == "ZSTD"
    assert (column.statistics.min, column.statistics.max) == (0.0, 1.5)


def test_nothing_stored_is_an_empty_typed_table(
    store: TableStore, schema: TableSchema, frame: pl.DataFrame, put: Put
) -> None:
    """No partition, or only one without rows, reads as no rows of the right types; the empty one exists though."""
    assert read(store, schema).equals(schema.empty())
    assert store.partitions("tables", "samples") == []
    assert store.manifest("tables", "samples", DAY) is None
    put(frame.clear())
    assert read(store, schema).equals(schema.empty())
    assert store.partitions("tables", "samples") == [DAY]
    assert store.files("tables", "samples") == []


def test_partitions_are_read_in_order_and_by_choice(
    store: TableStore, schema: TableSchema, frame: pl.DataFrame, put: Put
) -> None:
    """Dates and years are keys; a scan takes all in order, or those asked for; absent ones are no error."""
    put(frame.head(1).with_columns(size=pl.lit(2, dtype=pl.Int64)), NEXT)
    put(frame.head(1).with_columns(size=pl.lit(1, dtype=pl.Int64)), DAY)
    put(frame.head(1).with_columns(size=pl.lit(3, dtype=pl.Int64)), 2025)
    assert store.partitions("tables", "samples") == [DAY, NEXT, 2025]
    assert read(store, schema)["size"].to_list() == [1, 2, 3]
    assert read(store, schema, partitions=[NEXT, date(2026, 1, 7), 2025])["size"].to_list() == [2, 3]
    assert store.names("tables") == ["samples"]


def written(store: TableStore) -> dict[str, int]:
    """When each file of the sample partition was written, the fence apart."""
    return {path.name: path.stat().st_mtime_ns for path in folder(store).iterdir() if path.name != "_fence"}


def test_equal_content_is_not_written_again(store: TableStore, frame: pl.DataFrame, put: Put) -> None:
    """Same rows, captures, schema and code version: the present manifest is returned, no file changes, in any order."""
    first = put(frame)
    before = written(store)
    assert put(frame.reverse(), created_time=MOMENT + timedelta(days=1)) == first
    assert written(store) == before


@pytest.mark.parametrize(
    "change",
    [
        {"code_version": "0.2.0"},
        {"source_captures": ("c1", "c2")},
        {"findings": Findings({"too_high": 1}, {"sentinel:price": 2}, ("c1: damaged",), ("no_rows: nothing",))},
    ],
)
def test_equal_rows_of_another_making_are_stamped_anew(
    store: TableStore, schema: TableSchema, frame: pl.DataFrame, put: Put, change: dict[str, object]
) -> None:
    """The manifest says what the last making was from and found, and since when the rows are there; no row is written.

    A run that is late for the new manifest is refused like any other.
    """
    first = put(frame)
    (path,) = store.files("tables", "samples")
    before, late = path.stat(), store.take_fence("tables", "samples", DAY)
    second = put(frame.reverse(), created_time=MOMENT + timedelta(days=1), **change)
    assert second == replace(first, fence=3, **change)
    assert store.manifest("tables", "samples", DAY) == second
    assert store.files("tables", "samples") == [path]
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    with pytest.raises(FencedWriteError):
        put(frame.head(1), fence=late)
    put(frame.head(1))
    assert read(store, schema).height == 1


@pytest.mark.parametrize("change", ["rows", "schema"])
def test_other_content_is_written(
    store: TableStore, schema: TableSchema, frame: pl.DataFrame, put: Put, change: str
) -> None:
    """Another value or another schema version makes a new manifest with a new file."""
    first = put(frame)
    second = put(
        frame.with_columns(size=pl.lit(9, dtype=pl.Int64)) if change == "rows" else frame,
        schema=replace(schema, version="1.1") if change == "schema" else schema,
    )
    assert second.files != first.files
    assert second.fence == 2
    assert store.manifest("tables", "samples", DAY) == second


def test_a_partition_without_rows_does_not_change_the_table(store: TableStore, frame: pl.DataFrame, put: Put) -> None:
    """The hash of a table is that of its rows: an empty partition and none are the same."""
    put(frame)
    before = store.combined_hash("tables", "samples")
    put(frame.clear(), NEXT)
    assert store.combined_hash("tables", "samples") == before
    put(frame, NEXT)
    assert store.combined_hash("tables", "samples") != before


def test_damaged_files_are_written_again(store: TableStore, schema: TableSchema, frame: pl.DataFrame, put: Put) -> None:
    """Equal content over a file that lost or changed bytes repairs it."""
    put(frame)
    (path,) = store.files("tables", "samples")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    put(frame)
    store.verify("tables", "samples", DAY)
    assert read(store, schema).equals(frame, null_equal=True)


def test_a_late_writer_is_refused(store: TableStore, frame: pl.DataFrame, put: Put) -> None:
    """A run that took its fence before another one committed cannot overwrite; its files are gone, the data stands."""
    late = store.take_fence("tables", "samples", DAY)
    newer = put(frame)
    with pytest.raises(FencedWriteError, match=r"fence 2\).*fence 1\)"):
        put(frame.head(1), fence=late)
    assert store.manifest("tables", "samples", DAY) == newer
    assert {path.name for path in folder(store).iterdir()} == {newer.files[0].name, MANIFEST_NAME, "_fence"}


def test_a_late_writer_is_refused_after_an_unchanged_run(store: TableStore, frame: pl.DataFrame, put: Put) -> None:
    """A newer run that found nothing to write has been accepted all the same: the older one stays refused."""
    put(frame)
    late = store.take_fence("tables", "samples", DAY)
    put(frame)
    with pytest.raises(FencedWriteError):
        put(frame.head(1), fence=late)
    with pytest.raises(FencedWriteError):
        put(frame, fence=late)


def test_a_writer_overtaken_while_writing_is_refused(
    store: TableStore, frame: pl.DataFrame, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fence is compared again at the moment of the swap, not only before the rows are written."""
    late = store.take_fence("tables", "samples", DAY)
    write_rows = tables._write_rows

    def overtaken(*arguments: object) -> object:
        monkeypatch.setattr(tables, "_write_rows", write_rows)
        put(frame)
        return write_rows(*arguments)

    monkeypatch.setattr(tables, "_write_rows", overtaken)
    with pytest.raises(FencedWriteError):
        put(frame.head(1), fence=late)
    assert store.manifest("tables", "samples", DAY).row_count == 3


def test_without_the_fence_the_zombie_wins(
    store: TableStore, frame: pl.DataFrame, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: the same late writer overwrites newer data when nothing compares the fences."""
    monkeypatch.setattr(tables, "_refuse_late", lambda *_: None)
    late = store.take_fence("tables", "samples", DAY)
    put(frame)
    put(frame.head(1), fence=late)
    assert store.manifest("tables", "samples", DAY).row_count == 1


def test_fences_go_on_when_their_file_is_lost(store: TableStore, frame: pl.DataFrame, put: Put) -> None:
    """Without its memory the next fence is still higher than the one committed."""
    for size in range(3):
        put(frame.with_columns(size=pl.lit(size, dtype=pl.Int64)))
    (folder(store) / "_fence").unlink()
    assert store.take_fence("tables", "samples", DAY) == 4


def test_old_files_are_kept_for_readers(schema: TableSchema, frame: pl.DataFrame, tmp_path: Path) -> None:
    """A replaced file stays for the grace time, then goes with the next write; no other file goes."""
    clock = StandingClock()
    store = TableStore(tmp_path, grace=timedelta(hours=24), clock=clock)

    def write(size: int, at: datetime) -> set[str]:
        clock.at = at
        fence = store.take_fence("tables", "samples", DAY)
        changed = frame.with_columns(size=pl.lit(size, dtype=pl.Int64))
        store.write(
            "tables",
            changed,
            schema=schema,
            partition=DAY,
            fence=fence,
            source_captures=(),
            code_version="0",
            created_time=at,
        )
        return {path.name.split("-")[1] for path in folder(store).glob("part-*")}

    (folder_of := folder(store)).mkdir(parents=True)
    (folder_of / "part-0-aaaaaaaaaaaa.parquet").write_bytes(b"left by a crash before its commit")
    (folder_of / "notes.txt").write_bytes(b"not ours")
    assert write(1, MOMENT) == {"1"}
    assert write(2, MOMENT + timedelta(days=9)) == {"1", "2"}
    assert write(3, MOMENT + timedelta(days=9, hours=23)) == {"1", "2", "3"}
    assert write(4, MOMENT + timedelta(days=10)) == {"2", "3", "4"}
    assert (folder_of / "notes.txt").exists()
    (folder_of / "part-6-bbbbbbbbbbbb.parquet").write_bytes(b"of a later run that has not committed yet")
    assert write(5, MOMENT + timedelta(days=10)) == {"2", "3", "4", "5", "6"}


def test_a_crash_between_rows_and_manifest_changes_nothing(
    store: TableStore, schema: TableSchema, frame: pl.DataFrame, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows without a manifest are invisible, and the next write clears them away."""
    put(frame)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tables, "write_manifest", crash)
        with pytest.raises(KeyboardInterrupt):
            put(frame.head(1))
    assert read(store, schema).height == 3
    kept = put(frame.head(2))
    assert {path.name for path in folder(store).glob("part-2-*")} == set()
    assert read(store, schema).height == kept.row_count == 2


def test_added_columns_read_as_null(store: TableStore, schema: TableSchema, frame: pl.DataFrame, put: Put) -> None:
    """A newer minor version reads files without its new column as null."""
    more = replace(schema, version="1.1", columns=(*schema.columns, Column("added", pl.Float64(), None, "")))
    put(frame)
    put(frame.with_columns(added=pl.lit(2.5)), NEXT, schema=more)
    assert read(store, more)["added"].to_list() == [None, None, None, 2.5, 2.5, 2.5]


def test_another_type_is_refused(store: TableStore, schema: TableSchema, frame: pl.DataFrame, put: Put) -> None:
    """A stored column of another type is named before any row is read."""
    columns = tuple(replace(column, dtype=pl.Int32()) if column.name == "size" else column for column in schema.columns)
    put(frame)
    with pytest.raises(SchemaMismatchError, match="size is int64, not int32"):
        store.scan("tables", "samples", schema=replace(schema, columns=columns))


def test_missing_and_cut_files_are_damage(
    store: TableStore, schema: TableSchema, frame: pl.DataFrame, put: Put
) -> None:
    """A file that is gone, shorter, or changed is told with its name and the way out."""
    put(frame)
    (path,) = store.files("tables", "samples")
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    with pytest.raises(PartitionDamagedError, match="SHA-256"):
        store.verify("tables", "samples", DAY)
    path.write_bytes(whole[:-1])
    for action in (
        lambda: store.scan("tables", "samples", schema=schema),
        lambda: store.verify("tables", "samples", DAY),
    ):
        with pytest.raises(PartitionDamagedError, match=f"{path.name} has .* rebuild"):
            action()
    path.unlink()
    with pytest.raises(PartitionDamagedError, match="is missing"):
        store.scan("tables", "samples", schema=schema)
    with pytest.raises(PartitionMissingError):
        store.verify("tables", "samples", NEXT)


def test_a_manifest_cannot_point_outside(store: TableStore, frame: pl.DataFrame, put: Put) -> None:
    """A manifest that lists a file of another name or place is refused."""
    manifest = put(frame)
    write_manifest(folder(store), replace(manifest, files=(replace(manifest.files[0], name="../../x.parquet"),)))
    with pytest.raises(PartitionDamagedError, match="no file of ours"):
        store.manifests("tables", "samples")


def test_links_are_refused(store: TableStore, frame: pl.DataFrame, put: Put, tmp_path: Path) -> None:
    """A partition folder that is a link is neither read nor written; nothing appears behind it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (store.root / "tables" / "samples").mkdir(parents=True)
    folder(store).symlink_to(outside)
    with pytest.raises(StorageError, match="plain folder"):
        put(frame, fence=1)
    assert [path.name for path in outside.iterdir()] == []


def test_a_data_folder_may_be_a_link(tmp_path: Path) -> None:
    """The root itself may lie on another disk."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    assert TableStore(tmp_path / "data").take_fence("tables", "samples", DAY) == 1


def test_hashes_compare_whole_tables(store: TableStore, frame: pl.DataFrame, put: Put, tmp_path: Path) -> None:
    """The combined hash is equal for equal partitions however often written, and notices any change."""
    other = TableStore(tmp_path / "other")
    put(frame, DAY)
    put(frame.head(2), NEXT)
    before = store.combined_hash("tables", "samples")
    put(frame.head(1), NEXT)
    assert store.combined_hash("tables", "samples") != before
    put(frame.head(2), NEXT)
    assert store.combined_hash("tables", "samples") == before
    assert other.combined_hash("tables", "samples") == hashlib.sha256(json.dumps([]).encode()).hexdigest()


def test_layout_does_not_change_the_content(
    store: TableStore, schema: TableSchema, frame: pl.DataFrame, put: Put
) -> None:
    """Two files listed in one manifest read as one partition with the hash it had as one file."""
    first, second = put(frame.head(2), DAY), put(frame.tail(1), NEXT)
    (folder(store, NEXT) / second.files[0].name).rename(folder(store) / second.files[0].name)
    (folder(store, NEXT) / MANIFEST_NAME).unlink()
    write_manifest(folder(store), replace(first, files=first.files + second.files))
    assert content_hash(read(store, schema), schema) == content_hash(frame, schema)


def test_a_full_disk_keeps_the_old_partition(run_harness: Callable[..., str], tmp_path: Path) -> None:
    """Over the file size limit the write ends in DiskFullError, old rows stay readable, no temporary file is left."""
    assert run_harness("full_disk.py", "table", tmp_path).splitlines() == [
        "[1]",
        "full",
        "[1]",
        "[2]",
        "['_fence', '_manifest.json', 'part', 'part']",
    ]


@pytest.mark.reliability
@pytest.mark.slow
def test_kill_storm(run_harness: Callable[..., str], tmp_path: Path, *, is_full: bool) -> None:
    """Killed at 500 random moments it is always whole and no acknowledged write is lost; in place it breaks."""
    kills = 500 if is_full else 40
    printed = dict(line.split("=") for line in run_harness("kill_storm.py", "table", tmp_path / "a", kills).split())
    print(f"P8 partition: {printed}")
    assert (printed["kills"], printed["lost"], printed["unreadable"]) == (str(kills), "0", "0")
    assert int(printed["acknowledged"]) >= kills
    control = dict(line.split("=") for line in run_harness("kill_storm.py", "in_place", tmp_path / "b", 40).split())
    assert int(control["unreadable"]) >= 5


def test_processes_share_a_partition(run_harness: Callable[..., str], store: TableStore) -> None:
    """Four processes replace one partition 100 times: fences are unique, the highest stands, losers are told."""
    lines = [line.split() for line in run_harness("many_writers.py", "table", store.root).splitlines()]
    assert sorted(int(fence) for fence, _ in lines) == list(range(1, 101))
    highest = max(int(fence) for fence, accepted in lines if accepted == "True")
    manifest = read_manifest(folder(store))
    assert manifest is not None
    assert manifest.fence == highest == 100
    store.verify("tables", "samples", DAY)
