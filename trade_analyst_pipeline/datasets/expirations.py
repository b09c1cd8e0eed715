"""Expirations of a symbol's options: how they are asked for, and what each entry of the list becomes.

One row per expiration, roots and settlement, and snapshot. The answer does not say whose expirations it lists, so a
recording needs its symbol. Days to expiration count from the day of the answer, not from the session.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any, Final

import msgspec
import polars as pl

from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market import vendor_values as vendor
from trade_analyst_pipeline.market.answers import usable_answers
from trade_analyst_pipeline.market.columns import TIME, Rule, table_schema
from trade_analyst_pipeline.market.listed_answers import ListedAnswer, ListedRows, ListShape, read_listed
from trade_analyst_pipeline.market.normalized import Intake, Normalized
from trade_analyst_pipeline.market.row_layout import RowLayout
from trade_analyst_pipeline.market.sessions import NEW_YORK
from trade_analyst_pipeline.market.tolerant_json import BadRow
from trade_analyst_pipeline.market.wire_json import NOT_STRICT, RowShape, wire_fields
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse

NAME: Final = "expirations"
PATH: Final = "/expirationchain"

# The specification calls the date `expiration`; the source sends `expirationDate`.
EXPIRATION: Final = RowShape(
    "expiration",
    wire_fields(
        "expirationDate:expiration_date:text daysToExpiration:days_to_expiration:whole",
        "expirationType:expiration_type:text settlementType:settlement_type:text optionRoots:option_roots:raw",
        "standard:is_standard:flag expiration:specified_date:text",
    ),
)
LIST: Final = ListShape("expirationList", RowShape("expirations", wire_fields("status:status:text")), EXPIRATION)

LAYOUT: Final = RowLayout(
    rows=(f"{LIST.member} []",),
    row=EXPIRATION,
    made_of={"expiration_date": ("specified_date",)},
    beside={"symbol": "request", "session_date": "capture", "snapshot_time": "arrival"},
)

_ROOTS: Final = "option_roots"
_STATED_ROOTS: Final = msgspec.json.Decoder(str | list[str] | None)
_EXPECTED: Final = {"settlement_type": frozenset("AP"), "expiration_type": frozenset("MQSW")}
_ANSWER_DAY: Final = pl.col("snapshot_time").dt.convert_time_zone(str(NEW_YORK)).dt.date()

SCHEMA: Final = table_schema(
    NAME,
    "1.0",
    key=("symbol", "expiration_date", "option_roots", "settlement_type", "snapshot_time"),
    event_time="snapshot_time",
    known_time="snapshot_time",
    columns=(
        *("symbol", "session_date", "snapshot_time", "expiration_date", "days_to_expiration", "expiration_type"),
        *("settlement_type", "option_roots", "is_standard"),
    ),
    required=("session_date",),
    rules=(
        Rule(
            "expired_before_session",
            pl.col("expiration_date") >= pl.col("session_date"),
            "The expiration is not before the session.",
        ),
        Rule(
            "days_disagree",
            pl.col("days_to_expiration") == (pl.col("expiration_date") - _ANSWER_DAY).dt.total_days(),
            "The days to expiration are those from the New York date of the answer.",
            "warning",
        ),
    ),
)


def requests(symbols: Iterable[str]) -> list[MarketDataRequest]:
    """One request for each symbol."""
    return [MarketDataRequest(NAME, PATH, (("symbol", symbol),), (symbol,)) for symbol in symbols]


def normalize(responses: Iterable[RawResponse], *, session_date: date) -> Normalized:
    """The expirations of one capture as rows of SCHEMA; a symbol without any is a problem."""
    intake, rows = Intake(), ListedRows(LIST, {"symbol": pl.String(), "snapshot_time": TIME})
    for response, answer, request in usable_answers(responses, _read, intake):
        symbol, arrived = response.request.symbols[0], response.received_time
        intake.counts += answer.counts
        intake.reject(answer.bad, symbol=symbol, snapshot_time=arrived, request=request)
        rows.extend(answer, symbol, arrived)
    return intake.normalized(_table(rows, session_date, intake))


def is_without_any(response: RawResponse) -> bool:
    """Whether a response is a list of expirations without one."""
    try:
        _read(response)
    except ResponseRejectedError as error:
        return error.reason == "no_expirations"
    return False


def _read(response: RawResponse) -> ListedAnswer:
    """The entries of a response; raises ResponseRejectedError when there is none or nobody says whose they are."""
    answer = read_listed(response, LIST, "a list of expirations")
    if not response.request.symbols:
        detail = "the answer does not say whose expirations it lists, nor does its request; import it with --symbol"
        raise ResponseRejectedError("no_symbol", detail)
    if not answer.rows and not answer.bad:
        raise ResponseRejectedError("no_expirations", "not one expiration: the symbol has no options")
    answer.reject(_without_roots)
    if answer.header.status not in {None, "SUCCESS"}:
        answer.counts[f"unknown_value:status={answer.header.status[:40]}"] += 1
    return answer


def _without_roots(row: Any) -> BadRow | None:
    """Why the roots of an entry cannot be read; None when they can, or are not there."""
    if not (raw := bytes(row.option_roots)) or raw == b"null":
        return None
    source = msgspec.json.encode(row).decode()
    return None if _roots(raw) else BadRow(f"type_{_ROOTS}", "neither a text nor a list of texts", source)


def _roots(raw: bytes) -> str | None:
    """Roots as one text: the wire has a text, which may name several, and maybe a list of texts."""
    try:
        stated = _STATED_ROOTS.decode(raw or b"null")
    except NOT_STRICT:
        return None
    listed = stated.split(",") if isinstance(stated, str) else stated or []
    return ",".join(root.strip() for root in listed if root.strip()) or None


def _table(rows: ListedRows, session_date: date, intake: Intake) -> pl.DataFrame:
    roots = pl.Series(_ROOTS, [_roots(bytes(raw)) for raw in rows.values(_ROOTS)], dtype=pl.String())
    wire = rows.table().with_columns(pl.coalesce("expiration_date", "specified_date").alias("expiration_date"), roots)
    table = wire.with_columns(
        vendor.stated_day("expiration_date"),
        vendor.whole("days_to_expiration"),
        pl.lit(session_date).alias("session_date"),
    ).select(SCHEMA.names)
    intake.counts += rows.counts + vendor.unexpected_values(table, _EXPECTED)
    intake.counts += vendor.sentinels(wire, table, ["expiration_date"])
    return table
