"""Sides of trades by the rules of `plain_side`, and where each trade stands, in exact decimals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plain_side import RULES, at_quote, near_quote

Row = dict[str, Any]
Layers = Sequence[tuple[str, str]]
SINGLE = {**RULES, "at_quote": at_quote, "near_quote": near_quote}
PARTS = {
    "lee_ready": ("quote", "tick"),
    "reverse_lee_ready": ("quote", "reverse_tick"),
    "emo": ("at_quote", "tick"),
    "reverse_emo": ("at_quote", "reverse_tick"),
    "clnv": ("near_quote", "tick"),
    "reverse_clnv": ("near_quote", "reverse_tick"),
}
LEE_READY = (("lee_ready", "best"),)
EMO, CLNV = (("emo", "best"),), (("clnv", "best"),)
GSU_LARGE = (
    *(("trade_size", "exchange"), ("quote", "best"), ("quote", "exchange")),
    *(("depth", "best"), ("depth", "exchange"), ("reverse_tick", "best")),
)
SIDES = ("bid", "ask", "bid_size", "ask_size")
SIDE_COLUMNS = ("symbol", "trade_time", "sequence", "trade_price", "trade_size", "bid", "ask", "quote_quality")
KEY = SIDE_COLUMNS[:3]


def aggressor_side(trades: Sequence[Row], layers: Layers = LEE_READY) -> list[Row]:
    """One row per trade, in the order given."""
    return [
        {name: row[name] for name in SIDE_COLUMNS}
        | {"session_date": row.get("session_date")}
        | {"trade_location": location(row), "tick_direction": {1: "up", -1: "down", 0: None}[by("tick", "best", row)]}
        | dict(zip(("aggressor_side", "aggressor_rule", "aggressor_status"), judged(row, layers), strict=True))
        for row in with_different_prices(trades)
    ]


def customer_side(trades: Sequence[Row], layers: Layers = GSU_LARGE) -> list[Row]:
    """One row per trade of an option, in the order given."""
    rows = []
    for row in with_different_prices(trades):
        side, rule, status = judged(row, layers)
        if row.get("is_multi_leg"):
            side, rule, status = None, None, "multi_leg"
        confidence = None if side is None else 0.80 if rule == "trade_size" else 0.75
        made = {"customer_side": side, "customer_rule": rule, "customer_confidence": confidence}
        rows.append({name: row[name] for name in KEY} | made | {"customer_status": status})
    return rows


def with_different_prices(trades: Sequence[Row]) -> list[Row]:
    """The trades with the last different price before in the symbol's session, and the first after."""
    rows = []
    for i, row in enumerate(trades):
        own = [
            (j, each["trade_price"])
            for j, each in enumerate(trades)
            if all(each[name] == row[name] for name in ("symbol", "session_date") if name in row)
            and each["trade_price"] is not None
        ]
        price = row["trade_price"]
        earlier = [each for j, each in own if j < i and each != price]
        later = [each for j, each in own if j > i and each != price]
        rows.append({"earlier_price": earlier[-1] if earlier else None, "later_price": next(iter(later), None)} | row)
    return rows


def by(rule: str, subset: str, row: Row) -> int:
    """What a single rule says of a trade: 1 the buyer, -1 the seller, 0 nothing."""
    suffix = "_exchange" if subset == "exchange" else ""
    names = (*SIDES, "earlier_price", "later_price")
    tick_prices = {f"{name}{suffix}": row[name] for name in names[4:]}
    sided = {f"{name}{suffix}": positive(row.get(f"{name}{suffix}"), name) for name in SIDES}
    if row["trade_price"] is None:
        return 0
    return SINGLE[rule]({**row, **tick_prices, **sided}, suffix)


def positive(value: Any, name: str) -> Any:
    """A side of 0 is none; a size of 0 is one."""
    return None if value is not None and value <= 0 and "size" not in name else value


def judged(row: Row, layers: Layers) -> tuple[str | None, str | None, str]:
    """Side, the rule that decided, and the status."""
    parts = [(part, subset) for rule, subset in layers for part in PARTS.get(rule, (rule,))]
    for part, subset in parts:
        if sign := by(part, subset, row):
            return ("buyer" if sign > 0 else "seller"), part, "ok"
    if row["trade_price"] is None:
        return None, None, "no_price"
    is_first = row["earlier_price"] is None and any(part == "tick" for part, _ in parts)
    return None, None, "first_trade" if is_first else "undecided"


def location(row: Row) -> str | None:
    """Where the trade stands."""
    price, bid, ask = row["trade_price"], positive(row["bid"], "bid"), positive(row["ask"], "ask")
    if price is None or bid is None or ask is None or ask < bid:
        return None
    middle, half = (bid + ask) / 2, (ask - bid) / 2
    off = abs(price - middle)
    if off == 0:
        return "mid"
    above = price > middle
    if off * 10 < 4 * half:
        return "upper_near" if above else "lower_near"
    if off < half:
        return "upper_outer" if above else "lower_outer"
    if off == half:
        return "ask" if above else "bid"
    if off <= 3 * half:
        return "above" if above else "below"
    return "far_above" if above else "far_below"
