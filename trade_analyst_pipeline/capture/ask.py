"""What a snapshot asks the source: the dataset's requests for its symbols, session and scope, less what is answered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from functools import partial

from trade_analyst_pipeline.capture.plan import Snapshot, symbols_by_product
from trade_analyst_pipeline.capture.take import Question
from trade_analyst_pipeline.datasets import ohlc, options, quotes
from trade_analyst_pipeline.market.chain_pieces import piece_of
from trade_analyst_pipeline.schwab.messages import MarketDataRequest
from trade_analyst_pipeline.settings import BoundedChainSettings

OHLC_HISTORY_YEARS = 2

Answered = Collection[MarketDataRequest]
Split = Callable[[MarketDataRequest], list[MarketDataRequest]]


def ask(snapshot: Snapshot, bounds: BoundedChainSettings) -> Question:
    """The question of a snapshot; `bounds` limit chains of scope `bounded`. Raises KeyError for an unknown dataset."""
    return _QUESTIONS[snapshot.dataset](snapshot, bounds)


def _options(snapshot: Snapshot, bounds: BoundedChainSettings) -> Question:
    split = partial(options.split, session_date=snapshot.session_date)
    missing = partial(_missing_chains, _chains(snapshot, bounds), split)
    return Question(missing, is_cut_short=options.is_cut_short, split=split)


def _chains(snapshot: Snapshot, bounds: BoundedChainSettings) -> list[MarketDataRequest]:
    if snapshot.scope == "full":
        return options.requests(snapshot.symbols)
    windows = {"regular": bounds.regular_days, "late": bounds.late_days}
    requests = []
    for product, symbols in symbols_by_product(snapshot.symbols).items():
        first, last = (snapshot.session_date + timedelta(days=days) for days in windows[product])
        requests += options.requests(symbols, strike_count=bounds.strikes, first_expiration=first, last_expiration=last)
    return requests


def _missing_chains(requests: Sequence[MarketDataRequest], split: Split, answered: Answered) -> list[MarketDataRequest]:
    by_symbol: dict[tuple[str, ...], list[MarketDataRequest]] = {}
    for request in answered:
        by_symbol.setdefault(request.symbols, []).append(request)
    return [part for asked in requests for part in _missing_pieces(asked, split, by_symbol.get(asked.symbols, []))]


def _missing_pieces(request: MarketDataRequest, split: Split, answered: Answered) -> list[MarketDataRequest]:
    """The request, or those of its parts that are not answered when it was asked for in parts, or nothing."""
    piece = piece_of(request.params)
    known = [found for asked in answered if (found := piece_of(asked.params)) is not None]
    if piece is None or any(found.covers(piece) for found in known):
        return []
    if not any(piece.holds_part(found) for found in known):
        return [request]
    return [missing for part in split(request) for missing in _missing_pieces(part, split, answered)]


def _quotes(snapshot: Snapshot, _: BoundedChainSettings) -> Question:
    return _whole(partial(_missing_quotes, snapshot.symbols))


def _missing_quotes(symbols: Sequence[str], answered: Answered) -> list[MarketDataRequest]:
    held = {symbol for request in answered for symbol in request.symbols}
    return quotes.requests(symbol for symbol in symbols if symbol not in held)


def _ohlc(snapshot: Snapshot, _: BoundedChainSettings) -> Question:
    wanted = ohlc.requests(snapshot.symbols, session_date=snapshot.session_date, years=OHLC_HISTORY_YEARS)
    return _whole(lambda answered: [request for request in wanted if request not in answered])


def _whole(missing: Callable[[Answered], list[MarketDataRequest]]) -> Question:
    """A question whose answers always fit into one response each."""
    return Question(missing, is_cut_short=lambda _: False, split=_refuse_to_split)


def _refuse_to_split(request: MarketDataRequest) -> list[MarketDataRequest]:
    message = f"{request.path} has no smaller parts"
    raise ValueError(message)


_QUESTIONS: dict[str, Callable[[Snapshot, BoundedChainSettings], Question]] = {
    "options": _options,
    "quotes": _quotes,
    "ohlc": _ohlc,
}
