"""Every number of an option contract at an instant, for whole chains at once.

A selection of contracts is valued on the true surface, quoted around that value (`quoting`) and given its volume,
open interest and last trades (`activity`). All of it hangs on the contract and the instant alone, so that asking for
a part of a chain changes none of its numbers. Arrays have two rows, calls and puts, and a column per (expiration,
strike). Prices that are traded are whole cents.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trade_analyst_pipeline.market.option_symbols import format_option_symbol
from trade_analyst_pipeline.simulator.activity import Activity, Prices, Reference, Trades, activity, last_trades
from trade_analyst_pipeline.simulator.listing import Expiration, expirations
from trade_analyst_pipeline.simulator.market import Moment, expiry_seconds, vendor_expiry_seconds
from trade_analyst_pipeline.simulator.noise import Floats, Keys, number_of
from trade_analyst_pipeline.simulator.paths import YEAR_SECONDS
from trade_analyst_pipeline.simulator.pricing import SIGNS, Greeks, Values, black, greeks
from trade_analyst_pipeline.simulator.quoting import Luck, Quotes, draw_luck, is_modelled, product_hours, quote

if TYPE_CHECKING:
    from trade_analyst_pipeline.simulator.market import Market

_SHORTEST = 1e-8
_SIDES = np.array([[0x243F6A8885A308D3], [0x13198A2E03707344]], dtype=np.uint64)


@dataclass(frozen=True)
class Selection:
    """Some contracts of one underlying: per expiration, its ascending strikes; each strike is a call and a put."""

    expirations: tuple[Expiration, ...]
    strikes: tuple[Floats, ...]

    @property
    def counts(self) -> list[int]:
        """How many strikes each expiration has."""
        return [len(row) for row in self.strikes]

    @property
    def size(self) -> int:
        """How many strikes there are over all expirations."""
        return sum(self.counts)


@dataclass(frozen=True)
class Board:
    """A valued selection: inputs per strike, then values, quotes and activity by side and strike.

    `series` is the place of the strike's expiration in the selection. `volatility` and `greeks` are the vendor's
    (`volatility` in percent, on the vendor's clock); `is_modelled` is false where the vendor shows -999 instead.
    """

    moment: Moment
    selection: Selection
    series: NDArray[np.int64]
    strikes: Floats
    years: Floats
    forwards: Floats
    true_volatility: Floats
    value: Floats
    intrinsic: Floats
    previous_value: Floats
    volatility: Floats
    greeks: Greeks
    is_modelled: NDArray[np.bool_]
    luck: Luck
    quotes: Quotes
    activity: Activity
    trades: Trades


def everything_listed(market: Market, moment: Moment) -> Selection:
    """All contracts listed on the moment's day."""
    listed = expirations(moment.instrument, moment.day)
    symbol = moment.instrument.symbol
    return Selection(listed, tuple(market.strikes(symbol, item, moment.day) for item in listed))


@dataclass(frozen=True)
class _Shape:
    """What pricing needs, one element per strike; `spot` is the price of what a contract delivers, by hundredths."""

    spot: Floats
    years: Floats
    forwards: Floats
    discounts: Floats
    variance: Floats
    deviations: Floats


def _shape(market: Market, moment: Moment, selection: Selection, strike: Floats) -> _Shape:
    listed, counts = selection.expirations, selection.counts
    ends = np.array([expiry_seconds(item.expiration_date, item.settlement) for item in listed])
    years = np.maximum((ends - moment.seconds) / YEAR_SECONDS, _SHORTEST)
    forwards = market.forwards(moment, tuple(item.expiration_date for item in listed), ends)
    at_the_money = np.repeat(moment.surface.at_the_money_variance(years), counts)
    delivered = np.array([item.shares / 100.0 for item in listed])
    each = np.repeat(forwards * delivered, counts)
    variance = moment.surface.total_variance(at_the_money, np.log(strike / each))
    discounts = np.repeat(np.exp(-moment.rate * years), counts)
    spot = np.repeat(moment.spot * delivered, counts)
    return _Shape(spot, np.repeat(years, counts), each, discounts, at_the_money, np.sqrt(variance))


def _worth(moment: Moment, shape: _Shape, strike: Floats) -> tuple[Values, Floats, Floats]:
    values = black(shape.forwards, strike, shape.deviations, shape.discounts)
    intrinsic = SIGNS * (shape.spot - strike)
    floor = np.maximum(intrinsic, 0.0) if moment.instrument.kind != "index" else 0.0
    return values, np.maximum(values.european, floor), intrinsic


def evaluate(market: Market, moment: Moment, selection: Selection) -> Board:
    """All numbers of a selection at a moment."""
    strike = np.concatenate((*selection.strikes, np.empty(0)))
    shape, earlier = _shape(market, moment, selection, strike), market.previous(moment)
    earlier_shape = _shape(market, earlier, selection, strike)
    values, value, intrinsic = _worth(moment, shape, strike)
    _, previous_value, _ = _worth(earlier, earlier_shape, strike)
    vendor_years = _vendor_years(moment, selection)
    vendor = _vendor_greeks(moment, values, shape, strike, vendor_years)
    hours = product_hours(moment)
    luck = draw_luck(market.seed, moment, hours, _keys(market.seed, selection, strike))
    quotes = quote(moment, hours, luck, value)
    traded = activity(market, earlier, hours, luck, _reference(selection, strike, earlier_shape))
    is_expired = shape.years <= _SHORTEST
    time_value = value - np.maximum(intrinsic, 0.0)
    return Board(
        moment=moment,
        selection=selection,
        series=np.repeat(np.arange(len(selection.strikes)), selection.counts),
        strikes=strike,
        years=shape.years,
        forwards=shape.forwards,
        true_volatility=np.where(is_expired, np.nan, shape.deviations / np.sqrt(shape.years)),
        value=value,
        intrinsic=intrinsic,
        previous_value=previous_value,
        volatility=np.broadcast_to(100.0 * shape.deviations / np.sqrt(vendor_years), value.shape),
        greeks=vendor,
        is_modelled=is_modelled(luck.model, hours, quotes, time_value, intrinsic, is_expired),
        luck=luck,
        quotes=quotes,
        activity=traded,
        trades=last_trades(moment, hours, luck, Prices(value, vendor.delta, previous_value, quotes), traded.volume),
    )


def _vendor_years(moment: Moment, selection: Selection) -> Floats:
    ends = np.array([vendor_expiry_seconds(item.expiration_date) for item in selection.expirations])
    return np.repeat((ends - moment.seconds) / YEAR_SECONDS, selection.counts)


def _vendor_greeks(moment: Moment, values: Values, shape: _Shape, strike: Floats, years: Floats) -> Greeks:
    return greeks(
        values,
        spot=shape.spot,
        forwards=shape.forwards,
        strikes=strike,
        discounts=shape.discounts,
        deviations=shape.deviations,
        years=years,
        rate=moment.rate,
    )


def _reference(selection: Selection, strike: Floats, shape: _Shape) -> Reference:
    return Reference(selection.expirations, selection.counts, strike, shape.forwards, shape.variance)


@lru_cache(maxsize=8192)
def _series_key(seed: int, expiration: Expiration) -> int:
    return number_of(seed, expiration.root, expiration.expiration_date, expiration.settlement)


def _keys(seed: int, selection: Selection, strike: Floats) -> Keys:
    series = np.array([_series_key(seed, item) for item in selection.expirations], dtype=np.uint64)
    thousandths = np.rint(strike * 1000.0).astype(np.uint64)
    return (np.repeat(series, selection.counts) ^ (thousandths * np.uint64(0x9E3779B97F4A7C15))) ^ _SIDES


# -- the truth as a table ----------------------------------------------------------------------------------------


def as_frame(board: Board) -> pl.DataFrame:
    """One row per contract: identity, truth and what is shown. Volatilities are fractions, prices dollars.

    `vendor_volatility` is null where the vendor shows -999; `true_volatility` is null once expired.
    """
    listed = [board.selection.expirations[place] for place in board.series.tolist()]
    identity = [
        (format_option_symbol(item.root, item.expiration_date, side, strike), side, item, strike)
        for side in ("C", "P")
        for item, strike in zip(listed, board.strikes.tolist(), strict=True)
    ]
    both = {
        "years": board.years,
        "forward": board.forwards,
        "true_volatility": board.true_volatility,
    }
    each = {
        "value": board.value,
        "bid": board.quotes.bid / 100.0,
        "ask": board.quotes.ask / 100.0,
        "vendor_volatility": np.where(board.is_modelled, board.volatility / 100.0, np.nan),
        "volume": board.activity.volume,
        "open_interest": board.activity.open_interest,
    }
    return pl.DataFrame(
        {
            "option_symbol": [row[0] for row in identity],
            "option_type": [row[1] for row in identity],
            "expiration_date": [row[2].expiration_date for row in identity],
            "settlement": [row[2].settlement for row in identity],
            "strike": [row[3] for row in identity],
            **{name: np.tile(values, 2) for name, values in both.items()},
            **{name: values.ravel() for name, values in each.items()},
        },
        schema_overrides={"expiration_date": pl.Date, "option_symbol": pl.String, "strike": pl.Float64},
    ).with_columns(pl.col("true_volatility", "vendor_volatility").fill_nan(None))
