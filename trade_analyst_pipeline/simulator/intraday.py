"""Within a session: the price at any instant and the bars that agree with it.

Regular minutes come from a bridge between the session's open and close, drawn a year at a time; the session's high
and low are the extremes of its minute bars, and minute volumes add up to the session's. Extended hours (04:00 to 20:00
New York, to 17:00 on half days) are thin minutes around the regular prices and count in none of the daily figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from trade_analyst_pipeline.market.sessions import NEW_YORK
from trade_analyst_pipeline.simulator.noise import Floats, generator
from trade_analyst_pipeline.simulator.paths import DailyPath, calendar, midnight

MINUTES = 390
_DAY_SHARE = 0.8


@dataclass(frozen=True)
class Bars:
    """Bars in ascending order: starts in seconds since 1970, prices in dollars, volumes in shares."""

    starts: Floats
    opens: Floats
    highs: Floats
    lows: Floats
    closes: Floats
    volumes: NDArray[np.int64]


@dataclass(frozen=True)
class _Year:
    first: int
    points: NDArray[np.int32]
    above: NDArray[np.int16]
    below: NDArray[np.int16]


def _stand_still(year: _Year, halt: Halt) -> None:
    row, minutes = halt.index - year.first, slice(halt.first, halt.until)
    year.points[row, halt.first + 1 : halt.until + 1] = year.points[row, halt.first]
    year.above[row, minutes] = year.below[row, minutes] = 0


def _u_shape(minutes: int) -> Floats:
    place = (np.arange(minutes) + 0.5) / minutes
    return 0.55 + 2.6 * np.exp(-place * 14.0) + 1.5 * np.exp((place - 1.0) * 16.0) + 0.9 * (place - 0.5) ** 2


@dataclass(frozen=True)
class Halt:
    """No trading in a stock from minute `first` up to `until` (not included) of session `index`.

    The price stands still; the volume of these minutes is traded in the one that follows.
    """

    symbol: str
    index: int
    first: int
    until: int


def halt_of(symbol: str, first: datetime, until: datetime) -> Halt:
    """A halt between two instants; raises ValueError unless they are whole minutes of one session, after its first."""
    table = calendar()
    if first.tzinfo is None or until.tzinfo is None:
        raise ValueError("an instant has no time zone: write it as 2026-01-05T20:55:00Z")
    index = table.index_of(first.astimezone(NEW_YORK).date())
    minutes = [(instant.timestamp() - table.opens[index]) / 60.0 for instant in (first, until)]
    if minutes != [int(minute) for minute in minutes] or not 1 <= minutes[0] < minutes[1] < table.minutes(index):
        raise ValueError(f"from {first} until {until} are no whole minutes within one session, its first one left out")
    return Halt(symbol, index, int(minutes[0]), int(minutes[1]))


class Intraday:
    """The minutes of one instrument, made when first asked for."""

    def __init__(self, seed: int, path: DailyPath, halts: tuple[Halt, ...] = ()) -> None:
        self._seed = seed
        self._path = path
        self._halts = halts
        self._years: dict[int, _Year] = {}
        self._bars = lru_cache(maxsize=64)(self._make_bars)
        self._night = lru_cache(maxsize=64)(self._make_night)

    def price(self, index: int, minute: float) -> float:
        """The price `minute` minutes (fractions count) after the open of a session, within its bar's range."""
        year, row = self._row(index)
        whole = int(minute)
        points = year.points[row]
        low, high = int(points[whole]), int(points[min(whole + 1, MINUTES)])
        return round(low + (high - low) * (minute - whole)) / 100.0

    def range_until(self, index: int, minute: float) -> tuple[float, float]:
        """Highest and lowest price from the open to that minute; for a whole session those of its daily bar."""
        year, row = self._row(index)
        count = max(int(minute), 0)
        price = self.price(index, min(minute, calendar().minutes(index)))
        points = year.points[row]
        if count == 0:
            opened = int(points[0]) / 100.0
            return max(opened, price), min(opened, price)
        tops = np.maximum(points[:count], points[1 : count + 1]) + year.above[row][:count]
        floors = np.minimum(points[:count], points[1 : count + 1]) - year.below[row][:count]
        return max(float(tops.max()) / 100.0, price), min(float(floors.min()) / 100.0, price)

    def bars(self, index: int) -> Bars:
        """The minute bars of the regular session: 390, on half days 210."""
        return self._bars(index)

    def volume_until(self, index: int, minute: float) -> int:
        """Shares traded from the open to that minute."""
        if minute <= 0.0:
            return 0
        volumes = self._bars(index).volumes
        whole = min(int(minute), len(volumes))
        part = volumes[whole] * (minute - whole) if whole < len(volumes) else 0.0
        return int(volumes[:whole].sum()) + int(part)

    def night_bars(self, index: int) -> tuple[Bars, Bars]:
        """The thin minutes before the open and after the close of a session; minutes without a trade are missing."""
        return self._night(index)

    def daily_extremes(self, first: int, stop: int) -> tuple[Floats, Floats]:
        """Highs and lows of sessions `first` to `stop` (not included)."""
        found = [self.range_until(index, calendar().minutes(index)) for index in range(first, stop)]
        return np.array([high for high, _ in found]), np.array([low for _, low in found])

    def _row(self, index: int) -> tuple[_Year, int]:
        number = calendar().days[index].year
        year = self._years.get(number)
        if year is None:
            year = self._years[number] = self._make_year(number)
            for halt in self._halts:
                if calendar().days[halt.index].year == number:
                    _stand_still(year, halt)
        return year, index - year.first

    def _make_year(self, number: int) -> _Year:
        days = calendar().days
        indices = [index for index, day in enumerate(days) if day.year == number]
        first, count = indices[0], len(indices)
        rng = generator(self._seed, self._path.instrument.symbol, "minutes", number)
        steps = rng.standard_normal((count, MINUTES))
        reach = np.abs(rng.standard_normal((2, count, MINUTES)))
        lengths = [calendar().minutes(index) for index in indices]
        logs, scale = self._bridges(slice(first, first + count), steps, lengths)
        points = np.rint(np.exp(logs) * 100.0)
        points[:, 0] = np.rint(self._path.opens[first : first + count] * 100.0)
        closes = np.rint(self._path.closes[first : first + count] * 100.0)
        for row, length in enumerate(lengths):
            points[row, length:] = closes[row]
        points = np.maximum(points, 3.0)
        extra = np.minimum(np.rint(reach * 0.45 * scale[:, None] * points[:, :-1]), 32000.0)
        above, below = extra[0], np.minimum(extra[1], np.minimum(points[:, :-1], points[:, 1:]) - 2.0)
        return _Year(first, points.astype(np.int32), above.astype(np.int16), below.astype(np.int16))

    def _bridges(self, span: slice, steps: Floats, lengths: list[int]) -> tuple[Floats, Floats]:
        opens, closes = np.log(self._path.opens[span]), np.log(self._path.closes[span])
        scale = self._path.previous_volatilities[span] * math.sqrt(_DAY_SHARE / 252.0)
        logs = np.empty((len(lengths), MINUTES + 1))
        for length in set(lengths):
            rows = [row for row, value in enumerate(lengths) if value == length]
            weights = _u_shape(length)
            clock = np.concatenate(([0.0], np.cumsum(weights) / weights.sum()))
            walk = np.cumsum(steps[rows, :length] * np.sqrt(weights / weights.sum()), axis=1)
            walk = np.concatenate((np.zeros((len(rows), 1)), walk), axis=1)
            bridge = walk - clock * walk[:, -1:]
            level = opens[rows, None] + clock * (closes[rows] - opens[rows])[:, None]
            logs[rows, : length + 1] = level + scale[rows, None] * bridge
            logs[rows, length + 1 :] = closes[rows, None]
        return logs, scale / math.sqrt(MINUTES)

    def _make_bars(self, index: int) -> Bars:
        year, row = self._row(index)
        count = calendar().minutes(index)
        points = year.points[row, : count + 1].astype(np.float64)
        opens, closes = points[:-1], points[1:]
        rng = generator(self._seed, self._path.instrument.symbol, "minute volumes", index)
        weights = _u_shape(count) * np.exp(0.45 * rng.standard_normal(count))
        total = float(self._path.volumes[index])
        ends = np.rint(np.cumsum(weights) / weights.sum() * total)
        ends[-1] = total
        for halt in self._halts:
            if halt.index == index:
                ends[halt.first : halt.until] = ends[halt.first - 1]
        return Bars(
            starts=calendar().opens[index] + 60.0 * np.arange(count, dtype=np.float64),
            opens=opens / 100.0,
            highs=(np.maximum(opens, closes) + year.above[row, :count]) / 100.0,
            lows=(np.minimum(opens, closes) - year.below[row, :count]) / 100.0,
            closes=closes / 100.0,
            volumes=np.diff(ends, prepend=0.0).astype(np.int64),
        )

    def _make_night(self, index: int) -> tuple[Bars, Bars]:
        table, path = calendar(), self._path
        start = midnight(table.days[index]) + 4 * 3600.0
        before = round((table.opens[index] - start) / 60.0)
        after = 240
        rng = generator(self._seed, path.instrument.symbol, "extended hours", index)
        early = self._thin(rng, start, before, float(path.previous_closes[index]), float(path.opens[index]))
        late = self._thin(rng, table.closes[index], after, float(path.closes[index]), float(path.closes[index]))
        return early, late

    def _thin(self, rng: np.random.Generator, start: float, count: int, first: float, last: float) -> Bars:
        scale = self._path.instrument.volatility * 0.0012
        walk = np.cumsum(rng.standard_normal(count + 1)) * scale / math.sqrt(count)
        place = np.linspace(0.0, 1.0, count + 1)
        if first == last:
            logs = math.log(first) + walk - walk[0]
        else:
            logs = math.log(first) + place * math.log(last / first) + walk - walk[0] - place * (walk[-1] - walk[0])
        points = np.maximum(np.rint(np.exp(logs) * 100.0) / 100.0, 0.01)
        kept = rng.random(count) < 0.9
        mean = self._path.instrument.daily_volume * 0.02 / count
        volumes = np.maximum(np.rint(mean * rng.exponential(1.0, count)), 1.0).astype(np.int64)
        opens, closes = points[:-1], points[1:]
        return Bars(
            starts=(start + 60.0 * np.arange(count, dtype=np.float64))[kept],
            opens=opens[kept],
            highs=np.maximum(opens, closes)[kept],
            lows=np.minimum(opens, closes)[kept],
            closes=closes[kept],
            volumes=volumes[kept],
        )
