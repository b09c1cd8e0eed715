"""Bought volumes of bars, with mpmath's distributions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from mpmath import betainc, mpf, ncdf, sqrt

Row = dict[str, Any]


def bulk_volume(bars: Sequence[Row], *, freedom: float | None = None) -> list[Row]:
    """One row per bar, in the order given."""
    rows = []
    for i, bar in enumerate(bars):
        own = [each["close"] for each in bars[: i + 1] if each["symbol"] == bar["symbol"]]
        changes = [None if None in pair else mpf(str(pair[1] - pair[0])) for pair in pairwise(own)]
        known = [change for change in changes if change is not None]
        row = {name: bar[name] for name in ("symbol", "bar_time", "volume")} | {"bulk_buy_volume": None}
        rows.append(row | judged(changes[-1] if changes else None, known, bar["volume"], freedom))
    return rows


def judged(change: mpf | None, known: Sequence[mpf], volume: int | None, freedom: float | None) -> Row:
    """Volume bought and status."""
    if volume is None:
        return {"status": "no_volume"}
    if change is None or len(known) < 2:
        return {"status": "short"}
    mean = sum(known) / len(known)
    deviation = sqrt(sum((each - mean) ** 2 for each in known) / (len(known) - 1))
    if deviation == 0:
        return {"status": "flat"}
    z = change / deviation
    share = ncdf(z) if freedom is None else student(z, mpf(freedom))
    return {"bulk_buy_volume": volume * share, "status": "ok"}


def student(z: mpf, freedom: mpf) -> mpf:
    """Student's distribution up to z."""
    tail = betainc(freedom / 2, mpf(1) / 2, 0, freedom / (freedom + z * z), regularized=True) / 2
    return tail if z < 0 else 1 - tail
