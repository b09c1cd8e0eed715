"""What is known about each dataset of the source, one module each, and the registry of them. No input or output."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Final, Protocol

import polars as pl

from trade_analyst_pipeline.datasets import (
    expirations,
    instruments,
    markets,
    movers,
    ohlc,
    options,
    quotes,
    timesales,
)
from trade_analyst_pipeline.market.columns import TableSchema
from trade_analyst_pipeline.market.normalized import Normalized
from trade_analyst_pipeline.market.row_layout import RowLayout
from trade_analyst_pipeline.market.tolerance import Tolerance
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse


class Normalize(Protocol):
    """Responses of one capture to rows; `session_date` is the session they were captured in."""

    def __call__(self, responses: Iterable[RawResponse], *, session_date: date) -> Normalized:
        """The rows, in the columns of the dataset's schema, and what was left out."""
        ...


@dataclass(frozen=True)
class Dataset:
    """One dataset: its table, how responses become rows of it, how to ask for it, and where rows stand in an answer.

    `combine` makes one table of the valid rows of several captures, in capture order, each key once; its result does
    not depend on how the captures were grouped. `spans_sessions` is whether one capture describes other sessions than
    its own. `tolerance` is how many bad rows leave a capture usable. `is_current_only` is whether it is taken once a
    session, and by default of the latest one alone; `subjects` are what it is asked for where that is not the symbols
    that are watched. `without_proof` says what rows are worth when some
    requests of their capture were never answered. `archived_as` is what its captures are filed as, where that is not
    its own name.
    """

    name: str
    schema: TableSchema
    normalize: Normalize
    requests: Callable[..., list[MarketDataRequest]]
    combine: Callable[[pl.DataFrame], pl.DataFrame]
    layout: RowLayout
    spans_sessions: bool = False
    tolerance: Tolerance = field(default_factory=Tolerance)
    is_current_only: bool = False
    subjects: tuple[str, ...] = ()
    without_proof: Callable[[Normalized, Iterable[MarketDataRequest]], Normalized] = lambda found, _: found
    archived_as: str = ""

    @property
    def is_streamed(self) -> bool:
        """Whether its captures are segments of the stream, each record of which is another part of it."""
        return bool(self.archived_as)

    @property
    def source(self) -> str:
        """What its captures are filed as."""
        return self.archived_as or self.name


def _first_of_each_key(schema: TableSchema) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return partial(pl.DataFrame.unique, subset=list(schema.key), keep="first", maintain_order=True)


# Rows that say nothing about each other, of which there may be only two.
_UNRELATED: Final = Tolerance(share=0.5, rows=0)

OPTIONS: Final = Dataset(
    options.NAME,
    options.SCHEMA,
    options.normalize,
    options.requests,
    _first_of_each_key(options.SCHEMA),
    options.LAYOUT,
    without_proof=options.without_proof,
)
QUOTES: Final = Dataset(
    quotes.NAME,
    quotes.SCHEMA,
    quotes.normalize,
    quotes.requests,
    _first_of_each_key(quotes.SCHEMA),
    quotes.LAYOUT,
    tolerance=_UNRELATED,
)
OHLC: Final = Dataset(
    ohlc.NAME, ohlc.SCHEMA, ohlc.normalize, ohlc.requests, ohlc.revisions, ohlc.LAYOUT, spans_sessions=True
)
EXPIRATIONS: Final = Dataset(
    expirations.NAME,
    expirations.SCHEMA,
    expirations.normalize,
    expirations.requests,
    _first_of_each_key(expirations.SCHEMA),
    expirations.LAYOUT,
    is_current_only=True,
)
MARKETS: Final = Dataset(
    markets.NAME,
    markets.SCHEMA,
    markets.normalize,
    markets.requests,
    _first_of_each_key(markets.SCHEMA),
    markets.LAYOUT,
    tolerance=_UNRELATED,
    is_current_only=True,
    subjects=markets.MARKETS,
)
INSTRUMENTS: Final = Dataset(
    instruments.NAME,
    instruments.SCHEMA,
    instruments.normalize,
    instruments.requests,
    _first_of_each_key(instruments.SCHEMA),
    instruments.LAYOUT,
    tolerance=_UNRELATED,
    is_current_only=True,
)
MOVERS: Final = Dataset(
    movers.NAME,
    movers.SCHEMA,
    movers.normalize,
    movers.requests,
    _first_of_each_key(movers.SCHEMA),
    movers.LAYOUT,
    tolerance=_UNRELATED,
    is_current_only=True,
    subjects=movers.LISTS,
)

# Each is a definition of its own, so that a change of one reaches no table of another (lineage/code_versions.py).
DATASETS: Final[dict[str, Dataset]] = {
    dataset.name: dataset for dataset in (OPTIONS, QUOTES, OHLC, EXPIRATIONS, MARKETS, INSTRUMENTS, MOVERS)
}

TIMESALES: Final = Dataset(
    timesales.NAME,
    timesales.SCHEMA,
    timesales.normalize,
    timesales.requests,
    timesales.combine,
    timesales.LAYOUT,
    archived_as=timesales.ARCHIVED_AS,
)
# What comes by the stream and is asked for by nobody.
STREAMED: Final[dict[str, Dataset]] = {TIMESALES.name: TIMESALES}
TABLES: Final[dict[str, Dataset]] = DATASETS | STREAMED
