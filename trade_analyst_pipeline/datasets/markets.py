"""Market hours: how they are asked for, and what each product of a market becomes.

One row per product, date and snapshot. On a day without trading the source names the product as the market and states
no hours. Hours come with the offset of New York and may consist of several spans: the columns have the first start and
the last end of each part, `session_hours` all of them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

import msgspec
import polars as pl

from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market import vendor_values as vendor
from trade_analyst_pipeline.market.answers import read_body, refuse_error_body, tolerant_object, usable_answers
from trade_analyst_pipeline.market.columns import TIME, Rule, table_schema
from trade_analyst_pipeline.market.normalized import Intake, Normalized
from trade_analyst_pipeline.market.row_layout import RowLayout
from trade_analyst_pipeline.market.sessions import (
    CALENDAR_END,
    CALENDAR_START,
    is_session,
    session_close,
    session_open,
)
from trade_analyst_pipeline.market.tolerant_json import (
    BadRow,
    RepeatedKeys,
    convert_rows,
    entries,
    repeated_field,
    repeated_keys,
)
from trade_analyst_pipeline.market.wire_json import (
    NOT_STRICT,
    RowColumns,
    RowShape,
    Unknown,
    decode_strict,
    row_type,
    wire_fields,
)
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse

NAME: Final = "markets"
PATH: Final = "/markets"
MARKETS: Final = ("equity", "option", "bond", "future", "forex")

PRODUCT: Final = RowShape(
    "market_product",
    wire_fields(
        "date:hours_date:text! marketType:market_type:text product:market_product:text! productName:product_name:text",
        "isOpen:is_open:flag! sessionHours:session_hours:raw",
    ),
)
_PLACES: Final = {"$[...][...]": PRODUCT.name}
_PARTS: Final = {"preMarket": "pre_market", "regularMarket": "regular", "postMarket": "post_market"}
_TIMES: Final = tuple(f"{part}_{end}_time" for part in _PARTS.values() for end in ("open", "close"))
_HOURS: Final = "session_hours"
LAYOUT: Final = RowLayout(
    rows=("* *",),
    row=PRODUCT,
    made_of=dict.fromkeys(_TIMES, (_HOURS,)),
    beside={"market": "name", "session_date": "capture", "snapshot_time": "arrival"},
)

_EXPECTED: Final = {"market": frozenset(MARKETS)}
# The products that trade in the hours of the exchange whose calendar we keep.
_IN_CALENDAR: Final = frozenset({("equity", "EQ"), ("equity", "equity"), ("option", "EQO")})

_HAS_HOURS: Final = pl.any_horizontal(pl.col(_TIMES).is_not_null())

SCHEMA: Final = table_schema(
    NAME,
    "1.0",
    key=("market", "market_product", "hours_date", "snapshot_time"),
    event_time="snapshot_time",
    known_time="snapshot_time",
    columns=(
        *("market", "market_product", "session_date", "snapshot_time", "hours_date", "market_type", "product_name"),
        *("is_open", *_TIMES, "session_hours"),
    ),
    required=("session_date", "is_open"),
    rules=(
        *(
            Rule(
                f"{part}_hours_reversed",
                pl.col(f"{part}_open_time") < pl.col(f"{part}_close_time"),
                f"The {part.replace('_', '-')} hours start before they end.",
            )
            for part in _PARTS.values()
        ),
        Rule("closed_with_hours", pl.col("is_open") | ~_HAS_HOURS, "What is closed has no hours.", "warning"),
        Rule("open_without_hours", ~pl.col("is_open") | _HAS_HOURS, "What is open has hours.", "warning"),
    ),
)


def requests(markets: Iterable[str] = MARKETS, *, session_date: date) -> list[MarketDataRequest]:
    """The request for the hours of these markets on a date, which the source allows to lie from today to a year on."""
    named = tuple(markets)
    query = (("markets", ",".join(named)), ("date", session_date.isoformat()))
    return [MarketDataRequest(NAME, PATH, query, named)] if named else []


def normalize(responses: Iterable[RawResponse], *, session_date: date) -> Normalized:
    """The hours of one capture as rows of SCHEMA."""
    intake, table = Intake(), _Table(session_date)
    for response, answer, request in usable_answers(responses, _read, intake):
        intake.counts += answer.counts
        intake.reject(answer.bad, symbol=None, snapshot_time=response.received_time, request=request)
        for product in answer.found:
            table.add(product, answer.unknown, response.received_time)
    return intake.normalized(table.finished(intake))


@dataclass(frozen=True)
class ExchangeHours:
    """Regular trading of the exchange on a day as the source states it, UTC; both None where it is shut."""

    opens: datetime | None
    closes: datetime | None


def exchange_hours(responses: Iterable[RawResponse], *, session_date: date) -> ExchangeHours | None:
    """What the newest answer that tells of that day says of stocks; None where none does, or not in words to trust."""
    table = normalize(responses, session_date=session_date).frame
    told = table.filter((pl.col("market") == "equity") & (pl.col("hours_date") == session_date))
    newest = told.filter(pl.col("snapshot_time") == pl.col("snapshot_time").max())
    products = newest.select("is_open", "regular_open_time", "regular_close_time").unique().rows()
    if len(products) != 1:
        return None
    ((is_open, opens, closes),) = products
    if not is_open:
        return ExchangeHours(None, None)
    return ExchangeHours(opens, closes) if opens and closes and opens < closes else None


Span = tuple[str, str, datetime, datetime]  # part and text as sent, start and end in UTC


@dataclass(frozen=True)
class _Product:
    """One product, read: its market, its members, and the spans of its hours in wire order."""

    market: str
    members: Any
    spans: tuple[Span, ...]


@dataclass
class _Answer:
    """One response, read: its products with the unknown fields, the bad ones, what was seen."""

    found: list[_Product] = field(default_factory=list)
    unknown: Unknown = frozenset()
    bad: list[BadRow] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, market: str, product: Any) -> None:
        """Take on a product, or what is wrong with its hours."""
        try:
            spans = tuple(_spans(bytes(product.session_hours)))
        except (*NOT_STRICT, ValueError, OverflowError) as error:
            source = f"{{{json.dumps(market)}: {msgspec.json.encode(product).decode()}}}"
            self.bad.append(BadRow(f"type_{_HOURS}", str(error), source))
        else:
            self.found.append(_Product(market, product, spans))


class _Span(msgspec.Struct):
    start: str
    end: str


_STATED_HOURS: Final = msgspec.json.Decoder(dict[str, list[_Span] | None] | None)


def _spans(raw: bytes) -> Iterator[Span]:
    """The spans of a product; raises one of NOT_STRICT or ValueError when they are none."""
    parts = _STATED_HOURS.decode(raw or b"null")
    for part, spans in (parts or {}).items():
        for span in spans or ():
            yield part, f"{part} {span.start}/{span.end}", _instant(span.start), _instant(span.end)


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        message = f"{text[:40]!r} has no offset"
        raise ValueError(message)
    return instant.astimezone(UTC)


def _read(response: RawResponse) -> _Answer:
    """The products of a response; raises ResponseRejectedError when it is no answer to a request for hours."""
    answer = read_body(response, strict=_read_strict, tolerant=_read_tolerant)
    if not answer.found and not answer.bad:
        raise ResponseRejectedError("no_markets", "not one market")
    return answer


def _document_type(unknown: Unknown) -> Any:
    product: Any = row_type(PRODUCT, unknown)
    return dict[str, dict[str, product]]


def _read_strict(body: bytes) -> _Answer | None:
    """The products by the fast path; None when a key is repeated, or there is no market at all."""
    document, unknown = decode_strict(body, _document_type, _PLACES)
    if not document or repeated_keys(body):
        return None
    answer = _Answer(unknown=unknown)
    for market, products in document.items():
        for product in products.values():
            answer.add(market, product)
    return answer


def _read_tolerant(body: bytes) -> _Answer:
    """The products by the slow path, which keeps what can be read and names what cannot."""
    document = tolerant_object(body, "market hours")
    refuse_error_body(document)
    answer = _Answer(counts=Counter(tolerant_parse=1))
    for market, products in entries(document):
        for value in [value for _, value in entries(products)] if isinstance(products, dict) else [products]:
            _read_product(market, value, answer)
    return answer


def _read_product(market: str, value: Any, answer: _Answer) -> None:
    """Add one product to the answer, or the rule it broke."""
    source = json.dumps({market: value})
    repeated = _repeated_inside(value)
    if repeated is not None:
        answer.bad.append(repeated_field(repeated)._replace(source=source))
    elif not _is_text(market):
        answer.bad.append(BadRow("encoding", "the name of the market holds what is no UTF-8 text", source))
    else:
        good, bad, unknown = convert_rows([value], PRODUCT)
        answer.counts += unknown
        answer.bad += [row._replace(source=source) for row in bad]
        for product in good:
            answer.add(market, product)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _repeated_inside(value: Any) -> RepeatedKeys | None:
    """The first object at or below a value some of whose keys came more than once."""
    if isinstance(value, RepeatedKeys):
        return value
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for found in map(_repeated_inside, members) if found is not None), None)


class _Table:
    """The products of one capture becoming one table."""

    def __init__(self, session_date: date) -> None:
        self._session_date = session_date
        self._products = RowColumns(PRODUCT)
        self._around: list[tuple[Any, ...]] = []

    def add(self, product: _Product, unknown: Unknown, arrived: datetime) -> None:
        """Take on one product."""
        self._products.extend([product.members], unknown)
        text = "; ".join(stated for _, stated, _, _ in product.spans) or None
        self._around.append((product.market, self._session_date, arrived, *_ends(product.spans), text))

    def finished(self, intake: Intake) -> pl.DataFrame:
        """The table of everything added; what was seen goes to the intake."""
        around = pl.DataFrame(self._around, schema=_AROUND, orient="row")
        wire = pl.concat([around, pl.DataFrame(self._products.series())], how="horizontal")
        table = wire.with_columns(vendor.stated_day("hours_date")).select(SCHEMA.names)
        intake.counts += self._products.counts + vendor.unexpected_values(table, _EXPECTED)
        intake.counts += Counter(_against_calendar(table)) + vendor.sentinels(wire, table, ["hours_date"])
        return table


_AROUND: Final = pl.Schema(
    {
        "market": pl.String(),
        "session_date": pl.Date(),
        "snapshot_time": TIME,
        **dict.fromkeys(_TIMES, TIME),
        "session_hours": pl.String(),
    }
)


def _ends(spans: Iterable[Span]) -> Iterator[datetime | None]:
    """First start and last end of each part, in the order of the columns."""
    listed = list(spans)
    for part in _PARTS:
        of_part = [(start, end) for name, _, start, end in listed if name == part]
        yield min((start for start, _ in of_part), default=None)
        yield max((end for _, end in of_part), default=None)


def _against_calendar(table: pl.DataFrame) -> Iterator[str]:
    """A count for each product whose regular hours are not those of the calendar that everything else goes by."""
    for row in table.rows(named=True):
        day = row["hours_date"]
        if (row["market"], row["market_product"]) in _IN_CALENDAR and day and CALENDAR_START <= day <= CALENDAR_END:
            trades = is_session(day)
            hours = (session_open(day), session_close(day)) if trades else (None, None)
            if (row["is_open"], row["regular_open_time"], row["regular_close_time"]) != (trades, *hours):
                yield f"calendar_differs:{row['market']}"
