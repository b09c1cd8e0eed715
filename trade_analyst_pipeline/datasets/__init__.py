"""What is known about each dataset of the source, one module each, and the registry of them. No input or output."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final, Protocol

from trade_analyst_pipeline.datasets import options
from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.market.normalized import Normalized
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse


class Normalize(Protocol):
    """Responses of one capture to rows; `session_date` is the session they were captured in."""

    def __call__(self, responses: Iterable[RawResponse], *, session_date: date) -> Normalized:
        """The rows, in the columns of the dataset's schema, and what was left out."""
        ...


@dataclass(frozen=True)
class Dataset:
    """One dataset: its table, how responses become rows of it, and how to ask for it."""

    name: str
    schema: TableSchema
    normalize: Normalize
    requests: Callable[..., list[MarketDataRequest]]


DATASETS: Final[dict[str, Dataset]] = {
    dataset.name: dataset for dataset in (Dataset(options.NAME, options.SCHEMA, options.normalize, options.requests),)
}
