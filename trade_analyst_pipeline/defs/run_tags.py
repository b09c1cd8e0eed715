"""Tags of runs that mean something here: the tick a run is for, and its class of urgency."""

from __future__ import annotations

from typing import Final

from trade_analyst_pipeline.schwab.budget import Priority

TICK_TAG: Final = "trade_analyst/tick"
URGENCY_TAG: Final = "trade_analyst/urgency"  # `closing`, `intraday` or `backfill`: places of their own (dagster.yaml)


def urgency_tag(priority: Priority) -> dict[str, str]:
    """The tag of a run that has its place among the runs of a class."""
    return {URGENCY_TAG: priority.name.lower()}


LEAST_URGENT: Final = urgency_tag(Priority.BACKFILL)  # of whatever no schedule started
