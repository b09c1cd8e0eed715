"""How urgent a snapshot is: which class its requests have when the limit is short.

What cannot be had again goes first: the snapshots before a close. Then what shows the session as it stands, whose
worth fades, movers among it. Bars and reference data, which the source still gives hours later, wait for both.

A run holds snapshots of several classes: each asks for its slots in its own, the run has its place by the highest.
"""

from __future__ import annotations

from collections.abc import Iterable

from trade_analyst_pipeline.capture.plan import SHOWS_TRADING, Snapshot, symbols_by_product
from trade_analyst_pipeline.market.sessions import closing_snapshot_times
from trade_analyst_pipeline.schwab.budget import Priority

FADING = frozenset({"quotes", "options"})  # datasets that show a moment


def urgency(snapshot: Snapshot, *, minutes_before: tuple[int, ...]) -> Priority:
    """The class of a snapshot, of a session whose closing snapshots lie `minutes_before` the closes.

    The closes are those of its own symbols: when stocks close in a quarter of an hour, late options trade on for half.
    """
    if snapshot.dataset in SHOWS_TRADING:
        return Priority.INTRADAY
    if snapshot.dataset not in FADING:
        return Priority.BACKFILL
    is_closing = any(
        snapshot.scheduled_time in closing_snapshot_times(snapshot.session_date, product, minutes_before)
        for product in symbols_by_product(snapshot.symbols)
    )
    return Priority.CLOSING if is_closing else Priority.INTRADAY


def urgency_of_run(snapshots: Iterable[Snapshot], *, minutes_before: tuple[int, ...]) -> Priority:
    """The class among whose runs the run of these snapshots has its place: the highest; the lowest for none."""
    classes = (urgency(snapshot, minutes_before=minutes_before) for snapshot in snapshots)
    return min(classes, default=Priority.BACKFILL)
