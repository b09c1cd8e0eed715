"""What snapshots cost is measured from the archive where it has any: requests and bytes for each symbol."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from trade_analyst_pipeline.capture.costs import ASSUMED, Costs, measured_costs
from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.datasets import DATASETS, options, quotes
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive

DAY, DUE = date(2026, 11, 23), datetime(2026, 11, 23, 20, 55, tzinfo=UTC)
BARS = ("daily", "minute")


def put(archive: Archive, dataset: str, *answers: tuple[MarketDataRequest, int], due: datetime = DUE) -> None:
    """A capture of answers with bodies of so many bytes."""
    with archive.begin(dataset=dataset, session_date=DAY, scheduled_time=due, started_time=DUE) as writer:
        for request, size in answers:
            writer.append(RawResponse(request, 200, b"x" * size, (), DUE, DUE))
        writer.seal(DUE)


def test_an_empty_archive_leaves_what_is_assumed(tmp_path: Path) -> None:
    """Each dataset has an assumption."""
    costs = measured_costs(Archive(tmp_path), bars=BARS)
    assert costs == Costs()
    assert ASSUMED.keys() == DATASETS.keys()
    assert costs.size("quotes") == ASSUMED["quotes"]


def test_bytes_are_shared_out_among_the_symbols(tmp_path: Path) -> None:
    """3,000 bytes of quotes of three symbols are 1,000 each; stored is less, for it is packed."""
    archive = Archive(tmp_path)
    put(archive, "quotes", *((request, 3000) for request in quotes.requests(["AAPL", "SPY", "/ES"])))
    size = measured_costs(archive, bars=BARS).size("quotes")
    assert size.body == pytest.approx(1000)
    assert 0 < size.stored < 1000


def test_whole_chains_count_and_others_do_not(tmp_path: Path) -> None:
    """A list of 1,000 and pieces of 4,000 and 5,000 bytes are 10,000 for the symbol, a bounded chain none."""
    archive = Archive(tmp_path)
    pieces = [
        MarketDataRequest("options", options.PATH, (("symbol", "SPY"), ("toDate", "2026-12-18")), ("SPY",)),
        MarketDataRequest("options", options.PATH, (("symbol", "SPY"), ("fromDate", "2026-12-19")), ("SPY",)),
    ]
    bounded = options.requests(["AAPL"], strike_count=15, first_expiration=DAY, last_expiration=DAY)
    put(archive, "options", (options.listing_request("SPY"), 1000), (pieces[0], 4000), (pieces[1], 5000))
    put(archive, "options", *((request, 77_000) for request in bounded))
    costs = measured_costs(archive, bars=BARS)
    assert costs.size("options").body == pytest.approx(10_000)
    assert costs.chain_pieces == {"SPY": 2}


def test_captures_of_one_time_are_one_snapshot(tmp_path: Path) -> None:
    """Two pieces, and a third in the capture that completes them, are three; a snapshot due later counts instead."""
    archive = Archive(tmp_path)
    pieces = [
        (MarketDataRequest("options", options.PATH, (("symbol", "SPY"), ("toDate", f"2026-12-{day}")), ("SPY",)), 4000)
        for day in (16, 17, 18)
    ]
    put(archive, "options", *pieces[:2])
    put(archive, "options", pieces[2])
    assert measured_costs(archive, bars=BARS).chain_pieces == {"SPY": 3}
    put(archive, "options", *pieces[:2], due=DUE.replace(minute=58))
    assert measured_costs(archive, bars=BARS).chain_pieces == {"SPY": 2}


@pytest.mark.parametrize(
    ("dataset", "symbols", "rounds"),
    [
        ("quotes", tuple(f"S{number}" for number in range(501)), [2]),
        ("options", ("AAPL", "SPY"), [2, 3]),
        ("ohlc", ("AAPL", "/ES"), [3]),
        ("expirations", ("AAPL", "SPY"), [2]),
    ],
)
def test_requests_are_those_that_a_snapshot_asks(dataset: str, symbols: tuple[str, ...], rounds: list[int]) -> None:
    """500 quotes in one; a list and then the pieces of each chain; each frequency of bars, none of a future."""
    costs = Costs(bars=("daily", "minute", "weekly"))
    found = costs.rounds(Snapshot(dataset, DAY, DUE, symbols))
    assert [len(each) for each in found] == rounds
