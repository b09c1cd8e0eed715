"""How much the source gives: the size of an answer, requests in a minute, bursts, and hours of maintenance.

All of it stands in `Conditions`, which a server looks at for each request and a test or a scenario may change while it
runs. What an answer over a limit looks like is in `faults.py`; which requests a fault strikes is no limit and is there.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from datetime import time as wall_time
from typing import Literal

from trade_analyst_pipeline.market.sessions import NEW_YORK

WINDOW_SECONDS = 60.0
RetryAfter = Literal["seconds", "none"]
Closure = Literal["page", "message", "gateway"]


@dataclass(frozen=True)
class AnswerLimits:
    """Sizes: bytes the gateway lets through, ids in one quotes request, contracts in a chain (None: any number).

    A chain of more contracts is cut after `most_contracts` and says `isChainTruncated`.
    """

    gateway_bytes: int = 10_000_000
    most_symbols: int = 500
    most_contracts: int | None = None


@dataclass(frozen=True)
class QuotaChange:
    """From then on another limit: after so many seconds since the first request, or so many requests that came."""

    per_minute: int
    after_seconds: float = 0.0
    after_requests: int = 0


@dataclass(frozen=True)
class QuotaRules:
    """`per_minute` requests in any 60 seconds.

    `retry_after` says whether a refusal tells how long to wait. Time runs `time_scale` times as fast as the clock,
    for the window, the changes and `Retry-After` alike. With `counts_refused` a refused request counts too.
    """

    per_minute: int
    retry_after: RetryAfter = "seconds"
    time_scale: float = 1.0
    counts_refused: bool = False
    changes: tuple[QuotaChange, ...] = ()


class Quota:
    """The count of requests in a sliding window of 60 seconds; one object for all clients of a server."""

    def __init__(self, rules: QuotaRules, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.rules = rules
        self._clock = clock
        self._began: float | None = None
        self._window: deque[float] = deque()
        self.arrivals: list[float] = []
        self.refused = 0

    def seconds(self) -> float:
        """Scaled seconds since the first request; 0 before it."""
        return 0.0 if self._began is None else (self._clock() - self._began) * self.rules.time_scale

    def limit(self) -> int:
        """Requests in 60 seconds that are allowed at present."""
        limit, now = self.rules.per_minute, self.seconds()
        for change in self.rules.changes:
            if now >= change.after_seconds and len(self.arrivals) >= change.after_requests:
                limit = change.per_minute
        return limit

    def admit(self) -> float | None:
        """Count a request: None when it is allowed, else the seconds until one would be."""
        if self._began is None:
            self._began = self._clock()
        now, limit = self.seconds(), self.limit()
        self.arrivals.append(now)
        while self._window and self._window[0] <= now - WINDOW_SECONDS:
            self._window.popleft()
        if len(self._window) < limit:
            self._window.append(now)
            return None
        self.refused += 1
        freed = self._window[len(self._window) - limit] if limit else now
        if self.rules.counts_refused:
            self._window.append(now)
        return freed + WINDOW_SECONDS - now

    def worst_window(self) -> int:
        """The most requests that came in any 60 seconds, refused ones included."""
        times = self.arrivals
        ends = (bisect_left(times, start + WINDOW_SECONDS) for start in times)
        return max((end - place for place, end in enumerate(ends)), default=0)

    def retry_after(self, wait: float) -> str | None:
        """The header's value for a refusal that holds for `wait` seconds, or None when none is sent."""
        return str(max(math.ceil(wait), 1)) if self.rules.retry_after == "seconds" else None


class Burst:
    """Price history in quick succession: over `requests` within `seconds` it is answered 200 with empty candles."""

    def __init__(self, requests: int, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.requests = requests
        self.seconds = seconds
        self._clock = clock
        self._times: deque[float] = deque()

    def is_over(self) -> bool:
        """Count a request and tell whether it is one too many."""
        now = self._clock()
        self._times.append(now)
        while self._times[0] <= now - self.seconds:
            self._times.popleft()
        return len(self._times) > self.requests


@dataclass(frozen=True)
class Outage:
    """Nothing is served from `first` up to `until` (not included), by the instant asked about.

    `closure` is what is answered: a page, a message as JSON, or the gateway's text that there is no such route.
    """

    first: datetime
    until: datetime
    closure: Closure = "page"

    def covers(self, instant: datetime) -> bool:
        """Whether an instant lies in it."""
        return self.first <= instant < self.until


@dataclass(frozen=True)
class Maintenance:
    """Nothing is served between two times of day in New York (`until` not included), on the given weekdays.

    Monday is 0. `closure` as of an outage.
    """

    first: wall_time
    until: wall_time
    weekdays: frozenset[int] = frozenset(range(7))
    closure: Closure = "page"

    def covers(self, instant: datetime) -> bool:
        """Whether an instant lies in it."""
        local = instant.astimezone(NEW_YORK)
        return self.first <= local.time() < self.until and local.weekday() in self.weekdays


@dataclass
class Conditions:
    """What limits a server's answers at present; nothing but the sizes as long as nobody changes it."""

    limits: AnswerLimits = field(default_factory=AnswerLimits)
    quota: Quota | None = None
    burst: Burst | None = None
    closures: tuple[Outage | Maintenance, ...] = ()

    def reset(self) -> None:
        """Back to the sizes alone."""
        self.limits, self.quota, self.burst, self.closures = AnswerLimits(), None, None, ()

    def closure_at(self, instant: datetime) -> Closure | None:
        """How the source is closed at an instant; None while it is open."""
        return next((window.closure for window in self.closures if window.covers(instant)), None)
