"""What is planned is put on record by the daemon, and Dagster and the health report tell what is lacking of it."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest

from trade_analyst_pipeline.capture.planned import Plans, note_plan, plan_of
from trade_analyst_pipeline.capture.sound import SoundCaptures
from trade_analyst_pipeline.defs.checks import no_gaps
from trade_analyst_pipeline.defs.partitions import session_partitions
from trade_analyst_pipeline.defs.plan_record import kinds_on, plan_on_record
from trade_analyst_pipeline.defs.resources import SourceResource, StorageResource
from trade_analyst_pipeline.defs.standing import gap_count
from trade_analyst_pipeline.market.clock import MachineClock
from trade_analyst_pipeline.ops.health.stores import GapCount, check_gaps
from trade_analyst_pipeline.settings import Settings, load_settings

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*currently in beta:Warning"),
    pytest.mark.filterwarnings("ignore:Property `OpDefinition.version`:DeprecationWarning"),  # Dagster's own use
]

DAY = date(2026, 1, 5)
SINCE, EVENING = datetime(2026, 1, 5, 14, 0, tzinfo=UTC), datetime(2026, 1, 5, 22, 0, tzinfo=UTC)


@pytest.fixture
def settings(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a live source with one stock, on the evening of a session."""
    shutil.copy(repository / "config.toml", "config.toml")
    monkeypatch.setattr(MachineClock, "now", lambda _: EVENING)
    return load_settings(environment="live", universe={"symbols": ["AAPL"]})


def test_the_daemon_keeps_the_plan_on_record(settings: Settings, tmp_path: Path) -> None:
    """Once, as long as neither settings nor schedules change; on a live source no schedule is on by itself."""
    storage = StorageResource(settings)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert kinds_on(instance, are_on=True) == ["closing", "intraday", "reference", "movers", "end_of_day"]
        for _ in range(2):
            plan_on_record(settings)(dg.build_sensor_context(instance), storage=storage)
    (found,) = Plans(SoundCaptures(storage.archive)).of(DAY)
    assert found.plan is not None
    assert (found.since, found.plan.kinds, found.plan.cadences["quotes"]) == (EVENING, (), {"AAPL": 15})
    assert found.plan.snapshots("quotes", DAY) == []


def test_what_is_lacking_warns(settings: Settings) -> None:
    """A session of which nothing was taken does not pass, in Dagster and in the health report; a day off does."""
    storage = StorageResource(settings)
    note_plan(plan_of(settings, ["closing"], SINCE), storage.archive)

    @dg.asset(key=["raw", "options"], partitions_def=session_partitions(settings.start_date))
    def raw() -> None: ...

    resources = {"source": SourceResource(settings), "storage": storage}
    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.materialize([raw, no_gaps("options")], partition_key=str(DAY), resources=resources, instance=instance)
    (evaluation,) = run.get_asset_check_evaluations()
    metadata = {name: value.value for name, value in evaluation.metadata.items()}
    assert (evaluation.passed, metadata["expected"], metadata["lacking"]) == (False, 2, 2)
    assert metadata["gaps_process_down"] == 2
    found = gap_count(settings, DAY)
    assert found == GapCount(DAY, 4, 0, {"process_down": 4}, 2)  # the last quotes and chain until midnight
    assert check_gaps(found).status == "warn"
    assert check_gaps(gap_count(settings, date(2026, 1, 2))).status == "skipped"
    assert check_gaps(GapCount(DAY, 4, 4, {}, 0)).status == "ok"
