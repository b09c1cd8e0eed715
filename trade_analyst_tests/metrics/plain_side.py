"""The rules of trade classification once more, row by row in exact decimals: what the compiled ones are held to."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

Row = dict[str, Decimal | None]
Sign = int


def compare(left: Decimal, right: Decimal) -> Sign:
    """1, 0 or -1."""
    return (left > right) - (left < right)


def tick(row: Row, subset: str) -> Sign:
    """Against the last different price before."""
    earlier = row[f"earlier_price{subset}"]
    return 0 if earlier is None else compare(row["trade_price"], earlier)


def reverse_tick(row: Row, subset: str) -> Sign:
    """Against the first different price after."""
    later = row[f"later_price{subset}"]
    return 0 if later is None else compare(row["trade_price"], later)


def sides(row: Row, subset: str) -> tuple[Decimal, Decimal] | None:
    """Bid and ask, None unless both are there and not crossed."""
    bid, ask = row[f"bid{subset}"], row[f"ask{subset}"]
    return None if bid is None or ask is None or ask < bid else (bid, ask)


def quote(row: Row, subset: str) -> Sign:
    """Against the mid."""
    found = sides(row, subset)
    return 0 if found is None else compare(row["trade_price"], sum(found) / 2)


def at_quote(row: Row, subset: str) -> Sign:
    """At one side of the quote, not at both."""
    found = sides(row, subset)
    return 0 if found is None else (row["trade_price"] == found[1]) - (row["trade_price"] == found[0])


def near_quote(row: Row, subset: str) -> Sign:
    """In the outer thirty percent of the spread, ends included."""
    found = sides(row, subset)
    if found is None:
        return 0
    (bid, ask), price, share = found, row["trade_price"], Decimal("0.3")
    is_upper = (1 - share) * ask + share * bid <= price <= ask
    is_lower = bid <= price <= share * ask + (1 - share) * bid
    return is_upper - is_lower


def trade_size(row: Row, subset: str) -> Sign:
    """The size of one side and not of the other."""
    bid_size, ask_size, size = row[f"bid_size{subset}"], row[f"ask_size{subset}"], row["trade_size"]
    at_bid, at_ask = bid_size is not None and size == bid_size, ask_size is not None and size == ask_size
    return at_bid - at_ask


def depth(row: Row, subset: str) -> Sign:
    """At the mid, towards the side with more on it."""
    found, bid_size, ask_size = sides(row, subset), row[f"bid_size{subset}"], row[f"ask_size{subset}"]
    if found is None or bid_size is None or ask_size is None or row["trade_price"] != sum(found) / 2:
        return 0
    return compare(ask_size, bid_size)


def either(first: Callable[[Row, str], Sign], then: Callable[[Row, str], Sign]) -> Callable[[Row, str], Sign]:
    """The first rule, and where it does not decide the second."""
    return lambda row, subset: first(row, subset) or then(row, subset)


RULES: dict[str, Callable[[Row, str], Sign]] = {
    "tick": tick,
    "reverse_tick": reverse_tick,
    "quote": quote,
    "lee_ready": either(quote, tick),
    "reverse_lee_ready": either(quote, reverse_tick),
    "emo": either(at_quote, tick),
    "reverse_emo": either(at_quote, reverse_tick),
    "clnv": either(near_quote, tick),
    "reverse_clnv": either(near_quote, reverse_tick),
    "trade_size": trade_size,
    "depth": depth,
}


def signed(rows: list[Row], layers: list[tuple[str, str]]) -> list[Sign]:
    """The sign of each row by the first layer that decides."""
    suffix = {"best": "", "exchange": "_exchange"}
    return [next((s for rule, part in layers if (s := RULES[rule](row, suffix[part]))), 0) for row in rows]
