"""The rule of the request limit: when the next slot is, whose turn it is, and what a refusal does to the limit.

Belongs here: arithmetic on the record that all processes share. Not here: the file that holds it (`budget_file.py`)
and waiting (`budget.py`). All instants and spans are whole microseconds, instants since 1970 UTC, so that sums are
exact.

Three bounds hold at once for a limit of L a minute. At most L grants in any WIDTH, which is a minute and the SPREAD
by which one request may take longer than another on its way: so the source never counts more than L in a minute. One
grant each WIDTH / L on average, at most `burst` of them at once: so nobody finds the minute used up by those before
him. And no grant before a pause that the source asked for is over, or more than one a PROBE while it is down.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from enum import IntEnum

import msgspec

SECOND = 1_000_000
MINUTE = 60 * SECOND
SPREAD = 1_500_000
WIDTH = MINUTE + SPREAD
LONGEST_PAUSE = 600 * SECOND
NAP = 10 * SECOND
GRACE = 2 * SECOND
SHORTEST_HOLD, LONGEST_HOLD = 5 * MINUTE, 60 * MINUTE
PROBE = 30 * SECOND
DOWN_AFTER = 5
NO_HISTORY = -1  # the arrival time in a new record: nothing is known of the minute before it

_LARGEST_BURST = 3
_RECOVERED_PER_MINUTE = 1.0


class Priority(IntEnum):
    """Whose requests go first: what cannot be repeated, then what loses freshness, then what can be had any time."""

    CLOSING = 0
    INTRADAY = 1
    BACKFILL = 2


class Waiter(msgspec.Struct, array_like=True, frozen=True):
    """One in the queue: its class, its number (ascending with its arrival), and when it will look again."""

    priority: int
    ticket: int
    wake: int


class Record(msgspec.Struct, array_like=True):
    """What the processes know together.

    `arrival` is the theoretical arrival time, `grants` the instants of the last WIDTH, ascending. `lowered_to` is the
    limit right after the last decrease (0: there was none), which holds for `hold`. `failures` counts those in a row;
    the first of them was noted at `failed_time`.
    """

    arrival: int = 0
    grants: list[int] = []
    not_before: int = 0
    granted: int = 0
    refused: int = 0
    refused_time: int = 0
    lowered_to: float = 0.0
    lowered_time: int = 0
    hold: int = 0
    failures: int = 0
    probe_time: int = 0
    ticket: int = 0
    waiting: list[Waiter] = []
    failed_time: int = 0  # stays last: so records without it can be read

    @property
    def is_down(self) -> bool:
        """Whether so many requests failed in a row that only probes go."""
        return self.failures >= DOWN_AFTER

    def is_absurd(self, now: int) -> bool:
        """Whether it cannot be of this time: a clock was wrong when it was written, or is now."""
        times = self.lowered_time, self.refused_time, self.probe_time, self.failed_time, *self.grants[-1:]
        ahead = max(max(times) - now, self.arrival - max(now, self.not_before))  # a pause moves the arrival too
        return ahead > 2 * WIDTH or self.not_before > now + LONGEST_PAUSE + MINUTE

    def in_minute(self, now: int) -> int:
        """Grants of the minute up to `now`."""
        return len(self.grants) - bisect.bisect_right(self.grants, now - MINUTE)


@dataclass(frozen=True)
class Turn:
    """Granted now, or when to look again with this ticket."""

    ticket: int
    wake: int | None


@dataclass(frozen=True)
class Pace:
    """The rule for a source's limit of `per_minute`, of which `reserved` is left to the user's other programs."""

    per_minute: int
    reserved: int = 0

    def learned(self, record: Record, now: int) -> int:
        """The source's limit as refusals have shown it: lowered by each, held, then recovering by 1 a minute."""
        if not record.lowered_to:
            return self.per_minute
        quiet = max(0, now - record.lowered_time - record.hold)
        return min(self.per_minute, int(record.lowered_to + _RECOVERED_PER_MINUTE * quiet / MINUTE))

    def usable(self, record: Record, now: int) -> int:
        """What this program may ask in a minute; at least 1."""
        return max(1, self.learned(record, now) - self.reserved)

    def blank(self, now: int, *, wait: int) -> Record:
        """A record that knows nothing: the first grant after `wait`, and no burst then."""
        limit = self.usable(Record(), now)
        return Record(arrival=now + wait + _credit(limit), not_before=now + wait)

    def slot(self, record: Record, now: int, *, ahead: int = 0) -> int:
        """The earliest instant, not before `now`, for one who has `ahead` others before him."""
        limit = self.usable(record, now)
        trial = Record(record.arrival, record.grants[-limit:], record.not_before)
        trial.failures, trial.probe_time = record.failures, record.probe_time
        start = _earliest(trial, limit, now)
        for _ in range(ahead):
            _enter(trial, limit, start)
            start = _earliest(trial, limit, now)
        return start

    def free(self, record: Record, now: int) -> int:
        """How many slots there are at `now`."""
        most = burst_of(self.usable(record, now))
        return next((count for count in range(most) if self.slot(record, now, ahead=count) > now), most)

    def grant(self, record: Record, instant: int) -> None:
        """Let one request go at `instant`."""
        _enter(record, self.usable(record, instant), instant)
        record.granted += 1

    def ask(self, record: Record, now: int, *, priority: Priority, ticket: int | None) -> Turn:
        """Take a slot if there is one for this waiter, else queue it; who did not look again in time has gone."""
        record.waiting = [w for w in record.waiting if w.ticket != ticket and now <= w.wake + GRACE]
        if ticket is None:
            ticket = record.ticket = max(now, record.ticket + 1)
        ahead = sum((w.priority, w.ticket) < (priority, ticket) for w in record.waiting)
        start = self.slot(record, now, ahead=ahead)
        if start <= now:
            self.grant(record, now)
            return Turn(ticket, None)
        wake = min(start, now + NAP)
        record.waiting.append(Waiter(priority, ticket, wake))
        return Turn(ticket, wake)

    def pause(self, record: Record, until: int, now: int) -> None:
        """Grant nothing before `until`, at most LONGEST_PAUSE ahead, and no burst then."""
        resume = min(until, now + LONGEST_PAUSE)
        record.not_before = max(record.not_before, resume)
        record.arrival = max(record.arrival, resume + _credit(self.usable(record, now)))

    def refuse(self, record: Record, now: int, *, granted: int) -> None:
        """Note that the source refused, as over its limit, a request that went at `granted`.

        The limit is lowered, but once only for all that went before that was known. Who refuses is not down.
        """
        record.failures = 0
        record.refused += 1
        record.refused_time = max(record.refused_time, now)
        if not record.lowered_to or granted > record.lowered_time:
            self._lower(record, now)

    def _lower(self, record: Record, now: int) -> None:
        """Take a tenth off, or so much more that the half is left where the last time was just now.

        One refusal may be a matter of requests that were long on their way; two in a row are a lower limit. While it
        recovers, a thirtieth is enough, and holds longer each time.
        """
        reached = self.learned(record, now)
        is_again = bool(record.lowered_to) and now - record.lowered_time < 2 * WIDTH
        is_recovering = not is_again and record.lowered_to + 1 <= reached < self.per_minute
        thirtieths = 29 if is_recovering else 27
        left = reached * 5 / 9 if is_again else reached * thirtieths / 30
        record.lowered_to = max(self.reserved + 1.0, left)
        record.hold = min(2 * record.hold, LONGEST_HOLD) if is_recovering else SHORTEST_HOLD
        record.lowered_time = max([now, *record.grants[-1:]])


def fail(record: Record, now: int, *, granted: int) -> None:
    """Note that the source did not answer a request that went at `granted`, or answered with an error of its own.

    All that went before the first failure in a row was known count as that one: what breaks off many requests at once
    is over, mostly, when they are repeated.
    """
    if record.failures and granted <= record.failed_time:
        return
    if not record.failures:
        record.failed_time = now
    record.failures += 1
    if record.failures == DOWN_AFTER:
        record.probe_time = now + PROBE


def _earliest(record: Record, limit: int, now: int) -> int:
    start = max(now, record.not_before, record.arrival - _credit(limit))
    if len(record.grants) >= limit:
        start = max(start, record.grants[-limit] + WIDTH)
    return max(start, record.probe_time) if record.is_down else start


def _enter(record: Record, limit: int, instant: int) -> None:
    record.arrival = max(record.arrival, instant) + _interval(limit)
    bisect.insort(record.grants, instant)
    del record.grants[: bisect.bisect_left(record.grants, record.grants[-1] - WIDTH)]
    if record.is_down:
        record.probe_time = instant + PROBE


def _interval(limit: int) -> int:
    return WIDTH // limit + 1


def burst_of(limit: int) -> int:
    """How many slots a limit of that many requests a minute has at once after a rest."""
    return max(1, min(_LARGEST_BURST, limit // 15))


def _credit(limit: int) -> int:
    return (burst_of(limit) - 1) * _interval(limit)
