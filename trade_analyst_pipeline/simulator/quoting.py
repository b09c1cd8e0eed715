"""Quotes around a value: hours of a product, spreads, sizes, ticks, and where the vendor's model gives up.

While a product trades, bid and ask stand around the true value at whole ticks, wider for dearer contracts and just
after the open. Outside its hours they are wrecked: no bid, or a very wide pair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trade_analyst_pipeline.market.sessions import LATE_CLOSE_DELAY, option_product
from trade_analyst_pipeline.simulator.instruments import Instrument
from trade_analyst_pipeline.simulator.market import Moment
from trade_analyst_pipeline.simulator.noise import Floats, Keys, number_of, uniforms
from trade_analyst_pipeline.simulator.paths import calendar

Cents = NDArray[np.int64]


@dataclass(frozen=True)
class Hours:
    """A product's session around a moment: `is_live` while it trades, `part` of it gone by (0 to 1)."""

    is_live: bool
    opened: float
    closed: float
    now: float
    part: float


def product_hours(moment: Moment) -> Hours:
    """The hours of the options on the moment's instrument."""
    table, index = calendar(), moment.index
    delay = LATE_CLOSE_DELAY.total_seconds() if option_product(moment.instrument.symbol) == "late" else 0.0
    opened, closed = table.opens[index], table.closes[index] + delay
    now = min(max(moment.seconds, opened), closed)
    is_live = moment.phase != "closed" and opened <= moment.seconds < closed
    return Hours(is_live, opened, closed, now, (now - opened) / (closed - opened))


@dataclass(frozen=True)
class Luck:
    """Everything hashed about the contracts, numbers in (0, 1): by minute, by session, and for good."""

    mood: Floats
    size: Floats
    delay: Floats
    trade: Floats
    traded: Floats
    change: Floats
    held: Floats
    wreck: Floats
    model: Floats
    stale: Floats
    age: Floats
    hour: Floats
    peak: Floats
    floor: Floats


def draw_luck(seed: int, moment: Moment, hours: Hours, keys: Keys) -> Luck:
    """All hashes of the contracts behind `keys`."""
    minute = uniforms(keys ^ np.uint64(int(hours.now // 60.0)), 4)
    session = uniforms(keys ^ np.uint64(number_of(seed, calendar().days[moment.index])), 2)
    return Luck(*minute, *session, *uniforms(keys, 8))


@dataclass(frozen=True)
class Quotes:
    """Bid and ask in cents as shown and as they would be in hours, sizes in contracts, quote times."""

    bid: Cents
    ask: Cents
    live_bid: Cents
    live_ask: Cents
    tick: Cents
    bid_size: Cents
    ask_size: Cents
    seconds: Floats


_SPREAD = {"stock": 0.013, "etf": 0.006, "index": 0.028}


def quote(moment: Moment, hours: Hours, luck: Luck, value: Floats) -> Quotes:
    """Quotes around values in dollars."""
    tick = _ticks(moment.instrument, value)
    opening = 1.0 + 3.0 * math.exp(-(hours.now - hours.opened) / 600.0)
    mood = opening * (0.75 + 0.5 * luck.mood)
    half = 0.5 * (0.4 * tick / 100.0 + _SPREAD[moment.instrument.kind] * np.sqrt(value) + 0.002 * value) * mood
    bid = np.maximum(np.floor((value - half) * 100.0 / tick), 0.0).astype(np.int64) * tick
    ask = np.ceil(np.maximum((value + half) * 100.0 / tick, 1.0)).astype(np.int64) * tick
    sizes = luck.size
    deep = 1.0 + 40.0 * np.exp(-value)
    bid_size = 1 + (deep * sizes / (1.05 - sizes)).astype(np.int64)
    ask_size = 1 + (deep * (1.0 - sizes) / (0.05 + sizes)).astype(np.int64)
    seconds = hours.now - 2.5 * luck.delay * (1.0 + 10.0 * (value < 0.1))
    shown_bid, shown_ask = (bid, ask) if hours.is_live else _wrecked(luck.wreck, value, tick)
    if not hours.is_live:
        seconds = _last_close(moment, hours) - 60.0 * luck.delay
    return Quotes(shown_bid, shown_ask, bid, ask, tick, np.where(shown_bid > 0, bid_size, 0), ask_size, seconds)


def _wrecked(luck: Floats, value: Floats, tick: Cents) -> tuple[Cents, Cents]:
    bid = np.where(luck < 0.6, 0.0, np.floor(value * 45.0 / tick)).astype(np.int64) * tick
    ask = np.ceil((value * 160.0 + 50.0 * (0.5 + luck)) / tick).astype(np.int64) * tick
    return bid, ask


def _last_close(moment: Moment, hours: Hours) -> float:
    if moment.seconds >= hours.closed or moment.phase == "closed":
        return hours.closed
    return calendar().closes[max(moment.index - 1, 0)]


def _ticks(instrument: Instrument, value: Floats) -> Cents:
    if instrument.kind == "etf":
        return np.ones(value.shape, dtype=np.int64)
    small, large = (1, 5) if instrument.is_penny_pilot else (5, 10)
    return np.where(value < 3.0, small, large)


def is_modelled(
    luck: Floats,
    hours: Hours,
    quotes: Quotes,
    time_value: Floats,
    intrinsic: Floats,
    is_expired: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Where the vendor has a volatility: in hours, alive, with time value, and not for every contract without bid."""
    if not hours.is_live:
        return np.zeros(luck.shape, dtype=np.bool_)
    no_bid = (quotes.bid == 0) & (luck < 0.5)
    no_time_value = (intrinsic > 0.0) & (time_value < 0.005)
    return np.asarray(~(no_bid | no_time_value | is_expired))
