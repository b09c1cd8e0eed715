"""Counting contradictions of quotes, contract by contract, in exact fractions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from typing import Any

Row = dict[str, Any]
Found = tuple[Fraction | None, Fraction | None, str]  # excess at bid and ask, of mids, and whose it is
HALF_CENT = Fraction(1, 200)
CHECKS = (
    "butterfly", "calendar", "greeks", "lower_bound", "monotone", "slope", "upper_bound", "vendor_volatility",
    "volatility_range",
)  # fmt: skip


def surface_check(volatilities: Sequence[Row], forwards: Sequence[Row], options: Sequence[Row]) -> list[Row]:
    """One row per symbol, snapshot and check."""
    vendor = {(row["option_symbol"], row["snapshot_time"]): row["vendor_implied_volatility"] for row in options}
    errors = {expiry(row): row["forward_error"] for row in forwards}
    refused = ("adjusted", "no_quote", "crossed", "stale", "no_expiration_time", "expired")
    snapshots: dict[tuple[str, datetime], list[Row]] = {}
    for row in volatilities:
        exact = {k: Fraction(v) if type(v).__name__ == "Decimal" else v for k, v in row.items()}
        exact["vendor"] = vendor.get((row["option_symbol"], row["snapshot_time"]))
        exact["error"] = errors.get(expiry(row))
        snapshots.setdefault((row["symbol"], row["snapshot_time"]), []).append(exact)
    return [
        {"symbol": symbol, "snapshot_time": taken, "session_date": rows[0]["session_date"], "check": check}
        | counted(list(WORK[check]([row for row in rows if row["implied_volatility_status"] not in refused])))
        for (symbol, taken), rows in sorted(snapshots.items())
        for check in CHECKS
    ]


def expiry(row: Row) -> tuple[Any, ...]:
    """What tells an expiry."""
    return tuple(row[name] for name in ("symbol", "snapshot_time", "expiration_date", "option_root", "settlement_type"))


def counted(found: Sequence[Found]) -> Row:
    """The counts of a check."""
    tested = [each for each in found if each[0] is not None]
    broken = [(each[0], each[2]) for each in tested if each[0] is not None and each[0] > 0]
    inside = sum(1 for out, mid, _ in tested if out is not None and out <= 0 and mid is not None and mid > 0)
    most = max((excess for excess, _ in broken), default=None)
    return {
        "tested": len(tested),
        "violations": len(broken),
        "inside_spread": inside,
        "worst_excess": most,
        "worst_option_symbol": min((name for excess, name in broken if excess == most), default=None),
        "status": "nothing" if not tested else "violated" if broken else "ok",
    }


def less(first: Fraction | None, *rest: Fraction | None) -> Fraction | None:
    """The first less the others; none where one is not there."""
    if first is None or None in rest:
        return None
    return first - sum(each for each in rest if each is not None)


def lower_bound(rows: Sequence[Row]) -> Iterator[Found]:
    """Asks below what is sure."""
    for row in rows:
        sign = 1 if row["option_type"] == "C" else -1
        sure = [Fraction(0), sign * row["discount_factor"] * (row["forward"] - row["strike"])]
        if row["exercise_type"] == "A":
            sure.append(sign * (row["spot"] - row["strike"]))
        yield (
            less(max(sure), row["ask"], HALF_CENT),
            less(max(sure), row["mid"], HALF_CENT),
            row["option_symbol"],
        )


def upper_bound(rows: Sequence[Row]) -> Iterator[Found]:
    """Bids above what is possible."""
    for row in rows:
        is_european = row["exercise_type"] == "E"
        if row["option_type"] == "C":
            carried = row["discount_factor"] * row["forward"]
            most = carried if is_european else max(carried, row["spot"])
        else:
            most = row["strike"] * (row["discount_factor"] if is_european else max(row["discount_factor"], 1))
        yield less(row["bid"], most, HALF_CENT), less(row["mid"], most, HALF_CENT), row["option_symbol"]


def sides(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The contracts of one type of an expiry that are offered, by strike."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row["ask"] is not None:
            found.setdefault((*expiry(row), row["option_type"]), []).append(row)
    for side in found.values():
        yield sorted(side, key=lambda row: row["strike"])


def middle(row: Row) -> Fraction | None:
    """Between bid and ask."""
    return None if row["bid"] is None or row["ask"] is None else Fraction(row["bid"] + row["ask"]) / 2


def vertical(rows: Sequence[Row], *, is_slope: bool) -> Iterator[Found]:
    """Two neighbours: the one that has to be worth less is not, or is worth less by more than the width."""
    for side in sides(rows):
        for low, high in pairwise(side):
            sold, bought = (high, low) if (low["option_type"] == "C") != is_slope else (low, high)
            width = (high["strike"] - low["strike"]) if is_slope else Fraction(0)
            if low["exercise_type"] == "E":
                width *= low["discount_factor"]
            yield (
                less(sold["bid"], bought["ask"], width),
                less(middle(sold), middle(bought), width),
                low["option_symbol"],
            )


def butterfly(rows: Sequence[Row]) -> Iterator[Found]:
    """A body sold for more than its wings cost."""
    for side in sides(rows):
        for low, body, high in zip(side, side[1:], side[2:], strict=False):
            part = (high["strike"] - body["strike"]) / (high["strike"] - low["strike"])
            mids = None
            wings = (middle(low), middle(high))
            if wings[0] is not None and wings[1] is not None:
                mids = part * wings[0] + (1 - part) * wings[1]
            yield (
                less(body["bid"], part * low["ask"] + (1 - part) * high["ask"]),
                less(middle(body), mids),
                body["option_symbol"],
            )


def calendar(rows: Sequence[Row]) -> Iterator[Found]:
    """An earlier option worth more than the later one at the same strike over forward."""
    for row in rows:
        is_call = row["option_type"] == "C"
        is_out = row["strike"] >= row["forward"] if is_call else row["strike"] <= row["forward"]
        same = [
            other
            for other in rows
            if (other["option_root"], other["settlement_type"]) == (row["option_root"], row["settlement_type"])
            and other["years"] > row["years"]
        ]
        if not is_out or not row["bid"] or not same:
            continue
        first = min(other["years"] for other in same)
        later = [other for other in same if other["years"] == first]
        at = row["strike"] * later[0]["forward"] / row["forward"]
        offered = [o for o in later if o["option_type"] == row["option_type"] and o["ask"] is not None]
        low = max((o for o in offered if o["strike"] <= at), key=lambda o: o["strike"], default=None)
        high = min((o for o in offered if o["strike"] >= at), key=lambda o: o["strike"], default=None)
        if low is None or high is None:
            continue
        scale = row["discount_factor"] * row["forward"]
        later_scale = low["discount_factor"] * low["forward"]
        slack = HALF_CENT
        if row["error"] is not None and low["error"] is not None:
            apart = Fraction(row["error"]) / row["forward"] + Fraction(low["error"]) / low["forward"]
            slack += 2 * scale * apart

        def line(price: str, low: Row = low, high: Row = high, at: Fraction = at) -> Fraction | None:
            if low[price] is None or high[price] is None:
                return None
            if high["strike"] == low["strike"]:
                return Fraction(low[price])
            rise = (high[price] - low[price]) / (high["strike"] - low["strike"])
            return Fraction(low[price] + rise * (at - low["strike"]))

        ask, mid = line("ask"), line("mid")
        ratio = scale / later_scale
        yield (
            less(row["bid"], ask and ask * ratio, slack),
            less(row["mid"], mid and mid * ratio, slack),
            row["option_symbol"],
        )


def volatility_range(rows: Sequence[Row]) -> Iterator[Found]:
    """Volatilities that nothing has."""
    for row in rows:
        iv = row["implied_volatility"]
        if iv is not None:
            bid, ask = row["bid_implied_volatility"], row["ask_implied_volatility"]
            beyond = [Fraction(1, 100) - ask] if ask is not None else []
            beyond += [bid - 5] if bid is not None else []
            yield max(beyond, default=Fraction(-1)), max(Fraction(1, 100) - iv, iv - 5), row["option_symbol"]


def greeks(rows: Sequence[Row]) -> Iterator[Found]:
    """Greeks that no option has."""
    for row in rows:
        if row["greeks_status"] == "ok":
            delta = row["delta"] if row["option_type"] == "C" else -row["delta"]
            most = row["discount_factor"] * row["forward"] / row["spot"]
            vega = row["spot"] ** 2 * row["gamma"] * row["implied_volatility"] * row["years"]
            identity = abs(row["vega"] - vega) - abs(row["vega"]) / 10**10
            most *= 1 + Fraction(1, 10**10)
            yield max(-delta, delta - most, -row["gamma"], -row["vega"], identity), None, row["option_symbol"]


def vendor_volatility(rows: Sequence[Row]) -> Iterator[Found]:
    """Volatilities of ours and the vendor's that are apart."""
    for row in rows:
        iv, vendor, delta = row["implied_volatility"], row["vendor"], row["delta"]
        if iv is None or vendor is None or delta is None or not row["years"] > Fraction(7, 365):
            continue
        is_out = row["strike"] >= row["forward"] if row["option_type"] == "C" else row["strike"] <= row["forward"]
        if is_out and Fraction(1, 10) <= abs(delta) <= Fraction(9, 10):
            apart = abs(iv - Fraction(vendor)) - Fraction(1, 100)
            bid, ask = row["bid_implied_volatility"], row["ask_implied_volatility"]
            is_outside = (bid is not None and vendor < bid) or (ask is not None and vendor > ask)
            yield apart if is_outside else min(apart, Fraction(0)), apart, row["option_symbol"]


WORK: dict[str, Callable[[Sequence[Row]], Iterator[Found]]] = {
    "butterfly": butterfly,
    "calendar": calendar,
    "greeks": greeks,
    "lower_bound": lower_bound,
    "monotone": lambda rows: vertical(rows, is_slope=False),
    "slope": lambda rows: vertical(rows, is_slope=True),
    "upper_bound": upper_bound,
    "vendor_volatility": vendor_volatility,
    "volatility_range": volatility_range,
}
