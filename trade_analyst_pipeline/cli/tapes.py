"""Tapes of trades and quotes out of files that a person names: Parquet or CSV, columns renamed by a map.

What is in them is judged here, with the file, the column and the value in the message; what they say is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trade_analyst_pipeline.errors import TapeError

if TYPE_CHECKING:
    import polars as pl

COLUMNS = (
    *("symbol", "session_date", "trade_time", "trade_price", "trade_size", "conditions", "true_side"),
    *("quote_time", "bid", "ask"),
)
SIDES = {
    **dict.fromkeys(("buyer", "buy", "1", "true"), "buyer"),
    **dict.fromkeys(("seller", "sell", "-1", "false"), "seller"),
}


def column_map(pairs: Sequence[str]) -> dict[str, str]:
    """The file's names of our columns, from texts like `trade_price=px`. Raises TapeError for another text."""
    found = {}
    for pair in pairs:
        ours, _, theirs = pair.partition("=")
        if ours not in COLUMNS or not theirs:
            message = f"--column {pair!r} is not of the form ours=theirs, ours being one of {', '.join(COLUMNS)}"
            raise TapeError(message)
        found[ours] = theirs
    return found


def read_tape(path: Path, renamed: Mapping[str, str], needed: Sequence[str]) -> pl.DataFrame:
    """The rows of a file under our names, in order of symbol and time (rows of one time as they stand in the file).

    The first of `needed` is the time: a date and time, UTC where no zone is given, or whole nanoseconds since 1970.
    Without a `symbol` all rows are of one. Raises TapeError for a file that cannot be read, and
    for a column that is missing or cannot be used.
    """
    import polars as pl

    found = _read(path)
    groups = [name for name in ("symbol", "session_date") if name in renamed or name in found.columns]
    theirs = {ours: renamed.get(ours, ours) for ours in (*groups, *needed)}
    missing = sorted(set(theirs.values()) - set(found.columns))
    if missing:
        message = (
            f"{path} has no column {', '.join(missing)}: it has {', '.join(found.columns)}. "
            "Name the file's columns with --column ours=theirs"
        )
        raise TapeError(message)
    tape = found.select(pl.col(name).alias(ours) for ours, name in theirs.items())
    if "symbol" not in tape.columns:
        tape = tape.with_columns(pl.lit("tape").alias("symbol"))
    by = [name for name in ("symbol", "session_date", needed[0]) if name in tape.columns]
    return tape.with_columns(_time(path, tape[needed[0]])).sort(by, maintain_order=True)


def _read(path: Path) -> pl.DataFrame:
    import polars as pl

    try:
        if path.suffix.lower() == ".csv":
            return pl.read_csv(path, try_parse_dates=True, infer_schema_length=None)
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        message = f"{path} cannot be read as {'CSV' if path.suffix.lower() == '.csv' else 'Parquet'}: {error}"
        raise TapeError(message) from error


def _time(path: Path, times: pl.Series) -> pl.Series:
    import polars as pl

    if times.dtype.is_integer():
        times = times.cast(pl.Datetime("ns"))
    if not isinstance(times.dtype, pl.Datetime):
        message = f"{path}: {times.name} is {times.dtype}; give dates with times, or whole nanoseconds since 1970"
        raise TapeError(message)
    if times.null_count():
        message = f"{path}: {times.name} is missing in {times.null_count()} of {len(times)} rows"
        raise TapeError(message)
    in_zone = times.dt.replace_time_zone("UTC") if times.dtype.time_zone is None else times.dt.convert_time_zone("UTC")
    return in_zone.dt.cast_time_unit("ns")


def numbers(path: Path, tape: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """The tape with those columns as floats. Raises TapeError for one that holds anything else."""
    import polars as pl

    for name in names:
        if not tape.schema[name].is_numeric():
            message = f"{path}: {name} is {tape.schema[name]}, not numbers; its first value is {tape[name].first()!r}"
            raise TapeError(message)
    return tape.with_columns(pl.col(*names).cast(pl.Float64))


def true_sides(path: Path, sides: pl.Series) -> pl.Series:
    """`buyer` and `seller` for what stands for them: those words, buy and sell, 1 and -1, true and false; null stays.

    Raises TapeError for anything else.
    """
    import polars as pl

    words = sides.cast(pl.String).str.to_lowercase().str.strip_suffix(".0")
    found = words.replace_strict(SIDES, default=None, return_dtype=pl.String)
    strange = sides.filter(found.is_null() & sides.is_not_null())
    if len(strange):
        message = (
            f"{path}: true_side {strange[0]!r} in {len(strange)} of {len(sides)} rows is neither buyer nor seller "
            "(nor buy and sell, 1 and -1, true and false)"
        )
        raise TapeError(message)
    return found
