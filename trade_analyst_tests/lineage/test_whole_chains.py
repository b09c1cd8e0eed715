"""A snapshot of a full chain is whole, or it is refused by name and no metric uses it; never silently short."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trade_analyst_pipeline.capture.ask import ask
from trade_analyst_pipeline.capture.plan import Snapshot
from trade_analyst_pipeline.capture.requesting import Source
from trade_analyst_pipeline.capture.take import take
from trade_analyst_pipeline.datasets import DATASETS, options
from trade_analyst_pipeline.errors import (
    ChainTooLargeError,
    RequestSummary,
    SourceError,
    SourceUnavailableError,
)
from trade_analyst_pipeline.lineage.metrics import PUT_CALL_RATIO, build_snapshot_metric, refresh_iv_history
from trade_analyst_pipeline.lineage.tables import build_tables
from trade_analyst_pipeline.market.clock import SimulatedClock
from trade_analyst_pipeline.metrics import iv_history, put_call_ratio
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.settings import BoundedChainSettings
from trade_analyst_pipeline.simulator import routes
from trade_analyst_pipeline.simulator.contracts import everything_listed
from trade_analyst_pipeline.simulator.limits import AnswerLimits
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.storage.archive import Archive
from trade_analyst_pipeline.storage.tables import TableStore

DAY, SYMBOL = date(2026, 1, 5), "AAPL"
FIRST, LAST = datetime(2026, 1, 5, 20, 45, tzinfo=UTC), datetime(2026, 1, 5, 20, 55, tzinfo=UTC)
Answer = bytes | type[SourceError]
Change = Callable[[MarketDataRequest, bytes], Answer]


class ScriptedMarket:
    """The simulated source without sockets; `change` may give another answer to a request, or an error."""

    def __init__(self, market: Market, now: datetime, change: Change, limits: AnswerLimits | None = None) -> None:
        self.market, self.now, self.change = market, now, change
        self.limits = limits or AnswerLimits()
        self.asked = Counter[str]()

    async def fetch(self, request: MarketDataRequest) -> RawResponse:
        """The simulator's answer, changed."""
        self.asked[request.path] += 1
        await asyncio.sleep(0)
        found = routes.answer(self.market, self.now, request.path, dict(request.params), self.limits)
        answer = ChainTooLargeError if found.status == 502 else self.change(request, found.body)
        if isinstance(answer, bytes):
            return RawResponse(request, 200, answer, (), self.now, self.now)
        raise answer(RequestSummary(request.dataset, request.path, request.symbols), "scripted", "Nothing to do.")


def well(_request: MarketDataRequest, body: bytes) -> Answer:
    """The right answer."""
    return body


def without_second_expiration(_request: MarketDataRequest, body: bytes) -> Answer:
    """A chain that lacks its second expiration."""
    chain = json.loads(body)
    for side in ("callExpDateMap", "putExpDateMap"):
        if len(chain.get(side, ())) > 1:
            chain["numberOfContracts"] -= len(chain[side].pop(sorted(chain[side])[1]))
    return json.dumps(chain).encode()


@pytest.fixture(scope="module")
def market() -> Market:
    """The simulated market."""
    return Market(7)


def captured(folder: Path, source: ScriptedMarket, *, scheduled: datetime | None = None) -> None:
    """Take the snapshot due at the source's instant, or at another."""
    archive, snapshot = Archive(folder / "raw"), Snapshot("options", DAY, scheduled or source.now, (SYMBOL,))
    seen = Source(source, SimulatedClock(source.now))  # type: ignore[arg-type]  # all that is used of a client
    question = ask(snapshot, BoundedChainSettings(), archive)
    asyncio.run(take(snapshot, question, source=seen, archive=archive))


def built(folder: Path) -> Any:
    """What becomes of the session's captures."""
    (found,) = build_tables(folder, "options", [DAY], workers=1, created_time=LAST, again=True)
    return found


def snapshots(folder: Path) -> dict[datetime, str]:
    """The scope of each snapshot in the table."""
    rows = TableStore(folder).scan("tables", "options", schema=DATASETS["options"].schema)
    return dict(rows.select("snapshot_time", "chain_scope").unique().sort("snapshot_time").collect().iter_rows())


# -- what metrics use ------------------------------------------------------------------------------------------------


def test_metrics_use_the_last_whole_chain(market: Market, tmp_path: Path) -> None:
    """The later snapshot is short of a weekly: it is named and counted, and metrics come from the one before it."""
    captured(tmp_path, ScriptedMarket(market, FIRST, well))
    captured(tmp_path, ScriptedMarket(market, LAST, without_second_expiration))
    found = built(tmp_path)
    assert snapshots(tmp_path) == {FIRST: "full", LAST: "partial"}
    assert "incomplete_chain (AAPL): 1 of 17 expirations missing: 2026-01-16 AAPL" in found.problems
    assert 2_000 < found.rule_counts["chain_incomplete"] < found.rows / 2

    store = TableStore(tmp_path)
    list(build_snapshot_metric(store, PUT_CALL_RATIO, [DAY], created_time=LAST))
    refresh_iv_history(store, created_time=LAST)
    ratios = (
        store.scan("metrics", "put_call_ratio", schema=put_call_ratio.SCHEMA)
        .select("snapshot_time", "chain_scope")
        .unique()
        .collect()
    )
    assert ratios.rows() == [(FIRST, "full")]
    history = store.scan("metrics", "iv_history", schema=iv_history.SCHEMA)
    history = history.select("series", "snapshot_time", "status").collect()
    assert set(history.filter(series="atm30_vendor").drop("series").rows()) == {(FIRST, "ok")}
    assert set(history["snapshot_time"]) == {FIRST}


def test_a_session_with_short_chains_only_has_no_value(market: Market, tmp_path: Path) -> None:
    """Null with the reason, not a number from what happened to come."""
    captured(tmp_path, ScriptedMarket(market, LAST, without_second_expiration))
    built(tmp_path)
    store = TableStore(tmp_path)
    refresh_iv_history(store, created_time=LAST)
    history = store.scan("metrics", "iv_history", schema=iv_history.SCHEMA).select("iv", "status").collect()
    assert history.rows() == [(None, "incomplete_chain")] * len(iv_history.SERIES)


def test_a_list_in_a_later_attempt_proves_the_chain(market: Market, tmp_path: Path) -> None:
    """Without its list a chain is unproven; the list alone, asked for later, makes the same rows full."""

    def no_list(request: MarketDataRequest, body: bytes) -> Answer:
        return SourceUnavailableError if request.path == options.LISTING_PATH else body

    captured(tmp_path, ScriptedMarket(market, LAST, no_list))
    assert any("list of expirations never came" in problem for problem in built(tmp_path).problems)
    assert snapshots(tmp_path) == {LAST: "partial"}
    later = ScriptedMarket(market, LAST + timedelta(minutes=1), well)
    captured(tmp_path, later, scheduled=LAST)
    assert later.asked == {options.LISTING_PATH: 1}
    assert built(tmp_path).problems == ()
    assert snapshots(tmp_path) == {LAST: "full"}


# -- whatever the source does ----------------------------------------------------------------------------------------


class Hazards:
    """Answers spoiled by chance: cut short in every way that a source may, or not there at all."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a test's chance

    def __call__(self, request: MarketDataRequest, body: bytes) -> Answer:
        """The right answer more often than not."""
        if self.random.random() < 0.6:
            return body
        if self.random.random() < 0.25:
            return SourceUnavailableError
        document = json.loads(body)
        kinds = (self._no_list,) if request.path == options.LISTING_PATH else (self._empty, self._shorter, self._fewer)
        self.random.choice(kinds)(document)
        return json.dumps(document).encode()

    @staticmethod
    def _no_list(listing: Any) -> None:
        listing["expirationList"] = []

    @staticmethod
    def _empty(chain: Any) -> None:
        chain |= {"status": "FAILED", "numberOfContracts": 0, "callExpDateMap": {}, "putExpDateMap": {}}

    def _shorter(self, chain: Any) -> None:
        """An expiration is left out, without a word or with the whole count."""
        is_told = self.random.random() < 0.5
        for side in ("callExpDateMap", "putExpDateMap"):
            if chain[side]:
                lost = chain[side].pop(min(chain[side]))
                chain["numberOfContracts"] -= 0 if is_told else len(lost)

    def _fewer(self, chain: Any) -> None:
        """Some strikes of an expiration are left out; the source counts them all the same."""
        for side in ("callExpDateMap", "putExpDateMap"):
            for strikes in chain[side].values():
                for strike in sorted(strikes)[: self.random.randrange(4)]:
                    strikes.pop(strike)


def silently_short(folder: Path, listed: int) -> list[datetime]:
    """The snapshots said to be full that do not hold every listed contract once."""
    rows = TableStore(folder).scan("tables", "options", schema=DATASETS["options"].schema)
    full = rows.filter(pl.col("chain_scope") == "full").group_by("snapshot_time").agg(pl.len()).collect()
    return [moment for moment, count in full.iter_rows() if count != listed]


@pytest.mark.reliability
def test_no_snapshot_is_silently_short(market: Market, tmp_path: Path, harness_seed: int, is_full: bool) -> None:
    """Under caps that shift and answers spoiled by chance, each snapshot is whole, or refused, or a gap.

    Each is tried up to three times; the last one comes well, if in many parts. A capture that takes a chain without its
    list for whole is caught by the same comparison.
    """
    hazards, rounds = Hazards(harness_seed), 40 if is_full else 6
    listed = 2 * everything_listed(market, market.moment(SYMBOL, LAST)).size
    outcomes = Counter[str]()
    for number in range(rounds):
        scheduled = FIRST - timedelta(minutes=15 * (rounds - number) % 300)
        limits = AnswerLimits(
            gateway_bytes=hazards.random.randrange(300_000, 4_000_000),
            most_contracts=hazards.random.choice([None, None, 700, 1500]),
        )
        folder = tmp_path / str(number)
        for _ in range(hazards.random.randint(1, 3)):
            change = well if number == rounds - 1 else hazards
            captured(folder, ScriptedMarket(market, scheduled, change, limits), scheduled=scheduled)
        if any(capture.answer_count for capture in Archive(folder / "raw").captures("options", DAY)):
            found = built(folder)
            scopes = set(snapshots(folder).values()) if found.rows else set()
            assert not found.rows or silently_short(folder, listed) == []
            assert scopes <= {"full", "partial"}
            is_refused = any(problem.startswith("incomplete_chain") for problem in found.problems)
            assert is_refused or scopes != {"partial"}
            outcomes["whole" if scopes == {"full"} else "refused"] += 1
        else:
            outcomes["gap"] += 1
    print(f"{rounds} snapshots of {listed:,} contracts: {dict(outcomes)}")
    assert outcomes["whole"] > 0

    control = tmp_path / "control"
    (request,) = options.requests([SYMBOL])
    body = routes.answer(market, LAST, request.path, dict(request.params)).body
    short = without_second_expiration(request, body)
    assert isinstance(short, bytes)
    with Archive(control / "raw").begin(
        dataset="options", session_date=DAY, scheduled_time=LAST, started_time=LAST
    ) as writer:
        writer.append(RawResponse(request, 200, short, (), LAST, LAST))
        writer.seal(LAST)
    built(control)
    assert silently_short(control, listed) == [LAST]


def test_requests_stay_near_the_fewest_when_the_source_is_well(market: Market, tmp_path: Path) -> None:
    """Index chains of 21 MB, the first with nothing to go by: at most 1.3 times the fewest requests each."""
    source = ScriptedMarket(market, FIRST, well)
    archive = Archive(tmp_path / "raw")
    for number in range(2):
        source.now = FIRST + timedelta(minutes=5 * number)
        source.asked.clear()
        snapshot = Snapshot("options", DAY, source.now, ("$SPX",))
        seen = Source(source, SimulatedClock(source.now))  # type: ignore[arg-type]  # all that is used of a client
        question = ask(snapshot, BoundedChainSettings(), archive)
        capture = asyncio.run(take(snapshot, question, source=seen, archive=archive))
        assert capture is not None
        fewest = 1 + ceil(capture.body_bytes / source.limits.gateway_bytes)
        assert source.asked.total() <= 1.3 * fewest
