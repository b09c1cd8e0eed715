"""Quotes of any instrument: how they are asked for, how the blocks of each entry become one row, which are acceptable.

One row per symbol and snapshot; columns that do not apply to an instrument are null. The source answers what it knows
and lists the rest, so an unknown symbol is a problem of that symbol alone. A future asked for by its root is answered
under the contract in front: the row has both names.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

import msgspec
import polars as pl

from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market.answers import (
    ERROR_MEMBERS,
    read_body,
    refuse_error_body,
    tolerant_object,
    usable_answers,
)
from trade_analyst_pipeline.market.columns import TIME, table_schema
from trade_analyst_pipeline.market.normalized import Intake, Normalized
from trade_analyst_pipeline.market.quote_rules import QUOTE_RULES
from trade_analyst_pipeline.market.quote_status import fresh_since
from trade_analyst_pipeline.market.quote_values import quote_table
from trade_analyst_pipeline.market.row_layout import RowLayout
from trade_analyst_pipeline.market.sessions import Product, option_product
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
    NOTHING_UNKNOWN,
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

NAME: Final = "quotes"
PATH: Final = "/quotes"
MAX_SYMBOLS: Final = 500

ENTRY: Final = RowShape(
    "entry",
    wire_fields(
        "assetMainType:asset_type:text! assetSubType:asset_sub_type:text quoteType:quote_type:text",
        "realtime:is_realtime:flag ssid:security_id:whole symbol:symbol:text!",
    ),
)
QUOTE: Final = RowShape(
    "quote",
    wire_fields(
        "52WeekHigh:high_52_week:number 52WeekLow:low_52_week:number askMICId:ask_venue:text askPrice:ask:number",
        "askSize:ask_size:whole askTime:ask_time:instant bidMICId:bid_venue:text bidPrice:bid:number",
        "bidSize:bid_size:whole bidTime:bid_time:instant closePrice:previous_close:number delta:vendor_delta:model",
        "futurePercentChange:future_change_pct:number gamma:vendor_gamma:model highPrice:high:number",
        "indAskPrice:indicative_ask:number indBidPrice:indicative_bid:number",
        "indQuoteTime:indicative_quote_time:instant impliedYield:implied_yield:number",
        "lastMICId:last_venue:text lastPrice:last:number lastSize:last_size:whole",
        "lowPrice:low:number mark:mark:number markChange:mark_change:number markPercentChange:mark_change_pct:number",
        "moneyIntrinsicValue:intrinsic_value:number nAV:net_asset_value:number netChange:net_change:number",
        "netPercentChange:net_change_pct:number openInterest:open_interest:whole openPrice:open:number",
        "postMarketChange:post_market_change:number postMarketPercentChange:post_market_change_pct:number",
        "quoteTime:quote_time:instant quotedInSession:is_quoted_in_session:flag rho:vendor_rho:model",
        "securityStatus:security_status:text settleTime:settle_time:instant settlementPrice:quoted_settlement:number",
        "settlemetPrice:misspelt_settlement:number",
        "theoreticalOptionValue:vendor_theoretical_value:model theta:vendor_theta:model tick:tick_size:number",
        "tickAmount:tick_value:number timeValue:time_value:number totalVolume:volume:whole",
        "tradeTime:trade_time:instant underlyingPrice:underlying_price:model vega:vendor_vega:model",
        "volatility:vendor_implied_volatility:model",
    ),
)
REFERENCE: Final = RowShape(
    "reference",
    wire_fields(
        "contractType:option_type:text cusip:cusip:text daysToExpiration:days_to_expiration:whole",
        "deliverables:deliverables:text description:description:text exchange:exchange_code:text",
        "exchangeName:exchange_name:text exerciseType:exercise_type:text",
        "expirationDate:future_option_expiration:instant expirationDay:expiration_day:whole",
        "expirationMonth:expiration_month:whole expirationStyle:expiration_style:text",
        "expirationType:expiration_type:text",
        "expirationYear:expiration_year:whole fsiDesc:financial_status:text futureActiveSymbol:active_symbol:text",
        "futureExpirationDate:future_expiration:instant futureIsActive:is_active:flag",
        "futureIsTradable:is_future_tradable:flag futureMultiplier:future_multiplier:number",
        "futurePriceFormat:price_format:text futureSettlementPrice:settlement_price:number",
        "futureTradingHours:future_hours:text htbQuantity:hard_to_borrow_quantity:number",
        "htbRate:hard_to_borrow_rate:number isHardToBorrow:is_hard_to_borrow:flag isPennyPilot:is_penny_pilot:flag",
        "isShortable:is_shortable:flag isTradable:is_tradable:flag lastTradingDay:last_trading_date:instant",
        "marketMaker:market_maker:text multiplier:multiplier:number otcMarketTier:otc_market_tier:text",
        "product:product:text settlementType:settlement_type:text strikePrice:strike:number",
        "tradingHours:trading_hours:text underlying:underlying_symbol:text",
        "underlyingAssetType:underlying_asset_type:text uvExpirationType:uv_expiration_type:raw",
    ),
)
REGULAR: Final = RowShape(
    "regular",
    wire_fields(
        "regularMarketLastPrice:regular_last:number regularMarketLastSize:regular_last_size:whole",
        "regularMarketNetChange:regular_net_change:number regularMarketPercentChange:regular_net_change_pct:number",
        "regularMarketTradeTime:regular_trade_time:instant",
    ),
)
EXTENDED: Final = RowShape(
    "extended",
    wire_fields(
        "askPrice:extended_ask:number askSize:extended_ask_size:whole bidPrice:extended_bid:number",
        "bidSize:extended_bid_size:whole lastPrice:extended_last:number lastSize:extended_last_size:whole",
        "mark:extended_mark:number quoteTime:extended_quote_time:instant totalVolume:extended_volume:whole",
        "tradeTime:extended_trade_time:instant",
    ),
)
FUNDAMENTAL: Final = RowShape(
    "fundamental",
    wire_fields(
        "avg10DaysVolume:average_volume_10_days:number avg1YearVolume:average_volume_1_year:number",
        "declarationDate:dividend_declaration_date:text divAmount:dividend_amount:number",
        "divExDate:dividend_ex_date:text divFreq:dividend_frequency:whole divPayAmount:dividend_pay_amount:number",
        "divPayDate:dividend_pay_date:text divYield:dividend_yield:number eps:earnings_per_share:number",
        "fundLeverageFactor:fund_leverage_factor:number fundStrategy:fund_strategy:text",
        "lastEarningsDate:last_earnings_date:text nextDivExDate:next_dividend_ex_date:text",
        "nextDivPayDate:next_dividend_pay_date:text peRatio:price_earnings_ratio:number",
    ),
)
_BLOCKS: Final = (QUOTE, REFERENCE, REGULAR, EXTENDED, FUNDAMENTAL)
_PLACES: Final = {"$": ENTRY.name, **{f"$.{block.name}": block.name for block in _BLOCKS}}

_QUOTE_SIDES: Final = ("bid", "ask", "bid_size", "ask_size", "quote_time")
LAYOUT: Final = RowLayout(
    rows=("*",),
    passed_over=frozenset({"errors"}),
    row=ENTRY,
    blocks=_BLOCKS,
    made_of={
        "requested_symbol": ("symbol", "product", "is_active", "active_symbol"),
        "bid": ("ask",),
        "ask": ("bid",),
        "quote_status": (*_QUOTE_SIDES, "asset_type", "underlying_symbol"),
        "net_change_pct": ("future_change_pct",),
        "settlement_price": ("quoted_settlement", "misspelt_settlement"),
        "expiration_date": (
            *("expiration_year", "expiration_month", "expiration_day"),
            *("future_expiration", "future_option_expiration"),
        ),
        "multiplier": ("future_multiplier",),
        "is_tradable": ("is_future_tradable",),
        "trading_hours": ("future_hours",),
        "vendor_implied_volatility": ("asset_type",),
    },
    beside={
        "requested_symbol": "request",
        "session_date": "capture",
        "snapshot_time": "arrival",
        "quote_status": "arrival",
    },
)

SCHEMA: Final = table_schema(
    NAME,
    "1.1",
    key=("symbol", "snapshot_time"),
    event_time="snapshot_time",
    known_time="snapshot_time",
    columns=(
        *("symbol", "requested_symbol", "session_date", "snapshot_time", "asset_type", "asset_sub_type", "quote_type"),
        *("is_realtime", "security_id", "security_status", "bid", "ask", "quote_status", "bid_size", "ask_size"),
        *(
            "bid_time",
            "ask_time",
            "bid_venue",
            "ask_venue",
            "quote_time",
            "last",
            "last_size",
            "last_venue",
            "trade_time",
            "mark",
        ),
        *("mark_change", "mark_change_pct", "net_change", "net_change_pct", "open", "high", "low", "previous_close"),
        *("high_52_week", "low_52_week", "volume", "open_interest", "net_asset_value", "post_market_change"),
        *("post_market_change_pct", "regular_last", "regular_last_size", "regular_net_change"),
        *("regular_net_change_pct", "regular_trade_time", "extended_bid", "extended_ask", "extended_bid_size"),
        *("extended_ask_size", "extended_last", "extended_last_size", "extended_mark", "extended_volume"),
        *("extended_quote_time", "extended_trade_time", "indicative_bid", "indicative_ask", "indicative_quote_time"),
        *("underlying_symbol", "underlying_asset_type", "underlying_price", "option_type", "expiration_date"),
        *("days_to_expiration", "last_trading_date", "strike", "multiplier", "settlement_type", "expiration_type"),
        *(
            "exercise_type",
            "expiration_style",
            "is_penny_pilot",
            "deliverables",
            "vendor_implied_volatility",
            "vendor_delta",
        ),
        *("vendor_gamma", "vendor_theta", "vendor_vega", "vendor_rho", "vendor_theoretical_value"),
        *("intrinsic_value", "time_value", "implied_yield", "tick_size", "tick_value", "settlement_price"),
        *("settle_time", "is_quoted_in_session", "is_active", "is_tradable", "active_symbol", "product"),
        *("price_format", "trading_hours", "market_maker", "description", "cusip", "exchange_code", "exchange_name"),
        *("is_shortable", "is_hard_to_borrow", "hard_to_borrow_quantity", "hard_to_borrow_rate", "otc_market_tier"),
        *("financial_status", "average_volume_10_days", "average_volume_1_year", "dividend_yield"),
        *("dividend_amount", "dividend_pay_amount", "dividend_frequency", "dividend_declaration_date"),
        *("dividend_ex_date", "dividend_pay_date", "next_dividend_ex_date", "next_dividend_pay_date"),
        *("last_earnings_date", "earnings_per_share", "price_earnings_ratio", "fund_leverage_factor"),
        "fund_strategy",
    ),
    required=("session_date", "asset_type", "quote_status"),
    rules=QUOTE_RULES,
)


def requests(symbols: Iterable[str]) -> list[MarketDataRequest]:
    """Requests for all blocks of each symbol, each symbol once, at most 500 in one request."""
    wanted = tuple(dict.fromkeys(symbols))
    batches = [wanted[start : start + MAX_SYMBOLS] for start in range(0, len(wanted), MAX_SYMBOLS)]
    return [MarketDataRequest(NAME, PATH, (("symbols", ",".join(batch)),), batch) for batch in batches]


def normalize(responses: Iterable[RawResponse], *, session_date: date) -> Normalized:
    """The quotes of one capture as rows of SCHEMA; symbols the source does not know or leaves out are problems."""
    intake = Intake()
    table = _Table(session_date, intake)
    for response, answer, request in usable_answers(responses, _read, intake):
        table.add(response, answer, request)
    return intake.normalized(table.finished())


@dataclass
class _Answer:
    """One response, read: its entries with their keys and unknown fields, what is wrong, and the symbols not known."""

    found: list[tuple[str, Any, Unknown]] = field(default_factory=list)
    bad: list[tuple[str, BadRow]] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class _Table:
    """Quote responses of one capture becoming one table."""

    def __init__(self, session_date: date, intake: Intake) -> None:
        self._session_date = session_date
        self._intake = intake
        self._entries = RowColumns(ENTRY)
        self._blocks = [RowColumns(block) for block in _BLOCKS]
        self._beside: list[tuple[str | None, date, datetime, datetime]] = []

    def add(self, response: RawResponse, answer: _Answer, request: str) -> None:
        """Take on the entries of one response; `request` is what asked for them, as text."""
        arrived = response.received_time
        for problem, symbols in _unanswered(answer, response.request.symbols):
            self._intake.note_problem(problem, symbols=symbols, request=request)
        for symbol, row in answer.bad:
            self._intake.reject([row], symbol=symbol, snapshot_time=arrived, request=request)
        self._intake.counts += answer.counts
        for key, entry, unknown in answer.found:
            self._add_row(entry, unknown, arrived, _requested(key, entry, response.request.symbols))

    def _add_row(self, entry: Any, unknown: Unknown, snapshot_time: datetime, requested: str | None) -> None:
        self._entries.extend([_only(entry, ENTRY, unknown)], unknown)
        for columns in self._blocks:
            block = getattr(entry, columns.shape.name)
            columns.extend(
                [row_type(columns.shape)() if block is None else block], unknown if block else NOTHING_UNKNOWN
            )
        fresh = fresh_since(snapshot_time, self._session_date, _product(entry))
        self._beside.append((requested, self._session_date, snapshot_time, fresh))

    def finished(self) -> pl.DataFrame:
        """The table of everything added."""
        parts = [self._entries, *self._blocks]
        beside = pl.DataFrame(self._beside, schema=_BESIDE, orient="row")
        wire = pl.concat([beside, *(pl.DataFrame(columns.series()) for columns in parts)], how="horizontal")
        table, counts = quote_table(wire, SCHEMA.names)
        self._intake.counts += sum((columns.counts for columns in parts), counts)
        return table


_BESIDE: Final = pl.Schema(
    {"requested_symbol": pl.String(), "session_date": pl.Date(), "snapshot_time": TIME, "fresh_since": TIME}
)


def _only(entry: Any, shape: RowShape, unknown: Unknown) -> msgspec.Struct:
    """The part of an entry that is declared in one shape."""
    kind = row_type(shape, unknown)
    return kind(**{name: getattr(entry, name) for name in kind.__struct_fields__})


def _product(entry: Any) -> Product | None:
    """Which trading hours decide whether a quote is stale; none for what trades round the clock."""
    if entry.asset_type == "OPTION":
        underlying = entry.reference.underlying_symbol if entry.reference else None
        return option_product(underlying or "")
    return "regular" if entry.asset_type == "EQUITY" else None


def _entry_type(unknown: Unknown) -> type[msgspec.Struct]:
    return envelope_type(ENTRY, unknown, [(block.name, row_type(block, unknown) | None, None) for block in _BLOCKS])


def _read(response: RawResponse) -> _Answer:
    """The entries of a response; raises ResponseRejectedError when it is no answer to a request for quotes."""
    answer = read_body(response, strict=_read_strict, tolerant=_read_tolerant)
    if not answer.found and not answer.bad and not answer.invalid:
        raise ResponseRejectedError("no_quotes", "not one entry")
    return answer


def _read_strict(body: bytes) -> _Answer | None:
    """The entries by the fast path; None when a key is repeated."""
    members = _MEMBERS.decode(body)
    errors = _ERRORS.decode(members.pop("errors")) if "errors" in members else _Errors()
    if body.count(b'"assetMainType"') != len(members):
        return None
    answer = _Answer(invalid=errors.symbols)
    for key, raw in members.items():
        entry, unknown = decode_strict(raw, _entry_type, _PLACES)
        text = bytes(raw)
        if count_keys(text) > stated_keys(entry) and repeated_keys(text):
            return None
        answer.found.append((key, entry, unknown))
    return answer


class _Errors(msgspec.Struct):
    symbols: list[str] = msgspec.field(name="invalidSymbols", default_factory=list)


# made here: two threads that decode a type for the first time at once crash the library
_VALUES = msgspec.json.Decoder(dict[str, Any])
_MEMBERS, _ERRORS = msgspec.json.Decoder(dict[str, msgspec.Raw]), msgspec.json.Decoder(_Errors)


def _read_tolerant(body: bytes) -> _Answer:
    """The entries by the slow path, which keeps what can be read and names what cannot."""
    document = tolerant_object(body, "quotes")
    errors = document.get("errors")
    refuse_error_body(document, ERROR_MEMBERS if isinstance(errors, list) else ERROR_MEMBERS - {"errors"})
    answer = _Answer(counts=Counter(tolerant_parse=1))
    if isinstance(errors, dict) and isinstance(errors.get("invalidSymbols"), list):
        answer.invalid = [str(symbol) for symbol in errors["invalidSymbols"]]
    for key, value in entries(document):
        if key != "errors":
            _read_entry(key, value, answer)
    return answer


def _read_entry(key: str, value: Any, answer: _Answer) -> None:
    """Add one entry to the answer, or the rule it broke; a block that is wrong makes the whole entry bad."""
    parts: dict[str, Any] = {}
    blocks = {block.name: block for block in _BLOCKS}
    if isinstance(value, RepeatedKeys):
        answer.bad.append((key, repeated_field(value)))
        return
    inner = {name: member for name, member in value.items() if name not in blocks} if isinstance(value, dict) else value
    for shape, part in [(ENTRY, inner), *((blocks[name], value[name]) for name in blocks if _has(value, name))]:
        good, bad, unknown = convert_rows([part], shape)
        answer.counts += unknown
        if bad:
            source = json.dumps(value)
            answer.bad.append((key, bad[0]._replace(source=source)))
            return
        parts[shape.name] = good[0]
    head = parts.pop(ENTRY.name)
    names = row_type(ENTRY).__struct_fields__
    entry = _entry_type(NOTHING_UNKNOWN)(**{name: getattr(head, name) for name in names}, **parts)
    answer.found.append((key, entry, NOTHING_UNKNOWN))


def _has(value: Any, name: str) -> bool:
    return isinstance(value, dict) and value.get(name) is not None


def left_out(response: RawResponse) -> tuple[str, ...]:
    """The symbols asked for that an answer neither has nor calls unknown, in the order asked.

    None of an answer that is no answer to a request for quotes: that is a problem of another kind.
    """
    if _has_all_names(response):
        return ()
    try:
        answer = _read(response)
    except ResponseRejectedError as error:
        return response.request.symbols if error.reason == "no_quotes" else ()
    return _missing(answer, response.request.symbols)


def names(response: RawResponse) -> tuple[dict[str, str], frozenset[str]]:
    """Who answered, each with the CUSIP ('' if not said), and the symbols that the source does not know.

    A root answers as its active contract, and is named beside it. Nothing of an answer that cannot be read.
    """
    try:
        members = _VALUES.decode(response.body)
    except NOT_STRICT:
        return {}, frozenset()
    errors = members.pop("errors", None)
    listed = errors.get("invalidSymbols") if isinstance(errors, dict) else None
    unknown = [symbol for symbol in listed if isinstance(symbol, str)] if isinstance(listed, list) else []
    found: dict[str, str] = {}
    for symbol, entry in members.items():
        if isinstance(entry, dict):
            reference = entry.get("reference")
            details = reference if isinstance(reference, dict) else {}
            cusip, product = details.get("cusip"), details.get("product")
            found[symbol] = cusip if isinstance(cusip, str) else ""
            if isinstance(product, str) and product:
                found.setdefault(product, "")
    return found, frozenset(unknown)


def halted(response: RawResponse) -> frozenset[str]:
    """The symbols whose trading is halted, as an answer says; none where it cannot be read."""
    try:
        members = _VALUES.decode(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return frozenset()
    quoted = ((name, entry.get("quote")) for name, entry in members.items() if isinstance(entry, dict))
    return frozenset(
        name for name, quote in quoted if isinstance(quote, dict) and quote.get("securityStatus") == "Halted"
    )


def _has_all_names(response: RawResponse) -> bool:
    """Whether every symbol asked for is a member of the answer, which is all that is looked at."""
    try:
        return set(response.request.symbols) <= _MEMBERS.decode(response.body).keys()
    except NOT_STRICT:
        return False


def _unanswered(answer: _Answer, asked: Sequence[str]) -> Iterable[tuple[ResponseRejectedError, tuple[str, ...]]]:
    """The symbols that have no row, by reason."""
    if answer.invalid:
        error = ResponseRejectedError("unknown_symbol", "the source does not know it (errors.invalidSymbols)")
        yield error, tuple(answer.invalid)
    missing = _missing(answer, asked)
    if missing:
        yield ResponseRejectedError("not_answered", "asked for and left out of the answer"), missing


def _missing(answer: _Answer, asked: Sequence[str]) -> tuple[str, ...]:
    answered = {symbol for symbol, _ in answer.bad} | set(answer.invalid)
    for key, entry, _ in answer.found:
        answered |= {entry.symbol, _requested(key, entry, asked) or entry.symbol}
    return tuple(symbol for symbol in asked if symbol not in answered)


def _requested(key: str, entry: Any, asked: Sequence[str]) -> str | None:
    """The name by which this entry was asked for; null where it was not.

    The root of a future is that name if it was asked and the entry is the contract in front, or was not asked for by
    its own name: `/ESZ24` beside `/ES` may be a later contract.
    """
    root = entry.reference.product if entry.reference else None
    if root in asked and (entry.symbol not in asked or _is_front(entry)):
        return str(root)
    return next((name for name in (key, entry.symbol) if name in asked), None)


def _is_front(entry: Any) -> bool:
    active = entry.reference.active_symbol
    return bool(entry.reference.is_active) if active is None else bool(active == entry.symbol)
