"""Option chains: what to ask, how the wire's contracts become rows, and which rows are acceptable.

One row per contract and snapshot. Where the wire sends a stand-in for a missing value the table has null, counted;
the value as sent stays in the archive. A crossed quote has no bid and no ask here, and `quote_status` says so.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl

from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market import vendor_values as vendor
from trade_analyst_pipeline.market.chain_pieces import ChainPiece, chain_scope, halves, piece_of
from trade_analyst_pipeline.market.columns import TIME, table_schema
from trade_analyst_pipeline.market.normalized import Intake, Normalized, request_text
from trade_analyst_pipeline.market.option_rules import CONTRACT_RULES
from trade_analyst_pipeline.market.quote_status import fresh_since, quote_status, uncrossed
from trade_analyst_pipeline.market.sessions import CALENDAR_END, NEW_YORK, expiration_time, option_product
from trade_analyst_pipeline.market.tolerant_json import (
    BadRow,
    RepeatedKeys,
    convert_header,
    convert_rows,
    entries,
    parse_tolerant,
)
from trade_analyst_pipeline.market.wire_json import (
    RowColumns,
    RowShape,
    Unknown,
    count_keys,
    decode_strict,
    row_type,
    wire_fields,
)
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse

NAME: Final = "options"
PATH: Final = "/chains"
# Contracts become columns of numbers in batches that fit a processor's cache; whole chains take a third longer.
ROWS_AT_ONCE: Final = 2048

CONTRACT: Final = RowShape(
    "contract",
    wire_fields(
        "putCall:option_type:text! symbol:option_symbol:text! description:description:text",
        "exchangeName:exchange_name:text bid:bid:number ask:ask:number last:last:number mark:mark:number",
        "bidSize:bid_size:whole askSize:ask_size:whole bidAskSize:bid_ask_size:raw lastSize:last_size:whole",
        "highPrice:high:number lowPrice:low:number openPrice:open:number closePrice:previous_close:number",
        "totalVolume:volume:whole tradeTimeInLong:trade_time:instant quoteTimeInLong:quote_time:instant",
        "netChange:net_change:number volatility:vendor_implied_volatility:model delta:vendor_delta:model",
        "gamma:vendor_gamma:model theta:vendor_theta:model vega:vendor_vega:model rho:vendor_rho:model",
        "openInterest:open_interest:whole timeValue:time_value:number",
        "theoreticalOptionValue:vendor_theoretical_value:model",
        "theoreticalVolatility:vendor_theoretical_volatility:model optionDeliverablesList:deliverables:raw",
        "strikePrice:strike:number! expirationDate:expiration:day! daysToExpiration:days_to_expiration:whole",
        "expirationType:expiration_type:text lastTradingDay:last_trading_date:instant multiplier:multiplier:number",
        "settlementType:settlement_type:text deliverableNote:deliverable_note:text",
        "percentChange:net_change_pct:number markChange:mark_change:number",
        "markPercentChange:mark_change_pct:number intrinsicValue:intrinsic_value:number",
        "extrinsicValue:extrinsic_value:number optionRoot:option_root:text exerciseType:exercise_type:text",
        "high52Week:high_52_week:number low52Week:low_52_week:number nonStandard:is_non_standard:flag",
        "pennyPilot:is_penny_pilot:flag inTheMoney:is_in_the_money:flag mini:is_mini:flag",
    ),
)

CHAIN: Final = RowShape(
    "chain",
    wire_fields(
        "symbol:symbol:text! status:status:text strategy:strategy:text interval:interval:raw",
        "isDelayed:is_delayed:flag isIndex:is_index:flag interestRate:interest_rate:model",
        "underlyingPrice:underlying_price:model volatility:volatility:raw daysToExpiration:days_to_expiration:raw",
        "dividendYield:dividend_yield:model numberOfContracts:announced_contracts:whole",
        "assetMainType:underlying_asset_type:text assetSubType:underlying_asset_sub_type:text",
        "isChainTruncated:is_truncated:flag",
    ),
)

UNDERLYING: Final = RowShape(
    "underlying",
    wire_fields(
        "symbol:symbol:raw description:description:raw change:change:raw percentChange:change_pct:raw close:close:raw",
        "quoteTime:underlying_quote_time:instant tradeTime:trade_time:raw bid:underlying_bid:number",
        "ask:underlying_ask:number last:underlying_last:number mark:underlying_mark:number markChange:mark_change:raw",
        "markPercentChange:mark_change_pct:raw bidSize:bid_size:raw askSize:ask_size:raw highPrice:high:raw",
        "lowPrice:low:raw openPrice:open:raw totalVolume:volume:raw exchangeName:exchange_name:raw",
        "fiftyTwoWeekHigh:high_52_week:raw fiftyTwoWeekLow:low_52_week:raw delayed:delayed:raw",
    ),
)

_PLACES: Final = {
    "$": CHAIN.name,
    "$.underlying": UNDERLYING.name,
    "$.callExpDateMap[...][...][...]": CONTRACT.name,
    "$.putExpDateMap[...][...][...]": CONTRACT.name,
}

SCHEMA: Final = table_schema(
    NAME,
    "1.0",
    key=("option_symbol", "snapshot_time"),
    columns=(
        *("symbol", "option_symbol", "session_date", "snapshot_time", "chain_scope"),
        *("option_root", "option_type", "expiration_date", "expiration_time", "last_trading_date"),
        *("days_to_expiration", "strike", "bid", "ask", "quote_status", "last", "mark"),
        *("bid_size", "ask_size", "last_size", "open", "high", "low", "previous_close"),
        *("net_change", "net_change_pct", "mark_change", "mark_change_pct", "volume", "open_interest"),
        *("quote_time", "trade_time", "vendor_implied_volatility", "vendor_delta", "vendor_gamma", "vendor_theta"),
        *("vendor_vega", "vendor_rho", "vendor_theoretical_value", "vendor_theoretical_volatility"),
        *("intrinsic_value", "extrinsic_value", "time_value", "high_52_week", "low_52_week", "multiplier"),
        *("settlement_type", "expiration_type", "exercise_type", "is_in_the_money", "is_non_standard", "is_mini"),
        *("is_penny_pilot", "deliverables", "deliverable_note", "description", "exchange_name"),
        *("underlying_price", "underlying_bid", "underlying_ask", "underlying_last", "underlying_mark"),
        *("underlying_quote_time", "underlying_asset_type", "underlying_asset_sub_type"),
        *("interest_rate", "dividend_yield", "is_index", "is_delayed"),
    ),
    required=("symbol", "session_date", "chain_scope", "option_type", "expiration_date", "strike", "quote_status"),
    rules=CONTRACT_RULES,
)

_EXPECTED: Final = {
    "settlement_type": frozenset("AP"),
    "expiration_type": frozenset("MQSW"),
    "exercise_type": frozenset("AE"),
    "underlying_asset_type": frozenset({"EQUITY", "INDEX"}),
}


def requests(
    symbols: Iterable[str],
    *,
    strike_count: int | None = None,
    first_expiration: date | None = None,
    last_expiration: date | None = None,
) -> list[MarketDataRequest]:
    """One chain per underlying with the underlying's quote: the full chain, or as bounded.

    `strike_count` strikes around the money; both expirations included.
    """
    piece = ChainPiece(first_expiration, last_expiration, strike_count)
    return [_request(symbol, piece) for symbol in symbols]


def split(
    request: MarketDataRequest, *, session_date: date, expirations: Sequence[date] = ()
) -> list[MarketDataRequest]:
    """Two requests that together ask for the same contracts, for a chain too large for one response.

    Halves as `chain_pieces.halves` does; raises ValueError when no split is left.
    """
    piece = piece_of(request.params)
    if piece is None:
        message = f"{request.path} holds a query this dataset does not ask, so it cannot be split"
        raise ValueError(message)
    return [_request(request.symbols[0], part) for part in halves(piece, session_date, expirations)]


def _request(symbol: str, piece: ChainPiece) -> MarketDataRequest:
    params = (("symbol", symbol), ("includeUnderlyingQuote", "true"), *piece.params())
    return MarketDataRequest(NAME, PATH, params, (symbol,))


def is_cut_short(response: RawResponse) -> bool:
    """Whether the source says that it left contracts out of the chain (`isChainTruncated`)."""
    try:
        return msgspec.json.decode(response.body, type=_TruncationMark).is_truncated is True
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


class _TruncationMark(msgspec.Struct):
    is_truncated: Any = msgspec.field(name="isChainTruncated", default=False)


def normalize(responses: Iterable[RawResponse], *, session_date: date) -> Normalized:
    """The contracts of one capture as rows of SCHEMA, in wire order; see `Normalized` for what was left out and why."""
    table = _Table(session_date)
    for response in responses:
        table.add(response)
    return table.normalized()


@dataclass(frozen=True)
class _Chain:
    """One chain response, read: its header and underlying as typed structs, its contracts, and what was wrong."""

    header: Any
    underlying: Any
    contracts: list[msgspec.Struct]
    unknown: Unknown
    bad: list[BadRow]
    counts: Counter[str]


class _Table:
    """Chain responses of one capture becoming one table."""

    def __init__(self, session_date: date) -> None:
        self._session_date = session_date
        self._intake = Intake()
        self._rows = RowColumns(CONTRACT)
        self._batches: list[pl.DataFrame] = []
        self._headers: list[dict[str, Any]] = []
        self._heights: list[int] = []
        self._pieces: dict[str, list[ChainPiece | None]] = {}
        self._snapshots: list[tuple[str, int]] = []
        self._last_arrival: dict[tuple[str, int], datetime] = {}

    def add(self, response: RawResponse) -> None:
        """Take on one response: its rows, or the reason why it has none."""
        request = response.request
        text = request_text(request.path, request.params)
        try:
            chain = _read(response)
        except ResponseRejectedError as error:
            self._intake.note_problem(error, symbols=request.symbols, request=text)
            return
        symbol = chain.header.symbol
        self._intake.counts += chain.counts
        self._intake.reject(chain.bad, symbol=symbol, snapshot_time=response.received_time, request=text)
        pieces = self._pieces.setdefault(symbol, [])
        # a piece asked for again belongs to another snapshot of the chain
        snapshot = (symbol, pieces.count(piece := piece_of(request.params)))
        pieces.append(piece)
        self._snapshots.append(snapshot)
        previous = self._last_arrival.get(snapshot, response.received_time)
        self._last_arrival[snapshot] = max(previous, response.received_time)
        self._headers.append(_header(chain, response, self._session_date))
        self._heights.append(len(chain.contracts))
        for start in range(0, len(chain.contracts), ROWS_AT_ONCE):
            self._rows.extend(chain.contracts[start : start + ROWS_AT_ONCE], chain.unknown)
            if self._rows.height >= ROWS_AT_ONCE:
                self._close_batch()

    def normalized(self) -> Normalized:
        """The table of everything added."""
        self._close_batch()
        contracts = pl.concat(self._batches)
        for header, snapshot in zip(self._headers, self._snapshots, strict=True):
            header["chain_scope"] = chain_scope(self._pieces[header["symbol"]], self._session_date)
            header["snapshot_time"] = self._last_arrival[snapshot]
        headers = pl.DataFrame(self._headers, schema=_HEADER_COLUMNS, orient="row")
        response_of_row = np.repeat(np.arange(len(self._heights), dtype=np.uint32), self._heights)
        wire = pl.concat([contracts, headers[response_of_row]], how="horizontal")
        table = _cleaned(wire)
        self._intake.counts += _observed(wire, table)
        return self._intake.normalized(table)

    def _close_batch(self) -> None:
        rows, self._rows = self._rows, RowColumns(CONTRACT)
        self._batches.append(pl.DataFrame([*rows.series(), *_derived(rows)]))
        self._intake.counts += rows.counts


_HEADER_COLUMNS: Final = pl.Schema(
    {
        "symbol": pl.String(),
        "session_date": pl.Date(),
        "snapshot_time": TIME,
        "fresh_since": TIME,
        "chain_scope": pl.String(),
        "underlying_price": pl.Float64(),
        "underlying_bid": pl.Float64(),
        "underlying_ask": pl.Float64(),
        "underlying_last": pl.Float64(),
        "underlying_mark": pl.Float64(),
        "underlying_quote_time": pl.Float64(),
        "underlying_asset_type": pl.String(),
        "underlying_asset_sub_type": pl.String(),
        "interest_rate": pl.Float64(),
        "dividend_yield": pl.Float64(),
        "is_index": pl.Boolean(),
        "is_delayed": pl.Boolean(),
    }
)


def _document_type(unknown: Unknown) -> type[msgspec.Struct]:
    contract: Any = row_type(CONTRACT, unknown)
    contracts: Any = dict[str, dict[str, list[contract]]] | None
    return msgspec.defstruct(
        "chain_document",
        [
            ("underlying", row_type(UNDERLYING, unknown) | None, None),
            ("callExpDateMap", contracts, None),
            ("putExpDateMap", contracts, None),
        ],
        bases=(row_type(CHAIN, unknown),),
        kw_only=True,
        forbid_unknown_fields=True,
    )


def _read(response: RawResponse) -> _Chain:
    """The chain of a response; raises ResponseRejectedError when none of it can be used."""
    if response.status != 200:
        raise ResponseRejectedError("http_status", f"answered {response.status}")
    try:
        chain = _read_strict(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        chain = None
    chain = chain or _read_tolerant(response.body)
    _require_usable(chain, response.request)
    return chain


def _read_strict(body: bytes) -> _Chain | None:
    """The chain by the fast path; None when a repeated key would hide a contract."""
    document, unknown = decode_strict(body, _document_type, _PLACES)
    if document.callExpDateMap is None and document.putExpDateMap is None:
        return None
    contracts = [
        contract
        for side in (document.callExpDateMap, document.putExpDateMap)
        for strikes in (side or {}).values()
        for listed in strikes.values()
        for contract in listed
    ]
    if body.count(b'"strikePrice"') != len(contracts) or _repeats_a_key(body, document, contracts, unknown):
        return None
    counts = Counter(f"unknown_field:{found.shape}.{found.wire}" for found in unknown if found.shape != CONTRACT.name)
    return _Chain(document, document.underlying, contracts, unknown, [], counts)


def _repeats_a_key(body: bytes, document: Any, contracts: list[Any], unknown: Unknown) -> bool:
    """Whether the body has more keys than declared ones, each once, account for.

    Exact where every declared field came, as the source sends them; fields that are missing hide as many repeats, and
    with undeclared fields nothing is found.
    """
    if unknown:
        return False
    sides = [side for side in (document.callExpDateMap, document.putExpDateMap) if side is not None]
    most = len(CHAIN.fields) + len(sides) + len(contracts) * len(CONTRACT.fields)
    most += sum(len(side) + sum(map(len, side.values())) for side in sides)
    most += (document.underlying is not None) * (1 + len(UNDERLYING.fields)) + (b'"underlying":null' in body)
    inside = Counter(bytes(contract.deliverables) for contract in contracts)
    most += sum(count_keys(raw) * times for raw, times in inside.items())
    return count_keys(body) > most


def _read_tolerant(body: bytes) -> _Chain:
    """The chain by the slow path, which keeps what can be read and names what cannot."""
    document = parse_tolerant(body)
    if not isinstance(document, dict):
        raise ResponseRejectedError("not_an_object", f"{type(document).__name__} where a chain belongs")
    sides = [side for name, side in entries(document) if name in {"callExpDateMap", "putExpDateMap"}]
    if not sides:
        reason = "error_body" if document.keys() & {"errors", "fault", "message"} else "missing_field"
        raise ResponseRejectedError(reason, f"no callExpDateMap or putExpDateMap: {json.dumps(document)[:200]}")
    envelope = {name: value for name, value in document.items() if name not in _NESTED}
    header, counts = convert_header(envelope, CHAIN)
    underlying, more = None, Counter[str]()
    if isinstance(document.get("underlying"), dict):
        underlying, more = convert_header(document["underlying"], UNDERLYING)
    contracts, bad, unknown = convert_rows(_listed(sides), CONTRACT)
    counts += more + unknown + Counter(tolerant_parse=1)
    for shape, value in ((CHAIN, document), (UNDERLYING, document.get("underlying"))):
        counts[f"repeated_field:{shape.name}"] += isinstance(value, RepeatedKeys)
    return _Chain(header, underlying, contracts, frozenset(), bad, counts)


_NESTED: Final = frozenset({"underlying", "callExpDateMap", "putExpDateMap"})


def _listed(sides: Iterable[Any]) -> Iterable[Any]:
    """Everything that stands where a contract belongs, wherever the nesting breaks off."""
    for side in sides:
        if not isinstance(side, dict):
            if side is not None:
                yield side
            continue
        for _, strikes in entries(side):
            for _, listed in entries(strikes) if isinstance(strikes, dict) else [("", strikes)]:
                yield from listed if isinstance(listed, list) else [listed]


def _require_usable(chain: _Chain, request: MarketDataRequest) -> None:
    header = chain.header
    if header.status in {"FAILED", "NO_DATA"}:
        raise ResponseRejectedError("chain_failed", f"status {header.status}")
    if header.is_truncated:
        raise ResponseRejectedError("chain_truncated", "the source left contracts out (isChainTruncated)")
    if not chain.contracts and not chain.bad:
        raise ResponseRejectedError("empty_chain", "not one contract")
    if request.symbols and header.symbol not in request.symbols:
        raise ResponseRejectedError("other_symbol", f"asked for {request.symbols[0]}, answered {header.symbol[:40]}")
    announced = header.announced_contracts
    if announced is not None and announced != len(chain.contracts) + len(chain.bad):
        chain.counts["announced_contracts_differ"] += 1
    if header.status not in {None, "SUCCESS"}:
        chain.counts[f"unknown_value:status={header.status[:40]}"] += 1


def _header(chain: _Chain, response: RawResponse, session_date: date) -> dict[str, Any]:
    header, product = chain.header, option_product(chain.header.symbol)
    row = {name: getattr(header, name, None) for name in _HEADER_COLUMNS}
    row |= {
        name: getattr(chain.underlying, name, None)
        for name in _HEADER_COLUMNS
        if name.startswith("underlying_") and not hasattr(header, name)
    }
    row |= {
        "session_date": session_date,
        "snapshot_time": response.received_time,
        "fresh_since": fresh_since(response.received_time, session_date, product),
        "underlying_asset_sub_type": header.underlying_asset_sub_type or None,
    }
    return {name: None if name in _HEADER_MODELS and isinstance(value, str) else value for name, value in row.items()}


_HEADER_MODELS: Final = frozenset({"underlying_price", "interest_rate", "dividend_yield"})


def _derived(rows: RowColumns) -> list[pl.Series]:
    """Columns that need more than arithmetic, each reckoned once per distinct value."""
    stated = list(zip(rows.values("expiration"), rows.values("settlement_type"), strict=True))
    reckoned = {pair: _expiration(*pair) for pair in set(stated)}
    listed = list(map(bytes, rows.values("deliverables")))
    texts = {raw: _deliverables_text(raw) for raw in set(listed)}
    return [
        pl.Series("expiration_date", [reckoned[pair][0] for pair in stated], dtype=pl.Int32).cast(pl.Date),
        pl.Series("expiration_time", [reckoned[pair][1] for pair in stated], dtype=pl.Int64).cast(TIME),
        pl.Series("deliverables", list(map(texts.__getitem__, listed)), dtype=pl.String),
    ]


def _expiration(stated: str | int, settlement: str | None) -> tuple[int | None, int | None]:
    """Expiration as days and its last instant as microseconds since 1970; null where the text is no date."""
    try:
        if isinstance(stated, int):
            instant = datetime.fromtimestamp(stated / 1000, UTC)
        else:
            instant = datetime.fromisoformat(stated)
        day = (instant.astimezone(NEW_YORK) if instant.tzinfo else instant).date()
    except (ValueError, OverflowError, OSError):
        return None, None
    days = (day - date(1970, 1, 1)).days
    if not date(2005, 2, 1) <= day <= CALENDAR_END:
        return days, None
    return days, int(expiration_time(day, settlement or "P").timestamp()) * 1_000_000


def _deliverables_text(raw: bytes) -> str | None:
    """Units, symbol and kind of each thing delivered; null when none is listed."""
    try:
        things = msgspec.json.decode(raw, type=list[_Deliverable] | None) if raw else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return raw.decode("utf-8", "replace")[:200]
    if not things:
        return None
    return "; ".join(f"{thing.units:.15g} {thing.symbol} {thing.kind}" for thing in things)


class _Deliverable(msgspec.Struct, frozen=True):
    units: float = msgspec.field(name="deliverableUnits")
    symbol: str
    kind: str = msgspec.field(name="assetType")


_PRICES: Final = ("bid", "ask", "last", "mark", "open", "high", "low", "previous_close", "high_52_week", "low_52_week")
_UNDERLYING_PRICES: Final = (
    "underlying_price",
    "underlying_bid",
    "underlying_ask",
    "underlying_last",
    "underlying_mark",
)
_SIZES: Final = ("bid_size", "ask_size", "last_size", "volume", "open_interest", "days_to_expiration")
_GREEKS: Final = ("vendor_delta", "vendor_gamma", "vendor_theta", "vendor_vega", "vendor_rho")


def _cleaned(wire: pl.DataFrame) -> pl.DataFrame:
    """The table of a wire table: units of ours, stand-ins to null, state of each quote."""
    option_type = pl.col("option_type")
    return (
        wire.lazy()
        .with_columns(
            *map(vendor.price, (*_PRICES, *_UNDERLYING_PRICES)),
            *map(vendor.whole, _SIZES),
            *map(vendor.greek, _GREEKS),
            *map(vendor.instant, ("quote_time", "trade_time", "underlying_quote_time")),
            vendor.instant("last_trading_date").dt.convert_time_zone(str(NEW_YORK)).dt.date(),
            vendor.volatility("vendor_implied_volatility", default="vendor_theoretical_volatility"),
            vendor.volatility("vendor_theoretical_volatility"),
            vendor.model_value("vendor_theoretical_value"),
            vendor.fraction("interest_rate"),
            pl.when(pl.col("dividend_yield") >= 0).then(vendor.fraction("dividend_yield")),
            pl.when(option_type == "CALL")
            .then(pl.lit("C"))
            .when(option_type == "PUT")
            .then(pl.lit("P"))
            .otherwise(option_type)
            .alias("option_type"),
        )
        .with_columns(quote_status("fresh_since"))
        .with_columns(uncrossed("bid"), uncrossed("ask"))
        .select(SCHEMA.names)
        .collect()
    )


def _observed(wire: pl.DataFrame, table: pl.DataFrame) -> Counter[str]:
    """What the cleaning did and what was new, counted."""
    counts = vendor.nulled(wire, table, [name for name in SCHEMA.names if name in wire.columns])
    counts += vendor.unexpected_values(table, _EXPECTED)
    counts["crossed_quote"] = int(table["quote_status"].eq("crossed").sum())
    default = wire["vendor_implied_volatility"] == wire["vendor_theoretical_volatility"]
    counts["default_volatility"] = int(default.sum())
    return counts
