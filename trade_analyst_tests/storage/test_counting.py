"""Which of several records of one request counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime

import msgspec
import pytest

from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage import captures
from trade_analyst_pipeline.storage.archive import Archive, Capture, Gap, Lacking
from trade_analyst_pipeline.storage.counting import ASKED_IN_PARTS, counting

MOMENT = datetime(2026, 1, 5, 20, 55, tzinfo=UTC)
Make = Callable[..., RawResponse]
NOTHING = Lacking("empty")


def short(content: int) -> Lacking:
    """What a short answer of so much content lacks."""
    return Lacking("short", content)


def entry(name: str, lacking: Lacking | None) -> captures.IndexEntry:
    """A record of a request of that name."""
    return captures.IndexEntry(0, MarketDataRequest("options", name), 200, MOMENT, MOMENT, "", 0, lacking)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([("A", None), ("A", None)], [0, 1]),
        ([("A", short(9)), ("A", None)], [1]),
        ([("A", None), ("A", short(9))], [0]),
        ([("A", short(8)), ("A", short(9)), ("B", None)], [1, 2]),
        ([("A", short(9)), ("A", short(8))], [0]),
        ([("A", short(9)), ("A", short(9))], [1]),
        ([("A", short(0)), ("A", NOTHING)], [0]),
        ([("A", NOTHING), ("A", NOTHING)], []),
        ([], []),
    ],
)
def test_the_whole_then_the_fullest_then_the_later_counts(
    records: list[tuple[str, Lacking | None]], expected: list[int]
) -> None:
    """Records that lack nothing all count; else the fullest of a request, the later of equals; an empty one never."""
    assert counting([entry(*each) for each in records], []) == expected


def test_parts_stand_in_place_of_a_short_answer() -> None:
    """Of a request that was then asked in parts only an answer that lacks nothing counts."""
    request = MarketDataRequest("options", "A")
    note = Gap("options", (), ASKED_IN_PARTS, "", request)
    assert counting([entry("A", short(9)), entry("B", short(1))], [note]) == [1]
    assert counting([entry("A", None)], [note]) == [0]


def attempt(archive: Archive, records: list[tuple[RawResponse, Lacking | None]], *gaps: Gap) -> Capture:
    """A sealed attempt at the one snapshot."""
    with archive.begin(
        dataset="options", session_date=date(2026, 1, 5), scheduled_time=MOMENT, started_time=MOMENT
    ) as writer:
        for response, lacking in records:
            writer.append(response, lacking)
        for gap in gaps:
            writer.note_gap(gap)
        return writer.seal(MOMENT)


def test_what_lacks_something_gives_way_across_attempts(archive: Archive, response: Make) -> None:
    """All bodies are read back; of both attempts together only the whole answer counts."""
    first = attempt(archive, [(response(b"1"), short(3)), (response(b"2", "B"), None)])
    second = attempt(archive, [(response(b"3"), None)])
    assert [each.body for each in archive.responses(first)] == [b"1", b"2"]
    assert [each.body for each in archive.answers([first])] == [b"1", b"2"]
    assert [each.body for each in archive.answers([first, second])] == [b"2", b"3"]
    assert (first.record_count, first.answer_count) == (2, 2)
    assert archive.index(first)[0].lacking == short(3)


def test_an_empty_answer_closes_no_gap(archive: Archive, response: Make) -> None:
    """What is missing stays so until an answer counts; a note that parts are asked for is no gap."""
    empty, request = response(b"{}"), response(b"{}").request
    missing = Gap("options", ("AAPL",), "empty_answer", "twice", request)
    first = attempt(archive, [(empty, NOTHING)], missing, Gap("options", (), ASKED_IN_PARTS, "", request))
    assert archive.open_gaps([first]) == [missing]
    assert first.answer_count == 0
    second = attempt(archive, [(response(b"whole"), None)])
    assert archive.open_gaps([first, second]) == []
    assert archive.completions([first, second]) == [[first, second]]


def test_a_recovered_record_still_lacks(archive: Archive, response: Make) -> None:
    """What a record lacks is part of it: it survives a writer that died."""
    writer = archive.begin(dataset="options", session_date=date(2026, 1, 5), scheduled_time=MOMENT, started_time=MOMENT)
    writer.append(response(b"1"), short(3))
    writer.leave()
    (capture,) = archive.recover("options")
    archive.verify(capture)
    assert [each.lacking for each in archive.index(capture)] == [short(3)]


def test_an_older_archive_reads_as_before(archive: Archive, response: Make) -> None:
    """A footer without a word on what is lacking is of whole answers; the content hash does not know of it."""
    capture = attempt(archive, [(response(b"1"), short(3))])
    assert capture.content_hash == attempt(archive, [(response(b"1"), None)]).content_hash
    stated = json.loads(msgspec.json.encode(archive.index(capture)[0]))
    del stated["lacking"]
    old = msgspec.json.decode(json.dumps(stated), type=captures.IndexEntry)
    assert (old.lacking, old.is_answer) == (None, True)
