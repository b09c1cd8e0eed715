"""Forwards and rates by put-call parity, each fit written out, with mpmath."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from mpmath import exp, log, mpf, sqrt

from plain_metrics.implied_volatility import number, root_and_settlement, years_to

Row = dict[str, Any]
USABLE = ("ok", "locked", "low_priced")
FIGURES = ("forward", "forward_error", "at_money_forward", "discount_rate_error", "parity_scale")


def forward(options: Sequence[Row]) -> list[Row]:
    """One row per expiry."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in options:
        if row["chain_scope"] != "partial":
            made = row | root_and_settlement(row)
            names = ("symbol", "snapshot_time", "expiration_date", "option_root", "settlement_type")
            groups.setdefault(tuple(made[name] for name in names), []).append(made)
    return [expiry(groups[key]) for key in sorted(groups)]


def expiry(rows: Sequence[Row]) -> Row:
    """The row of one expiry."""
    first = rows[0]
    copied = ("symbol", "snapshot_time", "expiration_date", "option_root", "settlement_type", "session_date")
    row = {name: first[name] for name in (*copied, "expiration_time")} | dict.fromkeys(FIGURES)
    styles = {each["exercise_type"] for each in rows}
    row["exercise_type"] = styles.pop() if len(styles) == 1 else None
    row["years"] = years = years_to(first)
    spots = [spot for each in rows if (spot := spot_of(each)) is not None]
    row["spot"] = median(spots) if spots else None
    rates = [number(each["interest_rate"]) for each in rows if each["interest_rate"] is not None]
    rate = max((each for each in rates if abs(each) <= mpf("0.5")), default=None)
    source, rate = ("assumed", mpf(0)) if rate is None else ("chain", rate)
    row |= {"strike_pairs": 0, "used_pairs": 0, "flags": "", "implied_dividend_yield": None}
    row |= {"discount_rate": None, "rate_source": None, "discount_factor": None}
    sides = {letter: usable(rows, letter) for letter in "CP"}
    pairs = [pair(strike, sides["C"][strike], sides["P"][strike]) for strike in sorted(sides["C"].keys() & sides["P"])]
    row["strike_pairs"] = len(pairs)
    if years is not None and years > 0:
        row |= {"discount_rate": rate, "rate_source": source, "discount_factor": exp(-rate * years)}
    if status := lacking(years, sides, pairs):
        return row | {"status": status}
    found = fitted(pairs, years, rate, is_european=row["exercise_type"] == "E")
    if not (found["forward"] > 0 and found["forward_error"] <= found["forward"] / 10):
        return row | {"status": "inconsistent"}
    lowest, highest, is_spread = found.pop("lowest"), found.pop("highest"), found.pop("is_spread")
    if "discount_rate" in found:
        found["rate_source"] = "parity"
    row |= found | {"status": "ok"}
    row["discount_factor"] = exp(-row["discount_rate"] * years)
    flags = {
        "forward_spread": is_spread,
        "few_pairs": row["used_pairs"] < 3,
        "extrapolated": not lowest <= row["forward"] <= highest,
        "rate_assumed": row["rate_source"] == "assumed",
        "adjusted": any(each["is_non_standard"] for each in rows),
    }
    row["flags"] = ",".join(name for name, holds in flags.items() if holds)
    if row["spot"] is not None and not flags["adjusted"]:
        row["implied_dividend_yield"] = row["discount_rate"] - log(row["forward"] / row["spot"]) / years
    return row


def spot_of(row: Row) -> mpf | None:
    """The underlying's mid, else its price."""
    bid, ask, price = (number(row[f"underlying_{name}"]) for name in ("bid", "ask", "price"))
    if bid is not None and ask is not None and 0 < bid <= ask:
        return (bid + ask) / 2
    return price if price is not None and price > 0 else None


def usable(rows: Sequence[Row], letter: str) -> dict[mpf, tuple[mpf, mpf]]:
    """Bid and ask by strike of the side's usable quotes, the tightest of each."""
    held: dict[mpf, tuple[mpf, mpf]] = {}
    for row in rows:
        strike, bid, ask = (number(row[name]) for name in ("strike", "bid", "ask"))
        if row["option_type"] != letter or row["quote_status"] not in USABLE or None in (strike, bid, ask):
            continue
        if bid > 0 and ask >= bid and (strike not in held or ask - bid < held[strike][1] - held[strike][0]):
            held[strike] = (bid, ask)
    return held


def pair(strike: mpf, call: tuple[mpf, mpf], put: tuple[mpf, mpf]) -> Row:
    """Strike, gap of the mids, what the straddle costs, the larger half-spread and the deviation allowed."""
    halves = [max((ask - bid) / 2, mpf("0.0025")) for bid, ask in (call, put)]
    mids = [(bid + ask) / 2 for bid, ask in (call, put)]
    deviation = sqrt((halves[0] ** 2 + halves[1] ** 2) / 3)
    return {"strike": strike, "gap": mids[0] - mids[1], "both": sum(mids), "half": max(halves), "deviation": deviation}


def lacking(years: mpf | None, sides: dict[str, Any], pairs: Sequence[Row]) -> str | None:
    """Why there can be no forward."""
    if years is None:
        return "no_expiration_time"
    if years <= 0:
        return "expired"
    if not sides["C"] and not sides["P"]:
        return "no_quotes"
    if not sides["C"] or not sides["P"]:
        return "one_sided"
    return None if pairs else "no_pairs"


def fitted(pairs: Sequence[Row], years: mpf, rate: mpf, *, is_european: bool) -> Row:
    """Forward and its error, with the rate where the pairs give one."""
    discount = exp(-rate * years)
    at = min(range(len(pairs)), key=lambda i: abs(pairs[i]["gap"]))
    found: Row = {}
    used = list(pairs)
    if is_european and len(pairs) >= 9:
        slope, error, centre, level, level_error, scale, count = line(pairs, discount)
        if count >= 9 and error <= mpf("0.005") * years * slope and abs(log(slope) / years) <= mpf("0.5"):
            discount = slope
            miss = sqrt(level_error**2 + (level / slope * error) ** 2) / slope
            found = {"forward": centre + level / slope, "forward_error": miss, "parity_scale": scale}
            found |= {"used_pairs": count, "discount_rate": -log(slope) / years}
            found |= {"discount_rate_error": error / (slope * years)}
    if not found:
        reach = pairs[at]["both"] / sqrt(2 / mpf("3.14159265358979323846264338327950288")) / discount / 2
        used = near_money(pairs, pairs[at]["strike"] + pairs[at]["gap"] / discount, reach)
        forwards = [each["strike"] + each["gap"] / discount for each in used]
        place, error, scale, count = placed(forwards, [each["deviation"] / discount for each in used])
        found = {"forward": place, "forward_error": error, "parity_scale": scale, "used_pairs": count}
    found["at_money_forward"] = pairs[at]["strike"] + pairs[at]["gap"] / discount
    trio = sorted(pairs, key=lambda each: (abs(each["strike"] - pairs[at]["strike"]), each["strike"]))[:3]
    forwards = [each["strike"] + each["gap"] / discount for each in trio]
    found["is_spread"] = len(trio) == 3 and max(forwards) - min(forwards) > max(each["half"] for each in trio)
    return found | {"lowest": used[0]["strike"], "highest": used[-1]["strike"]}


def near_money(pairs: Sequence[Row], price: mpf, reach: mpf) -> list[Row]:
    """Those within reach of the forward, 3 to 15, nearest first."""
    nearest = sorted(pairs, key=lambda each: abs(each["strike"] - price))[:15]
    kept = [each for i, each in enumerate(nearest) if i < 3 or abs(each["strike"] - price) <= reach]
    return sorted(kept, key=lambda each: each["strike"])


def biweights(residuals: Sequence[mpf], deviations: Sequence[mpf]) -> tuple[mpf, list[mpf]]:
    """Scale of the residuals in their deviations, and each one's weight."""
    relative = [each / deviation for each, deviation in zip(residuals, deviations, strict=True)]
    scale, count = mpf(1), len(relative)
    if count >= 5:
        few = 1 + mpf(5) / (count - 1)
        scale = max(few * mpf("1.4826") * median([abs(each) for each in relative]), mpf("0.1"))
    kept = [max(1 - (each / (mpf("4.685") * scale)) ** 2, mpf(0)) for each in relative]
    return scale, [each**2 / deviation**2 for each, deviation in zip(kept, deviations, strict=True)]


def placed(values: Sequence[mpf], deviations: Sequence[mpf]) -> tuple[mpf, mpf, mpf, int]:
    """The biweight place of values, its error, their scale and how many count."""
    place = median(values)
    for _ in range(200):
        scale, weights = biweights([value - place for value in values], deviations)
        place = sum(w * value for w, value in zip(weights, values, strict=True)) / sum(weights)
    return place, scale / sqrt(sum(weights)), scale, sum(weight > 0 for weight in weights)


def line(pairs: Sequence[Row], discount: mpf) -> tuple[mpf, mpf, mpf, mpf, mpf, mpf, int]:
    """Slope and its error, centre, level there and its error, scale, and pairs that count."""
    x, y = [each["strike"] for each in pairs], [each["gap"] for each in pairs]
    third = len(x) // 3
    rest = [b + discount * a for a, b in zip(x, y, strict=True)]
    run = median(x[-third:]) - median(x[:third])
    slope = discount - (median(rest[-third:]) - median(rest[:third])) / run
    centre = median(x)
    level = median([b + slope * (a - centre) for a, b in zip(x, y, strict=True)])
    for _ in range(200):
        residuals = [b - level + slope * (a - centre) for a, b in zip(x, y, strict=True)]
        scale, weights = biweights(residuals, [each["deviation"] for each in pairs])
        total = sum(weights)
        centre = sum(w * a for w, a in zip(weights, x, strict=True)) / total
        squares = sum(w * (a - centre) ** 2 for w, a in zip(weights, x, strict=True))
        slope = -sum(w * (a - centre) * b for w, a, b in zip(weights, x, y, strict=True)) / squares
        level = sum(w * b for w, b in zip(weights, y, strict=True)) / total
    error = scale / sqrt(squares)
    return slope, error, centre, level, scale / sqrt(total), scale, sum(weight > 0 for weight in weights)
