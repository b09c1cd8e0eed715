"""Copies of the archive: what leaves arrives to the byte, or is named; nothing here is ever replaced or mixed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from copied_archives import CREATED, DAYS, contents, export, outcomes, small_archive, take_in

from trade_analyst_pipeline.errors import ArchiveCopyError, DiskFullError, StorageError
from trade_analyst_pipeline.storage import captures
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.checked_json import checked_json
from trade_analyst_pipeline.storage.copy_in import import_copy
from trade_analyst_pipeline.storage.copy_manifest import CopiedFile, CopyManifest, manifest_bytes
from trade_analyst_pipeline.storage.copy_out import export_copy

FILES = 10


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A data folder with ten captures."""
    return small_archive(tmp_path / "here")


def copy_of(here: Path, form: str, tmp_path: Path) -> Path:
    """A copy of an archive as a folder or a tar file."""
    copy = tmp_path / ("copy.tar" if form == "tar" else "copy")
    assert outcomes(export(here, copy)) == {"copied": FILES}
    return copy


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_a_copy_arrives_to_the_byte_and_once(form: str, here: Path, tmp_path: Path) -> None:
    """Each file has the bytes it had, an archive reads it, and a second import passes over all of them."""
    copy, there = copy_of(here, form, tmp_path), tmp_path / "there"
    assert outcomes(take_in(there, copy)) == {"copied": FILES}
    assert contents(there) == contents(here)
    archive = Archive(there / "raw")
    for name in ("options", "plan", "quotes"):
        for capture in archive.captures(name):
            archive.verify(capture)
    assert outcomes(take_in(there, copy)) == {"held": FILES}
    assert contents(there) == contents(here)
    assert [path for path in there.rglob("*") if path.name.startswith(".") or path.suffix == ".part"] == []


def test_a_folder_grows_and_is_gone_on_with(here: Path, tmp_path: Path) -> None:
    """A second export adds what is new, keeps what is listed, and takes up what an export that was cut off left."""
    copy = tmp_path / "copy"
    named = {"environment": "simulate", "created_time": CREATED}
    assert len(list(export_copy(here, copy, wanted=lambda _, day: day == DAYS[0], **named))) == 5
    cut = export_copy(here, copy, wanted=lambda *_: True, **named)
    assert [next(cut).outcome for _ in range(2)] == ["held", "held"]
    cut.close()
    found = list(export_copy(here, copy, wanted=lambda name, _: name == "quotes", **named))
    assert outcomes(found) == {"held": 2, "copied": 2}
    there = tmp_path / "there"
    assert outcomes(take_in(there, copy)) == {"copied": 7}
    assert set(contents(there)) == {name for name in contents(here) if str(DAYS[0]) in name or "/quotes/" in name}


def test_only_the_sessions_and_datasets_wanted_are_taken(here: Path, tmp_path: Path) -> None:
    """What is not wanted stays out, from a folder as from a stream."""
    for form in ("folder", "tar"):
        copy, there = copy_of(here, form, tmp_path), tmp_path / f"there-{form}"
        wanted = {"wanted": lambda name, day: name == "quotes" and day == DAYS[1], "now": 0.0}
        assert outcomes(list(import_copy(there, copy, environment="simulate", **wanted))) == {"copied": 2}
        assert len(contents(there)) == 2


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_other_bytes_under_a_name_are_refused_and_kept_aside(form: str, here: Path, tmp_path: Path) -> None:
    """The capture here stays, what came lies below `set_aside/`, once; the copy too keeps what it has."""
    copy, there = copy_of(here, form, tmp_path), small_archive(tmp_path / "there", captures=1, seed=2)
    before = contents(there)
    found = take_in(there, copy)
    assert outcomes(found) == {"refused": len(before), "copied": FILES - len(before)}
    assert {name: sha for name, sha in contents(there).items() if name in before} == before
    assert {each.name for each in found if each.outcome == "refused"} == set(before)
    assert outcomes(take_in(there, copy)) == {"refused": len(before), "held": FILES - len(before)}
    aside = {path.relative_to(there / "set_aside").as_posix() for path in (there / "set_aside").rglob("*.*")}
    assert {name for name in aside if not name.endswith("05") and not name.endswith("06")} == set(before)
    for name in before:
        assert (there / "set_aside" / name).read_bytes() == (here / name).read_bytes()
    if form == "folder":
        kept = contents(copy)
        assert outcomes(export(there, copy)) == {"refused": len(before), "held": FILES - len(before)}
        assert contents(copy) == kept


def test_archives_of_two_environments_never_mix(here: Path, tmp_path: Path) -> None:
    """A copy of `live` is not taken into `simulate`, nor added to by it; nothing is written."""
    copy, there = tmp_path / "copy", tmp_path / "there"
    export(here, copy, environment="live")
    for form in (copy, tmp_path / "copy.tar"):
        if form.suffix:
            export(here, form, environment="live")
        with pytest.raises(ArchiveCopyError, match="archive of `live`, and this is `simulate`"):
            take_in(there, form)
    assert not there.exists()
    before = contents(copy)
    with pytest.raises(ArchiveCopyError, match="archive of `live`"):
        export(small_archive(tmp_path / "other", seed=3), copy)
    assert contents(copy) == before


def test_what_is_damaged_here_is_named_and_not_copied(here: Path, tmp_path: Path) -> None:
    """The others are; a damaged file that a manifest lists all the same is told when it arrives."""
    (bad, *_) = sorted((here / "raw").rglob("*.raw"))
    content = bytearray(bad.read_bytes())
    content[len(content) // 2] ^= 1
    bad.write_bytes(content)
    found = export(here, tmp_path / "copy")
    assert outcomes(found) == {"damaged": 1, "copied": FILES - 1}
    (told,) = [each for each in found if each.outcome == "damaged"]
    assert told.name == bad.relative_to(here).as_posix()
    assert "does not match its CRC" in told.detail
    stream = tar_of([(told.name, bytes(content))])
    (arrived,) = take_in(tmp_path / "there", stream)
    assert (arrived.name, arrived.outcome) == (told.name, "damaged")
    assert "does not match its CRC" in arrived.detail
    assert contents(tmp_path / "there") == {}


def test_a_capture_in_the_place_of_another_is_damage(here: Path, tmp_path: Path) -> None:
    """A whole capture under another's name is told, and does not count as a capture."""
    one, other = sorted((here / "raw/options").rglob("*.raw"))[:2]
    name = other.relative_to(here).as_posix()
    (arrived,) = take_in(tmp_path / "there", tar_of([(name, one.read_bytes())]))
    assert (arrived.outcome, arrived.detail) == ("damaged", f"footer: is that of {'/'.join(one.parts[-3:])}")


def test_a_capture_being_taken_under_the_name_stops_the_import(here: Path, tmp_path: Path) -> None:
    """While a living process writes that capture nothing is placed; what a dead one claimed is no hindrance."""
    copy, there = copy_of(here, "folder", tmp_path), tmp_path / "there"
    first = min(contents(here))
    claimed = (there / first).with_suffix(".part")
    claimed.parent.mkdir(parents=True)
    writer = captures.start(claimed.parent, captures.Header(claimed.stem, "options", DAYS[0], CREATED, CREATED))
    assert writer is not None
    with pytest.raises(StorageError, match="is being written by another process"):
        take_in(there, copy)
    assert contents(there).keys() == {claimed.relative_to(there).as_posix()}
    writer.abandon()
    claimed.touch()
    assert outcomes(take_in(there, copy)) == {"copied": FILES}
    assert contents(there) == contents(here)


def test_what_dead_imports_left_is_removed(here: Path, tmp_path: Path) -> None:
    """Old files in the making and empty claims of dead processes go with the next import."""
    copy, there = copy_of(here, "folder", tmp_path), tmp_path / "there"
    take_in(there, copy)
    folder = (there / min(contents(here))).parent
    left = folder / ".x.raw.4194000-1-00000000.tmp"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    (folder / "20260105T200000000000Z-options-0009.part").touch()
    assert outcomes(take_in(there, copy)) == {"held": FILES}
    assert sorted(contents(there)) == sorted(contents(here))
    assert not left.exists()


def test_an_archive_is_not_copied_into_itself_nor_over_a_file(here: Path, tmp_path: Path) -> None:
    """A folder inside the data folder, a file that is there and a folder of something else are refused."""
    with pytest.raises(ArchiveCopyError, match="lies in the data folder"):
        export(here, here / "copy")
    (tmp_path / "old.tar").write_bytes(b"mine")
    with pytest.raises(ArchiveCopyError, match="nothing is written over"):
        export(here, tmp_path / "old.tar")
    assert (tmp_path / "old.tar").read_bytes() == b"mine"
    with pytest.raises(ArchiveCopyError, match="has no manifest"):
        take_in(tmp_path / "there", tmp_path)
    with pytest.raises(ArchiveCopyError, match="cannot be read"):
        take_in(tmp_path / "there", tmp_path / "nothing")


def test_too_little_room_is_said_before_anything_is_taken(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy larger than what is free is refused whole; sizes count that are not here yet."""
    copy, there = copy_of(here, "folder", tmp_path), tmp_path / "there"
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskFullError, match="nothing was taken"):
        take_in(there, copy)
    assert not there.exists()
    monkeypatch.undo()
    take_in(there, copy)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert outcomes(take_in(there, copy)) == {"held": FILES}


# --- damage on the way


def flip(content: bytes, place: int, bit: int) -> bytes:
    """The bytes with one bit turned."""
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return bytes(changed)


@pytest.mark.reliability
@pytest.mark.parametrize("form", ["folder", "tar"])
def test_a_bit_flipped_on_the_way_is_found_and_named(
    form: str, here: Path, tmp_path: Path, is_full: bool, harness_seed: int
) -> None:
    """Nothing but whole captures is ever placed, the damaged file is named, and a second sending makes all equal."""
    rolled = random.Random(harness_seed)  # noqa: S311  a harness, no secret
    copy, wanted = copy_of(here, form, tmp_path), contents(here)
    sent = [copy] if form == "tar" else [copy / "manifest.json", *sorted((copy / "raw").rglob("*.raw"))]
    spans = files_of(copy) if form == "tar" else {}
    silent = 0
    for number in range(500 if is_full else 60):
        path, there = rolled.choice(sent), tmp_path / f"there{number}"
        before = path.read_bytes()
        place = rolled.randrange(len(before))
        path.write_bytes(flip(before, place, rolled.randrange(8)))
        hit = path.relative_to(copy).as_posix() if form == "folder" else file_at(spans, place)
        try:
            bad = {each.name for each in take_in(there, copy) if each.outcome == "damaged"}
        except ArchiveCopyError as error:
            bad = {str(error)}
        assert contents(there).items() <= wanted.items()
        if hit is None:
            silent += not bad  # padding, or behind the end: nothing is lost by it
        elif hit != "manifest.json":
            assert bad == {hit}
        else:
            assert len(bad) == 1
            assert contents(there) == {}
        path.write_bytes(before)
        take_in(there, copy)
        assert contents(there) == wanted
        shutil.rmtree(there)
    assert silent < 60


def files_of(tar: Path) -> dict[str, range]:
    """Where the bytes of each file lie in a tar, as another program reads it."""
    with tarfile.open(tar) as read:
        return {each.name: range(each.offset_data, each.offset_data + each.size) for each in read}


def file_at(spans: dict[str, range], place: int) -> str | None:
    """The file whose content lies there."""
    return next((name for name, span in spans.items() if place in span), None)


def test_control_a_plain_copy_takes_damage_unnoticed(here: Path, tmp_path: Path) -> None:
    """What the harness above looks for is there when files are copied without being checked."""
    path = min((here / "raw").rglob("*.raw"))
    wanted = contents(here)
    path.write_bytes(flip(path.read_bytes(), 200, 3))
    shutil.copytree(here / "raw", tmp_path / "there/raw")
    assert not contents(tmp_path / "there").items() <= wanted.items()


@pytest.mark.parametrize("cut", ["in a file", "between files", "in the padding", "before the end"])
def test_a_stream_that_ends_early_says_so_and_can_be_sent_again(cut: str, here: Path, tmp_path: Path) -> None:
    """What came whole stands, the rest is asked for again."""
    copy, there = copy_of(here, "tar", tmp_path), tmp_path / "there"
    spans, whole = list(files_of(copy).values()), copy.read_bytes()
    ends = {
        "in a file": spans[4].start + 30,
        "between files": spans[5].start - 512,
        "in the padding": spans[4].stop + 1,
        "before the end": spans[-1].stop + -spans[-1].stop % 512,
    }
    with pytest.raises(ArchiveCopyError, match=r"the stream ended|ended without"):
        take_in(there, io.BytesIO(whole[: ends[cut]]))
    assert contents(there).items() <= contents(here).items()
    assert len(contents(there)) >= 3
    take_in(there, io.BytesIO(whole))
    assert contents(there) == contents(here)


# --- hostile copies


def tar_of(files: list[tuple[str, bytes]], *extra: tarfile.TarInfo, manifest: bytes | None = None) -> io.BytesIO:
    """A tar with a manifest of these files, the files, and what else is given, each as a header and zeros."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        members = [("manifest.json", manifest_of(files) if manifest is None else manifest), *files]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for info in extra:
            tar.addfile(info, io.BytesIO(bytes(info.size)) if info.isreg() and info.size < 1 << 20 else None)
    stream.seek(0)
    return stream


def manifest_of(files: list[tuple[str, bytes]]) -> bytes:
    """A manifest that lists files as they are."""
    listed = [CopiedFile(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files]
    return manifest_bytes("simulate", datetime(2026, 1, 8, tzinfo=UTC), listed)


def info(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    """The header of a member."""
    made = tarfile.TarInfo(name)
    made.type = kind
    for field, value in fields.items():
        setattr(made, field, value)
    return made


NAME = "raw/options/session_date=2026-01-05/20260105T200000000000Z-options-0000.raw"
BAD_NAMES = [
    "../../../etc/passwd",
    "/etc/passwd",
    "raw/../../x/session_date=2026-01-05/a.raw",
    "raw/options/session_date=2026-01-05/../../../a.raw",
    "raw/options/session_date=2026-02-30/a.raw",
    "raw/options/session_date=2026-01-05/a.part",
    "raw/options/session_date=2026-01-05/.a.raw",
    "raw/options/session_date=2026-01-05/a\x00b.raw",
    "raw/options/session_date=2026-01-05/a\n.raw",
    "raw/OPTIONS/session_date=2026-01-05/a.raw",
    "tables/options/session_date=2026-01-05/a.raw",
    "raw/options/a.raw",
    "raw/options/session_date=2026-01-05/" + "a" * 300 + ".raw",
    "",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_manifest_that_names_anything_but_captures_is_refused(name: str, here: Path, tmp_path: Path) -> None:
    """Nothing at all is taken of such a copy, in no form."""
    good = (NAME, (here / NAME).read_bytes())
    text = manifest_of([good, (name, b"x" * 100)])
    there = tmp_path / "deep/er/there"
    with pytest.raises(ArchiveCopyError, match="no capture of an archive"):
        take_in(there, tar_of([good], manifest=text))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/manifest.json").write_bytes(text)
    with pytest.raises(ArchiveCopyError, match="no capture of an archive"):
        take_in(there, tmp_path / "folder")
    assert not (tmp_path / "deep").exists()


def test_a_manifest_that_lists_impossible_things_is_refused(here: Path, tmp_path: Path) -> None:
    """A name twice, a size below that of any capture, one beyond the disk, a hash that is none, another version."""
    data = (here / NAME).read_bytes()
    listed = [
        ([CopiedFile(NAME, len(data), "a" * 64)] * 2, ArchiveCopyError, "named twice"),
        ([CopiedFile(NAME, 3, "a" * 64)], ArchiveCopyError, "no capture of an archive"),
        ([CopiedFile(NAME, -1, "a" * 64)], ArchiveCopyError, "no capture of an archive"),
        ([CopiedFile(NAME, len(data), "../x")], ArchiveCopyError, "no capture of an archive"),
        ([CopiedFile(NAME, 1 << 60, "a" * 64)], DiskFullError, "nothing was taken"),
    ]
    for files, kind, words in listed:
        text = manifest_bytes("simulate", CREATED, files)
        with pytest.raises(kind, match=words):
            take_in(tmp_path / "there", tar_of([(NAME, data)], manifest=text))
    assert not (tmp_path / "there").exists()


HOSTILE: dict[str, tarfile.TarInfo] = {
    "a path out of it": info("../../escape.raw", size=600),
    "an absolute path": info("/escape.raw", size=600),
    "a symbolic link": info(NAME, tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": info(NAME, tarfile.LNKTYPE, linkname="manifest.json"),
    "a character device": info(NAME, tarfile.CHRTYPE, devmajor=1, devminor=5),
    "a block device": info(NAME, tarfile.BLKTYPE, devmajor=8),
    "a pipe": info(NAME, tarfile.FIFOTYPE),
    "a folder": info("raw/options", tarfile.DIRTYPE),
    "a sparse file": info(NAME, tarfile.GNUTYPE_SPARSE, size=600),
    "an extended header": info("x", tarfile.XHDTYPE, size=600),
    "a long name": info("x", tarfile.GNUTYPE_LONGNAME, size=600),
    "a file twice": info(NAME, size=600),
    "a file not listed": info(NAME.replace("0000.raw", "0001.raw"), size=600),
    "a size beyond all bounds": info(NAME.replace("0000.raw", "0001.raw"), size=1 << 50),
}


@pytest.mark.parametrize("what", sorted(HOSTILE))
def test_whatever_else_a_tar_can_hold_is_refused(what: str, here: Path, tmp_path: Path) -> None:
    """It is named; the good file before it stands, and nothing else is there, inside or outside."""
    there = tmp_path / "deep/er/there"
    stream = tar_of([(NAME, (here / NAME).read_bytes())], HOSTILE[what])
    with pytest.raises(ArchiveCopyError, match="hat came before"):
        take_in(there, stream)
    assert set(contents(there)) == {NAME}
    made = [path for path in tmp_path.rglob("*") if path.is_file() and here not in path.parents]
    assert made == [there / NAME]


def test_what_is_no_plain_file_is_refused_whatever_it_claims(here: Path, tmp_path: Path) -> None:
    """A member of another type under a name, and with the size and bytes, that the manifest lists."""
    data = (here / NAME).read_bytes()
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE, tarfile.CONTTYPE, b"?"):
        stream = tar_of([], manifest=manifest_of([(NAME, data)]))
        whole = stream.getvalue()
        end = 512 + 512 * -(-len(manifest_of([(NAME, data)])) // 512)
        member = info(NAME, kind, size=len(data)).tobuf(format=tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)
        with pytest.raises(ArchiveCopyError, match="is no plain file"):
            take_in(tmp_path / "there", io.BytesIO(whole[:end] + member + bytes(1024)))
    assert not (tmp_path / "there").exists()


def test_a_stream_without_a_file_it_lists_says_so(here: Path, tmp_path: Path) -> None:
    """It is a whole tar, and less than its manifest says."""
    files = [(name, (here / name).read_bytes()) for name in list(contents(here))[:2]]
    with pytest.raises(ArchiveCopyError, match="ended without 1 of the files it lists, such as"):
        take_in(tmp_path / "there", tar_of(files[:1], manifest=manifest_of(files)))
    assert list(contents(tmp_path / "there")) == [files[0][0]]


def test_another_whole_capture_in_place_of_the_one_listed_is_damage(here: Path, tmp_path: Path) -> None:
    """Its own checksums hold, and it is of the right place; it is not what the manifest says."""
    copy, other = copy_of(here, "folder", tmp_path), small_archive(tmp_path / "other", seed=5)
    file = copy / NAME
    file.write_bytes((other / NAME).read_bytes())
    text = (copy / "manifest.json").read_bytes()
    listed = [CopiedFile(**each) for each in json.loads(text)["files"]]
    listed = [replace(each, size_bytes=file.stat().st_size) if each.name == NAME else each for each in listed]
    (copy / "manifest.json").write_bytes(manifest_bytes("simulate", CREATED, listed))
    (wrong,) = [each for each in take_in(tmp_path / "there", copy) if each.outcome == "damaged"]
    assert (wrong.name, "changed on its way" in wrong.detail) == (NAME, True)


def test_a_manifest_of_another_version_or_behind_a_link_is_refused(here: Path, tmp_path: Path) -> None:
    """A newer program's is told as such; a link or a changed text is none."""
    copy = copy_of(here, "folder", tmp_path)
    manifest = copy / "manifest.json"
    manifest.write_bytes(checked_json(CopyManifest("simulate", CREATED, (), version=2)))
    with pytest.raises(ArchiveCopyError, match="its manifest is of version 2, this program knows 1: update it"):
        take_in(tmp_path / "there", copy)
    manifest.write_bytes(manifest.read_bytes().replace(b"simulate", b"simulant"))
    with pytest.raises(ArchiveCopyError, match="is not as it was written"):
        take_in(tmp_path / "there", copy)
    manifest.rename(tmp_path / "elsewhere.json")
    manifest.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(ArchiveCopyError, match="cannot be read"):
        take_in(tmp_path / "there", copy)


def test_what_is_held_is_not_read_from_the_copy_again(here: Path, tmp_path: Path) -> None:
    """An import that goes on passes over what has arrived, also where the copy has lost it since."""
    copy, there = copy_of(here, "folder", tmp_path), tmp_path / "there"
    take_in(there, copy)
    shutil.rmtree(copy / "raw")
    assert outcomes(take_in(there, copy)) == {"held": FILES}


def test_a_stream_that_does_not_start_with_its_manifest_is_refused(here: Path, tmp_path: Path) -> None:
    """Another tar, one with a manifest of another size than it may have, and noise are no copies."""
    other = io.BytesIO()
    with tarfile.open(fileobj=other, mode="w") as tar:
        tar.add(here, "here")
    huge = tarfile.TarInfo("manifest.json")
    huge.size = 1 << 40
    streams: list[Callable[[], bytes]] = [other.getvalue, lambda: huge.tobuf() + bytes(512), lambda: bytes(1024)]
    for made in streams:
        with pytest.raises(ArchiveCopyError, match=r"does not start with|no plain file"):
            take_in(tmp_path / "there", io.BytesIO(made()))
    with pytest.raises(ArchiveCopyError, match="no tar any more"):
        take_in(tmp_path / "there", io.BytesIO(b"noise" * 300))
    with pytest.raises(ArchiveCopyError, match="the stream ended"):
        take_in(tmp_path / "there", io.BytesIO(b""))
    assert not (tmp_path / "there").exists()


def test_a_folder_with_links_pipes_and_cut_files_gives_only_what_is_whole(here: Path, tmp_path: Path) -> None:
    """Each such file is named, none is followed or waited for, and the others arrive."""
    copy, there = copy_of(here, "folder", tmp_path), tmp_path / "there"
    link, pipe, cut, gone, folder = sorted((copy / "raw").rglob("*.raw"))[:5]
    link.unlink()
    link.symlink_to(here / link.relative_to(copy))
    pipe.unlink()
    os.mkfifo(pipe)
    cut.write_bytes(cut.read_bytes()[:-1])
    gone.unlink()
    folder.unlink()
    folder.mkdir()
    found = {each.name: each.detail for each in take_in(there, copy) if each.outcome == "damaged"}
    size = cut.stat().st_size
    assert found == {
        link.relative_to(copy).as_posix(): "it is no plain file",
        pipe.relative_to(copy).as_posix(): "it is no plain file",
        cut.relative_to(copy).as_posix(): f"it has {size:,} bytes, and {size + 1:,} are listed",
        gone.relative_to(copy).as_posix(): "it is listed and not there",
        folder.relative_to(copy).as_posix(): "it is no plain file",
    }
    assert contents(there) == {name: sha for name, sha in contents(here).items() if name not in found}


# --- kills


def counts(line: str) -> dict[str, int]:
    """The numbers that the storm printed."""
    return {name: int(count) for name, count in (word.split("=") for word in line.split())}


@pytest.mark.reliability
@pytest.mark.parametrize("form", ["folder", "tar"])
def test_an_import_killed_anywhere_goes_on_until_all_is_equal(
    form: str, run_harness: Callable[..., str], tmp_path: Path, is_full: bool, harness_seed: int
) -> None:
    """Never a half file under the name of a capture, nothing lost that was told; in the end every byte is equal."""
    kills = 500 if is_full else 60
    found = counts(run_harness("import_storm.py", form, tmp_path, kills, harness_seed))
    print(f"import from a {form}: {found}")
    assert found["kills"] == kills
    assert found["amid"] > kills / 10, "the kills are to fall into the work"
    assert (found["wrong"], found["lost"], found["unequal"]) == (0, 0, 0)


def test_control_an_import_that_names_files_first_leaves_wrecks(
    run_harness: Callable[..., str], tmp_path: Path, harness_seed: int
) -> None:
    """The storm finds half files where an import gives a file its name before it is whole."""
    assert counts(run_harness("import_storm.py", "in_place", tmp_path, 100, harness_seed))["wrong"] > 0
