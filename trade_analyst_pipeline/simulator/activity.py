"""Trading in contracts: volume, open interest and last trades, hashed from each contract.

Volume is cumulative through the product's session and starts at 0, open interest is constant in it. Interest lies
near the money and near in time as seen at the close before, so nothing in it depends on the instant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from trade_analyst_pipeline.simulator.instruments import Instrument
from trade_analyst_pipeline.simulator.listing import Expiration, expirations
from trade_analyst_pipeline.simulator.market import Moment
from trade_analyst_pipeline.simulator.noise import Floats, bells, uniform
from trade_analyst_pipeline.simulator.paths import calendar
from trade_analyst_pipeline.simulator.quoting import Cents, Hours, Luck, Quotes

if TYPE_CHECKING:
    from trade_analyst_pipeline.simulator.market import Market


@dataclass(frozen=True)
class Reference:
    """Contracts as seen at the close before: what decides where a session's interest lies.

    `expirations` with the `counts` of their strikes; forwards and variance at the forward per strike.
    """

    expirations: tuple[Expiration, ...]
    counts: list[int]
    strikes: Floats
    forwards: Floats
    variance: Floats


@dataclass(frozen=True)
class Activity:
    """Contracts traded so far and open, by side and strike."""

    volume: Cents
    open_interest: Cents


def activity(market: Market, earlier: Moment, hours: Hours, luck: Luck, reference: Reference) -> Activity:
    """Volume up to the hours' present and open interest; `earlier` is the close before the session shown."""
    instrument = earlier.instrument
    day = calendar().days[earlier.index]
    width = np.maximum(np.sqrt(reference.variance), 0.008)
    distance = np.log(reference.strikes / reference.forwards) / width
    centre = np.array([[0.3], [-0.45]])
    traded, held = _shares(instrument, day, reference)
    density = _STRIKE_SHARE[instrument.kind] / width
    sides = _sides(market.seed, instrument.symbol, day)
    contracts = instrument.daily_contracts * _day_level(market.seed, instrument.symbol, day) * traded * density
    noise = np.exp(0.9 * np.clip(bells(luck.traded), -3.5, 3.5))
    whole_day = np.floor(sides * contracts * np.exp(-np.abs(distance - centre) / 0.75) * noise)
    standing = np.exp(1.0 * np.clip(bells(luck.held), -3.0, 3.0) + 0.08 * np.clip(bells(luck.change), -3.0, 3.0))
    interest = 9.0 * instrument.daily_contracts * held * density * standing
    return Activity(
        volume=np.floor(whole_day * _part_traded(hours.part)).astype(np.int64),
        open_interest=np.floor(interest * np.exp(-np.abs(distance - centre) / 1.4)).astype(np.int64),
    )


_STRIKE_SHARE = {"stock": 0.0032, "etf": 0.0005, "index": 0.00021}


def _part_traded(part: float) -> float:
    """Share of a session's volume traded after that share of its time: fast, slow, fast."""
    front = -math.expm1(-14.0 * part) / 14.0 * 2.2
    back = (math.exp(14.0 * (part - 1.0)) - math.exp(-14.0)) / 14.0 * 1.6
    scale = -math.expm1(-14.0) / 14.0 * 3.8 + 0.7
    return min(max((0.7 * part + front + back) / scale, 0.0), 1.0) if part < 1.0 else 1.0


def _sides(seed: int, symbol: str, day: date) -> Floats:
    tilt = 0.28 * math.log(1.0 / uniform(seed, symbol, day, "puts") - 1.0)
    return np.array([[math.exp(-0.5 * tilt)], [math.exp(0.5 * tilt)]])


def _day_level(seed: int, symbol: str, day: date) -> float:
    return math.exp(0.2 * math.log(1.0 / uniform(seed, symbol, day, "level") - 1.0))


def _shares(instrument: Instrument, day: date, reference: Reference) -> tuple[Floats, Floats]:
    traded, held = _expiration_shares(instrument, day)
    chosen = reference.expirations
    each = [(traded.get(item, 0.0), held.get(item, 0.0)) for item in chosen]
    return (
        np.repeat(np.array([pair[0] for pair in each]), reference.counts),
        np.repeat(np.array([pair[1] for pair in each]), reference.counts),
    )


@lru_cache(maxsize=2048)
def _expiration_shares(instrument: Instrument, day: date) -> tuple[dict[Expiration, float], dict[Expiration, float]]:
    """How a session's volume and the open interest spread over the expirations; each adds up to 1."""
    listed = expirations(instrument, day)
    days = [(item.expiration_date - day).days for item in listed]
    bonus = [2.2 if item.kind == "S" else 1.4 if item.kind in "QM" else 1.0 for item in listed]
    traded = [
        extra * (math.exp(-ahead / 7.0) + 0.2 * math.exp(-ahead / 70.0))
        for ahead, extra in zip(days, bonus, strict=True)
    ]
    held = [
        extra**1.6 * (math.exp(-ahead / 150.0) - 0.5 * math.exp(-ahead / 6.0))
        for ahead, extra in zip(days, bonus, strict=True)
    ]
    return (
        {item: value / sum(traded) for item, value in zip(listed, traded, strict=True)},
        {item: value / sum(held) for item, value in zip(listed, held, strict=True)},
    )


# -- last trades -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prices:
    """What last trades are made from: values in dollars now and at the close before, deltas, quotes."""

    value: Floats
    delta: Floats
    previous_value: Floats
    quotes: Quotes


@dataclass(frozen=True)
class Trades:
    """Last trades and the day's range in cents; a last of 0 means never traded, a high of 0 not today."""

    last: Cents
    size: Cents
    seconds: Floats
    high: Cents
    low: Cents


def last_trades(moment: Moment, hours: Hours, chance: Luck, prices: Prices, volume: Cents) -> Trades:
    """The last trade of each contract: inside today's quote, or stale, or none ever."""
    quotes, tick = prices.quotes, prices.quotes.tick
    luck, stale = chance.trade, chance.stale
    traded = volume > 0
    fresh = quotes.live_bid + np.rint(luck * (quotes.live_ask - quotes.live_bid) / tick).astype(np.int64) * tick
    old = np.rint(prices.previous_value * 100.0 * (0.6 + 0.8 * stale) / tick).astype(np.int64) * tick
    ever = traded | (stale < 0.75)
    last = np.where(ever, np.maximum(np.where(traded, fresh, old), tick), 0)
    elapsed = hours.now - hours.opened
    gap = np.minimum(-np.log(luck) * elapsed / (1.0 + volume), 0.98 * elapsed)
    seconds = np.where(traded, hours.now - gap, _olderlast_trades(moment, chance))
    up, down = moment.high - moment.spot, moment.spot - moment.low
    reach_up = np.where(prices.delta > 0.0, prices.delta * up, -prices.delta * down)
    reach_down = np.where(prices.delta > 0.0, prices.delta * down, -prices.delta * up)
    some = np.where(volume > 2, 0.2 + 0.75 * luck, 0.0)
    high = last + np.rint(np.maximum(reach_up, 0.0) * some * 100.0 / tick).astype(np.int64) * tick
    low = last - np.rint(np.clip(reach_down, 0.0, 0.9 * last / 100.0) * some * 100.0 / tick).astype(np.int64) * tick
    size = np.where(ever, 1 + (1.0 / (0.02 + luck)).astype(np.int64), 0)
    return Trades(
        last=last,
        size=np.where(traded, np.minimum(size, volume), size),
        seconds=np.where(ever, seconds, 0.0),
        high=np.where(traded, high, 0),
        low=np.where(traded, np.maximum(low, tick), 0),
    )


def _olderlast_trades(moment: Moment, chance: Luck) -> Floats:
    table = calendar()
    closes = np.array([table.closes[max(moment.index - back, 0)] for back in range(1, 13)])
    back = (chance.age * 12.0).astype(np.int64)
    return np.asarray(closes[back] - 20000.0 * chance.hour)
