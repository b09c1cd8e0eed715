"""The columns of quotes as the vendor sends them to those of the table: units, stand-ins, state of quotes.

A wire table has the columns that the dataset gives the members of an entry and of its blocks, times and counts still as
numbers. What those members are called on the wire is known in `datasets/quotes` alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import polars as pl

from trade_analyst_pipeline.market import vendor_values as vendor
from trade_analyst_pipeline.market.quote_status import quote_status, uncrossed
from trade_analyst_pipeline.market.sessions import NEW_YORK

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
_EXPECTED: Final = {
    "asset_type": frozenset({"BOND", "EQUITY", "FOREX", "FUTURE", "FUTURE_OPTION", "INDEX", "MUTUAL_FUND", "OPTION"}),
    "asset_sub_type": frozenset({"ADR", "CEF", "COE", "ETF", "ETN", "GDR", "MMF", "OEF", "PRF", "RGT", "UIT", "WAR"}),
    "quote_type": frozenset({"NBBO", "NFL"}),
    "security_status": frozenset({"Normal", "Halted", "Closed", "Unknown"}),
}


def quote_table(wire: pl.DataFrame, columns: Sequence[str]) -> tuple[pl.DataFrame, Counter[str]]:
    """The table of a wire table, in these columns, and what was seen on the way.

    `fresh_since` of the wire table is the oldest time a quote of the row may have. Most columns do not apply to most
    instruments, so values that were not sent are not counted here.
    """
    wire = wire.with_columns(pl.coalesce("settlement_price", "quoted_settlement", "misspelt_settlement"))
    table = _cleaned(wire).select(columns).collect()
    nulled = vendor.nulled(wire, table, _SENTINELS)
    counts = Counter({name: count for name, count in nulled.items() if not name.startswith("absent:")})
    counts += vendor.unexpected_values(table, _EXPECTED)
    counts["crossed_quote"] = int(table["quote_status"].eq("crossed").sum())
    return table, counts


def _cleaned(wire: pl.DataFrame) -> pl.LazyFrame:
    is_option = pl.col("asset_type").is_in(["OPTION", "FUTURE_OPTION"])
    has_quote = pl.any_horizontal(pl.col("bid", "ask", "bid_size", "ask_size", "quote_time").is_not_null())
    return (
        wire.lazy()
        .with_columns(has_quote.alias("has_quote"))
        .with_columns(
            *map(vendor.price, _PRICES),
            *map(vendor.whole, _WHOLE),
            *map(vendor.instant, _INSTANTS),
            *map(vendor.greek, _GREEKS),
            *map(vendor.stated_day, _DAYS),
            vendor.fraction("dividend_yield"),
            vendor.model_value("vendor_theoretical_value"),
            pl.when(is_option).then(vendor.volatility("vendor_implied_volatility")),
            _day_of_instant("last_trading_date"),
            pl.coalesce(
                _expiration_day(), _day_of_instant("future_expiration"), _day_of_instant("future_option_expiration")
            ).alias("expiration_date"),
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
    )


def _day_of_instant(column: str) -> pl.Expr:
    """The New York date of epoch milliseconds."""
    return vendor.instant(column).dt.convert_time_zone(str(NEW_YORK)).dt.date()


def _expiration_day() -> pl.Expr:
    """The date of an option's three numbers for year, month and day; null for what is no date."""
    year, month, day = (pl.col(f"expiration_{part}").cast(pl.Int64) for part in ("year", "month", "day"))
    text = pl.format("{}-{}-{}", year, month.cast(pl.String).str.zfill(2), day.cast(pl.String).str.zfill(2))
    return text.str.extract(r"^(\d{4}-\d{2}-\d{2})$", 1).str.to_date("%Y-%m-%d", strict=False)
