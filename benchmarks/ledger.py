"""What the ledger of gaps costs: the plans in force on a day beside the same bytes read plainly, and one whole session.

3,000 symbols of a live source, 250 sessions, each with a plan of its own on record; of the newest session quotes every
quarter of an hour, chains before each close and bars are archived, all but those of one symbol, with bodies of a few
bytes: nothing of the ledger looks into them. The archive is made once, in the folder of the system's temporary files.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from trade_analyst_pipeline.capture.gap_lines import sums
from trade_analyst_pipeline.capture.gaps import Ledger
from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.capture.planned import KINDS, NAME, Plans, note_plan, plan_of
from trade_analyst_pipeline.capture.sound import SoundCaptures
from trade_analyst_pipeline.datasets import DATASETS, ohlc, options, quotes
from trade_analyst_pipeline.market.sessions import session_close, session_open, sessions_ending
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.settings import load_settings
from trade_analyst_pipeline.storage.archive import Archive, Gap

SYMBOLS, SESSIONS, RUNS = 3000, 250, 5
DAY = date(2026, 7, 10)
NOW = session_close(DAY) + timedelta(hours=4)


@dataclass(frozen=True)
class LedgerFigures:
    """Seconds, the least of several runs: two plans read by the ledger and plainly, and a session looked at.

    `one` is what the check of quotes asks, `whole` what the health report does, in so many `lines`.
    """

    plans: float
    plain: float
    plan_bytes: int
    one: float
    whole: float
    lines: int
    symbols: int = SYMBOLS
    plans_on_record: int = SESSIONS


def ledger_figures() -> LedgerFigures:
    """All of them."""
    with tempfile.TemporaryDirectory(prefix="trade-analyst-") as folder:
        root = Path(folder) / "raw"
        archive = Archive(root)
        _put_plans(archive)
        _put_session(archive)
        plain = [_plain_copy(archive, Path(folder), day) for day in sessions_ending(DAY, 2)]

        def plans() -> None:
            found = Plans(SoundCaptures(Archive(root))).of(DAY)
            assert [each.plan is not None for each in found] == [True, True]

        def plainly() -> None:
            assert all(_read_plainly(path)["cadences"] for path in plain)

        def look(names: Iterable[str]) -> int:
            ledger = Ledger(Archive(root), now=NOW, goes_back=False)
            lines = [line for name in names for line in ledger.lines(name, DAY)]
            found = sums(lines)
            assert found.adds_up
            assert found.captured
            return len(lines)

        return LedgerFigures(
            _least(plans),
            _least(plainly),
            sum(path.stat().st_size for path in plain),
            _least(lambda: look(["quotes"])),
            _least(lambda: look(DATASETS)),
            look(DATASETS),
        )


def _put_plans(archive: Archive) -> None:
    """A plan each session, which takes other symbols than the one before."""
    names = [f"SY{number:04d}" for number in range(1, SYMBOLS + 1)]
    for number, day in enumerate(sessions_ending(DAY, SESSIONS)):
        symbols = names if day == DAY else names[: SYMBOLS - 1 - number % 7]
        settings = load_settings(environment="live", universe={"symbols": symbols})
        assert note_plan(plan_of(settings, KINDS, session_open(day) - timedelta(hours=1)), archive)


def _put_session(archive: Archive) -> None:
    """The captures of the newest session; one symbol fails in each."""
    for snapshot, plan in _planned(archive):
        if snapshot.dataset == quotes.NAME:
            _put(archive, snapshot, quotes.requests(snapshot.symbols))
        elif snapshot.dataset == options.NAME and session_close(DAY) - snapshot.scheduled_time <= timedelta(minutes=15):
            chains = [options.listing_request(symbol) for symbol in snapshot.symbols]
            _put(archive, snapshot, [*chains, *options.requests(snapshot.symbols)])
        elif snapshot.dataset == ohlc.NAME:
            terms = (("bars", ",".join(plan.bars)), ("extended", "false"))
            _put(archive, snapshot, ohlc.requests(snapshot.symbols, session_date=DAY), terms)


def _planned(archive: Archive) -> list[tuple[Snapshot, Any]]:
    plans = Plans(SoundCaptures(archive))
    return [each for name in DATASETS for each in plans.snapshots(name, DAY)]


def _put(
    archive: Archive,
    snapshot: Snapshot,
    requests: list[MarketDataRequest],
    terms: tuple[tuple[str, str], ...] = (),
) -> None:
    due, *answered = snapshot.scheduled_time, *requests
    failed = answered.pop()
    with archive.begin(
        dataset=snapshot.dataset,
        session_date=DAY,
        scheduled_time=due,
        started_time=due,
        symbols=snapshot.symbols,
        terms=terms,
    ) as writer:
        for request in answered:
            writer.append(_answer(request, due))
        writer.note_gap(Gap(snapshot.dataset, failed.symbols, "unavailable", "no answer", failed))
        writer.seal(due)


def _answer(request: MarketDataRequest, arrived: datetime) -> RawResponse:
    return RawResponse(request, 200, b"{}", (), arrived, arrived)


def _plain_copy(archive: Archive, folder: Path, day: date) -> Path:
    """The plan of a day as a plain file of zstd JSON."""
    (capture,) = archive.captures(NAME, day)
    (response,) = archive.responses(capture)
    path = folder / f"{day}.json.zst"
    path.write_bytes(zstandard.compress(response.body))
    return path


def _read_plainly(path: Path) -> Any:
    return msgspec.json.decode(zstandard.decompress(path.read_bytes()))


def _least(work: Callable[[], object]) -> float:
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    print(ledger_figures())
