"""The rules of every dataset's rows written out a second time, in plain Python and without the code under test.

Only rules that keep a row out of its table. A rule says True for a row that may be there; what it has no value for it
does not judge.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

Row = dict[str, Any]
Rule = Callable[[Row], bool]

CHICAGO = ZoneInfo("America/Chicago")
MINUTES = {"minute": 1, "minute_5": 5, "minute_10": 10, "minute_15": 15, "minute_30": 30}
# Weekdays of these years on which the New York Stock Exchange was or will be closed, from its published calendars.
HOLIDAYS = {
    date.fromisoformat(f"{year}-{day}")
    for year, days in {
        2023: "01-02 01-16 02-20 04-07 05-29 06-19 07-04 09-04 11-23 12-25",
        2024: "01-01 01-15 02-19 03-29 05-27 06-19 07-04 09-02 11-28 12-25",
        2025: "01-01 01-09 01-20 02-17 04-18 05-26 06-19 07-04 09-01 11-27 12-25",
        2026: "01-01 01-19 02-16",
    }.items()
    for day in days.split()
}


def _at_least(column: str, least: float) -> Rule:
    return lambda row: row[column] is None or row[column] >= least


def _above_zero(column: str) -> Rule:
    return lambda row: row[column] is None or row[column] > 0


def _not_after(earlier: str, later: str) -> Rule:
    return lambda row: row[earlier] is None or row[later] is None or row[earlier] <= row[later]


def _before(earlier: str, later: str) -> Rule:
    return lambda row: row[earlier] is None or row[later] is None or row[earlier] < row[later]


def _ticks(price: float) -> int:
    return round(price * 10_000)


def _symbol_agrees(row: Row) -> bool:
    symbol = row["option_symbol"]
    day, kind, strike = symbol[6:12], symbol[12:13], symbol[13:]
    return (
        len(symbol.encode()) == 21
        and day == f"{row['expiration_date']:%y%m%d}"
        and kind == row["option_type"]
        and strike.isdigit()
        and abs(int(strike) - row["strike"] * 1000) <= 0.5
    )


def _on_grid(row: Row) -> bool:
    minutes = MINUTES.get(row["frequency"])
    if minutes is None:
        local = row["bar_time"].astimezone(CHICAGO)
        return (local.hour, local.minute, local.second, local.microsecond) == (0, 0, 0, 0)
    return bool(row["bar_time"].timestamp() % (minutes * 60) == 0)


def _is_session(row: Row) -> bool:
    day = row["session_date"]
    return bool(row["frequency"] != "daily" or day.year < 2005 or (day.weekday() < 5 and day not in HOLIDAYS))


_QUOTES: dict[str, Rule] = {
    "negative_bid_size": _at_least("bid_size", 0),
    "negative_ask_size": _at_least("ask_size", 0),
    "negative_last_size": _at_least("last_size", 0),
    "negative_volume": _at_least("volume", 0),
    "negative_open_interest": _at_least("open_interest", 0),
    "high_below_low": _not_after("low", "high"),
    "strike_not_positive": _above_zero("strike"),
    "unknown_option_type": lambda row: row["option_type"] in {None, "C", "P"},
}
PLAIN_RULES: dict[str, dict[str, Rule]] = {
    "options": {
        **_QUOTES,
        "expired": _not_after("session_date", "expiration_date"),
        "symbol_disagrees": _symbol_agrees,
        "multiplier_not_positive": _above_zero("multiplier"),
    },
    "quotes": _QUOTES,
    "ohlc": {
        **{f"{name}_not_positive": _above_zero(name) for name in ("open", "high", "low", "close")},
        "high_too_low": lambda row: _ticks(row["high"]) >= max(_ticks(row[name]) for name in ("open", "low", "close")),
        "low_too_high": lambda row: _ticks(row["low"]) <= min(_ticks(row[name]) for name in ("open", "high", "close")),
        "negative_volume": _at_least("volume", 0),
        "off_grid": _on_grid,
        "not_a_session": _is_session,
        "in_the_future": _not_after("bar_time", "known_time"),
    },
    "expirations": {"expired_before_session": _not_after("session_date", "expiration_date")},
    "markets": {
        f"{part}_hours_reversed": _before(f"{part}_open_time", f"{part}_close_time")
        for part in ("pre_market", "regular", "post_market")
    },
    "instruments": {
        "negative_shares": _at_least("shares_outstanding", 0),
        "negative_market_cap": _at_least("market_cap", 0),
        "negative_dividend": _at_least("dividend_amount", 0),
    },
    "movers": {
        "negative_volume": _at_least("volume", 0),
        "negative_trades": _at_least("trades", 0),
        "volume_beyond_list": _not_after("volume", "list_volume"),
        "share_outside_range": lambda row: row["market_share_pct"] is None or 0 <= row["market_share_pct"] <= 100,
    },
}
REQUIRED = {
    "options": "symbol option_symbol session_date snapshot_time chain_scope option_type expiration_date strike "
    "quote_status",
    "quotes": "symbol session_date snapshot_time asset_type quote_status",
    "ohlc": "symbol frequency session_date bar_time known_time open high low close volume",
    "expirations": "symbol expiration_date option_roots settlement_type session_date snapshot_time",
    "markets": "market market_product hours_date session_date snapshot_time is_open",
    "instruments": "symbol session_date snapshot_time",
    "movers": "movers_of sort_order symbol session_date snapshot_time place change_status",
}
KEYS = {
    "options": ("option_symbol", "snapshot_time"),
    "quotes": ("symbol", "snapshot_time"),
    "ohlc": ("symbol", "frequency", "bar_time", "known_time"),
    "expirations": ("symbol", "expiration_date", "option_roots", "settlement_type", "snapshot_time"),
    "markets": ("market", "market_product", "hours_date", "snapshot_time"),
    "instruments": ("symbol", "snapshot_time"),
    "movers": ("movers_of", "sort_order", "symbol", "snapshot_time"),
}


def broken_rules(dataset: str, rows: Sequence[Row]) -> Counter[str]:
    """How often each rule is broken by rows accepted into a dataset's table, given in wire order."""
    found = Counter(name for row in rows for name, rule in PLAIN_RULES[dataset].items() if not rule(row))
    for column in REQUIRED[dataset].split():
        found[f"required_{column}"] += sum(row[column] is None for row in rows)
    found["not_finite"] = sum(not _all_finite(row.values()) for row in rows)
    keys = Counter(tuple(row[column] for column in KEYS[dataset]) for row in rows)
    found["duplicate_key"] = sum(count for count in keys.values() if count > 1)
    if dataset == "ohlc":
        found["out_of_order"] = _out_of_order(rows)
    return +found


def _all_finite(values: Iterable[Any]) -> bool:
    return all(math.isfinite(value) for value in values if isinstance(value, float))


def _out_of_order(rows: Sequence[Row]) -> int:
    latest: dict[tuple[Any, ...], Any] = {}
    count = 0
    for row in rows:
        answer = (row["symbol"], row["frequency"], row["known_time"])
        count += row["bar_time"] < latest.get(answer, row["bar_time"] - timedelta(1))
        latest[answer] = max(row["bar_time"], latest.get(answer, row["bar_time"]))
    return count
