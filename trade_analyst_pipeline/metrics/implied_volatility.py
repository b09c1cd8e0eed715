"""Our own implied volatility and Greeks of every contract: Black-Scholes-Merton on the forward, by the true clock.

`black_volatility` and `black_greeks` work on whole columns, calls and puts mixed; `implied_volatility` makes the table.
The arithmetic is in `kernels/`; forwards and rates are those of the metric `forward`. Exercise before expiry is not
accounted for here: an American contract is inverted as if it were European.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from trade_analyst_pipeline.market.column_arithmetic import floats, years_to_expiry
from trade_analyst_pipeline.market.columns import Rule, table_schema
from trade_analyst_pipeline.market.expiry_key import EXPIRY_KEY, root_and_settlement
from trade_analyst_pipeline.market.prices import HALF_TICK

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int8]

# The word of each code that `black_volatility` gives.
REASONS: Final = (
    *("ok", "no_quote", "no_forward", "no_discount_factor", "expired"),
    *("at_intrinsic", "below_intrinsic", "above_max", "out_of_range"),
)
INPUT_COLUMNS: Final = (
    *("option_symbol", "snapshot_time", "symbol", "session_date", "chain_scope", "option_root", "option_type"),
    *("expiration_date", "expiration_time", "settlement_type", "exercise_type", "strike", "bid", "ask"),
    *("quote_status", "is_non_standard"),
)
GREEKS: Final = ("delta", "gamma", "vega", "theta", "rho")
_SIDES: Final = {"mid": "implied_volatility", "bid": "bid_implied_volatility", "ask": "ask_implied_volatility"}
_FORWARD_COLUMNS: Final = ("forward", "discount_factor", "spot")
_ROWS_PER_THREAD: Final = 16_384

SCHEMA = table_schema(
    "implied_volatility",
    "1.0",
    key=("option_symbol", "snapshot_time"),
    columns=(
        *("option_symbol", "snapshot_time", "symbol", "session_date", "chain_scope", "expiration_date"),
        *(
            "option_root",
            "settlement_type",
            "option_type",
            "exercise_type",
            "strike",
            "years",
            *_FORWARD_COLUMNS,
            "bid",
            "ask",
            "mid",
        ),
        *(column for name in _SIDES.values() for column in (name, f"{name}_status")),
        *(*GREEKS, "greeks_status"),
    ),
    required=(
        *("symbol", "session_date", "option_root", "settlement_type"),
        *(f"{name}_status" for name in _SIDES.values()),
        "greeks_status",
    ),
    rules=(
        *(
            Rule(
                f"{name}_or_reason",
                pl.col(name).is_not_null() == (pl.col(f"{name}_status") == "ok"),
                f"A row has {name} exactly when its status is ok.",
            )
            for name in _SIDES.values()
        ),
        *(Rule(f"{name}_positive", pl.col(name) > 0, "A volatility is above 0.") for name in _SIDES.values()),
        Rule(
            "greeks_or_reason",
            pl.all_horizontal(pl.col(GREEKS).is_not_null()) == (pl.col("greeks_status") == "ok"),
            "A row has every Greek exactly when greeks_status is ok.",
        ),
    ),
)


class PriceAndGreeks(NamedTuple):
    """Price and derivatives of options, arrays of one shape; NaN where there is none.

    Price in dollars, `delta` per dollar of spot, `gamma` per dollar of spot squared, `vega` per 1.00 of volatility,
    `theta` per calendar day, `rho` per 1.00 of interest rate.
    """

    price: Floats
    delta: Floats
    gamma: Floats
    vega: Floats
    theta: Floats
    rho: Floats


def black_volatility(
    price: npt.ArrayLike,
    *,
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    years: npt.ArrayLike,
    discount_factor: npt.ArrayLike,
    is_call: npt.ArrayLike,
    half_tick: float = HALF_TICK,
    threads: int | None = None,
) -> tuple[Floats, Codes]:
    """The annualised volatility at which Black-Scholes-Merton on the forward gives each price, and a code.

    Prices, forwards and strikes in dollars, `discount_factor` what a dollar at expiry is worth now; arrays or scalars
    that broadcast to one shape. The code is a place in `REASONS`: 0 where there is a volatility; else the volatility is
    NaN, never a bound. A price up to `half_tick` below the intrinsic value counts as at it. Large columns are divided
    among `threads` (as many as the machine has processors, unless said); that changes no bit. Raises ValueError where
    shapes do not fit.
    """
    from trade_analyst_pipeline.kernels.inversion import invert

    shape, columns = _columns(price, forward, strike, discount_factor, years, is_call)
    volatility, reason = np.empty(columns[0].size), np.empty(columns[0].size, dtype=np.int8)
    run: Callable[..., None] = invert
    _in_parts(lambda *part: run(*part[:6], half_tick, *part[6:]), (*columns, volatility, reason), threads)
    return volatility.reshape(shape), reason.reshape(shape)


def black_greeks(
    volatility: npt.ArrayLike,
    *,
    forward: npt.ArrayLike,
    strike: npt.ArrayLike,
    years: npt.ArrayLike,
    discount_factor: npt.ArrayLike,
    spot: npt.ArrayLike,
    is_call: npt.ArrayLike,
    threads: int | None = None,
) -> PriceAndGreeks:
    """Price and Greeks of each option by Black-Scholes-Merton on the forward.

    Arguments as for `black_volatility`; `spot` in dollars, NaN where it is not known: then price, vega and rho alone
    are there. The dividend yield is what takes spot to forward at the rate of the discount factor. NaN where an input
    is NaN, infinite or not above 0. Raises ValueError where shapes do not fit.
    """
    from trade_analyst_pipeline.kernels.greeks import evaluate

    shape, columns = _columns(volatility, forward, strike, discount_factor, years, spot, is_call)
    figures = tuple(np.empty(columns[0].size) for _ in PriceAndGreeks._fields)
    _in_parts(evaluate, (*columns, *figures), threads)
    return PriceAndGreeks(*(figure.reshape(shape) for figure in figures))


def implied_volatility(options: pl.DataFrame, forwards: pl.DataFrame) -> pl.DataFrame:
    """Implied volatilities and Greeks of each contract and snapshot in `options`, as `SCHEMA`, sorted by its key.

    `options` are rows of the table `options`, each key once; `forwards` are rows of the metric `forward` of the same
    snapshots. Bid, ask and their mid are inverted; the Greeks are at the volatility of the mid. Null has its reason in
    the status beside it, the first that holds: `adjusted`, a word of `quote_status`, `no_expiration_time`, `expired`,
    `no_forward`, or one of `REASONS`. Bid and ask are inverted where they are too wide or low for a mid.
    """
    rows = _joined(options, forwards)
    solved = _solved(rows)
    return solved.with_columns(_greeks(solved)).with_columns(_greeks_status()).select(SCHEMA.names).sort(SCHEMA.key)


def _columns(*values: npt.ArrayLike) -> tuple[tuple[int, ...], list[npt.NDArray[Any]]]:
    """The shape that these broadcast to, and each as a column of that many values, the last one as flags."""
    arrays = [np.asarray(value, dtype=np.float64) for value in values[:-1]]
    arrays.append(np.asarray(values[-1], dtype=np.bool_))
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    return shape, [np.ascontiguousarray(np.broadcast_to(array, shape)).reshape(-1) for array in arrays]


def _in_parts(run: Callable[..., None], columns: tuple[npt.NDArray[Any], ...], threads: int | None) -> None:
    """Call a kernel on slices of these columns, one to a thread, or at once where they are few."""
    rows = columns[0].size
    parts = max(1, min(threads or os.cpu_count() or 1, rows // _ROWS_PER_THREAD))
    bounds = [rows * part // parts for part in range(parts + 1)]
    slices = [slice(bounds[part], bounds[part + 1]) for part in range(parts)]
    if parts == 1:
        run(*columns)
        return
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(lambda part: run(*(column[part] for column in columns)), slices))


def _joined(options: pl.DataFrame, forwards: pl.DataFrame) -> pl.DataFrame:
    """The contracts with time to expiry, the forward of their expiry, their mid, and a status for each price."""
    known = forwards.select(*EXPIRY_KEY, *_FORWARD_COLUMNS)
    bid, ask = pl.col("bid"), pl.col("ask")
    return (
        options.select(INPUT_COLUMNS)
        .with_columns(*root_and_settlement(), years=years_to_expiry())
        .join(known, on=EXPIRY_KEY, how="left", validate="m:1")
        .with_columns(
            pl.when(_is_price(name)).then(name).alias(name) for name in ("bid", "ask", "strike", *_FORWARD_COLUMNS)
        )
        .with_columns(mid=pl.when(ask >= bid).then(bid + (ask - bid) / 2))
        .with_columns(_status(side).alias(f"{name}_status") for side, name in _SIDES.items())
    )


def _is_price(name: str) -> pl.Expr:
    return (pl.col(name) > 0) & pl.col(name).is_finite()


def _status(side: str) -> pl.Expr:
    """Why a price is not inverted, the first that holds; null where it is."""
    state = pl.col("quote_status").fill_null("no_quote")
    refused = ("no_quote", "crossed", "stale", *(("no_bid", "no_ask", "low_priced", "wide") if side == "mid" else ()))
    missing = "no_quote" if side == "mid" else f"no_{side}"
    steps = (
        (pl.lit("adjusted"), pl.col("is_non_standard").fill_null(value=False)),
        (state, state.is_in(refused)),
        (pl.lit(missing), pl.col(side).is_null()),
        (pl.lit("no_expiration_time"), pl.col("years").is_null()),
        (pl.lit("expired"), pl.col("years") <= 0),
        (pl.lit("no_forward"), pl.any_horizontal(pl.col("forward", "discount_factor").is_null())),
        (pl.lit("no_strike"), pl.col("strike").is_null()),
        (pl.lit("no_option_type"), ~pl.col("option_type").is_in(["C", "P"]).fill_null(value=False)),
    )
    return pl.coalesce(*(pl.when(holds).then(word) for word, holds in steps))


def _solved(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with the volatility of mid, bid and ask, all found in one pass."""
    is_call = rows["option_type"].eq("C").fill_null(value=False).to_numpy()
    prices = [
        rows.select(pl.when(pl.col(f"{name}_status").is_null()).then(side)).to_series() for side, name in _SIDES.items()
    ]
    times = len(_SIDES)
    volatility, reason = black_volatility(
        np.concatenate([floats(price) for price in prices]),
        forward=np.tile(floats(rows["forward"]), times),
        strike=np.tile(floats(rows["strike"]), times),
        years=np.tile(floats(rows["years"]), times),
        discount_factor=np.tile(floats(rows["discount_factor"]), times),
        is_call=np.tile(is_call, times),
    )
    words = pl.Series(REASONS)
    found = []
    for name, sigma, code in zip(_SIDES.values(), np.split(volatility, times), np.split(reason, times), strict=True):
        found.append(pl.Series(name, sigma, nan_to_null=True))
        found.append(rows[f"{name}_status"].zip_with(rows[f"{name}_status"].is_not_null(), words.gather(code)))
    return rows.with_columns(found)


def _greeks(rows: pl.DataFrame) -> list[pl.Series]:
    """The Greeks at the volatility of the mid."""
    figures = black_greeks(
        floats(rows["implied_volatility"]),
        forward=floats(rows["forward"]),
        strike=floats(rows["strike"]),
        years=floats(rows["years"]),
        discount_factor=floats(rows["discount_factor"]),
        spot=floats(rows["spot"]),
        is_call=rows["option_type"].eq("C").fill_null(value=False).to_numpy(),
    )
    return [pl.Series(name, getattr(figures, name), nan_to_null=True) for name in GREEKS]


def _greeks_status() -> pl.Expr:
    """The status of the mid's volatility; `no_spot` or `out_of_range` where that is ok and a Greek is not there."""
    return (
        pl.when(pl.col("implied_volatility_status") != "ok")
        .then("implied_volatility_status")
        .when(pl.all_horizontal(pl.col(GREEKS).is_not_null()))
        .then(pl.lit("ok"))
        .when(pl.col("spot").is_null())
        .then(pl.lit("no_spot"))
        .otherwise(pl.lit("out_of_range"))
        .alias("greeks_status")
    )
