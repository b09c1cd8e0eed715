"""Option chains: what to ask, how the wire's contracts become rows, and which rows are acceptable.

One row per contract and snapshot. Where the wire sends a stand-in for a missing value the table has null, counted;
the value as sent stays in the archive. A crossed quote has no bid and no ask here, and `quote_status` says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl

from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market.answers import (
    read_body,
    require_symbol,
    required_members,
    tolerant_object,
    unknown_around,
    usable_answers,
)
from trade_analyst_pipeline.market.chain_completeness import shortfall
from trade_analyst_pipeline.market.chain_outline import Listed, is_marked_short, listed_expirations, plain_root
from trade_analyst_pipeline.market.chain_pieces import (
    FULL,
    PARTIAL,
    ChainPiece,
    Snapshots,
    chain_scope,
    halves,
    piece_of,
)
from trade_analyst_pipeline.market.chain_rules import CHAIN_RULES
from trade_analyst_pipeline.market.columns import COLUMNS, TIME, table_schema
from trade_analyst_pipeline.market.normalized import Intake, Normalized, ResponseProblem, request_text
from trade_analyst_pipeline.market.option_rules import CONTRACT_RULES
from trade_analyst_pipeline.market.option_values import contract_table, expiration
from trade_analyst_pipeline.market.quote_status import fresh_since
from trade_analyst_pipeline.market.row_layout import RowLayout
from trade_analyst_pipeline.market.sessions import option_product
from trade_analyst_pipeline.market.tolerant_json import BadRow, RepeatedKeys, convert_header, convert_rows, entries
from trade_analyst_pipeline.market.wire_json import (
    NOT_STRICT,
    NOTHING_UNKNOWN,
    RowColumns,
    RowShape,
    Unknown,
    count_keys,
    count_objects,
    decode_strict,
    envelope_type,
    row_type,
    wire_fields,
)
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse

NAME: Final = "options"
PATH: Final = "/chains"
LISTING_PATH: Final = "/expirationchain"
# Contracts become columns of numbers in batches that fit a processor's cache; whole chains take half as long again.
ROWS_AT_ONCE: Final = 1024

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

_ROOT_LENGTH: Final = 6  # of an option symbol, padded
_SIDES: Final = ("callExpDateMap", "putExpDateMap")
_PLACES: Final = {"$": CHAIN.name, "$.underlying": UNDERLYING.name}
_EXPIRATION_PLACES: Final = {"$[...][...]": CONTRACT.name}

LAYOUT: Final = RowLayout(
    rows=tuple(f"{side} * * []" for side in _SIDES),
    row=CONTRACT,
    around={"": CHAIN, "underlying": UNDERLYING},
    made_of={
        "bid": ("ask",),
        "ask": ("bid",),
        "quote_status": ("bid", "ask", "quote_time", "symbol"),
        "expiration_date": ("expiration",),
        "expiration_time": ("expiration", "settlement_type"),
        "vendor_implied_volatility": ("vendor_theoretical_volatility",),
    },
    beside={
        "session_date": "capture",
        "snapshot_time": "arrival",
        "quote_status": "arrival",
        "chain_scope": "other answers",
    },
)

SCHEMA: Final = table_schema(
    NAME,
    "1.0",
    key=("option_symbol", "snapshot_time"),
    event_time="snapshot_time",
    known_time="snapshot_time",
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
    rules=(*CONTRACT_RULES, *CHAIN_RULES),
)


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


def pieces(symbol: str, asked: Iterable[ChainPiece]) -> list[MarketDataRequest]:
    """One request for each of these pieces of a symbol's chain."""
    return [_request(symbol, piece) for piece in asked]


def _request(symbol: str, piece: ChainPiece) -> MarketDataRequest:
    params = (("symbol", symbol), ("includeUnderlyingQuote", "true"), *piece.params())
    return MarketDataRequest(NAME, PATH, params, (symbol,))


def listing_request(symbol: str) -> MarketDataRequest:
    """The list of a symbol's expirations, which proves a full chain of the same capture whole."""
    return MarketDataRequest(NAME, LISTING_PATH, (("symbol", symbol),), (symbol,))


def is_cut_short(response: RawResponse) -> bool:
    """Whether the source says that it left contracts out of the chain (`isChainTruncated`)."""
    return response.request.path == PATH and is_marked_short(response.body)


def normalize(responses: Iterable[RawResponse], *, session_date: date) -> Normalized:
    """The contracts of one capture as rows of SCHEMA, in wire order; see `Normalized` for what was left out and why.

    A full chain that the capture's own list of expirations does not prove whole has `chain_scope` `partial`, and a
    problem says what is missing.
    """
    intake = Intake()
    table = _Table(session_date, intake)
    for response, answer, request in usable_answers(responses, table.read, intake):
        if isinstance(answer, _Chain):
            table.add(response, answer, request)
        else:
            table.listed[response.request.symbols[0]] = answer
    return intake.normalized(table.finished())


def without_proof(found: Normalized, unanswered: Iterable[MarketDataRequest]) -> Normalized:
    """The same, with the full chains of symbols whose list of expirations never came made `partial`."""
    missing = {request.symbols[0] for request in unanswered if request.path == LISTING_PATH}
    is_unproven = pl.col("symbol").is_in(sorted(missing)) & (pl.col("chain_scope") == FULL)
    unproven = found.frame.filter(is_unproven)["symbol"].unique().sort().to_list() if missing else []
    if not unproven:
        return found
    scope = pl.when(is_unproven).then(pl.lit(PARTIAL)).otherwise("chain_scope").alias("chain_scope")
    detail = "the list of expirations never came, so nothing proves the chain whole"
    asked = {symbol: request_text(LISTING_PATH, [("symbol", symbol)]) for symbol in unproven}
    problems = [ResponseProblem("incomplete_chain", detail, (symbol,), text) for symbol, text in asked.items()]
    return replace(found, frame=found.frame.with_columns(scope), problems=(*found.problems, *problems))


def _read_answer(response: RawResponse) -> _Chain | Listed:
    """A chain, or the list of expirations; raises ResponseRejectedError when none of it can be used."""
    if response.request.path != LISTING_PATH:
        return _read(response)
    return read_body(response, strict=listed_expirations, tolerant=listed_expirations)


class _Contracts:
    """Typed contracts in wire order, made into columns batch by batch; the last batch stays open for more."""

    def __init__(self) -> None:
        self.height = 0
        self.counts = Counter[str]()
        self.deliverables = Counter[bytes]()
        self._rows = RowColumns(CONTRACT)
        self._batches: list[pl.DataFrame] = []

    def extend(self, contracts: Sequence[Any], unknown: Unknown = NOTHING_UNKNOWN) -> None:
        """Take on contracts, decoded with these unknown fields."""
        for contract in contracts:
            contract.deliverables = bytes(contract.deliverables)  # once: each is looked at twice
        self.deliverables.update([contract.deliverables for contract in contracts])
        self.height += len(contracts)
        for start in range(0, len(contracts), ROWS_AT_ONCE):
            self._rows.extend(contracts[start : start + ROWS_AT_ONCE], unknown)
            self._close_batch(ROWS_AT_ONCE)

    def take(self, following: _Contracts) -> None:
        """Take on all contracts of another; responses of few contracts share a batch."""
        if following._batches:
            self._close_batch()
            self._batches += following._batches
        self.height += following.height
        self.counts += following.counts
        self._rows.take(following._rows)
        self._close_batch(ROWS_AT_ONCE)

    def finished(self) -> pl.DataFrame:
        """The columns of all contracts."""
        self._close_batch(0 if not self._batches else 1)
        return pl.concat(self._batches)

    def _close_batch(self, least: int = 1) -> None:
        """Make columns of the open batch if it has as many rows."""
        if self._rows.height < least:
            return
        rows, self._rows = self._rows, RowColumns(CONTRACT)
        self._batches.append(pl.DataFrame([*rows.series(), *_derived(rows)]))
        self.counts += rows.counts


@dataclass(frozen=True)
class _Chain:
    """One chain response, read: its header and underlying as typed structs, its contracts, and what was wrong."""

    header: Any
    underlying: Any
    contracts: _Contracts
    bad: list[BadRow]
    counts: Counter[str]

    @property
    def missing_contracts(self) -> int:
        """How many contracts fewer came than the header announces; 0 where it announces none."""
        announced = self.header.announced_contracts
        came = self.contracts.height + len(self.bad)
        return max(0, int(announced) - came) if isinstance(announced, int | float) else 0


def _document_type(unknown: Unknown) -> type[msgspec.Struct]:
    """A chain whose expirations are still bytes."""
    side: Any = dict[str, msgspec.Raw] | None
    underlying = row_type(UNDERLYING, unknown) | None
    return envelope_type(CHAIN, unknown, [("underlying", underlying, None), *((name, side, None) for name in _SIDES)])


def _expiration_type(unknown: Unknown) -> Any:
    contract: Any = row_type(CONTRACT, unknown)
    return dict[str, list[contract]]


def _read(response: RawResponse) -> _Chain:
    """The chain of a response; raises ResponseRejectedError when none of it can be used."""
    chain = read_body(response, strict=_read_strict, tolerant=_read_tolerant)
    header, rows = chain.header, chain.contracts.height + len(chain.bad)
    if header.status in {"FAILED", "NO_DATA"}:
        raise ResponseRejectedError("chain_failed", f"status {header.status}")
    if header.is_truncated:
        raise ResponseRejectedError("chain_truncated", "the source left contracts out (isChainTruncated)")
    if not rows:
        raise ResponseRejectedError("empty_chain", "not one contract")
    require_symbol(header.symbol, response.request.symbols)
    if header.announced_contracts not in {None, rows}:
        chain.counts["announced_contracts_differ"] += 1
    if header.status not in {None, "SUCCESS"}:
        chain.counts[f"unknown_value:status={header.status[:40]}"] += 1
    return chain


def _read_strict(body: bytes) -> _Chain | None:
    """The chain by the fast path; None when a repeated key would hide a contract.

    Each expiration is decoded when its turn comes, so that its objects are gone before they leave a processor's cache.
    """
    document, unknown = decode_strict(body, _document_type, _PLACES)
    sides = [side for side in (getattr(document, name) for name in _SIDES) if side is not None]
    contracts, strikes = _Contracts(), 0
    for expiration_body in (found for side in sides for found in side.values()):
        listed, unknown = decode_strict(expiration_body, _expiration_type, _EXPIRATION_PLACES, unknown)
        strikes += len(listed)
        contracts.extend([contract for found in listed.values() for contract in found], unknown)
    if not sides or _hides_contracts(body, document, sides, contracts):
        return None
    if not unknown and count_keys(body) > _declared_keys(body, document, sides, strikes, contracts):
        return None
    return _Chain(document, document.underlying, contracts, [], unknown_around(unknown, CONTRACT))


def _hides_contracts(body: bytes, document: Any, sides: Sequence[Any], contracts: _Contracts) -> bool:
    """Whether a body has more contracts than were read, because a key around some came twice.

    None is hidden where no object is: those read are counted first, which takes a quarter of the time.
    """
    objects = 1 + (document.underlying is not None) + len(sides) + sum(map(len, sides)) + contracts.height
    objects += sum(count_objects(raw) * times for raw, times in contracts.deliverables.items())
    return count_objects(body) > objects and body.count(b'"strikePrice"') != contracts.height


def _declared_keys(body: bytes, document: Any, sides: Sequence[Any], strikes: int, contracts: _Contracts) -> int:
    """How many keys a body has at most if each declared one comes once; one with more repeats a key.

    Exact where every declared field came, as the source sends them; fields that are missing hide as many repeats.
    """
    most = len(CHAIN.fields) + len(sides) + sum(map(len, sides)) + strikes + contracts.height * len(CONTRACT.fields)
    if document.underlying is not None:
        most += 1 + len(UNDERLYING.fields)
    elif b'"underlying":null' in body:
        most += 1
    return most + sum(count_keys(raw) * times for raw, times in contracts.deliverables.items())


def _read_tolerant(body: bytes) -> _Chain:
    """The chain by the slow path, which keeps what can be read and names what cannot."""
    document = tolerant_object(body, "a chain")
    sides = required_members(document, _SIDES)
    envelope = {name: value for name, value in document.items() if name not in {"underlying", *_SIDES}}
    header, counts = convert_header(envelope, CHAIN)
    underlying, more = None, Counter[str]()
    if isinstance(document.get("underlying"), dict):
        underlying, more = convert_header(document["underlying"], UNDERLYING)
    good, bad, unknown = convert_rows(_listed(sides), CONTRACT)
    contracts = _Contracts()
    contracts.extend(good)
    counts += more + unknown + Counter(tolerant_parse=1)
    for shape, value in ((CHAIN, document), (UNDERLYING, document.get("underlying"))):
        counts[f"repeated_field:{shape.name}"] += isinstance(value, RepeatedKeys)
    return _Chain(header, underlying, contracts, bad, counts)


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


_HEADER_MODELS: Final = ("underlying_price", "interest_rate", "dividend_yield")
_OF_UNDERLYING: Final = tuple(f"underlying_{name}" for name in ("bid", "ask", "last", "mark", "quote_time"))
_HEADER_COLUMNS: Final = pl.Schema(
    {
        name: COLUMNS[name].dtype
        for name in (
            *("symbol", "session_date", "snapshot_time", "chain_scope", *_HEADER_MODELS, *_OF_UNDERLYING),
            *("underlying_asset_type", "underlying_asset_sub_type", "is_index", "is_delayed"),
        )
    }
    | {"fresh_since": TIME, "underlying_quote_time": pl.Float64()}
)


class _Table:
    """Chain responses of one capture becoming one table."""

    def __init__(self, session_date: date, intake: Intake) -> None:
        self._session_date = session_date
        self._intake = intake
        self._contracts = _Contracts()
        self._headers: list[dict[str, Any]] = []
        self._heights: list[int] = []
        self._snapshots = Snapshots()
        self._short = Counter[str]()
        self._empty: dict[str, list[ChainPiece | None]] = {}
        self.listed: dict[str, Listed] = {}

    def read(self, response: RawResponse) -> _Chain | Listed:
        """A response read; one without a contract is refused, but remembered as a piece that came."""
        try:
            return _read_answer(response)
        except ResponseRejectedError as error:
            if error.reason in {"empty_chain", "chain_failed"}:  # a window without contracts is called either
                for symbol in response.request.symbols:  # of a recording without its request none is known
                    self._empty.setdefault(symbol, []).append(piece_of(response.request.params))
            raise

    def add(self, response: RawResponse, chain: _Chain, request: str) -> None:
        """Take on the contracts of one response; `request` is what asked for it, as text."""
        symbol, arrived = chain.header.symbol, response.received_time
        self._intake.counts += chain.counts
        self._intake.reject(chain.bad, symbol=symbol, snapshot_time=arrived, request=request)
        self._snapshots.add(symbol, response.request.params, received_time=arrived)
        fresh = fresh_since(arrived, self._session_date, option_product(symbol))
        self._headers.append(_header(chain) | {"session_date": self._session_date, "fresh_since": fresh})
        self._heights.append(chain.contracts.height)
        self._contracts.take(chain.contracts)
        self._short[symbol] += chain.missing_contracts

    def finished(self) -> pl.DataFrame:
        """The table of everything added."""
        contracts = self._contracts.finished()
        self._intake.counts += self._contracts.counts
        response_of_row = np.repeat(np.arange(len(self._heights), dtype=np.uint32), self._heights)
        refused = self._refused(self._expirations(contracts, response_of_row) if self.listed else {})
        for header, (scope, complete) in zip(self._headers, self._snapshots.each(self._session_date), strict=True):
            header |= {"chain_scope": self._proven(header["symbol"], scope, refused), "snapshot_time": complete}
        headers = pl.DataFrame(self._headers, schema=_HEADER_COLUMNS, orient="row")
        wire = pl.concat([contracts, headers[response_of_row]], how="horizontal")
        table, counts = contract_table(wire, SCHEMA.names)
        self._intake.counts += counts
        return table

    def _expirations(self, contracts: pl.DataFrame, response_of_row: np.ndarray) -> dict[str, set[tuple[date, str]]]:
        """The expirations of each symbol's contracts, by date and plain root."""
        seen: dict[str, set[tuple[date, str]]] = {}
        root = pl.col("option_root").replace("", None).fill_null(pl.col("option_symbol").str.head(_ROOT_LENGTH))
        named = contracts.select("expiration_date", root, response=pl.Series(response_of_row)).unique()
        for day, root, response in named.drop_nulls().iter_rows():
            seen.setdefault(self._headers[response]["symbol"], set()).add((day, plain_root(root)))
        return seen

    def _refused(self, seen: Mapping[str, set[tuple[date, str]]]) -> dict[str, str]:
        """The symbols whose full chain is not whole, each with what is missing."""
        pieces = self._snapshots.pieces()
        found = {}
        for symbol, listed in self.listed.items():
            answered = [*pieces.get(symbol, []), *self._empty.get(symbol, [])]
            known = [piece for piece in answered if piece is not None]
            came, short = seen.get(symbol, set()), self._short[symbol]
            found[symbol] = shortfall(listed, known, came, short, session_date=self._session_date)
        for symbol, short in self._short.items():
            scope = chain_scope(pieces[symbol], self._session_date) if symbol not in found else None
            if scope == PARTIAL:
                found[symbol] = "its pieces leave a hole"
            elif scope == FULL and short:
                found[symbol] = f"{short:,} contracts fewer than announced"
        refused = {symbol: detail for symbol, detail in found.items() if detail}
        for symbol, detail in refused.items():
            error = ResponseRejectedError("incomplete_chain", detail)
            self._intake.note_problem(error, symbols=(symbol,), request=request_text(PATH, [("symbol", symbol)]))
        return refused

    def _proven(self, symbol: str, scope: str, refused: Collection[str]) -> str:
        """The scope of a symbol's chain as far as it is proven: its own list of expirations decides where it came."""
        if symbol in refused:
            return PARTIAL
        return FULL if self.listed.get(symbol) else scope


def _header(chain: _Chain) -> dict[str, Any]:
    """What the header and the underlying say of every contract; a model's number sent as text is none."""
    row = {name: getattr(chain.header, name) for name in _HEADER_COLUMNS if hasattr(chain.header, name)}
    row |= {name: getattr(chain.underlying, name, None) for name in _OF_UNDERLYING}
    row |= {name: None for name in _HEADER_MODELS if isinstance(row[name], str)}
    return row | {"underlying_asset_sub_type": chain.header.underlying_asset_sub_type or None}


class _Reckoned(dict[Any, Any]):
    """What a function makes of each value, reckoned once per distinct one."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, value: Any) -> Any:
        found = self[value] = self._function(value)
        return found


def _derived(rows: RowColumns) -> list[pl.Series]:
    """Columns that need more than arithmetic, each reckoned once per distinct value."""
    ends = _Reckoned(lambda pair: expiration(*pair))
    texts = _Reckoned(_deliverables_text)
    stated = zip(rows.values("expiration"), rows.values("settlement_type"), strict=True)
    reckoned = list(map(ends.__getitem__, stated))
    listed = list(map(texts.__getitem__, rows.values("deliverables")))
    return [
        pl.Series("expiration_date", [day for day, _ in reckoned], dtype=pl.Int32).cast(pl.Date),
        pl.Series("expiration_time", [instant for _, instant in reckoned], dtype=pl.Int64).cast(TIME),
        pl.Series("deliverables", listed, dtype=pl.String),
    ]


def _deliverables_text(raw: bytes) -> str | None:
    """Units, symbol and kind of each thing delivered; null when none is listed."""
    try:
        things = _DELIVERABLES.decode(raw) if raw else None
    except NOT_STRICT:
        return raw.decode("utf-8", "replace")[:200]
    if not things:
        return None
    return "; ".join(f"{thing.units:.15g} {thing.symbol} {thing.kind}" for thing in things)


class _Deliverable(msgspec.Struct, frozen=True):
    units: float = msgspec.field(name="deliverableUnits")
    symbol: str
    kind: str = msgspec.field(name="assetType")


# made here: two threads that decode a type for the first time at once crash the library
_DELIVERABLES = msgspec.json.Decoder(list[_Deliverable] | None)
