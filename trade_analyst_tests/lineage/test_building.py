"""Sessions brought up to date: what is current, what is found, and what is said of a session that is not there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from small_captures import CREATED, MONDAY, TUESDAY, WEDNESDAY, Captures, statuses

from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.lineage.built import Built
from trade_analyst_pipeline.lineage.tables import build_tables, missing_sessions
from trade_analyst_pipeline.storage.archive import Archive, Gap
from trade_analyst_pipeline.storage.tables import TableStore

Become = Callable[[str], None]


def build(folder: Path, name: str = "options", days: Sequence[date] = (MONDAY,), **options: Any) -> list[Built]:
    """Bring a table up to date for these sessions."""
    return list(build_tables(folder, name, days, workers=1, created_time=CREATED, **options))


@pytest.mark.parametrize("name", ["options", "quotes", "ohlc"])
def test_another_version_with_the_same_rows_is_current(captures: Captures, become: Become, name: str) -> None:
    """After an update sessions are made once more, nothing is missing, no file is new, and then they are unchanged."""
    captures.chain()
    captures.quotes(2)
    captures.bars(MONDAY, {MONDAY: 100.0})
    become("0.1.0")
    assert statuses(build(captures.folder, name)) == {MONDAY: "built"}
    files = TableStore(captures.folder).files("tables", name)
    become("0.1.1")
    assert list(missing_sessions(captures.folder, name, [MONDAY])) == [MONDAY]
    assert statuses(build(captures.folder, name)) == {MONDAY: "built"}
    assert missing_sessions(captures.folder, name, [MONDAY]) == {}
    assert statuses(build(captures.folder, name)) == {MONDAY: "unchanged"}
    assert TableStore(captures.folder).files("tables", name) == files


def test_an_unchanged_session_reports_what_was_found_in_it(captures: Captures) -> None:
    """Broken rules, bad rows, things seen and problems are those of the building, however often one looks again."""

    def root_of_another(chain: Any) -> None:
        for strikes in chain["callExpDateMap"].values():
            for (contract,) in strikes.values():
                contract["optionRoot"] = "ABC"
                contract["newField"] = 1
            contract["totalVolume"] = -1

    captures.chain(change=root_of_another)
    captures.seal("options", "/chains", {"symbol": "XYZ", "status": "FAILED"}, MONDAY, CREATED.time())
    (first,), (again,) = build(captures.folder), build(captures.folder)
    assert (first.status, again.status) == ("built", "unchanged")
    assert again.rule_counts["root_disagrees"] == first.rule_counts["root_disagrees"] > 0
    assert again.rule_counts["negative_volume"] == again.quarantined == 1
    assert "negative_bid_size" in again.rule_counts
    assert again.seen == first.seen
    assert again.seen["unknown_field:contract.newField"] > 0
    assert again.problems == first.problems
    assert any("(XYZ)" in problem for problem in again.problems)
    assert (again.rows, again.size_bytes, again.first_time) == (first.rows, first.size_bytes, first.first_time)


def test_findings_are_kept_of_a_session_without_any_bad_row(captures: Captures) -> None:
    """A clean session has a quarantine partition without rows, which says that all rules were looked at."""
    captures.quotes(2)
    build(captures.folder, "quotes")
    kept = TableStore(captures.folder).manifest("quarantine", "quotes", MONDAY)
    assert kept is not None
    assert (kept.row_count, kept.files) == (0, ())
    assert set(kept.findings.rule_counts.values()) == {0}
    assert len(kept.findings.rule_counts) > 5


def test_one_bad_quote_costs_one_quote(captures: Captures) -> None:
    """Of twelve quotes with one bad row eleven are in the table and one is in quarantine."""
    captures.quotes(12, bad=1)
    (built,) = build(captures.folder, "quotes")
    assert (built.status, built.rows, built.quarantined) == ("built", 11, 1)
    assert missing_sessions(captures.folder, "quotes", [MONDAY]) == {}


def test_a_session_judged_unfit_keeps_its_last_good_data_and_says_why(captures: Captures) -> None:
    """The reason is that of the verdict, with the table of quarantine to look into."""
    captures.quotes(12)
    build(captures.folder, "quotes")
    good = TableStore(captures.folder).combined_hash("tables", "quotes")
    for capture in Archive(captures.folder / "raw").captures("quotes"):
        capture.path.unlink()
    captures.quotes(12, bad=7)
    (built,) = build(captures.folder, "quotes", again=True)
    assert (built.status, built.quarantined) == ("failed", 7)
    reason = missing_sessions(captures.folder, "quotes", [MONDAY])[MONDAY]
    assert reason.startswith("capture 20260105T205500000000Z-quotes-0000: quotes: 7 of 12 rows are bad")
    assert reason.endswith("(quarantine.quotes)")
    assert TableStore(captures.folder).combined_hash("tables", "quotes") == good


def test_a_session_that_is_not_there_is_missing_for_its_own_reason(captures: Captures) -> None:
    """Not archived, a gap in its own words, archived and not built: quarantine is not mentioned in any."""
    with Archive(captures.folder / "raw").begin(
        dataset="options", session_date=TUESDAY, scheduled_time=CREATED, started_time=CREATED
    ) as writer:
        writer.note_gap(Gap("options", ("XYZ",), "unavailable", "the source did not answer"))
        writer.seal(CREATED)
    captures.chain(WEDNESDAY)
    assert missing_sessions(captures.folder, "options", [MONDAY, TUESDAY, WEDNESDAY]) == {
        MONDAY: "no capture of this session is archived",
        TUESDAY: "the source did not answer",
        WEDNESDAY: "options has not been built from all that is archived; run this session again",
    }


def test_a_session_that_was_over_is_not_missing(captures: Captures) -> None:
    """Its gap is on record, and no run can fill it, so that none has to fail for it."""
    with Archive(captures.folder / "raw").begin(
        dataset="options", session_date=TUESDAY, scheduled_time=CREATED, started_time=CREATED
    ) as writer:
        writer.note_gap(Gap("options", ("XYZ",), "session_over", "the session was over"))
        writer.seal(CREATED)
    assert missing_sessions(captures.folder, "options", [TUESDAY]) == {}


@pytest.mark.parametrize("again", [False, True])
def test_a_damaged_capture_fails_its_session_alone(captures: Captures, become: Become, again: bool) -> None:
    """The sessions before and after it are built; it is reported with file and record, and its old rows stay."""
    days = [MONDAY, TUESDAY, WEDNESDAY]
    _, damaged, _ = (captures.chain(day) for day in days)
    build(captures.folder, days=days)
    before = TableStore(captures.folder).combined_hash("tables", "options")
    captures.damage(damaged)
    become("9.9.9")  # so that every session has to be read again
    results = build(captures.folder, days=days, again=again)
    assert statuses(results) == {MONDAY: "built", TUESDAY: "failed", WEDNESDAY: "built"}
    assert str(damaged.path) in results[1].detail
    assert "frame 1" in results[1].detail
    missing = missing_sessions(captures.folder, "options", days)
    assert list(missing) == [TUESDAY]
    assert "frame 1" in missing[TUESDAY]
    assert TableStore(captures.folder).combined_hash("tables", "options") == before


def test_a_cut_off_capture_fails_its_session_alone(captures: Captures) -> None:
    """The same for a file whose end, with the list of what is in it, is gone."""
    cut, _ = captures.chain(MONDAY), captures.chain(TUESDAY)
    cut.path.write_bytes(cut.path.read_bytes()[:-30])
    assert statuses(build(captures.folder, days=[MONDAY, TUESDAY])) == {MONDAY: "failed", TUESDAY: "built"}
    assert "footer" in missing_sessions(captures.folder, "options", [MONDAY])[MONDAY]


def test_worker_processes_report_a_damaged_capture_too(captures: Captures) -> None:
    """What went wrong comes back from another process in the same words."""
    days = [MONDAY, TUESDAY, WEDNESDAY, date(2026, 1, 8), date(2026, 1, 9)]
    sealed = [captures.chain(day) for day in days]
    captures.damage(sealed[3])
    results = list(build_tables(captures.folder, "options", days, workers=2, created_time=CREATED))
    assert [result.status for result in results] == ["built", "built", "built", "failed", "built"]
    assert "frame 1" in results[3].detail


def test_every_dataset_says_how_many_bad_rows_it_bears() -> None:
    """Rows that stand alone may be bad by half; those used together are refused beyond ten and 1 %."""
    assert {name: (found.tolerance.share, found.tolerance.rows) for name, found in DATASETS.items()} == {
        "options": (0.01, 10),
        "quotes": (0.5, 0),
        "ohlc": (0.01, 10),
        "expirations": (0.01, 10),
        "markets": (0.5, 0),
        "instruments": (0.5, 0),
        "movers": (0.5, 0),
    }
