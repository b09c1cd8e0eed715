"""The raw archive: verbatim, sealed, unique, and loud about any damage."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest
import zstandard

from trade_analyst_pipeline.errors import CaptureDamagedError, DiskFullError, StorageError
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage import durable, frames
from trade_analyst_pipeline.storage.archive import Archive, Capture, CaptureWriter, Gap

DAY = date(2026, 1, 5)
MOMENT = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)
GAP = Gap("options", ("XOM",), "unavailable", "503 five times")
Make = Callable[..., RawResponse]


def begin(
    archive: Archive, *, day: date = DAY, scheduled: datetime = MOMENT, dataset: str = "options"
) -> CaptureWriter:
    """A capture begun a second after it was scheduled."""
    return archive.begin(
        dataset=dataset, session_date=day, scheduled_time=scheduled, started_time=scheduled + timedelta(seconds=1)
    )


def sealed(archive: Archive, responses: list[RawResponse], **changes: object) -> Capture:
    """A sealed capture of these responses and one gap."""
    with begin(archive, **changes) as writer:
        for response in responses:
            writer.append(response)
        writer.note_gap(GAP)
        return writer.seal(MOMENT + timedelta(seconds=9))


def test_responses_come_back_byte_for_byte(archive: Archive, response: Make) -> None:
    """Body, request, status, headers, times and attempts are as they were, in order; odd bodies too."""
    sent = [response(), response(b""), response(bytes(range(256)) * 40, "$SPX"), response("é\u2028".encode(), "BRK/B")]
    capture = sealed(archive, sent)
    assert list(archive.responses(capture)) == sent


def test_the_capture_describes_itself(archive: Archive, response: Make, tmp_path: Path) -> None:
    """What `seal` returns is what another process lists: ids, times in UTC, counts, sizes, gaps."""
    eastern = timezone(timedelta(hours=-5))
    capture = sealed(archive, [response(b"12"), response(b"345")], scheduled=MOMENT.astimezone(eastern))
    assert archive.captures("options", DAY) == [capture] == Archive(tmp_path / "raw").captures("options")
    assert capture.capture_id == "20260105T205500000000Z-options-0000"
    assert capture.path == tmp_path / "raw/options/session_date=2026-01-05/20260105T205500000000Z-options-0000.raw"
    assert (capture.scheduled_time, capture.started_time) == (MOMENT, MOMENT + timedelta(seconds=1))
    assert capture.finished_time == MOMENT + timedelta(seconds=9)
    assert (capture.record_count, capture.body_bytes, capture.gaps) == (2, 5, (GAP,))
    assert capture.stored_bytes == capture.path.stat().st_size


def test_the_index_says_what_each_record_answers(archive: Archive, response: Make) -> None:
    """The footer lists request, status, times, size and SHA-256 of each body; the digest of `abc` is FIPS 180's."""
    entries = archive.index(sealed(archive, [response(b"abc"), response(b"{}", "SPY")]))
    assert [entry.request.symbols for entry in entries] == [("AAPL",), ("SPY",)]
    assert entries[0].body_sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (entries[0].body_bytes, entries[0].status) == (3, 200)
    assert entries[0].received_time == MOMENT.replace(second=2, microsecond=123456)


def test_captures_are_ordered_and_may_share_a_time(archive: Archive, response: Make) -> None:
    """Captures of one scheduled time get ids of their own, in the order begun; listings ascend over sessions."""
    late = sealed(archive, [response()], scheduled=MOMENT + timedelta(minutes=15))
    first, second = sealed(archive, [response()]), sealed(archive, [response()])
    before = sealed(archive, [response()], day=date(2026, 1, 2), scheduled=MOMENT - timedelta(days=3))
    assert first.capture_id < second.capture_id < late.capture_id
    assert archive.captures("options", DAY) == [first, second, late]
    assert archive.captures("options") == [before, first, second, late]
    assert archive.sessions("options") == [date(2026, 1, 2), DAY]


def test_an_unsealed_capture_is_not_there(archive: Archive, response: Make, tmp_path: Path) -> None:
    """Until sealed nothing is listed; leaving the block unsealed, or abandoning, leaves no file."""
    with begin(archive) as writer:
        writer.append(response())
        assert archive.captures("options") == []
        assert archive.sessions("options") == []
        with begin(archive) as other:
            assert other.capture_id != writer.capture_id
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_nothing_stored_is_an_empty_list(archive: Archive) -> None:
    """A dataset never captured has no captures and no sessions."""
    assert (archive.captures("quotes"), archive.captures("quotes", DAY), archive.sessions("quotes")) == ([], [], [])
    assert archive.recover("quotes") == []


def test_the_content_hash_ignores_order_and_times(archive: Archive, response: Make) -> None:
    """Equal answers to equal requests hash the same in any order, at any time; another body or request differs."""
    one, two = response(b"1", "A"), response(b"2", "B")
    later = RawResponse(one.request, 200, b"1", (), MOMENT, MOMENT, attempts=3)
    hashes = [
        sealed(archive, bodies).content_hash
        for bodies in ([one, two], [two, later], [one], [one, one], [response(b"2", "A"), response(b"1", "B")])
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4


@pytest.mark.parametrize("name", ["", "Options", "../x", "a/b", "o.p", "x" * 65, "1x", "a\n"])
def test_names_that_could_leave_the_folder_are_refused(archive: Archive, name: str) -> None:
    """A dataset is a plain lower-case word, in reading as in writing."""
    with pytest.raises(StorageError, match="cannot name a dataset"):
        begin(archive, dataset=name)
    with pytest.raises(StorageError, match="cannot name a dataset"):
        archive.captures(name)


def test_links_are_refused(archive: Archive, response: Make, tmp_path: Path) -> None:
    """Neither a linked session folder nor a linked capture is followed."""
    capture = sealed(archive, [response()])
    linked = capture.path.with_name("20260105T205500000000Z-options-0001.raw")
    linked.symlink_to(capture.path)
    with pytest.raises(StorageError, match="link"):
        archive.captures("options")
    linked.unlink()
    (tmp_path / "raw/options/session_date=2026-01-06").symlink_to(capture.path.parent)
    with pytest.raises(StorageError, match="link"):
        archive.captures("options", date(2026, 1, 6))


def test_a_listing_reads_each_footer_once(archive: Archive, response: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second listing opens no file, and a replaced file is noticed all the same."""
    capture = sealed(archive, [response()])
    opened: list[Path] = []
    monkeypatch.setattr(durable, "open_file", lambda path: (opened.append(path), durable_open(path))[1])
    archive.captures("options")
    archive.captures("options")
    assert opened == [capture.path]
    capture.path.write_bytes(b"something else")
    with pytest.raises(CaptureDamagedError):
        archive.captures("options")


durable_open = durable.open_file


def damage_is_found(archive: Archive, capture: Capture) -> bool:
    """Whether listing and verifying the file as it now is ends in CaptureDamagedError."""
    try:
        for found in archive.captures("options"):
            archive.verify(found)
    except CaptureDamagedError as error:
        return str(capture.path) in str(error)
    return False


def control_notices(content: bytes) -> bool:
    """What a plain zstd stream reader would notice."""
    try:
        with zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True) as reader:
            while reader.read(1 << 16):
                pass
    except zstandard.ZstdError:
        return True
    return False


@pytest.fixture
def damaged(archive: Archive, response: Make) -> Capture:
    """A capture of a few small records, to be damaged."""
    return sealed(archive, [response(b'{"last":%d}' % number * 20, f"S{number}") for number in range(4)])


def test_a_cut_anywhere_is_noticed(archive: Archive, damaged: Capture) -> None:
    """Cut at every single byte, the file is refused; a plain zstd stream reader notices none of its cuts."""
    whole = damaged.path.read_bytes()
    plain = zstandard.ZstdCompressor().compress(whole)
    assert not damage_is_found(archive, damaged)
    for length in range(len(whole)):
        damaged.path.write_bytes(whole[:length])
        assert damage_is_found(archive, damaged), length
    assert sum(control_notices(plain[:length]) for length in range(len(plain))) == 0


def test_a_flipped_bit_anywhere_is_noticed(archive: Archive, damaged: Capture) -> None:
    """1,000 single flipped bits over the whole file: each one is found."""
    whole = damaged.path.read_bytes()
    rng = random.Random(20260105)  # noqa: S311  seeded, for repeatable flips
    for _ in range(1000):
        place, bit = rng.randrange(len(whole)), rng.randrange(8)
        damaged.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        assert damage_is_found(archive, damaged), (place, bit)


def test_records_of_another_capture_are_noticed(archive: Archive, response: Make) -> None:
    """Two whole files swapped, or one record replaced by a whole record of another capture, are refused."""
    one = sealed(archive, [response(b"0")])
    first = one.path.read_bytes()
    place = archive_record(first)
    contents = [sealed(archive, [response(b"%d" % number)]).path.read_bytes() for number in range(1, 10)]
    one.path.write_bytes(contents[0])
    assert damage_is_found(archive, one)
    same_size = next(content for content in contents if len(archive_record(content)) == len(place))
    one.path.write_bytes(first.replace(place, archive_record(same_size)))
    assert damage_is_found(archive, one)


def archive_record(content: bytes) -> bytes:
    """The first record frame in a file."""
    start = content.index(b"TAFR")
    return content[start : content.index(b"TAFG")]


@pytest.mark.parametrize("what", ["index", "gaps"])
def test_a_footer_must_agree_with_the_records(archive: Archive, response: Make, what: str) -> None:
    """A footer that lists a record or a gap which is not in the file is damage, though every CRC is right."""
    with begin(archive) as writer:
        writer.append(response())
        writer.note_gap(GAP)
        listed = getattr(writer._contents, what)
        listed.append(listed[0])
        capture = writer.seal(MOMENT)
    with pytest.raises(CaptureDamagedError, match="not there"):
        archive.verify(capture)


def test_damage_stops_reading_at_the_record(archive: Archive, damaged: Capture) -> None:
    """Reading gives the records before the damaged one, then names file and frame."""
    whole = bytearray(damaged.path.read_bytes())
    whole[archive.index(damaged)[2].offset + frames.HEAD_BYTES + 3] ^= 1
    damaged.path.write_bytes(whole)
    got: list[RawResponse] = []
    with pytest.raises(CaptureDamagedError, match=r"0000\.raw: frame 3: .*CRC"):
        got.extend(iter_into(got, archive, damaged))
    assert [item.request.symbols for item in got] == [("S0",), ("S1",)]


def test_an_index_is_read_anew_once_the_file_has_changed(archive: Archive, damaged: Capture) -> None:
    """What was read of a file before is not told of other bytes in its place."""
    assert archive.index(damaged) == archive.index(damaged)
    damaged.path.write_bytes(damaged.path.read_bytes()[:-1])
    with pytest.raises(CaptureDamagedError, match="footer"):
        archive.index(damaged)


def iter_into(got: list[RawResponse], archive: Archive, capture: Capture) -> list[RawResponse]:
    """Read into `got` one by one, so that what came before an error is kept."""
    for item in archive.responses(capture):
        got.append(item)  # noqa: PERF402  `extend` would lose what came before the error
    return []


def test_a_gap_is_open_until_its_request_is_answered(archive: Archive, response: Make) -> None:
    """A failed request that is answered for the same scheduled time leaves no gap; one that fails again leaves one."""
    asked = response(b"1").request

    def attempt(*answers: RawResponse, gap: Gap | None, scheduled: datetime = MOMENT) -> None:
        with begin(archive, scheduled=scheduled) as writer:
            for answer in answers:
                writer.append(answer)
            if gap is not None:
                writer.note_gap(gap)
            writer.seal(MOMENT)

    def open_reasons() -> list[str]:
        return [gap.reason for gap in archive.open_gaps(archive.captures("options"))]

    failed = Gap("options", ("AAPL",), "unavailable", "no answer", asked)
    attempt(gap=failed)
    attempt(response(b"1"), gap=None, scheduled=MOMENT + timedelta(minutes=10))
    assert open_reasons() == ["unavailable"]
    attempt(gap=replace(failed, reason="deadline"))
    assert open_reasons() == ["deadline"]
    attempt(response(b"1"), gap=Gap("options", (), "interrupted", "cut"))
    assert open_reasons() == ["interrupted"]
    attempt(response(b"2", "SPY"), gap=GAP)
    assert open_reasons() == [GAP.reason]


def test_attempts_at_one_snapshot_belong_together(archive: Archive, response: Make) -> None:
    """A capture that answers what an earlier one of its time missed completes it; others stand alone."""
    asked = response(b"1").request
    missed = Gap("options", ("AAPL",), "unavailable", "no answer", asked)

    def attempt(answer: RawResponse, *gaps: Gap, scheduled: datetime = MOMENT) -> Capture:
        with begin(archive, scheduled=scheduled) as writer:
            writer.append(answer)
            for gap in gaps:
                writer.note_gap(gap)
            return writer.seal(MOMENT)

    first, other = attempt(response(b"2", "SPY"), missed), attempt(response(b"3", "QQQ"))
    completing, cut = attempt(response(b"1")), attempt(response(b"4", "IWM"), Gap("options", (), "interrupted", "cut"))
    rest = attempt(response(b"5", "DIA"))
    later = attempt(response(b"1"), scheduled=MOMENT + timedelta(minutes=10))
    found = archive.completions([first, other, completing, cut, rest, later])
    assert found == [[first, completing], [other], [cut, rest], [later]]


def crashed(archive: Archive, responses: list[RawResponse], tail: int = 0) -> Path:
    """An unsealed file as a process leaves it that died; `tail` bytes of a further record had been written."""
    with begin(archive) as writer:
        for item in responses:
            writer.append(item)
        writer.note_gap(GAP)
        part = next((archive._root / "options").rglob("*.part"))
        content = part.read_bytes()
        noise = random.Random(1).randbytes(5000)  # noqa: S311  seeded noise
        writer.append(RawResponse(MarketDataRequest("options", "/chains"), 200, noise, (), MOMENT, MOMENT))
        content += part.read_bytes()[len(content) :][:tail]
    part.write_bytes(content)
    return part


def test_a_dead_writers_capture_is_recovered(archive: Archive, response: Make) -> None:
    """All whole records and gaps of an unsealed file are sealed, with a gap that says it was interrupted."""
    sent = [response(b"1"), response(b"2", "SPY")]
    part = crashed(archive, sent, tail=4000)
    (capture,) = archive.recover("options")
    assert not part.exists()
    assert archive.captures("options") == [capture]
    assert list(archive.responses(capture)) == sent
    assert [gap.reason for gap in capture.gaps] == ["unavailable", "interrupted"]
    assert "4000 bytes" in capture.gaps[1].detail
    assert capture.finished_time == sent[1].received_time
    archive.verify(capture)


def test_a_writer_at_work_is_not_recovered(archive: Archive, response: Make, tmp_path: Path) -> None:
    """Recovery leaves a capture alone whose writer lives, which can go on and seal it."""
    with begin(archive) as writer:
        writer.append(response())
        assert Archive(tmp_path / "raw").recover("options") == []
        capture = writer.seal(MOMENT)
    assert archive.captures("options") == [capture]


def test_an_empty_unsealed_file_is_removed(archive: Archive, response: Make) -> None:
    """A file without one whole record holds nothing to keep."""
    part = crashed(archive, [response()])
    for content in (b"", b"garbage" * 9, part.read_bytes()[:30]):
        part.write_bytes(content)
        assert archive.recover("options") == []
        assert not part.exists()


def test_recovery_finds_exactly_the_whole_records(archive: Archive, response: Make) -> None:
    """Cut at every third byte, recovery keeps the records that end before the cut, never more nor fewer."""
    sent = [response(b"%d" % number * 5, f"S{number}") for number in range(3)]
    part = crashed(archive, sent)
    whole = part.read_bytes()
    ends = [whole.index(b"TAFR", start + 1) for start in starts(whole)[:-1]] + [whole.index(b"TAFG")]
    for length in range(0, len(whole) + 1, 3):
        part.write_bytes(whole[:length])
        recovered = archive.recover("options")
        expected = sum(end <= length for end in ends)
        assert [capture.record_count for capture in recovered] == ([expected] if expected else [])
        for capture in recovered:
            assert list(archive.responses(capture)) == sent[:expected]
            capture.path.unlink()


@pytest.mark.parametrize("place", ["magic", "header", "first record"])
def test_whole_records_behind_damage_are_left_as_they_are(archive: Archive, response: Make, place: str) -> None:
    """A crash damages only the end of a file: where whole records follow, nothing is cut off, removed or sealed."""
    part = crashed(archive, [response(b"1"), response(b"2", "SPY")])
    content = bytearray(part.read_bytes())
    content[{"magic": 1, "header": 30, "first record": starts(bytes(content))[0] + 30}[place]] ^= 1
    part.write_bytes(content)
    assert archive.recover("options") == []
    assert part.read_bytes() == content


def starts(content: bytes) -> list[int]:
    """Where record frames start."""
    return [place for place in range(len(content)) if content.startswith(b"TAFR", place)]


def test_a_full_disk_leaves_the_archive_as_it_was(run_harness: Callable[..., str], tmp_path: Path) -> None:
    """Over the file size limit a capture ends in DiskFullError; nothing of it is left, later ones succeed."""
    assert run_harness("full_disk.py", "archive", tmp_path / "raw").split() == ["full", "0", "files", "sealed"]


def test_disk_full_is_told_while_sealing(
    archive: Archive, response: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An error of the last write leaves no sealed file and no unsealed one."""

    def full(_descriptor: int, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    writer = begin(archive)
    writer.append(response())
    monkeypatch.setattr(durable, "write_all", full)
    with pytest.raises(DiskFullError, match="Free some space"):
        writer.seal(MOMENT)
    writer.abandon()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.reliability
@pytest.mark.slow
def test_kill_storm(run_harness: Callable[..., str], tmp_path: Path, *, is_full: bool) -> None:
    """Killed at random moments, no acknowledged capture is lost, none is half, and recovery clears every leftover."""
    kills = 500 if is_full else 40
    printed = dict(line.split("=") for line in run_harness("kill_storm.py", "archive", tmp_path, kills).split())
    print(f"P8 archive: {printed}")
    assert (printed["kills"], printed["lost"], printed["damaged"], printed["left"]) == (str(kills), "0", "0", "0")
    assert int(printed["acknowledged"]) >= kills
    assert int(printed["recovered"]) > 0


def test_processes_share_an_archive(run_harness: Callable[..., str], archive: Archive, tmp_path: Path) -> None:
    """Four processes capturing the same scheduled time get ids of their own; each capture is whole."""
    run_harness("many_writers.py", "archive", tmp_path / "raw")
    captures = archive.captures("options")
    assert len({capture.capture_id for capture in captures}) == len(captures) == 4 * 25
    for capture in captures:
        archive.verify(capture)
