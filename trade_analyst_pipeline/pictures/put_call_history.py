"""Puts over calls of each session's close, by volume with its average, and by open interest."""

from __future__ import annotations

import polars as pl

from trade_analyst_pipeline.pictures.chart import Chart, axis, without_values
from trade_analyst_pipeline.pictures.one_of import one_of
from trade_analyst_pipeline.pictures.sessions_axis import SHOWN_SESSIONS, across, over, shown_sessions

LINES = {
    "put_call_volume_ratio": "volume",
    "put_call_volume_ratio_10": "volume, 10 sessions",
    "put_call_open_interest_ratio": "open interest",
}
COLUMNS = ("symbol", "chain_scope", "session_date", *LINES, "volume_status")


def put_call_history(daily: pl.DataFrame, *, sessions: int = SHOWN_SESSIONS) -> str:
    """SVG of the rows of `put_call_ratio_daily` of one symbol and chain scope: three ratios, and a level at 1.

    The last `sessions` sessions of the exchange that the rows span. A session without a ratio by volume breaks that
    line and has a red mark below. Raises ValueError for rows of several symbols or chain scopes, whose ratios do not
    belong into one line.
    """
    rows = daily.select(COLUMNS).sort("session_date")
    title = f"{one_of(rows, 'symbol')} puts per call, {str(one_of(rows, 'chain_scope')).partition(' ')[0]} chains"
    days = shown_sessions(rows, sessions)
    values = {name: over(days, rows, name) for name in LINES}
    if all(value is None for line in values.values() for value in line):
        return without_values(title, "no ratio in these sessions")
    up = axis("puts / calls", [value for line in values.values() for value in line], "g")
    chart = Chart(title, _standing(rows.row(-1, named=True)), across(days), up)
    chart.level(1.0)
    for name, words in LINES.items():
        chart.line([chart.at(i, value) for i, value in enumerate(values[name])], words)
    chart.missing([i for i, value in enumerate(values["put_call_volume_ratio"]) if value is None])
    return chart.svg()


def _standing(last: dict[str, object]) -> str:
    ratios = [f"{words} {ratio:.2f}" for name, words in LINES.items() if isinstance(ratio := last[name], float)]
    return f"{last['session_date']}: {'; '.join(ratios) or 'no ratio'} ({last['volume_status']})"
