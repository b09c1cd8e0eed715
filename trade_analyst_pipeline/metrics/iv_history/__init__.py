"""One volatility per symbol, series and session, from the option chain.

Series are at the money at constant maturities of 7, 30, 60, 90, 180 and 365 days: `atm30` from volatilities inverted
here from the mids, `atm30_vendor` from the vendor's own. The vendor's clock is in the latter, so each series is ranked
against its own history only and never mixed with another. `model_free30`, from prices alone, is made in
`model_free.py`. Which contracts make a volatility is decided here; when a quote is usable is in `market/quote_status`,
how an expiry gets its volatility in `expiries.py`.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from trade_analyst_pipeline.market.chain_pieces import PARTIAL
from trade_analyst_pipeline.market.column_arithmetic import YEAR, in_units, quotient
from trade_analyst_pipeline.market.columns import Rule, table_schema
from trade_analyst_pipeline.market.option_rules import is_above_least, is_below_most
from trade_analyst_pipeline.market.quote_status import USABLE
from trade_analyst_pipeline.market.session_hours import up_to_close
from trade_analyst_pipeline.market.volatility_limits import EUROPEAN_UP_TO, HIGHEST_IV
from trade_analyst_pipeline.metrics.iv_history import expiries as steps
from trade_analyst_pipeline.metrics.iv_history import model_free
from trade_analyst_pipeline.metrics.iv_history.expiries import in_ticks

MATURITIES = (7, 30, 60, 90, 180, 365)
HEADLINE = "atm30"
VENDOR = "_vendor"
SERIES = (*(f"atm{days}{source}" for source in ("", VENDOR) for days in MATURITIES), model_free.SERIES)
INPUT_COLUMNS = (
    *("symbol", "session_date", "snapshot_time", "chain_scope", "option_root", "option_type"),
    *("expiration_date", "expiration_time", "strike", "bid", "ask", "quote_status"),
    *("vendor_implied_volatility", "is_non_standard", "is_mini", "interest_rate"),
    *("underlying_price", "dividend_yield", "exercise_type"),
)


SHORTEST = timedelta(days=2)
SINGLE_FROM, SINGLE_TO = 23, 37  # of 30 parts of the maturity: where a lone expiry may lie
SHORT_EXPIRY = timedelta(days=7)
EARLY_SNAPSHOT = timedelta(minutes=30)
DAY = timedelta(days=1)

# One row per series.
_WANTED = pl.DataFrame(
    [
        {
            "source": source,
            "days": days,
            "series": f"atm{days}{source}",
            "target": days * DAY,
            "single_from": days * DAY * SINGLE_FROM / 30,
            "single_to": days * DAY * SINGLE_TO / 30,
        }
        for source in ("", VENDOR)
        for days in MATURITIES
    ]
)

SCHEMA = table_schema(
    "iv_history",
    "1.0",
    key=("symbol", "series", "session_date"),
    columns=(
        *("symbol", "series", "session_date", "snapshot_time", "iv", "status", "flags"),
        *("near_expiration_date", "far_expiration_date", "near_days", "far_days", "near_iv", "far_iv"),
        *("near_forward", "far_forward", "near_strikes", "far_strikes", "discount_rate", "clean_contracts"),
    ),
    required=("status", "flags"),
    rules=(
        Rule("iv_range", pl.col("iv").is_between(0, HIGHEST_IV, closed="none"), "A volatility is 0 to 500 %."),
        Rule(
            "iv_or_reason",
            pl.col("iv").is_not_null() == pl.col("status").is_in(["ok", "single"]),
            "A row has a value exactly when its status is ok or single.",
        ),
    ),
)


def iv_history(options: pl.DataFrame) -> pl.DataFrame:
    """Each series' value of each symbol and session in `options`, one row each, as `SCHEMA`, sorted by its key.

    The value is that of the best valid snapshot: the latest one, at or before the close of the symbol's options, that
    yields a value. A snapshot after that close never counts, nor one that is not whole. When none yields one, `iv` is
    null and `status` is the reason the latest gave; `incomplete_chain` or `after_hours` when there was none.
    """
    each_series = ("symbol", "series", "session_date")
    values = snapshot_values(options).sort(*each_series, pl.col("iv").is_not_null(), "snapshot_time")
    best = values.unique(each_series, keep="last", maintain_order=True)
    each = options.group_by("symbol", "session_date").agg((pl.col("chain_scope") == PARTIAL).any().alias("is_short"))
    status = pl.when("is_short").then(pl.lit("incomplete_chain")).otherwise(pl.lit("after_hours"))
    none = each.join(best, on=("symbol", "session_date"), how="anti").join(
        pl.DataFrame({"series": SERIES}), how="cross"
    )
    none = none.with_columns(status=status, flags=pl.lit("")).drop("is_short")
    return pl.concat([best, none], how="diagonal").select(SCHEMA.names).sort(SCHEMA.key)


def snapshot_values(options: pl.DataFrame) -> pl.DataFrame:
    """Each series' value at every whole snapshot up to the close of the symbol's options; columns as `SCHEMA`.

    `options` are rows of the table `options`, of any number of symbols and snapshots. The forward of an expiry comes
    from put-call parity on mids; the strikes next to it give its volatility, total variance being linear in
    log-moneyness; total variance is linear in time between the two expiries around the maturity. Years are seconds /
    (365 * 86400). `status`: `ok`, `single` (one expiry within 7/30 of the maturity, taken flat), else the reason for
    null. `model_free30` is as `model_free` has it.
    """
    options = options.select(INPUT_COLUMNS).filter(pl.col("chain_scope") != PARTIAL)
    snapshots, number = _snapshots(options)
    options = options.with_columns(number).filter(pl.col("snapshot").is_in(snapshots["snapshot"].implode()))
    contracts = _standard_contracts(options)
    rates = _rates(contracts)
    vendor = steps.strikes_of(contracts)
    forwards = steps.forwards_of(vendor.join(rates, on="snapshot", maintain_order="left"))
    vendor = vendor.join(forwards, on="expiry", how="left", maintain_order="left")
    own = steps.inverted(vendor.join(rates, on="snapshot", maintain_order="left"), HIGHEST_IV).select(vendor.columns)
    strikes = pl.concat(
        [own.with_columns(source=pl.lit("")), vendor.with_columns(pl.col("expiry") + own.height, source=pl.lit(VENDOR))]
    )
    expiries = steps.expiries_of(strikes)
    wanted = snapshots.join(rates, on="snapshot", how="left").join(_WANTED, how="cross")
    stages = _reached(wanted.join(_listed(contracts), on=("snapshot", "days"), how="left"), strikes, expiries)
    at_money = _valued(_around(stages, expiries.filter("is_consistent"))).select(SCHEMA.names)
    known = own.unique("expiry", maintain_order=True).join(
        expiries.select("expiry", "atm_iv"), on="expiry", how="left", maintain_order="left"
    )
    return pl.concat([at_money, model_free.index_values(snapshots, contracts, rates, known).select(SCHEMA.names)])


def _by_maturity(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with `remaining`, once for each maturity they may serve: to the larger of a year and three maturities."""
    each = rows.join(_WANTED.select("days", "target").unique(), how="cross", maintain_order="left")
    return each.filter(pl.col("remaining") <= pl.max_horizontal(3 * pl.col("target"), pl.lit(YEAR)))


def _snapshots(options: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    """The snapshots not after their close, numbered in `snapshot`, and the number of each row's, whichever that is."""
    each = ("symbol", "session_date", "snapshot_time")
    snapshots, places = steps.numbered(options, each)
    counted = up_to_close(snapshots.with_row_index("snapshot")).sort(each)
    is_early = pl.col("close_time") - pl.col("snapshot_time") > EARLY_SNAPSHOT
    return counted.with_columns(is_early=is_early), pl.Series("snapshot", places, pl.UInt32)


def _standard_contracts(options: pl.DataFrame) -> pl.DataFrame:
    """The unadjusted contracts with 2 days to 3 years to live, with integer prices and `is_clean`.

    Clean is a usable quote within the bounds that hold for any option at the underlying's price, where that is known.
    """
    remaining = pl.col("expiration_time") - pl.col("snapshot_time")
    bid, ask = (in_ticks(pl.col(side)) for side in ("bid", "ask"))
    iv = pl.col("vendor_implied_volatility")
    is_possible = (is_above_least() & is_below_most()).fill_null(value=True)
    is_adjusted = pl.col("is_non_standard").fill_null(value=False) | pl.col("is_mini").fill_null(value=False)
    return (
        options.with_columns(remaining=remaining)
        .filter(pl.col("remaining").is_between(SHORTEST, 3 * YEAR) & ~is_adjusted)
        .with_columns(
            is_clean=pl.col("quote_status").is_in(USABLE) & is_possible,
            is_in_strip=pl.col("quote_status").is_in(model_free.IN_THE_STRIP) & is_possible,
            is_bidless=model_free.is_bidless(),
            bid=bid,
            ask=ask,
            iv=pl.when((iv > 0) & (iv < HIGHEST_IV)).then(iv),
        )
    )


def _rates(contracts: pl.DataFrame) -> pl.DataFrame:
    """Per snapshot: the chain's interest rate, 0 where it says none."""
    return contracts.group_by("snapshot").agg(
        pl.col("interest_rate").max().fill_null(0.0).alias("discount_rate"),
        pl.col("interest_rate").is_null().all().alias("is_rate_assumed"),
    )


def _listed(contracts: pl.DataFrame) -> pl.DataFrame:
    """Per snapshot and maturity, of those with contracts: how many are clean, and the listed expiries around it."""
    remaining, target = pl.col("remaining"), pl.col("target")
    dates = contracts.group_by("snapshot", "remaining").agg(pl.col("is_clean").sum().cast(pl.Int64))
    return (
        _by_maturity(dates)
        .group_by("snapshot", "days")
        .agg(
            pl.col("is_clean").sum().alias("clean_contracts"),
            remaining.filter(remaining <= target).max().alias("listed_near"),
            remaining.filter(remaining > target).min().alias("listed_far"),
        )
    )


def _reached(wanted: pl.DataFrame, strikes: pl.DataFrame, expiries: pl.DataFrame) -> pl.DataFrame:
    """Those with what each has got: a volatility, a forward, strikes around it, and sides that agree there."""
    each = ("source", "snapshot", "remaining")
    reached = {
        "has_iv": pl.any_horizontal(pl.col("call_iv", "put_iv").is_not_null()).any(),
        "has_forward": pl.col("forward").is_not_null().any(),
    }
    found = strikes.group_by(each).agg(has.alias(name) for name, has in reached.items())
    atm = expiries.group_by(each).agg(has_atm=pl.lit(value=True), has_consistent=pl.col("is_consistent").any())
    names = (*reached, "has_atm", "has_consistent")
    by_maturity = _by_maturity(found.join(atm, on=each, how="left")).group_by("source", "snapshot", "days")
    joined = wanted.join(by_maturity.agg(pl.col(names).any()), on=("source", "snapshot", "days"), how="left")
    return joined.with_columns(pl.col(names).fill_null(value=False))


def _around(wanted: pl.DataFrame, expiries: pl.DataFrame) -> pl.DataFrame:
    """Those with the figures of the last expiry up to the maturity (`near_*`) and of the first one after (`far_*`).

    Of two roots that expire at one instant the one with more usable strikes counts, then the first by name.
    """
    figures = ("expiration_date", "remaining", "atm_iv", "forward", "is_spread", "strikes", "is_european")
    each = ("source", "snapshot", "days")
    ordered = _by_maturity(
        expiries.sort(
            *("source", "snapshot", "remaining", "strikes", "option_root"),
            descending=[False, False, False, True, False],
        ).unique(("source", "snapshot", "remaining"), keep="first", maintain_order=True)
    )
    is_near = pl.col("remaining") <= pl.col("target")
    chosen = {
        "near": ordered.filter(is_near).unique(each, keep="last", maintain_order=True),
        "far": ordered.filter(~is_near).unique(each, keep="first", maintain_order=True),
    }
    for side, expiry in chosen.items():
        renamed = expiry.select(*each, pl.col(figures).name.prefix(f"{side}_"))
        wanted = wanted.join(renamed, on=each, how="left")
    return wanted


def _valued(pairs: pl.DataFrame) -> pl.DataFrame:
    """Those snapshots with `iv`, `status` and `flags`; what was not used for a value is null."""
    is_used = pl.col("status").is_in(["ok", "single"])
    figures = ("expiration_date", "days", "iv", "forward", "strikes")
    unused = [f"{side}_{figure}" for side in ("near", "far") for figure in figures]
    return (
        pairs.rename({"near_atm_iv": "near_iv", "far_atm_iv": "far_iv"})
        .with_columns(
            _status().alias("status"),
            pl.col("clean_contracts").fill_null(0),
            *(in_units(pl.col(f"{side}_remaining"), DAY).alias(f"{side}_days") for side in ("near", "far")),
        )
        .with_columns(
            pl.when(is_used).then(_constant_maturity_iv()).alias("iv"),
            pl.when(is_used).then(_flags()).otherwise(pl.lit("")).alias("flags"),
            *(pl.when(is_used).then(pl.col(name)).alias(name) for name in unused),
        )
    )


def _status() -> pl.Expr:
    """`ok`, `single`, or the first step at which nothing of the chain was left."""
    near, far = pl.col("near_remaining"), pl.col("far_remaining")
    lone = pl.coalesce(near, far)
    is_single = lone.is_between(pl.col("single_from"), pl.col("single_to"))
    steps = {
        "ok": near.is_not_null() & far.is_not_null(),
        "single": is_single,
        "no_expiry": pl.col("clean_contracts").is_null(),
        "no_quotes": pl.col("clean_contracts") == 0,
        "no_volatility": ~pl.col("has_iv"),
        "no_forward": ~pl.col("has_forward"),
        "no_strikes": ~pl.col("has_atm"),
        "sides_disagree": ~pl.col("has_consistent"),
    }
    return pl.coalesce(*(pl.when(holds).then(pl.lit(word)) for word, holds in steps.items()), pl.lit("no_expiry"))


def _constant_maturity_iv() -> pl.Expr:
    """Volatility of the maturity, total variance being linear in time; with one expiry that one's volatility."""
    near_days, far_days = pl.col("near_days"), pl.col("far_days")
    near, far = (pl.col(f"{side}_iv") ** 2 * pl.col(f"{side}_days") for side in ("near", "far"))
    total = near + (far - near) * (pl.col("days") - near_days) / (far_days - near_days)
    return pl.coalesce(quotient(total, pl.col("days")).sqrt(), "near_iv", "far_iv")


def _flags() -> pl.Expr:
    near, far = (pl.col(f"{side}_iv") ** 2 * pl.col(f"{side}_days") for side in ("near", "far"))
    skips = [pl.col(f"listed_{side}").ne_missing(pl.col(f"{side}_remaining")) for side in ("near", "far")]
    early = [
        (pl.col(f"{side}_remaining") > EUROPEAN_UP_TO) & ~pl.col(f"{side}_is_european") for side in ("near", "far")
    ]
    flags = {
        "calendar": far < near,
        "forward_spread": pl.any_horizontal("near_is_spread", "far_is_spread"),
        "short_expiry": (pl.col("near_remaining") < SHORT_EXPIRY) & (pl.col("target") > SHORT_EXPIRY),
        "rate_assumed": pl.col("is_rate_assumed"),
        "early_snapshot": pl.col("is_early"),
        "expiry_skipped": pl.any_horizontal(*skips),
        "early_exercise": pl.any_horizontal(*early) & (pl.col("source") != VENDOR),
    }
    words = [pl.when(holds).then(pl.lit(word)) for word, holds in flags.items()]
    return pl.concat_str(words, separator=",", ignore_nulls=True)
