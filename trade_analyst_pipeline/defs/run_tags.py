"""Tags of runs that mean something here: the tick a run is for, and its class of urgency."""

from __future__ import annotations

from typing import Final

TICK_TAG: Final = "trade_analyst/tick"
URGENCY_TAG: Final = "trade_analyst/urgency"  # `closing`, `intraday` or `backfill`: places of their own (dagster.yaml)
LEAST_URGENT: Final = {URGENCY_TAG: "backfill"}  # of every job; a schedule of snapshots says otherwise
