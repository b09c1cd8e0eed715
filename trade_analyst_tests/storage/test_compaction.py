"""Compaction: one file for a session's captures, and nothing about any of them changed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from trade_analyst_pipeline.errors import CaptureDamagedError, CaptureMissingError, DiskFullError, StorageError
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage import durable
from trade_analyst_pipeline.storage.archive import Archive, Capture, Gap, Lacking
from trade_analyst_pipeline.storage.archive_check import look_at_captures
from trade_analyst_pipeline.storage.compaction import Compacted, compact_captures
from trade_analyst_pipeline.storage.tables import Manifest, TableStore

DAY = date(2026, 1, 5)
MOMENT = datetime(2026, 1, 5, 14, 45, tzinfo=UTC)
NOW = MOMENT.timestamp() + 86400
PACK = "raw/options/session_date=2026-01-05/captures.pack"
WORDS = random.Random(5).randbytes(4000)  # noqa: S311  seeded noise


def request(symbol: str) -> MarketDataRequest:
    """What is asked of one symbol."""
    return MarketDataRequest("options", "/chains", (("symbol", symbol),), (symbol,))


def seal(root: Path, number: int, *, gap: str | None = None, minutes: int = 15) -> Capture:
    """The `number`th capture of the session: two answers, one that is short, and a gap if asked for."""
    moment = MOMENT + timedelta(minutes=minutes * number)
    with Archive(root / "raw").begin(
        dataset="options", session_date=DAY, scheduled_time=moment, started_time=moment, symbols=("A", "B", "C")
    ) as writer:
        for symbol in ("A", "B"):
            body = symbol.encode() + WORDS[number : number + 900]
            writer.append(RawResponse(request(symbol), 200, body, (("n", str(number)),), moment, moment))
        writer.append(RawResponse(request("C"), 200, b"{}", (), moment, moment), Lacking("no strikes", 1))
        if gap:
            writer.note_gap(Gap("options", (gap,), "unavailable", "503", request(gap)))
        return writer.seal(moment + timedelta(seconds=number))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data folder with five captures of one session, two of them attempts at one snapshot."""
    for number in range(4):
        seal(tmp_path, number, gap="D" if number == 2 else None)
    moment = MOMENT + timedelta(minutes=30)
    with Archive(tmp_path / "raw").begin(
        dataset="options", session_date=DAY, scheduled_time=moment, started_time=moment
    ) as writer:
        writer.append(RawResponse(request("D"), 200, b"later", (), moment, moment))
        writer.seal(moment)
    return tmp_path


def folder_of(root: Path) -> Path:
    """Where the captures lie."""
    return root / "raw/options/session_date=2026-01-05"


def files(root: Path) -> list[str]:
    """Names of the files there."""
    return sorted(path.name for path in folder_of(root).iterdir())


def told(root: Path) -> object:
    """All that the archive says of its captures but where they lie, read anew."""
    archive = Archive(root / "raw")
    captures = archive.captures("options", DAY)
    return {
        "facts": [replace(capture, path=Path(), offset=0) for capture in captures],
        "index": [archive.index(capture) for capture in captures],
        "responses": [list(archive.responses(capture)) for capture in captures],
        "records": [[archive.record(each, entry) for entry in archive.index(each)] for each in captures],
        "bytes": [b"".join(archive.content(capture)) for capture in captures],
        "completions": [[each.capture_id for each in group] for group in archive.completions(captures)],
        "counting": [(each.capture_id, entry.offset) for each, entry in archive.counting(captures)],
        "gaps": archive.open_gaps(captures),
        "found": [archive.find("options", each.capture_id).capture_id for each in captures],
        "ids": archive.capture_ids("options", DAY),
        "sessions": archive.sessions("options"),
    }


def compact(root: Path, **options: bool) -> Compacted:
    """Compact the session."""
    return compact_captures(root, "options", DAY, now=NOW, **options)


def flaws(root: Path) -> list[tuple[str, str, str]]:
    """What verifying the folder finds."""
    found = look_at_captures(root, "options", "session_date=2026-01-05", flaw_in=lambda _: None, now=NOW)
    return [(flaw.path, flaw.kind, flaw.detail) for flaw in found.flaws]


def test_all_that_is_told_of_captures_stays(root: Path) -> None:
    """Facts, bytes, records and their places, what counts, what is missing: as before, out of one file; also twice."""
    before, own = told(root), sum(path.stat().st_size for path in folder_of(root).iterdir())
    done = compact(root)
    assert (files(root), told(root), flaws(root)) == (["captures.pack"], before, [])
    assert (done.before.files, done.after.files, done.is_changed, done.problem) == (5, 1, True, "")
    assert done.before.size_bytes == own < done.after.size_bytes < own + 1000
    inode = (root / PACK).stat().st_ino
    again = compact(root)
    assert (again.is_changed, (root / PACK).stat().st_ino, told(root)) == (False, inode, before)


def test_the_pack_is_the_captures_end_to_end(root: Path) -> None:
    """The bytes of each file as it was, in order of their ids, then the directory; a later capture comes behind."""
    own = b"".join(path.read_bytes() for path in sorted(folder_of(root).iterdir()))
    compact(root)
    assert (root / PACK).read_bytes().startswith(own)
    late = seal(root, 0, minutes=0)
    content = late.path.read_bytes()
    assert late.capture_id.endswith("0001"), "the first of that time is in the pack"
    before = told(root)
    compact(root)
    assert (root / PACK).read_bytes().startswith(own + content)
    assert (files(root), told(root), flaws(root)) == (["captures.pack"], before, [])


def test_readers_that_listed_before_go_on(root: Path) -> None:
    """What was listed before the switch reads on: own files that have gone, and places in a pack that has grown."""
    archive = Archive(root / "raw")
    listed = archive.captures("options", DAY)
    kept = [list(archive.responses(capture)) for capture in listed]
    half_read = archive.responses(listed[0])
    assert next(half_read) == kept[0][0]
    compact(root)
    assert list(half_read) == kept[0][1:]
    packed = archive.captures("options", DAY)
    seal(root, 9)
    compact(root)
    for captures in (listed, packed):
        assert [list(archive.responses(capture)) for capture in captures] == kept
        assert all(b"".join(archive.content(capture)).startswith(b"\x89TARAW1\n") for capture in captures)
    assert [archive.find("options", capture.capture_id).offset for capture in listed] == [
        capture.offset for capture in packed
    ]


@pytest.mark.parametrize("before_the_names", [True, False])
def test_a_listing_amid_the_switch_is_whole(
    root: Path, monkeypatch: pytest.MonkeyPatch, *, before_the_names: bool
) -> None:
    """Compacted between the look at the pack and the names, or behind the names, each capture is listed once."""
    wanted = Archive(root / "raw").capture_ids("options", DAY)
    names, todo = durable.list_names, [compact]

    def amid(folder: Path) -> list[str]:
        if not todo or folder != folder_of(root).resolve():
            return names(folder)
        work = todo.pop()
        if before_the_names:
            work(root)
            return names(folder)
        found = names(folder)
        work(root)
        return found

    monkeypatch.setattr(durable, "list_names", amid)
    assert [each.capture_id for each in Archive(root / "raw").captures("options", DAY)] == wanted
    assert (todo, files(root)) == ([], ["captures.pack"])


def test_a_capture_in_both_counts_once_and_leaves(root: Path) -> None:
    """Where the crash came before the own files had gone, all is as before, also for `verify`; the next run ends it."""
    before = told(root)
    own = {path.name: path.read_bytes() for path in folder_of(root).iterdir()}
    compact(root)
    for name, content in own.items():
        (folder_of(root) / name).write_bytes(content)
    assert (told(root), flaws(root)) == (before, [])
    assert compact(root).before.files == 6
    assert (files(root), told(root)) == (["captures.pack"], before)


def test_an_own_file_that_is_another_capture_is_kept_and_named(root: Path) -> None:
    """Same id and other bytes: both stay, compaction refuses, and `verify` says which."""
    compact(root)
    first = Archive(root / "raw").capture_ids("options", DAY)[0]
    other = seal(root / "other", 0, gap="Z")
    assert other.capture_id == first
    (folder_of(root) / other.path.name).write_bytes(other.path.read_bytes())
    assert f"{first}.raw: it is not the capture of this id" in compact(root).problem
    assert files(root) == [other.path.name, "captures.pack"]
    assert [flaw[:2] for flaw in flaws(root)] == [(f"raw/options/session_date=2026-01-05/{first}.raw", "damaged")]


def test_a_damaged_capture_stops_it(root: Path) -> None:
    """Nothing is changed where one capture is not whole."""
    victim = sorted(folder_of(root).iterdir())[2]
    content = bytearray(victim.read_bytes())
    content[len(content) // 3] ^= 4
    victim.write_bytes(content)
    assert victim.name in compact(root).problem
    assert len(files(root)) == 5


def test_a_damaged_pack_is_not_copied_on(root: Path) -> None:
    """A byte of the pack that has changed is noticed before a new one takes its place."""
    compact(root)
    seal(root, 9)
    content = bytearray((root / PACK).read_bytes())
    content[500] ^= 1
    (root / PACK).write_bytes(content)
    assert "captures.pack" in compact(root).problem
    assert len(files(root)) == 2
    assert (root / PACK).read_bytes() == content


def test_what_is_not_read_back_stops_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that keeps other bytes than it was given is noticed before anything leaves."""
    before, sync = files(root), durable.os.fsync

    def corrupting(descriptor: int) -> None:
        sync(descriptor)
        for path in folder_of(root).glob(".captures.pack.*.tmp"):
            content = bytearray(path.read_bytes())
            content[700] ^= 1
            path.write_bytes(content)

    monkeypatch.setattr(durable.os, "fsync", corrupting)
    assert "does not match its SHA-256; nothing was changed" in compact(root).problem
    assert files(root) == before


def test_a_full_disk_stops_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room the files stay as they are, and no leftover."""
    before = files(root)

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "sync_file", full)
    with pytest.raises(DiskFullError, match="Free some space"):
        compact(root)
    assert files(root) == before


def test_a_dry_run_and_a_single_file_change_nothing(root: Path) -> None:
    """What would be done is said; a session of one capture is compact as it is, and an unsealed one is left alone."""
    before = files(root)
    would = compact(root, dry_run=True)
    assert (would.is_changed, would.before.files, would.after.files, files(root)) == (True, 5, 1, before)
    alone = root / "alone"
    seal(alone, 1)
    writer = Archive(alone / "raw").begin(
        dataset="options", session_date=DAY, scheduled_time=MOMENT, started_time=MOMENT
    )
    names = files(alone)
    assert (compact(alone).is_changed, files(alone)) == (False, names)
    seal(alone, 2)
    assert compact(alone).is_changed
    assert sorted({path.suffix for path in folder_of(alone).iterdir()}) == [".pack", ".part"]
    writer.append(RawResponse(request("A"), 200, b"1", (), MOMENT, MOMENT))
    writer.seal(MOMENT)
    assert len(Archive(alone / "raw").captures("options", DAY)) == 3


def test_ids_stay_unique_beside_a_pack_that_cannot_be_read(root: Path) -> None:
    """Captures are taken although the pack is damaged, under ids that none in it can have."""
    compact(root)
    whole = (root / PACK).read_bytes()
    (root / PACK).write_bytes(whole[:-1])
    archive = Archive(root / "raw")
    with pytest.raises(CaptureDamagedError, match=r"captures\.pack: directory"):
        archive.captures("options", DAY)
    taken = seal(root, 0)
    assert taken.capture_id.endswith("-5000")
    (root / PACK).write_bytes(whole)
    assert len(archive.captures("options", DAY)) == 6


def test_a_pack_of_another_place_is_refused(root: Path) -> None:
    """A pack moved to another session, and a plain capture under the name of a pack, are named."""
    single = next(folder_of(root).iterdir()).read_bytes()
    compact(root)
    elsewhere = root / "raw/options/session_date=2026-01-06/captures.pack"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes((root / PACK).read_bytes())
    with pytest.raises(CaptureDamagedError, match="is that of options/session_date=2026-01-05"):
        Archive(root / "raw").captures("options", date(2026, 1, 6))
    elsewhere.write_bytes(single)
    with pytest.raises(CaptureDamagedError, match="not where the trailer says"):
        Archive(root / "raw").captures("options", date(2026, 1, 6))
    elsewhere.unlink()
    elsewhere.symlink_to(root / PACK)
    with pytest.raises(StorageError, match="link"):
        Archive(root / "raw").captures("options", date(2026, 1, 6))
    assert Archive(root / "raw").names() == ["options"]


def test_a_capture_in_no_file_is_missing(root: Path) -> None:
    """An id that neither a file nor the pack has, and one whose file has gone for good, are not there."""
    capture = Archive(root / "raw").captures("options", DAY)[0]
    capture.path.unlink()
    with pytest.raises(FileNotFoundError):
        Archive(root / "raw").index(capture)
    compact(root)
    with pytest.raises(CaptureMissingError, match=capture.capture_id):
        Archive(root / "raw").find("options", capture.capture_id)


def test_each_changed_bit_of_a_pack_is_named(root: Path) -> None:
    """One bit changed anywhere, or a cut anywhere: `verify` names the pack, and inside a capture its id."""
    compact(root)
    whole, rng = (root / PACK).read_bytes(), random.Random(11)  # noqa: S311  seeded
    (first, *_), archive = Archive(root / "raw").captures("options", DAY), Archive(root / "raw")
    entry = archive.index(first)[1]
    for place in [entry.offset + 40, *(rng.randrange(len(whole)) for _ in range(150))]:
        content = bytearray(whole)
        content[place] ^= 1 << rng.randrange(8)
        (root / PACK).write_bytes(content)
        found = flaws(root)
        assert found, place
        assert all(path == PACK and kind == "damaged" for path, kind, _ in found), found
        if place == entry.offset + 40:
            assert found[0][2].startswith(f"capture {first.capture_id}: frame 2: ")
            assert "record 1 (B) of its 3 cannot be read" in found[0][2]
    for length in rng.sample(range(len(whole)), 60):
        (root / PACK).write_bytes(whole[:length])
        assert [flaw[:2] for flaw in flaws(root)] == [(PACK, "damaged")]


def test_retired_files_leave_after_their_grace(
    store: TableStore, put: Callable[..., Manifest], frame: pl.DataFrame, tmp_path: Path
) -> None:
    """Files that newer ones replaced stay for a day, then leave; rows, hash and fence stay, and so does `verify`."""
    put(frame.head(1))
    made = put(frame)
    folder = tmp_path / "data/tables/samples/session_date=2026-01-05"
    retired, over = folder / made.retired[0].name, made.retired[0].retired_at + 86400
    assert store.drop_retired("tables", "samples", DAY, now=over - 1) == []
    assert store.drop_retired("tables", "samples", DAY, now=over, dry_run=True) == [retired]
    assert retired.exists()
    assert store.drop_retired("tables", "samples", DAY, now=over) == [retired]
    assert [path.name for path in folder.glob("*.parquet")] == [made.files[0].name]
    assert store.manifest("tables", "samples", DAY) == replace(made, retired=())
    assert store.drop_retired("tables", "samples", DAY, now=over) == []
    store.take_fence("tables", "nothing", DAY)
    assert store.drop_retired("tables", "nothing", DAY, now=over) == []
    store.verify("tables", "samples", DAY)
    assert put(frame.head(2)).fence > made.fence


def stormed(run_harness: Callable[..., str], rounds: int, seed: int, control: str = "none") -> dict[str, int]:
    """What the storm of compactions counted."""
    words = run_harness("compaction_storm.py", rounds, seed, control).split()
    return {name: int(count) for name, count in (word.split("=") for word in words)}


@pytest.mark.reliability
@pytest.mark.slow
def test_compactions_that_die_lose_and_change_nothing(
    run_harness: Callable[..., str], harness_seed: int, *, is_full: bool
) -> None:
    """Dying at any call, amid captures, commits and readers: every byte and record, once, and answers as of an instant.

    What a later compaction leaves is one file for each session, and nothing for `verify` to tell.
    """
    rounds = 1000 if is_full else 40
    counted = stormed(run_harness, rounds, harness_seed)
    print(f"compaction storm: {counted}")
    wrong = ("raised", "wrong_reads", "lost", "wrong_answers", "not_compact")
    assert {name: counted[name] for name in wrong} == dict.fromkeys(wrong, 0)
    assert counted["compactions"] == rounds
    assert counted["died"] > rounds // 4
    assert counted["reads"] > rounds


@pytest.mark.reliability
@pytest.mark.slow
@pytest.mark.parametrize("control", ["removing_first", "double_listing"])
def test_control_careless_compactions_are_caught(
    run_harness: Callable[..., str], harness_seed: int, control: str
) -> None:
    """The storm is able to do harm: files that leave first are lost, and a reader of both sees captures twice."""
    assert stormed(run_harness, 20, harness_seed, control)["lost"] > 0
