"""A table in order of symbol and time as runs of rows: where each symbol (and session) begins and ends."""

from __future__ import annotations

import polars as pl

RUN_COLUMNS = ("symbol", "session_date")


def symbol_runs(what: str, frame: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Each run of rows that agree in `by`: those columns, `start` (its first row) and `stop` (the one after its last).

    Raises ValueError where two runs agree: then the table is not in order; `what` it is goes into the message.
    """
    begins = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift(1)) for name in by)
    first = pl.int_range(pl.len()) == 0
    starts = frame.select((begins | first).arg_true().cast(pl.Int64).alias("start"))["start"]
    stops = starts.shift(-1).fill_null(frame.height).alias("stop")
    found = frame.select(by)[starts].with_columns(starts, stops)
    twice = found.filter(found.select(by).is_duplicated())
    if not twice.is_empty():
        names = ", ".join(map(str, twice.select(by).row(0)))
        message = f"the {what} of {names} do not follow each other: sort by {', '.join(by)} and time"
        raise ValueError(message)
    return found


def refuse_disorder(what: str, frame: pl.DataFrame, column: str, row: int) -> None:
    """Raise ValueError for a row whose time is before that of the row above; none below 0."""
    if row >= 0:
        symbol, time, before = frame["symbol"][row], frame[column][row], frame[column][row - 1]
        message = (
            f"row {row} of the {what} ({symbol}) has {column} {time}, after {before} in the row above: sort by time"
        )
        raise ValueError(message)
