"""Published volatility indices: the last close known of each session, in percent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from fractions import Fraction
from typing import Any

Row = dict[str, Any]
ABOUT = {
    "VIX": "$SPX SPY",
    "VXN": "$NDX QQQ",
    "RVX": "$RUT IWM",
    "VXD": "$DJI DIA",
    "VXAPL": "AAPL",
    "VXAZN": "AMZN",
    "VXGOG": "GOOG",
    "VXGS": "GS",
    "VXIBM": "IBM",
    "GVZ": "GLD",
    "OVX": "USO",
    "VXEEM": "EEM",
    "VXEFA": "EFA",
}


def volatility_index(ohlc: Sequence[Row]) -> list[Row]:
    """One row per symbol that an index is about and session with a bar."""
    last: dict[tuple[str, date], tuple[datetime, Fraction]] = {}
    for row in ohlc:
        if row["frequency"] == "daily" and row["is_complete"] and row["close"] is not None and row["close"] > 0:
            known = (row["known_time"], Fraction(row["close"]))
            key = (row["symbol"], row["session_date"])
            last[key] = max(known, last.get(key, known))
    found = [
        {
            "symbol": symbol,
            "series": f"index_{name.lower()}",
            "session_date": day,
            "iv": close / 100,
            "index_symbol": f"${name}",
            "known_time": known_time,
            "status": "published",
        }
        for name, symbols in ABOUT.items()
        for (index, day), (known_time, close) in last.items()
        if index == f"${name}"
        for symbol in symbols.split()
    ]
    return sorted(found, key=lambda row: (row["symbol"], row["series"], row["session_date"]))
