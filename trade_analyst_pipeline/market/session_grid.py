"""Series of dated values laid on the exchange calendar, so that a window counts sessions and a missing one is a hole.

Many series go into one flat array, each with room before it, so that a window reaching back from the first session
of one series never meets the end of another. No metric is computed here, and no file is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache

import numpy as np
import numpy.typing as npt
import polars as pl

from trade_analyst_pipeline.market.sessions import CALENDAR_END, CALENDAR_START, sessions

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Days = npt.NDArray[np.datetime64]


@cache
def _exchange_days() -> Days:
    return np.array(sessions(CALENDAR_START, CALENDAR_END), dtype="datetime64[D]")


@dataclass(frozen=True)
class SessionGrid:
    """Where each row of a table stands in the flat array of all its series.

    `positions` has one entry per row, `series` the running number of its series; `ordinals` gives, for each cell of
    the flat array, the index of its session in `days` (meaningless in the room before a series).
    """

    positions: Indices
    series: Indices
    ordinals: Indices
    days: Days

    @property
    def size(self) -> int:
        """Length of the flat array."""
        return len(self.ordinals)

    def lay(self, values: pl.Series) -> Floats:
        """The flat array of a column: NaN where a session has no row, where the value is null, and in the room."""
        flat = np.full(self.size, np.nan)
        flat[self.positions] = values.cast(pl.Float64).to_numpy()
        return flat

    def dates(self, cells: pl.Series) -> pl.Series:
        """The session dates of cells of the flat array; null stays null."""
        days = pl.Series(self.days[self.ordinals[cells.fill_null(0).to_numpy()]], dtype=pl.Date)
        return pl.select(pl.when(cells.is_not_null()).then(days)).to_series()


def session_grid(
    frame: pl.DataFrame, *, series: Sequence[str], room: int, calendar: Sequence[date] | None = None
) -> SessionGrid:
    """The grid of a table sorted by `series` columns and `session_date`, with `room` empty cells before each series.

    `calendar` lists the days a window counts, ascending; by default the sessions of the exchange. Raises ValueError
    when the table is not sorted that way, has two rows of one series on one date, or a date outside the calendar.
    """
    days = _exchange_days() if calendar is None else np.array(calendar, dtype="datetime64[D]")
    ordinals = _ordinals(frame["session_date"], days)
    numbers = frame.select(pl.struct(series).rle_id()).to_series().to_numpy().astype(np.int64)
    if np.any(np.diff(ordinals)[np.diff(numbers) == 0] <= 0):
        message = f"rows are not sorted by {', '.join(series)} and session_date, or a date comes twice in a series"
        raise ValueError(message)
    return _laid_out(ordinals, numbers, days, room)


def _ordinals(dates: pl.Series, days: Days) -> Indices:
    """The index of each date in `days`; raises ValueError naming the first that is not there."""
    wanted: Days = dates.to_numpy().astype("datetime64[D]")
    ordinals = np.zeros((days[-1] - days[0]).astype(np.int64) + 1, dtype=np.int64)
    ordinals[(days - days[0]).astype(np.int64)] = np.arange(len(days))
    found: Indices = ordinals[np.clip((wanted - days[0]).astype(np.int64), 0, len(ordinals) - 1)]
    strangers = wanted[days[found] != wanted]
    if len(strangers):
        message = (
            f"{strangers[0]} is not a session of the calendar from {days[0]} to {days[-1]} (a weekend or a holiday?): "
            "leave such rows out, or pass the calendar the series is published on"
        )
        raise ValueError(message)
    return found


def _laid_out(ordinals: Indices, numbers: Indices, days: Days, room: int) -> SessionGrid:
    if not len(ordinals):
        return SessionGrid(positions=ordinals, series=numbers, ordinals=ordinals, days=days)
    firsts = np.flatnonzero(np.diff(numbers, prepend=-1))
    lasts = np.append(firsts[1:], len(ordinals)) - 1
    lengths = room + ordinals[lasts] - ordinals[firsts] + 1
    ends = np.cumsum(lengths)
    offsets = ends - lengths + room - ordinals[firsts]
    return SessionGrid(
        positions=offsets[numbers] + ordinals,
        series=numbers,
        ordinals=np.arange(ends[-1]) - np.repeat(offsets, lengths),
        days=days,
    )
