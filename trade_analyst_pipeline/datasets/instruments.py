"""Instruments: search by symbol or description, fundamentals, and by CUSIP; how each is asked for and what it becomes.

One row per symbol and snapshot; fundamentals are null where they were not asked for. The source writes 0 for a figure
it does not know. Of ratios, margins and sizes a 0 is null here, since none is exactly 0; what quotes have too
(dividends, mean volume of ten days, leverage) is as sent in both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, Final, Literal

import msgspec
import polars as pl

from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market import vendor_values as vendor
from trade_analyst_pipeline.market.answers import refuse_error_body, usable_answers
from trade_analyst_pipeline.market.columns import TIME, Rule, table_schema
from trade_analyst_pipeline.market.listed_answers import Document, ListedAnswer, ListedRows, ListShape, read_listed
from trade_analyst_pipeline.market.normalized import Intake, Normalized
from trade_analyst_pipeline.market.row_layout import RowLayout
from trade_analyst_pipeline.market.tolerant_json import BadRow
from trade_analyst_pipeline.market.wire_json import RowShape, wire_fields
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse

NAME: Final = "instruments"
PATH: Final = "/instruments"
_CUSIP: Final = "^[0-9A-Z*@#]{9}$"
MAX_SYMBOLS: Final = 100  # in one request; the source states no limit, and an address has to stay short
Projection = Literal["symbol-search", "symbol-regex", "desc-search", "desc-regex", "search", "fundamental"]

INSTRUMENT: Final = RowShape(
    "instrument",
    wire_fields(
        "cusip:cusip:text symbol:symbol:text! description:description:text exchange:exchange_name:text",
        "assetType:instrument_type:text",
    ),
)
FUNDAMENTAL: Final = RowShape(
    "fundamental",
    wire_fields(
        "symbol:fundamental_symbol:text high52:high_52_week:number low52:low_52_week:number",
        "dividendAmount:dividend_amount:number dividendYield:dividend_yield:number",
        "dividendDate:dividend_ex_date:text peRatio:price_earnings_ratio:number",
        "pegRatio:price_earnings_growth_ratio:number pbRatio:price_book_ratio:number",
        "prRatio:price_revenue_ratio:number pcfRatio:price_cash_flow_ratio:number",
        "grossMarginTTM:gross_margin_ttm_pct:number grossMarginMRQ:gross_margin_mrq_pct:number",
        "netProfitMarginTTM:net_margin_ttm_pct:number netProfitMarginMRQ:net_margin_mrq_pct:number",
        "operatingMarginTTM:operating_margin_ttm_pct:number operatingMarginMRQ:operating_margin_mrq_pct:number",
        "returnOnEquity:return_on_equity_pct:number returnOnAssets:return_on_assets_pct:number",
        "returnOnInvestment:return_on_investment_pct:number quickRatio:quick_ratio:number",
        "currentRatio:current_ratio:number interestCoverage:interest_coverage:number",
        "totalDebtToCapital:total_debt_to_capital_pct:number ltDebtToEquity:long_term_debt_to_equity_pct:number",
        "totalDebtToEquity:total_debt_to_equity_pct:number epsTTM:earnings_per_share_ttm:number",
        "epsChangePercentTTM:earnings_per_share_change_ttm_pct:number",
        "epsChangeYear:earnings_per_share_change_year:number epsChange:earnings_per_share_change:number",
        "revChangeYear:revenue_change_year_pct:number revChangeTTM:revenue_change_ttm_pct:number",
        "revChangeIn:revenue_change_in:number sharesOutstanding:shares_outstanding:number",
        "marketCapFloat:market_cap_float:number marketCap:market_cap:number",
        "bookValuePerShare:book_value_per_share:number shortIntToFloat:short_interest_to_float:number",
        "shortIntDayToCover:short_interest_days_to_cover:number divGrowthRate3Year:dividend_growth_3_years:number",
        "dividendPayAmount:dividend_pay_amount:number dividendPayDate:dividend_pay_date:text beta:beta:number",
        "vol1DayAvg:volume_1_day_average:number vol10DayAvg:volume_10_day_average:number",
        "vol3MonthAvg:volume_3_month_average:number avg10DaysVolume:average_volume_10_days:number",
        "avg1DayVolume:average_volume_1_day:number avg3MonthVolume:average_volume_3_months:number",
        "declarationDate:dividend_declaration_date:text dividendFreq:dividend_frequency:whole",
        "eps:earnings_per_share:number dtnVolume:dtn_volume:number",
        "nextDividendPayDate:next_dividend_pay_date:text nextDividendDate:next_dividend_ex_date:text",
        "fundLeverageFactor:fund_leverage_factor:number",
    ),
)
LIST: Final = ListShape("instruments", RowShape("found", ()), INSTRUMENT, (FUNDAMENTAL,))

LAYOUT: Final = RowLayout(
    rows=(f"{LIST.member} []",),
    row=INSTRUMENT,
    blocks=(FUNDAMENTAL,),
    may_be_bare=True,
    beside={"session_date": "capture", "snapshot_time": "arrival"},
)

_DAYS: Final = tuple(field.column for field in FUNDAMENTAL.fields if field.column.endswith("_date"))
# What quotes have too, and where 0 is a value.
_AS_SENT: Final = frozenset(
    [
        *("dividend_amount", "dividend_pay_amount", "dividend_frequency"),
        *("average_volume_10_days", "earnings_per_share", "fund_leverage_factor", "dividend_yield"),
    ]
)
_NEVER_ZERO: Final = tuple(
    field.column for field in FUNDAMENTAL.fields if field.kind == "number" and field.column not in _AS_SENT
)
_EXPECTED: Final = {
    "instrument_type": frozenset(
        {"BOND", "EQUITY", "ETF", "EXTENDED", "FOREX", "FUTURE", "FUTURE_OPTION", "FUNDAMENTAL", "INDEX", "INDICATOR"}
        | {"MUTUAL_FUND", "OPTION", "UNKNOWN"}
    )
}

SCHEMA: Final = table_schema(
    NAME,
    "1.0",
    key=("symbol", "snapshot_time"),
    event_time="snapshot_time",
    known_time="snapshot_time",
    columns=(
        *("symbol", "session_date", "snapshot_time", "cusip", "description", "exchange_name", "instrument_type"),
        *(field.column for field in FUNDAMENTAL.fields if field.column != "fundamental_symbol"),
    ),
    required=("session_date",),
    rules=(
        Rule(
            "cusip_malformed",
            pl.col("cusip").str.contains(_CUSIP),
            "A CUSIP has nine characters.",
            "warning",
        ),
        Rule(
            "year_range_disordered",
            pl.col("high_52_week") >= pl.col("low_52_week"),
            "The 52-week high is not below the low.",
            "warning",
        ),
        Rule("negative_shares", pl.col("shares_outstanding") >= 0, "The shares outstanding are not negative."),
        Rule("negative_market_cap", pl.col("market_cap") >= 0, "The market capitalisation is not negative."),
        Rule("negative_dividend", pl.col("dividend_amount") >= 0, "Dividends are not negative."),
    ),
)


def requests(symbols: Iterable[str]) -> list[MarketDataRequest]:
    """Requests for the fundamentals of each symbol, each symbol once, at most 100 in one request."""
    wanted = tuple(dict.fromkeys(symbols))
    batches = [wanted[start : start + MAX_SYMBOLS] for start in range(0, len(wanted), MAX_SYMBOLS)]
    return [MarketDataRequest(NAME, PATH, _query(",".join(batch), "fundamental"), batch) for batch in batches]


def search(text: str, *, projection: Projection = "symbol-search") -> MarketDataRequest:
    """The request for all instruments whose symbol or description fits a text or regular expression."""
    return MarketDataRequest(NAME, PATH, _query(text, projection))


def by_cusip(cusip: str) -> MarketDataRequest:
    """The request for the instrument of a CUSIP, whose leading zeros belong to it; raises ValueError for other text."""
    if not is_cusip(cusip):
        message = f"{cusip!r} is no CUSIP: nine digits, upper-case letters, or any of * @ #"
        raise ValueError(message)
    return MarketDataRequest(NAME, f"{PATH}/{cusip}")


def is_cusip(text: str) -> bool:
    """Whether a text has the form of a CUSIP; nothing else may become part of an address."""
    return re.fullmatch(_CUSIP, text) is not None


def _query(text: str, projection: Projection) -> tuple[tuple[str, str], ...]:
    return ("symbol", text), ("projection", projection)


def normalize(responses: Iterable[RawResponse], *, session_date: date) -> Normalized:
    """The instruments of one capture as rows of SCHEMA; symbols asked for and left out of the answer are problems."""
    intake, rows = Intake(), ListedRows(LIST, {"snapshot_time": TIME})
    for response, answer, request in usable_answers(responses, _read, intake):
        missing = _left_out(answer, response.request.symbols)
        if missing:
            error = ResponseRejectedError("not_answered", "asked for and left out of the answer")
            intake.note_problem(error, symbols=missing, request=request)
        intake.counts += answer.counts
        intake.reject(answer.bad, symbol=None, snapshot_time=response.received_time, request=request)
        rows.extend(answer, response.received_time)
    return intake.normalized(_table(rows, session_date, intake))


def left_out(response: RawResponse) -> tuple[str, ...]:
    """The symbols asked for that an answer does not have, in the order asked.

    None of an answer that is no list of instruments: that is a problem of another kind.
    """
    try:
        answer = _read(response)
    except ResponseRejectedError as error:
        return response.request.symbols if error.reason == "nothing_found" else ()
    return _left_out(answer, response.request.symbols)


def names(response: RawResponse) -> dict[str, str]:
    """The symbols of an answer, each with its CUSIP ('' if not said); none of one that holds no instruments."""
    try:
        return {row.symbol: row.cusip or "" for row in _read(response).rows}
    except ResponseRejectedError:
        return {}


def _read(response: RawResponse) -> ListedAnswer:
    """The instruments of a response; raises ResponseRejectedError when it holds none."""
    answer = read_listed(response, LIST, "instruments", as_listed=_as_listed)
    if not answer.rows and not answer.bad:
        raise ResponseRejectedError("nothing_found", _NOTHING)
    answer.reject(_of_another)
    return answer


_NOTHING: Final = "the source found no instrument"


def _as_listed(document: Document) -> Document:
    """The specification has a CUSIP's instrument bare; nothing found is an empty object."""
    if not document:
        raise ResponseRejectedError("nothing_found", _NOTHING)
    refuse_error_body(document)
    is_bare = LIST.member not in document and "cusip" in document
    return {LIST.member: [document]} if is_bare else document


def _of_another(row: Any) -> BadRow | None:
    """Why the fundamentals of a row are not its own; None when they are, or there are none."""
    named = row.fundamental.fundamental_symbol if row.fundamental else None
    if named in {None, row.symbol}:
        return None
    detail = f"fundamentals of {named[:40]} below the symbol {row.symbol[:40]}"
    return BadRow("fundamentals_of_another", detail, msgspec.json.encode(row).decode())


def _left_out(answer: ListedAnswer, asked: Sequence[str]) -> tuple[str, ...]:
    answered = {row.symbol for row in answer.rows}
    sources = [bad.source for bad in answer.bad]
    return tuple(symbol for symbol in asked if symbol not in answered and not any(symbol in text for text in sources))


def _table(rows: ListedRows, session_date: date, intake: Intake) -> pl.DataFrame:
    wire = rows.table()
    table = wire.with_columns(
        *map(vendor.known, _NEVER_ZERO),
        *map(vendor.stated_day, _DAYS),
        vendor.fraction("dividend_yield"),
        vendor.whole("dividend_frequency"),
        pl.when(pl.col("cusip") != "").then(pl.col("cusip")).alias("cusip"),
        pl.lit(session_date).alias("session_date"),
    ).select(SCHEMA.names)
    intake.counts += rows.counts + vendor.unexpected_values(table, _EXPECTED)
    intake.counts += vendor.sentinels(wire, table, (*_NEVER_ZERO, *_DAYS))
    return table
