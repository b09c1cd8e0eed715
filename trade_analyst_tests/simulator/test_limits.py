"""What the source gives: sizes, requests in a minute, bursts, hours of maintenance."""

from datetime import UTC, datetime, time

import pytest
from visiting import BEFORE_CLOSE, MachineClock, Visitor

from trade_analyst_pipeline.simulator.limits import (
    AnswerLimits,
    Burst,
    Maintenance,
    Outage,
    Quota,
    QuotaChange,
    QuotaRules,
)

CHAIN = {"symbol": "AAPL", "toDate": "2025-12-31"}


def quota(per_minute: int, **rules: object) -> tuple[Quota, MachineClock]:
    """A quota and the clock it runs by."""
    clock = MachineClock(1000.0)
    return Quota(QuotaRules(per_minute, **rules), clock=clock), clock  # type: ignore[arg-type]


def test_a_request_is_free_again_sixty_seconds_after_it_was_made() -> None:
    """Two a minute: at 0 and 10 s allowed, at 20 s refused for 40 s more, at 60 s allowed, then refused until 70 s."""
    found, clock = quota(2)
    told = []
    for second in (0, 10, 20, 59, 60, 65, 70):
        clock.seconds = 1000.0 + second
        told.append(found.admit())
    assert told == [None, None, 40.0, 1.0, None, 5.0, None]
    assert (found.refused, len(found.arrivals)) == (3, 7)


def test_the_worst_window_counts_every_request_that_came() -> None:
    """At 0, 30, 59.9, 60 and 200 s: the busiest sixty seconds, the end not included, hold three requests."""
    found, clock = quota(100)
    assert found.worst_window() == 0
    for second in (0.0, 30.0, 59.9, 60.0, 200.0):
        clock.seconds = 1000.0 + second
        found.admit()
    assert found.worst_window() == 3


def test_refused_requests_count_only_when_told_so() -> None:
    """One a minute, asked every 20 s: it recovers after 60 s; where refusals count, whoever keeps asking never does."""
    for counts, expected in ((False, [True, False, False, True]), (True, [True, False, False, False])):
        found, clock = quota(1, counts_refused=counts)
        allowed = []
        for second in (0, 20, 40, 60):
            clock.seconds = 1000.0 + second
            allowed.append(found.admit() is None)
        assert allowed == expected


def test_the_limit_changes_in_mid_run() -> None:
    """From 4 to 2 after 100 s and to 3 after the eighth request; the later change in the list wins."""
    changes = (QuotaChange(2, after_seconds=100.0), QuotaChange(3, after_requests=8))
    found, clock = quota(4, changes=changes)
    for _ in range(4):
        found.admit()
    assert found.limit() == 4
    clock.seconds += 100.0
    assert found.limit() == 2
    assert [found.admit() is None for _ in range(4)] == [True, True, False, False]
    assert found.limit() == 3


def test_a_lowered_limit_tells_when_one_is_free() -> None:
    """Three requests at 0, 10 and 20 s, then a limit of 1: the first is free when the one of 20 s has left, at 80 s."""
    found, clock = quota(3, changes=(QuotaChange(1, after_seconds=25.0),))
    for second in (0.0, 10.0, 20.0):
        clock.seconds = 1000.0 + second
        found.admit()
    clock.seconds = 1030.0
    assert found.admit() == pytest.approx(50.0)


def test_time_may_run_faster() -> None:
    """At 60 times the speed a minute is a second of the clock; waits are told in scaled seconds."""
    found, clock = quota(1, time_scale=60.0)
    assert found.admit() is None
    clock.seconds += 0.5
    assert found.admit() == pytest.approx(30.0)
    clock.seconds += 0.5
    assert found.admit() is None


def test_a_limit_of_none_at_all() -> None:
    """Zero a minute refuses every request for sixty seconds."""
    found, _ = quota(0)
    assert found.admit() == 60.0


def test_retry_after_is_whole_seconds_of_at_least_one() -> None:
    """Rounded up; absent when the rules say so."""
    found, _ = quota(1)
    assert [found.retry_after(wait) for wait in (0.01, 1.0, 39.2)] == ["1", "1", "40"]
    assert quota(1, retry_after="none")[0].retry_after(5.0) is None


def test_a_burst_is_over_while_too_many_are_within_its_seconds() -> None:
    """Two a second: the third at 0.9 s is too many, at 1.0 s the first has left."""
    clock = MachineClock(50.0)
    burst = Burst(2, 1.0, clock=clock)
    told = []
    for second in (0.0, 0.5, 0.9, 1.0, 2.5):
        clock.seconds = 50.0 + second
        told.append(burst.is_over())
    assert told == [False, False, True, True, False]


@pytest.mark.parametrize(
    ("instant", "is_covered"),
    [
        ("2025-12-14T06:59:59+00:00", False),  # Sunday 01:59:59 in New York
        ("2025-12-14T07:00:00+00:00", True),
        ("2025-12-14T08:59:59+00:00", True),
        ("2025-12-14T09:00:00+00:00", False),
        ("2025-07-13T06:00:00+00:00", True),  # Sunday 02:00 in summer
        ("2025-12-13T07:00:00+00:00", False),  # a Saturday
    ],
)
def test_maintenance_keeps_new_york_time(instant: str, is_covered: bool) -> None:
    """Sundays from 02:00 to 04:00 New York, in winter and in summer; the first bound belongs to it."""
    window = Maintenance(time(2), time(4), frozenset({6}))
    assert window.covers(datetime.fromisoformat(instant)) is is_covered


def test_a_server_at_its_quota_refuses_with_and_without_retry_after(visitor: Visitor) -> None:
    """The second request of one a minute is a 429, which tells the wait or does not; reset lifts it."""
    conditions = visitor.server.conditions
    for retry_after, header in (("seconds", "60"), ("none", None)):
        conditions.quota = Quota(QuotaRules(1, retry_after), clock=MachineClock())  # type: ignore[arg-type]
        assert visitor.get("/quotes", symbols="AAPL").status_code == 200
        refused = visitor.get("/quotes", symbols="AAPL")
        assert (refused.status_code, refused.headers.get("retry-after")) == (429, header)
        assert refused.json()["errors"][0]["title"] == "Too Many Requests"
        assert conditions.quota.refused == 1
    conditions.reset()
    assert visitor.get("/quotes", symbols="AAPL").status_code == 200


def test_a_burst_of_price_history_gets_empty_candles(visitor: Visitor) -> None:
    """The request over the burst is a 200 without candles; quotes are not concerned."""
    visitor.server.conditions.burst = Burst(1, 60.0, clock=MachineClock())
    asked = {"symbol": "AAPL", "periodType": "month", "frequencyType": "daily"}
    assert visitor.json("/pricehistory", **asked)["candles"]
    assert visitor.json("/pricehistory", **asked) == {"candles": [], "symbol": "AAPL", "empty": True}
    assert visitor.json("/quotes", symbols="AAPL")


@pytest.mark.parametrize(
    ("closure", "status", "text"),
    [("page", 503, "<!DOCTYPE html>"), ("message", 503, '{"message":'), ("gateway", 404, "does not exist")],
)
def test_an_outage_closes_the_source_by_the_instant(visitor: Visitor, closure: str, status: int, text: str) -> None:
    """Whoever asks about an instant in it gets the closure; an instant at its end is answered."""
    end = datetime(2025, 12, 9, 21, 0, tzinfo=UTC)
    visitor.server.conditions.closures = (Outage(BEFORE_CLOSE, end, closure),)  # type: ignore[arg-type]
    closed = visitor.get("/quotes", symbols="AAPL")
    assert (closed.status_code, text in closed.text) == (status, True)
    assert visitor.get("/quotes", at=end, symbols="AAPL").status_code == 200


def test_the_gateways_limit_is_a_switch(visitor: Visitor) -> None:
    """A chain of exactly the limit passes, one byte less does not; no chain is shortened for it."""
    size = len(visitor.get("/chains", **CHAIN).content)
    visitor.server.conditions.limits = AnswerLimits(gateway_bytes=size)
    assert visitor.get("/chains", **CHAIN).status_code == 200
    visitor.server.conditions.limits = AnswerLimits(gateway_bytes=size - 1)
    assert visitor.get("/chains", **CHAIN).status_code == 502


def test_a_chain_over_the_most_contracts_is_cut_and_says_so(visitor: Visitor) -> None:
    """100 contracts, 50 of each side, the first ones of the whole chain; at the limit nothing is cut."""
    whole = visitor.json("/chains", **CHAIN)
    visitor.server.conditions.limits = AnswerLimits(most_contracts=100)
    cut = visitor.json("/chains", **CHAIN)
    assert (cut["isChainTruncated"], cut["numberOfContracts"]) == (True, 100)
    for side in ("callExpDateMap", "putExpDateMap"):
        rows = [row for found in cut[side].values() for row in found.items()]
        assert len(rows) == 50
        assert rows == [row for found in whole[side].values() for row in found.items()][:50]
    visitor.server.conditions.limits = AnswerLimits(most_contracts=whole["numberOfContracts"])
    assert visitor.json("/chains", **CHAIN) == whole


def test_the_most_ids_of_a_request_are_a_switch(visitor: Visitor) -> None:
    """Three ids at a limit of two are refused in the source's words."""
    visitor.server.conditions.limits = AnswerLimits(most_symbols=2)
    assert visitor.get("/quotes", symbols="AAPL,SPY").status_code == 200
    refused = visitor.get("/quotes", symbols="AAPL,SPY,QQQ")
    assert refused.json()["errors"][0]["detail"] == "Search combination should not exceed 2."
