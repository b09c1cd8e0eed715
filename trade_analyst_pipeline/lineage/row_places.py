"""Where in the body of an answer one row of its table stands, and the members that its columns come from.

The rows of an answer are in the order of its objects, so counting finds most. Where some were rejected the object is
closed in on by halves: a half is normalised alone, and holds the row or does not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import date
from typing import Any

import polars as pl

from trade_analyst_pipeline.datasets import Dataset
from trade_analyst_pipeline.market.json_places import Place
from trade_analyst_pipeline.market.normalized import MAX_SOURCE_CHARACTERS, Normalized
from trade_analyst_pipeline.market.row_layout import row_places, with_rows_only
from trade_analyst_pipeline.schwab.messages import RawResponse

Holds = Callable[[Normalized], bool]


def place_of_row(dataset: Dataset, response: RawResponse, row: Mapping[str, Any], session_date: date) -> Place | None:
    """The object in an answer that gave a row of the dataset's table; None where the answer has no such row.

    Rows are told apart by what members of theirs alone say. Raises PlaceUnknownError.
    """
    types = dataset.schema.polars_schema
    own = [name for name in dataset.schema.names if dataset.layout.is_told_by_row(name) and name in row]
    is_it = pl.all_horizontal(pl.col(name).eq_missing(pl.lit(row[name], types[name])) for name in own)

    def ordinals(found: Normalized) -> list[int]:
        return found.frame.select(is_it.arg_true()).to_series().to_list()

    found = dataset.normalize([response], session_date=session_date)
    numbers = ordinals(found)
    if not numbers:
        return None
    is_counted = not found.rejected.height and found.frame.height == len(row_places(response.body, dataset.layout))
    guess = numbers[0] if is_counted else None
    return _closed_in(dataset, response, session_date, lambda part: bool(ordinals(part)), guess)


def place_of_rejected(
    dataset: Dataset, response: RawResponse, row: Mapping[str, Any], session_date: date
) -> Place | None:
    """The object in an answer that could not be typed, by `broken_rules` and `row_json` of its row in quarantine.

    None where the answer has none such. Raises PlaceUnknownError.
    """
    is_it = (pl.col("rule") == row["broken_rules"]) & (pl.col("source") == row["row_json"][:MAX_SOURCE_CHARACTERS])

    def holds(part: Normalized) -> bool:
        return not part.rejected.filter(is_it).is_empty()

    if not holds(dataset.normalize([response], session_date=session_date)):
        return None
    return _closed_in(dataset, response, session_date, holds, None)


def place_of_broken(
    dataset: Dataset, response: RawResponse, row: Mapping[str, Any], session_date: date
) -> Place | None:
    """The object in an answer whose row broke a rule, by `row_json` of its row in quarantine; None as above."""
    wanted = json.loads(row["row_json"])
    frame = dataset.normalize([response], session_date=session_date).frame
    own = [name for name in dataset.schema.names if dataset.layout.is_told_by_row(name)]
    texts = frame.select(pl.struct(own).struct.json_encode()).to_series().to_list() if own else []
    for number, text in enumerate(texts):
        if json.loads(text) == {name: wanted.get(name) for name in own}:
            return place_of_row(dataset, response, frame.row(number, named=True), session_date)
    return None


def _closed_in(
    dataset: Dataset, response: RawResponse, session_date: date, holds: Holds, guess: int | None
) -> Place | None:
    """The first object that `holds` is true of, None where it is true of none alone; `guess` is what counting says."""

    def is_in(numbers: Collection[int]) -> bool:
        body = with_rows_only(response.body, dataset.layout, numbers)
        return holds(dataset.normalize([replace(response, body=body)], session_date=session_date))

    places = row_places(response.body, dataset.layout)
    # one bar alone does not show its length where the request does not say it, so another may have to stand beside it
    if guess is not None and (is_in({guess}) or is_in({guess, guess + 1 if guess + 1 < len(places) else guess - 1})):
        return places[guess]
    low, high = 0, len(places)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_in(range(low, middle)) else (middle, high)
    return places[low] if places and is_in({low}) else None
