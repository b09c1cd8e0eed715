"""Over real sockets: one slow symbol delays nobody, and what arrived before a kill is never asked for again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pulling
import pytest
from pulling import DUE, OTHERS, SLOW, pull, token_of

from trade_analyst_pipeline.simulator import routes
from trade_analyst_pipeline.simulator.faults import slow
from trade_analyst_pipeline.simulator.server import SimulatorServer
from trade_analyst_pipeline.storage.archive import Archive, Capture

pytestmark = pytest.mark.reliability


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorServer]:
    """A running simulator that has drawn its market."""
    with SimulatorServer(seed=7, ca_file=tmp_path_factory.mktemp("simulator") / "ca.pem") as running:
        for symbol in (SLOW, *OTHERS):
            routes.answer(running.market, DUE, "/chains", {"symbol": symbol})
        yield running


def waits_for(is_so: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Return once it is so."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)  # another process works meanwhile


def test_what_arrived_before_a_kill_is_kept_and_only_the_rest_is_asked_for(
    server: SimulatorServer, tmp_path: Path
) -> None:
    """Killed while it waits for one symbol's chain, a capture keeps all others; the next attempt asks for that alone.

    Both attempts together make one snapshot with nothing missing and nothing twice.
    """
    token, archive = token_of(server.desk), Archive(tmp_path / "raw")
    server.faults.clear()
    server.requests.clear()
    server.faults.add(slow(15.0), path="/chains", symbol=SLOW)
    arguments = [str(tmp_path), server.at(DUE), str(server.ca_file), token]
    with subprocess.Popen([sys.executable, pulling.__file__, *arguments]) as worker:
        waits_for(lambda: has_records(tmp_path, 2 * len(OTHERS) + 1) or worker.poll() is not None)
        worker.kill()
    (recovered,) = archive.recover("options")
    kept = [entry.request for entry in archive.index(recovered)]
    assert len(kept) == 2 * len(OTHERS) + 1
    assert {request.symbols[0] for request in kept if request.path == "/chains"} == set(OTHERS)

    server.faults.clear()
    server.requests.clear()
    outcome = asyncio.run(pull(archive, address=server.at(DUE), ca_file=server.ca_file, token=token))
    assert server.requests == {"/chains": 1}
    assert (outcome.gaps, len(outcome.captures)) == ((), 2)
    assert [entry.request.symbols for entry in archive.index(outcome.captures[1])] == [(SLOW,)]
    assert archive.completions(list(outcome.captures)) == [list(outcome.captures)]


def has_records(folder: Path, count: int) -> bool:
    """Whether so many whole records stand in the capture being written, as its recovery would find."""
    copy = folder / "copy"
    parts = list((folder / "raw").rglob("*.part"))
    if not parts:
        return False
    target = copy / parts[0].relative_to(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(parts[0].read_bytes())
    found = Archive(copy / "raw").recover("options")
    records = found[0].record_count if found else 0
    for capture in found:
        capture.path.unlink()
    return records >= count


def delays(archive: Archive, capture: Capture) -> dict[str, float]:
    """When each symbol's chain was there, in seconds since the first answer of the capture."""
    entries = archive.index(capture)
    start = min(entry.received_time for entry in entries)
    return {
        entry.request.symbols[0]: (entry.received_time - start).total_seconds()
        for entry in entries
        if entry.request.path == "/chains"
    }


def is_nobody_delayed(found: dict[str, float]) -> bool:
    """Whether all other symbols were there before the slow one."""
    return max(found[symbol] for symbol in OTHERS) < found[SLOW]


@pytest.mark.parametrize("path", ["/chains", "/expirationchain"])
def test_a_slow_symbol_delays_nobody(server: SimulatorServer, tmp_path: Path, is_full: bool, path: str) -> None:
    """The first symbol answers after 25 s (3 s in the quick form); all others are there at full pace.

    Its list as well as its chain may be what is slow. A client that asks one after the other is caught: there
    everybody waits.
    """
    seconds = 25.0 if is_full else 3.0
    token, archives = token_of(server.desk), [Archive(tmp_path / name) for name in ("ours", "serial")]
    server.faults.clear()
    server.faults.add(slow(seconds), path=path, symbol=SLOW, times=2)

    async def both() -> list[dict[str, float]]:
        each = zip(archives, (6, 1), strict=True)
        pulls = (
            pull(archive, address=server.at(DUE), ca_file=server.ca_file, token=token, in_flight=in_flight)
            for archive, in_flight in each
        )
        outcomes = await asyncio.gather(*pulls)
        assert [outcome.gaps for outcome in outcomes] == [(), ()]
        return [delays(archive, outcome.captures[0]) for archive, outcome in zip(archives, outcomes, strict=True)]

    ours, serial = asyncio.run(both())
    print({symbol: f"{delay:.2f} s" for symbol, delay in ours.items()})
    assert is_nobody_delayed(ours)
    assert not is_nobody_delayed(serial)


@pytest.mark.parametrize("in_rounds", [True, False])
def test_simulated_times_do_not_hang_on_which_answer_is_first(
    server: SimulatorServer, tmp_path: Path, in_rounds: bool
) -> None:
    """With one list slow and with another, every record has the same time; without rounds it has not."""
    token, times = token_of(server.desk), []
    for late in (SLOW, OTHERS[-1]):
        archive = Archive(tmp_path / late)
        server.faults.clear()
        server.faults.add(slow(0.6), path="/expirationchain", symbol=late)
        outcome = asyncio.run(
            pull(
                archive,
                address=server.at(DUE),
                ca_file=server.ca_file,
                token=token,
                is_simulated=True,
                in_rounds=in_rounds,
            )
        )
        times.append({entry.request: entry.received_time for entry in archive.index(outcome.captures[0])})
    assert (times[0] == times[1]) is in_rounds
