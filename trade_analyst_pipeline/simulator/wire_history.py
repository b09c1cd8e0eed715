"""Price history as the wire spells it: valid combinations, windows, bars of any frequency.

Daily and longer bars are stamped midnight US/Central, minute bars with their start. A fund is priced once
a day and has no minute bars. A bar of the session going on is shown only as far as the instant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from trade_analyst_pipeline.market.sessions import NEW_YORK
from trade_analyst_pipeline.simulator.intraday import Bars
from trade_analyst_pipeline.simulator.paths import calendar, midnight

if TYPE_CHECKING:
    from trade_analyst_pipeline.simulator.market import Market, Moment

CENTRAL = ZoneInfo("America/Chicago")
_PERIODS = {
    "day": ((1, 2, 3, 4, 5, 10), 10),
    "month": ((1, 2, 3, 6), 1),
    "year": ((1, 2, 3, 5, 10, 15, 20), 1),
    "ytd": ((1,), 1),
}
_FREQUENCY_TYPES = {
    "day": (("minute",), "minute"),
    "month": (("daily", "weekly"), "weekly"),
    "year": (("daily", "weekly", "monthly"), "monthly"),
    "ytd": (("daily", "weekly"), "weekly"),
}
_FREQUENCIES = {"minute": (1, 5, 10, 15, 30), "daily": (1,), "weekly": (1,), "monthly": (1,)}
_FIRST_DAY_SECONDS = 7 * 3600.0  # without a start date the first extended day begins at 07:00, later ones at 04:00
ONE_MINUTE_DAYS = 48
MINUTES_DAYS = 270


class HistoryQueryError(Exception):
    """A combination the source refuses; the text is the one it answers with."""


@dataclass(frozen=True)
class HistoryQuery:
    """A checked price-history request; `start` and `end` are seconds since 1970 or None."""

    symbol: str
    period_type: str
    period: int
    frequency_type: str
    frequency: int
    start: float | None
    end: float | None
    is_extended: bool
    wants_previous_close: bool


Candle = dict[str, float | int]


def parse_history_query(params: dict[str, str]) -> HistoryQuery:
    """The query behind request parameters; raises HistoryQueryError with the source's text."""
    period_type = params.get("periodType", "day")
    if period_type not in _PERIODS:
        raise HistoryQueryError(f"valid values for periodType are: {_listing(_PERIODS)}")
    periods, default_period = _PERIODS[period_type]
    types, default_type = _FREQUENCY_TYPES[period_type]
    period = _number(params, "period", default_period)
    frequency_type = params.get("frequencyType", default_type)
    frequency = _number(params, "frequency", 1)
    if period not in periods:
        raise HistoryQueryError(f"When periodType={period_type} valid values for period are: {_listing(periods)}")
    if frequency_type not in types:
        text = f"When periodType={period_type} valid values for frequencyType are: {_listing(types)}"
        raise HistoryQueryError(text)
    if frequency not in _FREQUENCIES[frequency_type]:
        known = _listing(_FREQUENCIES[frequency_type])
        raise HistoryQueryError(f"When frequencyType={frequency_type} valid values for frequency are: {known}")
    start, end = _instant(params, "startDate"), _instant(params, "endDate")
    if start is not None and end is not None and start > end:
        raise HistoryQueryError("startDate must not be after endDate")
    return HistoryQuery(
        symbol=params["symbol"],
        period_type=period_type,
        period=period,
        frequency_type=frequency_type,
        frequency=frequency,
        start=start,
        end=end,
        is_extended=params.get("needExtendedHoursData", "false").lower() == "true",
        wants_previous_close=params.get("needPreviousClose", "false").lower() == "true",
    )


def _listing(values: Iterable[object]) -> str:
    return f"[{', '.join(str(value) for value in values)}]"


def _number(params: dict[str, str], name: str, default: int) -> int:
    try:
        return int(params.get(name, default))
    except ValueError:
        raise HistoryQueryError(f"{name} must be a number") from None


def _instant(params: dict[str, str], name: str) -> float | None:
    text = params.get(name)
    if text is None:
        return None
    if not text.lstrip("-").isdigit():
        raise HistoryQueryError(f"{name} must be in epoch milliseconds")
    return int(text) / 1000.0


def history_body(market: Market, moment: Moment, query: HistoryQuery) -> dict[str, Any]:
    """The whole answer: candles ascending, `empty` when there are none, the close before them when asked for."""
    start, end = _window(moment, query)
    if query.frequency_type == "minute":
        candles, first = _minute_candles(market, moment, query, start, end)
    else:
        candles, first = _session_candles(market, moment, query, start, end)
    body: dict[str, Any] = {"candles": candles, "symbol": query.symbol, "empty": not candles}
    if query.wants_previous_close and first is not None:
        body["previousClose"] = float(market.path(query.symbol).previous_closes[first])
        body["previousCloseDate"] = _central_midnight(calendar().days[first - 1]) if first else 0
    return body


def _window(moment: Moment, query: HistoryQuery) -> tuple[float, float]:
    """First and last instant asked for. Without an end date it is the close of the session before."""
    table = calendar()
    end = query.end if query.end is not None else midnight(moment.day) - 1.0
    last = datetime.fromtimestamp(max(end, 0.0), NEW_YORK).date()
    if query.start is not None:
        return query.start, end
    if query.period_type == "day":
        first = table.days[max(table.index_at_or_before(last) - query.period + 1, 0)]
    elif query.period_type == "ytd":
        first = date(last.year, 1, 1)
    else:
        months = query.period * (12 if query.period_type == "year" else 1)
        year, month = divmod(last.year * 12 + last.month - 1 - months, 12)
        first = date(year, month + 1, min(last.day, 28))
    return midnight(first), end


@lru_cache(maxsize=8192)
def _central_midnight(day: date) -> int:
    return round(datetime(day.year, day.month, day.day, tzinfo=CENTRAL).timestamp() * 1000.0)


def _sessions_between(moment: Moment, start: float, end: float) -> range:
    """Sessions whose stamp (Central midnight) lies in the window, none after the one shown."""
    table = calendar()
    low, high = (datetime.fromtimestamp(max(bound, 0.0), CENTRAL).date() for bound in (start, end))
    first = table.index_at_or_before(low - timedelta(days=1)) + 1
    if first < len(table.days) and _central_midnight(table.days[first]) < start * 1000.0:
        first += 1
    shown = moment.index - (moment.phase == "pre")
    first = max(first, _first_session(moment))
    return range(first, min(table.index_at_or_before(high), shown) + 1)


def _first_session(moment: Moment) -> int:
    """Where a history begins: at the epoch, or when a name was listed that did not have another one before."""
    since, is_renamed = moment.instrument.listed_from, bool(moment.instrument.former_symbol)
    return 0 if since is None or is_renamed else calendar().index_at_or_before(since - timedelta(days=1)) + 1


# -- sessions and longer -----------------------------------------------------------------------------------------


def _session_candles(
    market: Market, moment: Moment, query: HistoryQuery, start: float, end: float
) -> tuple[list[Candle], int | None]:
    chosen = _sessions_between(moment, start, end)
    daily = [_daily_candle(market, moment, query.symbol, index) for index in chosen]
    first = chosen.start if len(chosen) else None
    if query.frequency_type == "daily":
        return daily, first
    key = _week if query.frequency_type == "weekly" else _month
    days = calendar().days
    groups = groupby(zip(chosen, daily, strict=True), key=lambda pair: key(days[pair[0]]))
    return [_merged([candle for _, candle in group], _central_midnight(stamp)) for stamp, group in groups], first


def _week(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _month(day: date) -> date:
    return day.replace(day=1)


def _daily_candle(market: Market, moment: Moment, symbol: str, index: int) -> Candle:
    stamp = _central_midnight(calendar().days[index])
    if index == moment.index:
        return _candle(moment.opened, moment.high, moment.low, moment.regular_last, market.volume(moment), stamp)
    path = market.path(symbol)
    high, low = market.intraday(symbol).range_until(index, calendar().minutes(index))
    return _candle(float(path.opens[index]), high, low, float(path.closes[index]), int(path.volumes[index]), stamp)


def _candle(opened: float, high: float, low: float, close: float, volume: int, stamp: int) -> Candle:
    return {"open": opened, "high": high, "low": low, "close": close, "volume": volume, "datetime": stamp}


def _merged(candles: list[Candle], stamp: int) -> Candle:
    return _candle(
        candles[0]["open"],
        max(candle["high"] for candle in candles),
        min(candle["low"] for candle in candles),
        candles[-1]["close"],
        int(sum(candle["volume"] for candle in candles)),
        stamp,
    )


# -- minutes -----------------------------------------------------------------------------------------------------


def _minute_candles(
    market: Market, moment: Moment, query: HistoryQuery, start: float, end: float
) -> tuple[list[Candle], int | None]:
    if market.instrument(query.symbol).kind == "fund":
        return [], None
    reach = ONE_MINUTE_DAYS if query.frequency == 1 else MINUTES_DAYS
    start = max(start, moment.seconds - reach * 86400.0)
    table, candles = calendar(), list[Candle]()
    first_day = datetime.fromtimestamp(start, NEW_YORK).date()
    last_day = datetime.fromtimestamp(max(min(end, moment.seconds), 0.0), NEW_YORK).date()
    first = max(table.index_at_or_before(first_day - timedelta(days=1)) + 1, _first_session(moment))
    for index in range(first, table.index_at_or_before(last_day) + 1):
        candles += _session_minutes(market, moment, query, index)
    if query.start is None and query.is_extended and first < len(table.days):
        start = max(start, midnight(table.days[first]) + _FIRST_DAY_SECONDS)
    low, high = start * 1000.0, min(end, moment.seconds) * 1000.0
    kept = [candle for candle in candles if low <= candle["datetime"] <= high]
    merged = kept if query.frequency == 1 else _coarser(kept, query.frequency)
    return merged, first if merged else None


def _session_minutes(market: Market, moment: Moment, query: HistoryQuery, index: int) -> list[Candle]:
    intraday = market.intraday(query.symbol)
    early, late = intraday.night_bars(index)
    instrument = market.instrument(query.symbol)
    is_traded = instrument.kind in {"stock", "etf"}
    parts: tuple[Bars, ...] = (intraday.bars(index),)
    if query.is_extended and is_traded:
        parts = (early, *parts, late)
    if index < moment.index or moment.seconds > float(late.starts[-1]) + 60.0:
        candles = [candle for bars in parts for candle in _all_bars(bars)]
    else:
        candles = [candle for bars in parts for candle in _bars_until(bars, moment)]
    # a minute without a trade has no bar; an index without volume is calculated all the time
    return [candle for candle in candles if candle["volume"] or not instrument.daily_volume]


def _all_bars(bars: Bars) -> list[Candle]:
    names: tuple[Callable[[], Any], ...] = (
        bars.opens.tolist, bars.highs.tolist, bars.lows.tolist, bars.closes.tolist, bars.volumes.tolist,
    )  # fmt: skip
    stamps = [int(start * 1000.0) for start in bars.starts.tolist()]
    return [_candle(*row) for row in zip(*(column() for column in names), stamps, strict=True)]


def _bars_until(bars: Bars, moment: Moment) -> list[Candle]:
    """Bars begun by the moment; the one it falls into is still forming."""
    found = []
    for start, candle in zip(bars.starts.tolist(), _all_bars(bars), strict=True):
        if start >= moment.seconds:
            break
        if start + 60.0 > moment.seconds:
            candle = _forming(candle, moment, (moment.seconds - start) / 60.0)
        found.append(candle)
    return found


def _forming(candle: Candle, moment: Moment, part: float) -> Candle:
    price = moment.spot
    opened = candle["open"]
    whole = int(candle["volume"])
    volume = min(max(int(whole * part), 1), whole)
    return _candle(opened, max(opened, price), min(opened, price), price, volume, int(candle["datetime"]))


def _coarser(candles: list[Candle], minutes: int) -> list[Candle]:
    width = minutes * 60_000
    groups = groupby(candles, key=lambda candle: int(candle["datetime"] // width) * width)
    return [_merged(list(group), stamp) for stamp, group in groups]
