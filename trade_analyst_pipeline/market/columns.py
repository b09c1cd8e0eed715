"""Each column once: its name, type, unit and meaning; and the schemas of tables built from them.

A dataset or metric module lists the columns it has by name and adds its own rules; nothing else declares a column.
The same declaration gives the Parquet types, the pandera schema, the checks and the data dictionary in `docs/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import polars as pl

TIME = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class Column:
    """A column: one name means one quantity in one unit everywhere.

    `unit` is None for text, dates and flags; `meaning` says what it is and what null means.
    """

    name: str
    dtype: pl.DataType
    unit: str | None
    meaning: str


@dataclass(frozen=True)
class Rule:
    """A condition each row has to meet.

    `name` is the stable id shown in quarantine, checks and docs. `passes` is true for an acceptable row; null counts
    as acceptable. A row breaking an `error` rule goes to quarantine; a `warning` is counted and the row kept.
    """

    name: str
    passes: pl.Expr
    meaning: str
    severity: Literal["error", "warning"] = "error"


@dataclass(frozen=True)
class Upgrade:
    """How rows of major version `from_major` read in the next one: each column whose meaning changed, as SQL.

    The SQL is over the columns as they were, and such that Polars and DuckDB answer it alike in any time zone.
    """

    from_major: int
    columns: Mapping[str, str]


@dataclass(frozen=True)
class TableSchema:
    """The shape of one table: `required` columns are never null; rows are unique and sorted by `key`.

    `version` rises in its minor part when columns are added, in its major part, with an upgrade, when one changes.

    `event_time` is the column that says when what a row describes happened, `known_time` the one that says when the row
    became known to us; None where rows are computed from other tables. Where one column is both, every row is an event
    of its own; else rows that agree in `event_key` are of one event, each correcting those known before.
    """

    name: str
    version: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    required: frozenset[str]
    rules: tuple[Rule, ...] = ()
    upgrades: tuple[Upgrade, ...] = ()
    event_time: str | None = None
    known_time: str | None = None

    @property
    def event_key(self) -> tuple[str, ...]:
        """The columns that name an event: the key, without the time at which a value of it became known."""
        if self.event_time == self.known_time:
            return self.key
        return tuple(name for name in self.key if name != self.known_time)

    @property
    def polars_schema(self) -> pl.Schema:
        """Column names and Polars types, in order."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    @property
    def names(self) -> list[str]:
        """Column names, in order."""
        return [column.name for column in self.columns]

    def empty(self) -> pl.DataFrame:
        """A table of this shape without rows."""
        return pl.DataFrame(schema=self.polars_schema)


def table_schema(
    name: str,
    version: str,
    *,
    key: Iterable[str],
    columns: Iterable[str],
    required: Iterable[str] = (),
    rules: Iterable[Rule] = (),
    upgrades: Iterable[Upgrade] = (),
    event_time: str | None = None,
    known_time: str | None = None,
) -> TableSchema:
    """A schema over declared columns; key columns are always required. Raises KeyError for an undeclared column."""
    key = tuple(key)
    return TableSchema(
        name=name,
        version=version,
        key=key,
        columns=tuple(COLUMNS[column] for column in columns),
        required=frozenset(required) | frozenset(key),
        rules=tuple(rules),
        upgrades=tuple(upgrades),
        event_time=event_time,
        known_time=known_time,
    )


def epoch_milliseconds(instant: datetime) -> int:
    """Milliseconds since 1970, UTC, as the source counts time."""
    return round(instant.timestamp() * 1000)


_DECLARED: tuple[Column, ...] = (
    # identity and time
    Column("symbol", pl.String(), None, "Underlying or instrument, as Schwab spells it."),
    Column("session_date", pl.Date(), None, "The exchange's date of the session the row describes."),
    Column("snapshot_time", TIME, "UTC", "When the response with this row arrived, on the source's clock."),
    Column("known_time", TIME, "UTC", "When this value first became known to us, on the source's clock."),
    # quotes and trades, of any instrument
    Column("bid", pl.Float64(), "dollars", "Best bid; null: no bid, or crossed (see quote_status)."),
    Column("ask", pl.Float64(), "dollars", "Best ask; null: no ask, or crossed (see quote_status)."),
    Column("last", pl.Float64(), "dollars", "Price of the last trade; null: no trade on record."),
    Column("mark", pl.Float64(), "dollars", "The vendor's mark; null where it sends 0."),
    Column("bid_size", pl.Int64(), "contracts or vendor's units", "Size at the bid as sent: contracts for options."),
    Column("ask_size", pl.Int64(), "contracts or vendor's units", "Size at the ask as sent: contracts for options."),
    Column("last_size", pl.Int64(), "contracts or shares", "Size of the last trade."),
    Column("quote_time", TIME, "UTC", "Time of the last change of bid or ask; null: never quoted, or not sent."),
    Column("trade_time", TIME, "UTC", "Time of the last trade; null: never traded, or not sent."),
    Column(
        "quote_status",
        pl.String(),
        None,
        "ok, or the first that holds of: no_quote, no_bid, no_ask, crossed (bid above ask: both null here, as sent "
        "in the archive), stale (time unknown, over 15 minutes old in regular hours, or from before the open), "
        "low_priced (mid under 0.05), wide (spread over half of mid and over 0.10), locked (bid equals ask). "
        "none where the instrument has no quote by nature.",
    ),
    Column("net_change", pl.Float64(), "dollars", "last minus previous_close, as sent; 0 without a last trade."),
    Column("net_change_pct", pl.Float64(), "percent", "net_change as sent by the vendor, over its unrounded close."),
    Column("mark_change", pl.Float64(), "dollars", "mark minus previous_close, as sent."),
    Column("mark_change_pct", pl.Float64(), "percent", "mark_change as sent by the vendor, over its unrounded close."),
    Column("open", pl.Float64(), "dollars", "First price of the bar or session; null: none."),
    Column("high", pl.Float64(), "dollars", "Highest price of the bar, or of the session so far; null: no trade."),
    Column("low", pl.Float64(), "dollars", "Lowest price of the bar, or of the session so far; null: no trade."),
    Column("close", pl.Float64(), "dollars", "Last price of the bar."),
    Column("volume", pl.Int64(), "contracts or shares", "Traded in the bar, or in the session so far."),
    Column("previous_close", pl.Float64(), "dollars", "Close of the session before; null: none, or rounded to 0."),
    Column("high_52_week", pl.Float64(), "dollars", "Highest price of 52 weeks; null: none."),
    Column("low_52_week", pl.Float64(), "dollars", "Lowest price of 52 weeks; null: none."),
    Column("open_interest", pl.Int64(), "contracts", "Open contracts as of the previous clearing."),
    Column("multiplier", pl.Float64(), "units per contract", "Units of the underlying one contract stands for."),
    Column("description", pl.String(), None, "The vendor's text for the instrument."),
    Column("exchange_name", pl.String(), None, "The vendor's name of the listing exchange."),
    # option contracts
    Column("option_symbol", pl.String(), None, "OCC symbol, 21 characters, root padded to six."),
    Column("option_root", pl.String(), None, "Root of the option symbol, unpadded; may differ from the underlying."),
    Column("option_type", pl.String(), None, "C for a call, P for a put."),
    Column("expiration_date", pl.Date(), None, "The contract's expiration date."),
    Column("expiration_time", TIME, "UTC", "Last instant of the contract; null beyond the exchange calendar."),
    Column("last_trading_date", pl.Date(), None, "Last date the contract trades, as sent."),
    Column("days_to_expiration", pl.Int64(), "days", "Calendar days to expiration, as sent."),
    Column("strike", pl.Float64(), "dollars", "Strike price."),
    Column("settlement_type", pl.String(), None, "A: settles at the open of expiration day; P: at its close."),
    Column("expiration_type", pl.String(), None, "M end of month, Q quarterly, S third Friday, W weekly."),
    Column("expiration_style", pl.String(), None, "The vendor's text for how an option on a future expires."),
    Column("exercise_type", pl.String(), None, "A American, E European."),
    Column("intrinsic_value", pl.Float64(), "dollars", "Underlying's last against strike, negative out of the money."),
    Column(
        "extrinsic_value",
        pl.Float64(),
        "dollars",
        "last minus intrinsic_value, as sent, so meaningless without a last trade.",
    ),
    Column("time_value", pl.Float64(), "dollars", "last (or a model's price) minus positive intrinsic value, as sent."),
    Column("is_in_the_money", pl.Boolean(), None, "Whether intrinsic_value is above zero."),
    Column("is_non_standard", pl.Boolean(), None, "Whether the deliverable was adjusted."),
    Column("is_mini", pl.Boolean(), None, "Whether the contract is a mini."),
    Column("is_penny_pilot", pl.Boolean(), None, "Whether quoted in pennies."),
    Column("deliverables", pl.String(), None, "Units, symbol and kind of each thing delivered, joined by `; `."),
    Column("deliverable_note", pl.String(), None, "The vendor's text for the deliverable."),
    Column(
        "vendor_implied_volatility",
        pl.Float64(),
        "fraction",
        "The vendor's annualised volatility on the vendor's clock; null for -999, NaN, 0 or less, 500 % or more, "
        "or equal to vendor_theoretical_volatility (a default).",
    ),
    Column("vendor_theoretical_volatility", pl.Float64(), "fraction", "Volatility behind vendor_theoretical_value."),
    Column("vendor_theoretical_value", pl.Float64(), "dollars", "The vendor's model price; null where it failed."),
    Column("vendor_delta", pl.Float64(), "per dollar", "The vendor's delta; null where its model failed."),
    Column("vendor_gamma", pl.Float64(), "per dollar squared", "The vendor's gamma; null where its model failed."),
    Column("vendor_theta", pl.Float64(), "dollars per calendar day", "The vendor's theta; null where it failed."),
    Column("vendor_vega", pl.Float64(), "dollars per point", "The vendor's vega, per 0.01 of volatility; or null."),
    Column("vendor_rho", pl.Float64(), "dollars per point", "The vendor's rho, per 0.01 of rate; null: failed."),
    Column(
        "chain_scope",
        pl.String(),
        None,
        "How much of the chain was asked for: `full`; `bounded` with strikes around the money, days from the session "
        "to the expirations, type; `partial` when it is not proven whole, and no metric uses it; `unknown` for a "
        "response without its request.",
    ),
    Column("underlying_price", pl.Float64(), "dollars", "The chain's price of the underlying; may be a late trade."),
    Column("underlying_bid", pl.Float64(), "dollars", "Bid of the underlying in the chain; null: none."),
    Column("underlying_ask", pl.Float64(), "dollars", "Ask of the underlying in the chain; null: none."),
    Column("underlying_last", pl.Float64(), "dollars", "Last price of the underlying in the chain; null: none."),
    Column("underlying_mark", pl.Float64(), "dollars", "The vendor's mark of the underlying; null: none."),
    Column("underlying_quote_time", TIME, "UTC", "Time of the underlying's quote; null: not sent."),
    Column("underlying_asset_type", pl.String(), None, "EQUITY, INDEX …, as sent."),
    Column("underlying_asset_sub_type", pl.String(), None, "ETF, COE …, as sent; null: none."),
    Column("interest_rate", pl.Float64(), "fraction", "The vendor's interest rate for the chain."),
    Column("dividend_yield", pl.Float64(), "fraction", "The vendor's dividend yield; null where it sends below 0."),
    Column("is_index", pl.Boolean(), None, "Whether the underlying is an index."),
    Column("is_delayed", pl.Boolean(), None, "Whether the vendor calls the quotes delayed."),
    # quotes
    Column(
        "requested_symbol",
        pl.String(),
        None,
        "The name by which the source was asked: a future's root such as /ES where that was asked and `symbol` is the "
        "contract that answered, else as `symbol`; null: not asked for, as in a recording.",
    ),
    Column("asset_type", pl.String(), None, "EQUITY, OPTION, INDEX, MUTUAL_FUND, FUTURE, FOREX and so on, as sent."),
    Column("asset_sub_type", pl.String(), None, "ETF, COE (common stock), OEF and so on, as sent; null: none."),
    Column("quote_type", pl.String(), None, "NBBO: best of all exchanges; NFL: of some; null: not said."),
    Column("is_realtime", pl.Boolean(), None, "Whether the quote is real-time; false: delayed by entitlement."),
    Column("security_id", pl.Int64(), None, "The vendor's number of the instrument (ssid)."),
    Column("security_status", pl.String(), None, "Normal, Halted, Closed or Unknown, as sent."),
    Column("bid_time", TIME, "UTC", "Time of the last change of the bid; null: not sent."),
    Column("ask_time", TIME, "UTC", "Time of the last change of the ask; null: not sent."),
    Column("bid_venue", pl.String(), None, "Market identifier code of the best bid's venue."),
    Column("ask_venue", pl.String(), None, "Market identifier code of the best ask's venue."),
    Column("last_venue", pl.String(), None, "Market identifier code of the last trade's venue."),
    Column("net_asset_value", pl.Float64(), "dollars", "Of a fund's share; null: no fund."),
    Column("post_market_change", pl.Float64(), "dollars", "last minus regular_last, as sent."),
    Column("post_market_change_pct", pl.Float64(), "percent", "post_market_change over regular_last, as sent."),
    Column("regular_last", pl.Float64(), "dollars", "Last price of regular trading; null: none."),
    Column("regular_last_size", pl.Int64(), "shares", "Size of the last regular trade, often the closing auction."),
    Column("regular_net_change", pl.Float64(), "dollars", "regular_last minus previous_close, as sent."),
    Column("regular_net_change_pct", pl.Float64(), "percent", "regular_net_change over previous_close, as sent."),
    Column("regular_trade_time", TIME, "UTC", "Time of the last regular trade; null: none."),
    Column("extended_bid", pl.Float64(), "dollars", "Best bid of extended hours; null: none."),
    Column("extended_ask", pl.Float64(), "dollars", "Best ask of extended hours; null: none."),
    Column("extended_bid_size", pl.Int64(), "shares", "Size at extended_bid."),
    Column("extended_ask_size", pl.Int64(), "shares", "Size at extended_ask."),
    Column("extended_last", pl.Float64(), "dollars", "Last price of extended hours; null: none."),
    Column("extended_last_size", pl.Int64(), "shares", "Size of the last trade of extended hours."),
    Column("extended_mark", pl.Float64(), "dollars", "The vendor's mark in extended hours; null: none."),
    Column("extended_volume", pl.Int64(), "shares", "Traded in extended hours, as sent."),
    Column("extended_quote_time", TIME, "UTC", "Time of the extended quote, to the second; null: none."),
    Column("extended_trade_time", TIME, "UTC", "Time of the last extended trade, to the second; null: none."),
    Column("indicative_bid", pl.Float64(), "dollars", "Indicative bid; null: none."),
    Column("indicative_ask", pl.Float64(), "dollars", "Indicative ask; null: none."),
    Column("indicative_quote_time", TIME, "UTC", "Time of the indicative quote; null: none."),
    Column(
        "implied_yield", pl.Float64(), "as sent", "The vendor's implied yield of an option; its unit is not documented."
    ),
    Column("tick_size", pl.Float64(), "dollars", "Smallest price step; null: none."),
    Column("tick_value", pl.Float64(), "dollars", "Worth of one price step of one contract; null: none."),
    Column("settle_time", TIME, "UTC", "Time of the settlement price; null: none."),
    Column("settlement_price", pl.Float64(), "dollars", "Last settlement price of a future or its option; null: none."),
    Column("is_quoted_in_session", pl.Boolean(), None, "Whether the future is quoted in the running session."),
    Column("is_active", pl.Boolean(), None, "Whether the future is the active contract of its product."),
    Column("is_tradable", pl.Boolean(), None, "Whether the vendor lets it be traded."),
    Column("active_symbol", pl.String(), None, "Active contract of the future's product; null: not sent."),
    Column("product", pl.String(), None, "Product of a future or currency pair."),
    Column("price_format", pl.String(), None, "How the vendor writes a future's price."),
    Column("trading_hours", pl.String(), None, "The vendor's text for the trading hours."),
    Column("market_maker", pl.String(), None, "The vendor's text for a currency pair's market maker."),
    Column("underlying_symbol", pl.String(), None, "What an option or future option is on."),
    Column("cusip", pl.String(), None, "CUSIP, leading zeros kept."),
    Column("exchange_code", pl.String(), None, "The vendor's letter of the listing exchange."),
    Column("is_shortable", pl.Boolean(), None, "Whether it can be sold short."),
    Column("is_hard_to_borrow", pl.Boolean(), None, "Whether it is hard to borrow."),
    Column("hard_to_borrow_quantity", pl.Float64(), "shares", "Shares to be borrowed, as sent."),
    Column("hard_to_borrow_rate", pl.Float64(), "percent", "Borrowing rate, as sent."),
    Column("otc_market_tier", pl.String(), None, "Tier of an over-the-counter security."),
    Column("financial_status", pl.String(), None, "The exchange's text on a company's standing."),
    Column("average_volume_10_days", pl.Float64(), "shares", "Mean daily volume of ten sessions."),
    Column("average_volume_1_year", pl.Float64(), "shares", "Mean daily volume of a year."),
    Column("dividend_amount", pl.Float64(), "dollars", "Dividends of a year, as sent; 0: none, or unknown."),
    Column("dividend_pay_amount", pl.Float64(), "dollars", "The last single dividend, as sent."),
    Column("dividend_frequency", pl.Int64(), "per year", "Dividends a year, as sent."),
    Column("dividend_declaration_date", pl.Date(), None, "When the last dividend was declared; null: none."),
    Column("dividend_ex_date", pl.Date(), None, "Ex-date of the last dividend; null: none."),
    Column("dividend_pay_date", pl.Date(), None, "Payment date of the last dividend; null: none."),
    Column("next_dividend_ex_date", pl.Date(), None, "Ex-date of the next dividend, an estimate; null: none."),
    Column("next_dividend_pay_date", pl.Date(), None, "Payment date of the next dividend, an estimate; null: none."),
    Column("last_earnings_date", pl.Date(), None, "When earnings were last reported; null: unknown."),
    Column("earnings_per_share", pl.Float64(), "dollars", "Earnings per share, as sent."),
    Column(
        "price_earnings_ratio",
        pl.Float64(),
        "ratio",
        "Price over earnings, as sent; of instruments null where sent as 0, which says unknown.",
    ),
    Column("fund_leverage_factor", pl.Float64(), "ratio", "Leverage of a fund, as sent; 0: none."),
    Column("fund_strategy", pl.String(), None, "A active, L leveraged, P passive, Q quantitative, S short, as sent."),
    # expirations
    Column(
        "option_roots",
        pl.String(),
        None,
        "Roots of the option symbols that expire then, comma-separated where there are several.",
    ),
    Column("is_standard", pl.Boolean(), None, "Whether the vendor calls the expiration standard, as sent."),
    # markets
    Column("market", pl.String(), None, "equity, option, bond, future or forex."),
    Column("market_type", pl.String(), None, "The vendor's word for the market, as sent: EQUITY, OPTION and so on."),
    Column(
        "market_product",
        pl.String(),
        None,
        "What of the market: EQ stocks, EQO options on stocks, IND options on indices …; on a closed day the vendor "
        "writes the market's own name here.",
    ),
    Column(
        "product_name", pl.String(), None, "The vendor's name of market_product; null: not sent, as on closed days."
    ),
    Column("hours_date", pl.Date(), None, "The date the hours are of."),
    Column("is_open", pl.Boolean(), None, "Whether it trades on hours_date at all; not whether it trades right now."),
    Column("pre_market_open_time", TIME, "UTC", "First start of trading before regular hours; null: none."),
    Column("pre_market_close_time", TIME, "UTC", "Last end of trading before regular hours; null: none."),
    Column("regular_open_time", TIME, "UTC", "First start of regular trading; null: none."),
    Column("regular_close_time", TIME, "UTC", "Last end of regular trading, earlier on half days; null: none."),
    Column("post_market_open_time", TIME, "UTC", "First start of trading after regular hours; null: none."),
    Column("post_market_close_time", TIME, "UTC", "Last end of trading after regular hours; null: none."),
    Column(
        "session_hours",
        pl.String(),
        None,
        "Every span of trading as sent, with its offset: part, start/end, joined by `; `; null: none.",
    ),
    # instruments
    Column(
        "instrument_type",
        pl.String(),
        None,
        "EQUITY, ETF, INDEX, MUTUAL_FUND and so on, as sent; unlike asset_type it tells funds from stocks.",
    ),
    Column("price_earnings_growth_ratio", pl.Float64(), "ratio", "P/E over growth of earnings; null where sent as 0."),
    Column("price_book_ratio", pl.Float64(), "ratio", "Price over book value; null where sent as 0."),
    Column("price_revenue_ratio", pl.Float64(), "ratio", "Price over revenue (prRatio); null where sent as 0."),
    Column("price_cash_flow_ratio", pl.Float64(), "ratio", "Price over cash flow; null where sent as 0."),
    Column("gross_margin_ttm_pct", pl.Float64(), "percent", "Gross margin of twelve months; null where sent as 0."),
    Column(
        "gross_margin_mrq_pct", pl.Float64(), "percent", "Gross margin of the latest quarter; null where sent as 0."
    ),
    Column("net_margin_ttm_pct", pl.Float64(), "percent", "Net profit margin of twelve months; null where sent as 0."),
    Column("net_margin_mrq_pct", pl.Float64(), "percent", "Net profit margin of the latest quarter; null for 0."),
    Column("operating_margin_ttm_pct", pl.Float64(), "percent", "Operating margin of twelve months; null for 0."),
    Column("operating_margin_mrq_pct", pl.Float64(), "percent", "Operating margin of the latest quarter; null for 0."),
    Column("return_on_equity_pct", pl.Float64(), "percent", "Earnings over equity; null where sent as 0."),
    Column("return_on_assets_pct", pl.Float64(), "percent", "Earnings over assets; null where sent as 0."),
    Column("return_on_investment_pct", pl.Float64(), "percent", "Earnings over invested capital; null for 0."),
    Column("quick_ratio", pl.Float64(), "ratio", "Liquid assets over short-term debt; null where sent as 0."),
    Column("current_ratio", pl.Float64(), "ratio", "Current assets over short-term debt; null where sent as 0."),
    Column("interest_coverage", pl.Float64(), "ratio", "Earnings over interest paid; null where sent as 0."),
    Column(
        "total_debt_to_capital_pct",
        pl.Float64(),
        "percent",
        "Debt over capital; null where sent as 0, which says no debt or unknown alike.",
    ),
    Column(
        "long_term_debt_to_equity_pct",
        pl.Float64(),
        "percent",
        "Long-term debt over equity; null where sent as 0, which says no debt or unknown alike.",
    ),
    Column(
        "total_debt_to_equity_pct",
        pl.Float64(),
        "percent",
        "Debt over equity; null where sent as 0, which says no debt or unknown alike.",
    ),
    Column("earnings_per_share_ttm", pl.Float64(), "dollars", "Earnings per share of twelve months; null for 0."),
    Column(
        "earnings_per_share_change_ttm_pct",
        pl.Float64(),
        "percent",
        "Its change over twelve months; null where sent as 0.",
    ),
    Column(
        "earnings_per_share_change_year",
        pl.Float64(),
        "as sent",
        "Its change over a year (epsChangeYear; unit not documented); null where sent as 0.",
    ),
    Column(
        "earnings_per_share_change",
        pl.Float64(),
        "as sent",
        "Its change (epsChange; unit and span not documented); null where sent as 0.",
    ),
    Column("revenue_change_year_pct", pl.Float64(), "percent", "Change of revenue over a fiscal year; null for 0."),
    Column("revenue_change_ttm_pct", pl.Float64(), "percent", "Change of revenue over twelve months; null for 0."),
    Column(
        "revenue_change_in",
        pl.Float64(),
        "as sent",
        "revChangeIn, whose meaning and unit are not documented; null where sent as 0.",
    ),
    Column("shares_outstanding", pl.Float64(), "shares", "Shares outstanding; null where sent as 0."),
    Column("market_cap", pl.Float64(), "dollars", "Market capitalisation; null where sent as 0."),
    Column(
        "market_cap_float",
        pl.Float64(),
        "as sent",
        "Of the shares in free float (unit not documented); null where sent as 0.",
    ),
    Column("book_value_per_share", pl.Float64(), "dollars", "Book value of a share; null where sent as 0."),
    Column(
        "short_interest_to_float",
        pl.Float64(),
        "as sent",
        "Shares sold short over those in free float (unit not documented); null where sent as 0.",
    ),
    Column("short_interest_days_to_cover", pl.Float64(), "days", "Days of trading they amount to; null for 0."),
    Column(
        "dividend_growth_3_years",
        pl.Float64(),
        "as sent",
        "Of three years (unit not documented); null where sent as 0.",
    ),
    Column("beta", pl.Float64(), "ratio", "The vendor's beta; null where sent as 0."),
    Column("volume_1_day_average", pl.Float64(), "as sent", "vol1DayAvg, seen as 0 only; null where sent as 0."),
    Column("volume_10_day_average", pl.Float64(), "as sent", "vol10DayAvg, seen as 0 only; null where sent as 0."),
    Column("volume_3_month_average", pl.Float64(), "as sent", "vol3MonthAvg, seen as 0 only; null where sent as 0."),
    Column("average_volume_1_day", pl.Float64(), "shares", "Volume of the latest complete day; null where sent as 0."),
    Column("average_volume_3_months", pl.Float64(), "shares", "Mean daily volume of three months; null for 0."),
    Column("dtn_volume", pl.Float64(), "shares", "Volume by the vendor's supplier (dtnVolume); null where sent as 0."),
    # movers
    Column(
        "movers_of",
        pl.String(),
        None,
        "The list asked for: $SPX, $COMPX, $DJI, NYSE, NASDAQ, EQUITY_ALL and so on; unknown for a response without "
        "its request.",
    ),
    Column(
        "sort_order",
        pl.String(),
        None,
        "By what the list is ordered: VOLUME, TRADES, PERCENT_CHANGE_UP, PERCENT_CHANGE_DOWN; unknown likewise.",
    ),
    Column("window_minutes", pl.Int64(), "minutes", "Minutes looked at, 0 for the whole day; null: not known."),
    Column("place", pl.Int64(), "place", "Place in the list as sent, from 1."),
    Column("trades", pl.Int64(), "trades", "Number of trades in the session so far."),
    Column("market_share_pct", pl.Float64(), "percent", "Share of the instrument in all of the list, as sent."),
    Column("list_volume", pl.Int64(), "contracts or shares", "Volume of all instruments of the list together."),
    Column(
        "change_status",
        pl.String(),
        None,
        "ok; no_close: the source took the close before for 0, as outside market hours, so that its change is the "
        "price itself and 100 %: both null here; not_sent.",
    ),
    # bars
    Column("frequency", pl.String(), None, "Length of the bar: minute, minute_5 and so on, daily, weekly, monthly."),
    Column(
        "bar_time",
        TIME,
        "UTC",
        "Start of the bar as sent; of daily and longer bars midnight US/Central of their first day. `session_date` is "
        "the session in which the bar begins: of a week or month its first session.",
    ),
    Column(
        "session_part",
        pl.String(),
        None,
        "pre: from 04:00 New York to the open; regular; post: from the close to 20:00; outside: neither, or no session "
        "that day. Daily and longer bars of sessions are regular. null: beyond our calendar.",
    ),
    Column(
        "is_complete", pl.Boolean(), None, "Whether the bar's interval was over at known_time; null: not a session."
    ),
)

_METRIC_COLUMNS: tuple[Column, ...] = (
    # shared by several metrics
    Column("status", pl.String(), None, "ok, or the one word that says why a value is weaker than usual or null."),
    Column("window_sessions", pl.Int64(), "sessions", "Length of the window in exchange sessions."),
    Column("n_obs", pl.Int64(), "sessions", "Sessions of the window that have a value."),
    # forward
    Column("years", pl.Float64(), "years", "From the snapshot to the last instant, of 365 days; null: no instant."),
    Column("spot", pl.Float64(), "dollars", "The underlying's mid, or its price where it has no quote; null: neither."),
    Column("forward", pl.Float64(), "dollars", "Forward price of what a contract delivers, by put-call parity."),
    Column("forward_error", pl.Float64(), "dollars", "Standard error of forward, from quotes and their disagreement."),
    Column(
        "at_money_forward",
        pl.Float64(),
        "dollars",
        "Forward price by parity at the one strike where call and put mids are closest.",
    ),
    Column("discount_rate_error", pl.Float64(), "fraction", "Standard error of discount_rate; null unless by parity."),
    Column("rate_source", pl.String(), None, "parity, curve, chain (the vendor's rate) or assumed (0)."),
    Column("discount_factor", pl.Float64(), "ratio", "exp(-discount_rate * years): a dollar at expiry as of now."),
    Column(
        "implied_dividend_yield",
        pl.Float64(),
        "fraction",
        "The yield, continuous, that takes spot to forward: dividends, borrowing and all; null: no spot, or adjusted.",
    ),
    Column("strike_pairs", pl.Int64(), "strikes", "Strikes of the expiry with a usable call and a usable put."),
    Column("used_pairs", pl.Int64(), "strikes", "Pairs that count in forward: near the money, and no outliers."),
    Column(
        "parity_scale",
        pl.Float64(),
        "ratio",
        "Deviation of the pairs from parity over what their spreads allow; 1 where there are fewer than five.",
    ),
    # implied_volatility
    Column("mid", pl.Float64(), "dollars", "Middle of bid and ask; null: no two-sided quote."),
    Column(
        "implied_volatility",
        pl.Float64(),
        "fraction",
        "Annualised volatility at which Black-Scholes-Merton on the forward gives the mid; null: see its status.",
    ),
    Column("implied_volatility_status", pl.String(), None, "ok, or why the mid gives no volatility."),
    Column(
        "bid_implied_volatility",
        pl.Float64(),
        "fraction",
        "Annualised volatility at which Black-Scholes-Merton on the forward gives the bid; null: see its status.",
    ),
    Column("bid_implied_volatility_status", pl.String(), None, "ok, or why the bid gives no volatility."),
    Column(
        "ask_implied_volatility",
        pl.Float64(),
        "fraction",
        "Annualised volatility at which Black-Scholes-Merton on the forward gives the ask; null: see its status.",
    ),
    Column("ask_implied_volatility_status", pl.String(), None, "ok, or why the ask gives no volatility."),
    Column("delta", pl.Float64(), "per dollar", "Change of price per dollar of spot, ours; null: see greeks_status."),
    Column("gamma", pl.Float64(), "per dollar squared", "Change of delta per dollar of spot, ours."),
    Column("vega", pl.Float64(), "dollars", "Change of price per 1.00 of volatility, ours."),
    Column("theta", pl.Float64(), "dollars per calendar day", "Change of price per calendar day that passes, ours."),
    Column("rho", pl.Float64(), "dollars", "Change of price per 1.00 of interest rate at a fixed spot, ours."),
    Column("greeks_status", pl.String(), None, "ok, no_spot (vega and rho alone), or why there is no volatility."),
    # iv_history
    Column("series", pl.String(), None, "Name of the volatility series; series are never mixed."),
    Column("iv", pl.Float64(), "fraction", "Value of the series for the session, annualised; null: see status."),
    Column("flags", pl.String(), None, "Reservations about the row, comma-separated in a fixed order; empty if none."),
    Column("near_expiration_date", pl.Date(), None, "Expiration at or before 30 days that was used; null if none."),
    Column("far_expiration_date", pl.Date(), None, "Expiration after 30 days that was used; null if none."),
    Column("near_days", pl.Float64(), "days", "From the snapshot to the near expiration's last instant."),
    Column("far_days", pl.Float64(), "days", "From the snapshot to the far expiration's last instant."),
    Column("near_iv", pl.Float64(), "fraction", "At-the-money volatility of the near expiration, annualised."),
    Column("far_iv", pl.Float64(), "fraction", "At-the-money volatility of the far expiration, annualised."),
    Column("near_forward", pl.Float64(), "dollars", "Forward price at the near expiration, by put-call parity."),
    Column("far_forward", pl.Float64(), "dollars", "Forward price at the far expiration, by put-call parity."),
    Column("near_strikes", pl.Int64(), "strikes", "Strikes of the near expiration with a usable volatility."),
    Column("far_strikes", pl.Int64(), "strikes", "Strikes of the far expiration with a usable volatility."),
    Column("discount_rate", pl.Float64(), "fraction", "Rate used for discounting, continuous; null if no chain."),
    Column("clean_contracts", pl.Int64(), "contracts", "Contracts of the snapshot that passed the quote filters."),
    # surface_check
    Column("check", pl.String(), None, "What the quotes of the snapshot are held to; docs/metrics/surface_check.md."),
    Column("tested", pl.Int64(), "quotes or groups", "Quotes, or groups of them, that could be held to it."),
    Column("violations", pl.Int64(), "quotes or groups", "Those that break it by more than their spreads."),
    Column(
        "inside_spread",
        pl.Int64(),
        "quotes or groups",
        "Those whose mids break it, but no trade at bid and ask would show it.",
    ),
    Column(
        "worst_excess", pl.Float64(), "dollars, fraction or as a Greek", "Most that one breaks it by; null without any."
    ),
    Column("worst_option_symbol", pl.String(), None, "The contract of that one; null without any."),
    # volatility_index
    Column("index_symbol", pl.String(), None, "The published volatility index that iv is read off, as $VIX."),
    # iv_rank
    Column("iv_rank", pl.Float64(), "percent", "Place of iv between lo and hi, 0 to 100; null: see status."),
    Column("iv_percentile", pl.Float64(), "percent", "Share of prior sessions with a lower iv; null: see status."),
    Column("iv_percentile_mid", pl.Float64(), "percent", "As iv_percentile, sessions with an equal iv counted half."),
    Column("lo", pl.Float64(), "fraction", "Lowest iv of the window, the session itself included."),
    Column("hi", pl.Float64(), "fraction", "Highest iv of the window, the session itself included."),
    Column("lo_date", pl.Date(), None, "Latest session of the window whose iv is lo."),
    Column("hi_date", pl.Date(), None, "Latest session of the window whose iv is hi."),
    Column("first_date", pl.Date(), None, "Earliest prior session of the window that has a value; null if none."),
    # put_call_ratio
    Column("scope", pl.String(), None, "Which contracts are added up: underlying, expiration, a bucket, universe."),
    Column("call_volume", pl.Int64(), "contracts", "Calls traded in the session up to the snapshot."),
    Column("put_volume", pl.Int64(), "contracts", "Puts traded in the session up to the snapshot."),
    Column("put_call_volume_ratio", pl.Float64(), "ratio", "put_volume / call_volume; null: see volume_status."),
    Column("put_volume_share", pl.Float64(), "percent", "put_volume / all volume, 0 to 100; null if none traded."),
    Column("volume_status", pl.String(), None, "ok, no_calls, no_trades, or unknown."),
    Column("call_open_interest", pl.Int64(), "contracts", "Open calls as of open_interest_date."),
    Column("put_open_interest", pl.Int64(), "contracts", "Open puts as of open_interest_date."),
    Column("put_call_open_interest_ratio", pl.Float64(), "ratio", "Open puts / open calls; null: see its status."),
    Column("put_open_interest_share", pl.Float64(), "percent", "Open puts / all open contracts, 0 to 100."),
    Column("open_interest_status", pl.String(), None, "ok, no_calls, no_open_interest, or unknown."),
    Column("open_interest_date", pl.Date(), None, "Session whose clearing the open interest is as of: the previous."),
    Column("call_premium", pl.Float64(), "dollars", "Price times volume times multiplier over priced calls."),
    Column("put_premium", pl.Float64(), "dollars", "Price times volume times multiplier over priced puts."),
    Column("put_call_premium_ratio", pl.Float64(), "ratio", "put_premium / call_premium; null: see its status."),
    Column("premium_status", pl.String(), None, "ok, no_calls, no_trades, or no_price."),
    Column("premium_coverage", pl.Float64(), "percent", "Share of the volume that has a price; null without volume."),
    Column("premium_last_share", pl.Float64(), "percent", "Share of the priced volume that is priced at last."),
    Column("call_delta_volume", pl.Float64(), "shares", "Volume times |delta| times multiplier over calls."),
    Column("put_delta_volume", pl.Float64(), "shares", "Volume times |delta| times multiplier over puts."),
    Column("put_call_delta_volume_ratio", pl.Float64(), "ratio", "Delta-weighted puts / calls by volume."),
    Column("delta_volume_status", pl.String(), None, "ok, no_calls, no_trades, or no_delta."),
    Column("delta_volume_coverage", pl.Float64(), "percent", "Share of the volume whose contracts have a delta."),
    Column("call_delta_open_interest", pl.Float64(), "shares", "Open interest times |delta| times multiplier, calls."),
    Column("put_delta_open_interest", pl.Float64(), "shares", "Open interest times |delta| times multiplier, puts."),
    Column("put_call_delta_open_interest_ratio", pl.Float64(), "ratio", "Delta-weighted open puts / open calls."),
    Column("delta_open_interest_status", pl.String(), None, "ok, no_calls, no_open_interest, or no_delta."),
    Column("delta_open_interest_coverage", pl.Float64(), "percent", "Share of open contracts that have a delta."),
    Column("contracts", pl.Int64(), "contracts", "Distinct contracts added up."),
    Column("excluded_contracts", pl.Int64(), "contracts", "Adjusted and mini contracts left out of every sum."),
    Column("symbols", pl.Int64(), "symbols", "Underlyings added up."),
    Column("put_call_volume_ratio_5", pl.Float64(), "ratio", "Volumes summed over 5 sessions; null if any is missing."),
    Column("put_call_volume_ratio_10", pl.Float64(), "ratio", "As put_call_volume_ratio_5, over 10 sessions."),
    Column("put_call_volume_ratio_21", pl.Float64(), "ratio", "As put_call_volume_ratio_5, over 21 sessions."),
    # trades with the quote in force, and their sides
    Column(
        "sequence",
        pl.Int64(),
        None,
        "Order of a symbol's trades of one time; of level one the session's volume up to and with the trade.",
    ),
    Column("trade_price", pl.Float64(), "dollars", "Price of the trade; null: the print has none."),
    Column("trade_size", pl.Float64(), "contracts or shares", "Size of the trade; null: not known."),
    Column("trade_venue", pl.String(), None, "Market identifier code of where it traded; null: not sent."),
    Column("update_time", TIME, "UTC", "The source's time of the update that told of it; null: not sent."),
    Column("instrument_type", pl.String(), None, "equity (stocks, funds and indices), option or future."),
    Column(
        "volume_kind",
        pl.String(),
        None,
        "shown: a print; unseen: volume that rose without a print, placed with the one that came with it; gap: volume "
        "of a stretch that was not received; start: where the tape of the symbol begins, or its volume began anew.",
    ),
    Column(
        "exclusion",
        pl.String(),
        None,
        "Why a print is not classified: extended_hours, out_of_sequence or suspect (more than 5 spreads and 2 % from "
        "the mid); null: it is.",
    ),
    Column(
        "quote_reason",
        pl.String(),
        None,
        "Why there is no quote: no_quote, one_sided, crossed, earlier_session or stale_quote; null: there is one.",
    ),
    Column(
        "quote_quality",
        pl.String(),
        None,
        "How the quote in force was had: exact, strict, concurrent, concurrent_fine, matched, arrival, "
        "previous_update, unseen, option_prior or block.",
    ),
    Column(
        "trade_location",
        pl.String(),
        None,
        "Where the trade stands against bid and ask: far_below, below, bid, lower_outer, lower_near, mid, upper_near, "
        "upper_outer, ask, above or far_above; null: no usable quote, or no price.",
    ),
    Column("tick_direction", pl.String(), None, "up or down from the last different price; null: there is none yet."),
    Column("aggressor_side", pl.String(), None, "buyer or seller: who crossed the spread; null: see aggressor_status."),
    Column(
        "aggressor_rule",
        pl.String(),
        None,
        "What decided: quote, at_quote, near_quote or tick; posterior where neither quote nor tick says so; null: no "
        "side.",
    ),
    Column("aggressor_status", pl.String(), None, "ok, no_price, first_trade, undecided, or even (chances are equal)."),
    Column("buy_probability", pl.Float64(), "fraction", "Chance that the buyer was the aggressor; null: no price."),
    Column(
        "confidence", pl.Float64(), "fraction", "The greater of buy_probability and 1 less it, 0.5 to 1; null with it."
    ),
    Column("posterior_version", pl.String(), None, "Version of the posterior table that buy_probability is from."),
    Column(
        "bulk_buy_volume",
        pl.Float64(),
        "contracts or shares",
        "Part of the volume judged bought by the bar's price change; null: see status.",
    ),
    Column("customer_side", pl.String(), None, "buyer or seller: what an option's customer was; null: see its status."),
    Column("customer_rule", pl.String(), None, "The rule that decided customer_side; null: no side."),
    Column("customer_confidence", pl.Float64(), "fraction", "Published accuracy of that rule; null: no side."),
    Column("customer_status", pl.String(), None, "ok, no_price, first_trade, undecided, or multi_leg."),
    # term_structure
    Column("source", pl.String(), None, "Whose volatilities: own, or vendor; the two are never mixed."),
    Column(
        "at_money_volatility", pl.Float64(), "fraction", "Volatility of the expiry at its forward; null: see status."
    ),
    Column(
        "put_25_delta_volatility", pl.Float64(), "fraction", "Of the put of a delta of -0.25; null: see wing_status."
    ),
    Column(
        "call_25_delta_volatility", pl.Float64(), "fraction", "Of the call of a delta of 0.25; null: see wing_status."
    ),
    Column(
        "risk_reversal_25_delta", pl.Float64(), "fraction", "Call less put volatility at 25 delta; null: wing_status."
    ),
    Column(
        "butterfly_25_delta",
        pl.Float64(),
        "fraction",
        "Mean of the 25-delta volatilities less that at the money; null: see wing_status.",
    ),
    Column(
        "skew_slope",
        pl.Float64(),
        "fraction per 1.00 of ln(strike / forward)",
        "Least-squares slope of volatilities out of the money between 25-delta put and call; null: see skew_status.",
    ),
    Column("skew_strikes", pl.Int64(), "strikes", "Strikes that skew_slope is of."),
    Column(
        "expected_move",
        pl.Float64(),
        "dollars",
        "forward x at_money_volatility x sqrt(years): one standard deviation at the expiry; null without, or vendor's.",
    ),
    Column("straddle_strike", pl.Float64(), "dollars", "Strike next to the forward with both mids; null if none."),
    Column("straddle_price", pl.Float64(), "dollars", "Mid of the call plus mid of the put at straddle_strike."),
    Column("strikes", pl.Int64(), "strikes", "Strikes of the expiry with a volatility of this source."),
    Column("wing_status", pl.String(), None, "ok, status where that is not ok, no_delta, or out_of_reach."),
    Column("skew_status", pl.String(), None, "ok, status where that is not ok, or few_strikes."),
    # exposure
    Column("open_interest_coverage", pl.Float64(), "percent", "Share of open contracts with Greeks; null: none open."),
    Column("call_gamma_exposure", pl.Float64(), "dollars per 1 %", "Gamma x open calls x multiplier x spot² / 100."),
    Column("put_gamma_exposure", pl.Float64(), "dollars per 1 %", "Gamma x open puts x multiplier x spot² / 100."),
    Column("gamma_exposure", pl.Float64(), "dollars per 1 %", "Calls less puts: dealers long calls, short puts."),
    Column("call_delta_exposure", pl.Float64(), "dollars", "Delta x open calls x multiplier x spot."),
    Column("put_delta_exposure", pl.Float64(), "dollars", "Delta (negative) x open puts x multiplier x spot."),
    Column("delta_exposure", pl.Float64(), "dollars", "Calls plus puts: what all who hold them are long."),
    # trade_location: sums over the trades of an interval
    Column("interval", pl.String(), None, "minute, minute_30 or session: what is summed over."),
    Column("interval_start", TIME, "UTC", "Start of the interval; of a session its open."),
    Column("prints", pl.Int64(), "prints", "Prints that were shown, excluded ones too."),
    Column("traded_volume", pl.Float64(), "contracts or shares", "By how much the cumulative volume rose."),
    Column("classified_volume", pl.Float64(), "contracts or shares", "Volume that has a probability of its side."),
    Column("unseen_volume", pl.Float64(), "contracts or shares", "Volume that rose without a print of its own."),
    Column("excluded_volume", pl.Float64(), "contracts or shares", "Volume of prints that are not classified."),
    Column("gap_volume", pl.Float64(), "contracts or shares", "Volume of stretches not received, where they end."),
    Column("completeness_pct", pl.Float64(), "percent", "Size of prints shown over all volume."),
    Column("coverage_pct", pl.Float64(), "percent", "classified_volume over traded_volume."),
    Column("above_pct", pl.Float64(), "percent", "Share of the volume not excluded that traded above the ask."),
    Column("at_ask_pct", pl.Float64(), "percent", "As above_pct: at the ask."),
    Column("upper_inside_pct", pl.Float64(), "percent", "As above_pct: between mid and ask."),
    Column("at_mid_pct", pl.Float64(), "percent", "As above_pct: at the mid."),
    Column("lower_inside_pct", pl.Float64(), "percent", "As above_pct: between bid and mid."),
    Column("at_bid_pct", pl.Float64(), "percent", "As above_pct: at the bid."),
    Column("below_pct", pl.Float64(), "percent", "As above_pct: below the bid."),
    Column("no_quote_pct", pl.Float64(), "percent", "As above_pct: without a usable quote, or without a price."),
    Column("bid_side_pct", pl.Float64(), "percent", "lower_inside_pct, at_bid_pct and below_pct together."),
    Column("ask_side_pct", pl.Float64(), "percent", "upper_inside_pct, at_ask_pct and above_pct together."),
    Column("buy_share_pct", pl.Float64(), "percent", "Share of classified_volume that was bought, by probability."),
    Column("imbalance", pl.Float64(), "fraction", "Bought less sold over classified_volume, -1 to 1."),
    Column("mean_confidence", pl.Float64(), "fraction", "Mean confidence of the trades, weighted by their size."),
    Column("buy_share_standard_error", pl.Float64(), "percent", "Standard error of buy_share_pct, in points."),
    Column("buy_share_half_width", pl.Float64(), "percent", "Half of the width of its 95 % band, in points."),
    Column("location_status", pl.String(), None, "ok, or nothing_classified: no volume has a probability."),
    # realized_volatility
    Column("close_to_close_volatility", pl.Float64(), "fraction", "Sample deviation of daily log returns, annualised."),
    Column("zero_mean_volatility", pl.Float64(), "fraction", "Root mean square of daily log returns, annualised."),
    Column("parkinson_volatility", pl.Float64(), "fraction", "From high and low, within sessions only, annualised."),
    Column("garman_klass_volatility", pl.Float64(), "fraction", "From all four prices, within sessions, annualised."),
    Column("rogers_satchell_volatility", pl.Float64(), "fraction", "Drift-free, within sessions only, annualised."),
    Column("yang_zhang_volatility", pl.Float64(), "fraction", "Overnight, open-to-close and range, annualised."),
)

_QUARANTINE_COLUMNS: tuple[Column, ...] = (
    Column("broken_rules", pl.String(), None, "Names of the rules the row broke, comma-separated."),
    Column("detail", pl.String(), None, "What was wrong in words; null where the rules say it."),
    Column(
        "request", pl.String(), None, "Path and query of the request whose answer held the row; null: see captures."
    ),
    Column("row_json", pl.String(), None, "The row itself as JSON: typed, or as the wire had it when it has no type."),
)

COLUMNS: dict[str, Column] = {column.name: column for column in (*_DECLARED, *_METRIC_COLUMNS, *_QUARANTINE_COLUMNS)}
