"""Below `/marketdata/v1`: from a path and its parameters to an answer, refusals included.

The instant the market is shown at is handed in; nothing here reads a clock, checks a token or touches a socket.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal

from trade_analyst_pipeline.market.sessions import NEW_YORK
from trade_analyst_pipeline.simulator.analytical import Assumptions, assumed
from trade_analyst_pipeline.simulator.answers import Answer, json_answer
from trade_analyst_pipeline.simulator.contracts import evaluate
from trade_analyst_pipeline.simulator.faults import too_big_answer
from trade_analyst_pipeline.simulator.instruments import instrument_on
from trade_analyst_pipeline.simulator.limits import AnswerLimits
from trade_analyst_pipeline.simulator.wire_chains import (
    ChainQuery,
    Side,
    chain_body,
    estimated_bytes,
    expiration_chain_body,
    select,
    truncated,
)
from trade_analyst_pipeline.simulator.wire_history import HistoryQueryError, history_body, parse_history_query
from trade_analyst_pipeline.simulator.wire_movers import MOVER_FREQUENCIES, MOVER_LISTS, MOVER_SORTS, movers_body
from trade_analyst_pipeline.simulator.wire_quotes import QUOTE_BLOCKS, quote_entry, quotes_body
from trade_analyst_pipeline.simulator.wire_reference import (
    MARKETS,
    PROJECTIONS,
    by_cusip,
    errors_body,
    find_instruments,
    last_date_of_hours,
    markets_body,
)
from trade_analyst_pipeline.simulator.wire_shares import year_range
from trade_analyst_pipeline.simulator.wire_spreads import SPREADS, Request, strategy_list

if TYPE_CHECKING:
    from trade_analyst_pipeline.simulator.contracts import Board
    from trade_analyst_pipeline.simulator.market import Market, Moment

Params = Mapping[str, str]
_USUAL_LIMITS = AnswerLimits()
_SURELY_OVER = 1.05

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_RANGES = frozenset(["ITM", "NTM", "OTM", "SAK", "SBK", "SNK", "ALL"])
_REFUSED_STRATEGIES = frozenset(["COVERED", "BUTTERFLY", "CONDOR", "COLLAR", "ROLL"])
_SIDES: dict[str, tuple[Side, ...]] = {"CALL": ("CALL",), "PUT": ("PUT",), "ALL": ("CALL", "PUT")}
_OPTION_TYPES: dict[str, Literal["S", "NS", "ALL"]] = {"S": "S", "NS": "NS", "ALL": "ALL"}
_POINTERS = [f"/data/attributes/{name}" for name in ("symbols", "cusips", "ssids")]


class RefusedError(Exception):
    """A request the source refuses with 400; carries the detail and the parameter or pointer."""

    def __init__(self, detail: str, source: Any = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.source = source


def answer(
    market: Market, instant: datetime, path: str, params: Params, limits: AnswerLimits = _USUAL_LIMITS
) -> Answer:
    """The answer to one authorised GET; `path` starts with a slash and is decoded."""
    try:
        found = _dispatch(market, instant, path, params, limits)
    except RefusedError as refused:
        return json_answer(errors_body(400, "Bad Request", refused.detail, refused.source), 400)
    except HistoryQueryError as refused:
        return json_answer(errors_body(400, "Bad Request", str(refused)), 400)
    except ValueError as refused:
        return json_answer(errors_body(400, "Bad Request", str(refused)), 400)
    return found if isinstance(found, Answer) else json_answer(found)


def _dispatch(
    market: Market, instant: datetime, path: str, params: Params, limits: AnswerLimits
) -> Answer | dict[str, Any]:
    if path == "/quotes":
        return _quotes(market, instant, params, limits)
    if path == "/chains":
        return _chains(market, instant, params, limits)
    route = _ROUTES.get(path)
    if route is not None:
        return route(market, instant, params)
    head, _, tail = path[1:].partition("/")
    if head in _BELOW and tail:
        return _BELOW[head](market, instant, tail, params)
    if tail == "quotes" and head:
        return _single_quote(market, instant, head, params)
    return Answer(404, f"Requested route ('{path}') does not exist".encode(), "text/plain")


def _not_found() -> Answer:
    return json_answer(errors_body(404, "Not Found"), 404)


def _today(instant: datetime) -> date:
    return instant.astimezone(NEW_YORK).date()


# -- quotes ------------------------------------------------------------------------------------------------------


def _quotes(market: Market, instant: datetime, params: Params, limits: AnswerLimits) -> dict[str, Any]:
    symbols = [symbol.strip(" ") if len(symbol) != 21 else symbol for symbol in params.get("symbols", "").split(",")]
    symbols = [symbol for symbol in symbols if symbol]
    if not symbols:
        raise RefusedError("Search combination should have min of 1.", {"pointer": _POINTERS})
    if len(symbols) > limits.most_symbols:
        raise RefusedError(f"Search combination should not exceed {limits.most_symbols}.", {"pointer": _POINTERS})
    is_indicative = _one_of(params, "indicative", {"true", "false"}, "false") == "true"
    return quotes_body(market, instant, symbols, _blocks(params), indicative=is_indicative)


def _blocks(params: Params) -> frozenset[str]:
    wanted = frozenset(name for name in params.get("fields", "all").split(",") if name)
    if not wanted <= {"all", *QUOTE_BLOCKS}:
        detail = "valid fields should be any of all,fundamental,reference,extended,quote,regular or empty value"
        raise RefusedError(detail, {"parameter": "fields"})
    return frozenset(QUOTE_BLOCKS) if "all" in wanted or not wanted else wanted


def _single_quote(market: Market, instant: datetime, symbol: str, params: Params) -> Answer | dict[str, Any]:
    blocks = _blocks(params)
    if quote_entry(market, instant, symbol) is None:
        return _not_found()
    return quotes_body(market, instant, [symbol], blocks)


# -- chains ------------------------------------------------------------------------------------------------------


def _chains(market: Market, instant: datetime, params: Params, limits: AnswerLimits) -> Answer | dict[str, Any]:
    query, strategy = _chain_query(instant, params), params.get("strategy", "SINGLE")
    if instrument_on(query.symbol, _today(instant)) is None:
        return _not_found()
    moment = market.moment(query.symbol, instant)
    selection = select(market, moment, query)
    if estimated_bytes(selection, len(query.sides)) > _SURELY_OVER * limits.gateway_bytes:
        return too_big_answer()
    board = evaluate(market, moment, selection) if selection.size else None
    underlying = _underlying(market, moment) if query.with_underlying else None
    if strategy in SPREADS:
        body = _spreads(board, moment, query, underlying, params)
    elif strategy == "ANALYTICAL":
        body = _analytical(board, moment, query, underlying, params)
    else:
        body = chain_body(board, moment, query, underlying)
    encoded = json_answer(body if limits.most_contracts is None else truncated(body, limits.most_contracts))
    return too_big_answer() if len(encoded.body) > limits.gateway_bytes else encoded


def _spreads(
    board: Board | None, moment: Moment, query: ChainQuery, underlying: dict[str, Any] | None, params: Params
) -> dict[str, Any]:
    """A chain of strategies: empty maps, and the list of pairs."""
    strategy, interval = params["strategy"], _decimal(params, "interval")
    found = [] if board is None else strategy_list(board, Request(strategy, query.sides, interval))
    status = "SUCCESS" if found else "FAILED"
    said = {"status": status, "strategy": strategy, "interval": interval or 0.0, "monthlyStrategyList": found}
    return chain_body(None, moment, query, underlying) | said


def _analytical(
    board: Board | None, moment: Moment, query: ChainQuery, underlying: dict[str, Any] | None, params: Params
) -> dict[str, Any]:
    """A chain on the caller's assumptions, which it repeats."""
    names = ("volatility", "underlyingPrice", "interestRate", "daysToExpiration")
    told = {name: value for name in names if (value := _decimal(params, name)) is not None}
    wanted = Assumptions(*(told.get(name) for name in names))
    body = chain_body(board if board is None else assumed(board, wanted), moment, query, underlying)
    return body | {"strategy": "ANALYTICAL"} | told


def _chain_query(instant: datetime, params: Params) -> ChainQuery:
    strategy = params.get("strategy", "SINGLE")
    if strategy in _REFUSED_STRATEGIES:
        raise RefusedError(f"strategy {strategy} is not simulated", {"parameter": "strategy"})
    _one_of(params, "strategy", {"SINGLE", "ANALYTICAL", *SPREADS}, "SINGLE")
    first, last = _date(params, "fromDate"), _date(params, "toDate")
    if first is not None and first < _today(instant):
        raise RefusedError("fromDate must not be before today", {"parameter": "fromDate"})
    if first is not None and last is not None and last < first:
        raise RefusedError("toDate must not be before fromDate", {"parameter": "toDate"})
    month = _one_of(params, "expMonth", {*_MONTHS, "ALL"}, "ALL")
    if not params.get("symbol"):
        raise RefusedError("symbol is required", {"parameter": "symbol"})
    return ChainQuery(
        symbol=params["symbol"],
        sides=_SIDES[_one_of(params, "contractType", set(_SIDES), "ALL")],
        strike_count=_whole(params, "strikeCount"),
        strike=_decimal(params, "strike"),
        moneyness=_one_of(params, "range", set(_RANGES), "ALL"),
        first=first,
        last=last,
        month=None if month == "ALL" else _MONTHS.index(month) + 1,
        with_underlying=params.get("includeUnderlyingQuote", "false").lower() == "true",
        option_type=_OPTION_TYPES[_one_of(params, "optionType", set(_OPTION_TYPES), "ALL")],
    )


def _one_of(params: Params, name: str, known: set[str], default: str) -> str:
    value = params.get(name, default)
    if value not in known:
        raise RefusedError(f"valid values for {name} are: {', '.join(sorted(known))}", {"parameter": name})
    return value


def _date(params: Params, name: str) -> date | None:
    text = params.get(name)
    if text is None:
        return None
    if not _DATE.fullmatch(text):
        raise RefusedError(f"{name} must be of format yyyy-MM-dd", {"parameter": name})
    return date.fromisoformat(text)


def _whole(params: Params, name: str) -> int | None:
    text = params.get(name)
    if text is None:
        return None
    if not text.isdigit() or int(text) == 0:
        raise RefusedError(f"{name} must be a positive whole number", {"parameter": name})
    return int(text)


def _decimal(params: Params, name: str) -> float | None:
    text = params.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        raise RefusedError(f"{name} must be a positive number", {"parameter": name})
    return float(text)


def _underlying(market: Market, moment: Moment) -> dict[str, Any]:
    instrument, reach = moment.instrument, year_range(market, moment)
    change = round(moment.spot - moment.previous_close, 2)
    percent = round(100.0 * change / moment.previous_close, 2)
    half = 0.0 if instrument.is_index else 0.01
    stamp = int(moment.seconds * 1000.0)
    return {
        "symbol": instrument.symbol,
        "description": instrument.description,
        "change": change,
        "percentChange": percent,
        "close": moment.previous_close,
        "quoteTime": stamp,
        "tradeTime": stamp - 400,
        "bid": round(moment.spot - half, 2),
        "ask": round(moment.spot + half, 2),
        "last": moment.spot,
        "mark": moment.spot,
        "markChange": change,
        "markPercentChange": percent,
        "bidSize": 0 if instrument.is_index else 2,
        "askSize": 0 if instrument.is_index else 3,
        "highPrice": moment.high,
        "lowPrice": moment.low,
        "openPrice": moment.opened,
        "totalVolume": market.volume(moment),
        "exchangeName": "IND" if instrument.is_index else {"Q": "NASDAQ", "N": "NYS"}.get(instrument.exchange, "PAC"),
        "fiftyTwoWeekHigh": reach.high,
        "fiftyTwoWeekLow": reach.low,
        "delayed": False,
    }


def _expiration_chain(market: Market, instant: datetime, params: Params) -> Answer | dict[str, Any]:
    symbol = params.get("symbol")
    if not symbol:
        raise RefusedError("symbol is required", {"parameter": "symbol"})
    if instrument_on(symbol, _today(instant)) is None:
        return _not_found()
    return expiration_chain_body(market.moment(symbol, instant))


# -- history and reference ---------------------------------------------------------------------------------------


def _history(market: Market, instant: datetime, params: Params) -> dict[str, Any]:
    if not params.get("symbol"):
        raise RefusedError("symbol is required", {"parameter": "symbol"})
    query = parse_history_query(dict(params))
    instrument = instrument_on(query.symbol, _today(instant))
    if instrument is None or instrument.kind in {"future", "forex"}:
        return {"candles": [], "symbol": query.symbol, "empty": True}
    return history_body(market, market.moment(query.symbol, instant), query)


def _markets(_: Market, instant: datetime, params: Params) -> dict[str, Any]:
    names = [name for name in params.get("markets", "").split(",") if name]
    if not names or not set(names) <= set(MARKETS):
        raise RefusedError(f"valid values for markets are: {', '.join(MARKETS)}", {"parameter": "markets"})
    return markets_body(names, _hours_date(instant, params))


def _one_market(_: Market, instant: datetime, name: str, params: Params) -> Answer | dict[str, Any]:
    if name not in MARKETS:
        return _not_found()
    return markets_body([name], _hours_date(instant, params))


def _hours_date(instant: datetime, params: Params) -> date:
    today = _today(instant)
    day = _date(params, "date") or today
    if not today <= day <= last_date_of_hours(today):
        raise RefusedError("date must be between today and one year from now", {"parameter": "date"})
    return day


def _instruments(market: Market, instant: datetime, params: Params) -> dict[str, Any]:
    projection = _one_of(params, "projection", set(PROJECTIONS), "symbol-search")
    if not params.get("symbol"):
        raise RefusedError("symbol is required", {"parameter": "symbol"})
    return find_instruments(market, instant, params["symbol"], projection)


def _cusip(market: Market, instant: datetime, cusip: str, _: Params) -> Answer | dict[str, Any]:
    return by_cusip(market, instant, cusip) or _not_found()


def _movers(market: Market, instant: datetime, index: str, params: Params) -> Answer | dict[str, Any]:
    if index not in MOVER_LISTS:
        return _not_found()
    _one_of(params, "frequency", set(MOVER_FREQUENCIES), "0")
    return movers_body(market, instant, index, _one_of(params, "sort", set(MOVER_SORTS), "VOLUME"))


_ROUTES: dict[str, Callable[[Market, datetime, Params], Answer | dict[str, Any]]] = {
    "/expirationchain": _expiration_chain,
    "/pricehistory": _history,
    "/markets": _markets,
    "/instruments": _instruments,
}
_BELOW: dict[str, Callable[[Market, datetime, str, Params], Answer | dict[str, Any]]] = {
    "markets": _one_market,
    "instruments": _cusip,
    "movers": _movers,
}
