"""What the stream is asked for and when: the services and symbols of the watch list, and the hours of each session."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from trade_analyst_pipeline.market.sessions import NEW_YORK, is_session, next_session, session_close, session_open
from trade_analyst_pipeline.market.symbols import Kind, kind_of
from trade_analyst_pipeline.settings import StreamSettings

CHART: Final = "CHART_EQUITY"
LEVEL_ONE: Final[Mapping[str, int]] = {
    "LEVELONE_EQUITIES": 52,
    "LEVELONE_OPTIONS": 56,
    "LEVELONE_FUTURES": 41,
    "LEVELONE_FUTURES_OPTIONS": 32,
    "LEVELONE_FOREX": 30,
}
"""The level-one services and how many fields each has."""

NUMBERED: Final = frozenset({CHART, "CHART_FUTURES"})
"""Services whose items are numbered (`seq`) by symbol, so that a hole is seen."""

STATUS_FIELD: Final[Mapping[str, str]] = {
    "LEVELONE_EQUITIES": "32",
    "LEVELONE_OPTIONS": "33",
    "LEVELONE_FUTURES": "22",
}
"""The field in which a service tells that a symbol is halted."""

_CHART_FIELDS: Final = 9
_SERVICE: Final[Mapping[Kind, str]] = {
    "share": "LEVELONE_EQUITIES",
    "index": "LEVELONE_EQUITIES",
    "option": "LEVELONE_OPTIONS",
    "future": "LEVELONE_FUTURES",
    "future_option": "LEVELONE_FUTURES_OPTIONS",
    "forex": "LEVELONE_FOREX",
}
_CHARTED: Final = frozenset({"share", "index"})
LEAD: Final = timedelta(seconds=30)  # to be connected when the hours begin


@dataclass(frozen=True)
class Wanted:
    """What is subscribed to of one service: symbols in the order of the watch list, and field numbers."""

    service: str
    symbols: tuple[str, ...]
    fields: tuple[int, ...]


def wanted(symbols: Iterable[str], *, charts: bool) -> tuple[Wanted, ...]:
    """The subscriptions for these symbols, every field of each service; mutual funds do not stream."""
    by_service: dict[str, list[str]] = {}
    charted: list[str] = []
    for symbol in symbols:
        kind = kind_of(symbol)
        if kind is not None and kind in _SERVICE:
            by_service.setdefault(_SERVICE[kind], []).append(symbol)
        if kind in _CHARTED:
            charted.append(symbol)
    found = [Wanted(name, tuple(keys), tuple(range(LEVEL_ONE[name]))) for name, keys in by_service.items()]
    if charts and charted:
        found.append(Wanted(CHART, tuple(charted), tuple(range(_CHART_FIELDS))))
    return tuple(found)


@dataclass(frozen=True)
class Hours:
    """When a session is streamed, and its regular hours, all UTC; data is due in the regular hours."""

    session_date: date
    begins: datetime
    ends: datetime
    opens: datetime
    closes: datetime


def hours(session_date: date, settings: StreamSettings) -> Hours:
    """The hours of a session; half days end earlier."""
    opens, closes = session_open(session_date), session_close(session_date)
    begins = opens - timedelta(minutes=settings.before_open_minutes)
    return Hours(session_date, begins, closes + timedelta(minutes=settings.after_close_minutes), opens, closes)


def next_hours(now: datetime, settings: StreamSettings) -> Hours:
    """The hours that `now` is in, or the next ones."""
    day = now.astimezone(NEW_YORK).date()
    found = hours(day if is_session(day) else next_session(day), settings)
    return found if now < found.ends else hours(next_session(found.session_date), settings)
