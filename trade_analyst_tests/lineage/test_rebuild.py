"""Everything made anew from the archive, whatever of it is damaged."""

from __future__ import annotations

from collections.abc import Callable

from small_captures import CREATED, MONDAY, TUESDAY, WEDNESDAY, Captures

from trade_analyst_pipeline.lineage.built import Built, BuiltSeries
from trade_analyst_pipeline.lineage.rebuild import rebuild
from trade_analyst_pipeline.lineage.staleness import plan


def test_a_damaged_capture_stops_neither_later_sessions_nor_metrics(captures: Captures) -> None:
    """One session of one table is reported as failed, with its file; all else and every series is made."""
    _, damaged, _ = (captures.chain(day) for day in (MONDAY, TUESDAY, WEDNESDAY))
    cut = captures.bars(MONDAY, {MONDAY: 100.0})
    captures.bars(TUESDAY, {TUESDAY: 101.0})
    captures.damage(damaged)
    cut.path.write_bytes(cut.path.read_bytes()[:-30])
    results = list(rebuild(captures.folder, datasets=["options", "ohlc"], workers=1, created_time=CREATED))
    sessions = [result for result in results if isinstance(result, Built)]
    assert [(built.name, built.session_date, built.status) for built in sessions] == [
        *(("options", MONDAY, "built"), ("options", TUESDAY, "failed"), ("options", WEDNESDAY, "built")),
        *(("ohlc", MONDAY, "failed"), ("ohlc", TUESDAY, "built")),
        *(("put_call_ratio", MONDAY, "built"), ("put_call_ratio", WEDNESDAY, "built")),
        *(("forward", MONDAY, "built"), ("forward", WEDNESDAY, "built")),
        *(("implied_volatility", MONDAY, "built"), ("implied_volatility", WEDNESDAY, "built")),
        *(("term_structure", MONDAY, "built"), ("term_structure", WEDNESDAY, "built")),
        *(("surface_check", MONDAY, "built"), ("surface_check", WEDNESDAY, "built")),
        *(("exposure", MONDAY, "built"), ("exposure", WEDNESDAY, "built")),
    ]
    assert [built.detail.partition(": ")[0] for built in sessions if built.status == "failed"] == [
        str(damaged.path),
        str(cut.path),
    ]
    series = {result.name: result.sessions for result in results if isinstance(result, BuiltSeries)}
    assert series == {"iv_history": 2, "iv_rank": 2, "put_call_ratio_daily": 2} | {
        "realized_volatility": 1,
        "volatility_index": 0,
    }


def planned(captures: Captures) -> dict[str, set[str]]:
    """Each table with partitions to be made anew, and the reasons given."""
    found: dict[str, set[str]] = {}
    for each in plan(captures.folder, ["options", "ohlc"], first=None, last=None):
        found.setdefault(each.table, set()).update(each.reasons)
    return found


def test_a_table_of_bars_is_planned_as_a_whole(captures: Captures, become: Callable[[str], None]) -> None:
    """Damage to one session, a capture that is gone and other code are reasons to make all bars anew, and it helps."""
    captures.bars(MONDAY, {MONDAY: 100.0})
    other = captures.bars(TUESDAY, {MONDAY: 101.0, TUESDAY: 101.0})
    names = ["options", "ohlc"]
    list(rebuild(captures.folder, datasets=names, workers=1, created_time=CREATED))
    assert planned(captures) == {}
    (part,) = captures.folder.glob("tables/ohlc/session_date=2026-01-06/*.parquet")
    part.write_bytes(part.read_bytes()[:-1])
    (reason,) = planned(captures)["tables/ohlc"]
    assert part.name in reason
    list(rebuild(captures.folder, datasets=names, workers=1, created_time=CREATED))
    assert planned(captures) == {}
    other.path.unlink()
    assert planned(captures)["tables/ohlc"] == {f"not among its sources any more: {other.capture_id}"}
    list(rebuild(captures.folder, datasets=names, workers=1, created_time=CREATED))
    assert planned(captures) == {}
    become("2.0")
    assert planned(captures)["tables/ohlc"] == {"other code: x none, now 2.0"}


def test_a_damaged_capture_is_planned_by_its_name(captures: Captures) -> None:
    """The session it is of is to be made, and why it will not be is said."""
    cut = captures.chain(MONDAY)
    cut.path.write_bytes(cut.path.read_bytes()[:-30])
    (reason,) = planned(captures)["tables/options"]
    assert str(cut.path) in reason
