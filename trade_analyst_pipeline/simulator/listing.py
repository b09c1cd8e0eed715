"""Which options are listed: expirations by the kind of underlying, and strikes around where its price has been.

Stocks have Friday weeklies for eight weeks, ETFs daily ones for ten sessions and then Mondays, Wednesdays and
Fridays, the index every weekday for five weeks; all have monthlies (third Fridays) and long-dated ones as far as the
exchange calendar reaches. An expiration on a holiday moves to the session before. Strikes once listed stay listed:
the range only grows in the last 400 days of an expiration, and finer steps are added as it draws near. The index,
whose chain would grow beyond measure, keeps its finest strikes only near the latest price.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
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
_INDEX_COARSE_STRIKES = (24, 12)
_SHORT_LIFE = 63
_LONG_LIFE = 400


@dataclass(frozen=True)
class Expiration:
    """One expiration of one root: `settlement` is P for the close, A for the open of its last day.

    A contract delivers `shares`; other than 100 after an adjustment.
    """

    expiration_date: date
    root: str
    settlement: Literal["A", "P"]
    kind: ExpirationType
    shares: int = 100

    @property
    def is_standard(self) -> bool:
        """Whether its contracts deliver what they were listed with."""
        return self.shares == 100


def expirations(instrument: Instrument, day: date) -> tuple[Expiration, ...]:
    """All expirations listed on `day`, from `day` itself on; by date, AM before PM settlement, standard ones first."""
    if not instrument.has_options:
        return ()
    found = _expirations(instrument.root, instrument.weekly_letter, instrument.listing, day)
    if instrument.adjusted_from is None or day < instrument.adjusted_from:
        return found
    adjusted = _adjusted(instrument.root, instrument.listing, instrument.adjusted_from, instrument.adjusted_shares)
    alive = [item for item in adjusted if item.expiration_date >= day]
    return tuple(sorted((*found, *alive), key=lambda item: (item.expiration_date, item.settlement, item.root)))


@lru_cache(maxsize=4096)
def _expirations(root: str, weekly_letter: str, listing: str, day: date) -> tuple[Expiration, ...]:
    if listing != "daily":
        return tuple(Expiration(when, root, "P", kind) for when, kind in _dates(listing, day))
    found = [Expiration(when, f"{root}{weekly_letter}", "P", kind) for when, kind in _dates(listing, day)]
    found += [Expiration(when, root, "A", kind) for when, kind in _dates(listing, day) if kind == "S"]
    return tuple(sorted(found, key=lambda item: (item.expiration_date, item.settlement)))


@lru_cache(maxsize=64)
def _adjusted(root: str, listing: str, since: date, shares: int) -> tuple[Expiration, ...]:
    """The monthlies listed the day before the adjustment, which live on under a root of their own."""
    before = since - timedelta(days=1)
    return tuple(
        Expiration(when, f"{root}1", "P", "S", shares) for when, kind in _dates(listing, before) if kind == "S"
    )


@lru_cache(maxsize=1024)
def _dates(listing: str, day: date) -> tuple[tuple[date, ExpirationType], ...]:
    kinds: dict[date, ExpirationType] = dict.fromkeys(_short_dates(listing, day), "W")
    kinds.update(_period_ends(day) if listing != "weekly" else {})
    kinds.update(dict.fromkeys((when for when in _monthlies(listing, day) if day <= when <= CALENDAR_END), "S"))
    return tuple(sorted(kinds.items()))


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


def strikes(path: DailyPath, expiration: Expiration, day: date) -> Floats:
    """The strikes listed for an expiration on a session, ascending, dollars."""
    since = path.instrument.adjusted_from
    if since is not None and not expiration.is_standard:
        listed = strikes(path, replace(expiration, shares=100), since)
        return np.asarray(np.round(listed * expiration.shares / 100.0, 2), dtype=np.float64)
    if path.instrument.is_index:
        return _index_strikes(path, expiration, day)
    is_long = expiration.kind in {"S", "Q"}
    life, fine_life = (_LONG_LIFE, 120) if is_long else (_SHORT_LIFE, _SHORT_LIFE)
    fine_since = expiration.expiration_date - timedelta(days=fine_life)
    wide = _price_range(path, expiration.expiration_date - timedelta(days=life), day)
    bands = [_wide_band(path.instrument, life, wide)]
    if day >= fine_since:
        bands.append(_fine_band(path.instrument, _price_range(path, fine_since, day)))
    return _lattice(tuple(bands))


@dataclass(frozen=True)
class _PriceRange:
    """Where the price has been since a day: lowest and highest close, and the first of them."""

    low: float
    high: float
    first: float


def _price_range(path: DailyPath, since: date, day: date) -> _PriceRange:
    table = calendar()
    stop = max(table.index_at_or_before(day), 0)
    start = max(min(table.index_at_or_before(since), stop), 0)
    closes = path.previous_closes[start : stop + 1]
    return _PriceRange(float(closes.min()), float(closes.max()), float(closes[0]))


@dataclass(frozen=True)
class _Band:
    """Every multiple of `step` from number `first` to number `last`."""

    step: float
    first: int
    last: int


# Up to a price at the start: the step near the money, and the one further out.
_STEPS = (
    (25.0, 0.5, 1.0),
    (100.0, 1.0, 5.0),
    (500.0, 2.5, 5.0),
    (1000.0, 5.0, 10.0),
    (3000.0, 10.0, 50.0),
    (float("inf"), 50.0, 250.0),
)


def _steps(instrument: Instrument, price: float) -> tuple[float, float]:
    if instrument.kind == "etf":
        return (1.0, 5.0) if price < 1500.0 else (5.0, 25.0)
    return next((fine, coarse) for limit, fine, coarse in _STEPS if price < limit)


def _wide_band(instrument: Instrument, life: int, seen: _PriceRange) -> _Band:
    reach = min(0.12 + 2.2 * instrument.volatility * (life / 365.0) ** 0.5, 0.75)
    return _band(_steps(instrument, seen.first)[1], seen.low * (1.0 - reach), seen.high * (1.0 + reach))


def _fine_band(instrument: Instrument, seen: _PriceRange) -> _Band:
    near = 0.06 if instrument.kind == "etf" else 0.09
    return _band(_steps(instrument, seen.first)[0], seen.low * (1.0 - near), seen.high * (1.0 + near))


def _band(step: float, low: float, high: float) -> _Band:
    return _Band(step, max(int(low / step), 1), int(high / step) + 1)


def _index_strikes(path: DailyPath, expiration: Expiration, day: date) -> Floats:
    seen = _price_range(path, day - timedelta(days=20), day)
    last = float(path.previous_closes[max(calendar().index_at_or_before(day), 0)])
    middle = 0.5 * (max(seen.low, last * (1.0 - _INDEX_REACH)) + min(seen.high, last * (1.0 + _INDEX_REACH)))
    unit = 5.0 if last < 15000.0 else 25.0
    fine = unit if (expiration.expiration_date - day).days <= 45 else 5.0 * unit
    half, coarse = path.instrument.fine_strikes * fine, 20.0 * unit
    below, above = _INDEX_COARSE_STRIKES
    return _lattice(
        (
            _band(coarse, middle - below * coarse, middle + above * coarse),
            _band(fine, middle - half, middle + half),
        )
    )


@lru_cache(maxsize=8192)
def _lattice(bands: tuple[_Band, ...]) -> Floats:
    rows = [np.arange(band.first, band.last + 1) * band.step for band in bands]
    found = np.unique(np.concatenate(rows))
    found.flags.writeable = False
    return found
