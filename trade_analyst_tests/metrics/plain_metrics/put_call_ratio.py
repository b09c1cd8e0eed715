"""Put/call ratios in exact fractions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

from plain_metrics.exchange import before, close, ending

Row = dict[str, Any]
Key = tuple[Any, ...]
# Of each ratio: what is counted, what the sums are of, and the word for nothing counted and for nothing known.
QUANTITIES = {
    "volume": ("volume", "no_trades", None),
    "open_interest": ("open_interest", "no_open_interest", None),
    "premium": ("volume", "no_trades", "no_price"),
    "delta_volume": ("volume", "no_trades", "no_delta"),
    "delta_open_interest": ("open_interest", "no_open_interest", "no_delta"),
}
DAYS = ((0, "days_0"), (7, "days_1_7"), (30, "days_8_30"), (90, "days_31_90"))
SHARED = (
    *("call_volume", "put_volume", "put_call_volume_ratio", "put_volume_share", "volume_status"),
    *("call_open_interest", "put_open_interest", "put_call_open_interest_ratio", "put_open_interest_share"),
    *("open_interest_status", "open_interest_date"),
)


def put_call_ratio(options: Sequence[Row], *, price: str = "mid") -> list[Row]:
    """One row per scope, symbol, expiration, snapshot and chain scope."""
    groups: dict[Key, list[Row]] = defaultdict(list)
    for row in options:
        if row["chain_scope"] == "partial":
            continue
        at = (row["snapshot_time"], row["chain_scope"], row["session_date"])
        groups["underlying", row["symbol"], None, *at].append(row)
        groups["expiration", row["symbol"], row["expiration_date"], *at].append(row)
        for scope in (days_bucket(row), delta_bucket(row)):
            groups[scope, row["symbol"], None, *at].append(row)
    closing: dict[Key, Key] = {}
    for key in sorted((key for key in groups if key[0] == "underlying"), key=lambda key: key[3]):
        if key[3] <= close(key[1], key[5]):
            closing[key[1], key[4], key[5]] = key
    universe: dict[Key, list[Key]] = defaultdict(list)
    for _, scope, day in closing:
        universe[scope, day] = [held for (_, s, d), held in closing.items() if (s, d) == (scope, day)]
    rows = [summed(key, contracts, 1, price) for key, contracts in groups.items()]
    for (scope, day), held in universe.items():
        key = ("universe", "universe", None, max(each[3] for each in held), scope, day)
        rows.append(summed(key, [row for each in held for row in groups[each]], len(held), price))
    return sorted(rows, key=lambda row: sorting(row, ("scope", "symbol", "expiration_date", "snapshot_time")))


def sorting(row: Row, names: Iterable[str]) -> list[Any]:
    """In order of these columns, null first."""
    return [(row[name] is not None, row[name] or 0) for name in names]


def days_bucket(row: Row) -> str:
    """By calendar days to expiration."""
    days = (row["expiration_date"] - row["session_date"]).days
    return next((name for last, name in DAYS if days <= last), "days_over_90")


def delta_bucket(row: Row) -> str:
    """By the size of the vendor's delta."""
    if row["vendor_delta"] is None:
        return "delta_unknown"
    size = abs(row["vendor_delta"])
    return "delta_otm" if size * 10 < 4 else "delta_atm" if size * 10 <= 6 else "delta_itm"


def price_of(row: Row, basis: str) -> tuple[Fraction | None, bool]:
    """The price that premium is made of, and whether it is the last trade's."""
    if basis == "mid" and row["bid"] is not None and row["ask"] is not None and 0 < row["bid"] <= row["ask"]:
        return Fraction(row["bid"] + row["ask"]) / 2, False
    return (None if row["last"] is None else Fraction(row["last"])), True


def summed(key: Key, contracts: Sequence[Row], symbols: int, basis: str) -> Row:
    """The row of one set of contracts."""
    scope, symbol, expiration, snapshot, chain_scope, day = key
    counted = [row for row in contracts if not (row["is_non_standard"] or row["is_mini"])]
    row: Row = {
        "scope": scope, "symbol": symbol, "expiration_date": expiration, "snapshot_time": snapshot,
        "chain_scope": chain_scope, "session_date": day, "open_interest_date": before(day, 1)[0],
        "contracts": len(counted), "excluded_contracts": len(contracts) - len(counted), "symbols": symbols,
    }  # fmt: skip
    values: dict[str, Callable[[Row], Any]] = {
        "volume": lambda _: Fraction(1),
        "open_interest": lambda _: Fraction(1),
        "premium": lambda each: None if (p := price_of(each, basis)[0]) is None else p * Fraction(each["multiplier"]),
        "delta_volume": shares,
        "delta_open_interest": shares,
    }
    for name in QUANTITIES:
        row |= ratio(name, counted, values[name])
    priced = [each for each in counted if each["volume"] and price_of(each, basis)[0] is not None]
    row["premium_last_share"] = share(
        sum(each["volume"] for each in priced if price_of(each, basis)[1]), sum(each["volume"] for each in priced)
    )
    return row


def shares(row: Row) -> Fraction | None:
    """How many shares a contract moves as."""
    return None if row["vendor_delta"] is None else Fraction(abs(row["vendor_delta"])) * Fraction(row["multiplier"])


def share(part: Any, whole: Any) -> Fraction | None:
    """In percent; None of nothing."""
    return Fraction(100 * part) / whole if whole else None


def ratio(name: str, counted: Sequence[Row], value: Callable[[Row], Any]) -> Row:
    """One ratio with its sums, status, and share or coverage."""
    basis, nothing, missing = QUANTITIES[name]
    known = [each for each in counted if each[basis] is not None]
    sides = {side: [each for each in known if each["option_type"] == letter] for side, letter in SIDES}
    count = {side: sum(each[basis] for each in rows) for side, rows in sides.items()}
    worth = {side: [(each[basis], value(each)) for each in rows] for side, rows in sides.items()}
    covered = {side: sum(n for n, v in pairs if v is not None) for side, pairs in worth.items()}
    total = {side: sum((n * v for n, v in pairs if v is not None), Fraction(0)) for side, pairs in worth.items()}
    is_lost = {side: count[side] > 0 and covered[side] == 0 for side in sides}
    if counted and not known:
        status = "unknown"
    elif not sum(count.values()):
        status = nothing
    elif not count["call"]:
        status = "no_calls"
    elif is_lost["put"] or total["call"] == 0:
        status = missing or ""
    else:
        status = "ok"
    row: Row = {f"put_call_{name}_ratio": total["put"] / total["call"] if status == "ok" else None}
    row[f"{name}_status"] = status
    for side in sides:
        row[f"{side}_{name}"] = None if status == "unknown" or is_lost[side] else total[side]
    if missing:
        row[f"{name}_coverage"] = share(sum(covered.values()), sum(count.values()))
    else:
        row[f"put_{name}_share"] = share(count["put"], sum(count.values()))
    return row


SIDES = (("call", "C"), ("put", "P"))


def put_call_ratio_daily(ratios: Sequence[Row]) -> list[Row]:
    """The closing row of each symbol, chain scope and session."""
    closing: dict[Key, Row] = {}
    for row in sorted(ratios, key=lambda row: row["snapshot_time"]):
        is_closing = row["scope"] == "underlying" and row["snapshot_time"] <= close(row["symbol"], row["session_date"])
        if is_closing or row["scope"] == "universe":
            closing[row["symbol"], row["chain_scope"], row["session_date"]] = row
    daily = []
    for (symbol, scope, day), row in sorted(closing.items()):
        made = {name: row[name] for name in ("symbol", "chain_scope", "session_date", "snapshot_time", *SHARED)}
        for length in (5, 10, 21):
            held = [closing.get((symbol, scope, each)) for each in ending(day, length)]
            is_whole = all(each is not None and each["call_volume"] is not None for each in held)
            calls = sum(each["call_volume"] for each in held if each) if is_whole else 0
            puts = sum(each["put_volume"] for each in held if each) if is_whole else 0
            made[f"put_call_volume_ratio_{length}"] = Fraction(puts) / calls if calls else None
        daily.append(made)
    return daily
