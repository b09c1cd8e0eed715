"""The nightly compaction: finished sessions become one file each, and damage fails the run by name."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from trade_analyst_pipeline.defs.compacting import compact_finished_sessions
from trade_analyst_pipeline.defs.resources import StorageResource
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.settings import load_settings
from trade_analyst_pipeline.storage.archive import Archive


def test_all_sessions_but_todays_are_compacted(repository: Path) -> None:
    """Of a past session one file is left, today's keeps its own; where one is damaged the run fails and says which."""
    shutil.copy(repository / "config.toml", "config.toml")
    settings = load_settings()
    raw = settings.data_folder / "raw"
    today = datetime.now(UTC).astimezone(ZoneInfo("America/New_York")).date()
    days = [today, today - timedelta(days=1), today - timedelta(days=40)]
    for day in days:
        for number in range(3):
            moment = datetime(day.year, day.month, day.day, 15, number, tzinfo=UTC)
            with Archive(raw).begin(
                dataset="quotes", session_date=day, scheduled_time=moment, started_time=moment
            ) as writer:
                writer.append(RawResponse(MarketDataRequest("quotes", "/quotes"), 200, b"{}", (), moment, moment))
                writer.seal(moment)
    files = {day: raw / f"quotes/session_date={day}" for day in days}
    victim = min(files[days[1]].iterdir())
    content = victim.read_bytes()
    victim.write_bytes(content[:-1])
    storage = {"storage": StorageResource(settings)}
    with pytest.raises(dg.Failure, match=f"left alone: raw/quotes {days[1]}: .*{victim.name}"):
        compact_finished_sessions.execute_in_process(resources=storage)
    assert [len(list(files[day].iterdir())) for day in days] == [3, 3, 1]
    victim.write_bytes(content)
    assert compact_finished_sessions.execute_in_process(resources=storage).success
    assert [sorted(path.suffix for path in files[day].iterdir()) for day in days] == [
        [".raw"] * 3,
        [".pack"],
        [".pack"],
    ]
