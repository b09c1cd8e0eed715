"""Puts over calls, by volume, open interest, premium and delta, of each snapshot; and one row a session for series.

Ratios are always ratios of sums. Rows of different `chain_scope` are never added up, ranked or plotted together: a
bounded chain leaves out strikes and expirations that trade.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from trade_analyst_pipeline.market.chain_pieces import PARTIAL
from trade_analyst_pipeline.market.columns import Rule, table_schema
from trade_analyst_pipeline.market.session_grid import session_grid
from trade_analyst_pipeline.market.session_hours import up_to_close
from trade_analyst_pipeline.market.sessions import previous_session

PriceBasis = Literal["mid", "last"]

UNIVERSE = "universe"
SMOOTHED_SESSIONS = (5, 10, 21)
INPUT_COLUMNS = (
    *("symbol", "session_date", "snapshot_time", "chain_scope", "option_type", "expiration_date"),
    *("bid", "ask", "last", "volume", "open_interest", "multiplier", "vendor_delta", "is_non_standard", "is_mini"),
)
TICKS_PER_DOLLAR = 10_000
DELTA_UNITS = 1_000_000

_KEYS = ("symbol", "session_date", "snapshot_time", "chain_scope", "option_type", "expiration_date", "delta_bucket")
_BY_SIDE = (
    *("volume", "open_interest", "premium", "priced_volume"),
    *("delta_volume", "known_delta_volume", "delta_open_interest", "known_delta_open_interest"),
)


@dataclass(frozen=True)
class _Quantity:
    """Something whose puts are divided by its calls.

    `basis` is what is counted for it and `known` the part of the basis with a value; the integer sums divided by
    `units` are in the column's unit. `nothing` and `missing` are the statuses for no basis and for no value.
    """

    name: str
    basis: str
    known: str
    units: int
    nothing: str
    missing: str


_QUANTITIES = (
    _Quantity("volume", "volume", "volume", 1, "no_trades", "unknown"),
    _Quantity("open_interest", "open_interest", "open_interest", 1, "no_open_interest", "unknown"),
    _Quantity("premium", "volume", "priced_volume", 2 * TICKS_PER_DOLLAR, "no_trades", "no_price"),
    _Quantity("delta_volume", "volume", "known_delta_volume", DELTA_UNITS, "no_trades", "no_delta"),
    _Quantity(
        "delta_open_interest", "open_interest", "known_delta_open_interest", DELTA_UNITS, "no_open_interest", "no_delta"
    ),
)
_IN_ALL = ("last_volume", "contracts", "excluded_contracts", "known_volumes", "known_open_interests")
_SUMS = (*(f"{side}_{name}" for side in ("call", "put") for name in _BY_SIDE), *_IN_ALL)
_SHARED_COLUMNS = (
    *("call_volume", "put_volume", "put_call_volume_ratio", "put_volume_share", "volume_status"),
    *("call_open_interest", "put_open_interest", "put_call_open_interest_ratio", "put_open_interest_share"),
    *("open_interest_status", "open_interest_date"),
)
_SHARED_RULES = (
    Rule("put_volume_share_range", pl.col("put_volume_share").is_between(0, 100), "A share is 0 to 100."),
    Rule("ratio_finite", pl.col("put_call_volume_ratio").is_finite(), "A ratio is never infinite."),
    Rule(
        "volume_ratio_or_reason",
        pl.col("put_call_volume_ratio").is_not_null() == (pl.col("volume_status") == "ok"),
        "A row has a volume ratio exactly when volume_status is ok.",
    ),
)

_SNAPSHOT_SCHEMA = table_schema(
    "put_call_ratio",
    "1.0",
    key=("scope", "symbol", "expiration_date", "snapshot_time", "chain_scope"),
    columns=(
        *("scope", "symbol", "expiration_date", "snapshot_time", "chain_scope", "session_date"),
        *_SHARED_COLUMNS,
        *("call_premium", "put_premium", "put_call_premium_ratio", "premium_status"),
        *("premium_coverage", "premium_last_share"),
        *("call_delta_volume", "put_delta_volume", "put_call_delta_volume_ratio"),
        *("delta_volume_status", "delta_volume_coverage"),
        *("call_delta_open_interest", "put_delta_open_interest", "put_call_delta_open_interest_ratio"),
        *("delta_open_interest_status", "delta_open_interest_coverage"),
        *("contracts", "excluded_contracts", "symbols"),
    ),
    required=("session_date", "volume_status", "open_interest_status"),
    rules=_SHARED_RULES,
)
# expiration_date is part of the key and null where a row covers several expirations
SCHEMA = replace(_SNAPSHOT_SCHEMA, required=_SNAPSHOT_SCHEMA.required - {"expiration_date"})

DAILY_SCHEMA = table_schema(
    "put_call_ratio_daily",
    "1.0",
    key=("symbol", "chain_scope", "session_date"),
    columns=(
        *("symbol", "chain_scope", "session_date", "snapshot_time"),
        *_SHARED_COLUMNS,
        *(f"put_call_volume_ratio_{length}" for length in SMOOTHED_SESSIONS),
    ),
    required=("snapshot_time", "volume_status", "open_interest_status"),
    rules=_SHARED_RULES,
)


def put_call_ratio(options: pl.DataFrame, *, price: PriceBasis = "mid") -> pl.DataFrame:
    """Put/call ratios of every snapshot in `options`, as `SCHEMA`, sorted by its key.

    `scope` says what is added up: `underlying` (a symbol's whole chain), `expiration` (one expiration of it),
    `days_0`, `days_1_7`, `days_8_30`, `days_31_90`, `days_over_90` (by calendar days to expiration), `delta_otm`,
    `delta_atm`, `delta_itm`, `delta_unknown` (by the vendor's |delta|: below 0.4, up to 0.6, above), and `universe`:
    the closing snapshots of all symbols of a session together, symbol `universe`.
    Chains that are not whole (`partial`) are left out; adjusted and mini contracts are left out and counted. Premium
    is priced at the mid of a two-sided quote and at the last trade where there is none, or always at the last trade
    with `price="last"`. A ratio without calls is null, and its status says why.
    """
    whole = options.select(INPUT_COLUMNS).filter(pl.col("chain_scope") != PARTIAL)
    cells = _cells(_measured(whole, price))
    snapshot = ("symbol", "session_date", "snapshot_time", "chain_scope")
    scopes = [
        _added_up(cells, snapshot, scope=pl.lit("underlying")),
        _added_up(cells, (*snapshot, "expiration_date"), scope=pl.lit("expiration")),
        _added_up(cells.with_columns(_days_bucket().alias("bucket")), (*snapshot, "bucket"), scope=pl.col("bucket")),
        _added_up(cells, (*snapshot, "delta_bucket"), scope=pl.col("delta_bucket")),
    ]
    scopes.append(_universe(scopes[0]))
    return _with_ratios(pl.concat(scopes, how="diagonal")).select(SCHEMA.names).sort(SCHEMA.key)


def put_call_ratio_daily(ratios: pl.DataFrame) -> pl.DataFrame:
    """One row per symbol, `chain_scope` and session from its closing snapshot, as `DAILY_SCHEMA`, sorted by its key.

    `ratios` are rows of `put_call_ratio`; the closing snapshot is the latest not after the close of the symbol's
    options. `put_call_volume_ratio_5` (10, 21) is the ratio of the volumes summed over that many sessions of the
    exchange ending with this one, null when one of them is missing or no call traded.
    """
    closing = _closing(ratios.filter(pl.col("scope") == "underlying"))
    universe = ratios.filter(pl.col("scope") == UNIVERSE)
    names = [name for name in DAILY_SCHEMA.names if name in ratios.columns]
    daily = pl.concat([closing.select(names), universe.select(names)]).sort(DAILY_SCHEMA.key)
    if daily.is_empty():
        return DAILY_SCHEMA.empty()
    return daily.with_columns(_smoothed(daily)).select(DAILY_SCHEMA.names)


def _measured(options: pl.DataFrame, price: PriceBasis) -> pl.DataFrame:
    """What is added up of each contract, all in integers, so that no sum depends on its order.

    Premium is in 1/20000 dollar and delta in millionths; null where unknown, and for adjusted contracts.
    """
    is_adjusted = pl.col("is_non_standard").fill_null(value=False) | pl.col("is_mini").fill_null(value=False)
    volume, open_interest = (pl.when(~is_adjusted).then(pl.col(name)) for name in ("volume", "open_interest"))
    multiplier = pl.col("multiplier").round().cast(pl.Int64)
    bid, ask, last = ((pl.col(name) * TICKS_PER_DOLLAR).round().cast(pl.Int64) for name in ("bid", "ask", "last"))
    mid = pl.when((bid > 0) & (ask >= bid) & (price == "mid")).then(bid + ask)
    value = pl.coalesce(mid, 2 * last) * multiplier
    shares = (pl.col("vendor_delta").abs() * DELTA_UNITS).round().cast(pl.Int64) * multiplier
    return options.select(
        *_KEYS[:-1],
        _delta_bucket().alias("delta_bucket"),
        volume.alias("volume"),
        open_interest.alias("open_interest"),
        (value * volume).alias("premium"),
        pl.when(value.is_not_null()).then(volume).alias("priced_volume"),
        pl.when(value.is_not_null() & mid.is_null()).then(volume).alias("last_volume"),
        (shares * volume).alias("delta_volume"),
        pl.when(shares.is_not_null()).then(volume).alias("known_delta_volume"),
        (shares * open_interest).alias("delta_open_interest"),
        pl.when(shares.is_not_null()).then(open_interest).alias("known_delta_open_interest"),
        (~is_adjusted).cast(pl.Int64).alias("contracts"),
        is_adjusted.cast(pl.Int64).alias("excluded_contracts"),
        volume.is_not_null().cast(pl.Int64).alias("known_volumes"),
        open_interest.is_not_null().cast(pl.Int64).alias("known_open_interests"),
    )


def _delta_bucket() -> pl.Expr:
    delta = pl.col("vendor_delta").abs()
    return (
        pl.when(delta < 0.4)
        .then(pl.lit("delta_otm"))
        .when(delta <= 0.6)
        .then(pl.lit("delta_atm"))
        .when(delta > 0.6)
        .then(pl.lit("delta_itm"))
        .otherwise(pl.lit("delta_unknown"))
    )


def _days_bucket() -> pl.Expr:
    days = (pl.col("expiration_date") - pl.col("session_date")).dt.total_days()
    last_days = {"days_0": 0, "days_1_7": 7, "days_8_30": 30, "days_31_90": 90}
    buckets = (pl.when(days <= last_day).then(pl.lit(name)) for name, last_day in last_days.items())
    return pl.coalesce(*buckets, pl.lit("days_over_90"))


def _cells(contracts: pl.DataFrame) -> pl.DataFrame:
    """Sums per symbol, snapshot, expiration and delta bucket, calls and puts side by side."""
    sums = contracts.group_by(_KEYS).agg(pl.col(*_BY_SIDE, *_IN_ALL).sum())
    sides = [
        pl.when(pl.col("option_type") == letter).then(pl.col(name)).otherwise(0).alias(f"{side}_{name}")
        for side, letter in (("call", "C"), ("put", "P"))
        for name in _BY_SIDE
    ]
    return sums.with_columns(sides)


def _added_up(cells: pl.DataFrame, keys: Sequence[str], *, scope: pl.Expr) -> pl.DataFrame:
    return cells.group_by(keys).agg(pl.col(_SUMS).sum()).with_columns(scope.alias("scope"))


def _closing(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of the latest snapshot up to the close, per symbol, session and chain scope."""
    return (
        up_to_close(rows)
        .sort("snapshot_time")
        .unique(("symbol", "session_date", "chain_scope"), keep="last", maintain_order=True)
    )


def _universe(underlyings: pl.DataFrame) -> pl.DataFrame:
    """The closing snapshots of a session added up, one row per chain scope; its time is the latest of theirs."""
    return (
        _closing(underlyings)
        .group_by("session_date", "chain_scope")
        .agg(pl.col(_SUMS).sum(), pl.col("snapshot_time").max(), pl.len().cast(pl.Int64).alias("symbols"))
        .with_columns(scope=pl.lit(UNIVERSE), symbol=pl.lit(UNIVERSE))
    )


def _with_ratios(sums: pl.DataFrame) -> pl.DataFrame:
    """The sums in their units with ratios, shares, coverages and statuses."""
    return (
        sums.with_columns(_open_interest_date(sums["session_date"]), pl.col("symbols").fill_null(1))
        .with_columns(_ratio_status(quantity).alias(f"{quantity.name}_status") for quantity in _QUANTITIES)
        .with_columns(_share("last_volume", _both("priced_volume")).alias("premium_last_share"))
        .with_columns(
            _share(_both(quantity.known), _both(quantity.basis)).alias(f"{quantity.name}_coverage")
            for quantity in _QUANTITIES
        )
        .with_columns(_side(side, quantity) for quantity in _QUANTITIES for side in ("call", "put"))
        .with_columns(_ratio(quantity) for quantity in _QUANTITIES)
        .with_columns(
            _share("put_volume", _both("volume")).alias("put_volume_share"),
            _share("put_open_interest", _both("open_interest")).alias("put_open_interest_share"),
        )
    )


def _open_interest_date(session_dates: pl.Series) -> pl.Expr:
    previous = {day: previous_session(day) for day in session_dates.unique()}
    return pl.col("session_date").replace_strict(previous, return_dtype=pl.Date).alias("open_interest_date")


def _both(name: str) -> pl.Expr:
    return pl.col(f"call_{name}") + pl.col(f"put_{name}")


def _share(part: str | pl.Expr, whole: pl.Expr) -> pl.Expr:
    """A part of a whole in percent; null where the whole is nothing."""
    part = pl.col(part) if isinstance(part, str) else part
    return pl.when(whole > 0).then(100 * part / whole)


def _ratio_status(quantity: _Quantity) -> pl.Expr:
    """`ok`, or why there is no ratio; looks at the integer sums."""
    call, put = pl.col(f"call_{quantity.basis}"), pl.col(f"put_{quantity.basis}")
    call_lost = (call > 0) & (pl.col(f"call_{quantity.name}") == 0)
    put_lost = (put > 0) & (pl.col(f"put_{quantity.known}") == 0)
    return (
        pl.when((pl.col("contracts") > 0) & (pl.col(f"known_{quantity.basis}s") == 0))
        .then(pl.lit("unknown"))
        .when(call + put == 0)
        .then(pl.lit(quantity.nothing))
        .when(call == 0)
        .then(pl.lit("no_calls"))
        .when(call_lost | put_lost)
        .then(pl.lit(quantity.missing))
        .otherwise(pl.lit("ok"))
    )


def _side(side: str, quantity: _Quantity) -> pl.Expr:
    """A side's sum in its unit; null where none of its basis has a value."""
    name = f"{side}_{quantity.name}"
    value = pl.col(name) if quantity.units == 1 else pl.col(name) / quantity.units
    is_lost = (pl.col(f"{side}_{quantity.basis}") > 0) & (pl.col(f"{side}_{quantity.known}") == 0)
    return pl.when(~is_lost & (pl.col(f"{quantity.name}_status") != "unknown")).then(value).alias(name)


def _ratio(quantity: _Quantity) -> pl.Expr:
    ratio = pl.col(f"put_{quantity.name}") / pl.col(f"call_{quantity.name}")
    is_defined = pl.col(f"{quantity.name}_status") == "ok"
    return pl.when(is_defined).then(ratio).alias(f"put_call_{quantity.name}_ratio")


def _smoothed(daily: pl.DataFrame) -> list[pl.Series]:
    """The ratio of summed volumes over each number of sessions, for rows in the order of `DAILY_SCHEMA.key`."""
    grid = session_grid(daily, series=("symbol", "chain_scope"), room=max(SMOOTHED_SESSIONS))
    calls, puts = (pl.Series(grid.lay(daily[name])).fill_nan(None) for name in ("call_volume", "put_volume"))
    columns = []
    for length in SMOOTHED_SESSIONS:
        call, put = (side.rolling_sum(length, min_samples=length).gather(grid.positions) for side in (calls, puts))
        ratio = (put / call).set(call == 0, None)
        columns.append(ratio.alias(f"put_call_volume_ratio_{length}"))
    return columns
