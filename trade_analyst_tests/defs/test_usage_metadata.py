"""What a capture cost of the request limit stands with the asset that it made."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.capture.take import Outcome
from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.defs.assets import raw_asset
from trade_analyst_pipeline.defs.partitions import session_partitions
from trade_analyst_pipeline.defs.resources import SourceResource, StorageResource
from trade_analyst_pipeline.defs.standing import TokenResource
from trade_analyst_pipeline.schwab.budget import Usage
from trade_analyst_pipeline.settings import Settings
from trade_analyst_pipeline.storage.archive import Archive, Capture

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*currently in beta:Warning"),
    pytest.mark.filterwarnings("ignore:Property `OpDefinition.version`:DeprecationWarning"),  # Dagster's own use
]
DUE = datetime(2026, 3, 12, 19, 55, tzinfo=UTC)
CAPTURE = Capture("c", "quotes", date(2026, 3, 12), Path("c"), DUE, DUE, DUE, 1, 1, 10, 5, (), "00")


class CountingSource(SourceResource):
    """A source that asks seven times, is refused twice, and had 40 requests in its busiest minute."""

    def has_to_ask(self, *_: object) -> bool:
        """No login is looked for."""
        return False

    def take(self, snapshots: Sequence[Snapshot], archive: Archive, usage: Usage | None = None) -> Iterator[Outcome]:
        """One outcome."""
        assert archive is not None
        assert usage is not None
        usage.requests, usage.busiest_minute, usage.refusals = 7, 40, 2
        yield Outcome(snapshots[0], (CAPTURE,), (), was_archived=False)


def test_requests_busiest_minute_and_refusals_are_metadata() -> None:
    """The materialisation of a raw asset says how many requests the run made, how dense they were, how many got 429."""
    settings = Settings(universe={"symbols": ["SPY"]})
    resources: dict[str, Any] = {
        "source": CountingSource(settings),
        "storage": StorageResource(settings),
        "token": TokenResource(settings),
    }
    asset = raw_asset(DATASETS["quotes"], session_partitions(settings.start_date))
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([asset], partition_key="2026-03-12", resources=resources, instance=instance)
    (event,) = result.asset_materializations_for_node("raw__quotes")
    told = {name: event.metadata[name].value for name in ("run_requests", "run_busiest_minute", "run_refusals")}
    assert told == {"run_requests": 7, "run_busiest_minute": 40, "run_refusals": 2}
