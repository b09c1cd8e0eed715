"""What a run did not get, one line for each symbol and cause, with what to do: told at its end, on standard error."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date

from trade_analyst_pipeline.capture.plan import REACHES_BACK
from trade_analyst_pipeline.datasets import DATASETS
from trade_analyst_pipeline.errors import CaptureDamagedError, SymbolNotFoundError
from trade_analyst_pipeline.market.sessions import NEW_YORK
from trade_analyst_pipeline.storage.archive import Archive, Gap
from trade_analyst_pipeline.storage.captures import SESSION_OVER, Capture
from trade_analyst_pipeline.storage.tables import TableStore

_WIDEST = 160


def readable_captures(archive: Archive, name: str, day: date) -> list[Capture]:
    """The captures of a session; none where one of them is damaged, of which `damage` tells."""
    try:
        return archive.captures(name, day)
    except CaptureDamagedError:
        return []


def damage(archive: Archive) -> Iterator[str]:
    """One line for each session of the archive with a damaged capture: the file, what is wrong, what to do."""
    for name in DATASETS:
        for day in archive.sessions(name):
            try:
                archive.captures(name, day)
            except CaptureDamagedError as error:
                yield f"{name} of session {day} is not counted here: {error}"


def troubles(
    archive: Archive,
    store: TableStore,
    sessions: Sequence[date],
    symbols: Sequence[str],
    *,
    watched: Mapping[str, Collection[str]] | None = None,
) -> Iterator[str]:
    """The lines about these sessions and symbols: gaps of any of them; rows and late captures of the last.

    `watched` are the symbols of each dataset that must have rows, by default all for each.
    Sessions that went by without any capture are left out: they are told when their gap is recorded.
    """
    gaps = list(_gaps(archive, sessions))
    known: set[tuple[str, str]] = set()
    for symbol in symbols:
        own = [(day, gap) for day, gap in gaps if symbol in gap.symbols]
        known |= {(symbol, gap.dataset) for _, gap in own}
        if any(gap.reason == SymbolNotFoundError.reason for _, gap in own):
            known |= {(symbol, name) for name in DATASETS}
            yield f"{symbol}: the source does not know it; `trade-analyst symbols` says what may be meant"
        else:
            yield from _missing(symbol, own)
    for name in DATASETS:
        wanted = symbols if watched is None else watched[name]
        yield from _without_rows(store, name, sessions[-1], [each for each in wanted if (each, name) not in known])
        yield from _late(archive, name, sessions[-1])


def _gaps(archive: Archive, sessions: Sequence[date]) -> Iterator[tuple[date, Gap]]:
    for name in DATASETS:
        for day in sessions:
            captures = readable_captures(archive, name, day)
            if any(capture.gaps for capture in captures):
                yield from ((day, gap) for gap in archive.open_gaps(captures) if gap.reason != SESSION_OVER)


def _missing(symbol: str, gaps: Sequence[tuple[date, Gap]]) -> Iterator[str]:
    for name, reason in dict.fromkeys((gap.dataset, gap.reason) for _, gap in gaps):
        of_kind = [(day, gap) for day, gap in gaps if (gap.dataset, gap.reason) == (name, reason)]
        days = sorted({day for day, _ in of_kind})
        where = f"session {days[0]}" if len(days) == 1 else f"{len(days)} sessions, the last {days[-1]}"
        yield f"{symbol}: {name} incomplete in {where} ({reason}): {of_kind[-1][1].detail[:_WIDEST]}"


def _without_rows(store: TableStore, name: str, day: date, symbols: Sequence[str]) -> Iterator[str]:
    if DATASETS[name].subjects:
        return
    rows = store.scan("tables", name, partitions=[day], schema=DATASETS[name].schema)
    columns = [each for each in ("symbol", "requested_symbol") if each in DATASETS[name].schema.names]
    present = {symbol for of in rows.select(columns).collect() for symbol in of.unique()}
    for symbol in symbols if present else ():
        if symbol not in present:
            yield f"{symbol}: no {name} in session {day}; what the source answered has no usable row of it"


def _late(archive: Archive, name: str, day: date) -> Iterator[str]:
    if name in REACHES_BACK or DATASETS[name].is_current_only:
        return
    for capture in readable_captures(archive, name, day):
        if capture.is_late and capture.answer_count:
            due, came = (time.astimezone(NEW_YORK) for time in (capture.scheduled_time, capture.started_time))
            yield (
                f"{name} of session {day} due at {due:%H:%M} New York came late, at {came:%H:%M}: a snapshot after the "
                "close gives no value to iv_history"
            )
