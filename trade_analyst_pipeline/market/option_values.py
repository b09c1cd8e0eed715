"""The columns of option contracts as the vendor sends them to those of the table: units, stand-ins, state of quotes.

A wire table has the columns that the dataset gives the members of a contract and of the chain around it, times and
counts still as numbers. What those members are called on the wire is known in `datasets/options` alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Final

import polars as pl

from trade_analyst_pipeline.market import vendor_values as vendor
from trade_analyst_pipeline.market.quote_status import quote_status, uncrossed
from trade_analyst_pipeline.market.sessions import CALENDAR_END, CALENDAR_START, NEW_YORK, expiration_time

EPOCH: Final = date(1970, 1, 1)

_PRICES: Final = (
    *("bid", "ask", "last", "mark", "open", "high", "low", "previous_close", "high_52_week", "low_52_week"),
    *("underlying_price", "underlying_bid", "underlying_ask", "underlying_last", "underlying_mark"),
)
_COUNTS: Final = ("bid_size", "ask_size", "last_size", "volume", "open_interest", "days_to_expiration")
_GREEKS: Final = ("vendor_delta", "vendor_gamma", "vendor_theta", "vendor_vega", "vendor_rho")
_INSTANTS: Final = ("quote_time", "trade_time", "underlying_quote_time")
_EXPECTED: Final = {
    "settlement_type": frozenset("AP"),
    "expiration_type": frozenset("MQSW"),
    "exercise_type": frozenset("AE"),
    "underlying_asset_type": frozenset({"EQUITY", "INDEX"}),
}


_OPTION_TYPE: Final = pl.col("option_type")
# made once, for a history consists of many small chains
_VALUES: Final = (
    *map(vendor.price, _PRICES),
    *map(vendor.whole, _COUNTS),
    *map(vendor.greek, _GREEKS),
    *map(vendor.instant, _INSTANTS),
    vendor.instant("last_trading_date").dt.convert_time_zone(str(NEW_YORK)).dt.date(),
    vendor.volatility("vendor_implied_volatility", default="vendor_theoretical_volatility"),
    vendor.volatility("vendor_theoretical_volatility"),
    vendor.model_value("vendor_theoretical_value"),
    vendor.fraction("interest_rate"),
    pl.when(pl.col("dividend_yield") >= 0).then(vendor.fraction("dividend_yield")),
    pl.when(_OPTION_TYPE == "CALL")
    .then(pl.lit("C"))
    .when(_OPTION_TYPE == "PUT")
    .then(pl.lit("P"))
    .otherwise(_OPTION_TYPE)
    .alias("option_type"),
)
_QUOTE_STATUS: Final = quote_status("fresh_since")
_QUOTE: Final = (uncrossed("bid"), uncrossed("ask"))


def contract_table(wire: pl.DataFrame, columns: Sequence[str]) -> tuple[pl.DataFrame, Counter[str]]:
    """The table of a wire table, in these columns, and what was seen on the way.

    `fresh_since` of the wire table is the oldest time a quote of the row may have.
    """
    cleaned = wire.lazy().with_columns(_VALUES).with_columns(_QUOTE_STATUS).with_columns(_QUOTE)
    table = cleaned.select(columns).collect()
    counts = vendor.nulled(wire, table, [name for name in columns if name in wire.columns])
    counts += vendor.unexpected_values(table, _EXPECTED)
    counts["crossed_quote"] = int(table["quote_status"].eq("crossed").sum())
    default = wire["vendor_implied_volatility"] == wire["vendor_theoretical_volatility"]
    counts["default_volatility"] = int(default.sum())
    return table, counts


def expiration(stated: str | int, settlement: str | None) -> tuple[int | None, int | None]:
    """Expiration as days and its last instant as microseconds since 1970; null where `stated` is no date.

    `stated` is an ISO text or epoch milliseconds; the date is that in New York. Without a settlement type the contract
    lives to the close. The last instant is null beyond the exchange calendar.
    """
    try:
        instant = (
            datetime.fromtimestamp(stated / 1000, UTC) if isinstance(stated, int) else datetime.fromisoformat(stated)
        )
        day = (instant.astimezone(NEW_YORK) if instant.tzinfo else instant).date()
    except (ValueError, OverflowError, OSError):
        return None, None
    days = (day - EPOCH).days
    if not CALENDAR_START <= day <= CALENDAR_END:
        return days, None
    return days, int(expiration_time(day, settlement or "P").timestamp()) * 1_000_000
