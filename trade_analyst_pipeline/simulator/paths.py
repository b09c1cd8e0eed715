"""The daily life of each instrument from the epoch to the calendar's end: open, close, volatility, skew, dividends.

Drawn once per process and instrument from (seed, symbol). Log volatility returns to its mean, jumps, and falls when
prices rise; log prices return slowly to a growing level so that no name wanders off; a common factor moves all.
Prices are dollars rounded to cents, volatility is an annual fraction. What happens within a session is in `intraday`.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache, lru_cache

import numpy as np

from trade_analyst_pipeline.market.sessions import (
    CALENDAR_END,
    NEW_YORK,
    is_half_day,
    session_close,
    session_open,
    sessions,
)
from trade_analyst_pipeline.simulator.instruments import Instrument
from trade_analyst_pipeline.simulator.noise import Floats, generator, number_of

EPOCH = date(2021, 1, 4)
YEAR_SECONDS = 365.0 * 86400.0

_OVERNIGHT_SHARE = 0.2
_VOLATILITY_RETURN = 5.0
_VOLATILITY_NOISE = 0.95
_LEVERAGE = -0.7
_JUMPS_PER_YEAR = 2.0
_LEVEL_RETURN = 0.8
_YEAR = 252.0


@dataclass(frozen=True)
class Calendar:
    """All sessions the market lives through, with opens and closes in seconds since 1970."""

    days: tuple[date, ...]
    opens: tuple[float, ...]
    closes: tuple[float, ...]

    def index_at_or_before(self, day: date) -> int:
        """Position of the last session not after `day`; -1 when there is none."""
        return bisect_right(self.days, day) - 1

    def index_of(self, day: date) -> int:
        """Position of that session; raises ValueError naming the day when it is none."""
        index = bisect_left(self.days, day)
        if index == len(self.days) or self.days[index] != day:
            message = f"{day} is no session of the synthetic market, which lives from {EPOCH} to {CALENDAR_END}"
            raise ValueError(message)
        return index

    def minutes(self, index: int) -> int:
        """Length of the regular session: 390 minutes, 210 on half days."""
        return round((self.closes[index] - self.opens[index]) / 60)


@cache
def calendar() -> Calendar:
    """The sessions of the exchange calendar from the epoch on."""
    days = tuple(sessions(EPOCH, CALENDAR_END))
    return Calendar(
        days,
        tuple(session_open(day).timestamp() for day in days),
        tuple(session_close(day).timestamp() for day in days),
    )


@lru_cache(maxsize=4096)
def midnight(day: date) -> float:
    """The start of that New York date in seconds since 1970."""
    return datetime(day.year, day.month, day.day, tzinfo=NEW_YORK).timestamp()


@dataclass(frozen=True)
class Dividend:
    """A payment in dollars a share; who buys on `ex_date` no longer gets it."""

    ex_date: date
    amount: float


@dataclass(frozen=True)
class DailyPath:
    """One instrument over all sessions of the calendar; arrays have one element per session.

    `previous_closes[i]` is the close before session i; `volatilities` and `skews` are those at the close, with
    `previous_volatilities` and `previous_skews` before it.
    """

    instrument: Instrument
    opens: Floats
    closes: Floats
    previous_closes: Floats
    volatilities: Floats
    previous_volatilities: Floats
    skews: Floats
    previous_skews: Floats
    volumes: Floats
    dividends: tuple[Dividend, ...]


def draw_path(seed: int, instrument: Instrument) -> DailyPath:
    """The path of an instrument; the same for the same seed and symbol, whatever else was drawn before."""
    shocks = _shocks(seed, instrument)
    dividends = dividend_schedule(seed, instrument)
    opens, closes, volatilities = _walk(instrument, shocks, dividends)
    skews = _skews(generator(seed, instrument.symbol, "skew"), instrument.skew, len(closes))
    return DailyPath(
        instrument=instrument,
        opens=opens,
        closes=closes,
        previous_closes=_before(closes, instrument.start_price),
        volatilities=volatilities,
        previous_volatilities=_before(volatilities, instrument.volatility),
        skews=skews,
        previous_skews=_before(skews, instrument.skew),
        volumes=_volumes(generator(seed, instrument.symbol, "volume"), instrument, opens, closes),
        dividends=dividends,
    )


def _before(values: Floats, first: float) -> Floats:
    return np.concatenate(([first], values[:-1]))


@dataclass(frozen=True)
class _Shocks:
    night: Floats
    day: Floats
    volatility: Floats
    jump: Floats


def _shocks(seed: int, instrument: Instrument) -> _Shocks:
    common, own = _draws(seed, "market"), _draws(seed, instrument.symbol)
    share = instrument.market_share
    rest = math.sqrt(1.0 - share * share)
    night, day = share * common.night + rest * own.night, share * common.day + rest * own.day
    volatility = share * common.volatility + rest * own.volatility
    jump = np.maximum(common.jump if share > 0.5 else 0.0 * common.jump, own.jump * (rest > 0.2))
    return _Shocks(night, day, volatility, jump)


def _draws(seed: int, label: str) -> _Shocks:
    rng = generator(seed, label, "days")
    rows = rng.standard_normal((len(calendar().days), 3))
    happens = generator(seed, label, "jumps").random((len(calendar().days), 2))
    jump = np.where(happens[:, 0] < _JUMPS_PER_YEAR / _YEAR, 0.1 - 0.18 * np.log(happens[:, 1]), 0.0)
    return _Shocks(rows[:, 0], rows[:, 1], rows[:, 2], jump)


def _walk(instrument: Instrument, shocks: _Shocks, dividends: tuple[Dividend, ...]) -> tuple[Floats, Floats, Floats]:
    mean = math.log(instrument.volatility) - 0.28 * _JUMPS_PER_YEAR / _VOLATILITY_RETURN
    start = math.log(instrument.start_price)
    paid = {item.ex_date: item.amount for item in dividends}
    night_part, day_part = math.sqrt(_OVERNIGHT_SHARE), math.sqrt(1.0 - _OVERNIGHT_SHARE)
    level, log_volatility = instrument.start_price, mean
    opens, closes, volatilities = [], [], []
    for index, day in enumerate(calendar().days):
        night, own_day, jump = float(shocks.night[index]), float(shocks.day[index]), float(shocks.jump[index])
        scale = math.exp(log_volatility) / math.sqrt(_YEAR)
        pull = _LEVEL_RETURN * (start + instrument.growth * index / _YEAR - math.log(level)) / _YEAR
        drift = instrument.growth / _YEAR + pull - 0.5 * scale * scale
        opened = level * math.exp(0.3 * drift + scale * night_part * night - 2.0 * jump * scale)
        opened = _cents(opened - paid.get(day, 0.0))
        level = _cents(opened * math.exp(0.7 * drift + scale * day_part * own_day))
        shock = _LEVERAGE * (night_part * night + day_part * own_day)
        shock += math.sqrt(1.0 - _LEVERAGE**2) * float(shocks.volatility[index])
        log_volatility += _VOLATILITY_RETURN * (mean - log_volatility) / _YEAR
        log_volatility += _VOLATILITY_NOISE * shock / math.sqrt(_YEAR) + jump
        log_volatility = min(max(log_volatility, mean - 0.8), mean + 1.2)
        opens.append(opened)
        closes.append(level)
        volatilities.append(math.exp(log_volatility))
    return np.array(opens), np.array(closes), np.array(volatilities)


def _cents(price: float) -> float:
    return max(round(price, 2), 0.05)


def _skews(rng: np.random.Generator, mean: float, count: int) -> Floats:
    noise = rng.standard_normal(count).tolist()
    skews, deviation = [], 0.0
    for value in noise:
        deviation = 0.97 * deviation + 0.018 * value
        skews.append(min(max(mean + deviation, -0.85), 0.2))
    return np.array(skews)


_WEEKDAY_VOLUME = np.array([0.93, 1.0, 1.02, 1.01, 1.06])


def _volumes(rng: np.random.Generator, instrument: Instrument, opens: Floats, closes: Floats) -> Floats:
    days = calendar().days
    moves = np.abs(np.log(closes / opens)) / (instrument.volatility / math.sqrt(_YEAR))
    weekday = _WEEKDAY_VOLUME[[day.weekday() for day in days]]
    short = np.where([is_half_day(day) for day in days], 0.45, 1.0)
    noise = np.exp(0.22 * rng.standard_normal(len(days)))
    return np.round(instrument.daily_volume * weekday * short * noise * (0.75 + 0.3 * np.minimum(moves, 4.0)))


@lru_cache(maxsize=256)
def dividend_schedule(seed: int, instrument: Instrument) -> tuple[Dividend, ...]:
    """All payments to the calendar's end, amounts growing with the price's level; empty for an index."""
    if instrument.is_index or instrument.dividend_yield == 0.0 or instrument.kind in {"future", "forex"}:
        return ()
    table, found = calendar(), []
    offset = 5 + number_of(seed, instrument.symbol, "ex-day") % 12
    for year in range(EPOCH.year, CALENDAR_END.year + 1):
        for month in range(1, 13):
            if (month - instrument.dividend_month) % (12 // instrument.payments):
                continue
            wanted = date(year, month, 1) + timedelta(days=offset)
            index = bisect_left(table.days, wanted)
            if index < len(table.days):
                found.append(Dividend(table.days[index], _payment(instrument, wanted)))
    return tuple(found)


def _payment(instrument: Instrument, day: date) -> float:
    years = (day - EPOCH).days / 365.0
    level = instrument.start_price * math.exp(instrument.growth * years)
    return round(instrument.dividend_yield * level / instrument.payments, 3)


_RATE_KNOTS = (
    (date(2021, 1, 1), 0.0008), (date(2022, 3, 1), 0.004), (date(2022, 9, 1), 0.028), (date(2023, 3, 1), 0.046),
    (date(2023, 8, 1), 0.053), (date(2024, 9, 1), 0.0515), (date(2024, 12, 20), 0.0435), (date(2025, 9, 1), 0.042),
    (date(2026, 3, 1), 0.0365), (date(2027, 12, 31), 0.0325),
)  # fmt: skip


@cache
def _rates(seed: int) -> Floats:
    days = calendar().days
    trend = np.interp(
        [day.toordinal() for day in days],
        [day.toordinal() for day, _ in _RATE_KNOTS],
        [rate for _, rate in _RATE_KNOTS],
    )
    noise = np.cumsum(generator(seed, "rates").standard_normal(len(days)))
    wobble = 0.0012 * np.sin(noise / 25.0)
    return np.asarray(np.round(np.maximum(trend + wobble, 0.0003), 5), dtype=np.float64)


def rate(seed: int, index: int) -> float:
    """The zero rate of all maturities during a session: continuous, annual fraction, rounded to 0.001 %."""
    return float(_rates(seed)[index])
