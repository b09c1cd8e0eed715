"""Probabilities from the published counts, in fractions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Cells = dict[str, dict[str, list[int]]]
TABLE = Path(__file__).resolve().parents[3] / "trade_analyst_pipeline/market/aggressor_posterior.json"
STEPS = {"near": 1, "outer": 2, "at": 3, "beyond": 4, "far": 5}
PLACES = {
    "upper_near": "near", "upper_outer": "outer", "ask": "at", "above": "beyond", "far_above": "far",
    "lower_near": "near", "lower_outer": "outer", "bid": "at", "below": "beyond", "far_below": "far",
}  # fmt: skip
LOW = ("lower_near", "lower_outer", "bid", "below", "far_below")
INSIDE = ("mid", "near", "outer", "no_quote")


def default_posterior() -> Row:
    """The published table."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


def aggressor_confidence(signed: Sequence[Row], posterior: Row) -> list[Row]:
    """One row per signed trade."""
    return [judged(row, posterior) for row in signed]


def judged(row: Row, posterior: Row) -> Row:
    """Probability, side and rule of one trade."""
    made = {name: row[name] for name in ("symbol", "trade_time", "sequence", "quote_quality")}
    made |= {"posterior_version": posterior["version"], "session_date": row["session_date"]}
    made |= dict.fromkeys(("buy_probability", "confidence", "aggressor_side", "aggressor_rule"))
    if row["aggressor_status"] == "no_price":
        return made | {"aggressor_status": "no_price"}
    place, tick = row["trade_location"], {"up": 1, "down": -1, None: 0}[row["tick_direction"]]
    quote = 0 if place in {None, "mid"} else -1 if place in LOW else 1
    step = "no_quote" if place is None else "mid" if place == "mid" else PLACES[place]
    side = quote or tick
    word = {0: "none", 1: "with", -1: "against"}[tick * side]
    same = probability(posterior["cells"], row["quote_quality"], step, word)
    buys = same if side > 0 else 1 - same if side < 0 else Fraction(1, 2)
    made |= {"buy_probability": buys, "confidence": max(buys, 1 - buys)}
    if abs(buys - Fraction(1, 2)) < Fraction(2, 100):
        return made | {"aggressor_status": "even"}
    likelier = 1 if buys * 2 > 1 else -1
    by_quote = likelier == quote if place is not None else False
    rule = "quote" if by_quote else "tick" if likelier == tick else "posterior"
    return made | {
        "aggressor_side": "buyer" if likelier > 0 else "seller", "aggressor_rule": rule, "aggressor_status": "ok",
    }  # fmt: skip


def probability(cells: dict[str, Cells], quality: str, step: str, tick: str) -> Fraction:
    """That the aggressor was on the side where the trade stands."""
    source, inside, elsewhere = {"option_prior": ("strict", "0.75", "0.90"), "block": ("strict", "0.60", "0.60")}.get(
        quality, (quality, "0.995", "0.995")
    )
    held = cells[source]
    k, n = held.get(step, {}).get(tick, [0, 0])
    found = shrunk(k, n, wider(held, step, tick) if n < 20 else Fraction(1, 2))
    most = Fraction(inside if step in INSIDE else elsewhere)
    return min(max(found, 1 - most), most)


def wider(held: Cells, step: str, tick: str) -> Fraction:
    """What the cells around say."""
    half = Fraction(1, 2)
    if step in STEPS:
        pairs = [
            held.get(each, {}).get(word, [0, 0])
            for each in (STEPS if tick != "none" else [step])
            for word in ([tick] if tick != "none" else ["against", "none", "with"])
        ]
        return shrunk(sum(k for k, _ in pairs), sum(n for _, n in pairs), half)
    if step == "no_quote" and tick == "with":
        rows = list(held.values())
        with_tick = sum(row.get("with", [0, 0])[0] for row in rows)
        against = sum(row.get("against", [0, 0])[1] - row.get("against", [0, 0])[0] for row in rows)
        trades = sum(row.get(word, [0, 0])[1] for row in rows for word in ("with", "against"))
        return shrunk(with_tick + against, trades, half)
    return half


def shrunk(k: int, n: int, mean: Fraction) -> Fraction:
    """The mean counts as five trades."""
    return (k + 5 * mean) / (n + 5)
