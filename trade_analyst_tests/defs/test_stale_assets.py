"""What Dagster shows as stale: by code versions and data versions, asked of what its page and GraphQL ask."""

import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest
from dagster_duckdb import DuckDBResource

from trade_analyst_pipeline.defs.assets import all_assets
from trade_analyst_pipeline.defs.reporting import SessionResult, report_sessions
from trade_analyst_pipeline.defs.resources import SourceResource, StorageResource
from trade_analyst_pipeline.defs.standing import TokenResource
from trade_analyst_pipeline.lineage import code_versions
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.settings import Settings, load_settings
from trade_analyst_pipeline.storage.archive import Archive

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*currently in beta:Warning"),
    pytest.mark.filterwarnings("ignore:Property `OpDefinition.version`:DeprecationWarning"),  # Dagster's own use
]
MONDAY, TUESDAY = date(2026, 1, 5), date(2026, 1, 6)
CONFIG = Path(__file__).resolve().parents[2] / "config.toml"
CHAIN = Path(__file__).resolve().parents[1] / "payloads" / "options" / "chain.json"
TABLE, RATIOS, HISTORY, RANK = "tables/options", "metrics/put_call_ratio", "metrics/iv_history", "metrics/iv_rank"


@pytest.fixture
def settings() -> Settings:
    """A data folder with a chain of each session."""
    shutil.copy(CONFIG, "config.toml")
    settings = load_settings()
    for day in (MONDAY, TUESDAY):
        capture(settings, day, time(20, 55))
    return settings


def capture(settings: Settings, day: date, at: time) -> None:
    """Archive one chain."""
    moment = datetime.combine(day, at, UTC)
    request = MarketDataRequest("options", "/chains", (("symbol", "XYZ"),), ("XYZ",))
    archive = Archive(settings.data_folder / "raw")
    writer = archive.begin(dataset="options", session_date=day, scheduled_time=moment, started_time=moment)
    writer.append(RawResponse(request, 200, CHAIN.read_bytes(), (), moment, moment))
    writer.seal(moment)


def resources(settings: Settings) -> dict[str, object]:
    """What the assets ask for."""
    return {
        "source": SourceResource(settings),
        "storage": StorageResource(settings),
        "token": TokenResource(settings),
        "duckdb": DuckDBResource(database=":memory:"),
    }


def materialize(settings: Settings, instance: dg.DagsterInstance, *names: str, days: Sequence[date]) -> None:
    """One run of these assets over the sessions from the first day to the last."""
    first, last = (day.isoformat() for day in (days[0], days[-1]))
    done = dg.materialize(
        all_assets(settings),
        selection=[dg.AssetKey(name.split("/")) for name in names],
        instance=instance,
        resources=resources(settings),
        tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last},
    )
    assert done.success


def stale(settings: Settings, instance: dg.DagsterInstance) -> dict[str, list[str]]:
    """Each asset, or session of it, that Dagster calls stale, with its reasons."""
    graph = dg.Definitions(all_assets(settings), resources=resources(settings)).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    found = {}
    for name, days in ((TABLE, (MONDAY, TUESDAY)), (RATIOS, (MONDAY, TUESDAY)), (HISTORY, (None,)), (RANK, (None,))):
        for day in days:
            key, partition = dg.AssetKey(name.split("/")), None if day is None else day.isoformat()
            status, causes = resolver.get_status(key, partition).value, resolver.get_stale_causes(key, partition)
            assert status != "MISSING"
            if status == "STALE":
                place = name if partition is None else f"{name} {partition}"
                found[place] = [f"{cause.category.value}: {cause.reason}" for cause in causes]
    return found


@pytest.fixture
def change_code(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let one step have other code from then on."""
    as_it_is, changed = code_versions.code_of, set[str]()

    def change(step: str) -> None:
        changed.add(step)
        other = {"x": "0" * 16}
        monkeypatch.setattr(code_versions, "code_of", lambda of: {**as_it_is(of), **(other if of in changed else {})})

    return change


def test_stale_assets_are_shown_by_code_and_data(settings: Settings, change_code: Callable[[str], None]) -> None:
    """Other code makes the table of every session stale; what is below it is stale only where its rows change."""
    with dg.DagsterInstance.ephemeral() as instance:
        materialize(settings, instance, TABLE, RATIOS, HISTORY, RANK, days=[MONDAY, TUESDAY])
        assert stale(settings, instance) == {}
        change_code(TABLE)
        code = ["CODE: has a new code version"]
        assert stale(settings, instance) == {f"{TABLE} {MONDAY}": code, f"{TABLE} {TUESDAY}": code}
        materialize(settings, instance, TABLE, days=[MONDAY, TUESDAY])
        assert stale(settings, instance) == {}, "the rows are the same: nothing below is stale"
        capture(settings, MONDAY, time(20, 50))
        materialize(settings, instance, TABLE, days=[MONDAY, TUESDAY])
        data = ["DATA: has a new dependency data version"]
        assert stale(settings, instance) == {f"{RATIOS} {MONDAY}": data}, "the rows of the other session are the same"
        materialize(settings, instance, RATIOS, HISTORY, days=[MONDAY, TUESDAY])
        assert RANK not in stale(settings, instance), "the best closing snapshot is still the later one"
        capture(settings, TUESDAY, time(20, 58))
        materialize(settings, instance, TABLE, RATIOS, HISTORY, days=[TUESDAY])
        assert stale(settings, instance) == {RANK: data}
        materialize(settings, instance, RANK, days=[TUESDAY])
        change_code(HISTORY)
        assert stale(settings, instance) == {HISTORY: code}
        materialize(settings, instance, HISTORY, days=[TUESDAY])
        assert stale(settings, instance) == {}, "a series made by other code is the same"


def test_versions_in_events_are_what_dagster_itself_would_write() -> None:
    """Pins what is borrowed from Dagster: tags of a session reported by us are those of its own bookkeeping."""
    days = dg.DailyPartitionsDefinition("2026-01-01")

    @dg.asset(key=["a", "above"], partitions_def=days, code_version="1")
    def above() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(data_version=dg.DataVersion("0"))

    def below(name: str, *, is_ours: bool) -> dg.AssetsDefinition:
        @dg.asset(key=["b", name], deps=[above], partitions_def=days, code_version="7")
        def asset(context: dg.AssetExecutionContext):  # type: ignore[no-untyped-def]
            if is_ours:
                yield from report_sessions(context, dg.AssetKey(["b", name]), [SessionResult(MONDAY, data_version="x")])
            else:
                yield dg.MaterializeResult(data_version=dg.DataVersion("x"))

        return asset

    assets = [above, below("ours", is_ours=True), below("its", is_ours=False)]
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(2):
            assert dg.materialize(assets, instance=instance, partition_key=MONDAY.isoformat()).success
        ours, its = (instance.get_latest_materialization_event(dg.AssetKey(["b", name])) for name in ("ours", "its"))
    assert ours is not None
    assert its is not None
    assert ours.asset_materialization is not None
    assert its.asset_materialization is not None
    assert ours.asset_materialization.tags == its.asset_materialization.tags
    assert ours.asset_materialization.tags["dagster/data_version"] == "x"
