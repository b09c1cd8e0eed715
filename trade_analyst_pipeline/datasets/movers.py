"""Movers: the first of a list of stocks or options by volume, trades or change, as the source ranks them.

One row per list, order, instrument and snapshot. Outside market hours the source takes the close before for 0: the
change then equals the price and is 100 %, which is no change at all, and both are null here.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, Final

import polars as pl

from trade_analyst_pipeline.errors import ResponseRejectedError
from trade_analyst_pipeline.market import vendor_values as vendor
from trade_analyst_pipeline.market.answers import usable_answers
from trade_analyst_pipeline.market.columns import TIME, Rule, table_schema
from trade_analyst_pipeline.market.listed_answers import ListedAnswer, ListedRows, ListShape, read_listed
from trade_analyst_pipeline.market.normalized import Intake, Normalized
from trade_analyst_pipeline.market.prices import ticks
from trade_analyst_pipeline.market.row_layout import RowLayout
from trade_analyst_pipeline.market.wire_json import RowShape, wire_fields
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse

NAME: Final = "movers"
PATH: Final = "/movers"
UNKNOWN: Final = "unknown"
LISTS: Final = ("$SPX", "$COMPX", "$DJI", "NYSE", "NASDAQ", "EQUITY_ALL")
SORTS: Final = ("VOLUME", "PERCENT_CHANGE_UP", "PERCENT_CHANGE_DOWN")
_DECIMALS: Final = 8  # of a percentage: the wire has four of a fraction, and a product may end in 3.1799999999999997

MOVER: Final = RowShape(
    "mover",
    wire_fields(
        "description:description:text volume:volume:whole lastPrice:last:number netChange:net_change:number",
        "marketShare:market_share_pct:number totalVolume:list_volume:whole trades:trades:whole",
        "netPercentChange:net_change_fraction:number symbol:symbol:text!",
    ),
)
LIST: Final = ListShape("screeners", RowShape("movers", ()), MOVER)

LAYOUT: Final = RowLayout(
    rows=(f"{LIST.member} []",),
    row=MOVER,
    made_of={
        "net_change": ("last", "net_change_fraction"),
        "net_change_pct": ("net_change_fraction", "net_change", "last"),
        "change_status": ("net_change", "last", "net_change_fraction"),
    },
    beside={
        **dict.fromkeys(("movers_of", "sort_order", "window_minutes"), "request"),
        "place": "position",
        "session_date": "capture",
        "snapshot_time": "arrival",
    },
)

SCHEMA: Final = table_schema(
    NAME,
    "1.0",
    key=("movers_of", "sort_order", "symbol", "snapshot_time"),
    event_time="snapshot_time",
    known_time="snapshot_time",
    columns=(
        *(
            "movers_of",
            "sort_order",
            "window_minutes",
            "place",
            "symbol",
            "session_date",
            "snapshot_time",
            "description",
        ),
        *("last", "net_change", "net_change_pct", "change_status", "volume", "trades", "market_share_pct"),
        "list_volume",
    ),
    required=("session_date", "place", "change_status"),
    rules=(
        Rule("negative_volume", pl.col("volume") >= 0, "The volume is not negative."),
        Rule("negative_trades", pl.col("trades") >= 0, "The number of trades is not negative."),
        Rule(
            "volume_beyond_list", pl.col("volume") <= pl.col("list_volume"), "The list's volume holds that of the row."
        ),
        Rule(
            "share_outside_range", pl.col("market_share_pct").is_between(0, 100), "The share lies within 0 and 100 %."
        ),
        Rule(
            "change_signs_differ",
            pl.col("net_change") * pl.col("net_change_pct") >= 0,
            "The change in dollars and in percent have one sign.",
            "warning",
        ),
    ),
)


def requests(
    lists: Iterable[str] = LISTS, *, sorts: Sequence[str] = SORTS, window_minutes: int = 0
) -> list[MarketDataRequest]:
    """One request for each list and order; `window_minutes` may be 0 (the whole day), 1, 5, 10, 30 or 60."""
    return [
        MarketDataRequest(NAME, f"{PATH}/{each}", (("sort", sort), ("frequency", str(window_minutes))), (each,))
        for each in lists
        for sort in sorts
    ]


def normalize(responses: Iterable[RawResponse], *, session_date: date) -> Normalized:
    """The lists of one capture as rows of SCHEMA; an empty list, as before the open, is a problem."""
    asked = {"movers_of": pl.String(), "sort_order": pl.String(), "window_minutes": pl.Int64()}
    intake, rows = Intake(), ListedRows(LIST, {**asked, "snapshot_time": TIME})
    for response, answer, request in usable_answers(responses, _read, intake):
        arrived = response.received_time
        intake.counts += answer.counts
        intake.reject(answer.bad, symbol=None, snapshot_time=arrived, request=request)
        rows.extend(answer, *_asked(response.request), arrived)
    return intake.normalized(_table(rows, session_date, intake))


def has_no_volume(response: RawResponse) -> bool:
    """Whether a response lists nobody by volume, which cannot be once anything has traded."""
    if response.request.param("sort") != "VOLUME":
        return False
    try:
        _read(response)
    except ResponseRejectedError as error:
        return error.reason == "no_movers"
    return False


def _read(response: RawResponse) -> ListedAnswer:
    """The entries of a response; raises ResponseRejectedError when it is no list of movers, or an empty one."""
    answer = read_listed(response, LIST, "movers")
    if not answer.rows and not answer.bad:
        raise ResponseRejectedError("no_movers", "not one entry, as before the open")
    return answer


def _asked(request: MarketDataRequest) -> tuple[str, str, int | None]:
    """Which list, in which order, over how many minutes; unknown where the request does not say."""
    named = request.symbols[0] if request.symbols else UNKNOWN
    window = request.param("frequency") or ""
    return named, request.param("sort") or UNKNOWN, int(window) if window.isdecimal() else None


_ENTITY: Final = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


def plain_text(text: str) -> str:
    """A text whose complete HTML entities (`&amp;`) are the characters they stand for; a bare `&` is left alone."""
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)


def _table(rows: ListedRows, session_date: date, intake: Intake) -> pl.DataFrame:
    wire = rows.table()
    stated: list[Any] = wire["description"].to_list()
    plain = [None if text is None else plain_text(text) for text in stated]
    change, share = pl.col("net_change"), pl.col("net_change_fraction")
    is_price = (ticks(change) == ticks(pl.col("last"))) & (pl.col("last") != 0)
    status = (
        pl.when(is_price).then(pl.lit("no_close")).when(change.is_null() & share.is_null()).then(pl.lit("not_sent"))
    )
    table = (
        wire.with_columns(status.otherwise(pl.lit("ok")).alias("change_status"))
        .with_columns(
            pl.when(pl.col("change_status") == "ok").then(change).alias("net_change"),
            pl.when(pl.col("change_status") == "ok").then((share * 100).round(_DECIMALS)).alias("net_change_pct"),
            vendor.price("last"),
            *map(vendor.whole, ("volume", "trades", "list_volume")),
            pl.Series("description", plain, dtype=pl.String()),
            pl.lit(session_date).alias("session_date"),
        )
        .select(SCHEMA.names)
    )
    intake.counts += rows.counts + vendor.sentinels(wire, table, ["last"])
    intake.counts["no_close"] += int(table["change_status"].eq("no_close").sum())
    intake.counts["html_entity:description"] += sum(text != own for text, own in zip(stated, plain, strict=True))
    return table
