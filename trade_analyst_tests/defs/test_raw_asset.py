"""What a run of a raw asset says when it could capture nothing."""

from typing import Any

import dagster as dg
import pytest

from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.defs.assets import raw_asset
from trade_analyst_pipeline.defs.partitions import session_partitions
from trade_analyst_pipeline.defs.resources import SourceResource, StorageResource
from trade_analyst_pipeline.defs.standing import TokenResource
from trade_analyst_pipeline.settings import Settings, load_settings

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*currently in beta:Warning"),
    pytest.mark.filterwarnings("ignore:Property `OpDefinition.version`:DeprecationWarning"),  # Dagster's own use
]


class SilentSource(SourceResource):
    """A source of which nothing is taken."""

    def has_to_ask(self, *_: object) -> bool:
        """No login is looked for."""
        return False

    def take(self, *_: object) -> Any:
        """No outcome."""
        return iter(())


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [("options", "no symbol is watched in options"), ("quotes", "nothing is due yet in this session")],
)
def test_a_dataset_nobody_is_watched_in_is_told_from_one_not_due(dataset: str, reason: str) -> None:
    """With a set of futures alone there is nothing to ask of chains, on whatever day; quotes may come later."""
    fast = {"fast": {"symbols": ["/ES"], "datasets": {"quotes": 5}}}
    settings = load_settings(universe={"symbols": [], "sets": fast})
    resources = _resources(settings)
    asset = raw_asset(DATASETS[dataset], session_partitions(settings.start_date))
    with dg.DagsterInstance.ephemeral() as instance:
        run = dg.materialize([asset], partition_key="2026-03-12", resources=resources, instance=instance)
        told = [entry.user_message for entry in instance.all_logs(run.run_id)]
    assert f"raw/{dataset} 2026-03-12: nothing captured: {reason}" in told


def _resources(settings: Settings) -> dict[str, Any]:
    return {
        "source": SilentSource(settings),
        "storage": StorageResource(settings),
        "token": TokenResource(settings),
    }
