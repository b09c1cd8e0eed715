"""Price history: daily and minute bars, how they are asked for, their times, and which bars are acceptable.

One row per bar and the time it became known: a bar asked for again later may have changed, and both rows stand. The
source stamps daily and longer bars midnight US/Central, minute bars with their start.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from math import gcd
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
import polars as pl

from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market import vendor_values as vendor
from trade_analyst_pipeline.market.columns import TIME, Rule, epoch_milliseconds, table_schema
from trade_analyst_pipeline.market.normalized import Intake, Normalized, request_text
from trade_analyst_pipeline.market.sessions import (
    CALENDAR_END,
    CALENDAR_START,
    NEW_YORK,
    is_session,
    session_close,
    session_open,
    sessions,
)
from trade_analyst_pipeline.market.tolerant_json import (
    BadRow,
    convert_header,
    convert_rows,
    entries,
    parse_tolerant,
)
from trade_analyst_pipeline.market.wire_json import (
    RowColumns,
    RowShape,
    Unknown,
    decode_strict,
    row_type,
    wire_fields,
)
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse

NAME: Final = "ohlc"
PATH: Final = "/pricehistory"
CENTRAL: Final = ZoneInfo("America/Chicago")
EXTENDED_HOURS: Final = (time(4), time(20))

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
        "symbol:symbol:text! empty:is_empty:flag previousClose:previous_close:raw",
        "previousCloseDate:previous_close_date:raw",
    ),
)
_PLACES: Final = {"$": HISTORY.name, "$.candles[...]": BAR.name}

_MINUTES: Final = {"minute": 1, "minute_5": 5, "minute_10": 10, "minute_15": 15, "minute_30": 30}
# The least number of days between two bars.
_DAYS: Final = {"daily": 1, "weekly": 5, "monthly": 20}
_DEFAULT_FREQUENCY: Final = {"day": "minute", "month": "weekly", "year": "monthly", "ytd": "weekly"}


def _exact(column: str) -> pl.Expr:
    """A price as a whole number of 1/10000 dollar."""
    return (pl.col(column) * 10_000).round()


def _in_order(expression: pl.Expr) -> pl.Expr:
    """An expression over the bars of one answer, in the order they came."""
    return expression.over("symbol", "frequency", "known_time")


_IS_DAILY = pl.col("frequency") == "daily"
_IS_FLAT = (
    (pl.col("volume") > 0)
    & (pl.col("session_part") == "regular").fill_null(value=True)
    & (_exact("open") == _exact("close"))
    & (_exact("high") == _exact("low"))
    & (_exact("open") == _exact("high"))
)
_RETURN = _in_order(pl.col("close").log().diff().abs())
_USUAL_RETURN = _in_order(pl.col("close").log().diff().rolling_std(63).shift(1))


def _third_flat_in_a_row() -> pl.Expr:
    before, after = (_in_order(_IS_FLAT.shift(step, fill_value=False)) for step in (1, -1))
    before_that, after_that = (_in_order(_IS_FLAT.shift(step, fill_value=False)) for step in (2, -2))
    return _IS_FLAT & ((before & before_that) | (before & after) | (after & after_that))


def _on_grid() -> pl.Expr:
    minutes = pl.col("frequency").replace_strict(_MINUTES, default=None, return_dtype=pl.Int64)
    central = pl.col("bar_time").dt.convert_time_zone(str(CENTRAL)).dt.time()
    seconds = pl.col("bar_time").dt.epoch("ms")
    return pl.when(minutes.is_null()).then(central == time(0)).otherwise(seconds % (minutes * 60_000) == 0)


SCHEMA: Final = table_schema(
    NAME,
    "1.0",
    key=("symbol", "frequency", "bar_time", "known_time"),
    columns=(
        *("symbol", "frequency", "session_date", "bar_time", "known_time", "open", "high", "low", "close", "volume"),
        *("session_part", "is_complete"),
    ),
    required=("session_date", "open", "high", "low", "close", "volume"),
    rules=(
        Rule("open_not_positive", pl.col("open") > 0, "The open is above zero."),
        Rule("high_not_positive", pl.col("high") > 0, "The high is above zero."),
        Rule("low_not_positive", pl.col("low") > 0, "The low is above zero."),
        Rule("close_not_positive", pl.col("close") > 0, "The close is above zero."),
        Rule(
            "high_too_low",
            _exact("high") >= pl.max_horizontal(_exact("open"), _exact("low"), _exact("close")),
            "The high is not below open, low or close, compared in 1/10000 dollar.",
        ),
        Rule(
            "low_too_high",
            _exact("low") <= pl.min_horizontal(_exact("open"), _exact("high"), _exact("close")),
            "The low is not above open, high or close, compared in 1/10000 dollar.",
        ),
        Rule("negative_volume", pl.col("volume") >= 0, "The volume is not negative."),
        Rule("off_grid", _on_grid(), "A daily or longer bar starts at midnight US/Central, others on their minutes."),
        Rule(
            "not_a_session",
            _IS_DAILY.not_() | (pl.col("session_part") == "regular"),
            "A daily bar is of a session of the exchange.",
        ),
        Rule(
            "out_of_order",
            pl.col("bar_time") >= _in_order(pl.col("bar_time").cum_max()),
            "A bar is not before one that came earlier in the same answer.",
        ),
        Rule(
            "zero_volume_range",
            (pl.col("volume") > 0) | (_exact("high") == _exact("low")),
            "A bar without volume has one price.",
            "warning",
        ),
        Rule(
            "flat_bars",
            _third_flat_in_a_row().not_(),
            "Not three bars in a row of regular hours with volume and a single price.",
            "warning",
        ),
        Rule(
            "price_jump",
            (_RETURN <= 0.5) & (_IS_DAILY.not_() | (_RETURN <= 12 * _USUAL_RETURN).fill_null(value=True)),
            "The log return to the close is within 0.5; of daily bars also within 12 deviations of 63 sessions.",
            "warning",
        ),
        Rule("in_the_future", pl.col("bar_time") <= pl.col("known_time"), "The bar began before it became known."),
        Rule("outside_session", pl.col("session_part") != "outside", "The bar lies in a session.", "warning"),
    ),
)


def requests(symbols: Iterable[str], *, session_date: date, years: int = 2) -> list[MarketDataRequest]:
    """Per symbol the daily bars of `years` up to and including the session, and the session's one-minute bars.

    Minute bars are those of regular hours. Both ends are stated: without an end the source leaves the running session
    out. Raises ValueError on a day without a session.
    """
    first = session_date.replace(year=session_date.year - years, day=min(session_date.day, 28))
    daily = (
        *(("periodType", "year"), ("frequencyType", "daily"), ("frequency", "1")),
        ("startDate", str(epoch_milliseconds(datetime.combine(first, time(0), CENTRAL)))),
        ("endDate", str(epoch_milliseconds(session_close(session_date)))),
    )
    minutes = (
        *(("periodType", "day"), ("frequencyType", "minute"), ("frequency", "1")),
        ("startDate", str(epoch_milliseconds(session_open(session_date)))),
        ("endDate", str(epoch_milliseconds(session_close(session_date)))),
        ("needExtendedHoursData", "false"),
    )
    return [
        MarketDataRequest(NAME, PATH, (("symbol", symbol), *query), (symbol,))
        for symbol in symbols
        for query in (daily, minutes)
    ]


def normalize(
    responses: Iterable[RawResponse],
    *,
    session_date: date,  # noqa: ARG001 - all datasets are called alike; a bar says itself which session it describes
) -> Normalized:
    """The bars of one capture as rows of SCHEMA, in wire order, each under the session it describes."""
    intake, frames = Intake(), [SCHEMA.empty()]
    for response in responses:
        text = request_text(response.request.path, response.request.params)
        try:
            history = _read(response)
            frequency = frequency_of(response.request.params, history.bars.values("bar_time"))
        except ResponseRejectedError as error:
            intake.note_problem(error, symbols=response.request.symbols, request=text)
            continue
        intake.counts += history.counts + history.bars.counts
        intake.reject(history.bad, symbol=history.symbol, snapshot_time=response.received_time, request=text)
        frames.append(_table(history, frequency, response.received_time))
        if frequency == "daily":
            intake.counts["missing_session"] += _missing_sessions(frames[-1]["session_date"])
    return intake.normalized(pl.concat(frames))


@dataclass(frozen=True)
class _History:
    """One price-history response, read: its symbol, its bars as columns, the bad ones, and what was seen."""

    symbol: str
    bars: RowColumns
    bad: list[BadRow]
    counts: Counter[str]


def _document_type(unknown: Unknown) -> type[msgspec.Struct]:
    bar: Any = row_type(BAR, unknown)
    candles: Any = list[bar]
    return msgspec.defstruct(
        "history_document",
        [("candles", candles)],
        bases=(row_type(HISTORY, unknown),),
        kw_only=True,
        forbid_unknown_fields=True,
    )


def _read(response: RawResponse) -> _History:
    """The bars of a response; raises ResponseRejectedError when none of it can be used."""
    if response.status != 200:
        raise ResponseRejectedError("http_status", f"answered {response.status}")
    try:
        history = _read_strict(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        history = None
    history = history or _read_tolerant(response.body)
    if not history.bars.height and not history.bad:
        raise ResponseRejectedError("no_bars", "not one bar")
    if response.request.symbols and history.symbol not in response.request.symbols:
        asked = response.request.symbols[0]
        raise ResponseRejectedError("other_symbol", f"asked for {asked}, answered {history.symbol[:40]}")
    return history


def _read_strict(body: bytes) -> _History | None:
    """The bars by the fast path; None when a repeated key would hide one."""
    document, unknown = decode_strict(body, _document_type, _PLACES)
    if body.count(b'"datetime"') != len(document.candles):
        return None
    bars = RowColumns(BAR)
    bars.extend(document.candles, unknown)
    counts = Counter(f"unknown_field:{found.shape}.{found.wire}" for found in unknown if found.shape != BAR.name)
    return _History(document.symbol, bars, [], counts)


def _read_tolerant(body: bytes) -> _History:
    """The bars by the slow path, which keeps what can be read and names what cannot."""
    document = parse_tolerant(body)
    if not isinstance(document, dict):
        raise ResponseRejectedError("not_an_object", f"{type(document).__name__} where a price history belongs")
    lists = [value for name, value in entries(document) if name == "candles"]
    if not lists:
        reason = "error_body" if document.keys() & {"errors", "fault", "message"} else "missing_field"
        raise ResponseRejectedError(reason, f"no candles: {json.dumps(document)[:200]}")
    header, counts = convert_header({name: document[name] for name in document if name != "candles"}, HISTORY)
    found = [
        bar for listed in lists if listed is not None for bar in (listed if isinstance(listed, list) else [listed])
    ]
    good, bad, unknown = convert_rows(found, BAR)
    bars = RowColumns(BAR)
    bars.extend(good)
    symbol: str = header.symbol  # type: ignore[attr-defined]  # a struct made from HISTORY
    return _History(symbol, bars, bad, counts + unknown + Counter(tolerant_parse=1))


def frequency_of(params: Iterable[tuple[str, str]], stamps: Sequence[float]) -> str:
    """The length of the bars of an answer: what was asked for, else what the stamps (epoch milliseconds) show.

    Raises ResponseRejectedError, unknown_frequency, when neither says.
    """
    query = dict(params)
    asked = query.get("frequencyType") or _DEFAULT_FREQUENCY.get(query.get("periodType", ""))
    if asked is None:
        return _shown_frequency(sorted(set(stamps)))
    name = asked if asked != "minute" or query.get("frequency", "1") == "1" else f"minute_{query['frequency']}"
    if name not in _MINUTES and name not in _DAYS:
        raise ResponseRejectedError("unknown_frequency", f"asked for bars of frequency {name[:40]}")
    return name


def _shown_frequency(stamps: Sequence[float]) -> str:
    gaps = [int(later - earlier) for earlier, later in pairwise(stamps)]
    if not gaps:
        raise ResponseRejectedError("unknown_frequency", "one bar alone does not show its length, and none was asked")
    instants = [datetime.fromtimestamp(stamp / 1000, CENTRAL) for stamp in stamps]
    if all(instant.time() == time(0) for instant in instants):
        days = min(round(gap / 86_400_000) for gap in gaps)
        return next(name for name, least in reversed(_DAYS.items()) if days >= least)
    step = gcd(*gaps) // 60_000
    return next((name for name, minutes in reversed(_MINUTES.items()) if step and step % minutes == 0), "minute")


def _table(history: _History, frequency: str, known_time: datetime) -> pl.DataFrame:
    zone = NEW_YORK if frequency in _MINUTES else CENTRAL
    bars = pl.DataFrame(history.bars.series()).with_columns(vendor.instant("bar_time"), vendor.whole("volume"))
    bars = bars.with_columns(
        pl.lit(history.symbol).alias("symbol"),
        pl.lit(frequency).alias("frequency"),
        pl.lit(known_time, TIME).alias("known_time"),
        pl.col("bar_time").dt.convert_time_zone(str(zone)).dt.date().alias("session_date"),
    )
    hours = _hours(bars["session_date"].unique(), frequency)
    bars = bars.join(hours, on="session_date", how="left", maintain_order="left", nulls_equal=True)
    return bars.with_columns(_session_part(frequency), _is_complete(frequency)).select(SCHEMA.names)


def _hours(days: pl.Series, frequency: str) -> pl.DataFrame:
    """For each date: whether our calendar reaches it, open and close of its session, the last close of the period."""
    rows = []
    for day in days:
        is_known = day is not None and CALENDAR_START <= day <= CALENDAR_END
        session = is_known and is_session(day)
        opened, closed = (session_open(day), session_close(day)) if session else (None, None)
        rows.append((day, is_known, opened, closed, _last_close(day, frequency) if is_known else None))
    return pl.DataFrame(rows, schema=_HOURS, orient="row")


_HOURS: Final = pl.Schema(
    {
        "session_date": pl.Date(),
        "is_known": pl.Boolean(),
        "open_time": TIME,
        "close_time": TIME,
        "last_close": TIME,
    }
)


def _last_close(day: date, frequency: str) -> datetime | None:
    """When the last session of the period that starts on `day` closes; null beyond the calendar."""
    if frequency not in {"weekly", "monthly"}:
        return session_close(day) if is_session(day) else None
    following = (
        day + timedelta(days=7) if frequency == "weekly" else (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    )
    held = sessions(day, following - timedelta(days=1))
    return session_close(held[-1]) if held and following <= CALENDAR_END else None


def _session_part(frequency: str) -> pl.Expr:
    """Null where the calendar does not reach."""
    is_session_day = pl.col("open_time").is_not_null()
    start = pl.col("bar_time")
    if frequency in _MINUTES:
        hour = start.dt.convert_time_zone(str(NEW_YORK)).dt.time()
        is_regular = start.is_between(pl.col("open_time"), pl.col("close_time"), closed="left")
        is_extended = is_session_day & (hour >= EXTENDED_HOURS[0]) & (hour < EXTENDED_HOURS[1])
    else:
        is_regular, is_extended = is_session_day | pl.lit(frequency != "daily"), pl.lit(value=False)
    part = pl.when(is_regular).then(pl.lit("regular")).when(is_extended).then(pl.lit("extended"))
    return pl.when(pl.col("is_known")).then(part.otherwise(pl.lit("outside"))).alias("session_part")


def _is_complete(frequency: str) -> pl.Expr:
    minutes = _MINUTES.get(frequency)
    end = pl.col("bar_time") + timedelta(minutes=minutes) if minutes else pl.col("last_close")
    return (end <= pl.col("known_time")).alias("is_complete")


def _missing_sessions(days: pl.Series) -> int:
    """Sessions between the first and the last of these dates that are not among them."""
    present = set(days.drop_nulls())
    return len(set(sessions(min(present), max(present))) - present) if present else 0


def revisions(frame: pl.DataFrame) -> pl.DataFrame:
    """Bars of several captures as one table: a bar that came again unchanged keeps its first known_time only.

    The order of rows does not matter; of different rows with one key the lesser stays.
    """
    bar = ("symbol", "frequency", "bar_time")
    values = ("open", "high", "low", "close", "volume", "is_complete")
    ordered = frame.sort(*SCHEMA.key, *values).unique(SCHEMA.key, keep="first", maintain_order=True)
    value = pl.struct(values)
    return ordered.filter((value != value.shift(1).over(bar)).fill_null(value=True))
