"""A market, a running simulator and somebody who is logged in to it."""

from collections.abc import Iterator

import pytest
from visiting import BEFORE_CLOSE, SEED, MachineClock, Visitor, trusting

from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.server import SimulatorServer


@pytest.fixture(scope="session")
def market() -> Market:
    """One synthetic market for all tests; it never changes."""
    return Market(SEED)


@pytest.fixture(scope="session")
def shared_clock() -> MachineClock:
    """The machine's clock of the shared server."""
    return MachineClock()


@pytest.fixture(scope="session")
def shared_server(
    market: Market, shared_clock: MachineClock, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimulatorServer]:
    """One running simulator for all tests, over that market."""
    ca_file = tmp_path_factory.mktemp("simulator") / "ca.pem"
    running = SimulatorServer(
        seed=SEED, ca_file=ca_file, market=market, machine_now=shared_clock, now=lambda: BEFORE_CLOSE
    )
    with running:
        yield running


@pytest.fixture
def machine_clock(shared_clock: MachineClock) -> MachineClock:
    """The server's machine clock, put back to its start, under the test's control."""
    shared_clock.seconds = MachineClock().seconds
    return shared_clock


@pytest.fixture
def server(shared_server: SimulatorServer, machine_clock: MachineClock) -> SimulatorServer:
    """The running simulator as good as new: no faults, no limits, no counts, nobody logged in."""
    assert machine_clock.seconds == MachineClock().seconds
    shared_server.faults.clear()
    shared_server.conditions.reset()
    shared_server.requests.clear()
    shared_server.desk.revoke()
    desk = shared_server.desk
    desk.rotation, desk.single_use_refresh, desk.dead_token = "same", False, "revoked"
    desk.answer_seconds = desk.clock_skew_seconds = 0.0
    desk.is_consent_automatic = True
    return shared_server


@pytest.fixture
def visitor(server: SimulatorServer) -> Iterator[Visitor]:
    """Somebody logged in to it."""
    with trusting(server.ca_file) as http:
        visitor = Visitor(server, http)
        visitor.log_in()
        yield visitor
