"""Which records count where a request was asked more than once: what an answer lacked stands beside it in its record.

Only what is written in the records and notes of the captures decides, never a body.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.storage.captures import Gap, IndexEntry

ASKED_IN_PARTS = "asked_in_parts"  # reason of a note that is no gap: the parts of a request are asked in its place


def counting(entries: Sequence[IndexEntry], gaps: Iterable[Gap]) -> list[int]:
    """The places of the records that count, ascending, among those of attempts at one snapshot.

    All that lack nothing count. Of a request that was only answered with something lacking, the fullest answer counts,
    the later of equals; none that is of no use, and none where the request was then asked in parts.
    """
    whole = {entry.request for entry in entries if entry.lacking is None}
    replaced = whole | {gap.request for gap in gaps if gap.reason == ASKED_IN_PARTS}
    found = [place for place, entry in enumerate(entries) if entry.lacking is None]
    fullest: dict[MarketDataRequest, tuple[int, int]] = {}
    for place, entry in enumerate(entries):
        if entry.is_answer and entry.lacking is not None and entry.request not in replaced:
            rank = (entry.lacking.content or 0, place)
            fullest[entry.request] = max(rank, fullest.get(entry.request, rank))
    return sorted([*found, *(place for _, place in fullest.values())])
