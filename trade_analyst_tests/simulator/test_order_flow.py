"""The flow within minutes: it adds up to the bars, prints stand where their kind says, and sides are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trade_analyst_pipeline.simulator.order_flow import Flow, Kind, Minutes, make_flow

START = 1_765_290_600_000


def minutes(count: int = 3, volume: int = 5000, **changed: object) -> Minutes:
    """Minutes between 100.00 and 100.20 dollars, in cents."""
    steady = {"opens": 10_010, "highs": 10_020, "lows": 10_000, "closes": 10_012, "volumes": volume}
    quoted = {"bid": 10_009, "ask": 10_010, "bid_size": 3, "ask_size": 5}
    columns = {name: np.full(count, value) for name, value in (steady | quoted).items()}
    never = np.zeros(count, np.bool_)
    starts = START + 60_000 * np.arange(count)
    return replace(
        Minutes(starts, **columns, tick=100, opens_with_auction=never, ends_with_auction=never), **changed
    )  # fmt: skip


def flow_of(bars: Minutes, seed: int = 1, *, follows_quotes: bool = False, rate: float = 40.0) -> Flow:
    """Their flow."""
    return make_flow(np.random.default_rng(seed), bars, prints_per_minute=rate, follows_quotes=follows_quotes)


@pytest.mark.parametrize("seed", range(20))
def test_prints_make_the_bars(seed: int) -> None:
    """First, highest, lowest and last price, and the volume, of every minute are those of its bar."""
    opens, closes = np.array([10_010, 10_012, 10_004]), np.array([10_012, 10_004, 10_015])
    bars = minutes(opens=opens, closes=closes, volumes=np.array([4, 70, 9001]))
    flow = flow_of(bars, seed)
    for place in range(3):
        inside = flow.is_print & (flow.time // 60_000 == bars.starts[place] // 60_000)
        prices = flow.price[inside]
        assert (prices[0], prices[-1]) == (opens[place] * 100, closes[place] * 100)
        assert (prices.max(), prices.min()) == (1_002_000, 1_000_000)
        assert flow.size[inside].sum() == bars.volumes[place]
        assert flow.size[inside].min() >= 1


def test_events_are_in_order_and_quotes_stand_apart() -> None:
    """Times never fall, the bid is below the ask, and a print holds the quote of the event before it."""
    flow = flow_of(minutes(30))
    assert np.all(np.diff(flow.time) >= 0)
    assert np.all(flow.bid < flow.ask)
    prints = np.flatnonzero(flow.is_print)
    for name in ("bid", "ask", "bid_size", "ask_size"):
        column = getattr(flow, name)
        assert np.array_equal(column[prints], column[prints - 1])
    first = [getattr(flow, name)[0] for name in ("time", "bid", "ask", "bid_size", "ask_size")]
    assert first == [START, 1_000_900, 1_001_000, 3, 5]


def test_prints_stand_where_their_kind_says() -> None:
    """At the quote of their side, at the middle, a tenth of a cent or a cent inside, or a cent beyond."""
    flow = flow_of(minutes(200, volume=50_000), rate=200.0)
    seen = flow.is_print
    mid = (flow.bid + flow.ask) // 2
    touched = np.where(flow.side > 0, flow.ask, flow.bid)
    expected = {
        Kind.AT_QUOTE: touched,
        Kind.MIDPOINT: mid,
        Kind.IMPROVED: touched - 10 * flow.side,
        Kind.SWEPT: touched + 100 * flow.side,
    }
    for kind, price in expected.items():
        chosen = seen & (flow.kind == kind)
        assert chosen.sum() > 100
        assert np.array_equal(flow.price[chosen], price[chosen])
    hidden = seen & (flow.kind == Kind.HIDDEN)
    assert np.all((flow.bid < flow.price)[hidden] & (flow.price < flow.ask)[hidden])
    assert set(np.unique(flow.side[seen])) == {-1, 1}
    assert 0.4 < (flow.side[seen] > 0).mean() < 0.6


def test_auctions_are_one_print_without_a_side() -> None:
    """The first order of a minute that opens with one, the last of one that ends with one; two fifths of it."""
    opens, ends = np.array([True, False, False]), np.array([False, False, True])
    flow = flow_of(minutes(opens_with_auction=opens, ends_with_auction=ends, volumes=np.full(3, 10_000)))
    auctions = np.flatnonzero(flow.kind == Kind.AUCTION)
    prints = np.flatnonzero(flow.is_print)
    assert auctions.tolist() == [prints[0], prints[-1]]
    assert flow.side[auctions].tolist() == [0, 0]
    assert flow.price[auctions].tolist() == [1_001_000, 1_001_200]
    assert np.all(np.abs(flow.size[auctions] - 4000) < 400)


def test_a_flow_may_follow_quotes() -> None:
    """Without bars the quote of a minute's start holds through it, and prints stand around it."""
    bid = np.array([150, 155, 160])
    flow = flow_of(minutes(bid=bid, ask=bid + 10), follows_quotes=True)
    minute = (flow.time - START) // 60_000
    assert np.array_equal(flow.bid, bid[minute] * 100)
    assert np.array_equal(flow.ask, (bid[minute] + 10) * 100)
    seen = flow.is_print
    assert np.all((flow.price >= flow.bid - 100)[seen] & (flow.price <= flow.ask + 100)[seen])


def test_minutes_without_trades_have_quotes_only() -> None:
    """No volume, no print; a single share is a single print at the last price."""
    flow = flow_of(minutes(volumes=np.array([0, 1, 0])))
    assert flow.is_print.sum() == 1
    assert flow.price[flow.is_print].tolist() == [1_001_200]
    assert not flow_of(minutes(volumes=np.zeros(3, np.int64))).is_print.any()


def test_the_same_seed_makes_the_same_flow() -> None:
    """Every column alike; another seed makes another."""
    one, same, other = (flow_of(minutes(), seed) for seed in (5, 5, 6))
    assert all(np.array_equal(getattr(one, name), getattr(same, name)) for name in vars(one))
    assert not np.array_equal(one.time, other.time)
