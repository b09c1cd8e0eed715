"""Which options are listed: expirations by the kind of underlying, and strikes around where its price has been.

Stocks have Friday weeklies for eight weeks, ETFs daily ones for ten sessions and then Mondays, Wednesdays and
Fridays, the index every weekday for five weeks; all have monthlies (third Fridays) and long-dated ones as far as the
exchange calendar reaches. An expiration on a holiday moves to the session before. Strikes once listed stay listed:
the range only grows while an expiration lives, and its grid only gets finer. The index, whose chain would grow beyond
measure, keeps its finest strikes only near the latest price.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Literal

import numpy as np

from trade_analyst_pipeline.market.sessions import CALENDAR_END, is_session, previous_session, sessions
from trade_analyst_pipeline.simulator.instruments import Instrument
from trade_analyst_pipeline.simulator.noise import Floats
from trade_analyst_pipeline.simulator.paths import DailyPath, calendar

ExpirationType = Literal["W", "S", "Q", "M"]
_MONTHLIES_AHEAD = {"weekly": 7, "three_a_week": 8, "daily": 12}
_LONG_MONTHS = {"weekly": (1, 6), "three_a_week": (3, 6, 9, 12), "daily": (3, 6, 9, 12)}
_LONG_DAYS = 800
_INDEX_REACH = 0.02
_INDEX_FINE_STRIKES = 46


@dataclass(frozen=True)
class Expiration:
    """One expiration of one root: `settlement` is P for the close, A for the open of its last day."""

    expiration_date: date
    root: str
    settlement: Literal["A", "P"]
    kind: ExpirationType


def expirations(instrument: Instrument, day: date) -> tuple[Expiration, ...]:
    """All expirations listed on `day`, from `day` itself on; by date, then AM before PM settlement."""
    return _expirations(instrument.symbol, instrument.listing, day) if instrument.has_options else ()


@lru_cache(maxsize=4096)
def _expirations(symbol: str, listing: str, day: date) -> tuple[Expiration, ...]:
    root = option_root(symbol)
    if listing != "daily":
        return tuple(Expiration(when, root, "P", kind) for when, kind in _dates(listing, day))
    found = [Expiration(when, f"{root}W", "P", kind) for when, kind in _dates(listing, day)]
    found += [Expiration(when, root, "A", kind) for when, kind in _dates(listing, day) if kind == "S"]
    return tuple(sorted(found, key=lambda item: (item.expiration_date, item.settlement)))


@lru_cache(maxsize=1024)
def _dates(listing: str, day: date) -> tuple[tuple[date, ExpirationType], ...]:
    kinds: dict[date, ExpirationType] = dict.fromkeys(_short_dates(listing, day), "W")
    kinds.update(_period_ends(day) if listing != "weekly" else {})
    kinds.update(dict.fromkeys((when for when in _monthlies(listing, day) if day <= when <= CALENDAR_END), "S"))
    return tuple(sorted(kinds.items()))


def option_root(symbol: str) -> str:
    """The root of the standard contracts: no $, no slash."""
    return symbol.lstrip("$").replace("/", "")


def _short_dates(listing: str, day: date) -> list[date]:
    if listing == "weekly":
        return list(_moved(_weekdays(day, 56, {4})))
    if listing == "daily":
        return sorted({*sessions(day, day + timedelta(days=35)), *_moved(_weekdays(day, 70, {4}))})
    daily = sessions(day, day + timedelta(days=20))[:10]
    return sorted({*daily, *_moved(_weekdays(day, 42, {0, 2, 4})), *_moved(_weekdays(day, 63, {4}))})


def _weekdays(day: date, days: int, weekdays: set[int]) -> Iterator[date]:
    for ahead in range(days):
        when = day + timedelta(days=ahead)
        if when.weekday() in weekdays and when <= CALENDAR_END:
            yield when


def _moved(dates: Iterator[date]) -> Iterator[date]:
    for when in dates:
        yield when if is_session(when) else previous_session(when)


def _month_starts(day: date, days: int) -> Iterator[date]:
    start = day.replace(day=1)
    while start <= min(day + timedelta(days=days), CALENDAR_END):
        yield start
        start = (start + timedelta(days=32)).replace(day=1)


def third_friday(year: int, month: int) -> date:
    """The third Friday of a month, or the session before it when that is a holiday."""
    first = date(year, month, 1)
    friday = first + timedelta(days=(4 - first.weekday()) % 7 + 14)
    return friday if is_session(friday) else previous_session(friday)


def _monthlies(listing: str, day: date) -> Iterator[date]:
    for number, start in enumerate(_month_starts(day, _LONG_DAYS)):
        if number <= _MONTHLIES_AHEAD[listing] or start.month in _LONG_MONTHS[listing]:
            yield third_friday(start.year, start.month)


def _period_ends(day: date) -> dict[date, ExpirationType]:
    found: dict[date, ExpirationType] = {}
    for number, start in enumerate(_month_starts(day, 330)):
        is_quarter = start.month % 3 == 0
        last = previous_session((start + timedelta(days=32)).replace(day=1))
        if last >= day and (number <= 1 or is_quarter):
            found[last] = "Q" if is_quarter else "M"
    return found


@dataclass(frozen=True)
class _Grid:
    """How strikes lie: every `fine` dollars within `near` of where the price was, every `coarse` up to `far`."""

    fine: float
    coarse: float
    near: float
    below: float
    above: float


def strikes(path: DailyPath, expiration: Expiration, day: date) -> Floats:
    """The strikes listed for an expiration on a session, ascending, dollars."""
    days_left = (expiration.expiration_date - day).days
    since = _listed_since(path.instrument, expiration, days_left)
    low, high, reference = _price_range(path, since, day)
    grid = _grid(path.instrument, days_left, reference)
    if path.instrument.is_index:
        middle = 0.5 * (low + high)
        low, high = middle - _INDEX_FINE_STRIKES * grid.fine, middle + _INDEX_FINE_STRIKES * grid.fine
    return _lattice(grid, low, high)


def _listed_since(instrument: Instrument, expiration: Expiration, days_left: int) -> date:
    if instrument.is_index:
        return expiration.expiration_date - timedelta(days=days_left + 20)
    life = 35 if expiration.kind == "W" else 120
    return expiration.expiration_date - timedelta(days=max(life, days_left + 10))


def _price_range(path: DailyPath, since: date, day: date) -> tuple[float, float, float]:
    table = calendar()
    stop = max(table.index_at_or_before(day), 0)
    start = max(min(table.index_at_or_before(since), stop), 0)
    closes = path.previous_closes[start : stop + 1]
    low, high, last = float(closes.min()), float(closes.max()), float(closes[-1])
    if path.instrument.is_index:
        low, high = max(low, last * (1.0 - _INDEX_REACH)), min(high, last * (1.0 + _INDEX_REACH))
    return low, high, float(closes[0])


def _grid(instrument: Instrument, days_left: int, reference: float) -> _Grid:
    if instrument.is_index:
        unit = 5.0 if reference < 15000.0 else 25.0
        fine = unit if days_left <= 45 else 5.0 * unit
        return _Grid(fine, 20.0 * unit, 0.0, 0.45, 0.2)
    width = min(0.12 + 2.2 * instrument.volatility * (max(days_left, 40) / 365.0) ** 0.5, 0.75)
    fine, coarse = next(pair for limit, *pair in _STEPS if reference < limit)
    if instrument.kind == "etf":
        fine, coarse = (1.0, 5.0) if reference < 1500.0 else (5.0, 25.0)
        return _Grid(fine if days_left < 75 else coarse, coarse, 0.06 if days_left < 75 else 0.1, width, 0.7 * width)
    return _Grid(fine, coarse, 0.09, width, width)


_STEPS = (
    (25.0, 0.5, 1.0),
    (100.0, 1.0, 5.0),
    (500.0, 2.5, 5.0),
    (1000.0, 5.0, 10.0),
    (3000.0, 10.0, 50.0),
    (float("inf"), 50.0, 250.0),
)


@lru_cache(maxsize=8192)
def _lattice_cached(fine: float, coarse: float, bounds: tuple[int, int, int, int]) -> Floats:
    near_low, near_high, far_low, far_high = bounds
    near = np.arange(near_low, near_high + 1) * fine
    far = np.arange(far_low, far_high + 1) * coarse
    found = np.unique(np.concatenate((near, far)))
    found = found[found > 0.0]
    found.flags.writeable = False
    return found


def _lattice(grid: _Grid, low: float, high: float) -> Floats:
    bounds = (
        int(low * (1.0 - grid.near) / grid.fine),
        int(high * (1.0 + grid.near) / grid.fine) + 1,
        int(low * (1.0 - grid.below) / grid.coarse),
        int(high * (1.0 + grid.above) / grid.coarse) + 1,
    )
    return _lattice_cached(grid.fine, grid.coarse, bounds)
