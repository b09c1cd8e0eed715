"""A table whose captures describe many sessions: computed from what is archived, whatever is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import pytest
from small_captures import CREATED, MONDAY, TUESDAY, WEDNESDAY, Captures, statuses

from trade_analyst_pipeline.datasets import DATASETS, ohlc
from trade_analyst_pipeline.lineage import merging
from trade_analyst_pipeline.lineage.built import Built
from trade_analyst_pipeline.lineage.tables import build_tables, missing_sessions
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.tables import Manifest, TableStore


def build(folder: Path, days: Sequence[date], *, again: bool = False) -> list[Built]:
    """Bring the bars up to date for these sessions."""
    return list(build_tables(folder, "ohlc", days, workers=1, created_time=CREATED, again=again))


def closes(folder: Path) -> list[tuple[date, float]]:
    """Session and close of every bar stored, with its revisions."""
    rows = TableStore(folder).scan("tables", "ohlc", schema=ohlc.SCHEMA).collect()
    return [(row["session_date"], row["close"]) for row in rows.rows(named=True)]


def manifests(folder: Path) -> list[Manifest]:
    """All manifests of the table that list files."""
    return [found for found in TableStore(folder).manifests("tables", "ohlc") if found.row_count]


def test_a_capture_taken_away_is_gone_after_a_rebuild(captures: Captures) -> None:
    """Rows it brought, revisions it made and sessions only it described go with it: nothing of it was archived."""
    captures.bars(TUESDAY, {MONDAY: 100.0, TUESDAY: 101.0})
    build(captures.folder, [TUESDAY])
    before, kept = TableStore(captures.folder).combined_hash("tables", "ohlc"), closes(captures.folder)
    wrong = captures.bars(WEDNESDAY, {date(2025, 12, 31): 98.0, MONDAY: 99.0})
    build(captures.folder, [WEDNESDAY])
    assert closes(captures.folder) == [(date(2025, 12, 31), 98.0), (MONDAY, 100.0), (MONDAY, 99.0), (TUESDAY, 101.0)]
    wrong.path.unlink()
    build(captures.folder, [TUESDAY], again=True)
    assert closes(captures.folder) == kept
    assert TableStore(captures.folder).combined_hash("tables", "ohlc") == before


def test_a_rebuild_of_one_session_computes_from_all_captures(captures: Captures) -> None:
    """The rows another session's capture gave stay, though that session was not asked for."""
    captures.bars(MONDAY, {MONDAY: 100.0})
    captures.bars(TUESDAY, {MONDAY: 100.5, TUESDAY: 101.0})
    build(captures.folder, [MONDAY, TUESDAY])
    before = manifests(captures.folder)
    assert statuses(build(captures.folder, [TUESDAY], again=True)) == {TUESDAY: "built"}
    assert manifests(captures.folder) == [
        Manifest(**{**vars(then), "fence": now.fence})
        for then, now in zip(before, manifests(captures.folder), strict=True)
    ]


def test_another_version_computes_the_table_from_all_captures(
    captures: Captures, become: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows made by an older version are not mixed with those of the present one."""
    captures.bars(MONDAY, {MONDAY: 100.0})
    captures.bars(TUESDAY, {TUESDAY: 101.0})
    with monkeypatch.context() as older:
        dataset = DATASETS["ohlc"]
        raised = Raising(dataset.normalize)
        older.setitem(DATASETS, "ohlc", type(dataset)(**{**vars(dataset), "normalize": raised}))
        become("0.1.0")
        build(captures.folder, [MONDAY, TUESDAY])
        assert closes(captures.folder) == [(MONDAY, 101.0), (TUESDAY, 102.0)]
    become("0.1.1")
    assert statuses(build(captures.folder, [TUESDAY])) == {TUESDAY: "built"}
    assert closes(captures.folder) == [(MONDAY, 100.0), (TUESDAY, 101.0)]
    assert missing_sessions(captures.folder, "ohlc", [MONDAY, TUESDAY]) == {}


class Raising:
    """A way to read bars that adds a dollar to every close."""

    def __init__(self, normalize: Callable[..., object]) -> None:
        self._normalize = normalize

    def __call__(self, *arguments: object, **options: object) -> object:
        """The rows, changed."""
        found = self._normalize(*arguments, **options)
        raised = found.frame.with_columns(found.frame["close"] + 1)
        return type(found)(raised, found.rejected, found.problems, found.counts)


def test_a_session_without_a_bar_of_its_own_is_not_there(captures: Captures) -> None:
    """What its capture says of other sessions is stored; of itself it is said that there is no row yet."""
    captures.bars(TUESDAY, {MONDAY: 100.0})
    for again in (False, True):
        (built,) = build(captures.folder, [TUESDAY], again=again)
        assert (built.status, built.rows, built.detail) == ("empty", 0, merging.NO_ROWS)
    assert missing_sessions(captures.folder, "ohlc", [TUESDAY]) == {TUESDAY: merging.NO_ROWS}
    assert closes(captures.folder) == [(MONDAY, 100.0)]


@pytest.mark.parametrize("again", [False, True])
def test_a_damaged_capture_costs_no_row(captures: Captures, become: Callable[[str], None], again: bool) -> None:
    """Its session fails and is named; all rows that it and the others gave before are there, and new ones too."""
    captures.bars(MONDAY, {MONDAY: 100.0})
    damaged = captures.bars(TUESDAY, {MONDAY: 100.5, TUESDAY: 101.0})
    build(captures.folder, [MONDAY, TUESDAY])
    captures.damage(damaged)
    captures.bars(WEDNESDAY, {TUESDAY: 101.5, WEDNESDAY: 102.0})
    if not again:
        become("9.9.9")  # so that the damaged capture has to be read
    results = build(captures.folder, [MONDAY, TUESDAY, WEDNESDAY], again=again)
    assert statuses(results) == {MONDAY: "built", TUESDAY: "failed", WEDNESDAY: "built"}
    assert closes(captures.folder) == [
        *((MONDAY, 100.0), (MONDAY, 100.5), (TUESDAY, 101.0), (TUESDAY, 101.5), (WEDNESDAY, 102.0))
    ]


def test_a_merge_into_a_damaged_partition_is_refused(captures: Captures) -> None:
    """Its rows cannot be told any more, so nothing is made of a part of them: it is named, the others go on."""
    captures.bars(MONDAY, {MONDAY: 100.0})
    build(captures.folder, [MONDAY])
    (rows,) = (captures.folder / "tables/ohlc").glob(f"*{MONDAY}/*.parquet")
    content = bytearray(rows.read_bytes())
    content[len(content) // 2] ^= 1
    rows.write_bytes(content)
    captures.bars(TUESDAY, {MONDAY: 100.5, TUESDAY: 101.0})
    captures.bars(WEDNESDAY, {WEDNESDAY: 102.0})
    results = build(captures.folder, [TUESDAY, WEDNESDAY])
    assert statuses(results) == {TUESDAY: "failed", WEDNESDAY: "built"}
    assert rows.name in results[0].detail
    assert "trade-analyst rebuild" in results[0].detail
    assert rows.read_bytes() == content
    assert [path.name for path in rows.parent.glob("*.parquet")] == [rows.name]
    assert statuses(build(captures.folder, [MONDAY, TUESDAY, WEDNESDAY], again=True)).get(TUESDAY) == "built"
    assert closes(captures.folder) == [(MONDAY, 100.0), (MONDAY, 100.5), (TUESDAY, 101.0), (WEDNESDAY, 102.0)]


def test_a_damaged_later_capture_is_named_by_a_merge_that_needs_it(captures: Captures) -> None:
    """A capture that came late has later ones merged again; one of those that cannot be read is reported."""
    damaged = captures.bars(WEDNESDAY, {MONDAY: 100.0, WEDNESDAY: 102.0})
    build(captures.folder, [WEDNESDAY])
    captures.damage(damaged)
    captures.bars(TUESDAY, {MONDAY: 100.5, TUESDAY: 101.0})
    assert statuses(build(captures.folder, [TUESDAY])) == {TUESDAY: "built", WEDNESDAY: "failed"}


def test_rows_of_many_captures_are_folded_as_they_come(captures: Captures, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folding after each session gives the revisions that combining all at once gives."""
    captures.bars(MONDAY, {MONDAY: 100.0})
    captures.bars(TUESDAY, {MONDAY: 100.5, TUESDAY: 101.0})
    captures.bars(WEDNESDAY, {MONDAY: 100.0, TUESDAY: 101.0})
    days = Archive(captures.folder / "raw").sessions("ohlc")
    build(captures.folder, days, again=True)
    at_once = manifests(captures.folder)
    monkeypatch.setattr(merging, "FOLDED_ROWS", 0)
    build(captures.folder, days, again=True)
    assert [found.content_hash for found in manifests(captures.folder)] == [found.content_hash for found in at_once]
    assert closes(captures.folder) == [(MONDAY, 100.0), (MONDAY, 100.5), (MONDAY, 100.0), (TUESDAY, 101.0)]


def test_nothing_archived_is_said(captures: Captures) -> None:
    """A session without a capture is empty, whether it is built for the first time or again."""
    for again in (False, True):
        assert statuses(build(captures.folder, [MONDAY], again=again)) == {MONDAY: "empty"}
