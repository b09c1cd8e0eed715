"""Everything made anew from the archive, whatever of it is damaged."""

from __future__ import annotations

from small_captures import CREATED, MONDAY, TUESDAY, WEDNESDAY, Captures

from trade_analyst_pipeline.lineage.built import Built, BuiltSeries
from trade_analyst_pipeline.lineage.rebuild import rebuild


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
    ]
    assert [built.detail.partition(": ")[0] for built in sessions if built.status == "failed"] == [
        str(damaged.path),
        str(cut.path),
    ]
    series = {result.name: result.sessions for result in results if isinstance(result, BuiltSeries)}
    assert series == {"iv_history": 2, "iv_rank": 2, "put_call_ratio_daily": 2, "realized_volatility": 1}
