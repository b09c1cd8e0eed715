"""Price history: bars of any length, how they are asked for, their times, and which bars are acceptable.

One row per bar and the time it became known: a bar asked for again later may have changed, and both rows stand. The
source stamps daily and longer bars midnight US/Central, minute bars with their start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import msgspec
import polars as pl

from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market import vendor_values as vendor
from trade_analyst_pipeline.market.answers import (
    read_body,
    require_symbol,
    required_members,
    tolerant_object,
    unknown_around,
    usable_answers,
)
from trade_analyst_pipeline.market.bar_agreement import AGREEMENT_RULES
from trade_analyst_pipeline.market.bar_rules import BAR_RULES
from trade_analyst_pipeline.market.bars import (
    CENTRAL,
    FREQUENCIES,
    LONGER,
    MINUTES,
    in_calendar,
    shown_frequency,
)
from trade_analyst_pipeline.market.columns import TIME, Upgrade, epoch_milliseconds, table_schema
from trade_analyst_pipeline.market.normalized import Intake, Normalized
from trade_analyst_pipeline.market.prices import ticks
from trade_analyst_pipeline.market.row_layout import RowLayout
from trade_analyst_pipeline.market.sessions import NEW_YORK, previous_session, session_close, session_open, sessions
from trade_analyst_pipeline.market.symbols import is_taken_of, kind_of
from trade_analyst_pipeline.market.tolerant_json import (
    BadRow,
    RepeatedKeys,
    convert_header,
    convert_rows,
    repeated_keys,
)
from trade_analyst_pipeline.market.wire_json import (
    NOT_STRICT,
    RowColumns,
    RowShape,
    Unknown,
    count_keys,
    decode_strict,
    envelope_type,
    row_type,
    stated_keys,
    wire_fields,
)
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse

NAME: Final = "ohlc"
PATH: Final = "/pricehistory"
LARGEST_CLOSE_DIFFERENCE: Final = 100  # a cent, in 1/10000 dollar

BAR: Final = RowShape(
    "bar",
    wire_fields(
        "open:open:number! high:high:number! low:low:number! close:close:number! volume:volume:whole!",
        "datetime:bar_time:instant!",
    ),
)
HISTORY: Final = RowShape(
    "history",
    wire_fields(
        "symbol:symbol:text! empty:is_empty:flag previousClose:previous_close:number",
        "previousCloseDate:previous_close_date:instant",
    ),
)
_PLACES: Final = {"$": HISTORY.name, "$.candles[...]": BAR.name}

LAYOUT: Final = RowLayout(
    rows=("candles []",),
    row=BAR,
    around={"": HISTORY},
    made_of=dict.fromkeys(("frequency", "session_date", "session_part", "is_complete"), ("bar_time",)),
    beside={
        "frequency": "request",
        "session_date": "request",
        "session_part": "request",
        "known_time": "arrival",
        "is_complete": "arrival",
    },
)

_DEFAULT_FREQUENCY: Final = {"day": "minute", "month": "weekly", "year": "monthly", "ytd": "weekly"}
_PERIODS: Final = {"day": (1, 2, 3, 4, 5, 10), "month": (1, 2, 3, 6), "year": (1, 2, 3, 5, 10, 15, 20), "ytd": (1,)}
_FREQUENCIES_OF: Final = {
    "day": tuple(MINUTES),
    "month": ("daily", "weekly"),
    "year": ("daily", "weekly", "monthly"),
    "ytd": ("daily", "weekly"),
}

# Pre-market bars start from 08:00 to 14:30 UTC, post-market bars from 17:00 to 01:00, clock changes and half days
# included.
_PART_OF_EXTENDED: Final = (
    "CASE WHEN session_part <> 'extended' OR session_part IS NULL THEN session_part "
    "WHEN EXTRACT(EPOCH FROM bar_time) % 86400 BETWEEN 8 * 3600 AND 15 * 3600 THEN 'pre' ELSE 'post' END"
)

SCHEMA: Final = table_schema(
    NAME,
    "2.0",
    key=("symbol", "frequency", "bar_time", "known_time"),
    event_time="bar_time",
    known_time="known_time",
    columns=(
        *("symbol", "frequency", "session_date", "bar_time", "known_time", "open", "high", "low", "close", "volume"),
        *("session_part", "is_complete"),
    ),
    required=("session_date", "open", "high", "low", "close", "volume"),
    rules=(*BAR_RULES, *AGREEMENT_RULES),
    upgrades=(Upgrade(1, {"session_part": _PART_OF_EXTENDED}),),
)


def requests(
    symbols: Iterable[str],
    *,
    session_date: date,
    years: int = 2,
    frequencies: Sequence[str] = ("daily", "minute"),
    is_extended: bool = False,
) -> list[MarketDataRequest]:
    """Per symbol one request for the bars of each of these frequencies.

    Daily and longer bars are those of `years` up to and including the session, from the start of a week or month;
    minute bars those of the session's regular hours, with `is_extended` all since the close of the session before, so
    that post-market bars come when they are final. Both ends are stated: without an end the source leaves the running
    session out. With minute bars comes the official close of the session before. Funds have no minute bars; what has no
    history at all (`has_history`) is passed over. Raises ValueError on a day without a session, and for an unknown
    frequency.
    """
    queries = {name: _window(name, session_date, years=years, is_extended=is_extended) for name in frequencies}
    return [
        MarketDataRequest(NAME, PATH, (("symbol", symbol), *query), (symbol,))
        for symbol in symbols
        for name, query in queries.items()
        if has_bars(symbol, name)
    ]


def has_history(symbol: str) -> bool:
    """Whether the source keeps bars of such a symbol, see `DATASET_KINDS`: not of options, futures, currency pairs."""
    return is_taken_of(NAME, symbol)


def has_bars(symbol: str, frequency: str) -> bool:
    """Whether the source keeps such bars of a symbol: of a fund, which is priced once a day, none of minutes."""
    return has_history(symbol) and not (frequency in MINUTES and kind_of(symbol) == "fund")


def requests_by_period(
    symbols: Iterable[str], *, frequency: str, period_type: str, period: int
) -> list[MarketDataRequest]:
    """Per symbol one request for the bars of the latest `period` days, months or years, or of the year to date.

    The answer depends on when it is asked for, and ends with the session before; `requests` is safer. Raises
    ValueError for a combination that the source refuses.
    """
    asked, names = _asked_frequency(frequency), _FREQUENCIES_OF.get(period_type, ())
    if frequency not in names:
        message = f"periodType {period_type} has no bars {frequency}; it has {', '.join(names) or 'none at all'}"
        raise ValueError(message)
    if period not in _PERIODS[period_type]:
        message = f"periodType {period_type} has the periods {', '.join(map(str, _PERIODS[period_type]))}, not {period}"
        raise ValueError(message)
    query = (("periodType", period_type), ("period", str(period)), *asked)
    return [
        MarketDataRequest(NAME, PATH, (("symbol", symbol), *query), (symbol,))
        for symbol in symbols
        if has_bars(symbol, frequency)
    ]


Query = tuple[tuple[str, str], ...]


def _window(frequency: str, session_date: date, *, years: int, is_extended: bool) -> Query:
    """The query for bars of one frequency up to the session."""
    first = session_date.replace(year=session_date.year - years, day=min(session_date.day, 28))
    end = session_close(session_date)
    if frequency in MINUTES and is_extended:
        # both ends count, and a bar that begins with the close is not over by it
        start, end = session_close(previous_session(session_date)), end - timedelta(milliseconds=1)
    elif frequency in MINUTES:
        start = session_open(session_date)
    else:
        begun = {"weekly": first - timedelta(days=first.weekday()), "monthly": first.replace(day=1)}
        start = datetime.combine(begun.get(frequency, first), time(0), CENTRAL)
    return (
        ("periodType", "day" if frequency in MINUTES else "year"),
        *_asked_frequency(frequency),
        ("startDate", str(epoch_milliseconds(start))),
        ("endDate", str(epoch_milliseconds(end))),
        *(_MINUTE_QUERY[is_extended] if frequency in MINUTES else ()),
    )


_MINUTE_QUERY: Final = {
    extended: (("needExtendedHoursData", str(extended).lower()), ("needPreviousClose", "true"))
    for extended in (False, True)
}


def _asked_frequency(frequency: str) -> Query:
    if frequency not in FREQUENCIES:
        message = f"there are no bars {frequency}; the source has {', '.join((*MINUTES, *LONGER))}"
        raise ValueError(message)
    kind = "minute" if frequency in MINUTES else frequency
    return (("frequencyType", kind), ("frequency", str(MINUTES.get(frequency, 1))))


def missing_bars(response: RawResponse) -> str | None:
    """What an answer lacks that has no bars although there was a session to have some; None for any other answer.

    The source answers so in place of refusing when it is asked too often. Minute bars that lie further back than the
    source reaches, and windows not stated in the request, are no reason to expect any.
    """
    window = _asked_window(response.request)
    if response.status != 200 or window is None or not _is_empty(response.body):
        return None
    start, end = window
    days = sessions(start.astimezone(NEW_YORK).date(), min(end, response.received_time).astimezone(NEW_YORK).date())
    oldest = max(start, response.received_time - reach(response.request))
    held = [day for day in days if session_close(day) > oldest and session_open(day) < min(end, response.received_time)]
    return f"no bars where the calendar has {len(held)} session{'s' * (len(held) > 1)}" if held else None


def serves(answered: MarketDataRequest, wanted: MarketDataRequest) -> bool:
    """Whether an answer holds the last session that another request wants: the same bars, of a window around it."""
    held, asked = _asked_window(answered), _asked_window(wanted)
    if held is None or asked is None or _without_window(answered) != _without_window(wanted):
        return False
    (start, end), (first, last) = held, asked
    is_longer = wanted.param("frequencyType") != "minute"
    first = max(first, last - timedelta(days=1)) if is_longer else first
    return start <= first and end >= last


def _without_window(request: MarketDataRequest) -> tuple[str, tuple[tuple[str, str], ...]]:
    return request.path, tuple(pair for pair in request.params if pair[0] not in {"startDate", "endDate"})


def reach(request: MarketDataRequest) -> timedelta:
    """How far back the source certainly has such bars."""
    if request.param("frequencyType") != "minute":
        return timedelta(days=15 * 365)
    return timedelta(days=45 if request.param("frequency") == "1" else 240)


def _asked_window(request: MarketDataRequest) -> tuple[datetime, datetime] | None:
    try:
        start, end = (int(request.param(name) or "") for name in ("startDate", "endDate"))
        return datetime.fromtimestamp(start / 1000, UTC), datetime.fromtimestamp(end / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


class _Candles(msgspec.Struct):
    candles: list[msgspec.Raw]


# made here: two threads that decode a type for the first time at once crash the library
_CANDLES: Final = msgspec.json.Decoder(_Candles)


def _is_empty(body: bytes) -> bool:
    try:
        return not _CANDLES.decode(body).candles
    except NOT_STRICT:
        return False


def normalize(
    responses: Iterable[RawResponse],
    *,
    session_date: date,  # noqa: ARG001 - all datasets are called alike; a bar says itself which session it describes
) -> Normalized:
    """The bars of one capture as rows of SCHEMA, in wire order, each under the session it describes."""
    intake, frames, closes = Intake(), [SCHEMA.empty()], list[tuple[str, date, float]]()
    for response, history, request in usable_answers(responses, _read, intake):
        intake.counts += history.counts + history.bars.counts
        intake.reject(history.bad, symbol=history.symbol, snapshot_time=response.received_time, request=request)
        frames.append(_table(history, response.received_time))
        closes += history.official_closes()
        if history.frequency == "daily":
            intake.counts["missing_session"] += _missing_sessions(frames[-1]["session_date"])
    bars = pl.concat(frames)
    intake.counts += _differing_closes(bars, closes)
    return intake.normalized(bars)


@dataclass
class _History:
    """One price-history response, read: its header and bars, the bad ones, and what was seen."""

    header: Any
    bars: RowColumns
    bad: list[BadRow]
    counts: Counter[str]
    frequency: str = ""

    @property
    def symbol(self) -> str:
        """Whose bars they are."""
        return str(self.header.symbol)

    def official_closes(self) -> list[tuple[str, date, float]]:
        """Symbol, session and close before the first bar, where the answer states it."""
        close, stamp = self.header.previous_close, self.header.previous_close_date
        if not close or not stamp:
            return []
        return [(self.symbol, datetime.fromtimestamp(stamp / 1000, CENTRAL).date(), close)]


def _document_type(unknown: Unknown) -> type[msgspec.Struct]:
    bar: Any = row_type(BAR, unknown)
    return envelope_type(HISTORY, unknown, [("candles", list[bar])])


def _read(response: RawResponse) -> _History:
    """The bars of a response; raises ResponseRejectedError when none of it can be used."""
    history = read_body(response, strict=_read_strict, tolerant=_read_tolerant)
    if not history.bars.height and not history.bad:
        raise ResponseRejectedError("no_bars", "not one bar")
    require_symbol(history.symbol, response.request.symbols)
    history.frequency = frequency_of(response.request.params, history.bars.values("bar_time"))
    return history


def _read_strict(body: bytes) -> _History | None:
    """The bars by the fast path; None when a key is repeated."""
    document, unknown = decode_strict(body, _document_type, _PLACES)
    bar_keys = sum(map(stated_keys, document.candles)) if unknown else len(document.candles) * len(BAR.fields)
    if count_keys(body) > stated_keys(document) + bar_keys and repeated_keys(body):
        return None
    bars = RowColumns(BAR)
    bars.extend(document.candles, unknown)
    return _History(document, bars, [], unknown_around(unknown, BAR))


def _read_tolerant(body: bytes) -> _History:
    """The bars by the slow path, which keeps what can be read and names what cannot."""
    document = tolerant_object(body, "a price history")
    lists = required_members(document, ("candles",))
    header, counts = convert_header({name: document[name] for name in document if name != "candles"}, HISTORY)
    counts[f"repeated_field:{HISTORY.name}"] += isinstance(document, RepeatedKeys)
    found = [
        bar for listed in lists if listed is not None for bar in (listed if isinstance(listed, list) else [listed])
    ]
    good, bad, unknown = convert_rows(found, BAR)
    bars = RowColumns(BAR)
    bars.extend(good)
    return _History(header, bars, bad, counts + unknown + Counter(tolerant_parse=1))


def frequency_of(params: Iterable[tuple[str, str]], stamps: Sequence[float]) -> str:
    """The length of the bars of an answer: what was asked for, else what the stamps (epoch milliseconds) show.

    Raises ResponseRejectedError, unknown_frequency, when neither says.
    """
    query = dict(params)
    asked = query.get("frequencyType") or _DEFAULT_FREQUENCY.get(query.get("periodType", ""))
    if asked is None:
        shown = shown_frequency(sorted(set(stamps)))
        if shown is None:
            detail = "one bar alone does not show its length, and none was asked"
            raise ResponseRejectedError("unknown_frequency", detail)
        return shown
    name = asked if asked != "minute" or query.get("frequency", "1") == "1" else f"minute_{query['frequency']}"
    if name not in FREQUENCIES:
        raise ResponseRejectedError("unknown_frequency", f"asked for bars of frequency {name[:40]}")
    return name


def _table(history: _History, known_time: datetime) -> pl.DataFrame:
    bars = pl.DataFrame(history.bars.series()).with_columns(
        vendor.instant("bar_time"),
        vendor.whole("volume"),
        pl.lit(history.symbol).alias("symbol"),
        pl.lit(history.frequency).alias("frequency"),
        pl.lit(known_time, TIME).alias("known_time"),
    )
    return in_calendar(bars, history.frequency).select(SCHEMA.names)


def _missing_sessions(days: pl.Series) -> int:
    """Sessions between the first and the last of these dates that are not among them."""
    present = set(days.drop_nulls())
    return len(set(sessions(min(present), max(present))) - present) if present else 0


def _differing_closes(bars: pl.DataFrame, closes: Sequence[tuple[str, date, float]]) -> Counter[str]:
    """Daily bars whose close is more than a cent from the official one, by symbol; each bar counts once."""
    official = pl.DataFrame(closes, schema=_CLOSES, orient="row").unique()
    apart = ticks(pl.col("close")) - ticks(pl.col("official"))
    daily = bars.filter(pl.col("frequency") == "daily").join(official, on=("symbol", "session_date"))
    differing = daily.filter(apart.abs() > LARGEST_CLOSE_DIFFERENCE).unique(("symbol", "session_date", "known_time"))
    return Counter(f"official_close_differs:{symbol}" for symbol in differing["symbol"])


_CLOSES: Final = pl.Schema({"symbol": pl.String(), "session_date": pl.Date(), "official": pl.Float64()})


def revisions(frame: pl.DataFrame) -> pl.DataFrame:
    """Bars of several captures as one table: a bar that came again unchanged keeps its first known_time only.

    The order of rows does not matter; of different rows with one key the lesser stays.
    """
    bar = ("symbol", "frequency", "bar_time")
    values = ("open", "high", "low", "close", "volume", "is_complete")
    ordered = frame.sort(*SCHEMA.key, *values).unique(SCHEMA.key, keep="first", maintain_order=True)
    value = pl.struct(values)
    return ordered.filter((value != value.shift(1).over(bar)).fill_null(value=True))
