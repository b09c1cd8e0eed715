"""The ledger of login callbacks: which were expected until when, what arrived, and why it was refused.

Belongs here: the small file in which all processes count, and the statistics read from it. Not here: judging a
callback (`callback.py`). Times are seconds since the epoch on the machine's clock.

The file holds no secret: a state is kept as a digest, an address not at all. It only counts: what a login accepts is
decided in memory, so a ledger that is damaged, full or locked never blocks one. A damaged file is set aside under
another name, and the statistics say so until the next login is accepted.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import statistics
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta
from pydantic import SecretStr

from trade_analyst_pipeline.errors import AuthError
from trade_analyst_pipeline.schwab.private_files import Draft, hold_lock

RefusalReason = Literal[
    "method",  # not a GET
    "host",  # a Host header that is not ours, or several
    "address",  # not the registered address to the letter
    "size",  # longer than any redirect
    "malformed",  # control characters, a fragment, half an escape, no HTTP
    "duplicate",  # a parameter that stands twice
    "no_state",  # no state at all
    "unexpected",  # a state nobody waits for
    "used",  # a state that has been answered before
    "late",  # a state whose time is over
    "issuer",  # says that another server issued it
    "no_code",  # without a usable code
    "denied",  # the source's refusal in place of a code
]
REFUSAL_REASONS: tuple[RefusalReason, ...] = get_args(RefusalReason)
Fate = Literal["open", "answered", "expired"]

_LOCK_SECONDS = 2.0
_LARGEST_FILE = 64 << 10
_MOST_OPEN = 32
_MOST_CLOSED = 64
_MOST_LATENCIES = 100
_MOST_ARRIVALS = 20
_ENDING_REASONS = frozenset(["issuer", "no_code", "denied"])  # with the right state: the login has had its answer

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CallbackArrival:
    """One callback that arrived: when, and `accepted` or why it was refused."""

    time: float
    outcome: str


@dataclass(frozen=True)
class CallbackStatistics:
    """What is known of all callbacks since `since_time` (None: nothing was ever recorded).

    `received` is `accepted` plus all of `refused`, which has a count for each reason met. `expired` counts expected
    callbacks that did not come in time, `open` those still waited for. Latencies run from the expectation to the
    accepted callback: the last, and the median and longest of the last 100. `recent` holds the last 20 arrivals,
    oldest first. `problem` says that counting does not work or began anew; None once a login was accepted since.
    """

    expected: int = 0
    received: int = 0
    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    expired: int = 0
    open: int = 0
    last_latency_seconds: float | None = None
    median_latency_seconds: float | None = None
    longest_latency_seconds: float | None = None
    last_accepted_time: float | None = None
    since_time: float | None = None
    recent: tuple[CallbackArrival, ...] = ()
    problem: str | None = None


class CallbackLedger:
    """The ledger in one file, shared by all processes. Nothing here raises for the file's sake: problems are logged."""

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self._now = now
        self._lock_path = path.with_name(path.name + ".lock")
        self._aside_path = path.with_name(path.name + ".damaged")

    def expect(self, state: SecretStr, *, seconds: float) -> None:
        """Register a callback with this state, expected from now on for so many seconds."""

        def change(record: _Record, now: float) -> None:
            record.expected += 1
            record.open.append(_Open(digest=_digest(state), since=now, until=now + seconds))

        self._update(change)

    def accept(self, state: SecretStr) -> None:
        """Count an arrival that was accepted, with the time since it was expected, and close its expectation."""

        def change(record: _Record, now: float) -> None:
            record.accepted += 1
            record.last_accepted_time = now
            record.problem = None  # of an earlier ledger: counting works, as has just been seen
            expectation = record.close(_digest(state), "answered")
            if expectation is not None:
                record.latencies.append(max(0.0, now - expectation.since))
            record.arrived(now, "accepted")

        self._update(change)

    def refuse(self, reason: RefusalReason, state: SecretStr | None = None) -> None:
        """Count an arrival that was refused; `state` is that of the expectation it answered, if it answered one."""

        def change(record: _Record, now: float) -> None:
            record.refused[reason] = record.refused.get(reason, 0) + 1
            if state is not None and reason in _ENDING_REASONS:
                record.close(_digest(state), "answered")
            record.arrived(now, reason)

        self._update(change)

    def fate(self, state: SecretStr) -> Fate | None:
        """What became of the expectation with this state, by any process; None: none is known."""
        record, _ = self._read()
        record.expire(self._now())
        digest = _digest(state)
        if any(item.digest == digest for item in record.open):
            return "open"
        return next((item.fate for item in reversed(record.closed) if item.digest == digest), None)

    def statistics(self) -> CallbackStatistics:
        """The counts as they stand; nothing is written."""
        record, problem = self._read()
        record.expire(self._now())
        return _statistics(record, problem)

    # -- the file ----------------------------------------------------------------------------------------------

    def _update(self, change: Callable[[_Record, float], None]) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with hold_lock(self._lock_path, _LOCK_SECONDS):
                record, problem = self._read()
                if problem is not None and problem != record.problem:
                    record = self._set_aside(problem)
                now = self._now()
                record.since_time = now if record.since_time is None else record.since_time
                record.expire(now)
                change(record, now)
                with Draft(self.path) as draft:
                    draft.put(_encoded(record.bounded()))
        except (OSError, AuthError) as error:
            _log.warning("a login callback could not be counted in %s, and the login goes on: %s", self.path, error)

    def _read(self) -> tuple[_Record, str | None]:
        """The record, and what is wrong with it; an empty one where the file cannot be used."""
        try:
            record = _decoded(_content(self.path))
        except FileNotFoundError:
            return _Record(), None
        except OSError as error:
            why = f"cannot be read ({error.strerror})"
        except ValueError:
            why = "is damaged"
        else:
            return record, record.problem
        return _Record(), f"{self.path} {why}, so nothing is known of earlier callbacks."

    def _set_aside(self, problem: str) -> _Record:
        """A new record that tells of the damaged one, which stays beside it under another name."""
        self.path.replace(self._aside_path)
        _log.warning("%s It was set aside as %s; counting begins anew.", problem, self._aside_path.name)
        return _Record(problem=f"an earlier ledger could not be used and was set aside as {self._aside_path}.")


_Count = Annotated[int, Meta(ge=0)]
_Seconds = Annotated[float, Meta(ge=0)]


class _Open(msgspec.Struct, forbid_unknown_fields=True):
    digest: str
    since: float
    until: float


class _Closed(msgspec.Struct, forbid_unknown_fields=True):
    digest: str
    fate: Literal["answered", "expired"]


class _Arrival(msgspec.Struct, forbid_unknown_fields=True):
    time: float
    outcome: Literal["accepted"] | RefusalReason


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    """What the file holds. The lists are bounded when it is written."""

    version: Literal[1] = 1
    since_time: float | None = None
    expected: _Count = 0
    accepted: _Count = 0
    refused: dict[RefusalReason, _Count] = msgspec.field(default_factory=dict)
    expired: _Count = 0
    last_accepted_time: float | None = None
    open: list[_Open] = msgspec.field(default_factory=list)
    closed: list[_Closed] = msgspec.field(default_factory=list)
    latencies: list[_Seconds] = msgspec.field(default_factory=list)
    arrivals: list[_Arrival] = msgspec.field(default_factory=list)
    problem: str | None = None

    def close(self, digest: str, fate: Literal["answered", "expired"]) -> _Open | None:
        """Move an expectation from the open to the closed ones; None where it is not open."""
        found = next((item for item in self.open if item.digest == digest), None)
        if found is not None:
            self.open.remove(found)
            self.closed.append(_Closed(digest, fate))
        return found

    def expire(self, now: float) -> None:
        """Close what was expected until `now` at the latest."""
        for item in [item for item in self.open if item.until <= now]:
            self.close(item.digest, "expired")
            self.expired += 1

    def arrived(self, now: float, outcome: Literal["accepted"] | RefusalReason) -> None:
        """Remember the arrival itself."""
        self.arrivals.append(_Arrival(now, outcome))

    def bounded(self) -> _Record:
        """The record with the oldest entries left out; an open expectation that has to go counts as expired."""
        for item in self.open[:-_MOST_OPEN]:
            self.close(item.digest, "expired")
            self.expired += 1
        del self.closed[:-_MOST_CLOSED], self.latencies[:-_MOST_LATENCIES], self.arrivals[:-_MOST_ARRIVALS]
        return self


_DECODER = msgspec.json.Decoder(_Record)  # made here: see token_records.py


def _content(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        data = os.read(descriptor, _LARGEST_FILE + 1)
    finally:
        os.close(descriptor)
    if len(data) > _LARGEST_FILE:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return data


def _encoded(record: _Record) -> bytes:
    body = msgspec.json.encode(record)
    return b"%08x\n" % zlib.crc32(body) + body


def _decoded(data: bytes) -> _Record:
    """The record; ValueError for a file that is not to the letter what was written, or of another version."""
    checksum, _, body = data.partition(b"\n")
    if checksum != b"%08x" % zlib.crc32(body):
        message = "the checksum is another"
        raise ValueError(message)
    return _DECODER.decode(body)


def _digest(state: SecretStr) -> str:
    return hashlib.sha256(b"callback state " + state.get_secret_value().encode()).hexdigest()[:32]


def _statistics(record: _Record, problem: str | None) -> CallbackStatistics:
    latencies = record.latencies
    return CallbackStatistics(
        expected=record.expected,
        received=record.accepted + sum(record.refused.values()),
        accepted=record.accepted,
        refused={str(reason): count for reason, count in sorted(record.refused.items())},
        expired=record.expired,
        open=len(record.open),
        last_latency_seconds=latencies[-1] if latencies else None,
        median_latency_seconds=statistics.median(latencies) if latencies else None,
        longest_latency_seconds=max(latencies, default=None),
        last_accepted_time=record.last_accepted_time,
        since_time=record.since_time,
        recent=tuple(CallbackArrival(item.time, item.outcome) for item in record.arrivals),
        problem=problem,
    )
