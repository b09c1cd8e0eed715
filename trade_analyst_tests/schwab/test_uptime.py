"""Setting the machine's clock does not age a token; a restart, or a system without uptime, leaves the clock alone."""

from __future__ import annotations

import itertools
import random
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from token_scenes import DAY, LOGIN, Hand, Source, grant, stale, store_at

from trade_analyst_pipeline.schwab import uptime
from trade_analyst_pipeline.schwab.token_records import TokenGrant
from trade_analyst_pipeline.schwab.uptime import NO_UPTIME, Uptime, machine_uptime


def test_the_machine_knows_how_long_it_has_been_up() -> None:
    """On this system uptime grows with time and belongs to one start."""
    first, second = machine_uptime(), machine_uptime()
    passed = second.since(first)
    assert passed is not None
    assert 0 <= passed < 5
    assert len(first.boot) == 36


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (Uptime("a", 10.0), Uptime("b", 20.0)),
        (Uptime("a", 20.0), Uptime("a", 10.0)),
        (NO_UPTIME, Uptime("a", 10.0)),
        (NO_UPTIME, NO_UPTIME),
    ],
)
def test_uptimes_that_cannot_be_compared(earlier: Uptime, later: Uptime) -> None:
    """Across a restart, backwards, or where one is not known, nothing is said."""
    assert later.since(earlier) is None


def test_systems_without_such_a_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the start has no name, or the clock does not exist, uptime is not known."""
    assert uptime._boot(tmp_path / "none") == ""
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    assert machine_uptime() == NO_UPTIME


class Machine:
    """Real time, and a clock on it that somebody sets."""

    def __init__(self) -> None:
        self.real = 1000.0
        self.clock_error = 0.0

    def now(self) -> float:
        """What the clock shows."""
        return LOGIN + (self.real - 1000.0) + self.clock_error

    def uptime(self) -> Uptime:
        """How long it has been up."""
        return Uptime("start", self.real)


def run_through_jumps(folder: Path, seed: int, **options: Any) -> tuple[list[float], int]:
    """Six hours of reads each minute under a clock that jumps: real times of the requests, expired tokens used."""
    machine, rng = Machine(), random.Random(seed)  # noqa: S311 - seeded jumps
    store = store_at(folder, now=machine.now, **{"uptime": machine.uptime, **options})
    store.save_login(grant())
    requests, ends, expired = [machine.real], machine.real + 1800, 0

    def refresh(_: SecretStr) -> TokenGrant:
        nonlocal ends
        requests.append(machine.real)
        ends = machine.real + 1800
        return grant(f"at-{machine.real}")

    for _ in range(360):
        machine.real += 60
        if rng.random() < 0.2:
            machine.clock_error = rng.choice([0, 3600, -3600, -8 * DAY, 3 * DAY])
        tokens = store.load()
        if not tokens.is_fresh(machine.now()):
            tokens = store.renew(is_good=lambda each: each.is_fresh(machine.now()), refresh=refresh)
        expired += machine.real >= ends
    return requests, expired


@pytest.mark.reliability
def test_jumps_of_the_clock_cost_no_refresh_and_use_no_expired_token(tmp_path: Path, harness_seed: int) -> None:
    """Whatever the clock shows, a token is renewed once in its real life, before its end."""
    requests, expired = run_through_jumps(tmp_path, harness_seed)
    gaps = [later - earlier for earlier, later in itertools.pairwise(requests)]
    print(
        f"TOK-11: {len(gaps)} refreshes in 6 h of jumps, {min(gaps):.0f} to {max(gaps):.0f} s apart, {expired} expired"
    )
    assert expired == 0
    assert (min(gaps), max(gaps)) == (1500, 1500)


@pytest.mark.reliability
def test_control_by_the_clock_alone_jumps_cost_refreshes(tmp_path: Path) -> None:
    """The jumps are able to do harm: without uptime tokens are renewed again and again."""
    requests, _ = run_through_jumps(tmp_path, 7, uptime=lambda: NO_UPTIME)
    assert min(later - earlier for earlier, later in itertools.pairwise(requests)) < 1500


def test_the_hour_that_is_left_out_or_comes_twice(tmp_path: Path) -> None:
    """Lives count in seconds since the epoch: the change to summer time (2026-03-08 07:00 UTC) moves nothing."""
    machine = Machine()
    machine.real += 1_772_953_200 - LOGIN - 900  # a quarter of an hour before
    store = store_at(tmp_path, now=machine.now, uptime=machine.uptime)
    store.save_login(grant())
    machine.real += 1200
    assert store.load().is_fresh(machine.now())
    assert store.load().login_ends_time - store.load().login_time == 7 * DAY


def test_after_a_restart_the_clock_counts(tmp_path: Path) -> None:
    """Uptime of another start says nothing: the token's age is what the clock shows."""
    machine = Machine()
    store = store_at(tmp_path, now=machine.now, uptime=machine.uptime)
    store.save_login(grant())
    restarted = store_at(tmp_path, now=lambda: machine.now() + 1700, uptime=lambda: Uptime("another", 5.0))
    assert not restarted.load().is_fresh(machine.now() + 1700)


@pytest.mark.parametrize("off", [-8 * DAY, -3600.0, 3600.0, 8 * DAY])
def test_a_clock_set_wrong_while_the_login_lasts_ends_nothing(tmp_path: Path, off: float) -> None:
    """However far the clock is off for a while, tokens serve and are renewed as ever, and the login keeps its days."""
    machine = Machine()
    store = store_at(tmp_path, now=machine.now, uptime=machine.uptime)
    store.save_login(grant())
    machine.clock_error = off
    assert store.load().is_fresh(machine.now())
    machine.real += 1600
    source = Source(grant("second"))
    store.renew(is_good=lambda each: each.is_fresh(machine.now()), refresh=source)
    machine.clock_error = 0.0
    found = store.load()
    assert (found.generation, found.login_time, len(source.shown)) == (2, LOGIN, 1)
    assert found.is_fresh(machine.now())


@pytest.mark.parametrize("off", [-8 * DAY, 3 * DAY, 8 * DAY])
def test_a_clock_that_was_wrong_at_the_login_is_not_carried_on(tmp_path: Path, off: float) -> None:
    """Once it is set right, the login counts from when it was made, also after a restart of the machine."""
    machine = Machine()
    machine.clock_error = off
    store = store_at(tmp_path, now=machine.now, uptime=machine.uptime)
    store.save_login(grant())
    machine.real += 60
    machine.clock_error = 0.0
    found = store.load()
    assert (found.login_time, found.is_alive(machine.now()), store.refusal(found)) == (LOGIN, True, None)
    machine.real += 1700
    store.renew(is_good=stale, refresh=Source(grant("second")))
    restarted = store_at(tmp_path, now=machine.now, uptime=lambda: Uptime("another", 5.0))
    assert restarted.load().login_ends_time == LOGIN + 7 * DAY


def test_a_login_of_the_future_has_seven_days_left_at_most(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without uptime nobody knows which clock is wrong: days are not added, what is stored stays, a refresh warns."""
    clock = Hand()
    store = store_at(tmp_path, now=clock)
    store.save_login(grant())
    clock.at -= 3 * DAY
    assert store.load().login_ends_time - clock.at == 7 * DAY
    renewed = store.renew(is_good=stale, refresh=Source(grant("second")))
    assert renewed.login_ends_time - clock.at == 7 * DAY
    assert "clock stands 72.0 h before the login was made" in caplog.text
    clock.at += 3 * DAY
    assert store.load().login_time == LOGIN
