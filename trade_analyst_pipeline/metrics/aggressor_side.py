"""Which side of a trade was the aggressor, by the rules of the literature; and on which side an option's customer was.

The quote in force is expected beside each trade. How far a side can be trusted is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from trade_analyst_pipeline.market.columns import Rule, table_schema
from trade_analyst_pipeline.market.symbol_runs import RUN_COLUMNS, refuse_disorder, symbol_runs
from trade_analyst_pipeline.market.trade_locations import LOCATIONS, MIDDLE

if TYPE_CHECKING:
    from trade_analyst_pipeline.kernels.arrays import Bytes, Floats

KEY = ("symbol", "trade_time", "sequence")

# What each rule is made of, in the order applied: the first part that decides, decides.
RULES: Final = {
    "tick": ("tick",),
    "reverse_tick": ("reverse_tick",),
    "quote": ("quote",),
    "lee_ready": ("quote", "tick"),
    "reverse_lee_ready": ("quote", "reverse_tick"),
    "emo": ("at_quote", "tick"),
    "reverse_emo": ("at_quote", "reverse_tick"),
    "clnv": ("near_quote", "tick"),
    "reverse_clnv": ("near_quote", "reverse_tick"),
    "trade_size": ("trade_size",),
    "depth": ("depth",),
}
# Made for the customer's side: wrong for the aggressor's, and the reverse ones look ahead.
CUSTOMER_RULES: Final = frozenset(name for name in RULES if "reverse" in name) | {"trade_size", "depth"}
SUBSETS: Final = ("best", "exchange")

Layer = tuple[str, str]
LEE_READY: Final[tuple[Layer, ...]] = (("lee_ready", "best"),)
EMO: Final[tuple[Layer, ...]] = (("emo", "best"),)
CLNV: Final[tuple[Layer, ...]] = (("clnv", "best"),)
GSU_LARGE: Final[tuple[Layer, ...]] = (
    *(("trade_size", "exchange"), ("quote", "best"), ("quote", "exchange")),
    *(("depth", "best"), ("depth", "exchange"), ("reverse_tick", "best")),
)

SIZE_RULE_CONFIDENCE = 0.80
GSU_CONFIDENCE = 0.75

_OF_A_TRADE = ("trade_price", "trade_size")
_OF_A_SUBSET = ("earlier_price", "later_price", "bid", "ask", "bid_size", "ask_size")
_READS: Final = {
    "tick": ("earlier_price",),
    "reverse_tick": ("later_price",),
    "quote": ("bid", "ask"),
    "at_quote": ("bid", "ask"),
    "near_quote": ("bid", "ask"),
    "trade_size": ("trade_size", "bid_size", "ask_size"),
    "depth": ("bid", "ask", "bid_size", "ask_size"),
}
# Of a tape that does not say of which session its trades are.
NO_SESSION: Final = pl.lit(None, dtype=pl.Date()).alias("session_date")
_SIDE_COLUMNS = ("trade_price", "trade_size", "bid", "ask", "quote_quality", "trade_location", "tick_direction")

SCHEMA = table_schema(
    "aggressor_side",
    "1.0",
    key=KEY,
    columns=(*KEY, "session_date", *_SIDE_COLUMNS, "aggressor_side", "aggressor_rule", "aggressor_status"),
    required=("aggressor_status",),
    rules=(
        Rule("aggressor_side_known", pl.col("aggressor_side").is_in(["buyer", "seller"]), "A side is buyer or seller."),
    ),
)
CUSTOMER_SCHEMA = table_schema(
    "customer_side",
    "1.0",
    key=KEY,
    columns=(*KEY, "customer_side", "customer_rule", "customer_confidence", "customer_status"),
    required=("customer_status",),
    rules=(
        Rule("customer_side_known", pl.col("customer_side").is_in(["buyer", "seller"]), "A side is buyer or seller."),
    ),
)


def aggressor_side(trades: pl.DataFrame, layers: Sequence[Layer] = LEE_READY) -> pl.DataFrame:
    """Which side crossed the spread, by the first of the layers that decides; rows as `SCHEMA`, in the order given.

    `trades` are rows of `prevailing_quote`, of each symbol (and session) in order of time. A layer is a rule of `RULES`
    and a subset: `best` reads `bid`, `ask` and so on, `exchange` `bid_exchange` and so on. The tick test compares with
    the last different price before in the symbol's session; a table that is part of a tape brings it as
    `earlier_price`. `aggressor_rule` is the part that decided (`quote`, `at_quote`, `near_quote`, `tick`). A side is
    null with `aggressor_status` `no_price`, `first_trade` (a tick was asked for, but no price before differs) or
    `undecided`.

    Raises ValueError for an unknown layer, one without its columns, and a rule made for the customer's side: on
    labelled order books the trade size takes accuracy from 97 to 62 %, the reverse tick test to 33 %.
    """
    wrong = [rule for rule, _ in layers if rule in CUSTOMER_RULES]
    if wrong:
        message = f"{', '.join(wrong)} cannot sign the aggressor: for the customer's side of options call customer_side"
        raise ValueError(message)
    columns = _columns(trades, layers)
    dated = trades if "session_date" in trades.columns else trades.with_columns(NO_SESSION)
    return dated.with_columns(
        *_signed("aggressor", trades, columns, layers),
        _location(columns, trades.height),
        _tick_direction(columns, trades.height),
    ).select(SCHEMA.names)


def customer_side(trades: pl.DataFrame, layers: Sequence[Layer] = GSU_LARGE) -> pl.DataFrame:
    """Whether an option trade's customer bought or sold, by the first layer that decides; rows as `CUSTOMER_SCHEMA`.

    By default the GSU-large stack of Grauer, Schuster and Uhrig-Homburg, with quotes of the best market and of the
    exchange of the trade. Its reverse tick test looks ahead: for whole tapes only. `customer_confidence` is the
    published accuracy: 0.80 where the trade size decided, else 0.75; it is not calibrated. Trades with a true
    `is_multi_leg` have no side (`multi_leg`); the other words are those of `aggressor_side`, and so is what is raised.
    """
    columns = _columns(trades, layers)
    signed = trades.with_columns(_signed("customer", trades, columns, layers))
    is_complex = (
        pl.col("is_multi_leg").fill_null(value=False) if "is_multi_leg" in trades.columns else pl.lit(value=False)
    )
    side = pl.when(~is_complex).then(pl.col("customer_side"))
    confidence = pl.when(pl.col("customer_rule") == "trade_size").then(SIZE_RULE_CONFIDENCE).otherwise(GSU_CONFIDENCE)
    return signed.with_columns(
        side.alias("customer_side"),
        pl.when(~is_complex).then(pl.col("customer_rule")).alias("customer_rule"),
        pl.when(side.is_not_null()).then(confidence).alias("customer_confidence"),
        pl.when(is_complex).then(pl.lit("multi_leg")).otherwise(pl.col("customer_status")).alias("customer_status"),
    ).select(CUSTOMER_SCHEMA.names)


def _parts(layers: Sequence[Layer]) -> list[Layer]:
    """The single rules that the layers are made of, each with its subset. Raises ValueError for an unknown word."""
    for rule, subset in layers:
        if rule not in RULES or subset not in SUBSETS:
            message = (
                f"no layer is ({rule!r}, {subset!r}): rules are {', '.join(RULES)}; subsets are {' and '.join(SUBSETS)}"
            )
            raise ValueError(message)
    return [(part, subset) for rule, subset in layers for part in RULES[rule]]


def _columns(trades: pl.DataFrame, layers: Sequence[Layer]) -> tuple[Floats, ...]:
    """The arrays that `kernels.trade_rules` takes, empty where neither a layer nor the location reads them."""
    suffixes = {"best": "", "exchange": "_exchange"}
    needed = {
        name if name in _OF_A_TRADE else name + suffixes[subset]
        for part, subset in _parts(layers)
        for name in _READS[part]
    }
    names = [*_OF_A_TRADE, *(name + suffix for suffix in suffixes.values() for name in _OF_A_SUBSET)]
    missing = sorted((needed | {"trade_price"}) - {"earlier_price", "later_price"} - set(trades.columns))
    if missing:
        message = f"the layers {[*layers]} need the columns {', '.join(missing)}"
        raise ValueError(message)
    wanted = needed | {"trade_price", "bid", "ask", "earlier_price"}
    arrays = {name: trades[name].cast(pl.Float64).to_numpy() for name in wanted if name in trades.columns}
    if not {"earlier_price", "later_price"} <= arrays.keys():
        arrays = {**_different_prices(trades, arrays["trade_price"]), **arrays}
    absent = np.empty(0)
    return tuple(arrays.get(name, absent) for name in names)


def _different_prices(trades: pl.DataFrame, prices: Floats) -> dict[str, Floats]:
    from trade_analyst_pipeline.kernels.trade_rules import different_prices

    runs = symbol_runs("trades", trades, [name for name in RUN_COLUMNS if name in trades.columns])
    starts = runs["start"].to_numpy()
    backwards = np.flatnonzero(np.diff(trades["trade_time"].to_physical().to_numpy()) < 0) + 1
    refuse_disorder("trades", trades, "trade_time", next(iter(np.setdiff1d(backwards, starts).tolist()), -1))
    earlier, later = np.empty_like(prices), np.empty_like(prices)
    different_prices(prices, np.append(starts, trades.height), earlier, later)
    return {"earlier_price": earlier, "later_price": later}


def _signed(who: str, trades: pl.DataFrame, columns: tuple[Floats, ...], layers: Sequence[Layer]) -> list[pl.Series]:
    """Side, rule and status of every trade."""
    from trade_analyst_pipeline.kernels.trade_rules import EARLIER, PRICE

    parts = _parts(layers)
    signs = _signs(parts, columns, trades.height)
    side = _words(np.sign(signs) + 1, ("seller", None, "buyer"))
    rule = _words(np.abs(signs), (None, *(part for part, _ in parts)))
    reasons = np.zeros(trades.height, dtype=np.uint8)
    open_rows = np.flatnonzero(signs == 0)
    is_first = np.isnan(columns[EARLIER][open_rows]) & any(part == "tick" for part, _ in parts)
    reasons[open_rows] = np.where(np.isnan(columns[PRICE][open_rows]), 1, np.where(is_first, 2, 3))
    status = _words(reasons, ("ok", "no_price", "first_trade", "undecided"))
    return [side.alias(f"{who}_side"), rule.alias(f"{who}_rule"), status.alias(f"{who}_status")]


def _signs(parts: Sequence[Layer], columns: tuple[Floats, ...], height: int) -> Bytes:
    """±(number of the part that decided, from 1), 0 for none."""
    from trade_analyst_pipeline.kernels import trade_rules

    rules = np.array([getattr(trade_rules, part.upper()) for part, _ in parts], dtype=np.int64)
    shifts = np.array([SUBSETS.index(subset) * trade_rules.SUBSET_COLUMNS for _, subset in parts], dtype=np.int64)
    signs = np.empty(height, dtype=np.int8)
    trade_rules.sign_trades(rules, shifts, columns, signs)
    return signs


def _location(columns: tuple[Floats, ...], height: int) -> pl.Series:
    from trade_analyst_pipeline.kernels import trade_rules

    price, bid, ask = (columns[place] for place in (trade_rules.PRICE, trade_rules.BID, trade_rules.ASK))
    places = np.full(height, trade_rules.NO_PLACE, dtype=np.int8)
    if len(bid) == len(ask) == height:
        trade_rules.locate_trades(price, bid, ask, places)
    codes = np.where(places == trade_rules.NO_PLACE, np.int8(len(LOCATIONS)), places + np.int8(MIDDLE))
    return _words(codes, (*LOCATIONS, None)).alias("trade_location")


def _tick_direction(columns: tuple[Floats, ...], height: int) -> pl.Series:
    signs = _signs([("tick", "best")], columns, height)
    return _words(signs + 1, ("down", None, "up")).alias("tick_direction")


def _words(codes: npt.NDArray[np.integer[Any]], words: Sequence[str | None]) -> pl.Series:
    """The words that the codes, all at least 0, stand for."""
    return pl.Series(words, dtype=pl.String).gather(pl.Series(codes.view(np.uint8)))
