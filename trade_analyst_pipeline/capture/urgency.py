"""How urgent a snapshot is: which class its requests have when the limit is short.

What cannot be had again goes first: the snapshots before a close. Then what shows the session as it stands, whose
worth fades, movers among it. Bars and reference data, which the source still gives hours later, wait for both.
"""

from __future__ import annotations

from trade_analyst_pipeline.capture.plan import PRODUCTS, SHOWS_TRADING, Snapshot
from trade_analyst_pipeline.market.sessions import closing_snapshot_times
from trade_analyst_pipeline.schwab.budget import Priority

FADING = frozenset({"quotes", "options"})  # datasets that show a moment


def urgency(snapshot: Snapshot, *, minutes_before: tuple[int, ...]) -> Priority:
    """The class of a snapshot, of a session whose closing snapshots lie `minutes_before` the closes."""
    if snapshot.dataset in SHOWS_TRADING:
        return Priority.INTRADAY
    if snapshot.dataset not in FADING:
        return Priority.BACKFILL
    closing = (closing_snapshot_times(snapshot.session_date, product, minutes_before) for product in PRODUCTS)
    is_closing = any(snapshot.scheduled_time in instants for instants in closing)
    return Priority.CLOSING if is_closing else Priority.INTRADAY
