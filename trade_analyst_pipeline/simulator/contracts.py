"""Every number of an option contract at an instant, for whole chains at once.

A selection of contracts is valued on the true surface and quoted around that value; volume, open interest and last
trades are hashed from the contract, so that asking for a part of a chain changes none of its numbers. Arrays have two
rows, calls and puts, and a column per (expiration, strike). Prices that are traded are whole cents.

Volume is cumulative through the product's session, open interest constant in it. Outside the product's hours quotes
are wrecked: no bid, or a very wide pair, and no Greeks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trade_analyst_pipeline.market.sessions import LATE_CLOSE_DELAY, option_product
from trade_analyst_pipeline.simulator.instruments import Instrument
from trade_analyst_pipeline.simulator.listing import Expiration, expirations
from trade_analyst_pipeline.simulator.market import Moment, expiry_seconds, vendor_expiry_seconds
from trade_analyst_pipeline.simulator.noise import Floats, Keys, bells, number_of, uniform, uniforms
from trade_analyst_pipeline.simulator.paths import YEAR_SECONDS, calendar
from trade_analyst_pipeline.simulator.pricing import SIGNS, Greeks, Values, black, greeks

if TYPE_CHECKING:
    from trade_analyst_pipeline.simulator.market import Market

Cents = NDArray[np.int64]
_SHORTEST = 1e-8
_SIDES = np.array([[0x243F6A8885A308D3], [0x13198A2E03707344]], dtype=np.uint64)


@dataclass(frozen=True)
class Selection:
    """Some contracts of one underlying: per expiration, its ascending strikes; each strike is a call and a put."""

    expirations: tuple[Expiration, ...]
    strikes: tuple[Floats, ...]

    @property
    def size(self) -> int:
        """How many strikes there are over all expirations."""
        return sum(len(row) for row in self.strikes)


@dataclass(frozen=True)
class Board:
    """A valued selection: inputs per strike, then values, quotes and activity by side and strike.

    `series` is the place of the strike's expiration in the selection. `volatility` and `greeks` are the vendor's
    (`volatility` in percent, on the vendor's clock); `is_modelled` is false where the vendor shows -999 instead.
    """

    moment: Moment
    selection: Selection
    luck: _Luck
    series: NDArray[np.int64]
    strikes: Floats
    years: Floats
    forwards: Floats
    true_volatility: Floats
    value: Floats
    intrinsic: Floats
    previous_value: Floats
    bid: Cents
    ask: Cents
    bid_size: Cents
    ask_size: Cents
    quote_seconds: Floats
    volatility: Floats
    greeks: Greeks
    is_modelled: NDArray[np.bool_]
    volume: Cents
    open_interest: Cents
    last: Cents
    last_size: Cents
    trade_seconds: Floats
    high: Cents
    low: Cents


def everything_listed(market: Market, moment: Moment) -> Selection:
    """All contracts listed on the moment's day."""
    listed = expirations(moment.instrument, moment.day)
    symbol = moment.instrument.symbol
    return Selection(listed, tuple(market.strikes(symbol, item, moment.day) for item in listed))


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
class _Shape:
    """What pricing needs, one element per strike."""

    years: Floats
    forwards: Floats
    discounts: Floats
    variance: Floats
    deviations: Floats


def _shape(market: Market, moment: Moment, selection: Selection, counts: list[int], strike: Floats) -> _Shape:
    listed = selection.expirations
    ends = np.array([expiry_seconds(item.expiration_date, item.settlement) for item in listed])
    years = np.maximum((ends - moment.seconds) / YEAR_SECONDS, _SHORTEST)
    forwards = market.forwards(moment, tuple(item.expiration_date for item in listed), ends)
    at_the_money = np.repeat(moment.surface.at_the_money_variance(years), counts)
    each = np.repeat(forwards, counts)
    variance = moment.surface.total_variance(at_the_money, np.log(strike / each))
    discounts = np.repeat(np.exp(-moment.rate * years), counts)
    return _Shape(np.repeat(years, counts), each, discounts, at_the_money, np.sqrt(variance))


def _worth(moment: Moment, shape: _Shape, strike: Floats) -> tuple[Values, Floats, Floats]:
    values = black(shape.forwards, strike, shape.deviations, shape.discounts)
    intrinsic = SIGNS * (moment.spot - strike)
    floor = np.maximum(intrinsic, 0.0) if moment.instrument.kind != "index" else 0.0
    return values, np.maximum(values.european, floor), intrinsic


def evaluate(market: Market, moment: Moment, selection: Selection) -> Board:
    """All numbers of a selection at a moment."""
    counts = [len(row) for row in selection.strikes]
    strike = np.concatenate((*selection.strikes, np.empty(0)))
    series = np.repeat(np.arange(len(counts)), counts)
    keys = _keys(market.seed, selection, counts, strike)
    shape = _shape(market, moment, selection, counts, strike)
    values, value, intrinsic = _worth(moment, shape, strike)
    earlier = market.previous(moment)
    earlier_shape = _shape(market, earlier, selection, counts, strike)
    _, previous_value, _ = _worth(earlier, earlier_shape, strike)
    vendor_years = _vendor_years(moment, selection, counts)
    vendor = greeks(
        values,
        spot=moment.spot,
        forwards=shape.forwards,
        strikes=strike,
        discounts=shape.discounts,
        deviations=shape.deviations,
        years=vendor_years,
        rate=moment.rate,
    )
    hours = product_hours(moment)
    luck = _luck(market.seed, moment, hours, keys)
    quotes = _quotes(moment, hours, luck, value)
    is_expired = shape.years <= _SHORTEST
    activity = _activity(market, earlier, hours, luck, _Reference(selection, counts, strike, earlier_shape))
    trades = _trades(moment, hours, luck, _Prices(value, vendor.delta, previous_value, quotes), activity.volume)
    return Board(
        moment=moment,
        selection=selection,
        luck=luck,
        series=series,
        strikes=strike,
        years=shape.years,
        forwards=shape.forwards,
        true_volatility=np.where(is_expired, np.nan, shape.deviations / np.sqrt(shape.years)),
        value=value,
        intrinsic=intrinsic,
        previous_value=previous_value,
        bid=quotes.bid,
        ask=quotes.ask,
        bid_size=quotes.bid_size,
        ask_size=quotes.ask_size,
        quote_seconds=quotes.seconds,
        volatility=np.broadcast_to(100.0 * shape.deviations / np.sqrt(vendor_years), value.shape),
        greeks=vendor,
        is_modelled=_is_modelled(luck.model, hours, quotes, value - np.maximum(intrinsic, 0.0), intrinsic, is_expired),
        volume=activity.volume,
        open_interest=activity.open_interest,
        last=trades.last,
        last_size=trades.size,
        trade_seconds=trades.seconds,
        high=trades.high,
        low=trades.low,
    )


def _vendor_years(moment: Moment, selection: Selection, counts: list[int]) -> Floats:
    ends = np.array([vendor_expiry_seconds(item.expiration_date) for item in selection.expirations])
    return np.repeat((ends - moment.seconds) / YEAR_SECONDS, counts)


@lru_cache(maxsize=8192)
def _series_key(seed: int, expiration: Expiration) -> int:
    return number_of(seed, expiration.root, expiration.expiration_date, expiration.settlement)


def _keys(seed: int, selection: Selection, counts: list[int], strike: Floats) -> Keys:
    series = np.array([_series_key(seed, item) for item in selection.expirations], dtype=np.uint64)
    thousandths = np.rint(strike * 1000.0).astype(np.uint64)
    return (np.repeat(series, counts) ^ (thousandths * np.uint64(0x9E3779B97F4A7C15))) ^ _SIDES


@dataclass(frozen=True)
class _Luck:
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


def _luck(seed: int, moment: Moment, hours: Hours, keys: Keys) -> _Luck:
    minute = uniforms(keys ^ np.uint64(int(hours.now // 60.0)), 4)
    session = uniforms(keys ^ np.uint64(number_of(seed, calendar().days[moment.index])), 2)
    return _Luck(*minute, *session, *uniforms(keys, 8))


# -- quotes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Quotes:
    bid: Cents
    ask: Cents
    live_bid: Cents
    live_ask: Cents
    tick: Cents
    bid_size: Cents
    ask_size: Cents
    seconds: Floats


_SPREAD = {"stock": 0.013, "etf": 0.006, "index": 0.028}


def _quotes(moment: Moment, hours: Hours, luck: _Luck, value: Floats) -> _Quotes:
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
    return _Quotes(shown_bid, shown_ask, bid, ask, tick, np.where(shown_bid > 0, bid_size, 0), ask_size, seconds)


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


def _is_modelled(
    luck: Floats,
    hours: Hours,
    quotes: _Quotes,
    time_value: Floats,
    intrinsic: Floats,
    is_expired: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    if not hours.is_live:
        return np.zeros(luck.shape, dtype=np.bool_)
    no_bid = (quotes.bid == 0) & (luck < 0.5)
    no_time_value = (intrinsic > 0.0) & (time_value < 0.005)
    return np.asarray(~(no_bid | no_time_value | is_expired))


# -- volume and open interest ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Reference:
    """The selection as seen at the close before: what decides where a session's interest lies."""

    selection: Selection
    counts: list[int]
    strikes: Floats
    shape: _Shape


@dataclass(frozen=True)
class _Activity:
    volume: Cents
    open_interest: Cents


def _activity(market: Market, earlier: Moment, hours: Hours, luck: _Luck, reference: _Reference) -> _Activity:
    instrument, shape = earlier.instrument, reference.shape
    day = calendar().days[earlier.index]
    width = np.maximum(np.sqrt(shape.variance), 0.008)
    distance = np.log(reference.strikes / shape.forwards) / width
    centre = np.array([[0.3], [-0.45]])
    traded, held = _shares(instrument, day, reference)
    density = _STRIKE_SHARE[instrument.kind] / width
    sides = _sides(market.seed, instrument.symbol, day)
    contracts = instrument.daily_contracts * _day_level(market.seed, instrument.symbol, day) * traded * density
    noise = np.exp(0.9 * np.clip(bells(luck.traded), -3.5, 3.5))
    whole_day = np.floor(sides * contracts * np.exp(-np.abs(distance - centre) / 0.75) * noise)
    standing = np.exp(1.0 * np.clip(bells(luck.held), -3.0, 3.0) + 0.08 * np.clip(bells(luck.change), -3.0, 3.0))
    interest = 9.0 * instrument.daily_contracts * held * density * standing
    return _Activity(
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


def _shares(instrument: Instrument, day: date, reference: _Reference) -> tuple[Floats, Floats]:
    traded, held = _expiration_shares(instrument, day)
    chosen = reference.selection.expirations
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
class _Prices:
    value: Floats
    delta: Floats
    previous_value: Floats
    quotes: _Quotes


@dataclass(frozen=True)
class _Trades:
    last: Cents
    size: Cents
    seconds: Floats
    high: Cents
    low: Cents


def _trades(moment: Moment, hours: Hours, chance: _Luck, prices: _Prices, volume: Cents) -> _Trades:
    quotes, tick = prices.quotes, prices.quotes.tick
    luck, stale = chance.trade, chance.stale
    traded = volume > 0
    fresh = quotes.live_bid + np.rint(luck * (quotes.live_ask - quotes.live_bid) / tick).astype(np.int64) * tick
    old = np.rint(prices.previous_value * 100.0 * (0.6 + 0.8 * stale) / tick).astype(np.int64) * tick
    ever = traded | (stale < 0.75)
    last = np.where(ever, np.maximum(np.where(traded, fresh, old), tick), 0)
    elapsed = hours.now - hours.opened
    gap = np.minimum(-np.log(luck) * elapsed / (1.0 + volume), 0.98 * elapsed)
    seconds = np.where(traded, hours.now - gap, _older_trades(moment, chance))
    up, down = moment.high - moment.spot, moment.spot - moment.low
    reach_up = np.where(prices.delta > 0.0, prices.delta * up, -prices.delta * down)
    reach_down = np.where(prices.delta > 0.0, prices.delta * down, -prices.delta * up)
    some = np.where(volume > 2, 0.2 + 0.75 * luck, 0.0)
    high = last + np.rint(np.maximum(reach_up, 0.0) * some * 100.0 / tick).astype(np.int64) * tick
    low = last - np.rint(np.clip(reach_down, 0.0, 0.9 * last / 100.0) * some * 100.0 / tick).astype(np.int64) * tick
    size = np.where(ever, 1 + (1.0 / (0.02 + luck)).astype(np.int64), 0)
    return _Trades(
        last=last,
        size=np.where(traded, np.minimum(size, volume), size),
        seconds=np.where(ever, seconds, 0.0),
        high=np.where(traded, high, 0),
        low=np.where(traded, np.maximum(low, tick), 0),
    )


def _older_trades(moment: Moment, chance: _Luck) -> Floats:
    table = calendar()
    closes = np.array([table.closes[max(moment.index - back, 0)] for back in range(1, 13)])
    back = (chance.age * 12.0).astype(np.int64)
    return np.asarray(closes[back] - 20000.0 * chance.hour)


# -- the truth as a table ----------------------------------------------------------------------------------------


def as_frame(board: Board) -> pl.DataFrame:
    """One row per contract: identity, truth and what is shown. Volatilities are fractions, prices dollars.

    `vendor_volatility` is null where the vendor shows -999; `true_volatility` is null once expired.
    """
    from trade_analyst_pipeline.market.option_symbols import format_option_symbol

    listed = [board.selection.expirations[place] for place in board.series.tolist()]
    identity = [
        (format_option_symbol(item.root, item.expiration_date, side, strike), side, item, strike)
        for side in ("C", "P")
        for item, strike in zip(listed, board.strikes.tolist(), strict=True)
    ]
    both = {
        "years": board.years,
        "forward": board.forwards,
        "true_volatility": board.true_volatility,
    }
    each = {
        "value": board.value,
        "bid": board.bid / 100.0,
        "ask": board.ask / 100.0,
        "vendor_volatility": np.where(board.is_modelled, board.volatility / 100.0, np.nan),
        "volume": board.volume,
        "open_interest": board.open_interest,
    }
    return pl.DataFrame(
        {
            "option_symbol": [row[0] for row in identity],
            "option_type": [row[1] for row in identity],
            "expiration_date": [row[2].expiration_date for row in identity],
            "settlement": [row[2].settlement for row in identity],
            "strike": [row[3] for row in identity],
            **{name: np.tile(values, 2) for name, values in both.items()},
            **{name: values.ravel() for name, values in each.items()},
        },
        schema_overrides={"expiration_date": pl.Date, "option_symbol": pl.String, "strike": pl.Float64},
    ).with_columns(pl.col("true_volatility", "vendor_volatility").fill_nan(None))
