"""A table in order of symbol and time as runs of rows: where each symbol (and session) begins and ends."""

from __future__ import annotations

import polars as pl

RUN_COLUMNS = ("symbol", "session_date")


def symbol_runs(what: str, frame: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Each run of rows that agree in `by`: those columns, `start` (its first row) and `stop` (the one after its last).

    Raises ValueError where two runs agree: then the table is not in order; `what` it is goes into the message.
    """
    # neighbours are compared as two views of one column: a shifted copy of a long tape costs more than the comparison
    before, after = (frame.select(by).slice(offset, max(frame.height - 1, 0)) for offset in (0, 1))
    changes = [after[name].ne_missing(before[name]) for name in by]
    changed = changes[0] if len(changes) == 1 else changes[0] | changes[1]
    first = pl.Series("start", [0][: frame.height], dtype=pl.Int64)
    starts = first.append(changed.arg_true().cast(pl.Int64) + 1)
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
