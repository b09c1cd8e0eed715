"""An answer that lacks something is in the archive as soon as it came, whatever becomes of asking for it again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripted import (
    BARS,
    CHAINS,
    EXPIRATIONS,
    QUOTES,
    Answer,
    ScriptedSource,
    TakeAll,
    is_listing,
    well,
)

from trade_analyst_pipeline.capture.gaps import Ledger
from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.datasets import options
from trade_analyst_pipeline.errors import ChainTooLargeError, SourceUnavailableError
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.storage.archive import Archive, Capture

ONE = replace(CHAINS, symbols=("AAPL",))
SHORT = json.dumps(
    {
        "numberOfContracts": 9,
        "callExpDateMap": {f"{day}:4": {"5.0": [{"strikePrice": 5.0}]} for day in EXPIRATIONS},
        "putExpDateMap": {},
    }
)
EMPTY = '{"numberOfContracts": 0, "callExpDateMap": {}, "putExpDateMap": {}}'
NO_BARS = '{"candles": [], "symbol": "AAPL", "empty": true}'
CUT = b'{"isChainTruncated": true, "numberOfContracts": 0, "callExpDateMap": {}, "putExpDateMap": {}}'


def is_chain(request: MarketDataRequest) -> bool:
    """Whether a request is for a chain or a piece of one."""
    return request.path == "/chains"


def is_whole(request: MarketDataRequest) -> bool:
    """Whether a request is for a whole chain."""
    return is_chain(request) and request.param("toDate") is None and request.param("fromDate") is None


def killed(folder: Path, dataset: str, body: str, *how: str) -> Archive:
    """The archive after kill -9 of a capture that waits to ask once more, and its recovery."""
    program = Path(__file__).with_name("hanging.py")
    command = [sys.executable, str(program), str(folder), dataset, body, *how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=program.parent) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "again\n"
        process.kill()
    archive = Archive(folder)
    archive.recover(dataset)
    return archive


def bodies(archive: Archive, dataset: str) -> list[str]:
    """All bodies that are archived."""
    return [each.body.decode() for capture in archive.captures(dataset) for each in archive.responses(capture)]


@pytest.mark.parametrize(
    ("snapshot", "body"),
    [(CHAINS, EMPTY), (CHAINS, SHORT), (QUOTES, "{}"), (BARS, NO_BARS)],
    ids=["empty chain", "short chain", "no quotes", "no bars"],
)
def test_an_answer_to_be_asked_for_again_survives_kill_9(
    tmp_path: Path, source: ScriptedSource, snapshot: Snapshot, body: str, capture_from: Callable[..., Any]
) -> None:
    """Killed before it could ask again, the archive has the answer, and the next run asks for just that once more.

    A capture that holds such answers in memory is caught.
    """
    archive = killed(tmp_path / "ours", snapshot.dataset, body)
    assert body in bodies(archive, snapshot.dataset)
    assert body not in bodies(killed(tmp_path / "control", snapshot.dataset, body, "holding"), snapshot.dataset)
    source.now = snapshot.scheduled_time
    (outcome,) = capture_from(archive, source, snapshot)
    assert outcome.gaps == ()
    assert source.asked
    assert body in bodies(archive, snapshot.dataset)
    assert body not in [each.body.decode() for each in archive.answers(outcome.captures)]


def records(archive: Archive, capture: Capture) -> list[tuple[bool, bool]]:
    """Of each record but lists whether it is of a whole chain, and whether it lacks something."""
    entries = archive.index(capture)
    return [(is_whole(entry.request), entry.lacking is not None) for entry in entries if not is_listing(entry.request)]


def test_a_short_chain_too_large_the_second_time_is_kept_and_its_parts_count(
    source: ScriptedSource, take_all: TakeAll, archive: Archive
) -> None:
    """Short, then refused as too large: the short one is archived, the parts are asked for and stand in its place."""
    left: list[Answer] = [ChainTooLargeError, SHORT.encode()]
    source.answer = lambda request: left.pop() if is_whole(request) else well(request)
    (outcome,) = take_all(source, ONE)
    assert records(archive, outcome.captures[0]) == [(True, True), (False, False), (False, False)]
    counting = [each.request for each in archive.answers(outcome.captures)]
    assert [is_whole(request) for request in counting if is_chain(request)] == [False, False]
    assert outcome.gaps == ()
    assert take_all(source, ONE)[0].was_archived


def test_a_chain_that_the_source_cut_short_is_kept(source: ScriptedSource, take_all: TakeAll, archive: Archive) -> None:
    """It says itself that it is not whole: archived, but its parts count."""
    source.answer = lambda request: CUT if is_whole(request) else well(request)
    (outcome,) = take_all(source, ONE)
    assert records(archive, outcome.captures[0]) == [(True, True), (False, False), (False, False)]
    assert CUT not in [each.body for each in archive.answers(outcome.captures)]
    assert take_all(source, ONE)[0].was_archived


@pytest.mark.parametrize("later", [SourceUnavailableError, EMPTY.encode()])
def test_what_was_short_once_is_an_answer_when_asked_again_in_vain(
    source: ScriptedSource, take_all: TakeAll, archive: Archive, later: Answer
) -> None:
    """Nothing better came: the short answer counts, and the next run does not ask."""
    left: list[Answer] = [later, SHORT.encode()]
    source.answer = lambda request: left.pop() if is_chain(request) else well(request)
    (outcome,) = take_all(source, ONE)
    assert SHORT.encode() in [each.body for each in archive.answers(outcome.captures)]
    assert take_all(source, ONE)[0].was_archived


def test_an_answer_that_is_empty_for_good_is_archived_and_no_answer(
    source: ScriptedSource, take_all: TakeAll, archive: Archive
) -> None:
    """Twice empty: both bodies stand in the archive, neither counts, and what is missing is a gap."""
    source.answer = lambda _: b"{}"
    (outcome,) = take_all(source, QUOTES)
    (capture,) = outcome.captures
    assert (capture.record_count, capture.answer_count) == (2, 0)
    assert list(archive.answers([capture])) == []
    assert [gap.reason for gap in outcome.gaps] == ["empty_answer"]


def test_the_same_empty_answer_again_adds_nothing(source: ScriptedSource, take_all: TakeAll, archive: Archive) -> None:
    """A symbol that nobody knows leaves no capture at each run; another empty body does."""
    source.answer = lambda _: b"{}"
    take_all(source, QUOTES)
    (outcome,) = take_all(source, QUOTES)
    assert len(source.asked) == 2
    assert [gap.reason for gap in outcome.gaps] == ["empty_answer"]
    assert len(archive.captures("quotes")) == 1
    source.answer = lambda _: b"{ }"
    take_all(source, QUOTES)
    assert [capture.record_count for capture in archive.captures("quotes")] == [2, 2]


def ledger(archive: Archive, snapshot: Snapshot) -> list[tuple[str, int, str | None]]:
    """Of each symbol of a snapshot how many requests are answered, and the word on record of its gap."""
    lines = Ledger(archive, now=snapshot.scheduled_time, goes_back=False).lines(snapshot.dataset, snapshot.session_date)
    return [(line.symbol, line.answered, line.word) for line in lines]


def test_the_ledger_counts_no_empty_answer(source: ScriptedSource, take_all: TakeAll, archive: Archive) -> None:
    """Answered twice without anything: no request of the symbols is answered."""
    source.answer = lambda _: b"{}"
    take_all(source, QUOTES)
    assert ledger(archive, QUOTES) == [("AAPL", 0, "empty_answer"), ("MSFT", 0, "empty_answer")]


def test_the_ledger_tells_the_word_of_the_part_that_failed(
    source: ScriptedSource, take_all: TakeAll, archive: Archive
) -> None:
    """Short, then too large, then a part refused: that is the gap, not the note that parts were asked for."""
    left: list[Answer] = [
        SourceUnavailableError,
        well(options.requests(["AAPL"])[0]),
        ChainTooLargeError,
        SHORT.encode(),
    ]
    source.answer = lambda request: left.pop() if is_chain(request) else well(request)
    take_all(source, ONE)
    assert ledger(archive, ONE) == [("AAPL", 2, "unavailable")]
