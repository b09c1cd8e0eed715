"""Volatilities by bisection and Greeks by the textbook, with mpmath."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from mpmath import exp, log, mpf, ncdf, npdf, sqrt

Row = dict[str, Any]
KEY = ("symbol", "snapshot_time", "expiration_date", "option_root", "settlement_type")
COPIED = (
    *("option_symbol", "snapshot_time", "symbol", "session_date", "chain_scope", "expiration_date"),
    *("option_type", "exercise_type"),
)
GREEKS = ("delta", "gamma", "vega", "theta", "rho")
TICK = mpf("0.0001")
HALF_CENT = mpf("0.005")


def number(value: Any) -> mpf | None:
    """A value as mpmath has it."""
    return None if value is None else value if isinstance(value, mpf) else mpf(str(value))


def years_to(row: Row) -> mpf | None:
    """From the snapshot to the last instant."""
    if row["expiration_time"] is None:
        return None
    left = row["expiration_time"] - row["snapshot_time"]
    return mpf(left // timedelta(microseconds=1)) / (365 * 86400 * 10**6)


def root_and_settlement(row: Row) -> Row:
    """The root of the symbol where none was sent, P where no settlement was."""
    root = row["option_root"] if row["option_root"] is not None else row["option_symbol"][:6].rstrip()
    return {"option_root": root, "settlement_type": row["settlement_type"] or "P"}


def price_of(volatility: mpf, row: Row, years: mpf) -> mpf:
    """Undiscounted."""
    forward, strike = row["forward"], row["strike"]
    s = volatility * sqrt(years)
    d1 = log(forward / strike) / s + s / 2
    sign = 1 if row["option_type"] == "C" else -1
    return sign * (forward * ncdf(sign * d1) - strike * ncdf(sign * (d1 - s)))


def volatility_of(price: mpf, row: Row, years: mpf) -> tuple[mpf | None, str]:
    """The volatility with this price, or why there is none."""
    forward, strike, discount = row["forward"], row["strike"], row["discount_factor"]
    is_call = row["option_type"] == "C"
    intrinsic = max((forward - strike) if is_call else (strike - forward), mpf(0))
    undiscounted = price / discount
    left = undiscounted - intrinsic
    if left <= 0:
        return None, "at_intrinsic" if left * discount >= -HALF_CENT else "below_intrinsic"
    if undiscounted >= (forward if is_call else strike):
        return None, "above_max"
    if left / sqrt(forward * strike) < mpf("1e-300"):
        return None, "out_of_range"
    low, high = mpf("1e-8"), mpf("1e3")
    for _ in range(140):
        middle = sqrt(low * high)
        low, high = (middle, high) if price_of(middle, row, years) < undiscounted else (low, middle)
    return sqrt(low * high), "ok"


def implied_volatility(options: Sequence[Row], forwards: Sequence[Row]) -> list[Row]:
    """One row per contract and snapshot."""
    known = {tuple(row[name] for name in KEY): row for row in forwards}
    rows = [judged(row, known) for row in options]
    return sorted(rows, key=lambda row: (row["option_symbol"], row["snapshot_time"]))


def above_nothing(value: Any) -> mpf | None:
    """A price, None where it is not above 0."""
    found = number(value)
    return found if found is not None and found > 0 else None


def judged(option: Row, forwards: dict[tuple[Any, ...], Row]) -> Row:
    """One contract."""
    row = {name: option[name] for name in COPIED} | root_and_settlement(option)
    found = forwards.get(tuple((option | row)[name] for name in KEY), {})
    row |= {name: above_nothing(found.get(name)) for name in ("forward", "discount_factor", "spot")}
    row |= {name: above_nothing(option[name]) for name in ("bid", "ask", "strike")}
    row["years"] = years_to(option)
    bid, ask = row["bid"], row["ask"]
    row["mid"] = (bid + ask) / 2 if bid is not None and ask is not None and ask >= bid else None
    for side, name in (("mid", ""), ("bid", "bid_"), ("ask", "ask_")):
        sigma, status = None, refusal(side, option, row)
        if status is None:
            sigma, status = volatility_of(row[side], row, row["years"])
        row |= {f"{name}implied_volatility": sigma, f"{name}implied_volatility_status": status}
    return row | greeks(row)


def refusal(side: str, option: Row, row: Row) -> str | None:
    """Why a price is not inverted, the first that holds."""
    state = option["quote_status"] or "no_quote"
    mid_only = ("no_bid", "no_ask", "low_priced", "wide") if side == "mid" else ()
    reasons = (
        ("adjusted", option["is_non_standard"]),
        (state, state in {"no_quote", "crossed", "stale", *mid_only}),
        ("no_quote" if side == "mid" else f"no_{side}", row[side] is None),
        ("no_expiration_time", row["years"] is None),
        ("expired", row["years"] is not None and row["years"] <= 0),
        ("no_forward", row["forward"] is None or row["discount_factor"] is None),
        ("no_strike", row["strike"] is None),
        ("no_option_type", row["option_type"] not in {"C", "P"}),
    )
    return next((word for word, holds in reasons if holds), None)


def greeks(row: Row) -> Row:
    """At the volatility of the mid."""
    sigma, status = row["implied_volatility"], row["implied_volatility_status"]
    none = dict.fromkeys(GREEKS)
    if status != "ok":
        return none | {"greeks_status": status}
    forward, strike, discount, years, spot = (
        row[name] for name in ("forward", "strike", "discount_factor", "years", "spot")
    )
    sign = 1 if row["option_type"] == "C" else -1
    s = sigma * sqrt(years)
    d1 = log(forward / strike) / s + s / 2
    d2 = d1 - s
    made = {
        "vega": discount * forward * npdf(d1) * sqrt(years),
        "rho": sign * years * discount * strike * ncdf(sign * d2),
    }
    if spot is None:
        return none | made | {"greeks_status": "no_spot"}
    rate = -log(discount) / years
    carry = rate - log(forward / spot) / years
    decay = -discount * forward * npdf(d1) * sigma / (2 * sqrt(years))
    decay += -sign * rate * discount * strike * ncdf(sign * d2) + sign * carry * discount * forward * ncdf(sign * d1)
    made |= {"delta": sign * exp(-carry * years) * ncdf(sign * d1), "theta": decay / 365}
    made |= {"gamma": exp(-carry * years) * npdf(d1) / (spot * s)}
    return none | made | {"greeks_status": "ok"}
