"""The synthetic market: what every instrument is worth at any instant, and the truth behind it.

A Market is made from a seed and knows everything; the server shows only what a real source would. All numbers are
functions of (seed, symbol, instant). Instants are zone-aware, prices dollars, volatilities and rates annual fractions,
times to expiry years of 365 days. Quotes of contracts are in `contracts`, the wire's spelling in the `wire_` modules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Literal

import numpy as np
import polars as pl

from trade_analyst_pipeline.market.sessions import NEW_YORK, expiration_time
from trade_analyst_pipeline.simulator.instruments import Instrument, instrument_of
from trade_analyst_pipeline.simulator.intraday import Bars, Halt, Intraday
from trade_analyst_pipeline.simulator.listing import Expiration, expirations, strikes
from trade_analyst_pipeline.simulator.noise import Floats
from trade_analyst_pipeline.simulator.paths import (
    EPOCH,
    YEAR_SECONDS,
    DailyPath,
    calendar,
    dividend_schedule,
    draw_path,
    rate,
)
from trade_analyst_pipeline.simulator.surface import Surface, surface_of

Phase = Literal["pre", "open", "post", "closed"]
Settlement = Literal["A", "P"]


@lru_cache(maxsize=8192)
def expiry_seconds(expiration_date: date, settlement: Settlement = "P") -> float:
    """When a contract stops living, in seconds since 1970."""
    return expiration_time(expiration_date, settlement).timestamp()


@lru_cache(maxsize=8192)
def vendor_expiry_seconds(expiration_date: date) -> float:
    """Where the vendor's clock of an expiration ends: 08:00 New York of the next morning, in seconds since 1970."""
    morning = datetime.combine(expiration_date + timedelta(days=1), time(8), tzinfo=NEW_YORK)
    return morning.timestamp()


@dataclass(frozen=True)
class Moment:
    """One instrument at one instant.

    `index` is the session shown (today's, or the last one on a day without), `minute` the minutes of it gone by,
    `phase` where the instant stands against the stock market's hours. `spot` includes extended-hours trades,
    `regular_last` does not; `high` and `low` are of the session so far.
    """

    instrument: Instrument
    seconds: float
    day: date
    index: int
    phase: Phase
    minute: float
    spot: float
    regular_last: float
    opened: float
    high: float
    low: float
    previous_close: float
    surface: Surface
    rate: float


class Market:
    """All instruments of one seed; paths are drawn when first needed and kept. `halts` are of stocks and ETFs."""

    def __init__(self, seed: int, *, halts: tuple[Halt, ...] = ()) -> None:
        self.seed = seed
        self.halts = halts
        self._paths: dict[str, DailyPath] = {}
        self._intraday: dict[str, Intraday] = {}
        self._strikes = lru_cache(maxsize=8192)(self._make_strikes)
        self._moment = lru_cache(maxsize=512)(self._make_moment)

    def instrument(self, symbol: str) -> Instrument:
        """What is known of a symbol, whenever it bore that name; raises KeyError for one never traded here."""
        found = instrument_of(symbol)
        if found is None:
            raise KeyError(symbol)
        return found

    def path(self, symbol: str) -> DailyPath:
        """The daily path of a symbol; names of one company, and stocks made for load, share theirs."""
        path = self._paths.get(symbol)
        if path is None:
            instrument = self.instrument(symbol)
            if instrument.path_of:
                return self.path(instrument.path_of)
            path = draw_path(self.seed, instrument)
            path = self._volatility_index(path) if instrument.volatility_of else path
            self._paths[symbol] = path
        return path

    def intraday(self, symbol: str) -> Intraday:
        """The minutes of a symbol."""
        found = self._intraday.get(symbol)
        if found is None:
            instrument = self.instrument(symbol)
            if instrument.path_of:
                return self.intraday(instrument.path_of)
            found = self._intraday[symbol] = Intraday(
                self.seed, self.path(symbol), tuple(halt for halt in self.halts if halt.symbol == symbol)
            )
        return found

    def is_halted(self, symbol: str, index: int, minute: float) -> bool:
        """Whether trading in a symbol stands still so many minutes after the open of a session."""
        return any(
            (halt.symbol, halt.index) == (symbol, index) and halt.first <= minute < halt.until for halt in self.halts
        )

    def moment(self, symbol: str, instant: datetime) -> Moment:
        """A symbol at an instant; raises KeyError for an unknown symbol, ValueError outside the market's life."""
        return self._moment(symbol, instant.timestamp())

    def expirations(self, symbol: str, instant: datetime) -> tuple[Expiration, ...]:
        """The expirations listed on the instant's New York date, that date's own included."""
        return expirations(self.instrument(symbol), instant.astimezone(NEW_YORK).date())

    def strikes(self, symbol: str, expiration: Expiration, day: date) -> Floats:
        """The strikes listed for an expiration on a New York date."""
        return self._strikes(symbol, expiration, day)

    def volume(self, moment: Moment) -> int:
        """Shares traded in the regular session up to a moment."""
        return self.intraday(moment.instrument.symbol).volume_until(moment.index, moment.minute)

    # -- truth, for tests ------------------------------------------------------------------------------------------

    def years(self, instant: datetime, expiration_date: date, settlement: Settlement = "P") -> float:
        """True time to expiry (16:00 New York for P, 09:30 for A); negative once expired."""
        return (expiry_seconds(expiration_date, settlement) - instant.timestamp()) / YEAR_SECONDS

    def vendor_clock_years(self, instant: datetime, expiration_date: date) -> float:
        """Time to expiry as the vendor counts it: to 08:00 New York of the morning after."""
        return (vendor_expiry_seconds(expiration_date) - instant.timestamp()) / YEAR_SECONDS

    def forward(self, symbol: str, instant: datetime, expiration_date: date, settlement: Settlement = "P") -> float:
        """The forward price for that expiration."""
        ends = np.array([expiry_seconds(expiration_date, settlement)])
        return float(self.forwards(self.moment(symbol, instant), (expiration_date,), ends)[0])

    def true_volatility(
        self,
        symbol: str,
        instant: datetime,
        expiration_date: date,
        strike: float,
        settlement: Settlement = "P",
    ) -> float:
        """The implied volatility a contract is valued with, on the true clock; null is NaN once expired."""
        years = np.array([self.years(instant, expiration_date, settlement)])
        if years[0] <= 0.0:
            return math.nan
        surface = self.moment(symbol, instant).surface
        moneyness = math.log(strike / self.forward(symbol, instant, expiration_date, settlement))
        variance = surface.total_variance(surface.at_the_money_variance(years), np.array([moneyness]))
        return math.sqrt(float(variance[0]) / years[0])

    def true_atm_volatility(
        self, symbol: str, instant: datetime, expiration_date: date, settlement: Settlement = "P"
    ) -> float:
        """The same at the forward."""
        forward = self.forward(symbol, instant, expiration_date, settlement)
        return self.true_volatility(symbol, instant, expiration_date, forward, settlement)

    def true_vendor_clock_volatility(self, symbol: str, instant: datetime, days: float) -> float:
        """The volatility at the forward with that many days left on the vendor's clock, told on that clock.

        The vendor counts 16 hours more than there are, so it is the total variance of `days` less 16 hours over `days`.
        """
        left = np.array([(days - 16.0 / 24.0) / 365.0])
        variance = self.moment(symbol, instant).surface.at_the_money_variance(left)
        return math.sqrt(float(variance[0]) / (days / 365.0))

    def price(self, symbol: str, instant: datetime) -> float:
        """The last price, extended hours included."""
        return self.moment(symbol, instant).spot

    def daily_bars(self, symbol: str, first: date, last: date) -> pl.DataFrame:
        """Complete sessions from `first` to `last` (both included): session_date, open, high, low, close, volume."""
        table, path = calendar(), self.path(symbol)
        start = table.index_at_or_before(first - timedelta(days=1)) + 1
        stop = table.index_at_or_before(last) + 1
        highs, lows = self.intraday(symbol).daily_extremes(start, stop)
        return pl.DataFrame(
            {
                "session_date": list(table.days[start:stop]),
                "open": path.opens[start:stop],
                "high": highs,
                "low": lows,
                "close": path.closes[start:stop],
                "volume": path.volumes[start:stop].astype(np.int64),
            },
            schema_overrides={"session_date": pl.Date},
        )

    def minute_bars(self, symbol: str, session_date: date) -> pl.DataFrame:
        """The regular minutes of a session: start_time (UTC), open, high, low, close, volume."""
        bars = self.intraday(symbol).bars(calendar().index_of(session_date))
        return pl.DataFrame(
            {
                "start_time": [datetime.fromtimestamp(start, UTC) for start in bars.starts.tolist()],
                "open": bars.opens,
                "high": bars.highs,
                "low": bars.lows,
                "close": bars.closes,
                "volume": bars.volumes,
            }
        )

    def contracts(self, symbol: str, instant: datetime) -> pl.DataFrame:
        """All listed contracts with their true values, quotes, volume and open interest; see `contracts.as_frame`."""
        from trade_analyst_pipeline.simulator.contracts import as_frame, evaluate, everything_listed

        moment = self.moment(symbol, instant)
        return as_frame(evaluate(self, moment, everything_listed(self, moment)))

    # -- how a moment is made --------------------------------------------------------------------------------------

    def forwards(self, moment: Moment, dates: tuple[date, ...], ends: Floats) -> Floats:
        """Forward prices for expirations on `dates` that end at `ends` (seconds since 1970)."""
        years = (ends - moment.seconds) / YEAR_SECONDS
        instrument = moment.instrument
        if instrument.is_index:
            return np.asarray(moment.spot * np.exp((moment.rate - instrument.dividend_yield) * years))
        base = np.full(len(ends), moment.spot)
        ordinals = np.array([when.toordinal() for when in dates])
        latest = int(ordinals.max(initial=0))
        today = moment.day.toordinal()
        for dividend in dividend_schedule(self.seed, instrument):
            ordinal = dividend.ex_date.toordinal()
            if today < ordinal <= latest:
                present = dividend.amount * math.exp(-moment.rate * (ordinal - today) / 365.0)
                base -= np.where(ordinals >= ordinal, present, 0.0)
        return np.asarray(base * np.exp(moment.rate * years))

    def previous(self, moment: Moment) -> Moment:
        """The same instrument at the close before the session shown."""
        index, path, table = moment.index, self.path(moment.instrument.symbol), calendar()
        seconds = table.closes[index - 1] if index else table.opens[0] - 17.5 * 3600.0
        spot = float(path.previous_closes[index])
        surface = self._surface(path, index, 0.0)
        day = table.days[index - 1] if index else EPOCH
        return replace(moment, seconds=seconds, day=day, spot=spot, surface=surface)

    def _make_strikes(self, symbol: str, expiration: Expiration, day: date) -> Floats:
        return strikes(self.path(symbol), expiration, day)

    def _make_moment(self, symbol: str, seconds: float) -> Moment:
        instrument, table = self.instrument(symbol), calendar()
        day = datetime.fromtimestamp(seconds, NEW_YORK).date()
        index = table.index_at_or_before(day)
        if index < 0 or day > table.days[-1]:
            message = f"the synthetic market lives from {EPOCH} to {table.days[-1]}, not on {day}"
            raise ValueError(message)
        phase = _phase(day, index, seconds)
        minute = min(max((seconds - table.opens[index]) / 60.0, 0.0), float(table.minutes(index)))
        path, intraday = self.path(symbol), self.intraday(symbol)
        regular = intraday.price(index, minute) if phase != "pre" else float(path.previous_closes[index])
        high, low = intraday.range_until(index, minute) if phase != "pre" else (0.0, 0.0)
        return Moment(
            instrument=instrument,
            seconds=seconds,
            day=day,
            index=index,
            phase=phase,
            minute=minute,
            spot=regular if phase == "open" else self._night_price(intraday, instrument, index, seconds, regular),
            regular_last=regular,
            opened=float(path.opens[index]) if phase != "pre" else 0.0,
            high=high,
            low=low,
            previous_close=float(path.previous_closes[index]),
            surface=self._surface(path, index, minute / table.minutes(index)),
            rate=rate(self.seed, index),
        )

    @staticmethod
    def _night_price(intraday: Intraday, instrument: Instrument, index: int, seconds: float, regular: float) -> float:
        if instrument.kind not in {"stock", "etf"}:
            return regular
        early, late = intraday.night_bars(index)
        bars: Bars = early if seconds < calendar().opens[index] else late
        place = int(np.searchsorted(bars.starts, seconds - 60.0, side="right")) - 1
        return round(float(bars.closes[place]), 2) if place >= 0 else regular

    @staticmethod
    def _surface(path: DailyPath, index: int, part: float) -> Surface:
        before, after = float(path.previous_volatilities[index]), float(path.volatilities[index])
        volatility = before ** (1.0 - part) * after**part
        skew = float(path.previous_skews[index]) * (1.0 - part) + float(path.skews[index]) * part
        return surface_of(volatility, path.instrument.volatility, skew, path.instrument.wing)

    def _volatility_index(self, path: DailyPath) -> DailyPath:
        source = self.path(path.instrument.volatility_of)
        closes = _thirty_day_points(source.volatilities, source.instrument)
        before = np.concatenate(([path.instrument.start_price], closes[:-1]))
        opens = np.round(before * np.exp(0.3 * np.log(closes / before)), 2)
        return replace(path, closes=closes, opens=opens, previous_closes=before)


def _thirty_day_points(volatilities: Floats, instrument: Instrument) -> Floats:
    years = np.array([30.0 / 365.0])
    surfaces = [
        surface_of(value, instrument.volatility, instrument.skew, instrument.wing) for value in volatilities.tolist()
    ]
    variances = [float(surface.at_the_money_variance(years)[0]) for surface in surfaces]
    return np.asarray(np.round(105.0 * np.sqrt(np.array(variances) / years[0]), 2))


def _phase(day: date, index: int, seconds: float) -> Phase:
    table = calendar()
    if table.days[index] != day:
        return "closed"
    if seconds < table.opens[index]:
        return "pre"
    return "open" if seconds < table.closes[index] else "post"
