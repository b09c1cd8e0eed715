"""Sums over trades, one trade after the other, in fractions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from mpmath import mpf, sqrt

from trade_analyst_pipeline.market.sessions import session_open

Row = dict[str, Any]
MINUTES = {"minute": 1, "minute_30": 30}
ERRORS = {
    "exact": "0.011",
    "strict": "0.017",
    "concurrent": "0.011",
    "concurrent_fine": "0.012",
    "matched": "0.001",
    "arrival": "0.011",
    "previous_update": "0.024",
    "unseen": "0.014",
    "option_prior": "0.1",
    "block": "0.1",
}
PLACES = {
    "above": "above_pct",
    "far_above": "above_pct",
    "ask": "at_ask_pct",
    "mid": "at_mid_pct",
    "bid": "at_bid_pct",
    "below": "below_pct",
    "far_below": "below_pct",
    None: "no_quote_pct",
    **dict.fromkeys(("upper_near", "upper_outer"), "upper_inside_pct"),
    **dict.fromkeys(("lower_near", "lower_outer"), "lower_inside_pct"),
}
LOW, HIGH = ("below_pct", "at_bid_pct", "lower_inside_pct"), ("above_pct", "at_ask_pct", "upper_inside_pct")


def trade_location(trades: Sequence[Row], signed: Sequence[Row], confidence: Sequence[Row]) -> list[Row]:
    """One row per symbol and interval with volume, in order of key."""
    by_key: dict[tuple[Any, ...], Row] = {}
    for row in (*signed, *confidence):
        by_key.setdefault((row["symbol"], row["trade_time"], row["sequence"]), {}).update(row)
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for trade in trades:
        known = by_key.get((trade["symbol"], trade["trade_time"], trade["sequence"]), {})
        row = {"trade_location": None, "buy_probability": None, "posterior_version": None} | known | trade
        for interval in ("minute", "minute_30", "session"):
            key = (trade["symbol"], interval, start_of(interval, trade), trade["session_date"])
            groups.setdefault(key, []).append(row)
    found = [summed(key, rows) for key, rows in sorted(groups.items(), key=lambda item: item[0])]
    return [row for row in found if row["traded_volume"]]


def start_of(interval: str, trade: Row) -> datetime:
    """The start of the interval that a trade falls into."""
    if interval == "session":
        return session_open(trade["session_date"])
    time = trade["trade_time"]
    return time.replace(minute=time.minute // MINUTES[interval] * MINUTES[interval], second=0, microsecond=0)


def summed(key: tuple[Any, ...], rows: Sequence[Row]) -> Row:
    """One row of the result."""
    prints = [row for row in rows if row["volume_kind"] in {"shown", "unseen"}]
    open_rows = [row for row in prints if row["exclusion"] is None]
    sided = [row for row in open_rows if row["buy_probability"] is not None]
    total, classified = volume(rows), volume(sided)
    shown = volume([row for row in rows if row["volume_kind"] == "shown"])
    versions = [row["posterior_version"] for row in rows if row["posterior_version"] is not None]
    found = dict(zip(("symbol", "interval", "interval_start", "session_date"), key, strict=True)) | {
        "prints": sum(row["volume_kind"] == "shown" for row in rows),
        "traded_volume": total,
        "classified_volume": classified,
        "unseen_volume": volume([row for row in rows if row["volume_kind"] == "unseen"]),
        "excluded_volume": volume([row for row in rows if row["exclusion"] is not None]),
        "gap_volume": volume([row for row in rows if row["volume_kind"] == "gap"]),
        "completeness_pct": ratio(100 * shown, total),
        "coverage_pct": ratio(100 * classified, total),
        "posterior_version": versions[0] if versions else None,
        "location_status": "ok" if classified else "nothing_classified",
    }
    shares = {
        name: ratio(
            100 * volume([row for row in open_rows if PLACES[row["trade_location"]] == name]), volume(open_rows)
        )
        for name in PLACES.values()
    }
    sides = {
        name: ratio(sum(shares[each] or 0 for each in names), 1) if volume(open_rows) else None
        for name, names in (("bid_side_pct", LOW), ("ask_side_pct", HIGH))
    }
    return found | shares | sides | bought(sided, classified)


def bought(rows: Sequence[Row], classified: Any) -> Row:
    """The share bought and how far it holds."""
    names = ("buy_share_pct", "imbalance", "mean_confidence", "buy_share_standard_error", "buy_share_half_width")
    if not classified:
        return dict.fromkeys(names)
    bursts: dict[datetime, Any] = {}
    share = sure = off = wider = mpf(0)
    for row in rows:
        size, chance = mpf(str(row["trade_size"])), mpf(str(row["buy_probability"]))
        share, sure = share + size * chance, sure + size * max(chance, 1 - chance)
        off += size * mpf(ERRORS[row["quote_quality"]])
        wider += size * mpf("1.1" if row["quote_quality"] == "exact" else "1")
        at = row["trade_time"].replace(microsecond=row["trade_time"].microsecond // 1000 * 1000)
        bursts[at] = bursts.get(at, 0) + size * sqrt(chance * (1 - chance))
    whole = mpf(str(classified))
    error = sqrt(sum(each**2 for each in bursts.values()) / whole**2 + (off / whole) ** 2)
    values = (
        *(100 * share / whole, 2 * share / whole - 1, sure / whole, 100 * error),
        100 * mpf("1.96") * error * wider / whole,
    )
    return dict(zip(names, values, strict=True))


def volume(rows: Sequence[Row]) -> Any:
    """The sizes that are known, added up."""
    return sum((row["trade_size"] for row in rows if row["trade_size"] is not None), 0)


def ratio(part: Any, whole: Any) -> Any:
    """A quotient; None for a whole of nothing."""
    return mpf(str(part)) / mpf(str(whole)) if whole else None
