"""What a snapshot asks the source: the dataset's requests for its symbols, session and scope, less what is answered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

from trade_analyst_pipeline.capture.chains import FullChains, Split, missing_pieces
from trade_analyst_pipeline.capture.plan import Snapshot, symbols_by_product
from trade_analyst_pipeline.capture.requesting import Held, Lack, Question
from trade_analyst_pipeline.capture.sound import SoundCaptures
from trade_analyst_pipeline.capture.take import DEFINITIVE
from trade_analyst_pipeline.datasets import expirations, instruments, markets, movers, ohlc, options, quotes
from trade_analyst_pipeline.market.chain_pieces import ChainPiece, piece_of
from trade_analyst_pipeline.market.sessions import session_open
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.settings import BoundedChainSettings
from trade_analyst_pipeline.storage.archive import Archive, Gap

OHLC_HISTORY_YEARS = 2
PAUSE_SECONDS = 60.0  # before bars are asked for again that are empty in place of a refusal
SHORT_PAUSE_SECONDS = 5.0  # before all else is: chains of the same close wait for quotes
LATELY_SESSIONS = 5  # archived sessions in which a symbol that has options had a list of expirations

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
    if snapshot.dataset == expirations.NAME:
        return replace(
            _each(expirations.requests(snapshot.symbols)), lacks=partial(_lacks_expirations, snapshot, archive)
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
    detail = "neither a quote nor a word on any symbol asked for"
    return _in_batches(snapshot.symbols, quotes.requests, quotes.left_out, detail)


def _instruments(snapshot: Snapshot, _: BoundedChainSettings) -> Question:
    detail = "not one instrument of the symbols asked for"
    return _in_batches(snapshot.symbols, instruments.requests, instruments.left_out, detail)


Requests = Callable[[Iterable[str]], list[MarketDataRequest]]
LeftOut = Callable[[RawResponse], Sequence[str]]


def _in_batches(symbols: Sequence[str], requests: Requests, left_out: LeftOut, nothing: str) -> Question:
    """A question of many symbols in a request: those an answer leaves out are asked for on their own.

    Without an answer each is a gap; an answer with none of its symbols lacks, in words, `nothing`.
    """
    return Question(
        partial(_missing_symbols, symbols, requests),
        lacks=partial(_lacks_all, left_out, nothing),
        then=partial(_asked_alone, requests, left_out),
    )


def _missing_symbols(symbols: Sequence[str], requests: Requests, held: Held) -> list[MarketDataRequest]:
    answered = [frozenset(request.symbols) for request in held.answered]
    failed = [frozenset(gap.symbols) for gap in held.gaps if gap.request is not None and gap.reason not in DEFINITIVE]
    # what a gap is about is answered once just that, or a part of it, was
    still_open = {symbol for gap in failed for symbol in gap.difference(*(each for each in answered if each <= gap))}
    known = frozenset().union(*answered) - still_open
    return requests(symbol for symbol in symbols if symbol not in known)


def _lacks_all(left_out: LeftOut, nothing: str, response: RawResponse) -> Lack | None:
    is_empty = len(left_out(response)) == len(response.request.symbols)
    return Lack(nothing, pause_seconds=SHORT_PAUSE_SECONDS) if is_empty else None


def _asked_alone(requests: Requests, left_out: LeftOut, ended: RawResponse | Gap) -> list[MarketDataRequest]:
    return requests(left_out(ended)) if isinstance(ended, RawResponse) else []


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


def _lacks_expirations(snapshot: Snapshot, archive: Archive | None, response: RawResponse) -> Lack | None:
    """A list without an entry: of a symbol that had some lately no answer, of any other that it has no options."""
    if not expirations.is_without_any(response):
        return None
    if archive is None or not _had_expirations(archive, snapshot, response.request):
        return Lack("not one expiration is listed", is_empty=False, pause_seconds=SHORT_PAUSE_SECONDS)
    return Lack("not one expiration is listed, and there were some lately", pause_seconds=SHORT_PAUSE_SECONDS)


def _had_expirations(archive: Archive, snapshot: Snapshot, listing: MarketDataRequest) -> bool:
    days = [day for day in archive.sessions(snapshot.dataset) if day < snapshot.session_date]
    sound = SoundCaptures(archive)  # what cannot be read says neither
    answers = (
        sound.reading(partial(archive.response, capture, entry))
        for day in reversed(days[-LATELY_SESSIONS:])
        for capture in sound.of(snapshot.dataset, day)
        for _, entry in archive.counting([capture])
        if entry.request == listing
    )
    return any(answer is not None and not expirations.is_without_any(answer) for answer in answers)


def _markets(snapshot: Snapshot, _: BoundedChainSettings) -> Question:
    return _each(markets.requests(snapshot.symbols, session_date=snapshot.session_date))


def _movers(snapshot: Snapshot, _: BoundedChainSettings) -> Question:
    return replace(_each(movers.requests(snapshot.symbols)), lacks=partial(_lacks_movers, snapshot))


def _lacks_movers(snapshot: Snapshot, response: RawResponse) -> Lack | None:
    is_open = response.received_time >= session_open(snapshot.session_date)
    if not is_open or not movers.has_no_volume(response):
        return None
    return Lack("nobody is listed by volume, and the market has opened", pause_seconds=SHORT_PAUSE_SECONDS)


def _each(wanted: Sequence[MarketDataRequest]) -> Question:
    return _whole(lambda answered: [request for request in wanted if request not in answered])


def _whole(missing: Callable[[Answered], list[MarketDataRequest]]) -> Question:
    """A question whose answers always fit into one response each, and whole as they are."""
    return Question(lambda held: missing(held.answered))


_QUESTIONS: dict[str, Callable[[Snapshot, BoundedChainSettings], Question]] = {
    "options": _options,
    "quotes": _quotes,
    "markets": _markets,
    "instruments": _instruments,
    "movers": _movers,
}
