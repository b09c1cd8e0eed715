"""What a snapshot asks the source: the dataset's requests for its symbols, session and scope."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial

from trade_analyst_pipeline.capture.plan import Snapshot, symbols_by_product
from trade_analyst_pipeline.capture.take import Question
from trade_analyst_pipeline.datasets import ohlc, options, quotes
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.settings import BoundedChainSettings

OHLC_HISTORY_YEARS = 2


def ask(snapshot: Snapshot, bounds: BoundedChainSettings) -> Question:
    """The question of a snapshot; `bounds` limit chains of scope `bounded`. Raises KeyError for an unknown dataset."""
    return _QUESTIONS[snapshot.dataset](snapshot, bounds)


def _options(snapshot: Snapshot, bounds: BoundedChainSettings) -> Question:
    return Question(
        requests=tuple(_chains(snapshot, bounds)),
        is_cut_short=options.is_cut_short,
        split=partial(options.split, session_date=snapshot.session_date),
    )


def _chains(snapshot: Snapshot, bounds: BoundedChainSettings) -> list[MarketDataRequest]:
    if snapshot.scope == "full":
        return options.requests(snapshot.symbols)
    windows = {"regular": bounds.regular_days, "late": bounds.late_days}
    requests = []
    for product, symbols in symbols_by_product(snapshot.symbols).items():
        first, last = (snapshot.session_date + timedelta(days=days) for days in windows[product])
        requests += options.requests(symbols, strike_count=bounds.strikes, first_expiration=first, last_expiration=last)
    return requests


def _quotes(snapshot: Snapshot, _: BoundedChainSettings) -> Question:
    return _whole(quotes.requests(snapshot.symbols))


def _ohlc(snapshot: Snapshot, _: BoundedChainSettings) -> Question:
    return _whole(ohlc.requests(snapshot.symbols, session_date=snapshot.session_date, years=OHLC_HISTORY_YEARS))


def _whole(requests: list[MarketDataRequest]) -> Question:
    """A question whose answers always fit into one response each."""
    return Question(tuple(requests), is_cut_short=lambda _: False, split=_refuse_to_split)


def _refuse_to_split(request: MarketDataRequest) -> list[MarketDataRequest]:
    message = f"{request.path} has no smaller parts"
    raise ValueError(message)


_QUESTIONS: dict[str, Callable[[Snapshot, BoundedChainSettings], Question]] = {
    "options": _options,
    "quotes": _quotes,
    "ohlc": _ohlc,
}
