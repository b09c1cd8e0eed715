"""What a snapshot asks the source: the dataset's requests for its symbols, session and scope, less what is answered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

from trade_analyst_pipeline.capture.chains import FullChains, Split, missing_pieces
from trade_analyst_pipeline.capture.plan import Snapshot, symbols_by_product
from trade_analyst_pipeline.capture.take import DEFINITIVE, Held, Lack, Question
from trade_analyst_pipeline.datasets import expirations, instruments, markets, movers, ohlc, options, quotes
from trade_analyst_pipeline.market.chain_pieces import ChainPiece, piece_of
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.settings import BoundedChainSettings
from trade_analyst_pipeline.storage.archive import Archive, Gap

OHLC_HISTORY_YEARS = 2
PAUSE_SECONDS = 60.0  # before bars are asked for again that are empty in place of a refusal
QUOTES_PAUSE_SECONDS = 5.0  # before quotes are: chains of the same close wait for them

Answered = Collection[MarketDataRequest]


def ask(
    snapshot: Snapshot,
    bounds: BoundedChainSettings,
    archive: Archive | None = None,
    *,
    bars: Sequence[str] = ("daily", "minute"),
    has_extended_hours: bool = False,
) -> Question:
    """The question of a snapshot; `bounds` limit chains of scope `bounded`, `bars` are the frequencies of `ohlc`.

    By the sizes of earlier chains in the `archive` full ones are cut so that each piece fits into one response. Raises
    KeyError for an unknown dataset.
    """
    if snapshot.dataset == ohlc.NAME:
        terms = (("bars", ",".join(bars)), ("extended", str(has_extended_hours).lower()))
        return replace(_ohlc(snapshot, bars, has_extended_hours=has_extended_hours), terms=terms)
    if snapshot.dataset == options.NAME and snapshot.scope == "full":
        full = FullChains(snapshot, archive)
        return Question(
            full.missing, is_cut_short=options.is_cut_short, split=full.split, lacks=full.lacks, then=full.then
        )
    question = _QUESTIONS[snapshot.dataset](snapshot, bounds)
    is_bounded = snapshot.dataset == options.NAME
    return replace(question, terms=(("bounded", bounds.model_dump_json()),)) if is_bounded else question


def ask_on(terms: Iterable[tuple[str, str]], snapshot: Snapshot, archive: Archive | None = None) -> Question:
    """The question of a snapshot on the terms of an earlier one, as its capture keeps them, whatever is set now."""
    kept = dict(terms)
    bounds = BoundedChainSettings.model_validate_json(kept["bounded"]) if "bounded" in kept else BoundedChainSettings()
    return ask(
        replace(snapshot, scope="bounded" if "bounded" in kept else "full"),
        bounds,
        archive,
        bars=kept.get("bars", "daily,minute").split(","),
        has_extended_hours=kept.get("extended") == "true",
    )


def _options(snapshot: Snapshot, bounds: BoundedChainSettings) -> Question:
    split = partial(options.split, session_date=snapshot.session_date)
    missing = partial(_missing_chains, _chains(snapshot, bounds), split)
    return replace(_whole(missing), is_cut_short=options.is_cut_short, split=split)


def _chains(snapshot: Snapshot, bounds: BoundedChainSettings) -> list[MarketDataRequest]:
    windows = {"regular": bounds.regular_days, "late": bounds.late_days}
    requests = []
    for product, symbols in symbols_by_product(snapshot.symbols).items():
        first, last = (snapshot.session_date + timedelta(days=days) for days in windows[product])
        requests += options.requests(symbols, strike_count=bounds.strikes, first_expiration=first, last_expiration=last)
    return requests


def _missing_chains(requests: Sequence[MarketDataRequest], split: Split, answered: Answered) -> list[MarketDataRequest]:
    by_symbol: dict[str, list[ChainPiece]] = {}
    for request in answered:
        if (piece := piece_of(request.params)) is not None:
            by_symbol.setdefault(request.symbols[0], []).append(piece)
    return [part for asked in requests for part in missing_pieces(asked, split, by_symbol.get(asked.symbols[0], []))]


def _quotes(snapshot: Snapshot, _: BoundedChainSettings) -> Question:
    return Question(partial(_missing_quotes, snapshot.symbols), lacks=_lacks_quotes, then=_left_out_quotes)


def _missing_quotes(symbols: Sequence[str], held: Held) -> list[MarketDataRequest]:
    answered = [frozenset(request.symbols) for request in held.answered]
    failed = [frozenset(gap.symbols) for gap in held.gaps if gap.request is not None and gap.reason not in DEFINITIVE]
    # what a gap is about is answered once just that, or a part of it, was
    still_open = {symbol for gap in failed for symbol in gap.difference(*(each for each in answered if each <= gap))}
    known = frozenset().union(*answered) - still_open
    return quotes.requests(symbol for symbol in symbols if symbol not in known)


def _lacks_quotes(response: RawResponse) -> Lack | None:
    """An answer with nothing of what was asked for, and no word on why."""
    is_empty = len(quotes.left_out(response)) == len(response.request.symbols)
    detail = "neither a quote nor a word on any symbol asked for"
    return Lack(detail, pause_seconds=QUOTES_PAUSE_SECONDS) if is_empty else None


def _left_out_quotes(ended: RawResponse | Gap) -> list[MarketDataRequest]:
    """The symbols that an answer left out, asked for on their own: without an answer each is a gap."""
    return quotes.requests(quotes.left_out(ended)) if isinstance(ended, RawResponse) else []


def _instruments(snapshot: Snapshot, _: BoundedChainSettings) -> Question:
    return _whole(partial(_missing_symbols, snapshot.symbols, instruments.requests))


Requests = Callable[[Iterable[str]], list[MarketDataRequest]]


def _missing_symbols(symbols: Sequence[str], requests: Requests, answered: Answered) -> list[MarketDataRequest]:
    held = {symbol for request in answered for symbol in request.symbols}
    return requests(symbol for symbol in symbols if symbol not in held)


def _ohlc(snapshot: Snapshot, bars: Sequence[str], *, has_extended_hours: bool) -> Question:
    wanted = ohlc.requests(
        snapshot.symbols,
        session_date=snapshot.session_date,
        years=OHLC_HISTORY_YEARS,
        frequencies=bars,
        is_extended=has_extended_hours,
    )
    return replace(_each(wanted), lacks=_lacks_bars)


def _lacks_bars(response: RawResponse) -> Lack | None:
    missing = ohlc.missing_bars(response)
    return Lack(missing, pause_seconds=PAUSE_SECONDS) if missing else None


def _expirations(snapshot: Snapshot, _: BoundedChainSettings) -> Question:
    return _each(expirations.requests(snapshot.symbols))


def _markets(snapshot: Snapshot, _: BoundedChainSettings) -> Question:
    return _each(markets.requests(snapshot.symbols, session_date=snapshot.session_date))


def _movers(snapshot: Snapshot, _: BoundedChainSettings) -> Question:
    return _each(movers.requests(snapshot.symbols))


def _each(wanted: Sequence[MarketDataRequest]) -> Question:
    return _whole(lambda answered: [request for request in wanted if request not in answered])


def _whole(missing: Callable[[Answered], list[MarketDataRequest]]) -> Question:
    """A question whose answers always fit into one response each, and whole as they are."""
    return Question(lambda held: missing(held.answered))


_QUESTIONS: dict[str, Callable[[Snapshot, BoundedChainSettings], Question]] = {
    "options": _options,
    "quotes": _quotes,
    "expirations": _expirations,
    "markets": _markets,
    "instruments": _instruments,
    "movers": _movers,
}
