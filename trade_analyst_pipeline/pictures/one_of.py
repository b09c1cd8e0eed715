"""What all rows of a picture have in common."""

from __future__ import annotations

import polars as pl


def one_of(rows: pl.DataFrame, name: str) -> object:
    """The one value of a column. Raises ValueError where there are several, or no row."""
    found = rows[name].unique().sort().to_list()
    if len(found) != 1:
        few = ", ".join(map(repr, found[:3]))
        message = f"a picture is of one {name}, got {len(found)} of them ({few}): filter the rows by {name} first"
        raise ValueError(message)
    return found[0]
