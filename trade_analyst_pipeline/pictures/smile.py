"""The volatility smile: implied volatility by strike, one line an expiration, of one snapshot."""

from __future__ import annotations

import math

import polars as pl

from trade_analyst_pipeline.pictures.chart import COLOURS, Chart, Point, axis, without_values
from trade_analyst_pipeline.pictures.one_of import one_of

COLUMNS = (
    *("symbol", "snapshot_time", "expiration_date", "option_root", "settlement_type", "option_type"),
    *("strike", "years", "forward", "implied_volatility"),
)
_EXPIRY = ("years", "expiration_date", "option_root", "settlement_type")
# Of the expirations those nearest to these days are drawn.
MATURITIES = (7, 30, 90, 365)
DEVIATIONS = 3.0  # how far from the forward strikes are drawn, in deviations of the price at expiration
MOST_STRIKES = 60

Curve = list[tuple[float, float | None]]


def smile(contracts: pl.DataFrame) -> str:
    """SVG of the rows of `implied_volatility` of one symbol and snapshot: volatility by strike in % of the forward.

    Of each strike the side out of the money: puts below the forward, calls from it up. A strike whose side has no
    volatility breaks the line. Drawn are the expirations nearest to 7, 30, 90 and 365 days, to three deviations of the
    price on either side; of more than 60 strikes every second, third and so on. Raises ValueError for rows of several
    symbols or snapshots.
    """
    rows = contracts.select(COLUMNS)
    moment = one_of(rows, "snapshot_time")
    title = f"{one_of(rows, 'symbol')} volatility smile, {moment:%Y-%m-%d %H:%M} UTC"
    curves = {name: curve for name, curve in _curves(rows).items() if any(iv is not None for _, iv in curve)}
    if not curves:
        return without_values(title, "no contract out of the money has a volatility")
    strikes = [strike for curve in curves.values() for strike, _ in curve]
    volatilities = [iv for curve in curves.values() for _, iv in curve]
    across = axis("strike, % of the forward", [*strikes, 100.0], "g", is_tight=True)
    chart = Chart(title, "", across, axis("volatility a year, %", volatilities, "g", unit=0.01))
    chart.upright(100.0)
    for name, curve in curves.items():
        points: list[Point] = [chart.at(strike, iv) for strike, iv in curve]
        chart.line(points, name)
    return chart.svg()


def _curves(rows: pl.DataFrame) -> dict[str, Curve]:
    """The volatilities by strike of the expirations drawn, nearest first."""
    known = rows.filter((pl.col("years") > 0) & (pl.col("forward") > 0) & (pl.col("strike") > 0))
    if known.is_empty():
        return {}
    expiries = known.select(_EXPIRY).unique().sort(_EXPIRY)
    days = [365 * years for years in expiries["years"].to_list()]
    chosen = sorted({min(range(len(days)), key=lambda i: abs(days[i] - wanted)) for wanted in MATURITIES})[:COLOURS]
    curves = {}
    for i in chosen:
        _, date, root, settlement = expiries.row(i)
        of_expiry = known.filter(expiration_date=date, option_root=root, settlement_type=settlement)
        name = f"{date:%d %b %y}{' am' if settlement == 'A' else ''}, {days[i]:.0f} d"
        curves[name] = _curve(of_expiry)
    return curves


def _curve(rows: pl.DataFrame) -> Curve:
    """Strikes in percent of the forward, each with the volatility of the side out of the money."""
    is_out = (pl.col("option_type") == "C") == (pl.col("strike") >= pl.col("forward"))
    out = rows.filter(is_out).sort("strike")
    percent = (100 * out["strike"] / out["forward"]).to_list()
    points = list(zip(percent, out["implied_volatility"].to_list(), strict=True))
    known = [(abs(strike - 100), iv) for strike, iv in points if iv is not None]
    if not known:
        return []
    reach = 100 * DEVIATIONS * min(known)[1] * math.sqrt(out["years"][0])
    near = [point for point in points if abs(point[0] - 100) <= reach]
    return near[:: -(-len(near) // MOST_STRIKES) or 1]
