"""Checks are made side by side within a bound on time, and whatever one does, the others are told."""

import threading
import time

import pytest

from trade_analyst_pipeline.errors import StorageError
from trade_analyst_pipeline.ops.health.report import Finding, fail, ok, skipped
from trade_analyst_pipeline.ops.health.running import Probe, Shared, run_probes


def hanging(event: threading.Event) -> Finding:
    """A look that waits for an event."""
    event.wait()
    return ok("late")


def test_checks_come_in_the_order_given_with_what_they_found() -> None:
    """The order is that of the list, not of arrival; remedy and duration are told."""
    first_may_end = threading.Event()

    def first() -> Finding:
        first_may_end.wait()
        return fail("no room", "Make room.")

    def second() -> Finding:
        first_may_end.set()
        return ok("fine")

    checks = run_probes([Probe("first", first), Probe("second", second)], seconds=60)
    assert [(check.name, check.status, check.detail, check.remedy) for check in checks] == [
        ("first", "fail", "no room", "Make room."),
        ("second", "ok", "fine", None),
    ]
    assert all(0 <= check.duration_seconds < 60 for check in checks)


def test_check_that_hangs_is_late_and_the_others_stand(never: threading.Event) -> None:
    """After the bound the late one says so, in its own words where it has some, and nobody waits for it."""
    started = time.monotonic()
    checks = run_probes(
        [
            Probe("hangs", lambda: hanging(never)),
            Probe("quick", lambda: ok("fine")),
            Probe("hangs too", lambda: hanging(never), lambda: skipped("no answer in time")),
        ],
        seconds=0.3,
    )
    assert 0.3 <= time.monotonic() - started < 3
    assert [(check.status, check.detail) for check in checks] == [
        ("warn", "timed out"),
        ("ok", "fine"),
        ("skipped", "no answer in time"),
    ]
    assert checks[0].duration_seconds == 0.3


def test_all_quick_checks_end_at_once() -> None:
    """The bound is not waited for when everything is done."""
    started = time.monotonic()
    run_probes([Probe(str(number), lambda: ok("")) for number in range(20)], seconds=60)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (StorageError("data is gone"), "data is gone"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_what_a_check_raises_is_its_finding(error: Exception, detail: str) -> None:
    """An error of ours is told in its own words, any other with its kind; both fail and say what to do."""

    def look() -> Finding:
        raise error

    (check,) = run_probes([Probe("broken", look)], seconds=60)
    assert (check.status, check.detail) == ("fail", detail)
    assert check.remedy


def test_secrets_are_masked_in_detail_and_remedy() -> None:
    """Whatever a check says goes through the same mask as the logs."""
    (check,) = run_probes(
        [Probe("leak", lambda: fail("token I0.abcdefgh12345678@", "Bearer abcdef123456"))], seconds=60
    )
    assert (check.detail, check.remedy) == ("token [secret]", "Bearer [secret]")


def test_shared_value_is_made_once_and_its_error_is_everybodys() -> None:
    """Two threads that need the same value get one; what making it raises, each of them gets without another try."""
    made: list[str] = []

    def make() -> str:
        made.append("made")
        return "value"

    value = Shared(make)
    checks = run_probes([Probe(name, lambda: ok(value())) for name in ("one", "two", "three")], seconds=60)
    assert [check.detail for check in checks] == ["value"] * 3
    assert made == ["made"]

    def refuse() -> str:
        made.append("tried")
        message = "cannot"
        raise StorageError(message)

    refused = Shared(refuse)
    checks = run_probes([Probe(name, lambda: ok(refused())) for name in ("one", "two")], seconds=60)
    assert [(check.status, check.detail) for check in checks] == [("fail", "cannot")] * 2
    assert made == ["made", "tried"]
