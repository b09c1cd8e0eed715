"""The quote in force, by looking through all of them for each trade."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

Row = dict[str, Any]
ADDED = ("quote_time", "bid", "ask", "bid_size", "ask_size")


def prevailing_quote(
    trades: Sequence[Row],
    quotes: Sequence[Row],
    *,
    max_age: timedelta | None,
    join: str = "before",
    resolution: timedelta = timedelta(0),
) -> list[Row]:
    """Every trade with its quote; of quotes with one time the last counts."""
    is_fine = resolution <= timedelta(milliseconds=1)
    if join == "at_or_before":
        quality = "concurrent_fine" if is_fine else "concurrent"
    else:
        quality = "exact" if is_fine else "strict"
    rows = []
    for trade in trades:
        at = trade["trade_time"]
        own = [quote for quote in quotes if all(quote[n] == trade[n] for n in ("symbol", "session_date") if n in trade)]
        found = [q for q in own if q["quote_time"] < at or (join == "at_or_before" and q["quote_time"] == at)]
        quote, how, reason = found[-1] if found else None, quality, None
        young = [q for q in own if max_age is None or at - q["quote_time"] <= max_age]
        if join == "match" and (match := matching(trade, own, resolution)) and match in young:
            quote, how = match, "matched"
        if quote is None:
            reason = "no_quote"
        elif quote not in young:
            quote, reason = None, "stale_quote"
        sides = {name: quote[name] if quote else None for name in ADDED if name in quotes[0]}
        rows.append({**trade, **sides, "quote_quality": how, "quote_reason": reason})
    return rows


def matching(trade: Row, quotes: Sequence[Row], resolution: timedelta) -> Row | None:
    """Of the quotes in force within a tick of the clock around the trade, the first that has its price on one side."""
    start, end = trade["trade_time"] - resolution, trade["trade_time"] + resolution
    at_start = [quote for quote in quotes if quote["quote_time"] <= start][-1:]
    within = [quote for quote in quotes if start < quote["quote_time"] < end]
    for quote in at_start + within:
        bid, ask, price = quote["bid"], quote["ask"], trade["trade_price"]
        if bid is not None and ask is not None and bid <= ask and (bid == price) != (ask == price):
            return quote
    return None
