"""Quotes of any instrument: how they are asked for, how the blocks of each entry become one row, which are acceptable.

One row per symbol and snapshot; columns that do not apply to an instrument are null. The source answers what it knows
and lists the rest, so an unknown symbol is a problem of that symbol alone.
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
from trade_analyst_pipeline.market import vendor_values as vendor
from trade_analyst_pipeline.market.columns import TIME, Rule, table_schema
from trade_analyst_pipeline.market.normalized import Intake, Normalized, request_text
from trade_analyst_pipeline.market.quote_status import fresh_since, quote_status, uncrossed
from trade_analyst_pipeline.market.sessions import NEW_YORK, Product, option_product
from trade_analyst_pipeline.market.tolerant_json import (
    BadRow,
    RepeatedKeys,
    convert_rows,
    entries,
    parse_tolerant,
)
from trade_analyst_pipeline.market.wire_json import (
    NOTHING_UNKNOWN,
    RowColumns,
    RowShape,
    Unknown,
    decode_strict,
    row_type,
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
        "securityStatus:security_status:text settleTime:settle_time:instant",
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
        "exchangeName:exchange_name:text exerciseType:exercise_type:text expirationDay:expiration_day:whole",
        "expirationMonth:expiration_month:whole expirationType:expiration_type:text",
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

SCHEMA: Final = table_schema(
    NAME,
    "1.0",
    key=("symbol", "snapshot_time"),
    columns=(
        *("symbol", "session_date", "snapshot_time", "asset_type", "asset_sub_type", "quote_type", "is_realtime"),
        *("security_id", "security_status", "bid", "ask", "quote_status", "bid_size", "ask_size", "bid_time"),
        *("ask_time", "bid_venue", "ask_venue", "quote_time", "last", "last_size", "last_venue", "trade_time", "mark"),
        *("mark_change", "mark_change_pct", "net_change", "net_change_pct", "open", "high", "low", "previous_close"),
        *("high_52_week", "low_52_week", "volume", "open_interest", "net_asset_value", "post_market_change"),
        *("post_market_change_pct", "regular_last", "regular_last_size", "regular_net_change"),
        *("regular_net_change_pct", "regular_trade_time", "extended_bid", "extended_ask", "extended_bid_size"),
        *("extended_ask_size", "extended_last", "extended_last_size", "extended_mark", "extended_volume"),
        *("extended_quote_time", "extended_trade_time", "indicative_bid", "indicative_ask", "indicative_quote_time"),
        *("underlying_symbol", "underlying_asset_type", "underlying_price", "option_type", "expiration_date"),
        *("days_to_expiration", "last_trading_date", "strike", "multiplier", "settlement_type", "expiration_type"),
        *("exercise_type", "is_penny_pilot", "deliverables", "vendor_implied_volatility", "vendor_delta"),
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
    rules=(
        Rule("negative_bid_size", pl.col("bid_size") >= 0, "The size at the bid is not negative."),
        Rule("negative_ask_size", pl.col("ask_size") >= 0, "The size at the ask is not negative."),
        Rule("negative_last_size", pl.col("last_size") >= 0, "The size of the last trade is not negative."),
        Rule("negative_volume", pl.col("volume") >= 0, "The volume is not negative."),
        Rule("negative_open_interest", pl.col("open_interest") >= 0, "The open interest is not negative."),
        Rule("high_below_low", pl.col("high") >= pl.col("low"), "The session's high is not below its low."),
        Rule("strike_not_positive", pl.col("strike") > 0, "The strike of an option is above zero."),
        Rule("unknown_option_type", pl.col("option_type").is_in(["C", "P"]), "An option is a call or a put."),
        Rule(
            "year_range_disordered",
            pl.col("high_52_week") >= pl.col("low_52_week"),
            "The 52-week high is not below the low.",
            "warning",
        ),
        Rule(
            "mark_outside_quote",
            (pl.col("quote_status") != "ok") | pl.col("mark").is_between(pl.col("bid") - 0.005, pl.col("ask") + 0.005),
            "The vendor's mark lies between bid and ask.",
            "warning",
        ),
    ),
)

_EXPECTED: Final = {
    "asset_type": frozenset({"BOND", "EQUITY", "FOREX", "FUTURE", "FUTURE_OPTION", "INDEX", "MUTUAL_FUND", "OPTION"}),
    "asset_sub_type": frozenset({"ADR", "CEF", "COE", "ETF", "ETN", "GDR", "MMF", "OEF", "PRF", "RGT", "UIT", "WAR"}),
    "quote_type": frozenset({"NBBO", "NFL"}),
    "security_status": frozenset({"Normal", "Halted", "Closed", "Unknown"}),
}


def requests(symbols: Iterable[str]) -> list[MarketDataRequest]:
    """Requests for all blocks of each symbol, each symbol once, at most 500 in one request."""
    wanted = tuple(dict.fromkeys(symbols))
    batches = [wanted[start : start + MAX_SYMBOLS] for start in range(0, len(wanted), MAX_SYMBOLS)]
    return [MarketDataRequest(NAME, PATH, (("symbols", ",".join(batch)),), batch) for batch in batches]


def normalize(responses: Iterable[RawResponse], *, session_date: date) -> Normalized:
    """The quotes of one capture as rows of SCHEMA; symbols the source does not know or leaves out are problems."""
    table = _Table(session_date)
    for response in responses:
        table.add(response)
    return table.normalized()


@dataclass
class _Answer:
    """One response, read: its entries with the unknown fields of each, what is wrong, and the symbols not known."""

    found: list[tuple[Any, Unknown]] = field(default_factory=list)
    bad: list[tuple[str, BadRow]] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class _Table:
    """Quote responses of one capture becoming one table."""

    def __init__(self, session_date: date) -> None:
        self._session_date = session_date
        self._intake = Intake()
        self._entries = RowColumns(ENTRY)
        self._blocks = [RowColumns(block) for block in _BLOCKS]
        self._times: list[tuple[date, datetime, datetime]] = []

    def add(self, response: RawResponse) -> None:
        """Take on one response: its rows, and its symbols without one."""
        request = response.request
        text = request_text(request.path, request.params)
        try:
            answer = _read(response)
        except ResponseRejectedError as error:
            self._intake.note_problem(error, symbols=request.symbols, request=text)
            return
        for problem, symbols in _unanswered(answer, request.symbols):
            self._intake.note_problem(problem, symbols=symbols, request=text)
        for symbol, row in answer.bad:
            self._intake.reject([row], symbol=symbol, snapshot_time=response.received_time, request=text)
        self._intake.counts += answer.counts
        for entry, unknown in answer.found:
            self._add_row(entry, unknown, response.received_time)

    def _add_row(self, entry: Any, unknown: Unknown, snapshot_time: datetime) -> None:
        self._entries.extend([_only(entry, ENTRY, unknown)], unknown)
        for columns in self._blocks:
            block = getattr(entry, columns.shape.name)
            columns.extend(
                [row_type(columns.shape)() if block is None else block], unknown if block else NOTHING_UNKNOWN
            )
        product = _product(entry)
        fresh = fresh_since(snapshot_time, self._session_date, product)
        self._times.append((self._session_date, snapshot_time, fresh))

    def normalized(self) -> Normalized:
        """The table of everything added."""
        parts = [self._entries, *self._blocks]
        times = pl.DataFrame(self._times, schema=_TIMES, orient="row")
        wire = pl.concat([times, *(pl.DataFrame(columns.series()) for columns in parts)], how="horizontal")
        table = _cleaned(wire)
        for columns in parts:
            self._intake.counts += columns.counts
        counts = vendor.nulled(wire, table, _SENTINELS)
        # Most columns do not apply to most instruments, so what is absent says nothing here.
        self._intake.counts += Counter({name: n for name, n in counts.items() if not name.startswith("absent:")})
        self._intake.counts += vendor.unexpected_values(table, _EXPECTED)
        self._intake.counts["crossed_quote"] = int(table["quote_status"].eq("crossed").sum())
        return self._intake.normalized(table)


_TIMES: Final = pl.Schema({"session_date": pl.Date(), "snapshot_time": TIME, "fresh_since": TIME})


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
    blocks: list[Any] = [(block.name, row_type(block, unknown) | None, None) for block in _BLOCKS]
    return msgspec.defstruct(
        "entry_document", blocks, bases=(row_type(ENTRY, unknown),), kw_only=True, forbid_unknown_fields=True
    )


def _read(response: RawResponse) -> _Answer:
    """The entries of a response; raises ResponseRejectedError when it is no answer to a request for quotes."""
    if response.status != 200:
        raise ResponseRejectedError("http_status", f"answered {response.status}")
    try:
        answer = _read_strict(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = None
    answer = answer or _read_tolerant(response.body)
    if not answer.found and not answer.bad and not answer.invalid:
        raise ResponseRejectedError("no_quotes", "not one entry")
    return answer


def _read_strict(body: bytes) -> _Answer | None:
    """The entries by the fast path; None when a repeated key would hide one."""
    members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    errors = msgspec.json.decode(members.pop("errors"), type=_Errors) if "errors" in members else _Errors()
    if body.count(b'"assetMainType"') != len(members):
        return None
    answer = _Answer(invalid=errors.symbols)
    for raw in members.values():
        entry, unknown = decode_strict(raw, _entry_type, _PLACES)
        answer.found.append((entry, unknown))
    return answer


class _Errors(msgspec.Struct):
    symbols: list[str] = msgspec.field(name="invalidSymbols", default_factory=list)


def _read_tolerant(body: bytes) -> _Answer:
    """The entries by the slow path, which keeps what can be read and names what cannot."""
    document = parse_tolerant(body)
    if not isinstance(document, dict):
        raise ResponseRejectedError("not_an_object", f"{type(document).__name__} where quotes belong")
    errors = document.get("errors")
    if isinstance(errors, list) or document.keys() & {"fault", "message"}:
        raise ResponseRejectedError("error_body", json.dumps(document)[:200])
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
    is_plain = isinstance(value, dict) and not isinstance(value, RepeatedKeys)
    inner = {name: member for name, member in value.items() if name not in blocks} if is_plain else value
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
    answer.found.append((entry, NOTHING_UNKNOWN))


def _has(value: Any, name: str) -> bool:
    return isinstance(value, dict) and value.get(name) is not None


def _unanswered(answer: _Answer, asked: Sequence[str]) -> Iterable[tuple[ResponseRejectedError, tuple[str, ...]]]:
    """The symbols that have no row, by reason; a future asked for by its root is answered under its contract."""
    if answer.invalid:
        error = ResponseRejectedError("unknown_symbol", "the source does not know it (errors.invalidSymbols)")
        yield error, tuple(answer.invalid)
    answered = {entry.symbol for entry, _ in answer.found} | {symbol for symbol, _ in answer.bad} | set(answer.invalid)
    answered |= {entry.reference.product for entry, _ in answer.found if entry.reference}
    missing = tuple(symbol for symbol in asked if symbol not in answered)
    if missing:
        yield ResponseRejectedError("not_answered", "asked for and left out of the answer"), missing


_PRICES: Final = (
    *("bid", "ask", "last", "mark", "open", "high", "low", "previous_close", "high_52_week", "low_52_week"),
    *("net_asset_value", "regular_last", "extended_bid", "extended_ask", "extended_last", "extended_mark"),
    *("indicative_bid", "indicative_ask", "underlying_price", "tick_size", "tick_value", "settlement_price"),
)
_WHOLE: Final = (
    *("security_id", "bid_size", "ask_size", "last_size", "volume", "open_interest", "regular_last_size"),
    *("extended_bid_size", "extended_ask_size", "extended_last_size", "extended_volume", "days_to_expiration"),
    "dividend_frequency",
)
_INSTANTS: Final = (
    *("bid_time", "ask_time", "quote_time", "trade_time", "settle_time", "indicative_quote_time"),
    *("regular_trade_time", "extended_quote_time", "extended_trade_time"),
)
_GREEKS: Final = ("vendor_delta", "vendor_gamma", "vendor_theta", "vendor_vega", "vendor_rho")
_DAYS: Final = (
    *("dividend_declaration_date", "dividend_ex_date", "dividend_pay_date", "next_dividend_ex_date"),
    *("next_dividend_pay_date", "last_earnings_date"),
)
_SENTINELS: Final = (*_PRICES, *_GREEKS, *_INSTANTS, *_DAYS, "vendor_implied_volatility", "vendor_theoretical_value")


def _cleaned(wire: pl.DataFrame) -> pl.DataFrame:
    """The table of a wire table: units of ours, stand-ins to null, state of each quote."""
    is_option = pl.col("asset_type") == "OPTION"
    has_quote = pl.any_horizontal(pl.col("bid", "ask", "bid_size", "ask_size", "quote_time").is_not_null())
    return (
        wire.lazy()
        .with_columns(has_quote.alias("has_quote"))
        .with_columns(
            *map(vendor.price, _PRICES),
            *map(vendor.whole, _WHOLE),
            *map(vendor.instant, _INSTANTS),
            *map(vendor.greek, _GREEKS),
            *map(_stated_day, _DAYS),
            vendor.fraction("dividend_yield"),
            vendor.model_value("vendor_theoretical_value"),
            pl.when(is_option).then(vendor.volatility("vendor_implied_volatility")),
            _day_of_instant("last_trading_date"),
            pl.coalesce(_expiration_day(), _day_of_instant("future_expiration")).alias("expiration_date"),
            pl.coalesce("net_change_pct", "future_change_pct"),
            pl.coalesce("multiplier", "future_multiplier"),
            pl.coalesce("is_tradable", "is_future_tradable"),
            pl.coalesce("trading_hours", "future_hours"),
            pl.when(pl.col("asset_sub_type") != "").then(pl.col("asset_sub_type")).alias("asset_sub_type"),
        )
        .with_columns(
            pl.when("has_quote").then(quote_status("fresh_since")).otherwise(pl.lit("none")).alias("quote_status")
        )
        .with_columns(uncrossed("bid"), uncrossed("ask"))
        .select(SCHEMA.names)
        .collect()
    )


def _day_of_instant(column: str) -> pl.Expr:
    """The New York date of epoch milliseconds."""
    return vendor.instant(column).dt.convert_time_zone(str(NEW_YORK)).dt.date()


def _stated_day(column: str) -> pl.Expr:
    """The New York date of a text such as 2024-08-12T04:00:00Z; null for what is none."""
    instant = pl.col(column).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC", strict=False)
    return instant.dt.convert_time_zone(str(NEW_YORK)).dt.date().alias(column)


def _expiration_day() -> pl.Expr:
    """The date of an option's three numbers for year, month and day; null for what is no date."""
    year, month, day = (pl.col(f"expiration_{part}").cast(pl.Int64) for part in ("year", "month", "day"))
    text = pl.format("{}-{}-{}", year, month.cast(pl.String).str.zfill(2), day.cast(pl.String).str.zfill(2))
    return text.str.to_date("%Y-%m-%d", strict=False)
