"""The rule of the limit, as plain arithmetic: windows, bursts, queue, refusals, outages."""

from __future__ import annotations

import bisect
import random

import pytest

from trade_analyst_pipeline.schwab.pace import (
    DOWN_AFTER,
    GRACE,
    MINUTE,
    SECOND,
    Pace,
    Priority,
    Record,
    Waiter,
    fail,
)

NOW = 1_767_623_400 * SECOND  # 2026-01-05 14:30 UTC
EACH = 512_501  # 61.5 s / 120, rounded up to the next microsecond


def greedy(pace: Pace, record: Record, count: int, now: int = NOW) -> list[int]:
    """Grants of one who always waits."""
    grants = []
    for _ in range(count):
        now = pace.slot(record, now)
        pace.grant(record, now)
        grants.append(now)
    return grants


def worst_window(instants: list[int], width: int = MINUTE) -> int:
    """Most of these ascending instants in any closed window that begins with one of them."""
    return max(bisect.bisect_right(instants, first + width) - index for index, first in enumerate(instants))


@pytest.mark.parametrize("limit", [1, 2, 7, 15, 30, 45, 60, 119, 120])
def test_who_always_waits_gets_the_limit_less_the_spare(limit: int) -> None:
    """No closed window of 61.499 s holds more than the limit, and over ten minutes 60/61.5 of it is used."""
    grants = greedy(Pace(limit), Record(), 10 * limit)
    assert worst_window(grants, MINUTE + 1_499_000) <= limit
    minutes = (grants[-1] - grants[0]) / MINUTE
    assert (len(grants) - 1) / minutes >= 0.975 * limit * (1 - 1 / (10 * limit))


def test_counting_control_sees_a_rule_that_is_too_generous() -> None:
    """The window count is able to fail: the rule for 130 shows more than 120."""
    assert worst_window(greedy(Pace(130), Record(), 400)) > 120


def test_rests_of_any_length_never_add_up_to_too_much() -> None:
    """Whatever callers do, no minute holds more than the limit, and no more than three go at once."""
    rng, pace, record, now = random.Random(20260105), Pace(120), Record(), NOW  # noqa: S311 - seeded test data
    grants: list[int] = []
    for _ in range(300):
        now += rng.choice([0, 300_000, 2 * SECOND, 9 * SECOND, 40 * SECOND])
        grants += greedy(pace, record, rng.randrange(1, 60), now)
        now = grants[-1]
    assert worst_window(grants) <= 120
    assert worst_window(grants, 400_000) == 3


def test_slots_ahead_are_those_that_come() -> None:
    """The slot foretold for one with k before him is the one he gets when all k take theirs."""
    pace, record = Pace(120), Record()
    greedy(pace, record, 50)
    foretold = [pace.slot(record, NOW, ahead=count) for count in range(100)]
    assert greedy(pace, record, 100) == foretold


def test_the_reserved_share_is_taken_off() -> None:
    """Of 120 with 40 reserved 80 are ours: one each 61.5 s / 80."""
    grants = greedy(Pace(120, reserved=40), Record(), 10)
    assert grants[5] - grants[4] == 768_751


def test_classes_and_arrival_make_the_order() -> None:
    """A closing request goes before intraday ones, they before backfill, each class in order of arrival."""
    pace, record, now = Pace(120), Record(), NOW
    pace.pause(record, NOW + SECOND, NOW)
    names = [("b1", 2), ("b2", 2), ("i1", 1), ("c1", 0), ("i2", 1), ("c2", 0)]
    tickets = {name: pace.ask(record, NOW, priority=Priority(rank), ticket=None).ticket for name, rank in names}
    order = []
    for _ in range(500):
        now += 10_000
        for name, rank in names:
            if name in tickets and pace.ask(record, now, priority=Priority(rank), ticket=tickets[name]).wake is None:
                order.append(name)
                del tickets[name]
    assert order == ["c1", "c2", "i1", "i2", "b1", "b2"]


def test_a_closing_request_waits_for_one_slot_whatever_queues() -> None:
    """With forty backfill waiters in the queue a closing request is told the very next slot."""
    pace, record = Pace(120), Record()
    greedy(pace, record, 20)
    for _ in range(40):
        pace.ask(record, NOW, priority=Priority.BACKFILL, ticket=None)
    turn = pace.ask(record, NOW, priority=Priority.CLOSING, ticket=None)
    assert turn.wake == pace.slot(record, NOW)


def test_who_does_not_look_again_is_passed_over() -> None:
    """A waiter that was killed keeps its place for GRACE after it should have looked, and then for nothing."""
    pace, record = Pace(120), Record()
    greedy(pace, record, 3)
    dead = pace.ask(record, NOW, priority=Priority.CLOSING, ticket=None)
    assert dead.wake == NOW + EACH
    live = pace.ask(record, NOW, priority=Priority.BACKFILL, ticket=None)
    assert live.wake == NOW + 2 * EACH
    assert pace.ask(record, NOW + 2 * EACH, priority=Priority.BACKFILL, ticket=live.ticket).wake is None
    pace.ask(record, dead.wake + GRACE + 1, priority=Priority.BACKFILL, ticket=None)
    assert record.waiting == []


def test_who_was_late_keeps_his_place() -> None:
    """A waiter passed over for being slow comes back with its number, before those that came later."""
    pace, record = Pace(120), Record()
    greedy(pace, record, 3)
    slow = pace.ask(record, NOW, priority=Priority.INTRADAY, ticket=None)
    later = NOW + 20 * SECOND
    pace.pause(record, later + SECOND, later)
    other = pace.ask(record, later, priority=Priority.INTRADAY, ticket=None)
    back = pace.ask(record, later, priority=Priority.INTRADAY, ticket=slow.ticket)
    assert back.wake == later + SECOND
    assert pace.ask(record, later, priority=Priority.INTRADAY, ticket=other.ticket).wake == later + SECOND + EACH


def test_numbers_ascend_although_the_clock_does_not() -> None:
    """After the clock was set back, or within one microsecond, who comes later has a later number."""
    pace, record = Pace(120), Record()
    pace.pause(record, NOW + SECOND, NOW)
    tickets = [pace.ask(record, at, priority=Priority.CLOSING, ticket=None).ticket for at in (NOW, NOW, NOW - SECOND)]
    assert tickets == [NOW, NOW + 1, NOW + 2]


def test_two_refusals_halve_the_limit_and_empty_the_minute_first() -> None:
    """After 120 in the last minute a refusal means 108, and nobody goes until fewer lie in the window; then 60.

    The 108th grant from the end is that of index 12 of 120: the next goes 61.5 s after it. Refused too, it means 60,
    and the 60th from the end is the one of index 61.
    """
    pace, record, width = Pace(120), Record(), MINUTE + 1_500_000
    grants = greedy(pace, record, 120)
    pace.refuse(record, grants[-1], granted=grants[-1])
    assert pace.usable(record, grants[-1]) == 108
    (again,) = greedy(pace, record, 1, grants[-1])
    assert again == grants[12] + width
    pace.refuse(record, again, granted=again)
    assert pace.usable(record, again) == 60
    assert pace.slot(record, again) == grants[61] + width
    after = greedy(pace, record, 120, again)
    assert worst_window([*grants[62:], again, *after]) <= 60


def test_refusals_of_what_went_before_count_once() -> None:
    """Five requests under way when the limit fell are refused: it is lowered once; a later one lowers it again."""
    pace, record = Pace(120), Record()
    grants = greedy(pace, record, 5)
    for granted in grants:
        pace.refuse(record, grants[-1] + SECOND, granted=granted)
    assert (pace.usable(record, grants[-1]), record.refused) == (108, 5)
    later = greedy(pace, record, 1, grants[-1] + 10 * SECOND)[0]
    pace.refuse(record, later, granted=later)
    assert pace.usable(record, later) == 60


def test_a_refusal_long_after_another_is_a_first_one() -> None:
    """Within two minutes the second halves, after that it takes a tenth off again."""
    for minutes, expected in ((2, 60), (3, 97)):
        pace, record, later = Pace(120), Record(), NOW + minutes * MINUTE
        pace.refuse(record, NOW, granted=NOW)
        pace.refuse(record, later, granted=later)
        assert pace.usable(record, later) == expected


def test_the_limit_recovers_by_one_a_minute_after_five() -> None:
    """Lowered to 108 it stays so for five minutes, then gains one a minute, up to what is set."""
    pace, record = Pace(120, reserved=20), Record()
    pace.refuse(record, NOW, granted=NOW)
    learned = {minutes: pace.learned(record, NOW + minutes * MINUTE) for minutes in (0, 5, 6, 15, 16, 17, 500)}
    assert learned == {0: 108, 5: 108, 6: 109, 15: 118, 16: 119, 17: 120, 500: 120}
    assert pace.usable(record, NOW) == 88


def test_a_refusal_while_recovering_costs_less_and_holds_longer() -> None:
    """Lowered to 60 and back at 62, a refusal means 59 (62 less a thirtieth is 59.9), held for ten minutes."""
    pace, record = Pace(120), Record(lowered_to=60.0, lowered_time=NOW, hold=5 * MINUTE)
    later = NOW + 7 * MINUTE
    pace.refuse(record, later, granted=later)
    learned = {minutes: pace.learned(record, later + minutes * MINUTE) for minutes in (0, 10, 11, 12)}
    assert learned == {0: 59, 10: 59, 11: 60, 12: 61}
    again = later + 13 * MINUTE
    pace.refuse(record, again, granted=again)
    assert record.hold == 20 * MINUTE
    for _ in range(5):
        again += 3 * 60 * MINUTE // 2
        record.lowered_to, record.lowered_time = 60.0, again - record.hold - 2 * MINUTE
        pace.refuse(record, again, granted=again)
    assert record.hold == 60 * MINUTE


def test_refusals_leave_one_a_minute() -> None:
    """However often it is refused, one request a minute remains for us beside what is reserved."""
    pace, record, now = Pace(120, reserved=20), Record(), NOW
    for _ in range(20):
        now += SECOND
        pace.refuse(record, now, granted=now)
    assert pace.usable(record, now) == 1


def test_only_probes_go_while_the_source_is_down() -> None:
    """After five failures in a row one request goes each 30 s; an answer lets all go on."""
    pace, record = Pace(120), Record()
    for _ in range(DOWN_AFTER - 1):
        fail(record, NOW, granted=NOW)
        record.failed_time = NOW - 1
    assert pace.slot(record, NOW) == NOW
    fail(record, NOW, granted=NOW)
    assert [(at - NOW) / SECOND for at in greedy(pace, record, 3)] == [30.0, 60.0, 90.0]
    fail(record, NOW + 91 * SECOND, granted=NOW + 90 * SECOND)
    assert pace.slot(record, NOW + 91 * SECOND) == NOW + 120 * SECOND
    record.failures = 0
    assert pace.slot(record, NOW + 91 * SECOND) == NOW + 91 * SECOND


def test_what_was_under_way_at_the_first_failure_counts_as_one_with_it() -> None:
    """Six requests fail within a second: one failure. Four that went after the first was known make it five."""
    record = Record()
    for number in range(6):
        fail(record, NOW + number * 150_000, granted=NOW - number)
    assert (record.failures, record.failed_time) == (1, NOW)
    for number in range(1, 5):
        assert not record.is_down
        fail(record, NOW + 2 * SECOND, granted=NOW + number)
    assert record.is_down


def test_a_refusal_is_an_answer() -> None:
    """A source that refuses as over its limit is not down."""
    record = Record()
    for number in range(DOWN_AFTER):
        fail(record, NOW, granted=NOW + number)
    assert record.is_down
    Pace(120).refuse(record, NOW, granted=NOW)
    assert not record.is_down


@pytest.mark.parametrize(
    ("record", "is_absurd"),
    [
        (Record(), False),
        (Record(arrival=NOW + 61 * SECOND, not_before=NOW + 600 * SECOND), False),
        (Record(arrival=NOW + 604 * SECOND, not_before=NOW + 600 * SECOND), False),
        (Record(arrival=NOW + 200 * SECOND), True),
        (Record(arrival=NOW + 724 * SECOND, not_before=NOW + 600 * SECOND), True),
        (Record(failed_time=NOW + 200 * SECOND), True),
        (Record(grants=[NOW, NOW + 200 * SECOND]), True),
        (Record(not_before=NOW + 700 * SECOND), True),
        (Record(probe_time=NOW + 200 * SECOND), True),
        (Record(lowered_to=60.0, lowered_time=NOW + 200 * SECOND), True),
    ],
)
def test_what_cannot_be_of_this_time_is_absurd(record: Record, is_absurd: bool) -> None:
    """Instants further ahead than any rule would set them show that a clock was wrong."""
    assert record.is_absurd(NOW) is is_absurd


def test_waiters_do_not_outlive_their_time() -> None:
    """A record read after an hour holds waiters of then: none of them counts."""
    record = Record(waiting=[Waiter(0, 1, NOW - 3600 * SECOND)])
    assert Pace(120).ask(record, NOW, priority=Priority.BACKFILL, ticket=None).wake is None
