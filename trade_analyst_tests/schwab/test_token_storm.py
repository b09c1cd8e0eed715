"""Many processes and threads, and kill -9 in the midst of them: one refresh per expiry, and nothing lost.

Each harness has a control that breaks one thing and has to be caught.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr
from token_scenes import FileSource, names_in, process_context, run_all, stale, store_at
from token_workers import (
    POINTS,
    ReaderPlan,
    die_at,
    hold_and_die,
    read_at_simulator,
    seconds_until_free,
    storm,
)

from trade_analyst_pipeline.errors import LoginRequiredError
from trade_analyst_pipeline.schwab import tokens as tokens_module
from trade_analyst_pipeline.schwab.token_records import TokenGrant
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.oauth import SIMULATOR_APP_KEY, SIMULATOR_APP_SECRET
from trade_analyst_pipeline.simulator.server import SimulatorServer

LIFE_SECONDS = 1
ANSWER_SECONDS = 0.05
REDIRECT = "https://127.0.0.1:8182/callback"

pytestmark = [pytest.mark.slow, pytest.mark.reliability]


# --- one refresh per expiry


def desk_grant(server: SimulatorServer) -> TokenGrant:
    """A login given by the simulator's desk without a browser."""
    answer = server.desk.authorize({"client_id": SIMULATOR_APP_KEY, "redirect_uri": REDIRECT})
    code = parse_qs(urlsplit(dict(answer.headers)["location"]).query)["code"][0]
    basic = base64.b64encode(f"{SIMULATOR_APP_KEY}:{SIMULATOR_APP_SECRET}".encode()).decode()
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT}
    fields = json.loads(server.desk.token(f"Basic {basic}", form).body)
    return TokenGrant(SecretStr(fields["access_token"]), SecretStr(fields["refresh_token"]), fields["expires_in"])


@pytest.fixture(scope="module")
def market() -> Market:
    """A market nobody looks at."""
    return Market(7)


@pytest.fixture
def simulator(tmp_path: Path, market: Market) -> Iterator[SimulatorServer]:
    """Tokens that live one second, refresh tokens that may be used once, and a token endpoint that takes its time."""
    with SimulatorServer(
        seed=7,
        market=market,
        ca_file=tmp_path / "ca.pem",
        redirect_uris=(REDIRECT,),
        access_seconds=LIFE_SECONDS,
        answer_seconds=ANSWER_SECONDS,
        rotation="rotate",
        single_use_refresh=True,
    ) as server:
        yield server


Readers = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def readers(tmp_path: Path, simulator: SimulatorServer, is_full: bool) -> Readers:
    """Runs processes that read access tokens from one store, renewed at the simulator; a tally for each thread."""

    def run(processes: int, **plan: Any) -> list[dict[str, Any]]:
        app = (SIMULATOR_APP_KEY, SIMULATOR_APP_SECRET)
        whole = ReaderPlan(str(tmp_path), simulator.base_url, str(simulator.ca_file), app, **plan)
        outputs = [tmp_path / f"tally-{number}" for number in range(processes)]
        codes = run_all(process_context(is_full=is_full), read_at_simulator, [(whole, str(path)) for path in outputs])
        assert codes == [0] * processes
        return [tally for path in outputs for tally in json.loads(path.read_text())]

    return run


def judge(name: str, simulator: SimulatorServer, tallies: list[dict[str, Any]], *, refreshes: int) -> None:
    """Print the figures of a race and check what holds for every one of them."""
    latencies = sorted(latency for tally in tallies for latency in tally["latencies"])
    issued = {int(generation): at for tally in tallies for generation, at in tally["issued"].items()}
    lives = [issued[later] - issued[earlier] for earlier, later in itertools.pairwise(sorted(issued))]
    p50, p99 = statistics.median(latencies), latencies[int(0.99 * len(latencies))]
    counts = {what: sum(tally[what] for tally in tallies) for what in ("backward", "expired", "unknown")}
    print(
        f"{name}: {len(tallies)} readers, {len(latencies)} reads, {len(lives)} expiries after {min(lives):.3f} s or "
        f"more, {simulator.desk.refreshes} refreshes, {simulator.desk.reuses} reuses, {simulator.desk.refusals} "
        f"refusals, {counts}; p50 {p50 * 1e6:.0f} us, p99 {p99 * 1e3:.1f} ms, max {latencies[-1] * 1e3:.1f} ms"
    )
    assert [tally["refused"] for tally in tallies if tally["refused"]] == []
    assert counts == {"backward": 0, "expired": 0, "unknown": 0}
    assert (simulator.desk.reuses, simulator.desk.refusals) == (0, 0)
    assert simulator.desk.refreshes == max(issued) - 1
    assert len(lives) >= refreshes
    assert p50 < 0.001
    assert min(lives) >= 0.8 * LIFE_SECONDS  # the margin of a short life is a fifth of it


def test_one_refresh_per_expiry_for_all_processes(
    readers: Readers, simulator: SimulatorServer, tmp_path: Path, is_full: bool
) -> None:
    """Many processes over many expiries: one grant each, no old refresh token, no expired token, no step back."""
    store_at(tmp_path).save_login(desk_grant(simulator))
    processes, reads, seconds = (16, 1000, 12.0) if is_full else (8, 400, 4.0)
    tallies = readers(processes, reads=reads, seconds=seconds)
    judge("TOK-1", simulator, tallies, refreshes=10 if is_full else 3)
    assert sum(len(tally["latencies"]) for tally in tallies) == processes * reads


def test_control_without_the_lock_a_rotating_login_dies(
    readers: Readers, simulator: SimulatorServer, tmp_path: Path
) -> None:
    """The race is able to do harm: without the lock an old refresh token is shown and the login is lost."""
    store_at(tmp_path).save_login(desk_grant(simulator))
    tallies = readers(8, reads=200, seconds=2.0, broken="no lock")
    assert simulator.desk.reuses + simulator.desk.refusals > 0
    assert any(tally["refused"] for tally in tallies)


def test_one_refresh_per_expiry_for_all_threads(
    readers: Readers, simulator: SimulatorServer, tmp_path: Path, is_full: bool
) -> None:
    """The same where each process has eight threads that share one store."""
    store_at(tmp_path).save_login(desk_grant(simulator))
    processes, reads, seconds = (4, 1000, 10.0) if is_full else (2, 200, 3.0)
    tallies = readers(processes, reads=reads, seconds=seconds, threads=8)
    judge("TOK-2", simulator, tallies, refreshes=8 if is_full else 2)


def test_control_threads_that_share_a_descriptor_share_its_lock(
    readers: Readers, simulator: SimulatorServer, tmp_path: Path
) -> None:
    """The threads are able to do harm: over one descriptor each of them gets the exclusive lock."""
    store_at(tmp_path).save_login(desk_grant(simulator))
    tallies = readers(1, reads=200, seconds=2.0, threads=8, broken="one descriptor for all threads")
    assert simulator.desk.reuses + simulator.desk.refusals > 0 or any(tally["refused"] for tally in tallies)


# --- refusals


def test_a_dead_login_costs_one_request_of_all_processes(
    readers: Readers, simulator: SimulatorServer, tmp_path: Path, is_full: bool
) -> None:
    """A login ended elsewhere: one refused request, the same message everywhere; all go on with a new login at once."""
    store = store_at(tmp_path)
    store.save_login(desk_grant(simulator))
    simulator.desk.revoke()
    before = simulator.requests["/v1/oauth/token"]
    processes, seconds, dead_seconds = (16, 70.0, 60.0) if is_full else (8, 3.0, 1.0)
    asked, logged_in = list[int](), list[float]()

    def log_in_when_all_were_refused() -> None:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("refused-*"))) < processes and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(dead_seconds)
        asked.append(simulator.requests["/v1/oauth/token"] - before)
        logged_in.append(time.time())
        store.save_login(desk_grant(simulator))

    person = threading.Thread(target=log_in_when_all_were_refused)
    person.start()
    tallies = readers(processes, reads=int(30 * seconds), seconds=seconds)
    person.join()
    refused = [message for tally in tallies for message in tally["refused"]]
    slowest = max(tally["recovered"] or float("inf") for tally in tallies) - logged_in[0]
    print(
        f"TOK-13: {processes} processes in {dead_seconds:g} s: {asked[0]} request, {len(refused)} messages; "
        f"a new login was used by all after {slowest:.2f} s"
    )
    assert asked == [1]
    assert len(refused) >= processes * 10
    assert all("trade-analyst login" in message for message in refused)
    assert slowest < 1.0


def test_control_without_notes_a_dead_login_is_asked_for_again_and_again(
    readers: Readers, simulator: SimulatorServer, tmp_path: Path
) -> None:
    """The processes are able to do harm: without the note each of them asks."""
    store_at(tmp_path).save_login(desk_grant(simulator))
    simulator.desk.revoke()
    before = simulator.requests["/v1/oauth/token"]
    readers(4, reads=30, seconds=1.5, broken="no note")
    assert simulator.requests["/v1/oauth/token"] - before >= 4


# --- kill -9


def storm_in(folder: Path, seed: int, *, is_full: bool, in_place: bool = False) -> dict[str, int]:
    """The storm in a process of its own that has no threads and may fork."""
    store_at(folder).save_login(FileSource(folder).begin())
    kills, children, pauses = (480, 16, (0.02, 0.08)) if is_full else (100, 4, (0.005, 0.03))
    arguments = (str(folder), kills, children, pauses, seed, in_place)
    assert run_all(process_context(is_full=is_full), storm, [arguments]) == [0]
    result: dict[str, int] = json.loads((folder / "result").read_text())
    return result


def test_kills_never_leave_the_file_unreadable(tmp_path: Path, is_full: bool, harness_seed: int) -> None:
    """A storm of kill -9 amid renewals: readable after each, nothing refused, no draft left after the next renewal."""
    result = storm_in(tmp_path, harness_seed, is_full=is_full)
    source = FileSource(tmp_path)
    print(f"TOK-3: {result}, {source.count('grant')} grants, {source.count('refused')} refused")
    assert result["kills"] >= (400 if is_full else 100)
    assert (result["unreadable"], result["backward"], result["children_failed"]) == (0, 0, 0)
    assert source.count("refused") == 0
    store_at(tmp_path).renew(is_good=stale, refresh=source)
    assert names_in(tmp_path / "private") == ["tokens", "tokens.lock"]


def test_control_a_writer_in_place_is_caught_by_the_storm(tmp_path: Path) -> None:
    """The storm is able to do harm: writing in place leaves unreadable files."""
    result = storm_in(tmp_path, 7, is_full=False, in_place=True)
    assert result["unreadable"] + result["children_failed"] > 0


# --- a kill at each named point


def killed_at_each_point(tmp_path: Path, *, rotate: bool, is_full: bool) -> dict[str, Path]:
    """A folder for each point, with a login whose renewal was killed there."""
    homes = {point: tmp_path / point.replace(" ", "-") for point in POINTS}
    for home in homes.values():
        home.mkdir()
        store_at(home).save_login(FileSource(home, rotate=rotate).begin())
    calls = [(str(home), point, rotate) for point, home in homes.items()]
    assert run_all(process_context(is_full=is_full), die_at, calls) == [-signal.SIGKILL] * len(POINTS)
    return homes


def lost(homes: dict[str, Path], *, rotate: bool) -> list[str]:
    """The points after which the login is lost; at all others the next renewal works within a second."""
    found = []
    for point, home in homes.items():
        begun = time.monotonic()
        try:
            store_at(home).renew(is_good=lambda each: each.generation > 1, refresh=FileSource(home, rotate=rotate))
        except LoginRequiredError:
            found.append(point)
        assert time.monotonic() - begun < 1.0
    return found


@pytest.mark.parametrize("rotate", [False, True])
def test_a_kill_at_each_named_point(tmp_path: Path, is_full: bool, rotate: bool) -> None:
    """A fixed refresh token survives a kill anywhere; a rotated one is lost only until its answer is written.

    Then there is exactly one refused request, a message that says what happened, and no further request.
    """
    homes = killed_at_each_point(tmp_path, rotate=rotate, is_full=is_full)
    before = {point: (home / "private" / "tokens").read_bytes() for point, home in homes.items()}
    found = lost(homes, rotate=rotate)
    print(f"TOK-4: {'rotating' if rotate else 'fixed'}: killed at {len(POINTS)} points, lost at {found or 'none'}")
    assert found == (["after the answer", "before the record is written"] if rotate else [])
    for point in found:
        home = homes[point]
        for _ in range(3):
            with pytest.raises(LoginRequiredError, match=r"refused the stored login.*refresh was cut off at .* UTC"):
                store_at(home).renew(is_good=stale, refresh=FileSource(home, rotate=rotate))
        assert FileSource(home).count("refused") == 1
        assert (home / "private" / "tokens").read_bytes() == before[point]


def test_control_without_the_rescue_more_is_lost(
    tmp_path: Path, is_full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The points are able to do harm: where a written draft is thrown away, two more of them lose the login."""
    homes = killed_at_each_point(tmp_path, rotate=True, is_full=is_full)
    monkeypatch.setattr(tokens_module, "read_draft", lambda _: None)
    assert lost(homes, rotate=True) == POINTS[1:5]


def test_how_long_a_rotated_token_exists_only_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the answer to the written record, in which a kill would lose a rotated login, it takes milliseconds."""
    store = store_at(tmp_path)
    store.save_login(FileSource(tmp_path).begin())
    source, written, spans = FileSource(tmp_path, rotate=False), os.pwrite, list[float]()
    answered = 0.0

    def refresh(token: SecretStr) -> TokenGrant:
        nonlocal answered
        answer = source(token)
        answered = time.perf_counter()
        return answer

    def write(descriptor: int, data: bytes, offset: int) -> int:
        count = written(descriptor, data, offset)
        spans.append(time.perf_counter() - answered)
        return count

    monkeypatch.setattr(os, "pwrite", write)
    for _ in range(30):
        store.renew(is_good=stale, refresh=refresh)
    print(f"TOK-4: from answer to written record: median {statistics.median(spans) * 1e6:.0f} us")
    assert statistics.median(spans) < 0.01


# --- holders that die


@pytest.mark.parametrize("how", ["forked", "spawned"])
def test_a_dead_holder_frees_the_lock_whatever_it_started(tmp_path: Path, how: str) -> None:
    """A process that holds the lock starts another and is killed: the lock is free within 100 ms."""
    seconds = wait_after_death(tmp_path, how, is_protected=True)
    print(f"TOK-12: {how}: free after {seconds * 1e3:.1f} ms")
    assert seconds <= 0.1


def test_control_a_forked_child_that_inherits_the_lock_keeps_it(tmp_path: Path) -> None:
    """The fork is able to do harm: a child that keeps its parent's descriptor keeps the lock."""
    assert wait_after_death(tmp_path, "forked", is_protected=False) > 0.3


def wait_after_death(folder: Path, how: str, *, is_protected: bool) -> float:
    """How long the lock of a holder that was killed could not be had; its child is ended."""
    calls = [(str(folder), how, is_protected)]
    assert run_all(process_context(is_full=False), hold_and_die, calls) == [-signal.SIGKILL]
    try:
        with seconds_until_free(folder / "lock", 0.4) as seconds:
            return seconds
    finally:
        os.kill(int((folder / "child").read_text()), signal.SIGKILL)
