"""Price history: daily and minute bars, how they are asked for, their times, and which bars are acceptable.

One row per bar and the time it became known: a bar asked for again later may have changed, and both rows stand. The
source stamps daily and longer bars midnight US/Central, minute bars with their start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
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
from trade_analyst_pipeline.market.bars import CENTRAL, FREQUENCIES, in_calendar, shown_frequency
from trade_analyst_pipeline.market.columns import TIME, epoch_milliseconds, table_schema
from trade_analyst_pipeline.market.normalized import Intake, Normalized
from trade_analyst_pipeline.market.prices import ticks
from trade_analyst_pipeline.market.sessions import session_close, session_open, sessions
from trade_analyst_pipeline.market.tolerant_json import (
    BadRow,
    RepeatedKeys,
    convert_header,
    convert_rows,
    repeated_keys,
)
from trade_analyst_pipeline.market.wire_json import (
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

_DEFAULT_FREQUENCY: Final = {"day": "minute", "month": "weekly", "year": "monthly", "ytd": "weekly"}


SCHEMA: Final = table_schema(
    NAME,
    "1.0",
    key=("symbol", "frequency", "bar_time", "known_time"),
    columns=(
        *("symbol", "frequency", "session_date", "bar_time", "known_time", "open", "high", "low", "close", "volume"),
        *("session_part", "is_complete"),
    ),
    required=("session_date", "open", "high", "low", "close", "volume"),
    rules=(*BAR_RULES, *AGREEMENT_RULES),
)


def requests(symbols: Iterable[str], *, session_date: date, years: int = 2) -> list[MarketDataRequest]:
    """Per symbol the daily bars of `years` up to and including the session, and the session's one-minute bars.

    Minute bars are those of regular hours, with the official close of the session before. Both ends are stated:
    without an end the source leaves the running session out. Raises ValueError on a day without a session.
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
        *(("needExtendedHoursData", "false"), ("needPreviousClose", "true")),
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
