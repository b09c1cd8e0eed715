"""A volatility over the sessions, within the lowest and highest of its window: what its IV rank is made of."""

from __future__ import annotations

import polars as pl

from trade_analyst_pipeline.pictures.chart import Chart, axis, without_values
from trade_analyst_pipeline.pictures.one_of import one_of
from trade_analyst_pipeline.pictures.sessions_axis import SHOWN_SESSIONS, across, over, shown_sessions

COLUMNS = (
    "symbol",
    "series",
    "window_sessions",
    "session_date",
    "iv",
    "lo",
    "hi",
    "iv_rank",
    "iv_percentile",
    "status",
)


def volatility_history(ranks: pl.DataFrame, *, sessions: int = SHOWN_SESSIONS) -> str:
    """SVG of the rows of `iv_rank` of one symbol, series and window: `iv`, and the band from `lo` to `hi`.

    The last `sessions` sessions of the exchange that the rows span. A session without a value breaks the line and has a
    red mark below. Rank and percentile of the last row stand above, or its status. Raises ValueError for rows of
    several symbols, series or windows.
    """
    rows = ranks.select(COLUMNS).sort("session_date")
    title = f"{one_of(rows, 'symbol')} implied volatility {one_of(rows, 'series')}"
    days = shown_sessions(rows, sessions)
    values, lows, highs = (over(days, rows, name) for name in ("iv", "lo", "hi"))
    if all(value is None for value in values):
        return without_values(title, "no value in these sessions")
    up = axis("volatility a year, %", [*values, *lows, *highs], "g", unit=0.01)
    chart = Chart(title, _standing(rows.row(-1, named=True)), across(days), up)
    window = f"range of {one_of(rows, 'window_sessions')} sessions"
    lower, upper = ([chart.at(i, value) for i, value in enumerate(side)] for side in (lows, highs))
    chart.band(lower, upper, window)
    chart.line([chart.at(i, value) for i, value in enumerate(values)], "volatility")
    chart.missing([i for i, value in enumerate(values) if value is None])
    return chart.svg()


def _standing(last: dict[str, object]) -> str:
    day, iv, rank, percentile = (last[name] for name in ("session_date", "iv", "iv_rank", "iv_percentile"))
    parts = [
        f"{100 * iv:.1f} %" if isinstance(iv, float) else "",
        f"rank {rank:.0f}" if isinstance(rank, float) else "",
        f"percentile {percentile:.0f}" if isinstance(percentile, float) else "",
    ]
    return f"{day}: {', '.join(part for part in parts if part) or 'no value'} ({last['status']})"
